//! An arena: objects in shared memory that several processes read and one of them writes.
//!
//! ```text
//!   region's page │ own page: sequence, lease, slots │ user's words │ chains │ records, 128 B each │ data, units of 64 B
//!
//!   find ──▶ chain ──▶ record: key, state ──pin──▶ Pinned ──▶ Bytes that point into the data; the drop unpins
//!   Writer::take ──▶ Draft ──write──▶ commit: state, then chain             one writer, by a lease that the kernel drops on death
//!   Writer::kill ──▶ state, chain ──▶ free, or wait until nobody pins it
//! ```
//!
//! Promises: a look-up takes no lock and copies no body. An object is whole or not there, whenever a process is killed. Two processes can
//! use it at once: both read and pin, one writes. What lies in it is checked before it is used: a wrong byte in a record costs that record.
//!
//! An object is a head and a body, both bytes; the head can be exchanged. It is found by 128 bits (`primary`) and 64 more (`variance`);
//! all of one primary are in one chain. What the bytes mean, and whom to evict, is the user's.

mod attach;
mod data;
mod draft;
mod parts;
mod pinned;
mod record;
mod view;
mod writer;

use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::{SystemTime, UNIX_EPOCH};

pub use attach::{Attached, Survivor};
pub use draft::Draft;
pub use parts::Parts;
pub use pinned::Pinned;
use record::{Record, SLOTS};
pub use view::{Process, Seen, Sight, Sums, View};
pub use writer::{Full, Object, Writer};

use super::locks::{Held, Lock};
use super::protocol::{self, Chains, NONE, Pinning, State};
use super::refusal::{OpenError, SetAside};
use super::region::{HEADER_BYTES, How, Opened, Place, Region, Spec};

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Where it lies.
    pub place: Place<'a>,
    /// Bytes of the whole: records and all.
    pub bytes: usize,
    /// How many objects there can be.
    pub records: u32,
    /// Bytes for the user's own words.
    pub user_bytes: usize,
    /// The seeds of one that is made; `None`: they are drawn.
    pub seeds: Option<fn() -> [u64; 4]>,
}

/// Why there is no arena.
#[derive(Debug)]
pub enum ArenaError {
    /// The region cannot be had.
    Region(OpenError),
    /// Too small for its own tables; how many bytes it must have at least.
    TooSmall(usize),
    /// As many processes share it as can.
    NoSlot,
}

impl std::fmt::Display for ArenaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Region(why) => why.fmt(f),
            Self::TooSmall(least) => write!(f, "it must have at least {}", bytesize::ByteSize(*least as u64)),
            Self::NoSlot => write!(f, "{SLOTS} processes share it already, as many as can"),
        }
    }
}

impl std::error::Error for ArenaError {}

/// Contiguous units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    start: u32,
    units: u32,
}

impl Run {
    fn of(word: u64) -> Self {
        Self { start: (word >> 32) as u32, units: word as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.start) << 32 | u64::from(self.units)
    }

    fn bytes(self) -> usize {
        self.units as usize * UNIT
    }
}

/// Objects in shared memory.
#[derive(Debug)]
pub struct Arena {
    region: &'static Region,
    geometry: Geometry,
    own: &'static [AtomicU64],
    first: &'static [AtomicU32],
    records: &'static [Record],
    slot: usize,
    _slot: Held,
    /// Which of the records that were there before this process have had their bodies checked.
    checked: Box<[AtomicU64]>,
    pub(super) corrupt: AtomicU64,
    /// Nobody else can have written to it: there is nothing to look for.
    is_blank: AtomicBool,
}

/// Where things lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Geometry {
    records: u32,
    chains: u32,
    user_bytes: usize,
    units: u32,
}

impl Geometry {
    fn new(bytes: usize, records: u32, user_bytes: usize) -> Option<Self> {
        let chains = records.checked_next_power_of_two()?;
        let user_bytes = user_bytes.checked_next_multiple_of(128)?;
        let mut geometry = Self { records, chains, user_bytes, units: 0 };
        let room = bytes.checked_sub(geometry.data_at()?)?;
        geometry.units = u32::try_from(room / UNIT).ok()?;
        (geometry.units >= MIN_UNITS && records > 0).then_some(geometry)
    }

    fn least(records: u32, user_bytes: usize) -> usize {
        let empty = || {
            let chains = records.checked_next_power_of_two()?;
            let user_bytes = user_bytes.checked_next_multiple_of(128)?;
            Self { records, chains, user_bytes, units: 0 }.data_at()
        };
        empty().unwrap_or(usize::MAX).saturating_add(MIN_UNITS as usize * UNIT)
    }

    fn chains_at(self) -> Option<usize> {
        (HEADER_BYTES + OWN_BYTES).checked_add(self.user_bytes)
    }

