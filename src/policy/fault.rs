//! What can go wrong on the way to the upstream and back, as a type. Only `proxy/failure.rs` turns a fault into a status.

use std::fmt;
use std::time::Duration;

/// A failure of the gateway or of what stands behind it. Never the client's fault, and never shown to it in words: the client
/// sees a status and a code, the log sees this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The credential of the upstream is not available: nothing was sent. The operator's fault, or the secret store's.
    SecretMissing,
    /// The upstream refused our credential (401 or 407). The operator's fault; alarmed.
    CredentialRefused,
    /// The upstream says that we ask too much (429), with the time it asks us to wait.
    UpstreamLimited {
        /// Its `Retry-After`, where it was in seconds.
        retry_after: Option<Duration>,
    },
    /// The upstream redirects to a place that has no public path.
    RedirectUnmapped,
    /// The rewritten target is no legal request target.
    BadTarget,
    /// The answer cannot be shaped: it is not JSON.
    NotJson,
    /// The answer cannot be shaped: it is larger than `response.json.max`.
    TooLargeToShape,
    /// The answer cannot be shaped: it comes in a content coding, though identity was asked for.
    Encoded,
    /// The upstream switched protocols though nobody asked for it.
    UnexpectedUpgrade,
    /// The upstream broke HTTP framing.
    Protocol,
    /// No endpoint of the upstream can be used: names not resolved, or no endpoint left.
    NoEndpoint,
    /// Every address of the upstream is private, and `allowPrivate` is not set.
    PrivateAddress,
    /// A connection could not be made or broke.
    Connection,
    /// TLS with the upstream failed.
    Tls,
    /// The client takes only what is stored (`only-if-cached`), and nothing usable is (RFC 9111 §5.2.1.7).
    NotCached,
    /// The exchange took longer than `timeouts.request`.
    Deadline,
    /// The request body grew past its limit while it was being sent.
    BodyTooLarge,
    /// The client took longer than `timeouts.body` to send its body.
    BodyTimeout,
    /// The client went away.
    ClientGone,
    /// A mistake of our own.
    Internal,
}

impl Fault {
    /// A stable word for logs and problem documents.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::SecretMissing => "secret_unavailable",
            Self::CredentialRefused => "upstream_credential_refused",
            Self::UpstreamLimited { .. } => "upstream_limited",
            Self::RedirectUnmapped => "upstream_redirect_unmapped",
            Self::BadTarget => "bad_target",
            Self::NotJson => "upstream_answer_not_json",
            Self::TooLargeToShape => "upstream_answer_too_large",
            Self::Encoded => "upstream_answer_encoded",
            Self::UnexpectedUpgrade => "upstream_unexpected_upgrade",
            Self::Protocol => "upstream_protocol_error",
            Self::NoEndpoint => "destination_unavailable",
            Self::PrivateAddress => "destination_ip_prohibited",
            Self::Connection => "connection_refused",
            Self::Tls => "tls_error",
            Self::NotCached => "not_cached",
            Self::Deadline => "upstream_timeout",
            Self::BodyTooLarge => "content_too_large",
            Self::BodyTimeout => "request_body_timeout",
            Self::ClientGone => "client_gone",
            Self::Internal => "internal_error",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl std::error::Error for Fault {}
