//! `rewrite`: the path and query that the upstream is asked for.
//!
//! It starts from the normalised path that was matched, replaces the matched prefix or the whole, and places the result below the
//! upstream's base path, which nothing a client sends can leave. Names are Gateway API's `HTTPURLRewriteFilter`.

use std::collections::BTreeMap;
use std::sync::Arc;

use pingora::http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use super::credential::{decoded, percent_encode};
use super::told::{Telling, Told};
use super::{Build, Fault, Hooks, PathShape, Policy};
use crate::config::{Section, codes, shape};
use crate::exchange::{Exchange, target};

/// The path and query that the upstream is asked for (Gateway API's `HTTPURLRewriteFilter`). The result is placed below the path of the
/// upstream's `url`. Without this key the path goes as it came.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("not" = { "required": ["replacePrefixMatch", "replaceFullPath"] }))]
pub(super) struct Spec {
    /// This instead of the prefix that matched; what follows it stays. Needs `match.path.prefix`. Default: the path goes as it came.
    #[schemars(with = "Option<shape::UrlPath>", example = &"/v2/weather")]
    replace_prefix_match: Option<String>,
    /// This instead of the whole path. `{name}` stands for what `match.path.template` or `regex` captured under that name. Default: the path
    /// goes as it came.
    #[schemars(with = "Option<shape::UrlPath>", example = &"/v2/people/{id}")]
    replace_full_path: Option<String>,
    /// What becomes of the query.
    query: Option<QuerySpec>,
}

/// What becomes of the query.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct QuerySpec {
    /// The client's parameters that pass; all others are dropped. Default: every one passes.
    #[schemars(example = ["city", "format"])]
    keep: Option<Vec<String>>,
    /// Parameters with these values, in place of the client's. Default: none.
    #[serde(default)]
    #[schemars(example = serde_json::json!({ "units": "metric" }))]
    set: BTreeMap<String, String>,
}

/// A piece of `replaceFullPath`.
enum Piece {
    Text(String),
    Param(String),
}

enum PathRule {
    Keep,
    Prefix { matched: String, with: String },
    Full(Vec<Piece>),
}

struct Rewrite {
    base: String,
    path: PathRule,
    /// Whether the path has pieces that the match captured.
    has_captures: bool,
    kept: KeptParameters,
    set: Vec<(String, String)>,
}

/// Compiles the rewrite; without a section the path is only placed below the base.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let spec: Spec = match section {
        Some(section) => section.decode(build.problems)?,
        None => Spec::default(),
    };
    let Some(upstream) = build.upstream.as_ref() else {
        if let Some(section) = section {
            build.problems.error(
                codes::NO_EFFECT,
                section.path(),
                "there is no upstream to rewrite for on this route",
            );
        }
        return None;
    };
    let base = upstream.base_path.clone();
    let path = match (spec.replace_prefix_match, spec.replace_full_path, section) {
        (Some(_), Some(_), Some(section)) => {
            build
                .problems
                .error(
                    codes::BAD_REWRITE,
                    section.at("replaceFullPath").path(),
                    "`replacePrefixMatch` and `replaceFullPath` exclude each other",
                )
                .on_key()
                .related(section.at("replacePrefixMatch").path(), "the other one")
                .help("keep `replacePrefixMatch` to exchange the beginning of the path, `replaceFullPath` for the whole");
            return None;
        }
        (Some(with), None, Some(section)) => prefix_rule(&with, section, build)?,
        (None, Some(template), Some(section)) => PathRule::Full(full_rule(&template, section, build)?),
        _ => PathRule::Keep,
    };
    let query = spec.query.unwrap_or_default();
    let set = query
        .set
        .iter()
        .map(|(name, value)| {
            let mut pair = Vec::new();
            percent_encode(name.as_bytes(), &mut pair);
            pair.push(b'=');
            percent_encode(value.as_bytes(), &mut pair);
            (name.clone(), String::from_utf8_lossy(&pair).into_owned())
        })
        .collect();
    let kept = KeptParameters { keep: query.keep, set: query.set.keys().cloned().collect() };
    build.settings.kept_parameters = kept.clone();
    let has_captures = matches!(&path, PathRule::Full(pieces) if pieces.iter().any(|piece| matches!(piece, Piece::Param(_))));
    Some(Arc::new(Rewrite { base, path, has_captures, kept, set }))
}

