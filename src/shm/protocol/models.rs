//! The protocol under a model checker: every order in which few threads can take their steps, and every value that a load may then see.
//!
//! Each model is also run with a mistake in the protocol, which it has to find.
//!
//! Loom takes an access that is sequentially consistent for one that only acquires or releases, so each stands between two fences, which it
//! models in full. What a record holds is read and written `Relaxed`, as in the arena: only the protocol keeps it whole.

use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::*;

/// A word of the model.
struct Fenced<A>(A);

fn fenced<T>(access: impl FnOnce() -> T) -> T {
    fence(SeqCst);
    let value = access();
    fence(SeqCst);
    value
}

macro_rules! fenced_word {
    ($atomic:ty, $value:ty) => {
        impl Word<$value> for Fenced<$atomic> {
            fn load(&self) -> $value {
                fenced(|| self.0.load(SeqCst))
            }
            fn store(&self, value: $value) {
                fenced(|| self.0.store(value, SeqCst));
            }
            fn replace(&self, old: $value, new: $value) -> bool {
                fenced(|| self.0.compare_exchange(old, new, SeqCst, SeqCst).is_ok())
            }
        }
    };
}

fenced_word!(AtomicU64, u64);
fenced_word!(AtomicU32, u32);

impl Count for Fenced<AtomicU16> {
    fn up(&self) -> u16 {
        fenced(|| self.0.fetch_add(1, SeqCst))
    }
    fn down(&self) {
        fenced(|| self.0.fetch_sub(1, SeqCst));
    }
    fn now(&self) -> u16 {
        fenced(|| self.0.load(SeqCst))
    }
}

type State64 = Fenced<AtomicU64>;
type Pins = Fenced<AtomicU16>;

/// A record: in the first generation an object of a key.
struct Record {
    state: State64,
    pins: [Pins; SLOTS],
    next: Fenced<AtomicU32>,
    key: AtomicU64,
    /// What stands for all bytes of the object: its key and its generation.
    body: AtomicU64,
}

impl Record {
    fn new(key: u64, next: u32) -> Self {
        let state = State(1 << 2 | Phase::Committed as u64);
        Self {
            state: Fenced(AtomicU64::new(state.0)),
            pins: [0; SLOTS].map(|pins| Fenced(AtomicU16::new(pins))),
            next: Fenced(AtomicU32::new(next)),
            key: AtomicU64::new(key),
            body: AtomicU64::new(body(key, 1)),
        }
    }

    fn seen(&self) -> State {
        State(self.state.load())
    }

    /// What a hit does with an object that it has pinned.
    fn read(&self, key: u64, seen: State) {
        for _ in 0..2 {
            assert_eq!(self.body.load(Relaxed), body(key, seen.generation()), "the bytes that were pinned");
        }
    }

    fn is_unpinned(&self) -> bool {
        self.pins.iter().all(|pins| pins.now() == 0)
    }
}

fn body(key: u64, generation: u64) -> u64 {
    key << 32 | generation
}

/// The steps of the protocol, so that each can be exchanged for a wrong one.
#[derive(Clone, Copy)]
struct Steps {
    pin: fn(&State64, &Pins, State) -> Pinning,
    kill: fn(&State64, State) -> bool,
    free: fn(&State64, &[Pins], State) -> bool,
    next_life: fn(State) -> State,
    find: fn(&Chain<'_>) -> Option<(u32, State)>,
    is_filled: Filled,
    /// Whether who clears the slot of a dead process holds its lock.
    is_locked: bool,
}

/// When an object's bytes are there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    BeforeCommit,
    AfterCommit,
}

const RIGHT: Steps = Steps {
    pin: pin::<State64, Pins>,
    kill: kill::<State64>,
    free: free::<State64, Pins>,
    next_life: State::next_life,
    find: |chain| find(chain),
    is_filled: Filled::BeforeCommit,
    is_locked: true,
};

impl Steps {
    /// A hit of a process, on an object that it has seen.
    fn hit(&self, record: &Record, slot: usize, key: u64) {
        let seen = record.seen();
        if seen.phase() == Phase::Committed {
            self.hold(record, slot, key, seen);
        }
    }

