//! `early_request_filter` and `request_filter`: from the bytes of a head to a route and its verdict.
//!
//! Normalise, client address, route, body limits, policies: in this order, before the cache is asked and the upstream is known.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, Version, header};
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::{Ctx, Gateway, body, failure, purge, respond};
use crate::exchange::{Exchange, RequestId, Scheme, client, prefers_html, target};
use crate::plan::{Listener, Plan, Route, Routed};
use crate::policy::reply::Body;
use crate::policy::request_headers::REQUEST_ID;
use crate::policy::{Reply, Verdict};
use crate::telemetry::labels::{BodyStage, LocalReason, Phase};

/// Sets the deadlines of this request's connection. Pingora restarts them at each read, so `body` keeps the total.
pub fn early(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) {
    let timeouts = gateway.listener.timeouts;
    session.set_read_timeout(Some(timeouts.body));
    // A second net: the connection guard watches what the client takes.
    session.set_write_timeout(Some(timeouts.write.saturating_mul(2)));
    ctx.background = session.subrequest_ctx.is_some();
    if ctx.background
        && let Some(address) = session.client_addr().and_then(|address| address.as_inet())
    {
        // The errand speaks for the client that caused it: what a trusted proxy said of it holds for the refresh too.
        ctx.exchange.peer = *address;
    }
}

/// Decides what happens to the request. `true`: it is answered.
///
/// # Errors
/// When the client cannot be written to, or broke off while its body was read ahead.
pub async fn filter(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<bool> {
    let head = session.req_header();
    ctx.protocol = match head.version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    };
    ctx.user_agent = head.headers.get(header::USER_AGENT).cloned();
    if let Err(refusal) = understand(&gateway.listener, head, &mut ctx.exchange) {
        respond::send(session, ctx, &refusal.reply, refusal.reason).await?;
        return Ok(true);
    }
    as_http1(session, ctx)?;
    let route = match route(&ctx.plan, &mut ctx.exchange, &session.req_header().headers) {
        Ok(route) => route,
        Err(refusal) => {
            respond::send(session, ctx, &refusal.reply, refusal.reason).await?;
            return Ok(true);
        }
    };
    ctx.route = Some(route.clone());
    if purge::is_asked(&ctx.exchange) {
        let reply = purge::answer(ctx, &route);
        respond::send(session, ctx, &reply, LocalReason::Purge).await?;
        return Ok(true);
    }
    if ctx.background {
        // Limits and answers of our own were settled when the client asked; this is the cache's own errand.
        return Ok(false);
    }
    if let Err(fault) = body::check_declared(session.req_header(), &route) {
        ctx.shared.process.metrics.process().body_limit(BodyStage::Declared);
        return refuse(session, ctx, fault).await;
    }
    let matched = ctx.exchange.received.elapsed();
    let verdict = route.chain.request_filter(&mut ctx.exchange);
    let process = ctx.shared.process.metrics.process();
    process.overhead(Phase::Match, matched);
    process.overhead(Phase::Limit, ctx.exchange.received.elapsed().saturating_sub(matched));
    if let Verdict::Respond(reply) = verdict {
        let reason = match reply.code {
            "rate_limited" => LocalReason::Limited,
            "concurrency_limited" => LocalReason::Concurrency,
            "redirect" => LocalReason::Redirect,
            _ => LocalReason::Respond,
        };
        respond::send(session, ctx, &reply, reason).await?;
        return Ok(true);
    }
    if !session.as_downstream_mut().is_body_empty() {
        // From now on the guard keeps the total deadline of the body, on HTTP/2 too.
        ctx.shared.door.body_progress(0, session.as_downstream_mut().is_body_done());
    }
    if let Err(fault) = body::read_ahead(session, ctx, &route).await {
        if fault == crate::policy::Fault::BodyTooLarge {
            ctx.shared.process.metrics.process().body_limit(BodyStage::ReadAhead);
        }
        return refuse(session, ctx, fault).await;
    }
    Ok(false)
}

/// Gives a request of HTTP/2 the form of HTTP/1.1: origin-form target and `Host`. The framework writes it out and reads it again
/// where it refreshes a stale object in the background, and its own form for HTTP/2 cannot be read again.
fn as_http1(session: &mut Session, ctx: &Ctx) -> pingora::Result<()> {
    if session.req_header().version != Version::HTTP_2 {
        return Ok(());
    }
    let exchange = &ctx.exchange;
    let target = match &exchange.query {
        Some(query) => format!("{}?{query}", exchange.path),
        None => exchange.path.clone(),
    };
    let uri = http::Uri::try_from(target)
        .map_err(|_| pingora::Error::explain(pingora::ErrorType::InvalidHTTPHeader, "target"))?;
    let head = session.req_header_mut();
    head.insert_header(header::HOST, exchange.authority())?;
    head.set_uri(uri);
    head.set_version(Version::HTTP_11);
    Ok(())
}

