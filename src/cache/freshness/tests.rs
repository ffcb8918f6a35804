//! The rules of `freshness`, each named by the section it comes from.

use super::*;
use std::time::UNIX_EPOCH;

mod invariants;
mod times;

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

const NO_POLICY: Policy = Policy::DEFAULT;

fn names(meta: &CacheMeta) -> Vec<&str> {
    let mut names: Vec<&str> = meta.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn rfc9213_2_2_the_targeted_field_comes_before_cache_control_and_expires() {
    let cdn = |value: &'static str| ("cdn-cache-control", value);
    let (no_store, past) = (("cache-control", "no-store"), ("expires", "0"));
    assert_eq!(
        fresh(200, &[cdn("max-age=60"), no_store, past], &NO_POLICY),
        Ok(60),
        "stored against `no-store`"
    );
    let ahead = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
    let long = ("cache-control", "max-age=60");
    assert_eq!(fresh(200, &[cdn("max-age=5"), long, ahead], &NO_POLICY), Ok(5), "shorter");
    assert_eq!(fresh(200, &[cdn("no-store"), long], &NO_POLICY), Err(Reason::NoStore), "no-store");
    assert_eq!(fresh(200, &[cdn("private"), long], &NO_POLICY), Err(Reason::Private), "private");
    assert_eq!(fresh(200, &[cdn("no-cache"), long], &NO_POLICY), Err(Reason::NoCache), "no-cache");
    assert_eq!(fresh(200, &[cdn("foo"), long, ahead], &NO_POLICY), Err(Reason::NoFreshness), "no time in it");
    assert_eq!(
        fresh(200, &[cdn("max-age=\"5\""), long], &NO_POLICY),
        Ok(60),
        "invalid: as if it were not there"
    );
    assert_eq!(fresh(200, &[cdn("max-age=60"), ("age", "20")], &NO_POLICY), Ok(40), "its age counts");
}

#[test]
fn an_answer_of_400_or_more_is_fresh_for_a_bounded_time() {
    let policy = Policy { negative_max: secs(10), ..ttl(60) };
    let value = [("cache-control", "max-age=60, stale-while-revalidate=50, stale-if-error=3"), ("age", "20")];
    for status in [400, 404, 503] {
        let meta = judged(status, &value, &policy, &RequestFacts::default()).unwrap();
        assert_eq!(meta.fresh_until(), now() + secs(10), "{status} by its own word");
        assert_eq!((meta.stale_while_revalidate_sec(), meta.stale_if_error_sec()), (10, 3), "{status} stale");
    }
    assert_eq!(fresh(404, &[], &policy), Ok(10), "by `ttl`");
    assert_eq!(fresh(404, &[], &Policy { override_upstream: true, ..policy }), Ok(10), "by `override`");
    assert_eq!(fresh(308, &value, &policy), Ok(40), "no error");
    assert_eq!(fresh(404, &[("cache-control", "max-age=3")], &policy), Ok(3), "shorter is shorter");
    let never = Policy { negative_max: Duration::ZERO, ..policy };
    assert_eq!(fresh(404, &[], &never), Err(Reason::Stale), "not at all");
}

#[test]
fn rfc9111_5_2_2_5_no_store_is_never_stored() {
    let fields = [("cache-control", "no-store, max-age=60, public")];
    assert_eq!(fresh(200, &fields, &ttl(60)), Err(Reason::NoStore), "respect");
    assert_eq!(fresh(200, &fields, &overriding(60)), Err(Reason::NoStore), "override");
}

#[test]
fn rfc9111_5_2_2_5_what_cannot_be_read_counts_as_no_store() {
    let fields = [("cache-control", "max-age=60, must-understand, x=\"no-store")];
    assert_eq!(fresh(200, &fields, &overriding(60)), Err(Reason::NoStore), "an open quote");
}

#[test]
fn rfc9111_5_2_2_7_private_is_never_stored() {
    let fields = [("cache-control", "private, max-age=60")];
    assert_eq!(fresh(200, &fields, &ttl(60)), Err(Reason::Private), "respect");
    assert_eq!(fresh(200, &fields, &overriding(60)), Err(Reason::Private), "override");
}

#[test]
fn rfc9111_5_2_2_7_fields_that_private_or_no_cache_name_are_not_stored_but_the_rest_is() {
    for list in ["private=\"x-user, Set-Cookie\"", "no-cache=\"Set-Cookie\", private=x-user"] {
        let cache_control = format!("max-age=60, {list}");
        let fields = [
            ("cache-control", cache_control.as_str()),
            ("x-user", "ann"),
            ("set-cookie", "a=b"),
            ("x-kept", "1"),
        ];
        let meta = judged(200, &fields, &NO_POLICY, &RequestFacts::default()).expect(list);
        assert_eq!(names(&meta), ["cache-control", "x-kept"], "{list}");
        assert_eq!(Terms::of(&meta), Terms::default(), "the rest is used without asking: {list}");
    }
    let whole = [("cache-control", "max-age=60, private=\"vary\"")];
    assert_eq!(fresh(200, &whole, &NO_POLICY), Err(Reason::Private), "a list that cannot be followed");
}

#[test]
fn rfc9111_5_2_2_4_no_cache_is_stored_to_be_asked_about_each_time() {
    let policy = Policy { stale_while_revalidate: Some(secs(7)), stale_if_error: Some(secs(8)), ..ttl(60) };
    for validator in [("etag", "\"a\""), ("last-modified", NOW_DATE)] {
        let fields = [("cache-control", "no-cache, max-age=60, stale-if-error=9"), validator, ("age", "5")];
        let meta = judged(200, &fields, &policy, &RequestFacts::default()).unwrap();
        assert!(Terms::of(&meta).validates, "by {validator:?}");
        assert_eq!(meta.fresh_until(), meta.epoch(), "never fresh");
        assert_eq!((meta.stale_while_revalidate_sec(), meta.stale_if_error_sec()), (0, 0), "no windows");
    }
}

#[test]
fn rfc9111_5_2_2_4_no_cache_without_a_validator_is_refused_unless_overridden() {
    for fields in [
        &[("cache-control", "no-cache, max-age=60")][..],
        &[("cache-control", "no-cache, private=etag"), ("etag", "\"a\"")],
    ] {
        assert_eq!(fresh(200, fields, &ttl(60)), Err(Reason::NoCache), "{fields:?}");
    }
    assert_eq!(fresh(200, &[("cache-control", "no-cache")], &overriding(60)), Ok(60), "override");
    assert_eq!(
        fresh(302, &[("cache-control", "no-cache, max-age=60")], &overriding(60)),
        Err(Reason::NoCache),
        "a status that `ttl` does not speak of"
    );
}

#[test]
fn rfc9111_5_2_2_3_must_understand_lifts_no_store_for_statuses_that_are_understood() {
    for (status, value, expected) in [
        (200, "must-understand, no-store, max-age=60", Ok(60)),
        (404, "no-store, must-understand, max-age=60", Ok(60)),
        (200, "must-understand, max-age=60", Ok(60)),
        (299, "must-understand, no-store, max-age=60", Err(Reason::Status)),
        (599, "must-understand, max-age=60", Err(Reason::Status)),
        (200, "must-understand=x, no-store, max-age=60", Err(Reason::NoStore)),
    ] {
        assert_eq!(fresh(status, &[("cache-control", value)], &NO_POLICY), expected, "{status} {value}");
    }
}

#[test]
fn rfc9111_7_3_set_cookie_is_never_stored() {
    let fields = [("set-cookie", "a=b"), ("cache-control", "public, max-age=60")];
    assert_eq!(fresh(200, &fields, &ttl(60)), Err(Reason::SetCookie), "respect");
    assert_eq!(fresh(200, &fields, &overriding(60)), Err(Reason::SetCookie), "override");
}

#[test]
fn rfc9111_7_3_a_cookie_is_stored_where_the_route_says_so_and_the_upstream_says_for_how_long() {
    let stores = |policy| Policy { store_set_cookie: true, ..policy };
    let cookie = ("set-cookie", "a=b");
    for said in [
        ("cache-control", "max-age=60"),
        ("cache-control", "s-maxage=60"),
        ("expires", "Sun, 06 Nov 1994 08:50:37 GMT"),
    ] {
        let meta = judged(200, &[cookie, said], &stores(NO_POLICY), &RequestFacts::default()).unwrap();
        assert_eq!(meta.headers().get("set-cookie").unwrap(), "a=b", "kept with {said:?}");
    }
    let heuristic = Policy { heuristic_max: Some(secs(60)), ..ttl(60) };
    let changed = ("last-modified", "Sun, 06 Nov 1994 07:49:37 GMT");
    assert_eq!(fresh(200, &[cookie, changed], &stores(heuristic)), Err(Reason::SetCookie), "a guess");
    assert_eq!(fresh(200, &[cookie], &stores(ttl(60))), Err(Reason::SetCookie), "ttl");
    let said = ("cache-control", "max-age=60");
    assert_eq!(fresh(200, &[cookie, said], &stores(overriding(60))), Err(Reason::SetCookie), "override");
    let withheld = ("cache-control", "max-age=60, no-cache=\"set-cookie\"");
    let meta = judged(200, &[cookie, withheld], &stores(NO_POLICY), &RequestFacts::default()).unwrap();
    assert!(!meta.headers().contains_key("set-cookie"), "the upstream keeps it out");
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
    assert_eq!(stored("max-age=60, proxy-revalidate"), Err(Reason::Authorization), "not one of the three");
    assert_eq!(stored("s-maxage=1.5, stale-if-error=60"), Err(Reason::Authorization), "no number, no leave");
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
    for status in [100, 101, 103, 206, 304, 401, 407, 408, 412, 416, 417, 421, 425, 428, 429, 431, 511] {
        let fields = [("cache-control", "public, max-age=60")];
        assert_eq!(fresh(status, &fields, &overriding(60)), Err(Reason::Status), "{status}");
    }
}

#[test]
fn rfc9111_3_any_other_final_status_is_stored_by_its_own_word() {
    for status in
        [200, 202, 205, 299, 302, 303, 307, 399, 400, 402, 403, 405, 422, 451, 499, 500, 503, 599, 999]
    {
        assert_eq!(fresh(status, &[("cache-control", "max-age=60")], &NO_POLICY), Ok(60), "{status}");
    }
}

#[test]
fn rfc9110_14_4_content_range_means_something_only_where_it_names_a_part() {
    for value in ["bytes 0-1/5", "bytes 1-4/5", "bytes 0-1/*", "x", "bytes 0-4/5", "bytes */5", "pages 1-2/3"]
    {
        let expected = if value.starts_with("bytes 0-1") || value == "bytes 1-4/5" {
            Err(Reason::ContentRange)
        } else {
            Ok(60)
        };
        assert_eq!(fresh(200, &[("content-range", value)], &ttl(60)), expected, "{value}");
    }
}

#[test]
fn the_answer_to_a_head_has_no_body_to_store() {
    let facts = RequestFacts { method_head: true, ..RequestFacts::default() };
    assert_eq!(judged(200, &[], &ttl(60), &facts).map(|_| ()), Err(Reason::Head), "head");
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
fn rfc9111_5_2_2_10_s_maxage_closes_what_the_route_would_open() {
    let policy = Policy { stale_while_revalidate: Some(secs(7)), stale_if_error: Some(secs(8)), ..ttl(60) };
    for (value, policy, expected) in [
        ("s-maxage=1", policy, (0, 0)),
        ("s-maxage=1, stale-while-revalidate=59", policy, (59, 0)),
        ("s-maxage=1, stale-if-error=9", policy, (0, 9)),
        ("s-maxage=1, proxy-revalidate, stale-if-error=9", policy, (0, 0)),
        ("s-maxage=1", Policy { override_upstream: true, ..policy }, (7, 8)),
    ] {
        let meta = judged(200, &[("cache-control", value)], &policy, &RequestFacts::default()).unwrap();
        assert_eq!((meta.stale_while_revalidate_sec(), meta.stale_if_error_sec()), expected, "{value}");
        assert_eq!(Terms::of(&meta).never_stale, !policy.override_upstream, "no further than that: {value}");
    }
}

#[test]
fn rfc9111_4_3_1_an_answer_born_stale_is_stored_if_the_upstream_can_be_asked_about_it() {
    let fields = [("cache-control", "max-age=0, must-revalidate"), ("etag", "\"a\"")];
    let meta = judged(200, &fields, &NO_POLICY, &RequestFacts::default()).unwrap();
    assert!(meta.fresh_until() <= now() && Terms::of(&meta).never_stale, "never given unasked");
    assert_eq!(fresh(404, &fields, &NO_POLICY), Err(Reason::Stale), "an error is not worth it");
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
    assert_eq!(names(&meta), ["etag", "x-kept"], "what is stored");
}

#[test]
fn rfc9111_3_1_every_other_field_is_stored() {
    let mut fields: Vec<(&'static str, &str)> = vec![
        ("cache-control", "max-age=60"),
        ("cdn-cache-control", "max-age=60"),
        ("clear-site-data", "cookies"),
        ("content-encoding", "gzip"),
        ("content-location", "/b"),
        ("content-md5", "x"),
        ("content-range", "x"),
        ("content-security-policy", "default-src 'self'"),
        ("content-type", "text/plain"),
        ("date", NOW_DATE),
        ("etag", "\"a\""),
        ("public-key-pins", "x"),
        ("x-anything", "1"),
        ("x-frame-options", "DENY"),
    ];
    let expected: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    fields.extend([
        ("te", "x"),
        ("upgrade", "x"),
        ("proxy-authenticate", "x"),
        ("trailer", "x"),
        ("set-cookie2", "x"),
    ]);
    let meta = judged(200, &fields, &NO_POLICY, &RequestFacts::default()).unwrap();
    assert_eq!(names(&meta), expected, "all but what belongs to the connection");
}

#[test]
fn rfc9111_5_2_1_5_a_request_may_ask_that_nothing_is_kept() {
    let facts = RequestFacts { no_store: true, ..RequestFacts::default() };
    let stored = judged(200, &[("cache-control", "max-age=60")], &overriding(60), &facts).map(|_| ());
    assert_eq!(stored, Err(Reason::RequestNoStore), "no-store of the request");
}

#[test]
fn a_page_under_the_path_of_a_file_is_never_stored() {
    let facts = RequestFacts { path: "/account/x.css", ..RequestFacts::default() };
    let stored = |status, content_type| {
        judged(status, &[("content-type", content_type)], &overriding(60), &facts).map(|_| ())
    };
    assert_eq!(stored(200, "text/html"), Err(Reason::Deception), "a page");
    assert_eq!(stored(200, "text/css"), Ok(()), "a style sheet");
    assert_eq!(stored(404, "text/html"), Ok(()), "an error is a page");
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
