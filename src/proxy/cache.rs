//! The cache's phases: what may be looked up, under which key, what may be stored, and what is said about it.
//!
//! The rules are `cache`'s; here they are asked at the right moment. The key is made from declared parts of the request only, before
//! anything is injected.

use std::time::{Instant, SystemTime};

use blake2::{Blake2s256, Digest as _};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pingora::cache::key::HashBinary;
use pingora::cache::{CacheKey, CacheMeta, NoCacheReason, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorSource};
use pingora_proxy::Session;

use super::{Ctx, Gateway, failure};
use crate::cache::freshness::{self, Policy, RequestFacts, Verdict};
use crate::cache::key::{KeyParts, MethodClass, canonical_query};
use crate::cache::status::{Forward, Outcome, Source as CacheSource};
use crate::cache::vary::{self, Vary};
use crate::exchange::{Exchange, Source};
use crate::plan::Route;
use crate::policy::cache::Share;
use crate::policy::request_headers::chosen_cookies;
use crate::policy::{Fault, Settings, forwarding};
use crate::telemetry::labels::CacheResult;

/// `request_cache_filter`: turns the cache on where the route caches and the request is one that may be answered from it.
pub fn enable(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) {
    let Some(route) = ctx.route.as_ref() else { return };
    let request = Request {
        method: &ctx.exchange.method,
        has_body: !session.as_downstream_mut().is_body_empty(),
        upgrades: session.is_upgrade_req(),
    };
    if looks_up(route, request).is_err() {
        return;
    }
    drop_ignored(route, &mut ctx.exchange);
    ctx.cache.looked_up = true;
    ctx.cache.epoch = Some(gateway.shared.zone.epoch());
    gateway.shared.zone.enable(&mut session.cache, usize::MAX);
}

/// What of a request decides whether the cache is asked.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Whether it has a body.
    pub has_body: bool,
    /// Whether it offers another protocol.
    pub upgrades: bool,
}

/// Why the cache is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// The route has no `cache`.
    Off,
    /// Only GET and HEAD are answered from it.
    Method,
    /// A body on a GET has no meaning that a key could hold: such a request goes by itself (cache poisoning by a fat GET).
    Body,
    /// It asks for another protocol.
    Upgrade,
}

/// Whether the cache is asked for a request of this route.
///
/// # Errors
/// Why it is not.
pub fn looks_up(route: &Route, request: Request<'_>) -> Result<(), Bypass> {
    if route.settings.cache.is_none() || route.upstream.is_none() {
        return Err(Bypass::Off);
    }
    if MethodClass::of(request.method).is_none() {
        return Err(Bypass::Method);
    }
    if request.has_body {
        return Err(Bypass::Body);
    }
    if request.upgrades { Err(Bypass::Upgrade) } else { Ok(()) }
}

/// A parameter that is no part of the key must not reach the upstream either, or it could spoil the entry for everybody.
pub fn drop_ignored(route: &Route, exchange: &mut Exchange) {
    if let (Some(settings), Some(query)) = (&route.settings.cache, &exchange.query)
        && let std::borrow::Cow::Owned(kept) = canonical_query(query, &settings.ignored_parameters)
    {
        exchange.query = (!kept.is_empty()).then_some(kept);
    }
}

/// `cache_key_callback`.
///
/// # Errors
/// Never where [`enable`] said yes.
pub fn key(session: &Session, ctx: &Ctx) -> pingora::Result<CacheKey> {
    ctx.route
        .as_ref()
        .and_then(|route| with_key(route, &ctx.exchange, &session.req_header().headers, |parts| parts.key()))
        .ok_or_else(|| Error::explain(pingora::ErrorType::InternalError, "no cache on this route"))
}

