//! The only place where a fault becomes a status.
//!
//! The client gets status, code and request id; what happened in detail is in the log. Neither can carry a byte that an upstream
//! sent, because both are made from a [`Fault`], which has no text.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::{Ctx, respond};
use crate::exchange::Source;
use crate::policy::{Fault, Reply};
use crate::telemetry::labels::LocalReason;

/// How long a client is asked to wait where the upstream gave no time of its own.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The answer for a fault; `None` where nobody is left to hear it.
#[must_use]
pub fn reply(fault: Fault) -> Option<Reply> {
    let status = status(fault)?;
    let reply = Reply::problem(status, fault.code());
    Some(match fault {
        Fault::UpstreamLimited { retry_after } => {
            let wait = retry_after.unwrap_or(DEFAULT_RETRY_AFTER);
            reply.with(http::header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)))
        }
        Fault::SecretMissing | Fault::NoEndpoint => {
            reply.with(http::header::RETRY_AFTER, HeaderValue::from(whole_seconds(DEFAULT_RETRY_AFTER)))
        }
        _ => reply,
    })
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// The status of a fault; its names are those of RFC 9209 where that has one.
fn status(fault: Fault) -> Option<StatusCode> {
    Some(match fault {
        Fault::ClientGone => return None,
        Fault::BadTarget => StatusCode::BAD_REQUEST,
        Fault::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Fault::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::SecretMissing | Fault::UpstreamLimited { .. } | Fault::NoEndpoint => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Fault::Deadline | Fault::NotCached => StatusCode::GATEWAY_TIMEOUT,
        Fault::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Fault::CredentialRefused
        | Fault::RedirectUnmapped
        | Fault::NotJson
        | Fault::TooLargeToShape
        | Fault::Encoded
        | Fault::UnexpectedUpgrade
        | Fault::Protocol
        | Fault::PrivateAddress
        | Fault::Connection
        | Fault::Tls => StatusCode::BAD_GATEWAY,
    })
}

/// Why the gateway answered by itself, as the metric has it.
#[must_use]
pub fn reason(fault: Fault) -> LocalReason {
    match fault {
        Fault::SecretMissing => LocalReason::SecretMissing,
        Fault::CredentialRefused => LocalReason::UpstreamRefused,
        Fault::UpstreamLimited { .. } => LocalReason::UpstreamBusy,
        Fault::NotJson | Fault::TooLargeToShape | Fault::Encoded => LocalReason::ShapeError,
        Fault::BadTarget => LocalReason::BadRequest,
        Fault::BodyTooLarge => LocalReason::TooLarge,
        Fault::NotCached => LocalReason::NotCached,
        Fault::Deadline | Fault::BodyTimeout => LocalReason::Timeout,
        Fault::ClientGone => LocalReason::Aborted,
        Fault::Internal => LocalReason::Internal,
        Fault::RedirectUnmapped
        | Fault::UnexpectedUpgrade
        | Fault::Protocol
        | Fault::NoEndpoint
        | Fault::PrivateAddress
        | Fault::Connection
        | Fault::Tls => LocalReason::UpstreamDown,
    }
}

/// The fault behind an error of the framework. Its text is dropped here: it may hold bytes of the upstream's answer.
#[must_use]
pub fn fault_of(error: &Error) -> Fault {
    if let ErrorType::HTTPStatus(413) = error.etype() {
        return Fault::BodyTooLarge;
    }
    match error.esource() {
        ErrorSource::Downstream => match error.etype() {
            ErrorType::ReadTimedout => Fault::BodyTimeout,
            ErrorType::InvalidHTTPHeader => Fault::BadTarget,
            _ => Fault::ClientGone,
        },
        ErrorSource::Upstream => match error.etype() {
            ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout => Fault::Deadline,
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert | ErrorType::TLSWantX509Lookup => {
                Fault::Tls
            }
            ErrorType::InvalidHTTPHeader
            | ErrorType::H1Error
            | ErrorType::H2Error
            | ErrorType::InvalidH2
            | ErrorType::H2Downgrade => Fault::Protocol,
            _ => Fault::Connection,
        },
        ErrorSource::Internal | ErrorSource::Unset => Fault::Internal,
    }
}

/// Pingora's `fail_to_proxy`: the last word where nothing else was said.
pub async fn answer(session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
    let fault = *ctx.fault.get_or_insert_with(|| fault_of(error));
    tracing::debug!(
        request_id = ctx.exchange.request_id.as_str(),
        route = ctx.route.as_ref().map(|route| route.name.as_str()),
        fault = fault.code(),
        "the exchange failed"
    );
    if session.response_written().is_some_and(|head| !head.status.is_informational()) {
        // Something was sent already: nothing can be added, the connection is cut.
        session.set_keepalive(None);
        return FailToProxy { error_code: ctx.status, can_reuse_downstream: false };
    }
    let Some(reply) = reply(fault) else { return FailToProxy { error_code: 0, can_reuse_downstream: false } };
    ctx.exchange.source = Source::Gateway;
    let error_code = reply.status.as_u16();
    let sent = respond::send(session, ctx, &reply, reason(fault)).await;
    let whole = session.as_downstream_mut().is_body_done();
    FailToProxy { error_code, can_reuse_downstream: sent.is_ok() && whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendors_limit_is_ours_to_wait_for() {
        let reply =
            reply(Fault::UpstreamLimited { retry_after: Some(Duration::from_secs(7)) }).expect("a reply");
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.headers.first().map(|(_, v)| v.clone()), Some(HeaderValue::from_static("7")));
    }

    #[test]
    fn nobody_answers_a_client_that_is_gone() {
        assert!(reply(Fault::ClientGone).is_none());
    }

    #[test]
    fn a_timeout_of_the_upstream_is_504_and_of_the_client_408() {
        let mut error = Error::new(ErrorType::ReadTimedout);
        error.as_up();
        assert_eq!(status(fault_of(&error)), Some(StatusCode::GATEWAY_TIMEOUT));
        error.as_down();
        assert_eq!(status(fault_of(&error)), Some(StatusCode::REQUEST_TIMEOUT));
    }
}
