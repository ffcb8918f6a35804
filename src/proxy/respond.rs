//! Writing an answer of our own: on the connection of the client, which stays open where the protocol allows it.

use std::time::Duration;

use http::Method;
use pingora_proxy::Session;

use super::{Ctx, response};
use crate::exchange::content_length;
use crate::policy::Reply;
use crate::telemetry::labels::LocalReason;

/// A request body that was not read is drained up to this size, so that the connection can be used again; a larger one costs it.
pub const DRAIN_MAX_BYTES: u64 = 64 << 10;
/// How long such a drain may take.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends `reply` and remembers why.
///
/// # Errors
/// When the client cannot be written to.
pub async fn send(
    session: &mut Session,
    ctx: &mut Ctx,
    reply: &Reply,
    reason: LocalReason,
) -> pingora::Result<()> {
    ctx.local = Some(reason);
    // An answer of the origin may have come this far and gone no further.
    ctx.shared.door.keep_date(None);
    let route = ctx.route.as_ref().map(|route| route.name.as_str());
    let rendered = reply.render(ctx.exchange.wants_html, route, Some(&ctx.exchange.request_id))?;
    let mut head = rendered.head;
    response::finish_head(&mut head, ctx)?;
    keep_connection(session);
    let no_body = rendered.body.is_empty() || ctx.exchange.method == Method::HEAD;
    ctx.status = head.status.as_u16();
    session.write_response_header(Box::new(head), no_body).await?;
    if no_body {
        return session.write_response_body(None, true).await;
    }
    ctx.response_bytes += rendered.body.len() as u64;
    session.write_response_body(Some(rendered.body), true).await
}

/// Keeps the connection for the next request if what is left of this one's body is small.
fn keep_connection(session: &mut Session) {
    if content_length(&session.req_header().headers).is_some_and(|length| length <= DRAIN_MAX_BYTES) {
        session.set_close_on_response_before_downstream_finish(false);
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
    }
}
