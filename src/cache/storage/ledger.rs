//! Bytes and counts of one store: plain atomics, read by whoever wants to publish them.
//!
//! Two sums are kept. `used` is what the index and the running fills answer for; it never passes the capacity, because room
//! is taken *before* bytes are kept. `resident` is what is really in memory: an object that was evicted while a slow client
//! still reads it is no longer `used` but stays resident until that reader lets go. New room is refused while readers pin
//! more than an eighth of the capacity beyond it, so slow clients cannot grow the process without bound.
//!
//! All atomics are `Relaxed`: each is a counter of its own and no other memory is published through it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What a store holds and has done, as plain numbers. Counters (`u64`) only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes answered for by stored objects and running fills: body, head, key and bookkeeping.
    pub used_bytes: usize,
    /// The bound on [`Self::used_bytes`].
    pub capacity_bytes: usize,
    /// Bytes of bodies in memory, including evicted ones that a reader still holds.
    pub resident_bytes: usize,
    /// Stored objects, each variant counted.
    pub entries: usize,
    /// Fills that are running now.
    pub fills: usize,
    /// Objects stored since the start.
    pub stored: u64,
    /// Objects removed to make room.
    pub evictions_size: u64,
    /// Objects removed by a purge.
    pub evictions_purge: u64,
    /// Objects removed because a newer one took their place, or their family of variants was replaced.
    pub evictions_replaced: u64,
    /// Fills refused or stopped because the object is larger than the limit.
    pub rejected_too_large: u64,
    /// Fills refused or stopped because no room could be made (all of it held by readers or other fills).
    pub rejected_no_room: u64,
    /// Finished fills that were not stored because a purge of their key came after they began.
    pub rejected_purged: u64,
    /// Purges of many that are in force and not yet applied to all objects.
    pub bans: usize,
    /// Walks through the store that apply them.
    pub sweeps: u64,
    /// Those of them that a purge had to wait for, because the table was full.
    pub sweeps_forced: u64,
    /// Objects that they removed or marked.
    pub swept: u64,
    /// Fills that ended before their body was complete, or with a length other than declared.
    pub fills_failed: u64,
}

/// The running sums behind [`StoreStats`]. One per store, for the life of the process.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    capacity: usize,
    used: AtomicUsize,
    resident: AtomicUsize,
    pub(super) entries: AtomicUsize,
    pub(super) fills: AtomicUsize,
    pub(super) stored: AtomicU64,
    pub(super) evictions_size: AtomicU64,
    pub(super) evictions_purge: AtomicU64,
    pub(super) evictions_replaced: AtomicU64,
    pub(super) rejected_too_large: AtomicU64,
    pub(super) rejected_no_room: AtomicU64,
    pub(super) rejected_purged: AtomicU64,
    pub(super) fills_failed: AtomicU64,
    pub(super) sweeps: AtomicU64,
    pub(super) sweeps_forced: AtomicU64,
    pub(super) swept: AtomicU64,
}

/// Whether room could be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Taken {
    Yes,
    /// Something must be evicted first.
    Full,
    /// Eviction would not help: readers hold too much.
    Pinned,
}

impl Ledger {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Takes `bytes` of room if they are free.
    pub(super) fn take(&self, bytes: usize) -> Taken {
        let pinned = self.resident.load(Relaxed).saturating_sub(self.used.load(Relaxed));
        if pinned > self.capacity / PINNED_SHARE {
            return Taken::Pinned;
        }
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.capacity);
        match self.used.fetch_update(Relaxed, Relaxed, fits) {
            Ok(_) => Taken::Yes,
            Err(_) => Taken::Full,
        }
    }

    /// Gives room back.
    pub(super) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn hold(&'static self, bytes: usize) -> Held {
        self.resident.fetch_add(bytes, Relaxed);
        Held { ledger: self, bytes }
    }

    pub(super) fn stats(&self) -> StoreStats {
        StoreStats {
            used_bytes: self.used.load(Relaxed),
            capacity_bytes: self.capacity,
            resident_bytes: self.resident.load(Relaxed),
            entries: self.entries.load(Relaxed),
            fills: self.fills.load(Relaxed),
            stored: self.stored.load(Relaxed),
            evictions_size: self.evictions_size.load(Relaxed),
            evictions_purge: self.evictions_purge.load(Relaxed),
            evictions_replaced: self.evictions_replaced.load(Relaxed),
            rejected_too_large: self.rejected_too_large.load(Relaxed),
            rejected_no_room: self.rejected_no_room.load(Relaxed),
            rejected_purged: self.rejected_purged.load(Relaxed),
            fills_failed: self.fills_failed.load(Relaxed),
            // The table's to say.
            bans: 0,
            sweeps: self.sweeps.load(Relaxed),
            sweeps_forced: self.sweeps_forced.load(Relaxed),
            swept: self.swept.load(Relaxed),
        }
    }
}

/// Bytes in memory. Counted while it lives, whoever holds it.
#[derive(Debug)]
pub(super) struct Held {
    ledger: &'static Ledger,
    bytes: usize,
}

impl Held {
    pub(super) fn grow(&mut self, bytes: usize) {
        self.ledger.resident.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ledger.resident.fetch_sub(self.bytes, Relaxed);
    }
}

/// Readers may pin this fraction of the capacity on top of it.
const PINNED_SHARE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_up_to_the_capacity_and_not_beyond() {
        let ledger = Ledger::new(100);
        assert_eq!(ledger.take(60), Taken::Yes, "first");
        assert_eq!(ledger.take(41), Taken::Full, "one byte too many");
        assert_eq!(ledger.take(40), Taken::Yes, "exactly full");
        ledger.give(60);
        assert_eq!(ledger.stats().used_bytes, 40, "given back");
    }

    #[test]
    fn pinned_memory_stops_new_room_until_it_is_dropped() {
        let ledger: &'static Ledger = Box::leak(Box::new(Ledger::new(80)));
        let mut held = ledger.hold(70);
        held.grow(20);
        assert_eq!(ledger.take(1), Taken::Pinned, "90 bytes pinned of 80 + 10");
        drop(held);
        assert_eq!(ledger.take(1), Taken::Yes, "the reader has let go");
    }
}
