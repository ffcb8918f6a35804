//! The exact limiter: one arrival time per key, in memory that is fixed when the table is made.
//!
//! Keys fall into sets of eight slots. A known key is one scan of its set and one compare-and-swap; it never waits for
//! anybody. A new key takes an empty slot or one whose arrival time has passed, and a passed time holds no information,
//! so making way loses nothing. If all eight are live, the newcomer is decided by [`Overflow`] and counted: strangers
//! cannot push a known client out.
//!
//! ```text
//!      set:   version   even: at rest, odd: one slot is changing hands
//!      slot:  key       0 empty, 1 changing hands, else a Key
//!             tat_ns    only ever grows, also when the slot changes hands
//! ```
//!
//! Why no charge is lost or counted for another key: a slot changes hands as `key = 1`, `tat: old -> new`, `key = new`.
//! A reader loads `tat`, then sees its own key still there, then swaps `tat` from the value it loaded. Had the slot
//! changed hands before that swap, `tat` would have grown and the swap fails. Why one key never has two slots: who
//! inserts has read `version` before its scan and moves it from that very value, so nobody inserted since the scan.
//! All accesses are `SeqCst`: the argument above needs one order over two words, and on x86 loads cost the same.

use super::gcra::{Decision, Quota};
use super::key::{FIRST_KEY, Key};
use super::overflow::Overflow;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Slots in a set: two cache lines of words to scan.
const WAYS: usize = 8;

const EMPTY: u64 = 0;
const CHANGING: u64 = 1;
const _: () = assert!(CHANGING < FIRST_KEY, "marks are no keys");

#[derive(Default)]
struct Slot {
    key: AtomicU64,
    tat_ns: AtomicU64,
}

#[derive(Default)]
struct Set {
    version: AtomicU64,
    slots: [Slot; WAYS],
}

/// Limits of every kind over one bounded memory. Lives as long as the process, so a reload forgets nobody.
pub struct Table {
    sets: Box<[Set]>,
    overflow: Overflow,
    tracked: AtomicU64,
    overflowed: AtomicU64,
}

/// What a table counts about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Slots in use, those at rest included. Never more than the capacity.
    pub tracked: u64,
    /// Requests decided by estimate, because eight live keys held their set. Only grows.
    pub overflowed: u64,
}

/// What one look at a set came to.
enum Look {
    Decided(Decision),
    /// The set changed meanwhile.
    Again,
    Full,
}

impl Table {
    /// A table for `capacity_keys` keys, rounded up to a multiple of eight: 17 bytes each, and 128 KiB for the overflow.
    ///
    /// Sets fill unevenly: up to about half the capacity live at once, next to no newcomer is estimated.
    #[must_use]
    pub fn new(capacity_keys: usize) -> Self {
        let sets = capacity_keys.div_ceil(WAYS).max(1);
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            overflow: Overflow::new(),
            tracked: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        }
    }

    /// Decides one request of `key` at `now_ns`, nanoseconds on a clock that never goes back. An allowed one is charged.
    ///
    /// Exact over all threads: of any number of requests at one instant exactly as many pass as the quota allows.
    pub fn decide(&self, key: Key, quota: &Quota, now_ns: u64) -> Decision {
        let set = self.set(key);
        let mut tries = 0u32;
        loop {
            match self.look(set, key, quota, now_ns) {
                Look::Decided(decision) => return decision,
                Look::Full => {
                    self.overflowed.fetch_add(1, SeqCst);
                    return self.overflow.decide(key, quota, now_ns);
                }
                // Some other thread is a few instructions away from being done, unless it lost its core.
                Look::Again if tries < 64 => std::hint::spin_loop(),
                Look::Again => std::thread::yield_now(),
            }
            tries = tries.saturating_add(1);
        }
    }

    /// What `key` has left at `now_ns`, without using anything up: `allowed` is what the next request would be told. For people; a
    /// key that changes hands at this very moment may look as if it were at rest.
    pub fn peek(&self, key: Key, quota: &Quota, now_ns: u64) -> Decision {
        let slots = &self.set(key).slots;
        let held = slots.iter().find_map(|slot| {
            let tat_ns = slot.tat_ns.load(SeqCst);
            (slot.key.load(SeqCst) == key.0).then_some(tat_ns)
        });
        let is_full = || slots.iter().all(|slot| slot.tat_ns.load(SeqCst) > now_ns);
        match held {
            Some(tat_ns) => quota.peek(tat_ns, now_ns),
            None if is_full() => self.overflow.peek(key, quota, now_ns),
            None => quota.peek(0, now_ns),
        }
    }

    /// The counters, each read by itself.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { tracked: self.tracked.load(SeqCst), overflowed: self.overflowed.load(SeqCst) }
    }

    fn set(&self, key: Key) -> &Set {
        // The high bits of the key, spread over any number of sets without a division.
        let index = (u128::from(key.0) * self.sets.len() as u128) >> 64;
        self.sets.get(index as usize).expect("the product's high half is below the number of sets")
    }

    fn look(&self, set: &Set, key: Key, quota: &Quota, now_ns: u64) -> Look {
        let version = set.version.load(SeqCst);
        let mut free: Option<(&Slot, u64, u64)> = None;
        for slot in &set.slots {
            let held_by = slot.key.load(SeqCst);
            if held_by == key.0 {
                return charge(slot, key, quota, now_ns).map_or(Look::Again, Look::Decided);
            }
            let tat_ns = slot.tat_ns.load(SeqCst);
            // The longest at rest makes way first; an empty slot has rested since the start.
            if held_by != CHANGING && tat_ns <= now_ns && free.is_none_or(|(_, _, best_ns)| tat_ns < best_ns)
            {
                free = Some((slot, held_by, tat_ns));
            }
        }
        if !version.is_multiple_of(2) {
            return Look::Again;
        }
        match free {
            Some((slot, held_by, tat_ns)) => {
                let (decision, next_ns) = quota.step(0, now_ns);
                let next_ns = next_ns.unwrap_or(now_ns);
                // A new arrival time that is not later would break the argument at the top.
                if next_ns <= tat_ns {
                    return Look::Full;
                }
                if set.version.compare_exchange(version, version + 1, SeqCst, SeqCst).is_err() {
                    return Look::Again;
                }
                let taken = take(slot, held_by, tat_ns, key, next_ns);
                set.version.store(version.wrapping_add(2), SeqCst);
                if taken && held_by == EMPTY {
                    self.tracked.fetch_add(1, SeqCst);
                }
                if taken { Look::Decided(decision) } else { Look::Again }
            }
            None if set.version.load(SeqCst) != version => Look::Again,
            None => Look::Full,
        }
    }
}

