//! What is stored for a URL: the records of each, in lists, so that a purge of one URL looks at its own objects only.
//!
//! It stands in the writer's memory and is made anew when a writer attaches. 12 bytes a record.

/// Lists of records by the hash of their URL.
#[derive(Debug)]
pub(super) struct Urls {
    /// Where each list begins; URLs that fall together share one.
    first: Vec<u32>,
    /// Behind and before each record. One that stands alone is before and behind nothing.
    next: Vec<u32>,
    before: Vec<u32>,
}

impl Urls {
    pub(super) fn new(records: u32) -> Self {
        let (lists, records) = (records.next_power_of_two() as usize, records as usize);
        Self { first: vec![0; lists], next: vec![0; records], before: vec![0; records] }
    }

    pub(super) fn insert(&mut self, record: u32, url: u64) {
        let list = self.list(url);
        let Some(first) = self.first.get_mut(list) else { return };
        let behind = std::mem::replace(first, record + 1);
        put(&mut self.next, record, behind);
        put(&mut self.before, record, 0);
        if behind != 0 {
            put(&mut self.before, behind - 1, record + 1);
        }
    }

    pub(super) fn remove(&mut self, record: u32, url: u64) {
        let at = |table: &[u32]| table.get(record as usize).copied().unwrap_or_default();
        let (behind, before) = (at(&self.next), at(&self.before));
        let list = self.list(url);
        match self.first.get_mut(list) {
            Some(first) if *first == record + 1 => *first = behind,
            // It is in no list.
            _ if before == 0 => return,
            _ => put(&mut self.next, before - 1, behind),
        }
        if behind != 0 {
            put(&mut self.before, behind - 1, before);
        }
    }

    /// The records of a list; some may be another URL's.
    pub(super) fn of(&self, url: u64) -> impl Iterator<Item = u32> {
        let mut at = self.first.get(self.list(url)).copied().unwrap_or_default();
        std::iter::from_fn(move || {
            let record = at.checked_sub(1)?;
            at = self.next.get(record as usize).copied().unwrap_or_default();
            Some(record)
        })
    }

    fn list(&self, url: u64) -> usize {
        // The number of lists is a power of two, and the hash is uniform.
        url as usize & (self.first.len() - 1)
    }
}

/// Numbers are stored counted from 1, so that 0 is nothing and a fresh table costs no memory.
fn put(table: &mut [u32], record: u32, value: u32) {
    if let Some(place) = table.get_mut(record as usize) {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashMap};

    proptest! {
        #[test]
        fn it_is_a_map_to_sets(steps in prop::collection::vec((any::<bool>(), 0u32..20, 0u64..40), 1..200)) {
            let mut urls = Urls::new(20);
            let mut model: HashMap<u32, u64> = HashMap::new();
            for (adds, record, url) in steps {
                match (adds, model.get(&record).copied()) {
                    (true, None) => {
                        urls.insert(record, url);
                        model.insert(record, url);
                    }
                    (false, Some(url)) => {
                        urls.remove(record, url);
                        model.remove(&record);
                    }
                    _ => {}
                }
                for list in 0..32u64 {
                    let expected: BTreeSet<u32> =
                        model.iter().filter(|(_, url)| **url % 32 == list).map(|(record, _)| *record).collect();
                    let found: Vec<u32> = urls.of(list).collect();
                    prop_assert_eq!(found.len(), expected.len());
                    prop_assert_eq!(found.into_iter().collect::<BTreeSet<u32>>(), expected);
                }
            }
        }
    }
}
