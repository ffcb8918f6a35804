//! May this answer be stored, and until when is it fresh? RFC 9111 for a shared cache, as pure functions over heads.
//!
//! The framework's own judgement is not used: it stores 206 and `Set-Cookie` when there is a `max-age`, ignores `Age`, takes
//! `s-maxage` as a ban on stale-while-revalidate and serves `no-cache` stale. Time is passed in. This file does not fetch,
//! store or look at a body; [`strip_for_store`] says what of a head is kept.

use std::time::{Duration, SystemTime};

use http::header::{self, AGE, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, DATE, EXPIRES, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use pingora_cache::{CacheMeta, NoCacheReason};

use super::directives::{Directives, Seconds, delta_seconds};
use super::vary;

/// What the route says about caching (`routes[].cache`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// How long answers are fresh about which the upstream says nothing. None: those are not stored.
    pub ttl: Option<Duration>,
    /// `mode: override`: `ttl` wins over `max-age`, `s-maxage`, `no-cache` and `Expires`. Needs `ttl`. Never wins over
    /// `no-store`, `private`, `Set-Cookie`, a forwarded `Authorization` or a status that may not be stored.
    pub override_upstream: bool,
    /// How long a stale answer is served while a new one is fetched, if the upstream does not say (RFC 5861 §3).
    pub stale_while_revalidate: Option<Duration>,
    /// How long a stale answer is served when the upstream fails, if the upstream does not say (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
}

/// What is known of the exchange that brought the answer. About the copy that went upstream, before our own credential was
/// injected: that one is the gateway's and the same for every client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestFacts {
    /// The client's `Authorization` was forwarded.
    pub authorization_forwarded: bool,
    /// A `Cookie` of the client was forwarded.
    pub cookie_forwarded: bool,
    /// The upstream was asked with HEAD, so the answer has no body to store.
    pub method_head: bool,
    /// The answer goes through Pingora's own path, where a body that outgrows the limit half-way cuts the client: answers
    /// without `Content-Length` are then not stored. Our own exchange only stops storing, and leaves this false.
    pub needs_length: bool,
    /// From sending the request to receiving the head (RFC 9111 §4.2.3, `response_delay`).
    pub response_delay: Duration,
}

/// Why an answer is not stored. The texts are metric labels and the `detail` of `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Informational, partial, not modified, a switch of protocols, an authentication challenge, or RFC 6585's 428, 429,
    /// 431 and 511.
    Status,
    /// The answer to a HEAD that went upstream as one.
    Head,
    /// `Content-Range` (RFC 9110 §14.4): only a part.
    ContentRange,
    /// `no-store` (RFC 9111 §5.2.2.5).
    NoStore,
    /// `private`, with or without fields (§5.2.2.7).
    Private,
    /// `no-cache` (§5.2.2.4): would have to be validated each time.
    NoCache,
    /// `Set-Cookie` (§7.3): somebody's session.
    SetCookie,
    /// `Vary: *`, or a `Vary` that cannot be followed (§4.1).
    Vary,
    /// The client's `Authorization` went upstream and the answer does not allow sharing (§3.5).
    Authorization,
    /// The client's cookies went upstream and the answer does not allow sharing.
    Cookie,
    /// A 5xx without explicit freshness: `ttl` never applies to those.
    ServerError,
    /// No explicit freshness, and no `ttl` for this status.
    NoFreshness,
    /// No `Content-Length` where one is needed ([`RequestFacts::needs_length`]).
    UnknownLength,
    /// Stale on arrival, with no window to serve it stale.
    Stale,
}

impl Reason {
    /// All reasons, for declaring a metric's labels.
    pub const ALL: [Self; 14] = [
        Self::Status,
        Self::Head,
        Self::ContentRange,
        Self::NoStore,
        Self::Private,
        Self::NoCache,
        Self::SetCookie,
        Self::Vary,
        Self::Authorization,
        Self::Cookie,
        Self::ServerError,
        Self::NoFreshness,
        Self::UnknownLength,
        Self::Stale,
    ];

