//! The store: answers in shared memory, for all workers of all processes that share it.
//!
//! ```text
//!   lookup ──▶ arena (no lock) ──▶ Pinned: head copied and read, asked of the purges ──▶ Hit: bytes where they lie, seekable
//!          └─ nothing fresh ──▶ fills of this process ──▶ FillReader: follows the writer
//!   miss   ──▶ FillWriter: takes room, writes into the arena ──finish──▶ object, if this process holds the writer's lease
//! ```
//!
//! It promises: bounded bytes, objects and readers' holds; no lock and no copy of a body on a hit; a reader of a dying fill gets an error
//! and never a clean end; a purge wins over every fill that began before it, in every process; variants go with their first; a purge of
//! many objects looks at none of them (`table`); whatever was stored is there for the next process, also after a crash. It knows nothing of
//! routes, and leaves freshness to [`super::freshness`].
//!
//! One process writes: the one that holds the lease. The others, which are about to leave or have just come, serve what is stored and pass
//! by what is not. The framework gets no eviction manager: it would be a second index that takes a lock on every hit.

mod desk;
mod fill;
mod fills;
pub mod head;
mod hit;
mod interface;
pub mod lanes;
pub mod listing;
pub mod look;
mod slot;
mod stats;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod urls;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use pingora::{Error, ErrorType};
use pingora_cache::key::CompactCacheKey;
use pingora_cache::{CacheKey, CacheMeta};

use super::key::{self, UrlHash};
use super::purge::{Effect, Mode, Object, Scope};
use desk::Desk;
use fill::Fill;
use fills::{Fills, Struck, effect_of};
use head::Head;
pub use lanes::Favor;
use slot::Slot;
use stats::Counts;
pub use stats::StoreStats;
use table::Table;

use crate::shm::Place;
use crate::shm::arena::{Arena, ArenaError, Draft, Full, Object as Committed, Pinned};
pub use crate::shm::{How, OpenError, SetAside};

/// The size of a store. Set once, from the `cache` section of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings<'a> {
    /// The file, on tmpfs; `None`: private memory, which goes with the process.
    pub file: Option<&'a Path>,
    /// Bytes of the whole: bodies, heads, keys, tables, running fills. Default 256 MiB in the configuration.
    pub capacity_bytes: usize,
    /// The largest body that is stored. Default 8 MiB in the configuration; at most an eighth of the capacity there.
    pub max_object_bytes: usize,
    /// The most objects. Default in the configuration: one for each [`BYTES_PER_OBJECT`].
    pub max_objects: u32,
    /// What counts more when not all can stay.
    pub favor: Favor,
}

impl Settings<'_> {
    /// Private memory of a size, and the defaults for the rest.
    #[must_use]
    pub fn private(capacity_bytes: usize, max_object_bytes: usize) -> Self {
        let max_objects = default_objects(capacity_bytes);
        Self { file: None, capacity_bytes, max_object_bytes, max_objects, favor: Favor::default() }
    }
}

/// How many objects there can be where nobody says it.
#[must_use]
pub fn default_objects(capacity_bytes: usize) -> u32 {
    u32::try_from(capacity_bytes / BYTES_PER_OBJECT).unwrap_or(MAX_OBJECTS).clamp(MIN_OBJECTS, MAX_OBJECTS)
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
        (time + stood_still).checked_sub(self.passed).unwrap_or(UNIX_EPOCH)
    }
}

/// What a process found when it became the one that stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    /// Objects that are there.
    pub survived: usize,
    /// Objects that were being written or taken away when their process died.
    pub unfinished: usize,
    /// Records that contradicted themselves.
    pub unsound: usize,
}

/// A bounded HTTP object store in shared memory.
#[derive(Debug)]
pub struct Store {
    arena: &'static Arena,
    counts: &'static Counts,
    fills: Fills,
    table: Table,
    /// `None`: another process stores, or nobody yet.
    desk: Mutex<Option<Desk>>,
    /// Whether there is a desk, for those who only ask.
    writes: AtomicBool,
    /// It has given the lease away and does not want it back.
    released: AtomicBool,
    max_object_bytes: usize,
    favor: Favor,
}

/// The body of a draft.
#[derive(Debug, Clone, Copy)]
struct Body {
    at: usize,
    bytes: usize,
    sum: u32,
}

