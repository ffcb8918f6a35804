//! May this answer be stored, and until when is it fresh? RFC 9111 for a shared cache, as pure functions over heads.
//!
//! The framework's own judgement is not used: it stores 206 and `Set-Cookie` when there is a `max-age`, ignores `Age`, takes
//! `s-maxage` as a ban on stale-while-revalidate and serves `no-cache` stale. Time is passed in. This file does not fetch,
//! store or look at a body; [`strip_for_store`] says what of a head is kept, [`super::reuse`] whether it may be given again.

use std::time::{Duration, SystemTime};

use http::header::{self, AGE, CONNECTION, CONTENT_RANGE, ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, HeaderName};
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;

use super::directives::{Directives, Seconds};
use super::terms::Terms;
use super::validate::nominated;
use super::{deception, vary};

pub use reason::Reason;
pub use times::reported_age;

mod reason;
mod times;

/// What the route says about caching (`routes[].cache`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// An answer with `Last-Modified` and without explicit freshness is fresh for a tenth of the time since then, and at most so long
    /// (RFC 9111 §4.2.2). Comes before `ttl`. None: never.
    pub heuristic_max: Option<Duration>,
    /// Whether an answer with `Set-Cookie` is stored, cookie and all (§7.3), where it says itself for how long. Never by `ttl`, a
    /// heuristic or `override`: whoever sends a cookie without a word about caching did not think of others.
    pub store_set_cookie: bool,
    /// An answer of 400 or more is fresh, and its stale windows are open, for at most so long, whoever says more. Default 5 minutes.
    pub negative_max: Duration,
}

