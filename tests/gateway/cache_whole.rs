//! Answers that are cut, split or framed twice: an object is stored only whole, and is what was meant for it.

use crate::cache_gate::{BOTH, cache_status, gateway, is_hit};
use crate::harness::{Answer, Client, Gateway, HEAD, Origin, Reply, h2_origin, response_bytes};

const FRESH: (&str, &str) = ("Cache-Control", "public, max-age=60");

/// Sends bytes as they are.
fn raw(gateway: &Gateway, head: &str) -> Option<Answer> {
    let mut client = Client::connect(gateway.address());
    client.send(head.as_bytes());
    client.try_read("GET")
}

#[test]
fn rfc9112_8_half_an_answer_is_never_stored() {
    let halves: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 20\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nConnection: close\r\n\r\nhalf",
        b"HTTP/1.0 200 OK\r\nCache-Control: max-age=60\r\n\r\nhalf",
    ];
    for (n, bytes) in halves.into_iter().enumerate() {
        let origin = Origin::start(move |_| Reply::RawThenClose(bytes.to_vec()));
        let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
        for way in BOTH {
            for _ in 0..2 {
                let Some(answer) =
                    raw(&gateway, &format!("GET {way}/x HTTP/1.1\r\nHost: app.example\r\n\r\n"))
                else {
                    continue;
                };
                assert!(!is_hit(&answer), "{way} {n}: {answer:?}");
                assert!(
                    n > 3 || answer.cut || answer.status == 502,
                    "{way} {n}: it does not end cleanly: {answer:?}"
                );
                assert!(
                    n < 4 || cache_status(&answer).contains("detail=close-delimited"),
                    "{way} {n}: {answer:?}"
                );
            }
        }
    }
}

#[test]
fn an_answer_that_could_be_split_is_not_stored() {
    let heads: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nX-A: 1\rSet-Cookie: evil=1\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nX-A: 1\0\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: +1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
    ];
    for head in heads {
        let origin = Origin::start(move |_| Reply::RawThenClose(head.to_vec()));
        let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
        for way in BOTH {
            for _ in 0..2 {
                let Some(answer) =
                    raw(&gateway, &format!("GET {way}/x HTTP/1.1\r\nHost: app.example\r\n\r\n"))
                else {
                    continue;
                };
                assert!(!is_hit(&answer), "{way} {}: {answer:?}", String::from_utf8_lossy(head));
                assert!(answer.header("set-cookie").is_none(), "{way}: {answer:?}");
            }
        }
    }
}

#[test]
fn rfc9112_6_3_chunks_come_before_a_length() {
    let origin = Origin::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n";
        Reply::Raw(format!("{head}5\r\nhello\r\n0\r\n\r\n").into_bytes())
    });
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        for n in 0..2 {
            let answer = gateway.get(&format!("{way}/x"));
            assert_eq!(
                (answer.text().as_str(), answer.cut, is_hit(&answer)),
                ("hello", false, n == 1),
                "{way}: {answer:?}"
            );
        }
    }
}

#[test]
fn bytes_behind_an_answer_are_nobodys_answer() {
    let origin = Origin::start(|request| {
        let mut bytes = response_bytes(200, &[FRESH], request.target().as_bytes());
        bytes.extend(response_bytes(200, &[FRESH], b"smuggled"));
        Reply::Raw(bytes)
    });
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        for n in 0..5 {
            let target = format!("{way}/{n}");
            assert_eq!(gateway.get(&target).text(), target, "its own");
        }
    }
}

/// Resets the stream after the head and half of the body.
async fn reset(_: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<bytes::Bytes>) {
    let head = http::Response::builder().header("cache-control", "max-age=60");
    let Ok(mut stream) = respond.send_response(head.body(()).expect("a head"), false) else { return };
    let _ = stream.send_data(bytes::Bytes::from_static(b"half"), false);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    stream.send_reset(h2::Reason::INTERNAL_ERROR);
}

#[test]
fn half_an_answer_over_http2_is_never_stored() {
    let at = h2_origin(reset);
    let gateway = Gateway::start(&format!(
        "{HEAD}accessLog: off
upstreams:
  vendor: {{ url: \"http://{at}\", allowPrivate: true, http2: true, retry: {{ on: [] }} }}
  web: {{ kind: app, url: \"http://{at}\", http2: true, retry: {{ on: [] }} }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, cache: {{ ttl: 60s }} }}
  - {{ name: app, match: {{ path: {{ prefix: /app }} }}, upstream: web, cache: {{ ttl: 60s }} }}
"
    ));
    for way in BOTH {
        for _ in 0..2 {
            let Some(answer) = raw(&gateway, &format!("GET {way}/x HTTP/1.1\r\nHost: app.example\r\n\r\n"))
            else {
                continue;
            };
            assert!(!is_hit(&answer), "{way}: {answer:?}");
            assert!(answer.cut || answer.status == 502, "{way}: it does not end cleanly: {answer:?}");
        }
    }
}
