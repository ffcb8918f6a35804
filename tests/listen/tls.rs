//! TLS: names, reload, deadlines.

use std::path::Path;
use std::sync::Arc;

use pingora::connectors::TransportConnector;
use pingora::prelude::HttpPeer;
use pingora::protocols::{ALPN, Stream};
use portcullis::server::listen::{CertificateFiles, Certificates, Settings, Timeouts};
use tokio::io::AsyncWriteExt;

use crate::house::{Event, House, SHORT, patient, read_all, read_answer, start};

pub fn write(directory: &Path, name: &str) -> CertificateFiles {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    let files = CertificateFiles {
        cert: directory.join(format!("{name}.crt")),
        key: directory.join(format!("{name}.key")),
    };
    std::fs::write(&files.cert, made.cert.pem()).expect("written");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    files
}

/// A listener with the certificates `a.example` and `b.example`.
pub fn secured(directory: &Path, settings: Settings) -> (House, Arc<Certificates>) {
    let files = [write(directory, "a.example"), write(directory, "b.example")];
    let certificates = Arc::new(Certificates::load(&files).expect("certificates"));
    (start(Settings { tls: Some(Arc::clone(&certificates)), http2: true, ..settings }), certificates)
}

pub async fn connect(house: &House, name: &str, alpn: ALPN) -> Stream {
    let mut peer = HttpPeer::new(house.address, true, name.to_owned());
    peer.options.verify_cert = false;
    peer.options.verify_hostname = false;
    peer.options.alpn = alpn;
    TransportConnector::new(None).new_stream(&peer).await.expect("a TLS connection")
}

async fn served_certificate(house: &House, name: &str) -> Vec<u8> {
    let stream = connect(house, name, ALPN::H1).await;
    stream.get_ssl_digest().expect("TLS").cert_digest.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_gets_its_certificate_and_a_new_one_after_reload() {
    let directory = tempfile::tempdir().expect("a directory");
    let (house, certificates) = secured(directory.path(), patient());
    let a = served_certificate(&house, "a.example").await;
    let b = served_certificate(&house, "b.example").await;
    assert_ne!(a, b);
    assert_eq!(served_certificate(&house, "other.example").await, a, "the first is the default");
    write(directory.path(), "b.example");
    assert!(certificates.reload().expect("new files"));
    assert_ne!(served_certificate(&house, "b.example").await, b, "renewed");
    assert_eq!(served_certificate(&house, "a.example").await, a, "as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_over_tls_is_reused_and_knows_that_it_is_tls() {
    let directory = tempfile::tempdir().expect("a directory");
    let (house, _) = secured(directory.path(), patient());
    let mut stream = connect(&house, "a.example", ALPN::H1).await;
    for _ in 0..2 {
        stream.write_all(b"GET /facts HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        stream.flush().await.expect("sent");
        let (_, body) = read_answer(&mut stream).await;
        assert!(body.starts_with(r#"("public", true, "http/1""#), "{body}");
    }
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    stream.flush().await.expect("sent");
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 400 "), "our own answers go through TLS too");
    house.record.wait(Event::Handshake(true), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_over_tls_arrives_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let (house, _) = secured(directory.path(), patient());
    let mut stream = connect(&house, "a.example", ALPN::H1).await;
    let size = 8 << 20;
    let head = format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&vec![b'x'; size]).await.expect("sent");
    stream.flush().await.expect("sent");
    assert_eq!(read_answer(&mut stream).await.1, size.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_fails_or_does_not_come_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = patient();
    let settings = Settings { timeouts: Timeouts { header: SHORT, ..settings.timeouts }, ..settings };
    let (house, _) = secured(directory.path(), settings);
    house.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    house.record.wait(Event::Handshake(false), 1).await;
    assert_eq!(house.ask(b"\x16\x03\x01").await, "");
    house.record.wait(Event::Handshake(false), 2).await;
}
