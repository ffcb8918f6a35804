//! The catalogue of policies: what may be asked for on a route or an upstream, one file per kind.
//!
//! [`KINDS`] is the one place that says in which order they run, whatever order the YAML is in: an operator chooses which,
//! never when. A policy sees the head that it may change and the [`Exchange`]; it never sees the session, the plan or another
//! policy. Hooks are named after the Pingora callbacks that call them.
//!
//! ```text
//! request_filter            body · rateLimit · concurrency · redirect · respond           (in this order, before the cache)
//! upstream_request_filter   rewrite · request.headers · forwarding · credential           (outgoing copy only; secret last)
//! upstream_response_filter  response.errors · origin · response.headers                   (before the store)
//! response_filter           rateLimit fields                                              (per client, after the store)
//! ```

pub mod body_limit;
pub mod cache;
pub mod concurrency;
pub mod credential;
pub mod errors;
pub mod fault;
pub mod fields;
pub mod forwarding;
pub mod json;
pub mod origin;
pub mod rate_limit;
pub mod redirect;
pub mod reply;
pub mod request_headers;
pub mod respond;
pub mod response_headers;
pub mod rewrite;
pub mod told;
pub mod upgrade;

use std::sync::Arc;

use pingora::http::{RequestHeader, ResponseHeader};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::config::{Problems, Section, codes};
use crate::exchange::Exchange;
use crate::limit;
use crate::names::RouteName;
use crate::secret::SecretSlot;

pub use fault::Fault;
pub use reply::Reply;
pub use told::{Counters, Telling, Told};

/// Whether a request goes on.
#[must_use]
#[derive(Debug)]
pub enum Verdict {
    /// To the next step.
    Continue,
    /// No further: this is the answer.
    Respond(Box<Reply>),
}

/// What a policy takes part in; asked once, when the route is compiled, so that no request calls an empty hook.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hooks {
    /// Has a [`Policy::request_filter`].
    pub request: bool,
    /// Has a [`Policy::upstream_request_filter`].
    pub upstream_request: bool,
    /// Has a [`Policy::upstream_response_filter`].
    pub upstream_response: bool,
    /// Has a [`Policy::response_filter`].
    pub response: bool,
}

/// One compiled policy of one route. Immutable: it lives as long as its configuration.
pub trait Policy: Send + Sync {
    /// Which of the hooks below do something.
    fn hooks(&self) -> Hooks;

    /// Before the cache: may answer instead of the upstream. Runs on hits too.
    fn request_filter(&self, _exchange: &mut Exchange) -> Verdict {
        Verdict::Continue
    }

    /// On the outgoing copy of the head, for every attempt. Nothing done here is seen by the cache key or the log.
    ///
    /// # Errors
    /// A [`Fault`]: the request is not sent.
    fn upstream_request_filter(
        &self,
        _head: &mut RequestHeader,
        _exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        Ok(())
    }

    /// On the head of the upstream's answer, before it is stored.
    ///
    /// # Errors
    /// A [`Fault`]: the answer is neither stored nor passed on.
    fn upstream_response_filter(
        &self,
        _head: &mut ResponseHeader,
        _exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        Ok(())
    }

    /// On the head that goes to this client, whether it comes from the upstream, the cache or ourselves.
    fn response_filter(&self, _head: &mut ResponseHeader, _exchange: &Exchange) {}

    /// What it decides for a request, for people; `None`: nothing worth saying.
    fn explain(&self, _telling: &Telling<'_>) -> Option<Told> {
        None
    }

    /// As [`Self::upstream_request_filter`], on a head that is shown and never sent: the name stands in place of a secret, which is
    /// not read. Whoever puts a secret into a request must write this too.
    ///
    /// # Errors
    /// As there.
    fn upstream_request_shown(&self, head: &mut RequestHeader, exchange: &mut Exchange) -> Result<(), Fault> {
        self.upstream_request_filter(head, exchange)
    }
}

/// The two kinds of upstream (`kind:`); every default hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamKind {
    /// Somebody else's API: hidden, nothing passes unless listed.
    Api,
    /// Our own web app: trusted, works behind the gate as without it.
    App,
}

/// What a policy may know of its route's upstream while it is compiled.
#[derive(Debug, Clone)]
pub struct UpstreamFacts {
    /// `kind:`.
    pub kind: UpstreamKind,
    /// Path below which everything of this upstream lies, without a slash at the end; often empty.
    pub base_path: String,
    /// Where the public paths of this upstream lie, for the way back.
    pub reverse: Arc<origin::ReverseMap>,
}

/// How a path is matched, as far as `rewrite` needs to know.
#[derive(Debug, Clone)]
pub enum PathShape {
    /// `prefix:`, with what it says.
    Prefix(String),
    /// `template:` or `regex:`, with the names that it captures.
    Captures(Vec<String>),
    /// `exact:` or no path at all.
    Whole,
}

