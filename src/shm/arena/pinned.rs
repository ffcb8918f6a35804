//! A pinned object: its bytes stay as they are for as long as this lives.

use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::Arena;
use super::data::Piece;
use super::record::{NEVER, Record};
use crate::shm::protocol::{self, MAX_PINS, State};

/// One reader's hold on an object.
#[derive(Debug)]
pub struct Pinned {
    arena: &'static Arena,
    record: u32,
    state: State,
}

impl Pinned {
    pub(super) fn new(arena: &'static Arena, record: u32, state: State) -> Self {
        Self { arena, record, state }
    }

    /// The number of its record.
    #[must_use]
    pub fn record(&self) -> u32 {
        self.record
    }

    /// A number that no other object of this record has.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.state.generation()
    }

    /// By what it is found.
    #[must_use]
    pub fn primary(&self) -> u128 {
        self.place().primary()
    }

    /// Whether it is the first of its family.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.place().variance.load(Relaxed) == 0
    }

    /// A copy of the head.
    #[must_use]
    pub fn head(&self) -> Option<Bytes> {
        let place = self.place();
        loop {
            let (start, bytes) = place.head();
            let head = Bytes::copy_from_slice(self.arena.slice(self.arena.geometry.head(start, bytes)?));
            // The pin keeps an earlier head from the writer that exchanged it, but the next writer does not know of it.
            fence(Acquire);
            if place.head() == (start, bytes) {
                return Some(head);
            }
        }
    }

    /// How long the body is.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.place().body_bytes.load(Relaxed) as usize
    }

    /// The body from a position on, up to `until` or the end of what lies together. Nothing is copied: the bytes hold a pin of their own.
    #[must_use]
    pub fn body(&self, from: usize, until: usize) -> Option<Bytes> {
        let place = self.place();
        let until = until.min(self.body_bytes());
        let length = until.checked_sub(from).filter(|length| *length > 0)?;
        self.stretch(place.body_at.load(Relaxed) as usize + from, length)
    }

    /// The same, for who needs nothing else of it: the bytes take over the pin.
    #[must_use]
    pub fn into_body(self, from: usize, until: usize) -> Option<Bytes> {
        let place = self.place();
        let length = until.min(self.body_bytes()).checked_sub(from).filter(|length| *length > 0)?;
        let piece = self.arena.piece_at(place, place.body_at.load(Relaxed) as usize + from)?;
        let piece = Piece { length: piece.length.min(length), ..piece };
        Some(Bytes::from_owner(Stretch { pinned: self, piece }))
    }

    /// Bytes of it that are complete, wherever they belong.
    pub(super) fn stretch(&self, position: usize, length: usize) -> Option<Bytes> {
        let piece = self.arena.piece_at(self.place(), position)?;
        let piece = Piece { length: piece.length.min(length), ..piece };
        Some(match self.again() {
            Some(pinned) => Bytes::from_owner(Stretch { pinned, piece }),
            // As many readers as can be counted.
            None => Bytes::copy_from_slice(self.arena.slice(piece)),
        })
    }

    /// When its fetch began, in the user's own count.
    #[must_use]
    pub fn began(&self) -> u64 {
        self.place().began.load(Relaxed)
    }

    /// The number by which it came.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.place().sequence.load(Relaxed)
    }

    /// Since when it is stale, if it was made so.
    #[must_use]
    pub fn stale_from(&self) -> Option<SystemTime> {
        let since = self.place().stale_from.load(SeqCst);
        (since != NEVER).then(|| UNIX_EPOCH + Duration::from_nanos(since))
    }

    /// Counts a hit. Saturates at once on hot objects, so their cache line is only read.
    pub fn touch(&self) {
        let heat = &self.place().heat;
        let hits = heat.load(Relaxed);
        if hits < MAX_HEAT {
            heat.store(hits + 1, Relaxed);
        }
    }

    /// Compares the record and the body with their checksums, if it is older than this process and nobody did so yet.
    pub(super) fn is_sound(&self) -> bool {
        if self.arena.is_checked(self.record) {
            return true;
        }
        let place = self.place();
        let is_sound =
            place.sum.load(Relaxed) == place.fixed_sum() && self.sum() == Some(place.body_sum.load(Relaxed));
        if is_sound {
            self.arena.set_checked(self.record);
        } else {
            self.arena.corrupt.fetch_add(1, Relaxed);
            // Never found again; its writer frees it when it meets it.
            protocol::kill(&self.place().state, self.state);
        }
        is_sound
    }

    /// The checksum of the body.
    pub(super) fn sum(&self) -> Option<u32> {
        let mut hasher = crc32fast::Hasher::new();
        let (mut at, length) = (0, self.body_bytes());
        let begins = self.place().body_at.load(Relaxed) as usize;
        while at < length {
            let piece = self.arena.piece_at(self.place(), begins + at)?;
            let piece = Piece { length: piece.length.min(length - at), ..piece };
            hasher.update(self.arena.slice(piece));
            at += piece.length;
        }
        Some(hasher.finalize())
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// One more pin. `None`: there are too many.
    pub(super) fn again(&self) -> Option<Self> {
        let pins = self.arena.pins(self.place())?;
        // The object cannot go meanwhile: this one is pinned.
        if protocol::Count::up(pins) >= MAX_PINS {
            protocol::unpin(pins);
            return None;
        }
        Some(Self { arena: self.arena, record: self.record, state: self.state })
    }

    fn place(&self) -> &'static Record {
        self.arena.records.get(self.record as usize).expect("a record of the table was pinned")
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(pins) = self.arena.pins(self.place()) {
            protocol::unpin(pins);
        }
    }
}

/// Bytes of an object, with the pin that keeps them.
struct Stretch {
    pinned: Pinned,
    piece: Piece,
}

impl AsRef<[u8]> for Stretch {
    fn as_ref(&self) -> &[u8] {
        self.pinned.arena.slice(self.piece)
    }
}

/// The most hits that are remembered, as in the S3-FIFO paper (SOSP 2023).
const MAX_HEAT: u8 = 3;
