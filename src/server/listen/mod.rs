//! THE CONNECTION GUARD: everything between the kernel's accept queue and the first hook of the proxy.
//!
//! The framework's own listener has no total deadline for a request head, no idle limit from the second request on, no cap
//! on connections, and answers parse errors with its product name and without a hook. This room has its own accept loop and
//! hands over a request only when its head is complete, small enough and beyond dispute:
//!
//! ```text
//! accept -> caps (in all, per address) -> TLS (deadline, SNI) -+-> HTTP/1: head (deadline, limits, strict scan) -+-> app
//!                                                              +-> HTTP/2: preface (deadline, limits), streams ---+
//!            a watchdog on the socket cuts who does not read; a deadline of the exchange cuts what takes too long
//! ```
//!
//! It knows no route, no policy and no body limit, does not normalise paths, and does not count or log by itself: it tells a
//! [`Watch`]. The PROXY protocol is not spoken yet.
//!
//! What the guard answers itself never reaches a hook of the proxy: see [`Watch::answered`]. Where it drops a request's
//! future ([`Watch::cut`]), `ProxyHttp::logging` does not run: the proxy counts such a request in `Drop` of its own context.

mod accept;
mod alarm;
mod answer;
mod caps;
mod dated;
mod early;
mod exchange;
mod head;
mod http1;
mod http2;
mod slow_reader;
mod stop;
mod tls;
mod wire;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::names::ListenerName;

pub use accept::{Bound, LINGER, adopt, bind, serve_one};
pub use caps::Refusal;
pub use exchange::{
    ConnectionFacts, body_progress, connection, keep_date, keeps_date, set_exchange_deadline,
};
pub use head::refusal;
pub use slow_reader::MIN_READ_RATE;
pub use tls::{CertificateCause, CertificateError, CertificateFiles, Certificates};

/// Default of [`Timeouts::header`].
pub const DEFAULT_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Default of [`Timeouts::body`].
pub const DEFAULT_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Default of [`Timeouts::idle`].
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Default of [`Timeouts::write`].
pub const DEFAULT_WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Default of [`Settings::max_connections`].
pub const DEFAULT_MAX_CONNECTIONS: usize = 20_000;
/// Default of [`Settings::max_connections_per_address`].
pub const DEFAULT_MAX_CONNECTIONS_PER_ADDRESS: usize = 1024;
/// Default of [`Settings::max_header_bytes`].
pub const DEFAULT_MAX_HEADER_BYTES: usize = 32 * 1024;
/// Default of [`Settings::max_header_count`].
pub const DEFAULT_MAX_HEADER_COUNT: usize = 100;
/// Default of [`Settings::http2_max_streams`]: the framework's own bounded default, and Envoy's advice for an edge.
pub const DEFAULT_HTTP2_MAX_STREAMS: u32 = 100;
/// The longest request line of HTTP/1, in bytes, line end excluded; a longer one is 414. Twice what RFC 9112 §3 asks for.
pub const MAX_REQUEST_LINE_BYTES: usize = 16 * 1024;
/// The least rate at which a request body must arrive beyond [`Timeouts::body`], in bytes per second.
pub const MIN_BODY_RATE: u64 = 16 * 1024;

/// How long a client may take. Set by the operator per listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a whole request head, counted from accept on a fresh connection and from its first byte on a reused one; also
    /// for the TLS handshake and for the HTTP/2 preface. In total, not per read.
    pub header: Duration,
    /// For a request body: the longest silence in HTTP/1, and, where the proxy reports [`body_progress`], the total for
    /// the body, extended by one second for each [`MIN_BODY_RATE`] bytes received.
    pub body: Duration,
    /// How long a connection may wait between two requests.
    pub idle: Duration,
    /// The window in which a client that has something to read must acknowledge [`MIN_READ_RATE`] bytes for each second
    /// of it, or all that was waiting. A client that reads nothing is cut after at most two windows.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: DEFAULT_HEADER_TIMEOUT,
            body: DEFAULT_BODY_TIMEOUT,
            idle: DEFAULT_IDLE_TIMEOUT,
            write: DEFAULT_WRITE_TIMEOUT,
        }
    }
}

