//! `request.headers` and `request.cookies`: what of the client's head reaches the upstream.
//!
//! Toward an `api` nothing passes but a short list and what `forward` names; toward an `app` every end-to-end field passes. On top
//! come `remove`, `set` and `add`. A name that the credential injects can be none of them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use ahash::AHashSet;
use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{FieldEdits, Reader};
use super::told::{self, Telling, Told};
use super::{Build, Fault, Hooks, Policy, UpstreamKind};
use crate::config::{Section, keys_of, shape};
use crate::exchange::Exchange;

/// What an `api` needs to answer: nothing about who asks. `content-*` and `if-*` pass as families.
const API_PASSES: [HeaderName; 6] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::HOST,
    header::RANGE,
    header::USER_AGENT,
];

/// The field that carries our request id to the upstream and back to the client. A text: as a [`HeaderName`] its spelling would be
/// copied each time that it is set.
pub const REQUEST_ID: &str = "x-request-id";

/// Field names that belong to the connection or to framing: they can be neither forwarded nor set by an operator.
const RESERVED: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[expect(dead_code, reason = "read part by part, so that one mistake does not hide another")]
/// What of the client's request reaches the upstream.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    headers: Option<HeadersSpec>,
    cookies: Option<CookiesSpec>,
}

/// The headers of the copy that goes to the upstream. First what does not pass is dropped, then `remove`, `set` and `add` are done, in
/// this order. A header that carries the upstream's credential cannot be touched.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HeadersSpec {
    /// Headers with these values, in place of the client's. Default: none.
    #[serde(default)]
    #[schemars(with = "BTreeMap<shape::HeaderField, String>", example = serde_json::json!({ "accept-language": "en" }))]
    set: BTreeMap<String, String>,
    /// Headers with these values, beside the client's. Default: none.
    #[serde(default)]
    #[schemars(with = "BTreeMap<shape::HeaderField, String>", example = serde_json::json!({ "x-channel": "web" }))]
    add: BTreeMap<String, String>,
    /// Headers that are not sent. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<shape::HeaderField>", example = ["range"])]
    remove: Vec<String>,
    /// For an `api`: the client's headers that pass besides the usual (`accept`, `accept-language`, `cache-control`, `content-*`, `if-*`,
    /// `range`, `user-agent`); `["*"]` passes all. To an `app` every header passes. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<shape::HeaderField>", example = ["x-locale"])]
    forward: Vec<String>,
}

/// Which of the client's cookies pass.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CookiesSpec {
    /// Names of the client's cookies that pass. Default: none to an `api`, all to an `app`.
    #[serde(default)]
    #[schemars(example = ["lang"])]
    forward: Vec<String>,
}

/// What stands below `request`: the parts that are read here, and the kinds that have their own place there.
static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| super::with_kinds(keys_of::<Spec>(), "request"));

/// Which of the client's fields pass.
enum Passing {
    All,
    Listed(AHashSet<HeaderName>),
}

struct RequestHeaders {
    passing: Passing,
    cookies: Option<Vec<String>>,
    edits: FieldEdits,
    /// Named by the operator, so that even a name with `_` passes.
    forward: Vec<HeaderName>,
}

/// Compiles `request` without its `body`, which is a kind of its own.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    if let Some(section) = section {
        section.check_keys_in(
            &KEYS,
            &["query\nthe route's `rewrite: { query: { keep, set } }` changes the query"],
            build.problems,
        );
    }
    let headers_section = section.and_then(|s| s.get("headers"));
    let headers: HeadersSpec =
        headers_section.as_ref().and_then(|s| s.decode(build.problems)).unwrap_or_default();
    let cookies_section = section.and_then(|s| s.get("cookies"));
    let cookies: CookiesSpec =
        cookies_section.as_ref().and_then(|s| s.decode(build.problems)).unwrap_or_default();
    if build.upstream.is_none() {
        for section in [&headers_section, &cookies_section].into_iter().flatten() {
            build.no_effect(section, "there is no upstream that the request would go to");
        }
        return None;
    }

    let at = headers_section.as_ref();
    let everything = headers.forward.iter().any(|name| name == "*");
    let reader = Reader { section: at, refuses: &refuses };
    let forward = reader.names("forward", headers.forward.iter().filter(|name| *name != "*"), build);
    let edits = FieldEdits {
        remove: reader.names("remove", headers.remove.iter(), build),
        set: reader.fields("set", &headers.set, build),
        add: reader.fields("add", &headers.add, build),
    };
    let kind = build.kind();
    let passing = if kind == UpstreamKind::App || everything {
        Passing::All
    } else {
        Passing::Listed(API_PASSES.into_iter().chain(forward.iter().cloned()).collect())
    };
    let cookies = match kind {
        UpstreamKind::App if cookies_section.is_none() => None,
        UpstreamKind::Api if forward.contains(&header::COOKIE) => None,
        _ => Some(cookies.forward),
    };
    let injects = build.injected.iter().any(|name| name == "authorization");
    build.settings.forwards_authorization = passing.allows(&header::AUTHORIZATION) && !injects;
    build.settings.forwarded_cookies.clone_from(&cookies);
    build.settings.forwards_cookies = cookies.as_ref().is_none_or(|names| !names.is_empty());
    Some(Arc::new(RequestHeaders { passing, cookies, edits, forward }))
}

