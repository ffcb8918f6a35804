//! The table of purges of many, in the store's file: it survives a crash, and every process sees a purge at once.
//!
//! ```text
//!   words:  0 version │ 1 epoch │ 2 retired │ 3..8 unused │ slot A: length and CRC-32, bytes │ slot B
//!
//!   change:  lock (the kernel drops it on death) ─▶ write the slot of version + 1 ─▶ version + 1
//!   look-up: version as it was read last? ─▶ the copy of this process, else read the slot anew
//! ```
//!
//! A process that dies while it writes has changed nothing that counts. Each process keeps a copy that it has read; a look-up costs one load
//! of a word that is hardly ever written. A table that cannot be read strikes everything: nothing that was purged may come back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, fence};
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cache::purge::{Ban, Bans, Effect, MAX_BANS, Mode, Object, Scope};
use crate::shm::Held;

/// The lock that only one process can hold.
type Lock = Box<dyn Fn() -> io::Result<Held> + Send + Sync>;

/// The bans of a store. Read at every lookup, written by purges and sweeps.
pub(super) struct Table {
    area: &'static [AtomicU64],
    lock: Lock,
    /// Within the process: the lock of the file does not tell threads apart.
    writing: Mutex<()>,
    read: ArcSwap<Read>,
    /// Said once.
    is_broken: AtomicBool,
    asked: Notify,
}

/// The table as this process read it.
#[derive(Debug)]
struct Read {
    version: u64,
    /// `None`: it could not be read.
    bans: Option<Arc<Bans>>,
    count: usize,
}

/// What a look-up asks.
pub(super) struct Asked(Guard<Arc<Read>>);

impl Asked {
    /// What the bans make of an object.
    pub(super) fn effect(&self, object: &Object<'_>) -> Effect {
        self.0.bans.as_ref().map_or(Effect::Gone, |bans| bans.effect(object))
    }

    /// The bans themselves. `None`: they could not be read.
    pub(super) fn bans(&self) -> Option<&Arc<Bans>> {
        self.0.bans.as_ref()
    }
}

/// What became of a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Added {
    /// It is in force.
    InForce,
    /// There is no room: a sweep has to take others off first.
    Full,
}

impl Table {
    /// How many bytes the table of a store of this size takes.
    pub(super) fn bytes_for(capacity_bytes: usize) -> usize {
        let slot = (capacity_bytes / SLOT_SHARE).clamp(MIN_SLOT_BYTES, MAX_SLOT_BYTES);
        8 * HEADER_WORDS + 2 * slot.next_multiple_of(64)
    }

    /// The table in these words, all 0 at the beginning.
    pub(super) fn new(area: &'static [AtomicU64], lock: Lock) -> Self {
        let read = Read { version: 0, bans: Some(Arc::default()), count: 0 };
        Self {
            area,
            lock,
            writing: Mutex::new(()),
            read: ArcSwap::from_pointee(read),
            is_broken: AtomicBool::new(false),
            asked: Notify::new(),
        }
    }

    /// The bans, if there are any. Acquire: who asks after a purge has returned sees its ban.
    pub(super) fn bans(&self) -> Option<Asked> {
        let read = self.current();
        (read.count > 0 || read.bans.is_none()).then_some(Asked(read))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.current().count
    }

    /// Whether it cannot be read.
    pub(super) fn is_broken(&self) -> bool {
        self.current().bans.is_none()
    }

    /// What they make of an object.
    pub(super) fn effect(&self, object: &Object<'_>) -> Effect {
        self.bans().map_or(Effect::Spared, |bans| bans.effect(object))
    }

    /// The same of one that is about to come in, with those that are off the table.
    pub(super) fn effect_on_new(&self, object: &Object<'_>) -> Effect {
        // In this order: a ban that the table has no more was counted as retired before.
        let effect = self.effect(object);
        if object.began < self.word(RETIRED).load(SeqCst) { Effect::Gone } else { effect }
    }

    /// How many purges there have been. SeqCst, here and in [`Self::next_epoch`]: a fetch that began after a purge returned must see that
    /// purge's epoch.
    pub(super) fn epoch(&self) -> u64 {
        self.word(EPOCH).load(SeqCst)
    }

    /// The number of a purge.
    pub(super) fn next_epoch(&self) -> u64 {
        self.word(EPOCH).fetch_add(1, SeqCst) + 1
    }

    /// Who is woken by a new ban.
    pub(super) fn asked(&self) -> &Notify {
        &self.asked
    }

    /// Puts a ban on everything that `scope` names.
    pub(super) fn add(&self, scope: &Scope, mode: Mode, at: SystemTime) -> Added {
        self.change(|bans| {
            // The epoch is taken under the lock: bans come onto the table in the order of their numbers.
            bans.add(scope, Ban { mode, epoch: self.next_epoch(), at });
            bans.len() <= MAX_BANS
        })
    }

    /// Takes off those that a sweep has applied: up to `swept`, and said before `before`.
    pub(super) fn retire(&self, swept: u64, before: SystemTime) {
        // Fewer are no problem of room.
        let _ = self.change(|bans| {
            let off = bans.iter().filter(|ban| ban.epoch <= swept && ban.at <= before);
            let Some(off) = off.map(|ban| ban.epoch).max() else { return false };
            self.word(RETIRED).fetch_max(off, SeqCst);
            bans.retire(swept, before);
            true
        });
    }

