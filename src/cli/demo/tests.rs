//! Both demo servers over real sockets.

use super::*;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const KEY: &str = "a-key-for-tests";

async fn listener() -> (TcpListener, SocketAddr) {
    bind("test", SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port")
}

async fn vendor_on_a_free_port(keys: impl Into<Keys>) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(vendor(listener, keys.into()));
    address
}

async fn webapp_on_a_free_port() -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(webapp(listener));
    address
}

/// One request on its own connection; the whole answer as text.
async fn ask(address: SocketAddr, request_line: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let length = body.len();
    let request = format!(
        "{request_line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("open connection");
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answer));
    read.await.expect("an answer in time").expect("text");
    answer
}

async fn get(address: SocketAddr, target: &str) -> String {
    ask(address, &format!("GET {target}"), &format!("X-Api-Key: {KEY}\r\n"), "").await
}

fn has(answer: &str, parts: &[&str]) {
    for part in parts {
        assert!(answer.to_lowercase().contains(&part.to_lowercase()), "`{part}` is missing in:\n{answer}");
    }
}

#[tokio::test]
async fn the_vendor_refuses_whoever_has_no_key() {
    let vendor = vendor_on_a_free_port(KEY.to_owned()).await;
    for headers in ["", "X-Api-Key: wrong\r\n", &format!("X-Api-Key: {KEY}\r\nX-Api-Key: {KEY}\r\n")] {
        has(&ask(vendor, "GET /v2/weather", headers, "").await, &["HTTP/1.1 401"]);
    }
    has(
        &ask(vendor, "GET /v2/weather", &format!("Authorization: Bearer {KEY}\r\n"), "").await,
        &["HTTP/1.1 200"],
    );
    let seen = ask(vendor, "GET /v2/credentials", "", "").await;
    has(&seen, &["\"missing\":1", "\"wrong\":1", "\"several\":1"]);
    assert!(!seen.contains(KEY), "credentials are shown as fingerprints only");
}

#[tokio::test]
async fn the_vendor_leaks_what_the_gate_must_hold_back() {
    let vendor = vendor_on_a_free_port(KEY.to_owned()).await;
    let weather = get(vendor, "/v2/weather?city=Oslo").await;
    has(
        &weather,
        &[
            "\"city\":\"Oslo\"",
            "internal_id",
            "owner_email",
            "trace",
            "x-internal-node",
            "server:",
            "set-cookie",
        ],
    );
    has(&weather, &["cache-control: public, max-age=30", "etag:"]);
    let own = format!("http://{vendor}/v2/");
    has(&get(vendor, "/v2/redirect").await, &["HTTP/1.1 302", &format!("location: {own}weather")]);
    has(
        &get(vendor, "/v2/links").await,
        &[&format!("link: <{own}links"), &format!("\"self\":\"{own}links\"")],
    );
    has(&get(vendor, "/v2/fail?status=500").await, &["HTTP/1.1 500", "pg-3.internal"]);
    has(&get(vendor, "/v2/quota").await, &["HTTP/1.1 429", "retry-after: 30"]);
}

#[tokio::test]
async fn the_echo_shows_the_key_only_when_asked() {
    let vendor = vendor_on_a_free_port(KEY.to_owned()).await;
    let polite = get(vendor, "/v2/echo?a=b").await;
    has(&polite, &["\"query\":\"a=b\"", "[\"x-api-key\",\"(the vendor's key)\"]"]);
    assert!(!polite.contains(KEY), "the key is in:\n{polite}");
    has(&get(vendor, "/v2/echo?raw=1").await, &[KEY]);
    let posted = ask(vendor, "POST /v2/echo", &format!("X-Api-Key: {KEY}\r\n"), "a").await;
    has(&posted, &["\"bytes\":1", "af63dc4c8601ec8c"]);
}

