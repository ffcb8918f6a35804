//! An object that is being written: nobody finds it, and a process that dies leaves nothing of it.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::data::{LIST_UNITS, MAX_RUNS};
use super::pinned::Pinned;
use super::record::{INLINE_RUNS, LISTED, Record};
use super::{Arena, Run};

/// Space for an object, pinned as long as it is written.
#[derive(Debug)]
pub struct Draft {
    pub(super) arena: &'static Arena,
    pub(super) record: u32,
    pub(super) pinned: Pinned,
    pub(super) runs: Vec<Run>,
    pub(super) list: Option<Run>,
}

impl Draft {
    /// Bytes that it has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.runs.iter().map(|run| run.bytes()).sum()
    }

    /// Writes at a position, behind what was given to readers. Returns how much there was room for.
    pub fn write(&self, mut position: usize, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        let mut before = 0;
        for run in &self.runs {
            if bytes.is_empty() {
                break;
            }
            let Some(inside) = position.checked_sub(before) else { break };
            before += run.bytes();
            if inside >= run.bytes() {
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(run.bytes() - inside));
            if let Some(piece) = self.arena.geometry.piece(*run) {
                self.arena.write(piece.at + inside, now);
            }
            position += now.len();
            bytes = later;
        }
        all - bytes.len()
    }

    /// Into how many stretches it is divided.
    #[must_use]
    pub fn stretches(&self) -> usize {
        self.runs.len()
    }

    /// Copies its first so many bytes to another draft, which nobody reads yet and which has room for them.
    pub fn copy_to(&self, other: &Self, bytes: usize) {
        let mut at = 0;
        for run in &self.runs {
            let Some(piece) = self.arena.geometry.piece(*run).filter(|_| at < bytes) else { break };
            let piece = super::data::Piece { length: piece.length.min(bytes - at), ..piece };
            at += other.write(at, self.arena.slice(piece));
        }
    }

    /// Bytes from a position on, which were written before and will not be again, as far as they lie together.
    #[must_use]
    pub fn read(&self, position: usize, length: usize) -> Option<Bytes> {
        self.pinned.stretch(position, length)
    }

    pub(super) fn pinned_state(&self) -> crate::shm::protocol::State {
        self.pinned.state()
    }

    /// Notes in the record which runs it has, so that another writer knows them.
    pub(super) fn note_runs(&self, record: &Record) {
        let inline = self.runs.len() <= INLINE_RUNS && self.list.is_none();
        if !inline && let Some(list) = self.list.and_then(|list| self.arena.geometry.piece(list)) {
            let words = self.arena.region.words(list.at, MAX_RUNS + 1);
            let values =
                std::iter::once(self.runs.len() as u64).chain(self.runs.iter().map(|run| run.word()));
            words.iter().zip(values).for_each(|(word, value)| word.store(value, Relaxed));
            debug_assert_eq!(self.list.map(|list| list.units), Some(LIST_UNITS), "a list's size");
        }
        let inline_runs = if inline { self.runs.as_slice() } else { self.list.as_slice() };
        for (index, word) in record.runs.iter().enumerate() {
            word.store(inline_runs.get(index).map_or(0, |run| run.word()), Relaxed);
        }
        // At most three of them.
        record.run_count.store(if inline { self.runs.len() as u8 } else { LISTED }, Relaxed);
    }
}
