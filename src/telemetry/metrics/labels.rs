//! Every label value that is not a configured name: closed enums.
//!
//! A label never comes from request text, so nobody outside can make series. Each enum lists its values once; the cells, the
//! scrape and `docs/metrics.md` follow from that list.

/// A closed set of label values.
pub trait Label: Copy + Sized + 'static {
    /// All values, in the order of their index.
    const ALL: &'static [Self];
    /// Place in [`Label::ALL`].
    fn index(self) -> usize;
    /// The text of the label.
    fn as_str(self) -> &'static str;
}

macro_rules! closed {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$value_doc])* $value,)+ }

        impl $name {
            /// How many values there are.
            pub const COUNT: usize = <Self as Label>::ALL.len();

            /// The text of the label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn as_str(self) -> &'static str {
                $name::as_str(self)
            }
        }
    };
}

closed! {
    /// The method of a request. RFC 9110 §9.3 and PATCH (RFC 5789); all others are one value.
    Method {
        /// GET.
        Get => "GET",
        /// HEAD.
        Head => "HEAD",
        /// POST.
        Post => "POST",
        /// PUT.
        Put => "PUT",
        /// DELETE.
        Delete => "DELETE",
        /// CONNECT.
        Connect => "CONNECT",
        /// OPTIONS.
        Options => "OPTIONS",
        /// TRACE.
        Trace => "TRACE",
        /// PATCH.
        Patch => "PATCH",
        /// Any other token.
        Other => "_OTHER",
    }
}

impl Method {
    /// The value for the method token of a request. Methods are case-sensitive (RFC 9110 §9.1).
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self::ALL.iter().copied().find(|method| method.as_str() == token).unwrap_or(Self::Other)
    }
}

closed! {
    /// Who made the answer.
    Source {
        /// The upstream, in this exchange.
        Upstream => "upstream",
        /// The cache.
        Cache => "cache",
        /// The gateway itself: an error, a limit, a redirect, a fixed answer.
        Gateway => "gateway",
    }
}

closed! {
    /// Why the gateway answered by itself, or gave up.
    LocalReason {
        /// No route matches. 404.
        NoRoute => "no_route",
        /// The path is known, the method is not allowed. 405.
        Method => "method",
        /// A rate limit said no. 429.
        Limited => "limited",
        /// Too many requests at once. 503 or 429.
        Concurrency => "concurrency",
        /// The request breaks a rule of HTTP or of the route. 400.
        BadRequest => "bad_request",
        /// The condition of the request does not hold. 412.
        Precondition => "precondition",
        /// The client takes only what is stored, and nothing is. 504.
        NotCached => "not_cached",
        /// The body is over the limit. 413.
        TooLarge => "too_large",
        /// The client has no valid credential. 401 or 403.
        Auth => "auth",
        /// No endpoint could be reached. 502 or 503.
        UpstreamDown => "upstream_down",
        /// The upstream refused our credential: its 401 or 403, turned into ours.
        UpstreamRefused => "upstream_refused",
        /// The upstream limits us: its 429, turned into ours.
        UpstreamBusy => "upstream_busy",
        /// The upstream or the whole exchange took too long. 504.
        Timeout => "timeout",
        /// The answer could not be shaped. 502.
        ShapeError => "shape_error",
        /// The credential to inject is not there. 503.
        SecretMissing => "secret_missing",
        /// The route redirects.
        Redirect => "redirect",
        /// The route answers with fixed content.
        Respond => "respond",
        /// The route let a `PURGE` take out what is stored.
        Purge => "purge",
        /// The gateway is going down.
        Shutdown => "shutdown",
        /// The client went away before the answer was complete.
        Aborted => "aborted",
        /// A fault of the gateway. 500.
        Internal => "internal",
    }
}

closed! {
    /// What the cache said to a request of a route that caches. The access log, `explain --live` and `portcullis test` use the same words.
    CacheResult {
        /// Fresh, from the store.
        Hit => "hit",
        /// Stale, served while it is fetched again, because the upstream failed, or because the client takes it.
        Stale => "stale",
        /// Stored and not to be used unasked, and the upstream said that it is still good (304).
        Revalidated => "revalidated",
        /// Not in the store, or not to be used; fetched.
        Miss => "miss",
        /// The cache was not asked: another method than GET and HEAD, a request with a body or for another protocol. Or known as
        /// uncacheable, and storable after all.
        Bypass => "bypass",
        /// Waited for another request that fetched the same thing.
        Collapsed => "collapsed",
        /// Fetched, and not stored: [`Uncacheable`] says why.
        Uncacheable => "uncacheable",
    }
}

