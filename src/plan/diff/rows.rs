//! The settings that a comparison knows: how each is read, what holds where it is not written, and what a change of it means.
//!
//! A key without a row is compared all the same, as it is written; `tests/diff.rs` asks that every key of the reference has one.

use std::collections::BTreeSet;

use super::parts::Part;
use super::risk::Kind;
use super::value::{Form, Value};
use crate::cache::freshness::NEGATIVE_MAX;
use crate::plan::counters::DEFAULT_KEYS;
use crate::plan::listeners::{
    ClientTimeouts, DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_CONNECTIONS_PER_ADDRESS, DEFAULT_MAX_HEADER_BYTES,
    DEFAULT_MAX_HEADERS,
};
use crate::plan::{
    DEFAULT_CACHE_BYTES, DEFAULT_GRACE, DEFAULT_KEEP_LAST_GOOD, DEFAULT_MAX_OBJECT_BYTES,
    DEFAULT_UPGRADE_TIMEOUT,
};
use crate::policy::{UpstreamKind, body_limit, json};
use crate::upstream::{Retry, Timeouts};

/// One setting.
pub struct Row {
    /// Its key below the part, dotted; `*` is a name.
    pub key: &'static str,
    /// How it is read.
    pub form: Form,
    /// What holds where it is not written; nothing: there is no such thing then.
    pub default: fn(&Part, &[&str]) -> Option<Value>,
    /// What a change of it means by itself.
    pub judge: Judge,
}

/// What a change means, where it can be told from the setting alone. `judge` asks more for what hangs together.
#[derive(Clone, Copy)]
pub enum Judge {
    /// Nothing.
    Neutral,
    /// More is the first, less the second.
    Amount(Kind, Kind),
    /// The same, where only a change by [`HUGE`] counts.
    Large(Kind, Kind),
    /// A list that got more is the first, one that lost something the second.
    List(Kind, Kind),
    /// The other way round: of what is taken away.
    Taken(Kind, Kind),
    /// `true` is the first, `false` the second.
    Flag(Kind, Kind),
    /// `true` is this.
    On(Kind),
    /// Any change is this.
    Changed(Kind),
    /// A list that got more is this; without the list everything is in it.
    Gained(Kind),
    /// A bound that is higher, or gone, is this.
    Bound(Kind),
}

/// A change by this factor is a large one.
pub const HUGE: u128 = 4;

const fn row(
    key: &'static str,
    form: Form,
    default: fn(&Part, &[&str]) -> Option<Value>,
    judge: Judge,
) -> Row {
    Row { key, form, default, judge }
}

fn none(_: &Part, _: &[&str]) -> Option<Value> {
    None
}

fn nothing(_: &Part, _: &[&str]) -> Option<Value> {
    Some(Value::Set(BTreeSet::new()))
}

/// Nothing to a team that no grant names; everything where there are no grants.
fn granted(part: &Part, _: &[&str]) -> Option<Value> {
    part.leaves.keys().any(|key| key.starts_with("owners.")).then(|| Value::Set(BTreeSet::new()))
}

fn no(_: &Part, _: &[&str]) -> Option<Value> {
    Some(Value::Flag(false))
}

fn zero(_: &Part, _: &[&str]) -> Option<Value> {
    Some(Value::Span(std::time::Duration::ZERO))
}

fn text(text: &str) -> Option<Value> {
    Some(Value::Text(text.to_owned()))
}

use Judge::{Amount, Bound, Changed, Flag, Gained, Large, List, Neutral, On, Taken};

/// What stands at the top and belongs to no part of its own.
pub const GATEWAY: &[Row] = &[
    row("version", Form::Any, none, Neutral),
    row("cache.file", Form::Any, none, Neutral),
    row("cache.maxObjects", Form::Any, none, Neutral),
    row("cache.size", Form::Any, |_, _| Some(Value::Size(DEFAULT_CACHE_BYTES)), Neutral),
    row("cache.maxObject", Form::Any, |_, _| Some(Value::Size(DEFAULT_MAX_OBJECT_BYTES)), Neutral),
    row("cache.favor", Form::Any, |_, _| text("requests"), Neutral),
    row("upgrade.socket", Form::Any, none, Neutral),
    row("upgrade.timeout", Form::Any, |_, _| Some(Value::Span(DEFAULT_UPGRADE_TIMEOUT)), Neutral),
    row("rateLimits.file", Form::Any, none, Neutral),
    row("rateLimits.keys", Form::Any, |_, _| Some(Value::Number(DEFAULT_KEYS.into())), Neutral),
    row("accessLog", Form::Whole, |_, _| text("stdout"), Neutral),
    row("shutdown.grace", Form::Any, |_, _| Some(Value::Span(DEFAULT_GRACE)), Neutral),
    row("shutdown.delay", Form::Any, zero, Neutral),
    row("owners.*.prefixes", Form::Set, granted, Gained(Kind::GrantWidened)),
    row("owners.*.hosts", Form::CaselessSet, none, Gained(Kind::GrantWidened)),
    row("owners.*.upstreams", Form::Set, granted, Gained(Kind::GrantWidened)),
    row("owners.*.secrets", Form::Set, granted, Gained(Kind::GrantWidened)),
    row("owners.*.maxRate", Form::Any, none, Bound(Kind::GrantWidened)),
    row("owners.*.maxTtl", Form::Any, none, Bound(Kind::GrantWidened)),
    row("owners.*.codeowners", Form::Set, nothing, Neutral),
];

