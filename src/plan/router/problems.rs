//! Routes that can never be taken, found while the configuration is checked.
//!
//! What is reported is certain. Not every unreachable route is found: expressions are only compared by their text.

use super::{FieldMatch, FieldValue, HostPattern, Route, RouteMatch, Router};
use http::Method;
use std::collections::HashMap;
use std::fmt;

/// What is wrong with a list of routes; each number is a place in it. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteProblem {
    /// A path that is no path.
    BadPath {
        /// The route.
        route: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A template that cannot be read.
    BadTemplate {
        /// The route.
        route: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A regular expression, on path, header or query, that cannot be read or is too large.
    BadRegex {
        /// The route.
        route: usize,
        /// The regex crate's own explanation, of several lines.
        why: String,
    },
    /// Two routes match exactly the same requests.
    Conflict {
        /// The one written first.
        a: usize,
        /// The one written later.
        b: usize,
    },
    /// Every request that `route` matches is taken by another.
    Unreachable {
        /// The one that is never taken.
        route: usize,
        /// The one that always wins.
        by: usize,
    },
}

impl fmt::Display for RouteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadPath { why, .. } | Self::BadTemplate { why, .. } => f.write_str(why),
            Self::BadRegex { why, .. } => f.write_str(why),
            Self::Conflict { .. } => f.write_str("two routes match exactly the same requests"),
            Self::Unreachable { .. } => {
                f.write_str("another route takes every request that this one matches")
            }
        }
    }
}

impl std::error::Error for RouteProblem {}

/// One route as it is compared with others.
struct Entry<'a> {
    written: &'a RouteMatch,
    route: &'a Route,
    rank: usize,
}

/// Conflicts and unreachable routes, in order of the list. `router` was assembled from `matches`.
pub(super) fn find(matches: &[RouteMatch], router: &Router) -> Vec<RouteProblem> {
    let entries: Vec<Entry<'_>> = router
        .routes
        .iter()
        .enumerate()
        .filter_map(|(rank, route)| Some(Entry { written: matches.get(route.index)?, route, rank }))
        .collect();
    // One route is known to shadow another only if it has all its hosts, so also its first, and the same path. Only such pairs are
    // compared, so many hosts with one path cost nothing.
    let mut same_path: HashMap<_, Vec<&Entry<'_>>> = HashMap::new();
    for entry in &entries {
        let hosts: Vec<Option<&HostPattern>> = entry.written.hosts.iter().map(Some).collect();
        for host in if hosts.is_empty() { vec![None] } else { hosts } {
            same_path.entry((host, entry.route.path.identity())).or_default().push(entry);
        }
    }
    let mut problems: Vec<RouteProblem> = Vec::new();
    for entry in &entries {
        let host = entry.written.hosts.first();
        let peers = same_path.get(&(host, entry.route.path.identity())).into_iter().flatten();
        let mut peers = peers.filter(|other| other.rank < entry.rank);
        problems.extend(peers.find_map(|other| other.against(entry)));
    }
    problems.sort_by_key(|problem| match problem {
        RouteProblem::Conflict { b, .. } => *b,
        RouteProblem::Unreachable { route, .. }
        | RouteProblem::BadPath { route, .. }
        | RouteProblem::BadTemplate { route, .. }
        | RouteProblem::BadRegex { route, .. } => *route,
    });
    problems
}

impl Entry<'_> {
    /// What this route, which wins wherever both match, does to `other`.
    fn against(&self, other: &Self) -> Option<RouteProblem> {
        let (ours, theirs) = (self.written, other.written);
        let (a, b) = (self.route.index, other.route.index);
        let is_same_tier = self.route.tier == other.route.tier;
        let covers = covers_hosts(&ours.hosts, &theirs.hosts)
            && covers_methods(&ours.methods, &theirs.methods, is_same_tier)
            && covers_fields(&ours.headers, &theirs.headers, str::eq_ignore_ascii_case)
            && covers_fields(&ours.query, &theirs.query, str::eq);
        if !covers {
            return None;
        }
        let covers_back = is_same_tier
            && covers_hosts(&theirs.hosts, &ours.hosts)
            && covers_methods(&theirs.methods, &ours.methods, is_same_tier)
            && covers_fields(&theirs.headers, &ours.headers, str::eq_ignore_ascii_case)
            && covers_fields(&theirs.query, &ours.query, str::eq);
        Some(if covers_back {
            RouteProblem::Conflict { a: a.min(b), b: a.max(b) }
        } else {
            RouteProblem::Unreachable { route: b, by: a }
        })
    }
}

/// A route without hosts is less specific than one with any, so it covers only its like.
fn covers_hosts(ours: &[HostPattern], theirs: &[HostPattern]) -> bool {
    ours.is_empty() == theirs.is_empty() && theirs.iter().all(|host| ours.contains(host))
}

/// Within a tier a `HEAD` that is named wins over a `GET` that is taken for it.
fn covers_methods(ours: &[Method], theirs: &[Method], is_same_tier: bool) -> bool {
    let covers = |method: &Method| {
        ours.contains(method) || (!is_same_tier && method == Method::HEAD && ours.contains(&Method::GET))
    };
    ours.is_empty() || (!theirs.is_empty() && theirs.iter().all(covers))
}

/// Whether each of our conditions follows from one of theirs.
fn covers_fields(ours: &[FieldMatch], theirs: &[FieldMatch], same: impl Fn(&str, &str) -> bool) -> bool {
    let follows = |our: &FieldMatch, their: &FieldMatch| {
        same(&our.name, &their.name) && (our.value == FieldValue::Present || our.value == their.value)
    };
    ours.iter().all(|our| theirs.iter().any(|their| follows(our, their)))
}
