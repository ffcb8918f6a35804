//! `Cache-Status`: every answer says how it came about (RFC 9211).

use crate::harness::Answer;
use crate::stage::{APP, BOTH, Stage, cache_status, fresh, ok, stale, status};

fn says(answer: &Answer, parameter: &str) -> bool {
    cache_status(answer).iter().any(|one| one == parameter)
}

fn value(answer: &Answer, name: &str) -> Option<String> {
    cache_status(answer).iter().find_map(|one| one.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

#[test]
fn rfc9211_2_1_a_hit_is_from_the_store_alone_and_was_not_forwarded() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60)]);
        let (first, second) = (stage.get(&target), stage.get(&target));
        assert!(!says(&first, "hit"), "{way}: {:?}", cache_status(&first));
        assert!(
            says(&second, "hit") && value(&second, "fwd").is_none(),
            "{way}: {:?}",
            cache_status(&second)
        );
    }
}

#[test]
fn rfc9211_2_2_the_reason_for_asking_is_given() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60)]);
        assert_eq!(
            value(&stage.get(&target), "fwd").as_deref(),
            Some("uri-miss"),
            "{way}: nothing for the URL"
        );
        let old = stage.target(way, &[stale("", &[("ETag", "\"a\"")])]);
        stage.get(&old);
        assert_eq!(
            value(&stage.get(&old), "fwd").as_deref(),
            Some("stale"),
            "{way}: it was there, and stale"
        );
        assert_eq!(
            value(&stage.send("POST", &target), "fwd").as_deref(),
            Some("method"),
            "{way}: the method"
        );
    }
    let varied = stage.target(APP, &[ok(&[("Cache-Control", "max-age=60"), ("Vary", "X-A")])]);
    stage.get_with(&varied, &[("X-A", "1")]);
    assert_eq!(value(&stage.get_with(&varied, &[("X-A", "2")]), "fwd").as_deref(), Some("vary-miss"));
}

#[test]
fn rfc9211_2_2_a_client_that_asked_for_it_is_the_reason() {
    let stage = Stage::new("{ requestDirectives: honor }");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60)]);
        stage.get(&target);
        let answer = stage.get_with(&target, &[("Cache-Control", "no-cache")]);
        assert_eq!(value(&answer, "fwd").as_deref(), Some("request"), "{way}");
    }
}

#[test]
fn rfc9211_2_3_the_origins_status_is_given_where_it_is_another() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let validated = status(304, &[("ETag", "\"a\""), ("Cache-Control", "max-age=60")]);
        let target = stage.target(way, &[stale("", &[("ETag", "\"a\"")]), validated]);
        stage.get(&target);
        let answer = stage.get(&target);
        assert_eq!(value(&answer, "fwd").as_deref(), Some("stale"), "{way}");
        assert_eq!(
            value(&answer, "fwd-status").as_deref(),
            Some("304"),
            "{way}: {:?}",
            cache_status(&answer)
        );
    }
}

#[test]
fn rfc9211_2_4_ttl_is_the_rest_of_the_lifetime_and_negative_when_it_is_over() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[ok(&[("Cache-Control", "max-age=100"), ("Age", "40")])]);
        stage.get(&target);
        let rest: i64 = value(&stage.get(&target), "ttl").and_then(|ttl| ttl.parse().ok()).expect("a ttl");
        assert!((45..=60).contains(&rest), "{way}: {rest}");
        let past = ok(&[("Cache-Control", "max-age=10, stale-if-error=100"), ("Age", "40")]);
        let target = stage.target(way, &[past, status(503, &[])]);
        stage.get(&target);
        let over: i64 = value(&stage.get(&target), "ttl").and_then(|ttl| ttl.parse().ok()).expect("a ttl");
        assert!((-45..=-30).contains(&over), "{way}: {over}");
    }
}

#[test]
fn rfc9211_2_5_stored_is_said_of_what_was_stored() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for (directives, is_stored) in
            [("max-age=60", true), ("no-store", false), ("private, max-age=60", false)]
        {
            let target = stage.target(way, &[ok(&[("Cache-Control", directives)])]);
            assert_eq!(says(&stage.get(&target), "stored"), is_stored, "{way} {directives}");
        }
    }
}

#[test]
fn rfc9211_2_there_is_one_member_of_ours_on_every_answer() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[ok(&[("Cache-Control", "max-age=60"), ("ETag", "\"a\"")])]);
        for headers in
            [[("X-A", "1")], [("X-A", "1")], [("If-None-Match", "\"a\"")], [("Range", "bytes=0-0")]]
        {
            let answer = stage.get_with(&target, &headers);
            let members = answer.all("cache-status").join(", ");
            assert_eq!(members.matches("portcullis").count(), 1, "{way} {headers:?}: {members}");
        }
    }
}

#[test]
fn rfc9211_2_what_is_stored_does_not_tell_of_the_request_that_brought_it() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60)]);
        stage.get(&target);
        let second = stage.get(&target);
        assert!(
            !says(&second, "stored") && value(&second, "fwd").is_none(),
            "{way}: {:?}",
            cache_status(&second)
        );
    }
}

#[test]
fn rfc9211_2_8_what_was_not_stored_says_why_in_a_word() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for directives in ["no-store", "private"] {
            let target = stage.target(way, &[ok(&[("Cache-Control", directives)])]);
            let answer = stage.get(&target);
            assert!(
                value(&answer, "detail").is_some_and(|word| !word.is_empty()),
                "{way} {directives}: {:?}",
                cache_status(&answer)
            );
        }
    }
}

#[test]
fn rfc9211_2_the_caches_behind_us_stand_before_us() {
    let stage = Stage::new("{}");
    let target =
        stage.target(APP, &[ok(&[("Cache-Control", "max-age=60"), ("Cache-Status", "inner; hit; ttl=5")])]);
    for _ in 0..2 {
        let members = stage.get(&target).all("cache-status").join(", ");
        let place = |name: &str| members.find(name);
        assert!(place("inner") < place("portcullis"), "nearest to the client comes last: {members}");
    }
}
