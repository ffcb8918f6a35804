//! From the upstream's answer to the store and the client: cleaned, masked or shaped while it is held, or streamed.

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::conditional_filter;
use pingora::proxy::Session;

use super::attempt::{Answer, Connection};
use super::{error, fail};
use crate::plan::Route;
use crate::policy::json::JsonShaping;
use crate::policy::reply::Body;
use crate::policy::{Fault, Reply, UpstreamKind};
use crate::proxy::{Ctx, Gateway, cache, response, upstream_response};
use crate::telemetry::labels::ShapeResult;

/// How much of an error body is read to its end for the sake of the connection; a longer one costs the connection.
const DRAIN_MAX_BYTES: usize = 64 << 10;

/// Takes an answer to its end. `Ok(true)` with a fault in `ctx`: nothing was sent.
///
/// # Errors
/// When something was sent and the rest cannot follow: the connection is cut.
pub async fn deliver(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    answer: Answer,
) -> pingora::Result<bool> {
    let Answer { mut head, mut connection } = answer;
    upstream_response::note_answer(&head, ctx, route);
    if let Err(fault) = upstream_response::clean(&mut head, ctx, route) {
        drain(ctx, &mut connection).await;
        connection.release(&gateway.shared.connector).await;
        ctx.fault = Some(fault);
        return Ok(true);
    }
    head.set_version(Version::HTTP_11);
    let status = head.status.as_u16();
    if route.upstream.as_ref().is_some_and(|u| u.kind == UpstreamKind::Api)
        && route.settings.errors.masks(status)
    {
        drain(ctx, &mut connection).await;
        connection.release(&gateway.shared.connector).await;
        upstream_response::note_end(ctx);
        let fault = if status >= 500 { Some(Fault::Connection) } else { None };
        return masked(session, ctx, route, head, fault).await;
    }
    if let Some(shaping) = &route.settings.json
        && has_body(&head, session, ctx)
    {
        return match hold_and_shape(ctx, route, shaping, &mut head, &mut connection).await {
            Ok(body) => {
                connection.release(&gateway.shared.connector).await;
                upstream_response::note_end(ctx);
                whole(session, ctx, route, head, body).await
            }
            Err(fault) => {
                ctx.fault = Some(fault);
                Ok(true)
            }
        };
    }
    if connection.is_done() {
        connection.release(&gateway.shared.connector).await;
        upstream_response::note_end(ctx);
        return whole(session, ctx, route, head, Bytes::new()).await;
    }
    stream(gateway, session, ctx, head, connection).await
}

fn has_body(head: &ResponseHeader, session: &Session, _ctx: &Ctx) -> bool {
    let head_request = session.req_header().method == Method::HEAD && !session.cache.enabled();
    !head_request
        && !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        && head.headers.get(header::CONTENT_LENGTH).is_none_or(|length| length != "0")
}

async fn drain(ctx: &Ctx, connection: &mut Connection) {
    let mut read = 0;
    while read <= DRAIN_MAX_BYTES && !connection.is_done() {
        match connection.read(ctx).await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Reads the whole body and shapes it. The connection is closed by its drop where this fails.
async fn hold_and_shape(
    ctx: &mut Ctx,
    route: &Route,
    shaping: &JsonShaping,
    head: &mut ResponseHeader,
    connection: &mut Connection,
) -> Result<Bytes, Fault> {
    let coded = head
        .headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if coded {
        route.metrics.shape(ShapeResult::Encoded);
        return Err(Fault::Encoded);
    }
    if head.status == StatusCode::PARTIAL_CONTENT {
        route.metrics.shape(ShapeResult::Error);
        return Err(Fault::Protocol);
    }
    let declared =
        head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let too_large = |length: usize| length > shaping.max_bytes;
    if declared.is_some_and(too_large) {
        route.metrics.shape(ShapeResult::TooLarge);
        return Err(Fault::TooLargeToShape);
    }
    let mut body = BytesMut::with_capacity(declared.unwrap_or(0));
    while let Some(chunk) = connection.read(ctx).await? {
        if too_large(body.len() + chunk.len()) {
            route.metrics.shape(ShapeResult::TooLarge);
            return Err(Fault::TooLargeToShape);
        }
        body.extend_from_slice(&chunk);
    }
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    let mut shaped = Vec::with_capacity(body.len());
    if shaping.shape.shape(&body, &mut shaped).is_err() {
        route.metrics.shape(ShapeResult::NotJson);
        return Err(Fault::NotJson);
    }
    route.metrics.shape(ShapeResult::Ok);
    // What described the original bytes does not describe these.
    for name in
        ["content-md5", "content-digest", "repr-digest", "digest", "accept-ranges", "content-encoding"]
    {
        head.remove_header(name);
    }
    weaken_etag(head);
    Ok(Bytes::from(shaped))
}

/// A shaped body is equivalent, not identical (RFC 9110 §8.8.1).
fn weaken_etag(head: &mut ResponseHeader) {
    let Some(tag) = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()) else { return };
    if !tag.starts_with("W/") {
        let weak = format!("W/{tag}");
        // An entity tag with two more letters is still one.
        let _ = head.insert_header(header::ETAG, weak);
    }
}

/// An error of the upstream: its status, our words.
async fn masked(
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    upstream: ResponseHeader,
    stale_instead: Option<Fault>,
) -> pingora::Result<bool> {
    // A server error is a failure of the origin: a stale object may take its place (RFC 5861 §4).
    if let Some(fault) = stale_instead
        && session.cache.enabled()
        && session.cache.can_serve_stale_error()
    {
        ctx.fault = Some(fault);
        return Ok(true);
    }
    if upstream.status.is_server_error() {
        cache::note_error(session, ctx, upstream.status);
    }
    let mut reply = Reply::problem(upstream.status, "upstream_error");
    for name in
        [header::CACHE_CONTROL, header::EXPIRES, header::AGE, header::DATE, header::ALLOW, header::VARY]
    {
        reply
            .headers
            .extend(upstream.headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())));
    }
    reply.body = Body::Problem;
    let rendered = match reply.render(
        ctx.exchange.wants_html && !session.cache.enabled(),
        Some(route.name.as_str()),
        None,
    ) {
        Ok(rendered) => rendered,
        Err(_) => return fail(ctx, Fault::Internal).map(|()| true),
    };
    let mut head = rendered.head;
    if let Some(value) = upstream.headers.get(header::CACHE_CONTROL) {
        head.insert_header(header::CACHE_CONTROL, value.clone())?;
    } else if session.cache.enabled() {
        head.remove_header(&header::CACHE_CONTROL);
    }
    whole(session, ctx, route, head, rendered.body).await
}

