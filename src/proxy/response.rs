//! `response_filter`: the head that goes to this client, whether from the upstream, the cache or ourselves.
//!
//! What is per client is added here and never stored: limits, cache status, request id.

use http::{Version, header};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::{Ctx, cache, date};
use crate::policy::request_headers::REQUEST_ID;

/// Pingora's `response_filter`: runs on hits and on the stock path.
///
/// # Errors
/// When a field cannot be written.
pub fn filter(session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> pingora::Result<()> {
    if head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    // Ours is the version we speak (RFC 9110 §6.2); a client of HTTP/1.0 takes no chunks (RFC 9112 §6.1).
    head.set_version(Version::HTTP_11);
    if session.req_header().version == Version::HTTP_10
        && head.remove_header(&header::TRANSFER_ENCODING).is_some()
    {
        session.set_keepalive(None);
    }
    cache::note_served(ctx);
    ctx.status = head.status.as_u16();
    if session.is_process_shutting_down() {
        // Say it, so that the client does not send another request into a connection that closes.
        session.set_keepalive(None);
    }
    if head.status != http::StatusCode::SWITCHING_PROTOCOLS {
        date::keep(head, ctx)?;
    }
    finish_head(head, ctx)
}

/// Whether a body of unknown length goes to this client in chunks (RFC 9112 §7.1); HTTP/2 frames it by itself, HTTP/1.0 by the end of
/// the connection.
#[must_use]
pub fn takes_chunks(session: &Session) -> bool {
    session.req_header().version == Version::HTTP_11 && !session.is_http2()
}

/// Adds what every answer of ours has.
///
/// # Errors
/// When a field cannot be written.
pub fn finish_head(head: &mut ResponseHeader, ctx: &Ctx) -> pingora::Result<()> {
    head.insert_header(REQUEST_ID, ctx.exchange.request_id.as_str())?;
    head.insert_header("cache-status", cache::status_field(ctx))?;
    if let Some(route) = &ctx.route {
        route.chain.response_filter(head, &ctx.exchange);
    }
    Ok(())
}
