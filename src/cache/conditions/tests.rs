use super::*;
use crate::cache::heads::{answer, fields, lines};
use proptest::prelude::*;

const SATURDAY: &str = "Sat, 05 Nov 1994 08:49:37 GMT";
const SUNDAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const MONDAY: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

fn get<V: AsRef<[u8]>>(request: &[(&str, V)], stored: &ResponseHeader) -> Condition {
    let said = evaluate(&Method::GET, &fields(request), stored);
    assert_eq!(said, evaluate(&Method::HEAD, &fields(request), stored), "HEAD is as GET");
    said
}

fn tagged(tag: &str) -> ResponseHeader {
    answer(200, &[("etag", tag)])
}

fn modified(date: &str) -> ResponseHeader {
    answer(200, &[("last-modified", date), ("date", MONDAY)])
}

#[test]
fn rfc9110_13_1_1_if_match_compares_strongly() {
    for (field, stored, said) in [
        ("\"a\"", "\"a\"", Condition::Met),
        ("\"b\"", "\"a\"", Condition::Failed),
        ("W/\"a\"", "\"a\"", Condition::Failed),
        ("\"a\"", "W/\"a\"", Condition::Failed),
        ("W/\"a\"", "W/\"a\"", Condition::Failed),
        ("*", "W/\"a\"", Condition::Met),
        ("\"b\", \"a\"", "\"a\"", Condition::Met),
        ("a", "\"a\"", Condition::Failed),
        ("a", "a", Condition::Failed),
        ("", "\"a\"", Condition::Failed),
    ] {
        assert_eq!(get(&[("if-match", field)], &tagged(stored)), said, "{field} on {stored}");
    }
    let untagged = modified(SUNDAY);
    assert_eq!(get(&[("if-match", "*")], &untagged), Condition::Met, "there is something");
    assert_eq!(get(&[("if-match", "\"a\"")], &untagged), Condition::Failed, "it has no tag");
}

#[test]
fn rfc9110_13_1_2_if_none_match_compares_weakly() {
    for (field, stored, said) in [
        ("\"a\"", "\"a\"", Condition::NotModified),
        ("W/\"a\"", "\"a\"", Condition::NotModified),
        ("\"a\"", "W/\"a\"", Condition::NotModified),
        ("W/\"a\"", "W/\"a\"", Condition::NotModified),
        ("\"A\"", "\"a\"", Condition::Met),
        ("*", "\"a\"", Condition::NotModified),
        (" * ", "\"a\"", Condition::NotModified),
        ("\"\"", "\"\"", Condition::NotModified),
        ("w/\"a\"", "\"a\"", Condition::Met),
        ("a", "\"a\"", Condition::Met),
        ("\"a", "\"a\"", Condition::Met),
        ("\"a\"", "a", Condition::Met),
    ] {
        assert_eq!(get(&[("if-none-match", field)], &tagged(stored)), said, "{field} on {stored}");
    }
    assert_eq!(get(&[("if-none-match", "*")], &modified(SUNDAY)), Condition::NotModified, "it has no tag");
}

#[test]
fn rfc9110_13_1_2_tags_stand_in_lists_over_several_lines() {
    let stored = tagged("\"c\"");
    for list in ["\"a\",\"c\"", " ,, \"a\"\t, W/\"c\" ,", "\"a,\",\"c\"", "a, b\"x, \"c\"", "*, \"c\""] {
        assert_eq!(get(&[("if-none-match", list)], &stored), Condition::NotModified, "{list}");
    }
    for list in ["\"a,c\"", "\"c\" \"d\"", "\"c\"d, \"e\"", "*, \"d\"", ",", "W/ \"c\""] {
        assert_eq!(get(&[("if-none-match", list)], &stored), Condition::Met, "{list}");
    }
    let lines = [("if-none-match", "\"a\""), ("if-none-match", "\"b\", \"c\"")];
    assert_eq!(get(&lines, &stored), Condition::NotModified, "on the second line");
    let stars = [("if-none-match", "*"), ("if-none-match", "*")];
    assert_eq!(get(&stars, &stored), Condition::Met, "two stars are no star");
}

#[test]
fn rfc9110_8_8_3_a_tag_may_hold_odd_bytes() {
    let odd: &[u8] = b"\"!#\\ \"";
    assert_eq!(EntityTag::parse(odd), None, "a space");
    for odd in [&b"\"\\\""[..], b"\"\xe4\xff\x80\"", b"\"'{}|~!#\"", b"\"a\\\""] {
        let stored = answer(200, &[("etag", odd)]);
        assert_eq!(get(&[("if-none-match", odd)], &stored), Condition::NotModified, "{odd:?}");
    }
    let two = answer(200, &[("etag", "\"a\""), ("etag", "\"a\"")]);
    assert_eq!(get(&[("if-none-match", "\"a\"")], &two), Condition::Met, "two tags are none");
}

#[test]
fn rfc9110_13_1_3_if_modified_since_is_met_by_what_is_later() {
    for since in [SUNDAY, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", MONDAY] {
        assert_eq!(
            get(&[("if-modified-since", since)], &modified(SUNDAY)),
            Condition::NotModified,
            "{since}"
        );
    }
    for since in [SATURDAY, "Sun, 06 Nov 1994 08:49:36 GMT", "tomorrow", "", "0", "Sun, 06 Nov 1994 08:49:37"]
    {
        assert_eq!(get(&[("if-modified-since", since)], &modified(SUNDAY)), Condition::Met, "{since}");
    }
    let twice = [("if-modified-since", SUNDAY), ("if-modified-since", SUNDAY)];
    assert_eq!(get(&twice, &modified(SUNDAY)), Condition::Met, "more than one member is ignored");
}

