//! What a store counts: plain atomics, read by whoever wants to publish them.
//!
//! All are `Relaxed`: each is a counter of its own and no other memory is published through it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::shm::arena::Full;

/// What a store holds and has done, as plain numbers. Counters (`u64`) only grow, and count what this process did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes that stored objects and running fills take: heads and bodies, rounded up to 64.
    pub used_bytes: usize,
    /// The bound on [`Self::used_bytes`]: the size of the cache without its tables.
    pub capacity_bytes: usize,
    /// The same as `used_bytes`, with what is gone but for its readers.
    pub resident_bytes: usize,
    /// Bytes of objects that were evicted, replaced or purged and that readers still hold. New room is refused while they are
    /// more than an eighth of the capacity.
    pub pinned_bytes: usize,
    /// The largest contiguous room that is free.
    pub longest_free_bytes: usize,
    /// Stored objects, each variant counted.
    pub entries: usize,
    /// The bound on [`Self::entries`].
    pub max_entries: usize,
    /// Whether this process may store: it holds the writer's lease.
    pub is_writer: bool,
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
    /// Fills refused or stopped because no room could be made.
    pub rejected_no_room: u64,
    /// Fills refused or stopped because readers hold too much of what is gone.
    pub rejected_pinned: u64,
    /// Finished fills that were not stored because a purge of their key came after they began.
    pub rejected_purged: u64,
    /// Finished fills that were not stored because another process holds the writer's lease, or nobody yet.
    pub rejected_no_lease: u64,
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
    /// Objects that were there when this process attached.
    pub survived: u64,
    /// Records that contradicted themselves when this process attached, bodies and heads that did not match their checksum when they were
    /// asked for, and tables of purges that could not be read.
    pub corrupt: u64,
}

/// The counters behind [`StoreStats`]. One set per store, for the life of the process.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) fills: AtomicUsize,
    pub(super) stored: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) purged: AtomicU64,
    pub(super) replaced: AtomicU64,
    pub(super) too_large: AtomicU64,
    no_room: AtomicU64,
    pinned: AtomicU64,
    pub(super) came_late: AtomicU64,
    pub(super) no_lease: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) sweeps: AtomicU64,
    pub(super) sweeps_forced: AtomicU64,
    pub(super) swept: AtomicU64,
    pub(super) survived: AtomicU64,
    pub(super) unsound: AtomicU64,
}

impl Counts {
    pub(super) fn note_refused(&self, why: Full) {
        match why {
            Full::Pinned => &self.pinned,
            Full::Units | Full::Records => &self.no_room,
        }
        .fetch_add(1, Relaxed);
    }

    /// The counters; the rest is the store's to say.
    pub(super) fn stats(&self) -> StoreStats {
        StoreStats {
            fills: self.fills.load(Relaxed),
            stored: self.stored.load(Relaxed),
            evictions_size: self.evicted.load(Relaxed),
            evictions_purge: self.purged.load(Relaxed),
            evictions_replaced: self.replaced.load(Relaxed),
            rejected_too_large: self.too_large.load(Relaxed),
            rejected_no_room: self.no_room.load(Relaxed),
            rejected_pinned: self.pinned.load(Relaxed),
            rejected_purged: self.came_late.load(Relaxed),
            rejected_no_lease: self.no_lease.load(Relaxed),
            sweeps: self.sweeps.load(Relaxed),
            sweeps_forced: self.sweeps_forced.load(Relaxed),
            swept: self.swept.load(Relaxed),
            fills_failed: self.failed.load(Relaxed),
            survived: self.survived.load(Relaxed),
            corrupt: self.unsound.load(Relaxed),
            ..StoreStats::default()
        }
    }
}
