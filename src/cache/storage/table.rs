//! The table of purges of many, in the store's file: it survives a crash, and every process sees a purge at once.
//!
//! ```text
//!   change   lock (the kernel drops it on death) ─▶ Place: the other slot, then the number
//!   lookup   the number that this process has read last? ─▶ its own copy of the bans, else the slot is read anew
//! ```
//!
//! A ban that [`Table::add`] has returned for is seen by every lookup that begins later, in whichever process, and survives all of them. A
//! table that cannot be read strikes everything, until somebody writes it again: then all that was fetched before is banned, because nobody
//! can tell what was purged.

mod place;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::cache::purge::{Ban, Bans, Effect, MAX_BANS, Mode, Object, Scope};
use crate::shm::Held;
use place::{Contents, Place, Read, beyond, unseal};

/// The lock that only one process can hold. It does not tell the threads of one apart.
type Lock = Box<dyn Fn() -> io::Result<Held> + Send + Sync>;

/// The bans of a store. Read at every lookup, written by purges and sweeps.
pub(super) struct Table {
    place: Place,
    lock: Lock,
    writing: Mutex<()>,
    reading: Mutex<()>,
    copy: ArcSwap<Decoded>,
    /// The word under which no ban is in force; 0, which is none, while there are some.
    quiet: AtomicU64,
    /// The epoch when this process began to store.
    since: AtomicU64,
    /// The last epoch that this process knows of.
    known: AtomicU64,
    /// How often the table could not be read.
    times_lost: AtomicU64,
    asked: Notify,
}

/// The table as this process has read it.
#[derive(Debug)]
struct Decoded {
    /// The word that named it.
    word: u64,
    /// What began before this epoch does not come in any more.
    retired: u64,
    /// `None`: it could not be read.
    bans: Option<Arc<Bans>>,
    count: usize,
}

/// What a lookup asks. Held for as long as it takes.
pub(super) struct Asked(Guard<Arc<Decoded>>);

impl Asked {
    /// What the bans make of an object.
    pub(super) fn effect(&self, object: &Object<'_>) -> Effect {
        self.0.effect(object)
    }

    /// The bans themselves. `None`: they could not be read.
    pub(super) fn bans(&self) -> Option<&Arc<Bans>> {
        self.0.bans.as_ref()
    }
}

/// A ban that came onto the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Added {
    /// Its number.
    pub(super) epoch: u64,
    /// How many there are now.
    pub(super) bans: usize,
}

/// Why a ban is not on the table: what it names is not purged.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is no room until a sweep has made some. Nobody's fault.
    Full,
    /// Its name has no room even on an empty table. The purger's fault.
    TooLong {
        /// How many bytes there are for it.
        most: usize,
    },
    /// The table cannot be locked. The system's fault.
    Lock(io::Error),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("the table of purges is full until a sweep has applied them"),
            Self::TooLong { most } => {
                write!(f, "the name is too long for the table of purges, which has {most} bytes for it")
            }
            Self::Lock(why) => write!(f, "the table of purges cannot be locked: {why}"),
        }
    }
}

impl std::error::Error for Refused {}

impl Table {
    /// How many bytes the table of a store of this size takes.
    pub(super) fn bytes_for(capacity_bytes: usize) -> usize {
        place::bytes_for(capacity_bytes)
    }

    /// The table in an area of [`Self::bytes_for`] bytes. Words that are all 0 become one without bans.
    pub(super) fn new(area: &'static [AtomicU64], lock: Lock) -> Self {
        let place = Place::new(area);
        let table = Self {
            // Another word than the one that is there, so that the first look reads.
            copy: ArcSwap::from_pointee(Decoded::lost(!place.word())),
            place,
            lock,
            writing: Mutex::new(()),
            reading: Mutex::new(()),
            quiet: AtomicU64::new(0),
            since: AtomicU64::new(0),
            known: AtomicU64::new(0),
            times_lost: AtomicU64::new(0),
            asked: Notify::new(),
        };
        // Without the lock it is one that cannot be read.
        if table.place.is_blank()
            && let Ok(_held) = (table.lock)()
            && table.place.is_blank()
        {
            table.place.begin(&Contents { epoch: 0, retired: 0, bytes: Bans::default().to_bytes() });
        }
        drop(table.present());
        table
    }

    /// The bans, if there are any.
    pub(super) fn bans(&self) -> Option<Asked> {
        let word = self.place.word();
        // Relaxed: it stands for nothing but this word, and a word names one contents only.
        if word == self.quiet.load(Relaxed) && word != 0 {
            return None;
        }
        let copy = self.present();
        (!copy.is_quiet()).then_some(Asked(copy))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.present().count
    }

    /// Whether it cannot be read.
    pub(super) fn is_broken(&self) -> bool {
        self.present().bans.is_none()
    }

