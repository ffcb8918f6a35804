//! Any bytes in every field that a cache reads, through all of the rules one after the other, as an exchange goes: nothing panics, and
//! what holds of every exchange holds of these.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use pingora::http::RequestHeader;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::cache::conditions;
use crate::cache::directives::Asked;
use crate::cache::freshness::{Policy, RequestFacts, Verdict, judge, unkept};
use crate::cache::invalidation::{Url, invalidated};
use crate::cache::ranges::{self, Selection};
use crate::cache::reuse::{Reuse, may_stand_in, reuse};
use crate::cache::terms::Terms;
use crate::cache::validate::{add_validators, by_head, is_about, merge};
use crate::cache::vary::{Vary, variance};
use crate::exchange::Scheme;

const OF_ANSWERS: [&str; 18] = [
    "cache-control",
    "cdn-cache-control",
    "expires",
    "age",
    "date",
    "etag",
    "last-modified",
    "vary",
    "pragma",
    "set-cookie",
    "connection",
    "content-type",
    "content-length",
    "content-range",
    "location",
    "content-location",
    "warning",
    "x-other",
];
const OF_REQUESTS: [&str; 12] = [
    "cache-control",
    "pragma",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "range",
    "accept-encoding",
    "accept-language",
    "cookie",
    "x-other",
];
/// What is next to right, for bytes alone seldom are.
const PIECES: [&[u8]; 34] = [
    b"max-age",
    b"s-maxage",
    b"min-fresh",
    b"max-stale",
    b"stale-while-revalidate",
    b"stale-if-error",
    b"no-store",
    b"no-cache",
    b"private",
    b"public",
    b"must-revalidate",
    b"must-understand",
    b"=",
    b"\"",
    b"\\",
    b",",
    b";",
    b" ",
    b"\t",
    b"*",
    b"W/",
    b"\"a\"",
    b"bytes=",
    b"0-1",
    b"0",
    b"7",
    b"99999999999999999999",
    b"-",
    b"accept-language",
    b"x-other",
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sunday, 06-Nov-94 08:49:37 GMT",
    b"//gate.example/../a?%",
    b"\xff\x80\xc3",
];

fn value() -> impl Strategy<Value = HeaderValue> {
    let byte = prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8].prop_map(|byte| vec![byte]);
    let piece = prop_oneof![3 => select(&PIECES[..]).prop_map(<[u8]>::to_vec), 1 => byte];
    vec(piece, 0..8).prop_map(|pieces| HeaderValue::from_bytes(&pieces.concat()).unwrap())
}

fn lines(names: &'static [&'static str]) -> impl Strategy<Value = Vec<(&'static str, HeaderValue)>> {
    vec((select(names), value()), 0..10)
}

fn answer(status: u16, lines: &[(&'static str, HeaderValue)]) -> ResponseHeader {
    let mut head = ResponseHeader::build(status, None).unwrap();
    for (name, value) in lines {
        head.append_header(*name, value.clone()).unwrap();
    }
    head
}

fn policy(bits: u8) -> Policy {
    let span = |bit: u8| (bits & bit != 0).then_some(Duration::from_secs(60));
    Policy {
        ttl: span(1),
        override_upstream: bits & 2 != 0,
        stale_while_revalidate: span(4),
        stale_if_error: span(8),
        heuristic_max: span(16),
        store_set_cookie: bits & 32 != 0,
        ..Policy::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_bytes_in_any_field_are_survived(
        status in prop_oneof![3 => Just(200_u16), 1 => 100..1000_u16],
        first in lines(&OF_ANSWERS),
        second in lines(&OF_ANSWERS),
        wanted in lines(&OF_REQUESTS),
        bits in any::<u8>(),
        later in 0..200_u64,
    ) {
        let now = SystemTime::now();
        let (head, update) = (answer(status, &first), answer(304, &second));
        let mut request = RequestHeader::build(Method::GET, b"/a", None).unwrap();
        for (name, value) in &wanted {
            request.append_header(*name, value.clone()).unwrap();
        }
        let facts = RequestFacts { path: "/a", authorization_forwarded: bits & 64 != 0, ..RequestFacts::default() };
        let policy = policy(bits);
        let target = Url { scheme: Scheme::Http, authority: "gate.example", path: "/a", query: None };
        for url in invalidated(&Method::POST, StatusCode::OK, &head.headers, target) {
            prop_assert_eq!(url.authority.as_str(), "gate.example", "never another's");
            prop_assert!(url.path.starts_with('/'));
        }
        prop_assert!(unkept(head.clone(), Duration::ZERO, now).epoch() <= now);

        let asked = Asked::read(&request.headers);
        let Verdict::Store(meta) = judge(&head, &facts, &policy, now) else { return Ok(()) };
        let stored = meta.response_header();
        let at = now + Duration::from_secs(later);
        prop_assert_ne!(variance(&stored.headers, &request.headers), Vary::Star, "that is never stored");
        if Terms::of(&meta).validates {
            prop_assert_eq!(reuse(&meta, &asked, at), Reuse::Validate);
            prop_assert!(!may_stand_in(&meta, &asked, at));
        }
        if reuse(&meta, &Asked::default(), at) == Reuse::Fresh {
            prop_assert!(meta.fresh_until() > at);
            prop_assert!(may_stand_in(&meta, &Asked::default(), at) || stored.status.is_server_error());
        }

        let _ = conditions::evaluate(&Method::GET, &request.headers, stored);
        prop_assert_eq!(conditions::not_modified(stored).status, 304);
        let mut part = stored.clone();
        match ranges::select(&Method::GET, &request.headers, stored, 9) {
            Selection::One(range) => {
                prop_assert!(range.start < range.end && range.end <= 9, "inside");
                ranges::one(&mut part, &range, 9);
            }
            Selection::Many(all) => prop_assert!(all.iter().all(|range| range.start < range.end && range.end <= 9)),
            Selection::Unsatisfiable => ranges::unsatisfiable(&mut part, 9),
            Selection::Whole => {}
        }

        add_validators(&mut request, stored);
        prop_assert!(!request.headers.contains_key("range") && !request.headers.contains_key("if-match"));
        let _ = (is_about(stored, &update), by_head(stored, &update));
        let merged = merge(stored, &update);
        prop_assert_eq!(merged.status, stored.status);
        prop_assert_eq!(&merge(&merged, &update).headers, &merged.headers, "twice is once");
        if let Verdict::Store(renewed) = judge(&merged, &facts, &policy, now) {
            prop_assert!(renewed.epoch() <= now && renewed.fresh_until() >= renewed.epoch());
            prop_assert!(!renewed.headers().contains_key("connection"), "of a connection");
        }
    }
}
