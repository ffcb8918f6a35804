//! Framing of answers: bodies that end in every way, answers without one, and answers that are none.

use crate::harness::{Client, Gateway, Origin, Received, Reply, response};
use crate::out_support::{SECRET, Scripted, both, plain, settle};

const BOTH: [&str; 2] = ["/api/x", "/x"];

#[test]
fn a_head_request_gets_the_length_and_no_body() {
    let origin = Origin::start(|request: &Received| {
        assert_eq!(request.method(), "HEAD");
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"1\"\r\n\r\n".to_vec())
    });
    let gateway = plain(&origin);
    for target in BOTH {
        let mut client = Client::connect(gateway.address());
        let answer = client.request("HEAD", target, &[], b"");
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("1234")), "{target}");
        settle(&gateway);
        assert_eq!(
            client.request("HEAD", target, &[], b"").status,
            200,
            "{target}: no body bytes in between"
        );
    }
    assert_eq!(origin.connections(), 2, "one kept connection for each kind");
}

#[test]
fn answers_without_content_keep_the_connection() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    for target in BOTH {
        let mut client = Client::connect(gateway.address());
        for raw in [
            "HTTP/1.1 204 No Content\r\nETag: \"1\"\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 500\r\n\r\n",
            "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 0\r\n\r\n",
        ] {
            s.says(raw);
            let answer = client.request("GET", target, &[("If-None-Match", "\"0\"")], b"");
            let status: u16 = raw.get(9..12).and_then(|s| s.parse().ok()).expect("a status");
            assert_eq!((answer.status, answer.header("etag")), (status, Some("\"1\"")), "{target}: {raw}");
            assert!(
                answer.body.is_empty() && answer.header("transfer-encoding").is_none(),
                "{target}: {answer:?}"
            );
        }
        s.says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.request("GET", target, &[], b"").text(), "ok", "{target}: still in step");
    }
}

#[test]
fn bodies_that_end_in_every_way_arrive_whole() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    for target in BOTH {
        for (raw, closes) in [
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Trailer: t\r\n\r\n",
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nhello", true),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", true),
            ("HTTP/1.0 200 OK\r\n\r\nhello", true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true),
        ] {
            if closes {
                s.says_and_closes(raw)
            } else {
                s.says(raw)
            }
            let mut client = Client::connect(gateway.address());
            let answer = client.request("GET", target, &[], b"");
            assert_eq!(
                (answer.status, answer.text().as_str(), answer.cut),
                (200, "hello", false),
                "{target}: {raw}"
            );
            assert!(answer.raw.starts_with(b"HTTP/1.1 200"), "{target}: we speak 1.1");
            assert_eq!(answer.header("x-trailer"), None, "{target}: {raw}");
            assert!(!answer.contains(b"X-Trailer"), "{target}: {raw}");
            let again = client.request("GET", target, &[], b"");
            assert_eq!(again.text(), "hello", "{target}: the client's connection goes on after {raw}");
        }
    }
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    for target in BOTH {
        for raw in [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ] {
            s.says(raw);
            let mut client = Client::connect(gateway.address());
            client.send(format!("GET {target} HTTP/1.0\r\nHost: app.example\r\n\r\n").as_bytes());
            let got = String::from_utf8(client.read_to_end()).expect("text");
            let (head, body) = got.split_once("\r\n\r\n").expect("a head");
            assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{target}: {got}");
            assert_eq!(body, "hello", "{target}: {got}");
        }
    }
}

#[test]
fn interim_answers_do_not_confuse_the_final_one() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    s.says(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </leak.css>; rel=preload\r\nX-Internal: db_7\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let mut client = Client::connect(gateway.address());
    let answer = client.request("GET", "/api/x", &[], b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert!(answer.interim.is_empty(), "hints of an api stay behind: {:?}", answer.interim);
    for _ in 0..2 {
        let answer = client.request("GET", "/x", &[], b"");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "an app's hints may pass or not");
    }
}

#[test]
fn a_101_that_nobody_asked_for_is_502() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    s.says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\n\r\nsmuggled");
    for target in BOTH {
        let answer = gateway.get(target);
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unexpected_upgrade"), "{target}");
        assert!(!answer.contains(b"smuggled"), "{target}");
    }
    {
        let target = "/api/x";
        let answer =
            gateway.request("GET", target, &[("Connection", "Upgrade"), ("Upgrade", "websocket")], b"");
        assert_eq!(answer.status, 502, "{target}: an api may not switch though the client asked");
    }
}