    /// How often it could not be read, so that everything counted as purged.
    pub(super) fn times_lost(&self) -> u64 {
        self.times_lost.load(Relaxed)
    }

    /// What they make of an object.
    pub(super) fn effect(&self, object: &Object<'_>) -> Effect {
        self.bans().map_or(Effect::Spared, |bans| bans.effect(object))
    }

    /// The same of one that is about to come in, with those that are off the table.
    pub(super) fn effect_on_new(&self, object: &Object<'_>) -> Effect {
        let copy = self.present();
        let since = copy.retired.max(self.since.load(SeqCst));
        if object.began < since { Effect::Gone } else { copy.effect(object) }
    }

    /// This process stores from now on. What it asked for before, and before a purge, does not come in: the process that stored then may have
    /// carried that purge out without a ban. And there may be bans that nobody has applied yet.
    pub(super) fn begin_storing(&self) {
        self.since.store(self.epoch(), SeqCst);
        self.asked.notify_one();
    }

    /// How many purges there have been: what a fetch that begins now is stamped with.
    pub(super) fn epoch(&self) -> u64 {
        self.place.epoch().unwrap_or_else(|| self.next_epoch())
    }

    /// The number of a purge: every fetch that began before has a smaller one.
    pub(super) fn next_epoch(&self) -> u64 {
        let epoch = self.place.next_epoch(self.known.load(Relaxed));
        self.known.fetch_max(epoch, Relaxed);
        epoch
    }

    /// Who is woken by a new ban: one of this process at once, one of another at the lookup that sees it.
    pub(super) fn asked(&self) -> &Notify {
        &self.asked
    }

    /// Puts a ban on everything that `scope` names.
    ///
    /// # Errors
    /// [`Refused`]: no ban was added. A hard one of everything is never refused for want of room.
    pub(super) fn add(&self, scope: &Scope, mode: Mode, at: SystemTime) -> Result<Added, Refused> {
        let writing = self.write().map_err(Refused::Lock)?;
        let mut bans = writing.bans(at);
        // The epoch is taken under the lock: bans come onto the table in the order of their numbers.
        let ban = Ban { mode, epoch: self.next_epoch(), at };
        bans.add(scope, ban);
        let count = bans.len();
        if count > MAX_BANS || !writing.publish(bans, 0) {
            let mut alone = Bans::default();
            alone.add(scope, ban);
            let most = self.place.room();
            return Err(if alone.to_bytes().len() <= most {
                Refused::Full
            } else {
                Refused::TooLong { most }
            });
        }
        self.asked.notify_one();
        Ok(Added { epoch: ban.epoch, bans: count })
    }

    /// Takes off those that a sweep has applied: up to `swept`, and said before `before`. A table that cannot be locked keeps them.
    pub(super) fn retire(&self, swept: u64, before: SystemTime) {
        let due = |bans: &Bans| {
            bans.iter().filter(|ban| ban.epoch <= swept && ban.at <= before).map(|ban| ban.epoch).max()
        };
        if self.present().bans.as_deref().and_then(due).is_none() {
            return;
        }
        let Ok(writing) = self.write() else { return };
        let Some(mut bans) = writing.present.bans.as_deref().cloned() else { return };
        if let Some(off) = due(&bans) {
            bans.retire(swept, before);
            // Fewer bans need less room.
            writing.publish(bans, off);
        }
    }

    /// One ban on everything in the place of all that there are: it strikes whatever they do. If it cannot be written, this process at least
    /// serves nothing until it can.
    pub(super) fn clear_for(&self, mode: Mode, at: SystemTime) {
        let Ok(writing) = self.write() else {
            tracing::error!(
                "the table of purges cannot be locked: everything that is stored counts as purged"
            );
            self.keep(Decoded::lost(self.place.word()));
            return;
        };
        let was_hard = writing.bans(at).iter().any(|ban| ban.mode == Mode::Hard);
        let mode = if was_hard { Mode::Hard } else { mode };
        let mut bans = Bans::default();
        bans.add(&Scope::All, Ban { mode, epoch: self.next_epoch(), at });
        writing.publish(bans, 0);
        self.asked.notify_one();
    }

    /// Begins an empty table where the old one cannot be read, once everything that it could have named is gone.
    pub(super) fn begin_anew(&self) {
        if let Ok(writing) = self.write()
            && writing.present.bans.is_none()
        {
            writing.publish(Bans::default(), self.next_epoch());
        }
    }

    /// Writes the table again if it cannot be read, with a ban on everything. True if there is none that nobody can read.
    pub(super) fn mend(&self, now: SystemTime) -> bool {
        if self.is_broken()
            && let Ok(writing) = self.write()
        {
            let bans = writing.bans(now);
            writing.publish(bans, 0);
        }
        !self.is_broken()
    }

