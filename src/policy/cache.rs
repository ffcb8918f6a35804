//! `cache`: whether and how answers of a route are stored. The settings only; the work is `cache/`'s.
//!
//! `cache: {}` means: as the upstream says. A `ttl` speaks where the upstream says nothing, `mode: override` lets it win.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Build, PathShape, Policy, Told, UpstreamKind, fields, told};
use crate::cache::freshness::NEGATIVE_MAX;
use crate::cache::key::Pattern;
use crate::config::units::Timespan;
use crate::config::{Section, codes, shape};

pub use grant::PurgeGrant;
pub use tags::TagTemplate;

mod grant;
mod tags;

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
    /// How long a stale answer is still given at once, while a new one is fetched behind it, where the upstream does not say (RFC 5861 §3).
    /// Default: not at all.
    #[schemars(example = &"5m")]
    stale_while_revalidate: Option<Timespan>,
    /// How long a stale answer is still given while the upstream fails, where the upstream does not say (RFC 5861 §4). Default: not at all.
    #[schemars(example = &"1h")]
    stale_if_error: Option<Timespan>,
    /// How long an answer is fresh, at most, that says when it last changed and not how long it is good for: a tenth of the time since then
    /// (RFC 9111 §4.2.2). Comes before `ttl`. Default: not at all, such an answer has the `ttl`.
    #[schemars(example = &"24h")]
    heuristic: Option<Timespan>,
    /// How long an answer of 400 or more is fresh, at most, whatever the upstream or `ttl` says; it is not given for longer than that when stale
    /// either. Default: 5m.
    #[schemars(example = &"10s")]
    negative_ttl: Option<Timespan>,
    /// Whether `cache-control` of a request is listened to (RFC 9111 §5.2.1).
    #[schemars(extend("default" = "ignore"))]
    request_directives: Option<RequestDirectives>,
    /// What becomes of an answer with `set-cookie` (RFC 9111 §7.3). Only answers of a `kind: app` have one.
    #[schemars(extend("default" = "refuse"))]
    set_cookie: Option<SetCookie>,
    /// How a part of an answer is fetched that is not stored.
    #[schemars(extend("default" = "whole"))]
    ranges: Option<Ranges>,
    /// Names under which the answers are purged together, besides those that the upstream gives them. `{name}` stands for what
    /// `match.path.template` or `regex` captured under that name, as it stands in the path; a name that becomes longer than 128 bytes is left
    /// out. At most 16. Default: none.
    #[serde(default)]
    #[schemars(length(max = 16), inner(regex(pattern = r"^[!#-+\-.-~]{1,128}$")), example = ["weather", "city:{city}"])]
    tags: Vec<String>,
    /// What makes two requests different, besides method, host, path and query.
    key: Option<KeySpec>,
    /// Who may be given an answer that a client's `authorization` or cookies brought. Required where they reach a `kind: api`. Default: from
    /// a `kind: app` such an answer is kept only where it says `public` or `s-maxage`.
    share: Option<Share>,
    /// Who may send `PURGE` for a URL of this route, to take out what is stored for it. To everybody else the method is not allowed.
    /// Default: nobody; the admin side may always.
    purge: Option<grant::Spec>,
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

/// Whether `cache-control` of a request is listened to.
#[derive(Deserialize, Clone, Copy, PartialEq, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RequestDirectives {
    /// No: a client cannot make the gateway ask the upstream.
    Ignore,
    /// Yes: `no-cache`, `no-store`, `max-age`, `min-fresh`, `max-stale`, `only-if-cached`, `stale-if-error`, and `pragma: no-cache`.
    Honor,
}

/// What becomes of an answer with `set-cookie`.
#[derive(Deserialize, Clone, Copy, PartialEq, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum SetCookie {
    /// It is passed on and not kept.
    Refuse,
    /// It is kept where the upstream says for how long, and everybody is given the same cookie.
    Store,
}