    /// One ban on everything in the place of all that there are: it strikes whatever they do.
    pub(super) fn clear_for(&self, mode: Mode, at: SystemTime) {
        // The one that stays has always room.
        let _ = self.change(|bans| {
            let is_hard = mode == Mode::Hard || bans.iter().any(|ban| ban.mode == Mode::Hard);
            let mode = if is_hard { Mode::Hard } else { Mode::Soft };
            *bans = Bans::default();
            bans.add(&Scope::All, Ban { mode, epoch: self.next_epoch(), at });
            true
        });
    }

    /// Begins an empty table where the old one cannot be read, once everything that it could have named is gone.
    pub(super) fn begin_anew(&self) {
        let _writing = self.writing.lock();
        if let Ok(_held) = (self.lock)()
            && self.is_broken()
        {
            self.word(RETIRED).fetch_max(self.epoch(), SeqCst);
            self.publish(Bans::default());
        }
    }

    /// Changes the table, if `change` says so and there is room.
    fn change(&self, change: impl FnOnce(&mut Bans) -> bool) -> Added {
        let _writing = self.writing.lock();
        let Ok(_held) = (self.lock)() else {
            tracing::error!("the table of purges cannot be locked");
            return Added::Full;
        };
        let current = self.current();
        // A table that cannot be read strikes everything already.
        let Some(bans) = &current.bans else { return Added::InForce };
        let mut bans = Bans::clone(bans);
        if change(&mut bans) && self.publish(bans) { Added::InForce } else { Added::Full }
    }

    /// Makes a table the one in force. False: it does not fit.
    fn publish(&self, bans: Bans) -> bool {
        let bytes = bans.to_bytes();
        let version = self.word(VERSION).load(SeqCst) + 1;
        let Some((sum, place)) = self.slot(version).split_first() else { return false };
        if bytes.len() > place.len() * 8 {
            return false;
        }
        for (word, chunk) in place.iter().zip(bytes.chunks(8)) {
            let mut value = [0; 8];
            value.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            word.store(u64::from_le_bytes(value), Relaxed);
        }
        sum.store((bytes.len() as u64) << 32 | u64::from(crc32fast::hash(&bytes)), Relaxed);
        // All of the slot is there for who sees the version.
        self.word(VERSION).store(version, SeqCst);
        let count = bans.len();
        self.read.store(Arc::new(Read { version, bans: Some(Arc::new(bans)), count }));
        true
    }

    /// The table as it is now.
    fn current(&self) -> Guard<Arc<Read>> {
        let version = self.word(VERSION).load(Acquire);
        let read = self.read.load();
        if read.version == version {
            return read;
        }
        self.read.store(Arc::new(self.read_anew()));
        self.read.load()
    }

    fn read_anew(&self) -> Read {
        for _ in 0..MAX_TRIES {
            let version = self.word(VERSION).load(Acquire);
            let bans = self.bytes_of(version).and_then(|bytes| Bans::from_bytes(&bytes));
            fence(Acquire);
            // Written again meanwhile: only from the next version but one on is it this slot's turn.
            if self.word(VERSION).load(Acquire) == version {
                let count = bans.as_ref().map_or(0, Bans::len);
                if bans.is_none() && !self.is_broken.swap(true, Relaxed) {
                    tracing::error!(
                        "the table of purges is damaged: nothing of the cache is served until it is swept"
                    );
                }
                return Read { version, bans: bans.map(Arc::new), count };
            }
        }
        // Another process changes it all the time; until it can be read, nothing is served.
        Read { version: u64::MAX, bans: None, count: 0 }
    }

    fn bytes_of(&self, version: u64) -> Option<Vec<u8>> {
        if version == 0 {
            return Some(Bans::default().to_bytes());
        }
        let (sum, place) = self.slot(version).split_first()?;
        let sum = sum.load(Relaxed);
        let length = usize::try_from(sum >> 32).ok().filter(|length| *length <= place.len() * 8)?;
        let words = place.iter().take(length.div_ceil(8));
        let mut bytes: Vec<u8> = words.flat_map(|word| word.load(Relaxed).to_le_bytes()).collect();
        bytes.truncate(length);
        // Truncation is the point: the lower half is the sum.
        (crc32fast::hash(&bytes) == sum as u32).then_some(bytes)
    }

    fn slot(&self, version: u64) -> &'static [AtomicU64] {
        let words = self.area.len().saturating_sub(HEADER_WORDS) / 2;
        let begin = HEADER_WORDS + if version.is_multiple_of(2) { 0 } else { words };
        self.area.get(begin..begin + words).unwrap_or_default()
    }

    fn word(&self, index: usize) -> &'static AtomicU64 {
        self.area.get(index).expect("the area has its header")
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("read", &self.read).finish_non_exhaustive()
    }
}

const VERSION: usize = 0;
const EPOCH: usize = 1;
const RETIRED: usize = 2;
const HEADER_WORDS: usize = 8;
/// A slot is this fraction of the store, within bounds. 256 KiB hold 1024 bans with URLs of 200 bytes.
const SLOT_SHARE: usize = 512;
const MIN_SLOT_BYTES: usize = 4096;
const MAX_SLOT_BYTES: usize = 256 * 1024;
/// How often a table that changes under the reader is read again.
const MAX_TRIES: usize = 64;
