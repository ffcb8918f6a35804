//! Where a request is sent or led: `rewrite`, `redirect`, `respond`.

use crate::harness::{Gateway, HEAD, Origin};

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "{HEAD}
upstreams: {{ vendor: {{ url: \"{}/base\", allowPrivate: true }}, bare: {{ url: \"{0}\", allowPrivate: true }} }}
routes:
  - {{ name: prefix, match: {{ path: {{ prefix: /api/weather }} }}, upstream: vendor, rewrite: {{ replacePrefixMatch: /v2 }} }}
  - {{ name: strip, match: {{ path: {{ prefix: /strip }} }}, upstream: vendor, rewrite: {{ replacePrefixMatch: / }} }}
  - {{ name: bare, match: {{ path: {{ prefix: /bare }} }}, upstream: bare, rewrite: {{ replacePrefixMatch: / }} }}
  - {{ name: slash, match: {{ path: {{ prefix: /slash/ }} }}, upstream: vendor, rewrite: {{ replacePrefixMatch: /v3/ }} }}
  - {{ name: person, match: {{ path: {{ template: \"/users/{{id}}/posts/{{post}}\" }} }}, upstream: vendor, rewrite: {{ replaceFullPath: \"/v2/{{post}}/of/{{id}}\" }} }}
  - {{ name: regex, match: {{ path: {{ regex: \"/r/(?<year>[0-9]+)-(?<rest>.*)\" }} }}, upstream: vendor, rewrite: {{ replaceFullPath: \"/y/{{year}}/{{rest}}\" }} }}
  - {{ name: fixed, match: {{ path: {{ exact: /fixed }} }}, upstream: vendor, rewrite: {{ replaceFullPath: /one, query: {{ keep: [q, page], set: {{ units: metric, \"a b\": \"c&d\" }} }} }} }}
  - {{ name: none, match: {{ path: {{ exact: /none }} }}, upstream: vendor, rewrite: {{ query: {{ keep: [] }} }} }}
  - {{ name: moved, match: {{ path: {{ exact: /old }} }}, redirect: {{ scheme: https, host: new.example, path: /new, status: 308 }} }}
  - {{ name: secure, match: {{ path: {{ prefix: /secure }} }}, redirect: {{ scheme: https }} }}
  - {{ name: hello, match: {{ path: {{ exact: /hello }} }}, respond: {{ status: 201, json: {{ hello: world }}, headers: {{ cache-control: no-store }} }} }}
  - {{ name: text, match: {{ path: {{ exact: /text }} }}, respond: {{ text: plain }} }}
  - {{ name: gone, match: {{ path: {{ exact: /gone }} }}, respond: {{ status: 410 }} }}
",
        origin.url()
    ))
}

#[test]
fn paths_and_queries_are_rewritten_below_the_base() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for (asked, sent) in [
        ("/api/weather", "/base/v2"),
        ("/api/weather/", "/base/v2/"),
        ("/api/weather/today?city=Oslo", "/base/v2/today?city=Oslo"),
        ("/api/weather/api/weather", "/base/v2/api/weather"),
        ("/strip/x", "/base/x"),
        ("/bare", "/"),
        ("/bare/x", "/x"),
        ("/slash/x", "/base/v3/x"),
        ("/users/7/posts/8%20a", "/base/v2/8%20a/of/7"),
        ("/users/a%26b/posts/c;d", "/base/v2/c;d/of/a%26b"),
        ("/r/2024-may", "/base/y/2024/may"),
        ("/r/2024-a/b/c", "/base/y/2024/a/b/c"),
        (
            "/fixed?q=1&secret=2&page=3&q=4&units=imperial",
            "/base/one?q=1&page=3&q=4&a%20b=c%26d&units=metric",
        ),
        ("/fixed?%71=1", "/base/one?%71=1&a%20b=c%26d&units=metric"),
        ("/fixed", "/base/one?a%20b=c%26d&units=metric"),
        ("/none?a=1&b=2", "/base/none"),
    ] {
        let before = origin.count();
        let answer = gateway.get(asked);
        if sent.is_empty() {
            assert_eq!((answer.status, origin.count()), (400, before), "{asked}");
        } else {
            assert_eq!(answer.status, 200, "{asked}: {}", answer.text());
            assert_eq!(origin.last().target(), sent, "{asked}");
        }
    }
}

#[test]
fn a_capture_cannot_become_a_dot_segment() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    // `.` and `..` alone are resolved before matching; a capture that is a part of a segment still could be one.
    for asked in ["/r/1-..", "/r/1-.", "/r/1-../", "/r/1-..%3bx", "/r/1-../../../x", "/r/1-/", "/r/1-//x"] {
        let before = origin.count();
        let answer = gateway.get(asked);
        let received = origin.received();
        if answer.status == 200 {
            let target = received.last().expect("asked").target().to_owned();
            assert!(target.starts_with("/base/"), "{asked}: {target}");
            assert!(target.split('/').all(|s| s != "." && s != ".."), "{asked}: dots were sent: {target}");
            assert!(!target.contains("//"), "{asked}: {target}");
        } else {
            assert!(matches!(answer.status, 400 | 404), "{asked}: {}", answer.status);
            assert_eq!(received.len(), before, "{asked}: refused, but the origin was asked");
        }
    }
}

#[test]
fn redirects_lead_where_they_say() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let moved = gateway.get("/old?a=1");
    assert_eq!((moved.status, moved.header("location")), (308, Some("https://new.example/new?a=1")));
    let secure = gateway.request("GET", "/secure/x/../y?a=%20", &[("Host", "App.Example:8080")], b"");
    assert_eq!((secure.status, secure.header("location")), (302, Some("https://app.example/secure/y?a=%20")));
    assert_eq!(gateway.request("POST", "/old", &[], b"body").status, 308, "with a body too");
    let mut client = crate::harness::Client::connect(gateway.address());
    for _ in 0..2 {
        assert_eq!(client.request("POST", "/old", &[], b"body").status, 308, "on one connection");
    }
    assert_eq!(origin.count(), 0, "nobody was asked");
}

#[test]
fn fixed_answers_are_given_as_written() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let hello = gateway.get("/hello");
    assert_eq!((hello.status, hello.text().as_str()), (201, "{\"hello\":\"world\"}"));
    assert_eq!(hello.header("content-type"), Some("application/json"));
    assert_eq!(hello.header("cache-control"), Some("no-store"));
    let text = gateway.get("/text");
    assert_eq!((text.status, text.text().as_str()), (200, "plain"));
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    let gone = gateway.get("/gone");
    assert_eq!((gone.status, gone.body.len()), (410, 0));
    let head = gateway.request("HEAD", "/hello", &[], b"");
    assert_eq!((head.status, head.body.len()), (201, 0));
    assert_eq!(origin.count(), 0, "nobody was asked");
}
