//! From the upstream's answer to the store and the client: cleaned, masked or shaped while it is held, or streamed.

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::conditional_filter;
use pingora_proxy::Session;

use super::attempt::{Answer, Connection, while_client_waits};
use super::{erase, error, fail, shape};
use crate::plan::Route;
use crate::policy::origin::ReverseMap;
use crate::policy::{Fault, Reply};
use crate::proxy::{Ctx, Gateway, cache, response, upstream_response};

/// How much of an error body is read to its end for the sake of the connection; a longer one costs the connection.
const DRAIN_MAX_BYTES: usize = 64 << 10;
/// How long that may take.
const DRAIN_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(200);
/// How much of a JSON answer is held before its head is sent, where nothing but the origin has to be erased from it.
const HOLD_BYTES: usize = 64 << 10;

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
        release(gateway, ctx, connection).await;
        return refuse(ctx, fault);
    }
    head.set_version(Version::HTTP_11);
    if route.settings.errors.masks(head.status.as_u16()) {
        drain(ctx, &mut connection).await;
        release(gateway, ctx, connection).await;
        return masked(session, ctx, route, &head).await;
    }
    ctx.endless = upstream_response::is_event_stream(&head);
    let map = match erase::map_for(&head, route) {
        Ok(map) => map.filter(|_| has_body(&head, session)),
        Err(fault) => return refuse(ctx, fault),
    };
    if let Some(shaping) = &route.settings.json
        && has_body(&head, session)
    {
        let body = match shape::hold(session, ctx, route, shaping, &mut head, &mut connection).await {
            Ok(body) => body,
            Err(fault) => return refuse(ctx, fault),
        };
        release(gateway, ctx, connection).await;
        let body = match &map {
            Some(map) => erase::whole(&mut ctx.exchange, map, body),
            None => body,
        };
        return whole(session, ctx, route, head, body).await;
    }
    let mut first = None;
    if map.is_some() && erase::is_untyped(&head) && !connection.is_done() {
        let read = while_client_waits(session, connection.read(ctx)).await.and_then(|read| read);
        first = match read {
            Ok(chunk) => chunk,
            Err(fault) => return refuse(ctx, fault),
        };
    }
    let searched = first.as_ref().is_none_or(|first| erase::begins_like_json(first));
    if let Some(map) = map.as_ref().filter(|_| searched) {
        return erased(gateway, session, ctx, route, head, Start { connection, first }, map).await;
    }
    if connection.is_done() {
        release(gateway, ctx, connection).await;
        return whole(session, ctx, route, head, first.unwrap_or_default()).await;
    }
    stream(gateway, session, ctx, head, Pieces { connection, first, eraser: None }).await
}

/// Ends a held exchange without an answer: Pingora goes on with the fault.
fn refuse(ctx: &mut Ctx, fault: Fault) -> pingora::Result<bool> {
    ctx.fault = Some(fault);
    Ok(true)
}

async fn release(gateway: &Gateway, ctx: &mut Ctx, connection: Connection) {
    connection.release(&gateway.shared.connector).await;
    upstream_response::note_end(ctx);
}

fn has_body(head: &ResponseHeader, session: &Session) -> bool {
    let head_request = session.req_header().method == Method::HEAD && !session.cache.enabled();
    !head_request
        && !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        && head.headers.get(header::CONTENT_LENGTH).is_none_or(|length| length != "0")
}

/// Reads what is left of an answer that does not pass, for the sake of the connection. The client does not wait long for that.
async fn drain(ctx: &Ctx, connection: &mut Connection) {
    let all = async {
        let mut read = 0;
        while read <= DRAIN_MAX_BYTES && !connection.is_done() {
            match connection.read(ctx).await {
                Ok(Some(chunk)) => read += chunk.len(),
                Ok(None) | Err(_) => return,
            }
        }
    };
    // Past it, the connection is closed instead of being kept.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, all).await;
}

/// An error of the upstream: its status, our words.
async fn masked(
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    upstream: &ResponseHeader,
) -> pingora::Result<bool> {
    // A server error is a failure of the origin: a stale object may take its place (RFC 5861 §4).
    if upstream.status.is_server_error() && session.cache.enabled() && session.cache.can_serve_stale_error() {
        ctx.fault = Some(Fault::Connection);
        return Ok(true);
    }
    ctx.exchange.erased.error_body += 1;
    if upstream.status.is_server_error() {
        cache::note_error(session, ctx, upstream.status);
    }
    let mut reply = Reply::problem(upstream.status, "upstream_error");
    for name in [header::EXPIRES, header::AGE, header::DATE, header::ALLOW, header::VARY] {
        reply
            .headers
            .extend(upstream.headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())));
    }
    // Where it may be stored, it is nobody's in particular: no request id, no HTML.
    let wants_html = ctx.exchange.wants_html && !session.cache.enabled();
    let Ok(rendered) = reply.render(wants_html, Some(route.name.as_str()), None) else {
        return fail(ctx, Fault::Internal).map(|()| true);
    };
    let mut head = rendered.head;
    if let Some(value) = upstream.headers.get(header::CACHE_CONTROL) {
        head.insert_header(header::CACHE_CONTROL, value.clone())?;
    } else if session.cache.enabled() {
        head.remove_header(&header::CACHE_CONTROL);
    }
    whole(session, ctx, route, head, rendered.body).await
}

