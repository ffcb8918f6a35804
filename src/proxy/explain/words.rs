//! What the journey itself decides, in words and as data. What a policy decides, it says itself.

use http::{Method, header};
use pingora::http::RequestHeader;
use serde_json::{Value, json};

use super::explanation::{Destination, Verdict};
use crate::cache::key::{KeyParts, canonical_query};
use crate::config::Percent;
use crate::exchange::{Exchange, target};
use crate::plan::router::{Lost, Near};
use crate::plan::{Listener, Route, UpstreamPlan};
use crate::policy::cache::CacheSettings;
use crate::policy::told::{counted, either, listed, span};
use crate::policy::{Fault, Reply, Told, UpstreamKind};
use crate::proxy::cache::{Bypass, IDENTITY};
use crate::upstream::Balance;

pub(super) fn kind(kind: UpstreamKind) -> &'static str {
    match kind {
        UpstreamKind::Api => "api",
        UpstreamKind::App => "app",
    }
}

pub(super) fn is_rival(near: &Near) -> bool {
    matches!(near.lost.as_slice(), [Lost::Weaker(_)])
}

/// How the target is read, or why it cannot be.
pub(super) fn path(raw: &str, head: &RequestHeader, exchange: &Exchange, refused: bool) -> Vec<String> {
    let asterisk =
        if head.method == Method::OPTIONS { target::Asterisk::Allow } else { target::Asterisk::Refuse };
    let written = match target::target(raw, asterisk) {
        Ok(written) => written,
        Err(why) => return vec![format!("it is refused: {why}")],
    };
    if refused {
        let host = head.headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
        return vec![match host {
            _ if head.method == Method::TRACE || head.method == Method::CONNECT => {
                format!("the method `{}` is never taken", head.method)
            }
            Some(host) => format!("the host `{host}` is refused: it has no unambiguous meaning"),
            None => "there is no `Host`".to_owned(),
        }];
    }
    let before = raw.split('?').next().unwrap_or_default();
    let words = if before == written.path {
        format!("`{}` is in its normal form", written.path)
    } else {
        format!("`{before}` is read as `{}`: {}", written.path, changes(before))
    };
    let method = head.method.as_str();
    let upper = method.to_ascii_uppercase();
    let hint =
        (method != upper).then(|| format!("the method is `{method}`, which is another one than `{upper}`"));
    [words, format!("the host is `{}`", exchange.authority())].into_iter().chain(hint).collect()
}

/// Why nothing can be sent to the upstream.
pub(super) fn unsendable(fault: Fault) -> String {
    let why = match fault {
        Fault::BadTarget => {
            "its `Connection` names a field that a client may not take away, or its path, once rewritten, is none"
        }
        _ => fault.code(),
    };
    format!("nothing can be sent for such a request: {why}")
}

/// What normalising does to a path.
fn changes(raw: &str) -> String {
    let mut list = Vec::new();
    let lower = raw.to_ascii_lowercase().replace("%2e", ".");
    if lower.split('/').any(|segment| segment == "." || segment == "..") {
        list.push("dot segments are resolved");
    }
    if raw.contains("//") {
        list.push("`//` is merged");
    }
    if raw.contains('%') {
        list.push("percent-encodings have one form");
    }
    if list.is_empty() {
        list.push("what no path may hold is percent-encoded");
    }
    list.join(", ")
}

/// What the connection guard's codes mean, as far as somebody who asks about a URL may meet them.
pub(super) fn door(code: &str) -> String {
    let words = match code {
        "host_missing" => "it has no `Host`; give the whole URL, or `-H 'Host: app.example'`",
        "host" => "its host is no host name or address",
        "host_repeated" => "it has two `Host` fields",
        "method" => "its method is no token",
        "method_refused" => "TRACE and CONNECT are never taken",
        "request_line" => "its first line is not `METHOD TARGET HTTP/1.1` with one space between them",
        "request_target" => "its target has bytes that no URL has; percent-encode them",
        "request_line_too_long" => "its target is too long",
        "head_too_large" => "its head is larger than the listener's `maxHeaderBytes`",
        "too_many_headers" => "it has more header lines than the listener's `maxHeaders`",
        "header_name" | "header_value" => "a header has bytes that cannot be sent",
        "content_length" | "length_and_coding" | "transfer_encoding" | "chunked" => {
            "what it says about the length of its body is in dispute"
        }
        _ => return format!("`{code}`"),
    };
    words.to_owned()
}

