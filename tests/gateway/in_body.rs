//! Request bodies over HTTP/1: limits, deadlines, and that what is allowed arrives whole and once.

use std::io::Read as _;
use std::net::{Shutdown, TcpListener};
use std::time::Duration;

use crate::harness::{Client, Gateway, HEAD, Origin, PATIENCE, chunked, response};

fn yaml(head: &str, url: &str) -> String {
    format!(
        "{head}
upstreams:
  vendor: {{ url: \"{url}\", allowPrivate: true }}
  web: {{ kind: app, url: \"{url}\" }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor }}
  - {{ name: small, match: {{ path: {{ prefix: /small }} }}, upstream: vendor, request: {{ body: {{ max: 100KiB }} }} }}
  - {{ name: tiny, match: {{ path: {{ prefix: /tiny }} }}, upstream: web, request: {{ body: {{ max: 100KiB }} }} }}
  - {{ name: site, upstream: web }}
"
    )
}

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&yaml(HEAD, &origin.url()))
}

/// Bytes that show where a piece is missing, doubled or moved.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

pub const SIZES: [usize; 9] =
    [0, 1, 1000, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 65 << 10, 100 << 10, 300 << 10];

#[test]
fn a_body_of_unknown_length_arrives_whole_and_once() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for path in ["/api", "/site"] {
        for size in SIZES {
            let body = pattern(size);
            for piece in [size.max(1), 1000, 16 << 10] {
                let pieces: Vec<&[u8]> = body.chunks(piece).collect();
                let before = origin.count();
                let answer =
                    gateway.request("POST", path, &[("Transfer-Encoding", "chunked")], &chunked(&pieces));
                let what = format!("{path}, {size} bytes in pieces of {piece}");
                assert_eq!(answer.status, 200, "{what}: {}", answer.text());
                let asked: Vec<_> = origin
                    .received()
                    .drain(before..)
                    .map(|r| {
                        (r.line.chars().take(60).collect::<String>(), r.headers, r.body.len(), r.connection)
                    })
                    .collect();
                assert_eq!(asked.len(), 1, "{what}: asked once: {asked:?}");
                let got = origin.last();
                assert_eq!(got.body.len(), size, "{what}: {:?}", got.headers);
                assert!(got.body == body, "{what}: other bytes");
                let framings = got.all("content-length").len() + got.all("transfer-encoding").len();
                assert!(framings <= 1, "{what}: {:?}", got.headers);
            }
        }
    }
}

#[test]
fn a_declared_body_arrives_whole_and_the_connection_is_used_again() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for path in ["/api", "/site"] {
        let mut client = Client::connect(gateway.address());
        for size in SIZES {
            let body = pattern(size);
            let length = size.to_string();
            let answer = client.request("PUT", path, &[("Content-Length", &length)], &body);
            assert_eq!(answer.status, 200, "{path}, {size} bytes");
            assert!(origin.last().body == body, "{path}, {size} bytes: other bytes");
        }
    }
}

#[test]
fn a_big_upload_to_an_app_arrives_whole() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let body = pattern(10 << 20);
    assert_eq!(gateway.request("POST", "/upload", &[], &body).status, 200);
    assert!(origin.last().body == body, "declared");
    let pieces: Vec<&[u8]> = body.chunks(100_000).collect();
    assert_eq!(
        gateway.request("POST", "/upload", &[("Transfer-Encoding", "chunked")], &chunked(&pieces)).status,
        200
    );
    assert!(origin.last().body == body, "chunked");
}

