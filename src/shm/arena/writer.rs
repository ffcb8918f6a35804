//! The one that writes: it takes space and records, commits, kills, and gives back what nobody pins any more.
//!
//! There is one in all processes, because it holds the lease. It is not shared between threads either: its user puts a lock around it,
//! and holds that for the bookkeeping alone, never for a copy of a body.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::data::{LIST_UNITS, MAX_HEAD_BYTES, MAX_RUNS};
use super::draft::Draft;
use super::pinned::Pinned;
use super::record::{INLINE_RUNS, NEVER, Record};
use super::{Arena, Run, UNIT, Wanted};
use crate::shm::buddy::Buddy;
use crate::shm::locks::Held;
use crate::shm::numbers::Numbers;
use crate::shm::protocol::{self, Count, Phase, State};

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Every record is in use.
    Records,
    /// No run is long enough, and too many would be needed.
    Units,
    /// Readers pin too much of what is gone.
    Pinned,
}

/// What a draft becomes.
#[derive(Debug, Clone, Copy)]
pub struct Object {
    /// By what it is found.
    pub primary: u128,
    /// 0 for the first of a family.
    pub variance: u64,
    /// Bytes of the head, which begins where the draft begins.
    pub head_bytes: usize,
    /// Where the body begins.
    pub body_at: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
    /// CRC-32 of the body.
    pub body_sum: u32,
    /// [`Arena::next_sequence`]: the larger of two is the newer.
    pub sequence: u64,
    /// The user's own count, kept with it.
    pub began: u64,
    /// Since when it is stale, in nanoseconds since 1970; `None`: it is not.
    pub stale_from: Option<u64>,
}

/// Something that is gone but for its readers.
#[derive(Debug, Clone, Copy)]
enum Waiting {
    Object(u32),
    /// An earlier head of an object.
    Head {
        record: u32,
        state: State,
        run: Run,
    },
}

/// The writer of an arena.
#[derive(Debug)]
pub struct Writer {
    arena: &'static Arena,
    _lease: Held,
    buddy: Buddy,
    free: Numbers,
    /// Records that wait: none is ended twice.
    ended: Numbers,
    waiting: VecDeque<Waiting>,
    waiting_units: u32,
}

impl Writer {
    pub(super) fn new(arena: &'static Arena, lease: Held, buddy: Buddy, free: Numbers) -> Self {
        let ended = Numbers::none(arena.record_count());
        Self { arena, _lease: lease, buddy, free, ended, waiting: VecDeque::new(), waiting_units: 0 }
    }

    /// Takes a record and space for so many bytes, the first `together` of them contiguous.
    ///
    /// # Errors
    /// [`Full`]: something has to be killed first, or does not help.
    pub fn take(&mut self, bytes: usize, together: usize) -> Result<Draft, Full> {
        self.reclaim();
        if self.is_crowded() {
            return Err(Full::Pinned);
        }
        let number = self.free.first().ok_or(Full::Records)?;
        let record = self.arena.records.get(number as usize).ok_or(Full::Records)?;
        let mut draft_runs = Vec::new();
        let list = self.take_runs(&mut draft_runs, bytes.max(1), together).ok_or(Full::Units)?;
        self.free.remove(number);
        // The pin first: a record that is written and not pinned is nobody's.
        let state = State(record.state.load(SeqCst)).next_life();
        if let Some(pins) = self.arena.pins(record) {
            pins.up();
        }
        record.head.store(0, SeqCst);
        record.run_count.store(0, Relaxed);
        record.state.store(state.0, SeqCst);
        let pinned = Pinned::new(self.arena, number, state);
        let draft = Draft { arena: self.arena, record: number, pinned, runs: draft_runs, list };
        draft.note_runs(record);
        Ok(draft)
    }

    /// Gives a draft more room.
    ///
    /// # Errors
    /// [`Full`]: it is as it was.
    pub fn grow(&mut self, draft: &mut Draft, bytes: usize) -> Result<(), Full> {
        self.reclaim();
        if self.is_crowded() {
            return Err(Full::Pinned);
        }
        let before = draft.runs.len();
        let mut runs = std::mem::take(&mut draft.runs);
        let had_list = draft.list;
        let list = self.take_runs_with(&mut runs, bytes.max(1), 1, had_list);
        draft.runs = runs;
        match list {
            Some(list) => draft.list = list,
            None => {
                debug_assert_eq!(draft.runs.len(), before, "rolled back");
                return Err(Full::Units);
            }
        }
        draft.note_runs(self.record(draft.record));
        Ok(())
    }

