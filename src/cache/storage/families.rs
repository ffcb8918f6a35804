//! Everything under one primary hash, and the order of these hashes.
//!
//! The upper half of a primary hash is its URL's ([`super::super::key::UrlHash`]), so all that is stored for a URL is one range of
//! the order. The order is touched when a family comes and goes, never at a hit.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use ahash::RandomState;

use super::entry::Entry;
use super::fill::Fill;
use crate::cache::key::UrlHash;

/// The variants of one key.
#[derive(Debug, Default)]
pub(super) struct Family {
    /// In order of storing; at most [`super::shard::MAX_VARIANTS`].
    pub(super) entries: Vec<(Option<u128>, Arc<Entry>)>,
    /// Running fills, the newest last.
    pub(super) fills: Vec<Arc<Fill>>,
}

impl Family {
    pub(super) fn entry(&self, variance: Option<u128>) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|(v, _)| *v == variance).map(|(_, entry)| entry)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.fills.is_empty()
    }
}

/// The families of a shard.
#[derive(Debug, Default)]
pub(super) struct Families {
    by_primary: HashMap<u128, Family, RandomState>,
    order: BTreeSet<u128>,
}

impl Families {
    pub(super) fn of(&self, primary: u128) -> Option<&Family> {
        self.by_primary.get(&primary)
    }

    pub(super) fn of_mut(&mut self, primary: u128) -> Option<&mut Family> {
        self.by_primary.get_mut(&primary)
    }

    /// The family, made if it is not there.
    pub(super) fn place(&mut self, primary: u128) -> &mut Family {
        self.by_primary.entry(primary).or_insert_with(|| {
            self.order.insert(primary);
            Family::default()
        })
    }

    /// Lets a family go that has become empty.
    pub(super) fn tidy(&mut self, primary: u128) {
        if self.of(primary).is_some_and(Family::is_empty) {
            self.by_primary.remove(&primary);
            self.order.remove(&primary);
        }
    }

    /// The primary hashes of a URL.
    pub(super) fn of_url(&self, url: UrlHash) -> Vec<u128> {
        let first = u128::from(url.0) << 64;
        self.order.range(first..=first | u128::from(u64::MAX)).copied().collect()
    }

    /// The primary hashes in order, behind one of them.
    pub(super) fn behind(&self, after: Option<u128>) -> impl Iterator<Item = u128> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u128, &Family)> {
        self.by_primary.iter().map(|(primary, family)| (*primary, family))
    }
}