    fn records_at(self) -> Option<usize> {
        let chains = (self.chains as usize).checked_mul(size_of::<AtomicU32>())?;
        self.chains_at()?.checked_add(chains)?.checked_next_multiple_of(128)
    }

    fn data_at(self) -> Option<usize> {
        self.records_at()?.checked_add((self.records as usize).checked_mul(size_of::<Record>())?)
    }
}

impl Arena {
    /// Opens or makes an arena, and takes a place in it for this process. Objects that are there can be found at once.
    ///
    /// # Errors
    /// [`ArenaError`].
    pub fn open(settings: &Settings<'_>) -> Result<(&'static Self, How), ArenaError> {
        let Settings { place, bytes, records, user_bytes, seeds } = *settings;
        let geometry = Geometry::new(bytes, records, user_bytes)
            .ok_or_else(|| ArenaError::TooSmall(Geometry::least(records, user_bytes)))?;
        let spec = Spec { place, bytes, magic: MAGIC, layout: LAYOUT, seeds };
        let begin = |region: &'static Region| {
            Tables::of(region, geometry).first.iter().for_each(|link| link.store(NONE, Relaxed));
            write_geometry(own_words(region), geometry);
        };
        let mut opened = Region::open_with(&spec, &begin).map_err(ArenaError::Region)?;
        if let Place::File(path) = place
            && read_geometry(own_words(opened.region), opened.region.bytes()) != Some(geometry)
        {
            let why = SetAside::OtherSettings;
            opened = Region::replace(path, &spec, why, &begin).map_err(ArenaError::Region)?;
        }
        let Opened { region, how } = opened;
        let own = own_words(region);
        let Tables { first, records } = Tables::of(region, geometry);
        let (slot, held) = take_slot(region, own, records).ok_or(ArenaError::NoSlot)?;
        let arena = Self {
            region,
            geometry,
            own,
            first,
            records,
            slot,
            _slot: held,
            checked: (0..records.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            corrupt: AtomicU64::new(0),
            is_blank: AtomicBool::new(region.path().is_none()),
        };
        Ok((Box::leak(Box::new(arena)), how))
    }

    /// Looks for an object and pins it. Takes no lock.
    pub fn find(&'static self, primary: u128, variance: u64) -> Option<Pinned> {
        loop {
            let wanted = Wanted { arena: self, primary, variance };
            let (record, seen) = protocol::find(&wanted)?;
            let place = self.records.get(record as usize)?;
            match protocol::pin(&place.state, self.pins(place)?, seen) {
                Pinning::Pinned => {
                    let pinned = Pinned::new(self, record, seen);
                    return pinned.is_sound().then_some(pinned);
                }
                Pinning::Changed => {}
                Pinning::Full => return None,
            }
        }
    }

    /// Words for the user, 0 at the beginning.
    pub fn user_words(&'static self) -> &'static [AtomicU64] {
        self.region.words(HEADER_BYTES + OWN_BYTES, self.geometry.user_bytes / 8)
    }

    /// The next number of an order over all processes.
    pub fn next_sequence(&self) -> u64 {
        self.word(SEQUENCE).fetch_add(1, SeqCst).wrapping_add(1)
    }

    /// Takes the lease of the writer, if nobody has it.
    ///
    /// # Errors
    /// When the file system has no locks.
    pub fn try_lease(&self) -> io::Result<Option<Held>> {
        let held = self.region.try_lock(LEASE)?;
        if held.is_some() {
            self.word(LEASE_PID).store(u64::from(std::process::id()), Relaxed);
            self.word(LEASE_SINCE).store(now_ns(), Relaxed);
        }
        Ok(held)
    }

    /// Whether another process, or another opening of the file, has the lease.
    #[must_use]
    pub fn is_leased_elsewhere(&self) -> bool {
        self.region.is_locked_elsewhere(LEASE).unwrap_or(false)
    }

    /// The process that said last that it has the lease. For people.
    #[must_use]
    pub fn last_writer(&self) -> u64 {
        self.word(LEASE_PID).load(Relaxed)
    }

    /// A lock of the user's, for what only one process may do at a time.
    ///
    /// # Errors
    /// When the file system has no locks.
    pub fn user_lock(&self) -> io::Result<Held> {
        self.region.lock(USER)
    }

    /// The memory that it lies in.
    #[must_use]
    pub fn region(&self) -> &'static Region {
        self.region
    }

