//! A writer as the store is one: space is taken under a lock, bytes are written outside it, the commit is under it again. Who is first in
//! goes first out when there is no room. Each step is told to who listens before it is done and after.

use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard};

use portcullis::shm::arena::{Arena, Attached, Draft, Full, Object, Settings, Survivor, Writer};
use portcullis::shm::{HEADER_BYTES, Place};

use crate::content::{self, Id, Random, Sizes};
use crate::process::{Kind, report};

/// A mistake that a test plants, to see that it would be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    Nothing,
    /// The object is committed, and then its body is copied.
    CommitBeforeCopy,
}

/// What is done with an arena.
#[derive(Debug)]
pub struct Churn {
    arena: &'static Arena,
    desk: Mutex<Desk>,
    sizes: Sizes,
    keys: u64,
    planted: Planted,
    file: std::fs::File,
}

#[derive(Debug)]
struct Desk {
    writer: Writer,
    live: HashMap<u64, Live>,
    order: VecDeque<Id>,
    listener: Option<UnixStream>,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    id: Id,
    record: u32,
    revision: u32,
}

impl Churn {
    /// Goes on with what was found.
    pub fn new(
        arena: &'static Arena,
        found: Found,
        of: (Sizes, u64),
        planted: Planted,
        listener: Option<UnixStream>,
    ) -> Self {
        let mut live: Vec<Live> = found
            .records
            .iter()
            .zip(found.ids)
            .map(|(record, (id, revision))| Live { id, record: *record, revision })
            .collect();
        live.sort_by_key(|live| live.id.version);
        let desk = Desk {
            writer: found.attached.writer,
            order: live.iter().map(|live| live.id).collect(),
            live: live.into_iter().map(|live| (live.id.key, live)).collect(),
            listener,
        };
        let (sizes, keys) = of;
        let file = std::fs::File::options().write(true).open(arena.region().path().unwrap()).unwrap();
        Self { arena, desk: Mutex::new(desk), sizes, keys, planted, file }
    }

    /// Does one thing.
    pub fn step(&self, random: &mut Random) {
        if random.one_in(8) {
            self.renew(random);
        } else {
            self.put(random);
        }
    }

    /// Puts one object under each of the first so many keys, of one piece and without a head that changes.
    pub fn fill(&self, keys: u64) {
        for key in 0..keys {
            let id = Id { key, version: self.arena.next_sequence() };
            let (head, bytes) = (id.head(0), id.body_bytes(self.sizes));
            let mut desk = self.desk();
            let draft = desk.writer.take(head.len() + bytes, head.len()).unwrap();
            draft.write(0, &head);
            assert_eq!(write_body(&draft, head.len(), id, 0, bytes), bytes);
            desk.commit(id, draft, &head, bytes, id.body_sum(bytes));
        }
    }

    /// Puts objects that grow side by side, so that each has many runs.
    pub fn weave(&self, ids: &[Id]) {
        let mut desk = self.desk();
        let start = |id: &Id| desk.writer.take(id.head(0).len(), id.head(0).len()).unwrap();
        let mut drafts: Vec<Draft> = ids.iter().map(start).collect();
        let mut at = vec![0; ids.len()];
        let lengths: Vec<usize> = ids.iter().map(|id| id.body_bytes(self.sizes)).collect();
        while at != lengths {
            for (index, id) in ids.iter().enumerate() {
                if at[index] == lengths[index] {
                    continue;
                }
                desk.writer.grow(&mut drafts[index], 1000).unwrap();
                at[index] = write_body(&drafts[index], id.head(0).len(), *id, at[index], lengths[index]);
            }
        }
        for ((id, draft), bytes) in ids.iter().zip(drafts).zip(lengths) {
            draft.write(0, &id.head(0));
            desk.commit(*id, draft, &id.head(0), bytes, id.body_sum(bytes));
        }
    }