#[test]
fn a_declared_length_over_the_limit_is_413_and_nobody_is_connected() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for (path, length) in [
        ("/api", (1 << 20) + 1),
        ("/site", (16 << 20) + 1),
        ("/small", (100 << 10) + 1),
        ("/tiny", (100 << 10) + 1),
    ] {
        let mut client = Client::connect(gateway.address());
        client.send(
            format!("POST {path} HTTP/1.1\r\nHost: app.example\r\nContent-Length: {length}\r\n\r\n")
                .as_bytes(),
        );
        let answer = client.read("POST");
        assert_eq!(answer.status, 413, "{path}, {length}: {}", answer.text());
        assert_eq!(answer.code(), "content_too_large", "{path}");
    }
    assert_eq!(origin.connections(), 0, "nobody was connected");
    let body = pattern(100 << 10);
    assert_eq!(gateway.request("POST", "/small", &[], &body).status, 200, "at the limit");
    assert_eq!(gateway.request("POST", "/tiny", &[], &body).status, 200, "at the limit");
}

#[test]
fn a_chunked_body_over_the_limit_is_413_and_never_whole_at_the_origin() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for path in ["/small", "/tiny"] {
        let body = pattern(200 << 10);
        for piece in [200 << 10, 5000] {
            let mut client = Client::connect(gateway.address());
            client.try_send(
                format!("POST {path} HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .as_bytes(),
            );
            client.try_send(&chunked(&body.chunks(piece).collect::<Vec<_>>()));
            let answer = client.try_read("POST").expect("an answer, though more was sent than is read");
            assert_eq!(answer.status, 413, "{path} in pieces of {piece}: {}", answer.text());
        }
        let at_limit = pattern(100 << 10);
        let pieces: Vec<&[u8]> = at_limit.chunks(7000).collect();
        let answer = gateway.request("POST", path, &[("Transfer-Encoding", "chunked")], &chunked(&pieces));
        assert_eq!(answer.status, 200, "{path}: exactly the limit");
    }
    assert_eq!(origin.count(), 2, "only those at the limit arrived whole");
    assert_eq!(gateway.request("GET", "/site", &[], b"").status, 200, "the pool is sound");
    let count = |route: &str| {
        gateway
            .metric(&format!("portcullis_requests_total{{route=\"{route}\",method=\"POST\",code=\"413\"}}"))
    };
    eventually!(
        count("small") == 2.0 && count("tiny") == 2.0,
        "counted: {}",
        gateway.admin("/metrics").text()
    );
}

#[test]
fn a_chunked_body_over_a_limit_below_the_read_ahead_is_refused_before_anybody_is_connected() {
    let origin = Origin::ok();
    let yaml = format!(
        "{HEAD}upstreams: {{ vendor: {{ url: \"{0}\", allowPrivate: true }}, web: {{ kind: app, url: \"{0}\" }} }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, request: {{ body: {{ max: 1KiB }} }} }}
  - {{ name: site, upstream: web, request: {{ body: {{ max: 1KiB }} }} }}
",
        origin.url()
    );
    let gateway = Gateway::start(&yaml);
    for path in ["/api", "/site"] {
        let answer =
            gateway.request("POST", path, &[("Transfer-Encoding", "chunked")], &chunked(&[&pattern(2000)]));
        assert_eq!(answer.status, 413, "{path}");
    }
    assert_eq!(origin.connections(), 0, "nobody was connected");
}

#[test]
fn chunk_framing_in_dispute_reaches_nobody() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for path in ["/api", "/site"] {
        for body in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
        ] {
            let mut client = Client::connect(gateway.address());
            client.send(
                format!(
                    "POST {path} HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
                )
                .as_bytes(),
            );
            client.stream().shutdown(Shutdown::Write).expect("half closed");
            if let Some(answer) = client.try_read("POST") {
                assert_eq!(answer.status, 400, "{path} {body:?}: {}", answer.text());
            }
        }
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.received());
}

