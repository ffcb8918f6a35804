//! What makes two requests different: query, declared headers, host, route, `Vary`; and what never takes part.

use crate::cache_gate::{BOTH, cache_status, gateway, is_hit};
use crate::harness::{Gateway, Origin, response, response_bytes};

/// An origin that answers with the target and the fields that it got.
fn echo(vary: &'static str) -> Origin {
    Origin::start(move |request| {
        let language = request.all("accept-language").join("|");
        let body = format!("{} [{language}]", request.target());
        let mut headers = vec![("Cache-Control", "max-age=60")];
        if !vary.is_empty() {
            headers.push(("Vary", vary));
        }
        response(200, &headers, body.as_bytes())
    })
}

#[test]
fn the_order_of_the_query_makes_another_entry() {
    let origin = echo("");
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        gateway.get(&format!("{way}?a=1&b=2"));
        assert!(is_hit(&gateway.get(&format!("{way}?a=1&b=2"))), "{way}: the same");
        assert!(!is_hit(&gateway.get(&format!("{way}?b=2&a=1"))), "{way}: order may matter to the upstream");
        assert!(!is_hit(&gateway.get(way)), "{way}: none");
    }
}

#[test]
fn an_ignored_parameter_is_neither_in_the_key_nor_sent() {
    let origin = echo("");
    let gateway = gateway(&origin, &["cache: { key: { query: { ignore: [\"utm_*\", fbclid] } } }"]);
    for way in BOTH {
        let before = origin.count();
        gateway.get(&format!("{way}/x?utm_source=evil&a=1&fbclid=2"));
        assert_eq!(origin.last().target(), format!("{way}/x?a=1"), "the upstream does not see it");
        for query in ["?a=1", "?a=1&utm_campaign=x", "?fbclid=9&a=1"] {
            let answer = gateway.get(&format!("{way}/x{query}"));
            assert!(is_hit(&answer), "{way}{query}: {}", cache_status(&answer));
        }
        gateway.get(&format!("{way}/y?utm_a"));
        assert_eq!(origin.last().target(), format!("{way}/y"), "no query is left, nor its mark");
        assert!(!is_hit(&gateway.get(&format!("{way}/x?a=1&utm=1"))), "`utm` is another name");
        assert_eq!(origin.count() - before, 3, "{way}");
    }
}

#[test]
fn what_a_rewrite_drops_of_the_query_is_not_in_the_key() {
    let origin = echo("");
    let gateway =
        gateway(&origin, &["rewrite: { query: { keep: [city], set: { units: metric } } }", "cache: {}"]);
    for way in BOTH {
        let before = origin.count();
        gateway.get(&format!("{way}/x?city=Ulm&bust=1&units=imperial"));
        let sent = origin.last().target().to_owned();
        assert_eq!(sent, format!("{way}/x?city=Ulm&units=metric"), "what makes the answer");
        for query in ["?city=Ulm", "?bust=2&city=Ulm", "?city=Ulm&units=other"] {
            assert!(is_hit(&gateway.get(&format!("{way}/x{query}"))), "{way}{query}");
        }
        for query in ["?city=Bonn", "?c%69ty=Ulm", ""] {
            assert!(
                !is_hit(&gateway.get(&format!("{way}/x{query}"))),
                "{way}{query}: the upstream sees another"
            );
        }
        assert_eq!(origin.count() - before, 4, "{way}");
    }
}

#[test]
fn declared_headers_make_entries_of_their_own() {
    let origin = echo("");
    let gateway = gateway(&origin, &["cache: { key: { headers: [accept-language] } }"]);
    for way in BOTH {
        let ask =
            |value: &str| gateway.request("GET", &format!("{way}/x"), &[("Accept-Language", value)], b"");
        assert_eq!(ask("de").text(), format!("{way}/x [de]"));
        assert_eq!(ask("en").text(), format!("{way}/x [en]"), "not the other's answer");
        assert!(is_hit(&ask("de")) && is_hit(&ask("en")), "both are kept");
    }
}

#[test]
fn every_line_of_a_declared_header_is_in_the_key() {
    let origin = echo("");
    let gateway = gateway(&origin, &["cache: { key: { headers: [accept-language] } }"]);
    for way in BOTH {
        let two = [("Accept-Language", "de"), ("Accept-Language", "evil")];
        gateway.request("GET", &format!("{way}/x"), &two, b"");
        assert_eq!(origin.last().all("accept-language").len(), 2, "the upstream sees both");
        let one = gateway.request("GET", &format!("{way}/x"), &[("Accept-Language", "de")], b"");
        assert_eq!(one.text(), format!("{way}/x [de]"), "not what somebody with a second line was told");
    }
}

