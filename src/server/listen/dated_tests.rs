//! What the stream does to heads, however they are cut, and to nothing else.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::names::ListenerName;
use crate::server::listen::Protocol;

const OURS: &str = "Wed, 25 Nov 2026 12:00:00 GMT";
const THEIRS: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const THEIRS_SECONDS: u64 = 784_111_777;

/// A wire that takes what the test says: so many bytes of each call, then all.
#[derive(Debug, Default)]
struct Wire {
    got: Vec<u8>,
    takes: VecDeque<usize>,
    calls: usize,
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.calls += 1;
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let take = match self.takes.pop_front() {
            Some(0) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(take) => take.min(all.len()),
            None => all.len(),
        };
        self.got.extend(all.iter().take(take));
        Poll::Ready(Ok(take))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn dated(takes: impl IntoIterator<Item = usize>) -> Dated<Wire> {
    let shared = Arc::new(Shared {
        listener: ListenerName::parse("public").expect("a name"),
        peer: SocketAddr::from(([192, 0, 2, 1], 1)),
        tls: false,
        protocol: Protocol::Http1,
        date: Asked::nothing(),
    });
    Dated::new(Wire { takes: takes.into_iter().collect(), ..Wire::default() }, shared)
}

fn ask(stream: &Dated<Wire>) {
    stream.shared.date.set(Some(UNIX_EPOCH + Duration::from_secs(THEIRS_SECONDS)));
}

/// What is on the wire after each of `pieces` was written whole, asked once before the first.
async fn written(pieces: &[&[u8]], takes: impl IntoIterator<Item = usize>) -> String {
    let mut stream = dated(takes);
    ask(&stream);
    for piece in pieces {
        stream.write_all(piece).await.expect("written");
    }
    String::from_utf8(stream.io.got).expect("text")
}

fn head(date: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nx-date: 1\r\nDate: {date}\r\ndates: {OURS}\r\n\r\n")
}

#[tokio::test]
async fn the_date_of_the_head_is_exchanged_and_nothing_else() {
    for name in ["Date", "date", "DATE"] {
        let with = |date: &str| head(date).replace("Date", name);
        assert_eq!(written(&[with(OURS).as_bytes()], []).await, with(THEIRS));
    }
}

#[tokio::test]
async fn a_head_may_be_cut_anywhere_by_the_writer() {
    let (whole, expected) = (head(OURS) + "body", head(THEIRS) + "body");
    for cut in 1..whole.len() {
        let (a, b) = whole.as_bytes().split_at(cut);
        assert_eq!(written(&[a, b], []).await, expected, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
    assert_eq!(written(&bytes, []).await, expected, "byte by byte");
}

#[tokio::test]
async fn a_head_may_be_cut_anywhere_by_the_wire() {
    let (whole, expected) = (head(OURS) + "body", head(THEIRS) + "body");
    for cut in 1..whole.len() {
        assert_eq!(written(&[whole.as_bytes()], [cut, 0, 1, 0]).await, expected, "cut at {cut}");
    }
    assert_eq!(written(&[whole.as_bytes()], vec![1; whole.len()]).await, expected, "byte by byte");
}

#[tokio::test]
async fn a_large_head_is_exchanged_too() {
    let filler = format!("x-filler: {}\r\n", "v".repeat(100));
    let with = |date: &str| format!("HTTP/1.1 200 OK\r\n{}Date: {date}\r\n\r\n", filler.repeat(1000));
    let whole = with(OURS);
    let pieces: Vec<&[u8]> = whole.as_bytes().chunks(1460).collect();
    assert!(written(&pieces, vec![1000; 50]).await == with(THEIRS));
}

#[tokio::test]
async fn body_bytes_are_never_touched() {
    let body = format!("HTTP/1.1 200 OK\r\ndate: {OURS}\r\n\r\n");
    let whole = head(OURS) + &body;
    assert_eq!(written(&[whole.as_bytes()], []).await, head(THEIRS) + &body, "with the head");
    let pieces = [head(OURS).into_bytes(), body.clone().into_bytes()];
    assert_eq!(written(&[&pieces[0], &pieces[1]], []).await, head(THEIRS) + &body, "after the head");
    let undated = format!("HTTP/1.1 200 OK\r\na: b\r\n\r\n{body}");
    assert_eq!(written(&[undated.as_bytes()], []).await, undated, "a head without a date");
    assert_eq!(
        written(&[b"hello", head(OURS).as_bytes()], []).await,
        format!("hello{}", head(OURS)),
        "no head"
    );
}

#[tokio::test]
async fn interim_heads_pass() {
    let interim = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\ndate: {OURS}\r\n\r\n");
    let whole = interim.clone() + &head(OURS);
    assert_eq!(written(&[whole.as_bytes()], []).await, interim.clone() + &head(THEIRS));
    let bytes: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
    assert_eq!(written(&bytes, []).await, interim + &head(THEIRS));
}

#[tokio::test]
async fn one_question_is_for_one_head() {
    let mut stream = dated([]);
    stream.write_all(head(OURS).as_bytes()).await.expect("written");
    ask(&stream);
    stream.write_all(head(OURS).as_bytes()).await.expect("written");
    stream.write_all(head(OURS).as_bytes()).await.expect("written");
    ask(&stream);
    stream.shared.date.set(None);
    stream.write_all(head(OURS).as_bytes()).await.expect("written");
    ask(&stream);
    stream.write_all(head(OURS).as_bytes()).await.expect("written");
    let expected = [OURS, THEIRS, OURS, OURS, THEIRS].map(head).concat();
    assert_eq!(String::from_utf8(stream.io.got).expect("text"), expected);
}

#[tokio::test]
async fn a_value_that_is_shorter_than_a_date_keeps_its_length() {
    let short = "HTTP/1.1 200 OK\r\ndate: now\r\nx: y\r\n\r\n";
    assert_eq!(written(&[short.as_bytes()], []).await, short.replace("now", "Sun"));
    let bytes: Vec<&[u8]> = short.as_bytes().chunks(1).collect();
    assert_eq!(written(&bytes, []).await, short.replace("now", "Sun"));
}

#[tokio::test]
async fn a_head_in_one_piece_is_one_write() {
    let mut stream = dated([]);
    ask(&stream);
    stream.write_all(head(OURS).as_bytes()).await.expect("written");
    assert_eq!(stream.io.calls, 1);
}

#[tokio::test]
async fn slices_are_taken_one_by_one_until_the_head_is_over() {
    let mut stream = dated([]);
    ask(&stream);
    let whole = head(OURS);
    let (a, b) = whole.as_bytes().split_at(50);
    let slices = [IoSlice::new(&[]), IoSlice::new(a), IoSlice::new(b)];
    assert_eq!(stream.write_vectored(&slices).await.expect("written"), 50);
    assert_eq!(
        stream.write_vectored(&[IoSlice::new(b), IoSlice::new(b"body")]).await.expect("written"),
        b.len()
    );
    assert_eq!(stream.write_vectored(&[IoSlice::new(b"bo"), IoSlice::new(b"dy")]).await.expect("written"), 4);
    assert_eq!(String::from_utf8(stream.io.got).expect("text"), head(THEIRS) + "body");
}

#[test]
fn a_moment_that_no_date_can_tell_is_not_asked_for() {
    let asked = Asked::nothing();
    for seconds in [0, 1, THEIRS_SECONDS, YEAR_10000 - 1] {
        asked.set(Some(UNIX_EPOCH + Duration::from_secs(seconds)));
        let text = asked.text().expect("a date");
        assert_eq!(text.len(), text.iter().filter(|b| b.is_ascii_graphic() || **b == b' ').count());
    }
    asked.set(Some(UNIX_EPOCH + Duration::from_secs(YEAR_10000)));
    assert_eq!(asked.text(), None, "too late");
    asked.set(Some(UNIX_EPOCH - Duration::from_secs(1)));
    assert_eq!(asked.text(), None, "too early");
}