#[test]
fn a_slow_body_is_408_and_the_exchange_is_aborted() {
    for path in ["/api", "/site"] {
        for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let url = format!("http://{}", listener.local_addr().expect("bound"));
            let head = "version: 1\nlisteners: [{ name: public, address: \"127.0.0.1:0\", timeouts: { body: 500ms } }]\nadmin: { address: \"127.0.0.1:0\" }\n";
            let gateway = Gateway::start(&yaml(head, &url));
            let mut client = Client::connect(gateway.address());
            client.send(
                format!("POST {path} HTTP/1.1\r\nHost: app.example\r\n{framing}\r\n\r\n5\r\nhello\r\n")
                    .as_bytes(),
            );
            let answer = client.read("POST");
            assert_eq!(answer.status, 408, "{path}, {framing}: {}", answer.text());
            // Where the origin was connected, it sees the end of that connection and never a whole request.
            listener.set_nonblocking(true).expect("set");
            if let Ok((mut origin, _)) = listener.accept() {
                origin.set_nonblocking(false).expect("set");
                origin.set_read_timeout(Some(PATIENCE)).expect("set");
                let mut all = Vec::new();
                let ended = origin.read_to_end(&mut all);
                assert!(
                    ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset),
                    "{path}, {framing}: the exchange is aborted"
                );
                assert!(
                    !all.ends_with(b"0\r\n\r\n"),
                    "{path}, {framing}: a body that was not whole was ended as one"
                );
            } else {
                assert_eq!(
                    framing, "Transfer-Encoding: chunked",
                    "only a body that is read ahead keeps the upstream out"
                );
            }
        }
    }
}

#[test]
fn dripping_does_not_extend_the_bodys_deadline() {
    let origin = Origin::ok();
    let head =
        "version: 1\nlisteners: [{ name: public, address: \"127.0.0.1:0\", timeouts: { body: 600ms } }]\n";
    let gateway = Gateway::start(&yaml(head, &origin.url()));
    for path in ["/api", "/site"] {
        for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
            let mut client = Client::connect(gateway.address());
            client.send(format!("POST {path} HTTP/1.1\r\nHost: app.example\r\n{framing}\r\n\r\n").as_bytes());
            let mut writer = client.stream().try_clone().expect("a socket");
            let dripping = std::thread::spawn(move || {
                use std::io::Write as _;
                // The pace of the drip is the attack, not a wait for something.
                while writer.write_all(b"1\r\nx\r\n").is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            let answer = client.try_read("POST").expect("an answer");
            assert_eq!(answer.status, 408, "{path}, {framing}: {}", answer.text());
            let _ = client.stream().shutdown(Shutdown::Both);
            dripping.join().expect("the drip ends");
        }
    }
    assert_eq!(origin.count(), 0, "no whole request arrived");
}

#[test]
fn a_client_that_waits_for_100_gets_it_once_and_its_body_arrives() {
    let origin = Origin::start(|_| response(200, &[], b"done"));
    let gateway = gateway(&origin);
    for path in ["/api", "/site"] {
        for (framing, body) in
            [("Content-Length: 5", b"hello".to_vec()), ("Transfer-Encoding: chunked", chunked(&[b"hello"]))]
        {
            let mut client = Client::connect(gateway.address());
            client.send(
                format!(
                    "POST {path} HTTP/1.1\r\nHost: app.example\r\nExpect: 100-continue\r\n{framing}\r\n\r\n"
                )
                .as_bytes(),
            );
            let (status, ..) = client.read_head().expect("an interim answer");
            assert_eq!(status, 100, "{path}, {framing}");
            client.send(&body);
            let answer = client.read("POST");
            assert_eq!((answer.status, answer.interim.len()), (200, 0), "{path}, {framing}");
            assert_eq!(origin.last().body, b"hello", "{path}, {framing}");
        }
    }
}

#[test]
fn a_client_that_waits_for_100_with_too_much_gets_413_instead() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let mut client = Client::connect(gateway.address());
    client.send(
        b"POST /api HTTP/1.1\r\nHost: app.example\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n\r\n",
    );
    let answer = client.read("POST");
    assert_eq!((answer.status, answer.interim), (413, vec![]));
    assert_eq!(origin.connections(), 0);
}
