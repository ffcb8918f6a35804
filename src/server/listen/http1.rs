//! HTTP/1: each head is read under one deadline, checked, and replayed to the framework as if it had been read already.
//!
//! The framework parses a prefix before it reads anything, so a complete head in the prefix keeps its own timers (per read,
//! and none at all from the second request on) from ever being used. Bytes after the head become the start of the body.
//! The framework's pipelining stays off: what arrives in one read with a request and past its end makes it close after the answer. What
//! arrives later waits for its turn ([`super::early`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::StatusCode;
use pingora::apps::{HttpPersistentSettings, HttpServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::accept::Guard;
use super::alarm::Alarm;
use super::answer::{self, Refused};
use super::exchange::{self, Shared};
use super::head::{self, Extent, Limits};
use super::{Settings, Timeouts};

/// Serves a connection to its end. `Some` is no end: the client speaks HTTP/2 by prior knowledge, and these bytes of it
/// have been read.
pub(super) async fn serve<A: HttpServerApp + Send + Sync + 'static>(
    guard: &Arc<Guard<A>>,
    mut stream: Stream,
    shared: &Arc<Shared>,
) -> Option<(Stream, BytesMut)> {
    let place = guard.stop.place();
    let mut reader = Reader {
        limits: guard.limits,
        timeouts: guard.settings.timeouts,
        preface: guard.settings.http2 && !shared.tls,
        first: true,
        alarm: Alarm::default(),
    };
    let mut carried = None;
    loop {
        match reader.next(&mut stream, guard.stop.wait(place)).await {
            Next::Head(bytes, length) => {
                let session = session(stream, bytes, carried.take(), &guard.settings);
                let work = guard.app.process_new_http(session, &guard.shutdown);
                match exchange::run(shared, length, guard.settings.timeouts.body, &mut reader.alarm, work)
                    .await
                {
                    Ok(Some(reused)) => (stream, carried) = reused.consume(),
                    Ok(None) => return None,
                    Err(reason) => {
                        guard.watch.cut(reason);
                        return None;
                    }
                }
                reader.first = false;
            }
            Next::Preface(bytes) => return Some((stream, bytes)),
            Next::Refused(refused, bytes) => {
                guard.tell(refused, shared, bytes.len());
                answer::http1(stream, refused, head::content(&bytes)).await;
                return None;
            }
            Next::Silent(reason) => {
                guard.watch.cut(reason);
                close(stream).await;
                return None;
            }
            Next::Gone => {
                close(stream).await;
                return None;
            }
        }
    }
}

/// The framework's session for a head that we have read.
fn session(
    stream: Stream,
    head: BytesMut,
    carried: Option<HttpPersistentSettings>,
    settings: &Settings,
) -> ServerSession {
    let mut session = ServerSession::new_http1(stream);
    match carried {
        Some(carried) => carried.apply_to_session(&mut session),
        None => {
            // Any value but none: it only says that the connection may be reused. The waiting is ours.
            session.set_keepalive(Some(settings.timeouts.idle.as_secs().max(1)));
            session.set_keepalive_reuses_remaining(
                settings.keepalive_requests.map(|count| count.saturating_sub(1)),
            );
        }
    }
    session.set_read_timeout(Some(settings.timeouts.body));
    session.set_write_timeout(Some(write_net(settings.timeouts)));
    // A body that the app did not want is read away for as long as one that it wants.
    session.set_total_drain_timeout(Some(settings.timeouts.body));
    session.set_pipelined_prefix(head);
    session
}

/// The second net under the slow-reader watchdog: one write call may take this long. Wide, because a single call may wait for
/// a third of the kernel's buffer on an honest slow line.
pub(super) fn write_net(timeouts: Timeouts) -> Duration {
    timeouts.write.saturating_mul(4).max(LEAST_WRITE_NET)
}

/// Closes with the farewell of TLS, if any, and does not wait for the other side.
async fn close(mut stream: Stream) {
    let _ = timeout(CLOSE_WITHIN, AsyncWriteExt::shutdown(&mut stream)).await;
}

