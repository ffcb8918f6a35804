//! `HEAD`, `Range` and conditional requests before the cache: on a hit, and on the miss that fills it.

use crate::cache_gate::{BOTH, cache_status, gateway, is_hit, is_stored};
use crate::harness::{Answer, Gateway, Origin, response};

const BODY: &[u8] = b"0123456789";
const DATE: &str = "Wed, 01 Jan 2020 00:00:00 GMT";

fn origin() -> Origin {
    Origin::start(|request| {
        let headers = [
            ("Cache-Control", "max-age=60"),
            ("ETag", "\"v1\""),
            ("Last-Modified", DATE),
            ("Accept-Ranges", "bytes"),
        ];
        if request.header("if-none-match") == Some("\"v1\"") {
            return crate::harness::Reply::Raw(b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n".to_vec());
        }
        response(200, &headers, BODY)
    })
}

fn warm(way: &str, gateway: &Gateway) {
    let first = gateway.get(&format!("{way}/x"));
    assert!(is_stored(&first), "{way}: {}", cache_status(&first));
}

fn ask(gateway: &Gateway, way: &str, headers: &[(&str, &str)]) -> Answer {
    gateway.request("GET", &format!("{way}/x"), headers, b"")
}

#[test]
fn a_head_is_answered_from_what_a_get_stored() {
    let origin = origin();
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        warm(way, &gateway);
        let before = origin.count();
        let head = gateway.request("HEAD", &format!("{way}/x"), &[], b"");
        assert!(is_hit(&head), "{way}: {}", cache_status(&head));
        assert_eq!((head.status, head.header("content-length")), (200, Some("10")), "{way}");
        assert_eq!(origin.count(), before, "{way}: the origin was not asked");
    }
}

#[test]
fn a_head_that_misses_fills_the_cache_for_the_next_get() {
    let origin = origin();
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        let mut client = crate::harness::Client::connect(gateway.address());
        let head = client.request("HEAD", &format!("{way}/x"), &[], b"");
        assert_eq!((head.status, head.header("content-length")), (200, Some("10")), "{way}: {head:?}");
        assert_eq!(origin.last().method(), "GET", "{way}: fetched whole, for everybody");
        let get = client.request("GET", &format!("{way}/x"), &[], b"");
        assert_eq!(
            (get.body.as_slice(), is_hit(&get)),
            (BODY, true),
            "{way}: on the same connection: {get:?}"
        );
    }
}

#[test]
fn a_range_of_a_hit_is_cut_from_the_store() {
    let origin = origin();
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        warm(way, &gateway);
        let before = origin.count();
        for (range, expected, content_range) in [
            ("bytes=0-3", "0123", "bytes 0-3/10"),
            ("bytes=7-", "789", "bytes 7-9/10"),
            ("bytes=-2", "89", "bytes 8-9/10"),
            ("bytes=5-100", "56789", "bytes 5-9/10"),
        ] {
            let part = ask(&gateway, way, &[("Range", range)]);
            assert_eq!((part.status, part.text().as_str()), (206, expected), "{way} {range}: {part:?}");
            assert_eq!(part.header("content-range"), Some(content_range), "{way} {range}");
            assert_eq!(
                part.header("content-length"),
                Some(expected.len().to_string().as_str()),
                "{way} {range}"
            );
            assert!(is_hit(&part), "{way} {range}");
        }
        assert_eq!(origin.count(), before, "{way}: all from the store");
    }
}

#[test]
fn several_ranges_of_a_hit_come_as_parts() {
    let origin = origin();
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        warm(way, &gateway);
        let parts = ask(&gateway, way, &[("Range", "bytes=0-1,8-9")]);
        assert_eq!(parts.status, 206, "{way}: {parts:?}");
        let kind = parts.header("content-type").unwrap_or_default().to_owned();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("RFC 9110 §14.6");
        let text = parts.text();
        assert_eq!(text.matches(&format!("--{boundary}")).count(), 3, "{way}: two parts and the end: {text}");
        assert!(text.contains("bytes 0-1/10") && text.contains("bytes 8-9/10"), "{way}: {text}");
        assert!(!parts.cut, "{way}: whole");
    }
}