/// Settings that the journey reads itself, because they are no hook: limits, cache, body work.
#[derive(Debug, Default)]
pub struct Settings {
    /// The largest request body.
    pub body_max_bytes: u64,
    /// How answers are cached; `None`: not at all.
    pub cache: Option<cache::CacheSettings>,
    /// Which parameters of the query reach the upstream: no other can make a difference.
    pub kept_parameters: rewrite::KeptParameters,
    /// Whether a WebSocket may be opened.
    pub websocket: bool,
    /// Which error bodies of the upstream are passed on.
    pub errors: errors::Errors,
    /// Whether the client's `Authorization` reaches the upstream.
    pub forwards_authorization: bool,
    /// Whether the client's cookies reach the upstream.
    pub forwards_cookies: bool,
    /// Which of them; `None`: all.
    pub forwarded_cookies: Option<Vec<String>>,
    /// For an `api`: where its own references in a JSON body lead to.
    pub reverse: Option<Arc<origin::ReverseMap>>,
    /// JSON shaping of the answer.
    pub json: Option<json::JsonShaping>,
}

/// What a kind is given to compile itself for one route.
pub struct Build<'a> {
    /// The route's name.
    pub route: &'a RouteName,
    /// Its path match.
    pub path: PathShape,
    /// Its upstream; `None` for `redirect` and `respond`.
    pub upstream: Option<UpstreamFacts>,
    /// Header names that the upstream's credential injects, in lower case.
    pub injected: Vec<String>,
    /// A secret by name; `None` (and a recorded problem) where there is none.
    pub secret: &'a dyn Fn(&str) -> Option<Arc<SecretSlot>>,
    /// The counters of the limits: live as long as the process, or longer.
    pub limits: &'a Arc<limit::Counters>,
    /// Where mistakes go.
    pub problems: &'a mut Problems,
    /// What the journey reads itself.
    pub settings: Settings,
    /// The names of the rate limits, in order: the index is the one that the metrics know.
    pub limit_names: Vec<String>,
    /// The rate limits as they will be kept, each where it is written.
    pub quotas: Vec<(Section, limit::Quota)>,
}

impl Build<'_> {
    /// Records that what stands at `section` would do nothing on this route.
    pub fn no_effect(&mut self, section: &Section, why: &str) {
        self.problems.error(codes::NO_EFFECT, section.path(), why);
    }

    /// The kind of the upstream; a route without one is treated as an `api`, the stricter.
    #[must_use]
    pub fn kind(&self) -> UpstreamKind {
        self.upstream.as_ref().map_or(UpstreamKind::Api, |facts| facts.kind)
    }
}

/// Where a kind's settings stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On a route, at the dotted key.
    Route,
    /// On the upstream, at the dotted key.
    Upstream,
    /// Nowhere: it follows from the kind of upstream.
    Implied,
}

