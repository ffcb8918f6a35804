//! Conditions of the client, answered from the store (RFC 9110 §13, §15.4.5, §15.5.13; RFC 9111 §4.3.2).

use crate::harness::Answer;
use crate::stage::{APP, BOTH, Fields, Given, Stage, date, ok, status};

const CHANGED: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
const BEFORE: &str = "Tue, 31 Dec 2019 00:00:00 GMT";
const AFTER: &str = "Thu, 02 Jan 2020 00:00:00 GMT";

fn stored(fields: &[(&str, &str)]) -> Given {
    ok(&[&[("Cache-Control", "max-age=60")], fields].concat())
}

fn ask(stage: &Stage, way: &str, given: Given, method: &str, headers: &[(&str, &str)]) -> Answer {
    let target = stage.target(way, &[given]);
    stage.get(&target);
    let answer = stage.gateway.request(method, &target, headers, b"");
    assert_eq!(stage.asked(&target).len(), 1, "{way} {headers:?}: from the store");
    answer
}

/// Each row: what is stored, what the client asks with, the status it gets.
fn expect(rows: &[(Fields<'_>, Fields<'_>, u16)]) {
    let stage = Stage::new("{}");
    for way in BOTH {
        for (fields, headers, status) in rows {
            for method in ["GET", "HEAD"] {
                let answer = ask(&stage, way, stored(fields), method, headers);
                assert_eq!(answer.status, *status, "{way} {method} {fields:?} {headers:?}");
            }
        }
    }
}

#[test]
fn rfc9110_13_1_2_if_none_match_compares_weakly_with_every_member() {
    expect(&[
        (&[("ETag", "\"a\"")], &[("If-None-Match", "\"a\"")], 304),
        (&[("ETag", "\"a\"")], &[("If-None-Match", "W/\"a\"")], 304),
        (&[("ETag", "W/\"a\"")], &[("If-None-Match", "\"a\"")], 304),
        (&[("ETag", "\"a\"")], &[("If-None-Match", "\"b\", \"a\"")], 304),
        (&[("ETag", "\"a\"")], &[("If-None-Match", "\"b\""), ("If-None-Match", "\"a\"")], 304),
        (&[("ETag", "\"a,b\"")], &[("If-None-Match", "\"a,b\"")], 304),
        (&[("ETag", "\"a\"")], &[("If-None-Match", "\"b\"")], 200),
        (&[("ETag", "\"a\"")], &[("If-None-Match", "\"A\"")], 200),
        (&[("ETag", "\"a\"")], &[("If-None-Match", "*")], 304),
        (&[], &[("If-None-Match", "*")], 304),
        (&[], &[("If-None-Match", "\"a\"")], 200),
    ]);
}

#[test]
fn rfc9110_13_1_3_if_modified_since_compares_with_last_modified() {
    expect(&[
        (&[("Last-Modified", CHANGED)], &[("If-Modified-Since", CHANGED)], 304),
        (&[("Last-Modified", CHANGED)], &[("If-Modified-Since", AFTER)], 304),
        (&[("Last-Modified", CHANGED)], &[("If-Modified-Since", BEFORE)], 200),
        (&[("Last-Modified", CHANGED)], &[("If-Modified-Since", "Wednesday, 01-Jan-20 00:00:00 GMT")], 304),
        (&[("Last-Modified", CHANGED)], &[("If-Modified-Since", "yesterday")], 200),
    ]);
}

#[test]
fn rfc9111_4_3_2_if_modified_since_compares_with_date_where_there_is_no_last_modified() {
    let (now, earlier, later) = (date(-20), date(-30), date(-10));
    expect(&[
        (&[("Date", &now)], &[("If-Modified-Since", &later)], 304),
        (&[("Date", &now)], &[("If-Modified-Since", &earlier)], 200),
    ]);
}