/// What a lookup finds.
enum Found {
    Object(Pinned, Head, Option<SystemTime>),
    Fill(Arc<Fill>),
}

impl Store {
    /// Opens a store, or makes it. What is there is served at once; storing begins with [`Self::try_take`]. Leaked on purpose, because the
    /// framework asks for `'static`: call it once per configured zone, never per reload.
    ///
    /// # Errors
    /// [`ArenaError`]: there is no such memory.
    pub fn open(settings: &Settings<'_>) -> Result<(&'static Self, How), ArenaError> {
        let place = settings.file.map_or(Place::Private("portcullis-cache"), Place::File);
        let (arena, how) = Arena::open(&crate::shm::arena::Settings {
            place,
            bytes: settings.capacity_bytes,
            records: settings.max_objects,
            user_bytes: Table::bytes_for(settings.capacity_bytes),
            // A region that is made takes those of this process.
            seeds: Some(key::seeds),
        })?;
        // Where another store has been opened before with seeds of its own, what is found here would not be found again. That is a mistake of
        // an embedder, and costs hits only.
        key::adopt(arena.region().seeds());
        let counts: &'static Counts = Box::leak(Box::default());
        let store = Self {
            arena,
            counts,
            fills: Fills::new(),
            table: Table::new(arena.user_words(), Box::new(|| arena.user_lock())),
            desk: Mutex::new(None),
            writes: AtomicBool::new(false),
            released: AtomicBool::new(false),
            max_object_bytes: settings.max_object_bytes.min(arena.data_bytes()),
            favor: settings.favor,
        };
        Ok((Box::leak(Box::new(store)), how))
    }

    /// Becomes the process that stores, if no other is. `None`: another is, or this one has given it up. Looks at every record: for a thread
    /// that may block.
    ///
    /// # Errors
    /// When the file system has no locks.
    pub fn try_take(&'static self) -> io::Result<Option<Took>> {
        if self.released.load(Acquire) || self.desk.lock().is_some() {
            return Ok(None);
        }
        let Some(lease) = self.arena.try_lease()? else { return Ok(None) };
        let attached = self.arena.attach(lease)?;
        let mut took = Took {
            survived: attached.survivors.len(),
            unfinished: attached.unfinished,
            unsound: attached.unsound,
        };
        let mut survivors: Vec<u32> = Vec::new();
        if self.table.is_broken() {
            survivors.extend(attached.survivors.iter().map(|survivor| survivor.record));
        }
        let mut desk = Desk::new(self.arena, attached, self.favor, self.counts);
        if self.table.is_broken() {
            // Nobody knows any more what was purged.
            survivors.into_iter().for_each(|record| desk.kill(record));
            self.table.begin_anew();
            took = Took { survived: 0, unsound: took.unsound + took.survived, ..took };
        }
        self.counts.survived.store(took.survived as u64, Relaxed);
        self.counts.unsound.store(took.unsound as u64, Relaxed);
        self.table.begin_storing();
        *self.desk.lock() = Some(desk);
        self.writes.store(true, Release);
        Ok(Some(took))
    }

    /// Takes back what readers of processes that died had pinned. To be called now and then, where a thread may block for a moment.
    pub fn clear_dead(&self) {
        if let Some(Err(why)) = self.desk.lock().as_mut().map(Desk::clear_dead) {
            tracing::warn!(%why, "the pins of processes that died cannot be taken back");
        }
    }

    /// Gives the lease away for good: from now on this process serves what is stored and stores nothing.
    pub fn release(&self) {
        self.released.store(true, Release);
        self.writes.store(false, Release);
        drop(self.desk.lock().take());
    }

