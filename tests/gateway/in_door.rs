//! The door: sizes of heads, deadlines, connection limits.

use crate::harness::{Client, Gateway, Origin};

fn gateway(origin: &Origin, listener: &str) -> Gateway {
    Gateway::start(&format!(
        "version: 1
listeners: [{{ name: public, address: \"127.0.0.1:0\", {listener} }}]
admin: {{ address: \"127.0.0.1:0\" }}
upstreams: {{ web: {{ kind: app, url: \"{}\" }} }}
routes: [{{ name: site, upstream: web }}]
",
        origin.url()
    ))
}

#[test]
fn heads_over_their_limits_are_answered_counted_and_logged() {
    let origin = Origin::ok();
    let gateway = gateway(&origin, "maxHeaderBytes: 32KiB");
    let large = "x".repeat(33 << 10);
    let many: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    let long = "x".repeat(17 << 10);
    assert_eq!(gateway.request("GET", "/", &[("X-Large", &large)], b"").status, 431);
    let many: Vec<(&str, &str)> = many.iter().map(|n| (n.as_str(), "1")).collect();
    assert_eq!(gateway.request("GET", "/", &many, b"").status, 431);
    assert_eq!(gateway.request("GET", "/", &many[..90], b"").status, 200, "below the limit");
    let answer = gateway.request("GET", &format!("/{long}"), &[], b"");
    assert_eq!(answer.status, 414);
    assert_eq!(answer.code(), "request_line_too_long");
    assert_eq!(answer.header("server"), None, "no product name");
    assert!(!answer.text().to_lowercase().contains("pingora"), "{}", answer.text());
    let less = gateway.get(&format!("/{}", "x".repeat(9 << 10)));
    assert_eq!((less.status, less.code().as_str()), (414, "target_too_long"));
    assert_eq!(origin.count(), 1, "only the one below the limit");
    eventually!(
        gateway.stderr().matches("refused before it could be routed").count() == 3,
        "{}",
        gateway.stderr()
    );
    let metrics = gateway.admin("/metrics").text();
    assert!(metrics.lines().any(|l| l.contains("431") && l.ends_with(" 2")), "counted:\n{metrics}");
    assert!(metrics.lines().any(|l| l.contains("414") && l.ends_with(" 1")), "counted:\n{metrics}");
}

#[test]
fn configured_header_limits_hold() {
    let origin = Origin::ok();
    let gateway = gateway(&origin, "maxHeaderBytes: 1KiB, maxHeaders: 5");
    assert_eq!(gateway.request("GET", "/", &[("X", &"x".repeat(1100))], b"").status, 431);
    let six = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1")];
    assert_eq!(gateway.request("GET", "/", &six, b"").status, 431, "with Host six");
    assert_eq!(gateway.request("GET", "/", &six[1..], b"").status, 200, "with Host five");
}

#[test]
fn malformed_heads_are_refused_without_a_product_name() {
    let origin = Origin::ok();
    let gateway = gateway(&origin, "maxHeaders: 100");
    for text in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: c\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
    ] {
        let mut client = Client::connect(gateway.address());
        client.send(text.as_bytes());
        let answer = client.read("GET");
        assert_eq!(answer.status, 400, "{text:?}");
        assert!(!String::from_utf8_lossy(&answer.raw).to_lowercase().contains("pingora"), "{text:?}");
        assert!(client.is_closed(), "{text:?}: what follows a disputed head is not read as a request");
    }
    assert_eq!(origin.count(), 0, "nothing reached the origin");
}

#[test]
fn half_a_head_is_408_on_the_first_and_the_second_request() {
    let origin = Origin::ok();
    let gateway = gateway(&origin, "timeouts: { header: 300ms, idle: 10s }");
    let mut first = Client::connect(gateway.address());
    first.send(b"GET / HTTP/1.1\r\nHost: app.exa");
    assert_eq!(first.read("GET").status, 408);
    let mut second = Client::connect(gateway.address());
    assert_eq!(second.request("GET", "/", &[], b"").status, 200);
    second.send(b"GET / HTTP/1.1\r\nHo");
    assert_eq!(second.read("GET").status, 408);
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_idle_connection_is_closed_after_its_first_and_its_second_request() {
    let origin = Origin::ok();
    let gateway = gateway(&origin, "timeouts: { header: 10s, idle: 300ms }");
    for requests in [1, 2] {
        let mut client = Client::connect(gateway.address());
        for _ in 0..requests {
            assert_eq!(client.request("GET", "/", &[], b"").status, 200);
        }
        assert!(client.is_closed(), "after {requests} requests");
    }
}

#[test]
fn connections_are_limited_in_all_and_come_back() {
    let origin = Origin::ok();
    let gateway = gateway(&origin, "maxConnections: 3");
    let mut held: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = Client::connect(gateway.address());
            assert_eq!(client.request("GET", "/", &[], b"").status, 200);
            client
        })
        .collect();
    let mut over = Client::connect(gateway.address());
    over.try_send(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert!(over.try_read("GET").is_none_or(|answer| answer.status == 503), "one too many");
    assert_eq!(origin.count(), 3, "it did not reach the origin");
    assert_eq!(held[0].request("GET", "/", &[], b"").status, 200, "those inside are not concerned");
    held.clear();
    eventually!(
        {
            let mut next = Client::connect(gateway.address());
            next.try_send(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
            next.try_read("GET").is_some_and(|answer| answer.status == 200)
        },
        "a place that was left is never free again"
    );
}

#[test]
fn connections_are_limited_per_address() {
    let origin = Origin::ok();
    let gateway = gateway(&origin, "maxConnectionsPerAddress: 2");
    let _held: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = Client::connect(gateway.address());
            assert_eq!(client.request("GET", "/", &[], b"").status, 200);
            client
        })
        .collect();
    let mut over = Client::connect(gateway.address());
    over.try_send(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert!(over.try_read("GET").is_none_or(|answer| answer.status == 503), "one too many of this address");
    let metrics = gateway.admin("/metrics").text();
    assert!(
        metrics.lines().any(|l| l.contains("refused") && l.contains("per_address") && l.ends_with(" 1")),
        "{metrics}"
    );

    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let other: std::net::SocketAddr = "127.0.0.2:0".parse().expect("an address");
    socket.bind(&other.into()).expect("every 127.x is ours");
    socket.connect(&gateway.address().into()).expect("connected");
    let mut stream: std::net::TcpStream = socket.into();
    use std::io::{Read as _, Write as _};
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200 "), "another address is not concerned: {text}");
}
