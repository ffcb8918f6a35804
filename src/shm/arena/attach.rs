//! Becoming the writer: one walk over the records says what is there, what is free, and mends the chains. Readers go on meanwhile.
//!
//! ```text
//!   committed, sound          kept; its runs are claimed, its chain has it once
//!   writing or dying          free, unless a living process pins it: then it is waited for
//!   anything else             free
//!   slots of dead processes   their pins are cleared first
//! ```
//!
//! A record is sound when its checksum matches, its runs and its head lie inside and overlap nothing that was claimed before, and the object
//! fits into its runs. Bodies are not read here: each is compared with its checksum when it is first found ([`super::Pinned`]).

use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::record::{Record, SLOTS};
use super::{Arena, Run, SEQUENCE, SLOT_WORDS, UNIT, Writer, clear_pins, slot_lock};
use crate::shm::buddy::{Buddy, Used};
use crate::shm::locks::Held;
use crate::shm::numbers::Numbers;
use crate::shm::protocol::{Count, MAX_CHAIN, NONE, Phase, State};

/// An object that was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survivor {
    /// Its record.
    pub record: u32,
    /// By what it is found.
    pub primary: u128,
    /// See [`super::Object::variance`].
    pub variance: u64,
    /// See [`super::Object::sequence`].
    pub sequence: u64,
    /// Bytes that it takes.
    pub size: usize,
    /// What was said of it to [`Arena::set_lane`].
    pub lane: u8,
}

/// What a new writer finds.
#[derive(Debug)]
pub struct Attached {
    /// The writer.
    pub writer: Writer,
    /// What is there, in the order of the records.
    pub survivors: Vec<Survivor>,
    /// Objects that were being written or taken away when their writer died.
    pub unfinished: usize,
    /// Records that contradicted themselves or others.
    pub unsound: usize,
    /// Slots of dead processes that were cleared.
    pub cleared: usize,
}

struct Scan {
    arena: &'static Arena,
    used: Used,
    free: Numbers,
    alive: Numbers,
    survivors: Vec<Survivor>,
    waiting: Vec<(u32, u32)>,
    unfinished: usize,
    unsound: usize,
    /// Slots in which something is pinned, one bit each.
    pinning: u8,
    /// The largest number of an object that was there.
    newest: u64,
}

impl Arena {
    /// Makes the holder of the lease the writer.
    ///
    /// # Errors
    /// When the file system has no locks.
    pub fn attach(&'static self, lease: Held) -> io::Result<Attached> {
        let cleared = self.clear_dead_slots()?;
        let count = self.geometry.records;
        let mut scan = Scan {
            arena: self,
            used: Used::none(self.geometry.units),
            free: Numbers::none(count),
            alive: Numbers::none(count),
            survivors: Vec::new(),
            waiting: Vec::new(),
            unfinished: 0,
            unsound: 0,
            pinning: 0,
            newest: 0,
        };
        if self.is_blank.swap(false, SeqCst) {
            scan.free = Numbers::all(count);
        } else {
            (0..count).for_each(|number| scan.look(number));
            scan.mend_chains();
        }
        self.clear_strays(scan.pinning)?;
        self.mend_sequence(scan.newest);
        let mut writer = Writer::new(self, lease, Buddy::of(&scan.used), scan.free);
        for (number, units) in scan.waiting {
            writer.wait_for(number, units);
        }
        writer.reclaim_all();
        Ok(Attached {
            writer,
            survivors: scan.survivors,
            unfinished: scan.unfinished,
            unsound: scan.unsound,
            cleared,
        })
    }

    /// Takes back the pins of processes that are gone. Returns how many there were.
    pub(super) fn clear_dead_slots(&'static self) -> io::Result<usize> {
        let mut cleared = 0;
        for slot in (0..SLOTS).filter(|slot| *slot != self.slot) {
            let Some(word) = self.own.get(SLOT_WORDS + slot).filter(|word| word.load(SeqCst) != 0) else {
                continue;
            };
            // The lock keeps a newcomer out of it meanwhile.
            let Some(_held) = self.region.try_lock(slot_lock(slot))? else { continue };
            if word.load(SeqCst) != 0 {
                clear_pins(self.records, slot);
                word.store(0, SeqCst);
                cleared += 1;
            }
        }
        Ok(cleared)
    }

