//! Which route a request takes.
//!
//! Built once per configuration from what the routes match, then only read. The winner is Gateway API's
//! (HTTPRoute, `HTTPRouteRule.matches`), in this order, and never depends on the order of the file:
//!
//! 1. host: an exact one, then the longest `*.` one, then none;
//! 2. path: `exact`, then `template` (more literal characters first), then `regex`, then the longest `prefix` (Gateway API
//!    leaves a regex's place open; before the prefixes, as in nginx, it can stand beside `prefix: /`);
//! 3. a method named before none, then more headers, then more query parameters, then the first name in the alphabet.
//!
//! A request falls through: where no route of the more specific host matches, the less specific ones are asked. So a
//! route without hosts serves every host that has nothing better, as people expect of it. `HEAD` takes the routes of
//! `GET` (RFC 9110 §9.3.2), after those that name `HEAD` themselves.
//!
//! Hosts and paths come in normalised (`proxy/normalise`); patterns are compared with that form, byte for byte. This
//! room knows no upstream and no policy: a route is an index.

mod fields;
mod index;
mod near;
mod path;
mod problems;

#[cfg(test)]
mod tests;

pub use fields::{FieldMatch, FieldValue};
pub use near::{Lost, Near, Precedence, Unmet};
pub use path::PathPattern;
pub use problems::RouteProblem;

use fields::Condition;
use http::Method;
use index::HostIndex;
use path::Path;
use std::cmp::Reverse;
use std::collections::HashMap;

/// What a route matches, as written. Everything in it must hold.
#[derive(Debug, Clone, Default)]
pub struct RouteMatch {
    /// The route's name: the last tie-breaker. Unique within a configuration.
    pub name: String,
    /// Any of these; none means every host.
    pub hosts: Vec<HostPattern>,
    /// Any of these; none means every method.
    pub methods: Vec<Method>,
    /// The path; `prefix: /` by default.
    pub path: PathPattern,
    /// All of these. Names in any case.
    pub headers: Vec<FieldMatch>,
    /// All of these, compared decoded. Names as they are.
    pub query: Vec<FieldMatch>,
}

/// Hosts that a route serves, in the form of `normalise::authority`: lower case, no trailing dot, no port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host alone.
    Exact(String),
    /// `*.example`, written here as `.example`: one or more labels before it, but not `example` itself.
    Suffix(String),
}

/// The facts of a request that choose its route.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The method.
    pub method: &'a Method,
    /// The host, normalised, without port.
    pub host: &'a str,
    /// The path, normalised.
    pub path: &'a str,
    /// The query, as it came.
    pub query: Option<&'a str>,
    /// The first value of a header, asked for by its lower-case name.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// Where a request goes.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'r, 'q> {
    /// To this route.
    Route {
        /// Its place in the list that the router was built from.
        index: usize,
        /// The template's names with what stands in the path for them, still percent-encoded. Empty for other paths.
        params: Vec<(&'r str, &'q str)>,
    },
    /// Nowhere, but another method would: 405 with these in `Allow` (RFC 9110 §15.5.6), sorted.
    MethodNotAllowed {
        /// What would have matched, `HEAD` beside every `GET`.
        allow: Vec<Method>,
    },
    /// Nowhere: 404.
    NotFound,
}

/// The index over all routes. Part of the plan; shared by all workers, never changed.
#[derive(Debug, Default)]
pub struct Router {
    /// In order of precedence, host aside. A rank is a place in this list.
    routes: Vec<Route>,
    exact: HashMap<Box<str>, HostIndex>,
    suffixes: HashMap<Box<str>, HostIndex>,
    any: HostIndex,
}

/// A route, ready to be asked.
#[derive(Debug)]
struct Route {
    /// Its place in the caller's list.
    index: usize,
    /// Equal for routes that only `HEAD` and the name can tell apart, and growing with the rank.
    tier: usize,
    /// For [`near`]; the index knows them by itself.
    hosts: Box<[HostPattern]>,
    methods: Vec<Method>,
    path: Path,
    headers: Vec<Condition>,
    query: Vec<Condition>,
}

/// A route that matches. The least is the winner: `(tier, only as GET for HEAD, rank)`.
type Candidate = (usize, bool, usize);

impl Router {
    /// Builds the index.
    ///
    /// # Errors
    /// Every [`RouteProblem`] there is, in a stable order. Conflicts and unreachable routes are only looked for once
    /// all patterns can be read.
    pub fn build(matches: &[RouteMatch]) -> Result<Self, Vec<RouteProblem>> {
        let router = Self::assemble(matches)?;
        let problems = problems::find(matches, &router);
        if problems.is_empty() { Ok(router) } else { Err(problems) }
    }