#[test]
fn a_declared_header_that_is_absent_is_not_an_empty_one() {
    let origin = Origin::start(|request| {
        let body = if request.header("accept-language").is_some() { "there" } else { "absent" };
        response(200, &[("Cache-Control", "max-age=60")], body.as_bytes())
    });
    let gateway = gateway(&origin, &["cache: { key: { headers: [accept-language] } }"]);
    for way in BOTH {
        let empty = gateway.request("GET", &format!("{way}/x"), &[("Accept-Language", "")], b"");
        let absent = gateway.get(&format!("{way}/x"));
        assert_eq!((empty.text().as_str(), absent.text().as_str()), ("there", "absent"), "{way}");
    }
}

#[test]
fn hosts_and_routes_do_not_share() {
    let origin = echo("");
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        let ask = |host: &str| gateway.request("GET", &format!("{way}/x"), &[("Host", host)], b"");
        assert!(!is_hit(&ask("a.example")), "{way}: first");
        assert!(is_hit(&ask("A.Example")), "{way}: a host has no case");
        assert!(!is_hit(&ask("b.example")), "{way}: another host");
        assert!(!is_hit(&ask("a.example:81")), "{way}: another port");
    }
    assert_eq!(origin.count(), 6);
}

#[test]
fn a_get_with_a_body_is_never_cached() {
    let origin = echo("");
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        let target = format!("{way}/x");
        let fat = gateway.request("GET", &target, &[], b"{\"poison\":1}");
        assert_eq!((fat.status, cache_status(&fat).contains("bypass")), (200, true), "{way}: {fat:?}");
        let plain = gateway.get(&target);
        assert!(!is_hit(&plain), "{way}: it left nothing behind: {}", cache_status(&plain));
        let fat = gateway.request("GET", &target, &[], b"{\"poison\":1}");
        assert!(!is_hit(&fat), "{way}: nor is it answered from the store");
    }
}

#[test]
fn vary_keeps_the_variants_apart() {
    let origin = echo("Accept-Language");
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        let ask =
            |value: &str| gateway.request("GET", &format!("{way}/x"), &[("Accept-Language", value)], b"");
        assert_eq!(ask("de").text(), format!("{way}/x [de]"));
        let english = ask("en");
        assert_eq!(english.text(), format!("{way}/x [en]"), "not the other's answer");
        assert!(cache_status(&english).contains("fwd=vary-miss"), "{}", cache_status(&english));
        for _ in 0..2 {
            assert_eq!((ask("de").text(), is_hit(&ask("de"))), (format!("{way}/x [de]"), true), "kept");
            assert_eq!((ask("en").text(), is_hit(&ask("en"))), (format!("{way}/x [en]"), true), "kept");
        }
    }
}

#[test]
fn accept_encoding_selects_by_what_it_means() {
    let origin = Origin::start(|request| {
        let gzip = request.header("accept-encoding").is_some_and(|value| value.contains("gzip"));
        let vary = ("Vary", "Accept-Encoding");
        let fresh = ("Cache-Control", "max-age=60");
        if gzip {
            response(200, &[vary, fresh, ("Content-Encoding", "gzip")], b"\x1f\x8b")
        } else {
            response(200, &[vary, fresh], b"plain")
        }
    });
    let gateway = gateway(&origin, &["cache: {}"]);
    // An api is not told what the client accepts.
    let ask = |value: &str| gateway.request("GET", "/app/x", &[("Accept-Encoding", value)], b"");
    assert_eq!(ask("gzip, br").header("content-encoding"), Some("gzip"));
    assert!(is_hit(&ask("BR,x-gzip;q=1.0, zstd;q=0")), "the same in other words");
    let picky = ask("br;q=0.9, gzip");
    assert_eq!((picky.header("content-encoding"), is_hit(&picky)), (Some("gzip"), false), "another wish");
    let plain = ask("identity");
    assert_eq!((plain.text().as_str(), is_hit(&plain)), ("plain", false), "never a coding not asked for");
    let none = gateway.get("/app/x");
    assert_eq!((none.text().as_str(), is_hit(&none)), ("plain", false), "no field: any coding would do");
}