/// Hands the parts of the key of a request to `make`; `None` where the route does not cache.
pub fn with_key<T>(
    route: &Route,
    exchange: &Exchange,
    fields: &HeaderMap,
    make: impl FnOnce(&KeyParts<'_>) -> T,
) -> Option<T> {
    let settings = route.settings.cache.as_ref()?;
    // Every line: the upstream sees them all. A field that is absent has none, an empty one has one.
    let mut headers: Vec<(&str, &[u8])> = settings
        .key_headers
        .iter()
        .flat_map(|name| fields.get_all(name).iter().map(move |line| (name.as_str(), line.as_bytes())))
        .collect();
    let identity = (settings.share == Some(Share::PerIdentity)).then(|| identity(&route.settings, fields));
    headers.extend(identity.as_ref().map(|digest| (IDENTITY, digest.as_slice())));
    let authority = exchange.authority();
    let query = canonical_query(exchange.query.as_deref().unwrap_or_default(), &settings.ignored_parameters);
    let parts = KeyParts {
        route: route.name.as_str(),
        policy: route.fingerprint,
        method_class: MethodClass::Read,
        scheme: exchange.scheme.as_str(),
        host: &authority,
        path: &exchange.path,
        query: &query,
        headers: &headers,
    };
    Some(make(&parts))
}

/// The part of a key that stands for who asks. No field can have this name.
pub const IDENTITY: &str = "(identity)";

/// A digest of what says who asks, as far as it reaches the upstream: nobody can make another client's, and none is kept as it was sent.
fn identity(settings: &Settings, fields: &HeaderMap) -> [u8; 32] {
    let mut digest = Blake2s256::new();
    let mut part = |kind: u8, value: &[u8]| {
        digest.update([kind]);
        digest.update((value.len() as u64).to_le_bytes());
        digest.update(value);
    };
    if settings.forwards_authorization {
        fields.get_all(header::AUTHORIZATION).iter().for_each(|value| part(b'a', value.as_bytes()));
    }
    match &settings.forwarded_cookies {
        None => fields.get_all(header::COOKIE).iter().for_each(|value| part(b'c', value.as_bytes())),
        Some(names) => {
            if let Some(chosen) = chosen_cookies(fields, names) {
                part(b'c', chosen.as_bytes());
            }
        }
    }
    digest.finalize().into()
}

/// `cache_vary_filter`: which variant of a stored answer this request wants.
pub fn variance(meta: &CacheMeta, request: &RequestHeader) -> Option<HashBinary> {
    vary::variance(meta.headers(), &request.headers).hash()
}

/// `should_serve_stale`: while it is refreshed, and while the upstream fails; within the windows that were stored with it.
pub fn may_serve_stale(error: Option<&Error>) -> bool {
    error.is_none_or(|error| *error.esource() == ErrorSource::Upstream)
}

/// `response_cache_filter`, for the stock path.
pub fn judge(session: &Session, head: &ResponseHeader, ctx: &mut Ctx) -> RespCacheable {
    match verdict(session, head, ctx, Path::Stock) {
        Some(Verdict::Store(meta)) => {
            ctx.cache.stored = true;
            RespCacheable::Cacheable(meta)
        }
        Some(Verdict::Refuse(reason)) => {
            ctx.cache.refused = Some(reason.as_str());
            RespCacheable::Uncacheable(reason.no_cache_reason())
        }
        None => RespCacheable::Uncacheable(NoCacheReason::NeverEnabled),
    }
}

/// Who fills the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    /// Pingora, which cuts its client where a body of unknown length outgrows the limit: such a body is not stored there.
    Stock,
    /// Our own exchange, which goes on without the store.
    Held,
}

fn verdict(session: &Session, head: &ResponseHeader, ctx: &Ctx, path: Path) -> Option<Verdict> {
    let route = ctx.route.as_ref()?;
    let settings = route.settings.cache.as_ref()?;
    let request = session.req_header();
    // Where the route says who may share the answer, it is no longer HTTP that has to.
    let open = settings.share.is_none();
    let sent =
        |name: header::HeaderName, forwarded: bool| open && forwarded && request.headers.contains_key(name);
    let facts = RequestFacts {
        authorization_forwarded: sent(header::AUTHORIZATION, route.settings.forwards_authorization),
        cookie_forwarded: sent(header::COOKIE, route.settings.forwards_cookies),
        no_store: false,
        path: &ctx.exchange.path,
        // With the cache on, a HEAD is fetched as a GET.
        method_head: ctx.exchange.method == Method::HEAD && !session.cache.enabled(),
        needs_length: path == Path::Stock,
        response_delay: ctx
            .exchange
            .upstream_started
            .map_or_else(Default::default, |started| started.elapsed()),
    };
    let policy = Policy {
        ttl: settings.ttl,
        override_upstream: settings.overrides,
        stale_while_revalidate: settings.stale_while_revalidate,
        stale_if_error: settings.stale_if_error,
        heuristic_max: settings.heuristic_max,
        store_set_cookie: settings.store_set_cookie,
        negative_max: settings.negative_max,
    };
    if settings.app && varies_by_ours(head) {
        // The upstream saw what we said of the client, not what the client sent: no request could choose such a variant.
        return Some(Verdict::Refuse(freshness::Reason::Vary));
    }
    let mut verdict = freshness::judge(head, &facts, &policy, SystemTime::now());
    if let (Verdict::Store(meta), Some(epoch)) = (&mut verdict, ctx.cache.epoch) {
        epoch.stamp(meta);
    }
    Some(verdict)
}

