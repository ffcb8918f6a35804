//! One part of the store under one lock: families of variants, running fills, the eviction queues and the recent purges.
//!
//! A family is everything under one primary hash. Purging a key is one removal under one lock, so no variant survives it and
//! no fill that began earlier can slip in behind it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use ahash::RandomState;

use super::Shift;
use super::entry::{Entry, Slot};
use super::fill::Fill;
use super::ledger::Ledger;
use super::queues::{Fate, Queues};

/// What a lookup found.
pub(super) enum Found {
    Entry(Arc<Entry>),
    Fill(Arc<Fill>),
}

#[derive(Debug, Default)]
struct Family {
    /// In order of storing; at most [`MAX_VARIANTS`].
    entries: Vec<(Option<u128>, Arc<Entry>)>,
    /// Running fills, the newest last.
    fills: Vec<Arc<Fill>>,
}

impl Family {
    fn entry(&self, variance: Option<u128>) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|(v, _)| *v == variance).map(|(_, entry)| entry)
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.fills.is_empty()
    }
}

/// The state behind a shard's lock.
#[derive(Debug)]
pub(super) struct Shard {
    ledger: &'static Ledger,
    families: HashMap<u128, Family, RandomState>,
    /// Fills by id. A purge does not remove from here: the leader of a fill must always find its own body.
    writes: HashMap<u64, Arc<Fill>, RandomState>,
    queues: Queues,
    /// Recent purges: what, and the store's epoch after it.
    purges: VecDeque<(u128, u64)>,
    /// Purges up to here are no longer in the list; fills that began earlier are not stored.
    forgotten_until: u64,
}

impl Shard {
    pub(super) fn new(ledger: &'static Ledger) -> Self {
        Self {
            ledger,
            families: HashMap::default(),
            writes: HashMap::default(),
            queues: Queues::default(),
            purges: VecDeque::new(),
            forgotten_until: 0,
        }
    }

    /// A fresh object first, then a running fill (a stale object must not hide its replacement), then a stale object.
    pub(super) fn find(&self, slot: Slot, key: &[u8], now: impl FnOnce() -> SystemTime) -> Option<Found> {
        let family = self.families.get(&slot.primary)?;
        let entry = family.entry(slot.variance).filter(|entry| *entry.key == *key);
        if let Some(entry) = entry
            && (family.fills.is_empty() || entry.head.is_fresh(now()))
        {
            return Some(Found::Entry(Arc::clone(entry)));
        }
        let fill = family.fills.iter().rev().find(|fill| fill.slot == slot && *fill.key == *key);
        match fill {
            Some(fill) => Some(Found::Fill(Arc::clone(fill))),
            None => entry.map(|entry| Found::Entry(Arc::clone(entry))),
        }
    }

    pub(super) fn fill(&self, id: u64) -> Option<Arc<Fill>> {
        self.writes.get(&id).cloned()
    }

    /// Makes a fill visible, unless its key was purged since it began: then only its leader sees it.
    pub(super) fn begin(&mut self, fill: Arc<Fill>, began: u64) {
        let purged = began < self.forgotten_until
            || self.purges.iter().any(|(primary, epoch)| *primary == fill.slot.primary && *epoch > began);
        if purged {
            fill.doom();
        } else {
            self.families.entry(fill.slot.primary).or_default().fills.push(Arc::clone(&fill));
        }
        self.writes.insert(fill.id, fill);
        self.ledger.fills.fetch_add(1, Relaxed);
    }

    /// Takes a fill out of sight, finished or not.
    pub(super) fn end(&mut self, fill: &Fill) {
        if self.writes.remove(&fill.id).is_some() {
            self.ledger.fills.fetch_sub(1, Relaxed);
        }
        if let Some(family) = self.families.get_mut(&fill.slot.primary) {
            family.fills.retain(|other| other.id != fill.id);
            if family.is_empty() {
                self.families.remove(&fill.slot.primary);
            }
        }
    }

