//! Parts of what is stored (RFC 9110 §14, §13.1.5; RFC 9111 §3.3, §3.4).

use crate::harness::Answer;
use crate::stage::{APP, BOTH, Given, Stage, ok, status};

const BODY: &str = "0123456789";

fn whole(fields: &[(&str, &str)]) -> Given {
    ok(&[&[("Cache-Control", "max-age=60")], fields].concat()).body(BODY)
}

/// A part of what a first GET brought; nobody asks the origin again.
fn part(stage: &Stage, way: &str, given: Given, headers: &[(&str, &str)]) -> Answer {
    let target = stage.target(way, &[given]);
    stage.get(&target);
    let answer = stage.get_with(&target, headers);
    assert_eq!(stage.asked(&target).len(), 1, "{way} {headers:?}: from the store");
    answer
}

#[test]
fn rfc9110_14_1_2_a_range_of_what_is_stored_is_206() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for (range, bytes, content_range) in [
            ("bytes=0-1", "01", "bytes 0-1/10"),
            ("bytes=2-", "23456789", "bytes 2-9/10"),
            ("bytes=-3", "789", "bytes 7-9/10"),
            ("bytes=8-100", "89", "bytes 8-9/10"),
            ("bytes=-100", BODY, "bytes 0-9/10"),
            ("BYTES=9-9", "9", "bytes 9-9/10"),
        ] {
            let answer = part(&stage, way, whole(&[("ETag", "\"a\"")]), &[("Range", range)]);
            assert_eq!((answer.status, answer.text().as_str()), (206, bytes), "{way} {range}");
            assert_eq!(answer.all("content-range"), [content_range], "{way} {range}");
            assert_eq!(
                answer.header("content-length"),
                Some(bytes.len().to_string().as_str()),
                "{way} {range}"
            );
            assert_eq!(answer.header("etag"), Some("\"a\""), "{way} {range}: §15.3.7 wants it");
        }
    }
}

#[test]
fn rfc9110_15_5_17_a_range_beyond_the_end_is_416_and_says_the_length() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            let answer = part(&stage, way, whole(&[]), &[("Range", range)]);
            assert_eq!(
                (answer.status, answer.all("content-range")),
                (416, vec!["bytes */10"]),
                "{way} {range}"
            );
        }
    }
}

#[test]
fn rfc9110_14_2_what_is_no_range_or_of_another_unit_is_ignored() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for range in ["bytes=5-1", "bytes=a-b", "bytes", "lines=0-1", "bytes=", "0-1"] {
            let answer = part(&stage, way, whole(&[]), &[("Range", range)]);
            assert_eq!((answer.status, answer.text().as_str()), (200, BODY), "{way} {range}");
        }
    }
}

#[test]
fn rfc9110_14_2_range_means_nothing_to_other_methods_than_get() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[whole(&[])]);
        stage.get(&target);
        let head = stage.gateway.request("HEAD", &target, &[("Range", "bytes=0-1")], b"");
        assert_eq!((head.status, head.header("content-range")), (200, None), "{way}");
    }
}

#[test]
fn rfc9110_15_3_7_2_several_ranges_are_parts_of_a_multipart_body() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let answer = part(&stage, way, whole(&[("Content-Type", "text/css")]), &[("Range", "bytes=0-1,7-")]);
        assert_eq!((answer.status, answer.header("content-range")), (206, None), "{way}");
        let kind = answer.header("content-type").unwrap_or_default();
        let boundary =
            kind.strip_prefix("multipart/byteranges; boundary=").unwrap_or_else(|| panic!("{way}: {kind}"));
        let text = answer.text();
        let parts: Vec<&str> = text.split(&format!("--{}", boundary.trim_matches('"'))).collect();
        assert_eq!(parts.len(), 4, "{way}: what is before, two parts, the end: {text}");
        for (part, content_range, bytes) in
            [(parts[1], "bytes 0-1/10", "01"), (parts[2], "bytes 7-9/10", "789")]
        {
            let (head, body) = part.split_once("\r\n\r\n").expect("a head");
            let head = head.to_ascii_lowercase();
            assert!(head.contains(&format!("content-range: {content_range}")), "{way}: {head}");
            assert!(head.contains("content-type: text/css"), "{way}: {head}");
            assert_eq!(body.trim_end_matches("\r\n"), bytes, "{way}");
        }
        assert!(parts[3].starts_with("--"), "{way}: it is closed");
    }
}

#[test]
fn rfc9110_13_1_5_if_range_gives_the_part_only_of_the_same_representation() {
    let stage = Stage::new("{}");
    let changed = "Wed, 01 Jan 2020 00:00:00 GMT";
    for way in BOTH {
        for (fields, if_range, is_part) in [
            ([("ETag", "\"a\"")].as_slice(), "\"a\"", true),
            (&[("ETag", "\"a\"")], "\"b\"", false),
            (&[("ETag", "W/\"a\"")], "W/\"a\"", false),
            (&[("ETag", "\"a\"")], "a", false),
            (&[("Last-Modified", changed)], changed, true),
            (&[("Last-Modified", changed)], "Wed, 01 Jan 2020 00:00:01 GMT", false),
            (&[], "\"a\"", false),
        ] {
            let answer = part(&stage, way, whole(fields), &[("Range", "bytes=0-1"), ("If-Range", if_range)]);
            let expected = if is_part { (206, "01") } else { (200, BODY) };
            assert_eq!((answer.status, answer.text().as_str()), expected, "{way} {fields:?} {if_range}");
        }
    }
}

