//! The rules of `freshness`, each named by the section it comes from.

use super::*;
use std::time::UNIX_EPOCH;

const NOW_DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn now() -> SystemTime {
    httpdate::parse_http_date(NOW_DATE).unwrap()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn answer(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
    let mut head = ResponseHeader::build(status, None).unwrap();
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    head
}

fn ttl(n: u64) -> Policy {
    Policy { ttl: Some(secs(n)), ..Policy::default() }
}

fn overriding(n: u64) -> Policy {
    Policy { override_upstream: true, ..ttl(n) }
}

/// Seconds of freshness left now, or why not.
fn fresh(status: u16, fields: &[(&'static str, &str)], policy: &Policy) -> Result<u64, Reason> {
    judged(status, fields, policy, &RequestFacts::default())
        .map(|meta| meta.fresh_until().duration_since(now()).unwrap_or_default().as_secs())
}

fn judged(
    status: u16,
    fields: &[(&'static str, &str)],
    policy: &Policy,
    facts: &RequestFacts,
) -> Result<CacheMeta, Reason> {
    match judge(&answer(status, fields), facts, policy, now()) {
        Verdict::Store(meta) => Ok(meta),
        Verdict::Refuse(reason) => Err(reason),
    }
}

const NO_POLICY: Policy =
    Policy { ttl: None, override_upstream: false, stale_while_revalidate: None, stale_if_error: None };

#[test]
fn rfc9111_4_2_1_s_maxage_wins_over_max_age_and_that_over_expires() {
    let expires = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
    let date = ("date", NOW_DATE);
    assert_eq!(fresh(200, &[expires, date], &NO_POLICY), Ok(60), "expires");
    assert_eq!(fresh(200, &[expires, date, ("cache-control", "max-age=5")], &NO_POLICY), Ok(5), "max-age");
    assert_eq!(
        fresh(200, &[expires, ("cache-control", "max-age=5, s-maxage=9")], &NO_POLICY),
        Ok(9),
        "s-maxage"
    );
}

#[test]
fn rfc9111_4_2_1_upstream_freshness_wins_over_ttl() {
    assert_eq!(fresh(200, &[("cache-control", "max-age=5")], &ttl(60)), Ok(5), "respect");
    assert_eq!(fresh(200, &[], &ttl(60)), Ok(60), "nothing said");
    assert_eq!(fresh(200, &[("cache-control", "public")], &ttl(60)), Ok(60), "no time said");
    assert_eq!(fresh(200, &[], &NO_POLICY), Err(Reason::NoFreshness), "nobody says");
}

#[test]
fn rfc9111_4_2_1_unreadable_freshness_is_stale() {
    for value in ["max-age=abc", "max-age=", "s-maxage=-1, max-age=60", "max-age=1, max-age=2"] {
        assert_eq!(fresh(200, &[("cache-control", value)], &ttl(60)), Err(Reason::Stale), "{value}");
    }
}

#[test]
fn rfc9111_5_3_expires_that_is_no_date_is_in_the_past() {
    for value in ["0", "-1", "tomorrow", "Sat, 05 Nov 1994 08:49:37 GMT"] {
        assert_eq!(fresh(200, &[("expires", value)], &ttl(60)), Err(Reason::Stale), "{value}");
    }
    let two = [("expires", "Sun, 06 Nov 1994 08:50:37 GMT"), ("expires", "Sun, 06 Nov 1994 09:50:37 GMT")];
    assert_eq!(fresh(200, &two, &ttl(60)), Err(Reason::Stale), "two dates");
}

#[test]
fn rfc9111_4_2_3_age_is_subtracted_with_the_delay_of_the_answer() {
    assert_eq!(fresh(200, &[("cache-control", "max-age=60"), ("age", "20")], &NO_POLICY), Ok(40), "age");
    assert_eq!(
        fresh(200, &[("cache-control", "max-age=60"), ("age", "20, 50")], &NO_POLICY),
        Ok(40),
        "first of a list"
    );
    assert_eq!(
        fresh(200, &[("cache-control", "max-age=60"), ("age", "x")], &NO_POLICY),
        Ok(60),
        "unreadable age"
    );
    assert_eq!(
        fresh(200, &[("cache-control", "max-age=60"), ("age", "60")], &NO_POLICY),
        Err(Reason::Stale),
        "old"
    );
    let slow = RequestFacts { response_delay: secs(5), ..RequestFacts::default() };
    let meta = judged(200, &[("cache-control", "max-age=60"), ("age", "20")], &NO_POLICY, &slow).unwrap();
    assert_eq!(meta.fresh_until(), now() + secs(35), "age and delay");
    assert_eq!(meta.epoch(), now() - secs(25), "hits count their age from there");
    assert_eq!(meta.fresh_sec(), 60, "the lifetime itself is whole");
}

#[test]
fn rfc9111_4_2_3_apparent_age_counts_if_larger() {
    let fields = [("cache-control", "max-age=60"), ("date", "Sun, 06 Nov 1994 08:49:07 GMT"), ("age", "10")];
    assert_eq!(fresh(200, &fields, &NO_POLICY), Ok(30), "dated thirty seconds ago");
    let ahead = [("cache-control", "max-age=60"), ("date", "Sun, 06 Nov 1994 08:59:37 GMT")];
    assert_eq!(fresh(200, &ahead, &NO_POLICY), Ok(60), "a clock ahead of ours gives no negative age");
}

#[test]
fn rfc9111_5_2_2_5_no_store_is_never_stored() {
    let fields = [("cache-control", "no-store, max-age=60, public")];
    assert_eq!(fresh(200, &fields, &ttl(60)), Err(Reason::NoStore), "respect");
    assert_eq!(fresh(200, &fields, &overriding(60)), Err(Reason::NoStore), "override");
}

#[test]
fn rfc9111_5_2_2_7_private_is_never_stored_also_with_fields() {
    for value in ["private, max-age=60", "private=\"set-cookie\", max-age=60"] {
        assert_eq!(fresh(200, &[("cache-control", value)], &ttl(60)), Err(Reason::Private), "{value}");
        assert_eq!(
            fresh(200, &[("cache-control", value)], &overriding(60)),
            Err(Reason::Private),
            "override {value}"
        );
    }
}

#[test]
fn rfc9111_5_2_2_4_no_cache_is_refused_unless_overridden() {
    assert_eq!(
        fresh(200, &[("cache-control", "no-cache, max-age=60")], &ttl(60)),
        Err(Reason::NoCache),
        "respect"
    );
    assert_eq!(
        fresh(200, &[("cache-control", "no-cache=\"etag\"")], &ttl(60)),
        Err(Reason::NoCache),
        "with fields"
    );
    assert_eq!(fresh(200, &[("cache-control", "no-cache")], &overriding(60)), Ok(60), "override");
}

#[test]
fn rfc9111_7_3_set_cookie_is_never_stored() {
    let fields = [("set-cookie", "a=b"), ("cache-control", "public, max-age=60")];
    assert_eq!(fresh(200, &fields, &ttl(60)), Err(Reason::SetCookie), "respect");
    assert_eq!(fresh(200, &fields, &overriding(60)), Err(Reason::SetCookie), "override");
}

#[test]
fn rfc9111_4_1_vary_star_is_never_stored() {
    assert_eq!(fresh(200, &[("vary", "accept, *")], &ttl(60)), Err(Reason::Vary), "star");
    assert_eq!(fresh(200, &[("vary", "*")], &overriding(60)), Err(Reason::Vary), "override");
    assert_eq!(fresh(200, &[("vary", "a,b,c,d,e,f,g,h,i")], &ttl(60)), Err(Reason::Vary), "too many names");
    assert_eq!(fresh(200, &[("vary", "accept-language")], &ttl(60)), Ok(60), "one name");
}

#[test]
fn rfc9111_3_5_forwarded_authorization_needs_leave_to_share() {
    let facts = RequestFacts { authorization_forwarded: true, ..RequestFacts::default() };
    let stored = |value| judged(200, &[("cache-control", value)], &ttl(60), &facts).map(|_| ());
    assert_eq!(stored("max-age=60"), Err(Reason::Authorization), "max-age alone");
    for value in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
        assert_eq!(stored(value), Ok(()), "{value}");
    }
    let forced = judged(200, &[("cache-control", "public")], &overriding(60), &facts).map(|_| ());
    assert_eq!(forced, Err(Reason::Authorization), "override never shares it");
}

#[test]
fn a_forwarded_cookie_needs_public_or_s_maxage() {
    let facts = RequestFacts { cookie_forwarded: true, ..RequestFacts::default() };
    let stored = |value| judged(200, &[("cache-control", value)], &ttl(60), &facts).map(|_| ());
    assert_eq!(stored("max-age=60"), Err(Reason::Cookie), "max-age alone");
    assert_eq!(stored("must-revalidate, max-age=60"), Err(Reason::Cookie), "must-revalidate is not enough");
    assert_eq!(stored("public"), Ok(()), "public");
    assert_eq!(stored("s-maxage=1"), Ok(()), "s-maxage");
}

#[test]
fn rfc9111_3_statuses_that_may_never_be_stored() {
    for status in [100, 101, 103, 206, 304, 401, 407, 416, 428, 429, 431, 511] {
        let fields = [("cache-control", "public, max-age=60")];
        assert_eq!(fresh(status, &fields, &overriding(60)), Err(Reason::Status), "{status}");
    }
}

#[test]
fn rfc9110_14_4_content_range_is_never_stored() {
    assert_eq!(
        fresh(200, &[("content-range", "bytes 0-1/5")], &ttl(60)),
        Err(Reason::ContentRange),
        "a part"
    );
}

#[test]
fn rfc9110_15_1_ttl_applies_to_heuristically_cacheable_statuses_only() {
    for status in [200, 203, 204, 300, 301, 308, 404, 410] {
        assert_eq!(fresh(status, &[], &ttl(60)), Ok(60), "{status}");
    }
    for status in [201, 302, 303, 307, 400, 403, 500, 502, 503, 504] {
        let reason = if status < 500 { Reason::NoFreshness } else { Reason::ServerError };
        assert_eq!(fresh(status, &[], &ttl(60)), Err(reason), "{status}");
        assert_eq!(fresh(status, &[], &overriding(60)), Err(reason), "{status} under override");
        assert_eq!(
            fresh(status, &[("cache-control", "max-age=5")], &ttl(60)),
            Ok(5),
            "{status} by its own word"
        );
    }
}

#[test]
fn the_answer_to_a_head_has_no_body_to_store() {
    let facts = RequestFacts { method_head: true, ..RequestFacts::default() };
    assert_eq!(judged(200, &[], &ttl(60), &facts).map(|_| ()), Err(Reason::Head), "head");
}

#[test]
fn where_a_length_is_needed_an_answer_without_one_is_not_stored() {
    let facts = RequestFacts { needs_length: true, ..RequestFacts::default() };
    let stored =
        |status, fields: &[(&'static str, &str)]| judged(status, fields, &ttl(60), &facts).map(|_| ());
    assert_eq!(stored(200, &[("transfer-encoding", "chunked")]), Err(Reason::UnknownLength), "chunked");
    assert_eq!(stored(200, &[("content-length", "5")]), Ok(()), "known");
    assert_eq!(stored(204, &[]), Ok(()), "no body");
}

#[test]
fn override_wins_over_every_time_the_upstream_gives() {
    for fields in [
        [("cache-control", "max-age=0"), ("age", "0")],
        [("cache-control", "s-maxage=5"), ("age", "500")],
        [("expires", "0"), ("date", "Sun, 06 Nov 1994 07:49:37 GMT")],
    ] {
        assert_eq!(fresh(200, &fields, &overriding(60)), Ok(60), "{fields:?}");
    }
    assert_eq!(
        fresh(200, &[], &Policy { ttl: None, ..overriding(1) }),
        Err(Reason::NoFreshness),
        "without ttl"
    );
}

#[test]
fn rfc5861_windows_come_from_the_upstream_else_from_the_route() {
    let policy = Policy { stale_while_revalidate: Some(secs(7)), stale_if_error: Some(secs(8)), ..ttl(60) };
    let windows = |value: &str, policy: &Policy| {
        let meta = judged(200, &[("cache-control", value)], policy, &RequestFacts::default()).unwrap();
        (meta.stale_while_revalidate_sec(), meta.stale_if_error_sec())
    };
    assert_eq!(windows("max-age=1", &policy), (7, 8), "the route's");
    assert_eq!(
        windows("max-age=1, stale-while-revalidate=3, stale-if-error=0", &policy),
        (3, 0),
        "the upstream's"
    );
    assert_eq!(windows("max-age=1, stale-while-revalidate=x", &policy), (0, 8), "unreadable");
    assert_eq!(
        windows("s-maxage=1, stale-while-revalidate=59", &policy),
        (59, 8),
        "s-maxage does not close them"
    );
    let forced = Policy { override_upstream: true, ..policy };
    assert_eq!(windows("stale-while-revalidate=3", &forced), (7, 8), "override");
}

#[test]
fn rfc9111_5_2_2_2_must_revalidate_closes_the_windows() {
    let policy = Policy { stale_while_revalidate: Some(secs(7)), stale_if_error: Some(secs(8)), ..ttl(60) };
    for value in ["max-age=1, must-revalidate", "max-age=1, proxy-revalidate, stale-if-error=9"] {
        let meta = judged(200, &[("cache-control", value)], &policy, &RequestFacts::default()).unwrap();
        assert_eq!((meta.stale_while_revalidate_sec(), meta.stale_if_error_sec()), (0, 0), "{value}");
    }
}

#[test]
fn rfc5861_an_answer_born_stale_is_stored_if_a_window_is_open() {
    let fields = [("cache-control", "max-age=0, stale-while-revalidate=30"), ("age", "10")];
    let meta = judged(200, &fields, &NO_POLICY, &RequestFacts::default()).unwrap();
    assert!(!meta.is_fresh(now()) && meta.serve_stale_while_revalidate(now()), "stale but servable");
    assert_eq!(fresh(200, &[("cache-control", "max-age=0")], &NO_POLICY), Err(Reason::Stale), "no window");
}

#[test]
fn rfc9110_7_6_1_connection_fields_are_not_stored() {
    let fields = [
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("age", "3"),
        ("cache-status", "other; hit"),
        ("x-kept", "1"),
        ("etag", "\"a\""),
    ];
    let meta = judged(200, &fields, &ttl(60), &RequestFacts::default()).unwrap();
    let mut names: Vec<&str> = meta.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["etag", "x-kept"], "what is stored");
}

#[test]
fn no_duration_can_overflow_the_clock() {
    let policy = Policy { stale_if_error: Some(Duration::MAX), ..overriding(u64::MAX) };
    let huge = [("age", "99999999999999999999"), ("cache-control", "stale-while-revalidate=99999999999")];
    let meta = judged(200, &huge, &policy, &RequestFacts::default()).unwrap();
    assert!(meta.created() > UNIX_EPOCH, "still a meta");
    assert_eq!(meta.stale_if_error_sec(), u32::MAX, "capped");
}

#[test]
fn reasons_are_distinct_tokens() {
    let texts: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
    assert_eq!(texts.len(), Reason::ALL.len(), "no two alike");
    assert!(texts.iter().all(|t| t.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')), "tokens");
}