    /// Stores an object. Its room must have been taken; the room of what it replaces is given back.
    pub(super) fn store(&mut self, slot: Slot, mut entry: Entry) {
        let family = self.families.entry(slot.primary).or_default();
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

    /// Exchanges the head of a stored object. `extra` is the room the caller took for it; what is not needed goes back.
    pub(super) fn exchange_head(&mut self, slot: Slot, entry: Entry, extra: usize) -> bool {
        let family = self.families.get_mut(&slot.primary);
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
                family.entries.iter().map(|(variance, entry)| {
                    let slot = Slot { primary: *primary, variance: *variance };
                    (slot, entry.with_head(entry.head.shifted(shift)))
                })
            })
            .collect();
        for (slot, entry) in all {
            self.exchange_head(slot, entry, 0);
        }
    }

    /// The stored object in a slot.
    pub(super) fn entry(&self, slot: Slot) -> Option<Arc<Entry>> {
        self.families.get(&slot.primary)?.entry(slot.variance).cloned()
    }

    /// Removes a key with all its variants, or one variant. Fills of it that are running will not be stored. Returns the
    /// generation of what was asked for, or of any variant if that was not stored.
    pub(super) fn purge(&mut self, slot: Slot, only: Option<u64>, epoch: u64) -> Option<u64> {
        if only.is_none() {
            self.note_purge(slot.primary, epoch);
        }
        let family = self.families.get_mut(&slot.primary)?;
        let whole = slot.variance.is_none() && only.is_none();
        if only.is_none() {
            let doomed = family.fills.extract_if(.., |fill| whole || fill.slot == slot);
            doomed.for_each(|fill| fill.doom());
        }
        let gone: Vec<_> = family
            .entries
            .extract_if(.., |(v, e)| whole || (*v == slot.variance && only.is_none_or(|id| id == e.id)))
            .map(|(_, entry)| entry)
            .collect();
        if family.is_empty() {
            self.families.remove(&slot.primary);
        }
        self.ledger.evictions_purge.fetch_add(gone.len() as u64, Relaxed);
        gone.iter().for_each(|entry| self.drop_entry(entry));
        gone.first().map(|entry| entry.id)
    }

    /// Removes every object whose key `matches`. Fills that began before are not stored, whatever their key: the ones not
    /// yet known to the store cannot be asked.
    pub(super) fn purge_where(&mut self, matches: impl Fn(&[u8]) -> bool, epoch: u64) -> usize {
        self.forgotten_until = epoch;
        self.purges.clear();
        let mut gone = Vec::new();
        self.families.retain(|_, family| {
            family.fills.extract_if(.., |fill| matches(&fill.key)).for_each(|fill| fill.doom());
            gone.extend(family.entries.extract_if(.., |(_, entry)| matches(&entry.key)));
            !family.is_empty()
        });
        self.ledger.evictions_purge.fetch_add(gone.len() as u64, Relaxed);
        gone.iter().for_each(|(_, entry)| self.drop_entry(entry));
        gone.len()
    }

    /// Makes a key with all its variants, or one variant, stale from `now` on. Fills that are running are not stored.
    pub(super) fn expire(&mut self, slot: Slot, only: Option<u64>, epoch: u64, now: SystemTime) -> bool {
        if only.is_none() {
            self.note_purge(slot.primary, epoch);
        }
        let Some(family) = self.families.get_mut(&slot.primary) else { return false };
        if only.is_none() {
            family.fills.drain(..).for_each(|fill| fill.doom());
        }
        let mut found = false;
        for (variance, entry) in &mut family.entries {
            let whole = slot.variance.is_none() && only.is_none();
            if whole || (*variance == slot.variance && only.is_none_or(|id| id == entry.id)) {
                // The head keeps its size, so the room does not change.
                *entry = Arc::new(entry.with_head(entry.head.expired_at(now)));
                found = true;
            }
        }
        if family.is_empty() {
            self.families.remove(&slot.primary);
        }
        found
    }

    /// Makes room, up to `need` bytes and [`VICTIMS_AT_ONCE`] objects. Returns the bytes freed.
    pub(super) fn evict(&mut self, need: usize) -> usize {
        let (mut freed, mut victims) = (0, 0);
        while freed < need && victims < VICTIMS_AT_ONCE {
            let Some((lane, ticket)) = self.queues.pop() else { break };
            let Some(family) = self.families.get_mut(&ticket.slot.primary) else { continue };
            let place = family.entries.iter().position(|(v, e)| {
                *v == ticket.slot.variance && e.ticket == ticket.number && e.lane() == lane
            });
            let Some(place) = place else { continue };
            let Some((_, entry)) = family.entries.get(place) else { continue };
            if self.queues.judge(lane, ticket, entry) == Fate::Evict {
                freed += entry.cost;
                victims += 1;
                family.entries.remove(place);
                if family.is_empty() {
                    self.families.remove(&ticket.slot.primary);
                }
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

    fn note_purge(&mut self, primary: u128, epoch: u64) {
        if self.purges.len() >= MAX_PURGES
            && let Some((_, oldest)) = self.purges.pop_front()
        {
            self.forgotten_until = oldest;
        }
        self.purges.push_back((primary, epoch));
    }

    fn sweep_if_needed(&mut self) {
        if !self.queues.need_sweep() {
            return;
        }
        let families = &self.families;
        self.queues.sweep(|ticket| {
            let family = families.get(&ticket.slot.primary);
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