fn varies_by_ours(head: &ResponseHeader) -> bool {
    let names = head.headers.get_all(header::VARY).iter().filter_map(|line| line.to_str().ok());
    names.flat_map(|line| line.split(',')).any(|name| forwarding::is_ours(&name.trim().to_ascii_lowercase()))
}

/// For our own exchange: decides, and opens the place in the store. `true`: chunks may follow.
pub async fn begin_store(session: &mut Session, ctx: &mut Ctx, head: &ResponseHeader) -> bool {
    if !session.cache.enabled() && !session.cache.bypassing() {
        return false;
    }
    let meta = match verdict(session, head, ctx, Path::Held) {
        Some(Verdict::Store(meta)) => meta,
        Some(Verdict::Refuse(reason)) => {
            ctx.cache.refused = Some(reason.as_str());
            if !session.cache.bypassing() {
                session.cache.response_became_uncacheable(reason.no_cache_reason());
            }
            session.cache.disable(reason.no_cache_reason());
            return false;
        }
        None => return false,
    };
    let has_length = meta.headers().contains_key(header::CONTENT_LENGTH);
    if session.cache.bypassing()
        && !has_length
        && session.cache.predicted_uncacheable_reason() == Some(NoCacheReason::ResponseTooLarge)
    {
        // It outgrew the limit lately, and does not say that it would not again: nobody is to follow such a fill.
        ctx.cache.refused = Some("too-large");
        session.cache.disable(NoCacheReason::PredictedResponseTooLarge);
        return false;
    }
    if session.cache.bypassing() {
        // Remembered as not to be stored, and now it may be: the next request leads a fill again.
        session.cache.response_became_cacheable();
        session.cache.cache_miss();
    }
    let length =
        meta.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if let (Some(length), Some(max)) = (length, session.cache.max_file_size_bytes())
        && length > max
    {
        ctx.cache.refused = Some("too-large");
        session.cache.response_became_uncacheable(NoCacheReason::ResponseTooLarge);
        session.cache.disable(NoCacheReason::ResponseTooLarge);
        return false;
    }
    let variance = match vary::variance(meta.headers(), &session.req_header().headers) {
        Vary::Hash(hash) => Some(hash),
        _ => None,
    };
    session.cache.set_cache_meta(meta);
    session.cache.update_variance(variance);
    if session.cache.set_miss_handler().await.is_err() {
        session.cache.disable(NoCacheReason::StorageError);
        return false;
    }
    ctx.cache.stored = true;
    true
}

/// Stores a piece. `false`: the object cannot be stored to its end.
pub async fn store_chunk(session: &mut Session, chunk: Bytes, end: bool) -> bool {
    if !session.cache.enabled() {
        return false;
    }
    if !session.cache.track_body_bytes_for_max_file_size(chunk.len()) {
        session.cache.response_became_uncacheable(NoCacheReason::ResponseTooLarge);
        return false;
    }
    match session.cache.miss_handler() {
        Some(handler) => handler.write_body(chunk, end).await.is_ok(),
        None => false,
    }
}

/// Makes a stored object visible as whole.
pub async fn finish_store(session: &mut Session, ctx: &mut Ctx, whole: bool) {
    if !whole || !session.cache.enabled() || session.cache.finish_miss_handler().await.is_err() {
        ctx.cache.stored = false;
        abandon_store(session);
    }
}

/// Gives up a fill: its readers get an error, nothing stays.
pub fn abandon_store(session: &mut Session) {
    if session.cache.enabled() {
        session.cache.disable(NoCacheReason::UpstreamError);
    }
}

