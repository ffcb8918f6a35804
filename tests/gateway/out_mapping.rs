//! References to the upstream in an answer's head: mapped to the public path, or gone.

use crate::out_support::{Scripted, assert_hidden, plain};

#[test]
fn a_redirect_of_an_api_is_mapped_in_every_form() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    let at = s.origin.address;
    let cases = [
        (format!("http://{at}/base/v2/next?page=2&q=a%20b#top"), "/api/next?page=2&q=a%20b#top"),
        (format!("HTTP://{at}/base/v2/next"), "/api/next"),
        (format!("https://{at}/base/v2/next"), "/api/next"),
        (format!("//{at}/base/v2/next"), "/api/next"),
        (format!("http://{at}/base/v2"), "/api"),
        ("/base/v2/next?x=1".to_owned(), "/api/next?x=1"),
        ("next".to_owned(), "/api/dir/next"),
        ("./next".to_owned(), "/api/dir/next"),
        ("../up?x#y".to_owned(), "/api/up?x#y"),
        ("?page=3".to_owned(), "/api/dir/leaf?page=3"),
        ("#part".to_owned(), "/api/dir/leaf#part"),
        (format!("http://{at}/base/v3/x"), "/other/x"),
        ("/base/v3/x/".to_owned(), "/other/x/"),
    ];
    for status in [301, 302, 303, 307, 308] {
        for (location, public) in &cases {
            s.says_fields(status, &[("Location", location)]);
            let answer = gateway.get("/api/dir/leaf");
            assert_eq!(answer.status, status, "{location}: {}", answer.text());
            assert_eq!(answer.all("location"), [*public], "{location}");
            assert_hidden(&answer, &s.origin, location);
            if status != 301 {
                break;
            }
        }
    }
}

#[test]
fn a_redirect_of_an_api_that_has_no_public_path_is_502() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    let at = s.origin.address;
    for location in [
        "https://login.vendor.example/".to_owned(),
        "//login.vendor.example/".to_owned(),
        "/elsewhere".to_owned(),
        "/base".to_owned(),
        "/base/v20/x".to_owned(),
        format!("http://{at}/"),
        format!("http://{at}/base/v2/../../secret"),
        format!("http://{at}/base/v2/%2e%2e/%2e%2e/secret"),
        format!("http://user@{at}/base/v2/x"),
        format!("http:/{at}/base/v2/x"),
        format!("http:\\\\{at}\\base\\v2"),
        format!("\\\\{at}\\base"),
        format!("/\\{at}/base/v2"),
        "javascript:alert(1)".to_owned(),
        "data:text/html,x".to_owned(),
        " ".to_owned(),
    ] {
        s.says_fields(302, &[("Location", &location)]);
        let answer = gateway.get("/api/x");
        if location == " " {
            // An empty reference is the page itself (RFC 3986 §4.4).
            assert_hidden(&answer, &s.origin, "an empty location");
            continue;
        }
        assert_eq!(answer.status, 502, "{location}: {:?}", answer.headers);
        assert_eq!(answer.code(), "upstream_redirect_unmapped", "{location}");
        assert_eq!(answer.header("location"), None, "{location}");
        assert!(!answer.contains(b"vendor.example"), "{location}");
        assert_hidden(&answer, &s.origin, &location);
    }
}

#[test]
fn a_second_location_of_an_api_does_not_slip_through() {
    let s = Scripted::start();
    let at = s.origin.address;
    let own = format!("http://{at}/base/v2/x");
    s.says_fields(
        302,
        &[
            ("Location", "/base/v2/y"),
            ("Location", &own),
            ("Content-Location", "/base/v2/y"),
            ("Content-Location", &own),
        ],
    );
    let answer = plain(&s.origin).get("/api/x");
    assert_hidden(&answer, &s.origin, "two locations");
}

#[test]
fn a_location_of_an_api_that_is_no_redirect_is_mapped_or_removed() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    s.says_fields(201, &[("Location", "/base/v2/items/7")]);
    assert_eq!(gateway.request("POST", "/api/items", &[], b"x").header("location"), Some("/api/items/7"));
    s.says_fields(201, &[("Location", "https://elsewhere.example/7")]);
    let answer = gateway.request("POST", "/api/items", &[], b"x");
    assert_eq!((answer.status, answer.header("location")), (201, None), "created, but at no public place");
}

#[test]
fn other_references_of_an_api_are_mapped_or_removed() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    let at = s.origin.address;
    let own = format!("http://{at}/base/v2/list.json");
    s.says_fields(200, &[("Content-Location", &own)]);
    assert_eq!(gateway.get("/api/list").header("content-location"), Some("/api/list.json"));
    s.says_fields(200, &[("Content-Location", "https://cdn.vendor.example/x")]);
    assert_eq!(gateway.get("/api/list").header("content-location"), None);

    let links = format!(
        "<http://{at}/base/v2/list?page=2>; rel=\"next\"; title=\"a, b\", </base/v2/list?page=9>; rel=last, \
         <https://docs.vendor.example/>; rel=help, <list?page=1>; rel=first; anchor=\"http://{at}/\""
    );
    s.says_fields(200, &[("Link", &links), ("Link", "</base/v3/o>; rel=other")]);
    let answer = gateway.get("/api/list");
    assert_eq!(
        answer.all("link"),
        [
            "</api/list?page=2>; rel=\"next\"; title=\"a, b\", </api/list?page=9>; rel=last, </other/o>; rel=other"
        ]
    );
    assert_hidden(&answer, &s.origin, "links");
    assert!(!answer.contains(b"docs.vendor"), "a link without a public path goes");

    for (refresh, public) in [
        (format!("5; url=http://{at}/base/v2/x"), Some("5; url=/api/x")),
        ("5;URL='/base/v2/x'".to_owned(), Some("5; url=/api/x")),
        ("5".to_owned(), Some("5")),
        ("5; url=https://vendor.example/".to_owned(), None),
        (format!("5; http://{at}/base/v2/x"), None),
    ] {
        s.says_fields(200, &[("Refresh", &refresh)]);
        let answer = gateway.get("/api/list");
        assert_eq!(answer.header("refresh"), public, "{refresh}");
        assert_hidden(&answer, &s.origin, &refresh);
    }
}

