//! Answers past their lifetime (RFC 9111 §4.2.4, §5.2.2.2, §5.2.2.8, §5.2.2.10; RFC 5861).

use crate::stage::{APP, BOTH, Given, Stage, cache_status, dead, fresh, ok, stale, status};

/// Stores the first and asks again, when the origin answers with the second.
fn second(stage: &Stage, way: &str, first: Given, then: Given) -> crate::harness::Answer {
    let target = stage.target(way, &[first, then]);
    assert_eq!(stage.get(&target).text(), "v0");
    stage.get(&target)
}

#[test]
fn rfc5861_3_a_stale_answer_within_its_window_is_given_at_once_and_refreshed_behind_it() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[stale("stale-while-revalidate=60", &[]), fresh(60)]);
        stage.get(&target);
        let at_once = stage.get(&target);
        assert_eq!(at_once.text(), "v0", "{way}: nobody waits");
        eventually!(stage.asked(&target).len() == 2, "{way}: it is refreshed");
        eventually!(stage.get(&target).text() == "v1", "{way}: the new one is given");
        assert_eq!(stage.asked(&target).len(), 2, "{way}: asked once");
    }
}

#[test]
fn rfc5861_3_not_after_its_window() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let first = ok(&[("Cache-Control", "max-age=10, stale-while-revalidate=20"), ("Age", "30")]);
        assert_eq!(second(&stage, way, first, fresh(60)).text(), "v1", "{way}");
    }
}

#[test]
fn rfc5861_4_a_stale_answer_within_its_window_stands_in_for_an_error() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for code in [500, 502, 503, 504] {
            let answer = second(&stage, way, stale("stale-if-error=60", &[]), status(code, &[]));
            assert_eq!((answer.status, answer.text().as_str()), (200, "v0"), "{way} {code}");
        }
        let answer = second(&stage, way, stale("stale-if-error=60", &[]), dead());
        assert_eq!((answer.status, answer.text().as_str()), (200, "v0"), "{way}: the connection closes");
    }
}

#[test]
fn rfc5861_4_but_not_for_another_answer_nor_after_its_window() {
    let stage = Stage::new("{}");
    for code in [404, 410, 429] {
        let answer = second(&stage, APP, stale("stale-if-error=60", &[]), status(code, &[]));
        assert_eq!(answer.status, code, "that is an answer");
    }
    let first = ok(&[("Cache-Control", "max-age=10, stale-if-error=20"), ("Age", "30")]);
    assert_eq!(second(&stage, APP, first, status(503, &[])).status, 503);
}

#[test]
fn rfc9111_4_2_4_without_leave_nothing_stale_is_given() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let answer = second(&stage, way, stale("", &[]), dead());
        assert!(answer.status >= 500, "{way}: {}", answer.status);
        assert_ne!(answer.text(), "v0", "{way}");
    }
}

#[test]
fn rfc9111_4_2_4_what_forbids_stale_answers_is_stronger_than_any_leave() {
    let leave = "stale-while-revalidate=60, stale-if-error=60";
    for cache in ["{}", "{ staleWhileRevalidate: 1h, staleIfError: 1h }"] {
        let stage = Stage::new(cache);
        for way in BOTH {
            for forbids in ["must-revalidate", "proxy-revalidate", "no-cache"] {
                let answer = second(&stage, way, stale(&format!("{leave}, {forbids}"), &[]), dead());
                assert!(answer.status >= 500, "{way} {cache} {forbids}: {} {}", answer.status, answer.text());
                assert_ne!(answer.text(), "v0", "{way} {cache} {forbids}");
                let answer = second(&stage, way, stale(&format!("{leave}, {forbids}"), &[]), fresh(60));
                assert_eq!(answer.text(), "v1", "{way} {cache} {forbids}: not even while it is refreshed");
            }
        }
    }
}

/// A shared cache's own lifetime is one that it must keep (§5.2.2.10), unless the origin gives the leave in the same breath.
#[test]
fn rfc9111_5_2_2_10_s_maxage_alone_forbids_stale_answers_whatever_the_route_says() {
    let stage = Stage::new("{ staleWhileRevalidate: 1h, staleIfError: 1h }");
    for way in BOTH {
        let past = || stale("s-maxage=10", &[("ETag", "\"a\"")]);
        let answer = second(&stage, way, past(), dead());
        assert!(answer.status >= 500 && answer.text() != "v0", "{way}: {} {}", answer.status, answer.text());
        assert_eq!(second(&stage, way, past(), fresh(60)).text(), "v1", "{way}");
    }
}

#[test]
fn rfc9111_4_2_4_a_stale_answer_says_how_old_it_is_and_how_long_it_has_been_stale() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let answer = second(&stage, way, stale("stale-if-error=60", &[]), status(503, &[]));
        assert!(
            answer.header("age").is_some_and(|age| age.parse::<u64>().is_ok_and(|age| age >= 10)),
            "{way}"
        );
        let ttl = cache_status(&answer).into_iter().find_map(|p| p.strip_prefix("ttl=").map(str::to_owned));
        assert!(
            ttl.is_some_and(|ttl| ttl.parse::<i64>().is_ok_and(|ttl| ttl <= 0)),
            "{way}: {:?}",
            cache_status(&answer)
        );
    }
}

#[test]
fn rfc9112_9_6_a_connection_that_ends_after_a_stale_answer_says_so() {
    let stage = Stage::new("{ staleIfError: 1h }");
    for way in BOTH {
        let target = stage.target(way, &[stale("", &[]), dead()]);
        stage.get(&target);
        let mut client = crate::harness::Client::connect(stage.gateway.address());
        let answer = client.request("GET", &target, &[], b"");
        assert_eq!(answer.text(), "v0", "{way}");
        let ends = answer.all("connection").iter().any(|value| value.eq_ignore_ascii_case("close"));
        let other = stage.target(way, &[fresh(60)]);
        assert!(ends || client.request("GET", &other, &[], b"").status == 200, "{way}");
    }
}

#[test]
fn rfc5861_3_a_refresh_that_fails_leaves_the_stale_answer_within_its_window() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(
            way,
            &[stale("stale-while-revalidate=60, stale-if-error=60", &[]), status(503, &[]), fresh(60)],
        );
        stage.get(&target);
        assert_eq!(stage.get(&target).text(), "v0", "{way}");
        eventually!(stage.asked(&target).len() == 2, "{way}: a refresh was tried");
        eventually!(stage.get(&target).text() == "v2", "{way}: and another after that");
    }
}

#[test]
fn rfc9111_5_2_2_2_an_answer_that_must_be_asked_about_is_an_error_when_nobody_answers() {
    let stage = Stage::new("{ staleIfError: 1h }");
    for way in BOTH {
        let answer = second(&stage, way, stale("must-revalidate", &[("ETag", "\"a\"")]), dead());
        assert!((500..600).contains(&answer.status) && !answer.contains(b"v0"), "{way}: {}", answer.status);
    }
}
