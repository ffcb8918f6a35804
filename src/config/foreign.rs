//! Keys of other gateways, and what stands for them here.
//!
//! Whoever comes from nginx, Envoy, Kong, Caddy or Traefik writes their words, which no likeness of letters leads to ours.
//! Only words that one of them has are listed. A list of ours is not kept here: what is known at a place comes with the question.

/// The key among `known` that another gateway calls `word`.
pub(super) fn key<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let ours = find(word)?.0;
    // The list of ours is in order of preference, and short.
    let known: Vec<&str> = known.into_iter().collect();
    ours.iter().find_map(|ours| known.iter().find(|key| *key == ours)).copied()
}

/// Where to write what another gateway writes under `word`, when no key of the place stands for it.
///
/// Only asked for at a place where such a word can be meant: the top, a listener, an upstream or a route.
pub(super) fn advice<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    let (_, advice) = find(word)?;
    known.into_iter().any(|key| PLACES.contains(&key)).then_some(advice)
}

fn find(word: &str) -> Option<(&'static [&'static str], &'static str)> {
    // A longer text is nobody's key.
    if word.len() > 32 {
        return None;
    }
    let plain: String = word.chars().filter(|c| !"_-".contains(*c)).flat_map(char::to_lowercase).collect();
    FOREIGN
        .iter()
        .find(|(words, _, _)| words.contains(&plain.as_str()))
        .map(|(_, ours, advice)| (*ours, *advice))
}

/// A key that only the top, a listener, an upstream, a route or its match has.
const PLACES: [&str; 5] = ["routes", "trustedProxies", "endpoints", "match", "methods"];

type Foreign = (&'static [&'static str], &'static [&'static str], &'static str);

/// Their words without `_`, `-` and capital letters; the keys of ours that mean the same; where that is written.
const FOREIGN: &[Foreign] = &[
    (
        &["proxypass", "backend", "backends", "service", "services", "cluster", "clusters", "reverseproxy"],
        &["upstream", "upstreams"],
        "a server is named once under `upstreams`, and a route leads to it with `upstream: name`",
    ),
    (
        &["location", "locations", "virtualhosts"],
        &[],
        "what a route of `routes` answers is written `match: { path: { prefix: /api } }`",
    ),
    (
        &["path", "paths", "uri", "uris", "prefix"],
        &[],
        "the path is written `match: { path: { prefix: /api } }`",
    ),
    (
        &["servername", "domains", "hosts"],
        &["hosts"],
        "the hosts that a route answers are written in its `match: { hosts: [app.example] }`",
    ),
    (&["method", "methods"], &["methods"], "the methods are written `match: { methods: [GET] }`"),
    (
        &["listen", "bind", "port", "entrypoints"],
        &["address"],
        "where the gateway listens is written `listeners: [{ name: public, address: \"0.0.0.0:8080\" }]`",
    ),
    (
        &["ssl", "certificate", "sslcertificate", "tlscontext"],
        &["tls"],
        "certificates are written in a listener's `tls`",
    ),
    (
        &["target", "targets", "servers", "loadassignment"],
        &["endpoints"],
        "the addresses of a server are written in `url` or `endpoints` under `upstreams`",
    ),
    (
        &["plugins", "middlewares", "filters", "handle"],
        &[],
        "each policy is a key of the route, such as `rateLimit`, `cache` or `rewrite`",
    ),
    (
        &["ratelimit", "limitreq", "ratelimits", "ratelimiting"],
        &["rateLimit"],
        "a limit belongs to one route: `rateLimit: { requests: 100, window: 1m }`",
    ),
    (
        &[
            "timeout",
            "timeoutms",
            "timeouts",
            "connecttimeout",
            "readtimeout",
            "proxyreadtimeout",
            "proxyconnecttimeout",
        ],
        &[],
        "times are written `timeouts: { connect: 2s, request: 10s }` in the upstream",
    ),
    (
        &[
            "retry",
            "retries",
            "credential",
            "balance",
            "loadbalancing",
            "allowprivate",
            "allowcleartext",
            "kind",
        ],
        &[],
        "it belongs to the upstream: `upstreams: { name: { ... } }`",
    ),
    (
        &["proxysetheader", "addheader", "requestheaders", "headers"],
        &["headers"],
        "headers are changed in a route's `request: { headers: ... }` or `response: { headers: ... }`",
    ),
    (
        &["strippath", "stripprefix", "prefixrewrite"],
        &[],
        "a prefix is taken off with `rewrite: { replacePrefixMatch: / }`",
    ),
    (
        &["proxycache", "proxycachevalid"],
        &["cache"],
        "answers are kept with `cache: { ttl: 60s }` of a route",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_another_gateway_leads_to_the_key_that_the_place_has() {
        assert_eq!(key("proxy_pass", ["name", "upstream"]), Some("upstream"));
        assert_eq!(key("services", ["version", "upstreams"]), Some("upstreams"));
        assert_eq!(key("listen", ["name", "address"]), Some("address"));
        assert_eq!(
            key("listen", ["listeners", "routes"]),
            None,
            "a list of blocks is no other word for an address"
        );
        assert_eq!(key("rate-limit", ["rateLimit"]), Some("rateLimit"));
        assert_eq!(key("listen", ["name", "upstream"]), None, "nothing here means that");
        assert_eq!(key("upstraem", ["upstream"]), None, "a slip of the finger is for `did_you_mean`");
        assert_eq!(key(&"x".repeat(100_000), ["upstream"]), None);
    }

    #[test]
    fn where_the_place_has_none_the_right_place_is_told() {
        let route = ["name", "match"];
        assert!(advice("server_name", route).is_some_and(|advice| advice.contains("hosts: [app.example]")));
        assert!(advice("plugins", route).is_some_and(|advice| advice.contains("key of the route")));
        assert_eq!(advice("whatever", route), None);
        assert_eq!(advice("path", ["file"]), None, "the path of an access log is no path of a request");
    }

    #[test]
    fn a_word_stands_in_the_list_once() {
        let mut words: Vec<&str> = FOREIGN.iter().flat_map(|(words, _, _)| words.iter().copied()).collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all);
        assert!(
            words.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase())),
            "as they are compared"
        );
    }
}
