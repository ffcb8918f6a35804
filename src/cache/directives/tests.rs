//! Strict reading, by the sections of RFC 9111 and RFC 9213.

use super::*;
use http::HeaderValue;
use proptest::prelude::*;

fn read(lines: &[&str]) -> Directives {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(CACHE_CONTROL, HeaderValue::try_from(*line).unwrap());
    }
    Directives::read(&headers)
}

fn seconds(n: u64) -> Seconds {
    Seconds::Is(Duration::from_secs(n))
}

#[test]
fn rfc9111_5_2_names_ignore_case_and_unknown_ones_are_skipped() {
    let read = read(&["Max-Age=60 , PUBLIC,, foo=\"no-store\"", "S-MaxAge=\"5\""]);
    let expected =
        Directives { public: true, max_age: seconds(60), s_maxage: seconds(5), ..Directives::default() };
    assert_eq!(read, expected, "two lines, empty members, a quoted number");
}

#[test]
fn a_comma_in_quotes_does_not_end_a_directive() {
    let read = read(&[r#"private="a, no-store\", max-age=9", max-age=1"#]);
    assert!(read.private && !read.no_store, "one value, and no list of fields: {read:?}");
    assert_eq!(read.max_age, seconds(1), "after the list");
}

#[test]
fn an_open_quote_swallows_the_rest() {
    let read = read(&[r#"max-age="60, public"#]);
    assert_eq!((read.max_age, read.public), (Seconds::Unclear, false), "nothing is made of it");
    assert!(read.unreadable, "a `no-store` might be in it");
}

#[test]
fn rfc9111_4_2_1_unreadable_or_contradicting_seconds_are_unclear() {
    for line in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=60s", "max-age=1, max-age=2"] {
        assert_eq!(read(&[line]).max_age, Seconds::Unclear, "{line}");
    }
    assert_eq!(read(&["max-age=7, max-age=7"]).max_age, seconds(7), "said twice");
}

#[test]
fn rfc9111_1_2_2_a_huge_number_is_capped() {
    assert_eq!(read(&["max-age=99999999999999999999999"]).max_age, seconds(1 << 31), "2^31");
}

#[test]
fn bytes_that_are_no_text_forbid_storing() {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_bytes(b"max-age=60, \xff").unwrap());
    assert!(Directives::read(&headers).unreadable, "not understood");
}

#[test]
fn rfc9111_5_2_a_quoted_number_is_one_and_other_quotes_are_not() {
    assert_eq!(read(&["max-age=\"3600\""]).max_age, seconds(3600), "both forms of an argument");
    assert_eq!(read(&["max-age=003600"]).max_age, seconds(3600), "leading zeros");
    for line in ["max-age='3600'", "max-age=\"36\"00", "max-age=\"\"", "max-age=3600.0", "max-age=3600;x"] {
        assert_eq!(read(&[line]).max_age, Seconds::Unclear, "{line}");
    }
    for line in ["x=\"max-age=3600\", max-age=1", "max-age=1, x=\"max-age=3600\""] {
        assert_eq!(read(&[line]).max_age, seconds(1), "what is quoted is a value of `x`: {line}");
    }
}

#[test]
fn rfc9111_5_2_a_space_at_the_equals_sign_makes_seconds_unclear_and_lifts_no_ban() {
    for line in ["max-age =3600", "max-age= 3600", "max-age\t=3600"] {
        assert_eq!(read(&[line]).max_age, Seconds::Unclear, "{line}");
    }
    assert!(read(&["private =\"a\""]).private, "no list");
    assert!(read(&["no-store =x"]).no_store, "still a ban");
    assert!(!read(&["public x"]).public, "no leave");
}

#[test]
fn rfc9111_5_2_leave_is_only_what_is_said_plainly() {
    let plain = read(&["public, must-understand, immutable"]);
    assert!(plain.public && plain.must_understand && plain.immutable, "said");
    let argued = read(&["public=1, must-understand=no, immutable=\"\""]);
    assert!(!argued.public && !argued.must_understand && !argued.immutable, "with a value nobody defined");
    let banned = read(&["no-store=0, must-revalidate=0, private=\"\", no-cache=\"a b\""]);
    assert!(banned.no_store && banned.must_revalidate && banned.private && banned.no_cache, "a ban is one");
}

#[test]
fn rfc9111_5_2_2_4_and_7_lists_name_fields_that_are_withheld() {
    let said = read(&["no-cache=\"A, b\", private=c, max-age=5"]);
    assert_eq!(said.withheld, ["a", "b", "c"], "quoted and as a token");
    assert!(!said.private && !said.no_cache, "the rest may be stored");
    assert!(read(&["private=\"a\", private"]).private, "and then as a whole");
    for line in
        ["private=\"vary\"", "private=\"a, Content-Encoding\"", "private=\", ,\"", "private=\"a;b c\""]
    {
        assert!(read(&[line]).private, "a list that cannot be followed: {line}");
    }
}

/// `CDN-Cache-Control`, beside a `Cache-Control` that says another time.
fn targeted(lines: &[&str]) -> Directives {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=1, no-store"));
    for line in lines {
        headers.append("cdn-cache-control", HeaderValue::from_bytes(line.as_bytes()).unwrap());
    }
    Directives::read(&headers)
}

#[test]
fn rfc9213_2_2_a_targeted_field_is_used_in_place_of_cache_control() {
    let said = targeted(&["max-age=60"]);
    assert!(said.targeted && !said.no_store, "nothing of the other counts: {said:?}");
    assert_eq!(said.max_age, seconds(60), "its own time");
    let two = targeted(&["max-age=60", "public;x=1, foo=(1 2), s-maxage=7"]);
    assert_eq!((two.max_age, two.s_maxage, two.public), (seconds(60), seconds(7), true), "two lines");
    assert_eq!(targeted(&["max-age=1, max-age=2"]).max_age, seconds(2), "the last of a dictionary");
    assert_eq!(targeted(&["max-age=99999999999"]).max_age, seconds(1 << 31), "capped as everywhere");
    let lists = targeted(&["private=\"a\", no-cache"]);
    assert!(lists.withheld == ["a"] && !lists.private && lists.no_cache, "{lists:?}");
}

#[test]
fn rfc9213_2_1_a_targeted_field_that_is_empty_or_invalid_is_ignored() {
    for line in
        ["", " ", "max-age=60, &&&&&", "max-age=60,", "Max-Age=60", "max-age =60", "max-age=1 2", "caf\u{e9}"]
    {
        let said = targeted(&[line]);
        assert!(!said.targeted && said.no_store, "`{line}` falls back: {said:?}");
    }
}

#[test]
fn rfc9213_2_1_a_value_of_the_wrong_type_is_not_consumed() {
    for line in [
        "max-age=\"60\"",
        "max-age=60.0",
        "max-age=-1",
        "max-age",
        "max-age=(60)",
        "no-store=1",
        "no-store=?0, max-age=60",
        "private=a",
        "no-cache=(\"a\")",
    ] {
        assert!(!targeted(&[line]).targeted, "{line}");
    }
}

fn asked(fields: &[(&'static str, &str)]) -> Asked {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::try_from(*value).unwrap());
    }
    Asked::read(&headers)
}

#[test]
fn rfc9111_5_2_1_a_request_asks_by_directives() {
    let said = asked(&[
        ("cache-control", "No-Cache, no-store, only-if-cached, max-age=1"),
        ("cache-control", "min-fresh=\"2\", max-stale=3, stale-if-error=4, x=5"),
    ]);
    let expected = Asked {
        no_cache: true,
        no_store: true,
        only_if_cached: true,
        max_age: Some(Duration::from_secs(1)),
        min_fresh: Some(Duration::from_secs(2)),
        max_stale: Some(Duration::from_secs(3)),
        stale_if_error: Some(Duration::from_secs(4)),
    };
    assert_eq!(said, expected, "all of them");
    assert_eq!(asked(&[]), Asked::default(), "nothing");
    assert_eq!(asked(&[("cache-control", "max-stale")]).max_stale, Some(Duration::MAX), "any staleness");
}

#[test]
fn rfc9111_5_2_1_what_cannot_be_read_leads_to_the_upstream() {
    let said = asked(&[("cache-control", "max-age=x, min-fresh=-1, max-stale=y, stale-if-error=z")]);
    assert_eq!(said.max_age, Some(Duration::ZERO), "max-age");
    assert_eq!(said.min_fresh, Some(Duration::MAX), "min-fresh");
    assert_eq!((said.max_stale, said.stale_if_error), (None, Some(Duration::ZERO)), "no leave");
    assert_eq!(
        asked(&[("cache-control", "max-age=1, max-age=2")]).max_age,
        Some(Duration::ZERO),
        "two values"
    );
    assert!(asked(&[("cache-control", "x=\"a, max-stale")]).no_cache, "an open quote");
}

#[test]
fn rfc9111_5_4_pragma_counts_where_there_is_no_cache_control() {
    assert!(asked(&[("pragma", "x, No-Cache")]).no_cache, "alone");
    assert!(
        !asked(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]).no_cache,
        "beside the newer field"
    );
    assert!(!asked(&[("pragma", "cache")]).no_cache, "another word");
}

/// One directive, rightly or wrongly written, each with a name of its own.
fn one_of_each() -> impl Strategy<Value = Vec<String>> {
    let value = prop_oneof![
        Just(String::new()),
        "=[0-9]{1,12}",
        "=\"[0-9]{1,4}\"",
        "=\"[a-z]{1,3}(, ?[a-z]{1,3})?\"",
        "= ?[-a-z.]{0,3}",
    ];
    let names = [
        "max-age",
        "s-maxage",
        "No-Store",
        "private",
        "no-cache",
        "public",
        "must-revalidate",
        "must-understand",
        "immutable",
        "stale-if-error",
        "x-other",
    ];
    proptest::collection::vec(value, names.len()).prop_map(move |values| {
        names.iter().zip(values).map(|(name, value)| format!("{name}{value}")).collect()
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(
        lines in proptest::collection::vec("[ -~\t\u{e9}]{0,40}|(max-age|private|no-cache)( ?=\"?[0-9a-z, \\\\\"]{0,9})?", 0..4),
    ) {
        let mut headers = HeaderMap::new();
        for line in &lines {
            if let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) {
                headers.append(CACHE_CONTROL, value.clone());
                headers.append("cdn-cache-control", value);
            }
        }
        let _ = Directives::read(&headers);
        let _ = Asked::read(&headers);
        headers.remove("cdn-cache-control");
        let _ = Directives::read(&headers);
    }

    #[test]
    fn the_order_and_the_lines_of_different_directives_do_not_matter(
        (before, after) in one_of_each().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        cut in 0_usize..11,
    ) {
        let (first, second) = after.split_at(cut);
        let mut one = read(&[&before.join(",")]);
        let mut other = read(&[&first.join(" ,\t"), &second.join(", ")]);
        one.withheld.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        other.withheld.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        prop_assert_eq!(one, other);
    }

    #[test]
    fn a_ban_holds_whatever_stands_beside_it(others in one_of_each(), place in 0_usize..11) {
        let mut all: Vec<String> =
            others.into_iter().filter(|text| !text.starts_with("No-Store")).collect();
        all.insert(place.min(all.len()), "no-store".to_owned());
        prop_assert!(read(&[&all.join(", ")]).no_store);
    }
}
