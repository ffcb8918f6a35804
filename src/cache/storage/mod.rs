//! The heap store: the first form of the cache's storage, behind the interface that the shared-memory store will take.
//!
//! ```text
//!   lookup ──▶ shard (by primary hash) ──read lock──▶ family ──▶ Entry (Arc) ──▶ Hit: slices, seekable
//!                                                        └────▶ Fill  (Arc) ──▶ FillReader: follows the writer
//!   miss   ──▶ FillWriter: takes room, writes chunks ──finish──▶ Entry, under the shard's write lock
//! ```
//!
//! It promises: bounded bytes (body, head, key and bookkeeping, running fills included); no decoding on a hit; a reader of a
//! dying fill gets an error and never a clean end; a purge wins over every fill that began before it; variants go with their
//! primary; a purge of many objects looks at none of them (`bans`). It does not survive the process, knows nothing of routes, and leaves freshness to [`super::freshness`].
//!
//! Room is taken before bytes are kept (`ledger`), the victims are chosen by S3-FIFO (`queues`). The framework gets no
//! eviction manager: it would be a second index that takes a write lock on every hit.

mod bans;
mod entry;
mod families;
mod fill;
mod hit;
pub mod lanes;
mod ledger;
pub mod listing;
mod queues;
mod shard;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::RwLock;
use pingora::{Error, ErrorType, Result};
use pingora_cache::key::CompactCacheKey;
use pingora_cache::storage::streaming_write::U64WriteId;
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheEntryId, CacheKey, CacheMeta, HitHandler, MissHandler, Storage};
use pingora_cache::{PurgeOutcome, PurgeTarget, PurgeType};

use super::key::UrlHash;
use super::purge::{Effect, Mode, Object};
use bans::Table;
use entry::{CHUNK_OVERHEAD_BYTES, Entry, Head, LENGTH_FIELD_BYTES, Slot, cost};
use fill::{Fill, FillReader, FillWriter};
use hit::Hit;
use lanes::Favor;
pub use ledger::StoreStats;
use ledger::{Ledger, Taken};
use shard::{Found, Shard};

/// The size of a store. Set once, from the `cache` section of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes for everything: bodies, heads, keys, bookkeeping, running fills. Default 256 MiB in the configuration.
    pub capacity_bytes: usize,
    /// The largest body that is stored. Default 8 MiB in the configuration; never more than the capacity.
    pub max_object_bytes: usize,
    /// What stays when not all can. Default [`Favor::Requests`].
    pub favor: Favor,
}

/// When a fetch began, counted in purges. Take it before the upstream is asked and [`stamp`](Self::stamp) it into the meta:
/// a purge that comes while the upstream is still thinking then wins too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FillEpoch(u64);

impl FillEpoch {
    /// Attaches the epoch to what will be handed to the store.
    pub fn stamp(self, meta: &mut CacheMeta) {
        meta.extensions_mut().insert(self);
    }
}

/// How a clock that is not the wall's is kept: it stands still between `since` and `now`, and jumps by `passed`. The store compares with
/// the wall clock, so what is stored is moved instead.
#[derive(Debug, Clone, Copy)]
pub struct Shift {
    /// When the clock was last moved.
    pub since: SystemTime,
    /// The wall clock's time.
    pub now: SystemTime,
    /// What passes on the clock.
    pub passed: Duration,
}

