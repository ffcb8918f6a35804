//! What is stored, and for what a stored answer is used (RFC 9111 §3, §3.3, §4, §5.2.2).

use crate::harness::{Client, Gateway, HEAD, Origin, Reply};
use crate::stage::{APP, BOTH, Stage, date, fresh, ok, status};

#[test]
fn rfc9111_3_what_says_no_store_or_private_is_not_stored() {
    let future = date(100);
    Stage::new("{}").expect(&[
        (&[("Cache-Control", "no-store")], false),
        (&[("Cache-Control", "max-age=60, no-store")], false),
        (&[("Cache-Control", "private, max-age=60")], false),
        (&[("Cache-Control", "private, s-maxage=60")], false),
        (&[("Cache-Control", "no-store"), ("Expires", &future)], false),
        (&[("Cache-Control", "max-age=60"), ("Cache-Control", "no-store")], false),
    ]);
}

#[test]
fn rfc9111_3_any_final_status_with_an_explicit_lifetime_is_stored() {
    let stage = Stage::new("{}");
    for code in [200, 203, 204, 299, 301, 302, 307, 308, 400, 403, 404, 410, 418, 499, 500, 503, 599] {
        let given = status(code, &[("Cache-Control", "max-age=60"), ("Location", "/app/elsewhere")]);
        assert!(stage.reuses(APP, given), "{code}");
    }
}

#[test]
fn rfc9111_5_2_2_3_must_understand_asks_for_a_status_that_is_known() {
    let stage = Stage::new("{}");
    for (code, directives, is_reused) in [
        (200, "must-understand, max-age=60", true),
        (200, "must-understand, no-store, max-age=60", true),
        (404, "must-understand, no-store, max-age=60", true),
        (299, "must-understand, max-age=60", false),
        (599, "must-understand, no-store, max-age=60", false),
    ] {
        let given = status(code, &[("Cache-Control", directives)]);
        assert_eq!(stage.reuses(APP, given), is_reused, "{code} {directives}");
    }
}

#[test]
fn rfc9111_3_answers_to_other_methods_are_no_answers_to_get() {
    let stage = Stage::new("{}");
    for way in BOTH {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let target = stage.target(way, &[fresh(60)]);
            stage.send(method, &target);
            stage.send(method, &target);
            assert_eq!(stage.asked(&target).len(), 2, "{way} {method}: each is sent on");
            assert_eq!(stage.get(&target).text(), "v2", "{way} {method}: and stored nothing");
        }
    }
}

#[test]
fn rfc9111_4_head_is_answered_from_what_get_brought() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage
            .target(way, &[ok(&[("Cache-Control", "max-age=60"), ("X-Mark", "kept")]).body("0123456789")]);
        stage.get(&target);
        let head = stage.send("HEAD", &target);
        assert_eq!(stage.asked(&target).len(), 1, "{way}: nobody asks again");
        assert_eq!((head.status, head.header("x-mark")), (200, Some("kept")), "{way}");
        assert_eq!(head.header("content-length"), Some("10"), "{way}: of the body that GET would bring");
    }
}

#[test]
fn rfc9111_5_2_2_4_a_field_named_by_no_cache_is_not_given_without_asking() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let given = ok(&[
            ("Cache-Control", "max-age=60, no-cache=\"x-mine\""),
            ("X-Mine", "yours"),
            ("X-Other", "b"),
        ]);
        let target = stage.target(way, &[given]);
        stage.get(&target);
        let second = stage.get(&target);
        if stage.asked(&target).len() == 1 {
            assert_eq!(second.header("x-mine"), None, "{way}: not without validation");
            assert_eq!(second.header("x-other"), Some("b"), "{way}: the rest is");
        }
    }
}

#[test]
fn rfc9111_5_2_2_7_a_field_named_by_private_is_not_given_to_others() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let given =
            ok(&[("Cache-Control", "max-age=60, private=\"x-mine\""), ("X-Mine", "yours"), ("X-Other", "b")]);
        let target = stage.target(way, &[given]);
        stage.get(&target);
        let second = stage.get(&target);
        if stage.asked(&target).len() == 1 {
            assert_eq!(second.header("x-mine"), None, "{way}");
            assert_eq!(second.header("x-other"), Some("b"), "{way}: the rest is");
        }
    }
}

