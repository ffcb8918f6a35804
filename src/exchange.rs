//! The facts of one request and its answer: plain data, filled in as the journey goes on.
//!
//! Policies, the access log and the metrics read it; nothing here decides anything. It knows no session, no plan and no
//! secret, so whatever reads it cannot leak one.

pub mod client;
pub mod target;

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Method};

use crate::names::{LimitName, ListenerName};

/// With or without TLS (RFC 9110 §4.2): how a client reached us, or how we reach an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS, ended by us (or, one day, by a trusted proxy in front).
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is left out of an authority.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// An id that names one request in the answer, in the log and at the upstream: a UUID of version 7, so ids sort by time.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// A new one for a request that began at this time.
    ///
    /// The crate's own `now_v7` takes a lock that all workers share and asks the kernel for randomness each time.
    #[must_use]
    pub fn new(at: SystemTime) -> Self {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        // 12 bits of the fraction come first, so that ids of one millisecond sort too (RFC 9562 §6.2, method 3).
        let fraction = u64::from(since.subsec_nanos() % 1_000_000) * 4096 / 1_000_000;
        let bits = u128::from(fraction) << 64 | u128::from(random());
        let [_, _, _, _, _, _, tail @ ..] = bits.to_be_bytes();
        let id = uuid::Builder::from_unix_timestamp_millis(milliseconds, &tail).into_uuid();
        let mut buffer = uuid::Uuid::encode_buffer();
        Self(id.hyphenated().encode_lower(&mut buffer).to_owned())
    }

    /// Takes over the id that a trusted proxy gave, if it is `[A-Za-z0-9_-]{8,64}`.
    #[must_use]
    pub fn adopt(value: &[u8]) -> Option<Self> {
        let fits = (8..=64).contains(&value.len())
            && value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        fits.then(|| Self(String::from_utf8_lossy(value).into_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Different each time and not to be guessed: a keyed hash of a number that rises, with a key of the system's for each thread.
fn random() -> u64 {
    thread_local! {
        static KEY: RandomState = RandomState::new();
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.replace(COUNT.get().wrapping_add(1));
    KEY.with(|key| key.hash_one(count))
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who made the answer that the client got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The upstream, now.
    Upstream,
    /// The cache.
    Cache,
    /// The gateway itself: a limit, a mistake, a redirect, a fault.
    Gateway,
}

/// The length that a head declares for its body, in bytes (RFC 9110 §8.6); `None` where there is none, or it is no number.
#[must_use]
pub fn content_length(fields: &HeaderMap) -> Option<u64> {
    fields.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// What one rate limit said of this request; set by `policy::rate_limit`, turned into fields on the way back.
#[derive(Debug, Clone)]
pub struct LimitOutcome {
    /// The limit's name within its route.
    pub name: LimitName,
    /// The quota in requests per window.
    pub limit: u32,
    /// What is left now.
    pub remaining: u32,
    /// Until the quota is whole again.
    pub reset: Duration,
    /// Whether the request may pass.
    pub allowed: bool,
    /// Until the next request would pass; zero if it may pass now.
    pub retry_after: Duration,
}

/// How often something of an answer was removed or mapped, by place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Erasures {
    /// `Location`, `Content-Location`.
    pub location: u32,
    /// `Link`.
    pub link: u32,
    /// `Refresh`.
    pub refresh: u32,
    /// `Set-Cookie`.
    pub set_cookie: u32,
    /// An error's body.
    pub error_body: u32,
    /// Strings in a JSON body.
    pub json: u32,
}

/// One request, from the first byte of its head to the last byte of its answer.
#[derive(Debug)]
pub struct Exchange {
    /// Set when the head was complete.
    pub received: Instant,
    /// The same moment on the wall clock.
    pub at: SystemTime,
    /// The same moment for rate limits; another one only where time is told to pass (`portcullis test`).
    pub counted_at: Instant,
    /// The id in the answer and the log.
    pub request_id: RequestId,
    /// The listener it came in by.
    pub listener: ListenerName,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The client, believed through trusted proxies only (`exchange::client`).
    pub client: IpAddr,
    /// Whether the peer is a trusted proxy: its forwarding fields are extended, not replaced.
    pub peer_is_trusted: bool,
    /// How the client reached us.
    pub scheme: Scheme,
    /// Upper-case method.
    pub method: Method,
    /// Host in lower case, without port (`exchange::target`).
    pub host: String,
    /// The port of the authority, where one was given.
    pub port: Option<u16>,
    /// The normalised path: what was authorised is what is sent.
    pub path: String,
    /// The query as the client sent it, without `?`.
    pub query: Option<String>,
    /// What the route's template or regex captured, by name.
    pub params: Vec<(String, String)>,
    /// Whether a browser asks: `Accept` prefers HTML over JSON.
    pub wants_html: bool,
    /// What the limits said, in order.
    pub limits: Vec<LimitOutcome>,
    /// What is given back when the request ends: places in a concurrency limit.
    pub held: Vec<Box<dyn std::any::Any + Send + Sync>>,
    /// The path that was sent upstream; set by `policy::rewrite`, read where a relative reference comes back.
    pub upstream_path: String,
    /// What of the answer was removed or changed because it named the upstream.
    pub erased: Erasures,
    /// Body bytes read from the client.
    pub request_bytes: u64,
    /// Who made the answer.
    pub source: Source,
    /// When the request was handed to the upstream, and for how long it had it.
    pub upstream_started: Option<Instant>,
    /// Time from handing over to the last byte.
    pub upstream_duration: Option<Duration>,
}

impl Exchange {
    /// A request whose head has just arrived: what the connection knows, the rest still to be filled in.
    #[must_use]
    pub fn begin(listener: ListenerName, peer: SocketAddr, scheme: Scheme) -> Self {
        let at = SystemTime::now();
        let received = Instant::now();
        Self {
            received,
            counted_at: received,
            at,
            request_id: RequestId::new(at),
            listener,
            peer,
            client: peer.ip().to_canonical(),
            peer_is_trusted: false,
            scheme,
            method: Method::GET,
            host: String::new(),
            port: None,
            path: String::new(),
            query: None,
            params: Vec::new(),
            wants_html: false,
            limits: Vec::new(),
            held: Vec::new(),
            upstream_path: String::new(),
            erased: Erasures::default(),
            request_bytes: 0,
            source: Source::Gateway,
            upstream_started: None,
            upstream_duration: None,
        }
    }

    /// The authority as the client sees it: host, and the port where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) if port != self.scheme.default_port() => format!("{}:{port}", self.host),
            _ => self.host.clone(),
        }
    }

    /// A captured parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Whether `Accept` asks for HTML rather than JSON: the types are compared by their `q` (RFC 9110 §12.5.1), and a tie goes to JSON
/// unless HTML is named and JSON is not.
#[must_use]
pub fn prefers_html(accept: Option<&[u8]>) -> bool {
    let Some(accept) = accept.and_then(|value| std::str::from_utf8(value).ok()) else { return false };
    let mut html = 0.0_f32;
    let mut json = 0.0_f32;
    for entry in accept.split(',') {
        let mut parts = entry.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let quality = parts
            .find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")))
            .map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
        if media.eq_ignore_ascii_case("text/html") || media.eq_ignore_ascii_case("application/xhtml+xml") {
            html = html.max(quality);
        } else if media.eq_ignore_ascii_case("application/json")
            || media.eq_ignore_ascii_case("application/problem+json")
        {
            json = json.max(quality);
        }
    }
    html > json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_prefers_html_and_a_script_does_not() {
        assert!(prefers_html(Some(b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")));
        assert!(!prefers_html(Some(b"*/*")), "fetch() and curl send this");
        assert!(!prefers_html(Some(b"application/json, text/html;q=0.5")));
        assert!(!prefers_html(Some(b"text/html;q=0")));
        assert!(!prefers_html(None));
    }

    #[test]
    fn a_foreign_id_is_adopted_only_when_it_is_plain() {
        assert_eq!(
            RequestId::adopt(b"abcdef_1-2").map(|id| id.as_str().to_owned()),
            Some("abcdef_1-2".into())
        );
        assert_eq!(RequestId::adopt(b"short"), None);
        assert_eq!(RequestId::adopt(b"abc\r\nSet-Cookie: x"), None);
        assert_eq!(RequestId::adopt(&[b'a'; 65]), None);
    }

    #[test]
    fn new_ids_differ_and_sort_by_time() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000);
        let (one, other) = (RequestId::new(at), RequestId::new(at));
        assert_ne!(one, other, "the same instant, another request");
        assert_eq!(one.as_str().get(..19), Some("018bcfe5-6800-7000-"), "version 7, and the time in front");
        let later = RequestId::new(at + Duration::from_micros(1));
        assert!(later.as_str() > one.as_str() && later.as_str() > other.as_str(), "{later:?} after {one:?}");
        assert_eq!(later.as_str().len(), 36);
    }

    #[test]
    fn ids_of_two_threads_differ() {
        let at = SystemTime::UNIX_EPOCH;
        let other = std::thread::spawn(move || RequestId::new(at)).join().expect("the thread ends");
        assert_ne!(RequestId::new(at), other);
    }
}