    /// Whether it will not be asked to take the lease again: it has it, or has given it away.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.released.load(Acquire) || self.desk.lock().is_some()
    }

    /// Whether this process stores.
    #[must_use]
    pub fn is_writer(&self) -> bool {
        self.writes.load(Acquire)
    }

    /// Whether another process holds the lease.
    #[must_use]
    pub fn is_held_elsewhere(&self) -> bool {
        self.arena.is_leased_elsewhere()
    }

    /// Whether its file lies in memory.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.arena.region().is_in_memory()
    }

    /// The process that holds the lease, or held it last.
    #[must_use]
    pub fn last_writer(&self) -> u64 {
        self.arena.last_writer()
    }

    /// What the store holds and has done.
    pub fn stats(&self) -> StoreStats {
        let mut desk = self.desk.lock();
        let space = desk.as_mut().map(|desk| {
            desk.reclaim();
            desk.space()
        });
        drop(desk);
        let is_writer = space.is_some();
        let space = space.unwrap_or_default();
        let capacity = self.arena.data_bytes();
        let resident = if is_writer { capacity - space.free_bytes } else { 0 };
        let counts = self.counts.stats();
        StoreStats {
            bans: self.table.len(),
            used_bytes: resident.saturating_sub(space.pinned_bytes),
            resident_bytes: resident,
            capacity_bytes: capacity,
            pinned_bytes: space.pinned_bytes,
            longest_free_bytes: space.longest_free_bytes,
            entries: space.objects,
            max_entries: self.arena.record_count() as usize,
            is_writer,
            corrupt: counts.corrupt + self.arena.corrupt() + self.table.times_lost(),
            ..counts
        }
    }

    /// The largest body that is stored, in bytes.
    pub fn max_object_bytes(&self) -> usize {
        self.max_object_bytes
    }

    /// The moment from which on a purge stops a fetch from being stored.
    pub fn epoch(&self) -> FillEpoch {
        FillEpoch(self.table.epoch())
    }

    /// Removes a key and all its variants. True if anything was stored. A fetch of it that is under way is not stored.
    pub fn purge_key(&'static self, key: &CompactCacheKey) -> bool {
        !self.strike(Slot::of(key), None, Effect::Gone).is_empty()
    }

    /// Purges all that is stored for a URL, and returns how many objects that were, where this process knows. Fetches of it that are under
    /// way are not stored (hard), or are stale when they are (soft).
    pub fn purge_url(&'static self, url: UrlHash, mode: Mode) -> Option<usize> {
        let effect = effect_of(mode, SystemTime::now());
        let mut place = self.fills.place_of_url(url);
        place.purge(Struck::Url(url), self.table.next_epoch(), effect);
        let struck = self.desk.lock().as_mut().map(|desk| {
            let records = desk.of_url(url.0);
            records.iter().for_each(|record| self.apply(desk, *record, effect));
            records.len()
        });
        drop(place);
        if struck.is_none() {
            // Another process stores: the table tells it.
            self.ban(&Scope::Url(url), mode);
        }
        struck
    }

    /// The meta of what a lookup of `key` would find; touches nothing.
    pub fn peek(&'static self, key: &CacheKey, now: SystemTime) -> Option<CacheMeta> {
        self.find(Slot::of(key), key.primary_key(), || now).map(|found| match found {
            Found::Object(_, head, stale_from) => head.to_meta(stale_from),
            Found::Fill(fill) => fill.head.to_meta(None),
        })
    }

    /// Moves the times of everything that is stored. While nothing is being stored.
    pub fn shift(&'static self, shift: Shift) {
        for record in 0..self.arena.record_count() {
            let Some((pinned, head)) = self.object(record) else { continue };
            let stale_from = pinned.stale_from().map(|at| shift.of(at, at));
            if let Some(desk) = self.desk.lock().as_mut()
                && desk.put_head(record, head.shifted(shift).as_bytes(), pinned.began())
                && let Some(at) = stale_from
            {
                self.arena.mark_stale(record, nanoseconds(at));
            }
        }
    }

    fn counts(&self) -> &'static Counts {
        self.counts
    }

    /// A fresh object first, then a running fill (a stale object must not hide its replacement), then a stale object. What a ban
    /// removed is not found, and no fill that began before a ban of it.
    fn find(&'static self, slot: Slot, key: &[u8], now: impl FnOnce() -> SystemTime) -> Option<Found> {
        let bans = self.table.bans();
        let effect = |object: &Object<'_>| bans.as_ref().map_or(Effect::Spared, |bans| bans.effect(object));
        let object = self.arena.find(slot.primary, slot.folded()).and_then(|pinned| {
            let head = Head::read(pinned.head()?).ok().filter(|head| *head.key() == *key)?;
            let asked = Object { key, tags: head.tags(), began: pinned.began(), url: slot.url() };
            let banned = match effect(&asked) {
                Effect::Gone => return None,
                effect => effect.stale_from(),
            };
            let stale_from = banned.into_iter().chain(pinned.stale_from()).min();
            Some((pinned, head, stale_from))
        });
        let found = |(pinned, head, stale_from)| Found::Object(pinned, head, stale_from);
        let has_fills = self.counts.fills.load(Acquire) > 0;
        if let Some((_, head, stale_from)) = &object
            && (!has_fills || head.fresh_until(*stale_from) >= now())
        {
            return object.map(found);
        }
        let is_spared = |fill: &Fill| effect(&fill.object()) == Effect::Spared;
        let fill = has_fills.then(|| self.fills.find(slot, key, is_spared)).flatten();
        fill.map(Found::Fill).or_else(|| object.map(found))
    }

    /// The object of a record, pinned, with its head.
    fn object(&'static self, record: u32) -> Option<(Pinned, Head)> {
        let pinned = self.arena.pin(record)?;
        let head = Head::read(pinned.head()?).ok()?;
        Some((pinned, head))
    }

    /// Purges a key with all its variants, or one variant, or one object, and returns the numbers of those that were struck.
    fn strike(&'static self, slot: Slot, only: Option<u64>, effect: Effect) -> Vec<u64> {
        let whole = slot.variance.is_none() && only.is_none();
        let mut place = self.fills.place(slot);
        if only.is_none() {
            let what = if whole { Struck::Primary(slot.primary) } else { Struck::Variant(slot) };
            place.purge(what, self.table.next_epoch(), effect);
        }
        let mut desk = self.desk.lock();
        let Some(desk) = desk.as_mut() else {
            drop(place);
            // Another process stores: the table tells it, of all of the URL.
            let mode = if effect == Effect::Gone { Mode::Hard } else { Mode::Soft };
            self.ban(&Scope::Url(slot.url()), mode);
            return Vec::new();
        };
        let mut struck = Vec::new();
        for (record, variance, sequence) in self.arena.family(slot.primary) {
            if whole || (variance == slot.folded() && only.is_none_or(|only| only == sequence)) {
                self.apply(desk, record, effect);
                struck.push(sequence);
            }
        }
        struck
    }

    /// Does to an object what a purge makes of it.
    fn apply(&self, desk: &mut Desk, record: u32, effect: Effect) {
        match effect {
            Effect::Spared => {}
            Effect::Gone => {
                desk.kill(record);
                self.counts.purged.fetch_add(1, Relaxed);
            }
            Effect::StaleFrom(at) => self.arena.mark_stale(record, nanoseconds(at)),
        }
    }

    /// Gives a draft more room. `None`: this process may not store any more.
    fn grow(&self, draft: &mut Draft, bytes: usize) -> Option<Result<(), Full>> {
        Some(self.desk.lock().as_mut()?.grow(draft, bytes))
    }

    fn discard(&self, draft: Draft) {
        if let Some(desk) = self.desk.lock().as_mut() {
            desk.discard(draft);
        }
    }

    /// Makes a fill an object, unless a purge or a newer answer forbids it: then the draft comes back, for those who follow it.
    fn commit(
        &'static self,
        fill: &Fill,
        draft: Draft,
        head: &Head,
        body: Body,
    ) -> Result<Option<Pinned>, Draft> {
        let mut place = self.fills.place(fill.slot);
        let effect = self.table.effect(&fill.object());
        let stale_from = fill.stale_from().into_iter().chain(effect.stale_from()).min();
        let mut desk = self.desk.lock();
        let stored = match desk.as_mut() {
            None => {
                self.counts.no_lease.fetch_add(1, Relaxed);
                Err(draft)
            }
            Some(_) if fill.is_doomed() || effect == Effect::Gone => {
                self.counts.came_late.fetch_add(1, Relaxed);
                Err(draft)
            }
            Some(desk) => self.commit_at(desk, fill, draft, head, body, stale_from),
        };
        drop(desk);
        self.end_at(&mut place, fill);
        stored
    }

    fn commit_at(
        &'static self,
        desk: &mut Desk,
        fill: &Fill,
        draft: Draft,
        head: &Head,
        body: Body,
        stale_from: Option<SystemTime>,
    ) -> Result<Option<Pinned>, Draft> {
        let slot = fill.slot;
        let family = self.arena.family(slot.primary);
        let old = family.iter().find(|(_, variance, _)| *variance == slot.folded()).copied();
        if let Some((record, _, sequence)) = old {
            // A fill that began later was faster: what it brought is the newer answer. And stale, it must not take the place of what was
            // fetched after the purge.
            let is_newer = stale_from.is_some()
                && self.arena.pin(record).is_some_and(|stored| stored.began() > fill.began);
            if sequence > fill.id || is_newer {
                let count = if is_newer { &self.counts.came_late } else { &self.counts.replaced };
                count.fetch_add(1, Relaxed);
                return Err(draft);
            }
        }
        for record in self.made_useless(slot, head, &family) {
            desk.kill(record);
            self.counts.replaced.fetch_add(1, Relaxed);
        }
        let draft = together(desk, draft, body.at + body.bytes);
        let object = Committed {
            primary: slot.primary,
            variance: slot.folded(),
            head_bytes: head.as_bytes().len(),
            body_at: body.at,
            body_bytes: body.bytes,
            body_sum: body.sum,
            sequence: fill.id,
            began: fill.began,
            stale_from: stale_from.map(nanoseconds),
        };
        let record = desk.store(slot, draft, &object, old.map(|(record, ..)| record));
        Ok(self.arena.pin(record))
    }

    /// What a new object makes useless: variants, where the first comes with another `Vary`, as they could never be hit again; and the oldest
    /// variant, where there are too many.
    fn made_useless(&'static self, slot: Slot, head: &Head, family: &[(u32, u64, u64)]) -> Vec<u32> {
        let variants = || family.iter().filter(|(_, variance, _)| *variance != 0);
        if slot.variance.is_none() {
            let first = family.iter().find(|(_, variance, _)| *variance == 0);
            let first = first.and_then(|(record, ..)| self.object(*record));
            let is_other = first.is_some_and(|(_, first)| !first.vary_lines().eq(head.vary_lines()));
            return if is_other { variants().map(|(record, ..)| *record).collect() } else { Vec::new() };
        }
        let is_new = family.iter().all(|(_, variance, _)| *variance != slot.folded());
        let oldest = variants().min_by_key(|(.., sequence)| *sequence).map(|(record, ..)| *record);
        oldest.filter(|_| is_new && family.len() >= MAX_VARIANTS).into_iter().collect()
    }

    fn end_fill(&self, fill: &Fill) {
        self.end_at(&mut self.fills.place(fill.slot), fill);
    }

    fn end_at(&self, place: &mut fills::Place, fill: &Fill) {
        if place.end(fill) {
            self.counts.fills.fetch_sub(1, Release);
        }
    }

    /// Room for an object; `None`: this process may not store.
    fn room(&self, head: usize, body: Option<usize>) -> Option<Result<Draft, Full>> {
        let body = body.unwrap_or_else(|| FIRST_BYTES.min(self.max_object_bytes));
        Some(self.desk.lock().as_mut()?.take(head + body, head))
    }
}