impl Policy {
    /// Of a route with `cache: {}`.
    pub const DEFAULT: Self = Self {
        ttl: None,
        override_upstream: false,
        stale_while_revalidate: None,
        stale_if_error: None,
        heuristic_max: None,
        store_set_cookie: false,
        negative_max: NEGATIVE_MAX,
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How long an answer of 400 or more is fresh at most, where the route does not say.
pub const NEGATIVE_MAX: Duration = Duration::from_secs(300);

/// What is known of the exchange that brought the answer. About the copy that went upstream, before our own credential was
/// injected: that one is the gateway's and the same for every client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestFacts<'a> {
    /// The client's `Authorization` was forwarded.
    pub authorization_forwarded: bool,
    /// A `Cookie` of the client was forwarded.
    pub cookie_forwarded: bool,
    /// The client asked that nothing be kept (`no-store`), and the route listens to it.
    pub no_store: bool,
    /// The normalised path that the client asked for; for [`deception`].
    pub path: &'a str,
    /// The body ends where the connection does.
    pub close_delimited: bool,
    /// The upstream was asked with HEAD, so the answer has no body to store.
    pub method_head: bool,
    /// From sending the request to receiving the head (RFC 9111 §4.2.3, `response_delay`).
    pub response_delay: Duration,
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

/// Judges an answer of the upstream. `answer` is the head as the client would see it: erased and shaped. The meta carries [`Terms`],
/// without tags: those are the route's and the upstream's to give.
pub fn judge(
    answer: &ResponseHeader,
    request: &RequestFacts<'_>,
    policy: &Policy,
    now: SystemTime,
) -> Verdict {
    let said = Directives::read(&answer.headers);
    let status = answer.status.as_u16();
    let forced = policy.ttl.filter(|_| policy.override_upstream && by_ttl(status));
    if let Some(reason) = refusal(answer, request, &said, policy, forced.is_some()) {
        return Verdict::Refuse(reason);
    }
    let age = times::initial_age(&answer.headers, request.response_delay, now);
    let must_validate = said.no_cache && forced.is_none();
    if must_validate {
        // Kept to save the body, never to save the question (RFC 9111 §5.2.2.4).
        let terms = Terms { validates: true, never_stale: true, ..Terms::default() };
        return if has_validator(&answer.headers, &said) {
            Verdict::Store(meta(answer, &said, policy, (Duration::ZERO, age), Windows::default(), terms, now))
        } else {
            Verdict::Refuse(Reason::NoCache)
        };
    }
    let Some(mut lifetime) = lifetime(answer, &said, policy, forced, age, now) else {
        let server_error = answer.status.is_server_error() && !by_ttl(status);
        return Verdict::Refuse(if server_error { Reason::ServerError } else { Reason::NoFreshness });
    };
    let mut windows = Windows::of(&said, policy, forced.is_some());
    if status >= 400 {
        lifetime = lifetime.min(age.saturating_add(policy.negative_max));
        windows = windows.at_most(policy.negative_max);
    }
    let is_worth_asking_for = status < 400 && has_validator(&answer.headers, &said);
    if lifetime.saturating_add(windows.longest()) <= age && !is_worth_asking_for {
        return Verdict::Refuse(Reason::Stale);
    }
    let never_stale = said.forbids_stale() || (said.s_maxage != Seconds::Absent && forced.is_none());
    let terms = Terms { never_stale, ..Terms::default() };
    Verdict::Store(meta(answer, &said, policy, (lifetime, age), windows, terms, now))
}

/// The meta of an answer that is given once and not kept: as old as it says that it is (RFC 9111 §4.2.3), and no longer fresh.
#[must_use]
pub fn unkept(answer: ResponseHeader, response_delay: Duration, now: SystemTime) -> CacheMeta {
    let age = times::initial_age(&answer.headers, response_delay, now);
    let mut meta = CacheMeta::new(now, now, 0, 0, answer);
    meta.set_epoch_override(now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH));
    meta
}

/// Removes from a head what belongs to one connection, one client or one moment: hop-by-hop fields and those that
/// `Connection` names (RFC 9110 §7.6.1), `Set-Cookie`, `Age` (kept as the epoch of the meta) and the reports of other
/// caches and proxies, in whose place ours stands: they tell of a fetch that is over when the answer is given again (RFC 9211 §2).
pub fn strip_for_store(head: &mut ResponseHeader) {
    strip(head);
    COOKIES.iter().for_each(|name| {
        head.remove_header(name);
    });
}

fn strip(head: &mut ResponseHeader) {
    for name in nominated(&head.headers).iter().chain(&NEVER_STORED) {
        head.remove_header(name);
    }
}

fn refusal(
    answer: &ResponseHeader,
    request: &RequestFacts<'_>,
    said: &Directives,
    policy: &Policy,
    forced: bool,
) -> Option<Reason> {
    let headers = &answer.headers;
    let status = answer.status.as_u16();
    // What cannot be read gives no leave.
    let shared = said.is_for_all();
    // RFC 9111 §5.2.2.3: it takes back a `no-store` that is there for caches that do not know it.
    let no_store = said.unreadable || (said.no_store && !said.must_understand);
    let checks = [
        (!may_be_stored(status) || (said.must_understand && !is_understood(status)), Reason::Status),
        (request.method_head, Reason::Head),
        (request.no_store, Reason::RequestNoStore),
        (is_a_part(headers), Reason::ContentRange),
        (is_event_stream(headers), Reason::EventStream),
        (request.close_delimited, Reason::CloseDelimited),
        (no_store, Reason::NoStore),
        (said.private, Reason::Private),
        (sets_a_cookie(headers, said, policy, forced), Reason::SetCookie),
        (
            request.authorization_forwarded && (forced || !(shared || said.must_revalidate)),
            Reason::Authorization,
        ),
        (request.cookie_forwarded && (forced || !shared), Reason::Cookie),
        (deception::contradicts(request.path, answer.status, headers), Reason::Deception),
        (!vary::can_be_followed(headers), Reason::Vary),
    ];
    checks.into_iter().find(|(applies, _)| *applies).map(|(_, reason)| reason)
}

/// Statuses whose answer a shared cache may keep when it says for how long (RFC 9111 §3), known or not. The others are about this
/// exchange, and no key holds what they depend on:
///
/// - below 200: interim, or the end of HTTP on this connection (101);
/// - 206 and 304: a part of an answer, and no answer; what is done with them is not storing them as they are (§3.3, §4.3.4);
/// - 401 and 407 ask this client who it is; 408, 421 and 425 speak of its connection; 412, 416 and 417 of its conditions, its ranges and
///   its expectation;
/// - 428, 429, 431 and 511 "MUST NOT be stored by a cache" (RFC 6585 §3 to §6).
fn may_be_stored(status: u16) -> bool {
    !matches!(
        status,
        0..=199 | 206 | 304 | 401 | 407 | 408 | 412 | 416 | 417 | 421 | 425 | 428 | 429 | 431 | 511
    )
}

/// Statuses that may be kept by the route's `ttl`, which an operator gives for answers, not for faults.
fn by_ttl(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 410)
}

/// The heuristically cacheable ones (RFC 9110 §15.1) but 206.
fn by_heuristic(status: u16) -> bool {
    by_ttl(status) || matches!(status, 405 | 414 | 501)
}

/// Whose meaning this cache knows, as `must-understand` asks (RFC 9111 §5.2.2.3): those of RFC 9110 §15 that may be stored.
fn is_understood(status: u16) -> bool {
    matches!(status, 200..=205 | 300..=303 | 307 | 308 | 400 | 402..=417 | 422 | 426 | 500..=505)
}

/// `Content-Range` means something with 206 and 416 only (RFC 9110 §14.4), and is stored like any field with the others. But one that
/// names a part of a whole is believed: it would be an answer with the wrong status, given to everybody as the whole.
fn is_a_part(headers: &HeaderMap) -> bool {
    let part = |line: &str| {
        let (range, length) = line.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| text.parse::<u64>().ok();
        let (first, last) = (number(first)?, number(last)?);
        Some(first != 0 || number(length).is_none_or(|length| last.checked_add(1) != Some(length)))
    };
    headers.get_all(CONTENT_RANGE).iter().any(|line| line.to_str().ok().and_then(part).unwrap_or(false))
}

/// Whether the answer is a stream of server-sent events, which ends when somebody has had enough.
#[must_use]
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    kind.get(..EVENT_STREAM.len()).is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM.as_bytes()))
}

