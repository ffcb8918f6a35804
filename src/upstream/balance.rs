//! In which order endpoints are taken. Pure arithmetic: what an endpoint is and whether it can be used is known elsewhere.

/// The order of one round: each endpoint as often as its weight says, evenly spread (`a a b` by weights 2 and 1 is `a b a`).
/// Configuration lifetime.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Round(Vec<usize>);

impl Round {
    /// Nothing when no weight is above zero.
    pub(super) fn of(weights: &[u32]) -> Option<Self> {
        let weights = scaled(weights);
        let total: i64 = weights.iter().sum();
        if total == 0 {
            return None;
        }
        // Each gains its weight every step, the richest is taken and pays the total.
        let mut balances = vec![0_i64; weights.len()];
        let order = (0..total).filter_map(|_| {
            for (balance, weight) in balances.iter_mut().zip(&weights) {
                *balance += weight;
            }
            // The first of equals, so the order of the document decides.
            let richest =
                (0..balances.len()).rev().max_by_key(|&at| balances.get(at).copied().unwrap_or(i64::MIN))?;
            *balances.get_mut(richest)? -= total;
            Some(richest)
        });
        Some(Self(order.collect()))
    }

    /// Whose turn it is.
    pub(super) fn at(&self, turn: usize) -> usize {
        self.0.get(turn % self.0.len().max(1)).copied().unwrap_or(0)
    }
}

/// The same proportions in small numbers, so that a round is short: at most about [`MAX_ROUND`] steps, and one for each
/// endpoint that has any weight.
fn scaled(weights: &[u32]) -> Vec<i64> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let divisor = weights.iter().fold(0, |acc, weight| gcd(acc, u64::from(*weight))).max(1);
    let small = |weight: u64| {
        if total / divisor <= MAX_ROUND { weight / divisor } else { (weight * MAX_ROUND / total).max(1) }
    };
    weights
        .iter()
        .map(|&weight| if weight == 0 { 0 } else { i64::try_from(small(u64::from(weight))).unwrap_or(1) })
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Whether an endpoint with `count` requests in flight and `weight` is less busy than the `best` so far. One more is counted
/// on each side: with nothing in flight the heavier one is taken.
pub(super) fn is_less_busy(count: usize, weight: u32, best: (usize, u32)) -> bool {
    let load = |count: usize, other_weight: u32| (count as u128 + 1) * u128::from(other_weight);
    load(count, best.1) < load(best.0, weight)
}

/// A weight of 1 in 1000 is still kept apart from 2 in 1000.
const MAX_ROUND: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_follows_the_weights_evenly_spread() {
        assert_eq!(Round::of(&[1, 1, 1]), Some(Round(vec![0, 1, 2])));
        assert_eq!(Round::of(&[2, 1]), Some(Round(vec![0, 1, 0])));
        assert_eq!(Round::of(&[5, 1, 1]), Some(Round(vec![0, 0, 1, 0, 2, 0, 0])));
        assert_eq!(Round::of(&[20, 10]), Round::of(&[2, 1]), "only the proportion counts");
    }

    #[test]
    fn weight_zero_takes_no_turn() {
        assert_eq!(Round::of(&[0, 3]), Some(Round(vec![1])));
        assert_eq!(Round::of(&[0, 0]), None);
        assert_eq!(Round::of(&[]), None);
    }

    #[test]
    fn huge_weights_make_no_huge_round() {
        let round = Round::of(&[u32::MAX, 1, u32::MAX / 2]).unwrap();
        assert!(round.0.len() <= 1002, "{}", round.0.len());
        assert!(round.0.contains(&1), "the smallest still has its turn");
    }

    #[test]
    fn busy_is_measured_by_weight() {
        assert!(is_less_busy(0, 1, (1, 1)));
        assert!(!is_less_busy(1, 1, (1, 1)), "equals: the first stays");
        assert!(is_less_busy(3, 4, (1, 1)), "4/4 is less than 2/1");
        assert!(is_less_busy(0, 2, (0, 1)), "idle: the heavier");
    }
}
