//! The origin's `Date` on HTTP/1: put back into the head that is written.
//!
//! A `Date` says when the origin made the answer; a cache and a proxy pass it on (RFC 9110 §6.6.1), and whoever stores the answer after
//! us counts its age from it (RFC 9111 §4.2.3). The framework writes the time of sending over it, below every hook, in a head that it
//! makes out itself. So this stream stands between the framework and the wire (outside of TLS). Asked for a moment by
//! [`keep_date`](super::keep_date), it looks through the next final head and exchanges the value of `date`, byte for byte: no length
//! changes, so framing cannot. Interim heads (1xx) pass, and from the end of the head on nothing is looked at until it is asked again.
//!
//! A head may come in pieces and the wire may take less than it is given: the place in the head is kept from write to write.
//!
//! Cost: while nothing is asked, one relaxed load for each write. When asked, one pass over the head (by `memchr`, line by line, up to
//! `date`), 29 bytes formatted on the stack, and a write of three slices in place of one; nothing is copied or allocated.
//!
//! What it reads goes by way of [`Early`], which is about another matter.
//!
//! Not for HTTP/2: there the framework hands its head to HPACK, and `Age` has to say it (`proxy::response`).

use std::io::{self, IoSlice, Write as _};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::early::Early;
use super::exchange::Shared;

/// The moment that the next final head of a connection is to carry. Taken by that head; set and taken by the connection's own task.
#[derive(Debug)]
pub(super) struct Asked(AtomicU64);

impl Asked {
    pub(super) const fn nothing() -> Self {
        Self(AtomicU64::new(NOTHING))
    }

    /// `None`, and a moment that no `Date` can tell, leave the head as the framework makes it.
    pub(super) fn set(&self, moment: Option<SystemTime>) {
        let seconds = moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
        let seconds = seconds.map_or(NOTHING, |since| since.as_secs());
        // Relaxed: it guards no other memory, and one task sets and reads it.
        self.0.store(if seconds < YEAR_10000 { seconds } else { NOTHING }, Ordering::Relaxed);
    }

    fn text(&self) -> Option<[u8; DATE_BYTES]> {
        let seconds = self.0.load(Ordering::Relaxed);
        if seconds == NOTHING {
            return None;
        }
        let mut text = [0; DATE_BYTES];
        write!(text.as_mut_slice(), "{}", HttpDate::from(UNIX_EPOCH + Duration::from_secs(seconds))).ok()?;
        Some(text)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Dated<S> {
    io: S,
    shared: Arc<Shared>,
    place: Place,
    early: Early,
}

impl<S> Dated<S> {
    pub(super) fn new(io: S, shared: Arc<Shared>) -> Self {
        Self { io, shared, place: Place::START, early: Early::default() }
    }

    pub(super) fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncWrite + Unpin> Dated<S> {
    /// Writes bytes of a head whose date is to be `date`; how many of them were taken.
    fn poll_write_head(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
        date: &[u8; DATE_BYTES],
    ) -> Poll<io::Result<usize>> {
        let mut after = self.place;
        let io = Pin::new(&mut self.io);
        let taken = match after.pass(buf) {
            None => ready!(io.poll_write(cx, buf))?,
            Some(value) => {
                let before = buf.get(..value.at.start).unwrap_or_default();
                let date = date.get(value.from..).unwrap_or_default();
                let date = date.get(..value.at.len()).unwrap_or(date);
                let rest = buf.get(value.at.end..).unwrap_or_default();
                let slices = [before, date, rest].map(IoSlice::new);
                ready!(io.poll_write_vectored(cx, &slices))?
            }
        };
        if taken < buf.len() {
            // The place is where the wire is, not where the framework is.
            after = self.place;
            after.pass(buf.get(..taken).unwrap_or(buf));
        }
        self.place = after;
        if after == Place::Done {
            self.shared.date.set(None);
            self.place = Place::START;
        }
        Poll::Ready(Ok(taken))
    }
}

/// Where in a head the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// So many bytes into `HTTP/1.1 200`, up to the first digit of the status.
    Version(usize),
    /// In a line that is not it.
    Line(Head),
    /// At the beginning of a line, so many bytes of it being those of `date:`.
    Name(Head, usize),
    /// In the empty line that ends the head.
    Empty(Head),
    /// So many bytes into the value of `date`.
    Value(usize),
    /// Past the date, or past a head that has none.
    Done,
}

/// Which head it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// One with 1xx, which another follows.
    Interim,
    Final,
}

/// Bytes of the value of `date` in a buffer.
#[derive(Debug, PartialEq, Eq)]
struct Value {
    at: Range<usize>,
    /// How many bytes of the value came before.
    from: usize,
}

impl Place {
    const START: Self = Self::Version(0);

