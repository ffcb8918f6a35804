//! Which requests are answered by another route than before.
//!
//! For each route a few requests are made up that it matches, and both routers are asked, the ones that the gateway uses. So what
//! is said did happen to that request; what an expression alone matches is not tried.

use std::collections::BTreeMap;

use super::parts::{Part, PartKind, Parts};
use super::value::Value;
use crate::plan::{Plan, router};

/// Requests of one route that are now answered by another, or by none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The route that answered.
    pub from: String,
    /// The one that will; `None`: 404 or 405.
    pub to: Option<String>,
    /// One of them: `GET app.example/api/x`.
    pub example: String,
}

/// The most requests that are made up for one route.
const MAX_SAMPLES: usize = 24;
/// A segment, a label, a value that stands for any.
const ANY: &str = "portcullis-sample";

struct Sample {
    method: http::Method,
    host: String,
    path: String,
    query: Option<String>,
    headers: BTreeMap<String, String>,
}

/// Every such pair of routes once. `renamed` leads from the old name of a route to its new one.
#[must_use]
pub fn moves(old: (&Plan, &Parts), new: (&Plan, &Parts), renamed: &BTreeMap<String, String>) -> Vec<Move> {
    let mut found: BTreeMap<(String, Option<String>), String> = BTreeMap::new();
    let routes = old.1.all(PartKind::Route).chain(new.1.all(PartKind::Route));
    for sample in routes.flat_map(samples) {
        let Some(from) = taken_by(old.0, &sample) else { continue };
        let to = taken_by(new.0, &sample);
        if to != Some(renamed.get(from).map_or(from, String::as_str)) {
            found.entry((from.to_owned(), to.map(str::to_owned))).or_insert_with(|| sample.words());
        }
    }
    found.into_iter().map(|((from, to), example)| Move { from, to, example }).collect()
}

fn taken_by<'p>(plan: &'p Plan, sample: &Sample) -> Option<&'p str> {
    let header = |name: &str| sample.headers.get(name).map(String::as_str);
    let query = router::Query {
        method: &sample.method,
        host: &sample.host,
        path: &sample.path,
        query: sample.query.as_deref(),
        header: &header,
    };
    match plan.router.find(&query) {
        router::Found::Route { index, .. } => plan.routes.get(index).map(|route| route.name.as_str()),
        router::Found::MethodNotAllowed { .. } | router::Found::NotFound => None,
    }
}

impl Sample {
    fn words(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let host = if self.host == ANY_HOST { "" } else { self.host.as_str() };
        format!("{} {host}{}{query}", self.method, self.path.replace(ANY, "…"))
    }
}

/// The host of a route that matches any: none that a configuration would name.
const ANY_HOST: &str = "any.portcullis-sample.invalid";

/// Requests that a route matches. None where an expression would have to be guessed.
fn samples(part: &Part) -> Vec<Sample> {
    let Some((headers, query)) = conditions(part) else { return Vec::new() };
    let path = part.value("match.path");
    let path = path.as_ref().and_then(Value::text).unwrap_or_default();
    let paths: Vec<String> = match path.split_once(' ') {
        Some(("exact", path)) => vec![path.to_owned()],
        Some(("prefix", path)) => {
            let below = format!("{}/{ANY}", path.trim_end_matches('/'));
            vec![path.to_owned(), below]
        }
        Some(("template", path)) => vec![filled(path)],
        _ => Vec::new(),
    };
    let mut hosts: Vec<String> =
        part.members("match.hosts").iter().map(|host| host.replace('*', ANY)).collect();
    if hosts.is_empty() {
        hosts.push(ANY_HOST.to_owned());
    }
    let mut methods: Vec<http::Method> =
        part.members("match.methods").iter().filter_map(|name| name.parse().ok()).collect();
    if methods.is_empty() {
        methods = vec![http::Method::GET, http::Method::POST];
    }
    let mut list = Vec::new();
    for path in &paths {
        for host in &hosts {
            for method in &methods {
                let (path, host, method) = (path.clone(), host.clone(), method.clone());
                list.push(Sample { method, host, path, query: query.clone(), headers: headers.clone() });
            }
        }
    }
    list.truncate(MAX_SAMPLES);
    list
}

/// `/users/{id}` with something in its place.
fn filled(template: &str) -> String {
    let segments = template.split('/').map(|segment| if segment.starts_with('{') { ANY } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

/// Headers and a query that fulfil what is asked; `None` where an expression asks.
fn conditions(part: &Part) -> Option<(BTreeMap<String, String>, Option<String>)> {
    let value = |key: String| part.value(&key).map(|value| value.to_string());
    let one = |list: &str, name: &str| match value(format!("{list}.{name}.regex")) {
        Some(_) => None,
        None => Some(value(format!("{list}.{name}.exact")).unwrap_or_else(|| ANY.to_owned())),
    };
    let mut headers = BTreeMap::new();
    for name in part.names("match.headers") {
        headers.insert(name.to_owned(), one("match.headers", name)?);
    }
    let mut pairs = Vec::new();
    for name in part.names("match.query") {
        let mut pair = Vec::new();
        crate::policy::credential::percent_encode(name.as_bytes(), &mut pair);
        pair.push(b'=');
        crate::policy::credential::percent_encode(one("match.query", name)?.as_bytes(), &mut pair);
        pairs.push(String::from_utf8_lossy(&pair).into_owned());
    }
    Some((headers, (!pairs.is_empty()).then(|| pairs.join("&"))))
}
