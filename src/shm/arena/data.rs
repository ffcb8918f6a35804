//! The bytes of the data area: where a position of an object lies, and the copies to and from there.
//!
//! Nothing here knows whether it may be read or written: the callers say why it may.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::record::{INLINE_RUNS, LISTED, Record};
use super::{Arena, Geometry, Run, UNIT};
use crate::shm::region::Region;

/// A contiguous piece of the data area, in bytes of the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) at: usize,
    pub(super) length: usize,
}

/// The longest head: an end for a length that is none.
pub const MAX_HEAD_BYTES: usize = 1 << 20;
/// The most runs that one object has; their list has a block of its own.
pub(super) const MAX_RUNS: usize = 127;
/// Units of the list: a count and the runs, 8 bytes each.
pub(super) const LIST_UNITS: u32 = ((MAX_RUNS + 1) * 8 / UNIT) as u32;

impl Geometry {
    /// Where a run lies. `None`: not all inside.
    pub(super) fn piece(self, run: Run) -> Option<Piece> {
        let end = run.start.checked_add(run.units)?;
        let inside = end <= self.units && run.units > 0;
        let at = self.data_at()?.checked_add(run.start as usize * UNIT)?;
        inside.then_some(Piece { at, length: run.bytes() })
    }

    /// The runs of a record. `None`: not all of them inside, or longer than all there is.
    pub(super) fn runs(self, region: &'static Region, record: &Record) -> Option<Vec<Run>> {
        let runs = self.noted_runs(region, record)?;
        let units: u64 = runs.iter().map(|run| u64::from(run.units)).sum();
        let are_inside = runs.iter().all(|run| self.piece(*run).is_some());
        (are_inside && units <= u64::from(self.units)).then_some(runs)
    }

    fn noted_runs(self, region: &'static Region, record: &Record) -> Option<Vec<Run>> {
        let count = record.run_count.load(Relaxed);
        if count != LISTED {
            return (0..usize::from(count)).map(|index| record.run(index)).collect();
        }
        Some(self.list(region, record)?.iter().map(|word| Run::of(word.load(Relaxed))).collect())
    }

    /// The list of the runs of a record that has one.
    fn list(self, region: &'static Region, record: &Record) -> Option<&'static [AtomicU64]> {
        let is_listed = record.run_count.load(Relaxed) == LISTED;
        let list = record.run(0).filter(|list| is_listed && list.units == LIST_UNITS)?;
        let (count, words) = region.words(self.piece(list)?.at, MAX_RUNS + 1).split_first()?;
        words.get(..usize::try_from(count.load(Relaxed)).ok()?)
    }

    /// All runs of a record: those of the object, that of their list, and a head of its own. None where they are not all inside.
    pub(super) fn all_runs(self, region: &'static Region, record: &Record) -> Vec<Run> {
        let Some(mut runs) = self.runs(region, record) else { return Vec::new() };
        if record.run_count.load(Relaxed) == LISTED {
            runs.extend(record.run(0));
        }
        runs.extend(self.separate_head(region, record));
        runs
    }

    /// The head of a record, where it does not lie at the beginning of its object any more.
    pub(super) fn separate_head(self, region: &'static Region, record: &Record) -> Option<Run> {
        let (start, bytes) = record.head();
        let first = match usize::from(record.run_count.load(Relaxed)) {
            0 => return None,
            count if count <= INLINE_RUNS => record.run(0),
            _ => self.runs(region, record).and_then(|runs| runs.first().copied()),
        };
        let run = Run { start, units: bytes.div_ceil(UNIT as u32) };
        let is_separate = bytes > 0 && first.is_none_or(|first| first.start != start);
        (is_separate && self.piece(run).is_some()).then_some(run)
    }

    /// Where a head lies. `None`: not all inside, or longer than any is.
    pub(super) fn head(self, start: u32, bytes: u32) -> Option<Piece> {
        let units = bytes.div_ceil(UNIT as u32);
        let piece = self.piece(Run { start, units })?;
        (bytes as usize <= MAX_HEAD_BYTES).then_some(Piece { length: bytes as usize, ..piece })
    }
}

impl Arena {
    /// Visits the runs of a record in order, until `each` has enough.
    pub(super) fn each_run<T>(
        &'static self,
        record: &Record,
        mut each: impl FnMut(Run) -> Option<T>,
    ) -> Option<T> {
        let count = record.run_count.load(Relaxed);
        if usize::from(count) <= INLINE_RUNS {
            return (0..usize::from(count)).find_map(|index| each(record.run(index)?));
        }
        let words = self.geometry.list(self.region, record)?;
        words.iter().find_map(|word| each(Run::of(word.load(Relaxed))))
    }

    /// From a position of an object to the end of the run that it lies in.
    pub(super) fn piece_at(&'static self, record: &Record, position: usize) -> Option<Piece> {
        let mut before = 0;
        self.each_run(record, |run| {
            let piece = self.geometry.piece(run)?;
            let inside = position.checked_sub(before)?;
            before += piece.length;
            (inside < piece.length).then(|| Piece { at: piece.at + inside, length: piece.length - inside })
        })
    }

    /// Bytes that nobody writes as long as the slice is used: the caller holds a pin on what they belong to, and they are complete.
    pub(super) fn slice(&self, piece: Piece) -> &[u8] {
        self.region.check(piece.at, Some(piece.length), 1);
        // SAFETY: inside the mapping, as was checked. The caller's pin keeps the writer of every process from using these bytes for anything
        // else, and what is complete is not written again (`protocol`).
        unsafe { std::slice::from_raw_parts(self.region.pointer(piece.at), piece.length) }
    }

    /// Writes bytes that only the caller knows of: they belong to a draft of its own, behind what readers were told of.
    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        self.region.check(at, Some(bytes.len()), 1);
        let target = self.region.pointer(at);
        // SAFETY: inside the mapping, as was checked. No reader has been given these bytes, and the allocator gave them to nobody else; the
        // source is memory of this process, so the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }
}