    /// A token, for metrics and `Cache-Status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Head => "head",
            Self::ContentRange => "content-range",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::NoCache => "no-cache",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::ServerError => "server-error",
            Self::NoFreshness => "no-freshness",
            Self::UnknownLength => "unknown-length",
            Self::Stale => "stale",
        }
    }

    /// What to tell the framework. `OriginNotCache` lets all waiters go and is remembered for some seconds, so the next
    /// requests do not queue for an answer that cannot be shared; the others hold for this exchange only.
    pub const fn no_cache_reason(self) -> NoCacheReason {
        match self {
            Self::NoStore
            | Self::Private
            | Self::NoCache
            | Self::SetCookie
            | Self::Vary
            | Self::NoFreshness
            | Self::UnknownLength
            | Self::Stale => NoCacheReason::OriginNotCache,
            // A status may be a passing fault: the next in line tries again, one at a time.
            Self::Status | Self::ServerError => NoCacheReason::UpstreamError,
            Self::Head | Self::ContentRange | Self::Authorization | Self::Cookie => {
                NoCacheReason::Custom(self.as_str())
            }
        }
    }
}

/// The judgement on an answer.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// Store it under this meta, whose head is already stripped.
    Store(CacheMeta),
    /// Do not.
    Refuse(Reason),
}

/// Judges an answer of the upstream. `answer` is the head as the client would see it: erased and shaped.
pub fn judge(answer: &ResponseHeader, request: &RequestFacts, policy: &Policy, now: SystemTime) -> Verdict {
    let said = Directives::read(&answer.headers);
    let forced = policy.ttl.filter(|_| policy.override_upstream);
    if let Some(reason) = refusal(answer, request, &said, forced.is_some()) {
        return Verdict::Refuse(reason);
    }
    let age = current_age(&answer.headers, request.response_delay, now);
    let lifetime = match forced {
        Some(ttl) if by_ttl(answer.status.as_u16()) => Some(ttl.saturating_add(age)),
        _ => explicit_lifetime(&said, &answer.headers, now)
            .or_else(|| policy.ttl.filter(|_| by_ttl(answer.status.as_u16()))),
    };
    let Some(lifetime) = lifetime else {
        let server_error = answer.status.is_server_error() && !by_ttl(answer.status.as_u16());
        return Verdict::Refuse(if server_error { Reason::ServerError } else { Reason::NoFreshness });
    };
    let (swr, sie) = stale_windows(&said, policy, forced.is_some());
    let longest = lifetime.saturating_add(swr.max(sie));
    if longest <= age {
        return Verdict::Refuse(Reason::Stale);
    }
    Verdict::Store(meta(answer, lifetime, age, (swr, sie), now))
}

/// Removes from a head what belongs to one connection, one client or one moment: hop-by-hop fields and those that
/// `Connection` names (RFC 9110 §7.6.1), `Set-Cookie`, `Age` (kept as the epoch of the meta) and the reports of other
/// caches and proxies, in whose place ours stands.
pub fn strip_for_store(head: &mut ResponseHeader) {
    let nominated: Vec<HeaderName> = head
        .headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in nominated.iter().chain(&NEVER_STORED) {
        head.remove_header(name);
    }
}

fn refusal(
    answer: &ResponseHeader,
    request: &RequestFacts,
    said: &Directives,
    forced: bool,
) -> Option<Reason> {
    let headers = &answer.headers;
    let shared = said.public || said.s_maxage != Seconds::Absent;
    let checks = [
        (!may_be_stored(answer.status.as_u16()), Reason::Status),
        (request.method_head, Reason::Head),
        (headers.contains_key(CONTENT_RANGE), Reason::ContentRange),
        (
            request.needs_length
                && answer.status != StatusCode::NO_CONTENT
                && !headers.contains_key(CONTENT_LENGTH),
            Reason::UnknownLength,
        ),
        (said.no_store, Reason::NoStore),
        (said.private, Reason::Private),
        (headers.contains_key(SET_COOKIE), Reason::SetCookie),
        (
            request.authorization_forwarded && (forced || !(shared || said.must_revalidate)),
            Reason::Authorization,
        ),
        (request.cookie_forwarded && (forced || !shared), Reason::Cookie),
        (said.no_cache && !forced, Reason::NoCache),
        (
            headers.contains_key(VARY) && vary::variance(headers, &HeaderMap::new()) == vary::Vary::Star,
            Reason::Vary,
        ),
    ];
    checks.into_iter().find(|(applies, _)| *applies).map(|(_, reason)| reason)
}