/// Why a field cannot be forwarded, set, added or removed.
fn refuses(name: &HeaderName, _key: &str, build: &Build<'_>) -> Option<&'static str> {
    if RESERVED.contains(&name.as_str()) {
        return Some("belongs to the connection, not to the message");
    }
    let spelling = name.as_str().replace('_', "-");
    build.injected.contains(&spelling).then_some("carries the upstream's credential: a route cannot touch it")
}

impl Passing {
    fn allows(&self, name: &HeaderName) -> bool {
        match self {
            Self::All => true,
            Self::Listed(list) => {
                list.contains(name)
                    || name.as_str().starts_with("content-")
                    || name.as_str().starts_with("if-")
            }
        }
    }
}

impl Policy for RequestHeaders {
    fn hooks(&self) -> Hooks {
        Hooks { upstream_request: true, ..Hooks::default() }
    }

    fn upstream_request_filter(
        &self,
        head: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        let cookies = self.cookies.as_ref().map(|names| chosen_cookies(&head.headers, names));
        // Many servers read `_` as `-`: such a name would pass for one that is ours to say. As in nginx, it is dropped.
        let twins: Vec<HeaderName> = head
            .headers
            .keys()
            .filter(|name| name.as_str().contains('_') && !self.forward.contains(name))
            .cloned()
            .collect();
        for name in &twins {
            head.remove_header(name);
        }
        if let Passing::Listed(_) = self.passing {
            // Content-Length and Transfer-Encoding frame the body and stay; `forwarding` runs next and takes its own away.
            let unwanted: Vec<HeaderName> = head
                .headers
                .keys()
                .filter(|name| {
                    !self.passing.allows(name)
                        && **name != header::TRANSFER_ENCODING
                        && **name != header::UPGRADE
                        && **name != header::CONNECTION
                        && !name.as_str().starts_with("sec-websocket-")
                })
                .cloned()
                .collect();
            for name in &unwanted {
                head.remove_header(name);
            }
        }
        if let Some(cookies) = cookies {
            head.remove_header(&header::COOKIE);
            if let Some(value) = cookies {
                head.insert_header(header::COOKIE, value).map_err(|_| Fault::Internal)?;
            }
        }
        self.edits.apply(head)?;
        head.insert_header(REQUEST_ID, exchange.request_id.as_str()).map_err(|_| Fault::Internal)
    }

    fn explain(&self, telling: &Telling<'_>) -> Option<Told> {
        let (before, after) = telling.heads?;
        let dropped = told::dropped(before, after, |name| self.because(name).to_owned());
        let mut words = told::grouped(&dropped);
        let left = |head: &RequestHeader| head.headers.get(header::COOKIE).cloned();
        if let (Some(before), Some(after)) = (left(before), left(after))
            && before != after
        {
            words.push("drops the cookies that `request.cookies.forward` does not name".to_owned());
        }
        words.extend(self.edits.words());
        if words.is_empty() {
            words.push("nothing that the client sent is dropped here".to_owned());
        }
        let (set, added) = (self.edits.set_names(), self.edits.added_names());
        Some(Told::new(words, serde_json::json!({ "dropped": dropped, "set": set, "add": added })))
    }
}

impl RequestHeaders {
    /// Why a field of the client did not pass.
    fn because(&self, name: &HeaderName) -> &'static str {
        if self.edits.remove.contains(name) {
            return "`request.headers.remove` names it";
        }
        if *name == header::COOKIE {
            return "only the cookies that `request.cookies.forward` names go on";
        }
        if name.as_str().contains('_') {
            return "many servers read `_` as `-`; a name with it passes only where `request.headers.forward` has it";
        }
        "an `api` gets what it needs to answer and nothing about who asks; `request.headers.forward` lets more pass"
    }
}

/// The cookies of these names, joined as one field (RFC 9113 §8.2.3 lets a client send crumbs).
pub fn chosen_cookies(fields: &http::HeaderMap, names: &[String]) -> Option<HeaderValue> {
    if names.is_empty() {
        return None;
    }
    let kept: Vec<&str> = fields
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .map(str::trim)
        .filter(|pair| {
            pair.split_once('=').is_some_and(|(name, _)| names.iter().any(|wanted| wanted == name))
        })
        .collect();
    (!kept.is_empty()).then(|| HeaderValue::try_from(kept.join("; ")).ok()).flatten()
}
