//! What the tests of the cache share: one origin behind both kinds of upstream, and a reader of `Cache-Status`.

use crate::harness::{Answer, Client, Gateway, HEAD, Origin};

/// Both ways to the same origin: `/api` is our own exchange, `/app` Pingora's stock path.
pub const BOTH: [&str; 2] = ["/api", "/app"];

/// A configuration with the routes `api` and `app`, each with these further lines of YAML (flow style, one line each).
pub fn yaml(origin: &Origin, lines: &[&str]) -> String {
    let url = origin.url();
    let mut text = format!(
        "{HEAD}accessLog: off
upstreams:
  vendor: {{ url: \"{url}\", allowPrivate: true, retry: {{ on: [] }} }}
  web: {{ kind: app, url: \"{url}\", retry: {{ on: [] }} }}
routes:
"
    );
    for (name, upstream) in [("api", "vendor"), ("app", "web")] {
        text.push_str(&format!(
            "  - name: {name}\n    match: {{ path: {{ prefix: /{name} }} }}\n    upstream: {upstream}\n"
        ));
        for line in lines {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

/// A gateway of [`yaml`].
pub fn gateway(origin: &Origin, lines: &[&str]) -> Gateway {
    Gateway::start(&yaml(origin, lines))
}

/// The one `Cache-Status` of an answer, after a look at its syntax (RFC 9211 §2: our name, then parameters).
pub fn cache_status(answer: &Answer) -> String {
    let all = answer.all("cache-status");
    assert_eq!(all.len(), 1, "one Cache-Status on every answer: {:?}", answer.headers);
    let value = all[0].to_owned();
    let mut members = value.split("; ");
    assert_eq!(members.next(), Some("portcullis"), "the name of the cache comes first: {value}");
    let mut seen = Vec::new();
    for member in members {
        let (key, argument) = member.split_once('=').map_or((member, None), |(k, a)| (k, Some(a)));
        let sound = match (key, argument) {
            ("hit" | "stored" | "collapsed", None) => true,
            ("ttl", Some(n)) => n.parse::<i64>().is_ok(),
            ("fwd-status", Some(n)) => n.parse::<u16>().is_ok(),
            ("fwd", Some(why)) => {
                ["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"]
                    .contains(&why)
            }
            ("detail", Some(token)) => token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
            _ => false,
        };
        assert!(sound, "`{member}` is no parameter of RFC 9211 in {value}");
        assert!(!seen.contains(&key.to_owned()), "`{key}` twice in {value}");
        seen.push(key.to_owned());
    }
    let says = |key: &str| seen.iter().any(|s| s == key);
    assert!(!(says("hit") && says("fwd")), "a hit was not forwarded (RFC 9211 §2.2): {value}");
    value
}

/// Whether the answer came from the store alone.
pub fn is_hit(answer: &Answer) -> bool {
    cache_status(answer).contains("; hit")
}

/// Whether it says that it was stored.
pub fn is_stored(answer: &Answer) -> bool {
    cache_status(answer).contains("; stored")
}

/// Sends a GET and leaves the answer to be read.
pub fn begin(gateway: &Gateway, target: &str) -> Client {
    let mut client = Client::connect(gateway.address());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n").as_bytes());
    client
}

/// Waits until so many requests are under way in the gateway.
pub fn wait_active(gateway: &Gateway, count: usize) {
    let series = "portcullis_requests_active{listener=\"public\"}";
    eventually!(gateway.metric(series) >= count as f64, "{count} requests are under way");
    // One more round trip, for those that were counted and had not asked the cache yet.
    for _ in 0..3 {
        let _ = gateway.admin("/livez");
    }
}
