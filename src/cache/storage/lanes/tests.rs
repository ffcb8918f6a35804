use std::collections::HashMap;

use proptest::prelude::*;

use super::ghosts::MIN_GHOSTS;
use super::*;

mod ratio;

/// The records, as the store has them.
struct Records(Vec<(u8, Option<Lane>, u64)>);

impl Heat for Records {
    fn hits(&self, record: u32) -> u8 {
        self.0[record as usize].0
    }

    fn set_hits(&mut self, record: u32, hits: u8) {
        self.0[record as usize].0 = hits;
    }

    fn set_lane(&mut self, record: u32, lane: Lane) {
        self.0[record as usize].1 = Some(lane);
    }

    fn hash(&self, record: u32) -> u64 {
        self.0[record as usize].2
    }
}

/// S3-FIFO as one would write it on a board: lists of (record, cost), and a ghost that forgets nothing it should know.
#[derive(Default)]
struct Model {
    small: Vec<(u32, u64)>,
    main: Vec<(u32, u64)>,
    ghosts: HashMap<u64, u64>,
    left: u64,
}

impl Model {
    fn admit(&mut self, record: u32, cost: u64, hash: u64) -> Lane {
        let window = u64::from(MIN_GHOSTS).max(self.len() as u64);
        let known = self.ghosts.remove(&hash).is_some_and(|at| self.left - at < window);
        let lane = if known { Lane::Main } else { Lane::Small };
        self.restore(record, cost, lane);
        lane
    }

    fn restore(&mut self, record: u32, cost: u64, lane: Lane) {
        self.remove(record);
        self.list(lane).push((record, cost));
    }

    fn remove(&mut self, record: u32) {
        self.small.retain(|(other, _)| *other != record);
        self.main.retain(|(other, _)| *other != record);
    }

    fn succeed(&mut self, old: u32, new: u32, cost: u64) -> Option<Lane> {
        let lane = self.lane(old)?;
        if old != new {
            self.remove(new);
        }
        *self.list(lane).iter_mut().find(|(other, _)| *other == old).unwrap() = (new, cost);
        Some(lane)
    }

    fn recost(&mut self, record: u32, cost: u64) {
        let both = self.small.iter_mut().chain(&mut self.main);
        both.filter(|(other, _)| *other == record).for_each(|object| object.1 = cost);
    }

    fn next_victim(&mut self, heat: &mut Records, favor: Favor) -> Option<u32> {
        loop {
            let total = bytes(&self.small) + bytes(&self.main);
            let mean = total / (self.len().max(1) as u64 * UNIT_BYTES) * UNIT_BYTES;
            if self.main.is_empty() || bytes(&self.small) * 10 >= total {
                if self.small.is_empty() {
                    return None;
                }
                let (record, cost) = self.small.remove(0);
                let need = match (favor, cost) {
                    (Favor::Bytes, _) => 1,
                    (_, cost) if cost <= mean => 1,
                    (_, cost) if cost < 4 * mean => 2,
                    _ => 3,
                };
                if heat.hits(record) < need {
                    self.left += 1;
                    self.ghosts.insert(heat.hash(record), self.left);
                    return Some(record);
                }
                heat.set_hits(record, 0);
                heat.set_lane(record, Lane::Main);
                self.main.push((record, cost));
            } else {
                let (record, cost) = self.main.remove(0);
                let Some(hits) = heat.hits(record).checked_sub(1) else { return Some(record) };
                heat.set_hits(record, hits);
                self.main.push((record, cost));
            }
        }
    }

    fn lane(&self, record: u32) -> Option<Lane> {
        let is_in = |list: &[(u32, u64)]| list.iter().any(|(other, _)| *other == record);
        is_in(&self.small).then_some(Lane::Small).or(is_in(&self.main).then_some(Lane::Main))
    }

    fn list(&mut self, lane: Lane) -> &mut Vec<(u32, u64)> {
        if lane == Lane::Small { &mut self.small } else { &mut self.main }
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }
}

fn bytes(list: &[(u32, u64)]) -> u64 {
    list.iter().map(|(_, cost)| cost).sum()
}

/// A lane from the first to be judged to the last that came in; the ring must say the same backwards.
fn listed(lanes: &Lanes, lane: Lane) -> Vec<(u32, u64)> {
    let walk = |link: usize| {
        let mut found = Vec::new();
        let mut at = lanes.place(end(lane))[link];
        while at != end(lane) && found.len() <= lanes.places.len() {
            let weight = lanes.place(at)[WEIGHT];
            assert_eq!(weight & IN_MAIN != 0, lane == Lane::Main, "a record knows the lane it is in");
            found.push((at - FIRST_RECORD, u64::from(weight & !IN_MAIN) * UNIT_BYTES));
            at = lanes.place(at)[link];
        }
        found
    };
    let mut backwards = walk(BEFORE);
    backwards.reverse();
    let forwards = walk(AFTER);
    assert_eq!(forwards, backwards, "both directions of the ring");
    forwards
}

