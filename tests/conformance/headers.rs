//! Which fields are stored and given again (RFC 9111 §3.1, RFC 9110 §7.6.1, §6.6.1).

use crate::stage::{APP, BOTH, Stage, date, ok};

#[test]
fn rfc9111_3_1_every_field_is_stored_known_or_not_in_its_order() {
    let stage = Stage::new("{}");
    let fields = [
        ("X-Unknown", "1"),
        ("X-Unknown", "2"),
        ("Content-Language", "de"),
        ("Content-Type", "text/plain;charset=utf-8"),
        ("Content-Security-Policy", "default-src 'self'"),
        ("X-Frame-Options", "DENY"),
        ("Content-Foo", "kept"),
    ];
    for way in BOTH {
        let target =
            stage.target(way, &[ok(&[&[("Cache-Control", "max-age=60")], fields.as_slice()].concat())]);
        stage.get(&target);
        let second = stage.get(&target);
        assert_eq!(second.all("x-unknown"), ["1", "2"], "{way}");
        for (name, value) in &fields[2..] {
            assert_eq!(second.all(name), [*value], "{way}: {name}");
        }
        assert_eq!(stage.asked(&target).len(), 1, "{way}");
    }
}

#[test]
fn rfc9111_3_1_what_is_meant_for_one_connection_is_not_stored() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let given = ok(&[
            ("Cache-Control", "max-age=60"),
            ("Connection", "x-once, X-Twice"),
            ("X-Once", "1"),
            ("X-Twice", "2"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Authentication-Info", "x"),
            ("Proxy-Authorization", "x"),
            ("X-Kept", "3"),
        ]);
        let target = stage.target(way, &[given]);
        for turn in ["from the origin", "from the store"] {
            let answer = stage.get(&target);
            for name in ["x-once", "x-twice", "keep-alive", "proxy-connection", "te", "upgrade"] {
                assert_eq!(answer.header(name), None, "{way}, {turn}: {name}");
            }
            assert_eq!(answer.header("x-kept"), Some("3"), "{way}, {turn}");
        }
        let stored = stage.get(&target);
        for name in ["proxy-authenticate", "proxy-authentication-info", "proxy-authorization"] {
            assert_eq!(stored.header(name), None, "{way}: {name}");
        }
        assert_eq!(stage.asked(&target).len(), 1, "{way}");
    }
}

#[test]
fn rfc9110_6_6_1_the_date_of_a_stored_answer_is_the_origins() {
    let stage = Stage::new("{}");
    let past = date(-20);
    for way in BOTH {
        let target = stage.target(way, &[ok(&[("Cache-Control", "max-age=60"), ("Date", &past)])]);
        for turn in ["from the origin", "from the store"] {
            assert_eq!(stage.get(&target).all("date"), [past.as_str()], "{way}, {turn}");
        }
    }
}

#[test]
fn rfc9110_6_6_1_an_answer_without_a_date_gets_one_when_it_comes() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[ok(&[("Cache-Control", "max-age=60")])]);
        for _ in 0..2 {
            assert_eq!(stage.get(&target).all("date").len(), 1, "{way}");
        }
    }
}

#[test]
fn rfc9111_5_1_age_and_framing_are_the_answers_own() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[ok(&[("Cache-Control", "max-age=600"), ("Age", "30")])]);
        stage.get(&target);
        let second = stage.get(&target);
        assert_eq!(second.all("age").len(), 1, "{way}: {:?}", second.headers);
        assert_eq!(second.all("content-length").len() + second.all("transfer-encoding").len(), 1, "{way}");
    }
}

#[test]
fn rfc9111_3_1_what_a_client_sent_is_nowhere_in_what_another_gets() {
    let stage = Stage::new("{}");
    let target = stage.target(APP, &[ok(&[("Cache-Control", "max-age=60")])]);
    stage.get_with(&target, &[("X-Mine", "canary-of-one"), ("User-Agent", "canary-of-one")]);
    let second = stage.get(&target);
    assert_eq!(second.text(), "v0");
    assert!(!second.contains(b"canary-of-one"));
}
