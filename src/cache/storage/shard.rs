//! One part of the store under one lock: families of variants, running fills, the eviction queues and the recent purges.
//!
//! A family is everything under one primary hash; all families of a URL are in one shard. Purging a key or a URL is one step under
//! one lock, so no variant survives it and no fill that began earlier can slip in behind it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use ahash::RandomState;

use super::Shift;
use super::entry::{Entry, Slot};
use super::families::{Families, Family};
use super::fill::Fill;
use super::lanes::Favor;
use super::ledger::Ledger;
use super::queues::{Fate, Queues};
use crate::cache::key::UrlHash;
use crate::cache::purge::{Bans, Effect, Mode, Object};

/// What a lookup found.
pub(super) enum Found {
    /// With the moment since which a purge of many made it stale, if one did.
    Entry(Arc<Entry>, Option<SystemTime>),
    Fill(Arc<Fill>),
}

/// A purge that fetches may still have to learn of.
#[derive(Debug, Clone, Copy)]
struct Recent {
    what: Struck,
    /// The store's epoch after it.
    epoch: u64,
    effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Struck {
    Primary(u128),
    Url(UrlHash),
}

impl Struck {
    fn is(self, primary: u128) -> bool {
        match self {
            Self::Primary(struck) => struck == primary,
            Self::Url(UrlHash(url)) => u128::from(url) == primary >> 64,
        }
    }
}

/// The state behind a shard's lock.
#[derive(Debug)]
pub(super) struct Shard {
    ledger: &'static Ledger,
    families: Families,
    /// Fills by id. A purge does not remove from here: the leader of a fill must always find its own body.
    writes: HashMap<u64, Arc<Fill>, RandomState>,
    queues: Queues,
    purges: VecDeque<Recent>,
    /// Purges up to here are no longer in the list; fills that began earlier are not stored.
    forgotten_until: u64,
}

impl Shard {
    pub(super) fn new(ledger: &'static Ledger, favor: Favor) -> Self {
        Self {
            ledger,
            families: Families::default(),
            writes: HashMap::default(),
            queues: Queues::new(favor),
            purges: VecDeque::new(),
            forgotten_until: 0,
        }
    }

    /// A fresh object first, then a running fill (a stale object must not hide its replacement), then a stale object. What a ban
    /// removed is not found, and no fill that began before a ban of it.
    pub(super) fn find(
        &self,
        slot: Slot,
        key: &[u8],
        bans: Option<&Bans>,
        now: impl FnOnce() -> SystemTime,
    ) -> Option<Found> {
        let effect = |object: Object<'_>| bans.map_or(Effect::Spared, |bans| bans.effect(&object));
        let family = self.families.of(slot.primary)?;
        let entry = family.entry(slot.variance).filter(|entry| *entry.key == *key);
        let entry = entry.and_then(|entry| match effect(entry.object()) {
            Effect::Gone => None,
            effect => Some((entry, effect.stale_from())),
        });
        let found = |(entry, stale_from): (&Arc<Entry>, _)| Found::Entry(Arc::clone(entry), stale_from);
        if let Some((entry, stale_from)) = entry
            && (family.fills.is_empty() || entry.head.fresh_until(stale_from) >= now())
        {
            return Some(found((entry, stale_from)));
        }
        let is_it = |fill: &&Arc<Fill>| {
            fill.slot == slot
                && *fill.key == *key
                && fill.is_spared()
                && effect(fill.object()) == Effect::Spared
        };
        match family.fills.iter().rev().find(is_it) {
            Some(fill) => Some(Found::Fill(Arc::clone(fill))),
            None => entry.map(found),
        }
    }

    pub(super) fn fill(&self, id: u64) -> Option<Arc<Fill>> {
        self.writes.get(&id).cloned()
    }

    /// Makes a fill visible, unless it was purged since it began: then only its leader sees it. `effect` is what purges of many
    /// make of it.
    pub(super) fn begin(&mut self, fill: Arc<Fill>, effect: Effect) {
        fill.strike(effect);
        for recent in self.recent(fill.slot.primary, fill.began) {
            fill.strike(recent);
        }
        self.families.place(fill.slot.primary).fills.push(Arc::clone(&fill));
        self.writes.insert(fill.id, fill);
        self.ledger.fills.fetch_add(1, Relaxed);
    }

