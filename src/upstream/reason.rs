//! Why an exchange with an upstream failed, in the few words of a metric label.

use std::error::Error as StdError;
use std::io;

use pingora::{Error, ErrorType};

use super::UpstreamFault;

/// The `reason` label of `portcullis_upstream_errors_total`: a closed set, never error text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No usable address: not resolved yet, or private and not allowed to be.
    Dns,
    /// The address answered that nothing listens there.
    ConnectRefused,
    /// No connection (TCP, or TCP and TLS) in time.
    ConnectTimeout,
    /// The TLS handshake failed or the certificate was refused.
    Tls,
    /// The request could not be written, or not in time.
    Write,
    /// Nothing came in time.
    ReadTimeout,
    /// The connection ended in the middle.
    Reset,
    /// What came was no valid HTTP.
    Protocol,
    /// Anything else, such as no route to the address or a shortage on our side.
    Other,
}

impl Reason {
    /// Every reason, to resolve metric handles when a configuration is loaded.
    pub const ALL: [Self; 9] = [
        Self::Dns,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::Tls,
        Self::Write,
        Self::ReadTimeout,
        Self::Reset,
        Self::Protocol,
        Self::Other,
    ];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::Write => "write",
            Self::ReadTimeout => "read_timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Other => "other",
        }
    }
}

impl From<UpstreamFault> for Reason {
    fn from(fault: UpstreamFault) -> Self {
        match fault {
            UpstreamFault::Unresolved | UpstreamFault::PrivateAddress => Self::Dns,
            UpstreamFault::DeadlinePassed => Self::ConnectTimeout,
            UpstreamFault::NoEndpoint => Self::Other,
        }
    }
}

/// Why `error`, met on the upstream side (`fail_to_connect`, `error_while_proxy`, or our own exchange), happened.
#[must_use]
pub fn classify(error: &Error) -> Reason {
    match error.etype() {
        ErrorType::ConnectRefused => Reason::ConnectRefused,
        ErrorType::ConnectTimedout => Reason::ConnectTimeout,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::TLSWantX509Lookup
        | ErrorType::InvalidCert => Reason::Tls,
        ErrorType::WriteError | ErrorType::WriteTimedout => Reason::Write,
        ErrorType::ReadTimedout => Reason::ReadTimeout,
        ErrorType::ReadError | ErrorType::ConnectionClosed => Reason::Reset,
        // Pingora's handshake error is that of HTTP/2, which is also how a connection that ends early shows.
        ErrorType::HandshakeError
        | ErrorType::H1Error
        | ErrorType::H2Error
        | ErrorType::H2Downgrade
        | ErrorType::InvalidH2
        | ErrorType::InvalidHTTPHeader => {
            if is_cut(error) {
                Reason::Reset
            } else {
                Reason::Protocol
            }
        }
        _ if is_cut(error) => Reason::Reset,
        _ => Reason::Other,
    }
}

/// Whether an error of the operating system that ends a connection is the root of it.
fn is_cut(error: &Error) -> bool {
    // Pingora's own errors have no `source`; their innermost cause may have one.
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error.root_cause());
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return matches!(
                io.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
            );
        }
        cause = inner.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framework_errors_have_a_reason() {
        for (kind, reason) in [
            (ErrorType::ConnectRefused, Reason::ConnectRefused),
            (ErrorType::ConnectTimedout, Reason::ConnectTimeout),
            (ErrorType::InvalidCert, Reason::Tls),
            (ErrorType::TLSHandshakeFailure, Reason::Tls),
            (ErrorType::WriteTimedout, Reason::Write),
            (ErrorType::ReadTimedout, Reason::ReadTimeout),
            (ErrorType::ConnectionClosed, Reason::Reset),
            (ErrorType::InvalidHTTPHeader, Reason::Protocol),
            (ErrorType::H2Error, Reason::Protocol),
            (ErrorType::ConnectNoRoute, Reason::Other),
            (ErrorType::InternalError, Reason::Other),
        ] {
            assert_eq!(classify(&Error::new(kind.clone())), reason, "{kind:?}");
        }
    }

    #[test]
    fn a_cut_connection_is_told_from_bad_http() {
        let cut = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = Error::because(ErrorType::H1Error, "while reading the head", cut);
        assert_eq!(classify(&error), Reason::Reset);
        assert_eq!(classify(&error.more_context("wrapped")), Reason::Reset);
    }

    #[test]
    fn label_values_are_distinct() {
        let values: std::collections::BTreeSet<_> =
            Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(values.len(), Reason::ALL.len());
    }
}
