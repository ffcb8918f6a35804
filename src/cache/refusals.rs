//! A short memory of keys whose answers are not shared, so that their requests do not queue for one another.
//!
//! Without it every burst for an uncacheable URL waits for its first request's head before going on alone. The framework
//! has such a memory, but it forgets only under pressure and takes a lock per request; this one is a table of words that
//! forget by themselves. A wrong "yes" (one in four billion, by chance) costs one stored answer for a while.
//!
//! An answer that outgrew the limit half-way is remembered longer: on Pingora's stock path its first client was cut.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pingora_cache::key::CacheHashKey;
use pingora_cache::predictor::CacheablePredictor;
use pingora_cache::{CacheKey, NoCacheReason};

/// Keys that were found uncacheable lately. A word is `fingerprint of the key << 32 | second until which it holds << 1 | too
/// large`.
#[derive(Debug)]
pub(super) struct Refusals {
    words: Box<[AtomicU64]>,
    /// Seconds are counted from here.
    start: Instant,
}

impl Refusals {
    /// An empty memory whose clock begins at `start`.
    pub(super) fn new(start: Instant) -> Self {
        Self { words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(), start }
    }

    fn note(&self, key: &CacheKey, too_large: bool, now: Instant) -> bool {
        let (fingerprint, word) = self.word(key);
        let until = self.second(now).saturating_add(if too_large { TOO_LARGE_TTL } else { TTL }.as_secs());
        // Relaxed: the word is all there is.
        let new = (fingerprint << 32) | ((until << 1) & LOW) | u64::from(too_large);
        word.is_none_or(|word| word.swap(new, Relaxed) >> 32 != fingerprint)
    }

    fn holds(&self, key: &CacheKey, now: impl FnOnce() -> Instant) -> Option<NoCacheReason> {
        let (fingerprint, word) = self.word(key);
        let word = word.map_or(0, |word| word.load(Relaxed));
        if word == 0 || word >> 32 != fingerprint || (word & LOW) >> 1 <= self.second(now()) {
            return None;
        }
        Some(if word & 1 == 1 { NoCacheReason::ResponseTooLarge } else { NoCacheReason::OriginNotCache })
    }

    fn forget(&self, key: &CacheKey) -> bool {
        let (fingerprint, word) = self.word(key);
        let Some(word) = word else { return false };
        let old = word.load(Relaxed);
        old >> 32 == fingerprint && word.compare_exchange(old, 0, Relaxed, Relaxed).is_ok()
    }

    /// Lets so much time pass for all that is remembered.
    pub(super) fn age(&self, by: Duration) {
        for word in &self.words {
            // Relaxed: the word is all there is.
            let _ = word.fetch_update(Relaxed, Relaxed, |old| {
                let until = ((old & LOW) >> 1).saturating_sub(by.as_secs());
                Some((old & !LOW) | (until << 1) | (old & 1))
            });
        }
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }

    /// The fingerprint and the place of a key's primary hash, from different bits of it.
    fn word(&self, key: &CacheKey) -> (u64, Option<&AtomicU64>) {
        let hash = u128::from_le_bytes(key.primary_bin());
        let fingerprint = (hash >> 32) as u64 & LOW;
        (fingerprint, self.words.get(hash as usize % WORDS))
    }
}

impl CacheablePredictor for Refusals {
    fn cacheable_prediction(&self, key: &CacheKey) -> bool {
        self.holds(key, Instant::now).is_none()
    }

    fn predicted_uncacheable_reason(&self, key: &CacheKey) -> Option<NoCacheReason> {
        self.holds(key, Instant::now)
    }

    fn mark_cacheable(&self, key: &CacheKey) -> bool {
        self.forget(key)
    }

    fn mark_uncacheable(&self, key: &CacheKey, reason: NoCacheReason) -> Option<bool> {
        // Faults and facts of one request pass.
        let lasts = matches!(reason, NoCacheReason::OriginNotCache | NoCacheReason::ResponseTooLarge);
        lasts.then(|| self.note(key, reason == NoCacheReason::ResponseTooLarge, Instant::now()))
    }
}

/// How long a refusal is remembered.
const TTL: Duration = Duration::from_secs(10);
/// How long it is remembered that a body outgrew the limit.
const TOO_LARGE_TTL: Duration = Duration::from_secs(3600);
/// 32 KiB per zone.
const WORDS: usize = 4096;
const LOW: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_forgotten_by_itself() {
        let start = Instant::now();
        let (refusals, key) = (Refusals::new(start), CacheKey::new("a", ""));
        assert!(refusals.note(&key, false, start), "new");
        assert!(!refusals.note(&key, false, start), "known");
        let refused = Some(NoCacheReason::OriginNotCache);
        assert_eq!(refusals.holds(&key, || start + TTL - Duration::from_secs(1)), refused, "within");
        assert_eq!(refusals.holds(&key, || start + TTL), None, "over");
        assert_eq!(refusals.holds(&CacheKey::new("b", ""), || start), None, "another key");
        refusals.note(&key, true, start);
        assert_eq!(refusals.holds(&key, || start + TTL), Some(NoCacheReason::ResponseTooLarge), "longer");
    }

    #[test]
    fn a_storable_answer_ends_it_at_once() {
        let refusals = Refusals::new(Instant::now());
        let key = CacheKey::new("a", "");
        assert_eq!(refusals.mark_uncacheable(&key, NoCacheReason::OriginNotCache), Some(true), "noted");
        assert!(!refusals.cacheable_prediction(&key), "bypass");
        assert!(refusals.mark_cacheable(&key) && refusals.cacheable_prediction(&key), "ended");
    }

    #[test]
    fn faults_and_facts_of_one_request_are_not_remembered() {
        let refusals = Refusals::new(Instant::now());
        let key = CacheKey::new("a", "");
        for reason in [
            NoCacheReason::UpstreamError,
            NoCacheReason::Custom("authorization"),
            NoCacheReason::StorageError,
        ] {
            assert_eq!(refusals.mark_uncacheable(&key, reason), None, "{reason:?}");
        }
        assert!(refusals.cacheable_prediction(&key), "still cacheable");
    }
}