#[test]
fn references_stay_mapped_where_every_field_is_allowed() {
    let s = Scripted::start();
    let gateway = crate::out_support::both(&s.origin, "", ", response: { headers: { allow: [\"*\"] } }", "");
    let own = format!("http://{}/base/v2/x", s.origin.address);
    s.says_fields(
        200,
        &[
            ("Location", &own),
            ("Content-Location", &own),
            ("Link", &format!("<{own}>; rel=next")),
            ("Refresh", &format!("1; url={own}")),
        ],
    );
    assert_hidden(&gateway.get("/api/x"), &s.origin, "every field allowed");
}

#[test]
fn an_app_keeps_every_reference_but_those_to_its_own_origin() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    let at = s.origin.address;
    for (location, public) in [
        (format!("http://{at}/login?next=/a#b"), "/login?next=/a#b"),
        (format!("//{at}/login"), "/login"),
        ("https://sso.example/authorize?client=1".to_owned(), "https://sso.example/authorize?client=1"),
        ("//cdn.example/x".to_owned(), "//cdn.example/x"),
        ("/login".to_owned(), "/login"),
        ("login?x".to_owned(), "login?x"),
        ("http://app.example/x".to_owned(), "http://app.example/x"),
    ] {
        s.says_fields(302, &[("Location", &location), ("Content-Location", &location)]);
        let answer = gateway.get("/dir/x");
        assert_eq!((answer.status, answer.header("location")), (302, Some(public)), "{location}");
        assert_eq!(answer.header("content-location"), Some(public), "{location}");
    }
}

#[test]
fn links_and_refresh_of_an_app_are_mapped_where_they_name_its_origin() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    let at = s.origin.address;
    s.says_fields(
        200,
        &[
            ("Link", &format!("<http://{at}/a.css>; rel=preload, <https://cdn.example/b.css>; rel=preload; title=\"x, y\"")),
            ("Link", "</c.css>; rel=preload"),
            ("Refresh", &format!("3; url=http://{at}/next")),
        ],
    );
    let answer = gateway.get("/x");
    let links = answer.all("link").join(", ");
    assert_eq!(
        links,
        "</a.css>; rel=preload, <https://cdn.example/b.css>; rel=preload; title=\"x, y\", </c.css>; rel=preload"
    );
    assert_eq!(answer.header("refresh"), Some("3; url=/next"));
    s.says_fields(200, &[("Refresh", "3;url=https://sso.example/x")]);
    assert_eq!(
        gateway.get("/x").header("refresh"),
        Some("3;url=https://sso.example/x"),
        "foreign: untouched"
    );
}

#[test]
fn cookies_of_an_app_lose_a_domain_that_names_it_and_nothing_else() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    s.says_fields(
        200,
        &[
            ("Set-Cookie", "a=1; Path=/; Domain=127.0.0.1; HttpOnly; SameSite=Lax"),
            ("Set-Cookie", "b=domain=2; Domain=.app.example; Secure"),
            ("Set-Cookie", "c=3"),
            ("Set-Cookie", "d=4; Expires=Wed, 25 Nov 2026 10:00:00 GMT; DOMAIN=.127.0.0.1"),
        ],
    );
    assert_eq!(
        gateway.get("/x").all("set-cookie"),
        [
            "a=1; Path=/; HttpOnly; SameSite=Lax",
            "b=domain=2; Domain=.app.example; Secure",
            "c=3",
            "d=4; Expires=Wed, 25 Nov 2026 10:00:00 GMT",
        ]
    );
}

#[test]
fn a_cookie_path_under_the_base_of_an_app_becomes_its_public_path() {
    let s = Scripted::start();
    let gateway = crate::harness::Gateway::start(&format!(
        "{}upstreams: {{ web: {{ kind: app, url: \"{}/base\" }} }}
routes:
  - {{ name: shop, match: {{ path: {{ prefix: /shop }} }}, upstream: web, rewrite: {{ replacePrefixMatch: / }} }}
",
        crate::harness::HEAD,
        s.origin.url()
    ));
    s.says_fields(
        200,
        &[
            ("Set-Cookie", "a=1; Path=/base; Secure"),
            ("Set-Cookie", "b=2; path=/base/cart"),
            ("Set-Cookie", "c=3; Path=/"),
        ],
    );
    let answer = gateway.get("/shop/x");
    assert_eq!(s.origin.last().target(), "/base/x");
    assert_eq!(answer.all("set-cookie"), ["a=1; Path=/shop; Secure", "b=2; path=/shop/cart", "c=3; Path=/"]);
}
