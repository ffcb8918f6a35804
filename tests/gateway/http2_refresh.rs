//! A stale object is refreshed in the background also where the client speaks HTTP/2, and under the same key.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Gateway, Origin, response};

/// One GET by prior knowledge; status, `Cache-Status` and body.
fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("somebody listens");
        let (mut client, connection) = h2::client::handshake(stream).await.expect("a handshake");
        tokio::spawn(connection);
        let request = http::Request::get(format!("http://app.example{path}")).body(()).expect("a request");
        let (answer, _) = client.send_request(request, true).expect("sent");
        let answer = answer.await.expect("an answer");
        let status = answer.status().as_u16();
        let cache =
            answer.headers().get("cache-status").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let mut stream = answer.into_body();
        let mut body = Vec::new();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk.expect("data");
            let _ = stream.flow_control().release_capacity(chunk.len());
            body.extend_from_slice(&chunk);
        }
        (status, cache, String::from_utf8_lossy(&body).into_owned())
    })
}

fn refreshes(kind: &str) {
    let asked = AtomicUsize::new(0);
    let origin = Origin::start(move |_| {
        let number = asked.fetch_add(1, Ordering::Relaxed);
        response(200, &[("Cache-Control", "max-age=1")], format!("version {number}").as_bytes())
    });
    let gateway = Gateway::start(&format!(
        "version: 1
listeners: [{{ name: public, address: \"127.0.0.1:0\", http2: true }}]
admin: {{ address: \"127.0.0.1:0\" }}
upstreams: {{ u: {{ kind: {kind}, url: \"{}\", allowPrivate: true }} }}
routes: [{{ name: r, match: {{ path: {{ prefix: / }} }}, upstream: u, cache: {{ staleWhileRevalidate: 1h }} }}]
",
        origin.url()
    ));
    let address = gateway.address();
    assert_eq!(get(address, "/x?a=1").2, "version 0");
    eventually!(get(address, "/x?a=1").2 == "version 1", "the stale object is never refreshed");
    assert!(origin.received().iter().all(|r| r.target() == "/x?a=1"), "{:?}", origin.received());
}

#[test]
fn an_api_object_is_refreshed() {
    refreshes("api");
}

#[test]
fn an_app_object_is_refreshed() {
    refreshes("app");
}
