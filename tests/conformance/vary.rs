//! Which of several answers to one URL is the right one (RFC 9111 §4.1, RFC 9110 §12.5.5).

use crate::stage::{APP, Stage, ok};

/// Whether a second request with `second` gets what a first with `first` brought; only the `app` sees every field of a client.
fn is_shared(stage: &Stage, vary: &[&str], first: &[(&str, &str)], second: &[(&str, &str)]) -> bool {
    let mut fields = vec![("Cache-Control", "max-age=60")];
    fields.extend(vary.iter().map(|value| ("Vary", *value)));
    let target = stage.target(APP, &[ok(&fields)]);
    assert_eq!(stage.get_with(&target, first).text(), "v0");
    stage.get_with(&target, second).text() == "v0"
}

#[test]
fn rfc9111_4_1_a_stored_answer_fits_where_every_named_field_is_the_same() {
    let stage = Stage::new("{}");
    for (vary, first, second, fits) in [
        (["X-A"].as_slice(), [("X-A", "1")].as_slice(), [("X-A", "1")].as_slice(), true),
        (&["X-A"], &[("X-A", "1")], &[("X-A", "2")], false),
        (&["X-A"], &[("X-A", "1")], &[("X-A", "1"), ("X-B", "2")], true),
        (&["X-A, X-B"], &[("X-A", "1"), ("X-B", "1")], &[("X-A", "1"), ("X-B", "1")], true),
        (&["X-A, X-B"], &[("X-A", "1"), ("X-B", "1")], &[("X-A", "1"), ("X-B", "2")], false),
        (&["X-A", "X-B"], &[("X-A", "1"), ("X-B", "1")], &[("X-A", "1"), ("X-B", "2")], false),
    ] {
        assert_eq!(is_shared(&stage, vary, first, second), fits, "{vary:?}: {first:?}, then {second:?}");
    }
}

#[test]
fn rfc9111_4_1_a_field_that_is_absent_matches_only_where_it_was_absent() {
    let stage = Stage::new("{}");
    assert!(is_shared(&stage, &["X-A"], &[], &[]), "absent in both");
    assert!(!is_shared(&stage, &["X-A"], &[], &[("X-A", "1")]), "it was absent");
    assert!(!is_shared(&stage, &["X-A"], &[("X-A", "1")], &[]), "it is absent");
}

#[test]
fn rfc9111_4_1_an_asterisk_never_fits() {
    let stage = Stage::new("{}");
    for vary in [["*"].as_slice(), &["X-A, *"], &["X-A", "*"], &["*, X-A"], &["*,*"]] {
        assert!(!is_shared(&stage, vary, &[], &[]), "{vary:?}");
    }
}

#[test]
fn rfc9110_5_1_names_of_fields_have_no_case() {
    let stage = Stage::new("{}");
    assert!(is_shared(&stage, &["x-A"], &[("X-a", "1")], &[("X-A", "1")]));
    assert!(!is_shared(&stage, &["x-A"], &[("X-a", "1")], &[("X-A", "2")]));
}

#[test]
fn rfc9110_5_6_1_empty_members_of_the_list_mean_nothing() {
    let stage = Stage::new("{}");
    assert!(is_shared(&stage, &[" , X-A,, "], &[("X-A", "1")], &[("X-A", "1"), ("X-B", "1")]));
    assert!(!is_shared(&stage, &[" , X-A,, "], &[("X-A", "1")], &[("X-A", "2")]));
    assert!(is_shared(&stage, &[""], &[("X-A", "1")], &[("X-A", "2")]), "it names nothing");
}

#[test]
fn rfc9111_4_1_white_space_and_lines_make_no_difference() {
    let stage = Stage::new("{}");
    assert!(
        is_shared(&stage, &["X-A"], &[("X-A", "1, 2")], &[("X-A", "1"), ("X-A", "2")]),
        "two lines are one list"
    );
    assert!(is_shared(&stage, &["X-A"], &[("X-A", "1,2")], &[("X-A", "1, 2 ")]), "space beside a comma");
}

#[test]
fn rfc9111_4_1_how_an_encoding_is_asked_for_makes_no_difference() {
    let stage = Stage::new("{}");
    let share = |first: &str, second: &str| {
        is_shared(&stage, &["Accept-Encoding"], &[("Accept-Encoding", first)], &[("Accept-Encoding", second)])
    };
    assert!(share("gzip, br", "br,gzip"), "order");
    assert!(share("gzip, br", "GZIP ,  BR"), "case and space");
    assert!(!share("gzip", "br"), "another one");
    assert!(!share("gzip", "gzip;q=0"), "none is asked for");
}

#[test]
fn rfc9111_4_1_several_answers_to_one_url_are_kept_beside_each_other() {
    let stage = Stage::new("{}");
    let target = stage.target(APP, &[ok(&[("Cache-Control", "max-age=60"), ("Vary", "X-A")])]);
    for _ in 0..2 {
        for (value, body) in [("1", "v0"), ("2", "v1"), ("3", "v2")] {
            assert_eq!(stage.get_with(&target, &[("X-A", value)]).text(), body, "{value}");
        }
    }
    assert_eq!(stage.asked(&target).len(), 3, "each once");
}

#[test]
fn rfc9111_4_1_head_and_ranges_choose_as_get_does() {
    let stage = Stage::new("{}");
    let given = ok(&[("Cache-Control", "max-age=60"), ("Vary", "X-A")]);
    let target = stage.target(APP, &[given]);
    stage.get_with(&target, &[("X-A", "1")]);
    let part = stage.get_with(&target, &[("X-A", "1"), ("Range", "bytes=0-0")]);
    assert_eq!((part.status, part.text().as_str()), (206, "v"));
    assert_eq!(stage.asked(&target).len(), 1, "of the same variant");
    assert_eq!(
        stage.get_with(&target, &[("X-A", "2"), ("Range", "bytes=1-1")]).text(),
        "1",
        "of another variant"
    );
}
