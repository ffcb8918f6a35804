//! `logging`: always the last. One line and one count per request, from what `ctx` holds; no label is looked up here.

use std::time::Duration;

use pingora_proxy::Session;

use super::{Ctx, cache, failure};
use crate::exchange::Source;
use crate::policy::Fault;
use crate::telemetry::Line;
use crate::telemetry::labels::{self, Erased, LimitDecision, LocalReason, Method, Phase};
use crate::telemetry::metrics::Finished;

/// The status that the log gives a client that went away before an answer was begun (as nginx has it).
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Pingora's `logging`.
pub fn log(session: &mut Session, ctx: &mut Ctx) {
    if ctx.logged {
        return;
    }
    if let Some(head) = session.response_written() {
        ctx.status = head.status.as_u16();
    }
    ctx.response_bytes = ctx.response_bytes.max(session.body_bytes_sent() as u64);
    ctx.exchange.request_bytes = ctx.exchange.request_bytes.max(session.body_bytes_read() as u64);
    cache::note_outcome(ctx);
    finish(ctx);
}

/// The count and the line, also where the connection was cut and no session is left.
pub fn finish(ctx: &mut Ctx) {
    ctx.logged = true;
    if let (Some(route), Some(reason)) = (&ctx.route, ctx.cache.refused) {
        route.metrics.uncacheable(reason);
    }
    if ctx.background {
        // The errand of the cache is counted at the upstream and in the cache, not as a client's request.
        return;
    }
    if ctx.status == 0 {
        ctx.status = CLIENT_CLOSED_REQUEST;
    }
    if let Some(fault) = ctx.fault {
        ctx.local.get_or_insert(failure::reason(fault));
    }
    let duration = ctx.exchange.received.elapsed();
    count(ctx, duration);
    write_line(ctx, duration);
}

fn count(ctx: &Ctx, duration: Duration) {
    let exchange = &ctx.exchange;
    let metrics = ctx.route.as_ref().map_or(&ctx.shared.no_route, |route| &route.metrics);
    metrics.finished(Finished {
        method: Method::of(exchange.method.as_str()),
        status: ctx.status,
        source: match exchange.source {
            Source::Upstream => labels::Source::Upstream,
            Source::Cache => labels::Source::Cache,
            Source::Gateway => labels::Source::Gateway,
        },
        duration,
        request_bytes: exchange.request_bytes,
        response_bytes: ctx.response_bytes,
    });
    if let Some(reason) = ctx.local {
        metrics.local(reason);
    }
    for (index, outcome) in exchange.limits.iter().enumerate() {
        metrics.limit(index, if outcome.allowed { LimitDecision::Allow } else { LimitDecision::Deny });
    }
    if let Some(result) = ctx.cache.result {
        metrics.cache(result);
    }
    let process = ctx.shared.process.metrics.process();
    let erased = exchange.erased;
    for (what, count) in [
        (Erased::Location, erased.location),
        (Erased::Link, erased.link),
        (Erased::Header, erased.refresh),
        (Erased::SetCookie, erased.set_cookie),
        (Erased::ErrorBody, erased.error_body),
        (Erased::Json, erased.json),
    ] {
        if count > 0 {
            process.erased(what, count);
        }
    }
    let own = duration.saturating_sub(exchange.upstream_duration.unwrap_or_default());
    process.overhead(Phase::Total, own);
}

fn write_line(ctx: &Ctx, duration: Duration) {
    let exchange = &ctx.exchange;
    let route = ctx.route.as_ref();
    let limited = exchange.limits.iter().find(|outcome| !outcome.allowed);
    ctx.shared.access_log.record(&Line {
        time: exchange.at,
        request_id: exchange.request_id.as_str(),
        listener: exchange.listener.as_str(),
        client: exchange.client,
        method: exchange.method.as_str(),
        host: &exchange.host,
        route: route.map_or("", |route| route.name.as_str()),
        path: &exchange.path,
        status: ctx.status,
        source: match exchange.source {
            Source::Upstream => "upstream",
            Source::Cache => "cache",
            Source::Gateway => "gateway",
        },
        cache: ctx.cache.result.map(|result| result.as_str()),
        cache_reason: cache::reason(ctx),
        limit: limited.map(|outcome| outcome.name.as_str()),
        upstream: route.and_then(|r| r.upstream.as_ref()).map(|plan| plan.upstream.name().as_str()),
        duration,
        upstream_duration: exchange.upstream_duration,
        request_bytes: exchange.request_bytes,
        response_bytes: ctx.response_bytes,
        user_agent: ctx.user_agent.as_ref().map(http::HeaderValue::as_bytes),
        protocol: ctx.protocol,
        error: ctx.fault.map(Fault::code).or(ctx.local.map(LocalReason::as_str)),
    });
}