/// How a part of an answer is fetched that is not stored.
#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ranges {
    /// The whole is fetched and stored, and the part cut from it.
    #[default]
    Whole,
    /// The part is fetched, and parts are put together until they are the whole (RFC 9111 §3.4).
    Combine,
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
#[derive(Debug, Clone)]
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
    /// `requestDirectives: honor`: what the request asks of caches is listened to.
    pub requests_honored: bool,
    /// The longest freshness that is guessed from `Last-Modified`; `None`: none is.
    pub heuristic_max: Option<Duration>,
    /// `setCookie: store`: an answer with `Set-Cookie` may be stored. Only for an `app`.
    pub store_set_cookie: bool,
    /// How a part is fetched that is not stored.
    pub ranges: Ranges,
    /// The longest freshness of an answer of 400 or more.
    pub negative_max: Duration,
    /// Names for purges that every answer of the route is given.
    pub tags: Vec<TagTemplate>,
    /// Whether the rules of an `app` apply: cookies reach the upstream.
    pub app: bool,
    /// Who may be given an answer that a client's identity brought; `None`: the rules of HTTP (RFC 9111 §3.5) and of `app`.
    pub share: Option<Share>,
    /// Who may send `PURGE`; `None`: nobody.
    pub purge: Option<PurgeGrant>,
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
        if let Some(most) = self.heuristic_max {
            words.push(format!(
                "where it only says when it last changed, for a tenth of the time since then, and at most {}",
                told::span(most)
            ));
        }
        if let Some(window) = self.stale_while_revalidate {
            words.push(format!(
                "once stale, it is still given for {}, at once, while a new one is fetched",
                told::span(window)
            ));
        }
        if let Some(window) = self.stale_if_error {
            words.push(format!(
                "once stale, it is still given for {} where the upstream fails",
                told::span(window)
            ));
        }
        words.push(format!(
            "an answer of 400 or more is fresh for at most {}, and stale for no longer",
            told::span(self.negative_max)
        ));
        words.extend(self.promises());
        words.extend(self.purge.as_ref().map(PurgeGrant::explain));
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
            "heuristicSeconds": seconds(self.heuristic_max),
            "negativeTtlSeconds": self.negative_max.as_secs_f64(),
            "requestDirectives": if self.requests_honored { "honor" } else { "ignore" },
            "setCookie": if self.store_set_cookie { "store" } else { "refuse" },
            "ranges": match self.ranges {
                Ranges::Whole => "whole",
                Ranges::Combine => "combine",
            },
            "tags": self.tags.iter().map(TagTemplate::as_str).collect::<Vec<_>>(),
            "ignoredParameters": self.ignored_parameters.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "purgeFrom": self.purge.as_ref().map(PurgeGrant::networks),
            "keyHeaders": self.key_headers.iter().map(HeaderName::as_str).collect::<Vec<_>>(),
        });
        Told::new(words, data)
    }

    /// What holds of every answer, beside its times.
    fn promises(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.requests_honored {
            words.push(
                "`cache-control` of the request is listened to: a client may ask for a newer answer"
                    .to_owned(),
            );
        }
        if self.ranges == Ranges::Combine {
            words.push(
                "a part that is not stored is fetched alone, and put together with others until they are the whole".to_owned(),
            );
        }
        if !self.tags.is_empty() {
            let tags: Vec<&str> = self.tags.iter().map(TagTemplate::as_str).collect();
            words.push(format!("purged together by `{}`", tags.join("`, `")));
        }
        if self.store_set_cookie {
            words.push(
                "an answer with `set-cookie` is stored where the upstream says for how long: everybody is given the same cookie"
                    .to_owned(),
            );
        }
        words.extend(match self.share {
            None => None,
            Some(Share::Public) => Some("answers are shared by everybody, whoever asks".to_owned()),
            Some(Share::PerIdentity) => Some(
                "answers are kept apart by the `authorization` and cookies that reach the upstream"
                    .to_owned(),
            ),
        });
        let mut never = vec!["a page under the path of a file, such as `.css`"];
        // From an `api` none comes through.
        if self.app && !self.store_set_cookie {
            never.insert(0, "an answer with `set-cookie`");
        }
        if self.ranges == Ranges::Whole {
            never.push("a part of an answer");
        }
        // To an `api` neither goes without a word on sharing.
        if self.app && self.share.is_none() {
            never.push(
                "what a client's `authorization` or cookies brought, unless it says that it may be shared",
            );
        }
        words.push(format!("never stored: {}", never.join("; ")));
        words
    }
}

const PLANNED: [&str; 2] = [
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
    let store_set_cookie = spec.set_cookie == Some(SetCookie::Store);
    if store_set_cookie && build.kind() == UpstreamKind::Api {
        build
            .problems
            .error(
                codes::NO_EFFECT,
                section.at("setCookie").path(),
                "`set-cookie` is removed from every answer of a `kind: api`, so there is none to store",
            )
            .help("remove it; only a `kind: app` sets cookies");
    }
    if spec.ranges == Some(Ranges::Combine) && build.kind() == UpstreamKind::Api {
        build
            .problems
            .error(
                codes::NO_EFFECT,
                section.at("ranges").path(),
                "a part of an answer of a `kind: api` cannot be searched for what must not be seen, so the whole is fetched",
            )
            .help("remove it; only parts of a `kind: app` are put together");
    }
    let tags = tags::compile(&spec.tags, section, build);
    let purge = spec.purge.and_then(|written| grant::compile(&section.at("purge"), &written, build));
    build.settings.cache = Some(CacheSettings {
        ttl: spec.ttl.map(|span| span.0),
        overrides,
        stale_while_revalidate: spec.stale_while_revalidate.map(|span| span.0),
        stale_if_error: spec.stale_if_error.map(|span| span.0),
        ignored_parameters,
        key_headers,
        requests_honored: spec.request_directives == Some(RequestDirectives::Honor),
        heuristic_max: spec.heuristic.map(|span| span.0),
        store_set_cookie,
        ranges: spec.ranges.unwrap_or_default(),
        negative_max: spec.negative_ttl.map_or(NEGATIVE_MAX, |span| span.0),
        tags,
        app: build.kind() == UpstreamKind::App,
        share: spec.share,
        purge,
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
