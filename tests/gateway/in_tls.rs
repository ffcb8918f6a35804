//! TLS: certificates by name, taken from disk when they change.

use crate::harness::{H2Client, Origin, Setup, certificate, served_certificate, tls_exchange};

fn yaml(origin: &Origin) -> String {
    format!(
        "version: 1
listeners:
  - name: public
    address: \"127.0.0.1:0\"
    tls: {{ certificates: [{{ cert: tls/a.crt, key: tls/a.key }}, {{ cert: tls/b.crt, key: tls/b.key }}] }}
admin: {{ address: \"127.0.0.1:0\" }}
upstreams: {{ web: {{ kind: app, url: \"{}\" }} }}
routes: [{{ name: site, upstream: web }}]
",
        origin.url()
    )
}

fn setup() -> Setup {
    let ((a_crt, a_key), (b_crt, b_key)) = (certificate("a.example"), certificate("b.example"));
    Setup::new()
        .file("tls/a.crt", a_crt)
        .file("tls/a.key", a_key)
        .file("tls/b.crt", b_crt)
        .file("tls/b.key", b_key)
}

#[test]
fn each_name_gets_its_certificate_and_a_renewed_one_is_served_without_restart() {
    let origin = Origin::ok();
    let gateway = setup().start(&yaml(&origin));
    let a = served_certificate(gateway.address(), "a.example");
    let b = served_certificate(gateway.address(), "b.example");
    assert_ne!(a, b, "each its own");
    assert_eq!(served_certificate(gateway.address(), "unknown.example"), a, "the first is for all others");
    let before = H2Client::connect(gateway.address(), "b.example");

    let (cert, key) = certificate("b.example");
    gateway.write_file("tls/b.key", key.as_bytes());
    gateway.write_file("tls/b.crt", cert.as_bytes());
    eventually!(served_certificate(gateway.address(), "b.example") != b, "the renewed one is never served");
    assert_eq!(served_certificate(gateway.address(), "a.example"), a, "the other is as it was");
    let answer = before.request("GET", "https://b.example/", &[], &[]).expect("an open connection goes on");
    assert_eq!(answer.status, 200);
}

#[test]
fn a_broken_certificate_on_disk_leaves_the_good_one_in_use() {
    let origin = Origin::ok();
    let gateway = setup().start(&yaml(&origin));
    let a = served_certificate(gateway.address(), "a.example");
    gateway.write_file("tls/a.crt", b"no certificate");
    gateway.signal("HUP");
    eventually!(
        gateway.stderr().contains("certificate") || gateway.stderr().contains("a.crt"),
        "it is said: {}",
        gateway.stderr()
    );
    assert_eq!(served_certificate(gateway.address(), "a.example"), a, "the good one stays");
}

#[test]
fn http1_over_tls_says_https_to_the_app() {
    let origin = Origin::ok();
    let gateway = setup().start(&yaml(&origin));
    let answer = tls_exchange(
        gateway.address(),
        "a.example",
        b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
    let plain = {
        let mut client = crate::harness::Client::connect(gateway.address());
        client.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        client.read_to_end()
    };
    assert!(!String::from_utf8_lossy(&plain).contains(" 200 "), "no plain HTTP on a TLS port");
    assert_eq!(origin.count(), 1);
}