    /// The copy of what is in force.
    fn present(&self) -> Guard<Arc<Decoded>> {
        let copy = self.copy.load();
        if copy.word == self.place.word() { copy } else { self.refresh() }
    }

    fn refresh(&self) -> Guard<Arc<Decoded>> {
        // One reads for all: they need the same.
        let _reading = self.reading.lock();
        for _ in 0..MAX_TRIES {
            let word = self.place.word();
            let copy = self.copy.load();
            if copy.word == word {
                return copy;
            }
            let found = match self.place.read(word) {
                Read::Moved => continue,
                Read::Whole(contents) => self.decoded(word, &contents),
                Read::Spoilt => None,
            };
            let copy = found.unwrap_or_else(|| {
                self.times_lost.fetch_add(1, Relaxed);
                tracing::error!("the table of purges is damaged: everything that is stored counts as purged");
                Decoded::lost(word)
            });
            if !copy.is_quiet() {
                self.asked.notify_one();
            }
            return Guard::from_inner(self.keep(copy));
        }
        // Somebody purges faster than this can be read: nothing is served now, and nothing of it kept.
        Guard::from_inner(Arc::new(Decoded::lost(0)))
    }

    fn decoded(&self, word: u64, contents: &Contents) -> Option<Decoded> {
        // Who wrote it knew of all these purges.
        let is_sound = |bans: &Bans| bans.iter().all(|ban| ban.epoch <= contents.epoch);
        let bans = Bans::from_bytes(&contents.bytes).filter(is_sound)?;
        self.known.fetch_max(contents.epoch, Relaxed);
        Some(Decoded::new(word, contents.retired, bans))
    }

    /// Keeps a copy for the lookups to come.
    fn keep(&self, copy: Decoded) -> Arc<Decoded> {
        let quiet = if copy.is_quiet() { copy.word } else { 0 };
        let copy = Arc::new(copy);
        self.copy.store(Arc::clone(&copy));
        // Whichever thread comes last: both are compared with the word at every look.
        self.quiet.store(quiet, Relaxed);
        copy
    }

    fn write(&self) -> io::Result<Writing<'_>> {
        let threads = self.writing.lock();
        let processes = (self.lock)()?;
        let present = Guard::into_inner(self.present());
        Ok(Writing { table: self, present, _processes: processes, _threads: threads })
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("copy", &self.copy.load()).finish_non_exhaustive()
    }
}

impl Decoded {
    fn new(word: u64, retired: u64, bans: Bans) -> Self {
        Self { word, retired, count: bans.len(), bans: Some(Arc::new(bans)) }
    }

    fn lost(word: u64) -> Self {
        Self { word, retired: u64::MAX, bans: None, count: 0 }
    }

    fn is_quiet(&self) -> bool {
        self.count == 0 && self.bans.is_some()
    }

    fn effect(&self, object: &Object<'_>) -> Effect {
        self.bans.as_ref().map_or(Effect::Gone, |bans| bans.effect(object))
    }
}

/// The right to write, among all threads and processes. The locks go in the order of the fields.
struct Writing<'a> {
    table: &'a Table,
    /// What is in force, for certain: nobody else writes.
    present: Arc<Decoded>,
    _processes: Held,
    _threads: MutexGuard<'a, ()>,
}

impl Writing<'_> {
    /// The bans in force, to be changed. In the place of those that cannot be read, one on everything.
    fn bans(&self, now: SystemTime) -> Bans {
        self.present.bans.as_deref().cloned().unwrap_or_else(|| {
            let mut bans = Bans::default();
            bans.add(&Scope::All, Ban { mode: Mode::Hard, epoch: self.table.next_epoch(), at: now });
            bans
        })
    }

    /// Puts bans in force, and lets nothing in that began before `retired` or what was retired before; false if they do not fit.
    fn publish(self, bans: Bans, retired: u64) -> bool {
        let (table, present) = (self.table, &self.present);
        let before = if present.bans.is_some() { present.retired } else { 0 };
        let retired = retired.max(before);
        let contents = Contents { epoch: table.known.load(Relaxed), retired, bytes: bans.to_bytes() };
        if contents.bytes.len() > table.place.room() {
            return false;
        }
        // A number that cannot be read is set beyond all that can have been: no process may take the new contents for some that it knows.
        let known = unseal(present.word).unwrap_or_default();
        let number = unseal(table.place.word()).unwrap_or_else(|| beyond(known)) + 1;
        let word = table.place.write(number, &contents);
        table.keep(Decoded::new(word, retired, bans));
        true
    }
}

/// How often a read begins again when somebody writes meanwhile.
const MAX_TRIES: usize = 64;

#[cfg(test)]
mod tests;
