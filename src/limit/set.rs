//! Fifteen keys and how they change hands: without a lock, so that nobody waits for a process that is gone.
//!
//! ```text
//!   a set, four cache lines, 256 bytes; each word is read and swapped as a whole:
//!
//!            63..0 of the upper half      63..0 of the lower half
//!   header   0: idle                      its last intention, closed     tat 60 bits | slot 4 bits
//!            a key: an INTENTION          what it expects                tat 60 bits | slot 4 bits
//!   slot 0   0: empty, else a key         tat, nanoseconds
//!     ...
//!   slot 14  0: empty, else a key         tat, nanoseconds
//!
//!   to charge key K:   find K's slot, from K's own place on and around; swap (K, tat) for (K, later)
//!
//!   to insert key K:   1. read the header; an intention there is completed first (3 and 4), whoever began it
//!                      2. read the slots; K is there: charge it. Else choose the slot with the earliest tat, `t`, that has passed,
//!                         and swap the header: idle -> (K, t, slot)
//!                      3. fulfil: the slot still has tat `t`: swap (old key, t) for (K, t + 1)
//!                      4. close:  swap the header: (K, t, slot) -> idle (0, t + 1, slot)
//!                      then charge K, which is at rest
//! ```
//!
//! Why each of these is right, whoever stops for ever between any two steps, and however many complete one intention:
//!
//! - *A slot's tat only grows.* A charge makes it later, `fulfil` adds one. So no state of a slot comes back, and a swap that expects an old
//!   one fails, however late it is tried.
//! - *An intention is carried out at most once, and over when it is closed.* While the slot has tat `t`, `fulfil` swaps it once; then it has
//!   not, and never will. If its holder was charged first, the slot is later than `t` too: the intention is void, and is closed all the same.
//! - *No idle header comes back.* It holds the slot and `t + 1` of the intention before it. For one slot `t` grows from intention to
//!   intention, because it was read from the slot after the one before was closed, when the slot was later already.
//! - *A key never has two slots.* A slot changes its key under an intention only. Who publishes one has found the header idle before it read the
//!   slots, and still the same when it swaps: no key was inserted between, so K, which it did not find, is not there.
//! - *Nothing is lost or charged to another.* A slot that makes way has a tat that has passed, which says nothing. One that is charged
//!   meanwhile stays. A new key begins at rest (`t + 1` has come: `t` has passed), and is charged as any other; who dies before has used
//!   nothing up.
//! - *Nobody waits.* Whoever meets an intention completes it in two swaps. A swap fails only because another succeeded.
//!
//! What is read may be damaged: any word is a valid one. A slot number that does not exist makes an intention void, and a tat beyond what any
//! quota can reach ([`LONGEST_TOLERANCE_NS`]) empties its slot, so that it locks nobody out.
//!
//! All accesses are `SeqCst`. The argument needs that who sees a header sees what was done to the slots before it was written, which acquire
//! and release give; on x86 the swaps cost the same.

use super::gcra::LONGEST_TOLERANCE_NS;
use portable_atomic::AtomicU128;
use std::sync::atomic::Ordering::SeqCst;

/// Keys in a set.
pub(super) const WAYS: usize = 15;

/// No key: an empty slot, an idle header.
pub(super) const NO_KEY: u64 = 0;

/// The bits of a slot's number in the header.
const SLOT_BITS: u32 = 4;
const _: () = assert!(WAYS <= 1 << SLOT_BITS, "every slot has a number");
// What makes way has passed: 60 bits of nanoseconds are 36 years since the machine was started.

/// A word: a key, and what is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) key: u64,
    /// In a slot its tat; in the header tat and slot.
    pub(super) rest: u64,
}

/// A place for a word that is read and swapped as a whole.
pub(super) trait Cell {
    fn load(&self) -> Word;

    /// Puts `to` where `from` is, or says what is there.
    fn swap(&self, from: Word, to: Word) -> Result<(), Word>;
}

impl Cell for AtomicU128 {
    fn load(&self) -> Word {
        unpacked(self.load(SeqCst))
    }

    fn swap(&self, from: Word, to: Word) -> Result<(), Word> {
        self.compare_exchange(packed(from), packed(to), SeqCst, SeqCst).map(drop).map_err(unpacked)
    }
}

fn packed(word: Word) -> u128 {
    u128::from(word.key) << 64 | u128::from(word.rest)
}

fn unpacked(word: u128) -> Word {
    Word { key: (word >> 64) as u64, rest: word as u64 }
}

/// A header and its slots.
pub(super) struct Set<'a, C> {
    header: &'a C,
    slots: &'a [C],
}

/// What became of the wish to insert a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The header holds this intention: it can be completed.
    Intended(Word),
    /// Something changed meanwhile, perhaps the key is there: look again.
    Again,
    /// Every slot is in use, and none has come to rest.
    Full,
}

/// Words that no gateway writes were found, and emptied.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mended(pub(super) u32);

