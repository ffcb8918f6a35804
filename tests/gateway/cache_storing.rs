//! What is stored and for how long, and what never is; for both kinds of upstream.

use crate::cache_gate::{BOTH, cache_status, gateway, is_hit, is_stored, yaml};
use crate::harness::{Gateway, Origin, Received, Reply, response, response_bytes};

type Case = (&'static str, u16, &'static [(&'static str, &'static str)]);

/// Answers each path by the case that its last segment names; the body is the number of the request.
fn origin(cases: &'static [Case]) -> Origin {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Origin::start(move |request: &Received| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let name = request.target().rsplit('/').next().unwrap_or_default();
        let name = name.split('?').next().unwrap_or_default();
        let case = cases.iter().find(|(case, ..)| *case == name);
        case.map_or_else(
            || response(200, &[], format!("body {n}").as_bytes()),
            |(_, status, headers)| response(*status, headers, format!("body {n}").as_bytes()),
        )
    })
}

/// Asks twice for each case, both ways; what was not as expected.
fn stored_twice(lines: &[&str], cases: &'static [Case], headers: &[(&str, &str)], expected: bool) {
    let origin = origin(cases);
    let gateway = gateway(&origin, lines);
    for way in BOTH {
        for (name, status, _) in cases {
            let target = format!("{way}/{name}");
            let before = origin.count();
            let first = gateway.request("GET", &target, headers, b"");
            assert_eq!(first.status, *status, "{target}: {first:?}");
            assert!(!is_hit(&first), "{target}: the first cannot be a hit");
            assert_eq!(is_stored(&first), expected, "{target}: {}", cache_status(&first));
            let second = gateway.request("GET", &target, headers, b"");
            assert_eq!(is_hit(&second), expected, "{target}: {}", cache_status(&second));
            let asked = origin.count() - before;
            assert_eq!(asked, if expected { 1 } else { 2 }, "{target}: requests at the origin");
            if expected {
                assert_eq!(second.body, first.body, "{target}: the same answer");
            }
        }
    }
}

#[test]
fn an_empty_cache_section_keeps_what_the_upstream_says() {
    stored_twice(
        &["cache: {}"],
        &[
            ("max-age", 200, &[("Cache-Control", "max-age=60")]),
            ("s-maxage", 200, &[("Cache-Control", "max-age=0, s-maxage=60")]),
            ("expires", 200, &[("Expires", "Fri, 31 Dec 2100 23:59:59 GMT")]),
            ("moved", 301, &[("Cache-Control", "max-age=60"), ("Location", "/api/other")]),
        ],
        &[],
        true,
    );
}

#[test]
fn without_freshness_or_a_ttl_nothing_is_kept() {
    stored_twice(
        &["cache: {}"],
        &[
            ("silent", 200, &[]),
            ("over", 200, &[("Expires", "Mon, 01 Jan 2001 00:00:00 GMT")]),
            ("no-date", 200, &[("Expires", "0")]),
            ("zero", 200, &[("Cache-Control", "max-age=0")]),
            ("shared-zero", 200, &[("Cache-Control", "max-age=60, s-maxage=0")]),
            ("aged", 200, &[("Cache-Control", "max-age=60"), ("Age", "100")]),
        ],
        &[],
        false,
    );
}

#[test]
fn a_ttl_speaks_only_where_the_upstream_says_nothing() {
    let cases: &[Case] = &[
        ("silent", 200, &[]),
        ("zero", 200, &[("Cache-Control", "max-age=0")]),
        ("long", 200, &[("Cache-Control", "max-age=1000")]),
    ];
    let origin = origin(cases);
    let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
    for way in BOTH {
        for (name, ttl) in [("silent", Some(50..=60)), ("zero", None), ("long", Some(990..=1000))] {
            let target = format!("{way}/{name}");
            gateway.get(&target);
            let second = cache_status(&gateway.get(&target));
            let left =
                second.split("; ").find_map(|m| m.strip_prefix("ttl=")).and_then(|n| n.parse::<i64>().ok());
            match ttl {
                Some(range) => assert!(left.is_some_and(|left| range.contains(&left)), "{target}: {second}"),
                None => assert!(left.is_none(), "{target}: {second}"),
            }
        }
    }
}

