//! Which units of the data area are free: a binary buddy allocator whose state lies outside what it manages.
//!
//! A run of units is taken as one block of the next power of two, and what it does not need of that is given back at once: so a run is
//! contiguous and wastes less than one unit. A freed run falls back into aligned blocks, and two halves of a block become one again.
//!
//! ```text
//!   order 3  |               |
//!   order 2  |       |       |        one bit per block and order: set where that block is free as a whole
//!   order 1  |   |   |   |   |        above the bits of an order, levels of summaries: one bit per 64 below
//!   order 0  | | | | | | | | |
//! ```
//!
//! The state is rebuilt from the records when a writer attaches. It costs two bits a unit.

use super::numbers::Numbers;

/// Free space in units.
#[derive(Debug)]
pub(super) struct Buddy {
    units: u32,
    free: u32,
    orders: Vec<Numbers>,
}

impl Buddy {
    /// The free space of an area of which `used` tells the units in use, one bit each.
    pub(super) fn of(used: &Used) -> Self {
        let units = used.units;
        let orders = (0..=MAX_ORDER).map(|order| Numbers::none(units >> order)).collect();
        let mut buddy = Self { units, free: 0, orders };
        let mut at = 0;
        while let Some((start, end)) = used.gap(at) {
            buddy.free += end - start;
            blocks(start, end - start, |order, start| buddy.mark(order, start));
            at = end;
        }
        buddy
    }

    /// How many units are free.
    pub(super) fn free_units(&self) -> u32 {
        self.free
    }

    /// The longest run that could be taken.
    pub(super) fn longest_run(&self) -> u32 {
        self.orders.iter().rposition(|bits| bits.first().is_some()).map_or(0, |order| 1 << order)
    }

    /// Takes a run. `None`: no free block is so large.
    pub(super) fn take(&mut self, units: u32) -> Option<u32> {
        let wanted = units.checked_next_power_of_two()?.trailing_zeros() as usize;
        let (order, block) =
            (wanted..=MAX_ORDER).find_map(|order| Some((order, self.orders.get(order)?.first()?)))?;
        self.clear(order, block);
        let start = block << order;
        self.free -= 1 << order;
        // What is behind the run goes back, as the blocks that it is made of.
        self.give_unmerged(start + units, (1 << order) - units);
        Some(start)
    }

    /// Gives units back.
    pub(super) fn give(&mut self, start: u32, units: u32) {
        debug_assert!(start.checked_add(units).is_some_and(|end| end <= self.units), "inside");
        self.free += units;
        blocks(start, units, |order, start| self.merge(order, start));
    }

    fn give_unmerged(&mut self, start: u32, units: u32) {
        self.free += units;
        // Their buddies are in use, or were one block with them that is in use.
        blocks(start, units, |order, start| self.mark(order, start));
    }

    fn merge(&mut self, mut order: usize, start: u32) {
        let mut block = start >> order;
        while order < MAX_ORDER && self.orders.get(order).is_some_and(|bits| bits.contains(block ^ 1)) {
            self.clear(order, block ^ 1);
            block >>= 1;
            order += 1;
        }
        self.mark(order, block << order);
    }

    fn mark(&mut self, order: usize, start: u32) {
        if let Some(bits) = self.orders.get_mut(order) {
            bits.insert(start >> order);
        }
    }

    fn clear(&mut self, order: usize, block: u32) {
        if let Some(bits) = self.orders.get_mut(order) {
            bits.remove(block);
        }
    }
}

/// The aligned blocks that a run is made of.
fn blocks(mut start: u32, mut units: u32, mut each: impl FnMut(usize, u32)) {
    while units > 0 {
        let aligned = if start == 0 { MAX_ORDER as u32 } else { start.trailing_zeros() };
        let order = aligned.min(units.ilog2()).min(MAX_ORDER as u32);
        each(order as usize, start);
        start += 1 << order;
        units -= 1 << order;
    }
}

/// Units in use, one bit each.
#[derive(Debug)]
pub(super) struct Used {
    units: u32,
    words: Vec<u64>,
}

impl Used {
    pub(super) fn none(units: u32) -> Self {
        Self { units, words: vec![0; (units as usize).div_ceil(64)] }
    }

