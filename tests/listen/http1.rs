//! HTTP/1: deadlines, limits, spellings, reuse.

use portcullis::server::listen::{MAX_REQUEST_LINE_BYTES, Protocol, Settings, Timeouts};
use tokio::io::AsyncWriteExt;

use crate::house::{Event, SHORT, patient, read_all, read_answer, start};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn quick_header() -> Settings {
    let settings = patient();
    Settings { timeouts: Timeouts { header: SHORT, ..settings.timeouts }, ..settings }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_reused_and_its_facts_are_known() {
    let house = start(patient());
    let mut stream = house.connect().await;
    for _ in 0..3 {
        stream.write_all(b"GET /facts HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        let (_, body) = read_answer(&mut stream).await;
        assert_eq!(body, r#"("public", false, "http/1", 32) 127.0.0.1"#);
    }
    assert_eq!(house.record.count(&Event::Opened(Protocol::Http1)), 1, "one connection for all");
    drop(stream);
    house.record.wait(Event::Closed, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_is_408_on_the_first_and_on_a_later_request() {
    let house = start(quick_header());
    let answer = house.ask(b"GET / HTTP/1.1\r\nHost:").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""code":"header_timeout""#), "{answer}");
    let mut stream = house.connect().await;
    stream.write_all(GET).await.expect("sent");
    read_answer(&mut stream).await;
    stream.write_all(b"G").await.expect("sent");
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    house.record.wait(Event::Answered(408, "header_timeout"), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dripping_does_not_extend_the_deadline() {
    let house = start(quick_header());
    let (mut reading, mut writing) = house.connect().await.into_split();
    let dripping = tokio::spawn(async move {
        let mut tick = tokio::time::interval(SHORT / 10);
        while writing.write_all(b"X").await.is_ok() {
            tick.tick().await;
        }
    });
    let answer = read_all(&mut reading).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    dripping.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_closed_without_an_answer() {
    let house = start(quick_header());
    assert_eq!(house.ask(b"").await, "");
    house.record.wait(Event::Cut("header_timeout"), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_after_its_second_request_too() {
    let settings = patient();
    let house = start(Settings { timeouts: Timeouts { idle: SHORT, ..settings.timeouts }, ..settings });
    let mut stream = house.connect().await;
    for _ in 0..2 {
        stream.write_all(GET).await.expect("sent");
        read_answer(&mut stream).await;
    }
    assert_eq!(read_all(&mut stream).await, "");
    house.record.wait(Event::Cut("idle"), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_over_its_limits_is_answered() {
    let house = start(patient());
    let field = format!("X: {}\r\n", "x".repeat(40 * 1024));
    let many = "X: y\r\n".repeat(101);
    let long = "x".repeat(MAX_REQUEST_LINE_BYTES + 1);
    for (text, status, reason) in [
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"), 431, "head_too_large"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431, "too_many_headers"),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414, "request_line_too_long"),
    ] {
        let answer = house.ask(text.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{reason}: {answer}");
        house.record.wait(Event::Answered(status, reason), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_dispute_is_answered_told_and_closed_without_a_name() {
    let house = start(patient());
    for (text, status, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "host_missing"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "host_repeated"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\nHost: a\n\n", 400, "bare_lf"),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", 400, "header_value"),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\0\r\n\r\n", 400, "header_value"),
        ("GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400, "space_before_colon"),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400, "obs_fold"),
        ("GET / HTTP/1.1\r\nHost: a\r\nA(: b\r\n\r\n", 400, "header_name"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", 400, "content_length"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "length_and_coding",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n", 400, "transfer_encoding"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "transfer_encoding"),
        ("NONSENSE\r\n\r\n", 400, "request_line"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_refused"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "method_refused"),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "http_version"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version"),
    ] {
        let told = house.record.count(&Event::Answered(status, reason));
        let answer = house.ask(text.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{text:?}: {answer}");
        assert!(answer.contains(&format!(r#""code":"{reason}""#)), "{text:?}: {answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{text:?}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("pingora"), "{text:?}: {answer}");
        house.record.wait(Event::Answered(status, reason), told + 1).await;
    }
    assert_eq!(house.logged.load(std::sync::atomic::Ordering::SeqCst), 0, "no hook ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_in_pieces_after_empty_lines_is_served() {
    let house = start(patient());
    let mut stream = house.connect().await;
    stream.set_nodelay(true).expect("set");
    for piece in ["\r", "\n\r\nGE", "T / HTTP/1.1\r", "\nHost: a\r\n\r", "\n"] {
        stream.write_all(piece.as_bytes()).await.expect("sent");
        tokio::task::yield_now().await;
    }
    assert_eq!(read_answer(&mut stream).await.1, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_arrive_whole_and_the_connection_goes_on() {
    let house = start(patient());
    let mut stream = house.connect().await;
    let size = 8 << 20;
    let head = format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&vec![b'x'; size]).await.expect("sent");
    assert_eq!(read_answer(&mut stream).await.1, size.to_string());
    let chunked = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    stream.write_all(chunked).await.expect("sent");
    assert_eq!(read_answer(&mut stream).await.1, "5");
    stream.write_all(GET).await.expect("sent");
    assert_eq!(read_answer(&mut stream).await.1, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_past_a_body_are_never_taken_for_a_request() {
    let house = start(patient());
    let two = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /facts HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = house.ask(two).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n3"),
        "the first alone: {answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_as_many_requests_as_it_may() {
    let house = start(Settings { keepalive_requests: Some(2), ..patient() });
    let mut stream = house.connect().await;
    stream.write_all(GET).await.expect("sent");
    read_answer(&mut stream).await;
    stream.write_all(GET).await.expect("sent");
    let rest = read_all(&mut stream).await;
    assert!(rest.starts_with("HTTP/1.1 200 "), "the second is served, then closed: {rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_cut_and_logged() {
    let settings = patient();
    let house = start(Settings { timeouts: Timeouts { write: SHORT, ..settings.timeouts }, ..settings });
    let mut stream = house.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
    house.record.wait(Event::Cut("slow_reader"), 1).await;
    house.record.wait(Event::Closed, 1).await;
    assert_eq!(
        house.logged.load(std::sync::atomic::Ordering::SeqCst),
        1,
        "the ordinary error path was taken"
    );
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_past_its_deadline_is_dropped() {
    let house = start(patient());
    assert_eq!(house.ask(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await, "");
    house.record.wait(Event::Cut("exchange_deadline"), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_dropped() {
    let settings = patient();
    let house = start(Settings { timeouts: Timeouts { body: SHORT, ..settings.timeouts }, ..settings });
    let (mut reading, mut writing) = house.connect().await.into_split();
    writing
        .write_all(b"POST /stuck-upload HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n")
        .await
        .expect("sent");
    let dripping = tokio::spawn(async move {
        let mut tick = tokio::time::interval(SHORT / 10);
        while writing.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    });
    assert_eq!(read_all(&mut reading).await, "");
    house.record.wait(Event::Cut("slow_body"), 1).await;
    dripping.abort();
}
