//! What has no end to wait for: WebSockets, event streams, large bodies, and clients that go away.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::harness::{Client, Gate, Origin, Received, Reply, response, response_bytes};
use crate::out_support::{both, idle, plain};

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nServer: app/1\r\n\r\n";

/// Sends back what comes in, upper case, until the other side closes.
fn echo(mut socket: TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = socket.read(&mut buffer) {
        let loud = buffer.get(..length).unwrap_or_default().to_ascii_uppercase();
        if socket.write_all(&loud).is_err() {
            return;
        }
    }
}

fn websocket_origin() -> Origin {
    Origin::start(|request: &Received| {
        if request.header("upgrade").is_some() {
            Reply::Upgrade(SWITCH.to_vec(), Box::new(echo))
        } else {
            response(426, &[], b"plain")
        }
    })
}

#[test]
fn a_websocket_of_an_app_carries_bytes_both_ways() {
    let origin = websocket_origin();
    let gateway = plain(&origin);
    let mut client = Client::connect(gateway.address());
    let answer = client.request("GET", "/socket", &UPGRADE, b"");
    assert_eq!(answer.status, 101, "{}", answer.text());
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("server"), None, "a switch is cleaned as any answer");
    for word in [b"hello".as_slice(), b"again", b"HTTP/1.1 200 OK\r\n\r\n"] {
        client.send(word);
        assert_eq!(client.read_exact(word.len()), word.to_ascii_uppercase(), "bytes go through untouched");
    }
    assert_eq!(origin.last().header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    client.stream().shutdown(std::net::Shutdown::Both).expect("closed");
    eventually!(gateway.log().len() == 1, "a tunnel is logged once it ends: {}", gateway.stdout());
    assert_eq!(gateway.log()[0]["status"], 101);
}

#[test]
fn a_websocket_outlives_the_request_timeout() {
    let origin = websocket_origin();
    let gateway = both(&origin, ", timeouts: { request: 1s }", "", "");
    let mut client = Client::connect(gateway.address());
    assert_eq!(client.request("GET", "/socket", &UPGRADE, b"").status, 101);
    // A request that runs into the same timeout is the clock: when it is over, the tunnel is older than its limit and the second
    // that a late exchange has before it is cut.
    let silent = Origin::start(|_| Reply::Silence);
    let clock = both(&silent, ", timeouts: { request: 2500ms }, retry: { attempts: 0 }", "", "");
    assert_eq!(clock.get("/x").status, 504);
    client.send(b"still");
    assert_eq!(client.read_exact(5), b"STILL", "silence is no end of a tunnel");
}

#[test]
fn bytes_sent_with_the_upgrade_reach_the_app_only_after_its_101() {
    let origin = websocket_origin();
    let gateway = plain(&origin);
    let mut client = Client::connect(gateway.address());
    let mut raw = "GET /socket HTTP/1.1\r\nHost: app.example\r\n".to_owned();
    for (name, value) in UPGRADE {
        raw.push_str(&format!("{name}: {value}\r\n"));
    }
    client.send(format!("{raw}\r\nearly").as_bytes());
    assert_eq!(client.read("GET").status, 101);
    assert_eq!(client.read_exact(5), b"EARLY", "what came early is not lost");
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_app_that_refuses_to_switch_answers_as_usual() {
    let origin = Origin::start(|_| response(400, &[], b"no socket here"));
    let gateway = plain(&origin);
    let mut client = Client::connect(gateway.address());
    let answer = client.request("GET", "/socket", &UPGRADE, b"");
    assert_eq!((answer.status, answer.text().as_str()), (400, "no socket here"));
}

#[test]
fn an_api_is_never_asked_to_switch() {
    let origin = websocket_origin();
    let gateway = plain(&origin);
    let answer = gateway.request("GET", "/api/socket", &UPGRADE, b"");
    assert_eq!(answer.status, 426, "a plain answer, its body ours");
    let asked = origin.last();
    assert_eq!(
        (asked.header("upgrade"), asked.header("connection").unwrap_or("keep-alive")),
        (None, "keep-alive")
    );
}

#[test]
fn an_app_may_have_its_upgrade_taken_away() {
    let origin = websocket_origin();
    let gateway = both(&origin, "", "", ", upgrade: []");
    let answer = gateway.request("GET", "/socket", &UPGRADE, b"");
    assert_eq!((answer.status, answer.text().as_str()), (426, "plain"));
    assert_eq!(origin.last().header("upgrade"), None, "`upgrade: []` strips the field");
}

#[test]
fn only_websocket_passes_in_upgrade() {
    let origin = websocket_origin();
    let gateway = plain(&origin);
    let fields = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    ];
    let answer = gateway.request("GET", "/x", &fields, b"");
    assert_eq!(answer.status, 426, "answered as a plain request");
    let asked = origin.last();
    assert_eq!(
        (asked.header("upgrade"), asked.header("http2-settings")),
        (None, None),
        "h2c stays at the door"
    );
}

