//! Answers to requests that said who asks (RFC 9111 §3.5). A `kind: app` gets what the client said; an `api` never does.

use crate::stage::{APP, Given, Stage, date, ok};

fn is_given_to_others(stage: &Stage, given: Given) -> bool {
    let target = stage.target(APP, &[given]);
    let first = stage.get_with(&target, &[("Authorization", "Bearer one")]);
    assert_eq!(first.text(), "v0");
    assert_eq!(stage.asked(&target)[0].header("authorization"), Some("Bearer one"), "it reaches the origin");
    stage.get_with(&target, &[("Authorization", "Bearer two")]).text() == "v0"
}

#[test]
fn rfc9111_3_5_what_was_given_to_one_who_said_who_he_is_is_not_given_to_another() {
    let stage = Stage::new("{}");
    let future = date(100);
    for fields in [[("Cache-Control", "max-age=60")], [("Expires", future.as_str())]] {
        assert!(!is_given_to_others(&stage, ok(&fields)), "{fields:?}");
    }
}

#[test]
fn rfc9111_3_5_unless_it_says_that_it_may_be_shared() {
    let stage = Stage::new("{}");
    for directives in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
        assert!(is_given_to_others(&stage, ok(&[("Cache-Control", directives)])), "{directives}");
    }
}

#[test]
fn rfc9111_3_5_no_store_and_private_hold_all_the_same() {
    let stage = Stage::new("{}");
    for directives in
        ["public, no-store, max-age=60", "private, s-maxage=60", "must-revalidate, private, max-age=60"]
    {
        assert!(!is_given_to_others(&stage, ok(&[("Cache-Control", directives)])), "{directives}");
    }
}

#[test]
fn rfc9111_3_5_proxy_revalidate_and_no_cache_are_no_leave_to_share() {
    let stage = Stage::new("{}");
    for directives in ["proxy-revalidate, max-age=60", "max-age=60, immutable"] {
        assert!(!is_given_to_others(&stage, ok(&[("Cache-Control", directives)])), "{directives}");
    }
}

#[test]
fn rfc9111_3_5_what_was_stored_for_all_serves_those_too_who_say_who_they_are() {
    let stage = Stage::new("{}");
    let target = stage.target(APP, &[ok(&[("Cache-Control", "public, max-age=60")])]);
    stage.get(&target);
    assert_eq!(stage.get_with(&target, &[("Authorization", "Bearer one")]).text(), "v0");
}
