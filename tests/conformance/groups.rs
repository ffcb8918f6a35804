//! Answers that belong together (RFC 9875).

use crate::stage::{APP, Stage, ok, status};

/// Stores an answer of these groups, lets a POST to another URL of the route name groups, and says whether the stored one became stale.
fn falls(stage: &Stage, groups: &[(&str, &str)], named: &str) -> bool {
    let member = stage.target(APP, &[ok(&[&[("Cache-Control", "max-age=60")], groups].concat())]);
    let change = stage.target(APP, &[status(200, &[("Cache-Group-Invalidation", named)])]);
    assert_eq!(stage.get(&member).text(), "v0");
    stage.send("POST", &change);
    stage.get(&member).text() != "v0"
}

#[test]
fn rfc9875_3_a_change_makes_the_members_of_the_groups_it_names_stale() {
    let stage = Stage::new("{}");
    assert!(falls(&stage, &[("Cache-Groups", "\"scripts\"")], "\"scripts\""));
    assert!(falls(&stage, &[("Cache-Groups", "\"a\", \"b\"")], "\"x\", \"b\""), "one of several");
    assert!(falls(&stage, &[("Cache-Groups", "\"a\""), ("Cache-Groups", "\"b\"")], "\"b\""), "in two lines");
    assert!(falls(&stage, &[("Cache-Groups", "\"a\";x=1")], "\"a\";y=2"), "parameters are ignored");
}

#[test]
fn rfc9875_2_1_groups_are_the_same_only_octet_by_octet() {
    let stage = Stage::new("{}");
    for (groups, named) in [("\"Scripts\"", "\"scripts\""), ("\"a\"", "\"a \""), ("\"a b\"", "\"a\"")] {
        assert!(!falls(&stage, &[("Cache-Groups", groups)], named), "{groups} and {named}");
    }
}

#[test]
fn rfc9875_2_what_is_no_list_of_strings_is_ignored() {
    let stage = Stage::new("{}");
    for (groups, named) in
        [("scripts", "scripts"), ("\"a\"", "a"), ("\"a", "\"a"), ("1", "1"), ("\"a\"", "\"a\", &&")]
    {
        assert!(!falls(&stage, &[("Cache-Groups", groups)], named), "{groups} and {named}");
    }
}

#[test]
fn rfc9875_3_only_the_answer_to_a_change_is_heard() {
    let stage = Stage::new("{}");
    let member = stage.target(APP, &[ok(&[("Cache-Control", "max-age=60"), ("Cache-Groups", "\"a\"")])]);
    let read = stage.target(APP, &[ok(&[("Cache-Group-Invalidation", "\"a\"")])]);
    stage.get(&member);
    stage.get(&read);
    assert_eq!(stage.get(&member).text(), "v0");
}

#[test]
fn rfc9875_2_1_groups_are_an_origins_own() {
    let stage = Stage::new("{}");
    let member = stage.target(APP, &[ok(&[("Cache-Control", "max-age=60"), ("Cache-Groups", "\"a\"")])]);
    let change = stage.target(APP, &[status(200, &[("Cache-Group-Invalidation", "\"a\"")])]);
    stage.get(&member);
    stage.gateway.request("POST", &change, &[("Host", "other.example")], b"x");
    assert_eq!(stage.get(&member).text(), "v0", "another host's group of that name");
}

#[test]
fn rfc9875_2_2_1_what_falls_with_a_group_takes_no_other_group_with_it() {
    let stage = Stage::new("{}");
    let member =
        |groups: &str| stage.target(APP, &[ok(&[("Cache-Control", "max-age=60"), ("Cache-Groups", groups)])]);
    let (both, other) = (member("\"a\", \"b\""), member("\"b\""));
    let change = stage.target(APP, &[status(200, &[("Cache-Group-Invalidation", "\"a\"")])]);
    for target in [&both, &other] {
        assert_eq!(stage.get(target).text(), "v0");
    }
    stage.send("POST", &change);
    assert_eq!(stage.get(&both).text(), "v1");
    assert_eq!(stage.get(&other).text(), "v0", "it is in `b` alone");
}

#[test]
fn rfc9875_2_thirty_two_groups_of_thirty_two_characters_are_heard() {
    let stage = Stage::new("{}");
    let names: Vec<String> = (0..32).map(|n| format!("\"{n:032}\"")).collect();
    for last in [&names[0], &names[31]] {
        assert!(falls(&stage, &[("Cache-Groups", &names.join(", "))], last), "{last} of what is stored");
    }
    assert!(falls(&stage, &[("Cache-Groups", &names[31])], &names.join(", ")), "of what fell");
}
