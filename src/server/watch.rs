//! Between the connection guard and the rest: what it tells becomes metrics, what the journey asks of it goes through here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::listen;
use crate::proxy;
use crate::telemetry::ListenerMetrics;
use crate::telemetry::labels::{AnswerReason, CutReason, Protocol, RefusedReason};

/// The journey's way to its connection: the guard's task-local.
pub struct Door;

impl proxy::Door for Door {
    fn connection(&self) -> Option<proxy::Connection> {
        listen::connection().map(|facts| proxy::Connection {
            peer: facts.peer(),
            tls: facts.tls(),
            counted_at: None,
        })
    }

    fn set_deadline(&self, at: Option<Instant>) {
        listen::set_exchange_deadline(at);
    }

    fn body_progress(&self, received_bytes: u64, ended: bool) {
        listen::body_progress(received_bytes, ended);
    }

    fn keeps_date(&self) -> bool {
        listen::keeps_date()
    }

    fn keep_date(&self, moment: Option<SystemTime>) {
        listen::keep_date(moment);
    }
}

/// Counts and logs what happens to connections outside of any request.
pub struct Watch {
    metrics: Arc<ListenerMetrics>,
}

impl Watch {
    /// For one listener.
    pub fn new(metrics: Arc<ListenerMetrics>) -> Self {
        Self { metrics }
    }
}

impl listen::Watch for Watch {
    fn opened(&self, protocol: listen::Protocol) {
        self.metrics.connection_opened(match protocol {
            listen::Protocol::Http1 => Protocol::H1,
            listen::Protocol::Http2 => Protocol::H2,
        });
    }

    fn closed(&self) {
        self.metrics.connection_closed();
    }

    fn refused(&self, refusal: listen::Refusal, peer: IpAddr) {
        self.metrics.refused(match refusal {
            listen::Refusal::TotalLimit => RefusedReason::Full,
            listen::Refusal::AddressLimit => RefusedReason::PerAddress,
        });
        tracing::debug!(%peer, reason = refusal.as_str(), "connection refused");
    }

    fn handshake(&self, ok: bool) {
        self.metrics.handshake(ok);
    }

    fn answered(&self, answer: listen::BadRequest) {
        self.metrics.answered(
            answer.status,
            match answer.status {
                405 => AnswerReason::Method,
                408 => AnswerReason::HeadTimeout,
                414 => AnswerReason::TargetTooLong,
                431 => AnswerReason::HeadTooLarge,
                505 => AnswerReason::Version,
                _ => AnswerReason::Malformed,
            },
        );
        // The head itself is never logged: it may hold a client's credentials.
        tracing::info!(
            peer = %answer.peer,
            status = answer.status,
            reason = answer.reason,
            received_bytes = answer.received_bytes,
            protocol = answer.protocol.as_str(),
            "a request was refused before it could be routed"
        );
    }

    fn cut(&self, reason: &'static str) {
        self.metrics.cut(match reason {
            "slow_reader" => CutReason::SlowReader,
            "header_timeout" => CutReason::HeadTimeout,
            "idle" => CutReason::Idle,
            "slow_body" => CutReason::BodyTimeout,
            "exchange_deadline" => CutReason::ExchangeDeadline,
            _ => CutReason::Abuse,
        });
        tracing::debug!(reason, "connection cut");
    }
}
