//! The request as it is sent to the upstream: made by the functions that make it for the wire, with names in place of secrets.

use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;

use super::explanation::Sent;
use super::{Asking, Teller, Written};
use crate::plan::Route;
use crate::policy::told;
use crate::policy::{Fault, Telling, Told};
use crate::proxy::held;
use crate::proxy::upstream_request::{self, Way};

/// What the client's head says about its body.
pub(super) fn has_body(client: &RequestHeader) -> bool {
    let length = client.headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
    client.headers.contains_key(header::TRANSFER_ENCODING)
        || length.is_some_and(|length| length.iter().any(|digit| *digit != b'0'))
}

/// Walks the outgoing head through the policies, each with what it decides.
pub(super) fn send(
    teller: &mut Teller<'_>,
    client: &RequestHeader,
    route: &Route,
    asking: Asking,
) -> Result<Sent, Fault> {
    let caches = asking == Asking::Whole;
    let way = Way { endpoint: 0, caches };
    let has_body = has_body(client);
    let upgrades = client.version == http::Version::HTTP_11 && upstream_request::upgrades(client, route);
    let holds = asking != Asking::Uncached || held::holds(route, upgrades);
    let mut head = if holds {
        upstream_request::copy_of(client, has_body, caches)?
    } else {
        upstream_request::stock_copy_of(client)?
    };
    upstream_request::begin(&mut head, &teller.exchange, route, way)?;
    let dropped = told::dropped(client, &head, |name| because(name).to_owned());
    let told = Told::new(told::grouped(&dropped), serde_json::json!({ "dropped": dropped }));
    teller.decision("head", Written::nowhere(), told);
    for (kind, policy) in route.chain.iter().filter(|(_, policy)| policy.hooks().upstream_request) {
        let before = head.clone();
        policy.upstream_request_shown(&mut head, &mut teller.exchange)?;
        let telling = Telling {
            exchange: &teller.exchange,
            heads: Some((&before, &head)),
            counters: teller.counters(),
        };
        if let Some(told) = policy.explain(&telling) {
            teller.decision(kind.key, Written::of(route, kind), told);
        }
    }
    upstream_request::finish(&mut head, route, way)?;
    frame(&mut head, has_body, holds)?;
    Ok(shown(&head, client, teller))
}

/// Why a field does not go on whatever the policies say.
fn because(name: &HeaderName) -> &'static str {
    match name.as_str() {
        "expect" => "the gateway itself asks the client for the body",
        "range" | "if-range" | "if-match" | "if-none-match" | "if-modified-since" | "if-unmodified-since" => {
            "the whole answer is asked for, so that it can be stored, shaped or searched"
        }
        "accept-encoding" => "an answer that is shaped must not be coded",
        "content-length" => "there is no body",
        _ => "it belongs to the client's connection, not to the message",
    }
}

/// As the exchange itself does it, for a body whose length is not declared.
fn frame(head: &mut RequestHeader, has_body: bool, holds: bool) -> Result<(), Fault> {
    if !has_body || head.headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(());
    }
    let framed = if holds {
        // Up to 64 KiB are read ahead, and then the length is known.
        head.insert_header(header::CONTENT_LENGTH, "<bytes of the body>")
    } else {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")
    };
    framed.map_err(|_| Fault::Internal)
}

fn secret_of(teller: &Teller<'_>) -> Option<String> {
    let credential = teller.outcome.decisions.get("credential")?;
    credential.get("secret")?.as_str().map(str::to_owned)
}

fn shown(head: &RequestHeader, client: &RequestHeader, teller: &Teller<'_>) -> Sent {
    let id = &teller.exchange.request_id;
    let edits = teller.outcome.decisions.get("request");
    let is_operators = |name: &HeaderName| {
        let lists = [edits.and_then(|told| told.get("set")), edits.and_then(|told| told.get("add"))];
        lists
            .into_iter()
            .flatten()
            .filter_map(|list| list.as_array())
            .flatten()
            .any(|own| own == name.as_str())
    };
    let ours = |name: &HeaderName, value: &HeaderValue| {
        value.as_bytes() == id.as_str().as_bytes() && client.headers.get(name) != Some(value)
    };
    let mut fields: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let text = if ours(name, value) {
                "<request id>".to_owned()
            } else if told::tells_a_secret(name.as_str()) && is_operators(name) {
                // What people write into such a field of a configuration is often what they should not.
                "<hidden>".to_owned()
            } else {
                text
            };
            (name.as_str().to_owned(), text)
        })
        .collect();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    let mut target = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    if let Some(secret) = secret_of(teller) {
        let name = told::secret(&secret);
        let mut encoded = Vec::new();
        crate::policy::credential::percent_encode(name.as_bytes(), &mut encoded);
        target = target.replace(&*String::from_utf8_lossy(&encoded), &name);
    }
    Sent { method: head.method.to_string(), target, fields }
}
