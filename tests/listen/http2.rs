//! HTTP/2: by ALPN and by prior knowledge, deadlines, limits.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, Response};
use pingora::protocols::ALPN;
use portcullis::server::listen::{Protocol, Settings, Timeouts};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::house::{Event, PATIENCE, SHORT, patient, read_all, start};
use crate::tls::{connect, secured};

type Client = (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>);

async fn shake<S>(stream: S) -> Client
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
    (client, tokio::spawn(connection))
}

fn request(method: Method, path: &str) -> Request<()> {
    let uri = format!("https://a.example{path}");
    Request::builder().method(method).uri(uri).body(()).expect("a request")
}

async fn ask(client: &SendRequest<Bytes>, request: Request<()>) -> Result<(Response<()>, String), h2::Error> {
    let asking = async {
        let mut client = client.clone().ready().await?;
        let (head, mut body) = client.send_request(request, true)?.0.await?.into_parts();
        let mut text = Vec::new();
        while let Some(bytes) = body.data().await {
            let bytes = bytes?;
            body.flow_control().release_capacity(bytes.len())?;
            text.extend_from_slice(&bytes);
        }
        Ok((Response::from_parts(head, ()), String::from_utf8_lossy(&text).into_owned()))
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_leads_to_http2_and_each_stream_has_its_facts() {
    let directory = tempfile::tempdir().expect("a directory");
    let (house, _) = secured(directory.path(), patient());
    let (client, _) = shake(connect(&house, "a.example", ALPN::H2).await).await;
    for _ in 0..2 {
        let (head, body) = ask(&client, request(Method::GET, "/facts")).await.expect("an answer");
        assert_eq!(head.status(), 200);
        assert!(body.starts_with(r#"("public", true, "http/2""#), "{body}");
    }
    assert_eq!(house.record.count(&Event::Opened(Protocol::Http2)), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn prior_knowledge_works_in_the_clear_beside_http1() {
    let house = start(Settings { http2: true, ..patient() });
    let (client, _) = shake(house.connect().await).await;
    let (_, body) = ask(&client, request(Method::GET, "/facts")).await.expect("an answer");
    assert!(body.starts_with(r#"("public", false, "http/2""#), "{body}");
    let plain = house.ask(b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(plain.starts_with("HTTP/1.1 200 ") && plain.ends_with("ok"), "shorter than the preface: {plain}");
    let other = house.ask(b"PROPFIND / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(other.ends_with("ok"), "begins like the preface: {other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preface_that_does_not_come_is_cut() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = patient();
    let settings = Settings { timeouts: Timeouts { header: SHORT, ..settings.timeouts }, ..settings };
    let (house, _) = secured(directory.path(), settings);
    let mut silent = connect(&house, "a.example", ALPN::H2).await;
    read_all(&mut silent).await;
    house.record.wait(Event::Cut("header_timeout"), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let settings = patient();
    let timeouts = Timeouts { idle: SHORT, ..settings.timeouts };
    let house = start(Settings { http2: true, timeouts, ..settings });
    let (client, connection) = shake(house.connect().await).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { ask(&client, request(Method::GET, "/wait")).await }
    });
    house.begun.notified().await;
    // A second connection shows that the limit has passed for one that does nothing.
    let (idle, idle_connection) = shake(house.connect().await).await;
    ask(&idle, request(Method::GET, "/")).await.expect("an answer");
    house.record.wait(Event::Cut("idle"), 1).await;
    tokio::time::timeout(PATIENCE, idle_connection)
        .await
        .expect("an end")
        .expect("no panic")
        .expect("closed in order");
    house.release.notify_one();
    assert_eq!(waiting.await.expect("no panic").expect("an answer").1, "released");
    house.record.wait(Event::Cut("idle"), 2).await;
    drop(client);
    tokio::time::timeout(PATIENCE, connection)
        .await
        .expect("an end")
        .expect("no panic")
        .expect("closed in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_methods_and_too_many_fields_are_answered_by_us() {
    let house = start(Settings { http2: true, max_header_count: 10, ..patient() });
    let (client, _) = shake(house.connect().await).await;
    let mut crowded = request(Method::GET, "/");
    for number in 0..11 {
        let name = http::HeaderName::try_from(format!("x-{number}")).expect("a name");
        crowded.headers_mut().insert(name, http::HeaderValue::from_static("y"));
    }
    let mut tunnel = Request::builder().method(Method::CONNECT).body(()).expect("a request");
    *tunnel.uri_mut() = "a.example:443".parse().expect("an authority");
    for (request, status, reason) in [
        (request(Method::TRACE, "/"), 405, "method_refused"),
        (tunnel, 405, "method_refused"),
        (crowded, 431, "too_many_headers"),
    ] {
        let (head, body) = ask(&client, request).await.expect("an answer");
        assert_eq!(head.status(), status, "{reason}");
        assert!(body.contains(&format!(r#""code":"{reason}""#)), "{body}");
        assert!(head.headers().get("server").is_none(), "no product name");
    }
    let (head, _) = ask(&client, request(Method::GET, "/")).await.expect("an answer");
    assert_eq!(head.status(), 200, "siblings are not concerned");
    house.record.wait(Event::Answered(405, "method_refused"), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_streams_use_up_a_budget() {
    let house = start(Settings { http2: true, ..patient() });
    let (client, _) = shake(house.connect().await).await;
    for _ in 0..31 {
        let mut odd = request(Method::GET, "/");
        odd.headers_mut().insert("host", http::HeaderValue::from_static("other.example"));
        assert_eq!(ask(&client, odd).await.expect("an answer").0.status(), 400);
    }
    let mut last = request(Method::GET, "/");
    last.headers_mut().insert("host", http::HeaderValue::from_static("other.example"));
    let _ = ask(&client, last).await;
    house.record.wait(Event::Cut("malformed_streams"), 1).await;
    house.record.wait(Event::Answered(400, "malformed_stream"), 32).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_past_its_deadline_is_reset_and_its_siblings_go_on() {
    let house = start(Settings { http2: true, ..patient() });
    let (client, _) = shake(house.connect().await).await;
    let error = ask(&client, request(Method::GET, "/never")).await.expect_err("a reset");
    assert!(error.is_reset(), "{error}");
    house.record.wait(Event::Cut("exchange_deadline"), 1).await;
    assert_eq!(ask(&client, request(Method::GET, "/")).await.expect("an answer").1, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_cut() {
    let settings = patient();
    let timeouts = Timeouts { write: SHORT, ..settings.timeouts };
    let house = start(Settings { http2: true, timeouts, ..settings });
    let mut stream = house.connect().await;
    // By hand, because a client library reads: preface, SETTINGS with a large window, a larger one for the connection,
    // HEADERS of `GET /big` with an indexed authority.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    stream.write_all(b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff").await.expect("sent");
    stream.write_all(b"\0\0\x04\x08\0\0\0\0\0\x7f\0\0\0").await.expect("sent");
    let block = b"\x82\x86\x04\x04/big\x01\x01a";
    stream
        .write_all(&[0, 0, u8::try_from(block.len()).expect("short"), 1, 5, 0, 0, 0, 1])
        .await
        .expect("sent");
    stream.write_all(block).await.expect("sent");
    house.record.wait(Event::Cut("slow_reader"), 1).await;
    house.record.wait(Event::Closed, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_streams_and_ends() {
    let house = start(Settings { http2: true, ..patient() });
    let (client, connection) = shake(house.connect().await).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { ask(&client, request(Method::GET, "/wait")).await }
    });
    house.begun.notified().await;
    house.stop.send(true).expect("a listener");
    house.release.notify_one();
    assert_eq!(waiting.await.expect("no panic").expect("an answer").1, "released");
    drop(client);
    tokio::time::timeout(PATIENCE, connection)
        .await
        .expect("an end")
        .expect("no panic")
        .expect("closed in order");
    tokio::time::timeout(PATIENCE, house.serving).await.expect("an end").expect("no panic");
}