    /// Goes through `buf` up to the end of the date, or of the head.
    fn pass(&mut self, buf: &[u8]) -> Option<Value> {
        let mut at = 0;
        while let Some(&byte) = buf.get(at) {
            match *self {
                Self::Done => return None,
                Self::Value(from) => return self.pass_value(buf.get(at..).unwrap_or_default(), at, from),
                Self::Line(head) => {
                    let rest = buf.get(at..).unwrap_or_default();
                    let end = memchr::memchr(b'\n', rest)?;
                    at += end;
                    *self = Self::Name(head, 0);
                }
                _ => *self = self.step(byte),
            }
            at += 1;
        }
        None
    }

    /// One byte, where single bytes matter.
    fn step(self, byte: u8) -> Self {
        match self {
            Self::Version(past) => match VERSION.get(past) {
                Some(&expected) if byte == expected => Self::Version(past + 1),
                // What begins otherwise is no head, and none of our business.
                Some(_) => Self::Done,
                None if past == VERSION.len() => Self::Version(past + 1),
                None if byte == b' ' => Self::Version(past + 1),
                None if byte == b'1' => Self::Line(Head::Interim),
                None => Self::Line(Head::Final),
            },
            Self::Name(head, past) => match NAME.get(past) {
                Some(&expected) if byte.eq_ignore_ascii_case(&expected) => Self::Name(head, past + 1),
                Some(_) if past == 0 && byte == b'\r' => Self::Empty(head),
                Some(_) if byte == b'\n' => Self::Name(head, 0),
                Some(_) => Self::Line(head),
                // The framework writes one space.
                None if head == Head::Final && byte == b' ' => Self::Value(0),
                None => Self::Line(head),
            },
            Self::Empty(Head::Interim) => Self::START,
            Self::Empty(Head::Final) => Self::Done,
            other => other,
        }
    }

    /// `rest` is what is left of a buffer from `at` on. A value that is shorter than a date ends with its line.
    fn pass_value(&mut self, rest: &[u8], at: usize, from: usize) -> Option<Value> {
        let here = rest.get(..DATE_BYTES - from).unwrap_or(rest);
        let length = memchr::memchr(b'\r', here).unwrap_or(here.len());
        let past = from + length;
        *self = if past == DATE_BYTES || length < here.len() { Self::Done } else { Self::Value(past) };
        Some(Value { at: at..at + length, from })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Dated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.shared.date.text() {
            None => Pin::new(&mut self.io).poll_write(cx, buf),
            Some(date) => self.poll_write_head(cx, buf, &date),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.shared.date.text() {
            None => Pin::new(&mut self.io).poll_write_vectored(cx, bufs),
            Some(date) => {
                // A part may be taken: the rest comes again.
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
                self.poll_write_head(cx, first, &date)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Dated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.early.poll_read(&mut this.io, cx, buf)
    }
}

#[async_trait::async_trait]
impl<S: Shutdown + Send> Shutdown for Dated<S> {
    async fn shutdown(&mut self) {
        self.io.shutdown().await;
    }
}

impl<S: UniqueID> UniqueID for Dated<S> {
    fn id(&self) -> UniqueIDType {
        self.io.id()
    }
}

impl<S: Ssl> Ssl for Dated<S> {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.io.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.io.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.io.selected_alpn_proto()
    }
}

#[async_trait::async_trait]
impl<S: Peek + Send> Peek for Dated<S> {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.io.try_peek(buf).await
    }
}

impl<S: GetTimingDigest> GetTimingDigest for Dated<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.io.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.io.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.io.get_write_pending_time()
    }
}

impl<S: GetProxyDigest> GetProxyDigest for Dated<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.io.get_proxy_digest()
    }
}

impl<S: GetSocketDigest> GetSocketDigest for Dated<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.io.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.io.set_socket_digest(digest);
    }
}

/// The length of an IMF-fixdate (RFC 9110 §5.6.7).
const DATE_BYTES: usize = 29;
/// What a head begins with; a digit and a space follow (RFC 9112 §4).
const VERSION: &[u8] = b"HTTP/1.";
const NAME: &[u8] = b"date:";
/// No moment.
const NOTHING: u64 = u64::MAX;
/// In seconds since 1970: the first moment that has too many digits for an IMF-fixdate.
const YEAR_10000: u64 = 253_402_300_800;

#[cfg(test)]
#[path = "dated_tests.rs"]
mod tests;