#[test]
fn rfc9111_4_3_2_date_stands_in_for_last_modified() {
    let stored = answer(200, &[("date", SUNDAY)]);
    assert_eq!(get(&[("if-modified-since", SUNDAY)], &stored), Condition::NotModified, "as of then");
    assert_eq!(get(&[("if-modified-since", SATURDAY)], &stored), Condition::Met, "made later");
    let unclear = answer(200, &[("last-modified", "long ago"), ("date", SUNDAY)]);
    assert_eq!(get(&[("if-modified-since", SUNDAY)], &unclear), Condition::Met, "it is there, but no date");
    assert_eq!(
        get(&[("if-unmodified-since", SATURDAY)], &stored),
        Condition::Met,
        "not for this one (§13.1.4)"
    );
}

#[test]
fn rfc9110_13_1_4_if_unmodified_since_fails_on_what_is_later() {
    assert_eq!(get(&[("if-unmodified-since", SATURDAY)], &modified(SUNDAY)), Condition::Failed, "later");
    assert_eq!(get(&[("if-unmodified-since", SUNDAY)], &modified(SUNDAY)), Condition::Met, "that second");
    assert_eq!(get(&[("if-unmodified-since", "never")], &modified(SUNDAY)), Condition::Met, "no date");
}

#[test]
fn rfc9110_13_2_2_the_order_is_fixed() {
    let stored = answer(200, &[("etag", "\"a\""), ("last-modified", SUNDAY)]);
    let cases: [(&[(&str, &str)], Condition); 6] = [
        (&[("if-match", "\"a\""), ("if-unmodified-since", SATURDAY)], Condition::Met),
        (&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], Condition::Failed),
        (&[("if-match", "\"a\""), ("if-none-match", "\"a\"")], Condition::NotModified),
        (&[("if-none-match", "\"b\""), ("if-modified-since", MONDAY)], Condition::Met),
        (&[("if-none-match", "\"a\""), ("if-modified-since", SATURDAY)], Condition::NotModified),
        (&[("if-unmodified-since", SATURDAY), ("if-modified-since", MONDAY)], Condition::Failed),
    ];
    for (request, said) in cases {
        assert_eq!(get(request, &stored), said, "{request:?}");
    }
}

#[test]
fn rfc9110_13_2_1_only_what_would_be_2xx_is_conditional() {
    let request = [("if-none-match", "\"a\""), ("if-match", "\"b\"")];
    for status in [301, 404, 410, 500] {
        assert_eq!(get(&request, &answer(status, &[("etag", "\"a\"")])), Condition::Met, "{status}");
    }
    for status in [200, 203, 204] {
        assert_eq!(get(&request, &answer(status, &[("etag", "\"a\"")])), Condition::Failed, "{status}");
    }
    for method in [Method::POST, Method::OPTIONS, Method::TRACE] {
        assert_eq!(evaluate(&method, &fields(&request), &tagged("\"a\"")), Condition::Met, "{method}");
    }
}

#[test]
fn rfc9110_15_4_5_a_304_has_what_a_cache_is_updated_by() {
    let kept = [
        ("cache-control", "max-age=5"),
        ("cache-control", "public"),
        ("content-location", "/a"),
        ("date", SUNDAY),
        ("etag", "\"a\""),
        ("expires", MONDAY),
        ("vary", "accept"),
        ("access-control-allow-origin", "*"),
        ("content-security-policy", "default-src 'self'"),
    ];
    let lost = [
        ("content-type", "text/html"),
        ("content-length", "5"),
        ("content-encoding", "br"),
        ("content-language", "de"),
        ("repr-digest", "sha-256=:AA==:"),
        ("last-modified", SUNDAY),
    ];
    let head = not_modified(&answer(200, &[&kept[..], &lost[..]].concat()));
    assert_eq!(head.headers, fields(&kept));
    assert_eq!((head.status.as_u16(), head.get_reason_phrase()), (304, Some("Not Modified")));
    let dated = not_modified(&modified(SUNDAY));
    assert_eq!(lines(&dated, "last-modified"), [SUNDAY], "the only validator");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_bytes_in_conditions_are_survived(
        name in prop::sample::select(vec!["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]),
        values in prop::collection::vec(prop::collection::vec(prop_oneof![
            prop::sample::select(b"\"\"W/,* \ta\\;\xff".to_vec()), 0x20..=0x7e_u8, 0x80..=0xff_u8
        ], 0..16), 1..3),
        stored in "(W/)?\"[a-c\\\\]?\"",
    ) {
        let request: Vec<(&str, Vec<u8>)> = values.into_iter().map(|value| (name, value)).collect();
        let said = get(&request, &tagged(&stored));
        let opaque = stored.split('"').nth(1).unwrap_or_default();
        let is_named = request.iter().any(|(_, value)| {
            let quoted = format!("\"{opaque}\"");
            value.windows(quoted.len()).any(|window| window == quoted.as_bytes())
        });
        let is_star = matches!(request.as_slice(), [(_, value)] if value.trim_ascii() == b"*");
        if !is_named && !is_star {
            prop_assert_ne!(said, Condition::NotModified, "nothing in it is the stored tag");
        }
    }
}
