//! The request body: its size and its time, both in total.
//!
//! A declared length over the limit is refused before anybody else hears of the request. A body of unknown length is read ahead up to
//! 64 KiB, so that most are measured before the upstream is contacted; a longer one is counted as it passes, and the exchange is
//! aborted when it grows too large.

use std::time::Instant;

use bytes::Bytes;
use http::header;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::{Ctx, held};
use crate::exchange::content_length;
use crate::plan::Route;
use crate::policy::Fault;
use crate::telemetry::labels::BodyStage;

/// How much of a body of unknown length is read before the upstream is contacted. Pingora's own replay buffer is as large.
pub const READ_AHEAD_BYTES: usize = 64 << 10;

/// Compares the declared length with the limit of the route.
///
/// # Errors
/// [`Fault::BodyTooLarge`].
pub fn check_declared(head: &RequestHeader, route: &Route) -> Result<(), Fault> {
    match content_length(&head.headers) {
        Some(length) if length > route.settings.body_max_bytes => Err(Fault::BodyTooLarge),
        _ => Ok(()),
    }
}

/// Reads a body of unknown length ahead.
///
/// # Errors
/// [`Fault::BodyTooLarge`], [`Fault::BodyTimeout`] or [`Fault::ClientGone`].
pub async fn read_ahead(session: &mut Session, ctx: &mut Ctx, route: &Route) -> Result<(), Fault> {
    if route.upstream.is_none()
        || session.is_upgrade_req()
        || session.as_downstream_mut().is_body_empty()
        || session.as_downstream_mut().is_body_done()
    {
        return Ok(());
    }
    if session.get_header(header::CONTENT_LENGTH).is_some() {
        // Our own exchange asks for the body once it is connected; the stock path would wait for one that never comes.
        return if held::takes(session, ctx, route) { Ok(()) } else { expect_continue(session).await };
    }
    expect_continue(session).await?;
    session.as_downstream_mut().enable_retry_buffering();
    let mut length = 0;
    let mut chunks = Vec::new();
    while length < READ_AHEAD_BYTES {
        match next_chunk(session, ctx, route).await? {
            Some(chunk) => {
                length += chunk.len();
                chunks.push(chunk);
            }
            None => break,
        }
    }
    if session.as_downstream().retry_buffer_truncated() {
        ctx.body.whole_ahead = session.as_downstream_mut().is_body_done();
        ctx.body.ahead = chunks;
    }
    Ok(())
}

/// Answers `Expect: 100-continue` where we, not the upstream, are the one who wants the body (RFC 9110 §10.1.1).
///
/// # Errors
/// [`Fault::ClientGone`].
pub async fn expect_continue(session: &mut Session) -> Result<(), Fault> {
    let expects = session
        .get_header(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    // HTTP/1.0 knows no interim answer.
    if expects && session.req_header().version != http::Version::HTTP_10 {
        session.as_downstream_mut().write_continue_response().await.map_err(|_| Fault::ClientGone)?;
    }
    Ok(())
}

/// The next piece of the body, never an empty one, counted, before the deadline.
///
/// Pingora's chunk reader gives an empty piece where a read ended between two chunks. Written on, it would be the last chunk: the
/// upstream would take the rest of the body for the next request.
///
/// # Errors
/// [`Fault::BodyTooLarge`], [`Fault::BodyTimeout`] or [`Fault::ClientGone`].
pub async fn next_chunk(session: &mut Session, ctx: &mut Ctx, route: &Route) -> Result<Option<Bytes>, Fault> {
    ctx.shared.door.body_progress(ctx.body.read_bytes, false);
    let chunk = loop {
        let read = session.as_downstream_mut().read_request_body();
        match tokio::time::timeout_at(ctx.body.deadline.into(), read).await {
            Err(_) => return Err(Fault::BodyTimeout),
            Ok(Err(error)) if *error.etype() == ErrorType::ReadTimedout => return Err(Fault::BodyTimeout),
            Ok(Err(_)) => return Err(Fault::ClientGone),
            Ok(Ok(Some(chunk))) if chunk.is_empty() => {}
            Ok(Ok(chunk)) => break chunk,
        }
    };
    match &chunk {
        Some(chunk) => count(ctx, route, chunk.len())?,
        None => ctx.shared.door.body_progress(ctx.body.read_bytes, true),
    }
    Ok(chunk)
}

fn count(ctx: &mut Ctx, route: &Route, length: usize) -> Result<(), Fault> {
    ctx.body.read_bytes += length as u64;
    ctx.exchange.request_bytes = ctx.body.read_bytes;
    ctx.shared.door.body_progress(ctx.body.read_bytes, false);
    if ctx.body.read_bytes > route.settings.body_max_bytes { Err(Fault::BodyTooLarge) } else { Ok(()) }
}

/// Pingora's `request_body_filter` on the stock path: counts, keeps the total deadline, and sends first what was read ahead.
///
/// # Errors
/// A downstream error that `failure` knows as too large or too slow.
pub fn filter(session: &mut Session, chunk: &mut Option<Bytes>, ctx: &mut Ctx) -> pingora::Result<()> {
    let Some(route) = ctx.route.clone() else { return Ok(()) };
    if session.was_upgraded() {
        return Ok(());
    }
    if !ctx.body.ahead.is_empty() {
        // These bytes were counted when they were read.
        let ahead = std::mem::take(&mut ctx.body.ahead);
        if let Some(rest) = chunk.as_ref() {
            check(count(ctx, &route, rest.len()), ctx)?;
        }
        let all: Vec<u8> =
            ahead.iter().chain(chunk.as_ref()).flat_map(|bytes| bytes.iter().copied()).collect();
        *chunk = Some(Bytes::from(all));
    } else if let Some(bytes) = chunk.as_ref() {
        // Pingora begins an attempt with what its replay buffer holds: those bytes were counted when they were read.
        if std::mem::take(&mut ctx.body.replays) {
            return Ok(());
        }
        check(count(ctx, &route, bytes.len()), ctx)?;
    }
    let left = ctx.body.deadline.saturating_duration_since(Instant::now());
    if left.is_zero() && !session.as_downstream_mut().is_body_done() {
        return check(Err(Fault::BodyTimeout), ctx);
    }
    if session.as_downstream_mut().is_body_done() {
        ctx.shared.door.body_progress(ctx.body.read_bytes, true);
    }
    session.set_read_timeout(Some(left.max(MIN_READ_TIMEOUT)));
    Ok(())
}

fn check(result: Result<(), Fault>, ctx: &mut Ctx) -> pingora::Result<()> {
    result.map_err(|fault| {
        ctx.fault = Some(fault);
        let kind = match fault {
            Fault::BodyTooLarge => {
                ctx.shared.process.metrics.process().body_limit(BodyStage::Streaming);
                ErrorType::HTTPStatus(413)
            }
            _ => ErrorType::ReadTimedout,
        };
        Error::new_down(kind)
    })
}

/// A timer of zero would end a read that has its data already.
const MIN_READ_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(10);