/// From what is written to what runs. Mistakes go to [`Build::problems`].
pub type Compile = fn(Option<&Section>, &mut Build<'_>) -> Option<Arc<dyn Policy>>;

/// What the settings of a kind look like, as JSON Schema; [`schema_of`] makes one from a type.
pub type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// One kind of policy.
pub struct Kind {
    /// Its key in the YAML, dotted where it is nested.
    pub key: &'static str,
    /// Where the key stands.
    pub place: Place,
    /// What stands at the key; nothing where nothing can be written. The doc comments of the type are what editors show.
    pub schema: Option<MakeSchema>,
    /// Compiles the settings (`None`: not written, defaults apply). Returns nothing where there is no hook to run.
    pub compile: Compile,
}

impl Kind {
    /// A kind whose settings, of the form `T`, stand at `key` on a route.
    const fn route<T: JsonSchema>(key: &'static str, compile: Compile) -> Self {
        Self { key, place: Place::Route, schema: Some(schema_of::<T>), compile }
    }

    /// A kind that nobody writes: it follows from the kind of upstream.
    const fn implied(key: &'static str, compile: Compile) -> Self {
        Self { key, place: Place::Implied, schema: None, compile }
    }
}

/// Every kind, in the order of execution.
///
/// The limits stand before `redirect` and `respond`, so that an answer of our own is limited too. On the outgoing copy the
/// credential is last: nothing that runs before it can see, copy or remove the secret. On the way back the errors are masked
/// before the origins are erased, and `response.headers` is last of the stored part, so that what it sets is what is stored.
pub const KINDS: &[Kind] = &[
    Kind::route::<body_limit::Spec>("request.body", body_limit::compile),
    Kind::route::<OneOrMany<rate_limit::Spec, { rate_limit::MAX_LIMITS }>>("rateLimit", rate_limit::compile),
    Kind::route::<concurrency::Spec>("concurrency", concurrency::compile),
    Kind::route::<redirect::Spec>("redirect", redirect::compile),
    Kind::route::<respond::Spec>("respond", respond::compile),
    Kind::route::<cache::Spec>("cache", cache::compile),
    Kind::route::<upgrade::Spec>("upgrade", upgrade::compile),
    Kind::route::<rewrite::Spec>("rewrite", rewrite::compile),
    Kind::route::<request_headers::Spec>("request", request_headers::compile),
    Kind::implied("forwarding", forwarding::compile),
    Kind {
        key: "credential",
        place: Place::Upstream,
        schema: Some(schema_of::<credential::Spec>),
        compile: credential::compile,
    },
    Kind::route::<errors::Spec>("response.errors", errors::compile),
    Kind::implied("origin", origin::compile),
    Kind::route::<json::Spec>("response.json", json::compile),
    Kind::route::<response_headers::Spec>("response.headers", response_headers::compile),
];

/// What an editor shows for a key under which only kinds stand.
pub const GROUPS: &[(&str, &str)] = &[("response", "What of the upstream's answer reaches the client.")];

/// The schema of `T`, for [`Kind::schema`].
pub fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The keys `own` and those of the kinds of routes below `parent` (`""`: the route itself), each once.
#[must_use]
pub fn with_kinds(own: &[&'static str], parent: &str) -> Vec<&'static str> {
    let mut keys = own.to_vec();
    for kind in KINDS.iter().filter(|kind| kind.place == Place::Route) {
        let below = match parent {
            "" => Some(kind.key),
            parent => kind.key.strip_prefix(parent).and_then(|rest| rest.strip_prefix('.')),
        };
        let key = below.and_then(|key| key.split('.').next());
        keys.extend(key.filter(|key| !keys.contains(key)));
    }
    keys
}

/// The form of a setting that is one `T` or a list of at most `MOST`.
pub struct OneOrMany<T, const MOST: usize>(std::marker::PhantomData<T>);

impl<T: JsonSchema, const MOST: usize> JsonSchema for OneOrMany<T, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    /// One schema with both types, because each keyword speaks of one type only: no `anyOf`, behind which an editor could not
    /// tell which of the two was meant.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        let mut both = one.clone();
        both.insert("type".into(), serde_json::json!(["object", "array"]));
        let mut item = one;
        item.remove("description");
        both.insert("items".into(), item.to_value());
        both.insert("minItems".into(), 1.into());
        both.insert("maxItems".into(), MOST.into());
        both
    }
}

/// The compiled policies of one route, sorted by hook.
#[derive(Default)]
pub struct Chain {
    /// All of them, in order, with what each is.
    all: Vec<(&'static Kind, Arc<dyn Policy>)>,
    request: Vec<Arc<dyn Policy>>,
    upstream_request: Vec<Arc<dyn Policy>>,
    upstream_response: Vec<Arc<dyn Policy>>,
    response: Vec<Arc<dyn Policy>>,
}

impl Chain {
    /// Adds a policy behind those that are there.
    pub fn push(&mut self, kind: &'static Kind, policy: Arc<dyn Policy>) {
        let hooks = policy.hooks();
        self.all.push((kind, policy.clone()));
        if hooks.request {
            self.request.push(policy.clone());
        }
        if hooks.upstream_request {
            self.upstream_request.push(policy.clone());
        }
        if hooks.upstream_response {
            self.upstream_response.push(policy.clone());
        }
        if hooks.response {
            self.response.push(policy);
        }
    }

    /// Every policy with its kind, in the order of execution.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Kind, &dyn Policy)> {
        self.all.iter().map(|(kind, policy)| (*kind, &**policy))
    }

    /// Runs the policies that may answer by themselves; the first answer ends it.
    pub fn request_filter(&self, exchange: &mut Exchange) -> Verdict {
        for policy in &self.request {
            if let Verdict::Respond(reply) = policy.request_filter(exchange) {
                return Verdict::Respond(reply);
            }
        }
        Verdict::Continue
    }

    /// Prepares the outgoing head.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn upstream_request_filter(
        &self,
        head: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        self.upstream_request.iter().try_for_each(|policy| policy.upstream_request_filter(head, exchange))
    }

    /// Cleans the upstream's head.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn upstream_response_filter(
        &self,
        head: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        self.upstream_response.iter().try_for_each(|policy| policy.upstream_response_filter(head, exchange))
    }

    /// Adds what is this client's alone.
    pub fn response_filter(&self, head: &mut ResponseHeader, exchange: &Exchange) {
        for policy in &self.response {
            policy.response_filter(head, exchange);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_is_the_last_to_touch_the_outgoing_head() {
        let place = |key: &str| KINDS.iter().position(|kind| kind.key == key).expect(key);
        for earlier in ["rewrite", "request", "forwarding"] {
            assert!(place(earlier) < place("credential"), "{earlier} must not see the secret");
        }
    }

    #[test]
    fn limits_come_before_answers_of_our_own() {
        let place = |key: &str| KINDS.iter().position(|kind| kind.key == key).expect(key);
        assert!(place("rateLimit") < place("redirect") && place("rateLimit") < place("respond"));
    }

    #[test]
    fn every_kind_has_its_own_key() {
        let mut keys: Vec<_> = KINDS.iter().map(|kind| kind.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), KINDS.len());
    }
}