    /// Marks a run. False, and nothing is marked, where it is not all inside or not all free.
    pub(super) fn claim(&mut self, start: u32, units: u32) -> bool {
        let Some(end) = start.checked_add(units).filter(|end| *end <= self.units && units > 0) else {
            return false;
        };
        let (first, last) = (start as usize / 64, (end as usize - 1) / 64);
        let mask = |word: usize| {
            let low = if word == first { u64::MAX << (start % 64) } else { u64::MAX };
            let high = if word == last { u64::MAX >> ((64 - end % 64) % 64) } else { u64::MAX };
            low & high
        };
        let Some(words) = self.words.get_mut(first..=last) else { return false };
        if words.iter().zip(first..).any(|(word, at)| word & mask(at) != 0) {
            return false;
        }
        for (word, at) in words.iter_mut().zip(first..) {
            *word |= mask(at);
        }
        true
    }

    /// Takes marks back.
    pub(super) fn unclaim(&mut self, start: u32, units: u32) {
        for unit in start..start + units {
            if let Some(word) = self.words.get_mut(unit as usize / 64) {
                *word &= !(1 << (unit % 64));
            }
        }
    }

    /// The first free stretch at or behind a unit.
    fn gap(&self, at: u32) -> Option<(u32, u32)> {
        let start = self.next(at, |word| !word)?;
        Some((start, self.next(start, |word| word).unwrap_or(self.units)))
    }

    fn next(&self, at: u32, of: impl Fn(u64) -> u64) -> Option<u32> {
        let mut index = at as usize / 64;
        let mut word = of(*self.words.get(index)?) & (u64::MAX << (at % 64));
        while word == 0 {
            index += 1;
            word = of(*self.words.get(index)?);
        }
        let found = u32::try_from(index * 64).ok()? + word.trailing_zeros();
        (found < self.units).then_some(found)
    }
}

/// The order of the largest block: with units of 64 B, 16 MiB.
const MAX_ORDER: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_given_back_becomes_one_block_again() {
        let units = 1 << MAX_ORDER;
        let mut buddy = Buddy::of(&Used::none(units));
        let runs: Vec<_> = (1..200).map(|units| (buddy.take(units).unwrap(), units)).collect();
        assert!(buddy.longest_run() < units);
        for (start, units) in runs {
            buddy.give(start, units);
        }
        assert_eq!((buddy.free_units(), buddy.longest_run()), (units, units));
    }

    #[test]
    fn a_run_wastes_nothing() {
        let mut buddy = Buddy::of(&Used::none(1024));
        assert_eq!((buddy.take(5), buddy.free_units()), (Some(0), 1019));
        assert_eq!(buddy.take(3), Some(8), "a block of four; a hole of three is not looked for");
        assert_eq!(buddy.take(1), Some(5), "but single ones are filled");
        assert_eq!(buddy.take(2), Some(6));
        assert_eq!(buddy.take(2000), None);
    }

    proptest! {
        #[test]
        fn no_unit_is_given_twice(
            steps in prop::collection::vec((0usize..3, 1u32..70, any::<prop::sample::Index>()), 1..200), units in 65u32..700,
        ) {
            let mut buddy = Buddy::of(&Used::none(units));
            let mut taken: Vec<(u32, u32)> = Vec::new();
            for (what, size, index) in steps {
                if what > 0 {
                    if let Some(start) = buddy.take(size) {
                        prop_assert!(start + size <= units);
                        prop_assert!(taken.iter().all(|(other, length)| start + size <= *other || other + length <= start));
                        taken.push((start, size));
                    } else {
                        prop_assert!(buddy.longest_run() < size.next_power_of_two());
                    }
                } else if !taken.is_empty() {
                    let (start, size) = taken.swap_remove(index.index(taken.len()));
                    buddy.give(start, size);
                }
                let used: u32 = taken.iter().map(|(_, size)| size).sum();
                prop_assert_eq!(buddy.free_units(), units - used);
            }
            // Rebuilt from what is in use, it is the same.
            let mut used = Used::none(units);
            for (start, size) in &taken {
                prop_assert!(used.claim(*start, *size));
                prop_assert!(!used.claim(*start, 1), "claimed");
            }
            let mut again = Buddy::of(&used);
            prop_assert_eq!((again.free_units(), again.longest_run()), (buddy.free_units(), buddy.longest_run()));
            for size in [1, 2, 4, 8, 16, 32] {
                prop_assert_eq!(again.take(size), buddy.take(size));
            }
        }
    }
}