#[test]
fn an_entry_of_a_shaped_route_is_stored_shaped() {
    let origin = Origin::start(|_| {
        response(
            200,
            &[("Content-Type", "application/json"), ("Cache-Control", "max-age=60"), ("ETag", "\"v1\"")],
            br#"{"a":1,"secret":2}"#,
        )
    });
    let gateway = gateway(&origin, &["cache: {}", "response: { json: { remove: [\"$.secret\"] } }"]);
    for way in BOTH {
        let first = gateway.get(&format!("{way}/x"));
        let second = gateway.get(&format!("{way}/x"));
        assert!(is_hit(&second), "{way}: {}", cache_status(&second));
        assert_eq!((first.text().as_str(), second.text().as_str()), (r#"{"a":1}"#, r#"{"a":1}"#), "{way}");
        assert_eq!(second.header("content-length"), Some("7"), "{way}: the length of what is sent");
        assert_eq!(second.header("etag"), Some("W/\"v1\""), "{way}: equivalent, not identical");
    }
}

#[test]
fn a_reload_of_the_shape_does_not_serve_bodies_of_the_old_rules() {
    let origin = Origin::start(|_| {
        crate::harness::Reply::Raw(response_bytes(
            200,
            &[("Content-Type", "application/json"), ("Cache-Control", "max-age=60")],
            br#"{"a":1,"b":2,"c":3}"#,
        ))
    });
    let with = |rules: &str| {
        crate::cache_gate::yaml(&origin, &["cache: {}", &format!("response: {{ json: {rules} }}")])
    };
    let gateway = Gateway::start(&with("{ remove: [\"$.b\"] }"));
    for way in BOTH {
        assert_eq!(gateway.get(&format!("{way}/x")).text(), r#"{"a":1,"c":3}"#);
    }
    gateway.write_config(&with("{ remove: [\"$.c\"] }"));
    for way in BOTH {
        eventually!(gateway.get(&format!("{way}/x")).text() == r#"{"a":1,"b":2}"#, "{way}: the new rules");
        let hit = gateway.get(&format!("{way}/x"));
        assert_eq!((hit.text().as_str(), is_hit(&hit)), (r#"{"a":1,"b":2}"#, true), "{way}");
    }
}

#[test]
fn a_reload_of_something_else_keeps_the_cache_warm() {
    let origin = echo("");
    let yaml = crate::cache_gate::yaml(&origin, &["cache: {}"]);
    let gateway = Gateway::start(&yaml);
    for way in BOTH {
        gateway.get(&format!("{way}/x"));
    }
    gateway.write_config(
        &(yaml + "  - { name: new, match: { path: { exact: /new } }, respond: { text: new } }\n"),
    );
    eventually!(gateway.get("/new").status == 200, "the new route");
    for way in BOTH {
        let answer = gateway.get(&format!("{way}/x"));
        assert!(is_hit(&answer), "{way}: {}", cache_status(&answer));
    }
}

/// What each client got; the origin answers with who asks.
fn asked(share: &str, kind: &str, requests: &[(&str, &str)]) -> (Vec<String>, usize) {
    let origin = Origin::start(|request| {
        let who = [request.header("authorization"), request.header("cookie")]
            .map(Option::unwrap_or_default)
            .join("|");
        response(200, &[], who.as_bytes())
    });
    let yaml = format!(
        "version: 1\nlisteners: [{{ name: public, address: '127.0.0.1:0' }}]\naccessLog: off\n\
         upstreams: {{ up: {{ kind: {kind}, url: '{}', allowPrivate: true }} }}\n\
         routes: [{{ name: r, match: {{ path: {{ prefix: / }}, methods: [GET], headers: [{{ name: x-any }}] }}, upstream: up, \
         request: {{ headers: {{ forward: [authorization] }}, cookies: {{ forward: [session] }} }}, \
         cache: {{ ttl: 60s, mode: override, share: {share} }} }}]\n",
        origin.url()
    );
    let gateway = Gateway::start(&yaml);
    let got = requests
        .iter()
        .map(|(name, value)| gateway.request("GET", "/x", &[("x-any", "1"), (name, value)], b"").text())
        .collect();
    (got, origin.count())
}

#[test]
fn an_answer_for_one_identity_is_given_to_no_other() {
    let requests = [
        ("authorization", "Bearer a"),
        ("authorization", "Bearer b"),
        ("cookie", "session=1; lang=no"),
        ("cookie", "session=2"),
        ("cookie", "lang=en; session=1"),
        ("authorization", "Bearer a"),
        ("cookie", "other=1"),
        ("cookie", "other=2"),
    ];
    for kind in ["api", "app"] {
        let (got, calls) = asked("perIdentity", kind, &requests);
        assert_eq!(
            got,
            ["Bearer a|", "Bearer b|", "|session=1", "|session=2", "|session=1", "Bearer a|", "|", "|"],
            "{kind}: cookies that do not pass make no difference"
        );
        assert_eq!(calls, 5, "{kind}: one for each identity, and one for nobody");
    }
}

#[test]
fn an_answer_that_is_said_to_be_public_is_given_to_all() {
    for kind in ["api", "app"] {
        let (got, calls) = asked(
            "public",
            kind,
            &[("authorization", "Bearer a"), ("cookie", "session=1"), ("accept", "*/*")],
        );
        assert_eq!(
            (got.as_slice(), calls),
            (["Bearer a|", "Bearer a|", "Bearer a|"].map(str::to_owned).as_slice(), 1),
            "{kind}"
        );
    }
}
