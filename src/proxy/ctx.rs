//! What one request carries from phase to phase. It ends in exactly one log line and one count, also when the connection is cut and
//! Pingora's `logging` never runs: then `Drop` does it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cache::Fetch;
use super::{Shared, logging};
use crate::cache::directives::Asked;
use crate::cache::purge::tags::Tags;
use crate::cache::status::Outcome;
use crate::exchange::Exchange;
use crate::plan::{Plan, Route};
use crate::policy::Fault;
use crate::telemetry::labels::{CacheResult, LocalReason, Uncacheable};
use crate::telemetry::metrics::ActiveGuard;
use crate::upstream::{Lease, Tried};

/// The request body, as far as its limits go.
#[derive(Debug)]
pub struct BodyState {
    /// Bytes read from the client so far.
    pub read_bytes: u64,
    /// When the last byte must be in.
    pub deadline: Instant,
    /// What was read ahead and is still to be sent before the rest.
    pub ahead: Vec<Bytes>,
    /// Whether `ahead` holds the whole body, though Pingora's own buffer could not: only our own exchange can send it then.
    pub whole_ahead: bool,
    /// Whether the attempt begins with bytes that were read and counted before.
    pub replays: bool,
}

/// What the cache had to do with the request.
#[derive(Default)]
pub struct CacheFacts {
    /// Whether the route caches and the request may be looked up.
    pub looked_up: bool,
    /// What the client's own `Cache-Control` asks for, where the route honours it.
    pub asked: Asked,
    /// The outcome, once known.
    pub result: Option<CacheResult>,
    /// Whether this answer was put into the store.
    pub stored: bool,
    /// Why it was not.
    pub refused: Option<Uncacheable>,
    /// What is said of it when the head goes out.
    pub outcome: Option<Outcome>,
    /// The names by which the upstream's answer can be purged.
    pub tags: Tags,
    /// The fetch that this request makes for the cache.
    pub fetch: Option<Box<Fetch>>,
    /// Whether the body of the upstream's answer ends where its connection does.
    pub close_delimited: bool,
    /// How long it waited for others.
    pub waited: Option<Duration>,
}

impl CacheFacts {
    /// Whether the upstream is asked for the whole, whatever part or condition the client names: its answer may be stored.
    #[must_use]
    pub fn fetches_whole(&self) -> bool {
        self.fetch.as_ref().is_some_and(|fetch| fetch.whole)
    }
}

/// One request.
pub struct Ctx {
    /// Process: for the last word in `Drop`.
    pub(super) shared: Arc<Shared>,
    /// Configuration: the plan that the request began with.
    pub plan: Arc<Plan>,
    /// The route, once found.
    pub route: Option<Arc<Route>>,
    /// The facts.
    pub exchange: Exchange,
    /// The head's protocol, for the log.
    pub protocol: &'static str,
    /// What went wrong, if anything.
    pub fault: Option<Fault>,
    /// Why the gateway answered by itself.
    pub local: Option<LocalReason>,
    /// The request body.
    pub body: BodyState,
    /// Cache facts.
    pub cache: CacheFacts,
    /// Addresses that failed for this request.
    pub tried: Tried,
    /// The place in the endpoint's in-flight count.
    pub lease: Option<Lease>,
    /// The endpoint of the current attempt.
    pub endpoint: usize,
    /// Whether the answer that just came is thrown away for another attempt.
    pub repeat: bool,
    /// Attempts made.
    pub attempts: u32,
    /// When the current attempt began, for the connect time.
    pub attempt_started: Option<Instant>,
    /// In-flight counts: listener and upstream.
    pub(super) active: Vec<ActiveGuard>,
    /// When the whole exchange with the upstream must be over.
    pub upstream_deadline: Option<Instant>,
    /// Whether the answer is an event stream: it has no end to wait for, only silence ends it.
    pub endless: bool,
    /// Whether this is the background refresh of a stale object: no client waits for it.
    pub background: bool,
    /// For the log.
    pub user_agent: Option<http::HeaderValue>,
    /// Status, once sent.
    pub status: u16,
    /// Body bytes sent to the client.
    pub response_bytes: u64,
    pub(super) logged: bool,
}

impl Drop for Ctx {
    fn drop(&mut self) {
        if !self.logged {
            // The connection was cut or the task died: nobody called `logging`.
            self.fault.get_or_insert(Fault::ClientGone);
            logging::finish(self);
        }
    }
}
