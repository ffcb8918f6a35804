//! Which fields of an answer reach the client, from an `api` and from an `app`.

use crate::harness::{Gateway, Received, Reply, Setup, response};
use crate::harness::{HEAD, Origin};
use crate::out_support::{assert_hidden, both, names, plain};

const TELLING: [(&str, &str); 18] = [
    ("Server", "vendor/9.1"),
    ("Via", "1.1 cache.vendor.example"),
    ("X-Powered-By", "PHP/8"),
    ("X-Internal", "db_7"),
    ("Alt-Svc", "h3=\":443\""),
    ("Set-Cookie", "a=1; Path=/"),
    ("Set-Cookie", "b=2"),
    ("Strict-Transport-Security", "max-age=1"),
    ("Content-Type", "text/plain"),
    ("Content-Language", "en"),
    ("ETag", "\"1\""),
    ("Last-Modified", "Wed, 25 Nov 2026 10:00:00 GMT"),
    ("Cache-Control", "max-age=5"),
    ("Expires", "Wed, 25 Nov 2026 11:00:00 GMT"),
    ("Age", "3"),
    ("Vary", "Accept-Language"),
    ("Accept-Ranges", "bytes"),
    ("Date", "Wed, 25 Nov 2026 10:30:00 GMT"),
];

fn telling(_: &Received) -> Reply {
    response(200, &TELLING, b"hello")
}

#[test]
fn from_an_api_only_what_describes_the_content_passes() {
    let origin = Origin::start(telling);
    let answer = plain(&origin).get("/api/x");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "hello");
    let expected = [
        "accept-ranges",
        "age",
        "cache-control",
        "cache-status",
        "content-language",
        "content-length",
        "content-type",
        "date",
        "etag",
        "expires",
        "last-modified",
        "vary",
        "x-request-id",
    ];
    let mut got = names(&answer);
    got.retain(|name| name != "connection");
    assert_eq!(got, expected, "the allow-list of an `api`, and what is ours");
    assert_eq!(answer.header("etag"), Some("\"1\""));
    assert_eq!(
        answer.header("date"),
        Some("Wed, 25 Nov 2026 10:30:00 GMT"),
        "the origin's (RFC 9110 §6.6.1)"
    );
    assert_hidden(&answer, &origin, "an answer of an api");
}

#[test]
fn an_api_may_have_more_fields_allowed_by_name() {
    let origin = Origin::start(telling);
    let gateway = both(&origin, "", ", response: { headers: { allow: [x-internal] } }", "");
    let answer = gateway.get("/api/x");
    assert_eq!(answer.header("x-internal"), Some("db_7"));
    for hidden in ["server", "via", "x-powered-by", "set-cookie", "alt-svc", "strict-transport-security"] {
        assert_eq!(answer.header(hidden), None, "`{hidden}` was not allowed");
    }
    assert_eq!(gateway.get("/other/x").header("x-internal"), None, "another route has its own list");
}

#[test]
fn a_star_allows_every_end_to_end_field_but_no_cookie() {
    let origin = Origin::start(telling);
    let answer = both(&origin, "", ", response: { headers: { allow: [\"*\"] } }", "").get("/api/x");
    assert_eq!(answer.header("x-internal"), Some("db_7"));
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=1"));
    assert_eq!(answer.header("set-cookie"), None, "cookies of an `api` never pass");
}

#[test]
fn from_an_app_all_but_four_fields_pass() {
    let origin = Origin::start(telling);
    let answer = plain(&origin).get("/x");
    assert_eq!(answer.text(), "hello");
    for hidden in ["server", "via", "x-powered-by", "alt-svc"] {
        assert_eq!(answer.header(hidden), None, "`{hidden}` tells what the app runs on");
    }
    assert_eq!(answer.all("set-cookie"), ["a=1; Path=/", "b=2"], "cookies as they came and in order");
    for (name, value) in TELLING
        .iter()
        .filter(|(n, _)| !["Server", "Via", "X-Powered-By", "Alt-Svc", "Set-Cookie", "Date"].contains(n))
    {
        assert_eq!(answer.header(name), Some(*value), "`{name}` of an app passes");
    }
}

#[test]
fn an_app_may_show_what_is_allowed_by_name() {
    let origin = Origin::start(telling);
    let answer = both(&origin, "", "", ", response: { headers: { allow: [server] } }").get("/x");
    assert_eq!(answer.header("server"), Some("vendor/9.1"));
    assert_eq!(answer.header("via"), None);
}

#[test]
fn fields_are_set_added_and_removed_after_the_list() {
    let origin = Origin::start(telling);
    let change = ", response: { headers: { set: { x-a: \"1\" }, add: { vary: Accept }, remove: [etag] } }";
    let gateway = both(&origin, "", change, change);
    for target in ["/api/x", "/x"] {
        let answer = gateway.get(target);
        assert_eq!(answer.header("x-a"), Some("1"), "{target}: set");
        assert_eq!(answer.all("vary"), ["Accept-Language", "Accept"], "{target}: added");
        assert_eq!(answer.header("etag"), None, "{target}: removed");
    }
}

#[test]
fn rfc9110_7_6_1_fields_of_one_hop_and_those_that_connection_names_stay_behind() {
    let origin = Origin::start(|_| {
        let fields = [
            ("Connection", "X-Hop, keep-alive, Upgrade"),
            ("Connection", "x-second"),
            ("X-Hop", "1"),
            ("X-Second", "2"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authenticate", "Basic"),
            ("TE", "trailers"),
            ("Trailer", "X-T"),
            ("Upgrade", "h2c"),
            ("X-End", "3"),
        ];
        response(200, &fields, b"hello")
    });
    let star = ", response: { headers: { allow: [\"*\"] } }";
    let gateway = both(&origin, "", star, "");
    for target in ["/api/x", "/x"] {
        let answer = gateway.get(target);
        assert_eq!(answer.text(), "hello", "{target}");
        for name in [
            "x-hop",
            "x-second",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "te",
            "trailer",
            "upgrade",
        ] {
            assert_eq!(answer.header(name), None, "{target}: `{name}` belongs to the hop");
        }
        assert_eq!(answer.header("x-end"), Some("3"), "{target}: an end-to-end field passes");
    }
}

#[test]
fn the_reason_phrase_of_an_api_stays_behind() {
    let origin = Origin::start(|_| {
        Reply::Raw(b"HTTP/1.1 200 Node db_7 says hi\r\nContent-Length: 2\r\n\r\nok".to_vec())
    });
    let answer = plain(&origin).get("/api/x");
    assert_eq!(answer.status, 200);
    assert!(!answer.contains(b"db_7"), "{}", String::from_utf8_lossy(&answer.raw));
    assert!(answer.raw.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer.raw));
}

#[test]
fn cookies_cannot_be_allowed_from_an_api() {
    let origin = Origin::ok();
    let yaml = format!(
        "{HEAD}
upstreams: {{ vendor: {{ url: \"{}\", allowPrivate: true }} }}
routes:
  - {{ name: a, match: {{ path: {{ prefix: /a }} }}, upstream: vendor, response: {{ headers: {{ allow: [set-cookie] }} }} }}
",
        origin.url()
    );
    let refused: Result<Gateway, _> = Setup::new().try_start(&yaml);
    let (status, said) = refused.err().expect("a configuration that must not start");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("never pass"), "{said}");
}