    /// What recent purges make of a fetch that `began` then.
    fn recent(&self, primary: u128, began: u64) -> impl Iterator<Item = Effect> {
        let forgotten = (began < self.forgotten_until).then_some(Effect::Gone);
        let recent = self.purges.iter().filter(move |recent| recent.what.is(primary) && recent.epoch > began);
        forgotten.into_iter().chain(recent.map(|recent| recent.effect))
    }

    /// Takes a fill out of sight, finished or not.
    pub(super) fn end(&mut self, fill: &Fill) {
        if self.writes.remove(&fill.id).is_some() {
            self.ledger.fills.fetch_sub(1, Relaxed);
        }
        if let Some(family) = self.families.of_mut(fill.slot.primary) {
            family.fills.retain(|other| other.id != fill.id);
            self.families.tidy(fill.slot.primary);
        }
    }

    /// Stores an object. Its room must have been taken; the room of what it replaces is given back.
    pub(super) fn store(&mut self, slot: Slot, mut entry: Entry) {
        let family = self.families.place(slot.primary);
        if family.entry(slot.variance).is_some_and(|stored| stored.id > entry.id) {
            // A fill that began later was faster: what it brought is the newer answer.
            self.ledger.give(entry.cost);
            self.ledger.evictions_replaced.fetch_add(1, Relaxed);
            return;
        }
        let mut gone = Vec::new();
        if slot.variance.is_none() {
            // Variants are found by the `Vary` of the first object: under another one they could never be hit again.
            let first = family.entry(None).map(|first| first.head.vary_lines());
            if first.is_some_and(|lines| !lines.eq(entry.head.vary_lines())) {
                gone.extend(family.entries.extract_if(.., |(v, _)| v.is_some()));
            }
        }
        match family.entries.iter_mut().find(|(v, _)| *v == slot.variance) {
            Some((_, old)) => {
                entry.succeed(old);
                let old = std::mem::replace(old, Arc::new(entry));
                self.ledger.give(old.cost);
                self.ledger.evictions_replaced.fetch_add(1, Relaxed);
                if let Some(new) = family.entry(slot.variance) {
                    self.queues.exchange(&old, new);
                }
            }
            None => {
                if family.entries.len() >= MAX_VARIANTS
                    && let Some(oldest) = family.entries.iter().position(|(v, _)| v.is_some())
                {
                    gone.push(family.entries.remove(oldest));
                }
                self.queues.admit(slot, &entry);
                family.entries.push((slot.variance, Arc::new(entry)));
                self.ledger.entries.fetch_add(1, Relaxed);
            }
        }
        self.ledger.stored.fetch_add(1, Relaxed);
        self.ledger.evictions_replaced.fetch_add(gone.len() as u64, Relaxed);
        for (_, entry) in gone {
            self.drop_entry(&entry);
        }
        self.sweep_if_needed();
    }

    /// Whether what is stored in a slot was fetched later.
    pub(super) fn holds_newer(&self, slot: Slot, began: u64) -> bool {
        let entry = self.families.of(slot.primary).and_then(|family| family.entry(slot.variance));
        entry.is_some_and(|entry| entry.began > began)
    }

    /// Exchanges the head of a stored object. `extra` is the room the caller took for it; what is not needed goes back. A head that
    /// was fetched before a purge of its key is not taken.
    pub(super) fn exchange_head(&mut self, slot: Slot, entry: Entry, extra: usize) -> bool {
        let is_purged = self.recent(slot.primary, entry.began).next().is_some();
        let family = self.families.of_mut(slot.primary).filter(|_| !is_purged);
        let place =
            family.and_then(|f| f.entries.iter_mut().find(|(v, e)| *v == slot.variance && e.id == entry.id));
        match place {
            Some((_, old)) if old.cost + extra >= entry.cost => {
                self.ledger.give(old.cost + extra - entry.cost);
                self.queues.exchange(old, &entry);
                entry.set_lane(old.lane());
                *old = Arc::new(entry);
                true
            }
            // Evicted, purged or changed since it was looked at.
            _ => {
                self.ledger.give(extra);
                false
            }
        }
    }

