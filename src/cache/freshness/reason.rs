//! Why an answer is not stored: a closed list, the same words in metrics, log, `Cache-Status` and `explain`.

/// Why an answer is not stored. The texts are metric labels and the `detail` of `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A status whose answer is about this request or connection and nothing else, or one that `must-understand` asks us to know and we
    /// do not (RFC 9111 §3, §5.2.2.3; RFC 6585).
    Status,
    /// The answer to a HEAD that went upstream as one.
    Head,
    /// The client asked that nothing be kept: `no-store` of the request, where the route listens (RFC 9111 §5.2.1.5).
    RequestNoStore,
    /// `Content-Range` of a part (RFC 9110 §14.4) under a status that does not say so.
    ContentRange,
    /// A stream of server-sent events: made for one client as it goes on, and never whole.
    EventStream,
    /// Nothing but the end of the connection says where the body ends (RFC 9112 §6.3): a whole one cannot be told from half of it.
    CloseDelimited,
    /// `no-store` (RFC 9111 §5.2.2.5), or a `Cache-Control` in which it could be hidden.
    NoStore,
    /// `private` (§5.2.2.7).
    Private,
    /// `no-cache` (§5.2.2.4) without a validator to ask the upstream by.
    NoCache,
    /// `Set-Cookie` (§7.3): somebody's session.
    SetCookie,
    /// `Vary: *`, or a `Vary` that cannot be followed (§4.1).
    Vary,
    /// The client's `Authorization` went upstream and the answer does not allow sharing (§3.5).
    Authorization,
    /// The client's cookies went upstream and the answer does not allow sharing.
    Cookie,
    /// A page under the path of a file ([`crate::cache::deception`]).
    Deception,
    /// A 5xx without explicit freshness: `ttl` never applies to those.
    ServerError,
    /// No explicit freshness, none that could be guessed, and no `ttl` for this status.
    NoFreshness,
    /// Stale on arrival, with no window to serve it stale and no validator to ask the upstream by.
    Stale,
}

impl Reason {
    /// All reasons, in the order in which an answer is judged: the first that applies is told.
    pub const ALL: [Self; 17] = [
        Self::RequestNoStore,
        Self::Status,
        Self::Head,
        Self::ContentRange,
        Self::EventStream,
        Self::CloseDelimited,
        Self::NoStore,
        Self::Private,
        Self::SetCookie,
        Self::Authorization,
        Self::Cookie,
        Self::Deception,
        Self::Vary,
        Self::NoCache,
        Self::ServerError,
        Self::NoFreshness,
        Self::Stale,
    ];

    /// A token, for metrics and `Cache-Status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Head => "head",
            Self::RequestNoStore => "request-no-store",
            Self::ContentRange => "content-range",
            Self::EventStream => "event-stream",
            Self::CloseDelimited => "close-delimited",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::NoCache => "no-cache",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::Deception => "deception",
            Self::ServerError => "server-error",
            Self::NoFreshness => "no-freshness",
            Self::Stale => "stale",
        }
    }

    /// Whether it is about who asked, and says nothing about the answer to another.
    #[must_use]
    pub const fn is_of_request(self) -> bool {
        matches!(self, Self::Head | Self::RequestNoStore | Self::Authorization | Self::Cookie)
    }

    /// Whether the next requests of the key do not wait for one another, for some seconds: what was said of this answer will hold for
    /// theirs. The others hold for this exchange only; a status may be a passing fault.
    #[must_use]
    pub const fn lasts(self) -> bool {
        match self {
            Self::EventStream
            | Self::CloseDelimited
            | Self::NoStore
            | Self::Private
            | Self::NoCache
            | Self::SetCookie
            | Self::Vary
            | Self::Deception
            | Self::NoFreshness
            | Self::Stale => true,
            Self::Status
            | Self::ServerError
            | Self::Head
            | Self::RequestNoStore
            | Self::ContentRange
            | Self::Authorization
            | Self::Cookie => false,
        }
    }
}