/// Stores and sends a body that is all there.
async fn whole(
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    mut head: ResponseHeader,
    body: Bytes,
) -> pingora::Result<bool> {
    head.remove_header(&header::TRANSFER_ENCODING);
    let answers_head = session.req_header().method == Method::HEAD && !session.cache.enabled();
    let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if answers_head && route.settings.json.is_some() {
        // The length of the original says nothing about what a GET would get.
        head.remove_header(&header::CONTENT_LENGTH);
    } else if !answers_head && !bodiless {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    if cache::begin_store(session, ctx, &head).await {
        let stored = cache::store_chunk(session, body.clone(), true).await;
        cache::finish_store(session, ctx, stored).await;
    }
    if !ctx.background
        && session.cache.enabled()
        && conditional_filter::not_modified_filter(session.req_header(), &head)
    {
        conditional_filter::to_304(&mut head);
    }
    response::filter(session, &mut head, ctx)?;
    let empty = body.is_empty()
        || session.req_header().method == Method::HEAD
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    session.write_response_header(Box::new(head), empty).await?;
    if empty {
        session.write_response_body(None, true).await?;
    } else {
        ctx.response_bytes += body.len() as u64;
        session.write_response_body(Some(body), true).await?;
    }
    Ok(false)
}

/// Stores and sends as it comes. A client that goes away does not end a fill: the next one wants it too.
async fn stream(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    mut head: ResponseHeader,
    mut connection: Connection,
) -> pingora::Result<bool> {
    let mut filling = cache::begin_store(session, ctx, &head).await;
    let header_only = session.req_header().method == Method::HEAD;
    if head.headers.contains_key(header::CONTENT_LENGTH) {
        head.remove_header(&header::TRANSFER_ENCODING);
    } else if session.req_header().version == Version::HTTP_11 && !header_only {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    } else {
        head.remove_header(&header::TRANSFER_ENCODING);
    }
    response::filter(session, &mut head, ctx)?;
    let mut client: pingora::Result<()> = session.write_response_header(Box::new(head), header_only).await;
    loop {
        let chunk = match connection.read(ctx).await {
            Ok(chunk) => chunk,
            Err(fault) => {
                // The readers of this fill are cut with it: the handler is dropped unfinished.
                cache::abandon_store(session);
                session.set_keepalive(None);
                ctx.fault = Some(fault);
                return error(fault);
            }
        };
        let Some(chunk) = chunk else { break };
        if filling && !cache::store_chunk(session, chunk.clone(), false).await {
            filling = false;
            cache::abandon_store(session);
        }
        if client.is_ok() && !header_only {
            ctx.response_bytes += chunk.len() as u64;
            client = session.write_response_body(Some(chunk), false).await;
        }
        if client.is_err() && !filling {
            break;
        }
    }
    if filling {
        cache::finish_store(session, ctx, true).await;
    }
    connection.release(&gateway.shared.connector).await;
    upstream_response::note_end(ctx);
    if client.is_ok() {
        client = session.write_response_body(None, true).await;
    }
    if client.is_err() {
        ctx.fault = Some(Fault::ClientGone);
        session.set_keepalive(None);
    }
    client.map(|()| false)
}
