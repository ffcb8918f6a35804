//! Shaping a held JSON answer: `keep` and `remove`. What cannot be shaped does not pass.

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::attempt::{Connection, while_client_waits};
use super::erase;
use crate::exchange::content_length;
use crate::plan::Route;
use crate::policy::Fault;
use crate::policy::json::JsonShaping;
use crate::proxy::Ctx;
use crate::telemetry::labels::ShapeResult;

/// Reads the whole body and shapes it. Where this fails, the connection is closed by its drop.
///
/// # Errors
/// The [`Fault`] that says why it cannot be shaped, or the upstream's.
pub async fn hold(
    session: &mut Session,
    ctx: &Ctx,
    route: &Route,
    shaping: &JsonShaping,
    head: &mut ResponseHeader,
    connection: &mut Connection,
) -> Result<Bytes, Fault> {
    let refuse = |result: ShapeResult, fault: Fault| {
        route.metrics.shape(result);
        fault
    };
    if erase::is_coded(head) {
        return Err(refuse(ShapeResult::Encoded, Fault::Encoded));
    }
    if head.status == StatusCode::PARTIAL_CONTENT {
        return Err(refuse(ShapeResult::Error, Fault::Protocol));
    }
    let declared = content_length(&head.headers).and_then(|length| usize::try_from(length).ok());
    let too_large = |length: usize| length > shaping.max_bytes;
    if declared.is_some_and(too_large) {
        return Err(refuse(ShapeResult::TooLarge, Fault::TooLargeToShape));
    }
    let mut body = BytesMut::with_capacity(declared.unwrap_or(0));
    while let Some(chunk) =
        while_client_waits(session, ctx.cache.fetches_whole(), connection.read(ctx)).await??
    {
        if too_large(body.len() + chunk.len()) {
            return Err(refuse(ShapeResult::TooLarge, Fault::TooLargeToShape));
        }
        body.extend_from_slice(&chunk);
    }
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    let started = std::time::Instant::now();
    let mut shaped = Vec::with_capacity(body.len());
    if shaping.shape.shape(&body, &mut shaped).is_err() {
        return Err(refuse(ShapeResult::NotJson, Fault::NotJson));
    }
    route.metrics.shape(ShapeResult::Ok);
    ctx.shared.process.metrics.process().shaped(started.elapsed(), body.len() as u64, shaped.len() as u64);
    forget_original(head);
    Ok(Bytes::from(shaped))
}

/// What described the original bytes does not describe the shaped ones.
pub fn forget_original(head: &mut ResponseHeader) {
    for name in
        ["content-md5", "content-digest", "repr-digest", "digest", "accept-ranges", "content-encoding"]
    {
        head.remove_header(name);
    }
    weaken_etag(head);
}

/// A changed body is equivalent, not identical (RFC 9110 §8.8.1).
pub fn weaken_etag(head: &mut ResponseHeader) {
    let Some(tag) = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()) else { return };
    if !tag.starts_with("W/") {
        let weak = format!("W/{tag}");
        // An entity tag with two more letters is still one.
        let _ = head.insert_header(header::ETAG, weak);
    }
}