/// `admin`.
pub const ADMIN: &[Row] =
    &[row("address", Form::Any, none, Neutral), row("token", Form::Secret, none, Neutral)];

/// One of `listeners`.
pub const LISTENER: &[Row] = &[
    row("name", Form::Skip, none, Neutral),
    row("address", Form::Any, none, Neutral),
    row("tls", Form::Block, none, Neutral),
    row("tls.certificates", Form::Whole, none, Neutral),
    row("http2", Form::Any, |part, _| Some(Value::Flag(part.has("tls"))), Neutral),
    row("trustedProxies", Form::Set, nothing, List(Kind::ProxiesTrusted, Kind::ProxiesDistrusted)),
    row(
        "timeouts.header",
        Form::Any,
        |_, _| Some(Value::Span(ClientTimeouts::default().header)),
        Large(Kind::TimeoutRaised, Kind::TimeoutLowered),
    ),
    row(
        "timeouts.body",
        Form::Any,
        |_, _| Some(Value::Span(ClientTimeouts::default().body)),
        Large(Kind::TimeoutRaised, Kind::TimeoutLowered),
    ),
    row(
        "timeouts.idle",
        Form::Any,
        |_, _| Some(Value::Span(ClientTimeouts::default().idle)),
        Large(Kind::TimeoutRaised, Kind::TimeoutLowered),
    ),
    row(
        "timeouts.write",
        Form::Any,
        |_, _| Some(Value::Span(ClientTimeouts::default().write)),
        Large(Kind::TimeoutRaised, Kind::TimeoutLowered),
    ),
    row(
        "maxConnections",
        Form::Any,
        |_, _| Some(Value::Number(DEFAULT_MAX_CONNECTIONS as u64)),
        Large(Kind::ConnectionsRaised, Kind::ConnectionsLowered),
    ),
    row(
        "maxConnectionsPerAddress",
        Form::Any,
        |_, _| Some(Value::Number(DEFAULT_MAX_CONNECTIONS_PER_ADDRESS as u64)),
        Large(Kind::ConnectionsRaised, Kind::ConnectionsLowered),
    ),
    row(
        "maxHeaderBytes",
        Form::Any,
        |_, _| Some(Value::Size(DEFAULT_MAX_HEADER_BYTES)),
        Large(Kind::ConnectionsRaised, Kind::ConnectionsLowered),
    ),
    row(
        "maxHeaders",
        Form::Any,
        |_, _| Some(Value::Number(DEFAULT_MAX_HEADERS as u64)),
        Large(Kind::ConnectionsRaised, Kind::ConnectionsLowered),
    ),
];

/// One of `secrets`.
pub const SECRET: &[Row] = &[
    row("env", Form::Any, none, Neutral),
    row("file", Form::Any, none, Neutral),
    row("keepLastGood", Form::Any, |_, _| Some(Value::Span(DEFAULT_KEEP_LAST_GOOD)), Neutral),
];

