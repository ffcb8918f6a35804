//! `upstream_peer` and the connection's fate: which endpoint, for how long, and whether to try another.

use std::time::{Duration, Instant};

use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::{Ctx, failure, held};
use crate::plan::Route;
use crate::policy::Fault;
use crate::telemetry::labels::{RetryResult, UpstreamError};
use crate::upstream::{Picked, Reason, UpstreamFault, classify};

/// Pingora's `upstream_peer`, called once per attempt on the stock path.
///
/// # Errors
/// The fault is kept in `ctx`. A fault that our own exchange met before is returned here, so that a stale answer may take its place.
pub fn peer(session: &Session, ctx: &mut Ctx) -> pingora::Result<Box<HttpPeer>> {
    if let Some(fault) = ctx.fault {
        return held::error(fault);
    }
    let Some(route) = ctx.route.clone() else { return held::error(Fault::Internal) };
    ctx.body.replays = session.as_downstream().get_retry_buffer().is_some();
    match pick(ctx, &route) {
        Ok(mut peer) => {
            if (route.settings.websocket && session.is_upgrade_req()) || wants_events(session) {
                peer.options.read_timeout = Some(TUNNEL_IDLE);
                peer.options.write_timeout = Some(TUNNEL_IDLE);
            }
            if !ctx.background {
                ctx.shared.door.set_deadline(ctx.upstream_deadline.map(|deadline| deadline + CUT_AFTER));
            }
            Ok(peer)
        }
        Err(fault) => {
            ctx.fault = Some(fault);
            held::error(fault)
        }
    }
}

/// Chooses an endpoint and takes a place in its count.
///
/// # Errors
/// A [`Fault`] where there is none to choose or no time left.
pub fn pick(ctx: &mut Ctx, route: &Route) -> Result<Box<HttpPeer>, Fault> {
    let Some(plan) = route.upstream.as_ref() else { return Err(Fault::Internal) };
    let upstream = &plan.upstream;
    let now = Instant::now();
    let deadline = *ctx.upstream_deadline.get_or_insert_with(|| now + upstream.timeouts().request);
    if ctx.attempts == 0 {
        upstream.begin();
        ctx.active.push(plan.metrics.active());
        ctx.exchange.upstream_started = Some(now);
    }
    ctx.attempts += 1;
    ctx.attempt_started = Some(now);
    let remaining = deadline.saturating_duration_since(now);
    let picked = upstream.pick(&mut ctx.tried, remaining);
    let Picked { peer, endpoint, lease, expires_in, .. } = picked.map_err(|why| {
        let (fault, reason) = match why {
            UpstreamFault::Unresolved => (Fault::NoEndpoint, UpstreamError::Dns),
            UpstreamFault::PrivateAddress => (Fault::PrivateAddress, UpstreamError::Other),
            UpstreamFault::NoEndpoint => (Fault::NoEndpoint, UpstreamError::Other),
            UpstreamFault::DeadlinePassed => (Fault::Deadline, UpstreamError::ReadTimeout),
        };
        plan.metrics.error(reason);
        fault
    })?;
    if let Some(soon) = expires_in {
        ctx.upstream_deadline = Some(now + soon);
    }
    ctx.endpoint = endpoint;
    ctx.lease = Some(lease);
    Ok(peer)
}

/// Whether the client is an `EventSource`: its stream may be silent for longer than an exchange may last.
fn wants_events(session: &Session) -> bool {
    session
        .get_header(http::header::ACCEPT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"text/event-stream"))
}

/// How long a tunnel may be silent.
pub const TUNNEL_IDLE: Duration = Duration::from_secs(600);
/// An exchange that is over its time is answered with 504; only where that is no longer possible, the connection is cut so much later.
const CUT_AFTER: Duration = Duration::from_secs(1);

/// Counts a connection that stands.
pub fn connected(ctx: &Ctx, reused: bool) {
    let Some(plan) = ctx.route.as_ref().and_then(|route| route.upstream.as_ref()) else { return };
    let setup = ctx.attempt_started.map_or(Duration::ZERO, |started| started.elapsed());
    plan.metrics.connected(!reused, setup);
    if !reused {
        plan.metrics.endpoint_healthy(ctx.endpoint, true);
    }
}

