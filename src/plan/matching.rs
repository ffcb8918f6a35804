//! `match`: from what is written to what the router takes.

use schemars::JsonSchema;
use serde::Deserialize;

use super::router::{FieldMatch, FieldValue, HostPattern, PathPattern, RouteMatch};
use crate::config::{Problems, Section, codes, shape};
use crate::exchange::target;
use crate::policy::PathShape;

/// Which requests a route takes. All of it must hold; what is left out matches everything. The most specific match wins, wherever its
/// route stands in the file: exact path, then template, regex, the longest prefix; then host, method, headers, query.
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
    /// The whole value. Without it and `regex` the field only has to be there.
    exact: Option<String>,
    /// A regular expression that must match the whole value.
    regex: Option<String>,
}

/// One of [`METHODS`].
struct Method;

impl JsonSchema for Method {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Method".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": METHODS })
    }
}

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
            section.check_keys::<Spec>(&["scheme", "when"], problems);
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
    for host in &spec.hosts {
        let (pattern, bare) = match host.strip_prefix("*.") {
            Some(rest) => (HostPattern::Suffix(format!(".{}", rest.to_ascii_lowercase())), rest),
            None => (HostPattern::Exact(host.to_ascii_lowercase()), host.as_str()),
        };
        match target::authority(bare) {
            Ok(authority) if authority.port.is_none() => hosts.push(pattern),
            _ => {
                let problem = problem_at(
                    section,
                    "hosts",
                    problems,
                    codes::BAD_VALUE,
                    format!("`{host}` is no host to match"),
                );
                if let Some(problem) = problem {
                    problem.help("`app.example` or `*.app.example`, without a port");
                }
            }
        }
    }
    let mut methods = Vec::with_capacity(spec.methods.len());
    for method in &spec.methods {
        match http::Method::from_bytes(method.as_bytes()) {
            Ok(parsed) if METHODS.contains(&parsed.as_str()) => methods.push(parsed),
            _ => {
                let problem = problem_at(
                    section,
                    "methods",
                    problems,
                    codes::BAD_VALUE,
                    format!("`{method}` is no method to match"),
                );
                if let Some(problem) = problem {
                    problem.help(format!("methods are upper case: `{}`", METHODS.join("`, `")));
                }
            }
        }
    }
    let headers = fields(&spec.headers, section, "headers", problems);
    let query = fields(&spec.query, section, "query", problems);
    Some((RouteMatch { name: name.to_owned(), hosts, methods, path, headers, query }, shape))
}

fn problem_at<'p>(
    section: Option<&Section>,
    key: &str,
    problems: &'p mut Problems,
    code: &'static str,
    message: String,
) -> Option<&'p mut crate::config::Problem> {
    let at = section?.get(key)?;
    Some(problems.error(code, at.path(), message))
}

fn fields(
    specs: &[FieldSpec],
    section: Option<&Section>,
    key: &str,
    problems: &mut Problems,
) -> Vec<FieldMatch> {
    let mut list = Vec::with_capacity(specs.len());
    for spec in specs {
        let value = match (&spec.exact, &spec.regex) {
            (Some(_), Some(_)) => {
                problem_at(
                    section,
                    key,
                    problems,
                    codes::BAD_VALUE,
                    "`exact` and `regex` exclude each other".into(),
                );
                continue;
            }
            (Some(text), None) => FieldValue::Exact(text.clone()),
            (None, Some(pattern)) => FieldValue::Regex(pattern.clone()),
            (None, None) => FieldValue::Present,
        };
        let name = if key == "headers" { spec.name.to_ascii_lowercase() } else { spec.name.clone() };
        if key == "headers" && http::HeaderName::try_from(name.as_str()).is_err() {
            problem_at(
                section,
                key,
                problems,
                codes::BAD_VALUE,
                format!("`{}` is no header name", spec.name),
            );
            continue;
        }
        list.push(FieldMatch { name, value });
    }
    list
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
                let place = at.get("regex")?;
                let reason = why.to_string();
                let reason =
                    reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                problems.error(codes::BAD_PATTERN, place.path(), format!("this is no pattern: {reason}"));
                return None;
            }
        };
        return Some((PathPattern::Regex(pattern.clone()), PathShape::Captures(names)));
    }
    if let Some(template) = &spec.template {
        let place = at.get("template")?;
        let mut names: Vec<String> = Vec::new();
        for segment in template.split('/') {
            if let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                names.push(name.to_owned());
            }
        }
        normal(&template.replace(['{', '}'], ""), template, &place, problems)?;
        return Some((PathPattern::Template(template.clone()), PathShape::Captures(names)));
    }
    if let Some(exact) = &spec.exact {
        normal(exact, exact, &at.get("exact")?, problems)?;
        return Some((PathPattern::Exact(exact.clone()), PathShape::Whole));
    }
    let prefix = spec.prefix.as_ref()?;
    normal(prefix, prefix, &at.get("prefix")?, problems)?;
    Some((PathPattern::Prefix(prefix.clone()), PathShape::Prefix(prefix.clone())))
}

/// A path to match must be written as a normalised request would have it: any other spelling never matches.
fn normal(path: &str, written: &str, at: &Section, problems: &mut Problems) -> Option<()> {
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
