//! Which routes a request nearly took, and why each lost: for people, not for requests.
//!
//! Every answer comes from the comparisons that choose the winner: the conditions of a route are asked one by one, and two routes that
//! both match are compared by the very weights that sort them. It looks at every route, so nothing here runs for a request.

use std::cmp::Reverse;

use super::path::{Path, Segment, segments};
use super::{HostPattern, Query, Route, Router};
use http::Method;

/// A route that a request did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// Its place in the list that the router was built from.
    pub index: usize,
    /// Why, never empty; [`Lost::Weaker`] stands alone.
    pub lost: Vec<Lost>,
}

/// One reason for which a route did not take a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// The host is none of these.
    Host(Vec<HostPattern>),
    /// The path is another.
    Path {
        /// `exact`, `prefix`, `template` or `regex`.
        kind: &'static str,
        /// As written.
        pattern: String,
        /// The beginning of the path that both share, by whole segments; empty for none.
        shared: String,
    },
    /// The method is none of these.
    Method(Vec<Method>),
    /// A header does not fulfil its condition.
    Header(Unmet),
    /// A query parameter does not.
    Query(Unmet),
    /// It matches as well, and the winner goes before it.
    Weaker(Precedence),
}

/// A condition that a request does not fulfil.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// The field's name.
    pub name: String,
    /// What its value must be, in words.
    pub wanted: String,
}

/// By what one of two routes that both match goes before the other; in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precedence {
    /// A more specific host.
    Host,
    /// `exact` before `template` before `regex` before `prefix`.
    PathKind,
    /// More literal characters in the template, a longer prefix.
    PathLength,
    /// A method that is named before one that is not.
    Method,
    /// More headers.
    Headers,
    /// More query parameters.
    QueryParameters,
    /// HEAD itself before a GET that is taken for it.
    Head,
    /// The first name in the alphabet.
    Name,
}

impl Router {
    /// The routes that came nearest without taking the request, the nearest first, at most `most` of them. A route whose path has
    /// nothing in common with the request's and which fails in more than that is never near.
    #[must_use]
    pub fn near(&self, query: &Query<'_>, most: usize) -> Vec<Near> {
        let winner = self.winner(query).and_then(|(_, _, rank)| Some((rank, self.routes.get(rank)?)));
        let mut found: Vec<(Distance, Near)> = Vec::new();
        for (rank, route) in self.routes.iter().enumerate() {
            if winner.is_some_and(|(won, _)| won == rank) {
                continue;
            }
            let mut lost = route.failures(query);
            if lost.is_empty()
                && let Some((won, by)) = winner
            {
                lost.push(Lost::Weaker(self.precedence((won, by), (rank, route), query)));
            }
            if let Some(distance) = Distance::of(rank, &lost, query) {
                found.push((distance, Near { index: route.index, lost }));
            }
        }
        found.sort_by_key(|(distance, _)| *distance);
        found.into_iter().take(most).map(|(_, near)| near).collect()
    }

    /// Why the first of two routes that match goes before the second.
    fn precedence(
        &self,
        (won, winner): (usize, &Route),
        (rank, loser): (usize, &Route),
        query: &Query<'_>,
    ) -> Precedence {
        if winner.host_weight(query.host) != loser.host_weight(query.host) {
            return Precedence::Host;
        }
        let ((ours, our_length), (theirs, their_length)) = (winner.path.weight(), loser.path.weight());
        let head = |rank| self.candidate(rank, query).is_some_and(|(_, as_get, _)| as_get);
        let differs = [
            (ours != theirs, Precedence::PathKind),
            (our_length != their_length, Precedence::PathLength),
            (winner.methods.is_empty() != loser.methods.is_empty(), Precedence::Method),
            (winner.headers.len() != loser.headers.len(), Precedence::Headers),
            (winner.query.len() != loser.query.len(), Precedence::QueryParameters),
            (head(won) != head(rank), Precedence::Head),
        ];
        differs.into_iter().find(|(differs, _)| *differs).map_or(Precedence::Name, |(_, by)| by)
    }
}