#[test]
fn an_event_stream_passes_event_by_event() {
    for target in ["/events", "/api/events"] {
        events(target);
    }
}

fn events(target: &str) {
    let (second, end) = (Gate::new(), Gate::new());
    let steps = (second.clone(), end.clone());
    let origin = Origin::start(move |_| {
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let event = |text: &str| format!("{:x}\r\n{text}\r\n", text.len()).into_bytes();
        let first = [head.as_slice(), &event("data: 1\n\n")].concat();
        let last = [event("data: 3\n\n"), b"0\r\n\r\n".to_vec()].concat();
        Reply::Steps(vec![
            (Gate::opened(), first),
            (steps.0.clone(), event("data: 2\n\n")),
            (steps.1.clone(), last),
        ])
    });
    let gateway = plain(&origin);
    let mut client = Client::connect(gateway.address());
    client.send(
        format!("GET {target} HTTP/1.1\r\nHost: app.example\r\nAccept: text/event-stream\r\n\r\n").as_bytes(),
    );
    let (status, _, _) = client.read_head().expect("the head comes before the end");
    assert_eq!(status, 200);
    assert!(chunk(&mut client).ends_with("data: 1\n\n"), "the first event while the stream is open");
    second.open();
    assert!(chunk(&mut client).ends_with("data: 2\n\n"), "the second as it comes");
    end.open();
    assert!(chunk(&mut client).ends_with("data: 3\n\n"));
    assert_eq!(chunk(&mut client), "", "the end is clean");
}

fn chunk(client: &mut Client) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(client.read_exact(1));
    }
    let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).expect("a size");
    let bytes = client.read_exact(size + 2);
    String::from_utf8(bytes.get(..size).unwrap_or_default().to_vec()).expect("text")
}