    /// How many objects there can be.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.geometry.records
    }

    /// Bytes for heads and bodies.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        self.geometry.units as usize * UNIT
    }

    /// Objects that were given up because their bytes did not match their checksum.
    #[must_use]
    pub fn corrupt(&self) -> u64 {
        self.corrupt.load(Relaxed)
    }

    /// What eviction keeps of an object.
    pub fn heat(&self, record: u32) -> u8 {
        self.records.get(record as usize).map_or(0, |record| record.heat.load(Relaxed))
    }

    /// Sets what eviction keeps of an object.
    pub fn set_heat(&self, record: u32, heat: u8) {
        if let Some(record) = self.records.get(record as usize) {
            record.heat.store(heat, Relaxed);
        }
    }

    /// Where an object stands for eviction, so that the next process knows.
    pub fn set_lane(&self, record: u32, lane: u8) {
        if let Some(record) = self.records.get(record as usize) {
            record.lane.store(lane, Relaxed);
        }
    }

    /// The key of an object, for its writer.
    pub fn key(&self, record: u32) -> Option<(u128, u64)> {
        let record = self.records.get(record as usize)?;
        Some((record.primary(), record.variance.load(Relaxed)))
    }

    /// The number by which an object came, for its writer.
    pub fn sequence(&self, record: u32) -> u64 {
        self.records.get(record as usize).map_or(0, |record| record.sequence.load(Relaxed))
    }

    /// Makes an object stale since then, if it is not already, for its writer.
    pub fn mark_stale(&self, record: u32, since_ns: u64) {
        if let Some(record) = self.records.get(record as usize) {
            record.stale_from.fetch_min(since_ns, SeqCst);
        }
    }

    /// An object was renewed: its head is of a fetch that `began` then, and it is stale no more. For its writer, behind
    /// [`Writer::put_head`].
    pub fn mark_renewed(&self, record: u32, began: u64) {
        if let Some(record) = self.records.get(record as usize) {
            record.began.store(began, SeqCst);
            record.stale_from.store(record::NEVER, SeqCst);
        }
    }

    /// The objects of a family: record, variance and sequence. A hint, but for the writer.
    #[must_use]
    pub fn family(&self, primary: u128) -> Vec<(u32, u64, u64)> {
        let mut found = Vec::new();
        let mut at = self.chain(primary).map_or(NONE, |first| first.load(SeqCst));
        for _ in 0..protocol::MAX_CHAIN {
            let Some(record) = self.records.get(at as usize) else { break };
            let is_live = State(record.state.load(SeqCst)).phase() == protocol::Phase::Committed;
            if is_live && record.is_of(primary) {
                found.push((at, record.variance.load(Relaxed), record.sequence.load(Relaxed)));
            }
            at = record.next.load(SeqCst);
        }
        found
    }

    /// Bytes that an object takes, with what they are rounded up by and the list of its runs. A hint, but for the writer.
    #[must_use]
    pub fn size(&'static self, record: u32) -> usize {
        let Some(record) = self.records.get(record as usize) else { return 0 };
        self.all_runs(record).iter().map(|run| run.bytes()).sum()
    }

    /// All runs of a record: those of the object, that of their list, and a head of its own.
    fn all_runs(&self, record: &Record) -> Vec<Run> {
        self.geometry.all_runs(self.region, record)
    }

    /// The head of a record, where it does not lie at the beginning of its object any more.
    fn separate_head(&self, record: &Record) -> Option<Run> {
        self.geometry.separate_head(self.region, record)
    }

    /// Pins a record that its writer knows to be committed.
    pub fn pin(&'static self, record: u32) -> Option<Pinned> {
        let place = self.records.get(record as usize)?;
        let seen = State(place.state.load(SeqCst));
        if seen.phase() != protocol::Phase::Committed {
            return None;
        }
        let is_pinned = protocol::pin(&place.state, self.pins(place)?, seen) == Pinning::Pinned;
        is_pinned.then(|| Pinned::new(self, record, seen))
    }

    fn pins<'r>(&self, record: &'r Record) -> Option<&'r std::sync::atomic::AtomicU16> {
        record.pins.get(self.slot)
    }

    fn word(&self, index: usize) -> &'static AtomicU64 {
        self.own.get(index).expect("the page has more words")
    }

    fn chain(&self, primary: u128) -> Option<&'static AtomicU32> {
        self.first.get(self.chain_index(primary))
    }

    fn chain_index(&self, primary: u128) -> usize {
        // The lower half: the upper one may be shared by many.
        primary as usize & (self.geometry.chains as usize - 1)
    }

    fn bit(&self, record: u32) -> Option<(&AtomicU64, u64)> {
        Some((self.checked.get(record as usize / 64)?, 1 << (record % 64)))
    }

    fn is_checked(&self, record: u32) -> bool {
        self.bit(record).is_some_and(|(word, bit)| word.load(Relaxed) & bit != 0)
    }

    fn set_checked(&self, record: u32) {
        if let Some((word, bit)) = self.bit(record) {
            word.fetch_or(bit, Relaxed);
        }
    }
}

/// The tables of an arena.
struct Tables {
    first: &'static [AtomicU32],
    records: &'static [Record],
}

