//! `Date`: when the origin made the answer. It is the origin's to say (RFC 9110 §6.6.1), and from it whoever stores the answer after us
//! counts its age (RFC 9111 §4.2.3).
//!
//! Received without one, or with one that is no date, an answer gets the moment of its receipt, before it is judged or stored. On the
//! way out HTTP/1 keeps the moment (the connection guard puts it back, because the framework writes the time of sending over it). On
//! HTTP/2 the framework's stays, and `Age` is raised until the two together name the same moment. Answers of our own have the time of
//! sending on both.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};
use httpdate::{fmt_http_date, parse_http_date};
use pingora::http::ResponseHeader;

use super::Ctx;
use crate::cache::freshness::reported_age;

/// The moment that the `Date` of a head names; `None` where there is none, more than one, or no date.
#[must_use]
pub fn moment(headers: &HeaderMap) -> Option<SystemTime> {
    let mut lines = headers.get_all(header::DATE).iter();
    let date = parse_http_date(lines.next()?.to_str().ok()?).ok()?;
    lines.next().is_none().then_some(date)
}

/// For a final head of an upstream: a recipient with a clock notes when it received an answer that does not say when it was made
/// (RFC 9110 §6.6.1).
///
/// # Errors
/// When the field cannot be written.
pub fn note_received(head: &mut ResponseHeader, now: SystemTime) -> pingora::Result<()> {
    if moment(&head.headers).is_none() {
        head.insert_header(header::DATE, fmt_http_date(now))?;
    }
    Ok(())
}

/// In `response_filter`: lets the client know the moment that the head names.
///
/// # Errors
/// When a field cannot be written.
pub fn keep(head: &mut ResponseHeader, ctx: &Ctx) -> pingora::Result<()> {
    let (date, now) = (moment(&head.headers), SystemTime::now());
    if date.is_some_and(|date| now.duration_since(date).is_ok_and(|past| past < DATE_TICK)) {
        // The framework will write the same.
        return Ok(());
    }
    if ctx.shared.door.keeps_date() {
        ctx.shared.door.keep_date(date);
    } else if let Some(date) = date
        && let Some(age) = age(&head.headers, date, now, ctx.exchange.received.elapsed())
    {
        head.insert_header(header::AGE, age)?;
    }
    Ok(())
}

/// The `Age` in seconds that goes with a `Date` of `now`; `None` where what the head says will do. An answer that was made since the
/// request came in, `elapsed` ago, has none: the client counts that time itself (`response_delay`, RFC 9111 §4.2.3), and an `Age`
/// would say that the answer was stored (§5.1).
fn age(headers: &HeaderMap, date: SystemTime, now: SystemTime, elapsed: Duration) -> Option<u64> {
    let since = now.duration_since(date).ok()?;
    // A date has whole seconds: the answer may have been made at the end of its own.
    if since.saturating_sub(DATE_TICK) < elapsed {
        return None;
    }
    let since = since.as_secs().min(LARGEST_AGE);
    (reported_age(headers).as_secs() < since).then_some(since)
}

const DATE_TICK: Duration = Duration::from_secs(1);
/// The largest that every cache can read (RFC 9111 §1.2.2).
const LARGEST_AGE: u64 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Wed, 25 Nov 2026 10:00:00 GMT";

    fn head(fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(200, None).expect("a head");
        for (name, value) in fields {
            head.append_header(*name, *value).expect("a field");
        }
        head
    }

    fn at(milliseconds: u64) -> SystemTime {
        parse_http_date(DATE).expect("a date") + Duration::from_millis(milliseconds)
    }

    #[test]
    fn rfc9110_5_6_7_all_three_forms_of_a_date_are_one_moment() {
        for form in [DATE, "Wednesday, 25-Nov-26 10:00:00 GMT", "Wed Nov 25 10:00:00 2026"] {
            assert_eq!(moment(&head(&[("date", form)]).headers), Some(at(0)), "{form}");
        }
    }

    #[test]
    fn what_is_no_date_names_no_moment() {
        let wrong = ["", "0", "yesterday", "Wed, 25 Nov 2026 10:00:00 CET", "Wed, 32 Nov 2026 10:00:00 GMT"];
        for text in wrong {
            assert_eq!(moment(&head(&[("date", text)]).headers), None, "{text}");
        }
        assert_eq!(moment(&head(&[]).headers), None, "none");
        assert_eq!(moment(&head(&[("date", DATE), ("date", DATE)]).headers), None, "two");
    }

    #[test]
    fn rfc9110_6_6_1_an_answer_without_a_date_gets_the_moment_of_its_receipt() {
        for fields in [&[][..], &[("date", "soon")], &[("date", DATE), ("date", DATE)]] {
            let mut head = head(fields);
            note_received(&mut head, at(5000)).expect("a field");
            assert_eq!(moment(&head.headers), Some(at(5000)), "{fields:?}");
        }
        let mut dated = head(&[("date", DATE)]);
        note_received(&mut dated, at(5000)).expect("a field");
        assert_eq!(moment(&dated.headers), Some(at(0)), "the origin's stays");
    }

    #[test]
    fn rfc9111_4_2_3_age_makes_up_for_a_date_that_cannot_be_kept() {
        let soon = Duration::from_millis(20);
        assert_eq!(age(&head(&[]).headers, at(0), at(90_500), soon), Some(90));
        assert_eq!(age(&head(&[("age", "30")]).headers, at(0), at(90_500), soon), Some(90), "raised");
        assert_eq!(age(&head(&[("age", "90")]).headers, at(0), at(90_500), soon), None, "it says so");
        assert_eq!(age(&head(&[("age", "400")]).headers, at(0), at(90_500), soon), None, "never lowered");
        assert_eq!(age(&head(&[("age", "old")]).headers, at(0), at(90_500), soon), Some(90));
        assert_eq!(age(&head(&[]).headers, at(5000), at(0), soon), None, "a clock ahead of ours");
    }

    #[test]
    fn rfc9111_5_1_an_answer_made_for_this_request_has_no_age() {
        let headers = &head(&[]).headers;
        assert_eq!(age(headers, at(0), at(1015), Duration::from_millis(20)), None, "made at the tick's end");
        assert_eq!(age(headers, at(0), at(1025), Duration::from_millis(20)), Some(1), "made before it");
        assert_eq!(age(headers, at(0), at(8000), Duration::from_secs(9)), None, "a slow body, or origin");
    }
}