/// Charges a slot that was seen to hold `key`. `None` if it no longer does.
fn charge(slot: &Slot, key: Key, quota: &Quota, now_ns: u64) -> Option<Decision> {
    loop {
        let tat_ns = slot.tat_ns.load(SeqCst);
        if slot.key.load(SeqCst) != key.0 {
            return None;
        }
        let (decision, next_ns) = quota.step(tat_ns, now_ns);
        let Some(next_ns) = next_ns else { return Some(decision) };
        if slot.tat_ns.compare_exchange(tat_ns, next_ns, SeqCst, SeqCst).is_ok() {
            return Some(decision);
        }
    }
}

/// Hands a slot over, unless its holder was charged since `tat_ns` was read. Only for who made the set's version odd.
fn take(slot: &Slot, held_by: u64, tat_ns: u64, key: Key, next_ns: u64) -> bool {
    slot.key.store(CHANGING, SeqCst);
    let taken = slot.tat_ns.compare_exchange(tat_ns, next_ns, SeqCst, SeqCst).is_ok();
    slot.key.store(if taken { key.0 } else { held_by }, SeqCst);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::num::NonZeroU32;
    use std::sync::Barrier;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    fn quota(requests: u32, seconds: u64) -> Quota {
        let requests = NonZeroU32::new(requests).expect("not zero");
        Quota::new(requests, Duration::from_secs(seconds), requests)
    }

    fn key(n: u64) -> Key {
        Key::new(7, &n.to_ne_bytes())
    }

    fn allowed(table: &Table, key: Key, quota: &Quota, now_ns: u64, times: usize) -> usize {
        (0..times).filter(|_| table.decide(key, quota, now_ns).allowed).count()
    }

    #[test]
    fn exactly_the_burst_passes_at_one_instant() {
        let table = Table::new(64);
        assert_eq!(allowed(&table, key(1), &quota(5, 60), 0, 20), 5);
        assert_eq!(allowed(&table, key(2), &quota(3, 60), 0, 20), 3, "keys do not share");
        assert_eq!(allowed(&table, key(1), &quota(5, 60), 12 * SECOND, 20), 1, "a fifth of the window later");
        assert_eq!(table.stats(), Stats { tracked: 2, overflowed: 0 });
    }

    #[test]
    fn keys_at_rest_make_way_and_lose_nothing() {
        let table = Table::new(8);
        for n in 0..100 {
            let _ = table.decide(key(n), &quota(1, 1), n * SECOND);
        }
        assert_eq!(table.stats(), Stats { tracked: 8, overflowed: 0 });
        assert_eq!(allowed(&table, key(0), &quota(1, 1), 100 * SECOND, 3), 1);
    }

    #[test]
    fn a_flood_of_strangers_does_not_move_a_known_client() {
        let table = Table::new(8);
        let quota = quota(4, 3600);
        assert_eq!(allowed(&table, key(0), &quota, 0, 2), 2);
        for n in 1..5000 {
            let _ = table.decide(key(n), &quota, 0);
        }
        assert_eq!(table.stats(), Stats { tracked: 8, overflowed: 4999 - 7 });
        assert_eq!(allowed(&table, key(0), &quota, 0, 20), 2, "what it had left, and no more");
    }

    #[test]
    fn a_newcomer_in_a_full_set_is_limited_too() {
        let table = Table::new(8);
        let quota = quota(4, 3600);
        for n in 0..8 {
            let _ = table.decide(key(n), &quota, 0);
        }
        assert_eq!(allowed(&table, key(8), &quota, 0, 100), 4);
    }

    /// Runs `work` on eight threads that begin together and adds up what they return.
    fn together(work: impl Fn(u64) -> usize + Sync) -> usize {
        let start = Barrier::new(8);
        std::thread::scope(|scope| {
            let run = |n| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
                    start.wait();
                    work(n)
                })
            };
            let threads: Vec<_> = (0..8).map(run).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        })
    }

    #[test]
    fn exactly_the_burst_passes_over_all_threads() {
        for round in 0..200 {
            let table = Table::new(8);
            // From the first touch on, so the race to insert is part of it.
            let passed = together(|_| allowed(&table, key(round), &quota(40, 60), 0, 10));
            assert_eq!(passed, 40, "round {round}");
            assert_eq!(table.stats().tracked, 1, "one slot for one key");
        }
    }

    #[test]
    fn slots_that_change_hands_under_load_charge_nobody_else() {
        // Nine keys that take turns in eight slots: every instant has its own keys, all of the last instant at rest.
        let table = Table::new(8);
        let quota = quota(4, 1);
        for instant in 1..500 {
            let passed = together(|n| allowed(&table, key(instant * 4 + n % 4), &quota, instant * SECOND, 4));
            assert_eq!(passed, 16, "four keys with four requests each at instant {instant}");
        }
        assert_eq!(table.stats(), Stats { tracked: 8, overflowed: 0 });
    }

    fn slot(key: Key, tat_ns: u64) -> Slot {
        Slot { key: AtomicU64::new(key.0), tat_ns: AtomicU64::new(tat_ns) }
    }

    fn words(slot: &Slot) -> (u64, u64) {
        (slot.key.load(SeqCst), slot.tat_ns.load(SeqCst))
    }

    #[test]
    fn a_slot_charged_since_it_was_read_is_not_handed_over() {
        let slot = slot(key(1), 5);
        assert!(!take(&slot, key(1).0, 4, key(2), 10), "its holder moved it from 4 to 5");
        assert_eq!(words(&slot), (key(1).0, 5), "and keeps it");
        assert!(take(&slot, key(1).0, 5, key(2), 10));
        assert_eq!(words(&slot), (key(2).0, 10));
    }

    #[test]
    fn a_slot_that_was_handed_over_is_not_charged() {
        let slot = slot(key(2), 10);
        assert_eq!(charge(&slot, key(1), &quota(5, 60), 0), None);
        assert_eq!(words(&slot), (key(2).0, 10));
    }

    #[test]
    fn a_peek_uses_nothing_up() {
        let (table, quota) = (Table::new(8), quota(4, 4));
        assert_eq!(table.peek(key(1), &quota, 0).remaining, 4, "never seen");
        assert_eq!(table.stats(), Stats { tracked: 0, overflowed: 0 }, "and not written down");
        assert_eq!(allowed(&table, key(1), &quota, 0, 3), 3);
        for _ in 0..10 {
            let peeked = table.peek(key(1), &quota, 0);
            assert_eq!((peeked.allowed, peeked.remaining), (true, 1));
        }
        assert_eq!(allowed(&table, key(1), &quota, 0, 9), 1, "what was said to be left");
        let peeked = table.peek(key(1), &quota, 0);
        assert_eq!((peeked.allowed, peeked.remaining, peeked.retry_after.as_secs()), (false, 0, 1));
        assert_eq!(table.peek(key(1), &quota, SECOND).remaining, 1, "a second later");
    }

    #[test]
    fn a_peek_at_a_newcomer_in_a_full_set_is_what_it_is_told() {
        let (table, quota) = (Table::new(8), quota(4, 3600));
        for n in 0..8 {
            let _ = table.decide(key(n), &quota, 0);
        }
        assert_eq!(table.peek(key(8), &quota, 0).remaining, 4);
        assert_eq!(allowed(&table, key(8), &quota, 0, 3), 3);
        assert_eq!(table.peek(key(8), &quota, 0).remaining, 1);
    }

    proptest! {
        #[test]
        fn decides_as_a_map_without_bounds_does(
            steps in prop::collection::vec((0u64..20, 0u64..2 * SECOND), 1..300), requests in 1u32..5,
        ) {
            // 20 keys fit into the sets of 512 slots, so the table must be exact.
            let table = Table::new(512);
            let quota = quota(requests, 3);
            let mut tats: HashMap<u64, u64> = HashMap::new();
            let mut now = 0;
            for (n, gap) in steps {
                now += gap;
                let tat = tats.entry(n).or_default();
                let (expected, next) = quota.step(*tat, now);
                *tat = next.unwrap_or(*tat);
                prop_assert_eq!(table.decide(key(n), &quota, now), expected);
            }
            prop_assert_eq!(table.stats().overflowed, 0);
        }
    }
}
