//! `PURGE`: a client of a network that a route names takes out of the cache what is stored for a URL.
//!
//! The method is ours alone and never sent upstream. A route grants it with `cache.purge`; to everybody else it is a method that is
//! not allowed, so that nobody learns where it is granted. Which route it is about is asked as for a GET of the same URL. Limits of
//! the route do not count it: they protect what it does not reach.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pingora::http::ResponseHeader;

use super::request::Refusal;
use super::{Ctx, cache};
use crate::cache::key::UrlHash;
use crate::cache::purge::{Mode, Origin, Purge, Run, Scope, Tag, tags};
use crate::exchange::{Exchange, Scheme};
use crate::plan::{Plan, Route, Routed};
use crate::policy::Reply;
use crate::policy::cache::PurgeGrant;
use crate::policy::reply::Body;
use crate::telemetry::labels::{LocalReason, PurgeMode, PurgeScope};

/// Whether a request is one.
#[must_use]
pub fn is_asked(exchange: &Exchange) -> bool {
    exchange.method.as_str() == "PURGE"
}

/// The route that grants a `PURGE` of this URL to this client.
///
/// # Errors
/// What is answered where none does.
pub fn route(plan: &Plan, exchange: &mut Exchange, headers: &HeaderMap) -> Result<Arc<Route>, Refusal> {
    let asked = std::mem::replace(&mut exchange.method, Method::GET);
    let found = plan.route(exchange, headers);
    exchange.method = asked;
    let refused = |allowed: String, status, code, reason| {
        let mut reply = Reply::problem(status, code);
        if let (StatusCode::METHOD_NOT_ALLOWED, Ok(value)) = (status, HeaderValue::try_from(allowed)) {
            reply = reply.with(header::ALLOW, value);
        }
        Err(Refusal { reply: Box::new(reply), reason })
    };
    let not_allowed =
        |allowed| refused(allowed, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", LocalReason::Method);
    match found {
        Routed::Route(route) if grant(&route).is_some_and(|grant| grant.allows(exchange.client)) => Ok(route),
        Routed::Route(_) => not_allowed("GET, HEAD".to_owned()),
        Routed::MethodNotAllowed(allowed) => {
            not_allowed(allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", "))
        }
        Routed::NotFound => refused(String::new(), StatusCode::NOT_FOUND, "no_route", LocalReason::NoRoute),
    }
}

/// Carries it out.
pub fn answer(ctx: &Ctx, route: &Route) -> Reply {
    let mode = grant(route).map_or(Mode::Soft, |grant| grant.mode);
    let exchange = &ctx.exchange;
    let query = exchange.query.as_deref().unwrap_or_default();
    // Who purges often comes by another way than who reads: both schemes are meant.
    let both = [Scheme::Http, Scheme::Https].into_iter();
    let urls = both.flat_map(|scheme| {
        urls(ctx.plan.routes.iter(), scheme, &exchange.authority(), &exchange.path, query)
    });
    let report = ctx.shared.zone.purge(&Purge::Urls(urls.collect()), mode, Run::Real);
    ctx.shared.process.metrics.process().purged(PurgeScope::Url, label(mode));
    reply(mode, report.matched)
}

/// Reads of an answer, as the upstream sent it, by which names it can be purged; and purges the groups that an answer to an unsafe
/// method names, of the origin that it is an answer of (RFC 9875 §3).
pub fn note_answer(head: &ResponseHeader, ctx: &mut Ctx, route: &Route) {
    let process = ctx.shared.process.metrics.process();
    for name in tags::invalidated_groups(&ctx.exchange.method, &head.headers) {
        let exchange = &ctx.exchange;
        let origin = Origin { scheme: exchange.scheme.as_str().into(), host: exchange.authority().into() };
        let scope = Scope::Tag(Tag { name, origin: Some(origin) });
        // Not soft: what is invalid is not given again before the upstream was asked.
        ctx.shared.zone.purge(&Purge::Scope(scope), Mode::Hard, Run::Real);
        process.purged(PurgeScope::Tag, PurgeMode::Hard);
    }
    if let Some(settings) = route.settings.cache.as_ref().filter(|_| ctx.cache.fetch.is_some()) {
        let of_route: Vec<_> = settings.tags.iter().filter_map(|tag| tag.tag(&ctx.exchange)).collect();
        ctx.cache.tags = tags::of_answer(&head.headers, of_route.iter().map(|tag| &**tag));
        process.tags_dropped(ctx.cache.tags.dropped as u64);
    }
}

/// The answer to one.
#[must_use]
pub fn reply(mode: Mode, matched: Option<usize>) -> Reply {
    let told = serde_json::json!({ "mode": mode.as_str(), "matched": matched });
    Reply {
        status: StatusCode::OK,
        code: "purged",
        headers: vec![(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))],
        body: Body::Fixed {
            media_type: HeaderValue::from_static("application/json"),
            bytes: Bytes::from(format!("{told}\n")),
        },
    }
}

/// What it does, for people; `None` where the route grants none.
#[must_use]
pub fn explain(route: &Route) -> Option<(String, Reply)> {
    let mode = grant(route)?.mode;
    let words = match mode {
        Mode::Soft => {
            "what is stored for this URL becomes stale, in all its variants; the upstream is not asked"
        }
        Mode::Hard => {
            "what is stored for this URL is removed, in all its variants; the upstream is not asked"
        }
    };
    Some((words.to_owned(), reply(mode, None)))
}

/// The hashes under which these routes may have stored answers for a URL: one for each way in which they drop parameters of the query.
pub fn urls<'r>(
    routes: impl Iterator<Item = &'r Arc<Route>>,
    scheme: Scheme,
    authority: &str,
    path: &str,
    query: &str,
) -> Vec<UrlHash> {
    let mut urls: Vec<UrlHash> = routes
        .filter(|route| route.settings.cache.is_some())
        .map(|route| cache::query_of(route, query))
        .chain([query.into()])
        .map(|query| UrlHash::of(scheme.as_str(), authority, path, &query))
        .collect();
    urls.sort_unstable();
    urls.dedup();
    urls
}

/// The label of a mode.
#[must_use]
pub fn label(mode: Mode) -> PurgeMode {
    match mode {
        Mode::Soft => PurgeMode::Soft,
        Mode::Hard => PurgeMode::Hard,
    }
}

fn grant(route: &Route) -> Option<&PurgeGrant> {
    route.settings.cache.as_ref()?.purge.as_ref()
}
