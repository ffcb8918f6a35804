//! What the process that holds the writer's lease knows: the arena's writer, whom to evict, what is stored for a URL.
//!
//! All of it stands behind one lock, which is held for bookkeeping and never for a copy of a body. Hits do not come here.

use std::sync::atomic::Ordering::Relaxed;

use super::lanes::{Favor, Heat, Lane, Lanes};
use super::slot::Slot;
use super::stats::Counts;
use super::urls::Urls;
use crate::shm::arena::{Arena, Attached, Draft, Full, Object, Writer};

/// The desk of the writer.
#[derive(Debug)]
pub(super) struct Desk {
    arena: &'static Arena,
    writer: Writer,
    lanes: Lanes,
    urls: Urls,
    counts: &'static Counts,
}

/// Space, as it is at the moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Space {
    pub(super) objects: usize,
    pub(super) free_bytes: usize,
    pub(super) longest_free_bytes: usize,
    pub(super) pinned_bytes: usize,
}

impl Desk {
    /// Takes over what was found.
    pub(super) fn new(
        arena: &'static Arena,
        attached: Attached,
        favor: Favor,
        counts: &'static Counts,
    ) -> Self {
        let records = arena.record_count();
        let (mut lanes, mut urls) = (Lanes::new(records, favor), Urls::new(records));
        let mut survivors = attached.survivors;
        survivors.sort_unstable_by_key(|survivor| survivor.sequence);
        for survivor in survivors {
            let lane = if survivor.lane == MAIN { Lane::Main } else { Lane::Small };
            lanes.restore(survivor.record, survivor.size as u64, lane);
            urls.insert(survivor.record, (survivor.primary >> 64) as u64);
        }
        Self { arena, writer: attached.writer, lanes, urls, counts }
    }

    /// Takes space, and makes it where there is none.
    pub(super) fn take(&mut self, bytes: usize, together: usize) -> Result<Draft, Full> {
        loop {
            match self.writer.take(bytes, together) {
                Err(Full::Units | Full::Records) if self.evict(bytes) => {}
                taken => return taken.inspect_err(|why| self.counts.note_refused(*why)),
            }
        }
    }

    /// Takes space in one stretch, if it is free.
    pub(super) fn take_free(&mut self, bytes: usize) -> Option<Draft> {
        self.writer.take(bytes, bytes).ok()
    }

    /// Takes more space for a draft.
    pub(super) fn grow(&mut self, draft: &mut Draft, bytes: usize) -> Result<(), Full> {
        loop {
            match self.writer.grow(draft, bytes) {
                Err(Full::Units | Full::Records) if self.evict(bytes) => {}
                grown => return grown.inspect_err(|why| self.counts.note_refused(*why)),
            }
        }
    }

    /// Exchanges the head of an object. True if it has the new one.
    pub(super) fn put_head(&mut self, record: u32, head: &[u8], began: u64) -> bool {
        let sequence = self.arena.sequence(record);
        loop {
            match self.writer.put_head(record, head) {
                Ok(()) => break,
                // It may be the victim itself.
                Err(Full::Units | Full::Records)
                    if self.evict(head.len()) && self.is_there(record, sequence) => {}
                Err(why) => {
                    self.counts.note_refused(why);
                    return false;
                }
            }
        }
        self.arena.mark_renewed(record, began);
        self.lanes.recost(record, self.writer.size(record) as u64);
        true
    }

    /// Whether a record still has the object that it had.
    pub(super) fn is_there(&self, record: u32, sequence: u64) -> bool {
        self.lanes.lane(record).is_some() && self.arena.sequence(record) == sequence
    }

