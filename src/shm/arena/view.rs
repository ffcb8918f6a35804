//! Looking at an arena from outside: the file of a running gateway, or of a dead one. Nothing is written, no lock is taken, nothing is pinned.
//!
//! What is read may change meanwhile. It is copied word by word, and the state is looked at again behind the copy: what has changed is left out.

use std::path::Path;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, fence};

use super::record::{NEVER, Record, SLOTS};
use super::{
    Geometry, LAYOUT, LEASE, LEASE_PID, LEASE_SINCE, MAGIC, Run, SEQUENCE, SLOT_WORDS, Tables, UNIT,
    own_words, read_geometry, slot_lock,
};
use crate::shm::protocol::{Count, Phase, State};
use crate::shm::refusal::{OpenError, SetAside};
use crate::shm::region::{HEADER_BYTES, Region};

/// An arena that is only looked at.
#[derive(Debug)]
pub struct View {
    region: &'static Region,
    geometry: Geometry,
    own: &'static [AtomicU64],
    records: &'static [Record],
}

/// What was seen of a record.
#[derive(Debug, Clone)]
pub enum Sight {
    /// It has no object.
    Nothing,
    /// It changed while it was looked at.
    Changed,
    /// It says that it has an object and contradicts itself.
    Unsound,
    /// Its object.
    Object(Seen),
}

/// A committed object, as it was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its record.
    pub record: u32,
    /// By what it is found.
    pub primary: u128,
    /// See [`super::Object::variance`].
    pub variance: u64,
    /// See [`super::Object::sequence`].
    pub sequence: u64,
    /// See [`super::Object::began`].
    pub began: u64,
    /// Since when it is stale, in nanoseconds since 1970.
    pub stale_from: Option<u64>,
    /// A copy of the head.
    pub head: Vec<u8>,
    /// Bytes of the body.
    pub body_bytes: usize,
    /// Bytes that it takes.
    pub size: usize,
    /// Readers that pin it, of all processes.
    pub pins: usize,
    /// Hits lately, 0 to 3.
    pub heat: u8,
    /// See [`super::Arena::set_lane`].
    pub lane: u8,
    state: State,
}

/// What a whole arena holds, counted once through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Records.
    pub records: u32,
    /// Objects.
    pub objects: u32,
    /// Objects that are being written.
    pub writing: u32,
    /// Objects that are gone but for their readers.
    pub dying: u32,
    /// Bytes that objects take.
    pub used_bytes: usize,
    /// Bytes for heads and bodies.
    pub data_bytes: usize,
    /// Contiguous stretches of free bytes.
    pub free_stretches: usize,
    /// The longest of them, in bytes.
    pub longest_free_bytes: usize,
    /// Readers, of all processes.
    pub pins: usize,
    /// Objects that are pinned.
    pub pinned: u32,
}

/// A process that shares an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its place.
    pub slot: usize,
    /// Its number, as it said.
    pub pid: u64,
    /// Whether it lives.
    pub is_alive: bool,
}

impl View {
    /// Opens a file to look at it. `None`: there is none.
    ///
    /// # Errors
    /// Why it cannot be read, or what is wrong with it.
    pub fn open(path: &Path) -> Result<Option<Result<Self, SetAside>>, OpenError> {
        let region = match Region::view(path, MAGIC, LAYOUT)? {
            None => return Ok(None),
            Some(Err(why)) => return Ok(Some(Err(why))),
            Some(Ok(region)) => region,
        };
        if region.bytes() < HEADER_BYTES + super::OWN_BYTES {
            return Ok(Some(Err(SetAside::NotOurs)));
        }
        let own = own_words(region);
        let Some(geometry) = read_geometry(own, region.bytes()) else {
            return Ok(Some(Err(SetAside::Inconsistent("its tables do not fit into it"))));
        };
        let Tables { records, .. } = Tables::of(region, geometry);
        Ok(Some(Ok(Self { region, geometry, own, records })))
    }