impl Shift {
    /// Where a time goes that hangs on `base`: as far as that is from `now`. What was stored since the last shift was stored at that
    /// time, however long the request took.
    fn of(self, time: SystemTime, base: SystemTime) -> SystemTime {
        let stood_still = self.now.duration_since(self.since.max(base)).unwrap_or_default();
        (time + stood_still).checked_sub(self.passed).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// A bounded HTTP object store on the heap, shared by all workers.
#[derive(Debug)]
pub struct HeapStore {
    ledger: &'static Ledger,
    shards: Box<[Place]>,
    max_object_bytes: usize,
    table: Table,
    /// Counts purges; see [`FillEpoch`].
    epoch: AtomicU64,
    next_id: AtomicU64,
    /// Where the next search for victims begins.
    hand: AtomicUsize,
}

/// A shard with its size beside the lock, so that the search for victims can compare shards without locking them.
#[derive(Debug)]
struct Place {
    state: RwLock<Shard>,
    bytes: AtomicUsize,
}

impl HeapStore {
    /// Makes a store that lives as long as the process: it is leaked on purpose, because the framework asks for `'static`.
    /// Call it once per configured zone, never per reload.
    pub fn new(settings: Settings) -> &'static Self {
        let ledger: &'static Ledger = Box::leak(Box::new(Ledger::new(settings.capacity_bytes)));
        let place =
            || Place { state: RwLock::new(Shard::new(ledger, settings.favor)), bytes: AtomicUsize::new(0) };
        Box::leak(Box::new(Self {
            ledger,
            shards: (0..SHARDS).map(|_| place()).collect(),
            max_object_bytes: settings.max_object_bytes.min(settings.capacity_bytes),
            table: Table::default(),
            epoch: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            hand: AtomicUsize::new(0),
        }))
    }

    /// What the store holds and has done.
    pub fn stats(&self) -> StoreStats {
        StoreStats { bans: self.table.len(), ..self.ledger.stats() }
    }

    /// The largest body that is stored, in bytes.
    pub fn max_object_bytes(&self) -> usize {
        self.max_object_bytes
    }

    /// The moment from which on a purge stops a fetch from being stored.
    pub fn epoch(&self) -> FillEpoch {
        // SeqCst here and in `next_epoch`: a fetch that began after a purge returned must see that purge's epoch.
        FillEpoch(self.epoch.load(Ordering::SeqCst))
    }

    /// Removes a key and all its variants. True if anything was stored. A fetch of it that is under way is not stored.
    pub fn purge_key(&self, key: &CompactCacheKey) -> bool {
        self.purge_slot(Slot::of(key), None).is_some()
    }

    /// Purges all that is stored for a URL, and returns how many objects that were. Fetches of it that are under way are not stored
    /// (hard), or are stale when they are (soft).
    pub fn purge_url(&self, url: UrlHash, mode: Mode) -> usize {
        let place = self.place_of(url);
        let mut shard = place.state.write();
        let count = shard.purge_url(url, mode, self.next_epoch(), SystemTime::now());
        place.note(&shard);
        count
    }

    /// The meta of what a lookup of `key` would find; touches nothing.
    pub fn peek(&self, key: &CacheKey, now: SystemTime) -> Option<CacheMeta> {
        let slot = Slot::of(key);
        let bans = self.table.bans();
        let bans = bans.as_ref().map(|bans| &***bans);
        let found = self.place(slot).state.read().find(slot, key.primary_key(), bans, || now);
        found.map(|found| match found {
            Found::Entry(entry, stale_from) => entry.head.to_meta(stale_from),
            Found::Fill(fill) => fill.head.to_meta(None),
        })
    }

    /// Moves the times of everything that is stored. While nothing is being stored.
    pub fn shift(&self, shift: Shift) {
        for place in &self.shards {
            place.state.write().shift(shift);
        }
    }

    fn purge_slot(&self, slot: Slot, only: Option<u64>) -> Option<u64> {
        let place = self.place(slot);
        let mut shard = place.state.write();
        let id = shard.purge(slot, only, self.next_epoch());
        place.note(&shard);
        id
    }

    fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn place(&self, slot: Slot) -> &Place {
        self.place_of(UrlHash((slot.primary >> 64) as u64))
    }

    fn index_of(&self, url: UrlHash) -> usize {
        // The hash is keyed and uniform; its top bits choose the shard, so that all of a URL is in one.
        (url.0 >> 56) as usize % self.shards.len()
    }

    fn place_of(&self, url: UrlHash) -> &Place {
        let index = self.index_of(url);
        self.shards.get(index).expect("the index is a remainder of the length")
    }

    fn ledger(&self) -> &'static Ledger {
        self.ledger
    }