#[derive(Debug, Clone)]
enum Step {
    Admit(u32, u64, u64),
    Restore(u32, u64, Lane),
    Remove(u32),
    Succeed(u32, u32, u64),
    Recost(u32, u64),
    Hit(u32),
    Victim,
}

fn a_step() -> impl Strategy<Value = Step> {
    let record = || 0..CAPACITY;
    let cost = || prop_oneof![8 => 1..40u64, 1 => 100..4000u64].prop_map(|units| units * UNIT_BYTES);
    let lane = prop_oneof![Just(Lane::Small), Just(Lane::Main)];
    prop_oneof![
        24 => (record(), cost(), 0..u64::from(CAPACITY)).prop_map(|(r, c, key)| Step::Admit(r, c, key)),
        1 => (record(), cost(), lane).prop_map(|(r, c, lane)| Step::Restore(r, c, lane)),
        2 => record().prop_map(Step::Remove),
        2 => (record(), record(), cost()).prop_map(|(old, new, c)| Step::Succeed(old, new, c)),
        1 => (record(), cost()).prop_map(|(r, c)| Step::Recost(r, c)),
        12 => record().prop_map(Step::Hit),
        6 => Just(Step::Victim),
    ]
}

/// Hashes of as many keys as the ghost has entries, as many in each bucket as it holds: then it is exact.
fn hash_of(key: u64) -> u64 {
    let buckets = u64::from(CAPACITY) / 8;
    (key % buckets) << (64 - buckets.ilog2()) | (key + 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn does_what_the_model_does(
        steps in prop::collection::vec(a_step(), 0..1500),
        favor in prop_oneof![Just(Favor::Requests), Just(Favor::Bytes)],
    ) {
        let mut lanes = Lanes::new(CAPACITY, favor);
        let mut model = Model::default();
        let mut heat = Records((0..CAPACITY).map(|record| (0, None, hash_of(record.into()))).collect());
        let mut other_heat = Records(heat.0.clone());
        for step in steps {
            match step {
                Step::Admit(record, cost, key) => {
                    let lane = lanes.admit(record, cost, hash_of(key));
                    prop_assert_eq!(lane, model.admit(record, cost, hash_of(key)), "the lane of a new object");
                    heat.0[record as usize] = (0, Some(lane), hash_of(key));
                    other_heat.0[record as usize] = heat.0[record as usize];
                }
                Step::Restore(record, cost, lane) => {
                    lanes.restore(record, cost, lane);
                    model.restore(record, cost, lane);
                }
                Step::Remove(record) => {
                    lanes.remove(record);
                    model.remove(record);
                }
                Step::Succeed(old, new, cost) => {
                    prop_assert_eq!(lanes.succeed(old, new, cost), model.succeed(old, new, cost), "its lane");
                }
                Step::Recost(record, cost) => {
                    lanes.recost(record, cost);
                    model.recost(record, cost);
                }
                Step::Hit(record) => {
                    let hits = (heat.hits(record) + 1).min(MAX_HITS);
                    heat.set_hits(record, hits);
                    other_heat.set_hits(record, hits);
                }
                Step::Victim => {
                    let victim = model.next_victim(&mut other_heat, favor);
                    prop_assert_eq!(lanes.next_victim(&mut heat), victim, "the victim");
                    prop_assert_eq!(&heat.0, &other_heat.0, "what is left in the records");
                }
            }
            prop_assert_eq!(&listed(&lanes, Lane::Small), &model.small, "the small lane in order");
            prop_assert_eq!(&listed(&lanes, Lane::Main), &model.main, "the main lane in order");
            prop_assert_eq!(lanes.bytes(Lane::Small), bytes(&model.small), "bytes of the small lane");
            prop_assert_eq!(lanes.bytes(Lane::Main), bytes(&model.main), "bytes of the main lane");
            prop_assert_eq!(lanes.total(), bytes(&model.small) + bytes(&model.main), "all bytes");
            prop_assert_eq!(lanes.len() as usize, model.len(), "records");
        }
    }
}

fn records(count: u32, hits: u8) -> Records {
    Records(
        (0..u64::from(count))
            .map(|key| (hits, None, (key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect(),
    )
}

#[test]
fn nothing_stored_is_no_victim() {
    assert_eq!(Lanes::new(0, Favor::Requests).next_victim(&mut records(0, 0)), None, "no room at all");
    let mut lanes = Lanes::new(1, Favor::Requests);
    lanes.admit(0, 1, 1);
    assert_eq!(lanes.next_victim(&mut records(1, MAX_HITS)), Some(0), "the only one, however hot");
    assert_eq!((lanes.next_victim(&mut records(1, 0)), lanes.total(), lanes.len()), (None, 0, 0), "empty");
}

#[test]
fn an_object_larger_than_the_small_lane_comes_to_its_turn() {
    let mut lanes = Lanes::new(11, Favor::Requests);
    (0..10).for_each(|record| lanes.restore(record, 1000, Lane::Main));
    lanes.admit(10, 1 << 40, 7);
    assert_eq!(
        lanes.total(),
        10 * 1024 + (u64::from(IN_MAIN) - 1) * UNIT_BYTES,
        "beyond 128 GiB it weighs 128 GiB"
    );
    assert_eq!(lanes.next_victim(&mut records(11, 0)), Some(10), "the small lane is over its share");
    assert_eq!(lanes.next_victim(&mut records(11, 0)), Some(0), "then the main lane's turn is");
}

#[test]
fn the_only_cold_one_among_a_thousand_is_found() {
    let mut lanes = Lanes::new(1000, Favor::Requests);
    let mut heat = records(1000, MAX_HITS);
    (0..1000).for_each(|record| lanes.restore(record, 64, Lane::Main));
    heat.set_hits(999, 0);
    assert_eq!(lanes.next_victim(&mut heat), Some(999), "the last of the lane");
    assert_eq!(heat.hits(0), MAX_HITS - 1, "the others were judged once");
}

/// Records that readers ask for as fast as they are judged.
struct Boiling;

impl Heat for Boiling {
    fn hits(&self, _record: u32) -> u8 {
        u8::MAX
    }

    fn set_hits(&mut self, _record: u32, _hits: u8) {}

    fn set_lane(&mut self, _record: u32, _lane: Lane) {}

    fn hash(&self, record: u32) -> u64 {
        u64::from(record) << 32 | 1
    }
}

#[test]
fn a_store_that_is_hot_all_over_gives_up_one_and_takes_it_back_into_main() {
    let mut lanes = Lanes::new(16, Favor::Requests);
    (0..16).for_each(|record| lanes.restore(record, 64, Lane::Main));
    let victim = lanes.next_victim(&mut Boiling).expect("one of them");
    assert_eq!((lanes.len(), lanes.lane(victim)), (15, None), "it is out");
    assert_eq!(lanes.admit(victim, 64, Boiling.hash(victim)), Lane::Main, "it was remembered");
}

#[test]
fn a_tenth_of_the_bytes_is_the_small_lane() {
    for (in_main, victim) in [(9, 9), (10, 0)] {
        let mut lanes = Lanes::new(11, Favor::Requests);
        (0..in_main).for_each(|record| lanes.restore(record, 64, Lane::Main));
        lanes.admit(in_main, 64, 1);
        assert_eq!(lanes.next_victim(&mut records(11, 0)), Some(victim), "1 in small, {in_main} in main");
    }
}

#[test]
fn what_comes_back_soon_goes_to_main() {
    let mut lanes = Lanes::new(300, Favor::Requests);
    let mut heat = records(300, 0);
    (100..300).for_each(|record| lanes.restore(record, 64, Lane::Main));
    for record in 0..100 {
        assert_eq!(lanes.admit(record, 64, heat.hash(record)), Lane::Small, "never seen");
    }
    (0..70).for_each(|record| assert_eq!(lanes.next_victim(&mut heat), Some(record), "in their order"));
    assert_eq!(lanes.admit(0, 64, heat.hash(0)), Lane::Main, "70 left since, and 230 are stored");
    assert_eq!(lanes.admit(0, 64, heat.hash(0)), Lane::Small, "a ghost counts once");
    (100..300).for_each(|record| lanes.remove(record));
    assert_eq!(lanes.admit(1, 64, heat.hash(1)), Lane::Small, "69 left since, and only 31 are stored");
}

#[test]
fn large_objects_must_be_asked_for_more_often_unless_bytes_count() {
    let stays = |favor: Favor, cost: u64, hits: u8| {
        let mut lanes = Lanes::new(100, favor);
        lanes.admit(0, cost, 1);
        (1..100).for_each(|record| lanes.restore(record, 6400, Lane::Small));
        let mut heat = records(100, 0);
        heat.set_hits(0, hits);
        lanes.next_victim(&mut heat) != Some(0)
    };
    let least = |favor, cost| (0..=MAX_HITS).find(|hits| stays(favor, cost, *hits));
    // With 99 objects of 100 units and one of 412, the mean is 103.
    let by_requests = [1, 100, 101, 411, 412].map(|units| least(Favor::Requests, units * UNIT_BYTES));
    assert_eq!(by_requests, [1, 1, 2, 2, 3].map(Some), "up to the mean, below four times the mean, beyond");
    assert_eq!([64, 64_000].map(|cost| least(Favor::Bytes, cost)), [Some(1); 2], "whatever the size");
}

#[test]
fn a_record_takes_16_bytes() {
    let lanes = Lanes::new(100_000, Favor::Requests);
    let bytes = std::mem::size_of_val(&*lanes.places) + lanes.ghosts.size_bytes();
    assert!(bytes <= 16 * 100_000 + 64, "{bytes} bytes for 100 000 records");
}

const CAPACITY: u32 = 128;