#[test]
fn override_wins_over_the_upstreams_freshness_but_not_over_its_bans() {
    let lines = ["cache: { ttl: 60s, mode: override }"];
    stored_twice(
        &lines,
        &[
            ("zero", 200, &[("Cache-Control", "max-age=0")]),
            ("no-cache", 200, &[("Cache-Control", "no-cache")]),
            ("over", 200, &[("Expires", "Mon, 01 Jan 2001 00:00:00 GMT")]),
        ],
        &[],
        true,
    );
    stored_twice(
        &lines,
        &[
            ("no-store", 200, &[("Cache-Control", "no-store")]),
            ("private", 200, &[("Cache-Control", "private")]),
        ],
        &[],
        false,
    );
}

#[test]
fn what_may_not_be_shared_is_never_stored() {
    stored_twice(
        &["cache: { ttl: 60s }"],
        &[
            ("no-store", 200, &[("Cache-Control", "no-store, max-age=60")]),
            ("private", 200, &[("Cache-Control", "private, max-age=60")]),
            ("private-field", 200, &[("Cache-Control", "private=\"vary\", max-age=60")]),
            ("targeted", 200, &[("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=60")]),
            ("page.css", 200, &[("Cache-Control", "max-age=60"), ("Content-Type", "text/html")]),
            ("no-cache", 200, &[("Cache-Control", "no-cache")]),
            ("star", 200, &[("Cache-Control", "max-age=60"), ("Vary", "*")]),
            ("error", 500, &[]),
            ("busy", 503, &[("Retry-After", "1")]),
        ],
        &[],
        false,
    );
}

#[test]
fn a_field_that_private_names_is_not_stored_and_the_rest_is() {
    let cases: &[Case] = &[(
        "me",
        200,
        &[("Cache-Control", "private=\"x-user\", max-age=60"), ("X-User", "ann"), ("X-Other", "1")],
    )];
    let origin = origin(cases);
    let gateway = gateway(&origin, &["cache: {}"]);
    let first = gateway.get("/app/me");
    assert_eq!(first.header("x-user"), Some("ann"), "for whom it was made");
    let second = gateway.get("/app/me");
    assert!(is_hit(&second), "{}", cache_status(&second));
    assert_eq!((second.header("x-user"), second.header("x-other")), (None, Some("1")), "for everybody else");
}

#[test]
fn a_targeted_field_comes_before_cache_control_and_is_passed_on() {
    stored_twice(
        &["cache: {}"],
        &[(
            "cdn",
            200,
            &[("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store"), ("Expires", "0")],
        )],
        &[],
        true,
    );
    let cases: &[Case] = &[("cdn", 200, &[("CDN-Cache-Control", "max-age=60")])];
    let origin = origin(cases);
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        for _ in 0..2 {
            let answer = gateway.get(&format!("{way}/cdn"));
            assert_eq!(
                answer.header("cdn-cache-control"),
                Some("max-age=60"),
                "{way}: for a cache in front of us"
            );
        }
    }
}

#[test]
fn a_page_under_the_path_of_a_file_is_told_as_deception() {
    let cases: &[Case] =
        &[("account.css", 200, &[("Cache-Control", "public, max-age=60"), ("Content-Type", "text/html")])];
    let origin = origin(cases);
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        let status = cache_status(&gateway.get(&format!("{way}/account.css")));
        assert!(status.contains("detail=deception"), "{way}: {status}");
    }
}

#[test]
fn an_app_may_store_what_sets_a_cookie_where_the_upstream_says_for_how_long() {
    let cases: &[Case] = &[
        ("lang", 200, &[("Cache-Control", "max-age=60"), ("Set-Cookie", "lang=de")]),
        ("silent", 200, &[("Set-Cookie", "sid=1")]),
    ];
    let origin = origin(cases);
    let gateway =
        Gateway::start(&format!("{}    cache: {{ ttl: 60s, setCookie: store }}\n", yaml(&origin, &[])));
    gateway.get("/app/lang");
    let second = gateway.get("/app/lang");
    assert!(is_hit(&second), "{}", cache_status(&second));
    assert_eq!(second.all("set-cookie"), ["lang=de"], "the same for everybody");
    gateway.get("/app/silent");
    assert!(!is_hit(&gateway.get("/app/silent")), "not by `ttl`");
}

