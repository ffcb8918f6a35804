//! A short memory of keys whose answers are not shared, so that their requests do not queue for one another.
//!
//! Without it every burst for an uncacheable URL waits for its first request's head before going on alone (others call it
//! hit-for-miss). A table of words that forget by themselves; no lock. A wrong "yes" (one in four billion, by chance) costs one call
//! for each request of a burst, for a while.
//!
//! An answer that outgrew the limit half-way is remembered longer: those who read along were cut with it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pingora_cache::CacheKey;
use pingora_cache::key::CacheHashKey;

/// Why a key is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its answer may not be stored.
    Unshared,
    /// Its answer outgrew the limit after others had begun to read it.
    TooLarge,
}

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

    /// Remembers a key. True if it was not known.
    pub(super) fn note(&self, key: &CacheKey, why: Refused, now: Instant) -> bool {
        let (fingerprint, word) = self.word(key);
        let too_large = why == Refused::TooLarge;
        let until = self.second(now).saturating_add(if too_large { TOO_LARGE_TTL } else { TTL }.as_secs());
        // Relaxed: the word is all there is.
        let new = (fingerprint << 32) | ((until << 1) & LOW) | u64::from(too_large);
        word.is_none_or(|word| word.swap(new, Relaxed) >> 32 != fingerprint)
    }

    /// Why a key is remembered, if it still is.
    pub(super) fn holds(&self, key: &CacheKey, now: impl FnOnce() -> Instant) -> Option<Refused> {
        let (fingerprint, word) = self.word(key);
        let word = word.map_or(0, |word| word.load(Relaxed));
        if word == 0 || word >> 32 != fingerprint || (word & LOW) >> 1 <= self.second(now()) {
            return None;
        }
        Some(if word & 1 == 1 { Refused::TooLarge } else { Refused::Unshared })
    }

    /// Forgets a key. True if it was known.
    pub(super) fn forget(&self, key: &CacheKey) -> bool {
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
        assert!(refusals.note(&key, Refused::Unshared, start), "new");
        assert!(!refusals.note(&key, Refused::Unshared, start), "known");
        let within = start + TTL - Duration::from_secs(1);
        assert_eq!(refusals.holds(&key, || within), Some(Refused::Unshared), "within");
        assert_eq!(refusals.holds(&key, || start + TTL), None, "over");
        assert_eq!(refusals.holds(&CacheKey::new("b", ""), || start), None, "another key");
        refusals.note(&key, Refused::TooLarge, start);
        assert_eq!(refusals.holds(&key, || start + TTL), Some(Refused::TooLarge), "longer");
    }

    #[test]
    fn a_storable_answer_ends_it_at_once() {
        let (refusals, now) = (Refusals::new(Instant::now()), Instant::now());
        let key = CacheKey::new("a", "");
        refusals.note(&key, Refused::Unshared, now);
        assert!(refusals.forget(&key) && refusals.holds(&key, || now).is_none(), "ended");
        assert!(!refusals.forget(&key), "only once");
    }
}
