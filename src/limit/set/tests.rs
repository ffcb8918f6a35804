use super::*;

const NOW: u64 = 1_000_000;

fn memory<const N: usize>(words: [(u64, u64); N]) -> [AtomicU128; N] {
    words.map(|(key, rest)| AtomicU128::new(packed(Word { key, rest })))
}

fn words(memory: &[AtomicU128]) -> Vec<(u64, u64)> {
    memory.iter().map(Cell::load).map(|word| (word.key, word.rest)).collect()
}

/// Puts a key into a set as far as it goes.
fn insert(set: &Set<'_, AtomicU128>, key: u64) -> Wish {
    let wish = set.intend(key, NOW, &mut Mended::default());
    if let Wish::Intended(intention) = wish {
        set.complete(intention);
    }
    wish
}

/// Moves a key that is there so far ahead.
fn charge(set: &Set<'_, AtomicU128>, key: u64, by_ns: u64) -> bool {
    set.charge(key, NOW, &mut Mended::default(), |tat_ns| ((), Some(tat_ns + by_ns))).is_some()
}

const EMPTY: (u64, u64) = (0, 0);

#[test]
fn a_set_is_four_cache_lines() {
    assert_eq!(size_of::<[AtomicU128; 1 + WAYS]>(), 256);
    assert_eq!(unpacked(packed(Word { key: u64::MAX - 1, rest: 7 })), Word { key: u64::MAX - 1, rest: 7 });
}

#[test]
fn the_longest_at_rest_makes_way_and_the_new_key_is_at_rest() {
    let live = (9, NOW);
    let memory = memory([EMPTY, live, (1, 30), (2, 20), (3, 40), live, live, live]);
    let set = Set::of(&memory);
    assert!(matches!(insert(&set, 5), Wish::Intended(_)));
    assert_eq!(words(&memory).get(3), Some(&(5, 21)), "the slot of 2");
    assert_eq!(words(&memory).first(), Some(&(0, 21 << SLOT_BITS | 2)), "idle, and unlike before");
}

#[test]
fn what_comes_to_rest_this_very_moment_does_not_make_way() {
    let memory = memory([EMPTY, (1, NOW), (2, NOW), (3, NOW), (4, NOW), (5, NOW), (6, NOW), (7, NOW + 9)]);
    let set = Set::of(&memory);
    assert_eq!(insert(&set, 8), Wish::Full);
    assert!(set.is_full(NOW));
    assert!(!set.is_full(NOW + 1), "a nanosecond later there is room");
}

#[test]
fn a_holder_that_was_charged_makes_the_intention_void() {
    let live = (9, NOW);
    let memory = memory([EMPTY, (1, 30), live, live, live, live, live, live]);
    let set = Set::of(&memory);
    let Wish::Intended(intention) = set.intend(5, NOW, &mut Mended::default()) else {
        unreachable!("a slot is at rest")
    };
    assert!(charge(&set, 1, NOW));
    set.complete(intention);
    let (header, slots) = (words(&memory).remove(0), words(&memory).split_off(1));
    assert_eq!(header, (0, 31 << SLOT_BITS), "closed");
    assert_eq!(slots.first(), Some(&(1, 30 + NOW)), "and 1 stays");
}

#[test]
fn a_header_that_was_idle_before_an_insertion_is_no_longer() {
    let memory = memory([EMPTY; 1 + WAYS]);
    let set = Set::of(&memory);
    let mut seen = vec![words(&memory).remove(0)];
    for key in 1..20 {
        insert(&set, key);
        let header = words(&memory).remove(0);
        assert!(!seen.contains(&header), "{header:?} came back");
        seen.push(header);
    }
}

#[test]
fn an_intention_for_a_slot_that_does_not_exist_is_closed() {
    let memory = memory([(5, u64::MAX), EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY]);
    let set = Set::of(&memory);
    assert_eq!(insert(&set, 6), Wish::Again);
    assert_eq!(words(&memory).first().map(|(key, _)| *key), Some(NO_KEY));
    assert!(matches!(insert(&set, 6), Wish::Intended(_)));
}

#[test]
fn a_tat_that_no_quota_can_reach_locks_nobody_out() {
    let furthest = NOW + LONGEST_TOLERANCE_NS;
    let memory = memory([EMPTY, (1, furthest), (2, furthest + 1), (3, u64::MAX), EMPTY, EMPTY, EMPTY, EMPTY]);
    let (set, mut mended) = (Set::of(&memory), Mended::default());
    assert_eq!(set.find(1, NOW), Some(furthest), "far, and possible");
    assert_eq!(set.find(2, NOW), None);
    assert_eq!(set.charge(2, NOW, &mut mended, |_| ((), None)), None);
    assert_eq!(set.charge(1, NOW, &mut mended, |_| ((), None)), Some(()));
    assert_eq!(mended, Mended(1));
    assert_eq!(set.intend(4, NOW, &mut mended), Wish::Again, "it met the slot of 3");
    assert_eq!(mended, Mended(2));
    assert_eq!(words(&memory).get(2..4), Some(&[(0, NOW - 1); 2][..]));
}