/// How far a route is from a request; the least is the nearest. Reasons, then segments of the path that are shared (more first), then
/// how much the texts look alike, then precedence.
type Key = (usize, Reverse<usize>, Reverse<u32>, usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Distance(Key);

impl Distance {
    fn of(rank: usize, lost: &[Lost], query: &Query<'_>) -> Option<Self> {
        let path = lost.iter().find_map(|reason| match reason {
            Lost::Path { shared, pattern, .. } => Some((shared, pattern)),
            _ => None,
        });
        let Some((shared, pattern)) = path else {
            return Some(Self((lost.len(), Reverse(usize::MAX), Reverse(0), rank)));
        };
        let alike = strsim::jaro_winkler(pattern, query.path);
        let depth = shared.matches('/').count();
        if depth == 0 && (lost.len() > 1 || alike < LOOKS_ALIKE) {
            return None;
        }
        // One reason more than it has: a route whose path fits is nearer than one whose path does not.
        Some(Self((lost.len() + 1, Reverse(depth), Reverse((alike * 1000.0) as u32), rank)))
    }
}

/// From here on a path may be a slip of the pen for another.
const LOOKS_ALIKE: f64 = 0.8;

impl Route {
    /// Everything that keeps it from the request.
    fn failures(&self, query: &Query<'_>) -> Vec<Lost> {
        let mut lost = Vec::new();
        if self.host_weight(query.host).is_none() {
            lost.push(Lost::Host(self.hosts.to_vec()));
        }
        if !self.path.matches(query.path) {
            let (kind, pattern) = self.path.written();
            lost.push(Lost::Path { kind, pattern, shared: self.path.shared(query.path) });
        }
        if self.takes_method(query.method).is_none() {
            lost.push(Lost::Method(self.methods.clone()));
        }
        for header in
            self.headers.iter().filter(|header| !header.holds_for((query.header)(header.lower_name())))
        {
            lost.push(Lost::Header(Unmet { name: header.lower_name().to_owned(), wanted: header.wanted() }));
        }
        for parameter in self.query.iter().filter(|p| !p.holds_in(query.query.unwrap_or_default())) {
            lost.push(Lost::Query(Unmet { name: parameter.name().to_owned(), wanted: parameter.wanted() }));
        }
        lost
    }

    /// How well its hosts fit, less is better; `None`: they do not.
    fn host_weight(&self, host: &str) -> Option<(u8, Reverse<usize>)> {
        if self.hosts.is_empty() {
            return Some((2, Reverse(0)));
        }
        let weight = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(exact) => (exact == host).then_some((0, Reverse(0))),
            HostPattern::Suffix(suffix) => (host.len() > suffix.len() && host.ends_with(suffix.as_str()))
                .then_some((1, Reverse(suffix.len()))),
        };
        self.hosts.iter().filter_map(weight).min()
    }
}

impl Path {
    /// Whether it matches, as the index decides it.
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => **text == *path,
            Self::Regex(regex) => regex.is_match(path),
            Self::Prefix(text) => {
                path.strip_prefix(&**text).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Template(pattern) => {
                segments(path).count() == pattern.len()
                    && pattern.iter().zip(segments(path)).all(|(pattern, segment)| pattern.takes(segment))
            }
        }
    }

    /// What kind it is, and its text as somebody would write it.
    pub(super) fn written(&self) -> (&'static str, String) {
        match self {
            Self::Exact(text) => ("exact", text.to_string()),
            Self::Prefix(text) if text.is_empty() => ("prefix", "/".to_owned()),
            Self::Prefix(text) => ("prefix", text.to_string()),
            Self::Regex(regex) => ("regex", super::path::inner(regex.as_str()).to_owned()),
            Self::Template(pattern) => {
                let text = pattern.iter().fold(String::new(), |text, segment| match segment {
                    Segment::Literal(literal) => text + "/" + literal,
                    Segment::Parameter(name) => text + "/{" + name + "}",
                });
                ("template", text)
            }
        }
    }

    /// The beginning that both share, by whole segments.
    fn shared(&self, path: &str) -> String {
        let agree = |pattern: &mut dyn Iterator<Item = Segment>| {
            let pairs = pattern.zip(segments(path));
            pairs
                .take_while(|(pattern, segment)| !segment.is_empty() && pattern.takes(segment))
                .fold(String::new(), |text, (_, segment)| text + "/" + segment)
        };
        match self {
            Self::Exact(text) | Self::Prefix(text) => {
                agree(&mut segments(text).map(|segment| Segment::Literal(segment.into())))
            }
            Self::Template(pattern) => agree(&mut pattern.iter().cloned()),
            Self::Regex(_) => String::new(),
        }
    }
}

impl Segment {
    fn takes(&self, segment: &str) -> bool {
        match self {
            Self::Literal(text) => **text == *segment,
            Self::Parameter(_) => !segment.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FieldMatch, FieldValue, Found, PathPattern, RouteMatch};
    use super::*;
    use proptest::prelude::*;

    fn route(name: &str, path: PathPattern) -> RouteMatch {
        RouteMatch { name: name.into(), path, ..RouteMatch::default() }
    }

    fn near(routes: &[RouteMatch], method: &Method, host: &str, path: &str) -> Vec<(String, Vec<Lost>)> {
        let router = Router::build(routes).expect("sound routes");
        let query = Query { method, host, path, query: None, header: &|_| None };
        let name = |near: Near| (routes[near.index].name.clone(), near.lost);
        router.near(&query, 5).into_iter().map(name).collect()
    }

    #[test]
    fn the_reasons_are_those_of_the_router() {
        let mut post = route("post", PathPattern::Exact("/api/weather".into()));
        post.methods = vec![Method::POST];
        let mut other_host = route("other-host", PathPattern::Exact("/api/weather".into()));
        other_host.hosts = vec![HostPattern::Suffix(".example".into())];
        let mut gold = route("gold", PathPattern::Prefix("/api".into()));
        gold.headers = vec![FieldMatch { name: "X-Tier".into(), value: FieldValue::Exact("gold".into()) }];
        let routes = [
            route("weather", PathPattern::Prefix("/api/weather".into())),
            route("site", PathPattern::Prefix("/".into())),
            post,
            other_host,
            gold,
            route("far", PathPattern::Exact("/x/y".into())),
        ];
        let found = near(&routes, &Method::GET, "a.test", "/api/weather");
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["post", "other-host", "gold", "site"], "in order of precedence: all fail once");
        assert_eq!(found[3].1, [Lost::Weaker(Precedence::PathLength)]);
        assert_eq!(found[0].1, [Lost::Method(vec![Method::POST])]);
        let gold = Unmet { name: "x-tier".into(), wanted: "`gold`".into() };
        assert_eq!(found[2].1, [Lost::Header(gold)]);
    }

