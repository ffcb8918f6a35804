//! The ghost: whose objects left the small lane without having been asked for again, by hash, as many as are stored.
//!
//! ```text
//!   bucket = high bits of the hash           entry = epoch (16 bits) | fingerprint (16 bits, low bits of the hash, never 0)
//!   [ e e e e e e e e ]                      epoch = count of all that left, in steps of 1/16384 of the table
//! ```
//!
//! It is first in, first out by distance: an entry counts for as long as no more have left after it than are stored now. It is not exact. A
//! bucket that is full gives up its oldest entry early, and one fingerprint in 65536 is another's: either way an object stands in
//! the wrong lane for once. `benches/eviction` has an exact one beside it.

/// A fixed table, one entry for each record of the store.
#[derive(Debug)]
pub(super) struct Ghosts {
    buckets: Vec<[u32; WAYS]>,
    /// How many have left so far.
    count: u64,
    /// How many leave in one epoch.
    step: u64,
}

impl Ghosts {
    /// A table for a store of `capacity` records.
    pub fn new(capacity: u32) -> Self {
        let count = (capacity as usize).div_ceil(WAYS).max(MIN_BUCKETS);
        // The epochs of four full tables are told apart: long before they repeat, a bucket has replaced all of its entries.
        let step = (count * WAYS).div_ceil(1 << 14) as u64;
        Self { buckets: vec![[0; WAYS]; count], count: 0, step }
    }

    /// An object has left.
    pub fn remember(&mut self, hash: u64) {
        self.count += 1;
        let now = self.epoch();
        let fingerprint = fingerprint(hash);
        let bucket = self.bucket_mut(hash);
        let age = |entry: u32| if entry == 0 { u32::MAX } else { u32::from(age(entry, now)) };
        let same = bucket.iter().position(|entry| *entry != 0 && *entry as u16 == fingerprint);
        let oldest = (0..WAYS).max_by_key(|way| bucket.get(*way).map(|entry| age(*entry)));
        if let Some(entry) = same.or(oldest).and_then(|way| bucket.get_mut(way)) {
            *entry = u32::from(now) << 16 | u32::from(fingerprint);
        }
    }

    /// True if the object left not long ago; then it is forgotten. `stored` is how many the store holds.
    pub fn take(&mut self, hash: u64, stored: u32) -> bool {
        let (now, step) = (self.epoch(), self.step);
        let fingerprint = fingerprint(hash);
        let window = u64::from(stored.max(MIN_GHOSTS));
        let found =
            self.bucket_mut(hash).iter_mut().find(|entry| **entry != 0 && **entry as u16 == fingerprint);
        found.is_some_and(|entry| u64::from(age(std::mem::take(entry), now)) * step < window)
    }

    fn epoch(&self) -> u16 {
        // Cut off on purpose: only distances matter.
        (self.count / self.step) as u16
    }

    fn bucket_mut(&mut self, hash: u64) -> &mut [u32; WAYS] {
        let index = (u128::from(hash) * self.buckets.len() as u128) >> 64;
        self.buckets.get_mut(index as usize).expect("a part of the length below one")
    }
}

fn fingerprint(hash: u64) -> u16 {
    (hash as u16).max(1)
}

fn age(entry: u32, now: u16) -> u16 {
    now.wrapping_sub((entry >> 16) as u16)
}

/// Entries of a bucket: half a cache line.
const WAYS: usize = 8;
const MIN_BUCKETS: usize = 8;
/// However few are stored, so many ghosts count.
pub(super) const MIN_GHOSTS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// A mix of a number (splitmix64).
    fn hash(number: u64) -> u64 {
        let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    impl Ghosts {
        pub(in super::super) fn size_bytes(&self) -> usize {
            std::mem::size_of_val(&*self.buckets)
        }
    }

    #[test]
    fn an_entry_counts_until_as_many_left_after_it_as_are_stored() {
        for (after, known) in [(0, true), (99, true), (100, false), (65_535, false)] {
            let mut ghosts = Ghosts::new(1000);
            ghosts.remember(0);
            (0..after).for_each(|number| ghosts.remember(hash(number) | 1 << 63));
            assert_eq!(ghosts.take(0, 100), known, "{after} left after it; its bucket was left alone");
        }
    }

    #[test]
    fn few_stored_are_few_ghosts_but_not_none() {
        let mut ghosts = Ghosts::new(1000);
        (0..u64::from(MIN_GHOSTS)).for_each(|number| ghosts.remember(hash(number)));
        assert!(ghosts.take(hash(0), 0), "the last {MIN_GHOSTS} count");
        ghosts.remember(hash(1000));
        ghosts.remember(hash(1001));
        assert!(!ghosts.take(hash(1), 0), "not the one before");
    }

    #[test]
    fn a_full_table_knows_most_of_what_it_should_and_little_else() {
        const STORED: u32 = 100_000;
        let mut ghosts = Ghosts::new(STORED);
        let last = 5 * u64::from(STORED);
        (0..last).for_each(|number| ghosts.remember(hash(number)));
        let known =
            (last - u64::from(STORED)..last).filter(|number| ghosts.take(hash(*number), STORED)).count();
        let gone = (0..u64::from(STORED)).filter(|number| ghosts.take(hash(*number), STORED)).count();
        assert!(known > 85_000, "{known} of {STORED} that left last");
        assert!(gone < 100, "{gone} of {STORED} that left long ago");
    }
}
