//! What only a running gateway knows: looked at, never touched.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use pingora::http::RequestHeader;
use serde_json::{Value, json};

use super::explanation::Now;
use crate::cache::directives::Asked;
use crate::cache::reuse::Reuse;
use crate::cache::vary::Selecting;
use crate::cache::{Peeked, Stored, Zone};
use crate::exchange::Exchange;
use crate::plan::{Listener, Plan, Route, UpstreamPlan};
use crate::policy::Told;
use crate::policy::told::span;
use crate::proxy::{cache, upstream_request};
use crate::telemetry::labels::CacheResult;

/// The running gateway, as far as it is asked.
pub struct Live<'a> {
    /// Its cache.
    pub zone: &'static Zone,
    /// Its listeners as they were bound: a reload changes none.
    pub listeners: &'a [Listener],
    /// The fingerprint of the files on disk, where they can be read.
    pub file_fingerprint: Option<u64>,
}

impl Live<'_> {
    /// Adds what the cache holds for the request. `false`: it is asked, but the request goes by itself, as the answer was found not to
    /// be storable lately.
    pub(super) fn stored(
        &self,
        route: &Route,
        exchange: &Exchange,
        head: &RequestHeader,
        told: &mut Told,
    ) -> bool {
        let Some(key) = cache::with_key(route, exchange, &head.headers, |parts| parts.key()) else {
            return false;
        };
        let chosen = Selecting { fields: &head.headers, uncoded: upstream_request::asks_uncoded(route) };
        let honored = route.settings.cache.as_ref().is_some_and(|settings| settings.requests_honored);
        let asked = if honored { Asked::read(&head.headers) } else { Asked::default() };
        let peeked = self.zone.peek(&key, chosen, &asked, SystemTime::now());
        let (result, words) = result(&peeked, &asked);
        told.words.push(format!("now: {words}"));
        told.words.extend(peeked.stored.as_ref().and_then(until));
        told.now = match &peeked.stored {
            Some(stored) => json!({
                "stored": true,
                "fresh": stored.ttl_secs >= 0,
                "ttlSeconds": stored.ttl_secs,
                "ageSeconds": stored.age_secs,
                "status": stored.status,
                "result": result,
                "whileRevalidateSeconds": stored.left(stored.while_revalidate_secs),
                "ifErrorSeconds": stored.left(stored.if_error_secs),
            }),
            None => json!({ "stored": false, "latelyRefused": peeked.is_refused, "result": result }),
        };
        peeked.stored.is_some() || !peeked.is_refused
    }

    pub(super) fn now(&self, plan: &Plan, now: BTreeMap<String, Value>) -> Now {
        Now {
            fingerprint: format!("{:016x}", plan.fingerprint),
            same_as_file: self.file_fingerprint.map(|file| file == plan.fingerprint),
            now,
        }
    }
}

/// What the cache would say to a request, as a word of the metric and the log, and why.
fn result(peeked: &Peeked, asked: &Asked) -> (Option<&'static str>, String) {
    if asked.no_store {
        let words = "the client says `no-store`: `uncacheable`, and nothing that is stored is given";
        return (Some(CacheResult::Uncacheable.as_str()), words.to_owned());
    }
    let (result, words) = match &peeked.stored {
        Some(stored) => of_stored(stored, peeked.is_under_way),
        None if peeked.is_refused => (
            CacheResult::Uncacheable,
            "nothing is stored, and its answer was found not to be storable a moment ago: it goes by itself, most likely to be `uncacheable`"
                .to_owned(),
        ),
        None if peeked.is_under_way => (
            CacheResult::Collapsed,
            "nothing is stored, and another request is fetching it: `collapsed` with that one".to_owned(),
        ),
        None => (CacheResult::Miss, "nothing is stored: `miss`".to_owned()),
    };
    if asked.only_if_cached && !matches!(result, CacheResult::Hit | CacheResult::Stale) {
        return (
            None,
            "nothing that may be given is stored, and the client wants nothing else (`only-if-cached`): 504"
                .to_owned(),
        );
    }
    (Some(result.as_str()), words)
}

fn of_stored(stored: &Stored, is_under_way: bool) -> (CacheResult, String) {
    let (ttl, past) = (stored.ttl_secs, stored.ttl_secs.saturating_neg());
    let is = if ttl >= 0 {
        format!("an answer is stored and fresh for {ttl} more seconds")
    } else {
        format!("an answer is stored, stale since {past} seconds")
    };
    match stored.reuse {
        Reuse::Fresh => (CacheResult::Hit, format!("{is}: `hit`")),
        Reuse::WhileRevalidate => {
            (CacheResult::Stale, format!("{is}: `stale`, given at once while a new one is fetched"))
        }
        Reuse::Stale => (CacheResult::Stale, format!("{is}: `stale`, as the client takes it (`max-stale`)")),
        Reuse::Validate if is_under_way => (
            CacheResult::Collapsed,
            format!(
                "{is}, not to be given unasked, and another request is asking: `collapsed` with that one"
            ),
        ),
        Reuse::Validate if stored.has_validator => (
            CacheResult::Revalidated,
            format!(
                "{is}, not to be given unasked: the upstream is asked whether it still holds, `revalidated` if so, else `miss`"
            ),
        ),
        Reuse::Validate => {
            (CacheResult::Miss, format!("{is}, not to be given, and nothing to ask the upstream by: `miss`"))
        }
    }
}

/// When a stored answer cannot be given any longer.
fn until(stored: &Stored) -> Option<String> {
    let left = |window: i64| u64::try_from(stored.left(window)).ok().filter(|left| *left > 0);
    let in_seconds = |left: u64| span(Duration::from_secs(left));
    let (behind, failing) = (left(stored.while_revalidate_secs), left(stored.if_error_secs));
    let parts: Vec<String> = [
        behind.map(|left| format!("while a new one is fetched, for {} from now", in_seconds(left))),
        failing.map(|left| format!("where the upstream fails, for {} from now", in_seconds(left))),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| format!("now: once stale it may still be given {}", parts.join("; ")))
}

/// Adds how the endpoints of an upstream are.
pub(super) fn endpoints(plan: &UpstreamPlan, told: &mut Told) {
    let list = plan.upstream.standing();
    for endpoint in &list {
        let addresses = match endpoint.resolution.addresses {
            0 => "no address is known".to_owned(),
            1 => "1 address".to_owned(),
            more => format!("{more} addresses"),
        };
        let age =
            endpoint.resolution.age.map_or_else(String::new, |age| format!(", asked {} ago", span(age)));
        let flying = endpoint.in_flight;
        told.words.push(format!("now: `{}` has {flying} in flight, {addresses}{age}", endpoint.authority));
    }
    told.now = list
        .iter()
        .map(|endpoint| {
            json!({
                "endpoint": endpoint.authority,
                "weight": endpoint.weight,
                "inFlight": endpoint.in_flight,
                "addresses": endpoint.resolution.addresses,
                "resolved": endpoint.resolution.addresses > 0,
            })
        })
        .collect();
}
