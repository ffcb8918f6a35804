//! What the tests of the way out share: an origin that says what it is told to, and a gateway that has it as an `api` and an `app`.

use std::sync::{Arc, Mutex};

use crate::harness::{Answer, Gateway, HEAD, Origin, Reply, Setup};

/// The credential of the `api`.
pub const SECRET: &str = "s3cr3t-0123456789";

/// An origin that gives the answer it was last told.
pub struct Scripted {
    pub origin: Origin,
    next: Arc<Mutex<(Vec<u8>, bool)>>,
}

impl Scripted {
    pub fn start() -> Self {
        let next = Arc::new(Mutex::new((b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), false)));
        let told = next.clone();
        let origin = Origin::start(move |_| {
            let (bytes, close) = told.lock().unwrap().clone();
            if close { Reply::RawThenClose(bytes) } else { Reply::Raw(bytes) }
        });
        Self { origin, next }
    }

    /// From now on these bytes; the connection stays open.
    pub fn says(&self, bytes: impl AsRef<[u8]>) {
        *self.next.lock().unwrap() = (bytes.as_ref().to_vec(), false);
    }

    /// From now on these bytes, and then the connection is closed.
    pub fn says_and_closes(&self, bytes: impl AsRef<[u8]>) {
        *self.next.lock().unwrap() = (bytes.as_ref().to_vec(), true);
    }

    /// From now on 200 with these fields and the body `ok`.
    pub fn says_fields(&self, status: u16, fields: &[(&str, &str)]) {
        self.says(crate::harness::response_bytes(status, fields, b"ok"));
    }
}

/// `/api` and `/other` lead to the origin as an `api` at `/base/v2` and `/base/v3`, everything else to it as an `app`.
/// The arguments are further keys of the upstream, the route `api` and the route `site`, each with a leading comma.
pub fn both(origin: &Origin, upstream: &str, api: &str, site: &str) -> Gateway {
    let url = origin.url();
    Setup::new().env("VENDOR_KEY", SECRET).start(&format!(
        "{HEAD}
secrets: {{ vendor-key: {{ env: VENDOR_KEY }} }}
upstreams:
  vendor: {{ url: \"{url}/base\", allowPrivate: true, credential: {{ bearer: vendor-key }}{upstream} }}
  web: {{ kind: app, url: \"{url}\"{upstream} }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, rewrite: {{ replacePrefixMatch: /v2 }}{api} }}
  - {{ name: other, match: {{ path: {{ prefix: /other }} }}, upstream: vendor, rewrite: {{ replacePrefixMatch: /v3 }} }}
  - {{ name: site, match: {{ path: {{ prefix: / }} }}, upstream: web{site} }}
"
    ))
}

/// [`both`] with nothing further.
pub fn plain(origin: &Origin) -> Gateway {
    both(origin, "", "", "")
}

/// The names of an answer's fields, lower case, sorted.
pub fn names(answer: &Answer) -> Vec<String> {
    let mut names: Vec<String> = answer.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    names
}

/// Fails where a sign of the upstream is in the answer.
pub fn assert_hidden(answer: &Answer, origin: &Origin, what: &str) {
    for sign in [origin.address.to_string().as_str(), SECRET, "Origin Says", "/base/v2"] {
        assert!(
            !answer.contains(sign.as_bytes()),
            "{what}: `{sign}` shows in {}",
            String::from_utf8_lossy(&answer.raw)
        );
    }
}

/// Gauges of requests in flight, all zero once nobody asks. The scrape itself is no request of a listener.
pub fn idle(gateway: &Gateway) -> bool {
    let text = gateway.admin("/metrics").text();
    let active: Vec<&str> = text
        .lines()
        .filter(|line| {
            line.starts_with("portcullis_requests_active")
                || line.starts_with("portcullis_upstream_requests_active")
        })
        .collect();
    assert!(active.len() >= 2, "the gauges are there: {active:?}");
    active.iter().all(|line| line.ends_with(" 0"))
}

/// Waits until nothing is in flight: an answer may be with its client a moment before its connection is back in the pool.
pub fn settle(gateway: &Gateway) {
    eventually!(idle(gateway), "a request stays in flight");
}