impl Tables {
    fn of(region: &'static Region, geometry: Geometry) -> Self {
        let (chains, records) = (geometry.chains as usize, geometry.records as usize);
        let chains_at = geometry.chains_at().expect("checked when the geometry was made");
        let records_at = geometry.records_at().expect("checked when the geometry was made");
        region.check(chains_at, chains.checked_mul(size_of::<AtomicU32>()), align_of::<AtomicU32>());
        region.check(records_at, records.checked_mul(size_of::<Record>()), 64);
        let first = region.pointer(chains_at).cast::<AtomicU32>();
        // SAFETY: inside the mapping and aligned, as was checked; mapped for the life of the process; only ever used as atomic words.
        let first = unsafe { std::slice::from_raw_parts(first, chains) };
        let table = region.pointer(records_at).cast::<Record>();
        // SAFETY: as above; a record consists of atomic words, for which every bit pattern is a value.
        let records = unsafe { std::slice::from_raw_parts(table, records) };
        Self { first, records }
    }
}

/// What is looked for in a chain.
struct Wanted {
    arena: &'static Arena,
    primary: u128,
    variance: u64,
}

impl Chains for Wanted {
    type Link = AtomicU32;
    type State = AtomicU64;

    fn first(&self) -> &AtomicU32 {
        self.arena.chain(self.primary).expect("the index is masked with their number")
    }

    fn next(&self, record: u32) -> Option<&AtomicU32> {
        self.arena.records.get(record as usize).map(|record| &record.next)
    }

    fn state(&self, record: u32) -> Option<&AtomicU64> {
        self.arena.records.get(record as usize).map(|record| &record.state)
    }

    fn is_it(&self, record: u32) -> bool {
        let record = self.arena.records.get(record as usize);
        record.is_some_and(|r| r.is_of(self.primary) && r.variance.load(Relaxed) == self.variance)
    }
}

/// Takes a place for this process: its pins are counted there.
fn take_slot(
    region: &'static Region,
    own: &'static [AtomicU64],
    records: &'static [Record],
) -> Option<(usize, Held)> {
    let word = |slot: usize| own.get(SLOT_WORDS + slot);
    let mut dirty = None;
    let mut taken = None;
    for slot in 0..SLOTS {
        let Ok(Some(held)) = region.try_lock(slot_lock(slot)) else { continue };
        if word(slot)?.load(SeqCst) == 0 {
            taken = Some((slot, held));
            break;
        }
        dirty.get_or_insert((slot, held));
    }
    if taken.is_none()
        && let Some((slot, _)) = dirty
    {
        // Whoever had it died with its pins.
        clear_pins(records, slot);
    }
    let (slot, held) = taken.or(dirty)?;
    word(slot)?.store(u64::from(std::process::id()), SeqCst);
    Some((slot, held))
}

fn clear_pins(records: &[Record], slot: usize) {
    for pins in records.iter().filter_map(|record| record.pins.get(slot)) {
        pins.store(0, SeqCst);
    }
}

fn own_words(region: &'static Region) -> &'static [AtomicU64] {
    region.words(HEADER_BYTES, OWN_BYTES / 8)
}

fn read_geometry(own: &[AtomicU64], bytes: usize) -> Option<Geometry> {
    let number = |index: usize| own.get(index).map(|word| word.load(Relaxed));
    let records = u32::try_from(number(RECORDS)?).ok()?;
    let user_bytes = usize::try_from(number(USER_BYTES)?).ok()?;
    Geometry::new(bytes, records, user_bytes)
}

fn write_geometry(own: &[AtomicU64], geometry: Geometry) {
    let put = |index: usize, value: u64| {
        if let Some(word) = own.get(index) {
            word.store(value, SeqCst);
        }
    };
    put(RECORDS, geometry.records.into());
    put(USER_BYTES, geometry.user_bytes as u64);
}

fn slot_lock(slot: usize) -> Lock {
    // There are eight.
    Lock(SLOT_LOCK + slot as u8)
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Bytes of a unit of the data area: a cache line, so that a small object wastes little.
pub const UNIT: usize = 64;
const MAGIC: [u8; 8] = *b"PCARENA\n";
/// Counted up whenever something lies elsewhere or means something else.
const LAYOUT: u64 = 1;
/// The page of the arena's own words.
const OWN_BYTES: usize = 4096;
/// A data area below this would hold nothing.
const MIN_UNITS: u32 = 1024;
/// Words of that page.
const SEQUENCE: usize = 0;
const LEASE_PID: usize = 1;
const LEASE_SINCE: usize = 2;
const RECORDS: usize = 3;
const USER_BYTES: usize = 4;
const SLOT_WORDS: usize = 8;
/// Bytes that are locked.
const LEASE: Lock = Lock(0);
const USER: Lock = Lock(1);
const SLOT_LOCK: u8 = 8;

#[cfg(test)]
mod corrupt_tests;
#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod tests;