#[test]
fn freshness_is_guessed_where_the_route_says_so() {
    stored_twice(
        &["cache: { heuristic: 1h }"],
        &[("old", 200, &[("Last-Modified", "Mon, 01 Jan 2001 00:00:00 GMT")])],
        &[],
        true,
    );
}

#[test]
fn an_answer_that_sets_a_cookie_is_not_stored_by_an_app_and_loses_it_from_an_api() {
    let cases: &[Case] =
        &[("login", 200, &[("Cache-Control", "public, max-age=60"), ("Set-Cookie", "sid=1; Path=/")])];
    let origin = origin(cases);
    let gateway = gateway(&origin, &["cache: {}"]);
    for _ in 0..2 {
        let answer = gateway.get("/app/login");
        assert!(!is_hit(&answer) && !is_stored(&answer), "somebody's session: {}", cache_status(&answer));
        assert_eq!(answer.all("set-cookie").len(), 1, "it passes from an app");
    }
    for _ in 0..2 {
        let answer = gateway.get("/api/login");
        assert_eq!(answer.header("set-cookie"), None, "removed from an api, stored or not");
    }
}

#[test]
fn a_forwarded_authorization_is_shared_only_where_the_upstream_allows_it() {
    let headers = [("Authorization", "Bearer client-token")];
    let cases: &[Case] = &[
        ("plain", 200, &[("Cache-Control", "max-age=60")]),
        ("public", 200, &[("Cache-Control", "public, max-age=60")]),
        ("s-maxage", 200, &[("Cache-Control", "s-maxage=60")]),
    ];
    let origin = origin(cases);
    let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
    for (name, shared) in [("plain", false), ("public", true), ("s-maxage", true)] {
        let target = format!("/app/{name}");
        gateway.request("GET", &target, &headers, b"");
        assert!(origin.last().header("authorization").is_some(), "it reaches an app");
        let second = gateway.request("GET", &target, &headers, b"");
        assert_eq!(is_hit(&second), shared, "{target}: {}", cache_status(&second));
    }
    gateway.request("GET", "/api/plain", &headers, b"");
    assert_eq!(origin.last().header("authorization"), None, "an api does not get it");
    assert!(is_hit(&gateway.request("GET", "/api/plain", &headers, b"")), "so it does not matter there");
}

#[test]
fn a_request_with_cookies_is_stored_by_an_api_and_by_an_app_only_where_it_says_so() {
    let headers = [("Cookie", "sid=1")];
    let cases: &[Case] = &[
        ("plain", 200, &[("Cache-Control", "max-age=60")]),
        ("public", 200, &[("Cache-Control", "public, max-age=60")]),
        ("s-maxage", 200, &[("Cache-Control", "s-maxage=60")]),
    ];
    let origin = origin(cases);
    let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
    for (target, shared) in
        [("/app/plain", false), ("/app/public", true), ("/app/s-maxage", true), ("/api/plain", true)]
    {
        gateway.request("GET", target, &headers, b"");
        assert_eq!(
            origin.last().header("cookie").is_some(),
            target.starts_with("/app"),
            "{target}: the cookie"
        );
        let second = gateway.request("GET", target, &headers, b"");
        assert_eq!(is_hit(&second), shared, "{target}: {}", cache_status(&second));
    }
}

#[test]
fn cookies_that_an_app_gets_keep_its_answers_from_being_stored() {
    let origin = origin(&[]);
    let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
    for _ in 0..2 {
        let answer = gateway.request("GET", "/app/x", &[("Cookie", "lang=de; sid=1")], b"");
        assert!(!is_hit(&answer) && !is_stored(&answer), "{}", cache_status(&answer));
    }
}

#[test]
fn a_masked_error_is_stored_as_masked() {
    let origin =
        Origin::start(|_| response(404, &[("Content-Type", "text/html")], b"vendor says: no such row"));
    let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
    let first = gateway.get("/api/x");
    assert_eq!((first.status, first.code().as_str()), (404, "upstream_error"), "our words");
    assert!(is_stored(&first), "{}", cache_status(&first));
    let second = gateway.get("/api/x");
    assert!(is_hit(&second), "{}", cache_status(&second));
    assert_eq!((second.status, &second.body), (404, &first.body), "the same");
    assert!(!second.contains(b"vendor says"), "and none of theirs");
    assert_eq!(origin.count(), 1, "asked once");
    let html = gateway.request("GET", "/api/x", &[("Accept", "text/html")], b"");
    assert!(is_hit(&html) && html.header("content-type") == Some("application/problem+json"), "{html:?}");
}

