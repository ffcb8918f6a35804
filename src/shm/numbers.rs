//! A set of numbers below a bound that knows its smallest one: bits, and above them summaries of 64 each.

/// Numbers from 0 on.
#[derive(Debug)]
pub(super) struct Numbers {
    /// The lowest level has a bit for each number; the next a bit for each word of that one, and so on to a single word.
    levels: Vec<Vec<u64>>,
}

impl Numbers {
    /// None of them.
    pub(super) fn none(below: u32) -> Self {
        let mut levels = Vec::new();
        let mut words = (below as usize).div_ceil(64).max(1);
        loop {
            levels.push(vec![0; words]);
            if words == 1 {
                return Self { levels };
            }
            words = words.div_ceil(64);
        }
    }

    /// All of them.
    pub(super) fn all(below: u32) -> Self {
        let mut all = Self::none(below);
        let mut count = below as usize;
        for level in &mut all.levels {
            level.iter_mut().take(count / 64).for_each(|word| *word = u64::MAX);
            if let Some(word) = level.get_mut(count / 64).filter(|_| !count.is_multiple_of(64)) {
                *word = (1 << (count % 64)) - 1;
            }
            count = count.div_ceil(64);
        }
        all
    }

    pub(super) fn insert(&mut self, number: u32) {
        let mut at = number as usize;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / 64) else { return };
            let was_empty = *word == 0;
            *word |= 1 << (at % 64);
            if !was_empty {
                return;
            }
            at /= 64;
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        let mut at = number as usize;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / 64) else { return };
            *word &= !(1 << (at % 64));
            if *word != 0 {
                return;
            }
            at /= 64;
        }
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        let word = self.levels.first().and_then(|level| level.get(number as usize / 64));
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// The smallest.
    pub(super) fn first(&self) -> Option<u32> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let word = *level.get(at)?;
            if word == 0 {
                return None;
            }
            at = at * 64 + word.trailing_zeros() as usize;
        }
        u32::try_from(at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_each_of_them_inserted() {
        for below in [1, 63, 64, 65, 4095, 4096, 4097, 300_000] {
            let (mut one_by_one, mut all) = (Numbers::none(below), Numbers::all(below));
            (0..below).for_each(|number| one_by_one.insert(number));
            assert_eq!(one_by_one.levels, all.levels, "{below}");
            assert_eq!(all.first(), Some(0));
            all.remove(0);
            assert_eq!((all.first(), all.contains(0)), ((below > 1).then_some(1), false));
        }
    }
}
