//! Where an object lies: the hash of the key and, for every variant but the first, the hash of the request headers that select it.

use pingora_cache::key::CacheHashKey;

use crate::cache::key::UrlHash;
use crate::shm::arena::Pinned;

/// The place of an object. All of one primary hash are a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) primary: u128,
    pub(super) variance: Option<u128>,
}

impl Slot {
    pub(super) fn of(key: &impl CacheHashKey) -> Self {
        Self {
            primary: u128::from_le_bytes(key.primary_bin()),
            variance: key.variance_bin().map(u128::from_le_bytes),
        }
    }

    /// The variance as the arena has it: 0 for the first of a family. Two variants that fold to one number would take each other's place;
    /// which request a variant is for is asked of its own head.
    pub(super) fn folded(self) -> u64 {
        // Truncation is the point: both halves are hashes.
        let fold =
            |hash: u128| (hash as u64).wrapping_add(((hash >> 64) as u64).rotate_left(17).wrapping_mul(5));
        self.variance.map_or(0, |hash| fold(hash).max(1))
    }

    /// The URL of it: the upper half of the primary hash is the URL's alone.
    pub(super) fn url(self) -> UrlHash {
        UrlHash((self.primary >> 64) as u64)
    }
}

/// The URL of a pinned object.
pub(super) fn url_of(pinned: &Pinned) -> UrlHash {
    UrlHash((pinned.primary() >> 64) as u64)
}