#[test]
fn a_range_that_cannot_be_satisfied_is_416_and_one_that_is_none_is_ignored() {
    let origin = origin();
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        warm(way, &gateway);
        let beyond = ask(&gateway, way, &[("Range", "bytes=50-60")]);
        assert_eq!(
            (beyond.status, beyond.header("content-range")),
            (416, Some("bytes */10")),
            "{way}: {beyond:?}"
        );
        let other = ask(&gateway, way, &[("Range", "lines=1-2")]);
        assert_eq!((other.status, other.body.as_slice()), (200, BODY), "{way}: an unknown unit");
        assert!(is_hit(&ask(&gateway, way, &[])), "{way}: the entry is as it was");
    }
}

#[test]
fn if_range_gives_the_part_only_while_the_answer_is_the_same() {
    let origin = origin();
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        warm(way, &gateway);
        let same = ask(&gateway, way, &[("Range", "bytes=0-3"), ("If-Range", "\"v1\"")]);
        assert_eq!((same.status, same.text().as_str()), (206, "0123"), "{way}");
        let other = ask(&gateway, way, &[("Range", "bytes=0-3"), ("If-Range", "\"v2\"")]);
        assert_eq!((other.status, other.body.as_slice()), (200, BODY), "{way}: the whole new one");
    }
}

#[test]
fn a_condition_on_a_hit_is_answered_here() {
    let origin = origin();
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        warm(way, &gateway);
        let before = origin.count();
        for (condition, status) in [
            (("If-None-Match", "\"v1\""), 304),
            (("If-None-Match", "W/\"v1\""), 304),
            (("If-None-Match", "\"v0\", \"v1\""), 304),
            (("If-None-Match", "*"), 304),
            (("If-None-Match", "\"v2\""), 200),
            (("If-Modified-Since", DATE), 304),
            (("If-Modified-Since", "Tue, 31 Dec 2019 23:59:59 GMT"), 200),
        ] {
            let answer = ask(&gateway, way, &[condition]);
            assert_eq!(answer.status, status, "{way} {condition:?}: {answer:?}");
            assert!(is_hit(&answer), "{way} {condition:?}: {}", cache_status(&answer));
            if status == 304 {
                assert_eq!(answer.header("etag"), Some("\"v1\""), "{way}: RFC 9110 §15.4.5");
                assert!(answer.body.is_empty(), "{way}: no body");
            }
        }
        assert_eq!(origin.count(), before, "{way}: the origin was not asked");
    }
}

#[test]
fn conditions_and_ranges_on_a_miss_fetch_the_whole() {
    let origin = origin();
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        for (name, headers) in [
            ("a", &[("If-None-Match", "\"v1\"")][..]),
            ("b", &[("Range", "bytes=0-3")]),
            ("c", &[("If-Modified-Since", DATE), ("Range", "bytes=0-1,3-4")]),
            ("d", &[("If-Range", "\"v1\""), ("Range", "bytes=2-3")]),
        ] {
            let target = format!("{way}/{name}");
            let mut client = crate::harness::Client::connect(gateway.address());
            let first = client.request("GET", &target, headers, b"");
            assert!(matches!(first.status, 200 | 206 | 304), "{target}: {first:?}");
            assert!(first.status != 200 || first.body == BODY, "{target}: a 200 is whole: {first:?}");
            let asked = origin.last();
            for field in ["range", "if-range", "if-none-match", "if-modified-since"] {
                assert_eq!(asked.header(field), None, "{target}: the store needs the whole");
            }
            let plain = client.request("GET", &target, &[], b"");
            assert_eq!((plain.status, plain.body.as_slice()), (200, BODY), "{target}: {plain:?}");
            assert!(is_hit(&plain), "{target}: {}", cache_status(&plain));
        }
    }
}

#[test]
fn where_nothing_is_cached_conditions_and_ranges_are_the_upstreams() {
    let origin = origin();
    let gateway = gateway(&origin, &[]);
    for way in BOTH {
        let answer = ask(&gateway, way, &[("If-None-Match", "\"v1\"")]);
        assert_eq!(answer.status, 304, "{way}: {answer:?}");
        assert_eq!(origin.last().header("if-none-match"), Some("\"v1\""), "{way}");
        ask(&gateway, way, &[("Range", "bytes=0-3")]);
        assert_eq!(origin.last().header("range"), Some("bytes=0-3"), "{way}");
    }
}
