//! One record of the table: 128 bytes, two cache lines. The first is what a look-up reads.
//!
//! ```text
//!    0  state        generation and phase (`protocol`)          64  runs          three times: first unit << 32 | units
//!    8  primary      128 bits: what is looked for               88  body_bytes    length of the body
//!   24  variance     64 bits, 0 for the first of a family       92  body_at       where it begins in the runs: behind the head
//!   32  head         first unit << 32 | bytes                   96  sequence      when it came; the newer of two wins
//!   40  next         the next record of the chain              104  stale_from    since when it is stale, in ns; all ones: it is not
//!   44  heat         hits lately, 0 to 3                       112  began         when its fetch began
//!   45  lane         where it stands for eviction              120  body_sum      CRC-32 of the body
//!   46  run_count    255: runs[0] is a list of them            124  sum           CRC-32 of what does not change
//!   48  pins         readers, one count for each process
//! ```

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use super::Run;

/// How many processes may share an arena.
pub(super) const SLOTS: usize = 8;
/// Runs that a record holds itself.
pub(super) const INLINE_RUNS: usize = 3;
/// `run_count` of a record whose first run is a list of its runs.
pub(super) const LISTED: u8 = 255;
/// `stale_from` of what is not stale.
pub(super) const NEVER: u64 = u64::MAX;

#[derive(Debug)]
#[repr(C, align(128))]
pub(super) struct Record {
    pub(super) state: AtomicU64,
    pub(super) primary: [AtomicU64; 2],
    pub(super) variance: AtomicU64,
    pub(super) head: AtomicU64,
    pub(super) next: AtomicU32,
    pub(super) heat: AtomicU8,
    pub(super) lane: AtomicU8,
    pub(super) run_count: AtomicU8,
    pub(super) spare: AtomicU8,
    pub(super) pins: [AtomicU16; SLOTS],
    pub(super) runs: [AtomicU64; INLINE_RUNS],
    pub(super) body_bytes: AtomicU32,
    pub(super) body_at: AtomicU32,
    pub(super) sequence: AtomicU64,
    pub(super) stale_from: AtomicU64,
    pub(super) began: AtomicU64,
    pub(super) body_sum: AtomicU32,
    pub(super) sum: AtomicU32,
}

const _: () = assert!(size_of::<Record>() == 128 && align_of::<Record>() == 128, "as drawn");
const _: () = assert!(std::mem::offset_of!(Record, pins) == 48 && std::mem::offset_of!(Record, runs) == 64);
const _: () = assert!(std::mem::offset_of!(Record, sum) == 124, "as drawn");

// Relaxed throughout: what is read here is worth nothing until the state has been looked at before and after (`protocol`).
impl Record {
    pub(super) fn primary(&self) -> u128 {
        let [low, high] = &self.primary;
        u128::from(high.load(Relaxed)) << 64 | u128::from(low.load(Relaxed))
    }

    pub(super) fn is_of(&self, primary: u128) -> bool {
        let [low, high] = &self.primary;
        low.load(Relaxed) == primary as u64 && high.load(Relaxed) == (primary >> 64) as u64
    }

    pub(super) fn set_primary(&self, primary: u128) {
        let [low, high] = &self.primary;
        low.store(primary as u64, Relaxed);
        high.store((primary >> 64) as u64, Relaxed);
    }

    /// The head: where it begins and how many bytes it has.
    pub(super) fn head(&self) -> (u32, u32) {
        let word = self.head.load(std::sync::atomic::Ordering::SeqCst);
        ((word >> 32) as u32, word as u32)
    }

    pub(super) fn run(&self, index: usize) -> Option<Run> {
        self.runs.get(index).map(|word| Run::of(word.load(Relaxed)))
    }

    /// The checksum of what does not change once it is committed.
    pub(super) fn fixed_sum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let words = [self.primary() as u64, (self.primary() >> 64) as u64, self.variance.load(Relaxed)];
        let more = [self.sequence.load(Relaxed), u64::from(self.run_count.load(Relaxed))];
        let lengths = u64::from(self.body_bytes.load(Relaxed)) << 32 | u64::from(self.body_at.load(Relaxed));
        let generation = self.state.load(Relaxed) >> 2;
        let sums = [lengths, generation, u64::from(self.body_sum.load(Relaxed))];
        let runs = self.runs.iter().map(|run| run.load(Relaxed));
        for word in words.into_iter().chain(more).chain(sums).chain(runs) {
            hasher.update(&word.to_le_bytes());
        }
        hasher.finalize()
    }
}
