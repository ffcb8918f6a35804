//! How old an answer is, and how long it is fresh (RFC 9111 §4.2). In whole seconds, as everything that says so counts: the rest of a second
//! that has begun is dropped, or an answer that came at once would be a second old by the fraction that `Date` does not show.

use std::time::{Duration, SystemTime};

use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::cache::directives::{Directives, Seconds, delta_seconds};

/// §4.2.1: `s-maxage`, else `max-age`, else `Expires - Date`. What cannot be read is stale. `Expires` does not count where a targeted
/// field speaks (RFC 9213 §2.2).
pub(super) fn explicit_lifetime(said: &Directives, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    for seconds in [said.s_maxage, said.max_age] {
        match seconds {
            Seconds::Is(lifetime) => return Some(lifetime),
            Seconds::Unclear => return Some(Duration::ZERO),
            Seconds::Absent => {}
        }
    }
    if said.targeted || !headers.contains_key(EXPIRES) {
        return None;
    }
    // §5.3: "0" and other text that is no date is in the past. Two dates are no date (§4.2.1).
    let Some(expires) = date(headers, &EXPIRES, now) else { return Some(Duration::ZERO) };
    let from = date(headers, &DATE, now).unwrap_or(now);
    Some(expires.duration_since(from).unwrap_or_default())
}

/// §4.2.2: a tenth of the time since the last change, and at most `longest`. `None` where the answer does not say when that was, or
/// names a time that has not come.
pub(super) fn heuristic_lifetime(
    headers: &HeaderMap,
    longest: Duration,
    now: SystemTime,
) -> Option<Duration> {
    let changed = date(headers, &LAST_MODIFIED, now)?;
    let from = date(headers, &DATE, now).unwrap_or(now);
    Some(whole(from.duration_since(changed).ok()? / 10).min(longest))
}

/// §4.2.3, `corrected_initial_age`: the larger of the apparent age and of the age that is reported plus the time the answer took. With
/// no `Age` that time alone: the answer may have been made when the request arrived. A `Date` that is missing, unreadable or ahead of
/// our clock makes no apparent age.
pub(super) fn initial_age(headers: &HeaderMap, response_delay: Duration, now: SystemTime) -> Duration {
    let apparent =
        date(headers, &DATE, now).and_then(|date| now.duration_since(date).ok()).unwrap_or_default();
    whole(apparent.max(reported_age(headers).saturating_add(response_delay)))
}

fn whole(span: Duration) -> Duration {
    Duration::from_secs(span.as_secs())
}

/// §5.1: of a list, also over several lines, the first member; what is no number of seconds is ignored.
pub fn reported_age(headers: &HeaderMap) -> Duration {
    let first = |value: &HeaderValue| {
        delta_seconds(value.to_str().ok()?.split(',').next()?.trim_matches([' ', '\t']))
    };
    headers.get(AGE).and_then(first).unwrap_or_default()
}

/// A field that holds one date, in any of the three forms of RFC 9110 §5.6.7. Several lines are no date.
fn date(headers: &HeaderMap, name: &HeaderName, now: SystemTime) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).iter();
    let text = lines.next()?.to_str().ok()?;
    if lines.next().is_some() {
        return None;
    }
    let date =
        httpdate::parse_http_date(text).or_else(|_| httpdate::parse_http_date(&in_its_case(text))).ok()?;
    // Only the form with two digits for the year has a dash: one that seems to be more than fifty years ahead is a century ago.
    let is_short = text.contains('-');
    let is_far = date.duration_since(now).is_ok_and(|ahead| ahead > FIFTY_YEARS);
    if is_short && is_far { date.checked_sub(CENTURY) } else { Some(date) }
}

/// A date as the grammar writes it, whatever case it came in: a cache is to read those too (§4.2).
fn in_its_case(text: &str) -> String {
    let mut is_first = true;
    let mut written: String = text
        .chars()
        .map(|c| {
            let cased = if is_first { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            is_first = !c.is_ascii_alphabetic();
            cased
        })
        .collect();
    if written.ends_with(" Gmt") {
        written.truncate(written.len() - "Gmt".len());
        written.push_str("GMT");
    }
    written
}

/// In the Gregorian calendar, on average.
const FIFTY_YEARS: Duration = Duration::from_secs(50 * 31_556_952);
/// From a date of this century back to the same one of the last: 2000 was a leap year.
const CENTURY: Duration = Duration::from_secs(36_525 * 86_400);