#[test]
fn rfc9110_13_1_3_if_modified_since_counts_nothing_beside_if_none_match() {
    let fields: &[(&str, &str)] = &[("ETag", "\"a\""), ("Last-Modified", CHANGED)];
    expect(&[
        (fields, &[("If-None-Match", "\"b\""), ("If-Modified-Since", AFTER)], 200),
        (fields, &[("If-None-Match", "\"a\""), ("If-Modified-Since", BEFORE)], 304),
    ]);
}

#[test]
fn rfc9110_13_1_1_if_match_compares_strongly_and_is_412_where_it_fails() {
    expect(&[
        (&[("ETag", "\"a\"")], &[("If-Match", "\"a\"")], 200),
        (&[("ETag", "\"a\"")], &[("If-Match", "\"b\", \"a\"")], 200),
        (&[("ETag", "\"a\"")], &[("If-Match", "*")], 200),
        (&[("ETag", "\"a\"")], &[("If-Match", "\"b\"")], 412),
        (&[("ETag", "W/\"a\"")], &[("If-Match", "W/\"a\"")], 412),
        (&[], &[("If-Match", "\"a\"")], 412),
    ]);
}

#[test]
fn rfc9110_13_1_4_if_unmodified_since_is_412_where_it_was_modified_after() {
    expect(&[
        (&[("Last-Modified", CHANGED)], &[("If-Unmodified-Since", CHANGED)], 200),
        (&[("Last-Modified", CHANGED)], &[("If-Unmodified-Since", AFTER)], 200),
        (&[("Last-Modified", CHANGED)], &[("If-Unmodified-Since", BEFORE)], 412),
        (
            &[("Last-Modified", CHANGED), ("ETag", "\"a\"")],
            &[("If-Unmodified-Since", BEFORE), ("If-Match", "\"a\"")],
            200,
        ),
    ]);
}

#[test]
fn rfc9110_13_2_2_if_match_goes_first_and_the_range_last() {
    let stage = Stage::new("{}");
    let fields = &[("ETag", "\"a\"")];
    for way in BOTH {
        for (headers, status) in [
            ([("If-Match", "\"b\""), ("If-None-Match", "\"a\""), ("Range", "bytes=0-0")], 412),
            ([("If-Match", "\"a\""), ("If-None-Match", "\"a\""), ("Range", "bytes=0-0")], 304),
            ([("If-Match", "\"a\""), ("If-None-Match", "\"b\""), ("Range", "bytes=0-0")], 206),
        ] {
            assert_eq!(ask(&stage, way, stored(fields), "GET", &headers).status, status, "{way} {headers:?}");
        }
    }
}

#[test]
fn rfc9110_15_4_5_a_304_has_the_fields_a_client_needs_to_keep_its_copy_and_no_body() {
    let stage = Stage::new("{}");
    let fields = [
        ("ETag", "\"a\""),
        ("Expires", "Fri, 01 Jan 2049 00:00:00 GMT"),
        ("Vary", "Accept-Encoding"),
        ("Content-Location", "/app/elsewhere"),
    ];
    let answer = ask(&stage, APP, stored(&fields), "GET", &[("If-None-Match", "\"a\"")]);
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    for (name, value) in fields {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    for name in ["date", "cache-control"] {
        assert!(answer.header(name).is_some(), "{name}");
    }
    assert!(
        answer.header("content-length").is_none_or(|length| length == "2"),
        "§8.6: of the 200, or nothing"
    );
    assert_eq!(answer.header("transfer-encoding"), None);
}

#[test]
fn rfc9110_13_2_1_conditions_are_not_looked_at_where_the_answer_is_no_success() {
    let stage = Stage::new("{}");
    let gone = status(404, &[("Cache-Control", "max-age=60"), ("ETag", "\"a\"")]);
    let answer = ask(&stage, APP, gone, "GET", &[("If-None-Match", "\"a\"")]);
    assert_eq!(answer.status, 404);
}
