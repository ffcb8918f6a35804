//! What a change may do: every id once, with its meaning. An id is stable; a pipeline may be built on it.

/// Something that a change loosens, or that may break a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Which.
    pub kind: Kind,
    /// Why here: what exactly loosens or breaks.
    pub why: String,
}

macro_rules! kinds {
    ($($variant:ident $side:ident $id:literal $about:literal)*) => {
        /// Every kind of mark, with its stable id.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $about] $variant,)*
        }

        impl Kind {
            /// All of them, risks first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable id: `limit-raised`.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// What it means, in a sentence without a stop.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }

            /// Whether it loosens something.
            #[must_use]
            pub fn is_risk(self) -> bool {
                match self { $(Self::$variant => matches!(Side::$side, Side::Risk),)* }
            }
        }
    };
}

enum Side {
    Risk,
    Breaking,
}

kinds! {
    LimitRaised Risk "limit-raised" "a client may ask more often than before"
    LimitRemoved Risk "limit-removed" "a rate limit is gone, and no other one is as tight"
    LimitKeyWidened Risk "limit-key-widened" "a budget that was shared is now one for each client"
    ConcurrencyRaised Risk "concurrency-raised" "more requests may be under way at once, or as many as come"
    BodyLimitRaised Risk "body-limit-raised" "larger request bodies are taken"
    MatchWidened Risk "match-widened" "the route takes requests that it did not take before"
    TeamTakeover Risk "team-takeover" "requests that one team's route answered are now answered by another team's"
    GrantWidened Risk "grant-widened" "a team's file may claim more than before"
    HeaderForwarded Risk "header-forwarded" "a header of the client now reaches the upstream"
    CookieForwarded Risk "cookie-forwarded" "a cookie of the client now reaches the upstream"
    QueryForwarded Risk "query-forwarded" "query parameters that were dropped now reach the upstream"
    ResponseHeaderAllowed Risk "response-header-allowed" "a header of the upstream now reaches the client"
    ErrorsPassed Risk "errors-passed" "error bodies of the upstream now reach the client: they name hosts, versions and stacks"
    JsonExposed Risk "json-exposed" "a part of the JSON that was taken out now reaches the client"
    CacheShared Risk "cache-shared" "an answer made for one client may be given to another"
    PurgeGranted Risk "purge-granted" "more addresses may take out what is stored, and so send requests to the upstream"
    WebsocketAllowed Risk "websocket-allowed" "connections may become WebSockets, whose messages nobody checks"
    RedirectElsewhere Risk "redirect-elsewhere" "clients are sent to another host"
    UpstreamSwapped Risk "upstream-swapped" "the route leads to another upstream"
    UpstreamMoved Risk "upstream-moved" "an upstream lies on another host: it gets the requests and the credential"
    UpstreamCleartext Risk "upstream-cleartext" "an upstream is asked over `http://`, in clear text"
    KindRelaxed Risk "kind-relaxed" "an upstream is now trusted as our own app: nothing of it is hidden by default"
    CleartextAllowed Risk "cleartext-allowed" "a credential may travel in clear text"
    PrivateAllowed Risk "private-allowed" "the name of the upstream may lead to private and loopback addresses"
    CredentialRemoved Risk "credential-removed" "requests go to the upstream without its credential"
    CredentialChanged Risk "credential-changed" "another credential is sent, or in another way"
    SecretSwapped Risk "secret-swapped" "a secret comes from another place, so it may be another one"
    TlsTrustChanged Risk "tls-trust-changed" "another certificate of the upstream is believed, or another of ours is shown"
    ListenerAdded Risk "listener-added" "there is a new way in"
    ListenerExposed Risk "listener-exposed" "a listener that was local can be reached from elsewhere"
    ListenerCleartext Risk "listener-cleartext" "a listener does without TLS"
    ProxiesTrusted Risk "proxies-trusted" "more addresses may say who the client is"
    AdminExposed Risk "admin-exposed" "the admin side can be reached from elsewhere"
    AdminTokenRemoved Risk "admin-token-removed" "the admin side asks for no token any more"
    TimeoutRaised Risk "timeout-raised" "at least four times as long: slow peers hold more of the gateway"
    ConnectionsRaised Risk "connections-raised" "at least four times as many or as large: one side can use more of the gateway"
    AccessLogOff Risk "access-log-off" "requests are no longer logged"
    RouteRemoved Breaking "route-removed" "requests of a route that is gone are answered otherwise"
    MatchNarrowed Breaking "match-narrowed" "the route no longer takes requests that it took"
    TrafficMoved Breaking "traffic-moved" "requests of a route that is still there are answered by another"
    LimitLowered Breaking "limit-lowered" "a client is refused earlier"
    LimitAdded Breaking "limit-added" "a client that asks often is refused"
    LimitKeyNarrowed Breaking "limit-key-narrowed" "clients share a budget that each had alone"
    ConcurrencyLowered Breaking "concurrency-lowered" "fewer requests may be under way at once"
    BodyLimitLowered Breaking "body-limit-lowered" "request bodies that were taken are answered 413"
    HeaderDropped Breaking "header-dropped" "a header of the client no longer reaches the upstream"
    CookieDropped Breaking "cookie-dropped" "a cookie of the client no longer reaches the upstream"
    QueryDropped Breaking "query-dropped" "query parameters no longer reach the upstream"
    ResponseHeaderDropped Breaking "response-header-dropped" "a header of the upstream no longer reaches the client"
    ErrorsMasked Breaking "errors-masked" "error bodies of the upstream no longer reach the client"
    JsonFieldRemoved Breaking "json-field-removed" "a part of the JSON no longer reaches the client"
    WebsocketRefused Breaking "websocket-refused" "connections can no longer become WebSockets"
    AnswerChanged Breaking "answer-changed" "the gateway's own answer is another one"
    RewriteChanged Breaking "rewrite-changed" "the upstream is asked for another path or query"
    KindRestricted Breaking "kind-restricted" "an upstream is now hidden and guarded: only what is listed passes"
    PrivateRefused Breaking "private-refused" "private and loopback addresses of the upstream are refused"
    ListenerRemoved Breaking "listener-removed" "a way in is gone"
    ListenerMoved Breaking "listener-moved" "clients find the listener at another address"
    ListenerTls Breaking "listener-tls" "clients must speak TLS"
    ProxiesDistrusted Breaking "proxies-distrusted" "fewer addresses may say who the client is: others count as the client themselves"
    TimeoutLowered Breaking "timeout-lowered" "what takes longer is cut off"
    ConnectionsLowered Breaking "connections-lowered" "fewer or smaller are taken"
}

impl Mark {
    /// A mark with its reason.
    #[must_use]
    pub fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }

    /// A mark whose meaning says it all.
    #[must_use]
    pub fn plain(kind: Kind) -> Self {
        Self::new(kind, kind.about())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_words_with_hyphens_and_stand_once() {
        let mut ids: Vec<&str> = Kind::ALL.iter().map(|kind| kind.id()).collect();
        assert!(ids.iter().all(|id| id.chars().all(|c| c.is_ascii_lowercase() || c == '-')), "{ids:?}");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Kind::ALL.len());
    }

    #[test]
    fn risks_come_first() {
        let sides: Vec<bool> = Kind::ALL.iter().map(|kind| kind.is_risk()).collect();
        assert!(sides.is_sorted_by(|a, b| a >= b) && sides.contains(&false) && sides.contains(&true));
    }
}