#[test]
fn an_answer_that_is_no_http_is_502_and_shows_nothing() {
    let s = Scripted::start();
    let gateway = both(&s.origin, ", retry: { attempts: 0 }", "", "");
    let huge = format!("HTTP/1.1 200 OK\r\nX-Huge: {}\r\nContent-Length: 2\r\n\r\nok", "h".repeat(2 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", "X-Many: 1\r\n".repeat(2000));
    let echo = format!("HTTP/1.1 200 OK\r\nAuthorization Bearer {SECRET}\r\n\r\n");
    for raw in [
        "garbage",
        "<html>not a server</html>\r\n\r\n",
        echo.as_str(),
        "HTTP/1.1 OK 200\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Name: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\n folded-first: 1\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX-A: 1\0b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 7\r\n\r\nokokoko",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 7\r\n\r\nokokoko",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok",
        huge.as_str(),
        many.as_str(),
        "",
    ] {
        let shown = raw.get(..raw.len().min(60)).unwrap_or_default();
        s.says_and_closes(raw);
        for target in BOTH {
            let answer = gateway.get(target);
            assert_eq!(answer.status, 502, "{target} {shown:?}: {:?}", answer.headers);
            assert!(!answer.contains(SECRET.as_bytes()), "{target} {shown:?}");
            assert!(!answer.contains(b"garbage") && !answer.contains(b"not a server"), "{target} {shown:?}");
        }
    }
    eventually!(gateway.log().len() >= 32, "a line for each: {}", gateway.log().len());
    for text in [gateway.stdout(), gateway.stderr()] {
        assert!(
            !text.contains(SECRET) && !text.contains("not a server"),
            "upstream bytes in the log: {text}"
        );
    }
}

#[test]
fn a_field_value_cannot_start_a_second_answer() {
    let s = Scripted::start();
    let gateway = both(&s.origin, ", retry: { attempts: 0 }", "", "");
    // A bare CR, a bare LF: what a splitting attempt looks like once it is on the wire.
    for raw in [
        "HTTP/1.1 200 OK\r\nETag: \"a\rSet-Cookie: x=1\"\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nETag: \"a\"\nSet-Cookie: x=1\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nETag: \"a\"\r\n Set-Cookie: x=1\r\nContent-Length: 2\r\n\r\nok",
    ] {
        s.says_and_closes(raw);
        for target in BOTH {
            let answer = gateway.get(target);
            let fields = String::from_utf8_lossy(&answer.raw).into_owned();
            assert!(!fields.contains("\rSet") && !fields.contains("\n Set"), "{target}: {fields:?}");
            assert!(target == "/x" || answer.header("set-cookie").is_none(), "{target}: {fields:?}");
        }
    }
}

/// The part of a body that came before the connection was cut; nothing where not even the head had left.
fn cut(gateway: &Gateway, target: &str) -> Vec<u8> {
    let mut client = Client::connect(gateway.address());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n").as_bytes());
    let Some(answer) = client.try_read("GET") else { return Vec::new() };
    assert!(answer.cut, "{target}: the body must not end cleanly: {:?} {}", answer.headers, answer.text());
    answer.body
}

#[test]
fn a_truncated_answer_never_ends_cleanly() {
    let s = Scripted::start();
    let gateway = both(&s.origin, ", retry: { attempts: 0 }", "", "");
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n0\r\n",
    ] {
        s.says_and_closes(raw);
        for target in BOTH {
            let answer = cut(&gateway, target);
            assert!(answer.len() <= 9, "{target}: {raw}");
        }
    }
    eventually!(gateway.log().len() == 10, "a line for each: {}", gateway.stdout());
    assert!(
        gateway.log().iter().all(|line| !line["error"].is_null()),
        "each is an error in the log: {}",
        gateway.stdout()
    );
}

#[test]
fn a_truncated_answer_is_not_stored() {
    let s = Scripted::start();
    let gateway = both(&s.origin, ", retry: { attempts: 0 }", ", cache: { ttl: 60s }", "");
    s.says_and_closes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    cut(&gateway, "/api/x");
    s.says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(gateway.get("/api/x").text(), "ok");
}

#[test]
fn bytes_after_an_answer_are_no_second_answer() {
    let s = Scripted::start();
    let gateway = plain(&s.origin);
    for target in BOTH {
        s.says(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        );
        let mut client = Client::connect(gateway.address());
        assert_eq!(client.request("GET", target, &[], b"").text(), "ok", "{target}");
        s.says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
        assert_eq!(
            client.request("GET", target, &[], b"").text(),
            "good",
            "{target}: the next answer is its own"
        );
    }
}

#[test]
fn an_early_answer_to_an_upload_reaches_the_client() {
    // The origin answers at the head and reads no further than the harness does.
    let origin = Origin::start(|_| response(403, &[], b"no"));
    let gateway = plain(&origin);
    let body = vec![b'x'; 300_000];
    for target in BOTH {
        let answer = gateway.request("POST", target, &[], &body);
        assert_eq!(answer.status, 403, "{target}");
        assert_eq!(origin.last().body, body, "{target}: the whole body arrived");
    }
}