fn prefix_rule(with: &str, section: &Section, build: &mut Build<'_>) -> Option<PathRule> {
    let at = section.get("replacePrefixMatch").unwrap_or_else(|| section.clone());
    let PathShape::Prefix(matched) = &build.path else {
        build
            .problems
            .error(codes::BAD_REWRITE, at.path(), "`replacePrefixMatch` needs `match.path.prefix`")
            .help("match a prefix, or use `replaceFullPath`");
        return None;
    };
    let matched = matched.trim_end_matches('/').to_owned();
    is_normal(with, with, &at, build)?;
    Some(PathRule::Prefix { matched, with: with.trim_end_matches('/').to_owned() })
}

fn full_rule(template: &str, section: &Section, build: &mut Build<'_>) -> Option<Vec<Piece>> {
    let at = section.get("replaceFullPath").unwrap_or_else(|| section.clone());
    let known: &[String] = match &build.path {
        PathShape::Captures(names) => names,
        PathShape::Prefix(_) | PathShape::Whole => &[],
    };
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, tail)) = rest.split_once('{') {
        let Some((name, after)) = tail.split_once('}') else {
            build
                .problems
                .error(codes::BAD_REWRITE, at.path(), "a `{` without its `}`")
                .help("a part that the match captures is written `{name}`");
            return None;
        };
        if !known.iter().any(|candidate| candidate == name) {
            let help = if known.is_empty() {
                "only `match.path.template`, as `/users/{id}`, and named groups of `match.path.regex` capture"
                    .into()
            } else {
                format!("this route's path captures `{}`", known.join("`, `"))
            };
            build
                .problems
                .error(codes::BAD_REWRITE, at.path(), format!("the match captures no `{name}`"))
                .help(help);
            return None;
        }
        pieces.push(Piece::Text(text.to_owned()));
        pieces.push(Piece::Param(name.to_owned()));
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    let sample: String =
        pieces.iter().map(|piece| if let Piece::Text(text) = piece { text.as_str() } else { "x" }).collect();
    is_normal(&sample, template, &at, build)?;
    Some(pieces)
}

/// A path of ours is written as it is sent: no dot segments, no query, nothing that a normaliser would change.
fn is_normal(path: &str, written: &str, at: &Section, build: &mut Build<'_>) -> Option<()> {
    match target::target(path, target::Asterisk::Refuse) {
        Ok(normal) if normal.query.is_none() && normal.path == path => return Some(()),
        Ok(normal) if normal.query.is_some() => build
            .problems
            .error(codes::BAD_REWRITE, at.path(), format!("`{written}` has a query"))
            .help("set parameters with `query: { set: { name: value } }`"),
        Ok(_) => build
            .problems
            .error(codes::BAD_REWRITE, at.path(), format!("`{written}` is not in its normal form"))
            .help("write it without `.`, `..`, `//` and needless percent-encoding"),
        Err(why) => build
            .problems
            .error(codes::BAD_REWRITE, at.path(), format!("`{written}` is no path: {why}"))
            .help("such as `/v2`"),
    };
    None
}

impl Rewrite {
    /// Which rule changed the path.
    fn why(&self) -> String {
        let placed = match self.base.as_str() {
            "" => String::new(),
            base => format!(", placed under the upstream's base `{base}`"),
        };
        match &self.path {
            PathRule::Keep => placed.replacen(", placed", ": placed", 1),
            PathRule::Prefix { matched, with } => {
                let shown = |text: &str| if text.is_empty() { "/".to_owned() } else { text.to_owned() };
                format!(": the prefix `{}` is replaced by `{}`{placed}", shown(matched), shown(with))
            }
            PathRule::Full(_) => format!(": the whole path is replaced{placed}"),
        }
    }

