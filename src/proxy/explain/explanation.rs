//! What is told of a request: plain data with a stable shape (`version: 1`). Keys are added, never renamed and never given another
//! meaning; `docs/explain.md` describes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the shape.
pub const VERSION: u32 = 1;

/// What would happen to a request, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// [`VERSION`].
    pub version: u32,
    /// The request as the gateway understands it.
    pub request: Understood,
    /// What happens to it, without where that is written.
    pub outcome: Outcome,
    /// The route that takes it.
    pub route: Option<Taken>,
    /// The routes that nearly took it, the nearest first.
    pub near_misses: Vec<NearMiss>,
    /// Each decision in the order of execution.
    pub steps: Vec<Step>,
    /// What only a running gateway knows; absent where none was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Now>,
}

impl Explanation {
    /// The part that two configurations can be compared by: no file, no line, no moment.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }
}

/// The request as the gateway understands it. What was not reached is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Understood {
    /// The listener it comes in by.
    pub listener: String,
    /// The method.
    pub method: String,
    /// The URL or path as it was asked for.
    pub url: String,
    /// The target of the request line.
    pub target: String,
    /// `http` or `https`, as the client's side sees it.
    pub scheme: String,
    /// The host, normalised, without port.
    pub host: String,
    /// The path, normalised.
    pub path: String,
    /// The query, as it came.
    pub query: Option<String>,
    /// The other end of the connection.
    pub peer: String,
    /// The client that is limited and told of.
    pub client: String,
}

/// What happens in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Refused before a route was looked for: malformed, or too large.
    Refused,
    /// No route takes it: 404.
    NotFound,
    /// Another method would be taken: 405.
    MethodNotAllowed,
    /// The gateway answers by itself.
    Answered,
    /// It goes to an upstream, unless the cache has the answer or a limit is used up.
    Forwarded,
}

/// What happens to a request, as far as the configuration and the request decide it. Comparable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What happens in the end.
    pub verdict: Verdict,
    /// The status, where the answer is ours.
    pub status: Option<u16>,
    /// The stable code of the answer, where it is ours.
    pub code: Option<String>,
    /// The route's name.
    pub route: Option<String>,
    /// The answer, where it is ours.
    pub answer: Option<Answer>,
    /// Where it goes.
    pub upstream: Option<Destination>,
    /// What is sent there, if the answer is not in the cache.
    pub sent: Option<Sent>,
    /// What each policy decides, by its key in the YAML.
    pub decisions: BTreeMap<String, Value>,
}

/// An answer of the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Name and value of each field that depends on the configuration or the request; ids and limits are left out.
    pub fields: Vec<(String, String)>,
    /// The body; empty where it is a problem document, whose `code` says all.
    pub body: String,
}

/// An upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// `api` or `app`.
    pub kind: String,
    /// Scheme, host and port of each endpoint.
    pub endpoints: Vec<String>,
}

/// The request as it is sent to the upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// Path and query; a secret as `<secret:name>`.
    pub target: String,
    /// Names in lower case with their values, sorted; a secret as `<secret:name>`, an id that is made for each request as
    /// `<request id>`.
    pub fields: Vec<(String, String)>,
}

/// A route that takes a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// File and line.
    pub place: String,
    /// Why, in words.
    pub because: String,
}

/// A route that nearly took a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearMiss {
    /// Its name.
    pub route: String,
    /// File and line.
    pub place: String,
    /// Why it did not.
    pub reasons: Vec<Reason>,
}

/// Why a route did not take a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// `host`, `path`, `method`, `header`, `query`, or `precedence` where it matches as well.
    pub what: String,
    /// The same in words.
    pub words: String,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// A policy's key in the YAML, or the part of the journey: `listener`, `path`, `client`, `route`, `upstream`, `sent`.
    pub key: String,
    /// File and line; of the default's reason where nothing is written.
    pub place: Option<String>,
    /// Which default it follows from, where nothing is written: such as `kind: api`.
    pub default: Option<String>,
    /// Plain statements.
    pub words: Vec<String>,
}

/// What holds in a running gateway at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Now {
    /// The fingerprint of the configuration in force.
    pub fingerprint: String,
    /// Whether the file on disk is that configuration; absent where it cannot be read.
    pub same_as_file: Option<bool>,
    /// What holds now, by the key of the step: remaining requests, a stored answer, endpoints, whether a secret is loaded.
    pub now: BTreeMap<String, Value>,
}