    /// Moves the times of every stored object.
    pub(super) fn shift(&mut self, shift: Shift) {
        let families = self.families.iter();
        let all: Vec<(Slot, Entry)> = families
            .flat_map(|(primary, family)| {
                family.entries.iter().map(move |(variance, entry)| {
                    let slot = Slot { primary, variance: *variance };
                    (slot, entry.with_head(entry.head.shifted(shift), entry.began))
                })
            })
            .collect();
        for (slot, entry) in all {
            self.replace_head(slot, entry);
        }
    }

    /// Puts a head of the same size in place of the one that is stored.
    fn replace_head(&mut self, slot: Slot, entry: Entry) {
        let family = self.families.of_mut(slot.primary);
        let place = family.and_then(|f| f.entries.iter_mut().find(|(v, _)| *v == slot.variance));
        if let Some((_, old)) = place {
            *old = Arc::new(entry);
        }
    }

    /// The stored object in a slot.
    pub(super) fn entry(&self, slot: Slot) -> Option<Arc<Entry>> {
        self.families.of(slot.primary)?.entry(slot.variance).cloned()
    }

    /// The families, for people and for the sweep.
    pub(super) fn families(&self) -> &Families {
        &self.families
    }

    /// Removes a key with all its variants, or one variant. Fills of it that are running will not be stored. Returns the
    /// generation of what was asked for, or of any variant if that was not stored.
    pub(super) fn purge(&mut self, slot: Slot, only: Option<u64>, epoch: u64) -> Option<u64> {
        if only.is_none() {
            self.note_purge(Struck::Primary(slot.primary), epoch, Effect::Gone);
        }
        self.remove(slot, only).first().map(|entry| entry.id)
    }

    /// Makes a key with all its variants, or one variant, stale from `now` on. Fills that are running are stored so too.
    pub(super) fn expire(&mut self, slot: Slot, only: Option<u64>, epoch: u64, now: SystemTime) -> bool {
        if only.is_none() {
            self.note_purge(Struck::Primary(slot.primary), epoch, Effect::StaleFrom(now));
        }
        self.mark(slot, only, now) > 0
    }

    /// Purges all that is stored for a URL, and returns how many objects that were.
    pub(super) fn purge_url(&mut self, url: UrlHash, mode: Mode, epoch: u64, now: SystemTime) -> usize {
        let effect = if mode == Mode::Hard { Effect::Gone } else { Effect::StaleFrom(now) };
        self.note_purge(Struck::Url(url), epoch, effect);
        let slots = self.families.of_url(url).into_iter().map(|primary| Slot { primary, variance: None });
        slots
            .map(|slot| match mode {
                Mode::Hard => self.remove(slot, None).len(),
                Mode::Soft => self.mark(slot, None, now),
            })
            .sum()
    }

    fn remove(&mut self, slot: Slot, only: Option<u64>) -> Vec<Arc<Entry>> {
        let Some(family) = self.families.of_mut(slot.primary) else { return Vec::new() };
        let whole = slot.variance.is_none() && only.is_none();
        if only.is_none() {
            let doomed = family.fills.iter().filter(|fill| whole || fill.slot == slot);
            doomed.for_each(|fill| fill.strike(Effect::Gone));
        }
        let gone: Vec<_> = family
            .entries
            .extract_if(.., |(v, e)| whole || (*v == slot.variance && only.is_none_or(|id| id == e.id)))
            .map(|(_, entry)| entry)
            .collect();
        self.families.tidy(slot.primary);
        self.ledger.evictions_purge.fetch_add(gone.len() as u64, Relaxed);
        gone.iter().for_each(|entry| self.drop_entry(entry));
        gone
    }

    fn mark(&mut self, slot: Slot, only: Option<u64>, now: SystemTime) -> usize {
        let Some(family) = self.families.of_mut(slot.primary) else { return 0 };
        let whole = slot.variance.is_none() && only.is_none();
        if only.is_none() {
            let stale = family.fills.iter().filter(|fill| whole || fill.slot == slot);
            stale.for_each(|fill| fill.strike(Effect::StaleFrom(now)));
        }
        let mut marked = 0;
        for (variance, entry) in &mut family.entries {
            if whole || (*variance == slot.variance && only.is_none_or(|id| id == entry.id)) {
                // The head keeps its size, so the room does not change.
                *entry = Arc::new(entry.with_head(entry.head.expired_at(now), entry.began));
                marked += 1;
            }
        }
        self.families.tidy(slot.primary);
        marked
    }

