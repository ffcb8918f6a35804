//! `match`: from what is written to what the router takes.

use schemars::JsonSchema;
use serde::Deserialize;

use super::router::{FieldMatch, FieldValue, HostPattern, PathPattern, RouteMatch};
use crate::config::{Problems, Section, codes, shape};
use crate::exchange::target;
use crate::names::inline_schema;
use crate::policy::{PathShape, fields};

/// Which requests a route takes. All of it must hold; what is left out matches everything. The most specific match wins, wherever its
/// route stands in the file: by host (exact, the longest `*.`, none), then by path (exact, template, regex, the longest prefix), then by method, headers and
/// query.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    /// Hosts of the request, without a port: exact, or one leading `*.` for every name below. Default: any.
    #[serde(default)]
    #[schemars(with = "Vec<shape::Host>", example = ["app.example", "*.app.example"])]
    hosts: Vec<String>,
    /// Methods of the request, in upper case. Where only the method does not fit, the answer is 405. Default: any but TRACE and
    /// CONNECT.
    #[serde(default)]
    #[schemars(with = "Vec<Method>", example = ["GET", "HEAD"])]
    methods: Vec<String>,
    /// The path of the request, after it was normalised: exactly one of `exact`, `prefix`, `template`, `regex`. Default:
    /// `{ prefix: / }`.
    path: Option<PathSpec>,
    /// Headers that the request must have. Default: none.
    #[serde(default)]
    headers: Vec<FieldSpec>,
    /// Query parameters that the request must have. Default: none.
    #[serde(default)]
    query: Vec<FieldSpec>,
}

/// The path of the request: exactly one of `exact`, `prefix`, `template`, `regex`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
struct PathSpec {
    /// This path and no other.
    #[schemars(with = "Option<shape::UrlPath>", example = &"/health")]
    exact: Option<String>,
    /// This path and all below it, by whole segments: `/api/weather` takes `/api/weather/today`, not `/api/weatherman`.
    #[schemars(with = "Option<shape::UrlPath>")]
    prefix: Option<String>,
    /// A path with names for whole segments: `/users/{id}` takes `/users/42`, and `rewrite.replaceFullPath` can use `{id}`.
    #[schemars(with = "Option<shape::UrlPath>", example = &"/users/{id}")]
    template: Option<String>,
    /// A regular expression that must match the whole path. Named groups `(?P<id>…)` can be used by `rewrite.replaceFullPath`. Syntax:
    /// RE2, without look-around.
    #[schemars(example = &"/reports/[0-9]{4}")]
    regex: Option<String>,
}

/// A header or a query parameter: with its value, with a pattern, or, without either, only there.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = { "required": ["exact", "regex"] }))]
struct FieldSpec {
    /// The name of the header (in any case) or of the query parameter (as it is).
    name: String,
    /// The value must be this one. Default: any value, the field only has to be there.
    exact: Option<String>,
    /// The whole value must match this regular expression. Instead of `exact`. Default: any value.
    regex: Option<String>,
}

/// One of [`METHODS`].
struct Method;

inline_schema!(Method, |_| schemars::json_schema!({ "type": "string", "enum": METHODS }));

/// Methods that a route may name: the standard ones but CONNECT and TRACE, which are refused at the door.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Reads a match, together with what `rewrite` wants to know of its path.
pub(super) fn read(
    section: Option<&Section>,
    name: &str,
    problems: &mut Problems,
) -> Option<(RouteMatch, PathShape)> {
    let spec: Spec = match section {
        Some(section) => {
            section
                .check_keys::<Spec>(&["scheme", "when\n`headers` and `query` tell requests apart"], problems);
            section.decode(problems)?
        }
        None => Spec::default(),
    };
    let whole = (PathPattern::Prefix("/".into()), PathShape::Prefix("/".into()));
    let (path, shape) = match (&spec.path, section.and_then(|s| s.get("path"))) {
        (Some(path), Some(at)) => path_pattern(path, &at, problems)?,
        _ => whole,
    };
    let mut hosts = Vec::with_capacity(spec.hosts.len());
    for (place, host) in spec.hosts.iter().enumerate() {
        match host_pattern(host) {
            Some(pattern) => hosts.push(pattern),
            None => {
                let help = if host == "*" {
                    "without `hosts` a route matches every host"
                } else {
                    "`app.example` or `*.app.example`, without scheme and port"
                };
                if let Some(at) = section {
                    problems
                        .error(
                            codes::BAD_VALUE,
                            at.at("hosts").item(place).path(),
                            format!("`{host}` is no host to match"),
                        )
                        .help(help);
                }
            }
        }
    }
    let mut methods = Vec::with_capacity(spec.methods.len());
    for (place, method) in spec.methods.iter().enumerate() {
        match http::Method::from_bytes(method.as_bytes()) {
            Ok(parsed) if METHODS.contains(&parsed.as_str()) => methods.push(parsed),
            _ => {
                if let Some(at) = section {
                    no_method(method, &at.at("methods").item(place), problems);
                }
            }
        }
    }
    let headers = fields(&spec.headers, section, "headers", problems);
    let query = fields(&spec.query, section, "query", problems);
    Some((RouteMatch { name: name.to_owned(), hosts, methods, path, headers, query }, shape))
}