    /// Makes a draft an object that can be found. What it does not need of its room goes back.
    pub fn commit(&mut self, mut draft: Draft, object: &Object) -> u32 {
        self.trim(&mut draft, object.body_at + object.body_bytes);
        let (number, record) = (draft.record, self.record(draft.record));
        draft.note_runs(record);
        let start = draft.runs.first().map_or(0, |run| run.start);
        record.set_primary(object.primary);
        record.variance.store(object.variance, Relaxed);
        record.head.store(u64::from(start) << 32 | object.head_bytes as u64, SeqCst);
        record.heat.store(0, Relaxed);
        // Drafts are bounded far below 4 GiB by what a list of runs can hold.
        record.body_bytes.store(object.body_bytes as u32, Relaxed);
        record.body_at.store(object.body_at as u32, Relaxed);
        record.sequence.store(object.sequence, Relaxed);
        record.stale_from.store(object.stale_from.unwrap_or(NEVER), Relaxed);
        record.began.store(object.began, Relaxed);
        record.body_sum.store(object.body_sum, Relaxed);
        record.sum.store(record.fixed_sum(), Relaxed);
        self.arena.set_checked(number);
        // Everything above is there for who sees this.
        record.state.store(draft.pinned_state().in_phase(Phase::Committed).0, SeqCst);
        if let Some(first) = self.arena.chain(object.primary) {
            protocol::link(first, &record.next, number);
        }
        number
    }

    /// Gives a draft up.
    pub fn discard(&mut self, draft: Draft) {
        let number = draft.record;
        draft.note_runs(self.record(number));
        drop(draft);
        self.end(number);
    }

    /// Ends an object: nobody finds it any more, and its space is free once nobody reads it.
    pub fn kill(&mut self, number: u32) {
        let record = self.record(number);
        let seen = State(record.state.load(SeqCst));
        // A reader that found a wrong byte has made it dying already, and nothing more.
        if matches!(seen.phase(), Phase::Free | Phase::Writing) || self.ended.contains(number) {
            return;
        }
        protocol::unlink(&self.wanted(record), number);
        self.end(number);
    }

    /// Exchanges the head of an object.
    ///
    /// # Errors
    /// [`Full`]: it has the old one.
    pub fn put_head(&mut self, number: u32, head: &[u8]) -> Result<(), Full> {
        self.reclaim();
        if self.is_crowded() {
            return Err(Full::Pinned);
        }
        let units = u32::try_from(head.len().div_ceil(UNIT)).map_err(|_| Full::Units)?;
        if head.is_empty() || head.len() > MAX_HEAD_BYTES {
            return Err(Full::Units);
        }
        let start = self.buddy.take(units).ok_or(Full::Units)?;
        let (record, run) = (self.record(number), Run { start, units });
        if let Some(piece) = self.arena.geometry.piece(run) {
            self.arena.write(piece.at, head);
        }
        let old = self.separate_head(record);
        record.head.store(u64::from(start) << 32 | head.len() as u64, SeqCst);
        if let Some(run) = old {
            let state = State(record.state.load(SeqCst));
            self.waiting_units += run.units;
            self.waiting.push_back(Waiting::Head { record: number, state, run });
            self.reclaim();
        }
        Ok(())
    }

    /// Bytes that an object takes: its head, its body, and what they are rounded up by.
    #[must_use]
    pub fn size(&self, number: u32) -> usize {
        self.arena.size(number)
    }