/// What came next on the connection.
enum Next {
    /// Bytes that begin with a complete and checked head of this length.
    Head(BytesMut, usize),
    /// The client speaks HTTP/2 by prior knowledge (RFC 9113 §3.3).
    Preface(BytesMut),
    /// A head that we answer ourselves, or what arrived of it.
    Refused(Refused, BytesMut),
    /// Nothing arrived in time.
    Silent(&'static str),
    /// The client has left, or we are shutting down and nothing has begun.
    Gone,
}

/// Reads one head after another.
struct Reader {
    limits: Limits,
    timeouts: Timeouts,
    /// Look for the preface of HTTP/2 on the first read.
    preface: bool,
    first: bool,
    /// One for all waiting on this connection.
    alarm: Alarm,
}

impl Reader {
    async fn next(&mut self, stream: &mut Stream, stopped: impl Future<Output = ()>) -> Next {
        tokio::pin!(stopped);
        let mut buf = BytesMut::with_capacity(READ_BYTES);
        let mut seen = 0;
        let mut deadline =
            Instant::now() + if self.first { self.timeouts.header } else { self.timeouts.idle };
        loop {
            let begun = !buf.is_empty();
            if buf.capacity() - buf.len() < READ_BYTES / 4 {
                buf.reserve(READ_BYTES);
            }
            // Reading first: what has arrived before the shutdown was seen is served.
            let read = tokio::select! {
                biased;
                read = stream.read_buf(&mut buf) => read,
                () = &mut stopped, if !begun => return Next::Gone,
                () = self.alarm.at(deadline) => return self.late(begun, buf),
            };
            match read {
                Ok(0) if begun => return Next::Refused(Refused::bad("incomplete_head"), buf),
                Ok(0) | Err(_) => return Next::Gone,
                Ok(_) => {}
            }
            skip_empty_lines(&mut buf, seen);
            if buf.is_empty() {
                continue;
            }
            if !begun && !self.first {
                deadline = Instant::now() + self.timeouts.header;
            }
            match self.look(&buf, seen) {
                Look::More => seen = buf.len(),
                Look::Wait => {}
                Look::Head(length) => return Next::Head(buf, length),
                Look::Preface => return Next::Preface(buf),
                Look::Refused(refused) => return Next::Refused(refused, buf),
            }
        }
    }

    fn late(&self, begun: bool, buf: BytesMut) -> Next {
        match (begun, self.first) {
            (true, _) => Next::Refused(TOO_LATE, buf),
            (false, true) => Next::Silent("header_timeout"),
            (false, false) => Next::Silent("idle"),
        }
    }

    fn look(&self, buf: &[u8], seen: usize) -> Look {
        if self.first && self.preface && PREFACE.starts_with(buf.get(..PREFACE.len()).unwrap_or(buf)) {
            return if buf.len() >= PREFACE.len() { Look::Preface } else { Look::Wait };
        }
        if buf == b"\r" {
            return Look::Wait;
        }
        match head::extent(buf, seen, self.limits) {
            Ok(Extent::Partial) => Look::More,
            Ok(Extent::Complete(length)) => {
                match head::check(buf.get(..length).unwrap_or(buf), self.limits) {
                    Ok(()) => Look::Head(length),
                    Err(refused) => Look::Refused(refused),
                }
            }
            Err(refused) => Look::Refused(refused),
        }
    }
}

/// What is in the buffer.
enum Look {
    /// A part of a head, looked through.
    More,
    /// Too little to say.
    Wait,
    Head(usize),
    Preface,
    Refused(Refused),
}

/// Empty lines before a request line are old clients' mistakes and are ignored (RFC 9112 §2.2).
fn skip_empty_lines(buf: &mut BytesMut, seen: usize) {
    while seen == 0 && buf.starts_with(b"\r\n") {
        buf.advance(2);
    }
}

const TOO_LATE: Refused = Refused::new(StatusCode::REQUEST_TIMEOUT, "header_timeout");
/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most heads fit, so most need one read.
const READ_BYTES: usize = 4096;
/// For the farewell.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// See [`write_net`].
const LEAST_WRITE_NET: Duration = Duration::from_secs(60);
