//! One upstream call for concurrent misses, and one failure for all who waited for it.
//!
//! The framework's lock lets one request fetch while the others wait. What it lacks is the failure: each waiter in turn
//! would become the next leader and ask the failing upstream again, one after the other. [`Failures`] remembers when a
//! fetch of a key failed; a request that had arrived by then and waited shares that failure instead of repeating it.
//! Requests that arrive later ask the upstream themselves, so nothing is cached here.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora::cache::CacheOptionOverrides;
use pingora_cache::CacheKey;
use pingora_cache::key::{CacheHashKey, HashBinary};
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};

/// Makes the lock of a zone. Leaked on purpose, once per zone: the framework asks for `'static`.
pub(super) fn new_lock() -> &'static CacheKeyLockImpl {
    Box::leak(Box::new(CacheLock::new(LEADER_TIMEOUT)))
}

/// How requests wait at the lock.
pub(super) fn lock_options() -> CacheOptionOverrides {
    let mut options = CacheOptionOverrides::default();
    options.wait_timeout = Some(WAIT_TIMEOUT);
    options.max_lock_retries = Some(MAX_LOCK_RETRIES);
    options
}

/// A failed fetch that others may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failure {
    key: HashBinary,
    at: Instant,
    status: u16,
}

/// The last failures by key. A fixed table: a newer failure of another key may push one out, and its waiters then ask
/// the upstream themselves. Touched only by fetches that fail and by requests that waited.
#[derive(Debug)]
pub(super) struct Failures {
    places: Box<[Mutex<Option<Failure>>]>,
}

impl Default for Failures {
    fn default() -> Self {
        Self { places: (0..PLACES).map(|_| Mutex::new(None)).collect() }
    }
}

impl Failures {
    /// A fetch of `key` failed at `at` and its client was told `status`. Call it before the lock is released.
    pub(super) fn note(&self, key: &CacheKey, status: u16, at: Instant) {
        let key = key.combined_bin();
        if let Some(place) = self.place(&key) {
            *place.lock() = Some(Failure { key, at, status });
        }
    }

    /// The status to answer with, if a fetch of `key` failed after this request `arrived`. Ask only for requests that
    /// waited at the lock, before the upstream is asked.
    pub(super) fn shared(&self, key: &CacheKey, arrived: Instant) -> Option<u16> {
        let key = key.combined_bin();
        let failure = (*self.place(&key)?.lock())?;
        (failure.key == key && failure.at >= arrived).then_some(failure.status)
    }

    fn place(&self, key: &HashBinary) -> Option<&Mutex<Option<Failure>>> {
        let [first, second, ..] = *key;
        self.places.get(usize::from(u16::from_le_bytes([first, second])) % PLACES)
    }
}

/// A leader that has no head after this long is given up and a waiter takes over. Longer than the default deadline of an
/// exchange would only make waiters wait for a leader that is already gone.
const LEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A waiter goes to the upstream by itself (uncached) after this long.
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Rounds a waiter stays in line when leaders fail. The framework's two is fewer than the failures that many waiters see
/// one after the other; since those are shared, rounds are cheap.
const MAX_LOCK_RETRIES: usize = 16;
const PLACES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> CacheKey {
        CacheKey::new(text, "")
    }

    #[test]
    fn only_requests_that_were_there_share_a_failure() {
        let failures = Failures::default();
        let arrived = Instant::now();
        let failed = arrived + Duration::from_millis(5);
        failures.note(&key("a"), 502, failed);
        assert_eq!(failures.shared(&key("a"), arrived), Some(502), "waited");
        assert_eq!(failures.shared(&key("a"), failed + Duration::from_millis(1)), None, "came later");
        assert_eq!(failures.shared(&key("b"), arrived), None, "another key");
    }

    #[test]
    fn variants_fail_apart() {
        let failures = Failures::default();
        let at = Instant::now();
        let mut german = key("a");
        german.set_variance_key([1; 16]);
        failures.note(&german, 504, at);
        assert_eq!(
            (failures.shared(&german, at), failures.shared(&key("a"), at)),
            (Some(504), None),
            "one variant"
        );
    }
}
