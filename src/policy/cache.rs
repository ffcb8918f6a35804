//! `cache`: whether and how answers of a route are stored. The settings only; the work is `cache/`'s.
//!
//! `cache: {}` means: as the upstream says. A `ttl` speaks where the upstream says nothing, `mode: override` lets it win.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde::Deserialize;

use super::{Build, Policy, Told, UpstreamKind, told};
use crate::cache::key::Pattern;
use crate::config::units::Timespan;
use crate::config::{Section, codes};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    ttl: Option<Timespan>,
    mode: Option<Mode>,
    stale_while_revalidate: Option<Timespan>,
    stale_if_error: Option<Timespan>,
    key: Option<KeySpec>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Respect,
    Override,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct KeySpec {
    query: Option<QuerySpec>,
    #[serde(default)]
    headers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct QuerySpec {
    #[serde(default)]
    ignore: Vec<String>,
}

/// How one route caches.
#[derive(Debug, Clone, Default)]
pub struct CacheSettings {
    /// Freshness where the upstream says nothing.
    pub ttl: Option<Duration>,
    /// `mode: override`: `ttl` wins over what the upstream says.
    pub overrides: bool,
    /// How long a stale answer may be given while a new one is fetched (RFC 5861 §3).
    pub stale_while_revalidate: Option<Duration>,
    /// How long a stale answer may be given while the upstream fails (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
    /// Query parameters that are no part of the key; a `*` at the end stands for any rest.
    pub ignored_parameters: Vec<Pattern>,
    /// Request fields that are part of the key.
    pub key_headers: Vec<HeaderName>,
    /// Whether the rules of an `app` apply: cookies reach the upstream.
    pub app: bool,
}

impl CacheSettings {
    /// What may be stored, and for how long, for people.
    #[must_use]
    pub fn explain(&self) -> Told {
        let mut words = vec![match (self.ttl, self.overrides) {
            (Some(ttl), true) => format!(
                "an answer is stored for {}, whatever the upstream says of it but `no-store` and `private`",
                told::span(ttl)
            ),
            (Some(ttl), false) => format!(
                "an answer is stored as the upstream says, for {} where it says nothing",
                told::span(ttl)
            ),
            (None, _) => "an answer is stored only where the upstream says for how long".to_owned(),
        }];
        if let Some(window) = self.stale_while_revalidate {
            words.push(format!(
                "for {} after that the old answer is given at once while a new one is fetched",
                told::span(window)
            ));
        }
        if let Some(window) = self.stale_if_error {
            words.push(format!(
                "for {} after that the old answer is given where the upstream fails",
                told::span(window)
            ));
        }
        words.push("never stored: an answer with `set-cookie`, a part of one, and what a client's `authorization` or cookies brought, \
                    unless it says that it may be shared"
            .to_owned());
        let seconds = |span: Option<Duration>| span.map(|span| span.as_secs_f64());
        let data = serde_json::json!({
            "ttlSeconds": seconds(self.ttl),
            "mode": if self.overrides { "override" } else { "respect" },
            "staleWhileRevalidateSeconds": seconds(self.stale_while_revalidate),
            "staleIfErrorSeconds": seconds(self.stale_if_error),
            "ignoredParameters": self.ignored_parameters.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "keyHeaders": self.key_headers.iter().map(HeaderName::as_str).collect::<Vec<_>>(),
        });
        Told::new(words, data)
    }
}

/// Sets how the route caches.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let section = section?;
    section.check_keys(
        &["ttl", "mode", "staleWhileRevalidate", "staleIfError", "key"],
        &["share", "tags", "methods", "zone"],
        build.problems,
    );
    let spec = section.decode::<Spec>(build.problems)?;
    if build.upstream.is_none() {
        build.problems.error(
            codes::NO_EFFECT,
            section.path(),
            "there is no upstream whose answers could be cached",
        );
        return None;
    }
    let overrides = spec.mode == Some(Mode::Override);
    if overrides && spec.ttl.is_none() {
        build
            .problems
            .error(codes::NO_EFFECT, section.path(), "`mode: override` without a `ttl` overrides nothing")
            .help("add `ttl: 60s`");
    }
    let (ignored, headers) = spec
        .key
        .map(|key| (key.query.map(|q| q.ignore).unwrap_or_default(), key.headers))
        .unwrap_or_default();
    let mut ignored_parameters = Vec::with_capacity(ignored.len());
    for text in &ignored {
        match Pattern::parse(text) {
            Ok(pattern) => ignored_parameters.push(pattern),
            Err(_) => {
                build
                    .problems
                    .error(codes::BAD_PATTERN, section.path(), format!("`{text}` is no parameter to ignore"))
                    .help("a name, or its beginning with `*`, such as `utm_*`");
            }
        }
    }
    let mut key_headers = Vec::with_capacity(headers.len());
    for name in &headers {
        match HeaderName::try_from(name.as_str()) {
            Ok(name) => key_headers.push(name),
            Err(_) => {
                build.problems.error(codes::BAD_VALUE, section.path(), format!("`{name}` is no header name"));
            }
        }
    }
    build.settings.cache = Some(CacheSettings {
        ttl: spec.ttl.map(|span| span.0),
        overrides,
        stale_while_revalidate: spec.stale_while_revalidate.map(|span| span.0),
        stale_if_error: spec.stale_if_error.map(|span| span.0),
        ignored_parameters,
        key_headers,
        app: build.kind() == UpstreamKind::App,
    });
    None
}