#[test]
fn a_large_answer_arrives_intact() {
    let body: Vec<u8> = (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sent = body.clone();
    let origin = Origin::start(move |request: &Received| {
        if request.target().ends_with("chunked") {
            let mut raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for piece in sent.chunks(70_000) {
                raw.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                raw.extend_from_slice(piece);
                raw.extend_from_slice(b"\r\n");
            }
            raw.extend_from_slice(b"0\r\n\r\n");
            Reply::Raw(raw)
        } else {
            response(200, &[], &sent)
        }
    });
    let gateway = plain(&origin);
    for target in ["/api/x", "/x", "/api/chunked", "/chunked"] {
        let answer = gateway.get(target);
        assert_eq!((answer.status, answer.cut, answer.body.len()), (200, false, body.len()), "{target}");
        assert!(answer.body == body, "{target}: every byte in its place");
    }
}

#[test]
fn a_client_that_leaves_before_the_answer_is_noticed_and_logged() {
    for target in ["/api/x", "/x"] {
        let origin = Origin::start(|_| Reply::Silence);
        let gateway = both(&origin, ", timeouts: { request: 5m }", "", "");
        let mut client = Client::connect(gateway.address());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n").as_bytes());
        eventually!(origin.count() == 1, "{target}: the origin is asked");
        assert!(!idle(&gateway), "{target}: the request is in flight");
        client.stream().shutdown(std::net::Shutdown::Both).expect("closed");
        drop(client);
        eventually!(
            gateway.log().len() == 1,
            "{target}: nobody waits for the answer, yet the exchange goes on"
        );
        let line = gateway.log().remove(0);
        assert_eq!(
            (&line["status"], &line["error"]),
            (&499.into(), &"client_gone".into()),
            "{target}: {line}"
        );
        eventually!(idle(&gateway), "{target}: a request stays counted as in flight");
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_is_logged_and_leaks_nothing() {
    for target in ["/api/x", "/x"] {
        let more = Gate::new();
        let step = more.clone();
        let origin = Origin::start(move |request| {
            if request.target().ends_with("next") {
                return response(200, &[], b"next");
            }
            let head =
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n1312d00\r\n".to_vec();
            Reply::Steps(vec![(Gate::opened(), head), (step.clone(), vec![b'x'; 20_000_000])])
        });
        let gateway = plain(&origin);
        let mut client = Client::connect(gateway.address());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n").as_bytes());
        assert_eq!(client.read_head().map(|(status, ..)| status), Some(200), "{target}");
        assert_eq!(chunk(&mut client), "first", "{target}: passed on as it comes");
        drop(client);
        more.open();
        eventually!(gateway.log().len() == 1, "{target}: the exchange ends with its client");
        let line = gateway.log().remove(0);
        assert_eq!(line["error"], "client_gone", "{target}: {line}");
        eventually!(idle(&gateway), "{target}: a request stays counted as in flight");
        assert!(gateway.get(&format!("{target}/next")).status == 200, "{target}: the next client is served");
        assert_eq!(origin.connections(), 2, "{target}: a connection with half an answer is not used again");
    }
}

#[test]
fn the_head_of_an_answer_does_not_wait_for_its_body() {
    for target in ["/x", "/api/x"] {
        let body = Gate::new();
        let step = body.clone();
        let origin = Origin::start(move |_| {
            let head =
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    .to_vec();
            Reply::Steps(vec![(Gate::opened(), head), (step.clone(), b"2\r\nok\r\n0\r\n\r\n".to_vec())])
        });
        let gateway = plain(&origin);
        let mut client = Client::connect(gateway.address());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n").as_bytes());
        assert_eq!(
            client.read_head().map(|(status, ..)| status),
            Some(200),
            "{target}: the stream is open before its first event"
        );
        body.open();
        assert_eq!(chunk(&mut client), "ok", "{target}");
    }
}

#[test]
fn rfc9112_9_3_2_a_request_that_follows_early_is_answered_in_its_turn() {
    for target in ["/api/x", "/app/x"] {
        let go = Gate::new();
        let step = go.clone();
        let origin = Origin::start(move |request| {
            let answer = response_bytes(200, &[], request.method().as_bytes());
            Reply::Steps(vec![(step.clone(), answer)])
        });
        let gateway = plain(&origin);
        let mut client = Client::connect(gateway.address());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n").as_bytes());
        eventually!(origin.count() == 1, "{target}: asked");
        client.send(
            format!("POST {target} HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4\r\n\r\nbody")
                .as_bytes(),
        );
        // Time enough for the gateway to read it, as a rule; if not, it waits in the socket.
        for _ in 0..3 {
            assert_eq!(gateway.admin("/livez").status, 200);
        }
        go.open();
        assert_eq!(client.read("GET").text(), "GET", "{target}: the first is answered");
        assert_eq!(client.read("POST").text(), "POST", "{target}: and the second");
        assert_eq!(origin.last().body, b"body", "{target}");
    }
}

#[test]
fn a_client_that_sends_early_and_leaves_is_noticed() {
    for target in ["/api/x", "/app/x"] {
        let origin = Origin::start(|_| Reply::Silence);
        let gateway = plain(&origin);
        let mut client = Client::connect(gateway.address());
        let request = format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n");
        client.send(request.as_bytes());
        eventually!(origin.count() == 1, "{target}: asked");
        client.send(request.as_bytes());
        drop(client);
        eventually!(idle(&gateway), "{target}: nobody waits, and the request stays");
        assert_eq!(origin.count(), 1, "{target}: the second is not served to nobody");
    }
}
