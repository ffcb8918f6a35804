use proptest::prelude::*;

use super::*;
use crate::cache::heads::{answer, fields, lines};

const SUNDAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const A_SECOND_LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn stored() -> ResponseHeader {
    answer(200, &[("etag", "\"a\""), ("last-modified", SUNDAY), ("date", A_SECOND_LATER)])
}

fn get(range: &str, length: u64) -> Selection {
    select(&Method::GET, &fields(&[("range", range)]), &stored(), length)
}

fn many(ranges: &[Range<u64>]) -> Selection {
    Selection::Many(ranges.to_vec())
}

#[test]
fn rfc9110_14_1_2_one_range_in_all_its_forms() {
    for (range, part) in [
        ("bytes=0-0", 0..1),
        ("bytes=0-9", 0..10),
        ("bytes=2-5", 2..6),
        ("bytes=2-", 2..10),
        ("bytes=9-", 9..10),
        ("bytes=2-99", 2..10),
        ("bytes=2-18446744073709551615", 2..10),
        ("bytes=2-99999999999999999999999", 2..10),
        ("bytes=-1", 9..10),
        ("bytes=-10", 0..10),
        ("bytes=-99999999999999999999999", 0..10),
        ("BYTES=2-5", 2..6),
        ("Bytes=002-0005", 2..6),
    ] {
        assert_eq!(get(range, 10), Selection::One(part), "{range}");
    }
}

#[test]
fn rfc9110_5_6_1_space_and_empty_members_do_not_count() {
    for range in ["bytes=2-5,", "bytes=,2-5", "bytes= ,\t2-5 , ,", "bytes= 2-5"] {
        assert_eq!(get(range, 10), Selection::One(2..6), "{range}");
    }
    let crowded = format!("bytes={}2-5", ",".repeat(MAX_MEMBERS - 1));
    assert_eq!(get(&crowded, 10), Selection::One(2..6), "as many as are read");
    assert_eq!(get(&format!("{crowded},"), 10), Selection::Whole, "one more");
}

#[test]
fn rfc9110_14_2_what_is_no_range_of_bytes_is_ignored() {
    for range in [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=1 - 2",
        "bytes=1-2x",
        "bytes=1-2;3-4",
        "bytes=+1-2",
        "bytes=--1",
        "bytes=0x1-2",
        "bytes=1",
        "bytes =1-2",
        "bytes:1-2",
        "items=0-1",
        "byte=0-1",
        "0-1",
        "bytes=0-1,junk",
        "bytes=0-1,5-2",
    ] {
        assert_eq!(get(range, 10), Selection::Whole, "{range}");
    }
    let twice = fields(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
    assert_eq!(select(&Method::GET, &twice, &stored(), 10), Selection::Whole, "two lines");
    assert_eq!(select(&Method::GET, &HeaderMap::new(), &stored(), 10), Selection::Whole, "none");
}

#[test]
fn rfc9110_14_2_only_get_has_ranges_and_only_of_a_200() {
    let request = fields(&[("range", "bytes=0-1")]);
    for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
        assert_eq!(select(&method, &request, &stored(), 10), Selection::Whole, "{method}");
    }
    for status in [203, 206, 301, 404] {
        let stored = answer(status, &[("date", SUNDAY)]);
        assert_eq!(select(&Method::GET, &request, &stored, 10), Selection::Whole, "{status}");
    }
}

#[test]
fn rfc9110_15_5_17_bytes_that_are_not_there_are_416() {
    for range in ["bytes=10-", "bytes=10-20", "bytes=99999999999999999999-", "bytes=-0", "bytes=10-,-0"] {
        assert_eq!(get(range, 10), Selection::Unsatisfiable, "{range}");
    }
    assert_eq!(get("bytes=10-,2-5", 10), Selection::One(2..6), "one of two is there");
}

#[test]
fn rfc9110_14_1_2_an_empty_body_has_an_empty_end_and_no_first_byte() {
    assert_eq!(get("bytes=-5", 0), Selection::Whole, "the last bytes of nothing");
    assert_eq!(get("bytes=0-", 0), Selection::Unsatisfiable, "the first byte of nothing");
    assert_eq!(get("bytes=-0", 0), Selection::Unsatisfiable, "nothing of nothing");
}

#[test]
fn rfc9110_15_3_7_2_several_ranges_keep_the_order_of_the_request() {
    assert_eq!(get("bytes=0-1,4-5", 10), many(&[0..2, 4..6]));
    assert_eq!(get("bytes=8-, 0-1, -4", 10), many(&[6..10, 0..2]), "the last one reaches into the first");
    assert_eq!(get("bytes=4-5,0-1,20-", 10), many(&[4..6, 0..2]), "what is not there is left out");
}

