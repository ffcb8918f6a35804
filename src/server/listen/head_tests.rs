//! The table of spellings, and the proof that the framework refuses nothing that the scan lets through.

use pingora::protocols::http::ServerSession;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;

const LIMITS: Limits = Limits { bytes: 32 * 1024, count: 100 };

fn verdict(head: &[u8]) -> Result<(), (u16, &'static str)> {
    let told = |refused: Refused| (refused.status.as_u16(), refused.reason);
    match extent(head, 0, LIMITS).map_err(told)? {
        Extent::Partial => Err((0, "partial")),
        Extent::Complete(length) => check(&head[..length], LIMITS).map_err(told),
    }
}

fn with_fields(fields: &str) -> Result<(), (u16, &'static str)> {
    verdict(format!("POST /a HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n").as_bytes())
}

#[test]
fn ordinary_heads_pass() {
    for head in [
        "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: example.com:8080\r\n\r\n",
        "GET http://example.com/a?b HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "GET //a//b?c=%zz&d=[1]|{2}^\\ HTTP/1.1\r\nhOST:\texample.com \r\n\r\n",
        "PROPFIND /a HTTP/1.1\r\nHost: [2001:db8::1]:443\r\nX_Under-Score:\r\nX: caf\u{e9}\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a_b.example.\r\nContent-Length: 0012\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
    ] {
        assert_eq!(verdict(head.as_bytes()), Ok(()), "{head}");
    }
}

#[test]
fn framing_in_dispute_is_400() {
    for (fields, reason) in [
        ("Content-Length: 5, 5\r\n", "content_length"),
        ("Content-Length: +5\r\n", "content_length"),
        ("Content-Length: -5\r\n", "content_length"),
        ("Content-Length: 0x5\r\n", "content_length"),
        ("Content-Length: 5 5\r\n", "content_length"),
        ("Content-Length: \r\n", "content_length"),
        ("Content-Length: 18446744073709551621\r\n", "content_length"),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "content_length"),
        ("Content-Length: 5\r\ncontent-length: 6\r\n", "content_length"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "length_and_coding"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "length_and_coding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "transfer_encoding"),
        ("Transfer-Encoding: chunked, chunked\r\n", "transfer_encoding"),
        ("Transfer-Encoding: chunked, gzip\r\n", "transfer_encoding"),
        ("Transfer-Encoding: xchunked\r\n", "transfer_encoding"),
        ("Transfer-Encoding: chunked;a\r\n", "transfer_encoding"),
        ("Transfer-Encoding: \"chunked\"\r\n", "transfer_encoding"),
        ("Transfer-Encoding: identity\r\n", "transfer_encoding"),
        ("Transfer-Encoding:\r\n", "transfer_encoding"),
        ("Transfer-Encoding: \u{b}chunked\r\n", "header_value"),
    ] {
        assert_eq!(with_fields(fields), Err((400, reason)), "{fields:?}");
    }
    assert_eq!(with_fields("Transfer-Encoding: gzip, chunked\r\n"), Err((501, "transfer_encoding")));
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(verdict(old), Err((400, "transfer_encoding")), "RFC 9112 6.1: faulty framing");
}

#[test]
fn field_lines_in_dispute_are_400() {
    for (fields, reason) in [
        ("A: b\n", "bare_lf"),
        ("A: b\rc\r\n", "header_value"),
        ("A: b\0c\r\n", "header_value"),
        ("A: b\u{7f}\r\n", "header_value"),
        ("A : b\r\n", "space_before_colon"),
        ("A\t: b\r\n", "space_before_colon"),
        ("A: b\r\n c\r\n", "obs_fold"),
        ("A: b\r\n\tc\r\n", "obs_fold"),
        ("A b: c\r\n", "header_name"),
        ("A\0: c\r\n", "header_name"),
        ("A(: c\r\n", "header_name"),
        (": c\r\n", "header_name"),
        ("no colon\r\n", "header_name"),
        ("Host: example.com\r\n", "host_repeated"),
    ] {
        assert_eq!(with_fields(fields), Err((400, reason)), "{fields:?}");
    }
}

