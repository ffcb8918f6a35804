//! The exact limiter: one word per key, in memory that is fixed when the table is made.
//!
//! Keys fall into sets of fifteen ([`set`](super::set) says how they change hands). A known key is one scan of its set and one
//! compare-and-swap. A new key takes an empty slot or one whose arrival time has passed, and a passed time holds no information, so making way
//! loses nothing. If all fifteen are live, the newcomer is decided by [`Overflow`] and counted: strangers cannot push a known client out.
//!
//! The words lie in memory of the process, or in a file that several processes map and decide on together. What lies in the file is the
//! counters alone; what newcomers are estimated by is each process's own.

use super::gcra::{Decision, Quota};
use super::key::{Key, Seeds};
use super::overflow::Overflow;
use super::set::{Mended, Set, WAYS, Wish};
use crate::shm::{HEADER_BYTES, How, OpenError, Place, Region, Spec};
use portable_atomic::AtomicU128;
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The words of a set: its header and its slots.
type Words = [AtomicU128; 1 + WAYS];

/// They begin with a cache line, so that a set is four.
#[derive(Default)]
#[repr(align(128))]
struct Lines(Words);

/// Where the words are.
enum Memory {
    Private(Box<[Lines]>),
    Shared(&'static [Words], &'static Region),
}

/// Limits of every kind over one bounded memory. Lives as long as the process, so a reload forgets nobody; in a file, longer.
pub struct Table {
    memory: Memory,
    seeds: Seeds,
    overflow: Overflow,
    overflowed: AtomicU64,
    mended: AtomicU64,
}

/// What a table counts about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Slots in use, those at rest included, of all processes together. Counted where the table is small; a large one is judged by a
    /// part of it, which is a percent or so off.
    pub tracked: u64,
    /// Slots there are.
    pub capacity: u64,
    /// Requests that this process decided by estimate, because live keys held all of their set. Only grows.
    pub overflowed: u64,
    /// Words that no gateway writes, found by this process and emptied. Only grows.
    pub mended: u64,
}

impl Table {
    /// A table in memory of this process for `capacity_keys` keys, rounded up to a multiple of fifteen: 17.1 bytes each, and 128 KiB for the
    /// overflow.
    ///
    /// Sets fill unevenly: with half the capacity live at once, one newcomer in some thousands is estimated; with all of it, one in ten.
    #[must_use]
    pub fn new(capacity_keys: usize) -> Self {
        let lines = (0..sets_for(capacity_keys)).map(|_| Lines::default()).collect();
        // Means nothing to another process.
        let seeds = std::hash::RandomState::new();
        Self::over(Memory::Private(lines), Seeds([seeds.hash_one(0), seeds.hash_one(1)]))
    }

    /// A table in a file, together with every process that opens it for as many keys.
    ///
    /// # Errors
    /// [`OpenError`]: nothing was changed.
    pub fn open(file: &Path, capacity_keys: usize) -> Result<(Self, How), OpenError> {
        let sets = sets_for(capacity_keys);
        let bytes = sets.saturating_mul(size_of::<Words>()).saturating_add(HEADER_BYTES);
        let spec = Spec { place: Place::File(file), bytes, magic: *b"PORTLIMT", layout: LAYOUT, seeds: None };
        let opened = Region::open(&spec)?;
        let words = opened.region.wide_words(HEADER_BYTES, sets * (1 + WAYS));
        let (words, _) = words.as_chunks();
        let [first, second, ..] = opened.region.seeds();
        Ok((Self::over(Memory::Shared(words, opened.region), Seeds([first, second])), opened.how))
    }

    /// Whether this machine can read and swap a key's word as a whole, without a lock that other processes would not see.
    #[must_use]
    pub fn can_be_shared() -> bool {
        AtomicU128::is_lock_free()
    }

