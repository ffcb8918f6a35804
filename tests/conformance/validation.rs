//! Asking whether what is stored still holds, and what the answer changes (RFC 9111 §4.3, §3.2, §5.2.2.4).

use crate::stage::{BOTH, Given, Stage, fresh, is_old, ok, stale, status};

const OLD: &str = "Wed, 01 Jan 2020 00:00:00 GMT";

fn not_modified(fields: &[(&str, &str)]) -> Given {
    status(304, fields)
}

#[test]
fn rfc9111_4_3_1_a_validation_carries_the_stored_validators() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for (validators, if_none_match, if_modified_since) in [
            ([("ETag", "\"a\"")].as_slice(), Some("\"a\""), None),
            (&[("ETag", "W/\"a\"")], Some("W/\"a\""), None),
            (&[("Last-Modified", OLD)], None, Some(OLD)),
        ] {
            let target = stage.target(way, &[stale("", validators)]);
            stage.get(&target);
            stage.get(&target);
            let second = &stage.asked(&target)[1];
            assert_eq!(second.header("if-none-match"), if_none_match, "{way} {validators:?}");
            assert_eq!(second.header("if-modified-since"), if_modified_since, "{way} {validators:?}");
        }
    }
}

#[test]
fn rfc9111_4_3_1_without_a_validator_it_is_asked_for_anew() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[stale("", &[])]);
        stage.get(&target);
        assert_eq!(stage.get(&target).text(), "v1", "{way}");
        let second = &stage.asked(&target)[1];
        assert_eq!(
            (second.header("if-none-match"), second.header("if-modified-since")),
            (None, None),
            "{way}"
        );
    }
}

#[test]
fn rfc9111_4_3_3_a_304_lets_the_stored_answer_be_used_again() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(
            way,
            &[stale("", &[("ETag", "\"a\""), ("X-Mark", "kept")]), not_modified(&[("ETag", "\"a\"")])],
        );
        stage.get(&target);
        let second = stage.get(&target);
        assert_eq!((second.status, second.text().as_str()), (200, "v0"), "{way}");
        assert_eq!(second.header("x-mark"), Some("kept"), "{way}: with what it said before");
        assert_eq!(stage.asked(&target).len(), 2, "{way}: one question");
    }
}

#[test]
fn rfc9111_4_3_3_a_whole_answer_to_a_validation_takes_the_place_of_the_stored_one() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[stale("", &[("ETag", "\"a\"")]), fresh(60)]);
        stage.get(&target);
        for _ in 0..2 {
            assert_eq!(stage.get(&target).text(), "v1", "{way}");
        }
        assert_eq!(stage.asked(&target).len(), 2, "{way}");
    }
}

#[test]
fn rfc9111_4_3_3_an_error_in_answer_to_a_validation_goes_to_the_client() {
    let stage = Stage::new("{}");
    let target = stage.target("/app", &[stale("", &[("ETag", "\"a\"")]), status(503, &[])]);
    stage.get(&target);
    assert_eq!(stage.get(&target).status, 503);
}

#[test]
fn rfc9111_3_2_a_304_updates_every_field_it_brings() {
    let stage = Stage::new("{}");
    let updates = [
        ("Cache-Control", "max-age=60"),
        ("Content-Type", "text/css"),
        ("Content-Language", "de"),
        ("X-Mark", "new"),
        ("Content-Security-Policy", "default-src 'none'"),
    ];
    for way in BOTH {
        let first = stale(
            "",
            &[("ETag", "\"a\""), ("X-Mark", "old"), ("X-Other", "kept"), ("Content-Language", "en")],
        );
        let update = not_modified(&[&[("ETag", "\"a\"")], updates.as_slice()].concat());
        let target = stage.target(way, &[first, update]);
        stage.get(&target);
        for turn in ["validated", "from the store"] {
            let answer = stage.get(&target);
            for (name, value) in updates {
                assert_eq!(answer.all(name), [value], "{way}, {turn}: {name}");
            }
            assert_eq!(answer.header("x-other"), Some("kept"), "{way}, {turn}");
            assert_eq!(answer.text(), "v0", "{way}, {turn}");
        }
        assert_eq!(stage.asked(&target).len(), 2, "{way}: the third is from the store");
    }
}

