//! Whom to evict: S3-FIFO (SOSP 2023), size aware, one instance per shard.
//!
//! ```text
//!   new ──▶ small (about 10 % of the bytes) ──asked for again──▶ main ──┐
//!              │ not asked for                            ▲  asked for │ not asked for
//!              ▼                                          └────────────┤
//!            ghost (hashes only: comes back ──▶ main)                  ▼ out
//! ```
//!
//! Objects smaller than the mean move on after one hit, those below four times the mean after two, larger ones after three:
//! requests matter more to a gateway than bytes. The queues hold tickets; a ticket whose entry is gone is skipped, and the
//! queues are swept when dead tickets outnumber live ones.

use std::collections::{HashSet, VecDeque};

use ahash::RandomState;

use super::entry::{Entry, Lane, Slot};
use super::lanes::Favor;

/// A place in a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    pub(super) slot: Slot,
    pub(super) number: u64,
}

/// Lanes, ghosts and the bytes in each.
#[derive(Debug, Default)]
pub(super) struct Queues {
    small: VecDeque<Ticket>,
    main: VecDeque<Ticket>,
    ghosts: VecDeque<u64>,
    ghost_set: HashSet<u64, RandomState>,
    small_bytes: usize,
    main_bytes: usize,
    live: usize,
    favor: Favor,
}

/// What the policy decided about the entry at the head of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Out.
    Evict,
    /// It goes to the end of `main`.
    Keep,
}

impl Queues {
    pub(super) fn new(favor: Favor) -> Self {
        Self { favor, ..Self::default() }
    }

    /// Takes in a new entry and decides its lane.
    pub(super) fn admit(&mut self, slot: Slot, entry: &Entry) {
        let lane = if self.ghost_set.remove(&ghost(slot)) { Lane::Main } else { Lane::Small };
        entry.set_lane(lane);
        self.live += 1;
        *self.bytes_mut(lane) += entry.cost;
        let ticket = Ticket { slot, number: entry.ticket };
        match lane {
            Lane::Small => self.small.push_back(ticket),
            Lane::Main => self.main.push_back(ticket),
        }
    }

    /// An entry left for another reason than eviction. Its ticket stays behind and is skipped later.
    pub(super) fn forget(&mut self, entry: &Entry) {
        let bytes = self.bytes_mut(entry.lane());
        *bytes = bytes.saturating_sub(entry.cost);
        self.live = self.live.saturating_sub(1);
    }

    /// An entry took the place (and the ticket) of an older one.
    pub(super) fn exchange(&mut self, old: &Entry, new: &Entry) {
        let bytes = self.bytes_mut(old.lane());
        *bytes = bytes.saturating_sub(old.cost) + new.cost;
    }

    /// The next ticket to judge, from the lane whose turn it is. `None`: nothing is stored.
    pub(super) fn pop(&mut self) -> Option<(Lane, Ticket)> {
        let small_first = self.small_bytes * SMALL_SHARE >= self.total() || self.main.is_empty();
        let (first, second) = if small_first { (Lane::Small, Lane::Main) } else { (Lane::Main, Lane::Small) };
        self.pop_from(first).map(|t| (first, t)).or_else(|| self.pop_from(second).map(|t| (second, t)))
    }

    /// Judges a live entry that was popped, and moves it if it stays.
    pub(super) fn judge(&mut self, lane: Lane, ticket: Ticket, entry: &Entry) -> Fate {
        let hits = entry.hits();
        let stays = match lane {
            Lane::Small => hits >= self.hits_to_promote(entry.cost),
            Lane::Main => hits > 0,
        };
        let bytes = self.bytes_mut(lane);
        *bytes = bytes.saturating_sub(entry.cost);
        if !stays {
            self.live = self.live.saturating_sub(1);
            if lane == Lane::Small {
                self.remember(ticket.slot);
            }
            return Fate::Evict;
        }
        entry.set_hits(if lane == Lane::Small { 0 } else { hits - 1 });
        entry.set_lane(Lane::Main);
        self.main_bytes += entry.cost;
        self.main.push_back(ticket);
        Fate::Keep
    }

    /// True when dead tickets outnumber live ones by far: refreshing objects under no pressure leaves them behind.
    pub(super) fn need_sweep(&self) -> bool {
        self.small.len() + self.main.len() > 2 * self.live + SWEEP_SLACK
    }

    /// Drops the tickets that `is_live` does not know.
    pub(super) fn sweep(&mut self, is_live: impl Fn(&Ticket) -> bool) {
        self.small.retain(&is_live);
        self.main.retain(&is_live);
    }

    /// Bytes of all entries.
    pub(super) fn total(&self) -> usize {
        self.small_bytes + self.main_bytes
    }

    fn hits_to_promote(&self, cost: usize) -> u8 {
        let mean = self.total() / self.live.max(1);
        match cost {
            _ if self.favor == Favor::Bytes => 1,
            c if c <= mean => 1,
            c if c < mean.saturating_mul(4) => 2,
            _ => 3,
        }
    }

    fn remember(&mut self, slot: Slot) {
        let most = self.live.clamp(MIN_GHOSTS, MAX_GHOSTS);
        while self.ghosts.len() >= most {
            if let Some(oldest) = self.ghosts.pop_front() {
                self.ghost_set.remove(&oldest);
            }
        }
        if self.ghost_set.insert(ghost(slot)) {
            self.ghosts.push_back(ghost(slot));
        }
    }

    fn pop_from(&mut self, lane: Lane) -> Option<Ticket> {
        match lane {
            Lane::Small => self.small.pop_front(),
            Lane::Main => self.main.pop_front(),
        }
    }

    fn bytes_mut(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Small => &mut self.small_bytes,
            Lane::Main => &mut self.main_bytes,
        }
    }
}

/// A slot's hash as the ghost remembers it: both halves are already hashes, so folding them is enough.
fn ghost(slot: Slot) -> u64 {
    let both = slot.primary ^ slot.variance.unwrap_or_default();
    // Truncation is the point: a false ghost only promotes an object early.
    (both as u64) ^ ((both >> 64) as u64)
}

/// One part in this many of the bytes is the small lane, as in the paper.
const SMALL_SHARE: usize = 10;
/// The ghost remembers as many as are stored, but at least and at most these: 16 bytes each.
const MIN_GHOSTS: usize = 64;
const MAX_GHOSTS: usize = 8192;
const SWEEP_SLACK: usize = 64;