    /// Takes back pins in slots that nobody has and nobody had: no process made them.
    fn clear_strays(&'static self, pinning: u8) -> io::Result<()> {
        for slot in (0..SLOTS).filter(|slot| *slot != self.slot && pinning & 1 << slot != 0) {
            let Some(_held) = self.region.try_lock(slot_lock(slot))? else { continue };
            if self.own.get(SLOT_WORDS + slot).is_some_and(|word| word.load(SeqCst) == 0) {
                clear_pins(self.records, slot);
            }
        }
        Ok(())
    }

    /// The next object is newer than all that are there; their numbers are under a checksum, the last one is not.
    fn mend_sequence(&self, newest: u64) {
        let last = self.word(SEQUENCE);
        if !(newest..u64::MAX / 2).contains(&last.load(SeqCst)) {
            last.store(newest, SeqCst);
        }
    }
}

impl Scan {
    fn look(&mut self, number: u32) {
        let Some(record) = self.arena.records.get(number as usize) else { return };
        let state = State(record.state.load(SeqCst));
        for (slot, _) in record.pins.iter().enumerate().filter(|(_, pins)| pins.now() > 0) {
            self.pinning |= 1 << slot;
        }
        match state.phase() {
            Phase::Free => self.free.insert(number),
            Phase::Committed => match self.claim_sound(record) {
                Some(size) => {
                    self.alive.insert(number);
                    self.newest = self.newest.max(record.sequence.load(Relaxed));
                    self.survivors.push(Survivor {
                        record: number,
                        primary: record.primary(),
                        variance: record.variance.load(Relaxed),
                        sequence: record.sequence.load(Relaxed),
                        size,
                        lane: record.lane.load(Relaxed),
                    });
                }
                None => {
                    self.unsound += 1;
                    self.end(number, record, state);
                }
            },
            Phase::Writing | Phase::Dying => {
                self.unfinished += 1;
                self.end(number, record, state);
            }
        }
    }

    /// Frees a record, or waits for a living process that pins it.
    fn end(&mut self, number: u32, record: &Record, state: State) {
        record.state.store(state.in_phase(Phase::Dying).0, SeqCst);
        let is_pinned = record.pins.iter().any(|pins| pins.now() > 0);
        if is_pinned && let Some(units) = self.claim_all(record) {
            self.waiting.push((number, units));
            return;
        }
        // Nothing of it was claimed, so that nothing of it may be given back later.
        record.run_count.store(0, Relaxed);
        record.head.store(0, SeqCst);
        if is_pinned {
            // Whoever pins it finds nothing in it any more, and nothing of another object.
            self.waiting.push((number, 0));
            return;
        }
        record.state.store(state.in_phase(Phase::Free).0, SeqCst);
        self.free.insert(number);
    }

    /// The size of a record that can be believed, with its units claimed.
    fn claim_sound(&mut self, record: &Record) -> Option<usize> {
        if record.sum.load(Relaxed) != record.fixed_sum() {
            return None;
        }
        let runs = self.arena.geometry.runs(self.arena.region, record)?;
        let room: usize = runs.iter().map(|run| run.bytes()).sum();
        let (body_at, body) = (record.body_at.load(Relaxed), record.body_bytes.load(Relaxed));
        let end = (body_at as usize).checked_add(body as usize)?;
        let (start, head) = record.head();
        let first = runs.first()?;
        let is_inside = start != first.start || (head <= body_at && head as usize <= first.bytes());
        let is_sound = head > 0 && end <= room && is_inside;
        if !is_sound || self.arena.geometry.head(start, head).is_none() {
            return None;
        }
        Some(self.claim_all(record)? as usize * UNIT)
    }