/// A connection could not be made: nothing was sent, so any method may be tried elsewhere.
pub fn fail_to_connect(ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
    note_unreachable(ctx, &error);
    let retry = may_retry(ctx, true);
    error.set_retry(retry);
    error
}

/// The exchange broke. Only an idempotent request whose body can be replayed may be tried again, and only before an answer was begun.
pub fn error_while_proxy(
    session: &Session,
    ctx: &mut Ctx,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    if std::mem::take(&mut ctx.repeat) {
        // The answer was thrown away for this attempt: decided and counted already.
        error.set_retry(true);
        return error;
    }
    if *error.esource() == pingora::ErrorSource::Upstream {
        note(ctx, &error);
    }
    let replayable = replayable(session);
    let begun = session.response_written().is_some_and(|head| !head.status.is_informational());
    if !replayable || begun || ctx.fault.is_some() {
        error.set_retry(false);
        return error;
    }
    // A pooled connection that the upstream had closed already is no failure of the upstream; it costs no budget.
    error.retry.decide_reuse(reused);
    if error.retry() && !reused {
        let retry = repeats_broken(ctx) && may_retry(ctx, false);
        error.set_retry(retry);
    }
    error
}

/// Whether one more attempt is within its number, its budget and its time.
pub fn may_retry(ctx: &mut Ctx, connect: bool) -> bool {
    let Some(plan) = ctx.route.as_ref().and_then(|route| route.upstream.as_ref()) else { return false };
    let retry = plan.upstream.retry();
    if ctx.attempts > retry.attempts || (connect && !retry.on.connect_failure) {
        return false;
    }
    if ctx.upstream_deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return false;
    }
    let allowed = plan.upstream.may_retry();
    plan.metrics.retry(if allowed { RetryResult::Retried } else { RetryResult::BudgetSpent });
    allowed
}

/// Counts a connection that could not be made.
pub fn note_unreachable(ctx: &Ctx, error: &Error) {
    if let Some(plan) = ctx.route.as_ref().and_then(|route| route.upstream.as_ref()) {
        plan.metrics.endpoint_healthy(ctx.endpoint, false);
    }
    note(ctx, error);
}

/// Whether the request can be sent again: it does no more the second time (RFC 9110 §9.2.2), and its body is still there.
#[must_use]
pub fn replayable(session: &Session) -> bool {
    session.req_header().method.is_idempotent() && !session.as_downstream().retry_buffer_truncated()
}

/// Whether an exchange that broke is made again: it would be a 502 of ours, so it is repeated where `retry.on` lists 502.
#[must_use]
pub fn repeats_broken(ctx: &Ctx) -> bool {
    ctx.route
        .as_ref()
        .and_then(|route| route.upstream.as_ref())
        .is_some_and(|plan| plan.upstream.retry().on.bad_gateway)
}

/// Whether an answer of this status is thrown away for another attempt: listed in `retry.on`, safe to repeat, within number and budget.
pub fn answer_is_retryable(session: &Session, ctx: &mut Ctx, route: &Route, status: u16) -> bool {
    let Some(plan) = route.upstream.as_ref() else { return false };
    if !plan.upstream.retry().on.covers_status(status) || !replayable(session) || !may_retry(ctx, false) {
        return false;
    }
    plan.metrics.answered(status);
    true
}

/// Counts a failure by its kind.
pub fn note(ctx: &Ctx, error: &Error) {
    let Some(plan) = ctx.route.as_ref().and_then(|route| route.upstream.as_ref()) else { return };
    plan.metrics.error(match classify(error) {
        Reason::Dns => UpstreamError::Dns,
        Reason::ConnectRefused => UpstreamError::ConnectRefused,
        Reason::ConnectTimeout => UpstreamError::ConnectTimeout,
        Reason::Tls => UpstreamError::Tls,
        Reason::Write => UpstreamError::Write,
        Reason::ReadTimeout => UpstreamError::ReadTimeout,
        Reason::Reset => UpstreamError::Reset,
        Reason::Protocol => UpstreamError::Protocol,
        Reason::Other => UpstreamError::Other,
    });
    tracing::debug!(
        upstream = %plan.upstream.name(),
        reason = classify(error).as_str(),
        fault = failure::fault_of(error).code(),
        kind = ?error.etype() as &ErrorType,
        "the exchange with the upstream failed"
    );
}
