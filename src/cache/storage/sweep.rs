//! The sweep: what applies purges of many to the objects, behind them, and takes them off the table.
//!
//! ```text
//!   purge ──▶ table ──GATHER──▶ sweep: record by record, STEP of them before others get their turn ──KEPT──▶ off the table
//!               └── full: the sweep at once
//! ```
//!
//! A ban stays for a while after the sweep, for fetches that began before it and are still on their way. What comes later still
//! is not stored: nobody could say any more whether it was meant. Only the process that stores sweeps, and takes bans off the table.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use super::Store;
use super::slot::url_of;
use super::table::Refused;
use crate::cache::purge::{Bans, Effect, Mode, Object, Scope};

/// A walk through the store. Applies the bans that there were when it began.
struct Sweep {
    bans: Arc<Bans>,
    record: u32,
}

impl Sweep {
    /// The last ban that it applies.
    fn last(&self) -> u64 {
        self.bans.iter().map(|ban| ban.epoch).max().unwrap_or_default()
    }
}

impl Store {
    /// Puts a ban on everything that `scope` names. Looks at no object, unless the table is full.
    pub fn ban(&'static self, scope: &Scope, mode: Mode) {
        let mut added = self.table.add(scope, mode, SystemTime::now());
        if matches!(added, Err(Refused::Full)) {
            self.counts.sweeps_forced.fetch_add(1, Relaxed);
            let swept = self.sweep();
            self.table.retire(swept, SystemTime::now());
            added = self.table.add(scope, mode, SystemTime::now());
        }
        if let Err(why) = added {
            // What it names is too long to be written down, or another process has to sweep first: more than was meant, never less.
            tracing::warn!(?scope, %why, "everything is purged in the place of what was named");
            self.purge_all(mode);
        }
        self.table.asked().notify_one();
    }

    /// Purges everything, in the place of a ban that there is no room for.
    fn purge_all(&'static self, mode: Mode) {
        self.table.clear_for(mode, SystemTime::now());
    }

    /// Applies the bans whenever there are some, in small steps. Never ends: for a task of the process.
    pub async fn keep_swept(&'static self) {
        let mut swept = 0;
        loop {
            let bans = self.table.bans().and_then(|bans| bans.bans().cloned());
            let due = bans.map(|bans| due_in(&bans, SystemTime::now()));
            tokio::select! {
                () = self.table.asked().notified() => {
                    tokio::time::sleep(GATHER).await;
                    let Some(mut sweep) = self.begin_sweep() else { continue };
                    while self.step(&mut sweep) {
                        tokio::task::yield_now().await;
                    }
                    swept = self.swept(&sweep).unwrap_or(swept);
                }
                () = tokio::time::sleep(due.unwrap_or(KEPT)), if due.is_some() => {
                    self.table.retire(swept, SystemTime::now() - KEPT);
                }
            }
        }
    }

    /// Applies the bans now, all in one go, and returns the last epoch that was.
    pub(super) fn sweep(&'static self) -> u64 {
        let Some(mut sweep) = self.begin_sweep() else { return 0 };
        while self.step(&mut sweep) {}
        self.swept(&sweep).unwrap_or_default()
    }

    /// The last ban that a sweep which is through has applied. `None`: the lease went meanwhile, and it has applied nothing since.
    fn swept(&self, sweep: &Sweep) -> Option<u64> {
        self.is_writer().then(|| sweep.last())
    }

    /// Applies the bans now and takes them off the table.
    #[cfg(test)]
    pub(super) fn sweep_and_retire(&'static self) {
        self.table.retire(self.sweep(), SystemTime::now());
    }

    fn begin_sweep(&self) -> Option<Sweep> {
        if !self.is_writer() {
            return None;
        }
        self.table.mend(SystemTime::now());
        let bans = Arc::clone(self.table.bans()?.bans()?);
        self.counts.sweeps.fetch_add(1, Relaxed);
        // What begins or ends behind its back is judged by the same bans: they are on the table until it is through.
        self.fills.sweep(&bans);
        Some(Sweep { bans, record: 0 })
    }

    /// Goes one step further. `false`: it is through.
    fn step(&'static self, sweep: &mut Sweep) -> bool {
        let all = self.arena.record_count();
        let end = all.min(sweep.record + STEP);
        for record in sweep.record..end {
            self.sweep_object(record, &sweep.bans);
        }
        sweep.record = end;
        end < all
    }

    /// Applies bans to an object: removes it, or marks it.
    fn sweep_object(&'static self, record: u32, bans: &Bans) {
        let Some((pinned, head)) = self.object(record) else { return };
        let url = url_of(&pinned);
        let effect = bans.effect(&Object { key: head.key(), tags: head.tags(), began: pinned.began(), url });
        let changes = match effect {
            Effect::Spared => false,
            Effect::Gone => true,
            Effect::StaleFrom(at) => head.fresh_until(pinned.stale_from()) > at,
        };
        let sequence = pinned.sequence();
        drop(pinned);
        let mut desk = self.desk.lock();
        if let Some(desk) = desk.as_mut()
            && changes
            && desk.is_there(record, sequence)
        {
            self.apply(desk, record, effect);
            self.counts.swept.fetch_add(1, Relaxed);
        }
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
/// Records looked at before others get their turn.
const STEP: u32 = 1024;