    #[test]
    fn a_path_tells_how_far_it_agrees_and_a_slip_of_the_pen_is_near() {
        let routes = [
            route("user", PathPattern::Template("/users/{id}/posts".into())),
            route("weather", PathPattern::Exact("/weather".into())),
        ];
        let found = near(&routes, &Method::GET, "a.test", "/users/7/post");
        let shared = |lost: &[Lost]| match lost {
            [Lost::Path { shared, .. }] => shared.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((found.len(), shared(&found[0].1).as_str()), (1, "/users/7"));
        let found = near(&routes, &Method::GET, "a.test", "/wheather");
        assert_eq!((found[0].0.as_str(), shared(&found[0].1).as_str()), ("weather", ""));
    }

    fn any_route() -> impl Strategy<Value = RouteMatch> {
        let path = prop_oneof![
            Just(PathPattern::Exact("/a/b".into())),
            Just(PathPattern::Exact("/a".into())),
            Just(PathPattern::Template("/a/{x}".into())),
            Just(PathPattern::Template("/{x}/b".into())),
            Just(PathPattern::Regex("/a/.".into())),
            Just(PathPattern::Prefix("/a".into())),
            Just(PathPattern::Prefix("/".into())),
        ];
        let hosts = prop::sample::subsequence(
            vec![
                HostPattern::Exact("x.test".into()),
                HostPattern::Suffix(".test".into()),
                HostPattern::Suffix(".y.test".into()),
            ],
            0..3,
        );
        let methods = prop::sample::subsequence(vec![Method::GET, Method::HEAD, Method::POST], 0..3);
        let field = |name: &str| FieldMatch { name: name.into(), value: FieldValue::Present };
        (path, hosts, methods, 0..2usize, 0..2usize).prop_map(
            move |(path, hosts, methods, headers, query)| RouteMatch {
                name: String::new(),
                path,
                hosts,
                methods,
                headers: vec![field("h"); headers],
                query: vec![field("q"); query],
            },
        )
    }

    proptest! {
        /// The winner has no reason to lose, every other has one, and a loser that matches wins once the winner is away and all
        /// that go before it are: so no explanation can name a route that the router would not take.
        #[test]
        fn no_reason_contradicts_the_router(
            mut routes in prop::collection::vec(any_route(), 1..8),
            host in prop::sample::select(vec!["x.test", "z.test", "z.y.test", "else"]),
            path in prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/c/b", "/a/b/c"]),
            method in prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST]),
            (header, parameter) in any::<(bool, bool)>(),
        ) {
            routes.iter_mut().enumerate().for_each(|(at, route)| route.name = format!("r{at}"));
            let router = Router::assemble(&routes).expect("readable");
            let value = move |_: &str| header.then_some("1");
            let query = Query { method: &method, host, path, query: parameter.then_some("q=1"), header: &value };
            let won = match router.find(&query) { Found::Route { index, .. } => Some(index), _ => None };
            for route in &router.routes {
                let matches = route.failures(&query).is_empty();
                prop_assert!(!matches || won.is_some(), "{:?} matches, and the router found nothing", route.index);
                prop_assert!(matches || won != Some(route.index), "the winner {:?} fails: {:?}", won, route.failures(&query));
                // Alone, it is taken exactly where it has no reason against it.
                let alone = Router::assemble(&routes[route.index..=route.index]).expect("readable");
                prop_assert_eq!(matches, matches!(alone.find(&query), Found::Route { .. }));
                if matches && won != Some(route.index) && let Some(won) = won {
                    let pair = [routes[won].clone(), routes[route.index].clone()];
                    let both = Router::assemble(&pair).expect("readable");
                    prop_assert!(matches!(both.find(&query), Found::Route { index: 0, .. }), "the winner of all wins of two");
                }
            }
            for near in router.near(&query, 100) {
                prop_assert!(!near.lost.is_empty() && Some(near.index) != won);
            }
        }
    }
}