const EVENT_STREAM: &str = "text/event-stream";

/// Whether a cookie forbids storing. Not one that the upstream itself keeps out of the store (`private="set-cookie"`), and none where
/// the route stores them and the upstream says for how long.
fn sets_a_cookie(headers: &HeaderMap, said: &Directives, policy: &Policy, forced: bool) -> bool {
    let is_explicit = !forced
        && (said.max_age != Seconds::Absent
            || said.s_maxage != Seconds::Absent
            || (!said.targeted && headers.contains_key(header::EXPIRES)));
    headers.contains_key(SET_COOKIE)
        && !said.withheld.contains(&SET_COOKIE)
        && !(policy.store_set_cookie && is_explicit)
}

/// Something to ask the upstream by (RFC 9111 §4.3.1).
fn has_validator(headers: &HeaderMap, said: &Directives) -> bool {
    [ETAG, LAST_MODIFIED].iter().any(|name| headers.contains_key(name) && !said.withheld.contains(name))
}

/// How long the answer is fresh, counted from its epoch: what the upstream says, else a guess, else the route's `ttl`. Under `override`
/// `ttl` from now on. A status that may not be guessed about may be where the upstream says `public` (RFC 9111 §4.2.2).
fn lifetime(
    answer: &ResponseHeader,
    said: &Directives,
    policy: &Policy,
    forced: Option<Duration>,
    age: Duration,
    now: SystemTime,
) -> Option<Duration> {
    let (headers, status) = (&answer.headers, answer.status.as_u16());
    if let Some(ttl) = forced {
        return Some(ttl.saturating_add(age));
    }
    let guess = || {
        let longest = policy.heuristic_max.filter(|_| by_heuristic(status) || said.public)?;
        times::heuristic_lifetime(headers, longest, now)
    };
    times::explicit_lifetime(said, headers, now)
        .or_else(guess)
        .or_else(|| policy.ttl.filter(|_| by_ttl(status)))
}

/// How long after its lifetime an answer may be given.
#[derive(Debug, Clone, Copy, Default)]
struct Windows {
    while_revalidate: Duration,
    if_error: Duration,
}

impl Windows {
    /// The upstream's word comes before the route's, except under `override`. `must-revalidate` and `proxy-revalidate` close both
    /// (RFC 9111 §5.2.2.2, §5.2.2.8). `s-maxage` says the same of shared caches (§5.2.2.10), and so closes what the route would
    /// open (§4.2.4: "MUST NOT"); but an upstream that sends it together with `stale-while-revalidate` or `stale-if-error` means those,
    /// and the more special word counts (RFC 5861 §3, §4).
    fn of(said: &Directives, policy: &Policy, forced: bool) -> Self {
        if said.forbids_stale() {
            return Self::default();
        }
        let closes = said.s_maxage != Seconds::Absent && !forced;
        let choose = |theirs: Seconds, ours: Option<Duration>| match theirs {
            _ if forced => ours.or(theirs.known()).unwrap_or_default(),
            Seconds::Is(window) => window,
            Seconds::Unclear => Duration::ZERO,
            Seconds::Absent => ours.filter(|_| !closes).unwrap_or_default(),
        };
        Self {
            while_revalidate: choose(said.stale_while_revalidate, policy.stale_while_revalidate),
            if_error: choose(said.stale_if_error, policy.stale_if_error),
        }
    }

    fn at_most(self, longest: Duration) -> Self {
        Self { while_revalidate: self.while_revalidate.min(longest), if_error: self.if_error.min(longest) }
    }

    fn longest(self) -> Duration {
        self.while_revalidate.max(self.if_error)
    }
}

/// The clock of the object began `age` ago; freshness and the `Age` of hits both count from there.
fn meta(
    answer: &ResponseHeader,
    said: &Directives,
    policy: &Policy,
    (lifetime, age): (Duration, Duration),
    windows: Windows,
    terms: Terms,
    now: SystemTime,
) -> CacheMeta {
    let mut head = answer.clone();
    if policy.store_set_cookie {
        strip(&mut head)
    } else {
        strip_for_store(&mut head)
    }
    said.withheld.iter().for_each(|name| {
        head.remove_header(name);
    });
    let epoch = now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let fresh_until = epoch.checked_add(lifetime).unwrap_or(now);
    let seconds = |window: Duration| u32::try_from(window.as_secs()).unwrap_or(u32::MAX);
    let mut meta =
        CacheMeta::new(fresh_until, now, seconds(windows.while_revalidate), seconds(windows.if_error), head);
    if !age.is_zero() {
        meta.set_epoch_override(epoch);
    }
    if terms != Terms::default() {
        terms.stamp(&mut meta);
    }
    meta
}

/// Beside what `Connection` names.
static NEVER_STORED: [HeaderName; 14] = [
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
    AGE,
    HeaderName::from_static("cache-status"),
    HeaderName::from_static("proxy-status"),
];

/// Stored only where the route says so.
static COOKIES: [HeaderName; 2] = [SET_COOKIE, HeaderName::from_static("set-cookie2")];

#[cfg(test)]
mod tests;
