mod processes;

use super::*;
use crate::limit::set::Cell;
use proptest::prelude::*;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Barrier;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// When a test begins: a machine that runs for a while.
const BEGAN: u64 = 1000 * SECOND;

fn quota(requests: u32, seconds: u64) -> Quota {
    let requests = NonZeroU32::new(requests).expect("not zero");
    Quota::new(requests, Duration::from_secs(seconds), requests)
}

fn key(n: u64) -> Key {
    Key::new(Seeds([1, 2]), 7, &n.to_le_bytes())
}

fn allowed(table: &Table, key: Key, quota: &Quota, now_ns: u64, times: usize) -> usize {
    (0..times).filter(|_| table.decide(key, quota, now_ns).allowed).count()
}

#[test]
fn exactly_the_burst_passes_at_one_instant() {
    let table = Table::new(64);
    assert_eq!(allowed(&table, key(1), &quota(5, 60), BEGAN, 20), 5);
    assert_eq!(allowed(&table, key(2), &quota(3, 60), BEGAN, 20), 3, "keys do not share");
    assert_eq!(
        allowed(&table, key(1), &quota(5, 60), BEGAN + 12 * SECOND, 20),
        1,
        "a fifth of the window later"
    );
    assert_eq!(table.stats(), Stats { tracked: 2, capacity: 75, overflowed: 0, mended: 0 });
}

#[test]
fn keys_at_rest_make_way_and_lose_nothing() {
    let table = Table::new(15);
    for n in 0..100 {
        let _ = table.decide(key(n), &quota(1, 1), BEGAN + n * SECOND);
    }
    assert_eq!(table.stats(), Stats { tracked: 15, capacity: 15, overflowed: 0, mended: 0 });
    assert_eq!(allowed(&table, key(0), &quota(1, 1), BEGAN + 100 * SECOND, 3), 1);
}

#[test]
fn a_flood_of_strangers_does_not_move_a_known_client() {
    let table = Table::new(15);
    let quota = quota(4, 3600);
    assert_eq!(allowed(&table, key(0), &quota, BEGAN, 2), 2);
    for n in 1..5000 {
        let _ = table.decide(key(n), &quota, BEGAN);
    }
    assert_eq!(table.stats(), Stats { tracked: 15, capacity: 15, overflowed: 4999 - 14, mended: 0 });
    assert_eq!(allowed(&table, key(0), &quota, BEGAN, 20), 2, "what it had left, and no more");
}

#[test]
fn a_newcomer_in_a_full_set_is_limited_too() {
    let table = Table::new(15);
    let quota = quota(4, 3600);
    for n in 0..15 {
        let _ = table.decide(key(n), &quota, BEGAN);
    }
    assert_eq!(allowed(&table, key(15), &quota, BEGAN, 100), 4);
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
        let table = Table::new(15);
        // From the first touch on, so the race to insert is part of it.
        let passed = together(|_| allowed(&table, key(round), &quota(40, 60), BEGAN, 10));
        assert_eq!(passed, 40, "round {round}");
        assert_eq!(table.stats().tracked, 1, "one slot for one key");
    }
}

#[test]
fn slots_that_change_hands_under_load_charge_nobody_else() {
    // Four keys at a time take turns in fifteen slots: every instant has its own, all of the one before at rest.
    let table = Table::new(15);
    let quota = quota(4, 1);
    for instant in 1..500 {
        let now_ns = BEGAN + instant * 2 * SECOND;
        let passed = together(|n| allowed(&table, key(instant * 4 + n % 4), &quota, now_ns, 4));
        assert_eq!(passed, 16, "four keys with four requests each at instant {instant}");
    }
    assert_eq!(table.stats(), Stats { tracked: 15, capacity: 15, overflowed: 0, mended: 0 });
}

#[test]
fn a_set_begins_with_a_cache_line() {
    assert_eq!((size_of::<Lines>(), align_of::<Lines>()), (256, 128));
}

#[test]
fn a_word_that_nobody_writes_locks_nobody_out_and_is_counted() {
    let (table, quota) = (Table::new(15), quota(4, 3600));
    assert_eq!(allowed(&table, key(1), &quota, BEGAN, 9), 4);
    let held = key(1).0;
    let slot = table.words(0).iter().find(|word| Cell::load(*word).key == held).expect("it is there");
    slot.store(u128::from(held) << 64 | u128::from(u64::MAX), std::sync::atomic::Ordering::SeqCst);
    assert_eq!(table.peek(key(1), &quota, BEGAN).remaining, 4);
    assert_eq!(allowed(&table, key(1), &quota, BEGAN + 1, 9), 4);
    assert_eq!(table.stats(), Stats { tracked: 1, capacity: 15, overflowed: 0, mended: 1 });
}

#[test]
fn any_words_at_all_make_a_table_that_limits() {
    let mut seed = 1u64;
    let mut random = || {
        // A generator that needs no state but a number: xorshift.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..2000 {
        let table = Table::new(15);
        for word in table.words(0) {
            let value = u128::from(random()) << 64 | u128::from(random() >> (round % 64));
            word.store(value, std::sync::atomic::Ordering::SeqCst);
        }
        let passed = allowed(&table, key(round), &quota(4, 3600), BEGAN, 20);
        assert_eq!(passed, 4, "in a slot or by estimate: round {round}");
    }
}

#[test]
fn a_peek_uses_nothing_up() {
    let (table, quota) = (Table::new(15), quota(4, 4));
    assert_eq!(table.peek(key(1), &quota, BEGAN).remaining, 4, "never seen");
    assert_eq!(
        table.stats(),
        Stats { tracked: 0, capacity: 15, overflowed: 0, mended: 0 },
        "and not written down"
    );
    assert_eq!(allowed(&table, key(1), &quota, BEGAN, 3), 3);
    for _ in 0..10 {
        let peeked = table.peek(key(1), &quota, BEGAN);
        assert_eq!((peeked.allowed, peeked.remaining), (true, 1));
    }
    assert_eq!(allowed(&table, key(1), &quota, BEGAN, 9), 1, "what was said to be left");
    let peeked = table.peek(key(1), &quota, BEGAN);
    assert_eq!((peeked.allowed, peeked.remaining, peeked.retry_after.as_secs()), (false, 0, 1));
    assert_eq!(table.peek(key(1), &quota, BEGAN + SECOND).remaining, 1, "a second later");
}

#[test]
fn a_peek_at_a_newcomer_in_a_full_set_is_what_it_is_told() {
    let (table, quota) = (Table::new(15), quota(4, 3600));
    for n in 0..15 {
        let _ = table.decide(key(n), &quota, BEGAN);
    }
    assert_eq!(table.peek(key(15), &quota, BEGAN).remaining, 4);
    assert_eq!(allowed(&table, key(15), &quota, BEGAN, 3), 3);
    assert_eq!(table.peek(key(15), &quota, BEGAN).remaining, 1);
}

proptest! {
    #[test]
    fn decides_as_a_map_without_bounds_does(
        steps in prop::collection::vec((0u64..20, 0u64..2 * SECOND), 1..300), requests in 1u32..5,
    ) {
        // 20 keys fit into the sets of 525 slots, so the table must be exact.
        let table = Table::new(512);
        let quota = quota(requests, 3);
        let mut tats: HashMap<u64, u64> = HashMap::new();
        let mut now = BEGAN;
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