#[test]
fn request_lines_are_judged() {
    let line = |text: &str| verdict(format!("{text}\r\nHost: example.com\r\n\r\n").as_bytes());
    for (text, expected) in [
        ("GET  / HTTP/1.1", (400, "request_line")),
        ("GET /", (400, "request_line")),
        ("GET / HTTP/1.1 ", (400, "request_line")),
        ("GET /a b HTTP/1.1", (400, "request_line")),
        ("GET / http/1.1", (400, "request_line")),
        ("G(T / HTTP/1.1", (400, "method")),
        (" / HTTP/1.1", (400, "method")),
        ("GET / HTTP/2.0", (505, "http_version")),
        ("GET / HTTP/1.2", (505, "http_version")),
        ("PRI * HTTP/2.0", (505, "http_version")),
        ("TRACE / HTTP/1.1", (405, "method_refused")),
        ("CONNECT example.com:443 HTTP/1.1", (405, "method_refused")),
        ("GET * HTTP/1.1", (400, "request_target")),
        ("GET a HTTP/1.1", (400, "request_target")),
        ("GET /a#b HTTP/1.1", (400, "request_target")),
        ("GET /\u{e9} HTTP/1.1", (400, "request_target")),
        ("GET /\t HTTP/1.1", (400, "request_target")),
        ("GET /` HTTP/1.1", (400, "request_target")),
        ("GET http:/example.com HTTP/1.1", (400, "request_target")),
        ("GET http://u@example.com/ HTTP/1.1", (400, "request_target")),
        ("GET http://example.com\\x/ HTTP/1.1", (400, "request_target")),
        ("GET ftp://example.com/ HTTP/1.1", (400, "request_target")),
        ("GET http://other.example/ HTTP/1.1", (400, "host")),
    ] {
        assert_eq!(line(text), Err(expected), "{text}");
    }
}

#[test]
fn a_host_must_be_there_and_be_one() {
    let host = |fields: &str| verdict(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
    assert_eq!(host(""), Err((400, "host_missing")));
    for value in
        ["", "a b", "a/b", "u@a", "a:", "a:b", "a:65536", "a,b", "[::1", "[::g]", "a:1:2", "a\\b", ":80"]
    {
        assert_eq!(host(&format!("Host: {value}\r\n")), Err((400, "host")), "{value}");
    }
}

#[test]
fn limits_are_exact() {
    let limits = Limits { bytes: 60, count: 2 };
    let head = |pad: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(pad));
    let fixed = head(0).len();
    assert_eq!(extent(head(60 - fixed).as_bytes(), 0, limits), Ok(Extent::Complete(60)));
    assert_eq!(extent(head(61 - fixed).as_bytes(), 0, limits), Err(HEAD_TOO_LARGE));
    assert_eq!(check(head(0).as_bytes(), limits), Ok(()), "two fields");
    let three = check(b"GET / HTTP/1.1\r\nHost: a\r\nB: c\r\nD: e\r\n\r\n", limits);
    assert_eq!(three.map_err(|refused| refused.reason), Err("too_many_headers"));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(MAX_REQUEST_LINE_BYTES));
    assert_eq!(verdict(long.as_bytes()), Err((414, "request_line_too_long")));
    assert_eq!(
        extent(&long.as_bytes()[..MAX_REQUEST_LINE_BYTES + 3], 0, LIMITS),
        Err(URI_TOO_LONG),
        "without its end"
    );
}

#[test]
fn a_head_is_found_whatever_its_pieces() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\n";
    for cut in 0..head.len() - 5 {
        let first = extent(&head[..cut], 0, LIMITS).expect("nothing wrong");
        assert_eq!(first, Extent::Partial, "cut at {cut}");
        assert_eq!(extent(head, cut, LIMITS), Ok(Extent::Complete(head.len() - 5)), "cut at {cut}");
    }
}

/// What the framework makes of the head, read the way the guard hands it over.
fn framework_accepts(head: &[u8]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(64);
        theirs.shutdown().await.expect("an end");
        let mut session = ServerSession::new_http1(Box::new(ours));
        session.set_keepalive(Some(60));
        session.set_pipelined_prefix(bytes::BytesMut::from(head));
        matches!(session.read_request().await, Ok(true))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Heads made of fragments that are nearly right: whatever passes the scan must pass the framework.
    #[test]
    fn the_framework_refuses_nothing_that_we_let_through(
        method in prop::sample::select(vec!["GET", "POST", "OPTIONS", "M-SEARCH", "a!#$%&'*+.^_`|~"]),
        target in prop_oneof!["/[ -~]{0,12}", "/[%a-z?&=|{}^\\\\`\\[\\]]{0,12}", "https?://[a-z.]{1,5}(:[0-9]{0,5})?[/?]?[a-z]{0,3}", "[*]"],
        version in prop::sample::select(vec!["HTTP/1.0", "HTTP/1.1"]),
        host in prop_oneof!["[a-z._-]{1,9}(:[0-9]{0,6})?", "\\[[0-9a-f:]{1,9}\\](:[0-9]{1,5})?", "[ -~]{0,6}"],
        fields in prop::collection::vec(prop_oneof![
            "[!#-'*+.^-z|~A-Z0-9-]{1,9}:[\\t -~]{0,9}",
            "Content-Length: ?[0-9+, ]{1,20}",
            "Transfer-Encoding: ?(chunked|gzip|, |chunked){1,2}",
            "Connection: ?(close|keep-alive|upgrade|, ){1,2}",
            "Expect: 100-continue",
            "Upgrade: (websocket|h2c)",
        ], 0..6),
    ) {
        let mut head = format!("{method} {target} {version}\r\nHost: {host}\r\n");
        for field in &fields {
            head.push_str(field);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        if verdict(head.as_bytes()).is_ok() {
            prop_assert!(framework_accepts(head.as_bytes()), "let through, but refused later: {head:?}");
        }
    }
}
