//! How two outcomes of one request differ, in words that are the same for every request that differs in the same way.

use serde_json::Value;

use super::Names;
use crate::proxy::explain::{Outcome, Verdict};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Difference {
    /// What differs: `answer`, `upstream`, `sent`, or a policy's key and what of it.
    pub what: String,
    /// Under the old configuration; absent where it is another one for each request.
    pub old: Option<String>,
    /// Under the new one.
    pub new: Option<String>,
}

impl Difference {
    fn new(what: &str, old: impl Into<String>, new: impl Into<String>) -> Self {
        Self { what: what.to_owned(), old: Some(old.into()), new: Some(new.into()) }
    }

    fn unnamed(what: impl Into<String>) -> Self {
        Self { what: what.into(), old: None, new: None }
    }
}

/// Everything that differs; nothing where the request is answered alike. `names` are what is only called otherwise.
#[must_use]
pub fn differences(old: &Outcome, new: &Outcome, names: &Names) -> Vec<Difference> {
    let old = names.applied(old);
    let (was, is) = (answer(&old), answer(new));
    if was != is {
        // All else follows from that.
        return vec![Difference::new("answer", was, is)];
    }
    let mut found = Vec::new();
    if old.answer != new.answer {
        found.push(Difference::unnamed("the gateway's own answer: its headers or its body"));
    }
    if let (Some(was), Some(is)) = (&old.upstream, &new.upstream)
        && was != is
    {
        let words =
            |to: &crate::proxy::explain::Destination| format!("{} ({})", to.endpoints.join(", "), to.kind);
        found.push(Difference::new("upstream", words(was), words(is)));
    }
    if let (Some(was), Some(is)) = (&old.sent, &new.sent) {
        if was.target != is.target {
            found.push(Difference::unnamed("the path or query that the upstream is asked for"));
        }
        found.extend(fields(&was.fields, &is.fields));
    }
    let keys: std::collections::BTreeSet<&String> =
        old.decisions.keys().chain(new.decisions.keys()).collect();
    for key in keys.into_iter().filter(|key| !TOLD_BY_SENT.contains(&key.as_str())) {
        values(key, old.decisions.get(key), new.decisions.get(key), &mut found);
    }
    found
}

/// Decisions whose effect is in what is sent.
const TOLD_BY_SENT: [&str; 6] = ["rewrite", "request", "credential", "forwarding", "head", "origin"];
/// Members that are another one for each request: that they differ is said, not how.
const OF_THE_REQUEST: [&str; 5] = ["key.path", "key.host", "key.query", "key.headers", "bucket"];

/// Who answers, in words.
fn answer(outcome: &Outcome) -> String {
    let status = outcome.status.map(|status| status.to_string()).unwrap_or_default();
    let route = outcome.route.as_deref().unwrap_or("none");
    match outcome.verdict {
        Verdict::Forwarded => {
            let upstream = outcome.upstream.as_ref().map_or("none", |upstream| upstream.name.as_str());
            format!("goes to `{upstream}` by the route `{route}`")
        }
        Verdict::Answered => format!("{status} by the route `{route}`"),
        Verdict::NotFound => "404, no route".to_owned(),
        Verdict::MethodNotAllowed => "405, no route for the method".to_owned(),
        Verdict::Refused => format!("{status}, refused: {}", outcome.code.as_deref().unwrap_or_default()),
    }
}

/// Fields of the outgoing request, by name: values may be the client's.
fn fields(old: &[(String, String)], new: &[(String, String)]) -> Option<Difference> {
    let of = |list: &[(String, String)], name: &str| -> Vec<String> {
        list.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect()
    };
    let names: std::collections::BTreeSet<&str> =
        old.iter().chain(new).map(|(name, _)| name.as_str()).collect();
    let differing: Vec<&str> = names.into_iter().filter(|name| of(old, name) != of(new, name)).collect();
    let words = format!("headers that the upstream gets: `{}`", differing.join("`, `"));
    (!differing.is_empty()).then(|| Difference::unnamed(words))
}

/// Walks into objects and lists of equal length; anything else is compared as a whole.
fn values(key: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Difference>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Some(Value::Object(was)), Some(Value::Object(is))) => {
            let names: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
            for name in names {
                values(&format!("{key}.{name}"), was.get(name), is.get(name), found);
            }
        }
        (Some(Value::Array(was)), Some(Value::Array(is)))
            if was.len() == is.len() && was.iter().chain(is).all(Value::is_object) =>
        {
            for (was, is) in was.iter().zip(is) {
                let name = was.get("name").and_then(Value::as_str);
                let key = name.map_or_else(|| key.to_owned(), |name| format!("{key}.{name}"));
                values(&key, Some(was), Some(is), found);
            }
        }
        // Lists of names, paths and statuses: their order is the file's and means nothing.
        (Some(Value::Array(was)), Some(Value::Array(is))) if sorted(was) == sorted(is) => {}
        _ if OF_THE_REQUEST.iter().any(|member| key.ends_with(member)) => {
            found.push(Difference::unnamed(key));
        }
        _ => {
            let words = |value: Option<&Value>| match value {
                None | Some(Value::Null) => "not set".to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string().trim_end_matches(".0").to_owned(),
                Some(other) => other.to_string(),
            };
            found.push(Difference::new(key, words(old), words(new)));
        }
    }
}

fn sorted(list: &[Value]) -> Vec<String> {
    let mut texts: Vec<String> = list.iter().map(Value::to_string).collect();
    texts.sort_unstable();
    texts
}