#[test]
fn rfc9111_3_3_what_is_cached_is_fetched_whole_and_the_part_is_cut_from_it() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[whole(&[])]);
        let first = stage.get_with(&target, &[("Range", "bytes=0-1")]);
        assert_eq!((first.status, first.text().as_str()), (206, "01"), "{way}");
        assert_eq!(stage.asked(&target)[0].header("range"), None, "{way}");
        assert_eq!(stage.get(&target).text(), BODY, "{way}");
        assert_eq!(stage.asked(&target).len(), 1, "{way}: the whole was stored");
    }
}

#[test]
fn rfc9111_3_3_a_206_is_never_used_as_the_whole() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let partial = status(
            206,
            &[("Cache-Control", "max-age=60"), ("Content-Range", "bytes 0-1/10"), ("ETag", "\"a\"")],
        );
        let target = stage.target(way, &[partial.body("01"), whole(&[("ETag", "\"a\"")])]);
        stage.get_with(&target, &[("Range", "bytes=0-1")]);
        let answer = stage.get(&target);
        assert_eq!((answer.status, answer.text().as_str()), (200, BODY), "{way}");
    }
}

fn stored_part(from: usize, to: usize, fields: &[(&str, &str)]) -> Given {
    let content_range = format!("bytes {from}-{to}/10");
    let given =
        [&[("Cache-Control", "max-age=60"), ("Content-Range", content_range.as_str())], fields].concat();
    status(206, &given).body(&BODY[from..=to])
}

#[test]
fn rfc9111_3_3_a_stored_part_serves_who_asks_for_it_or_less() {
    let stage = Stage::app("{ ranges: combine }");
    for (range, bytes) in [("bytes=2-5", "2345"), ("bytes=3-4", "34"), ("bytes=2-2", "2")] {
        let target = stage.target(APP, &[stored_part(2, 5, &[("ETag", "\"a\"")])]);
        stage.get_with(&target, &[("Range", "bytes=2-5")]);
        let answer = stage.get_with(&target, &[("Range", range)]);
        assert_eq!((answer.status, answer.text().as_str()), (206, bytes), "{range}");
        assert_eq!(stage.asked(&target).len(), 1, "{range}: from the store");
    }
}

#[test]
fn rfc9111_3_4_parts_of_the_same_representation_are_put_together() {
    let stage = Stage::app("{ ranges: combine }");
    let same = [("ETag", "\"a\"")];
    let target = stage.target(APP, &[stored_part(0, 4, &same), stored_part(5, 9, &same)]);
    stage.get_with(&target, &[("Range", "bytes=0-4")]);
    stage.get_with(&target, &[("Range", "bytes=5-9")]);
    let whole = stage.get(&target);
    assert_eq!((whole.status, whole.text().as_str()), (200, BODY));
    assert_eq!(stage.asked(&target).len(), 2, "nobody asks for the whole");
}

#[test]
fn rfc9111_3_4_parts_are_put_together_only_by_the_same_strong_validator() {
    let stage = Stage::app("{ ranges: combine }");
    for (first, second) in [("\"a\"", "\"b\""), ("W/\"a\"", "W/\"a\"")] {
        let target = stage.target(
            APP,
            &[
                stored_part(0, 4, &[("ETag", first)]),
                stored_part(5, 9, &[("ETag", second)]),
                whole(&[]).body("another one"),
            ],
        );
        stage.get_with(&target, &[("Range", "bytes=0-4")]);
        stage.get_with(&target, &[("Range", "bytes=5-9")]);
        assert_eq!(stage.get(&target).text(), "another one", "{first} and {second}");
    }
}

#[test]
fn rfc9110_14_2_a_range_of_what_is_not_cached_is_the_origins_to_answer() {
    let stage = Stage::with(&[]);
    let given = status(206, &[("Content-Range", "bytes 0-1/10")]).body("01");
    let target = stage.target(APP, &[given]);
    let answer = stage.get_with(&target, &[("Range", "bytes=0-1")]);
    assert_eq!((answer.status, answer.text().as_str()), (206, "01"));
    assert_eq!(stage.asked(&target)[0].header("range"), Some("bytes=0-1"));
}

#[test]
fn rfc9110_14_2_a_range_is_cut_from_a_success_only() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[status(404, &[("Cache-Control", "max-age=60")]).body(BODY)]);
        stage.get(&target);
        assert_eq!(stage.get_with(&target, &[("Range", "bytes=0-1")]).status, 404, "{way}");
    }
}

#[test]
fn rfc9110_17_15_more_ranges_than_anybody_needs_are_no_amplifier() {
    let stage = Stage::new("{}");
    let many = format!("bytes={}", vec!["0-"; 500].join(","));
    for way in BOTH {
        let answer = part(&stage, way, whole(&[]), &[("Range", &many)]);
        assert!(answer.body.len() < 10 * BODY.len(), "{way}: {} bytes", answer.body.len());
    }
}
