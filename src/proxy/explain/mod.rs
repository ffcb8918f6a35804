//! The journey told without being made: what happens to a request, and why (`portcullis explain`).
//!
//! It calls the functions that the phases call, in their order: [`request::understand`], [`request::route`], [`body::check_declared`],
//! [`cache::looks_up`], [`cache::with_key`], [`upstream_request::begin`] and the policies themselves, which say what they decide
//! ([`Policy::explain`]). So it cannot tell anything else than what would happen; what happens in a process at one moment only (what a
//! limit has left, what is stored) is told beside it, where a running gateway is asked ([`Live`]). Nothing is sent, stored or used up,
//! and no secret is read.
//!
//! [`Policy::explain`]: crate::policy::Policy::explain
//! [`upstream_request::begin`]: super::upstream_request::begin

mod asked;
mod explanation;
mod live;
mod near;
mod outgoing;
mod words;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use pingora::http::RequestHeader;

pub use asked::{AskError, Asked};
pub use explanation::{
    Answer, Destination, Explanation, NearMiss, Now, Outcome, Reason, Sent, Step, Taken, Understood, VERSION,
    Verdict,
};
pub use live::Live;

use super::{body, cache, failure, request, upstream_request};
use crate::cache::directives;
use crate::exchange::{Exchange, Scheme};
use crate::plan::{Listener, Plan, Route};
use crate::policy::reply::Body;
use crate::policy::{Counters, Fault, KINDS, Kind, Place, Reply, Telling, Told, UpstreamKind};

/// What refuses a head before the journey begins: the connection guard, which stands above this room. Status and code.
pub type Door<'a> = &'a dyn Fn(&Listener, &[u8]) -> Option<(StatusCode, &'static str)>;

/// Tells what happens to a request under a plan.
///
/// # Errors
/// [`AskError`] where there is no such request. One that the gateway would refuse is explained.
pub fn explain(
    plan: &Plan,
    asked: &Asked,
    door: Door<'_>,
    live: Option<&Live<'_>>,
) -> Result<Explanation, AskError> {
    tell(plan, asked, door, live, near::MOST)
}

/// The same, as far as two configurations are compared by it: quick enough for every request of a log.
///
/// # Errors
/// [`AskError`] where there is no such request.
pub fn outcome(plan: &Plan, asked: &Asked, door: Door<'_>) -> Result<Outcome, AskError> {
    tell(plan, asked, door, None, 0).map(|explanation| explanation.outcome)
}

/// `most_near`: how many near misses are told. To find them every route is looked at.
fn tell(
    plan: &Plan,
    asked: &Asked,
    door: Door<'_>,
    live: Option<&Live<'_>>,
    most_near: usize,
) -> Result<Explanation, AskError> {
    let listeners = live.map_or(plan.listeners.as_slice(), |live| live.listeners);
    let wanted = asked::Request::of(listeners, asked)?;
    let listener = wanted.listener;
    let scheme = if listener.tls.is_empty() { Scheme::Http } else { Scheme::Https };
    let exchange = Exchange::begin(listener.name.clone(), SocketAddr::new(wanted.peer, 0), scheme);
    let mut teller = Teller::new(plan, live, exchange, most_near);
    teller.exchange.path.clone_from(&wanted.target);
    let place = plan.listener_section(&listener.name);
    let scheme = scheme.as_str();
    let words = format!(
        "comes in by the listener `{}` at {} ({scheme}): {}",
        listener.name, listener.address, wanted.chosen
    );
    teller.step("listener", Written::at(place.map(|section| section.place().to_string())), vec![words]);
    let refused = door(listener, &wanted.bytes());
    if let Some((status, code)) = refused {
        teller.refused_at_the_door(status, code);
    } else {
        teller.journey(listener, &wanted.head()?);
    }
    Ok(teller.finish(asked, &wanted.target))
}

/// Collects what is told.
struct Teller<'a> {
    plan: &'a Plan,
    live: Option<&'a Live<'a>>,
    exchange: Exchange,
    most_near: usize,
    /// As it came: parameters that are no part of a cache key leave the exchange.
    query: Option<String>,
    outcome: Outcome,
    route: Option<Taken>,
    near: Vec<NearMiss>,
    steps: Vec<Step>,
    now: BTreeMap<String, serde_json::Value>,
}