    /// Makes a draft an object, in the place of the one of the same slot, if there is one.
    pub(super) fn store(&mut self, slot: Slot, draft: Draft, object: &Object, old: Option<u32>) -> u32 {
        let record = self.writer.commit(draft, object);
        let size = self.writer.size(record) as u64;
        let succeeds = old.is_some_and(|old| {
            self.arena.set_heat(record, self.arena.heat(old));
            let lane = self.lanes.succeed(old, record, size);
            lane.is_some_and(|lane| {
                self.arena.set_lane(record, number_of(lane));
                true
            })
        });
        if !succeeds {
            let lane = self.lanes.admit(record, size, hash_of(slot.primary, object.variance));
            self.arena.set_lane(record, number_of(lane));
        }
        self.urls.insert(record, slot.url().0);
        if let Some(old) = old {
            self.urls.remove(old, slot.url().0);
            self.writer.kill(old);
            self.counts.replaced.fetch_add(1, Relaxed);
        }
        self.counts.stored.fetch_add(1, Relaxed);
        record
    }

    /// Gives up a draft.
    pub(super) fn discard(&mut self, draft: Draft) {
        self.writer.discard(draft);
    }

    /// Ends an object.
    pub(super) fn kill(&mut self, record: u32) {
        if let Some((primary, _)) = self.arena.key(record) {
            self.urls.remove(record, (primary >> 64) as u64);
        }
        self.lanes.remove(record);
        self.writer.kill(record);
    }

    /// The objects of a URL.
    pub(super) fn of_url(&self, url: u64) -> Vec<u32> {
        let is_of =
            |record: &u32| self.arena.key(*record).is_some_and(|(primary, _)| (primary >> 64) as u64 == url);
        self.urls.of(url).filter(is_of).collect()
    }

    pub(super) fn space(&self) -> Space {
        Space {
            objects: self.lanes.len() as usize,
            free_bytes: self.writer.free_bytes(),
            longest_free_bytes: self.writer.longest_free_bytes(),
            pinned_bytes: self.writer.pinned_bytes(),
        }
    }

    /// Takes back what processes that died had pinned.
    pub(super) fn clear_dead(&mut self) -> std::io::Result<usize> {
        self.writer.clear_dead()
    }

    /// Gives back what nobody pins any more.
    pub(super) fn reclaim(&mut self) {
        self.writer.reclaim();
    }

    /// Ends objects until so many bytes are free, or one if they are. False: there is none that could go.
    fn evict(&mut self, bytes: usize) -> bool {
        let (mut evicted, mut spared) = (false, 0);
        while !evicted || (self.writer.free_bytes() < bytes && !self.writer.is_crowded()) {
            let Some(victim) = self.lanes.next_victim(&mut Records(self.arena)) else { break };
            // What is read would not be free: better it stays of use.
            if spared < MAX_SPARED && self.writer.is_pinned(victim) {
                spared += 1;
                self.lanes.restore(victim, self.writer.size(victim) as u64, Lane::Main);
                self.arena.set_lane(victim, MAIN);
                continue;
            }
            self.kill(victim);
            self.counts.evicted.fetch_add(1, Relaxed);
            evicted = true;
        }
        evicted
    }
}

/// What the records keep for eviction.
struct Records(&'static Arena);

impl Heat for Records {
    fn hits(&self, record: u32) -> u8 {
        self.0.heat(record)
    }

    fn set_hits(&mut self, record: u32, hits: u8) {
        self.0.set_heat(record, hits);
    }

    fn set_lane(&mut self, record: u32, lane: Lane) {
        self.0.set_lane(record, number_of(lane));
    }

    fn hash(&self, record: u32) -> u64 {
        self.0.key(record).map_or(0, |(primary, variance)| hash_of(primary, variance))
    }
}

fn hash_of(primary: u128, variance: u64) -> u64 {
    // All of them are hashes already.
    (primary as u64) ^ ((primary >> 64) as u64).rotate_left(32) ^ variance
}

fn number_of(lane: Lane) -> u8 {
    if lane == Lane::Main { MAIN } else { 0 }
}

/// How records say that they stand in the main lane.
const MAIN: u8 = 1;
/// Victims that readers hold and that stay for it, in one search for room.
const MAX_SPARED: u32 = 32;
