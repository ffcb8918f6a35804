//! What decides for newcomers while their set of the table is full of live keys.
//!
//! A count-min sketch whose cells hold arrival times instead of counts: a key's estimate is the earliest of its cells,
//! and a request that passes moves all of them at least to its new arrival time. Keys that share cells can only make
//! each other look busier, so the limit holds, and known clients, who stay in the table, are untouched. It is an
//! estimate: two requests of one newcomer at the same instant on two cores may pass as one.

use super::gcra::{Decision, Quota};
use super::key::Key;
use std::sync::atomic::{AtomicU64, Ordering};

/// Independent looks at a key: a stranger must collide in all of them to be mistaken.
const ROWS: usize = 4;

/// Cells in a row. 4 rows of 4096 are 128 KiB.
const CELLS: usize = 4096;

/// A fixed number of arrival times, shared by whoever does not fit into the table.
pub(super) struct Overflow {
    rows: Box<[[AtomicU64; CELLS]]>,
}

impl Overflow {
    pub(super) fn new() -> Self {
        Self { rows: (0..ROWS).map(|_| [const { AtomicU64::new(0) }; CELLS]).collect() }
    }

    /// Decides for `key`, at worst too strictly.
    pub(super) fn decide(&self, key: Key, quota: &Quota, now_ns: u64) -> Decision {
        let cells = || self.cells(key);
        let tat_ns = self.estimate(key);
        let (decision, next_ns) = quota.step(tat_ns, now_ns);
        if let Some(next_ns) = next_ns {
            for cell in cells() {
                cell.fetch_max(next_ns, Ordering::Relaxed);
            }
        }
        decision
    }

    /// What `key` would be told next.
    pub(super) fn peek(&self, key: Key, quota: &Quota, now_ns: u64) -> Decision {
        quota.peek(self.estimate(key), now_ns)
    }

    fn estimate(&self, key: Key) -> u64 {
        // Relaxed: each cell stands alone, and nothing else is published through it.
        self.cells(key).map(|cell| cell.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    fn cells(&self, key: Key) -> impl Iterator<Item = &AtomicU64> {
        self.rows.iter().enumerate().filter_map(move |(row, cells)| cells.get(place(key, row)))
    }
}

/// The cell of `key` in a row: its own twelve bits of the key, which is a seeded hash already.
fn place(key: Key, row: usize) -> usize {
    (key.0 >> (row * 16)) as usize % CELLS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::key::Seeds;
    use std::num::NonZeroU32;
    use std::time::Duration;

    #[test]
    fn a_newcomer_gets_no_more_than_its_burst() {
        let five = NonZeroU32::new(5).expect("not zero");
        let quota = Quota::new(five, Duration::from_secs(60), five);
        let overflow = Overflow::new();
        for stranger in 0..500u64 {
            let _ = overflow.decide(Key::new(Seeds([1, 2]), 1, &stranger.to_ne_bytes()), &quota, 0);
        }
        let key = Key::new(Seeds([1, 2]), 2, b"newcomer");
        let allowed = (0..10).filter(|_| overflow.decide(key, &quota, 0).allowed).count();
        assert!((1..=5).contains(&allowed), "{allowed} of 10");
        assert!(overflow.decide(key, &quota, 60_000_000_000).allowed, "paid back a window later");
    }
}