#[tokio::test]
async fn the_vendor_counts_and_answers_any_size() {
    let vendor = vendor_on_a_free_port(KEY.to_owned()).await;
    has(&get(vendor, "/v2/bytes?size=1024").await, &["content-length: 1024\r\n"]);
    has(&get(vendor, "/v2/bytes?size=0").await, &["content-length: 2\r\n"]);
    has(&get(vendor, "/v2/count").await, &["\"/v2/bytes\":2"]);
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_for_every_request() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keys");
    let vendor = vendor_on_a_free_port(Keys::File(file.clone())).await;
    has(&get(vendor, "/v2/weather").await, &["HTTP/1.1 401"]);
    fs::write(&file, format!("another-one\n{KEY}\n")).expect("a writable directory");
    has(&get(vendor, "/v2/weather").await, &["HTTP/1.1 200"]);
}

#[tokio::test]
async fn the_login_cookie_opens_the_account() {
    let app = webapp_on_a_free_port().await;
    has(&get(app, "/account").await, &["HTTP/1.1 401"]);
    let answer = ask(app, "POST /login", "", "name=Ada+%3Cb%3E").await;
    has(&answer, &["HTTP/1.1 303", "location: /account", "httponly"]);
    let cookie = answer.split("session=").nth(1).and_then(|rest| rest.split(';').next()).expect("a session");
    let account = ask(app, "GET /account", &format!("Cookie: session={cookie}\r\n"), "").await;
    has(&account, &["HTTP/1.1 200", "Signed in as Ada &lt;b&gt;"]);
    let left = ask(app, "POST /logout", &format!("Cookie: session={cookie}\r\n"), "").await;
    has(&left, &["HTTP/1.1 303", "max-age=0"]);
    has(&ask(app, "GET /account", &format!("Cookie: session={cookie}\r\n"), "").await, &["HTTP/1.1 401"]);
}

#[tokio::test]
async fn the_app_has_its_own_404_and_leads_away() {
    let app = webapp_on_a_free_port().await;
    has(&get(app, "/nowhere").await, &["HTTP/1.1 404", "demo-app-note"]);
    has(&get(app, "/away").await, &["HTTP/1.1 302", "location: https://partner.example/"]);
    has(&get(app, "/").await, &["HTTP/1.1 200", "content-security-policy", "</html>"]);
    has(&get(app, "/app.js").await, &["text/javascript"]);
    has(&get(app, "/login").await, &["HTTP/1.1 405"]);
    has(&get(app, "/ws").await, &["HTTP/1.1 426"]);
    has(&ask(app, "POST /upload", "", "a").await, &["\"bytes\":1", "af63dc4c8601ec8c"]);
}

#[tokio::test]
async fn a_websocket_comes_back_through_real_sockets() {
    let app = webapp_on_a_free_port().await;
    let mut stream = TcpStream::connect(app).await.expect("it listens");
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {app}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("open connection");
    // `hi` in one masked frame (RFC 6455 §5.2), mask 0.
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.expect("open connection");
    let mut got = Vec::new();
    while !got.ends_with(&[0x81, 2, b'h', b'i']) {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_buf(&mut got)).await;
        assert_ne!(read.expect("an answer in time").expect("open connection"), 0, "closed after {got:?}");
    }
    has(&String::from_utf8_lossy(&got), &["101 Switching Protocols", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
}

#[test]
fn start_writes_the_key_and_listens() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join(CONFIG);
    fs::create_dir(directory.path().join("conf")).expect("a writable directory");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let running = start(&config, any, any).expect("free ports");
    let file = directory.path().join(".demo/vendor-key");
    assert_eq!(fs::read_to_string(&file).expect("the key"), running.key);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).expect("the key").permissions());
    assert_eq!(mode & 0o777, 0o600, "only the owner reads the key");
    assert!(!format!("{running:?}").contains(&running.key), "the key is never printed");
    let taken = start(&config, running.vendor, any).expect_err("the port is taken");
    assert!(matches!(taken, DemoError::Bind("vendor", address, _) if address == running.vendor), "{taken}");
    assert_eq!(
        fs::read_to_string(&file).expect("the key"),
        running.key,
        "a second demo leaves the key alone"
    );
}

#[test]
fn the_demos_file_names_the_demos_addresses_and_key() {
    let file = include_str!("../../../conf/demo.yaml");
    for part in [&format!("http://{VENDOR}/"), &format!("http://{WEBAPP}"), KEY_FILE] {
        assert!(file.contains(part), "`{part}` is not in conf/demo.yaml");
    }
}
