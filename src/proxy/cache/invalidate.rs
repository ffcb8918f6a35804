//! What a request that may have changed something takes away: its own URL, and those that the answer names (RFC 9111 §4.4).

use pingora::http::ResponseHeader;

use crate::cache::invalidation::{OwnedUrl, Url, invalidated, is_safe};
use crate::cache::purge::{Mode, Purge, Run};
use crate::exchange::Exchange;
use crate::proxy::{Ctx, purge};

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
    exchange.host.clone_from(&ctx.exchange.host);
    exchange.port = ctx.exchange.port;
    exchange.path = url.path;
    exchange.query = url.query;
    let query = exchange.query.as_deref().unwrap_or_default();
    let routes = ctx.plan.routes_on(&exchange);
    let urls = purge::urls(routes, url.scheme, &exchange.authority(), &exchange.path, query);
    ctx.shared.zone.purge(&Purge::Urls(urls), Mode::Hard, Run::Real);
}