/// Who the client is, and why.
pub(super) fn client(listener: &Listener, head: &RequestHeader, exchange: &Exchange) -> String {
    let (client, peer) = (exchange.client, exchange.peer.ip());
    let says = ["x-forwarded-for", "forwarded"].into_iter().find(|name| head.headers.contains_key(*name));
    match says {
        _ if exchange.peer_is_trusted && client != peer.to_canonical() => {
            format!(
                "the client is `{client}`: `{peer}` is one of `trustedProxies`, and its word about the client is believed"
            )
        }
        Some(_) if exchange.peer_is_trusted => format!(
            "the client is `{client}`: it is one of `trustedProxies`, and what it says names no other client"
        ),
        Some(name) => {
            let why = if listener.trusted.0.is_empty() {
                "this listener has no `trustedProxies`"
            } else {
                "that end is none of `trustedProxies`"
            };
            format!(
                "the client is `{client}`, the other end of the connection: its `{name}` is not believed, as {why}"
            )
        }
        None => format!("the client is `{client}`, the other end of the connection"),
    }
}

pub(super) fn no_route(verdict: Verdict, reply: &Reply) -> String {
    let allow = reply.headers.iter().find(|(name, _)| *name == header::ALLOW);
    match (verdict, allow) {
        (Verdict::MethodNotAllowed, Some((_, allow))) => format!(
            "no route takes this method here: 405, and `Allow: {}`",
            String::from_utf8_lossy(allow.as_bytes())
        ),
        (Verdict::NotFound, _) => "no route takes it: 404".to_owned(),
        _ => format!("about the server as a whole: {}", reply.status.as_u16()),
    }
}

pub(super) fn bypass(why: Bypass) -> Told {
    let (word, words) = match why {
        Bypass::Off => ("off", "this route has no `cache`: every request goes to the upstream"),
        Bypass::Method => ("bypass", "only GET and HEAD are answered from the cache"),
        Bypass::Body => ("bypass", "a request with a body is not answered from the cache"),
        Bypass::Upgrade => ("bypass", "a request for another protocol is not answered from the cache"),
    };
    Told::new([words.to_owned()], json!({ "verdict": word }))
}

/// The parts of a key; what tells two stored answers apart.
pub(super) fn key(parts: &KeyParts<'_>) -> Value {
    let headers: Vec<(&str, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| match *name {
            // Enough to tell two clients apart, and nothing that a client sent.
            IDENTITY => (*name, value.iter().take(8).map(|byte| format!("{byte:02x}")).collect()),
            name => (name, String::from_utf8_lossy(value).into_owned()),
        })
        .collect();
    json!({
        "route": parts.route,
        "scheme": parts.scheme,
        "host": parts.host,
        "path": parts.path,
        "query": parts.query,
        "headers": headers,
    })
}

pub(super) fn looked_up(key: Option<&Value>) -> String {
    let text = |name: &str| key.and_then(|key| key.get(name)).and_then(Value::as_str).unwrap_or_default();
    let query = match text("query") {
        "" => String::new(),
        query => format!("?{query}"),
    };
    let headers = key.and_then(|key| key.get("headers")).and_then(Value::as_array);
    let names = headers
        .into_iter()
        .flatten()
        .filter_map(|pair| Some((pair.get(0)?.as_str()?, pair.get(1)?.as_str()?)));
    let with: Vec<String> = names.map(|(name, value)| format!("{name}: {value}")).collect();
    let with = if with.is_empty() { String::new() } else { format!(" with {}", listed(&with)) };
    format!(
        "is looked up under `{}://{}{}{query}`{with}; GET and HEAD share it, other routes do not",
        text("scheme"),
        text("host"),
        text("path")
    )
}

