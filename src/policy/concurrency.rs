//! `concurrency`: how many requests of a route may be under way at once, in all or per client.
//!
//! Counted with `pingora_limits::inflight` (`limit::inflight`): an estimate that can only be too high, which is the safe side for a
//! ceiling. The place is given back when the request ends, however it ends.

use std::num::NonZeroU32;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::rate_limit::Subject;
use super::told::{self, Counters, Telling, Told};
use super::{Build, Hooks, Policy, Reply, Verdict};
use crate::config::Section;
use crate::exchange::Exchange;
use crate::limit::inflight::Concurrency;
use crate::limit::{self, Key};

/// At most so many requests of this route at the same time. One more is answered with 429. Without this key there is no such limit.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Spec {
    /// How many requests may be under way at once.
    #[schemars(example = 50)]
    max: NonZeroU32,
    /// Whose requests are counted together.
    #[schemars(extend("default" = "route"))]
    key: Option<Subject>,
}

struct Ceiling {
    concurrency: Concurrency,
    max: NonZeroU32,
    subject: Subject,
    id: u64,
    /// For its seeds.
    counters: Arc<limit::Counters>,
}

/// Compiles the ceiling. Without a key all clients share it.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let spec = section?.decode::<Spec>(build.problems)?;
    Some(Arc::new(Ceiling {
        concurrency: Concurrency::new(spec.max),
        max: spec.max,
        subject: spec.key.unwrap_or(Subject::Route),
        id: limit::limit_id(build.route.as_str(), "concurrency"),
        counters: build.limits.clone(),
    }))
}

impl Ceiling {
    fn key(&self, exchange: &Exchange) -> Key {
        let client = limit::client_subject(exchange.client);
        let subject: &[u8] = match self.subject {
            Subject::ClientIp => &client,
            Subject::Route => b"",
        };
        self.counters.key(self.id, subject)
    }
}

impl Policy for Ceiling {
    fn hooks(&self) -> Hooks {
        Hooks { request: true, ..Hooks::default() }
    }

    fn request_filter(&self, exchange: &mut Exchange) -> Verdict {
        match self.concurrency.try_enter(self.key(exchange)) {
            Some(permit) => {
                exchange.held.push(Box::new(permit));
                Verdict::Continue
            }
            None => Verdict::Respond(Box::new(
                Reply::problem(StatusCode::TOO_MANY_REQUESTS, "concurrency_limited")
                    .with(http::header::RETRY_AFTER, HeaderValue::from_static("1")),
            )),
        }
    }

    fn explain(&self, telling: &Telling<'_>) -> Option<Told> {
        let client = telling.exchange.client;
        let words = format!(
            "at most {} at the same time, for {}; one more is answered 429",
            told::counted(self.max.get().into(), "request"),
            self.subject.words(client)
        );
        let (key, bucket) = (self.subject.key(), self.subject.bucket(client));
        let mut told =
            Told::new([words], serde_json::json!({ "max": self.max, "key": key, "bucket": bucket }));
        if telling.counters == Counters::Live {
            let running = self.concurrency.running(self.key(telling.exchange));
            told.words.push(format!("now: {} under way", told::counted(running as u64, "request")));
            told.now = serde_json::json!({ "running": running });
        }
        Some(told)
    }
}
