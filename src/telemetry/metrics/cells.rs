//! The smallest parts: counters that many threads may move at once.
//!
//! Every cell exists once per *shard*, each shard on its own cache lines. A thread always moves the same shard, so two workers
//! that count for the same route do not pull one cache line to and fro. A scrape adds the shards up.
//!
//! All atomics are relaxed: each cell is a number of its own, and no other memory is published through it. A scrape may
//! therefore see one request in one counter and not yet in another; the next scrape sees both.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::labels::Label;

/// More shards than this cost memory per route and gain nothing measurable.
const MAX_SHARDS: usize = 16;

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: usize = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
}

/// A number that stays the same for this thread; threads are numbered as they first count something.
#[must_use]
pub fn thread_number() -> usize {
    THREAD.with(|number| *number)
}

/// How many shards there are: one per processor, a power of two, at most 16.
fn shard_count() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    processors.clamp(1, MAX_SHARDS).next_power_of_two()
}

/// Two cache lines: processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// One `T` per shard.
#[derive(Debug)]
pub struct Sharded<T> {
    shards: Box<[Padded<T>]>,
}

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self { shards: (0..shard_count()).map(|_| Padded::default()).collect() }
    }
}

impl<T> Sharded<T> {
    /// The shard of the calling thread.
    #[must_use]
    pub fn local(&self) -> &T {
        let index = thread_number() & (self.shards.len() - 1);
        let shard =
            self.shards.get(index).expect("the count is a power of two, so the mask keeps the index inside");
        &shard.0
    }

    /// All shards, for a scrape or for the writer thread of the access log.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().map(|shard| &shard.0)
    }

    /// Adds up one number of every shard.
    pub fn sum(&self, of: impl Fn(&T) -> u64) -> u64 {
        self.all().fold(0, |sum, shard| sum.wrapping_add(of(shard)))
    }
}

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One [`Count`] per value of the closed enum `E`. `N` is `E::COUNT`.
#[derive(Debug)]
pub struct Counts<E, const N: usize> {
    cells: [Count; N],
    of: PhantomData<fn(E)>,
}

impl<E: Label, const N: usize> Default for Counts<E, N> {
    fn default() -> Self {
        const { assert!(N == E::ALL.len(), "N is the number of values of the enum") };
        Self { cells: std::array::from_fn(|_| Count::default()), of: PhantomData }
    }
}

impl<E: Label, const N: usize> Counts<E, N> {
    /// The cell of `label`.
    #[must_use]
    pub fn of(&self, label: E) -> &Count {
        self.cells.get(label.index()).expect("there are as many cells as values, see `default`")
    }

    /// Counts one `label`.
    pub fn add(&self, label: E) {
        self.of(label).add(1);
    }
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Level(AtomicU64);

/// How many of something there are now; falls by itself when an [`ActiveGuard`] is dropped.
#[derive(Debug)]
pub struct Active {
    levels: Box<[Arc<Level>]>,
}

impl Default for Active {
    fn default() -> Self {
        Self { levels: (0..shard_count()).map(|_| Arc::default()).collect() }
    }
}

impl Active {
    /// Counts one more until the guard is dropped, on whatever thread that happens.
    pub fn enter(&self) -> ActiveGuard {
        let index = thread_number() & (self.levels.len() - 1);
        let level =
            self.levels.get(index).expect("the count is a power of two, so the mask keeps the index inside");
        level.0.fetch_add(1, Ordering::Relaxed);
        ActiveGuard { level: Arc::clone(level) }
    }

    /// How many there are now. A guard lowers the shard it raised, so no shard falls below 0.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.levels.iter().map(|level| level.0.load(Ordering::Relaxed)).sum()
    }
}

/// One request or connection that is counted as active. Owned: it may outlive the plan that handed it out.
#[derive(Debug)]
#[must_use = "the gauge falls when this is dropped"]
pub struct ActiveGuard {
    level: Arc<Level>,
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.level.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_many_threads_add_up() {
        let cells = Sharded::<Count>::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| cells.local().add(1)));
            }
        });
        assert_eq!(cells.sum(Count::value), 8000, "no shard is lost");
    }

    #[test]
    fn a_guard_dropped_on_another_thread_lowers_the_gauge() {
        let active = Active::default();
        let guards: Vec<ActiveGuard> = (0..3).map(|_| active.enter()).collect();
        assert_eq!(active.value(), 3, "three are active");
        std::thread::spawn(move || drop(guards)).join().expect("the thread ends");
        assert_eq!(active.value(), 0, "none is active");
    }
}
