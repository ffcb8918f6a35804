//! `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and `Forwarded` (RFC 7239) for an `app`.
//!
//! They are ours: what a client sends in them is dropped, unless the connection comes from a trusted proxy, whose chain is
//! extended. An `api` gets none of them: it has no business with our clients' addresses.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;

use super::request_headers::REQUEST_ID;
use super::told::{self, Telling, Told};
use super::{Build, Fault, Hooks, Policy, UpstreamKind};
use crate::config::Section;
use crate::exchange::Exchange;

struct Forwarding {
    kind: UpstreamKind,
}

/// Fields, beside `x-forwarded-*` and `x-original-*`, that speak of the client's address, of the way it came by, or of another request than the one that
/// was routed; in lower case.
const FIELDS: [&str; 16] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-cluster-client-ip",
    "front-end-https",
    "x-url-scheme",
    "x-scheme",
    "x-host",
    "x-http-host-override",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    // Some servers take it for the variable that names their own proxy.
    "proxy",
];

/// Whether a field is ours to say, so that a client's is dropped.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    name.starts_with("x-forwarded-") || name.starts_with("x-original-") || FIELDS.contains(&name)
}

/// Implied by the kind of upstream.
pub fn compile(_section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    build.upstream.as_ref()?;
    Some(Arc::new(Forwarding { kind: build.kind() }))
}

impl Policy for Forwarding {
    fn hooks(&self) -> Hooks {
        Hooks { upstream_request: true, ..Hooks::default() }
    }

    fn upstream_request_filter(
        &self,
        head: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        let chain = exchange.peer_is_trusted.then(|| joined(head, "x-forwarded-for")).flatten();
        let forwarded = exchange.peer_is_trusted.then(|| joined(head, "forwarded")).flatten();
        let proto = exchange.peer_is_trusted.then(|| scheme_of(head)).flatten();
        let foreign: Vec<HeaderName> =
            head.headers.keys().filter(|name| passes_for_ours(name.as_str())).cloned().collect();
        for name in &foreign {
            head.remove_header(name);
        }
        if self.kind == UpstreamKind::Api {
            return Ok(());
        }
        let peer = exchange.peer.ip().to_canonical();
        let addresses = match chain {
            Some(chain) => format!("{chain}, {peer}"),
            None => peer.to_string(),
        };
        let authority = exchange.authority();
        let mut element = match forwarded {
            Some(chain) => format!("{chain}, for="),
            None => String::from("for="),
        };
        match peer {
            IpAddr::V4(address) => _ = write!(element, "{address}"),
            IpAddr::V6(address) => _ = write!(element, "\"[{address}]\""),
        }
        _ = write!(element, ";host=\"{authority}\";proto={}", exchange.scheme.as_str());
        insert(head, "x-forwarded-for", &addresses)?;
        insert(head, "x-forwarded-host", &authority)?;
        insert(head, "x-forwarded-proto", proto.unwrap_or(exchange.scheme.as_str()))?;
        insert(head, "forwarded", &element)
    }

    fn explain(&self, telling: &Telling<'_>) -> Option<Told> {
        let (before, after) = telling.heads?;
        let dropped = told::dropped(before, after, |_| {
            "it speaks of the client, the way or the method in our place".to_owned()
        });
        let mut words = told::grouped(&dropped);
        words.push(match self.kind {
            UpstreamKind::Api => "an `api` is told nothing about the client or the way it came".to_owned(),
            UpstreamKind::App if telling.exchange.peer_is_trusted => {
                "adds to what the trusted proxy in front said of the client: `forwarded`, `x-forwarded-for`".to_owned()
            }
            UpstreamKind::App => {
                "an `app` is told who the client is: `forwarded`, `x-forwarded-for`, `x-forwarded-host`, `x-forwarded-proto`".to_owned()
            }
        });
        Some(Told::new(words, serde_json::json!({ "dropped": dropped })))
    }
}

/// What the client spoke with the trusted proxy that stands before us.
fn scheme_of(head: &RequestHeader) -> Option<&'static str> {
    match head.headers.get("x-forwarded-proto")?.as_bytes() {
        b"https" => Some("https"),
        b"http" => Some("http"),
        _ => None,
    }
}

/// Whether a server that reads `_` as `-` would take the field for one of ours.
fn passes_for_ours(name: &str) -> bool {
    if !name.contains('_') {
        return is_ours(name);
    }
    let folded = name.replace('_', "-");
    is_ours(&folded) || folded == REQUEST_ID
}

fn joined(head: &RequestHeader, name: &str) -> Option<String> {
    let lines: Vec<&str> =
        head.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::trim).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

fn insert(head: &mut RequestHeader, name: &'static str, value: &str) -> Result<(), Fault> {
    let value = HeaderValue::from_str(value).map_err(|_| Fault::Internal)?;
    head.insert_header(name, value).map_err(|_| Fault::Internal)
}
