//! The fills that run in this process: found by key, told of purges.
//!
//! They are spread over places with a lock each, by their URL, so that a purge of a URL is one step under one lock: no fill that began
//! earlier can slip in behind it. A lookup comes here only when it found nothing fresh.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use ahash::RandomState;
use parking_lot::{RwLock, RwLockWriteGuard};

use super::fill::Fill;
use super::slot::Slot;
use crate::cache::key::UrlHash;
use crate::cache::purge::{Bans, Effect};

/// All running fills.
#[derive(Debug)]
pub(super) struct Fills {
    places: Box<[RwLock<Place>]>,
}

/// The fills of some URLs, and the purges of them that fetches may still have to learn of.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Running fills of each primary hash, the newest last.
    by_primary: HashMap<u128, Vec<Arc<Fill>>, RandomState>,
    /// By number. A purge does not remove from here: the leader of a fill must always find its own body.
    by_id: HashMap<u64, Arc<Fill>, RandomState>,
    purges: VecDeque<Recent>,
    /// Purges up to here are no longer in the list; fills that began earlier are not stored.
    forgotten_until: u64,
}

#[derive(Debug, Clone, Copy)]
struct Recent {
    what: Struck,
    /// The store's epoch after it.
    epoch: u64,
    effect: Effect,
}

/// What a purge of one place strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Struck {
    /// A key with all its variants.
    Primary(u128),
    /// All of a URL.
    Url(UrlHash),
    /// One variant, which is struck only while it is being fetched.
    Variant(Slot),
}

impl Struck {
    fn is(self, slot: Slot) -> bool {
        match self {
            Self::Primary(struck) => struck == slot.primary,
            Self::Url(url) => url == slot.url(),
            Self::Variant(variant) => variant == slot,
        }
    }
}

impl Fills {
    pub(super) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| RwLock::default()).collect() }
    }

    /// The place of a slot, for who changes something there.
    pub(super) fn place(&self, slot: Slot) -> RwLockWriteGuard<'_, Place> {
        self.place_of(slot.url()).write()
    }

    /// The place of a URL, for who purges it.
    pub(super) fn place_of_url(&self, url: UrlHash) -> RwLockWriteGuard<'_, Place> {
        self.place_of(url).write()
    }

    /// The newest running fill of a key that no purge struck.
    pub(super) fn find(
        &self,
        slot: Slot,
        key: &[u8],
        is_spared: impl Fn(&Fill) -> bool,
    ) -> Option<Arc<Fill>> {
        let place = self.place_of(slot.url()).read();
        let fills = place.by_primary.get(&slot.primary)?;
        let is_it = |fill: &&Arc<Fill>| {
            fill.slot == slot && *fill.key() == *key && fill.is_spared() && is_spared(fill)
        };
        fills.iter().rev().find(is_it).cloned()
    }

    /// A fill by its number.
    pub(super) fn by_id(&self, slot: Slot, id: u64) -> Option<Arc<Fill>> {
        self.place_of(slot.url()).read().by_id.get(&id).cloned()
    }

    /// Applies bans to the running fills: those that they strike are out of sight.
    pub(super) fn sweep(&self, bans: &Bans) {
        for place in &self.places {
            let place = place.write();
            place.by_id.values().for_each(|fill| fill.strike(bans.effect(&fill.object())));
        }
    }

    fn place_of(&self, url: UrlHash) -> &RwLock<Place> {
        // The hash is keyed and uniform.
        self.places.get((url.0 >> 56) as usize % PLACES).expect("the index is a remainder of the length")
    }
}

impl Place {
    /// Makes a fill visible, unless it was purged since it began: then only its leader sees it. `effect` is what purges of many
    /// make of it.
    pub(super) fn begin(&mut self, fill: &Arc<Fill>, effect: Effect) {
        fill.strike(effect);
        for recent in self.recent(fill.slot, fill.began) {
            fill.strike(recent);
        }
        self.by_primary.entry(fill.slot.primary).or_default().push(Arc::clone(fill));
        self.by_id.insert(fill.id, Arc::clone(fill));
    }

    /// Takes a fill out of sight, finished or not. False: it was before.
    pub(super) fn end(&mut self, fill: &Fill) -> bool {
        if let Some(fills) = self.by_primary.get_mut(&fill.slot.primary) {
            fills.retain(|other| other.id != fill.id);
            if fills.is_empty() {
                self.by_primary.remove(&fill.slot.primary);
            }
        }
        self.by_id.remove(&fill.id).is_some()
    }

    /// Notes a purge, and strikes what it names of the running fills. One of a single variant is not noted.
    pub(super) fn purge(&mut self, what: Struck, epoch: u64, effect: Effect) {
        if !matches!(what, Struck::Variant(_)) {
            if self.purges.len() >= MAX_PURGES
                && let Some(oldest) = self.purges.pop_front()
            {
                self.forgotten_until = oldest.epoch;
            }
            self.purges.push_back(Recent { what, epoch, effect });
        }
        self.by_id.values().filter(|fill| what.is(fill.slot)).for_each(|fill| fill.strike(effect));
    }

    /// Whether recent purges strike a fetch that `began` then.
    pub(super) fn is_struck(&self, slot: Slot, began: u64) -> bool {
        self.recent(slot, began).next().is_some()
    }

    fn recent(&self, slot: Slot, began: u64) -> impl Iterator<Item = Effect> {
        let forgotten = (began < self.forgotten_until).then_some(Effect::Gone);
        let recent = self.purges.iter().filter(move |recent| recent.what.is(slot) && recent.epoch > began);
        forgotten.into_iter().chain(recent.map(|recent| recent.effect))
    }
}

/// What a mode of purging makes of what it names, at this moment.
pub(super) fn effect_of(mode: crate::cache::purge::Mode, now: SystemTime) -> Effect {
    match mode {
        crate::cache::purge::Mode::Hard => Effect::Gone,
        crate::cache::purge::Mode::Soft => Effect::StaleFrom(now),
    }
}

/// Enough that two workers rarely meet.
const PLACES: usize = 64;
/// Purges remembered per place for fills that are not yet known to the store. Older fills are simply not stored.
const MAX_PURGES: usize = 128;
