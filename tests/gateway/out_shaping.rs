//! `response.json`: what the client gets of a JSON answer, and that it never gets the original instead.

use crate::harness::{Client, Origin, Received, Reply, response};
use crate::out_support::{Scripted, both};

const BODY: &str = r#"{"id":7, "internal":{"host":"db_7","n":1}, "items":[{"name":"a","cost":1},{"name":"b","cost":2}], "list":[10,20,30]}"#;

fn json(body: &str) -> Vec<u8> {
    crate::harness::response_bytes(200, &[("Content-Type", "application/json")], body.as_bytes())
}

/// The rule on the route of the `api` and on that of the `app`.
fn shaped(origin: &Origin, rule: &str) -> crate::harness::Gateway {
    let route = format!(", response: {{ json: {rule} }}");
    both(origin, ", retry: { attempts: 0 }", &route, &route)
}

#[test]
fn parts_are_kept_and_removed_by_child_index_and_wildcard() {
    let s = Scripted::start();
    s.says(json(BODY));
    for (rule, expected) in [
        (
            r#"{ remove: ["$.internal"] }"#,
            r#"{"id":7,"items":[{"name":"a","cost":1},{"name":"b","cost":2}],"list":[10,20,30]}"#,
        ),
        (
            r#"{ remove: ["$.internal.host", "$.items[*].cost", "$.list[1]"] }"#,
            r#"{"id":7,"internal":{"n":1},"items":[{"name":"a"},{"name":"b"}],"list":[10,30]}"#,
        ),
        (r#"{ keep: ["$.id", "$.items[*].name"] }"#, r#"{"id":7,"items":[{"name":"a"},{"name":"b"}]}"#),
        (
            r#"{ keep: ["$.items", "$.list[0]"], remove: ["$.items[0].cost"] }"#,
            r#"{"items":[{"name":"a"},{"name":"b","cost":2}],"list":[10]}"#,
        ),
        (
            r#"{ remove: ["$['internal']", "$.*[0]"] }"#,
            r#"{"id":7,"items":[{"name":"b","cost":2}],"list":[20,30]}"#,
        ),
    ] {
        let gateway = shaped(&s.origin, rule);
        for target in ["/api/x", "/x"] {
            let answer = gateway.get(target);
            assert_eq!(answer.status, 200, "{target} {rule}: {}", answer.text());
            let got: String = answer.text();
            let value: serde_json::Value = serde_json::from_str(&got).expect("JSON");
            assert_eq!(
                value,
                serde_json::from_str::<serde_json::Value>(expected).expect("JSON"),
                "{target} {rule}: {got}"
            );
            assert_eq!(
                answer.header("content-length"),
                Some(answer.body.len().to_string().as_str()),
                "{target} {rule}"
            );
            assert_eq!(answer.header("content-type"), Some("application/json"), "{target} {rule}");
        }
    }
}

#[test]
fn the_upstream_is_asked_for_the_whole_and_uncoded() {
    let s = Scripted::start();
    s.says(json(BODY));
    let gateway = shaped(&s.origin, "{ remove: [\"$.internal\"] }");
    for target in ["/api/x", "/x"] {
        let fields = [("Accept-Encoding", "gzip, br"), ("Range", "bytes=0-4"), ("If-Range", "\"1\"")];
        let answer = gateway.request("GET", target, &fields, b"");
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert!(!answer.contains(b"db_7"), "{target}");
        let asked = s.origin.last();
        assert_eq!(asked.all("accept-encoding"), ["identity"], "{target}");
        assert_eq!((asked.header("range"), asked.header("if-range")), (None, None), "{target}");
    }
}

#[test]
fn what_described_the_original_is_gone_or_weakened() {
    let s = Scripted::start();
    let fields = [
        ("ETag", "\"strong\""),
        ("Content-MD5", "Q2hlY2sgSW50ZWdyaXR5IQ=="),
        ("Content-Digest", "sha-256=:abc:"),
        ("Repr-Digest", "sha-256=:abc:"),
        ("Digest", "sha-256=abc"),
        ("Accept-Ranges", "bytes"),
    ];
    s.says(crate::harness::response_bytes(200, &fields, BODY.as_bytes()));
    let gateway = shaped(&s.origin, "{ remove: [\"$.internal\"] }");
    for target in ["/api/x", "/x"] {
        let answer = gateway.get(target);
        assert_eq!(answer.header("etag"), Some("W/\"strong\""), "{target}");
        for name in ["content-md5", "content-digest", "repr-digest", "digest", "accept-ranges"] {
            assert_eq!(answer.header(name), None, "{target}: `{name}` is of other bytes");
        }
    }
}

#[test]
fn a_head_request_on_a_shaped_route_tells_no_false_length() {
    let origin = Origin::start(|request: &Received| {
        if request.method() == "HEAD" {
            Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 118\r\nETag: \"s\"\r\n\r\n".to_vec())
        } else {
            Reply::Raw(json(BODY))
        }
    });
    let gateway = shaped(&origin, "{ remove: [\"$.internal\"] }");
    for target in ["/api/x", "/x"] {
        let mut client = Client::connect(gateway.address());
        let head = client.request("HEAD", target, &[], b"");
        assert_eq!(head.status, 200, "{target}");
        let get = client.request("GET", target, &[], b"");
        let length = head.header("content-length");
        assert!(length.is_none() || length == get.header("content-length"), "{target}: {length:?}");
        assert_ne!(head.header("etag"), Some("\"s\""), "{target}: the tag is weak for HEAD as for GET");
    }
}

