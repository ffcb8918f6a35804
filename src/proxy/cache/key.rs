//! Whether a request is looked up, and under which key: declared parts of the request only, before anything is injected.

use std::borrow::Cow;

use blake2::{Blake2s256, Digest as _};
use http::{HeaderMap, Method, header};

use crate::cache::key::{KeyParts, MethodClass, canonical_query};
use crate::exchange::Exchange;
use crate::plan::Route;
use crate::policy::Settings;
use crate::policy::cache::Share;
use crate::policy::request_headers::chosen_cookies;

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

/// A parameter that is no part of the key must not reach the upstream either, or it could spoil the entry for everybody. Nor the mark of a
/// query that is empty: the key does not tell it from none.
pub fn drop_ignored(route: &Route, exchange: &mut Exchange) {
    if let (Some(settings), Some(query)) = (&route.settings.cache, &exchange.query)
        && let Cow::Owned(kept) = canonical_query(query, &settings.ignored_parameters)
    {
        exchange.query = Some(kept);
    }
    if route.settings.cache.is_some() && exchange.query.as_ref().is_some_and(String::is_empty) {
        exchange.query = None;
    }
}

/// What of a query is part of the key: what the route sends on, and does not ignore.
#[must_use]
pub fn query_of<'q>(route: &Route, query: &'q str) -> Cow<'q, str> {
    let ignored = route.settings.cache.as_ref().map_or(&[][..], |settings| &settings.ignored_parameters);
    let kept = &route.settings.kept_parameters;
    if kept.keeps_all() {
        return canonical_query(query, ignored);
    }
    let kept = kept.of(query).collect::<Vec<_>>().join("&");
    Cow::Owned(canonical_query(&kept, ignored).into_owned())
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
    let query = query_of(route, exchange.query.as_deref().unwrap_or_default());
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