    /// How many objects there are.
    pub fn live(&self) -> usize {
        self.desk().live.len()
    }

    /// All objects have been ended by somebody else.
    pub fn forget(&self) {
        let mut desk = self.desk();
        desk.live.clear();
        desk.order.clear();
    }

    /// Stops writing: the lease is free, what is there stays.
    pub fn stop(self) {
        drop(self.desk);
    }

    /// The writer, for a look.
    pub fn with_writer<T>(&self, what: impl FnOnce(&mut Writer) -> T) -> T {
        what(&mut self.desk().writer)
    }

    /// Puts one object, of some key.
    pub fn put(&self, random: &mut Random) {
        let id = Id { key: random.below(self.keys), version: self.arena.next_sequence() };
        let (head, bytes) = (id.head(0), id.body_bytes(self.sizes));
        // Half of them say how long they will be, the others grow.
        let first = if random.one_in(2) { bytes } else { bytes.min(random.below(100_000) as usize) };
        let Some(mut draft) = self.desk().make_room(|w| w.take(head.len() + first, head.len())) else {
            return;
        };
        assert_eq!(draft.write(0, &head), head.len());
        if self.planted == Planted::Nothing {
            let mut at = 0;
            while at < bytes {
                at = write_body(&draft, head.len(), id, at, bytes);
                if at < bytes {
                    let more = (bytes - at).min(1 << 20);
                    let grown = self.desk().make_room(|w| w.grow(&mut draft, more));
                    if grown.is_none() {
                        return self.desk().writer.discard(draft);
                    }
                }
            }
        } else if draft.capacity() < head.len() + bytes {
            return self.desk().writer.discard(draft);
        }
        let sum = id.body_sum(bytes);
        let mut desk = self.desk();
        // A few are given up at the end, and those that somebody has overtaken.
        if random.one_in(16) || desk.live.get(&id.key).is_some_and(|live| live.id.version > id.version) {
            return desk.writer.discard(draft);
        }
        desk.commit(id, draft, &head, bytes, sum);
        drop(desk);
        if self.planted == Planted::CommitBeforeCopy {
            self.copy_late(id, bytes);
        }
    }

    /// Writes a body through the file, to where it should have been before the commit.
    fn copy_late(&self, id: Id, bytes: usize) {
        let Some(pinned) = self.arena.find(id.primary(), 0) else { return };
        // The user's words begin behind the region's page and the arena's.
        let begins = self.arena.user_words().as_ptr().addr() - 2 * HEADER_BYTES;
        let mut at = 0;
        while let Some(piece) = pinned.body(at, (at + 4096).min(bytes)) {
            let content = id.body(at);
            let content = &content[..content.len().min(piece.len())];
            self.file.write_all_at(content, (piece.as_ptr().addr() - begins) as u64).unwrap();
            at += content.len();
        }
    }

    /// Exchanges the head of something, as a 304 does.
    pub fn renew(&self, random: &mut Random) {
        let mut desk = self.desk();
        let key = random.below(self.keys);
        let Some(mut live) = desk.live.get(&key).copied() else { return };
        live.revision += 1;
        let head = live.id.head(live.revision);
        desk.tell(Kind::Heading, live.id, live.revision.into());
        if desk.writer.put_head(live.record, &head).is_ok() {
            desk.tell(Kind::Headed, live.id, live.revision.into());
            desk.live.insert(key, live);
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }
}

impl Desk {
    /// Ends the oldest until there is room. `None`: readers hold too much, or nothing is left to end.
    fn make_room<T>(&mut self, mut take: impl FnMut(&mut Writer) -> Result<T, Full>) -> Option<T> {
        loop {
            match take(&mut self.writer) {
                Ok(taken) => return Some(taken),
                Err(Full::Pinned) => return None,
                Err(Full::Records | Full::Units) => {
                    let oldest = self.order.pop_front()?;
                    if let Some(live) = self.live.get(&oldest.key).filter(|live| live.id == oldest).copied() {
                        self.kill(live);
                        self.live.remove(&oldest.key);
                    }
                }
            }
        }
    }

