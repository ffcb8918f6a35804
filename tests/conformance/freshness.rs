//! How long an answer is fresh (RFC 9111 §4.2, §4.2.1, §4.2.2, §5.2.2, §5.3).

use crate::stage::{BOTH, Stage, date, ok, status};

#[test]
fn rfc9111_4_2_1_s_maxage_counts_before_max_age_and_both_before_expires() {
    let stage = Stage::new("{}");
    let (past, future) = (date(-100), date(100));
    stage.expect(&[
        (&[("Cache-Control", "s-maxage=60, max-age=0")], true),
        (&[("Cache-Control", "s-maxage=0, max-age=60")], false),
        (&[("Cache-Control", "max-age=60"), ("Expires", &past)], true),
        (&[("Cache-Control", "max-age=0"), ("Expires", &future)], false),
        (&[("Cache-Control", "s-maxage=60"), ("Expires", &past)], true),
        (&[("Expires", &future)], true),
        (&[("Expires", &past)], false),
    ]);
}

#[test]
fn rfc9111_4_2_1_the_lifetime_by_expires_is_counted_from_date() {
    let stage = Stage::new("{}");
    let (long_ago, past, soon) = (date(-200), date(-100), date(50));
    stage.expect(&[
        (&[("Date", &past), ("Expires", &soon)], true),
        (&[("Date", &long_ago), ("Expires", &past)], false),
        (&[("Date", &past), ("Expires", &past)], false),
    ]);
}

#[test]
fn rfc9111_4_2_1_a_directive_that_says_nothing_sound_makes_the_answer_stale() {
    let future = date(100);
    Stage::new("{}").expect(&[
        (&[("Cache-Control", "max-age=soon")], false),
        (&[("Cache-Control", "max-age=-1")], false),
        (&[("Cache-Control", "max-age=1.5")], false),
        (&[("Cache-Control", "max-age")], false),
        (&[("Cache-Control", "max-age=soon"), ("Expires", &future)], false),
    ]);
}

#[test]
fn rfc9111_4_2_1_of_two_values_of_a_directive_the_first_counts_or_the_answer_is_stale() {
    Stage::new("{}").expect(&[
        (&[("Cache-Control", "max-age=0, max-age=60")], false),
        (&[("Cache-Control", "max-age=0"), ("Cache-Control", "max-age=60")], false),
    ]);
}

#[test]
fn rfc9111_5_2_names_of_directives_have_no_case_and_their_values_may_be_quoted() {
    Stage::new("{}").expect(&[
        (&[("Cache-Control", "MAX-AGE=60")], true),
        (&[("Cache-Control", "Max-Age=\"60\"")], true),
        (&[("Cache-Control", "No-Store, max-age=60")], false),
        (&[("Cache-Control", "PRIVATE, max-age=60")], false),
    ]);
}

#[test]
fn rfc9111_5_2_3_a_directive_nobody_knows_changes_nothing() {
    Stage::new("{}").expect(&[
        (&[("Cache-Control", "future, max-age=60")], true),
        (&[("Cache-Control", "max-age=60, future=\"a, no-store\"")], true),
        (&[("Cache-Control", "x-max-age=60")], false),
        (&[("Cache-Control", "max-age=60, , ,")], true),
    ]);
}

#[test]
fn rfc9111_1_2_2_a_number_too_great_is_a_very_long_time() {
    Stage::new("{}").expect(&[
        (&[("Cache-Control", "max-age=2147483648")], true),
        (&[("Cache-Control", "max-age=99999999999999999999999")], true),
        (&[("Cache-Control", "max-age=00060")], true),
    ]);
}

#[test]
fn rfc9111_5_3_an_expires_that_is_no_date_is_in_the_past() {
    let stage = Stage::new("{ heuristic: 24h }");
    let old = date(-1_000_000);
    stage.expect(&[
        (&[("Expires", "0"), ("Last-Modified", &old)], false),
        (&[("Expires", "tomorrow"), ("Last-Modified", &old)], false),
        (&[("Expires", ""), ("Last-Modified", &old)], false),
        (&[("Expires", "0"), ("Cache-Control", "max-age=60")], true),
    ]);
}