#[test]
fn rfc9111_3_3_half_an_answer_is_not_stored_as_a_whole_one() {
    let half = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n01234";
    let half_chunked =
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n";
    for bytes in [half.as_slice(), half_chunked.as_slice()] {
        let bytes = bytes.to_vec();
        let origin = Origin::start(move |_| Reply::RawThenClose(bytes.clone()));
        let yaml = format!(
            "{HEAD}accessLog: off\nupstreams: {{ web: {{ kind: app, url: \"{}\", retry: {{ on: [] }} }} }}\nroutes: [{{ name: all, match: {{ \
             path: {{ prefix: / }} }}, upstream: web, cache: {{}} }}]\n",
            origin.url()
        );
        let gateway = Gateway::start(&yaml);
        for _ in 0..2 {
            let mut client = Client::connect(gateway.address());
            client.send(b"GET /x HTTP/1.1\r\nHost: app.example\r\n\r\n");
            let answer = client.try_read("GET");
            assert!(
                answer.is_none_or(|answer| answer.cut || answer.status == 502),
                "never given as a whole one"
            );
        }
        assert_eq!(origin.count(), 2, "nothing was stored");
    }
}

#[test]
fn rfc9111_7_3_an_answer_with_set_cookie_is_stored_only_where_that_is_said() {
    let fields: &[(&str, &str)] = &[("Cache-Control", "max-age=60"), ("Set-Cookie", "a=b")];
    let stage = Stage::new("{}");
    assert!(!stage.reuses(APP, ok(fields)), "it may be one person's");
    let target = stage.target("/api", &[ok(fields)]);
    for _ in 0..2 {
        assert_eq!(stage.get(&target).header("set-cookie"), None, "an `api`'s is never given");
    }
}

#[test]
fn rfc9111_7_3_and_where_it_is_said_the_cookie_is_given_to_all() {
    let stage = Stage::app("{ setCookie: store }");
    let given = ok(&[("Cache-Control", "max-age=60"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")]);
    let target = stage.target(APP, &[given]);
    for _ in 0..2 {
        assert_eq!(stage.get(&target).all("set-cookie"), ["a=b", "c=d"]);
    }
    assert_eq!(stage.asked(&target).len(), 1, "the second is from the store");
}

#[test]
fn rfc9111_5_2_2_9_public_alone_is_no_lifetime() {
    Stage::new("{}").expect(&[(&[("Cache-Control", "public")], false)]);
}

#[test]
fn rfc9111_2_the_host_is_a_part_of_what_is_asked_for() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60)]);
        for (host, body) in
            [("app.example", "v0"), ("other.example", "v1"), ("APP.example", "v0"), ("other.example", "v1")]
        {
            assert_eq!(stage.get_with(&target, &[("Host", host)]).text(), body, "{way} {host}");
        }
    }
}

#[test]
fn rfc9110_9_3_2_what_answered_a_head_is_never_given_as_the_body_of_a_get() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60).body("0123456789")]);
        let head = stage.send("HEAD", &target);
        assert_eq!((head.status, head.body.len()), (200, 0), "{way}");
        let get = stage.get(&target);
        assert_eq!((get.status, get.text().as_str()), (200, "0123456789"), "{way}");
    }
}

#[test]
fn rfc9110_6_5_1_a_trailer_is_not_made_a_header_field() {
    let chunked = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\
        Trailer: X-Kept\r\n\r\n5\r\n01234\r\n0\r\nX-Kept: trailing\r\nCache-Control: no-store\r\n\r\n";
    let origin = Origin::start(move |_| Reply::Raw(chunked.to_vec()));
    let gateway = Gateway::start(&format!(
        "{HEAD}accessLog: off\nupstreams: {{ web: {{ kind: app, url: \"{}\", retry: {{ on: [] }} }} }}\nroutes: [{{ name: all, match: {{ \
         path: {{ prefix: / }} }}, upstream: web, cache: {{}} }}]\n",
        origin.url()
    ));
    for turn in ["from the origin", "from the store"] {
        let answer = gateway.get("/x");
        assert_eq!((answer.status, answer.text().as_str()), (200, "01234"), "{turn}");
        assert_eq!(answer.header("x-kept"), None, "{turn}");
    }
    assert_eq!(origin.count(), 1, "what a trailer says of storing comes too late");
}