impl<'a, C: Cell> Set<'a, C> {
    /// The words of one set.
    pub(super) fn of(words: &'a [C]) -> Self {
        let (header, slots) = words.split_first().expect("a set has a header");
        Self { header, slots }
    }

    /// Decides by `step` for a key that is there, from its tat to the decision and the tat to store, which must be later. `None`: it is not
    /// there.
    pub(super) fn charge<T>(
        &self,
        key: u64,
        now_ns: u64,
        mended: &mut Mended,
        step: impl Fn(u64) -> (T, Option<u64>),
    ) -> Option<T> {
        for (slot, _) in self.slots_from_home(key) {
            let mut word = slot.load();
            while word.key == key {
                if is_absurd(word, now_ns) {
                    empty(slot, word, now_ns, mended);
                    return None;
                }
                let (decision, next) = step(word.rest);
                let Some(next) = next else { return Some(decision) };
                match slot.swap(word, Word { key, rest: next }) {
                    Ok(()) => return Some(decision),
                    Err(there) => word = there,
                }
            }
        }
        None
    }

    /// The tat of a key that is there. Nothing is written.
    pub(super) fn find(&self, key: u64, now_ns: u64) -> Option<u64> {
        let word = self.slots_from_home(key).map(|(slot, _)| slot.load()).find(|word| word.key == key)?;
        (!is_absurd(word, now_ns)).then_some(word.rest)
    }

    /// Whether no slot would make way.
    pub(super) fn is_full(&self, now_ns: u64) -> bool {
        self.slots.iter().map(Cell::load).all(|word| word.rest >= now_ns && !is_absurd(word, now_ns))
    }

    /// How many slots hold a key.
    pub(super) fn held(&self) -> usize {
        self.slots.iter().filter(|slot| slot.load().key != NO_KEY).count()
    }

    /// Takes one step towards a slot for `key`: steps 1 and 2.
    pub(super) fn intend(&self, key: u64, now_ns: u64, mended: &mut Mended) -> Wish {
        let header = self.header.load();
        if header.key != NO_KEY {
            self.complete(header);
            return Wish::Again;
        }
        let mut first: Option<(u64, u64)> = None;
        for (slot, number) in self.slots_from_home(key) {
            let word = slot.load();
            if word.key == key {
                return Wish::Again;
            }
            if is_absurd(word, now_ns) {
                empty(slot, word, now_ns, mended);
                return Wish::Again;
            }
            // The longest at rest makes way, of empty ones that next to the key's own place; an empty slot has rested since the start. It must have come to rest before now: the new key gets
            // a tat that is one later, and has to be at rest itself.
            if word.rest < now_ns && first.is_none_or(|(_, earliest)| word.rest < earliest) {
                first = Some((number, word.rest));
            }
        }
        let Some((number, tat_ns)) = first else {
            return if self.header.load() == header { Wish::Full } else { Wish::Again };
        };
        let intention = Word { key, rest: tat_ns << SLOT_BITS | number };
        self.header.swap(header, intention).map_or(Wish::Again, |()| Wish::Intended(intention))
    }

    /// Completes an intention that was seen in the header, whoever published it: steps 3 and 4.
    pub(super) fn complete(&self, intention: Word) {
        self.fulfil(intention);
        self.close(intention);
    }

    /// Every slot with its number, from the key's own place on: most keys lie there or next to it, in the first cache line that is read.
    fn slots_from_home(&self, key: u64) -> impl Iterator<Item = (&'a C, u64)> {
        let home = key % self.slots.len() as u64;
        let (before, after) = self.slots.split_at(home as usize);
        after.iter().zip(home..).chain(before.iter().zip(0..))
    }

    fn fulfil(&self, intention: Word) {
        let (tat_ns, number) = (intention.rest >> SLOT_BITS, intention.rest & ((1 << SLOT_BITS) - 1));
        let Some(slot) = self.slots.get(number as usize) else { return };
        let word = slot.load();
        if word.rest == tat_ns && word.key != intention.key {
            // Failed: another has fulfilled it, or the holder was charged.
            let _ = slot.swap(word, Word { key: intention.key, rest: tat_ns + 1 });
        }
    }

    fn close(&self, intention: Word) {
        let idle = Word { key: NO_KEY, rest: intention.rest.wrapping_add(1 << SLOT_BITS) };
        // Failed: another has closed it.
        let _ = self.header.swap(intention, idle);
    }
}

/// Whether no gateway wrote this: it is further ahead than any quota can reach.
fn is_absurd(word: Word, now_ns: u64) -> bool {
    word.rest > now_ns.saturating_add(LONGEST_TOLERANCE_NS)
}

/// Empties a slot with an absurd tat. What it gets has passed, and is later than all that the slot can have had before.
fn empty<C: Cell>(slot: &C, word: Word, now_ns: u64, mended: &mut Mended) {
    let empty = Word { key: NO_KEY, rest: now_ns.saturating_sub(1) };
    if slot.swap(word, empty).is_ok() {
        mended.0 = mended.0.saturating_add(1);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