/// Where a decision is written, or which default it follows from.
#[derive(Default)]
struct Written {
    place: Option<String>,
    default: Option<String>,
}

impl Written {
    fn nowhere() -> Self {
        Self::default()
    }

    fn at(place: Option<String>) -> Self {
        Self { place, default: None }
    }

    fn of(route: &Route, kind: &Kind) -> Self {
        if let Some(section) = route.written(kind) {
            return Self::at(Some(section.place().to_string()));
        }
        let by_kind = kind.place == Place::Implied || BY_KIND.contains(&kind.key);
        match &route.upstream {
            Some(upstream) if by_kind => {
                let section = &upstream.section;
                let place = section.get("kind").unwrap_or_else(|| section.clone()).place();
                let kind = words::kind(upstream.kind);
                Self { place: Some(place.to_string()), default: Some(format!("kind: {kind}")) }
            }
            _ => Self::nowhere(),
        }
    }

    fn of_key(route: &Route, key: &str) -> Self {
        KINDS.iter().find(|kind| kind.key == key).map_or_else(Self::nowhere, |kind| Self::of(route, kind))
    }
}

/// Kinds whose default depends on the kind of upstream.
const BY_KIND: [&str; 5] = ["request.body", "upgrade", "request", "response.errors", "response.headers"];

/// How the upstream is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// The cache has no part in it.
    Uncached,
    /// As the client asks, though the answer may be stored.
    Alone,
    /// For the whole, so that it can be stored.
    Whole,
}

impl<'a> Teller<'a> {
    fn new(plan: &'a Plan, live: Option<&'a Live<'a>>, exchange: Exchange, most_near: usize) -> Self {
        let outcome = Outcome {
            verdict: Verdict::Refused,
            status: None,
            code: None,
            route: None,
            answer: None,
            upstream: None,
            sent: None,
            decisions: BTreeMap::new(),
        };
        let (near, steps, now) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { plan, live, exchange, most_near, query: None, outcome, route: None, near, steps, now }
    }

    fn counters(&self) -> Counters {
        if self.live.is_some() { Counters::Live } else { Counters::None }
    }

    fn step(&mut self, key: &str, written: Written, words: Vec<String>) {
        let Written { place, default } = written;
        self.steps.push(Step { key: key.to_owned(), place, default, words });
    }

    fn decision(&mut self, key: &str, written: Written, told: Told) {
        if !told.words.is_empty() {
            self.step(key, written, told.words);
        }
        self.outcome.decisions.insert(key.to_owned(), told.data);
        if !told.now.is_null() {
            self.now.insert(key.to_owned(), told.now);
        }
    }

    /// The whole way, as far as it goes.
    fn journey(&mut self, listener: &Listener, head: &RequestHeader) {
        let raw = String::from_utf8_lossy(head.raw_path()).into_owned();
        let understood = request::understand(listener, head, &mut self.exchange);
        self.step("path", Written::nowhere(), words::path(&raw, head, &self.exchange, understood.is_err()));
        let client = words::client(listener, head, &self.exchange);
        self.query.clone_from(&self.exchange.query);
        self.step("client", Written::nowhere(), vec![client]);
        if let Err(refusal) = understood {
            return self.answered(Verdict::Refused, &refusal.reply);
        }
        let found = request::route(self.plan, &mut self.exchange, &head.headers);
        let near = match self.most_near {
            0 => Vec::new(),
            most => self.plan.near(&self.exchange, &head.headers, most),
        };
        let rivals = near.iter().filter(|near| words::is_rival(near)).count();
        let route = match found {
            Ok(route) => route,
            Err(refusal) => {
                let verdict = match refusal.reply.status {
                    StatusCode::NOT_FOUND => Verdict::NotFound,
                    StatusCode::METHOD_NOT_ALLOWED => Verdict::MethodNotAllowed,
                    _ => Verdict::Answered,
                };
                self.near = near::misses(self.plan, near, &self.exchange, None);
                self.step("route", Written::nowhere(), vec![words::no_route(verdict, &refusal.reply)]);
                return self.answered(verdict, &refusal.reply);
            }
        };
        let taken = near::taken(self.plan, &route, rivals);
        self.near = near::misses(self.plan, near, &self.exchange, Some(&route));
        let words = vec![format!("`{}` takes it: {}", taken.name, taken.because)];
        self.step("route", Written::at(Some(taken.place.clone())), words);
        self.route = Some(taken);
        self.outcome.route = Some(route.name.to_string());
        if super::purge::is_asked(&self.exchange)
            && let Some((words, reply)) = super::purge::explain(&route)
        {
            self.step("cache.purge", Written::of_key(&route, "cache"), vec![words]);
            return self.answered(Verdict::Answered, &reply);
        }
        self.along(&route, head);
    }

