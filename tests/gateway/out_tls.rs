//! TLS and HTTP/2 with the upstream: who it is, is verified, and connections are shared by nobody who verifies differently.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::harness::{Gateway, HEAD, Setup, h2_origin};
use crate::out_support::settle;

/// What an origin with TLS saw: per connection the name asked for, the protocols offered, and each request head.
#[derive(Default)]
struct Seen {
    names: Vec<Option<String>>,
    offered: Vec<Vec<String>>,
    heads: Vec<String>,
}

struct TlsOrigin {
    address: SocketAddr,
    /// The authority that signed it, PEM.
    ca: String,
    seen: Arc<Mutex<Seen>>,
}

impl TlsOrigin {
    /// One with a certificate for `name`.
    fn start(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
        let chain = vec![CertificateDer::from(made.cert.der().to_vec())];
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a config");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let origin = Self {
            address: listener.local_addr().expect("bound"),
            ca: made.cert.pem(),
            seen: Arc::default(),
        };
        let seen = origin.seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, seen) = (config.clone(), seen.clone());
                std::thread::spawn(move || serve(stream, config, &seen));
            }
        });
        origin
    }

    fn connections(&self) -> usize {
        self.seen.lock().unwrap().names.len()
    }
}

fn serve(
    mut stream: std::net::TcpStream,
    config: Arc<rustls::ServerConfig>,
    seen: &Mutex<Seen>,
) -> Option<()> {
    let mut acceptor = rustls::server::Acceptor::default();
    let accepted = loop {
        acceptor.read_tls(&mut stream).ok().filter(|n| *n > 0)?;
        if let Some(accepted) = acceptor.accept().ok()? {
            break accepted;
        }
    };
    let hello = accepted.client_hello();
    let name = hello.server_name().map(str::to_owned);
    let offered: Vec<String> =
        hello.alpn().into_iter().flatten().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
    let connection = match accepted.into_connection(config) {
        Ok(connection) => connection,
        Err((_, mut alert)) => {
            let _ = alert.write_all(&mut stream);
            return None;
        }
    };
    let mut tls = rustls::StreamOwned::new(connection, stream);
    let mut buffer = Vec::new();
    let mut counted = false;
    loop {
        let mut chunk = [0; 4096];
        let length = tls.read(&mut chunk).ok().filter(|n| *n > 0)?;
        if !std::mem::replace(&mut counted, true) {
            let mut seen = seen.lock().unwrap();
            seen.names.push(name.clone());
            seen.offered.push(offered.clone());
        }
        buffer.extend_from_slice(chunk.get(..length)?);
        if buffer.ends_with(b"\r\n\r\n") {
            seen.lock().unwrap().heads.push(String::from_utf8_lossy(&buffer).into_owned());
            buffer.clear();
            tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").ok()?;
        }
    }
}

/// One upstream per line of keys, each with its route: `/0`, `/1`, ...
fn gateway(setup: Setup, upstreams: &[String]) -> Gateway {
    let mut yaml = format!("{HEAD}upstreams:\n");
    for (at, keys) in upstreams.iter().enumerate() {
        yaml.push_str(&format!("  u{at}: {{ {keys} }}\n"));
    }
    yaml.push_str("routes:\n");
    for at in 0..upstreams.len() {
        yaml.push_str(&format!(
            "  - {{ name: r{at}, match: {{ path: {{ prefix: /{at} }} }}, upstream: u{at} }}\n"
        ));
    }
    setup.start(&yaml)
}

#[test]
fn an_upstream_is_verified_by_its_authority_and_its_name() {
    let origin = TlsOrigin::start("vendor.example");
    let other = TlsOrigin::start("vendor.example");
    let at = origin.address;
    let kinds = ["allowPrivate: true", "kind: app"];
    let mut upstreams = Vec::new();
    for kind in kinds {
        let url = format!("url: \"https://{at}\", {kind}");
        upstreams.push(format!("{url}, tls: {{ ca: ca.pem, sni: vendor.example }}"));
        upstreams.push(format!("{url}, tls: {{ ca: other.pem, sni: vendor.example }}"));
        upstreams.push(format!("{url}, tls: {{ ca: ca.pem, sni: wrong.example }}"));
        upstreams.push(format!("{url}, tls: {{ ca: ca.pem }}"));
        upstreams.push(format!("{url}, tls: {{ sni: vendor.example }}"));
    }
    let setup = Setup::new().file("ca.pem", &origin.ca).file("other.pem", &other.ca);
    let gateway = gateway(setup, &upstreams);
    for (first, kind) in [(0, kinds[0]), (5, kinds[1])] {
        // The good one first: its connection lies in the pool when the others ask.
        for _ in 0..2 {
            let answer = gateway.get(&format!("/{first}/x"));
            assert_eq!((answer.status, answer.text().as_str()), (200, "secret"), "{kind}");
        }
        let connections = origin.connections();
        for (at, what) in [
            (1, "another authority"),
            (2, "another name"),
            (3, "an address that the certificate does not have"),
            (4, "the system's authorities"),
        ] {
            let answer = gateway.get(&format!("/{}/x", first + at));
            assert_eq!((answer.status, answer.code().as_str()), (502, "tls_error"), "{kind}: {what}");
            assert!(!answer.contains(b"secret") && !answer.contains(b"example"), "{kind}: {what}");
        }
        assert_eq!(
            origin.connections(),
            connections,
            "{kind}: no request over a connection that was not verified"
        );
    }
    let seen = origin.seen.lock().unwrap();
    assert!(seen.names.iter().all(|name| name.as_deref() == Some("vendor.example")), "{:?}", seen.names);
    assert!(
        seen.heads
            .iter()
            .filter(|h| h.starts_with("GET /0"))
            .all(|h| h.to_ascii_lowercase().contains(&format!("host: {at}\r\n"))),
        "Host is the URL's, not the name verified: {:?}",
        seen.heads
    );
}

