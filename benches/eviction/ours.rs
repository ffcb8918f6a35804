//! The store's own policy, as the store calls it.

use super::lanes::{Favor, Heat, Lane, Lanes, MAX_HITS};
use super::policies::Policy;
use super::trace::{Trace, mix};

/// A store of numbered records without the bytes.
pub struct Ours {
    capacity: u64,
    lanes: Lanes,
    records: Records,
    /// Records that hold nothing.
    free: Vec<u32>,
    /// The record of each object.
    places: Vec<Option<u32>>,
}

struct Records(Vec<Record>);

#[derive(Clone, Copy)]
struct Record {
    id: u32,
    hits: u8,
}

impl Heat for Records {
    fn hits(&self, record: u32) -> u8 {
        self.0[record as usize].hits
    }

    fn set_hits(&mut self, record: u32, hits: u8) {
        self.0[record as usize].hits = hits;
    }

    fn set_lane(&mut self, _record: u32, _lane: Lane) {}

    fn hash(&self, record: u32) -> u64 {
        mix(self.0[record as usize].id.into())
    }
}

impl Ours {
    /// A table of so many records: the fewer there are, the smaller is the ghost.
    pub fn new(capacity: u64, records: usize, favor: Favor, trace: &Trace) -> Self {
        Self {
            capacity,
            lanes: Lanes::new(records as u32, favor),
            records: Records(vec![Record { id: 0, hits: 0 }; records]),
            free: (0..records as u32).rev().collect(),
            places: vec![None; trace.sizes.len()],
        }
    }

    fn evict(&mut self) {
        let victim = self.lanes.next_victim(&mut self.records).expect("something is stored");
        self.places[self.records.0[victim as usize].id as usize] = None;
        self.free.push(victim);
    }
}

impl Policy for Ours {
    fn request(&mut self, id: u32, cost: u64) -> bool {
        if let Some(record) = self.places[id as usize] {
            let hits = &mut self.records.0[record as usize].hits;
            *hits = (*hits + 1).min(MAX_HITS);
            return true;
        }
        if cost > self.capacity {
            return false;
        }
        while self.lanes.total() + cost > self.capacity {
            self.evict();
        }
        let record = loop {
            match self.free.pop() {
                Some(record) => break record,
                None => self.evict(),
            }
        };
        self.records.0[record as usize] = Record { id, hits: 0 };
        self.places[id as usize] = Some(record);
        self.lanes.admit(record, cost, mix(id.into()));
        false
    }
}