    fn hold(&self, record: &Record, slot: usize, key: u64, seen: State) {
        let pins = &record.pins[slot];
        if (self.pin)(&record.state, pins, seen) == Pinning::Pinned {
            record.read(key, seen);
            unpin(pins);
        }
    }

    /// The end of an object. True if its bytes may be another's.
    fn end(&self, record: &Record) -> bool {
        let seen = record.seen();
        (self.kill)(&record.state, seen);
        (self.free)(&record.state, &record.pins, seen)
    }

    /// Another object in a record that is free, as `Writer::take` and `Writer::commit` make it.
    fn reuse(&self, record: &Record, key: u64) {
        let state = (self.next_life)(record.seen());
        let fill = || {
            record.key.store(key, Relaxed);
            record.body.store(body(key, state.generation()), Relaxed);
        };
        record.pins[WRITER].up();
        record.state.store(state.0);
        if self.is_filled == Filled::BeforeCommit {
            fill();
        }
        record.state.store(state.in_phase(Phase::Committed).0);
        if self.is_filled == Filled::AfterCommit {
            fill();
        }
        record.pins[WRITER].down();
    }
}

/// Two chains: in the first one the second record stands in front of the first, the other one is empty.
struct Table {
    first: [Fenced<AtomicU32>; 2],
    records: [Record; 2],
}

/// A look for a key in the first chain.
struct Chain<'a> {
    table: &'a Table,
    index: usize,
    key: u64,
}

impl Chains for Chain<'_> {
    type Link = Fenced<AtomicU32>;
    type State = State64;

    fn first(&self) -> &Self::Link {
        &self.table.first[self.index]
    }
    fn next(&self, record: u32) -> Option<&Self::Link> {
        self.table.records.get(record as usize).map(|record| &record.next)
    }
    fn state(&self, record: u32) -> Option<&State64> {
        self.table.records.get(record as usize).map(|record| &record.state)
    }
    fn is_it(&self, record: u32) -> bool {
        self.table.records.get(record as usize).is_some_and(|record| record.key.load(Relaxed) == self.key)
    }
}

impl Table {
    fn new() -> Self {
        Self {
            first: [1, NONE].map(|first| Fenced(AtomicU32::new(first))),
            records: [Record::new(0, NONE), Record::new(1, 0)],
        }
    }

    fn chain(&self, index: usize, key: u64) -> Chain<'_> {
        Chain { table: self, index, key }
    }
}

/// Runs a model over all orders, or over those with at most so many switches away from a thread that could have gone on.
fn check(most_switches: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = most_switches;
    builder.check(model);
}

/// Readers of two processes, while the writer ends the object and makes another in its place.
///
/// All orders of its three threads are 200 000 and take 15 s; those with five switches are a tenth of them.
fn readers_and_the_end_of_an_object(steps: Steps) {
    check(Some(5), move || {
        let record = Arc::new(Record::new(7, NONE));
        let readers = [0, 1].map(|slot| {
            let record = Arc::clone(&record);
            thread::spawn(move || steps.hit(&record, slot, 7))
        });
        let is_free = steps.end(&record);
        if is_free {
            steps.reuse(&record, 7);
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert!(record.is_unpinned(), "nothing is kept for ever");
        if !is_free {
            let state = record.seen();
            assert!(free(&record.state, &record.pins, state), "who waits gets it in the end");
        }
    });
}

/// A reader walks along a chain, while a record on its way is taken out and put into another chain.
fn a_walk_and_a_record_that_goes_elsewhere(steps: Steps, key: u64) {
    check(None, move || {
        let table = Arc::new(Table::new());
        let reader = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                if let Some((record, seen)) = (steps.find)(&table.chain(0, key)) {
                    steps.hold(&table.records[record as usize], 0, key, seen);
                }
            }
        });
        unlink(&table.chain(0, 1), 1);
        let gone = &table.records[1];
        if steps.end(gone) {
            steps.reuse(gone, 2);
            link(&table.first[1], &gone.next, 1);
        }
        reader.join().unwrap();
        let there = |index, key| find(&table.chain(index, key)).map(|(record, _)| record);
        assert_eq!((there(0, 0), there(0, 1)), (Some(0), None), "the chain without it");
    });
}

