//! What only a running gateway knows: looked at, never touched.

use std::collections::BTreeMap;
use std::time::SystemTime;

use pingora::http::RequestHeader;
use serde_json::{Value, json};

use super::explanation::Now;
use crate::cache::Zone;
use crate::cache::vary::Selecting;
use crate::exchange::Exchange;
use crate::plan::{Listener, Plan, Route, UpstreamPlan};
use crate::policy::Told;
use crate::policy::told::span;
use crate::proxy::{cache, upstream_request};

/// The running gateway, as far as it is asked.
pub struct Live<'a> {
    /// Its cache.
    pub zone: &'a Zone,
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
        let peeked = self.zone.peek(&key, chosen, SystemTime::now());
        let words = match &peeked.stored {
            Some(stored) if stored.ttl_secs >= 0 => {
                format!("now: an answer is stored and fresh for {} more seconds", stored.ttl_secs)
            }
            Some(stored) => format!("now: an answer is stored, stale since {} seconds", -stored.ttl_secs),
            None if peeked.is_refused => {
                "now: nothing is stored, and its answer was found not to be storable a moment ago: the request goes by itself".to_owned()
            }
            None => "now: nothing is stored".to_owned(),
        };
        told.words.push(words);
        told.now = match &peeked.stored {
            Some(stored) => json!({
                "stored": true,
                "fresh": stored.ttl_secs >= 0,
                "ttlSeconds": stored.ttl_secs,
                "ageSeconds": stored.age_secs,
                "status": stored.status,
            }),
            None => json!({ "stored": false, "latelyRefused": peeked.is_refused }),
        };
        !peeked.is_refused
    }

    pub(super) fn now(&self, plan: &Plan, now: BTreeMap<String, Value>) -> Now {
        Now {
            fingerprint: format!("{:016x}", plan.fingerprint),
            same_as_file: self.file_fingerprint.map(|file| file == plan.fingerprint),
            now,
        }
    }
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