closed! {
    /// Why an answer was not stored: the `detail` of `Cache-Status` and `cache_reason` of the access log. `docs/caching.md` tells what
    /// each one means.
    Uncacheable {
        /// `no-store` of the request, where the route listens.
        RequestNoStore => "request-no-store",
        /// The status is about one exchange only.
        Status => "status",
        /// The upstream was asked with HEAD.
        Head => "head",
        /// A part of a whole under a status that does not say so.
        ContentRange => "content-range",
        /// A stream of events, which has no end.
        EventStream => "event-stream",
        /// Nothing but the end of the connection says where the body ends.
        CloseDelimited => "close-delimited",
        /// `no-store`.
        NoStore => "no-store",
        /// `private`.
        Private => "private",
        /// `Set-Cookie`.
        SetCookie => "set-cookie",
        /// The client's `Authorization` went upstream.
        Authorization => "authorization",
        /// The client's cookies went upstream.
        Cookie => "cookie",
        /// A page under the path of a file.
        Deception => "deception",
        /// `Vary` that cannot be followed.
        Vary => "vary",
        /// `no-cache` without a validator.
        NoCache => "no-cache",
        /// A 5xx that does not say for how long.
        ServerError => "server-error",
        /// Nobody says for how long.
        NoFreshness => "no-freshness",
        /// Stale on arrival.
        Stale => "stale",
        /// Larger than `cache.maxObject`.
        TooLarge => "too-large",
    }
}

closed! {
    /// What a rate limit said.
    LimitDecision {
        /// Let through.
        Allow => "allow",
        /// Refused with 429.
        Deny => "deny",
    }
}

closed! {
    /// What became of an answer that was to be shaped.
    ShapeResult {
        /// Shaped.
        Ok => "ok",
        /// The answer is no JSON.
        NotJson => "not_json",
        /// The answer is larger than the route's `json.max`.
        TooLarge => "too_large",
        /// The answer came encoded although identity was asked for.
        Encoded => "encoded",
        /// Anything else.
        Error => "error",
    }
}

closed! {
    /// What became of an exchange with the upstream that may be tried again.
    RetryResult {
        /// It was tried again.
        Retried => "retried",
        /// It was not: the budget of retries is spent.
        BudgetSpent => "budget_spent",
    }
}

closed! {
    /// Why an exchange with the upstream failed.
    UpstreamError {
        /// The name has no usable address.
        Dns => "dns",
        /// The connection was refused or the address cannot be reached.
        ConnectRefused => "connect_refused",
        /// No connection in time.
        ConnectTimeout => "connect_timeout",
        /// The TLS handshake or the certificate.
        Tls => "tls",
        /// The request could not be written, or not in time.
        Write => "write",
        /// No answer, or no more of it, in time.
        ReadTimeout => "read_timeout",
        /// The upstream closed or reset the connection.
        Reset => "reset",
        /// The answer breaks a rule of HTTP.
        Protocol => "protocol",
        /// No connection of the pool could be had.
        Pool => "pool",
        /// Anything else.
        Other => "other",
    }
}

closed! {
    /// Whether a connection to the upstream was made for this exchange.
    ConnectionState {
        /// Made now.
        New => "new",
        /// Taken from the pool.
        Reused => "reused",
    }
}

closed! {
    /// A part of the time the gateway itself adds.
    Phase {
        /// Normalising and finding the route.
        Match => "match",
        /// Limits and answers of our own.
        Limit => "limit",
        /// All of it: the request's time less the time spent waiting for the upstream.
        Total => "total",
    }
}

closed! {
    /// The protocol of a client connection.
    Protocol {
        /// HTTP/1.0 and HTTP/1.1.
        H1 => "h1",
        /// HTTP/2.
        H2 => "h2",
    }
}

closed! {
    /// Whether something worked.
    Outcome {
        /// It did.
        Success => "success",
        /// It did not.
        Failure => "failure",
    }
}

impl From<bool> for Outcome {
    fn from(ok: bool) -> Self {
        if ok { Self::Success } else { Self::Failure }
    }
}