    /// Claims the runs of a record, that of their list and a head of its own. `None`: nothing is claimed.
    fn claim_all(&mut self, record: &Record) -> Option<u32> {
        self.arena.geometry.runs(self.arena.region, record)?;
        let runs = self.arena.all_runs(record);
        for (index, run) in runs.iter().enumerate() {
            if !self.used.claim(run.start, run.units) {
                runs.iter().take(index).for_each(|Run { start, units }| self.used.unclaim(*start, *units));
                return None;
            }
        }
        Some(runs.iter().map(|run| run.units).sum())
    }

    /// Takes out of the chains what does not belong there, and puts in what is missing; of two of one key the newer stays.
    fn mend_chains(&mut self) {
        let mut linked = Numbers::none(self.arena.geometry.records);
        for index in 0..self.arena.first.len() {
            self.mend_chain(index, &mut linked);
        }
        for number in 0..self.arena.geometry.records {
            if self.alive.contains(number) && !linked.contains(number) {
                self.link(number);
            }
        }
        let alive = &self.alive;
        self.survivors.retain(|survivor| alive.contains(survivor.record));
    }

    fn mend_chain(&mut self, index: usize, linked: &mut Numbers) {
        let Some(mut link) = self.arena.first.get(index) else { return };
        let mut seen: Vec<u32> = Vec::new();
        // No longer than readers go: it may be a ring of what belongs elsewhere. What is behind is put in again.
        for _ in 0..MAX_CHAIN {
            let at = link.load(SeqCst);
            let Some(record) = self.arena.records.get(at as usize).filter(|_| at != NONE) else {
                link.store(NONE, SeqCst);
                return;
            };
            if linked.contains(at) {
                // A ring, or the chain of another place.
                link.store(NONE, SeqCst);
                return;
            }
            let belongs = self.alive.contains(at) && self.arena.chain_index(record.primary()) == index;
            let twin = seen.iter().copied().find(|other| self.are_twins(*other, at));
            if belongs && twin.is_none() {
                linked.insert(at);
                seen.push(at);
                link = &record.next;
                continue;
            }
            link.store(record.next.load(SeqCst), SeqCst);
            if belongs {
                // The newer is in front: it was linked later.
                self.drop_object(at);
            }
        }
        link.store(NONE, SeqCst);
    }

    fn link(&mut self, number: u32) {
        let Some(record) = self.arena.records.get(number as usize) else { return };
        let Some(first) = self.arena.chain(record.primary()) else { return };
        let mut at = first.load(SeqCst);
        while let Some(other) = self.arena.records.get(at as usize).filter(|_| at != NONE) {
            let next = other.next.load(SeqCst);
            if self.are_twins(at, number) {
                if record.sequence.load(Relaxed) < other.sequence.load(Relaxed) {
                    self.drop_object(number);
                    return;
                }
                self.drop_object(at);
            }
            at = next;
        }
        crate::shm::protocol::link(first, &record.next, number);
    }

    fn are_twins(&self, one: u32, other: u32) -> bool {
        let key = |number: u32| {
            let record = self.arena.records.get(number as usize)?;
            Some((record.primary(), record.variance.load(Relaxed)))
        };
        one != other && key(one) == key(other)
    }

    /// Takes away an object that a newer one has replaced.
    fn drop_object(&mut self, number: u32) {
        let Some(record) = self.arena.records.get(number as usize) else { return };
        let wanted = super::Wanted {
            arena: self.arena,
            primary: record.primary(),
            variance: record.variance.load(Relaxed),
        };
        crate::shm::protocol::unlink(&wanted, number);
        self.alive.remove(number);
        let state = State(record.state.load(SeqCst));
        record.state.store(state.in_phase(Phase::Dying).0, SeqCst);
        let units = self.arena.all_runs(record).iter().map(|run| run.units).sum();
        self.waiting.push((number, units));
    }
}
