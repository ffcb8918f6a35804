//! How many requests of one key may run at once.
//!
//! Counts are estimates of `pingora-limits`: a key may look busier than it is when it shares counters with others, never
//! less busy. Their size is fixed (256 KiB a limit), whatever the number of keys.

use super::key::Key;
use pingora_limits::inflight::{Guard, Inflight};
use std::num::NonZeroU32;

/// One concurrency limit. Lives as long as the configuration that made it: after a reload, requests of the old
/// configuration are no longer counted against the new one.
pub struct Concurrency {
    running: Inflight,
    max: isize,
}

impl Concurrency {
    /// At most `max` at once for each key.
    #[must_use]
    pub fn new(max: NonZeroU32) -> Self {
        Self { running: Inflight::new(), max: isize::try_from(max.get()).unwrap_or(isize::MAX) }
    }

    /// Enters if there is room for `key`. The permit is given back when it is dropped, however the request ends.
    ///
    /// Two that arrive together at the last free place may both be turned away; never are both let in.
    #[must_use]
    pub fn try_enter(&self, key: Key) -> Option<Permit> {
        let (guard, running) = self.running.incr(key, 1);
        (running <= self.max).then_some(Permit { _guard: guard })
    }

    /// How many run for `key` at this moment, at worst a few too many. Takes no place, not even for a moment.
    #[must_use]
    pub fn running(&self, key: Key) -> usize {
        let (_, running) = self.running.incr(key, 0);
        usize::try_from(running).unwrap_or_default()
    }
}

/// The right to run, until dropped.
#[derive(Debug)]
pub struct Permit {
    _guard: Guard,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::key::Seeds;

    fn key(subject: &[u8]) -> Key {
        Key::new(Seeds([1, 2]), 1, subject)
    }

    fn limit(max: u32) -> Concurrency {
        Concurrency::new(NonZeroU32::new(max).expect("not zero"))
    }

    #[test]
    fn no_more_than_max_run_at_once() {
        let limit = limit(2);
        let client = key(b"client");
        let first = limit.try_enter(client).expect("room for one");
        let _second = limit.try_enter(client).expect("room for two");
        assert_eq!((limit.running(client), limit.running(key(b"other"))), (2, 0), "a look takes no place");
        assert!(limit.try_enter(client).is_none(), "no room for three");
        assert!(limit.try_enter(key(b"other")).is_some(), "keys do not share");
        drop(first);
        assert!(limit.try_enter(client).is_some(), "a place was given back, and the refused one held none");
    }

    #[test]
    fn many_threads_never_pass_the_limit() {
        let limit = limit(3);
        let client = key(b"client");
        let running = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Some(permit) = limit.try_enter(client) {
                            let now = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                            assert!(now <= 3, "{now} at once");
                            running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert!(limit.try_enter(client).is_some(), "all places were given back");
    }
}