closed! {
    /// Why a client connection was not taken.
    RefusedReason {
        /// The listener has as many connections as it may.
        Full => "full",
        /// This address has as many connections as it may.
        PerAddress => "per_address",
        /// The PROXY protocol header is missing or wrong.
        ProxyHeader => "proxy_header",
        /// The gateway is going down.
        Shutdown => "shutdown",
        /// Accepting failed: out of descriptors or memory.
        Accept => "accept",
    }
}

closed! {
    /// Why the listener answered by itself, before a route could be looked for.
    AnswerReason {
        /// The head is not HTTP. 400.
        Malformed => "malformed",
        /// The head is over the limit of bytes or fields. 431.
        HeadTooLarge => "head_too_large",
        /// The request target is too long. 414.
        TargetTooLong => "target_too_long",
        /// The head did not come in time. 408.
        HeadTimeout => "head_timeout",
        /// CONNECT or TRACE. 405 or 501.
        Method => "method",
        /// A version of HTTP that is not spoken. 505.
        Version => "version",
    }
}

closed! {
    /// Why a client connection was ended by the gateway before its time.
    CutReason {
        /// The TLS handshake took too long.
        HandshakeTimeout => "handshake_timeout",
        /// The request head took too long.
        HeadTimeout => "head_timeout",
        /// The request body took too long.
        BodyTimeout => "body_timeout",
        /// Nothing was asked for too long.
        Idle => "idle",
        /// The client reads too slowly.
        SlowReader => "slow_reader",
        /// Too many streams reset or too many frames without use (HTTP/2).
        Abuse => "abuse",
        /// The exchange with the upstream was over its time, and its answer had begun.
        ExchangeDeadline => "exchange_deadline",
        /// The drain deadline passed.
        Shutdown => "shutdown",
    }
}

closed! {
    /// Where a request body passed its limit.
    BodyStage {
        /// `Content-Length` says so.
        Declared => "declared",
        /// While it was read ahead; the upstream was not contacted.
        ReadAhead => "read_ahead",
        /// While it was sent on; the exchange was aborted.
        Streaming => "streaming",
    }
}

closed! {
    /// What was taken from an answer so that the upstream stays invisible.
    Erased {
        /// `Location` and its kin were mapped or removed.
        Location => "location",
        /// `Link` was mapped or removed.
        Link => "link",
        /// `Set-Cookie` was mapped or removed.
        SetCookie => "set_cookie",
        /// `Refresh` was mapped or removed.
        Header => "header",
        /// The body of an error was replaced.
        ErrorBody => "error_body",
        /// A string in a JSON body was mapped or emptied.
        Json => "json",
    }
}

closed! {
    /// A kind of thing in the configuration.
    ObjectKind {
        /// Routes.
        Routes => "routes",
        /// Upstreams.
        Upstreams => "upstreams",
        /// Listeners.
        Listeners => "listeners",
        /// Secrets.
        Secrets => "secrets",
        /// Rate limits of all routes.
        Limits => "limits",
    }
}

closed! {
    /// What a purge names.
    PurgeScope {
        /// One URL.
        Url => "url",
        /// A URL and all below it.
        Prefix => "prefix",
        /// What has a tag.
        Tag => "tag",
        /// What a route stored.
        Route => "route",
        /// Everything.
        All => "all",
    }
}

closed! {
    /// What a purge does.
    PurgeMode {
        /// It makes stale.
        Soft => "soft",
        /// It removes.
        Hard => "hard",
    }
}

closed! {
    /// Which side of the shaper bytes are counted on.
    Direction {
        /// As the upstream sent it.
        In => "in",
        /// As it is stored and sent on.
        Out => "out",
    }
}

closed! {
    /// Which kind of name found no room under the cap on series.
    Overflow {
        /// A route.
        Route => "route",
        /// A rate limit.
        Limit => "limit",
        /// An upstream.
        Upstream => "upstream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_outside_the_list_is_other() {
        assert_eq!(Method::of("GET"), Method::Get);
        assert_eq!(Method::of("PATCH"), Method::Patch);
        for token in ["get", "PROPFIND", "", "_OTHER\n"] {
            assert_eq!(Method::of(token), Method::Other, "{token:?} makes no series of its own");
        }
    }

    #[test]
    fn the_index_is_the_place_in_the_list() {
        for (place, reason) in LocalReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place, "{}", reason.as_str());
        }
    }
}