    /// Takes room, evicting as needed. False when nothing that could be evicted is left.
    fn make_room(&self, bytes: usize) -> bool {
        loop {
            match self.ledger.take(bytes) {
                Taken::Yes => return true,
                Taken::Full if self.evict(bytes) => {}
                Taken::Full | Taken::Pinned => {
                    self.ledger.rejected_no_room.fetch_add(1, Ordering::Relaxed);
                    return false;
                }
            }
        }
    }

    /// Evicts from the fuller one of two shards, or, if both are empty, from any. Locks one shard at a time.
    fn evict(&self, need: usize) -> bool {
        let hand = self.hand.fetch_add(1, Ordering::Relaxed);
        let at = |offset: usize| self.shards.get((hand + offset) % self.shards.len());
        let (one, other) = (at(0), at(self.shards.len() / 2));
        let fuller = if one.map(Place::size) >= other.map(Place::size) { one } else { other };
        let evict_from = |place: &Place| {
            let mut shard = place.state.write();
            let freed = shard.evict(need);
            place.note(&shard);
            freed > 0
        };
        fuller.is_some_and(evict_from)
            || (0..self.shards.len()).any(|offset| at(offset).is_some_and(evict_from))
    }

    fn commit(&self, fill: &Fill, entry: Entry) {
        let place = self.place(fill.slot);
        let mut shard = place.state.write();
        let effect = self.table.effect(&fill.object());
        let stale_from = fill.stale_from().into_iter().chain(effect.stale_from()).min();
        // Stale, it must not take the place of what was fetched after the purge.
        let comes_late = stale_from.is_some() && shard.holds_newer(fill.slot, fill.began);
        if fill.is_doomed() || effect == Effect::Gone || comes_late {
            self.ledger.give(entry.cost);
            self.ledger.rejected_purged.fetch_add(1, Ordering::Relaxed);
        } else {
            let entry = match stale_from {
                Some(at) => entry.with_head(entry.head.expired_at(at), entry.began),
                None => entry,
            };
            shard.store(fill.slot, entry);
        }
        shard.end(fill);
        place.note(&shard);
    }

    fn end_fill(&self, fill: &Fill) {
        self.place(fill.slot).state.write().end(fill);
    }
}

