//! What a change makes stale (RFC 9111 §4.4).

use crate::stage::{BOTH, Given, Stage, fresh, status};

/// Stores `target`, sends the method to it with this answer, and says whether the stored one is asked about after that.
fn is_invalidated(stage: &Stage, way: &str, method: &str, answer: Given) -> bool {
    let target = stage.target(way, &[fresh(60), answer, fresh(60)]);
    assert_eq!(stage.get(&target).text(), "v0");
    stage.send(method, &target);
    stage.get(&target).text() != "v0"
}

#[test]
fn rfc9111_4_4_a_change_that_succeeded_makes_what_is_stored_for_its_url_stale() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            for code in [200, 201, 204, 303] {
                assert!(is_invalidated(&stage, way, method, status(code, &[])), "{way} {method} {code}");
            }
        }
    }
}

#[test]
fn rfc9111_4_4_a_method_nobody_knows_may_be_a_change() {
    let stage = Stage::new("{}");
    for method in ["M-SEARCH", "FROBNICATE", "get"] {
        assert!(is_invalidated(&stage, "/app", method, status(200, &[])), "{method}");
    }
}

#[test]
fn rfc9111_4_4_a_change_that_failed_makes_nothing_stale() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for code in [400, 404, 409, 500, 503] {
            assert!(!is_invalidated(&stage, way, "POST", status(code, &[])), "{way} {code}");
        }
    }
}

#[test]
fn rfc9111_4_4_a_safe_method_makes_nothing_stale() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for method in ["OPTIONS", "HEAD"] {
            assert!(!is_invalidated(&stage, way, method, status(200, &[])), "{way} {method}");
        }
    }
}

/// Whether a POST whose answer has this field makes what is stored for `other` stale. `{way}` and `{host}` are filled in.
fn reaches(stage: &Stage, way: &str, field: &str, value: &str, other: &str) -> bool {
    let here = stage.target(way, &[]);
    let other = other.replace("{way}", way);
    let value = value.replace("{way}", way).replace("{other}", &other);
    stage.tell(&here, &[status(201, &[(field, &value)])]);
    stage.tell(&other, &[fresh(60)]);
    stage.get(&other);
    stage.send("POST", &here);
    stage.get(&other).text() != "v0"
}

#[test]
fn rfc9111_4_4_location_and_content_location_of_the_same_origin_become_stale_too() {
    let stage = Stage::new("{}");
    for (at, field) in ["Location", "Content-Location"].into_iter().enumerate() {
        for (n, value) in
            ["{other}", "http://app.example{other}", "http://app.example:80{other}"].into_iter().enumerate()
        {
            let other = format!("{{way}}/there-{at}-{n}");
            assert!(reaches(&stage, "/app", field, value, &other), "{field}: {value}");
        }
        assert!(
            reaches(&stage, "/app", field, &format!("beside-{at}"), &format!("{{way}}/beside-{at}")),
            "{field}: relative"
        );
    }
}

#[test]
fn rfc9111_4_4_what_is_another_origins_is_left_alone() {
    let stage = Stage::new("{}");
    for (at, field) in ["Location", "Content-Location"].into_iter().enumerate() {
        for (n, value) in [
            "http://other.example{other}",
            "https://app.example{other}",
            "http://app.example:81{other}",
            "//other.example{other}",
        ]
        .into_iter()
        .enumerate()
        {
            let other = format!("{{way}}/left-{at}-{n}");
            assert!(!reaches(&stage, "/app", field, value, &other), "{field}: {value}");
        }
    }
}

#[test]
fn rfc9111_4_4_what_is_said_in_answer_to_a_safe_method_names_nothing_that_changed() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let other = format!("{way}/safe");
        stage.tell(&other, &[fresh(60)]);
        stage.get(&other);
        let here = stage.target(way, &[status(200, &[("Content-Location", &other)])]);
        stage.get(&here);
        assert_eq!(stage.get(&other).text(), "v0", "{way}");
    }
}

#[test]
fn rfc9111_4_4_every_variant_of_the_url_becomes_stale() {
    let stage = Stage::new("{}");
    let varied = crate::stage::ok(&[("Cache-Control", "max-age=60"), ("Vary", "X-A")]);
    let target = stage.target("/app", &[varied]);
    for value in ["1", "2"] {
        stage.get_with(&target, &[("X-A", value)]);
    }
    stage.send("DELETE", &target);
    for value in ["1", "2"] {
        stage.get_with(&target, &[("X-A", value)]);
    }
    assert_eq!(stage.asked(&target).len(), 5, "both are asked for again");
}

#[test]
fn rfc9111_4_4_a_change_to_one_url_leaves_the_others_alone() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for query in ["", "?a=1", "?a=2"] {
            stage.tell(&format!("{way}/list{query}"), &[fresh(60)]);
            stage.get(&format!("{way}/list{query}"));
        }
        stage.send("POST", &format!("{way}/list?a=1"));
        assert_eq!(
            stage.get(&format!("{way}/list?a=1")).text(),
            "v2",
            "{way}: the first was stored, the second changed it"
        );
        for query in ["", "?a=2"] {
            assert_eq!(stage.get(&format!("{way}/list{query}")).text(), "v0", "{way}{query}");
        }
    }
}
