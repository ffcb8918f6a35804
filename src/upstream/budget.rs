//! How many retries there may be: a share of the requests of the last seconds. When an upstream is down, every request fails
//! and would be sent again; without a budget the gateway doubles the load at the worst moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Requests and retries of the last ten seconds, in one slot per second. Process lifetime; no lock.
///
/// A slot is emptied by the first who meets it in a new second; a request counted in the very moment between may be lost. The
/// budget is an order of magnitude, so a few lost counts do not matter.
pub(super) struct RetryBudget {
    begun: Instant,
    slots: [Slot; WINDOW_SECONDS],
}

#[derive(Default)]
struct Slot {
    second: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
}

impl RetryBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, slots: Default::default() }
    }

    /// Counts a first attempt.
    pub(super) fn begin(&self, now: Instant) {
        if let Some(slot) = self.slot(self.second(now)) {
            slot.requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes one retry out of the budget, if there is one.
    pub(super) fn take(&self, percent: f64, now: Instant) -> bool {
        if percent <= 0.0 {
            return false;
        }
        let second = self.second(now);
        let Some(slot) = self.slot(second) else { return false };
        // Counted before it is compared, so that workers who ask at once cannot all take the last one.
        slot.retries.fetch_add(1, Ordering::Relaxed);
        let (requests, retries) = self.window(second);
        if (retries as f64) <= (requests as f64) * percent / 100.0 || retries <= FLOOR_PER_WINDOW {
            return true;
        }
        slot.retries.fetch_sub(1, Ordering::Relaxed);
        false
    }

    /// Seconds since the start, from 1: a slot that was never used (second 0) is never taken for a current one.
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_secs() + 1
    }

    /// The slot of `second`, emptied if it is still that of a second long past. Relaxed throughout: the counts order nothing.
    fn slot(&self, second: u64) -> Option<&Slot> {
        let slot = usize::try_from(second).ok().and_then(|at| self.slots.get(at % WINDOW_SECONDS))?;
        let seen = slot.second.load(Ordering::Relaxed);
        if seen < second
            && slot.second.compare_exchange(seen, second, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            slot.requests.store(0, Ordering::Relaxed);
            slot.retries.store(0, Ordering::Relaxed);
        }
        Some(slot)
    }

    fn window(&self, second: u64) -> (u64, u64) {
        let current = |slot: &&Slot| slot.second.load(Ordering::Relaxed) + WINDOW_SECONDS as u64 > second;
        self.slots.iter().filter(current).fold((0, 0), |(requests, retries), slot| {
            (requests + slot.requests.load(Ordering::Relaxed), retries + slot.retries.load(Ordering::Relaxed))
        })
    }
}

/// How far back the share is taken from. Long enough to see traffic of one request per second, short enough to forget a peak.
const WINDOW_SECONDS: usize = 10;

/// Retries per window that are allowed whatever the traffic (one per second): with three requests a second, 20% would be none.
const FLOOR_PER_WINDOW: u64 = 10;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn granted(budget: &RetryBudget, percent: f64, now: Instant) -> usize {
        std::iter::repeat_with(|| budget.take(percent, now)).take_while(|taken| *taken).count()
    }

    #[test]
    fn retries_are_a_share_of_the_requests() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        (0..1000).for_each(|_| budget.begin(start));
        assert_eq!(granted(&budget, 20.0, start), 200);
        (0..10).for_each(|_| budget.begin(start));
        assert_eq!(granted(&budget, 20.0, start), 2, "what was refused was not counted");
    }

    #[test]
    fn a_few_are_allowed_without_traffic_unless_the_budget_is_zero() {
        let start = Instant::now();
        assert_eq!(granted(&RetryBudget::new(start), 20.0, start), 10);
        assert_eq!(granted(&RetryBudget::new(start), 0.0, start), 0);
        assert_eq!(granted(&RetryBudget::new(start), f64::NAN, start), 10, "no number is no licence");
    }

    #[test]
    fn the_window_slides() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        (0..500).for_each(|_| budget.begin(start));
        assert_eq!(granted(&budget, 20.0, start + Duration::from_secs(9)), 100, "still seen");
        assert_eq!(granted(&budget, 20.0, start + Duration::from_secs(10)), 0, "requests gone, retries not");
        assert_eq!(granted(&budget, 20.0, start + Duration::from_secs(30)), 10, "all gone");
    }
}
