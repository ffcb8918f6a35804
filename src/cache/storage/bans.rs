//! The table of bans, and the sweep that applies them to what is stored.
//!
//! ```text
//!   purge ──▶ table ──GATHER──▶ sweep: shard by shard, STEP objects under one hold of a lock ──KEPT──▶ off the table
//!               └── full: the sweep at once
//! ```
//!
//! A ban stays for a while after the sweep, for fetches that began before it and are still on their way. What comes later still
//! is not stored: nobody could say any more whether it was meant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::HeapStore;
use super::entry::Slot;
use crate::cache::purge::{Ban, Bans, Effect, MAX_BANS, Mode, Object, Scope};

/// The bans of a store. Read at every lookup, written by purges and sweeps.
#[derive(Debug, Default)]
pub(super) struct Table {
    bans: ArcSwap<Bans>,
    /// How many there are: a lookup that finds 0 looks no further.
    count: AtomicUsize,
    /// Bans up to this epoch are off the table.
    retired: AtomicU64,
    writing: Mutex<()>,
    asked: Notify,
}

impl Table {
    /// The bans, if there are any. Acquire, with the release in [`Self::publish`]: who asks after a purge has returned sees its ban.
    pub(super) fn bans(&self) -> Option<Guard<Arc<Bans>>> {
        (self.count.load(Ordering::Acquire) > 0).then(|| self.bans.load())
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// What they make of an object.
    pub(super) fn effect(&self, object: &Object<'_>) -> Effect {
        self.bans().map_or(Effect::Spared, |bans| bans.effect(object))
    }

    /// The same of one that is about to come in, with those that are off the table.
    pub(super) fn effect_on_new(&self, object: &Object<'_>) -> Effect {
        // In this order: a ban that the table has no more was counted as retired before.
        let effect = self.effect(object);
        if object.began < self.retired.load(Ordering::SeqCst) { Effect::Gone } else { effect }
    }

    fn publish(&self, bans: Bans) {
        let count = bans.len();
        self.bans.store(Arc::new(bans));
        self.count.store(count, Ordering::SeqCst);
    }

    fn retire(&self, swept: u64, before: SystemTime) {
        let _writing = self.writing.lock();
        let mut bans = Bans::clone(&self.bans.load());
        let off = bans.iter().filter(|ban| ban.epoch <= swept && ban.at <= before).map(|ban| ban.epoch).max();
        let Some(off) = off else { return };
        self.retired.fetch_max(off, Ordering::SeqCst);
        bans.retire(swept, before);
        self.publish(bans);
    }
}

/// A walk through the store. Applies the bans that there were when it began.
struct Sweep {
    bans: Arc<Bans>,
    shard: usize,
    slots: Vec<Slot>,
}

impl Sweep {
    /// The last ban that it applies.
    fn last(&self) -> u64 {
        self.bans.iter().map(|ban| ban.epoch).max().unwrap_or_default()
    }
}

impl HeapStore {
    /// Puts a ban on everything that `scope` names. Looks at no object, unless the table is full.
    pub fn ban(&self, scope: &Scope, mode: Mode) {
        while !self.try_ban(scope, mode) {
            self.ledger.sweeps_forced.fetch_add(1, Ordering::Relaxed);
            let swept = self.sweep();
            self.table.retire(swept, SystemTime::now());
        }
        self.table.asked.notify_one();
    }

    fn try_ban(&self, scope: &Scope, mode: Mode) -> bool {
        let _writing = self.table.writing.lock();
        let mut bans = Bans::clone(&self.table.bans.load());
        // The epoch is taken under the lock: bans come onto the table in the order of their numbers.
        bans.add(scope, Ban { mode, epoch: self.next_epoch(), at: SystemTime::now() });
        let has_room = bans.len() <= MAX_BANS;
        if has_room {
            self.table.publish(bans);
        }
        has_room
    }

    /// Applies the bans whenever there are some, in small steps. Never ends: for a task of the process.
    pub async fn keep_swept(&'static self) {
        let mut swept = 0;
        loop {
            let due = self.table.bans().map(|bans| due_in(&bans, SystemTime::now()));
            tokio::select! {
                () = self.table.asked.notified() => {
                    tokio::time::sleep(GATHER).await;
                    let mut sweep = self.begin_sweep();
                    while self.step(&mut sweep) {
                        tokio::task::yield_now().await;
                    }
                    swept = sweep.last();
                }
                () = tokio::time::sleep(due.unwrap_or(KEPT)), if due.is_some() => {
                    self.table.retire(swept, SystemTime::now() - KEPT);
                }
            }
        }
    }

    /// Applies the bans now, all in one go, and returns the last epoch that was.
    pub(super) fn sweep(&self) -> u64 {
        let mut sweep = self.begin_sweep();
        while self.step(&mut sweep) {}
        sweep.last()
    }

    /// Applies the bans now and takes them off the table.
    #[cfg(test)]
    pub(super) fn sweep_and_retire(&self) {
        self.table.retire(self.sweep(), SystemTime::now());
    }

    fn begin_sweep(&self) -> Sweep {
        self.ledger.sweeps.fetch_add(1, Ordering::Relaxed);
        Sweep { bans: self.table.bans.load_full(), shard: 0, slots: Vec::new() }
    }

    /// Goes one step further. `false`: it is through.
    ///
    /// What is stored behind its back was judged by the same bans when it came in: they are on the table until it is through.
    fn step(&self, sweep: &mut Sweep) -> bool {
        let Some(place) = self.shards.get(sweep.shard) else { return false };
        if sweep.slots.is_empty() {
            // The write lock: a fill that begins or ends meanwhile is judged by the same bans.
            let shard = place.state.write();
            shard.sweep_fills(&sweep.bans);
            sweep.slots = shard.slots();
        }
        let left = sweep.slots.len().saturating_sub(STEP);
        let now = sweep.slots.split_off(left);
        // Most are spared: they are told apart under a lock that hits share.
        let struck: Vec<Slot> = {
            let shard = place.state.read();
            let is_struck = |slot: &Slot| {
                let entry = shard.entry(*slot);
                entry.is_some_and(|entry| sweep.bans.effect(&entry.object()) != Effect::Spared)
            };
            now.into_iter().filter(is_struck).collect()
        };
        if !struck.is_empty() {
            let mut shard = place.state.write();
            let changed = struck.into_iter().filter(|slot| shard.sweep_object(*slot, &sweep.bans)).count();
            self.ledger.swept.fetch_add(changed as u64, Ordering::Relaxed);
            place.note(&shard);
        }
        if sweep.slots.is_empty() {
            sweep.shard += 1;
        }
        true
    }
}

/// When the next ban may go off the table.
fn due_in(bans: &Bans, now: SystemTime) -> Duration {
    let oldest = bans.iter().map(|ban| ban.at).min().unwrap_or(now);
    let due = oldest + KEPT;
    // At least a moment, so that one which no sweep has applied yet is not asked after all the time.
    due.duration_since(now).unwrap_or_default().max(GATHER)
}

/// How long bans gather before a sweep, so that one sweep applies many.
const GATHER: Duration = Duration::from_secs(1);
/// How long a ban stays on the table: as long as an exchange with an upstream takes at most by default (`timeouts.request`).
const KEPT: Duration = Duration::from_secs(30);
/// Objects looked at under one hold of a lock.
const STEP: usize = 256;