/// Statuses that a shared cache may keep at all when the answer says for how long (RFC 9111 §3, RFC 6585 §3 to §6).
fn may_be_stored(status: u16) -> bool {
    !matches!(status, 0..=199 | 206 | 304 | 401 | 407 | 416 | 428 | 429 | 431 | 511)
}

/// Statuses that may be kept without explicit freshness: the heuristically cacheable ones (RFC 9110 §15.1).
fn by_ttl(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 410)
}

/// RFC 9111 §4.2.1: `s-maxage`, else `max-age`, else `Expires - Date`. Unreadable means stale.
fn explicit_lifetime(said: &Directives, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    for seconds in [said.s_maxage, said.max_age] {
        match seconds {
            Seconds::Is(lifetime) => return Some(lifetime),
            Seconds::Unclear => return Some(Duration::ZERO),
            Seconds::Absent => {}
        }
    }
    let mut lines = headers.get_all(EXPIRES).iter();
    let expires = lines.next()?;
    // §5.3: "0" and other text that is no date is in the past. Two dates are no date.
    let Some(expires) = date(expires).filter(|_| lines.next().is_none()) else { return Some(Duration::ZERO) };
    let from = headers.get(DATE).and_then(date).unwrap_or(now);
    Some(expires.duration_since(from).unwrap_or_default())
}

/// RFC 9111 §4.2.3: the larger of the apparent age and the age that caches before us report.
fn current_age(headers: &HeaderMap, response_delay: Duration, now: SystemTime) -> Duration {
    let apparent =
        headers.get(DATE).and_then(date).and_then(|date| now.duration_since(date).ok()).unwrap_or_default();
    // §5.1: of a list the first member; what is no number is ignored.
    let first = |value: &HeaderValue| delta_seconds(value.to_str().ok()?.split(',').next()?.trim());
    let reported =
        headers.get(AGE).and_then(first).map_or(Duration::ZERO, |age| age.saturating_add(response_delay));
    apparent.max(reported)
}

/// The windows for stale-while-revalidate and stale-if-error. The upstream's word comes before the route's, except under
/// `override`. `must-revalidate` and `proxy-revalidate` close both (RFC 9111 §5.2.2.2); `s-maxage` alone does not here,
/// because an upstream that sends both with it means them.
fn stale_windows(said: &Directives, policy: &Policy, forced: bool) -> (Duration, Duration) {
    if said.must_revalidate {
        return (Duration::ZERO, Duration::ZERO);
    }
    let choose = |theirs: Seconds, ours: Option<Duration>| match theirs {
        _ if forced => ours.or(theirs.known()).unwrap_or_default(),
        Seconds::Is(window) => window,
        Seconds::Unclear => Duration::ZERO,
        Seconds::Absent => ours.unwrap_or_default(),
    };
    (
        choose(said.stale_while_revalidate, policy.stale_while_revalidate),
        choose(said.stale_if_error, policy.stale_if_error),
    )
}

/// The clock of the object began `age` ago; freshness and the `Age` of hits both count from there.
fn meta(
    answer: &ResponseHeader,
    lifetime: Duration,
    age: Duration,
    windows: (Duration, Duration),
    now: SystemTime,
) -> CacheMeta {
    let mut head = answer.clone();
    strip_for_store(&mut head);
    let epoch = now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let fresh_until = epoch.checked_add(lifetime).unwrap_or(now);
    let seconds = |window: Duration| u32::try_from(window.as_secs()).unwrap_or(u32::MAX);
    let mut meta = CacheMeta::new(fresh_until, now, seconds(windows.0), seconds(windows.1), head);
    if !age.is_zero() {
        meta.set_epoch_override(epoch);
    }
    meta
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// Beside what `Connection` names.
static NEVER_STORED: [HeaderName; 16] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("authentication-info"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    SET_COOKIE,
    HeaderName::from_static("set-cookie2"),
    AGE,
    HeaderName::from_static("cache-status"),
    HeaderName::from_static("proxy-status"),
];

#[cfg(test)]
mod tests;