    /// The memory that it lies in.
    #[must_use]
    pub fn region(&self) -> &'static Region {
        self.region
    }

    /// The user's words.
    #[must_use]
    pub fn user_words(&self) -> &'static [AtomicU64] {
        self.region.words(HEADER_BYTES + super::OWN_BYTES, self.geometry.user_bytes / 8)
    }

    /// The number of the last object.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.word(SEQUENCE)
    }

    /// Whether somebody has the lease, who said so last, and since when in nanoseconds since 1970.
    #[must_use]
    pub fn writer(&self) -> (bool, u64, u64) {
        let is_held = self.region.is_locked_elsewhere(LEASE).unwrap_or(false);
        (is_held, self.word(LEASE_PID), self.word(LEASE_SINCE))
    }

    /// The processes that share it, and those that died with it.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let process = |slot| Process {
            slot,
            pid: self.word(SLOT_WORDS + slot),
            is_alive: self.region.is_locked_elsewhere(slot_lock(slot)).unwrap_or(false),
        };
        (0..SLOTS).map(process).filter(|process| process.pid != 0).collect()
    }

    /// How many records there are.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.geometry.records
    }

    /// The number of the layout.
    #[must_use]
    pub fn layout(&self) -> u64 {
        LAYOUT
    }

    /// Looks at a record.
    #[must_use]
    pub fn look(&self, number: u32) -> Sight {
        let Some(record) = self.records.get(number as usize) else { return Sight::Nothing };
        let state = State(record.state.load(SeqCst));
        if state.phase() != Phase::Committed {
            return Sight::Nothing;
        }
        let head = record.head();
        let seen = self.seen(number, record, state, head);
        fence(SeqCst);
        if record.state.load(SeqCst) != state.0 || record.head() != head {
            return Sight::Changed;
        }
        seen.map_or(Sight::Unsound, Sight::Object)
    }

    /// What stands in a record now. `None`: what cannot stand in one that stays as it is.
    fn seen(&self, number: u32, record: &Record, state: State, (start, bytes): (u32, u32)) -> Option<Seen> {
        if record.sum.load(Relaxed) != record.fixed_sum() {
            return None;
        }
        self.geometry.runs(self.region, record)?;
        self.geometry.head(start, bytes)?;
        let mut head = Vec::new();
        self.copy(Run { start, units: bytes.div_ceil(UNIT as u32) }, &mut head)?;
        head.truncate(bytes as usize);
        let stale_from = record.stale_from.load(SeqCst);
        let runs = self.geometry.all_runs(self.region, record);
        Some(Seen {
            record: number,
            primary: record.primary(),
            variance: record.variance.load(Relaxed),
            sequence: record.sequence.load(Relaxed),
            began: record.began.load(Relaxed),
            stale_from: (stale_from != NEVER).then_some(stale_from),
            head,
            body_bytes: record.body_bytes.load(Relaxed) as usize,
            size: runs.iter().map(|run| run.bytes()).sum(),
            pins: record.pins.iter().map(|pins| usize::from(pins.now())).sum(),
            heat: record.heat.load(Relaxed),
            lane: record.lane.load(Relaxed),
            state,
        })
    }

    /// The object of a record, if it has one that stays as it is while it is looked at.
    #[must_use]
    pub fn object(&self, number: u32) -> Option<Seen> {
        match self.look(number) {
            Sight::Object(seen) => Some(seen),
            Sight::Nothing | Sight::Changed | Sight::Unsound => None,
        }
    }

    /// Whether a record says that it has an object and cannot be believed.
    #[must_use]
    pub fn is_unsound(&self, number: u32) -> bool {
        matches!(self.look(number), Sight::Unsound)
    }

    /// The body of an object that was seen, if it is still there, and whether it matches its checksum.
    #[must_use]
    pub fn body(&self, seen: &Seen) -> Option<(Vec<u8>, bool)> {
        let record = self.records.get(seen.record as usize)?;
        let mut bytes = Vec::new();
        for run in self.geometry.runs(self.region, record)? {
            self.copy(run, &mut bytes)?;
        }
        let begins = record.body_at.load(Relaxed) as usize;
        let sum = record.body_sum.load(Relaxed);
        fence(SeqCst);
        if record.state.load(SeqCst) != seen.state.0 {
            return None;
        }
        // What is shorter than it says has no such body.
        let is_long_enough = begins.checked_add(seen.body_bytes).is_some_and(|end| end <= bytes.len());
        bytes.drain(..begins.min(bytes.len()));
        bytes.truncate(seen.body_bytes);
        let is_sound = is_long_enough && crc32fast::hash(&bytes) == sum;
        Some((bytes, is_sound))
    }

    /// Counts everything once.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let mut sums = Sums {
            records: self.geometry.records,
            data_bytes: self.geometry.units as usize * UNIT,
            ..Sums::default()
        };
        let mut used = Vec::new();
        for record in self.records {
            let state = record.state.load(SeqCst);
            let phase = State(state).phase();
            match phase {
                Phase::Free => continue,
                Phase::Writing => sums.writing += 1,
                Phase::Committed => sums.objects += 1,
                Phase::Dying => sums.dying += 1,
            }
            let pins: usize = record.pins.iter().map(|pins| usize::from(pins.now())).sum();
            sums.pins += pins;
            sums.pinned += u32::from(pins > 0 && phase == Phase::Committed);
            let runs = self.geometry.all_runs(self.region, record);
            fence(SeqCst);
            if record.state.load(SeqCst) == state {
                used.extend(runs);
            }
        }
        sums.add_space(used, self.geometry.units);
        sums
    }

    /// Copies a run behind what is there, whatever happens to it meanwhile.
    fn copy(&self, run: Run, bytes: &mut Vec<u8>) -> Option<()> {
        let piece = self.geometry.piece(run)?;
        bytes.reserve(piece.length);
        for word in self.region.words(piece.at, piece.length / 8) {
            bytes.extend_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        Some(())
    }

    fn word(&self, index: usize) -> u64 {
        self.own.get(index).map_or(0, |word| word.load(Relaxed))
    }
}

impl Sums {
    fn add_space(&mut self, mut used: Vec<Run>, units: u32) {
        used.sort_unstable_by_key(|run| run.start);
        used.push(Run { start: units, units: 0 });
        let mut end = 0;
        for run in used {
            let gap = run.start.saturating_sub(end) as usize * UNIT;
            if gap > 0 {
                self.free_stretches += 1;
                self.longest_free_bytes = self.longest_free_bytes.max(gap);
            }
            let next = run.start.saturating_add(run.units).max(end);
            // What two of a damaged file claim is not counted twice.
            self.used_bytes += (next - end.max(run.start.min(next))) as usize * UNIT;
            end = next;
        }
    }
}
