//! What a limit tells its client: `RateLimit-Policy`, `RateLimit` and `Retry-After`.
//!
//! The first two follow draft-ietf-httpapi-ratelimit-headers-11, which is still a draft and will move; nothing outside
//! this file knows it. Both are structured-field lists (RFC 9651): a header with several limits is their values joined
//! by [`push_policy`] and [`push_state`] one after the other into one text.

use super::gcra::{Decision, Quota};
use std::time::Duration;

/// The name of the field that [`push_policy`] writes.
pub const POLICY: &str = "ratelimit-policy";

/// The name of the field that [`push_state`] writes.
pub const STATE: &str = "ratelimit";

/// Appends `"name";q=100;w=60` to a `RateLimit-Policy` value. `w` is left out where the window is no whole number of
/// seconds, because the draft has no other unit. `name` is a `LimitName`: nothing in it needs escaping.
pub fn push_policy(out: &mut String, name: &str, quota: &Quota) {
    begin_item(out, name);
    push_parameter(out, "q", u64::from(quota.requests()));
    let window = quota.window();
    if window.subsec_nanos() == 0 && window.as_secs() > 0 {
        push_parameter(out, "w", window.as_secs());
    }
}

/// Appends `"name";r=12;t=30` to a `RateLimit` value: what is left, and in how many seconds there is more of it. Where
/// something is left `t` is the time until all is back; where nothing is, until one request is, so that
/// `Retry-After` is never earlier than `t`, as the draft asks.
pub fn push_state(out: &mut String, name: &str, decision: &Decision) {
    begin_item(out, name);
    push_parameter(out, "r", u64::from(decision.remaining));
    let more = if decision.remaining > 0 { decision.reset } else { decision.retry_after };
    push_parameter(out, "t", whole_seconds(more));
}

/// The seconds of `Retry-After` (RFC 9110 §10.2.3): rounded up, at least 1, so that who obeys it is not denied again.
#[must_use]
pub fn retry_after_seconds(decision: &Decision) -> u64 {
    whole_seconds(decision.retry_after).max(1)
}

/// Appends [`retry_after_seconds`] as digits.
pub fn push_retry_after(out: &mut String, decision: &Decision) {
    out.push_str(itoa::Buffer::new().format(retry_after_seconds(decision)));
}

fn begin_item(out: &mut String, name: &str) {
    if !out.is_empty() {
        out.push_str(", ");
    }
    out.push('"');
    out.push_str(name);
    out.push('"');
}

fn push_parameter(out: &mut String, name: &str, value: u64) {
    out.push(';');
    out.push_str(name);
    out.push('=');
    out.push_str(itoa::Buffer::new().format(value.min(LARGEST_INTEGER)));
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// The largest integer of a structured field (RFC 9651 §3.3.1).
const LARGEST_INTEGER: u64 = 999_999_999_999_999;

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn quota(requests: u32, window: Duration) -> Quota {
        let requests = NonZeroU32::new(requests).expect("not zero");
        Quota::new(requests, window, requests)
    }

    fn state(allowed: bool, remaining: u32, retry_ms: u64, reset_ms: u64) -> Decision {
        Decision {
            allowed,
            limit: 100,
            remaining,
            retry_after: Duration::from_millis(retry_ms),
            reset: Duration::from_millis(reset_ms),
        }
    }

    #[test]
    fn policies_are_a_list() {
        let mut out = String::new();
        push_policy(&mut out, "weather", &quota(100, Duration::from_secs(60)));
        push_policy(&mut out, "burst", &quota(5, Duration::from_millis(1500)));
        assert_eq!(out, r#""weather";q=100;w=60, "burst";q=5"#);
    }

    #[test]
    fn the_state_rounds_time_up() {
        let mut out = String::new();
        push_state(&mut out, "weather", &state(true, 12, 0, 29_001));
        assert_eq!(out, r#""weather";r=12;t=30"#);
        out.clear();
        push_state(&mut out, "weather", &state(true, 100, 0, 0));
        assert_eq!(out, r#""weather";r=100;t=0"#);
    }

    #[test]
    fn retry_after_is_at_least_one_and_not_earlier_than_t() {
        for (retry_ms, seconds) in [(1, 1), (999, 1), (1000, 1), (1001, 2), (0, 1)] {
            let denied = state(false, 0, retry_ms, 60_000);
            assert_eq!(retry_after_seconds(&denied), seconds, "{retry_ms} ms");
            let mut out = String::new();
            push_state(&mut out, "a", &denied);
            let t: u64 = out.rsplit('=').next().and_then(|t| t.parse().ok()).expect("t is last");
            assert!(t <= seconds, "{out}");
        }
        let mut out = String::new();
        push_retry_after(&mut out, &state(false, 0, 41_500, 60_000));
        assert_eq!(out, "42");
    }

    #[test]
    fn numbers_stay_within_structured_fields() {
        let mut out = String::new();
        push_policy(&mut out, "a", &quota(1, Duration::from_secs(u64::MAX)));
        assert_eq!(out, r#""a";q=1;w=999999999999999"#);
    }
}