/// One of `upstreams`.
pub const UPSTREAM: &[Row] = &[
    row("kind", Form::Any, |_, _| text("api"), Neutral),
    row("url", Form::Endpoints, none, Neutral),
    row("endpoints", Form::Endpoints, none, Neutral),
    row("balance", Form::Any, |_, _| text("roundRobin"), Neutral),
    row(
        "allowPrivate",
        Form::Any,
        |part, _| Some(Value::Flag(part.upstream_kind == UpstreamKind::App)),
        Flag(Kind::PrivateAllowed, Kind::PrivateRefused),
    ),
    row("allowCleartext", Form::Any, no, On(Kind::CleartextAllowed)),
    row(
        "timeouts.connect",
        Form::Any,
        |_, _| Some(Value::Span(Timeouts::default().connect)),
        Large(Kind::TimeoutRaised, Kind::TimeoutLowered),
    ),
    row(
        "timeouts.request",
        Form::Any,
        |_, _| Some(Value::Span(Timeouts::default().request)),
        Large(Kind::TimeoutRaised, Kind::TimeoutLowered),
    ),
    row("timeouts.idle", Form::Any, |_, _| Some(Value::Span(Timeouts::default().idle)), Neutral),
    row(
        "retry.attempts",
        Form::Any,
        |_, _| Some(Value::Number(u64::from(Retry::default().attempts))),
        Neutral,
    ),
    row("retry.on", Form::Set, |_, _| Some(Value::Set(retried())), Neutral),
    row("retry.budget", Form::Any, |_, _| text(&format!("{}%", Retry::default().budget_percent)), Neutral),
    row("tls.ca", Form::Any, none, Changed(Kind::TlsTrustChanged)),
    row("tls.sni", Form::Caseless, none, Changed(Kind::TlsTrustChanged)),
    row("tls.clientCert", Form::Any, none, Changed(Kind::TlsTrustChanged)),
    row("tls.clientKey", Form::Any, none, Changed(Kind::TlsTrustChanged)),
    row("http2", Form::Any, no, Neutral),
    row("credential", Form::Credential, none, Neutral),
];