    /// The slots of all objects.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let slots = |(primary, family): (u128, &Family)| {
            let variances: Vec<_> = family.entries.iter().map(|(variance, _)| *variance).collect();
            variances.into_iter().map(move |variance| Slot { primary, variance })
        };
        self.families.iter().flat_map(slots).collect()
    }

    /// Applies bans to the running fills: those that they strike are out of sight.
    pub(super) fn sweep_fills(&self, bans: &Bans) {
        self.writes.values().for_each(|fill| fill.strike(bans.effect(&fill.object())));
    }

    /// Applies bans to an object: removes it, or marks it. True if that changed anything.
    pub(super) fn sweep_object(&mut self, slot: Slot, bans: &Bans) -> bool {
        let Some(entry) = self.entry(slot) else { return false };
        match bans.effect(&entry.object()) {
            Effect::Spared => false,
            Effect::Gone => !self.remove(Slot { variance: slot.variance, ..slot }, Some(entry.id)).is_empty(),
            Effect::StaleFrom(at) if entry.head.fresh_until(None) <= at => false,
            Effect::StaleFrom(at) => {
                self.replace_head(slot, entry.with_head(entry.head.expired_at(at), entry.began));
                true
            }
        }
    }

    /// Makes room, up to `need` bytes and [`VICTIMS_AT_ONCE`] objects. Returns the bytes freed.
    pub(super) fn evict(&mut self, need: usize) -> usize {
        let (mut freed, mut victims) = (0, 0);
        while freed < need && victims < VICTIMS_AT_ONCE {
            let Some((lane, ticket)) = self.queues.pop() else { break };
            let Some(family) = self.families.of_mut(ticket.slot.primary) else { continue };
            let place = family.entries.iter().position(|(v, e)| {
                *v == ticket.slot.variance && e.ticket == ticket.number && e.lane() == lane
            });
            let Some(place) = place else { continue };
            let Some((_, entry)) = family.entries.get(place) else { continue };
            if self.queues.judge(lane, ticket, entry) == Fate::Evict {
                freed += entry.cost;
                victims += 1;
                family.entries.remove(place);
                self.families.tidy(ticket.slot.primary);
            }
        }
        self.ledger.give(freed);
        self.ledger.entries.fetch_sub(victims, Relaxed);
        self.ledger.evictions_size.fetch_add(victims as u64, Relaxed);
        freed
    }

    /// Bytes of the stored objects.
    pub(super) fn bytes(&self) -> usize {
        self.queues.total()
    }

    fn drop_entry(&mut self, entry: &Entry) {
        self.queues.forget(entry);
        self.ledger.give(entry.cost);
        self.ledger.entries.fetch_sub(1, Relaxed);
        self.sweep_if_needed();
    }

    fn note_purge(&mut self, what: Struck, epoch: u64, effect: Effect) {
        if self.purges.len() >= MAX_PURGES
            && let Some(oldest) = self.purges.pop_front()
        {
            self.forgotten_until = oldest.epoch;
        }
        self.purges.push_back(Recent { what, epoch, effect });
    }

    fn sweep_if_needed(&mut self) {
        if !self.queues.need_sweep() {
            return;
        }
        let families = &self.families;
        self.queues.sweep(|ticket| {
            let family = families.of(ticket.slot.primary);
            family.and_then(|f| f.entry(ticket.slot.variance)).is_some_and(|e| e.ticket == ticket.number)
        });
    }
}

/// Variants kept per key; a family that has more loses its oldest. The issue is an upstream whose `Vary` names a header with
/// as many values as clients.
pub(super) const MAX_VARIANTS: usize = 32;
/// Purges remembered per shard for fills that are not yet known to the store. Older fills are simply not stored.
const MAX_PURGES: usize = 128;
/// Objects evicted under one hold of the lock.
const VICTIMS_AT_ONCE: usize = 16;