/// `app.example` or `*.app.example`.
pub(super) fn host_pattern(host: &str) -> Option<HostPattern> {
    let (pattern, bare) = match host.strip_prefix("*.") {
        Some(rest) => (HostPattern::Suffix(format!(".{}", rest.to_ascii_lowercase())), rest),
        None => (HostPattern::Exact(host.to_ascii_lowercase()), host),
    };
    target::authority(bare).is_ok_and(|authority| authority.port.is_none()).then_some(pattern)
}

fn no_method(method: &str, at: &Section, problems: &mut Problems) {
    let upper = method.to_ascii_uppercase();
    let problem = problems.error(codes::BAD_VALUE, at.path(), format!("`{method}` is no method to match"));
    match upper.as_str() {
        "*" | "ANY" | "ALL" => problem.help("without `methods` a route matches every method"),
        "TRACE" | "CONNECT" => problem.help(format!("`{upper}` is refused before any route is looked for")),
        _ if METHODS.contains(&upper.as_str()) => problem.help(format!("methods are upper case: `{upper}`")),
        _ => problem.help(format!("one of: `{}`", METHODS.join("`, `"))),
    };
}

fn fields(
    specs: &[FieldSpec],
    section: Option<&Section>,
    key: &str,
    problems: &mut Problems,
) -> Vec<FieldMatch> {
    let Some(section) = section else { return Vec::new() };
    let mut list = Vec::with_capacity(specs.len());
    for (place, spec) in specs.iter().enumerate() {
        let at = section.at(key).item(place);
        let value = match (&spec.exact, &spec.regex) {
            (Some(_), Some(_)) => {
                problems
                    .error(codes::BAD_VALUE, at.at("regex").path(), "`exact` and `regex` exclude each other")
                    .on_key()
                    .related(at.at("exact").path(), "the other one")
                    .help("keep one; with neither, the field only has to be there");
                continue;
            }
            (Some(text), None) => FieldValue::Exact(text.clone()),
            (None, Some(pattern)) => {
                if let Err(why) = regex::Regex::new(pattern) {
                    bad_regex(&why.to_string(), &at.at("regex"), problems);
                    continue;
                }
                FieldValue::Regex(pattern.clone())
            }
            (None, None) => FieldValue::Present,
        };
        let name = if key == "headers" { spec.name.to_ascii_lowercase() } else { spec.name.clone() };
        if key == "headers" && http::HeaderName::try_from(name.as_str()).is_err() {
            fields::no_header_name(&spec.name, &at.at("name"), problems);
            continue;
        }
        list.push(FieldMatch { name, value });
    }
    list
}

/// A regular expression that cannot be read, or is too large, in the last line of its own explanation.
pub(super) fn bad_regex(why: &str, at: &Section, problems: &mut Problems) {
    let reason = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
    let problem =
        problems.error(codes::BAD_PATTERN, at.path(), format!("this is no regular expression: {reason}"));
    if reason.contains("look-around") || reason.contains("backreferences") {
        problem.help("expressions are matched in linear time, so they cannot look around or refer back");
    } else if reason.starts_with("repetition operator missing expression") {
        problem.help("`*` alone is no wildcard: any text is `.*`, one segment is `[^/]+`");
    }
}