#[test]
fn a_name_is_asked_for_and_verified() {
    let origin = TlsOrigin::start("localhost");
    let port = origin.address.port();
    let upstreams = [format!("url: \"https://localhost:{port}\", allowPrivate: true, tls: {{ ca: ca.pem }}")];
    let gateway = gateway(Setup::new().file("ca.pem", &origin.ca), &upstreams);
    let answer = gateway.get("/0/x");
    assert_eq!((answer.status, answer.text().as_str()), (200, "secret"));
    assert_eq!(origin.seen.lock().unwrap().names, [Some("localhost".to_owned())]);
}

#[test]
fn upstreams_of_one_address_and_different_policies_share_no_connection() {
    let origin = TlsOrigin::start("vendor.example");
    let at = origin.address;
    let tls = "tls: { ca: ca.pem, sni: vendor.example }";
    let upstreams = [
        format!("url: \"https://{at}\", allowPrivate: true, {tls}"),
        format!("url: \"https://{at}\", allowPrivate: true, {tls}"),
    ];
    let gateway = gateway(Setup::new().file("ca.pem", &origin.ca), &upstreams);
    for _ in 0..3 {
        for target in ["/0", "/1"] {
            assert_eq!(gateway.get(target).status, 200);
            settle(&gateway);
        }
    }
    assert_eq!(origin.connections(), 2, "each upstream keeps its own");
}

#[test]
fn http_2_is_offered_only_where_it_is_asked_for() {
    let origin = TlsOrigin::start("vendor.example");
    let at = origin.address;
    let url =
        format!("url: \"https://{at}\", allowPrivate: true, tls: {{ ca: ca.pem, sni: vendor.example }}");
    let gateway =
        gateway(Setup::new().file("ca.pem", &origin.ca), &[url.clone(), format!("{url}, http2: true")]);
    assert_eq!(gateway.get("/0").status, 200);
    assert_eq!(
        gateway.get("/1").status,
        200,
        "an origin that does not choose HTTP/2 is spoken to in HTTP/1.1"
    );
    let offered = origin.seen.lock().unwrap().offered.clone();
    assert!(!offered[0].iter().any(|p| p == "h2"), "{offered:?}");
    assert!(offered[1].iter().any(|p| p == "h2"), "{offered:?}");
}

/// Answers with what it heard.
async fn answer(request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<bytes::Bytes>) {
    let (head, mut body) = request.into_parts();
    let mut length = 0;
    while let Some(Ok(chunk)) = body.data().await {
        length += chunk.len();
        let _ = body.flow_control().release_capacity(chunk.len());
    }
    let heard = format!(
        "{{\"method\":\"{}\",\"uri\":\"{}\",\"host\":{},\"connection\":{},\"te\":{},\"body\":{length},\"internal\":1}}",
        head.method,
        head.uri,
        head.headers.contains_key("host"),
        head.headers.contains_key("connection"),
        head.headers.contains_key("transfer-encoding"),
    );
    let status = if head.uri.path().ends_with("limited") { 429 } else { 200 };
    let response = http::Response::builder()
        .status(status)
        .header("server", "h2/1")
        .header("x-internal", "db_7")
        .header("content-type", "text/plain");
    let Ok(mut stream) = respond.send_response(response.body(()).expect("a head"), false) else { return };
    let _ = stream.send_data(heard.into(), true);
}

#[test]
fn an_upstream_may_be_spoken_to_in_http_2() {
    let at = h2_origin(answer);
    let gateway = gateway(
        Setup::new(),
        &[
            format!("url: \"http://{at}/base\", allowPrivate: true, http2: true"),
            format!("url: \"http://{at}\", kind: app, http2: true"),
        ],
    );
    let body = vec![b'x'; 200_000];
    for (target, sent) in
        [("/0/x?q=1", format!("http://{at}/base/0/x?q=1")), ("/1/x?q=1", "/1/x?q=1".to_owned())]
    {
        let answer = gateway.get(target);
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        let heard = answer.json();
        let uri = heard["uri"].as_str().unwrap_or_default().to_owned();
        assert!(uri == sent || uri.ends_with("/1/x?q=1"), "{target}: {heard}");
        for name in ["host", "connection", "te"] {
            assert_eq!(heard[name], false, "{target}: `{name}` has no place in HTTP/2: {heard}");
        }
        assert_eq!(answer.header("server"), None, "{target}");
        let answer = gateway.request("POST", target, &[], &body);
        assert_eq!((answer.status, &answer.json()["body"]), (200, &body.len().into()), "{target}");
        let head = gateway.request("HEAD", target, &[], b"");
        assert_eq!(head.status, 200, "{target}");
    }
    assert_eq!(gateway.get("/0/x").header("x-internal"), None, "the list of an api holds in HTTP/2 too");
    assert_eq!(gateway.get("/0/limited").status, 503);
}