    /// Bytes of the data area that are free.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.buddy.free_units() as usize * UNIT
    }

    /// The largest contiguous room, in bytes.
    #[must_use]
    pub fn longest_free_bytes(&self) -> usize {
        self.buddy.longest_run() as usize * UNIT
    }

    /// Bytes of what is gone but for its readers.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.waiting_units as usize * UNIT
    }

    /// Whether an object is pinned by a reader.
    #[must_use]
    pub fn is_pinned(&self, number: u32) -> bool {
        self.record(number).pins.iter().any(|pins| pins.now() > 0)
    }

    /// Gives back what nobody pins any more, as far as a few looks go.
    pub fn reclaim(&mut self) {
        for _ in 0..self.waiting.len().min(LOOKS) {
            let Some(waiting) = self.waiting.pop_front() else { return };
            if !self.try_free(waiting) {
                self.waiting.push_back(waiting);
            }
        }
    }

    /// Gives back all that nobody pins any more.
    pub(super) fn reclaim_all(&mut self) {
        for _ in 0..self.waiting.len().div_ceil(LOOKS) {
            self.reclaim();
        }
    }

    /// Takes back the pins of processes that died with them, and what only they kept. To be called now and then; it asks the system about
    /// each slot in use. Returns how many processes had died.
    ///
    /// # Errors
    /// When the file system has no locks.
    pub fn clear_dead(&mut self) -> io::Result<usize> {
        let cleared = self.arena.clear_dead_slots()?;
        if cleared > 0 {
            self.reclaim_all();
        }
        Ok(cleared)
    }

    pub(super) fn wait_for(&mut self, number: u32, units: u32) {
        self.ended.insert(number);
        self.waiting_units += units;
        self.waiting.push_back(Waiting::Object(number));
    }

    /// Whether readers pin so much of what is gone that nothing new is taken.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.waiting_units > self.arena.geometry.units / PINNED_SHARE
    }

    fn end(&mut self, number: u32) {
        let record = self.record(number);
        let seen = State(record.state.load(SeqCst));
        record.state.store(seen.in_phase(Phase::Dying).0, SeqCst);
        match self.free_object(number, record) {
            Ok(_) => {}
            Err(units) => self.wait_for(number, units),
        }
    }

    /// Frees an object with all its units, or says how many they are.
    fn free_object(&mut self, number: u32, record: &Record) -> Result<u32, u32> {
        let runs = self.arena.all_runs(record);
        let units = runs.iter().map(|run| run.units).sum();
        if !protocol::free(&record.state, &record.pins, State(record.state.load(SeqCst))) {
            return Err(units);
        }
        for run in runs {
            self.buddy.give(run.start, run.units);
        }
        self.free.insert(number);
        Ok(units)
    }

    fn try_free(&mut self, waiting: Waiting) -> bool {
        match waiting {
            Waiting::Object(number) => {
                let Ok(units) = self.free_object(number, self.record(number)) else { return false };
                self.waiting_units = self.waiting_units.saturating_sub(units);
                self.ended.remove(number);
                true
            }
            Waiting::Head { record, state, run } => {
                let place = self.record(record);
                let is_same = State(place.state.load(SeqCst)).generation() == state.generation();
                if is_same && place.pins.iter().any(|pins| pins.now() > 0) {
                    return false;
                }
                self.buddy.give(run.start, run.units);
                self.waiting_units = self.waiting_units.saturating_sub(run.units);
                true
            }
        }
    }

    /// The head, where it does not lie at the beginning of the object any more.
    fn separate_head(&self, record: &Record) -> Option<Run> {
        self.arena.separate_head(record)
    }

    fn take_runs(&mut self, runs: &mut Vec<Run>, bytes: usize, together: usize) -> Option<Option<Run>> {
        self.take_runs_with(runs, bytes, together, None)
    }

    /// Takes runs behind those that there are, and a list for them if they are many. `None`: all is as it was.
    fn take_runs_with(
        &mut self,
        runs: &mut Vec<Run>,
        bytes: usize,
        together: usize,
        mut list: Option<Run>,
    ) -> Option<Option<Run>> {
        let before = runs.len();
        let is_taken = self.take_units(runs, bytes, together);
        if is_taken && runs.len() > INLINE_RUNS && list.is_none() {
            list = self.buddy.take(LIST_UNITS).map(|start| Run { start, units: LIST_UNITS });
        }
        if is_taken && runs.len() <= MAX_RUNS && (runs.len() <= INLINE_RUNS || list.is_some()) {
            return Some(list);
        }
        for run in runs.drain(before..) {
            self.buddy.give(run.start, run.units);
        }
        None
    }

    fn take_units(&mut self, runs: &mut Vec<Run>, bytes: usize, together: usize) -> bool {
        let Ok(mut left) = u32::try_from(bytes.div_ceil(UNIT)) else { return false };
        let least = (left / if left < SMALL_UNITS { FEW } else { MANY }).max(1);
        let mut first = u32::try_from(together.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1);
        let mut wanted = without_tail(left, first);
        while left > 0 {
            let longest = self.buddy.longest_run();
            let units = wanted.min(longest);
            if units < least.max(first).min(left) || runs.len() >= MAX_RUNS {
                return false;
            }
            let Some(start) = self.buddy.take(units) else { return false };
            runs.push(Run { start, units });
            left -= units;
            (wanted, first) = (left, 1);
        }
        true
    }

    /// Gives back what lies behind the first so many bytes.
    fn trim(&mut self, draft: &mut Draft, bytes: usize) {
        let mut left = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1);
        draft.runs.retain_mut(|run| {
            let kept = run.units.min(left);
            if kept < run.units {
                self.buddy.give(run.start + kept, run.units - kept);
            }
            left -= kept;
            run.units = kept;
            kept > 0
        });
        if draft.runs.len() <= INLINE_RUNS
            && let Some(list) = draft.list.take()
        {
            self.buddy.give(list.start, list.units);
        }
    }

    fn wanted(&self, record: &Record) -> Wanted {
        Wanted { arena: self.arena, primary: record.primary(), variance: record.variance.load(Relaxed) }
    }

    fn record(&self, number: u32) -> &'static Record {
        self.arena.records.get(number as usize).expect("numbers come from the table")
    }
}

/// What to take of so many units in one run: all, or the largest block in them where little is behind it. Rounding that up would halve a block
/// of twice the size, of which what is left is too short for the next of the kind.
fn without_tail(units: u32, least: u32) -> u32 {
    let Some(block) = units.checked_ilog2().map(|order| 1 << order) else { return units };
    let tail = units - block;
    if tail <= block / TAIL && block >= least { block } else { units }
}

/// Waiting things looked at in one go.
const LOOKS: usize = 32;
/// What is gone but for its readers may be this fraction of the data area; with more, nothing new is taken.
const PINNED_SHARE: u32 = 8;
/// Objects below this (64 KiB) have at most [`FEW`] runs, others [`MANY`]: each is a write to the client of its own.
const SMALL_UNITS: u32 = 1024;
/// A tail of a run is up to this fraction of it.
const TAIL: u32 = 8;
const FEW: u32 = 4;
const MANY: u32 = 32;