    fn path(&self, exchange: &Exchange) -> String {
        let mut out = String::with_capacity(self.base.len() + exchange.path.len() + 16);
        out.push_str(&self.base);
        match &self.path {
            PathRule::Keep => out.push_str(&exchange.path),
            PathRule::Prefix { matched, with } => {
                let rest = exchange.path.strip_prefix(matched.as_str()).unwrap_or(&exchange.path);
                out.push_str(with);
                out.push_str(rest);
            }
            PathRule::Full(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.push_str(text),
                        Piece::Param(name) => out.push_str(exchange.param(name).unwrap_or_default()),
                    }
                }
            }
        }
        if out.is_empty() {
            out.push('/');
        }
        out
    }

    fn query(&self, exchange: &Exchange) -> Option<String> {
        if self.kept.keeps_all() {
            return exchange.query.clone();
        }
        let mut kept: Vec<&str> = self.kept.of(exchange.query.as_deref().unwrap_or_default()).collect();
        kept.extend(self.set.iter().map(|(_, pair)| pair.as_str()));
        (!kept.is_empty()).then(|| kept.join("&"))
    }
}

/// Which parameters of the client's query reach the upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptParameters {
    /// Only these; `None`: all.
    keep: Option<Vec<String>>,
    /// But none that the route sets itself.
    set: Vec<String>,
}

impl KeptParameters {
    /// Whether nothing is dropped.
    #[must_use]
    pub fn keeps_all(&self) -> bool {
        self.keep.is_none() && self.set.is_empty()
    }

    /// The parameters of a query that are kept, as they are written, in their order. Names are compared decoded.
    pub fn of<'q>(&'q self, query: &'q str) -> impl Iterator<Item = &'q str> {
        query.split('&').filter(|pair| !pair.is_empty()).filter(|pair| {
            let name = decoded(pair.split_once('=').map_or(*pair, |(name, _)| name));
            self.keep.as_ref().is_none_or(|keep| keep.contains(&name)) && !self.set.contains(&name)
        })
    }
}

impl Policy for Rewrite {
    fn hooks(&self) -> Hooks {
        Hooks { upstream_request: true, ..Hooks::default() }
    }

    fn upstream_request_filter(
        &self,
        head: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        let path = self.path(exchange);
        let query = self.query(exchange);
        let mut full = String::with_capacity(path.len() + query.as_ref().map_or(0, |query| query.len() + 1));
        full.push_str(&path);
        if let Some(query) = &query {
            full.push('?');
            full.push_str(query);
        }
        if full.len() > target::MAX_TARGET_BYTES {
            return Err(Fault::BadTarget);
        }
        if self.has_captures {
            // A piece of a segment may be a dot segment by itself. Everything else is put together from whole normalised parts.
            let again = target::target(&full, target::Asterisk::Refuse).map_err(|_| Fault::BadTarget)?;
            if again.path != path {
                return Err(Fault::BadTarget);
            }
        }
        head.set_uri(http::Uri::from_maybe_shared(bytes::Bytes::from(full)).map_err(|_| Fault::BadTarget)?);
        exchange.upstream_path = path;
        Ok(())
    }

    fn explain(&self, telling: &Telling<'_>) -> Option<Told> {
        let exchange = telling.exchange;
        let (path, query) = (self.path(exchange), self.query(exchange));
        let mut words = vec![if path == exchange.path {
            format!("the upstream is asked for the path as it is, `{path}`")
        } else {
            format!("`{}` becomes `{path}`{}", exchange.path, self.why())
        }];
        match (&exchange.query, &query) {
            (before, after) if before == after => {}
            (Some(before), Some(after)) => words.push(format!("the query `{before}` becomes `{after}`")),
            (Some(before), None) => words.push(format!("the query `{before}` is dropped")),
            (None, after) => {
                words.push(format!("the query `{}` is added", after.as_deref().unwrap_or_default()))
            }
        }
        Some(Told::new(words, serde_json::json!({ "path": path, "query": query })))
    }
}