#[test]
fn rfc9111_3_2_but_not_what_says_how_the_stored_body_is_framed_and_coded() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let update = not_modified(&[
            ("ETag", "\"a\""),
            ("Cache-Control", "max-age=60"),
            ("Content-Length", "10"),
            ("Content-Encoding", "gzip"),
            ("Content-Range", "bytes 0-1/5"),
        ]);
        let target = stage.target(way, &[stale("", &[("ETag", "\"a\"")]), update]);
        stage.get(&target);
        for _ in 0..2 {
            let answer = stage.get(&target);
            assert_eq!(answer.text(), "v0", "{way}: the body is whole");
            assert!(answer.header("content-length").is_none_or(|length| length == "2"), "{way}");
            assert_eq!(answer.header("content-encoding"), None, "{way}");
            assert_eq!(answer.header("content-range"), None, "{way}");
        }
    }
}

#[test]
fn rfc9111_4_3_4_a_304_about_another_representation_updates_nothing() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let about_another =
            not_modified(&[("ETag", "\"b\""), ("X-Mark", "new"), ("Cache-Control", "max-age=60")]);
        let target = stage
            .target(way, &[stale("", &[("ETag", "\"a\""), ("X-Mark", "old")]), about_another, fresh(60)]);
        stage.get(&target);
        let second = stage.get(&target);
        assert_ne!(
            (second.text().as_str(), second.header("x-mark")),
            ("v0", Some("new")),
            "{way}: never mixed"
        );
        assert_eq!(second.status, 200, "{way}");
    }
}

#[test]
fn rfc9111_4_3_2_the_clients_own_condition_is_answered_after_the_validation() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(
            way,
            &[
                stale("", &[("ETag", "\"a\"")]),
                not_modified(&[("ETag", "\"a\""), ("Cache-Control", "max-age=60")]),
            ],
        );
        stage.get(&target);
        let same = stage.get_with(&target, &[("If-None-Match", "\"a\"")]);
        assert_eq!((same.status, same.body.len()), (304, 0), "{way}: the client has it");
        let other = stage.get_with(&target, &[("If-None-Match", "\"other\"")]);
        assert_eq!((other.status, other.text().as_str()), (200, "v0"), "{way}: the client has another");
    }
}

#[test]
fn rfc9111_4_3_1_a_client_that_has_an_old_one_gets_the_stored_one_after_a_304() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(
            way,
            &[
                stale("", &[("ETag", "\"a\"")]),
                not_modified(&[("ETag", "\"a\""), ("Cache-Control", "max-age=60")]),
            ],
        );
        stage.get(&target);
        let answer = stage.get_with(&target, &[("If-None-Match", "\"older\"")]);
        assert_eq!((answer.status, answer.text().as_str()), (200, "v0"), "{way}");
    }
}

#[test]
fn rfc9111_5_2_2_4_no_cache_is_never_used_without_asking() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let validated = not_modified(&[("ETag", "\"a\"")]);
        let target = stage
            .target(way, &[ok(&[("Cache-Control", "no-cache, max-age=60"), ("ETag", "\"a\"")]), validated]);
        for turn in 0..3 {
            let answer = stage.get(&target);
            assert!(answer.status == 200 && is_old(&answer), "{way}: {}", answer.text());
            assert_eq!(stage.asked(&target).len(), turn + 1, "{way}: asked each time");
        }
    }
}

#[test]
fn rfc9111_5_2_2_4_no_cache_is_stored_and_asked_about_by_its_validator() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[ok(&[("Cache-Control", "no-cache"), ("ETag", "\"a\"")])]);
        stage.get(&target);
        stage.get(&target);
        assert_eq!(stage.asked(&target)[1].header("if-none-match"), Some("\"a\""), "{way}");
    }
}