async fn refuse(session: &mut Session, ctx: &mut Ctx, fault: crate::policy::Fault) -> pingora::Result<bool> {
    ctx.fault = Some(fault);
    if let Some(reply) = failure::reply(fault) {
        respond::send(session, ctx, &reply, failure::reason(fault)).await?;
    }
    Ok(true)
}

/// An answer of ours before any policy was asked.
pub struct Refusal {
    /// What the client gets.
    pub reply: Box<Reply>,
    /// Why, for the metrics.
    pub reason: LocalReason,
}

/// Which route takes the request.
///
/// # Errors
/// What is answered where none does.
pub fn route(plan: &Plan, exchange: &mut Exchange, headers: &HeaderMap) -> Result<Arc<Route>, Refusal> {
    let refusal = |reply, reason| Err(Refusal { reply: Box::new(reply), reason });
    if exchange.path == "*" {
        // About the server as a whole (RFC 9110 §9.3.7): ours to answer, and no path that a route could match.
        let reply =
            Reply { status: StatusCode::NO_CONTENT, code: "options", headers: Vec::new(), body: Body::Empty };
        return refusal(reply, LocalReason::Respond);
    }
    if purge::is_asked(exchange) {
        return purge::route(plan, exchange, headers);
    }
    match plan.route(exchange, headers) {
        Routed::Route(route) => Ok(route),
        Routed::MethodNotAllowed(allowed) => {
            let list = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            let mut reply = Reply::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
            if let Ok(value) = http::HeaderValue::try_from(list) {
                reply = reply.with(header::ALLOW, value);
            }
            refusal(reply, LocalReason::Method)
        }
        Routed::NotFound => refusal(Reply::problem(StatusCode::NOT_FOUND, "no_route"), LocalReason::NoRoute),
    }
}

fn bad_request(code: &'static str) -> Refusal {
    Refusal {
        reply: Box::new(Reply::problem(StatusCode::BAD_REQUEST, code)),
        reason: LocalReason::BadRequest,
    }
}

fn bad_target(why: target::BadTarget) -> Refusal {
    match why {
        target::BadTarget::TooLong => Refusal {
            reply: Box::new(Reply::problem(StatusCode::URI_TOO_LONG, "target_too_long")),
            reason: LocalReason::BadRequest,
        },
        _ => bad_request("bad_path"),
    }
}

/// Fills in the facts: what is asked, of whom, by whom.
///
/// # Errors
/// What is answered to a request that has no unambiguous meaning.
pub fn understand(listener: &Listener, head: &RequestHeader, exchange: &mut Exchange) -> Result<(), Refusal> {
    exchange.method = head.method.clone();
    let field = |name: header::HeaderName| head.headers.get(name).map(http::HeaderValue::as_bytes);
    exchange.wants_html = prefers_html(field(header::ACCEPT));

    let trusted = &listener.trusted;
    exchange.peer_is_trusted = trusted.contains(exchange.peer.ip());
    exchange.client = client::client_address(
        exchange.peer.ip(),
        trusted,
        head.headers.get_all("x-forwarded-for").iter().map(http::HeaderValue::as_bytes),
        head.headers.get_all(header::FORWARDED).iter().map(http::HeaderValue::as_bytes),
    );
    if exchange.peer_is_trusted {
        // What the client spoke with the proxy in front of us, whatever that speaks with us.
        match field(header::HeaderName::from_static("x-forwarded-proto")) {
            Some(b"https") => exchange.scheme = Scheme::Https,
            Some(b"http") => exchange.scheme = Scheme::Http,
            _ => {}
        }
    }
    if exchange.peer_is_trusted
        && let Some(id) =
            head.headers.get(REQUEST_ID).map(http::HeaderValue::as_bytes).and_then(RequestId::adopt)
    {
        exchange.request_id = id;
    }

    // TRACE would echo what we inject; CONNECT would make us an open proxy. HTTP/1 was refused at the door already.
    if head.method == Method::TRACE || head.method == Method::CONNECT {
        let reply = Reply::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
        return Err(Refusal { reply: Box::new(reply), reason: LocalReason::Method });
    }
    let asterisk =
        if head.method == Method::OPTIONS { target::Asterisk::Allow } else { target::Asterisk::Refuse };
    let raw = std::str::from_utf8(head.raw_path()).map_err(|_| bad_request("bad_path"))?;
    let written = target::target(raw, asterisk).map_err(bad_target)?;
    exchange.path = written.path;
    exchange.query = written.query;
    let absolute = written.authority;

    let host = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(header::HOST).and_then(|value| value.to_str().ok()),
    };
    match host {
        Some(host) => {
            let authority = target::authority(host).map_err(|_| bad_request("bad_host"))?;
            if absolute.is_some_and(|absolute| absolute != authority) {
                return Err(bad_request("bad_host"));
            }
            exchange.host = authority.host;
            exchange.port = authority.port;
        }
        // HTTP/1.0 may come without (RFC 9112 §3.2); any other version may not.
        None if head.version == Version::HTTP_10 => {}
        None => return Err(bad_request("bad_host")),
    }
    Ok(())
}