    /// From the route on.
    fn along(&mut self, route: &Arc<Route>, head: &RequestHeader) {
        if route.upstream.is_some() {
            let max = route.settings.body_max_bytes;
            let told = crate::policy::body_limit::explain(max);
            self.decision("request.body", Written::of_key(route, "request.body"), told);
        }
        if let Err(fault) = body::check_declared(head, route) {
            return self.failed(fault);
        }
        for (kind, policy) in route.chain.iter().filter(|(_, policy)| policy.hooks().request) {
            let telling = Telling { exchange: &self.exchange, heads: None, counters: self.counters() };
            let Some(mut told) = policy.explain(&telling) else { continue };
            let reply = told.reply.take();
            self.decision(kind.key, Written::of(route, kind), told);
            if let Some(reply) = reply {
                return self.answered(Verdict::Answered, &reply);
            }
        }
        let asking = self.cache(route, head);
        self.upstream(route, head);
        match outgoing::send(self, head, route, asking) {
            Ok(sent) => {
                let words = format!("sends `{} {}`", sent.method, sent.target);
                self.step("sent", Written::nowhere(), vec![words]);
                self.outcome.sent = Some(sent);
                self.outcome.verdict = Verdict::Forwarded;
                self.way_back(route);
            }
            Err(fault) => {
                self.step("sent", Written::nowhere(), vec![words::unsendable(fault)]);
                self.failed(fault);
            }
        }
    }

    /// Whether the cache is asked, and what may be stored.
    fn cache(&mut self, route: &Arc<Route>, head: &RequestHeader) -> Asking {
        let request = cache::Request {
            method: &self.exchange.method.clone(),
            has_body: outgoing::has_body(head),
            upgrades: head.version == http::Version::HTTP_11
                && head.headers.contains_key(http::header::UPGRADE),
        };
        let verdict = cache::looks_up(route, request);
        let written = Written::of_key(route, "cache");
        let (Ok(()), Some(settings)) = (verdict, &route.settings.cache) else {
            self.decision("cache", written, words::bypass(verdict.err().unwrap_or(cache::Bypass::Off)));
            return Asking::Uncached;
        };
        let mut kept = head.clone();
        // What it may not name is told of where the request would be sent.
        let _ = upstream_request::drop_nominated(&mut kept);
        let head = &kept;
        let dropped = words::ignored(route, settings, &self.exchange);
        cache::drop_ignored(route, &mut self.exchange);
        let key = cache::with_key(route, &self.exchange, &head.headers, words::key);
        let mut told = settings.explain();
        told.words.insert(0, words::looked_up(key.as_ref()));
        told.words.extend(dropped);
        if let Some(data) = told.data.as_object_mut() {
            data.insert("verdict".into(), "lookedUp".into());
            data.insert("key".into(), key.unwrap_or_default());
        }
        let whole = self.live.is_none_or(|live| live.stored(route, &self.exchange, head, &mut told));
        let stored = told.now["stored"] == true;
        self.decision("cache", written, told);
        let part = !stored && cache::asks_for_part(route, &head.method, &head.headers);
        let alone = part || (settings.requests_honored && directives::Asked::read(&head.headers).no_store);
        if whole && !alone { Asking::Whole } else { Asking::Alone }
    }

