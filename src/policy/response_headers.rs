//! `response.headers`: which fields of the upstream's answer reach the client, and what is added.
//!
//! From an `api` only what describes the content passes, and what `allow` names. From an `app` every end-to-end field passes but
//! those that tell what it runs on. `remove`, `set` and `add` come last and are part of what is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashSet;
use http::{HeaderName, header};
use pingora::http::ResponseHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{FieldEdits, Reader};
use super::told::{self, Telling, Told};
use super::{Build, Fault, Hooks, Policy, UpstreamKind};
use crate::config::{Section, shape};
use crate::exchange::Exchange;

/// What an `api`'s answer needs to be understood and cached. `content-*` passes as a family. `Location`, `Link` and the like were
/// mapped or removed by `origin` before.
const API_PASSES: [HeaderName; 16] = [
    header::ETAG,
    header::LAST_MODIFIED,
    header::CACHE_CONTROL,
    HeaderName::from_static("cdn-cache-control"),
    header::EXPIRES,
    header::AGE,
    header::DATE,
    header::VARY,
    header::ACCEPT_RANGES,
    header::ALLOW,
    header::LOCATION,
    header::LINK,
    header::REFRESH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
];

/// What an `app`'s answer says about what it runs on, and what would lead clients past the gate.
const APP_HIDES: [&str; 4] = ["server", "via", "x-powered-by", "alt-svc"];

/// The headers of the answer that goes to the client. First what does not pass is dropped, then `remove`, `set` and `add` are done, in
/// this order; what they make is what is cached.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Spec {
    /// Headers with these values, in place of the upstream's. Default: none.
    #[serde(default)]
    #[schemars(with = "BTreeMap<shape::HeaderField, String>", example = serde_json::json!({ "x-frame-options": "DENY" }))]
    set: BTreeMap<String, String>,
    /// Headers with these values, beside the upstream's. Default: none.
    #[serde(default)]
    #[schemars(with = "BTreeMap<shape::HeaderField, String>", example = serde_json::json!({ "x-served-by": "gate" }))]
    add: BTreeMap<String, String>,
    /// Headers that the client does not get. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<shape::HeaderField>", example = ["expires"])]
    remove: Vec<String>,
    /// For an `api`: the upstream's headers that pass besides the usual (`content-*`, `etag`, `last-modified`, `cache-control`,
    /// `cdn-cache-control`, `expires`, `age`, `date`, `vary`, `accept-ranges`, `allow`); `["*"]` passes all. Of an `app` every header passes but those that tell what it
    /// runs on (`server`, `via`, `x-powered-by`, `alt-svc`), unless they are named here. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<shape::HeaderField>", example = ["x-request-cost"])]
    allow: Vec<String>,
}

struct ResponseHeaders {
    passes: Option<AHashSet<HeaderName>>,
    edits: FieldEdits,
}

/// Compiles the lists; they apply without a section too.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let spec: Spec = section.and_then(|s| s.decode(build.problems)).unwrap_or_default();
    if build.upstream.is_none() {
        if let Some(section) = section {
            build.no_effect(
                section,
                "there is no upstream whose answer would be changed; `respond` has its own `headers`",
            );
        }
        return None;
    }
    let everything = spec.allow.iter().any(|name| name == "*");
    let reader = Reader { section, refuses: &refuses };
    let allow = reader.names("allow", spec.allow.iter().filter(|name| *name != "*"), build);
    let mut edits = FieldEdits {
        remove: reader.names("remove", spec.remove.iter(), build),
        set: reader.fields("set", &spec.set, build),
        add: reader.fields("add", &spec.add, build),
    };
    let passes = (build.kind() == UpstreamKind::Api && !everything)
        .then(|| API_PASSES.into_iter().chain(allow.iter().cloned()).collect());
    let hidden = APP_HIDES
        .iter()
        .map(|name| HeaderName::from_static(name))
        .filter(|name| build.kind() == UpstreamKind::App && !allow.contains(name));
    edits.remove.extend(hidden);
    Some(Arc::new(ResponseHeaders { passes, edits }))
}

/// Whether a field describes the content: the family `content-*`, but not the policies that speak of other places.
fn is_about_content(name: &str) -> bool {
    name.starts_with("content-") && !name.starts_with("content-security-policy")
}

/// Why a field cannot be allowed, set, added or removed.
fn refuses(name: &HeaderName, key: &str, build: &Build<'_>) -> Option<&'static str> {
    match name.as_str() {
        "content-length" | "transfer-encoding" | "connection" | "upgrade" | "trailer" => {
            Some("belongs to the connection, not to the message")
        }
        "set-cookie" if key == "allow" && build.kind() == UpstreamKind::Api => {
            Some("of an `api` never passes")
        }
        _ => None,
    }
}

impl Policy for ResponseHeaders {
    fn hooks(&self) -> Hooks {
        Hooks { upstream_response: true, ..Hooks::default() }
    }

    fn upstream_response_filter(
        &self,
        head: &mut ResponseHeader,
        _exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        if let Some(passes) = &self.passes {
            let unwanted: Vec<HeaderName> = head
                .headers
                .keys()
                .filter(|name| {
                    !passes.contains(*name)
                        && !is_about_content(name.as_str())
                        && !name.as_str().starts_with("sec-websocket-")
                })
                .cloned()
                .collect();
            for name in &unwanted {
                head.remove_header(name);
            }
        }
        self.edits.apply(head)
    }

    fn explain(&self, _telling: &Telling<'_>) -> Option<Told> {
        let mut passes: Vec<&str> = self.passes.iter().flatten().map(HeaderName::as_str).collect();
        passes.sort_unstable();
        let edits = &self.edits;
        let removed: Vec<&str> = edits.remove.iter().map(HeaderName::as_str).collect();
        let allowed: Vec<&str> = self
            .passes
            .iter()
            .flatten()
            .filter(|name| !API_PASSES.contains(name))
            .map(HeaderName::as_str)
            .collect();
        let mut words = vec![match &self.passes {
            Some(_) if allowed.is_empty() => {
                "only fields that describe the content reach the client; `response.headers.allow` lets more pass".to_owned()
            }
            Some(_) => format!("only fields that describe the content reach the client, and {}", told::listed(&allowed)),
            None => "every end-to-end field reaches the client".to_owned(),
        }];
        if !removed.is_empty() {
            words.push(format!("removes {}", told::listed(&removed)));
        }
        words.extend(edits.words());
        let data = serde_json::json!({
            "passes": self.passes.as_ref().map(|_| passes),
            "remove": removed,
            "set": edits.set_names(),
            "add": edits.added_names(),
        });
        Some(Told::new(words, data))
    }
}
