//! A case as written: one request or several, what the upstreams answer meanwhile, and what has to come of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::{Matcher, OneOrMany, Text, Word};
use crate::config::shape;
use crate::config::units::Timespan;
use crate::names::UpstreamName;

/// One thing that this configuration is to do, tried by `portcullis test` with fresh limits and an empty cache, without a network and
/// without a secret. A running gateway does not look at it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CaseSpec {
    /// What is proved, in words; what `--filter` looks for.
    pub name: String,
    /// The request. With `steps`: of every step that has none of its own.
    pub send: Option<Send>,
    /// What the upstreams answer, by name. An upstream that is called and stands neither here nor in the step fails the case. With
    /// `steps`: for every step, where the step does not name the upstream itself. A list is used up one answer a call, over all steps.
    #[schemars(with = "Option<BTreeMap<UpstreamName, OneOrMany<Answer>>>")]
    pub stub: Option<BTreeMap<String, OneOrMany<Answer>>>,
    /// What has to come of the request. Not with `steps`.
    pub expect: Option<Expect>,
    /// Several requests, one after the other, with one cache, one set of limits and one clock. Instead of `expect`.
    #[schemars(length(min = 1, max = MAX_STEPS))]
    pub steps: Option<Vec<StepSpec>>,
}

#[expect(dead_code, reason = "read key by key; this is the list of them")]
/// Cases in a file of their own, `NAME.test.yaml`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Portcullis tests")]
pub struct CasesFileSpec {
    /// The configuration that is tried, relative to this file. Default: what `--config` names.
    #[schemars(example = &"portcullis.yaml")]
    config: Option<String>,
    /// The cases.
    tests: Vec<CaseSpec>,
}

/// One step of a case: some time that passes, then a request. With `wait` alone only time passes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StepSpec {
    /// How much time passes before the request, for limits and for what is stored. Nobody waits for it. Default: none.
    #[schemars(example = &"61s")]
    pub wait: Option<Timespan>,
    /// How often the request is sent; `expect` holds for each. Default: once.
    #[schemars(range(min = 1, max = MAX_REPEAT))]
    pub repeat: Option<u32>,
    /// The request. Default: that of the case.
    pub send: Option<Send>,
    /// What the upstreams answer in this step, by name. Default: what the case says.
    #[schemars(with = "Option<BTreeMap<UpstreamName, OneOrMany<Answer>>>")]
    pub stub: Option<BTreeMap<String, OneOrMany<Answer>>>,
    /// What has to come of the request.
    pub expect: Option<Expect>,
}

/// The request of a client, over HTTP/1.1.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("not" = { "required": ["json", "body"] }))]
pub struct Send {
    /// The method. Default: GET.
    #[schemars(example = &"POST")]
    pub method: Option<String>,
    /// Path and query, as they are to stand in the request line.
    #[schemars(example = &"/api/weather/oslo?lang=no")]
    pub path: String,
    /// Header fields; a list sends a field several times. `host` is `gateway.example` unless it is written here.
    #[serde(default)]
    pub headers: BTreeMap<String, OneOrMany<Text>>,
    /// The body as text. This or `json`. Default: no body.
    pub body: Option<String>,
    /// The body as JSON, written as YAML; sent as `application/json` unless `headers` say otherwise. This or `body`. Default: no body.
    #[schemars(extend("$comment" = "anything", "type" = ["object", "array", "string", "number", "boolean"]))]
    pub json: Option<serde_json::Value>,
    /// The client's address. Default: 192.0.2.1.
    #[schemars(with = "Option<String>", example = &"203.0.113.7")]
    pub from: Option<IpAddr>,
    /// The listener that it comes in by; one with `tls` takes it as sent over TLS. Default: the first.
    pub listener: Option<String>,
}

/// What an upstream does when it is called: `refused`, `timeout`, or an answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It takes no connection.
    Refused,
    /// It takes the request and says nothing, until `timeouts.request` is over.
    Timeout,
    /// It answers.
    Reply(Reply),
}

/// An answer of an upstream. In every text of it `<secret:NAME>` stands for the value of a secret and `<upstream:NAME>` for the host of
/// an upstream, so that an answer can try to give them away.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("not" = { "required": ["json", "body"] }))]
pub struct Reply {
    /// The status. Default: 200.
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u16>,
    /// Header fields; a list sends a field several times.
    #[serde(default)]
    pub headers: BTreeMap<String, OneOrMany<Text>>,
    /// The body as JSON, written as YAML; sent as `application/json` unless `headers` say otherwise. This or `body`. Default: no body.
    #[schemars(extend("$comment" = "anything", "type" = ["object", "array", "string", "number", "boolean"]))]
    pub json: Option<serde_json::Value>,
    /// The body as text. This or `json`. Default: no body.
    pub body: Option<String>,
    /// How long it takes to answer. Nobody waits for it: the clock is moved. From `timeouts.request` on it is as `timeout`. Default: at once.
    pub delay: Option<Timespan>,
    /// The connection breaks in the middle of the body. Default: false.
    pub broken: Option<bool>,
}