#[test]
fn rfc9110_5_6_7_a_date_may_be_written_in_the_two_old_forms() {
    Stage::new("{}").expect(&[
        (&[("Expires", "Friday, 01-Jan-49 00:00:00 GMT")], true),
        (&[("Expires", "Fri Jan  1 00:00:00 2049")], true),
        (&[("Expires", "Sunday, 06-Nov-94 08:49:37 GMT")], false),
        (&[("Expires", "Sun Nov  6 08:49:37 1994")], false),
    ]);
}

#[test]
fn rfc9111_4_2_a_date_is_read_in_any_case_and_only_in_gmt() {
    Stage::new("{}").expect(&[
        (&[("Expires", "FRI, 01 JAN 2049 00:00:00 GMT")], true),
        (&[("Expires", "fri, 01 jan 2049 00:00:00 gmt")], true),
        (&[("Expires", "friday, 01-jan-49 00:00:00 Gmt")], true),
        (&[("Expires", "fri jan  1 00:00:00 2049")], true),
        (&[("Expires", "Fri, 01 Jan 2049 00:00:00 EST")], false),
        (&[("Expires", "Fri, 01 Jan 2049 00:00:00 UTC")], false),
        (&[("Expires", "Fri, 01 Jan 2049 00:00:00")], false),
    ]);
}

#[test]
fn rfc9111_4_2_2_without_a_word_of_the_origin_nothing_is_fresh_unless_a_guess_is_allowed() {
    let old = date(-1_000_000);
    Stage::new("{}").expect(&[(&[], false), (&[("Last-Modified", &old)], false)]);
    let changed = date(5);
    Stage::new("{ heuristic: 24h }").expect(&[
        (&[], false),
        (&[("Last-Modified", &old)], true),
        (&[("Last-Modified", &changed)], false),
        (&[("Last-Modified", &old), ("Age", "90000")], false),
    ]);
}

#[test]
fn rfc9111_4_2_2_no_guess_against_what_the_origin_says() {
    let (old, past) = (date(-1_000_000), date(-100));
    Stage::new("{ heuristic: 24h }").expect(&[
        (&[("Last-Modified", &old), ("Cache-Control", "max-age=0")], false),
        (&[("Last-Modified", &old), ("Expires", &past)], false),
        (&[("Last-Modified", &old), ("Cache-Control", "no-cache")], false),
        (&[("Last-Modified", &old), ("Cache-Control", "private")], false),
    ]);
}

#[test]
fn rfc9110_15_1_a_guess_is_made_for_the_statuses_that_allow_it_and_for_what_is_public() {
    let stage = Stage::new("{ heuristic: 24h }");
    let old = date(-1_000_000);
    for (code, cache_control, is_reused) in [
        (203, None, true),
        (204, None, true),
        (301, None, true),
        (308, None, true),
        (404, None, true),
        (405, None, true),
        (410, None, true),
        (414, None, true),
        (501, None, true),
        (201, None, false),
        (302, None, false),
        (307, None, false),
        (403, None, false),
        (503, None, false),
        (201, Some("public"), true),
        (403, Some("public"), true),
    ] {
        let mut fields = vec![("Last-Modified", old.as_str()), ("Location", "/app/elsewhere")];
        fields.extend(cache_control.map(|value| ("Cache-Control", value)));
        assert_eq!(stage.reuses("/app", status(code, &fields)), is_reused, "{code} {cache_control:?}");
    }
}

#[test]
fn rfc9111_5_2_2_1_max_age_zero_is_stale_at_once() {
    Stage::new("{}").expect(&[(&[("Cache-Control", "max-age=0")], false)]);
}

#[test]
fn rfc9111_4_the_query_is_a_part_of_what_is_asked_for() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let given = ok(&[("Cache-Control", "max-age=60")]);
        for query in ["", "?a=1", "?a=2", "?"] {
            stage.tell(&format!("{way}/q{query}"), &[given.clone().body(&format!("[{query}]"))]);
        }
        for _ in 0..2 {
            for query in ["", "?a=1", "?a=2"] {
                assert_eq!(stage.get(&format!("{way}/q{query}")).text(), format!("[{query}]"), "{way}");
            }
        }
    }
}
