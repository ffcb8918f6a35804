//! What a client may ask of a cache (RFC 9111 §5.2.1, §5.4), where the route allows it. By default a stranger's word changes nothing.

use crate::harness::Answer;
use crate::stage::{BOTH, Given, Stage, fresh, ok, stale};

/// The second of two requests, with this `Cache-Control`; the answer, and whether the origin was asked again.
fn second(stage: &Stage, way: &str, given: Given, directives: &str) -> (Answer, bool) {
    let target = stage.target(way, &[given, fresh(60)]);
    stage.get(&target);
    let answer = stage.get_with(&target, &[("Cache-Control", directives)]);
    (answer, stage.asked(&target).len() > 1)
}

#[test]
fn rfc9111_5_2_1_where_the_route_does_not_say_so_they_change_nothing() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for directives in ["no-cache", "no-store", "max-age=0", "min-fresh=3600"] {
            assert!(!second(&stage, way, fresh(60), directives).1, "{way} {directives}");
        }
        assert_eq!(
            second(&stage, way, stale("", &[]), "max-stale").0.text(),
            "v1",
            "{way}: nor do they allow more"
        );
    }
}

#[test]
fn rfc9111_5_2_1_no_cache_and_a_lower_max_age_ask_the_origin() {
    let stage = Stage::new("{ requestDirectives: honor }");
    for way in BOTH {
        let old = || ok(&[("Cache-Control", "max-age=100"), ("Age", "50")]);
        for (given, directives, is_asked) in [
            (fresh(60), "no-cache", true),
            (fresh(60), "max-age=0", true),
            (old(), "max-age=40", true),
            (old(), "max-age=80", false),
            (old(), "min-fresh=80", true),
            (old(), "min-fresh=20", false),
            (fresh(60), "future", false),
        ] {
            assert_eq!(second(&stage, way, given, directives).1, is_asked, "{way} {directives}");
        }
    }
}

#[test]
fn rfc9111_5_4_pragma_no_cache_counts_where_there_is_no_cache_control() {
    let stage = Stage::new("{ requestDirectives: honor }");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60)]);
        stage.get(&target);
        stage.get_with(&target, &[("Pragma", "no-cache"), ("Cache-Control", "max-age=60")]);
        assert_eq!(stage.asked(&target).len(), 1, "{way}: Cache-Control counts");
        stage.get_with(&target, &[("Pragma", "no-cache")]);
        assert_eq!(stage.asked(&target).len(), 2, "{way}");
    }
}

#[test]
fn rfc9111_5_2_1_5_what_answers_a_request_with_no_store_is_not_stored() {
    let stage = Stage::new("{ requestDirectives: honor }");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60)]);
        stage.get_with(&target, &[("Cache-Control", "no-store")]);
        assert_eq!(stage.get(&target).text(), "v1", "{way}");
    }
}

#[test]
fn rfc9111_5_2_1_2_max_stale_allows_so_much() {
    let stage = Stage::new("{ requestDirectives: honor }");
    let past = || ok(&[("Cache-Control", "max-age=10"), ("Age", "40"), ("ETag", "\"a\"")]);
    for way in BOTH {
        for (directives, is_asked) in [("max-stale", false), ("max-stale=100", false), ("max-stale=20", true)]
        {
            assert_eq!(second(&stage, way, past(), directives).1, is_asked, "{way} {directives}");
        }
        for forbids in ["must-revalidate", "proxy-revalidate", "s-maxage=10"] {
            assert!(
                second(&stage, way, stale(forbids, &[("ETag", "\"a\"")]), "max-stale").1,
                "{way}: {forbids} is stronger"
            );
        }
    }
}

#[test]
fn rfc9111_5_2_1_7_only_if_cached_is_answered_from_the_store_or_with_504() {
    let stage = Stage::new("{ requestDirectives: honor }");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60)]);
        assert_eq!(stage.get_with(&target, &[("Cache-Control", "only-if-cached")]).status, 504, "{way}");
        assert_eq!(stage.asked(&target).len(), 0, "{way}: nobody asks the origin");
        stage.get(&target);
        assert_eq!(stage.get_with(&target, &[("Cache-Control", "only-if-cached")]).text(), "v0", "{way}");
    }
}

#[test]
fn rfc9111_4_3_a_client_that_asks_for_validation_gets_a_conditional_one() {
    let stage = Stage::new("{ requestDirectives: honor }");
    for way in BOTH {
        let given = ok(&[("Cache-Control", "max-age=60"), ("ETag", "\"a\"")]);
        let target = stage.target(way, &[given]);
        stage.get(&target);
        stage.get_with(&target, &[("Cache-Control", "no-cache")]);
        assert_eq!(stage.asked(&target)[1].header("if-none-match"), Some("\"a\""), "{way}");
    }
}

#[test]
fn rfc5861_4_1_a_client_may_allow_a_stale_answer_in_place_of_an_error() {
    let stage = Stage::new("{ requestDirectives: honor }");
    for way in BOTH {
        let past = || ok(&[("Cache-Control", "max-age=10"), ("Age", "40"), ("ETag", "\"a\"")]);
        for (directives, stands_in) in [("stale-if-error=100", true), ("stale-if-error=20", false)] {
            let target = stage.target(way, &[past(), crate::stage::status(503, &[])]);
            stage.get(&target);
            let answer = stage.get_with(&target, &[("Cache-Control", directives)]);
            assert_eq!(answer.text() == "v0", stands_in, "{way} {directives}");
        }
    }
}