    /// Whether the words lie in memory: a process's own, or a file on tmpfs.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        match self.memory {
            Memory::Private(_) => true,
            Memory::Shared(_, region) => region.is_in_memory(),
        }
    }

    fn over(memory: Memory, seeds: Seeds) -> Self {
        Self {
            memory,
            seeds,
            overflow: Overflow::new(),
            overflowed: AtomicU64::new(0),
            mended: AtomicU64::new(0),
        }
    }

    /// The key of `subject` under the limit `limit_id`.
    #[must_use]
    pub fn key(&self, limit_id: u64, subject: &[u8]) -> Key {
        Key::new(self.seeds, limit_id, subject)
    }

    /// Decides one request of `key` at `now_ns`, which is not 0, on a clock that never goes back. An allowed one is charged.
    ///
    /// Exact over all threads and processes: of any number of requests at one instant exactly as many pass as the quota allows.
    pub fn decide(&self, key: Key, quota: &Quota, now_ns: u64) -> Decision {
        let set = self.set(key);
        let mut mended = Mended::default();
        let decision = loop {
            let charged = set.charge(key.0, now_ns, &mut mended, |tat_ns| quota.step(tat_ns, now_ns));
            if let Some(decision) = charged {
                break decision;
            }
            match set.intend(key.0, now_ns, &mut mended) {
                Wish::Intended(intention) => set.complete(intention),
                Wish::Again => {}
                Wish::Full => {
                    self.overflowed.fetch_add(1, Relaxed);
                    break self.overflow.decide(key, quota, now_ns);
                }
            }
        };
        if mended != Mended::default() {
            self.mended.fetch_add(mended.0.into(), Relaxed);
        }
        decision
    }

    /// What `key` has left at `now_ns`, without using anything up: `allowed` is what the next request would be told. For people; a
    /// key that changes hands at this very moment may look as if it were at rest.
    pub fn peek(&self, key: Key, quota: &Quota, now_ns: u64) -> Decision {
        let set = self.set(key);
        match set.find(key.0, now_ns) {
            Some(tat_ns) => quota.peek(tat_ns, now_ns),
            None if set.is_full(now_ns) => self.overflow.peek(key, quota, now_ns),
            None => quota.peek(0, now_ns),
        }
    }

    /// The counters, each read by itself. Reads at most 2048 sets.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let sets = self.sets();
        let looked_at = sets.min(SAMPLE);
        let index = |n: usize| n as u128 * sets as u128 / looked_at as u128;
        let held: usize = (0..looked_at).map(|n| Set::of(self.words(index(n) as usize)).held()).sum();
        let tracked = held as u128 * sets as u128 / looked_at as u128;
        Stats {
            tracked: tracked as u64,
            capacity: (sets * WAYS) as u64,
            overflowed: self.overflowed.load(Relaxed),
            mended: self.mended.load(Relaxed),
        }
    }

    fn set(&self, key: Key) -> Set<'_, AtomicU128> {
        // The high bits of the key, spread over any number of sets without a division.
        let index = (u128::from(key.0) * self.sets() as u128) >> 64;
        Set::of(self.words(index as usize))
    }

    fn sets(&self) -> usize {
        match &self.memory {
            Memory::Private(lines) => lines.len(),
            Memory::Shared(words, _) => words.len(),
        }
    }

    fn words(&self, index: usize) -> &Words {
        let words = match &self.memory {
            Memory::Private(lines) => lines.get(index).map(|lines| &lines.0),
            Memory::Shared(words, _) => words.get(index),
        };
        words.expect("a share of the number of sets is below it")
    }
}

fn sets_for(capacity_keys: usize) -> usize {
    capacity_keys.div_ceil(WAYS).max(1)
}

/// The way the words lie in a file, what they mean, and how keys are hashed. Another number: the file is made anew.
const LAYOUT: u64 = 1;

/// Sets that are looked at to tell how many keys there are: 30 720 slots.
const SAMPLE: usize = 2048;

#[cfg(test)]
mod tests;