/// One listener, as the operator wants it. Lifetime: process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name that metrics and logs show.
    pub name: ListenerName,
    /// Where to listen. Port 0 takes a free one, see [`Bound::local_addr`]. An unspecified IPv6 address follows the
    /// system's setting for IPv4-mapped connections.
    pub address: SocketAddr,
    /// The certificates; `None` listens in the clear.
    pub tls: Option<Arc<Certificates>>,
    /// Offer HTTP/2: by ALPN with TLS, by prior knowledge (RFC 9113 §3.3) without.
    pub http2: bool,
    /// See [`Timeouts`].
    pub timeouts: Timeouts,
    /// The most connections of this listener at once, handshakes included. Default [`DEFAULT_MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// The most of them from one IPv4 address or one IPv6 /64. Default [`DEFAULT_MAX_CONNECTIONS_PER_ADDRESS`].
    pub max_connections_per_address: usize,
    /// The largest request head in bytes, request line and final empty line included; a larger one is 431. In HTTP/2 the
    /// largest decoded field list. Default [`DEFAULT_MAX_HEADER_BYTES`]; at most 1 MiB, the framework's own limit.
    pub max_header_bytes: usize,
    /// The most fields of a request head; more is 431. Default [`DEFAULT_MAX_HEADER_COUNT`]; at most 256, the framework's
    /// own limit.
    pub max_header_count: usize,
    /// The most requests of one HTTP/1 connection; `None` sets no limit. Default `None`.
    pub keepalive_requests: Option<u32>,
    /// The most concurrent streams of one HTTP/2 connection. Default [`DEFAULT_HTTP2_MAX_STREAMS`].
    pub http2_max_streams: u32,
}

impl Settings {
    /// A listener in the clear with every default.
    #[must_use]
    pub fn new(name: ListenerName, address: SocketAddr) -> Self {
        Self {
            name,
            address,
            tls: None,
            http2: false,
            timeouts: Timeouts::default(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            max_connections_per_address: DEFAULT_MAX_CONNECTIONS_PER_ADDRESS,
            max_header_bytes: DEFAULT_MAX_HEADER_BYTES,
            max_header_count: DEFAULT_MAX_HEADER_COUNT,
            keepalive_requests: None,
            http2_max_streams: DEFAULT_HTTP2_MAX_STREAMS,
        }
    }
}

/// A port that cannot be had. The operator's fault, or another process's.
#[derive(Debug)]
pub struct BindError {
    /// What was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub cause: std::io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on `{}`: {}", self.address, self.cause)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// The label: `http/1` or `http/2`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1",
            Self::Http2 => "http/2",
        }
    }
}

/// A request that the guard answered itself, so that no hook of the proxy will ever see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadRequest {
    /// Who sent it: the peer of the socket.
    pub peer: SocketAddr,
    /// What we answered: 400, 405, 408, 414, 431, 501 or 505.
    pub status: u16,
    /// Why, from a closed set of words in `snake_case`; also the `code` of the problem document.
    pub reason: &'static str,
    /// What was spoken.
    pub protocol: Protocol,
    /// How many bytes of the head had arrived; 0 where that is not known (HTTP/2).
    pub received_bytes: usize,
}

/// Who is told what happens to connections. Called from the connections' tasks: it must not block.
pub trait Watch: Send + Sync {
    /// A connection is ready for requests: TLS, if any, is done. HTTP/2 by prior knowledge shows only in the first bytes:
    /// such a connection is opened as HTTP/1, closed, and opened again as HTTP/2.
    fn opened(&self, protocol: Protocol);
    /// An opened connection has ended; called once for each [`Watch::opened`].
    fn closed(&self);
    /// A connection was closed right after accept.
    fn refused(&self, why: Refusal, peer: IpAddr);
    /// A TLS handshake has ended; `ok` is false if it failed or took too long.
    fn handshake(&self, ok: bool);
    /// A request was answered by the guard. A head that did not arrive in time is told here (408), not as a cut.
    fn answered(&self, request: BadRequest);
    /// A connection or an HTTP/2 stream was ended without an answer of the guard: `slow_reader`, `header_timeout` (nothing
    /// arrived), `idle`, `exchange_deadline`, `slow_body`, `malformed_streams`.
    fn cut(&self, reason: &'static str);
}