    /// Builds the index of readable routes, whatever they do to each other.
    fn assemble(matches: &[RouteMatch]) -> Result<Self, Vec<RouteProblem>> {
        let mut problems = Vec::new();
        let mut routes = Vec::with_capacity(matches.len());
        for (index, written) in matches.iter().enumerate() {
            match Route::compile(index, written) {
                Ok(route) => routes.push((written, route)),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        routes.sort_by(|(a, left), (b, right)| {
            left.weight().cmp(&right.weight()).then_with(|| a.name.cmp(&b.name))
        });
        let mut router = Self::default();
        let mut last_weight = None;
        let mut tier = 0;
        for (rank, (written, mut route)) in routes.into_iter().enumerate() {
            let weight = route.weight();
            tier += usize::from(last_weight.is_some_and(|last| last != weight));
            last_weight = Some(weight);
            route.tier = tier;
            router.enter(written, rank, &route.path);
            router.routes.push(route);
        }
        Ok(router)
    }

    fn enter(&mut self, written: &RouteMatch, rank: usize, path: &Path) {
        if written.hosts.is_empty() {
            self.any.insert(path, rank);
        }
        for host in &written.hosts {
            let index = match host {
                HostPattern::Exact(host) => self.exact.entry(host.as_str().into()),
                HostPattern::Suffix(suffix) => self.suffixes.entry(suffix.as_str().into()),
            };
            index.or_default().insert(path, rank);
        }
    }

    /// The kind and the text of the path of the route at this place in the caller's list.
    #[must_use]
    pub fn pattern(&self, index: usize) -> Option<(&'static str, String)> {
        self.routes.iter().find(|route| route.index == index).map(|route| route.path.written())
    }

    /// Finds the route of a request. Allocates only for a template's parameters, for a query parameter that is compared
    /// with a regex, and for [`Found::MethodNotAllowed`].
    pub fn find<'r, 'q>(&'r self, query: &Query<'q>) -> Found<'r, 'q> {
        if let Some((_, _, rank)) = self.winner(query)
            && let Some(route) = self.routes.get(rank)
        {
            return Found::Route { index: route.index, params: route.path.params(query.path) };
        }
        self.without_route(query)
    }

    /// The places of all routes whose host and path take these, whatever else they ask for.
    #[must_use]
    pub fn on(&self, host: &str, path: &str) -> Vec<usize> {
        let mut found = Vec::new();
        for host in self.hosts(host) {
            host.each_on(path, &mut |rank| found.extend(self.routes.get(rank).map(|route| route.index)));
        }
        found
    }

    fn winner(&self, query: &Query<'_>) -> Option<Candidate> {
        let fits = |rank| self.candidate(rank, query);
        self.hosts(query.host).find_map(|host| host.find(query.path, &fits))
    }

    /// Every index that may know `host`, the most specific first.
    fn hosts<'r>(&'r self, host: &str) -> impl Iterator<Item = &'r HostIndex> {
        let dots = if self.suffixes.is_empty() { "" } else { host };
        let suffixes = dots.match_indices('.').filter_map(|(dot, _)| host.get(dot..));
        self.exact
            .get(host)
            .into_iter()
            .chain(suffixes.filter_map(|suffix| self.suffixes.get(suffix)))
            .chain(std::iter::once(&self.any))
    }

    /// Whether the route of `rank`, whose host and path match, matches altogether.
    fn candidate(&self, rank: usize, query: &Query<'_>) -> Option<Candidate> {
        let route = self.routes.get(rank)?;
        let is_head_as_get = route.takes_method(query.method)?;
        route.conditions_hold(query).then_some((route.tier, is_head_as_get, rank))
    }

    /// 405 if only the method was wrong, else 404.
    fn without_route(&self, query: &Query<'_>) -> Found<'static, 'static> {
        let mut allow: Vec<Method> = Vec::new();
        for host in self.hosts(query.host) {
            host.each_on(query.path, &mut |rank| {
                if let Some(route) = self.routes.get(rank).filter(|route| route.conditions_hold(query)) {
                    allow.extend(route.methods.iter().cloned());
                }
            });
        }
        if allow.is_empty() {
            return Found::NotFound;
        }
        if allow.contains(&Method::GET) {
            allow.push(Method::HEAD);
        }
        allow.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        allow.dedup();
        Found::MethodNotAllowed { allow }
    }
}

impl Route {
    fn compile(index: usize, written: &RouteMatch) -> Result<Self, RouteProblem> {
        let bad_regex = |error: regex::Error| RouteProblem::BadRegex { route: index, why: error.to_string() };
        let compile_all = |fields: &[FieldMatch]| -> Result<Vec<Condition>, RouteProblem> {
            fields.iter().map(|field| Condition::compile(field).map_err(bad_regex)).collect()
        };
        Ok(Self {
            index,
            tier: 0,
            hosts: written.hosts.clone().into(),
            methods: written.methods.clone(),
            path: Path::compile(index, &written.path)?,
            headers: compile_all(&written.headers)?,
            query: compile_all(&written.query)?,
        })
    }

    /// Precedence without host and name: less is first.
    fn weight(&self) -> impl Ord + Copy + use<> {
        let (class, length) = self.path.weight();
        let no_method = self.methods.is_empty();
        (class, Reverse(length), no_method, Reverse(self.headers.len()), Reverse(self.query.len()))
    }

    /// Whether it takes the method, and then whether as GET for HEAD.
    fn takes_method(&self, method: &Method) -> Option<bool> {
        if self.methods.is_empty() || self.methods.contains(method) {
            return Some(false);
        }
        (method == Method::HEAD && self.methods.contains(&Method::GET)).then_some(true)
    }

    fn conditions_hold(&self, query: &Query<'_>) -> bool {
        self.headers.iter().all(|header| header.holds_for((query.header)(header.lower_name())))
            && self.query.iter().all(|parameter| parameter.holds_in(query.query.unwrap_or_default()))
    }
}