/// One of `routes`.
pub const ROUTE: &[Row] = &[
    row("name", Form::Skip, none, Neutral),
    row("match.hosts", Form::CaselessSet, nothing, Neutral),
    row("match.methods", Form::Set, nothing, Neutral),
    row("match.path", Form::Path, |_, _| text("prefix /"), Neutral),
    row("match.headers", Form::Named, none, Neutral),
    row("match.headers.*.exact", Form::Text, none, Neutral),
    row("match.headers.*.regex", Form::Text, none, Neutral),
    row("match.query", Form::Named, none, Neutral),
    row("match.query.*.exact", Form::Text, none, Neutral),
    row("match.query.*.regex", Form::Text, none, Neutral),
    row("upstream", Form::Any, none, Neutral),
    row("rewrite.replacePrefixMatch", Form::Prefix, same_prefix, Changed(Kind::RewriteChanged)),
    row("rewrite.replaceFullPath", Form::Text, none, Changed(Kind::RewriteChanged)),
    row("rewrite.query.keep", Form::Set, none, List(Kind::QueryForwarded, Kind::QueryDropped)),
    row("rewrite.query.set.*", Form::Text, none, Changed(Kind::RewriteChanged)),
    row("request.headers.set.*", Form::Text, none, Neutral),
    row("request.headers.add.*", Form::Text, none, Neutral),
    row(
        "request.headers.remove",
        Form::CaselessSet,
        nothing,
        Taken(Kind::HeaderForwarded, Kind::HeaderDropped),
    ),
    row(
        "request.headers.forward",
        Form::CaselessSet,
        nothing,
        List(Kind::HeaderForwarded, Kind::HeaderDropped),
    ),
    row("request.cookies.forward", Form::Set, cookies, List(Kind::CookieForwarded, Kind::CookieDropped)),
    row(
        "request.body.max",
        Form::Any,
        |part, _| {
            Some(Value::Size(match part.upstream_kind {
                UpstreamKind::Api => body_limit::API_MAX_BYTES,
                UpstreamKind::App => body_limit::APP_MAX_BYTES,
            }))
        },
        Amount(Kind::BodyLimitRaised, Kind::BodyLimitLowered),
    ),
    row("rateLimit", Form::Named, none, Neutral),
    row("rateLimit.*.requests", Form::Any, none, Neutral),
    row("rateLimit.*.window", Form::Any, none, Neutral),
    row("rateLimit.*.burst", Form::Any, as_many_as_requests, Neutral),
    row("rateLimit.*.key", Form::Any, |_, _| text("client.ip"), Neutral),
    row("concurrency", Form::Block, none, Neutral),
    row("concurrency.max", Form::Any, none, Neutral),
    row("concurrency.key", Form::Any, |_, _| text("route"), Neutral),
    row("cache", Form::Block, none, Neutral),
    row("cache.ttl", Form::Any, none, Neutral),
    row("cache.mode", Form::Any, |_, _| text("respect"), Neutral),
    row("cache.staleWhileRevalidate", Form::Any, zero, Neutral),
    row("cache.staleIfError", Form::Any, zero, Neutral),
    row("cache.heuristic", Form::Any, zero, Neutral),
    row("cache.negativeTtl", Form::Any, |_, _| Some(Value::Span(NEGATIVE_MAX)), Neutral),
    row("cache.requestDirectives", Form::Any, |_, _| text("ignore"), Neutral),
    row("cache.setCookie", Form::Any, |_, _| text("refuse"), Neutral),
    row("cache.ranges", Form::Any, |_, _| text("whole"), Neutral),
    row("cache.tags", Form::Set, nothing, Neutral),
    row("cache.key.query.ignore", Form::Set, nothing, Neutral),
    row("cache.key.headers", Form::CaselessSet, nothing, Neutral),
    row("cache.share", Form::Any, none, Neutral),
    row("cache.purge.from", Form::Set, nothing, Gained(Kind::PurgeGranted)),
    row("cache.purge.mode", Form::Any, |_, _| text("soft"), Neutral),
    row("response.json", Form::Block, none, Neutral),
    row("response.json.keep", Form::Set, none, List(Kind::JsonExposed, Kind::JsonFieldRemoved)),
    row("response.json.remove", Form::Set, nothing, Taken(Kind::JsonExposed, Kind::JsonFieldRemoved)),
    row("response.json.max", Form::Any, |_, _| Some(Value::Size(json::DEFAULT_MAX_BYTES)), Neutral),
    row("response.headers.set.*", Form::Text, none, Neutral),
    row("response.headers.add.*", Form::Text, none, Neutral),
    row(
        "response.headers.remove",
        Form::CaselessSet,
        nothing,
        Taken(Kind::ResponseHeaderAllowed, Kind::ResponseHeaderDropped),
    ),
    row(
        "response.headers.allow",
        Form::CaselessSet,
        nothing,
        List(Kind::ResponseHeaderAllowed, Kind::ResponseHeaderDropped),
    ),
    row(
        "response.errors",
        Form::Errors,
        |part, _| text(if part.upstream_kind == UpstreamKind::App { "pass" } else { "mask" }),
        Neutral,
    ),
    row(
        "upgrade",
        Form::Set,
        |part, _| {
            let app = part.upstream_kind == UpstreamKind::App && part.has("upstream");
            Some(Value::Set(app.then(|| "websocket".to_owned()).into_iter().collect()))
        },
        List(Kind::WebsocketAllowed, Kind::WebsocketRefused),
    ),
    row("redirect", Form::Block, none, Neutral),
    row("redirect.scheme", Form::Any, none, Changed(Kind::AnswerChanged)),
    row("redirect.host", Form::Caseless, none, Neutral),
    row("redirect.port", Form::Any, none, Changed(Kind::AnswerChanged)),
    row("redirect.path", Form::Text, none, Changed(Kind::AnswerChanged)),
    row("redirect.status", Form::Any, |_, _| Some(Value::Number(302)), Changed(Kind::AnswerChanged)),
    row("respond", Form::Block, none, Neutral),
    row("respond.status", Form::Any, |_, _| Some(Value::Number(200)), Changed(Kind::AnswerChanged)),
    row("respond.json", Form::Whole, none, Changed(Kind::AnswerChanged)),
    row("respond.text", Form::Text, none, Changed(Kind::AnswerChanged)),
    row("respond.headers.*", Form::Text, none, Changed(Kind::AnswerChanged)),
];

/// An `api` gets none unless listed, an `app` all.
fn cookies(part: &Part, steps: &[&str]) -> Option<Value> {
    if part.upstream_kind == UpstreamKind::Api { nothing(part, steps) } else { None }
}

fn retried() -> BTreeSet<String> {
    ["connect-failure", "502", "503"].map(str::to_owned).into()
}

fn as_many_as_requests(part: &Part, steps: &[&str]) -> Option<Value> {
    let (_, limit) = steps.split_last()?;
    part.value(&format!("{}.requests", limit.join(".")))
}

/// Without a rewrite the path goes as it came, as if its prefix were replaced by itself.
fn same_prefix(part: &Part, _: &[&str]) -> Option<Value> {
    if part.has("rewrite.replaceFullPath") {
        return None;
    }
    let path = part.value("match.path");
    let prefix = path.as_ref().and_then(Value::text)?.strip_prefix("prefix ")?;
    text(prefix)
}

/// The row of a key, if it has one.
pub fn find<'r>(rows: &'r [Row], steps: &[&str]) -> Option<&'r Row> {
    rows.iter().find(|row| {
        let mut pattern = row.key.split('.');
        let fits = steps.iter().all(|step| pattern.next().is_some_and(|part| part == "*" || part == *step));
        fits && pattern.next().is_none()
    })
}
