//! Histograms of durations with fixed buckets.
//!
//! An observation is two relaxed additions: its bucket and the sum. The total is not kept: a scrape adds the buckets up, so
//! `_count` and the `+Inf` bucket always agree. Sums are nanoseconds in 64 bits, enough for 584 years per shard; one
//! observation counts for a day at most.

use std::time::Duration;

use prometheus::proto;

use super::cells::{Count, Sharded};

/// Upper bounds of buckets in nanoseconds, rising. At most 15.
#[derive(Debug, PartialEq, Eq)]
pub struct Buckets(pub &'static [u64]);

/// 0.5 ms to 30 s: requests and exchanges with upstreams. Fine at the low end, where a cache hit lies.
pub static REQUEST: Buckets = Buckets(&[
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
]);

/// 10 µs to 50 ms: what the gateway itself adds.
pub static OVERHEAD: Buckets = Buckets(&[
    10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
    50_000_000,
]);

/// The longest list of bounds, and one for what is above all of them.
const CELLS: usize = 16;

/// The most that one observation adds to the sum, in nanoseconds: a broken clock cannot wrap it.
const DAY: u64 = 86_400_000_000_000;

impl Buckets {
    /// The bounds in seconds, as they stand in the `le` label.
    pub fn seconds(&self) -> impl Iterator<Item = f64> {
        self.0.iter().map(|nanoseconds| seconds(*nanoseconds))
    }
}

/// One shard of a histogram. The bounds are passed in: they are the same for all shards and series of a family.
#[derive(Debug, Default)]
pub struct Histogram {
    cells: [Count; CELLS],
    sum_nanoseconds: Count,
}

impl Histogram {
    /// Counts one duration. A bound belongs to its bucket (`le` is "at most").
    pub fn observe(&self, buckets: &'static Buckets, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(DAY).min(DAY);
        let index = buckets.0.partition_point(|bound| *bound < nanoseconds);
        if let Some(cell) = self.cells.get(index) {
            cell.add(1);
        }
        self.sum_nanoseconds.add(nanoseconds);
    }
}

/// Adds up one histogram of every shard, in the form the registry speaks.
pub fn snapshot<T>(
    buckets: &'static Buckets,
    shards: &Sharded<T>,
    of: impl Fn(&T) -> &Histogram,
) -> proto::Histogram {
    let mut total = 0;
    let mut bars = Vec::with_capacity(buckets.0.len());
    let counts = |index: usize| shards.sum(|shard| of(shard).cells.get(index).map_or(0, Count::value));
    for (index, bound) in buckets.seconds().enumerate() {
        total += counts(index);
        let mut bar = proto::Bucket::default();
        bar.set_upper_bound(bound);
        bar.set_cumulative_count(total);
        bars.push(bar);
    }
    total += counts(buckets.0.len());
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(bars);
    histogram.set_sample_count(total);
    histogram.set_sample_sum(seconds(shards.sum(|shard| of(shard).sum_nanoseconds.value())));
    histogram
}

#[expect(clippy::cast_precision_loss, reason = "a sum beyond 2^53 ns (104 days) may lose nanoseconds")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(durations: &[Duration]) -> proto::Histogram {
        let shards = Sharded::<Histogram>::default();
        for duration in durations {
            shards.local().observe(&REQUEST, *duration);
        }
        snapshot(&REQUEST, &shards, |histogram| histogram)
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = counts(&[Duration::from_millis(1), Duration::from_nanos(1_000_001)]);
        let bars: Vec<u64> = histogram.get_bucket().iter().map(proto::Bucket::cumulative_count).collect();
        assert_eq!(
            bars.get(..4),
            Some(&[0, 1, 2, 2][..]),
            "1 ms is at most 0.001 s, a nanosecond more is not"
        );
    }

    #[test]
    fn what_is_above_all_bounds_is_in_the_count_only() {
        let histogram = counts(&[Duration::from_secs(31), Duration::MAX]);
        assert_eq!(histogram.get_bucket().last().map(proto::Bucket::cumulative_count), Some(0));
        assert_eq!(histogram.get_sample_count(), 2, "the +Inf bucket is the count");
    }

    #[test]
    fn bounds_are_round_seconds() {
        let bounds: Vec<String> = REQUEST.seconds().map(|bound| bound.to_string()).collect();
        assert_eq!(
            bounds.join(" "),
            "0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 30",
            "as in the documents"
        );
        assert!(REQUEST.0.len() < CELLS && OVERHEAD.0.len() < CELLS, "every bound has a cell");
    }
}