    /// Where it goes.
    fn upstream(&mut self, route: &Route, head: &RequestHeader) {
        let Some(plan) = &route.upstream else { return };
        self.outcome.upstream = Some(words::destination(plan));
        let mut told = words::upstream(plan, &head.method);
        if self.live.is_some() {
            live::endpoints(plan, &mut told);
        }
        let place = route.section.get("upstream").unwrap_or_else(|| plan.section.clone()).place();
        self.decision("upstream", Written::at(Some(place.to_string())), told);
        if head.headers.contains_key(http::header::UPGRADE) || route.settings.websocket {
            let asked = super::upstream_request::upgrades(head, route);
            let told = words::upgrade(route.settings.websocket, asked);
            self.decision("upgrade", Written::of_key(route, "upgrade"), told);
        }
    }

    /// What will be done to the answer.
    fn way_back(&mut self, route: &Route) {
        let key = "response.errors";
        let mut told = route.settings.errors.explain();
        if route.upstream.as_ref().is_some_and(|upstream| upstream.kind == UpstreamKind::Api) {
            told.words.push(ABOUT_US.to_owned());
        }
        self.decision(key, Written::of_key(route, key), told);
        for (kind, policy) in route.chain.iter().filter(|(_, policy)| policy.hooks().upstream_response) {
            if kind.key == "response.headers" {
                self.shaping(route);
            }
            let telling = Telling { exchange: &self.exchange, heads: None, counters: self.counters() };
            if let Some(told) = policy.explain(&telling) {
                self.decision(kind.key, Written::of(route, kind), told);
            }
        }
    }

    fn shaping(&mut self, route: &Route) {
        if let Some(json) = &route.settings.json {
            self.decision("response.json", Written::of_key(route, "response.json"), json.explain());
        }
    }

    fn refused_at_the_door(&mut self, status: StatusCode, code: &'static str) {
        let words =
            format!("refused with {} as soon as its head is read: {}", status.as_u16(), words::door(code));
        self.step("guard", Written::nowhere(), vec![words]);
        self.answered(Verdict::Refused, &Reply::problem(status, code));
    }

    fn failed(&mut self, fault: Fault) {
        if let Some(reply) = failure::reply(fault) {
            self.answered(Verdict::Answered, &reply);
        }
    }

    fn answered(&mut self, verdict: Verdict, reply: &Reply) {
        let outcome = &mut self.outcome;
        outcome.verdict = verdict;
        outcome.status = Some(reply.status.as_u16());
        outcome.code = Some(reply.code.to_owned());
        outcome.answer = answer(reply, &self.exchange, outcome.route.as_deref());
    }

    fn finish(self, asked: &Asked, target: &str) -> Explanation {
        let exchange = self.exchange;
        let live = self.live.map(|live| live.now(self.plan, self.now));
        Explanation {
            version: VERSION,
            request: Understood {
                listener: exchange.listener.to_string(),
                method: asked.method.clone(),
                url: asked.url.clone(),
                target: target.to_owned(),
                scheme: exchange.scheme.as_str().to_owned(),
                host: exchange.host,
                path: exchange.path,
                query: self.query,
                peer: exchange.peer.ip().to_string(),
                client: exchange.client.to_string(),
            },
            outcome: self.outcome,
            route: self.route,
            near_misses: self.near,
            steps: self.steps,
            live,
        }
    }
}

/// What `upstream_response::clean` makes of an `api`'s statuses.
const ABOUT_US: &str =
    "its 401 and 407 are answered 502, and its 429 is answered 503: they are about us, not about the client";

/// An answer of ours without what differs each time.
fn answer(reply: &Reply, exchange: &Exchange, route: Option<&str>) -> Option<Answer> {
    let rendered = reply.render(exchange.wants_html, route, None).ok()?;
    let fields = rendered.head.headers.iter();
    let shown = fields.filter(|(name, _)| **name != http::header::CONTENT_LENGTH);
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let body = match &reply.body {
        Body::Fixed { bytes, .. } => {
            String::from_utf8_lossy(bytes.get(..MOST_BODY_BYTES).unwrap_or(bytes)).into_owned()
        }
        Body::Problem | Body::Empty => String::new(),
    };
    Some(Answer {
        status: reply.status.as_u16(),
        fields: shown.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body,
    })
}

/// Of a fixed answer, so much is shown.
const MOST_BODY_BYTES: usize = 4 << 10;