/// What of the query is no part of the key.
pub(super) fn ignored(route: &Route, settings: &CacheSettings, exchange: &Exchange) -> Option<String> {
    let query = exchange.query.as_deref()?;
    let kept = &route.settings.kept_parameters;
    if !kept.keeps_all() && kept.of(query).count() != query.split('&').filter(|pair| !pair.is_empty()).count()
    {
        return Some("of the query, only what `rewrite.query` sends on is part of the key".to_owned());
    }
    let kept = canonical_query(query, &settings.ignored_parameters);
    let patterns: Vec<String> = settings.ignored_parameters.iter().map(ToString::to_string).collect();
    (kept != query).then(|| {
        format!(
            "parameters named {} are no part of the key, and are not sent to the upstream either",
            listed(&patterns)
        )
    })
}

pub(super) fn destination(plan: &UpstreamPlan) -> Destination {
    let url = |(scheme, host, port): (crate::exchange::Scheme, &str, u16)| {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = if port == scheme.default_port() { String::new() } else { format!(":{port}") };
        format!("{}://{host}{port}", scheme.as_str())
    };
    Destination {
        name: plan.upstream.name().to_string(),
        kind: kind(plan.kind).to_owned(),
        endpoints: plan.upstream.origins().map(url).collect(),
    }
}

pub(super) fn upstream(plan: &UpstreamPlan, method: &Method) -> Told {
    let to = destination(plan);
    let (timeouts, retry) = (plan.upstream.timeouts(), plan.upstream.retry());
    let on: Vec<&str> = [
        (retry.on.connect_failure, "connect-failure"),
        (retry.on.bad_gateway, "502"),
        (retry.on.unavailable, "503"),
        (retry.on.gateway_timeout, "504"),
    ]
    .into_iter()
    .filter_map(|(on, word)| on.then_some(word))
    .collect();
    let (choice, balance) = match plan.upstream.balance() {
        Balance::RoundRobin => ("in turn", "roundRobin"),
        Balance::LeastInFlight => ("the one with the fewest requests in flight", "leastInFlight"),
    };
    let choice = if to.endpoints.len() > 1 { format!(", {choice} by weight") } else { String::new() };
    let mut words = vec![
        format!("goes to the {} `{}` at {}{choice}", to.kind, to.name, either(&to.endpoints)),
        format!(
            "the upstream has {} to take the connection and {} for the whole exchange",
            span(timeouts.connect),
            span(timeouts.request)
        ),
    ];
    if retry.attempts > 0 && !on.is_empty() {
        let budget = Percent(retry.budget_percent);
        let times = counted(retry.attempts.into(), "time");
        words.push(format!(
            "tries again at most {times} after {}, while under {budget} of all requests are retries",
            either(&on)
        ));
        if !method.is_idempotent() {
            words.push(format!("does not try a {method} again once it was sent: it could be done twice"));
        }
    }
    if !plan.upstream.allows_private() {
        words.push("a private or loopback address of it is never connected to".to_owned());
    }
    let data = json!({
        "balance": balance,
        "allowPrivate": plan.upstream.allows_private(),
        "timeouts": {
            "connectSeconds": timeouts.connect.as_secs_f64(),
            "requestSeconds": timeouts.request.as_secs_f64(),
        },
        "retry": { "attempts": retry.attempts, "on": on, "budgetPercent": retry.budget_percent },
    });
    Told::new(words, data)
}

pub(super) fn upgrade(allowed: bool, asked: bool) -> Told {
    let words = match (allowed, asked) {
        (true, true) => "may become a WebSocket, as it asks to",
        (true, false) => "could become a WebSocket, but does not ask to",
        (false, _) => "may not change to another protocol: what it says of one is dropped",
    };
    Told::new(
        if allowed && !asked { Vec::new() } else { vec![words.to_owned()] },
        json!({ "websocket": allowed, "asked": asked }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_normalising_did_is_told() {
        assert_eq!(changes("/a/%2e%2E/b"), "dot segments are resolved, percent-encodings have one form");
        assert_eq!(changes("/a//b"), "`//` is merged");
        assert_eq!(changes("/é"), "what no path may hold is percent-encoded");
    }
}