/// What has to come of a request. What is not written is not looked at, but for secrets and the hosts of `kind: api` upstreams: no
/// answer may ever name them, in status line, header fields, trailer fields or body.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expect {
    /// The route that takes it; `none`: no route does. Default: not looked at.
    #[schemars(with = "Option<shape::RouteReference>")]
    pub route: Option<String>,
    /// The one request that an upstream gets. Default: not looked at.
    pub upstream_request: Option<Received>,
    /// How many requests upstreams get, or what each of them is, in order. Connections that were refused count too. Default: not looked at.
    pub upstream_requests: Option<Count>,
    /// The status of the answer. Default: not looked at.
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// Header fields of the answer. A field that was sent several times is compared joined by `, `. Default: not looked at.
    #[serde(default)]
    pub headers: BTreeMap<String, Matcher>,
    /// The body is this JSON: no member more, no member less; the order of members does not count. Default: not looked at.
    #[schemars(extend("$comment" = "anything", "type" = ["object", "array", "string", "number", "boolean"]))]
    pub json: Option<serde_json::Value>,
    /// The body is JSON that has at least these members; lists must be as long and each element must have at least what is written. Default: not looked at.
    #[schemars(extend("$comment" = "anything", "type" = ["object", "array", "string", "number", "boolean"]))]
    pub json_contains: Option<serde_json::Value>,
    /// The body as text. Default: not looked at.
    pub body: Option<Matcher>,
    /// What the cache did. Default: not looked at.
    pub cache: Option<CacheWord>,
    /// Whether this answer was stored. Default: not looked at.
    pub stored: Option<bool>,
    /// What a rate limit of the route says is left. Default: not looked at.
    pub limit: Option<LimitExpect>,
    /// Whether a rate limit refused it (429). Default: not looked at.
    pub limited: Option<bool>,
    /// What must not stand anywhere in the answer: `<secret:NAME>`, `<secret:*>`, `<upstream:NAME>`, `<upstream:*>`, a JSON path such as
    /// `$.internal_id` that must lead to nothing, or any other text. Default: none but what never may.
    #[serde(default)]
    #[schemars(example = ["$.internal_id"])]
    pub never: Vec<String>,
    /// The hosts of `kind: api` upstreams that may stand in the answer all the same: `<upstream:NAME>`. For secrets there is no such way. Default: none.
    #[serde(default)]
    pub allow: Vec<String>,
    /// The connection is cut before the answer is whole. Default: false.
    pub cut: Option<bool>,
}

/// A request as an upstream gets it. A secret reads `<secret:NAME>` here, in a `Basic` credential too.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Received {
    /// Which upstream gets it. Default: not looked at.
    #[schemars(with = "Option<UpstreamName>")]
    pub upstream: Option<String>,
    /// Its method. Default: not looked at.
    pub method: Option<Word>,
    /// Its path without the query. Default: not looked at.
    pub path: Option<Matcher>,
    /// Parameters of the query, decoded. Default: not looked at.
    #[serde(default)]
    pub query: BTreeMap<String, Matcher>,
    /// Header fields; `host` is where it would have gone. Default: not looked at.
    #[serde(default)]
    pub headers: BTreeMap<String, Matcher>,
    /// The body is this JSON. Default: not looked at.
    #[schemars(extend("$comment" = "anything", "type" = ["object", "array", "string", "number", "boolean"]))]
    pub json: Option<serde_json::Value>,
    /// The body is JSON that has at least these members. Default: not looked at.
    #[schemars(extend("$comment" = "anything", "type" = ["object", "array", "string", "number", "boolean"]))]
    pub json_contains: Option<serde_json::Value>,
    /// The body as text. Default: not looked at.
    pub body: Option<Matcher>,
}

/// How many requests, or which.
#[derive(Debug)]
pub enum Count {
    /// So many.
    Number(u32),
    /// These, in order.
    Each(Vec<Received>),
}

/// What is left of a rate limit after the request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LimitExpect {
    /// Which limit of the route. Default: `default`.
    pub name: Option<String>,
    /// How many requests are left.
    pub remaining: u32,
}

/// What the cache did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheWord {
    /// Answered from the store, fresh.
    Hit,
    /// Nothing was stored, or it is too old; the upstream sent the answer.
    Miss,
    /// Answered from the store though it is no longer fresh.
    Stale,
    /// What was stored is too old; the upstream confirmed it.
    Revalidated,
    /// The upstream was asked, and its answer must not be stored.
    Uncacheable,
    /// The cache was not used for this request, as for a POST, or on a route without `cache`.
    Bypass,
}

impl CacheWord {
    /// As it is written, and as the access log has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Uncacheable => "uncacheable",
            Self::Bypass => "bypass",
        }
    }
}

/// The most steps of a case.
pub const MAX_STEPS: usize = 100;
/// The most that a step is repeated.
pub const MAX_REPEAT: u32 = 10_000;