fn path_pattern(spec: &PathSpec, at: &Section, problems: &mut Problems) -> Option<(PathPattern, PathShape)> {
    let written =
        [&spec.exact, &spec.prefix, &spec.template, &spec.regex].iter().filter(|p| p.is_some()).count();
    if written != 1 {
        problems
            .error(
                codes::BAD_VALUE,
                at.path(),
                "a path is exactly one of `exact`, `prefix`, `template`, `regex`",
            )
            .help("such as `path: { prefix: /api/weather }`");
        return None;
    }
    if let Some(pattern) = &spec.regex {
        let names = match regex::Regex::new(pattern) {
            Ok(compiled) => compiled.capture_names().flatten().map(str::to_owned).collect(),
            Err(why) => {
                bad_regex(&why.to_string(), &at.at("regex"), problems);
                return None;
            }
        };
        return Some((PathPattern::Regex(pattern.clone()), PathShape::Captures(names)));
    }
    if let Some(template) = &spec.template {
        let place = at.get("template")?;
        let mut names: Vec<String> = Vec::new();
        wildcard("template", template, &place, problems)?;
        for segment in template.split('/') {
            if let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                names.push(name.to_owned());
            }
        }
        normal(&template.replace(['{', '}'], ""), template, &place, problems)?;
        return Some((PathPattern::Template(template.clone()), PathShape::Captures(names)));
    }
    if let Some(exact) = &spec.exact {
        let place = at.get("exact")?;
        wildcard("exact", exact, &place, problems)?;
        normal(exact, exact, &place, problems)?;
        return Some((PathPattern::Exact(exact.clone()), PathShape::Whole));
    }
    let prefix = spec.prefix.as_ref()?;
    let place = at.get("prefix")?;
    wildcard("prefix", prefix, &place, problems)?;
    normal(prefix, prefix, &place, problems)?;
    Some((PathPattern::Prefix(prefix.clone()), PathShape::Prefix(prefix.clone())))
}

/// What other gateways write for "anything" would be compared here letter by letter, so it is refused: `/*`, `/**`, `:id`, `{id}`.
/// A path that really has such a segment can be matched with `regex`.
fn wildcard(key: &str, path: &str, at: &Section, problems: &mut Problems) -> Option<()> {
    let named = |segment: &str| match segment.strip_prefix(':') {
        Some(name) => name.starts_with(|c: char| c.is_ascii_alphabetic()),
        None => key != "template" && segment.starts_with('{') && segment.ends_with('}'),
    };
    let (mut found, mut suggestion) = (None, Vec::new());
    let last = path.split('/').count() - 1;
    for (place, segment) in path.split('/').enumerate() {
        let stars = !segment.is_empty() && segment.bytes().all(|b| b == b'*');
        if stars || named(segment) {
            found = found.or(Some(segment));
        }
        // A star at the end of a prefix is what a prefix means anyway.
        if stars && (place < last || (key != "prefix" && segment == "*")) {
            suggestion.push("{name}".to_owned());
        } else if !stars {
            let bare = segment.trim_start_matches([':', '{']).trim_end_matches('}');
            suggestion.push(if named(segment) { format!("{{{bare}}}") } else { segment.to_owned() });
        }
    }
    let Some(found) = found else { return Some(()) };
    let suggestion = suggestion.join("/");
    let (instead, why) = if suggestion.contains('{') {
        (format!("template: \"{suggestion}\""), "whose `{name}` stands for one segment")
    } else {
        let path = if suggestion.is_empty() { "/" } else { &suggestion };
        (format!("prefix: {path}"), "which already takes everything below it")
    };
    let message = format!("`{found}` has no special meaning in `{key}`");
    problems.error(codes::BAD_PATTERN, at.path(), message).help(format!("write `{instead}`, {why}"));
    None
}

/// A path to match must be written as a normalised request would have it: any other spelling never matches.
pub(super) fn normal(path: &str, written: &str, at: &Section, problems: &mut Problems) -> Option<()> {
    match target::target(path, target::Asterisk::Refuse) {
        Ok(normal) if normal.query.is_some() => {
            problems
                .error(codes::BAD_PATTERN, at.path(), format!("`{written}` has a query"))
                .help("match parameters with `query: [{ name: ..., exact: ... }]`");
            None
        }
        Ok(normal) if normal.path != path => {
            problems
                .error(
                    codes::BAD_PATTERN,
                    at.path(),
                    format!("`{written}` would never match: requests are normalised first"),
                )
                .help(format!("write `{}`", normal.path));
            None
        }
        Ok(_) => Some(()),
        Err(why) => {
            problems
                .error(codes::BAD_PATTERN, at.path(), format!("`{written}` is no path: {why}"))
                .help("a path begins with `/`, such as `/api/weather`");
            None
        }
    }
}