#[test]
fn rfc9110_17_15_no_byte_is_sent_twice() {
    assert_eq!(get("bytes=0-,0-,0-", 10), Selection::One(0..10), "the same");
    assert_eq!(get("bytes=0-4,5-9", 10), Selection::One(0..10), "they touch");
    assert_eq!(get("bytes=0-1,4-5,8-9,1-8", 10), Selection::One(0..10), "the last joins all");
    assert_eq!(get("bytes=6-7,0-0,2-3,1-4", 10), many(&[6..8, 0..5]), "three of four");
}

#[test]
fn rfc9110_17_15_more_than_sixteen_ranges_are_the_whole() {
    let set = |count: usize| (0..count).map(|n| format!("{}-{}", 3 * n, 3 * n)).collect::<Vec<_>>().join(",");
    let wish = |count| get(&format!("bytes={}", set(count)), 1000);
    assert!(matches!(wish(MAX_RANGES), Selection::Many(parts) if parts.len() == MAX_RANGES), "sixteen");
    assert_eq!(wish(MAX_RANGES + 1), Selection::Whole, "seventeen");
}

#[test]
fn rfc9110_13_1_5_if_range_is_strong() {
    let dated = |date: &str| answer(200, &[("etag", "\"a\""), ("last-modified", SUNDAY), ("date", date)]);
    for (condition, stored, applies) in [
        ("\"a\"", stored(), true),
        ("\"b\"", stored(), false),
        ("W/\"a\"", stored(), false),
        ("W/\"a\"", answer(200, &[("etag", "W/\"a\"")]), false),
        ("\"a\"", answer(200, &[("date", SUNDAY)]), false),
        ("a", stored(), false),
        ("*", stored(), false),
        ("\"b\", \"a\"", stored(), false),
        (SUNDAY, stored(), true),
        ("Sunday, 06-Nov-94 08:49:37 GMT", stored(), true),
        (A_SECOND_LATER, stored(), false),
        ("Sun, 06 Nov 1994 08:49:36 GMT", stored(), false),
        // §8.8.2.2: made in the second in which it changed, or before.
        (SUNDAY, dated(SUNDAY), false),
        (SUNDAY, dated("Sun, 06 Nov 1994 08:49:30 GMT"), false),
        (SUNDAY, answer(200, &[("last-modified", SUNDAY)]), false),
        ("", stored(), false),
    ] {
        let request = fields(&[("range", "bytes=2-5"), ("if-range", condition)]);
        let expected = if applies { Selection::One(2..6) } else { Selection::Whole };
        assert_eq!(select(&Method::GET, &request, &stored, 10), expected, "{condition} on {stored:?}");
    }
    let lone = fields(&[("if-range", "\"a\"")]);
    assert_eq!(
        select(&Method::GET, &lone, &stored(), 10),
        Selection::Whole,
        "without a range it says nothing"
    );
}

#[test]
fn rfc9110_13_1_5_a_failed_if_range_is_the_whole_where_416_would_be() {
    let request = fields(&[("range", "bytes=99-"), ("if-range", "\"b\"")]);
    assert_eq!(select(&Method::GET, &request, &stored(), 10), Selection::Whole);
}

#[test]
fn rfc9110_15_3_7_1_the_head_of_one_part() {
    let mut head = answer(
        200,
        &[
            ("etag", "\"a\""),
            ("cache-control", "max-age=5"),
            ("content-type", "text/plain"),
            ("content-length", "10"),
            ("content-digest", "sha-256=:AA==:"),
            ("repr-digest", "sha-256=:AA==:"),
        ],
    );
    one(&mut head, &(2..6), 10);
    assert_eq!((head.status.as_u16(), head.get_reason_phrase()), (206, Some("Partial Content")));
    assert_eq!(lines(&head, "content-range"), ["bytes 2-5/10"]);
    assert_eq!(lines(&head, "content-length"), ["4"]);
    assert_eq!(lines(&head, "content-type"), ["text/plain"]);
    assert_eq!(lines(&head, "etag"), ["\"a\""]);
    assert_eq!(lines(&head, "content-digest"), [""; 0], "that of the whole message (RFC 9530 §2)");
    assert_eq!(lines(&head, "repr-digest"), ["sha-256=:AA==:"], "that of the representation (§3)");
}

#[test]
fn rfc9110_15_5_17_the_head_of_a_416_cannot_be_kept() {
    let mut head = answer(
        200,
        &[
            ("etag", "\"a\""),
            ("last-modified", SUNDAY),
            ("date", SUNDAY),
            ("cache-control", "max-age=5"),
            ("expires", A_SECOND_LATER),
            ("content-type", "text/plain"),
            ("content-length", "10"),
            ("vary", "accept"),
        ],
    );
    unsatisfiable(&mut head, 10);
    assert_eq!((head.status.as_u16(), head.get_reason_phrase()), (416, Some("Range Not Satisfiable")));
    let expected =
        [("date", SUNDAY), ("vary", "accept"), ("content-range", "bytes */10"), ("content-length", "0")];
    assert_eq!(head.headers, fields(&expected));
}

