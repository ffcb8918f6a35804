//! Whom to evict: S3-FIFO (SOSP 2023), size aware, over the numbered records of the store.
//!
//! ```text
//!   new ──▶ small (about 10 % of the bytes) ──asked for again──▶ main ──┐
//!              │ not asked for                            ▲  asked for │ not asked for
//!              ▼                                          └────────────┤
//!            ghost (hashes only: comes back ──▶ main)                  ▼ out
//! ```
//!
//! It stands in the writer's memory behind the writer's lock, holds no object and frees nothing: it says whose turn it is. What
//! outlives the process is in the records ([`Heat`]): the hits that readers count, and the lane. The order comes back from the
//! records' sequence numbers ([`Lanes::restore`]); the ghost does not, and fills again.
//!
//! Whether an object may leave (a reader may hold it) is not asked here: a victim is out of the lanes at once, and the store
//! waits for its readers.
//!
//! A record takes 16 bytes here, 12 for its `Place` and 4 for a ghost; both tables come zeroed from the system and
//! cost memory only where they were used.

mod ghosts;
#[cfg(test)]
mod tests;

use ghosts::Ghosts;

/// The queue that a record stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// New objects: most of them are never asked for again and leave from here.
    Small,
    /// Objects that were asked for again.
    Main,
}

/// What counts more when not all can stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Favor {
    /// Requests answered from the cache: a large object must have been asked for more often than a small one to stay.
    #[default]
    Requests,
    /// Bytes answered from the cache: one hit is enough, whatever the size.
    Bytes,
}

/// What the policy knows of a record and keeps in the record itself, where readers count hits and the next process finds the lane.
pub trait Heat {
    /// Hits since it was last judged, 0 to [`MAX_HITS`].
    fn hits(&self, record: u32) -> u8;
    /// Sets the hits. Readers count meanwhile; a hit lost between both does not matter.
    fn set_hits(&mut self, record: u32, hits: u8);
    /// The record moved.
    fn set_lane(&mut self, record: u32, lane: Lane);
    /// The hash of the object's key: the same for all that ever lies under that key, uniform in all of its bits.
    fn hash(&self, record: u32) -> u64;
}

/// Both lanes and the ghost.
#[derive(Debug)]
pub struct Lanes {
    places: Vec<Place>,
    small: Sum,
    main: Sum,
    ghosts: Ghosts,
    favor: Favor,
}

/// A place in a ring: the place before it, the place after it, and what the record weighs, with [`IN_MAIN`]. A weight of 0 is a
/// record in no lane. An array and no struct, because only tables of such come zeroed from the system.
///
/// ```text
///   places:  [0] end of small   [1] end of main   [2] record 0   [3] record 1   ...
///   a ring:  end ──after──▶ first to be judged ──▶ ... ──▶ last that came in ──▶ end
/// ```
type Place = [u32; 3];

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    units: u64,
    records: u32,
}

impl Lanes {
    /// Lanes for records 0 to `capacity - 1`.
    pub fn new(capacity: u32, favor: Favor) -> Self {
        let mut places = vec![[0; 3]; capacity as usize + FIRST_RECORD as usize];
        if let Some(end) = places.get_mut(END_OF_MAIN as usize) {
            *end = [END_OF_MAIN, END_OF_MAIN, 0];
        }
        Self { places, small: Sum::default(), main: Sum::default(), ghosts: Ghosts::new(capacity), favor }
    }

    /// Takes in a new object and decides its lane: one that left [`Lane::Small`] not long ago goes to [`Lane::Main`]. `hash` as in
    /// [`Heat::hash`]. A record that is in a lane leaves it first.
    ///
    /// # Panics
    /// Here as everywhere, if the record is not one of the table.
    pub fn admit(&mut self, record: u32, cost: u64, hash: u64) -> Lane {
        let lane = if self.ghosts.take(hash, self.len()) { Lane::Main } else { Lane::Small };
        self.restore(record, cost, lane);
        lane
    }

