//! The set under every order of steps that loom can think of: with one slot or two, and words of 64 bits.

use super::*;
use crate::limit::gcra::{Decision, Quota};
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use std::num::NonZeroU32;
use std::time::Duration;

/// A word in 64 bits: 32 for the key, 32 for the rest.
impl Cell for AtomicU64 {
    fn load(&self) -> Word {
        narrow(self.load(SeqCst))
    }

    fn swap(&self, from: Word, to: Word) -> Result<(), Word> {
        self.compare_exchange(widened(from), widened(to), SeqCst, SeqCst).map(drop).map_err(narrow)
    }
}

fn widened(word: Word) -> u64 {
    let half = |half: u64| u64::from(u32::try_from(half).expect("a small number"));
    half(word.key) << 32 | half(word.rest)
}

fn narrow(word: u64) -> Word {
    Word { key: word >> 32, rest: word & u64::from(u32::MAX) }
}

const NOW: u64 = 1000;

/// Two at once, then one in 100 ns each.
fn quota() -> Quota {
    Quota::new(NonZeroU32::MIN, Duration::from_nanos(100), NonZeroU32::new(2).expect("not zero"))
}

struct Memory(Vec<AtomicU64>);

impl Memory {
    /// A set with these slots.
    fn of(slots: &[(u64, u64)]) -> Self {
        let header = Word { key: NO_KEY, rest: 0 };
        let slots = slots.iter().map(|&(key, rest)| Word { key, rest });
        Self([header].into_iter().chain(slots).map(|word| AtomicU64::new(widened(word))).collect())
    }

    fn set(&self) -> Set<'_, AtomicU64> {
        Set::of(&self.0)
    }

    /// One request of a key at `NOW`. `None`: the set is full.
    fn decide(&self, key: u64) -> Option<Decision> {
        let (set, mut mended) = (self.set(), Mended::default());
        loop {
            let decided = set.charge(key, NOW, &mut mended, |tat_ns| quota().step(tat_ns, NOW));
            if decided.is_some() {
                return decided;
            }
            match set.intend(key, NOW, &mut mended) {
                Wish::Intended(intention) => set.complete(intention),
                Wish::Again => {}
                Wish::Full => return None,
            }
        }
    }

    fn allowed(&self, key: u64, times: usize) -> usize {
        (0..times).filter(|_| self.decide(key).is_some_and(|decision| decision.allowed)).count()
    }

    /// The slots, in no order. Only when nobody works on them.
    fn slots(&self) -> Vec<Word> {
        let mut slots: Vec<Word> = self.0.iter().skip(1).map(Cell::load).collect();
        slots.sort_by_key(|word| word.key);
        slots
    }

    fn count(&self, key: u64) -> usize {
        self.slots().iter().filter(|word| word.key == key).count()
    }
}

/// Every order with at most so many moments at which one thread is taken from its core.
fn all_orders(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(check);
}

#[test]
fn two_that_insert_one_key_share_its_slot_and_its_burst() {
    all_orders(3, || {
        let memory = Arc::new(Memory::of(&[(0, 0), (0, 0)]));
        let other = memory.clone();
        let thread = thread::spawn(move || other.allowed(5, 2));
        let passed = memory.allowed(5, 1) + thread.join().expect("no panic");
        assert_eq!(passed, 2, "the burst");
        assert_eq!(memory.count(5), 1, "one slot for one key");
    });
}

#[test]
fn a_holder_that_is_charged_while_it_should_make_way_stays() {
    all_orders(3, || {
        // The holder has come to rest, so a stranger may have its slot; and it comes back just now.
        let memory = Arc::new(Memory::of(&[(7, NOW - 10)]));
        let other = memory.clone();
        let thread = thread::spawn(move || other.allowed(5, 3));
        let holder = memory.allowed(7, 3);
        let stranger = thread.join().expect("no panic");
        // One slot: who comes second finds it taken, and is not decided here.
        assert!(holder == 2 && stranger == 0 || holder == 0 && stranger == 2, "{holder} and {stranger}");
        let tat = NOW + 200;
        let winner = if holder == 2 { 7 } else { 5 };
        assert_eq!(
            memory.slots(),
            [Word { key: winner, rest: tat }],
            "charged for what passed, and nothing else"
        );
    });
}

#[test]
fn an_intention_of_one_who_died_is_completed_by_who_meets_it() {
    all_orders(3, || {
        let memory = Arc::new(Memory::of(&[(0, 0), (7, NOW - 10)]));
        let (dies, lives) = (memory.clone(), memory.clone());
        let killed = thread::spawn(move || {
            // As far as this, and never on.
            let _ = dies.set().intend(6, NOW, &mut Mended::default());
        });
        let thread = thread::spawn(move || lives.allowed(5, 3));
        let passed = memory.allowed(5, 1) + thread.join().expect("no panic");
        killed.join().expect("no panic");
        assert_eq!(passed, 2, "the burst, whatever the dead one left");
        assert_eq!((memory.count(5), memory.count(6) <= 1), (1, true));
        assert_eq!(memory.allowed(6, 3) % 2, 0, "nothing was used up for it: its burst, or the set is full");
    });
}

#[test]
fn one_that_died_between_the_slot_and_the_header_leaves_a_key_at_rest() {
    all_orders(3, || {
        let memory = Arc::new(Memory::of(&[(0, 0), (0, 0)]));
        let dies = memory.clone();
        let killed = thread::spawn(move || {
            if let Wish::Intended(intention) = dies.set().intend(5, NOW, &mut Mended::default()) {
                dies.set().fulfil(intention);
            }
        });
        let passed = memory.allowed(5, 3);
        killed.join().expect("no panic");
        assert_eq!((passed, memory.count(5)), (2, 1));
        assert_eq!(memory.allowed(6, 3), 2, "the other slot is there for the next");
    });
}

#[test]
fn many_may_complete_one_intention_and_it_is_carried_out_once() {
    all_orders(3, || {
        let memory = Arc::new(Memory::of(&[(7, NOW - 10), (0, 0)]));
        let Wish::Intended(intention) = memory.set().intend(5, NOW, &mut Mended::default()) else {
            unreachable!("nobody else is there")
        };
        let late = memory.clone();
        // This one saw it and may be late: after others have closed it and gone on.
        let helper = thread::spawn(move || late.set().complete(intention));
        memory.set().complete(intention);
        assert_eq!(memory.allowed(5, 3), 2);
        assert_eq!(memory.allowed(6, 3), 2, "takes the slot of 7");
        helper.join().expect("no panic");
        let tat = NOW + 200;
        assert_eq!(memory.slots(), [Word { key: 5, rest: tat }, Word { key: 6, rest: tat }]);
        assert_eq!(memory.0.first().map(Cell::load).map(|header| header.key), Some(NO_KEY), "closed");
    });
}