#[test]
fn rfc9110_14_6_several_parts() {
    let text = HeaderValue::from_static("text/plain");
    let parts = Multipart::new(Some(&text), vec![0..2, 4..6], 10, 0xabc);
    let mut head = answer(
        200,
        &[
            ("content-type", "text/plain"),
            ("content-length", "10"),
            ("content-range", "bytes 0-9/10"),
            ("a", "1"),
        ],
    );
    parts.head(&mut head);
    assert_eq!(head.status.as_u16(), 206);
    assert_eq!(
        lines(&head, "content-type"),
        ["multipart/byteranges; boundary=00000000000000000000000000000abc"],
        "the outer type"
    );
    assert_eq!(lines(&head, "content-range"), [""; 0], "§15.3.7.2: only within");
    assert_eq!(lines(&head, "a"), ["1"]);
    let body = [&parts.part(0)[..], b"01", &parts.part(1), b"45", &parts.end()].concat();
    let boundary = "--00000000000000000000000000000abc";
    let expected = format!(
        "{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
         {boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 4-5/10\r\n\r\n45\r\n\
         {boundary}--\r\n"
    );
    assert_eq!(String::from_utf8(body).unwrap(), expected);
    assert_eq!(lines(&head, "content-length"), [expected.len().to_string()]);
    assert!(parts.part(2).is_empty(), "there is no third");
}

#[test]
fn rfc9110_15_3_7_2_parts_of_no_known_type_have_none() {
    let parts = Multipart::new(None, vec![0..2, 4..6], 10, 1);
    assert!(!parts.part(1).windows(12).any(|window| window == b"Content-Type"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_bytes_in_a_range_are_survived(
        set in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(b"0123456789-,, \t".to_vec()), 1 => 0x20..=0x7e_u8, 1 => 0x80..=0xff_u8
        ], 0..40),
        unit in prop::sample::select(vec!["bytes=", "BYTES=", "", "b="]),
        condition in prop::option::of(prop::sample::select(vec!["\"a\"", "W/\"a\"", SUNDAY, "x"])),
        length in prop_oneof![0..3_u64, 0..200_u64, Just(u64::MAX)],
    ) {
        let mut request = fields(&[("range", [unit.as_bytes(), &set].concat())]);
        if let Some(condition) = condition {
            request.insert("if-range", HeaderValue::from_static(condition));
        }
        check(&select(&Method::GET, &request, &stored(), length), length)?;
    }

    #[test]
    fn a_set_of_ranges_gives_each_of_its_bytes_once(
        wishes in prop::collection::vec((0..60_u64, 0..12_u64), 1..=MAX_RANGES), length in 1..60_u64
    ) {
        let set: Vec<String> = wishes.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
        let selection = get(&format!("bytes={}", set.join(", ")), length);
        check(&selection, length)?;
        let parts = match selection {
            Selection::One(part) => vec![part],
            Selection::Many(parts) => parts,
            Selection::Whole => return Err(TestCaseError::fail("nothing was wrong with it")),
            Selection::Unsatisfiable => Vec::new(),
        };
        for byte in 0..length {
            let is_wished = wishes.iter().any(|(first, more)| (*first..=first + more).contains(&byte));
            let sent = parts.iter().filter(|part| part.contains(&byte)).count();
            prop_assert_eq!(sent, usize::from(is_wished), "byte {}", byte);
        }
    }

    #[test]
    fn the_length_of_several_parts_is_that_of_their_bytes(
        ranges in prop::collection::vec((0..100_u64, 1..50_u64), 2..=MAX_RANGES),
        content_type in prop::option::of("[ -~]{0,30}"),
        boundary in any::<u128>(),
    ) {
        let ranges: Vec<Range<u64>> = ranges.into_iter().map(|(first, more)| first..first + more).collect();
        let body = [b'x'; 150];
        let content_type = content_type.map(|text| HeaderValue::try_from(text).unwrap());
        let parts = Multipart::new(content_type.as_ref(), ranges, 150, boundary);
        let mut sent = Vec::new();
        for (index, range) in parts.ranges().iter().enumerate() {
            sent.extend_from_slice(&parts.part(index));
            let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
            sent.extend_from_slice(&body[start..end]);
        }
        sent.extend_from_slice(&parts.end());
        prop_assert_eq!(parts.content_length(), sent.len() as u64);
    }
}

/// What holds for any selection: every part is inside the body, none is empty, none meets another.
fn check(selection: &Selection, length: u64) -> Result<(), TestCaseError> {
    let parts: &[Range<u64>] = match selection {
        Selection::Whole | Selection::Unsatisfiable => return Ok(()),
        Selection::One(part) => std::slice::from_ref(part),
        Selection::Many(parts) => parts,
    };
    prop_assert!(parts.len() <= MAX_RANGES);
    for (index, part) in parts.iter().enumerate() {
        prop_assert!(part.start < part.end && part.end <= length, "{part:?} of {length}");
        for other in &parts[index + 1..] {
            prop_assert!(part.end < other.start || other.end < part.start, "{part:?} meets {other:?}");
        }
    }
    Ok(())
}
