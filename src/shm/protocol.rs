//! How readers and the writer of an arena agree on what may be read, without a lock.
//!
//! ```text
//!   state of a record:   generation << 2 | phase
//!
//!        take              commit              kill                 free, once nobody pins it
//!   Free ────▶ Writing ────────▶ Committed ────────▶ Dying ─────────────────────────────────▶ Free
//!                 └─────────────── kill ───────────────▲             (the next `take` counts the generation up)
//! ```
//!
//! **A pinned object is not reused.** A reader counts its pin up and *then* reads the state again; the writer sets the state to dying and
//! *then* reads the pins. Both are sequentially consistent, so one of the two sees the other: either the reader finds the state changed and
//! lets go, or the writer finds the pin and waits (the argument of hazard pointers; Michael, 2004). What a reader read of the record before
//! belongs to the generation that it pinned, because that is part of the state.
//!
//! **A chain is a hint.** Links are single words that only the writer changes. Each record is checked by key and state, so a link that leads
//! astray costs a miss and no more; a reader that sees a record change under it, or finds nothing and met one that is dead, begins again. So
//! an object that is replaced is found at every moment, the old one or the new one.
//!
//! The functions are generic over the words so that a model checker can run them on its own (`models`).

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

/// A word that processes share. Every access is sequentially consistent: the arguments above need one order over two words.
pub(super) trait Word<T> {
    fn load(&self) -> T;
    fn store(&self, value: T);
    /// Stores `new` if the word is `old`. True if it did.
    fn replace(&self, old: T, new: T) -> bool;
}

/// A word that is counted up and down.
pub(super) trait Count {
    fn up(&self) -> u16;
    fn down(&self);
    fn now(&self) -> u16;
}

macro_rules! word {
    ($atomic:ty, $value:ty) => {
        impl Word<$value> for $atomic {
            fn load(&self) -> $value {
                <$atomic>::load(self, SeqCst)
            }
            fn store(&self, value: $value) {
                <$atomic>::store(self, value, SeqCst);
            }
            fn replace(&self, old: $value, new: $value) -> bool {
                self.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
            }
        }
    };
}

word!(AtomicU64, u64);
word!(AtomicU32, u32);

impl Count for AtomicU16 {
    fn up(&self) -> u16 {
        self.fetch_add(1, SeqCst)
    }
    fn down(&self) {
        self.fetch_sub(1, SeqCst);
    }
    fn now(&self) -> u16 {
        self.load(SeqCst)
    }
}

/// Where a record is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    Writing,
    Committed,
    Dying,
}

/// A record's state, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

impl State {
    pub(super) fn phase(self) -> Phase {
        match self.0 & 3 {
            0 => Phase::Free,
            1 => Phase::Writing,
            2 => Phase::Committed,
            _ => Phase::Dying,
        }
    }

    pub(super) fn generation(self) -> u64 {
        self.0 >> 2
    }

    pub(super) fn in_phase(self, phase: Phase) -> Self {
        Self((self.0 & !3) | phase as u64)
    }

    /// The first state of the next life of a record.
    pub(super) fn next_life(self) -> Self {
        Self(self.generation().wrapping_add(1) << 2 | Phase::Writing as u64)
    }
}

/// What a try to pin came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Pinning {
    Pinned,
    /// The record is another one by now, or none.
    Changed,
    /// As many pins as can be counted.
    Full,
}

/// Pins a record that was seen in a state. Pinned, its bytes stay until [`unpin`].
pub(super) fn pin<S: Word<u64>, P: Count>(state: &S, pins: &P, seen: State) -> Pinning {
    if pins.up() >= MAX_PINS {
        pins.down();
        return Pinning::Full;
    }
    // After the pin, not before: see the top.
    if state.load() == seen.0 {
        Pinning::Pinned
    } else {
        pins.down();
        Pinning::Changed
    }
}

/// Takes one pin back.
pub(super) fn unpin<P: Count>(pins: &P) {
    pins.down();
}

/// Ends the life of an object that was seen in a state. False: somebody else did.
pub(super) fn kill<S: Word<u64>>(state: &S, seen: State) -> bool {
    state.replace(seen.0, seen.in_phase(Phase::Dying).0)
}

/// Frees a dying record, unless it is pinned. True if it is free: from now on its bytes may be another's.
pub(super) fn free<S: Word<u64>, P: Count>(state: &S, pins: &[P], seen: State) -> bool {
    let is_pinned = pins.iter().any(|pins| pins.now() > 0);
    if !is_pinned {
        state.store(seen.in_phase(Phase::Free).0);
    }
    !is_pinned
}

/// The chains of a table of records.
pub(super) trait Chains {
    type Link: Word<u32>;
    type State: Word<u64>;
    /// Where the chain begins.
    fn first(&self) -> &Self::Link;
    /// What is behind a record; `None`: there is no such record.
    fn next(&self, record: u32) -> Option<&Self::Link>;
    fn state(&self, record: u32) -> Option<&Self::State>;
    /// Whether it is what is looked for. What it reads may belong to another life of the record.
    fn is_it(&self, record: u32) -> bool;
}

/// Looks for a committed record in a chain. What it returns was one when it was looked at; to be pinned in that state.
pub(super) fn find(chains: &impl Chains) -> Option<(u32, State)> {
    for _ in 0..MAX_RETRIES {
        match walk(chains) {
            Walk::Found(record, state) => return Some((record, state)),
            Walk::End => return None,
            Walk::Astray => {}
        }
    }
    None
}

enum Walk {
    Found(u32, State),
    End,
    /// A record changed under the reader, so what is behind it may belong to another chain, and what it looks for may be in front.
    Astray,
}

fn walk(chains: &impl Chains) -> Walk {
    let mut at = chains.first().load();
    // What is dead was alive when its link was read, so what has taken its place stands further in front.
    let mut met_dead = false;
    for _ in 0..MAX_CHAIN {
        if at == NONE {
            return if met_dead { Walk::Astray } else { Walk::End };
        }
        let (Some(state), Some(next)) = (chains.state(at), chains.next(at)) else { return Walk::End };
        let seen = State(state.load());
        if seen.phase() == Phase::Committed && chains.is_it(at) {
            return Walk::Found(at, seen);
        }
        met_dead |= seen.phase() != Phase::Committed;
        let behind = next.load();
        if state.load() != seen.0 {
            return Walk::Astray;
        }
        at = behind;
    }
    Walk::End
}

/// Puts a record in front of its chain. Only for the writer.
pub(super) fn link<L: Word<u32>>(first: &L, own: &L, record: u32) {
    own.store(first.load());
    first.store(record);
}

/// Takes a record out of its chain. Who stands on it goes on behind it. Only for the writer.
pub(super) fn unlink(chains: &impl Chains, record: u32) {
    let Some(behind) = chains.next(record).map(Word::load) else { return };
    let mut link = chains.first();
    for _ in 0..MAX_CHAIN {
        let at = link.load();
        if at == record {
            link.store(behind);
            return;
        }
        match chains.next(at).filter(|_| at != NONE) {
            Some(next) => link = next,
            None => return,
        }
    }
}

/// No record.
pub(super) const NONE: u32 = u32::MAX;
/// Pins of one process on one object. What is above is room for those who are about to find that out.
pub(super) const MAX_PINS: u16 = u16::MAX - 4096;
/// Records looked at in one chain: far more than hash to one place, and an end for a chain that a crash closed to a ring.
pub(super) const MAX_CHAIN: usize = 1024;
/// How often a reader begins again.
const MAX_RETRIES: usize = 8;

#[cfg(test)]
mod models;