#[test]
fn rfc9111_4_3_5_head_brings_a_stored_answer_up_to_date() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(
            way,
            &[
                stale("", &[("ETag", "\"a\""), ("X-Mark", "old")]),
                ok(&[("Cache-Control", "max-age=60"), ("ETag", "\"a\""), ("X-Mark", "new")]),
            ],
        );
        stage.get(&target);
        let head = stage.send("HEAD", &target);
        assert_eq!(head.header("x-mark"), Some("new"), "{way}: it was stale");
        assert_eq!(stage.get(&target).header("x-mark"), Some("new"), "{way}");
        assert_eq!(stage.asked(&target).len(), 2, "{way}: and is fresh again");
    }
}

#[test]
fn rfc9111_4_3_5_head_about_another_representation_makes_the_stored_one_stale() {
    let stage = Stage::new("{ requestDirectives: honor }");
    for way in BOTH {
        for (first, second) in [
            (fresh_with(&[("ETag", "\"a\"")]), fresh_with(&[("ETag", "\"b\"")])),
            (
                fresh_with(&[("Last-Modified", OLD)]),
                fresh_with(&[("Last-Modified", "Thu, 02 Jan 2020 00:00:00 GMT")]),
            ),
            (fresh_with(&[]), fresh_with(&[]).body("longer than before")),
        ] {
            let target = stage.target(way, &[first, second, fresh(60)]);
            stage.get(&target);
            stage.gateway.request("HEAD", &target, &[("Cache-Control", "no-cache")], b"");
            // The head is given before the body has come, where the whole is fetched.
            eventually!(stage.get(&target).text() != "v0", "{way}: it was another");
        }
    }
}

fn fresh_with(fields: &[(&str, &str)]) -> Given {
    ok(&[&[("Cache-Control", "max-age=60")], fields].concat())
}

#[test]
fn rfc9111_4_3_4_a_304_that_forbids_storing_ends_what_is_stored() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for forbids in ["no-store", "private"] {
            let update = not_modified(&[("ETag", "\"a\""), ("Cache-Control", forbids)]);
            let target =
                stage.target(way, &[stale("stale-if-error=60", &[("ETag", "\"a\"")]), update, fresh(60)]);
            stage.get(&target);
            assert_eq!(stage.get(&target).text(), "v0", "{way} {forbids}: it held once more");
            assert_eq!(stage.get(&target).text(), "v2", "{way} {forbids}: and is not kept");
        }
    }
}

#[test]
fn rfc9111_4_3_2_on_a_miss_the_clients_condition_is_answered_from_what_comes() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for (if_none_match, status) in [("\"a\"", 304), ("\"other\"", 200)] {
            let target = stage.target(way, &[fresh_with(&[("ETag", "\"a\"")])]);
            let answer = stage.get_with(&target, &[("If-None-Match", if_none_match)]);
            assert_eq!(answer.status, status, "{way} {if_none_match}");
            assert_eq!(stage.get(&target).text(), "v0", "{way}: the whole was stored");
            assert_eq!(stage.asked(&target).len(), 1, "{way}");
        }
    }
}

#[test]
fn rfc9111_4_3_what_is_not_stored_is_the_origins_to_validate() {
    let stage = Stage::new("{}");
    let private = ok(&[("Cache-Control", "private"), ("ETag", "\"a\"")]);
    let target = stage.target("/app", &[private, not_modified(&[("ETag", "\"a\"")])]);
    stage.get(&target);
    let answer = stage.get_with(&target, &[("If-None-Match", "\"a\"")]);
    assert_eq!((answer.status, answer.body.len()), (304, 0));
}

#[test]
fn rfc9111_4_1_each_variant_is_validated_by_its_own_validator() {
    let stage = Stage::new("{}");
    let variant = |tag: &str| stale("", &[("ETag", tag), ("Vary", "X-A")]);
    let target = stage.target("/app", &[variant("\"one\""), variant("\"two\""), fresh(60)]);
    for value in ["1", "2", "1"] {
        stage.get_with(&target, &[("X-A", value)]);
    }
    assert_eq!(stage.asked(&target)[2].header("if-none-match"), Some("\"one\""));
}