    fn commit(&mut self, id: Id, draft: Draft, head: &[u8], body_bytes: usize, body_sum: u32) {
        let object = Object {
            primary: id.primary(),
            variance: 0,
            head_bytes: head.len(),
            body_at: head.len(),
            body_bytes,
            body_sum,
            sequence: id.version,
            began: id.version,
            stale_from: None,
        };
        self.tell(Kind::Committing, id, 0);
        let record = self.writer.commit(draft, &object);
        self.tell(Kind::Committed, id, 0);
        if let Some(old) = self.live.insert(id.key, Live { id, record, revision: 0 }) {
            self.kill(old);
        }
        self.order.push_back(id);
    }

    fn kill(&mut self, live: Live) {
        self.tell(Kind::Killing, live.id, 0);
        self.writer.kill(live.record);
        self.tell(Kind::Killed, live.id, 0);
    }

    fn tell(&self, kind: Kind, id: Id, number: u64) {
        if let Some(listener) = &self.listener {
            report(listener, kind, id.key, id.version, number);
        }
    }
}

/// What a new writer has found.
#[derive(Debug)]
pub struct Found {
    pub attached: Attached,
    /// What is there, and in which records; the head of each in which revision.
    pub ids: Vec<(Id, u32)>,
    pub records: Vec<u32>,
    /// What is not as it should be.
    pub wrong: Vec<String>,
}

impl Found {
    /// Becomes the writer and looks at all there is. `None`: another is.
    pub fn attach(arena: &'static Arena, sizes: Sizes) -> Option<Self> {
        let attached = arena.attach(arena.try_lease().unwrap()?).unwrap();
        let mut found = Self { attached, ids: Vec::new(), records: Vec::new(), wrong: Vec::new() };
        if found.attached.unsound > 0 {
            found.wrong.push(format!("{} records are unsound", found.attached.unsound));
        }
        let (writer, survivors) = (&found.attached.writer, &found.attached.survivors);
        let live: usize = survivors.iter().map(|survivor| survivor.size).sum();
        let (free, pinned) = (writer.free_bytes(), writer.pinned_bytes());
        if live + free + pinned != arena.data_bytes() {
            found.wrong.push(format!("{live} live, {free} free, {pinned} pinned, of {}", arena.data_bytes()));
        }
        for survivor in survivors {
            match check(arena, survivor, sizes) {
                Ok(of) => {
                    found.ids.push(of);
                    found.records.push(survivor.record);
                }
                Err(why) => found.wrong.push(why),
            }
        }
        Some(found)
    }
}

fn check(arena: &'static Arena, survivor: &Survivor, sizes: Sizes) -> Result<(Id, u32), String> {
    let pinned = arena.find(survivor.primary, survivor.variance).ok_or("not found")?;
    let (id, revision) = content::check(&pinned, sizes)?;
    let is_same = pinned.record() == survivor.record && pinned.sequence() == id.version;
    if is_same { Ok((id, revision)) } else { Err(format!("{id:?} is found elsewhere")) }
}

/// Writes a body from a position on, as far as there is room. Returns how far it is written.
fn write_body(draft: &Draft, head_bytes: usize, id: Id, mut at: usize, bytes: usize) -> usize {
    while at < bytes {
        let piece = id.body(at);
        let written = draft.write(head_bytes + at, &piece[..piece.len().min(bytes - at)]);
        at += written;
        if written == 0 {
            break;
        }
    }
    at
}

/// Opens an arena as these tests use it.
pub fn open(path: &std::path::Path, bytes: usize, records: u32) -> &'static Arena {
    let settings = Settings { place: Place::File(path), bytes, records, user_bytes: 128, seeds: None };
    Arena::open(&settings).unwrap().0
}
