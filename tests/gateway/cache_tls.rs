//! The scheme is part of the key, also in the refresh that no client waits for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Gateway, Origin, PATIENCE, Setup, response};

/// One GET over TLS and then the end of the connection: head and body as text.
fn get(gateway: &Gateway, trusted: &rustls::pki_types::CertificateDer<'static>, target: &str) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "app.example".try_into().expect("a name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let socket = TcpStream::connect(gateway.listeners["secure"]).expect("somebody listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut stream = rustls::StreamOwned::new(session, socket);
    let head = format!("GET {target} HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    // Whether the end is announced is not this test's question.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).to_ascii_lowercase()
}

#[test]
fn a_refresh_of_what_came_over_tls_is_stored_for_tls() {
    let made = rcgen::generate_simple_self_signed(["app.example".to_owned()]).expect("a certificate");
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        // Stale on arrival, and kept for the sake of its window.
        let fresh = if n == 0 { "max-age=0" } else { "max-age=60" };
        let scheme = request.header("x-forwarded-proto").unwrap_or_default();
        response(200, &[("Cache-Control", fresh)], format!("v{n} {scheme}").as_bytes())
    });
    let yaml = format!(
        "version: 1
listeners:
  - {{ name: public, address: \"127.0.0.1:0\" }}
  - {{ name: secure, address: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert: a.crt, key: a.key }}] }} }}
upstreams: {{ web: {{ kind: app, url: \"{}\" }} }}
routes: [{{ name: site, match: {{ path: {{ prefix: / }} }}, upstream: web, cache: {{ staleWhileRevalidate: 1h }} }}]
",
        origin.url()
    );
    let setup = Setup::new().file("a.crt", made.cert.pem()).file("a.key", made.signing_key.serialize_pem());
    let gateway = setup.start(&yaml);
    let ask = || get(&gateway, made.cert.der(), "/x");
    let first = ask();
    assert!(first.ends_with("v0 https") && first.contains("; stored"), "{first}");
    let stale = ask();
    assert!(stale.ends_with("v0 https") && stale.contains("; hit"), "given at once: {stale}");
    eventually!(
        ask().ends_with("v1 https"),
        "the refresh, fetched as https, is what is given now: {}",
        ask()
    );
    assert_eq!(origin.count(), 2, "one refresh");
    let plain = gateway.get("/x");
    assert_eq!(plain.text(), "v2 http", "another scheme is another entry");
}
