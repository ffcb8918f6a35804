//! What a request that may have changed something takes away: its own URL, and those that the answer names (RFC 9111 §4.4).

use http::{HeaderMap, Method};
use pingora::http::ResponseHeader;

use super::{url_prefix, with_key};
use crate::cache::invalidation::{OwnedUrl, Url, invalidated, is_safe};
use crate::exchange::Exchange;
use crate::plan::Route;
use crate::proxy::Ctx;

/// Removes what is stored for the URLs that an answer tells to be out of date, on every route that may have stored them. `head` is as the
/// client will see it.
pub fn invalidate(ctx: &Ctx, head: &ResponseHeader) {
    let exchange = &ctx.exchange;
    if is_safe(&exchange.method) || ctx.background {
        return;
    }
    let authority = exchange.authority();
    let target = Url {
        scheme: exchange.scheme,
        authority: &authority,
        path: &exchange.path,
        query: exchange.query.as_deref(),
    };
    for url in invalidated(&exchange.method, head.status, &head.headers, target) {
        remove(ctx, url);
    }
}

fn remove(ctx: &Ctx, url: OwnedUrl) {
    let mut exchange = Exchange::begin(ctx.exchange.listener.clone(), ctx.exchange.peer, url.scheme);
    exchange.method = Method::GET;
    exchange.host.clone_from(&ctx.exchange.host);
    exchange.port = ctx.exchange.port;
    exchange.path = url.path;
    exchange.query = url.query;
    for route in ctx.plan.routes_on(&exchange).filter(|route| route.settings.cache.is_some()) {
        remove_on(ctx, route, &exchange);
    }
}

fn remove_on(ctx: &Ctx, route: &Route, exchange: &Exchange) {
    let zone = ctx.shared.zone;
    let Some(settings) = &route.settings.cache else { return };
    if settings.key_headers.is_empty() && settings.share.is_none() {
        // One key, with all its variants.
        if let Some(key) = with_key(route, exchange, &HeaderMap::new(), |parts| parts.key()) {
            zone.purge(&key);
        }
        return;
    }
    let query = exchange.query.as_deref().unwrap_or_default();
    let prefix = url_prefix(route, exchange.scheme.as_str(), &exchange.authority(), &exchange.path, query);
    if let Some(prefix) = prefix {
        zone.purge_prefix(&prefix);
    }
}