impl Place {
    fn size(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn note(&self, shard: &Shard) {
        self.bytes.store(shard.bytes(), Ordering::Relaxed);
    }
}

#[async_trait]
impl Storage for HeapStore {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let slot = Slot::of(key);
        let bans = self.table.bans();
        let bans = bans.as_ref().map(|bans| &***bans);
        let found = self.place(slot).state.read().find(slot, key.primary_key(), bans, SystemTime::now);
        Ok(found.map(|found| match found {
            Found::Entry(entry, stale_from) => {
                entry.touch();
                (entry.head.to_meta(stale_from), Box::new(Hit::new(&entry)) as HitHandler)
            }
            Found::Fill(fill) => (fill.head.to_meta(None), Box::new(FillReader::new(fill)) as HitHandler),
        }))
    }

    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        tag: Option<&[u8]>,
        trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let Some(Ok(id)) = tag.map(U64WriteId::try_from) else { return self.lookup(key, trace).await };
        // Found by its id and not by its key: a purge in between must not take the leader's body away.
        let fill = self.place(Slot::of(key)).state.read().fill(id.into());
        Ok(fill.map(|fill| (fill.head.to_meta(None), Box::new(FillReader::new(fill)) as HitHandler)))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<MissHandler> {
        let (slot, framed) = (Slot::of(key), Arc::<[u8]>::from(key.primary_key()));
        let head = Head::from_meta(meta, slot);
        if head.declared_length().is_some_and(|len| len > self.max_object_bytes) {
            self.ledger.rejected_too_large.fetch_add(1, Ordering::Relaxed);
            return Err(Error::explain(ErrorType::InternalError, "object larger than the cache takes"));
        }
        let base = cost(&framed, &head, 0, 1) + LENGTH_FIELD_BYTES;
        // A declared body gets its room at once: refused now, the answer just passes by; refused half-way, its readers are cut.
        let body =
            head.declared_length().map_or(0, |len| len + len / EXPECTED_CHUNK_BYTES * CHUNK_OVERHEAD_BYTES);
        if !self.make_room(base + body) {
            return Err(Error::explain(ErrorType::InternalError, "no room in the cache"));
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let began = meta.extensions().get::<FillEpoch>().copied().unwrap_or_else(|| self.epoch());
        let fill = Arc::new(Fill::new(id, slot, framed, head, began.0, self.ledger.hold(0)));
        // Judged under the lock: a sweep that has passed here would not see the fill.
        let mut shard = self.place(slot).state.write();
        shard.begin(Arc::clone(&fill), self.table.effect_on_new(&fill.object()));
        drop(shard);
        Ok(Box::new(FillWriter::new(self, fill, base, body)))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _why: PurgeType,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let only = match target {
            PurgeTarget::Active(_) => None,
            PurgeTarget::Exact(entry) => entry.entry_id().map(CacheEntryId::get),
        };
        let removed = self.purge_slot(Slot::of(target.key()), only);
        Ok(removed.map_or(PurgeOutcome::NotFound, |id| PurgeOutcome::Purged(Some(CacheEntryId::new(id)))))
    }

    async fn expire(&'static self, target: PurgeTarget<'_>, _trace: &SpanHandle) -> Result<PurgeOutcome> {
        let only = match target {
            PurgeTarget::Active(_) => None,
            PurgeTarget::Exact(entry) => entry.entry_id().map(CacheEntryId::get),
        };
        let slot = Slot::of(target.key());
        let mut shard = self.place(slot).state.write();
        let found = shard.expire(slot, only, self.next_epoch(), SystemTime::now());
        Ok(if found { PurgeOutcome::Expired } else { PurgeOutcome::NotFound })
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<bool> {
        let slot = Slot::of(key);
        let place = self.place(slot);
        let Some(old) = place.state.read().entry(slot) else { return Ok(false) };
        // The framework carries `created` over from what it looked up. Another value, or other validators, mean that another
        // object is stored by now, and a 304 about the old one says nothing about it.
        if *old.key != *key.primary_key() || old.head.created != meta.created() {
            return Ok(false);
        }
        let head = Head::from_meta(meta, slot).with_length(old.body.len());
        if !old.head.describes_same_body(&head) {
            return Ok(false);
        }
        let began = meta.extensions().get::<FillEpoch>().copied().unwrap_or_else(|| self.epoch());
        let entry = old.with_head(head, began.0);
        let extra = entry.cost.saturating_sub(old.cost);
        if !self.make_room(extra) {
            return Ok(false);
        }
        // Judged under the lock, as a fill is. An answer from before a purge makes nothing fresh, and what is gone does not come
        // back.
        let mut shard = place.state.write();
        let effect = self.table.effect_on_new(&Object { began: began.0, ..old.object() });
        if effect != Effect::Spared || self.table.effect(&old.object()) == Effect::Gone {
            self.ledger.give(extra);
            return Ok(false);
        }
        let exchanged = shard.exchange_head(slot, entry, extra);
        place.note(&shard);
        Ok(exchanged)
    }

    fn support_streaming_partial_write(&self) -> bool {
        true
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

/// The size of chunk for which a declared body takes room in advance; smaller ones take the difference as they come.
const EXPECTED_CHUNK_BYTES: usize = 4096;
/// Enough that two workers rarely meet: a lookup holds a read lock for one map probe.
const SHARDS: usize = 64;