/// A reader looks for an object, while the writer stores another for the same key, as `Desk::store` does: the new one first.
fn a_look_for_what_is_replaced(steps: Steps) {
    check(None, move || {
        let mut table = Table::new();
        table.first = [0, NONE].map(|first| Fenced(AtomicU32::new(first)));
        table.records[1].state = Fenced(AtomicU64::new(State(1 << 2).in_phase(Phase::Free).0));
        let table = Arc::new(table);
        let reader = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                let (record, seen) = (steps.find)(&table.chain(0, 0)).expect("one of the two is there");
                steps.hold(&table.records[record as usize], 0, 0, seen);
            }
        });
        let [old, new] = &table.records;
        steps.reuse(new, 0);
        link(&table.first[0], &new.next, 1);
        unlink(&table.chain(0, 0), 0);
        steps.end(old);
        reader.join().unwrap();
    });
}

/// A process died with a pin. The writer clears its slot, while another process takes it and reads.
fn a_dead_slot_and_its_successor(steps: Steps) {
    const SLOT: usize = 0;
    check(None, move || {
        let record = Arc::new(Record::new(7, NONE));
        record.pins[SLOT].up();
        let word = Arc::new(Fenced(AtomicU64::new(DEAD)));
        let lock = Arc::new(Mutex::new(()));
        let successor = thread::spawn({
            let (record, word, lock) = (Arc::clone(&record), Arc::clone(&word), Arc::clone(&lock));
            move || {
                // As `take_slot`; the lock is held for as long as the process lives.
                let Ok(_held) = lock.try_lock() else { return };
                if word.load() != 0 {
                    fenced(|| record.pins[SLOT].0.store(0, SeqCst));
                }
                word.store(SUCCESSOR);
                steps.hit(&record, SLOT, 7);
                assert_eq!(record.pins[SLOT].now(), 0, "its own pins are counted right");
            }
        });
        // As `clear_dead_slots`.
        let clear = || {
            if word.load() != 0 {
                fenced(|| record.pins[SLOT].0.store(0, SeqCst));
                word.store(0);
            }
        };
        if word.load() != 0 {
            if !steps.is_locked {
                clear();
            } else if let Ok(_held) = lock.try_lock() {
                clear();
            }
        }
        if steps.end(&record) {
            steps.reuse(&record, 7);
        }
        successor.join().unwrap();
        assert!(record.is_unpinned(), "nothing is kept for ever");
    });
}