#[test]
fn what_cannot_be_shaped_is_502_and_never_the_original() {
    let s = Scripted::start();
    let gateway = shaped(&s.origin, "{ remove: [\"$.internal\"], max: 1KiB }");
    let big = format!("{{\"internal\":\"db_7\",\"x\":\"{}\"}}", "y".repeat(2000));
    let deep = format!("{}\"db_7\"{}", "[".repeat(200), "]".repeat(200));
    let with = |fields: &[(&str, &str)], body: &[u8]| crate::harness::response_bytes(200, fields, body);
    let chunked = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
        .into_bytes()
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("gzip", with(&[("Content-Encoding", "gzip")], b"\x1f\x8b\x08db_7"), "upstream_answer_encoded"),
        (
            "two codings",
            with(&[("Content-Encoding", "identity"), ("Content-Encoding", "br")], b"db_7"),
            "upstream_answer_encoded",
        ),
        ("html", with(&[("Content-Type", "text/html")], b"<b>db_7</b>"), "upstream_answer_not_json"),
        ("cut JSON", json("{\"internal\":\"db_7\""), "upstream_answer_not_json"),
        ("two texts", json("{\"internal\":\"db_7\"}{}"), "upstream_answer_not_json"),
        ("no UTF-8", with(&[], b"{\"internal\":\"db_7\",\"a\":\"\xff\"}"), "upstream_answer_not_json"),
        ("too deep", json(&deep), "upstream_answer_not_json"),
        ("declared too large", json(&big), "upstream_answer_too_large"),
        ("undeclared too large", chunked(&big), "upstream_answer_too_large"),
    ];
    for (what, raw, code) in cases {
        s.says(raw);
        for target in ["/api/x", "/x"] {
            let answer = gateway.get(target);
            assert_eq!((answer.status, answer.code().as_str()), (502, code), "{what} {target}");
            assert!(!answer.contains(b"db_7"), "{what} {target}");
        }
    }
    s.says_and_closes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"internal\":\"db_7\"}");
    for target in ["/api/x", "/x"] {
        let answer = gateway.get(target);
        assert_eq!(answer.status, 502, "{target}: a body that ends early is held, so the answer is clean");
        assert!(!answer.contains(b"db_7"), "{target}");
    }
    s.says("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/9\r\nContent-Length: 4\r\n\r\n{\"a\"");
    assert_eq!(gateway.get("/api/x").status, 502, "a part that nobody asked for");
}

#[test]
fn a_body_of_just_the_allowed_size_passes() {
    let s = Scripted::start();
    let gateway = shaped(&s.origin, "{ remove: [\"$.internal\"], max: 1KiB }");
    let empty = "{\"x\":\"\"}".len();
    s.says(json(&format!("{{\"x\":\"{}\"}}", "y".repeat(1024 - empty))));
    assert_eq!(gateway.get("/api/x").status, 200);
    s.says(json(&format!("{{\"x\":\"{}\"}}", "y".repeat(1025 - empty))));
    assert_eq!(gateway.get("/api/x").status, 502);
}

#[test]
fn answers_without_a_body_pass_a_shaped_route() {
    let s = Scripted::start();
    let gateway = shaped(&s.origin, "{ remove: [\"$.internal\"] }");
    for raw in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        s.says(raw);
        let status: u16 = raw.get(9..12).and_then(|s| s.parse().ok()).expect("a status");
        for target in ["/api/x", "/x"] {
            let mut client = Client::connect(gateway.address());
            let answer = client.request("GET", target, &[], b"");
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{target}: {raw}");
            assert_eq!(client.request("GET", target, &[], b"").status, status, "{target}: in step");
        }
    }
}

#[test]
fn a_stored_answer_is_the_shaped_one() {
    let s = Scripted::start();
    s.says(json(BODY));
    let route = ", cache: { ttl: 60s }, response: { json: { keep: [\"$.id\"] } }";
    let gateway = both(&s.origin, "", route, "");
    for _ in 0..2 {
        assert_eq!(gateway.get("/api/x").text(), "{\"id\":7}");
    }
    assert_eq!(s.origin.count(), 1, "the second is a hit");
    let part = gateway.request("GET", "/api/x", &[("Range", "bytes=1-4")], b"");
    assert_eq!((part.status, part.text().as_str()), (206, "\"id\""), "a range of the shaped body");
    let head = gateway.request("HEAD", "/api/x", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("8")));
}

#[test]
fn a_post_is_shaped_like_a_get() {
    let origin = Origin::start(|request| response(200, &[], &request.body));
    let gateway = shaped(&origin, "{ remove: [\"$.internal\"] }");
    for target in ["/api/x", "/x"] {
        let answer = gateway.request("POST", target, &[], br#"{"internal":1,"a":2}"#);
        assert_eq!(answer.text(), r#"{"a":2}"#, "{target}");
    }
}

#[test]
fn to_ask_for_an_upgrade_is_no_way_around_the_shape_or_the_mask() {
    let origin = Origin::start(|request: &Received| {
        if request.target().ends_with("error") { response(500, &[], b"db_7") } else { Reply::Raw(json(BODY)) }
    });
    let shape = ", response: { json: { remove: [\"$.internal\"] } }, upgrade: [websocket]";
    let mask = ", response: { errors: mask }, upgrade: [websocket]";
    for (rule, what) in [(shape, "x"), (mask, "error")] {
        let gateway = both(&origin, ", retry: { attempts: 0 }", rule, rule);
        for target in [format!("/api/{what}"), format!("/{what}")] {
            for protocol in ["websocket", "WebSocket", "foo", "h2c"] {
                let fields = [
                    ("Connection", "Upgrade"),
                    ("Upgrade", protocol),
                    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ];
                let answer = gateway.request("GET", &target, &fields, b"");
                assert!(!answer.contains(b"db_7"), "{target} {protocol}: {}", answer.text());
            }
        }
    }
}
