//! From the upstream's answer to the store and the client: cleaned, masked or shaped while it is held, or streamed.

use bytes::{Bytes, BytesMut};
use http::{HeaderName, Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::attempt::{Answer, Connection, while_client_waits};
use super::stream::{Pieces, stream};
use super::{Delivered, erase, fail, shape};
use crate::plan::Route;
use crate::policy::origin::ReverseMap;
use crate::policy::{Fault, Reply};
use crate::proxy::cache::{Parts, View};
use crate::proxy::{Ctx, Gateway, cache, response, upstream_response};

/// How much of an error body is read to its end for the sake of the connection; a longer one costs the connection.
const DRAIN_MAX_BYTES: usize = 64 << 10;
/// How long that may take.
const DRAIN_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(200);
/// How much of a JSON answer is held before its head is sent, where nothing but the origin has to be erased from it.
const HOLD_BYTES: usize = 64 << 10;

/// Takes an answer to its end.
///
/// # Errors
/// When something was sent and the rest cannot follow: the connection is cut.
pub async fn deliver(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    answer: Answer,
) -> pingora::Result<Delivered> {
    let Answer { mut head, mut connection } = answer;
    ctx.cache.close_delimited = connection.delimits(&head) && has_body(&head, session, ctx);
    if head.headers.contains_key(header::TRANSFER_ENCODING) {
        // The chunks say how long it is, whatever else does (RFC 9112 §6.3).
        head.remove_header(&header::CONTENT_LENGTH);
    }
    upstream_response::note_answer(&head, ctx, route);
    if let Err(fault) = upstream_response::clean(&mut head, ctx, route) {
        drain(ctx, &mut connection).await;
        release(gateway, ctx, connection).await;
        return refuse(ctx, fault);
    }
    cache::invalidate(ctx, &head);
    head.set_version(Version::HTTP_11);
    if cache::stands_in(ctx, head.status) {
        drain(ctx, &mut connection).await;
        release(gateway, ctx, connection).await;
        return refuse(ctx, Fault::Connection);
    }
    if head.status == StatusCode::NOT_MODIFIED && cache::asked_whether(ctx) {
        release(gateway, ctx, connection).await;
        return match cache::validated(session, ctx, &head).await {
            Some(found) => cache::serve(session, ctx, found).await.map(|()| Delivered::Sent),
            None => Ok(Delivered::AskAgain),
        };
    }
    if let Some(cache::Completed { head, before, after }) = cache::complete(ctx, &head) {
        let pieces = Pieces { before, after, ..Pieces::of(connection, None) };
        return stream(gateway, session, ctx, head, pieces).await;
    }
    if cache::is_useless(ctx, &head) {
        drain(ctx, &mut connection).await;
        release(gateway, ctx, connection).await;
        return Ok(Delivered::AskAgain);
    }
    if route.settings.errors.masks(head.status.as_u16()) {
        drain(ctx, &mut connection).await;
        release(gateway, ctx, connection).await;
        return masked(session, ctx, route, &head).await;
    }
    ctx.endless = upstream_response::is_event_stream(&head);
    let map = match erase::map_for(&head, route) {
        Ok(map) => map.filter(|_| has_body(&head, session, ctx)),
        Err(fault) => return refuse(ctx, fault),
    };
    if let Some(shaping) = &route.settings.json
        && has_body(&head, session, ctx)
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
        let read = while_client_waits(session, ctx.cache.fetches_whole(), connection.read(ctx))
            .await
            .and_then(|read| read);
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
    stream(gateway, session, ctx, head, Pieces::of(connection, first)).await
}

/// Ends a held exchange without an answer: Pingora goes on with the fault.
fn refuse(ctx: &mut Ctx, fault: Fault) -> pingora::Result<Delivered> {
    ctx.fault = Some(fault);
    Ok(Delivered::Failed)
}

/// The last byte of an answer is in.
pub(super) async fn release(gateway: &Gateway, ctx: &mut Ctx, connection: Connection) {
    connection.release(&gateway.shared.connector).await;
    upstream_response::note_end(ctx);
}

fn has_body(head: &ResponseHeader, session: &Session, ctx: &Ctx) -> bool {
    let head_request = session.req_header().method == Method::HEAD && !ctx.cache.fetches_whole();
    !head_request
        && !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        && head.headers.get(header::CONTENT_LENGTH).is_none_or(|length| length != "0")
}

/// Reads what is left of an answer that does not pass, for the sake of the connection. The client does not wait long for that.
pub(super) async fn drain(ctx: &Ctx, connection: &mut Connection) {
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
) -> pingora::Result<Delivered> {
    ctx.exchange.erased.error_body += 1;
    let mut reply = Reply::problem(upstream.status, "upstream_error");
    // All that decides whether it is stored, and for how long, as if the body were the upstream's.
    let cdn_cache_control = HeaderName::from_static("cdn-cache-control");
    for name in [header::EXPIRES, header::AGE, header::DATE, header::ALLOW, header::VARY, cdn_cache_control] {
        let lines = upstream.headers.get_all(&name).iter();
        reply.headers.extend(lines.map(|value| (name.clone(), value.clone())));
    }
    // Where it may be stored, it is nobody's in particular: no request id, no HTML.
    let may_be_stored = ctx.cache.fetch.as_ref().is_some_and(|fetch| fetch.stores);
    let wants_html = ctx.exchange.wants_html && !may_be_stored;
    let Ok(rendered) = reply.render(wants_html, Some(route.name.as_str()), None) else {
        return fail(ctx, Fault::Internal).map(|()| Delivered::Failed);
    };
    let mut head = rendered.head;
    let mut said = upstream.headers.get_all(header::CACHE_CONTROL).iter().peekable();
    if said.peek().is_some() || may_be_stored {
        head.remove_header(&header::CACHE_CONTROL);
    }
    for line in said {
        head.append_header(header::CACHE_CONTROL, line.clone())?;
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
) -> pingora::Result<Delivered> {
    let Start { mut connection, first } = start;
    let mut held = BytesMut::from(first.as_deref().unwrap_or_default());
    while held.len() <= HOLD_BYTES && !connection.is_done() {
        let read = while_client_waits(session, ctx.cache.fetches_whole(), connection.read(ctx))
            .await
            .and_then(|read| read);
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
    let pieces = Pieces { eraser: Some(eraser), ..Pieces::of(connection, first) };
    stream(gateway, session, ctx, head, pieces).await
}

/// Stores and sends a body that is all there.
async fn whole(
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    mut head: ResponseHeader,
    body: Bytes,
) -> pingora::Result<Delivered> {
    head.remove_header(&header::TRANSFER_ENCODING);
    let answers_head = session.req_header().method == Method::HEAD && !ctx.cache.fetches_whole();
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
    if cache::begin_store(session, ctx, &head).await && cache::store_chunk(ctx, body.clone()).await {
        cache::finish_store(ctx).await;
    }
    let mut view = View::Whole;
    if !ctx.background && ctx.cache.fetches_whole() {
        view = cache::view(session, &mut head, Some(body.len() as u64), Parts::Several);
    }
    if matches!(view, View::Failed) {
        return cache::precondition_failed(session, ctx).await.map(|()| Delivered::Sent);
    }
    response::filter(session, &mut head, ctx)?;
    let body = match view {
        View::Head | View::Failed => Bytes::new(),
        View::Whole => body,
        View::One(range) => cache::part_of(&body, 0, &range),
        View::Many(multipart) => cache::parts_of(&body, &multipart),
    };
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
    Ok(Delivered::Sent)
}
