//! HTTP caching: what may be kept, under which key, where, and what is said about it.
//!
//! ```text
//!   request ─▶ key ──────▶ Zone::enable ─▶ (Pingora's state machine) ─▶ storage: lookup ──hit──▶ vary ─▶ status ─▶ client
//!                                             │ miss: one leader (collapse), known refusals pass by (refusals)
//!                                             ▼
//!                                         upstream ─▶ guard, erase, shape ─▶ freshness::judge ─▶ storage: fill ─▶ client
//! ```
//!
//! Pingora keeps the state machine: lookup, lock, ranges and conditions on hits, stale-while-revalidate. The decisions are
//! ours, because its own are not safe for a shared cache in front of credentialed upstreams. This room does not know routes,
//! sessions or policies, does not fetch, and changes no answer but by [`freshness::strip_for_store`].
//!
//! Lifetimes: a [`Zone`] lives as long as the process and survives reloads; policies and patterns belong to the
//! configuration; keys, facts and outcomes to a request.

mod collapse;
pub mod conditions;
pub mod deception;
pub mod directives;
pub mod freshness;
pub mod invalidation;
pub mod key;
pub mod ranges;
mod refusals;
pub mod reuse;
pub mod status;
pub mod storage;
pub mod terms;
pub mod validate;
pub mod vary;

use std::time::{Instant, SystemTime};

use http::HeaderMap;
use pingora::cache::{CachePhase, HttpCache};
use pingora_cache::CacheKey;
use pingora_cache::lock::CacheKeyLockImpl;
use pingora_cache::predictor::CacheablePredictor as _;

use collapse::Failures;
use refusals::Refusals;
use storage::{FillEpoch, HeapStore, Settings, StoreStats};

/// One cache zone: a store and what goes with it, shared by all workers and all routes that name it. One per process today
/// (`cache` in the configuration).
pub struct Zone {
    store: &'static HeapStore,
    lock: &'static CacheKeyLockImpl,
    refusals: Refusals,
    failures: Failures,
}

impl Zone {
    /// Makes a zone. Leaked on purpose: it must outlive every configuration. Call it when the process starts, not when it
    /// reloads.
    pub fn new(settings: Settings) -> &'static Self {
        Box::leak(Box::new(Self {
            store: HeapStore::new(settings),
            lock: collapse::new_lock(),
            refusals: Refusals::new(Instant::now()),
            failures: Failures::default(),
        }))
    }

    /// Turns the cache on for a request, in `request_cache_filter`. `max_object` is the route's limit on a body in bytes;
    /// the store's own limit applies if it is smaller. Does nothing if the cache is on already, where the framework would
    /// panic.
    ///
    /// No eviction manager (the store evicts by itself) and no admission policy: every cacheable miss is stored, and
    /// S3-FIFO's small queue takes the role of an admission filter.
    pub fn enable(&'static self, cache: &mut HttpCache, max_object: usize) {
        if !matches!(cache.phase(), CachePhase::Disabled(_)) {
            return;
        }
        cache.enable(self.store, None, Some(&self.refusals), Some(self.lock), Some(collapse::lock_options()));
        cache.set_max_file_size_bytes(max_object.min(self.store.max_object_bytes()));
    }

    /// When a fetch begins: take it before the upstream is asked, stamp it into the meta that [`freshness::judge`] gives.
    pub fn epoch(&self) -> FillEpoch {
        self.store.epoch()
    }

    /// Removes a key with all its variants. True if anything was stored.
    pub fn purge(&self, key: &CacheKey) -> bool {
        self.store.purge_key(&key.to_compact())
    }

    /// Removes everything whose framed key begins with `prefix` ([`key::KeyParts::url_prefix`],
    /// [`key::KeyParts::route_prefix`]) and returns how many objects there were.
    pub fn purge_prefix(&self, prefix: &[u8]) -> usize {
        self.store.purge_prefix(prefix)
    }

    /// As [`Self::purge_prefix`] for several at once: sorted, and none the beginning of another.
    pub fn purge_prefixes(&self, prefixes: &[Vec<u8>]) -> usize {
        self.store.purge_prefixes(prefixes)
    }

    /// The fetch of this request failed and its client is told `status`. Requests that wait for it will share that instead
    /// of asking the upstream in their turn. Call it while the lock is still held: before the error leaves
    /// `proxy_upstream_filter` or an answer is refused with [`HttpCache::disable`].
    pub fn note_failure(&self, cache: &HttpCache, status: u16, at: Instant) {
        // A lookup means that there is a key; without one, asking for it may panic.
        if let Some(key) = cache.lookup_duration().and_then(|_| cache.maybe_cache_key()) {
            self.failures.note(key, status, at);
        }
    }

    /// The status to answer with, if this request waited for a fetch that failed after the request had `arrived`. Ask in
    /// `proxy_upstream_filter`, before anything else, whether the cache is still on or not.
    pub fn shared_failure(&self, cache: &HttpCache, arrived: Instant) -> Option<u16> {
        cache.lock_duration()?;
        self.failures.shared(cache.maybe_cache_key()?, arrived)
    }

    /// What is stored under a key for this request, for people: nothing is read, nothing becomes more recent.
    pub fn peek(&self, key: &CacheKey, request: &HeaderMap, now: SystemTime) -> Peeked {
        let is_refused = self.refusals.predicted_uncacheable_reason(key).is_some();
        let mut key = key.clone();
        let mut meta = self.store.peek(&key, now);
        // As the framework does: the first object says by which variant the request is answered.
        if let Some(first) = &meta
            && let Some(variance) = vary::variance(first.headers(), request).hash()
            && first.variance() != Some(variance)
        {
            key.set_variance_key(variance);
            meta = self.store.peek(&key, now);
        }
        let stored = meta.map(|meta| Stored {
            status: meta.response_header().status.as_u16(),
            age_secs: meta.age().as_secs(),
            ttl_secs: status::seconds_between(now, meta.fresh_until()),
        });
        Peeked { stored, is_refused }
    }

    /// Moves the times of everything that is kept, for a clock that is not the wall's. While no request is under way.
    pub fn shift(&self, shift: storage::Shift) {
        self.store.shift(shift);
        self.refusals.age(shift.passed);
    }

    /// Numbers for the metrics.
    pub fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// The store itself.
    pub fn store(&self) -> &'static HeapStore {
        self.store
    }
}

/// What a cache holds for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// The object that would be served, if it is fresh enough.
    pub stored: Option<Stored>,
    /// Whether the answer was found lately not to be storable, so that requests do not wait for one another.
    pub is_refused: bool,
}

/// A stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its status.
    pub status: u16,
    /// How old it is, in seconds.
    pub age_secs: u64,
    /// Seconds of freshness left; negative when stale.
    pub ttl_secs: i64,
}

impl std::fmt::Debug for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zone").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod heads;
#[cfg(test)]
mod tests;
