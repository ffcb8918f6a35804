//! One reading of a path: what reaches the origin lies below the hidden base, or nothing reaches it.

use crate::harness::{Client, Gateway, H2Client, HEAD, Origin, Setup, tls_setup};

const SECRET: &str = "path-secret-0123456789";

fn yaml(head: &str, origin: &Origin) -> String {
    format!(
        "{head}
secrets: {{ key: {{ env: KEY }} }}
upstreams:
  vendor: {{ url: \"{0}/hidden/base\", allowPrivate: true, credential: {{ bearer: key }} }}
  web: {{ kind: app, url: \"{0}/app/root\" }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, rewrite: {{ replacePrefixMatch: /v2 }} }}
  - {{ name: keep, match: {{ path: {{ prefix: /keep }} }}, upstream: vendor }}
  - {{ name: site, match: {{ path: {{ prefix: /site }} }}, upstream: web }}
",
        origin.url()
    )
}

fn gateway(origin: &Origin) -> Gateway {
    Setup::new().env("KEY", SECRET).start(&yaml(HEAD, origin))
}

/// Dots in every spelling that some server resolves.
const ESCAPES: [&str; 30] = [
    "/../x",
    "/../../x",
    "/../../../../x",
    "/./../x",
    "/a/../../x",
    "/%2e%2e/x",
    "/%2E%2E/x",
    "/.%2e/x",
    "/%2e./x",
    "/%2e/%2e%2e/x",
    "/..%2fx",
    "/..%2Fx",
    "/%2e%2e%2fx",
    "/..%5cx",
    "/..\\x",
    "/%252e%252e/x",
    "/..;/x",
    "/..;a=b/x",
    "/;..",
    "/.;/../x",
    "/%2e%2e;/x",
    "/..%3b/x",
    "//../x",
    "/..//x",
    "/..%00/x",
    "/%00../x",
    "/..%0d%0a/x",
    "/..",
    "/%2e%2e",
    "/..?x=/../../y",
];

/// What a lenient server would make of a path: decoded until nothing changes, both slashes, parameters dropped.
fn most_lenient(path: &str) -> Vec<String> {
    let mut text = path.to_owned();
    for _ in 0..4 {
        for (from, to) in
            [("%25", "%"), ("%2e", "."), ("%2E", "."), ("%2f", "/"), ("%2F", "/"), ("%5c", "/"), ("%5C", "/")]
        {
            text = text.replace(from, to);
        }
    }
    let mut out: Vec<String> = Vec::new();
    for segment in text.replace('\\', "/").split('/').filter(|s| !s.is_empty()) {
        match segment.split(';').next().unwrap_or_default() {
            "." => {}
            ".." => _ = out.pop(),
            other => out.push(other.to_owned()),
        }
    }
    out
}

#[test]
fn no_spelling_of_dots_leaves_the_hidden_base() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for (prefix, base) in
        [("/api", "/hidden/base/v2"), ("/keep", "/hidden/base/keep"), ("/site", "/app/root/site")]
    {
        for escape in ESCAPES {
            let before = origin.count();
            let answer = gateway.get(&format!("{prefix}{escape}"));
            let received = origin.received();
            if answer.status != 200 {
                assert!(matches!(answer.status, 400 | 404), "{prefix}{escape}: {}", answer.status);
                assert_eq!(received.len(), before, "{prefix}{escape}: refused, but the origin was asked");
                continue;
            }
            assert_eq!(received.len(), before + 1, "{prefix}{escape}: one request");
            let target = received.last().expect("one").target().to_owned();
            let path = target.split('?').next().unwrap_or_default();
            assert!(
                path == base || path.starts_with(&format!("{base}/")),
                "{prefix}{escape} reached {target}, outside of {base}"
            );
            // Encoded twice stays encoded once more: whoever decodes twice does so on its own.
            if !escape.contains("%25") {
                let read = most_lenient(path).join("/");
                let wanted = base.trim_start_matches('/');
                assert!(
                    read == wanted || read.starts_with(&format!("{wanted}/")),
                    "{prefix}{escape} reached {target}, which a lenient server reads as {read}"
                );
            }
        }
    }
}

#[test]
fn no_spelling_of_dots_leaves_the_hidden_base_over_http2() {
    let origin = Origin::ok();
    let (setup, head) = tls_setup();
    let gateway = setup.env("KEY", SECRET).start(&yaml(&head, &origin));
    let client = H2Client::connect(gateway.address(), "app.example");
    for escape in ESCAPES.iter().filter(|escape| !escape.contains('\\')) {
        let before = origin.count();
        let answer = client.request("GET", &format!("https://app.example/api{escape}"), &[], &[]);
        let status = answer.as_ref().map_or(400, |answer| answer.status);
        let received = origin.received();
        if status == 200 {
            let target = received.last().expect("asked").target().to_owned();
            assert!(target.starts_with("/hidden/base/v2"), "{escape} reached {target}");
        } else {
            assert!(matches!(status, 400 | 404), "{escape}: {status}");
            assert_eq!(received.len(), before, "{escape}: refused, but the origin was asked");
        }
    }
}

#[test]
fn a_path_has_one_form_and_that_form_is_sent() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for (asked, sent) in [
        ("/api//a///b", "/hidden/base/v2/a/b"),
        ("//api/a", "/hidden/base/v2/a"),
        ("/api/%61%7e", "/hidden/base/v2/a~"),
        ("/%61pi/x", "/hidden/base/v2/x"),
        ("/api/%c3%a9", "/hidden/base/v2/%C3%A9"),
        ("/api/a%20b", "/hidden/base/v2/a%20b"),
        ("/api/a/./b/../c", "/hidden/base/v2/a/c"),
        ("/api/a/", "/hidden/base/v2/a/"),
        ("/api/a;v=1", "/hidden/base/v2/a;v=1"),
        ("/api/a?q=%2F..%2f&b=//../", "/hidden/base/v2/a?q=%2F..%2f&b=//../"),
        ("/api/a?", "/hidden/base/v2/a?"),
        ("/other/../api/x", "/hidden/base/v2/x"),
    ] {
        let before = origin.count();
        let answer = gateway.get(asked);
        if sent.is_empty() {
            assert_eq!(answer.status, 400, "{asked}");
            assert_eq!(origin.count(), before, "{asked}: the origin was asked");
        } else {
            assert_eq!(answer.status, 200, "{asked}: {}", answer.text());
            assert_eq!(origin.last().target(), sent, "{asked}");
        }
    }
}

#[test]
fn what_two_readers_could_read_in_two_ways_is_refused() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for path in [
        "/api/a%2fb",
        "/api/a%2Fb",
        "/api/a\\b",
        "/api/a%5cb",
        "/api/a%00b",
        "/api/%00",
        "/api/a%0ab",
        "/api/a%7f",
        "/api/%",
        "/api/%4",
        "/api/%zz",
        "/api/a#b",
        "/api/;..",
        "/api/..;x",
        "/..",
        "/api/../../x",
        "api/x",
        "*",
        "/api/a\u{1}b",
        "/api/a\"b",
        "/api/x?a=%zz",
    ] {
        let mut client = Client::connect(gateway.address());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n").as_bytes());
        let answer = client.read("GET");
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(
            answer.header("content-type").is_some_and(|t| t.starts_with("application/problem+json")),
            "{path}"
        );
    }
    assert_eq!(origin.count(), 0, "nothing reached the origin: {:?}", origin.received());
}
