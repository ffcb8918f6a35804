//! Routes of one team that take requests from another's.
//!
//! A longer prefix or an exact path wins over a shorter prefix. Within a team that is how routes are written; between teams it
//! is how one takes traffic from the other without either noticing. It is right only where the grants say so: the team whose
//! granted prefix reaches further down owns what lies under it.
//!
//! What is reported is certain; of routes with the same many others only the first are compared.

use std::collections::HashMap;

use super::super::router::{PathPattern, RouteMatch};
use super::{Grant, hosts_meet, region};
use crate::names::TeamName;

/// A route of a team.
pub(in super::super) struct TeamRoute<'a> {
    /// Whose it is.
    pub(in super::super) team: &'a TeamName,
    /// What the team is granted; `None` where nothing is granted to anybody.
    pub(in super::super) grant: Option<&'a Grant>,
    /// What it matches.
    pub(in super::super) matched: &'a RouteMatch,
}

/// One route that takes requests from another; both are places in the list.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Crossing {
    /// The one that gets them.
    pub(in super::super) taker: usize,
    /// The one that would have got them.
    pub(in super::super) loser: usize,
}

/// How many routes at one place of the paths a route is compared with.
const MOST_COMPARED: usize = 64;

/// Every route that takes from another team's, once, with the first that it takes from.
pub(in super::super) fn find(routes: &[TeamRoute<'_>]) -> Vec<Crossing> {
    let mut prefixes: HashMap<String, Vec<usize>> = HashMap::new();
    let mut others: HashMap<String, Vec<usize>> = HashMap::new();
    let roots: Vec<String> = routes.iter().map(|route| region::root(&route.matched.path)).collect();
    for (index, (route, root)) in routes.iter().zip(&roots).enumerate() {
        match &route.matched.path {
            PathPattern::Prefix(_) => prefixes.entry(root.clone()).or_default().push(index),
            PathPattern::Exact(text) | PathPattern::Template(text) | PathPattern::Regex(text) => {
                others.entry(text.clone()).or_default().push(index);
            }
        }
    }
    let mut taken: Vec<Option<usize>> = vec![None; routes.len()];
    for (index, (route, root)) in routes.iter().zip(&roots).enumerate() {
        let same = match &route.matched.path {
            PathPattern::Prefix(_) => None,
            PathPattern::Exact(text) | PathPattern::Template(text) | PathPattern::Regex(text) => {
                others.get(text)
            }
        };
        let above = ancestors(root).filter_map(|above| prefixes.get(above));
        for list in same.into_iter().chain(above) {
            for other in list.iter().copied().filter(|other| *other != index).take(MOST_COMPARED) {
                let Some(peer) = routes.get(other) else { continue };
                // Two at the same place meet twice; the later one is told of.
                let meets_twice = match (&route.matched.path, &peer.matched.path) {
                    (PathPattern::Prefix(_), PathPattern::Prefix(_)) => roots.get(other) == Some(root),
                    (ours, theirs) => ours == theirs,
                };
                if (meets_twice && other > index) || peer.team == route.team || !meet(route, peer) {
                    continue;
                }
                // A host that is named wins over a longer path.
                let (taker, loser) = if route.matched.hosts.is_empty() && !peer.matched.hosts.is_empty() {
                    (other, index)
                } else {
                    (index, other)
                };
                let (Some(winner), Some(beaten)) = (routes.get(taker), routes.get(loser)) else { continue };
                if !is_granted(winner, beaten, root)
                    && let Some(slot) = taken.get_mut(taker)
                {
                    slot.get_or_insert(loser);
                }
            }
        }
    }
    let told = taken.into_iter().enumerate();
    told.filter_map(|(taker, loser)| Some(Crossing { taker, loser: loser? })).collect()
}

/// Whether what lies at `path` is the taker's by a grant that reaches further down than the loser's.
fn is_granted(taker: &TeamRoute<'_>, loser: &TeamRoute<'_>, path: &str) -> bool {
    let depth = |route: &TeamRoute<'_>| route.grant?.nearest(path).map(|prefix| prefix.path.len());
    match (depth(taker), depth(loser)) {
        (Some(taker), Some(loser)) => taker > loser,
        // Who is granted nothing here is refused for that.
        (Some(_), None) => true,
        (None, _) => false,
    }
}

fn meet(a: &TeamRoute<'_>, b: &TeamRoute<'_>) -> bool {
    let hosts = |route: &TeamRoute<'_>| Some(route.matched.hosts.clone()).filter(|hosts| !hosts.is_empty());
    let (ours, theirs) = (&a.matched.methods, &b.matched.methods);
    let methods = ours.is_empty() || theirs.is_empty() || ours.iter().any(|method| theirs.contains(method));
    methods && hosts_meet(hosts(a).as_deref(), hosts(b).as_deref())
}

/// The path itself and every one above it, `/` last as the empty text.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rfind('/').and_then(|slash| path.get(..slash)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::router::HostPattern;

    fn matched(path: PathPattern) -> RouteMatch {
        RouteMatch { path, ..RouteMatch::default() }
    }

    fn prefix(path: &str) -> RouteMatch {
        matched(PathPattern::Prefix(path.into()))
    }

    /// Takers and losers among routes of the named teams, without grants.
    fn crossings(routes: &[(&str, RouteMatch)]) -> Vec<(usize, usize)> {
        let teams: Vec<TeamName> =
            routes.iter().map(|(team, _)| TeamName::parse(team).expect("a name")).collect();
        let list: Vec<TeamRoute<'_>> = routes
            .iter()
            .zip(&teams)
            .map(|((_, matched), team)| TeamRoute { team, grant: None, matched })
            .collect();
        find(&list).into_iter().map(|found| (found.taker, found.loser)).collect()
    }

    #[test]
    fn a_longer_path_takes_from_a_shorter_prefix_of_another_team() {
        let exact = |path: &str| matched(PathPattern::Exact(path.into()));
        let template = |path: &str| matched(PathPattern::Template(path.into()));
        assert_eq!(crossings(&[("a", prefix("/api")), ("b", prefix("/api/pay"))]), [(1, 0)]);
        assert_eq!(crossings(&[("b", exact("/api/pay")), ("a", prefix("/api"))]), [(0, 1)]);
        assert_eq!(crossings(&[("b", template("/api/{id}")), ("a", prefix("/api"))]), [(0, 1)]);
        assert_eq!(crossings(&[("a", prefix("/api")), ("a", prefix("/api/pay"))]), [], "one team's own");
        assert_eq!(crossings(&[("a", prefix("/api")), ("b", prefix("/apis"))]), [], "whole segments");
        assert_eq!(crossings(&[("a", prefix("/")), ("b", prefix("/x"))]), [(1, 0)]);
    }

    #[test]
    fn hosts_and_methods_that_never_meet_take_nothing() {
        let on = |host: &str, path: &str| RouteMatch {
            hosts: vec![HostPattern::Exact(host.into())],
            ..prefix(path)
        };
        let by = |method: http::Method, path: &str| RouteMatch { methods: vec![method], ..prefix(path) };
        assert_eq!(crossings(&[("a", on("a.example", "/api")), ("b", on("b.example", "/api/pay"))]), []);
        assert_eq!(
            crossings(&[("a", on("a.example", "/api")), ("b", on("a.example", "/api/pay"))]),
            [(1, 0)]
        );
        assert_eq!(
            crossings(&[("a", on("a.example", "/api")), ("b", prefix("/api/pay"))]),
            [(0, 1)],
            "a host wins"
        );
        assert_eq!(
            crossings(&[("a", by(http::Method::GET, "/api")), ("b", by(http::Method::PUT, "/api/x"))]),
            []
        );
        assert_eq!(
            crossings(&[("a", prefix("/api")), ("b", by(http::Method::GET, "/api"))]),
            [(1, 0)],
            "the same place is told once"
        );
    }

    #[test]
    fn ten_thousand_routes_at_one_place_are_compared_with_few() {
        let many: Vec<(&str, RouteMatch)> = (0..10_000)
            .map(|n| (if n % 2 == 0 { "a" } else { "b" }, prefix(&format!("/api/{}", n % 3))))
            .collect();
        assert!(crossings(&many).len() > 9_000);
    }
}
