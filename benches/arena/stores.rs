//! The arena and its peers behind one interface: 16 bytes of key, a body that is read without a copy.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;
use parking_lot::Mutex;
use portcullis::shm::Place;
use portcullis::shm::arena::{Arena, Full, Object, Settings, Writer};

/// What is measured.
pub trait Store: Sync {
    /// The body of a key.
    fn get(&self, key: u64) -> Option<Bytes>;
    /// Copies a body in; what was longest there makes way.
    fn put(&self, key: u64, body: &[u8]);
}

/// The arena as the store uses it: space and commit under a lock, the copy and the checksum outside. First in, first out.
pub struct Ours {
    pub arena: &'static Arena,
    desk: Mutex<Option<Desk>>,
}

struct Desk {
    writer: Writer,
    order: VecDeque<u32>,
}

impl Ours {
    /// Opens or makes a file, and takes the lease.
    pub fn open(path: &Path, bytes: usize, records: u32) -> Self {
        let arena = open(path, bytes, records);
        let lease = arena.try_lease().expect("the file system has locks").expect("nobody else has it");
        let attached = arena.attach(lease).expect("the file system has locks");
        let order = attached.survivors.iter().map(|survivor| survivor.record).collect();
        Self { arena, desk: Mutex::new(Some(Desk { writer: attached.writer, order })) }
    }

    /// Gives the lease back.
    pub fn release(&self) {
        drop(self.desk.lock().take());
    }

    /// Objects, and bytes of the data that they take.
    pub fn used(&self) -> (usize, usize) {
        let desk = self.desk.lock();
        let desk = desk.as_ref().expect("it has the lease");
        (desk.order.len(), self.arena.data_bytes() - desk.writer.free_bytes())
    }
}

/// Opens or makes a file.
pub fn open(path: &Path, bytes: usize, records: u32) -> &'static Arena {
    let settings = Settings { place: Place::File(path), bytes, records, user_bytes: 0, seeds: None };
    Arena::open(&settings).expect("there is room for it").0
}

/// The body of a key, as far as it lies together.
pub fn body_of(arena: &'static Arena, key: u64) -> Option<Bytes> {
    arena.find(wide(key), 0)?.into_body(0, usize::MAX)
}

impl Store for Ours {
    fn get(&self, key: u64) -> Option<Bytes> {
        body_of(self.arena, key)
    }

    fn put(&self, key: u64, body: &[u8]) {
        let draft = {
            let mut desk = self.desk.lock();
            let desk = desk.as_mut().expect("it has the lease");
            loop {
                match desk.writer.take(HEAD.len() + body.len(), HEAD.len()) {
                    Ok(draft) => break draft,
                    Err(Full::Pinned) => return,
                    Err(_) => {
                        let Some(oldest) = desk.order.pop_front() else { return };
                        desk.writer.kill(oldest);
                    }
                }
            }
        };
        draft.write(0, &HEAD);
        draft.write(HEAD.len(), body);
        let object = Object {
            primary: wide(key),
            variance: 0,
            head_bytes: HEAD.len(),
            body_at: HEAD.len(),
            body_bytes: body.len(),
            body_sum: crc32fast::hash(body),
            sequence: self.arena.next_sequence(),
            began: 0,
            stale_from: None,
        };
        let mut desk = self.desk.lock();
        let desk = desk.as_mut().expect("it has the lease");
        let record = desk.writer.commit(draft, &object);
        desk.order.push_back(record);
    }
}

/// `quick_cache`, bounded in bytes.
pub type Quick = quick_cache::sync::Cache<u128, Bytes, Length>;

#[derive(Clone)]
pub struct Length;

impl quick_cache::Weighter<u128, Bytes> for Length {
    fn weight(&self, _key: &u128, body: &Bytes) -> u64 {
        body.len() as u64
    }
}

impl Store for Quick {
    fn get(&self, key: u64) -> Option<Bytes> {
        Quick::get(self, &wide(key))
    }

    fn put(&self, key: u64, body: &[u8]) {
        self.insert(wide(key), Bytes::copy_from_slice(body));
    }
}

/// `moka`, bounded in bytes.
pub type Moka = moka::sync::Cache<u128, Bytes>;

impl Store for Moka {
    fn get(&self, key: u64) -> Option<Bytes> {
        Moka::get(self, &wide(key))
    }

    fn put(&self, key: u64, body: &[u8]) {
        self.insert(wide(key), Bytes::copy_from_slice(body));
    }
}

/// A key of 16 bytes that looks like a hash.
fn wide(key: u64) -> u128 {
    u128::from(mix(key)) << 64 | u128::from(mix(key ^ 1 << 63))
}

/// The last step of splitmix64.
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// What stands for a head.
const HEAD: [u8; 24] = *b"twenty-four bytes of it ";