/// An answer of whose body a piece may have been read.
struct Start {
    connection: Connection,
    first: Option<Bytes>,
}

/// Erases while the answer is held; one that is longer than the hold goes on as a stream, without its length.
async fn erased(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    mut head: ResponseHeader,
    start: Start,
    map: &ReverseMap,
) -> pingora::Result<bool> {
    let Start { mut connection, first } = start;
    let mut held = BytesMut::from(first.as_deref().unwrap_or_default());
    while held.len() <= HOLD_BYTES && !connection.is_done() {
        let read = while_client_waits(session, connection.read(ctx)).await.and_then(|read| read);
        let chunk = match read {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(fault) => return refuse(ctx, fault),
        };
        if held.is_empty() && connection.is_done() {
            // The usual answer comes in one piece: nothing is copied.
            release(gateway, ctx, connection).await;
            let body = erase::whole(&mut ctx.exchange, map, chunk);
            return whole(session, ctx, route, head, body).await;
        }
        held.extend_from_slice(&chunk);
    }
    if connection.is_done() {
        release(gateway, ctx, connection).await;
        let body = erase::whole(&mut ctx.exchange, map, held.freeze());
        return whole(session, ctx, route, head, body).await;
    }
    head.remove_header(&header::CONTENT_LENGTH);
    head.remove_header(&header::ACCEPT_RANGES);
    shape::weaken_etag(&mut head);
    let mut eraser = erase::Stream::new(map, ctx.exchange.upstream_path.clone());
    let first = Some(eraser.piece(&held));
    stream(gateway, session, ctx, head, Pieces { connection, first, eraser: Some(eraser) }).await
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
    if answers_head && (route.settings.json.is_some() || erase::may_change(&head, route)) {
        // The length of the original says nothing about what a GET would get.
        head.remove_header(&header::CONTENT_LENGTH);
        if route.settings.json.is_some() {
            shape::forget_original(&mut head);
        }
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

/// What is still to come of an answer.
struct Pieces<'a> {
    connection: Connection,
    first: Option<Bytes>,
    eraser: Option<erase::Stream<'a>>,
}

impl Pieces<'_> {
    /// The next piece as it may pass; `None` at the end. Never an empty one: an empty chunk would end the client's body.
    async fn next(&mut self, ctx: &mut Ctx) -> Result<Option<Bytes>, Fault> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Ok(Some(first));
        }
        loop {
            let chunk = self.connection.read(ctx).await?;
            let piece = match (chunk, self.eraser.as_mut()) {
                (Some(chunk), None) => chunk,
                (Some(chunk), Some(eraser)) => eraser.piece(&chunk),
                (None, None) => return Ok(None),
                (None, Some(eraser)) => {
                    let last = eraser.end();
                    ctx.exchange.erased.json += eraser.erased();
                    self.eraser = None;
                    if last.is_empty() {
                        return Ok(None);
                    }
                    last
                }
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}

/// Stores and sends as it comes. A client that goes away does not end a fill: the next one wants it too.
async fn stream(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    mut head: ResponseHeader,
    mut pieces: Pieces<'_>,
) -> pingora::Result<bool> {
    let mut filling = cache::begin_store(session, ctx, &head).await;
    let header_only = session.req_header().method == Method::HEAD;
    let length = head.headers.get(header::CONTENT_LENGTH).cloned();
    let unframed = length.is_none();
    if let Some(length) = length {
        // Said twice by the upstream, it is said once.
        head.insert_header(header::CONTENT_LENGTH, length)?;
    }
    head.remove_header(&header::TRANSFER_ENCODING);
    if unframed && !header_only && session.req_header().version == Version::HTTP_11 && !session.is_http2() {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    response::filter(session, &mut head, ctx)?;
    let mut client: pingora::Result<()> = session.write_response_header(Box::new(head), header_only).await;
    loop {
        let next = if client.is_ok() {
            while_client_waits(session, pieces.next(ctx)).await.and_then(|next| next)
        } else {
            pieces.next(ctx).await
        };
        let piece = match next {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(fault) => {
                // The readers of this fill are cut with it: the handler is dropped unfinished.
                cache::abandon_store(session);
                session.set_keepalive(None);
                ctx.fault = Some(fault);
                return error(fault);
            }
        };
        if filling && !cache::store_chunk(session, piece.clone(), false).await {
            filling = false;
            ctx.cache.stored = false;
            cache::abandon_store(session);
        }
        if client.is_ok() && !header_only {
            ctx.response_bytes += piece.len() as u64;
            client = session.write_response_body(Some(piece), false).await;
        }
        if client.is_err() && !filling {
            break;
        }
    }
    if filling {
        cache::finish_store(session, ctx, true).await;
    }
    release(gateway, ctx, pieces.connection).await;
    if client.is_ok() {
        client = session.write_response_body(None, true).await;
    }
    if client.is_err() {
        ctx.fault = Some(Fault::ClientGone);
        session.set_keepalive(None);
    }
    client.map(|()| false)
}