    /// Takes in an object whose lane is known, as the last of it: at start, in the order of the sequence numbers.
    pub fn restore(&mut self, record: u32, cost: u64, lane: Lane) {
        self.remove(record);
        self.enter(at(record), units(cost), lane);
    }

    /// The object is no longer stored. Nothing happens if it is in no lane.
    pub fn remove(&mut self, record: u32) {
        if self.lane(record).is_some() {
            self.leave(at(record));
        }
    }

    /// A newer object takes the place of an older one in its lane, which is returned. `None`, and nothing happens, if the older is in no
    /// lane any more: then the newer one is to be admitted.
    pub fn succeed(&mut self, old: u32, new: u32, cost: u64) -> Option<Lane> {
        let lane = self.lane(old)?;
        if old != new {
            self.remove(new);
            let [_, next, _] = *self.place(at(old));
            self.leave(at(old));
            // Where the old one stood: before what came after it, which is still there.
            self.enter_before(next, at(new), units(cost), lane);
        } else {
            self.recost(new, cost);
        }
        Some(lane)
    }

    /// What the object costs has changed. Nothing happens if it is in no lane.
    pub fn recost(&mut self, record: u32, cost: u64) {
        let Some(lane) = self.lane(record) else { return };
        let new = units(cost);
        let place = self.place_mut(at(record));
        let old = std::mem::replace(&mut place[WEIGHT], weight(new, lane)) & !IN_MAIN;
        let sum = self.sum_mut(lane);
        sum.units = sum.units - u64::from(old) + u64::from(new);
    }

    /// Judges records until one has to go, takes it out of its lane and returns it. `None`: nothing is stored.
    ///
    /// Each step takes hits away, so that the work is paid for by the hits before it; but all of a large store may be hot at once, and
    /// others wait. After [`MAX_STEPS`] the next one goes, whatever it was asked for, and comes back to [`Lane::Main`].
    pub fn next_victim(&mut self, heat: &mut impl Heat) -> Option<u32> {
        let mut steps = 0;
        loop {
            let lane = self.turn();
            let first = self.first(lane)?;
            let record = first - FIRST_RECORD;
            let hits = heat.hits(record);
            let stays = match lane {
                Lane::Small => hits >= self.hits_to_promote(first),
                Lane::Main => hits > 0,
            };
            if !stays || steps == MAX_STEPS {
                if lane == Lane::Small || stays {
                    self.ghosts.remember(heat.hash(record));
                }
                self.leave(first);
                return Some(record);
            }
            steps += 1;
            let units = self.leave(first);
            self.enter(first, units, Lane::Main);
            match lane {
                Lane::Small => {
                    heat.set_hits(record, 0);
                    heat.set_lane(record, Lane::Main);
                }
                Lane::Main => heat.set_hits(record, hits - 1),
            }
        }
    }

    /// From now on this counts more.
    pub fn set_favor(&mut self, favor: Favor) {
        self.favor = favor;
    }

    /// The lane of a record; `None` if it is in none.
    pub fn lane(&self, record: u32) -> Option<Lane> {
        match self.place(at(record))[WEIGHT] {
            0 => None,
            weight if weight & IN_MAIN == 0 => Some(Lane::Small),
            _ => Some(Lane::Main),
        }
    }

    /// Bytes of all that is in a lane, each record rounded up to [`UNIT_BYTES`].
    pub fn bytes(&self, lane: Lane) -> u64 {
        self.sum(lane).units * UNIT_BYTES
    }

    /// Bytes of all records.
    pub fn total(&self) -> u64 {
        self.units() * UNIT_BYTES
    }

    /// How many records are in the lanes.
    pub fn len(&self) -> u32 {
        self.small.records + self.main.records
    }

