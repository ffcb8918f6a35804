//! GCRA, the generic cell rate algorithm (ITU-T I.371 annex A), on one number per key.
//!
//! The number is the theoretical arrival time (TAT): the moment at which everything used so far is paid back. A request
//! moves it one interval ahead, and may do so while it stays within `burst` intervals of now. Nothing is read or
//! written besides it, so a decision is one compare-and-swap, and a key at rest is forgotten without loss.
//!
//! ```text
//!      now                 tat        tat + interval          now + burst * interval
//!       |--- used so far ---|--- this request ---|---- remaining ----|
//! ```
//!
//! Times are nanoseconds since a start that the caller chooses, on a clock that never goes back.

use std::num::NonZeroU32;
use std::time::Duration;

/// The longest payback of a whole burst, in nanoseconds: 36 years. Keeps every sum below within 64 bits.
pub(super) const LONGEST_TOLERANCE_NS: u64 = 1 << 60;

/// How much a subject may ask: `requests` per `window`, at most `burst` of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    requests: NonZeroU32,
    window: Duration,
    burst: NonZeroU32,
    /// What one request costs, in nanoseconds. Rounded up, so that rounding never grants more than was asked for.
    interval_ns: u64,
    /// How far the TAT may be ahead of now.
    tolerance_ns: u64,
}

impl Quota {
    /// `requests` per `window`, at most `burst` at once. The caller makes `burst` equal to `requests` where none is
    /// set. In any span of length `d` at most `burst + requests * d / window` requests are allowed.
    ///
    /// A request costs at least 1 ns, so a window under 1 ns per request counts as one of 1 ns per request.
    #[must_use]
    pub fn new(requests: NonZeroU32, window: Duration, burst: NonZeroU32) -> Self {
        let interval = window.as_nanos().div_ceil(u128::from(requests.get())).max(1);
        let interval_ns = u64::try_from(interval).unwrap_or(u64::MAX).min(LONGEST_TOLERANCE_NS);
        let tolerance_ns = interval_ns.saturating_mul(u64::from(burst.get())).min(LONGEST_TOLERANCE_NS);
        Self { requests, window, burst, interval_ns, tolerance_ns }
    }