#[test]
fn a_hit_says_how_old_it_is_counting_the_caches_before_us() {
    let cases: &[Case] = &[("aged", 200, &[("Cache-Control", "max-age=100"), ("Age", "30")])];
    let origin = origin(cases);
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        let target = format!("{way}/aged");
        let first = gateway.get(&target);
        assert!(first.all("age").len() <= 1, "{first:?}");
        let second = gateway.get(&target);
        let age: u64 =
            second.header("age").and_then(|a| a.parse().ok()).expect("RFC 9111 §5.1: a hit has an Age");
        assert!((30..60).contains(&age), "{target}: Age {age}");
        assert_eq!(second.all("age").len(), 1, "{target}: one");
        let left = cache_status(&second);
        let ttl: i64 = left.rsplit("ttl=").next().and_then(|t| t.parse().ok()).expect("a ttl");
        assert!((40..=70).contains(&ttl), "{target}: {left}");
    }
}

#[test]
fn a_part_is_never_stored_as_the_whole() {
    // An origin that answers every request with a part, asked or not.
    let origin = Origin::start(|_| {
        response(206, &[("Content-Range", "bytes 0-3/10"), ("Cache-Control", "max-age=60")], b"0123")
    });
    let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
    for way in BOTH {
        for _ in 0..2 {
            let answer = gateway.request("GET", &format!("{way}/x"), &[("Range", "bytes=0-3")], b"");
            assert!(!is_hit(&answer) && !is_stored(&answer), "{way}: {}", cache_status(&answer));
        }
    }
    assert_eq!(origin.count(), 4, "each was asked");
}

#[test]
fn a_body_without_a_length_is_stored_and_then_has_one() {
    let origin = Origin::start(|_| {
        Reply::Raw(
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                .to_vec(),
        )
    });
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in crate::cache_gate::BOTH {
        let target = format!("{way}/x");
        let first = gateway.get(&target);
        assert_eq!((first.text().as_str(), is_stored(&first)), ("hello", true), "{first:?}");
        let second = gateway.get(&target);
        assert!(is_hit(&second), "{second:?}");
        assert_eq!(
            (second.text().as_str(), second.header("content-length")),
            ("hello", Some("5")),
            "now it is known"
        );
    }
}

#[test]
fn every_answer_has_a_cache_status() {
    let origin = Origin::start(|request| {
        if request.target().contains("gone") {
            Reply::Close
        } else {
            Reply::Raw(response_bytes(200, &[], b"x"))
        }
    });
    let yaml = crate::cache_gate::yaml(&origin, &["cache: { ttl: 60s }"])
        + "  - { name: moved, match: { path: { exact: /moved } }, redirect: { path: /api/x } }
  - { name: hello, match: { path: { exact: /hello } }, respond: { text: hi } }
  - { name: tight, match: { path: { exact: /tight } }, respond: { text: hi }, rateLimit: { requests: 1, window: 1h } }
  - { name: plain, match: { path: { prefix: /plain } }, upstream: vendor }
";
    let gateway = crate::harness::Gateway::start(&yaml);
    gateway.get("/tight");
    for (target, status, expected) in [
        ("/nothing", 404, "portcullis"),
        ("/moved", 302, "portcullis"),
        ("/hello", 200, "portcullis"),
        ("/tight", 429, "portcullis"),
        ("/api/gone", 502, "portcullis"),
        ("/plain/x", 200, "portcullis; fwd=bypass"),
        ("/api/x", 200, "portcullis; fwd=uri-miss; ttl=60; stored"),
        ("/app/x", 200, "portcullis; fwd=uri-miss; ttl=60; stored"),
    ] {
        let answer = gateway.get(target);
        assert_eq!(answer.status, status, "{target}: {answer:?}");
        assert_eq!(cache_status(&answer), expected, "{target}");
    }
    let posted = gateway.request("POST", "/api/x", &[], b"abc");
    assert_eq!((posted.status, is_hit(&posted)), (200, false), "{}", cache_status(&posted));
    let bad = gateway.request("GET", "/api/%00", &[], b"");
    assert_eq!(bad.status, 400, "{bad:?}");
    assert_eq!(cache_status(&bad), "portcullis", "also where the request was not understood");
}
