//! Which requests a route takes, compared: what one match takes beyond another.
//!
//! What is said is certain for hosts, methods, conditions and all paths but expressions: those are compared by their text.

use std::collections::{BTreeMap, BTreeSet};

use super::parts::Part;
use super::value::Value;

/// What a route matches.
pub struct Reach {
    hosts: BTreeSet<String>,
    methods: BTreeSet<String>,
    path: String,
    /// Of headers and of query parameters, by key: `match.headers.x-a`.
    conditions: BTreeMap<String, Option<String>>,
}

impl Reach {
    /// That of a route.
    #[must_use]
    pub fn of(part: &Part) -> Self {
        let mut conditions = BTreeMap::new();
        for list in ["match.headers", "match.query"] {
            for name in part.names(list) {
                let value = |key: &str| {
                    part.value(&format!("{list}.{name}.{key}")).map(|value| format!("{key} {value}"))
                };
                conditions.insert(format!("{list}.{name}"), value("exact").or_else(|| value("regex")));
            }
        }
        Self {
            hosts: part.members("match.hosts"),
            methods: part.members("match.methods"),
            path: part.value("match.path").as_ref().and_then(Value::text).unwrap_or_default().to_owned(),
            conditions,
        }
    }

    /// Whether a host written in a match is taken.
    fn takes_host(&self, host: &str) -> bool {
        let fits = |pattern: &String| {
            let suffix = pattern.strip_prefix('*');
            pattern == host
                || suffix.is_some_and(|suffix| host.strip_prefix('*').unwrap_or(host).ends_with(suffix))
        };
        self.hosts.is_empty() || self.hosts.iter().any(fits)
    }

    fn takes_method(&self, method: &str) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || (method == "HEAD" && self.methods.contains("GET"))
    }

    /// Whether every path of a pattern is taken.
    fn takes_path(&self, other: &str) -> bool {
        if self.path == other {
            return true;
        }
        let Some(prefix) = self.path.strip_prefix("prefix ") else { return false };
        let Some((kind, path)) = other.split_once(' ') else { return false };
        let prefix = prefix.trim_end_matches('/');
        kind != "regex"
            && path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// What `wide` takes that `narrow` does not: keys and words.
#[must_use]
pub fn beyond(narrow: &Reach, wide: &Reach) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let listed = |names: Vec<&String>| {
        format!("`{}`", names.into_iter().map(String::as_str).collect::<Vec<_>>().join("`, `"))
    };
    let mut say = |key: &str, what: String| found.push((key.to_owned(), what));
    let hosts: Vec<&String> = wide.hosts.iter().filter(|host| !narrow.takes_host(host)).collect();
    if wide.hosts.is_empty() && !narrow.hosts.is_empty() {
        say(
            "match.hosts",
            format!("requests for hosts other than {}", listed(narrow.hosts.iter().collect())),
        );
    } else if !hosts.is_empty() {
        say("match.hosts", format!("requests for {}", listed(hosts)));
    }
    let methods: Vec<&String> = wide.methods.iter().filter(|method| !narrow.takes_method(method)).collect();
    if wide.methods.is_empty() && !narrow.methods.is_empty() {
        say(
            "match.methods",
            format!("requests of methods other than {}", listed(narrow.methods.iter().collect())),
        );
    } else if !methods.is_empty() {
        say("match.methods", format!("{} requests", listed(methods)));
    }
    if !narrow.takes_path(&wide.path) {
        say("match.path", format!("paths of `{}` that `{}` does not have", wide.path, narrow.path));
    }
    for (key, asked) in &narrow.conditions {
        let still = wide.conditions.get(key);
        let implied = still.is_some_and(|now| asked.is_none() || now == asked);
        if !implied {
            let name = key.rsplit('.').next().unwrap_or(key);
            let what = if key.starts_with("match.headers") { "header" } else { "parameter" };
            say(
                key,
                match asked {
                    Some(_) => format!("requests with another value of the {what} `{name}`, or without it"),
                    None => format!("requests without the {what} `{name}`"),
                },
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(hosts: &[&str], methods: &[&str], path: &str) -> Reach {
        let set = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Reach { hosts: set(hosts), methods: set(methods), path: path.into(), conditions: BTreeMap::new() }
    }

    fn keys(narrow: &Reach, wide: &Reach) -> Vec<String> {
        beyond(narrow, wide).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn a_prefix_takes_what_lies_below_it() {
        let api = reach(&[], &[], "prefix /api");
        for inside in ["prefix /api/a", "exact /api", "exact /api/a", "template /api/{id}"] {
            let inside = reach(&[], &[], inside);
            assert!(keys(&api, &inside).is_empty(), "{}", inside.path);
            assert_eq!(keys(&inside, &api), ["match.path"], "{}", inside.path);
        }
        for outside in ["prefix /apix", "prefix /", "exact /ap", "regex /api/a"] {
            assert_eq!(keys(&api, &reach(&[], &[], outside)), ["match.path"], "{outside}");
        }
        assert!(keys(&reach(&[], &[], "prefix /"), &api).is_empty(), "the root takes everything");
    }

    #[test]
    fn hosts_and_methods() {
        let one = reach(&["*.a.example"], &["GET"], "prefix /");
        assert!(keys(&one, &reach(&["x.a.example"], &["HEAD"], "prefix /")).is_empty());
        assert!(keys(&one, &reach(&["*.x.a.example"], &["GET"], "prefix /")).is_empty());
        assert_eq!(
            keys(&one, &reach(&["a.example"], &["POST"], "prefix /")),
            ["match.hosts", "match.methods"]
        );
        assert_eq!(keys(&one, &reach(&[], &[], "prefix /")), ["match.hosts", "match.methods"]);
        assert!(keys(&reach(&[], &[], "prefix /"), &one).is_empty());
    }

    #[test]
    fn a_condition_that_is_dropped_or_differs_lets_more_in() {
        let mut asked = reach(&[], &[], "prefix /");
        asked.conditions.insert("match.headers.x-a".into(), Some("exact 1".into()));
        let mut present = reach(&[], &[], "prefix /");
        present.conditions.insert("match.headers.x-a".into(), None);
        let open = reach(&[], &[], "prefix /");
        assert_eq!(keys(&asked, &open), ["match.headers.x-a"]);
        assert_eq!(keys(&asked, &present), ["match.headers.x-a"]);
        assert!(keys(&open, &asked).is_empty() && keys(&present, &asked).is_empty());
    }
}