    /// True if nothing is in the lanes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn units(&self) -> u64 {
        self.small.units + self.main.units
    }

    /// The lane whose turn it is. Never an empty one unless both are: what is in a lane weighs at least one unit.
    fn turn(&self) -> Lane {
        let small_first = self.main.records == 0 || self.small.units * SMALL_SHARE >= self.units();
        if small_first { Lane::Small } else { Lane::Main }
    }

    fn hits_to_promote(&self, at: u32) -> u8 {
        if self.favor == Favor::Bytes {
            return 1;
        }
        let mean = self.units() / u64::from(self.len().max(1));
        match u64::from(self.place(at)[WEIGHT] & !IN_MAIN) {
            units if units <= mean => 1,
            units if units < mean * 4 => 2,
            _ => 3,
        }
    }

    fn first(&self, lane: Lane) -> Option<u32> {
        let first = self.place(end(lane))[AFTER];
        (first != end(lane)).then_some(first)
    }

    fn enter(&mut self, at: u32, units: u32, lane: Lane) {
        self.enter_before(end(lane), at, units, lane);
    }

    fn enter_before(&mut self, after: u32, at: u32, units: u32, lane: Lane) {
        let before = std::mem::replace(&mut self.place_mut(after)[BEFORE], at);
        self.place_mut(before)[AFTER] = at;
        *self.place_mut(at) = [before, after, weight(units, lane)];
        let sum = self.sum_mut(lane);
        sum.units += u64::from(units);
        sum.records += 1;
    }

    /// Takes a record that is in a lane out of it, and returns its units.
    fn leave(&mut self, at: u32) -> u32 {
        let [before, after, weight] = std::mem::take(self.place_mut(at));
        self.place_mut(before)[AFTER] = after;
        self.place_mut(after)[BEFORE] = before;
        let units = weight & !IN_MAIN;
        let sum = self.sum_mut(if weight & IN_MAIN == 0 { Lane::Small } else { Lane::Main });
        sum.units -= u64::from(units);
        sum.records -= 1;
        units
    }

    fn place(&self, at: u32) -> &Place {
        self.places.get(at as usize).expect("a record of the table, or an end")
    }

    fn place_mut(&mut self, at: u32) -> &mut Place {
        self.places.get_mut(at as usize).expect("a record of the table, or an end")
    }

    fn sum(&self, lane: Lane) -> &Sum {
        match lane {
            Lane::Small => &self.small,
            Lane::Main => &self.main,
        }
    }

    fn sum_mut(&mut self, lane: Lane) -> &mut Sum {
        match lane {
            Lane::Small => &mut self.small,
            Lane::Main => &mut self.main,
        }
    }
}

fn at(record: u32) -> u32 {
    record + FIRST_RECORD
}

fn end(lane: Lane) -> u32 {
    match lane {
        Lane::Small => END_OF_SMALL,
        Lane::Main => END_OF_MAIN,
    }
}

/// A cost in units, rounded up; at least one, so that no weight is 0, and at most what 31 bits hold (128 GiB).
fn units(cost: u64) -> u32 {
    let units = cost.div_ceil(UNIT_BYTES).clamp(1, u64::from(IN_MAIN - 1));
    u32::try_from(units).expect("clamped")
}

fn weight(units: u32, lane: Lane) -> u32 {
    match lane {
        Lane::Small => units,
        Lane::Main => units | IN_MAIN,
    }
}

/// The most hits that are remembered, as in the S3-FIFO paper (SOSP 2023).
pub const MAX_HITS: u8 = 3;
/// The most records that are judged for one victim: about a millisecond when none of them is in the processor's cache.
pub const MAX_STEPS: u32 = 4096;
/// Costs are counted in units of the arena's allocator.
pub const UNIT_BYTES: u64 = 64;
/// One part in this many of the bytes is the small lane, as in the paper.
const SMALL_SHARE: u64 = 10;
const BEFORE: usize = 0;
const AFTER: usize = 1;
const WEIGHT: usize = 2;
const IN_MAIN: u32 = 1 << 31;
const END_OF_SMALL: u32 = 0;
const END_OF_MAIN: u32 = 1;
const FIRST_RECORD: u32 = 2;
