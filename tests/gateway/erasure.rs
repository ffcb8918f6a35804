//! Where an `api` speaks of itself inside JSON, the client reads of the gate instead.

use crate::harness::{Gate, Gateway, HEAD, Origin, Reply, response};

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "{HEAD}
upstreams:
  vendor: {{ url: \"{}/base\", allowPrivate: true }}
  web: {{ kind: app, url: \"{}\" }}
routes:
  - {{ name: v, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, rewrite: {{ replacePrefixMatch: /v2 }} }}
  - {{ name: w, match: {{ path: {{ prefix: / }} }}, upstream: web }}
",
        origin.url(),
        origin.url()
    ))
}

const JSON: (&str, &str) = ("Content-Type", "application/json; charset=utf-8");

#[test]
fn an_api_speaks_of_the_gate() {
    let origin = Origin::start(|request| {
        let host = request.header("host").unwrap_or_default().to_owned();
        let body = format!(
            r#"{{"next":"http://{host}/base/v2/list?page=2","admin":"https:\/\/{host}\/base\/admin","other":"https://elsewhere.example/"}}"#
        );
        response(200, &[JSON], body.as_bytes())
    });
    let gateway = gateway(&origin);
    let answer = gateway.get("/api/list");
    assert_eq!(
        answer.text(),
        r#"{"next":"/api/list?page=2","admin":"","other":"https://elsewhere.example/"}"#
    );
    assert!(!answer.contains(origin.address.to_string().as_bytes()));
    assert_eq!(
        origin.last().header("accept-encoding"),
        Some("identity"),
        "a coded body could not be searched"
    );
}

#[test]
fn an_app_is_not_touched() {
    let origin = Origin::start(|_| response(200, &[JSON], br#"{"a":"http://127.0.0.1/x"}"#));
    let gateway = gateway(&origin);
    assert_eq!(gateway.get("/x").text(), r#"{"a":"http://127.0.0.1/x"}"#);
}

#[test]
fn a_long_answer_streams_and_is_erased_across_pieces() {
    let (first, second) = (Gate::opened(), Gate::new());
    let gates = (first, second.clone());
    let origin = Origin::start(move |request| {
        let host = request.header("host").unwrap_or_default().to_owned();
        let item = format!(r#""http://{host}/base/v2/item","#);
        let (half, rest) = item.split_at(12);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let start = format!("[\"{}\",{half}", "x".repeat(100_000));
        let end = format!("{rest}1]");
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        Reply::Steps(vec![
            (gates.0.clone(), format!("{head}{}", chunk(&start)).into_bytes()),
            (gates.1.clone(), format!("{}0\r\n\r\n", chunk(&end)).into_bytes()),
        ])
    });
    let gateway = gateway(&origin);
    let mut client = crate::harness::Client::connect(gateway.address());
    client.send(b"GET /api/long HTTP/1.1\r\nHost: a\r\n\r\n");
    let (status, headers, _) = client.read_head().expect("a head before the end of the body");
    assert_eq!(status, 200);
    assert!(
        headers.iter().any(|(n, v)| n.eq_ignore_ascii_case("transfer-encoding") && v == "chunked"),
        "{headers:?}"
    );
    second.open();
    let rest = client.read_exact(100_000);
    assert!(rest.windows(2).any(|w| w == b"xx"));
    let mut tail = Vec::new();
    while !crate::harness::contains(&tail, b"0\r\n\r\n") {
        tail.extend(client.read_exact(1));
    }
    let tail = String::from_utf8_lossy(&tail).into_owned();
    assert!(tail.contains(r#""/api/item",1]"#), "{tail}");
}

#[test]
fn json_that_cannot_be_searched_does_not_pass() {
    let origin = Origin::start(|_| {
        response(200, &[JSON, ("Content-Encoding", "gzip")], b"\x1f\x8b not really, but who knows")
    });
    let gateway = gateway(&origin);
    let answer = gateway.get("/api/list");
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_answer_encoded"));
}