/// A fetch failed: those who wait at the lock share the failure instead of repeating it one after the other. Called before the lock is
/// released.
pub fn note_failure(session: &Session, ctx: &Ctx, fault: Fault) {
    let is_clients = matches!(
        fault,
        Fault::BadTarget | Fault::BodyTooLarge | Fault::BodyTimeout | Fault::ClientGone | Fault::Internal
    );
    if !is_clients && let Some(reply) = failure::reply(fault) {
        ctx.shared.zone.note_failure(&session.cache, reply.status.as_u16(), Instant::now());
    }
}

/// The upstream answered with an error that is ours to word: those who wait share it too.
pub fn note_error(session: &Session, ctx: &Ctx, status: StatusCode) {
    ctx.shared.zone.note_failure(&session.cache, status.as_u16(), Instant::now());
}

/// The failure, of a moment ago, of the fetch that this request waited for.
#[must_use]
pub fn shared_failure(session: &Session, ctx: &Ctx) -> Option<Fault> {
    let status = ctx.shared.zone.shared_failure(&session.cache, ctx.exchange.received)?;
    Some(match status {
        503 => Fault::NoEndpoint,
        504 => Fault::Deadline,
        _ => Fault::Connection,
    })
}

/// In `response_filter`: reads the outcome from the framework's state before the head goes out.
pub fn note_served(session: &Session, ctx: &mut Ctx) {
    let mut outcome = Outcome::of(&session.cache, SystemTime::now());
    let caches = ctx.route.as_ref().is_some_and(|route| route.settings.cache.is_some());
    if caches && !ctx.cache.looked_up && MethodClass::of(&ctx.exchange.method).is_none() {
        outcome.source = CacheSource::Forwarded(Forward::Method);
    }
    if matches!(outcome.source, CacheSource::Hit) || outcome.collapsed {
        ctx.exchange.source = Source::Cache;
        ctx.fault = None;
    }
    ctx.cache.outcome = Some(outcome);
}

/// The value of `Cache-Status` (RFC 9211).
#[must_use]
pub fn status_field(ctx: &Ctx) -> HeaderValue {
    let mut outcome = match ctx.cache.outcome {
        Some(outcome) if ctx.local.is_none() => outcome,
        _ => Outcome::new(CacheSource::Gateway),
    };
    if matches!(outcome.source, CacheSource::Forwarded(_)) {
        outcome.stored = ctx.cache.stored;
        outcome.detail = ctx.cache.refused;
    }
    outcome.value()
}

/// At the end: what the metric and the log are told.
pub fn note_outcome(ctx: &mut Ctx, waited: Option<std::time::Duration>) {
    if !ctx.cache.looked_up {
        return;
    }
    if let Some(waited) = waited {
        ctx.shared.process.metrics.process().cache_lock_wait(waited);
    }
    let Some(outcome) = ctx.cache.outcome else { return };
    ctx.cache.result = Some(match outcome.source {
        _ if outcome.collapsed => CacheResult::Coalesced,
        CacheSource::Hit if outcome.ttl_secs.is_some_and(|ttl| ttl < 0) => CacheResult::Stale,
        CacheSource::Hit => CacheResult::Hit,
        _ if ctx.cache.refused.is_some() => CacheResult::Uncacheable,
        CacheSource::Forwarded(Forward::Stale) if !ctx.cache.stored => CacheResult::Revalidated,
        CacheSource::Forwarded(Forward::Stale) => CacheResult::Expired,
        CacheSource::Forwarded(Forward::Bypass) => CacheResult::Bypass,
        CacheSource::Forwarded(_) => CacheResult::Miss,
        CacheSource::Gateway => return,
    });
}

/// The beginning of all keys of one URL on a route, for a purge.
#[must_use]
pub fn url_prefix(route: &Route, scheme: &str, authority: &str, path: &str, query: &str) -> Option<Vec<u8>> {
    let settings = route.settings.cache.as_ref()?;
    let query = canonical_query(query, &settings.ignored_parameters);
    let parts = KeyParts {
        route: route.name.as_str(),
        policy: route.fingerprint,
        method_class: MethodClass::Read,
        scheme,
        host: authority,
        path,
        query: &query,
        headers: &[],
    };
    Some(parts.url_prefix())
}
