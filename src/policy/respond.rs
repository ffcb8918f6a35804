//! `respond`: a fixed answer instead of an upstream: a mock, a maintenance page, a `robots.txt`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::reply::Body;
use super::told::{Telling, Told};
use super::{Build, Hooks, Policy, Reply, Verdict};
use crate::config::{Section, codes, shape};
use crate::exchange::Exchange;

/// A fixed answer of the gate itself, instead of asking an upstream: a mock, a maintenance page, a `robots.txt`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("not" = { "required": ["json", "text"] }))]
pub(super) struct Spec {
    /// The status of the answer.
    #[schemars(range(min = 200, max = 599), extend("default" = 200))]
    status: Option<u16>,
    /// The body as JSON, written as YAML; sent as `application/json`. This or `text`. Default: no body.
    #[schemars(
        extend("$comment" = "anything", "type" = ["object", "array", "string", "number", "boolean"]),
        example = serde_json::json!({ "hello": "world" })
    )]
    json: Option<serde_json::Value>,
    /// The body as text; sent as `text/plain; charset=utf-8`. This or `json`. Default: no body.
    #[schemars(example = &"hello")]
    text: Option<String>,
    /// Further headers of the answer. Default: none.
    #[serde(default)]
    #[schemars(with = "BTreeMap<shape::HeaderField, String>", example = serde_json::json!({ "cache-control": "no-store" }))]
    headers: BTreeMap<String, String>,
}

struct Respond(Reply);

/// Compiles the answer; `status` is 200 where it is not written.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let section = section?;
    let spec = section.decode::<Spec>(build.problems)?;
    let status = spec.status.unwrap_or(200);
    let Some(status) = StatusCode::from_u16(status).ok().filter(|s| (200..600).contains(&s.as_u16())) else {
        build
            .problems
            .error(
                codes::BAD_VALUE,
                section.at("status").path(),
                format!("`{status}` is no status of a final answer"),
            )
            .help("use 200 to 599");
        return None;
    };
    let body = match (spec.json, spec.text) {
        (Some(_), Some(_)) => {
            build
                .problems
                .error(codes::BAD_VALUE, section.at("text").path(), "`json` and `text` exclude each other")
                .on_key()
                .related(section.at("json").path(), "the other one")
                .help("an answer has one body: keep one of them");
            return None;
        }
        (Some(json), None) => Body::Fixed {
            media_type: HeaderValue::from_static("application/json"),
            bytes: Bytes::from(json.to_string()),
        },
        (None, Some(text)) => Body::Fixed {
            media_type: HeaderValue::from_static("text/plain; charset=utf-8"),
            bytes: Bytes::from(text),
        },
        (None, None) => Body::Empty,
    };
    let mut headers = Vec::with_capacity(spec.headers.len());
    for (name, value) in &spec.headers {
        match (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            _ => {
                let at = section.at("headers").at(name);
                if HeaderName::try_from(name.as_str()).is_err() {
                    super::fields::no_header_name(name, &at, build.problems);
                } else {
                    let message = format!("the value of `{name}` cannot be sent");
                    build
                        .problems
                        .error(codes::BAD_VALUE, at.path(), message)
                        .help("a header's value is one line of visible characters and spaces");
                }
            }
        }
    }
    Some(Arc::new(Respond(Reply { status, code: "respond", headers, body })))
}

impl Policy for Respond {
    fn hooks(&self) -> Hooks {
        Hooks { request: true, ..Hooks::default() }
    }

    fn request_filter(&self, _exchange: &mut Exchange) -> Verdict {
        Verdict::Respond(Box::new(self.0.clone()))
    }

    fn explain(&self, _telling: &Telling<'_>) -> Option<Told> {
        let status = self.0.status.as_u16();
        let bytes = match &self.0.body {
            Body::Fixed { bytes, .. } => bytes.len(),
            Body::Problem | Body::Empty => 0,
        };
        let words = format!("answers {status} by itself, with a body of {bytes} bytes; no upstream is asked");
        let data = serde_json::json!({ "status": status, "bodyBytes": bytes });
        Some(Told { reply: Some(Box::new(self.0.clone())), ..Told::new([words], data) })
    }
}