/// A small object that came in pieces, in one: it is written once, and sent to many.
fn together(desk: &mut Desk, draft: Draft, bytes: usize) -> Draft {
    if draft.stretches() == 1 || bytes > ONE_STRETCH_BYTES {
        return draft;
    }
    // Only where there is room: nothing has to leave for it.
    match desk.take_free(bytes) {
        Some(whole) => {
            draft.copy_to(&whole, bytes);
            desk.discard(draft);
            whole
        }
        None => draft,
    }
}

fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // All ones mean "not stale".
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX - 1)
}

fn internal(why: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InternalError, why)
}

/// Variants kept per key; a family that has more loses its oldest. The issue is an upstream whose `Vary` names a header with
/// as many values as clients.
const MAX_VARIANTS: usize = 32;
/// The room that a body of unknown length begins with.
const FIRST_BYTES: usize = 4096;
/// Objects up to here lie in one stretch: one write to the client.
const ONE_STRETCH_BYTES: usize = 64 * 1024;
/// The size of an object by which the default of `maxObjects` is reckoned.
pub const BYTES_PER_OBJECT: usize = 2048;
/// The least and the most of them.
pub const MIN_OBJECTS: u32 = 256;
/// See [`MIN_OBJECTS`].
pub const MAX_OBJECTS: u32 = 1 << 28;
