//! `cache`: whether and how answers of a route are stored. The settings only; the work is `cache/`'s.
//!
//! `cache: {}` means: as the upstream says. A `ttl` speaks where the upstream says nothing, `mode: override` lets it win.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Build, Policy, Told, UpstreamKind, fields, told};
use crate::cache::key::Pattern;
use crate::config::units::Timespan;
use crate::config::{Section, codes, shape};

/// Keep the upstream's answers, after they were cleaned and shaped, and give them to others who ask the same (RFC 9111). `cache: {}` keeps
/// what the upstream allows, for as long as it says. Without this key nothing is kept.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Spec {
    /// How long an answer is fresh where the upstream says nothing about it. Default: an answer without a lifetime is not kept.
    #[schemars(example = &"60s")]
    ttl: Option<Timespan>,
    /// Whose word counts for how long an answer is fresh.
    #[schemars(extend("default" = "respect"))]
    mode: Option<Mode>,
    /// How long after its lifetime an old answer is still given at once, while a new one is fetched behind it (RFC 5861 §3). Default: not
    /// at all.
    #[schemars(example = &"5m")]
    stale_while_revalidate: Option<Timespan>,
    /// How long after its lifetime an old answer is still given while the upstream fails (RFC 5861 §4). Default: not at all.
    #[schemars(example = &"1h")]
    stale_if_error: Option<Timespan>,
    /// What makes two requests different, besides method, host, path and query.
    key: Option<KeySpec>,
    /// Who may be given an answer that a client's `authorization` or cookies brought. Required where they reach a `kind: api`. Default: from
    /// a `kind: app` such an answer is kept only where it says `public` or `s-maxage`.
    share: Option<Share>,
}

/// Who may be given an answer that a client's identity brought.
#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Share {
    /// Everybody: the answer is the same, whoever asks.
    Public,
    /// Only who asks with the same `authorization` and cookies, as far as they reach the upstream.
    PerIdentity,
}

#[derive(Deserialize, Clone, Copy, PartialEq, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// The upstream's; `ttl` speaks where it says nothing.
    Respect,
    /// `ttl` wins over what the upstream says.
    Override,
}

/// What makes two requests different, besides method, host, path and query.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct KeySpec {
    /// Which query parameters count.
    query: Option<QuerySpec>,
    /// Request headers that count too; a `Vary` of the upstream always does. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<shape::HeaderField>", example = ["accept-language"])]
    headers: Vec<String>,
}

/// Which query parameters count.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct QuerySpec {
    /// Query parameters that make no difference; they are not sent upstream either. One `*` at the end stands for any rest. Default: none.
    #[serde(default)]
    #[schemars(inner(regex(pattern = r"^[^*]+\*?$")), example = ["utm_*", "fbclid"])]
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
    /// Who may be given an answer that a client's identity brought; `None`: the rules of HTTP (RFC 9111 §3.5) and of `app`.
    pub share: Option<Share>,
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
        let never = "never stored: an answer with `set-cookie`, and a part of one";
        let (shared, kept) = match self.share {
            None => (
                None,
                "never stored: an answer with `set-cookie`, a part of one, and what a client's `authorization` or cookies brought, \
                 unless it says that it may be shared",
            ),
            Some(Share::Public) => (Some("answers are shared by everybody, whoever asks"), never),
            Some(Share::PerIdentity) => (
                Some("answers are kept apart by the `authorization` and cookies that reach the upstream"),
                never,
            ),
        };
        words.extend(shared.into_iter().chain([kept]).map(str::to_owned));
        let seconds = |span: Option<Duration>| span.map(|span| span.as_secs_f64());
        let data = serde_json::json!({
            "ttlSeconds": seconds(self.ttl),
            "share": self.share.map(|share| match share {
                Share::Public => "public",
                Share::PerIdentity => "perIdentity",
            }),
            "mode": if self.overrides { "override" } else { "respect" },
            "staleWhileRevalidateSeconds": seconds(self.stale_while_revalidate),
            "staleIfErrorSeconds": seconds(self.stale_if_error),
            "ignoredParameters": self.ignored_parameters.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "keyHeaders": self.key_headers.iter().map(HeaderName::as_str).collect::<Vec<_>>(),
        });
        Told::new(words, data)
    }
}

const PLANNED: [&str; 3] = [
    "tags\nthe admin side purges by URL and by route",
    "methods\nGET and HEAD are cached, nothing else",
    "zone\nall routes share the one store of the top-level `cache:`",
];

/// Sets how the route caches.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let section = section?;
    section.check_keys::<Spec>(&PLANNED, build.problems);
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
            .error(
                codes::NO_EFFECT,
                section.at("mode").path(),
                "`mode: override` without a `ttl` overrides nothing",
            )
            .help("add `ttl: 60s`");
    }
    let (ignored, headers) = spec
        .key
        .map(|key| (key.query.map(|q| q.ignore).unwrap_or_default(), key.headers))
        .unwrap_or_default();
    let mut ignored_parameters = Vec::with_capacity(ignored.len());
    for (place, text) in ignored.iter().enumerate() {
        match Pattern::parse(text) {
            Ok(pattern) => ignored_parameters.push(pattern),
            Err(_) => {
                let at = section.at("key").at("query").at("ignore").item(place);
                build
                    .problems
                    .error(codes::BAD_PATTERN, at.path(), format!("`{text}` is no parameter to ignore"))
                    .help("a name, or its beginning with `*`, such as `utm_*`");
            }
        }
    }
    let mut key_headers = Vec::with_capacity(headers.len());
    for (place, name) in headers.iter().enumerate() {
        match HeaderName::try_from(name.as_str()) {
            Ok(name) => key_headers.push(name),
            Err(_) => {
                fields::no_header_name(name, &section.at("key").at("headers").item(place), build.problems);
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
        share: spec.share,
    });
    None
}

/// Whether `share` is said where it must be, and only where it means something. After all policies: what is forwarded is another's.
pub fn check_share(route: &Section, build: &mut Build<'_>) {
    let Some(cache) = &build.settings.cache else { return };
    let identity = build.settings.forwards_authorization || build.settings.forwards_cookies;
    let section = route.at("cache");
    match cache.share {
        None if identity && !cache.app => {
            build
                .problems
                .error(
                    codes::SHARE_MISSING,
                    section.path(),
                    "the client's identity reaches the upstream, and nothing says who may share the answer",
                )
                .related(route.at("request").path(), "passes on who asks")
                .help("`share: perIdentity` keeps clients apart, `share: public` says that the answer is the same for everybody")
                .on_key();
        }
        Some(_) if !identity => {
            build
                .problems
                .error(codes::NO_EFFECT, section.at("share").path(), "nothing of who asks reaches the upstream, so every answer is shared")
                .help("remove it, or forward what says who asks: `request.headers.forward`, `request.cookies.forward`");
        }
        _ => {}
    }
}