    /// How many per [`window`](Self::window): `q` of `RateLimit-Policy`.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests.get()
    }

    /// The time in which [`requests`](Self::requests) are paid back: `w` of `RateLimit-Policy`.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    /// How many at once from rest.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst.get()
    }

    /// The most requests that pass in any span that is shorter than one [`window`](Self::window), whatever came before and whoever
    /// times them: a whole burst at its beginning, then one each time that one is paid back. There is a way to get that many.
    ///
    /// Of `n` requests the TAT behind the last is at least `n` intervals after the first; the last passed, so it was at most `burst`
    /// intervals ahead: `n <= burst + span / interval`, and the span is less than the window.
    #[must_use]
    pub fn most_in_window(&self) -> u64 {
        let at_once = self.tolerance_ns / self.interval_ns;
        let paid_back = self.window.as_nanos().div_ceil(u128::from(self.interval_ns)).saturating_sub(1);
        at_once.saturating_add(u64::try_from(paid_back).unwrap_or(u64::MAX))
    }

    /// Whether `other` is no looser: in no span may more requests pass it than pass this one, so it promises all that this one does.
    ///
    /// It does not follow that this one never refuses what `other` lets pass. Where a request is counted by both, one that `other`
    /// refuses is still used up here.
    #[must_use]
    pub fn adds_nothing_to(&self, other: &Self) -> bool {
        // Requests per time, compared without division: below 2^32 requests and 2^95 nanoseconds, both products fit.
        let rate = |x: &Self, y: &Self| u128::from(x.requests.get()) * y.window.as_nanos();
        rate(other, self) <= rate(self, other) && other.burst <= self.burst
    }

    /// How long it takes until one request is paid back.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_ns)
    }

    /// What a subject whose TAT is `tat_ns` has left at `now_ns`. Nothing is used up; allowed is what would be allowed next.
    pub(super) fn peek(&self, tat_ns: u64, now_ns: u64) -> Decision {
        let used_ns = tat_ns.saturating_sub(now_ns);
        let (next, _) = self.step(tat_ns, now_ns);
        Decision { allowed: next.allowed, ..self.decision(Verdict::Denied, used_ns) }
    }

    /// Decides one request at `now_ns` for a subject whose TAT is `tat_ns`. The second value is the TAT to store, if
    /// any: a denied request stores nothing, so it uses nothing up.
    pub(super) fn step(&self, tat_ns: u64, now_ns: u64) -> (Decision, Option<u64>) {
        let used_ns = tat_ns.saturating_sub(now_ns);
        let next_ns = used_ns.saturating_add(self.interval_ns);
        if next_ns > self.tolerance_ns {
            return (self.decision(Verdict::Denied, used_ns), None);
        }
        (self.decision(Verdict::Allowed, next_ns), Some(now_ns.saturating_add(next_ns)))
    }

    fn decision(&self, verdict: Verdict, used_ns: u64) -> Decision {
        let free_ns = self.tolerance_ns.saturating_sub(used_ns);
        let retry_ns = used_ns.saturating_add(self.interval_ns).saturating_sub(self.tolerance_ns);
        Decision {
            allowed: verdict == Verdict::Allowed,
            limit: self.burst.get(),
            remaining: u32::try_from(free_ns / self.interval_ns).unwrap_or(u32::MAX),
            retry_after: Duration::from_nanos(retry_ns),
            reset: Duration::from_nanos(used_ns),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Denied,
}

/// What was decided for one request, and what its subject has left.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may pass. A denied one has used nothing up.
    pub allowed: bool,
    /// How many the subject may ask at once from rest: the burst.
    pub limit: u32,
    /// How many more would be allowed right now.
    pub remaining: u32,
    /// How long until one more is allowed. Zero exactly if [`remaining`](Self::remaining) is not.
    pub retry_after: Duration,
    /// How long until [`limit`](Self::limit) requests are there again, if none is made meanwhile.
    pub reset: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quota(requests: u32, window: Duration, burst: u32) -> Quota {
        Quota::new(
            NonZeroU32::new(requests).expect("not zero"),
            window,
            NonZeroU32::new(burst).expect("not zero"),
        )
    }

    /// Runs the quota over `times_ns` from rest and says which requests passed.
    fn run(quota: &Quota, times_ns: &[u64]) -> Vec<bool> {
        let mut tat = 0;
        let decide = |now: &u64| {
            let (decision, next) = quota.step(tat, *now);
            tat = next.unwrap_or(tat);
            decision.allowed
        };
        times_ns.iter().map(decide).collect()
    }

    #[test]
    fn a_limit_adds_nothing_to_one_with_no_faster_rate_and_no_larger_burst() {
        let second = Duration::from_secs(1);
        let minute = Duration::from_secs(60);
        let strict = quota(60, minute, 5);
        assert!(quota(120, minute, 5).adds_nothing_to(&strict), "twice as fast");
        assert!(quota(1, second, 6).adds_nothing_to(&strict), "as fast, one more at once");
        assert!(quota(1, second, 5).adds_nothing_to(&strict), "the same, written otherwise");
        assert!(!quota(1, second, 4).adds_nothing_to(&strict), "fewer at once");
        assert!(!quota(59, minute, 600).adds_nothing_to(&strict), "slower in the long run");
        assert!(!strict.adds_nothing_to(&quota(120, minute, 5)), "the other way round");
        assert!(!quota(u32::MAX, Duration::from_nanos(1), 1).adds_nothing_to(&strict), "no overflow");
    }

    #[test]
    fn a_limit_that_adds_nothing_may_still_refuse_what_the_other_lets_pass() {
        let (strict, loose) = (quota(1, Duration::from_secs(1), 1), quota(1, Duration::from_secs(1), 2));
        assert!(loose.adds_nothing_to(&strict));
        let times = [0, 0, 0, 1_500_000_000, 2_000_000_000, 2_500_000_000];
        assert_eq!(run(&strict, &times).last(), Some(&true));
        assert_eq!(run(&loose, &times).last(), Some(&false), "it counted those that the strict one refused");
    }

    #[test]
    fn a_burst_passes_at_once_then_one_per_interval() {
        let quota = quota(60, Duration::from_secs(60), 3);
        let second = 1_000_000_000;
        let times = [5, 5, 5, 5, 5 + second - 1, 5 + second, 5 + second];
        assert_eq!(run(&quota, &times), [true, true, true, false, false, true, false]);
    }

    #[test]
    fn the_answer_says_what_is_left_and_when_more_comes() {
        let quota = quota(10, Duration::from_secs(10), 2);
        let (first, tat) = quota.step(0, 0);
        assert_eq!((first.allowed, first.limit, first.remaining), (true, 2, 1));
        assert_eq!(first.reset, Duration::from_secs(1));
        let (second, tat) = quota.step(tat.expect("allowed"), 0);
        assert_eq!((second.allowed, second.remaining, second.reset), (true, 0, Duration::from_secs(2)));
        assert_eq!((first.retry_after, second.retry_after), (Duration::ZERO, Duration::from_secs(1)));
        let (third, stored) = quota.step(tat.expect("allowed"), 250_000_000);
        assert_eq!(
            (third.allowed, third.remaining, stored),
            (false, 0, None),
            "a denied request uses nothing"
        );
        assert_eq!(third.retry_after, Duration::from_millis(750));
        assert_eq!(third.reset, Duration::from_millis(1750));
    }

    /// The most that pass in one window, over every way to place it behind a greedy client's requests.
    fn greedy(quota: &Quota) -> u64 {
        let (mut tat, mut now, mut passed) = (0, 1, Vec::new());
        while passed.len() < 400 {
            let (decision, next) = quota.step(tat, now);
            match next {
                Some(next) => {
                    tat = next;
                    passed.push(now);
                }
                None => now += u64::try_from(decision.retry_after.as_nanos()).expect("small"),
            }
        }
        let window = u64::try_from(quota.window.as_nanos()).expect("small");
        let within = |from: &u64| passed.iter().filter(|at| (*from..from + window).contains(at)).count();
        passed.iter().take(100).map(within).max().unwrap_or_default() as u64
    }

    #[test]
    fn the_worst_case_is_what_a_greedy_client_gets() {
        let second = Duration::from_secs(1);
        for (requests, window, burst, most) in [
            (100, 60 * second, 100, 199),
            (10, 60 * second, 1, 10),
            (5, second, 10, 14),
            (1, second, 1, 1),
            (3, second, 2, 4),
            (7, Duration::from_nanos(100), 3, 9),
            (50, Duration::from_nanos(20), 4, 23),
        ] {
            let quota = quota(requests, window, burst);
            assert_eq!((quota.most_in_window(), greedy(&quota)), (most, most), "{quota:?}");
        }
    }

    #[test]
    fn absurd_numbers_do_not_overflow() {
        for quota in [
            quota(1, Duration::MAX, u32::MAX),
            quota(u32::MAX, Duration::ZERO, u32::MAX),
            quota(u32::MAX, Duration::from_nanos(1), 1),
        ] {
            for (tat, now) in [(0, 0), (u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)] {
                let (decision, stored) = quota.step(tat, now);
                assert_eq!(decision.allowed, stored.is_some(), "{quota:?} {tat} {now}");
            }
        }
    }

    /// A bucket that holds what is left, in units of 1/requests of a nanosecond of window: no shared arithmetic with
    /// GCRA, and no rounding.
    struct Bucket {
        level: u128,
        at_ns: u64,
    }

    impl Bucket {
        fn takes(&mut self, quota: &Quota, now_ns: u64) -> bool {
            let cost = quota.window.as_nanos();
            let full = cost * u128::from(quota.burst());
            let gained = u128::from(now_ns - self.at_ns) * u128::from(quota.requests());
            self.level = full.min(self.level + gained);
            self.at_ns = now_ns;
            let pays = self.level >= cost;
            self.level -= if pays { cost } else { 0 };
            pays
        }
    }

    proptest! {
        #[test]
        fn no_client_gets_more_than_the_worst_case(
            requests in 1u32..40, window in 1u64..5_000, burst in 1u32..30,
            gaps in prop::collection::vec(prop_oneof![Just(0u64), 1u64..400], 1..300),
        ) {
            let quota = quota(requests, Duration::from_nanos(window), burst);
            let times: Vec<u64> = gaps.iter().scan(1, |now, gap| { *now += gap; Some(*now) }).collect();
            let passed: Vec<u64> =
                run(&quota, &times).into_iter().zip(&times).filter_map(|(ok, at)| ok.then_some(*at)).collect();
            for from in &passed {
                let within = passed.iter().filter(|at| (*from..from + window).contains(at)).count() as u64;
                prop_assert!(within <= quota.most_in_window(), "{within} of {:?}", quota);
            }
        }

        #[test]
        fn a_peek_says_what_the_next_decision_finds(tat in 0u64..5_000, now in 0u64..5_000, burst in 1u32..9) {
            let quota = quota(3, Duration::from_nanos(900), burst);
            let (peeked, (decision, _)) = (quota.peek(tat, now), quota.step(tat, now));
            prop_assert_eq!(peeked.allowed, decision.allowed);
            prop_assert_eq!(peeked.remaining, decision.remaining + u32::from(decision.allowed));
            prop_assert_eq!(peeked.retry_after, if decision.allowed { Duration::ZERO } else { decision.retry_after });
        }

        #[test]
        fn decides_as_an_exact_bucket_does(
            requests in 1u32..50, interval in 1u64..1000, burst in 1u32..20,
            gaps in prop::collection::vec(0u64..3000, 1..200),
        ) {
            // Whole intervals, so that neither side rounds.
            let quota = quota(requests, Duration::from_nanos(interval * u64::from(requests)), burst);
            let mut bucket = Bucket { level: quota.window.as_nanos() * u128::from(burst), at_ns: 0 };
            let times: Vec<u64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
            let expected: Vec<bool> = times.iter().map(|now| bucket.takes(&quota, *now)).collect();
            prop_assert_eq!(run(&quota, &times), expected);
        }

        #[test]
        fn never_allows_more_than_was_promised(
            requests in 1u32..1000, window in 1u64..100_000, burst in 1u32..20,
            gaps in prop::collection::vec(0u64..3000, 1..200),
        ) {
            let quota = quota(requests, Duration::from_nanos(window), burst);
            let times: Vec<u64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
            let passed: Vec<u64> = times.iter().copied().zip(run(&quota, &times)).filter(|pair| pair.1).map(|pair| pair.0).collect();
            for (i, from) in passed.iter().enumerate() {
                for (count, to) in passed.iter().skip(i).enumerate() {
                    let earned = u128::from(to - from) * u128::from(requests) / u128::from(window);
                    prop_assert!((count as u128) < u128::from(burst) + earned, "{} in {} ns", count + 1, to - from);
                }
            }
        }

        #[test]
        fn waiting_as_told_is_enough(requests in 1u32..100, window in 1u64..100_000, burst in 1u32..5, now in 0u64..1000) {
            let quota = quota(requests, Duration::from_nanos(window), burst);
            let mut tat = 0;
            for _ in 0..burst {
                tat = quota.step(tat, now).1.expect("within the burst");
            }
            let wait = quota.step(tat, now).0.retry_after;
            let later = now + u64::try_from(wait.as_nanos()).expect("short");
            prop_assert!(quota.step(tat, later).0.allowed);
            prop_assert!(!quota.step(tat, later - 1).0.allowed);
        }
    }
}