/// A reader copies the head of an object that it has pinned, while the writer exchanges it and writes over the old one.
fn a_head_that_is_exchanged(is_pinned_first: bool) {
    check(None, move || {
        let record = Arc::new(Record::new(7, NONE));
        let head = Arc::new(Fenced(AtomicU64::new(0)));
        let places = Arc::new([10, 20].map(AtomicU64::new));
        let reader = thread::spawn({
            let (record, head, places) = (Arc::clone(&record), Arc::clone(&head), Arc::clone(&places));
            move || {
                let seen = record.seen();
                let before = head.load();
                let is_pinned = pin(&record.state, &record.pins[0], seen) == Pinning::Pinned;
                assert!(is_pinned, "nobody ends it");
                let at = if is_pinned_first { head.load() } else { before };
                let read = places[at as usize].load(Relaxed);
                assert!([10, 20].contains(&read), "a head of this object: {read}");
                unpin(&record.pins[0]);
            }
        });
        head.store(1);
        if record.is_unpinned() {
            places[0].store(99, Relaxed);
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_pinned_object_is_not_reused() {
    readers_and_the_end_of_an_object(RIGHT);
}

#[test]
fn a_walk_ends_at_what_was_looked_for_or_at_nothing() {
    for key in [0, 1] {
        a_walk_and_a_record_that_goes_elsewhere(RIGHT, key);
    }
}

#[test]
fn what_is_replaced_is_always_found() {
    a_look_for_what_is_replaced(RIGHT);
}

#[test]
fn who_takes_the_slot_of_the_dead_keeps_its_pins() {
    a_dead_slot_and_its_successor(RIGHT);
}

#[test]
fn a_head_stays_for_who_pinned_before_it_looked() {
    a_head_that_is_exchanged(true);
}

#[test]
#[should_panic(expected = "the bytes that were pinned")]
fn found_a_pin_after_the_look_at_the_state() {
    let pin = |state: &State64, pins: &Pins, seen: State| {
        if state.load() != seen.0 {
            return Pinning::Changed;
        }
        pins.up();
        Pinning::Pinned
    };
    readers_and_the_end_of_an_object(Steps { pin, ..RIGHT });
}

#[test]
#[should_panic(expected = "the bytes that were pinned")]
fn found_a_writer_that_looks_at_the_pins_before_it_ends_the_object() {
    let kill = |_: &State64, _: State| true;
    readers_and_the_end_of_an_object(Steps { kill, ..RIGHT });
}

#[test]
#[should_panic(expected = "the bytes that were pinned")]
fn found_a_writer_that_forgets_the_pins_of_another_process() {
    let free = |state: &State64, pins: &[Pins], seen: State| free(state, &pins[..1], seen);
    readers_and_the_end_of_an_object(Steps { free, ..RIGHT });
}

#[test]
#[should_panic(expected = "the bytes that were pinned")]
fn found_a_life_without_a_generation_of_its_own() {
    let next_life = |state: State| state.in_phase(Phase::Writing);
    a_walk_and_a_record_that_goes_elsewhere(Steps { next_life, ..RIGHT }, 1);
}

#[test]
#[should_panic(expected = "the bytes that were pinned")]
fn found_a_commit_before_the_bytes_are_there() {
    readers_and_the_end_of_an_object(Steps { is_filled: Filled::AfterCommit, ..RIGHT });
}

#[test]
#[should_panic(expected = "nothing is kept for ever")]
fn found_a_pin_that_is_not_taken_back() {
    let pin = |state: &State64, pins: &Pins, seen: State| {
        pins.up();
        if state.load() == seen.0 { Pinning::Pinned } else { Pinning::Changed }
    };
    readers_and_the_end_of_an_object(Steps { pin, ..RIGHT });
}

#[test]
#[should_panic(expected = "the bytes that were pinned")]
fn found_a_walk_that_takes_the_state_after_the_key() {
    let find = |chain: &Chain<'_>| {
        let mut at = chain.first().load();
        while at != NONE {
            let is_it = chain.is_it(at);
            let seen = State(chain.state(at)?.load());
            if is_it && seen.phase() == Phase::Committed {
                return Some((at, seen));
            }
            at = chain.next(at)?.load();
        }
        None
    };
    a_walk_and_a_record_that_goes_elsewhere(Steps { find, ..RIGHT }, 1);
}

#[test]
#[should_panic(expected = "one of the two is there")]
fn found_a_walk_that_passes_by_the_dead() {
    let find = |chain: &Chain<'_>| {
        let mut at = chain.first().load();
        while at != NONE {
            let seen = State(chain.state(at)?.load());
            if seen.phase() == Phase::Committed && chain.is_it(at) {
                return Some((at, seen));
            }
            at = chain.next(at)?.load();
        }
        None
    };
    a_look_for_what_is_replaced(Steps { find, ..RIGHT });
}

#[test]
#[should_panic(expected = "its own pins are counted right")]
fn found_a_slot_that_is_cleared_without_its_lock() {
    a_dead_slot_and_its_successor(Steps { is_locked: false, ..RIGHT });
}

#[test]
#[should_panic(expected = "a head of this object")]
fn found_a_look_at_the_head_before_the_pin() {
    a_head_that_is_exchanged(false);
}

/// Slots of processes: two that read, and the writer's.
const SLOTS: usize = 3;
const WRITER: usize = 2;
/// Process numbers.
const DEAD: u64 = 1;
const SUCCESSOR: u64 = 2;
