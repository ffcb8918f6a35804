//! `response.headers`: which fields of the upstream's answer reach the client, and what is added.
//!
//! From an `api` only what describes the content passes, and what `allow` names. From an `app` every end-to-end field passes but
//! those that tell what it runs on. `remove`, `set` and `add` come last and are part of what is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashSet;
use http::{HeaderName, HeaderValue, header};
use pingora::http::ResponseHeader;
use serde::Deserialize;

use super::{Build, Fault, Hooks, Policy, UpstreamKind};
use crate::config::{Section, codes};
use crate::exchange::Exchange;

/// What an `api`'s answer needs to be understood and cached. `content-*` passes as a family. `Location`, `Link` and the like were
/// mapped or removed by `origin` before.
const API_PASSES: [HeaderName; 15] = [
    header::ETAG,
    header::LAST_MODIFIED,
    header::CACHE_CONTROL,
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

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    add: BTreeMap<String, String>,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    allow: Vec<String>,
}

struct ResponseHeaders {
    passes: Option<AHashSet<HeaderName>>,
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

/// Compiles the lists; they apply without a section too.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let spec: Spec = section.and_then(|s| s.decode(build.problems)).unwrap_or_default();
    build.upstream.as_ref()?;
    let everything = spec.allow.iter().any(|name| name == "*");
    let allow = names(section, "allow", spec.allow.iter().filter(|name| *name != "*"), build);
    let remove = names(section, "remove", spec.remove.iter(), build);
    let set = fields(section, "set", &spec.set, build);
    let add = fields(section, "add", &spec.add, build);
    let passes = (build.kind() == UpstreamKind::Api && !everything)
        .then(|| API_PASSES.into_iter().chain(allow.iter().cloned()).collect());
    let hidden = APP_HIDES
        .iter()
        .map(|name| HeaderName::from_static(name))
        .filter(|name| build.kind() == UpstreamKind::App && !allow.contains(name));
    let remove = hidden.chain(remove).collect();
    Some(Arc::new(ResponseHeaders { passes, remove, set, add }))
}

fn names<'a>(
    section: Option<&Section>,
    key: &str,
    written: impl Iterator<Item = &'a String>,
    build: &mut Build<'_>,
) -> Vec<HeaderName> {
    written.filter_map(|name| name_of(section, key, name, build)).collect()
}

fn fields(
    section: Option<&Section>,
    key: &str,
    written: &BTreeMap<String, String>,
    build: &mut Build<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut list = Vec::with_capacity(written.len());
    for (name, value) in written {
        let Some(parsed) = name_of(section, key, name, build) else { continue };
        match HeaderValue::try_from(value.as_str()) {
            Ok(value) => list.push((parsed, value)),
            Err(_) => report(section, key, build, format!("the value of `{name}` cannot be sent")),
        }
    }
    list
}

fn name_of(section: Option<&Section>, key: &str, name: &str, build: &mut Build<'_>) -> Option<HeaderName> {
    let parsed = HeaderName::try_from(name).ok();
    if parsed.is_none() {
        report(section, key, build, format!("`{name}` is no header name"));
    }
    let framing = parsed.as_ref().is_some_and(|name| {
        matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection" | "upgrade" | "trailer")
    });
    if framing {
        report(section, key, build, format!("`{name}` belongs to the connection, not to the message"));
        return None;
    }
    if key == "allow" && parsed.as_ref() == Some(&header::SET_COOKIE) && build.kind() == UpstreamKind::Api {
        report(section, key, build, "cookies of an `api` never pass".into());
        return None;
    }
    parsed
}

fn report(section: Option<&Section>, key: &str, build: &mut Build<'_>, message: String) {
    if let Some(section) = section {
        let place = section.get(key);
        build.problems.error(codes::BAD_VALUE, place.as_ref().unwrap_or(section).path(), message);
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
                        && !name.as_str().starts_with("content-")
                        && !name.as_str().starts_with("sec-websocket-")
                })
                .cloned()
                .collect();
            for name in &unwanted {
                head.remove_header(name);
            }
        }
        for name in &self.remove {
            head.remove_header(name);
        }
        for (name, value) in &self.set {
            head.insert_header(name.clone(), value.clone()).map_err(|_| Fault::Internal)?;
        }
        for (name, value) in &self.add {
            head.append_header(name.clone(), value.clone()).map_err(|_| Fault::Internal)?;
        }
        Ok(())
    }
}
