//! `routes`: each with its match, its policies in the fixed order, and the index over all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::{Owner, RouteFile};
use super::owners::{self, Claim, Owners};
use super::router::{PathPattern, RouteMatch, Router};
use super::upstreams::{Declared, Entry, UpstreamPlan};
use super::{Options, Process, Slots, conflicts, fingerprint, matching, schema};
use crate::config::{Problems, Section, codes};
use crate::names::{NameError, RouteName, UpstreamName};
use crate::policy::errors::Errors;
use crate::policy::origin::{ReverseMap, WayBack};
use crate::policy::{
    Build, Chain, KINDS, Kind, PathShape, Place, Settings, UpstreamFacts, UpstreamKind, cache,
};
use crate::telemetry::RouteMetrics;

/// The most routes of one configuration.
pub const MAX_ROUTES: usize = 20_000;

/// One compiled route.
pub struct Route {
    /// Its name: label, problem document, log.
    pub name: RouteName,
    /// A hash of what is written: part of every cache key, so that an answer shaped by other rules is never found.
    pub fingerprint: u64,
    /// Its policies.
    pub chain: Chain,
    /// What the journey reads itself.
    pub settings: Settings,
    /// Where it leads; `None` where it answers itself.
    pub upstream: Option<Arc<UpstreamPlan>>,
    /// Its counters.
    pub metrics: Arc<RouteMetrics>,
    /// Where it is written.
    pub section: Section,
}

impl Route {
    /// Where the settings of a kind are written; `None`: nowhere, its defaults apply.
    #[must_use]
    pub fn written(&self, kind: &Kind) -> Option<Section> {
        match kind.place {
            Place::Route => lookup(&self.section, kind.key),
            Place::Upstream => lookup(&self.upstream.as_ref()?.section, kind.key),
            Place::Implied => None,
        }
    }

    /// Whether the miss is our own exchange: everything from an `api`, what is shaped, and where errors are masked. The rest is
    /// Pingora's stock path.
    #[must_use]
    pub fn holds_answer(&self) -> bool {
        self.settings.json.is_some()
            || self.settings.errors != Errors::Pass
            || self.upstream.as_ref().is_some_and(|u| u.kind == UpstreamKind::Api)
    }
}

/// A route as far as the first pass reads it.
pub(super) struct Draft<'a> {
    pub(super) name: RouteName,
    pub(super) section: Section,
    pub(super) owner: &'a Owner,
    pub(super) matched: RouteMatch,
    shape: PathShape,
    upstream: Option<&'a Entry>,
}

/// The keys that say where a route leads; it has one of them.
const TARGETS: [&str; 3] = ["upstream", "redirect", "respond"];

const PLANNED: [&str; 8] = [
    "when\n`match: { methods, hosts, headers, query }` tells requests apart",
    "split\na route leads to one upstream; its `endpoints` can have a `weight` each",
    "mirror",
    "cors\n`response: { headers: { set: { access-control-allow-origin: ... } } }` allows one origin",
    "access",
    "auth\nlet the upstream decide: `request: { headers: { forward: [authorization] } }` shows it who asks",
    "wasm",
    "slo",
];

/// Every route, the index over them and the upstreams they use.
type Compiled = (Vec<Arc<Route>>, Router, BTreeMap<UpstreamName, Arc<UpstreamPlan>>);

/// Compiles all routes; `None` where a mistake makes that impossible.
pub(super) fn compile(
    files: &[RouteFile],
    owners: Option<&Owners>,
    declared: &Declared,
    secrets: &Slots,
    process: &Process,
    options: &Options<'_>,
    problems: &mut Problems,
) -> Option<Compiled> {
    let all = || files.iter().flat_map(|file| file.routes.iter().map(move |route| (&file.owner, route)));
    if let Some((_, first_too_many)) = all().nth(MAX_ROUTES) {
        let message = format!("at most {MAX_ROUTES} routes, of all files together");
        problems.error(codes::BAD_VALUE, first_too_many.path(), message);
        return None;
    }
    let mut names = Vec::new();
    let drafts: Vec<Draft<'_>> = all()
        .filter_map(|(owner, item)| {
            let name = name(item, owner, problems);
            names.extend(name.clone().map(|name| (name, item)));
            draft(item, name, owner, declared, secrets, process, problems)
        })
        .collect();
    conflicts::duplicate_names(&names, problems);

    let matches: Vec<RouteMatch> = drafts.iter().map(|draft| draft.matched.clone()).collect();
    let router = match Router::build(&matches) {
        Ok(router) => Some(router),
        Err(found) => {
            for problem in found {
                conflicts::report(&problem, &drafts, problems);
            }
            None
        }
    };
    if router.is_some() {
        conflicts::warn_of_crossings(&drafts, owners, problems);
    }
    let upstreams = declared.build(process, options, problems);
    let reverse = reverse_maps(&drafts);
    let mut routes = Vec::with_capacity(drafts.len());
    for draft in &drafts {
        routes.push(Arc::new(route(draft, &reverse, &upstreams, secrets, process, options, problems)));
    }
    Some((routes, router?, upstreams))
}

fn draft<'a>(
    section: &Section,
    name: Option<RouteName>,
    owner: &'a Owner,
    declared: &'a Declared,
    secrets: &Slots,
    process: &Process,
    problems: &mut Problems,
) -> Option<Draft<'a>> {
    section.check_keys_in(&schema::ROUTE_KEYS, &PLANNED, problems);
    if let Some(response) = section.get("response") {
        let planned = [
            "status",
            "hold",
            "onLeak",
            "compress\nlet what stands in front of the gateway compress",
            "body\n`json` takes members out of a JSON body",
        ];
        response.check_keys_in(&schema::RESPONSE_KEYS, &planned, problems);
    }
    let target = target(section, declared, problems);
    let matched =
        matching::read(section.get("match").as_ref(), name.as_ref().map_or("", RouteName::as_str), problems);
    if let Some(grant) = owner.grant() {
        let upstream = section.get("upstream");
        let upstream = upstream.as_ref().and_then(|name| name.value().as_str());
        let claim = Claim {
            section,
            matched: matched.as_ref().map(|(matched, _)| matched),
            upstream: upstream.filter(|name| declared.is_declared(name)),
        };
        owners::check(grant, &claim, problems);
    }
    if name.is_none() || target.is_none() || matched.is_none() {
        let shape = matched.map(|(_, shape)| shape);
        check_policies(section, owner, shape, target.flatten(), secrets, process, problems);
        return None;
    }
    let (name, (matched, shape), upstream) = (name?, matched?, target?);
    if let (Some(entry), PathPattern::Prefix(prefix)) = (upstream, &matched.path)
        && entry.kind == UpstreamKind::Api
        && prefix == "/"
        && matched.headers.is_empty()
        && matched.query.is_empty()
    {
        let at = section.get("match").unwrap_or_else(|| section.clone());
        problems
            .warning(
                codes::CATCH_ALL_TO_API,
                at.path(),
                "every path leads to somebody else's API, with our credential",
            )
            .help("name the part of it that the app needs, such as `prefix: /api/weather`");
    }
    Some(Draft { name, section: section.clone(), owner, matched, shape, upstream })
}

/// Checks the policies of a route that cannot be compiled for another reason, so that all its mistakes are told at once. Where the
/// upstream or the path is the mistake, what hangs on it is not judged.
fn check_policies(
    section: &Section,
    owner: &Owner,
    shape: Option<PathShape>,
    upstream: Option<&Entry>,
    secrets: &Slots,
    process: &Process,
    problems: &mut Problems,
) {
    let Ok(name) = RouteName::parse("unnamed") else { return };
    let leads_elsewhere = section.get("redirect").is_some() || section.get("respond").is_some();
    let unknown =
        UpstreamFacts { kind: UpstreamKind::App, base_path: String::new(), reverse: Arc::default() };
    let facts =
        upstream.map(|entry| facts_of(entry, &BTreeMap::new())).or((!leads_elsewhere).then_some(unknown));
    let secret = |name: &str| secrets.get(name, section.path(), &mut Problems::new());
    let knows_path = shape.is_some();
    let mut build = Build {
        route: &name,
        path: shape.unwrap_or(PathShape::Whole),
        upstream: facts,
        injected: Vec::new(),
        secret: &secret,
        limits: &process.limits,
        problems,
        settings: Settings::default(),
        limit_names: Vec::new(),
        quotas: Vec::new(),
    };
    for kind in
        KINDS.iter().filter(|kind| kind.place == Place::Route && (knows_path || kind.key != "rewrite"))
    {
        let written = lookup(section, kind.key);
        if written.is_some() {
            // Only its mistakes are wanted.
            let _ = (kind.compile)(written.as_ref(), &mut build);
        }
    }
    check_limits(section, owner, &mut build);
}

fn check_limits(section: &Section, owner: &Owner, build: &mut Build<'_>) {
    if let Some(grant) = owner.grant() {
        owners::check_limits(grant, section, &build.quotas, build.settings.cache.as_ref(), build.problems);
    }
}

fn facts_of(entry: &Entry, reverse: &BTreeMap<UpstreamName, Arc<ReverseMap>>) -> UpstreamFacts {
    UpstreamFacts {
        kind: entry.kind,
        base_path: entry.settings.base_path.clone(),
        reverse: reverse.get(&entry.name).cloned().unwrap_or_default(),
    }
}

fn name(section: &Section, owner: &Owner, problems: &mut Problems) -> Option<RouteName> {
    let at = section.require("name", problems)?;
    let text = at.decode::<String>(problems)?;
    let parsed = match owner {
        Owner::Platform => RouteName::parse(&text),
        Owner::Team(team) => RouteName::of_team(&team.name, &text),
        // Whether it is a name can be told; what the route is called cannot.
        Owner::Unknown => RouteName::parse(&text),
    };
    match parsed {
        Ok(_) if matches!(owner, Owner::Unknown) => None,
        Ok(name) => Some(name),
        Err(why) => {
            let problem = problems.error(codes::BAD_NAME, at.path(), format!("`{text}` is no name: {why}"));
            match (why, owner) {
                (NameError::BadCharacter('/'), Owner::Platform) => {
                    problem.help("only the routes of a team's file have a slash in their names, and it is put there for them");
                }
                (NameError::BadCharacter('/'), _) => {
                    problem.help("the team is put before it: in the file of `team: checkout`, `name: pay` is called `checkout/pay`");
                }
                _ => {}
            }
            None
        }
    }
}

/// `Some(None)`: the route answers itself. `None`: a mistake, recorded.
fn target<'a>(
    section: &Section,
    declared: &'a Declared,
    problems: &mut Problems,
) -> Option<Option<&'a Entry>> {
    let written: Vec<&str> = TARGETS.into_iter().filter(|key| section.get(key).is_some()).collect();
    match written.as_slice() {
        ["upstream"] => {
            let at = section.get("upstream")?;
            let name = at.decode::<String>(problems)?;
            declared.get(&name, &at, problems).map(Some)
        }
        [_] => Some(None),
        // What was meant was told at the key that is not known.
        [] if TARGETS.into_iter().any(|key| problems.is_meant(section.path(), key)) => None,
        [] => {
            problems
                .error(codes::NO_TARGET, section.path(), "this route leads nowhere")
                .help("give it an `upstream`, a `redirect` or a `respond`");
            None
        }
        several => {
            problems.error(
                codes::NO_TARGET,
                section.path(),
                format!("a route leads to one place, found `{}`", several.join("` and `")),
            );
            None
        }
    }
}

/// For each upstream, where its paths are public.
fn reverse_maps(drafts: &[Draft<'_>]) -> BTreeMap<UpstreamName, Arc<ReverseMap>> {
    let mut ways: BTreeMap<UpstreamName, (&Entry, Vec<WayBack>)> = BTreeMap::new();
    for draft in drafts {
        let Some(entry) = draft.upstream else { continue };
        let (_, list) = ways.entry(entry.name.clone()).or_insert_with(|| (entry, Vec::new()));
        list.extend(way_back(draft, &entry.settings.base_path));
    }
    ways.into_iter()
        .map(|(name, (entry, list))| {
            let parameter = entry.injection.as_ref().and_then(|injection| injection.parameter.clone());
            (name, Arc::new(ReverseMap::new(authorities(entry), list).without_key(parameter)))
        })
        .collect()
}

fn authorities(entry: &Entry) -> Vec<String> {
    let mut list = Vec::new();
    for endpoint in &entry.settings.endpoints {
        list.push(format!("{}:{}", endpoint.host, endpoint.port));
        if endpoint.port == endpoint.scheme.default_port() {
            list.push(endpoint.host.clone());
        }
    }
    list.sort_unstable();
    list.dedup();
    list
}

fn way_back(draft: &Draft<'_>, base: &str) -> Option<WayBack> {
    let rewrite = draft.section.get("rewrite");
    let text = |key: &str| {
        rewrite.as_ref().and_then(|r| r.get(key)).and_then(|v| v.value().as_str().map(str::to_owned))
    };
    let trimmed = |path: &str| path.trim_end_matches('/').to_owned();
    match &draft.matched.path {
        PathPattern::Prefix(prefix) => {
            if text("replaceFullPath").is_some() {
                return None;
            }
            let inner = text("replacePrefixMatch").unwrap_or_else(|| prefix.clone());
            Some(WayBack {
                upstream: format!("{base}{}", trimmed(&inner)),
                public: trimmed(prefix),
                exact: false,
            })
        }
        PathPattern::Exact(path) => {
            let inner = text("replaceFullPath").unwrap_or_else(|| path.clone());
            let upstream = format!("{base}{}", trimmed(&inner));
            (!inner.contains('{')).then(|| WayBack { upstream, public: trimmed(path), exact: true })
        }
        PathPattern::Template(_) | PathPattern::Regex(_) => None,
    }
}

fn route(
    draft: &Draft<'_>,
    reverse: &BTreeMap<UpstreamName, Arc<ReverseMap>>,
    upstreams: &BTreeMap<UpstreamName, Arc<UpstreamPlan>>,
    secrets: &Slots,
    process: &Process,
    _options: &Options<'_>,
    problems: &mut Problems,
) -> Route {
    let facts = draft.upstream.map(|entry| facts_of(entry, reverse));
    let injected = draft
        .upstream
        .and_then(|entry| entry.injection.as_ref())
        .and_then(|injection| injection.header.clone())
        .into_iter()
        .collect();
    // Names were checked where the upstream was read; a slot that is missing here was reported there.
    let secret = |name: &str| secrets.get(name, draft.section.path(), &mut Problems::new());
    let names = std::cell::RefCell::new(Vec::new());
    let named = |name: &str| {
        names.borrow_mut().push(name.to_owned());
        secret(name)
    };
    let mut build = Build {
        route: &draft.name,
        path: draft.shape.clone(),
        upstream: facts,
        injected,
        secret: &secret,
        limits: &process.limits,
        problems,
        settings: Settings::default(),
        limit_names: Vec::new(),
        quotas: Vec::new(),
    };
    let mut chain = Chain::default();
    for kind in KINDS {
        // The upstream's own secrets are the platform's; those that a route's policy names are the team's to be granted.
        build.secret = if kind.place == Place::Route { &named } else { &secret };
        let section = match kind.place {
            Place::Route => lookup(&draft.section, kind.key),
            Place::Upstream => draft.upstream.and_then(|entry| lookup(&entry.section, kind.key)),
            Place::Implied => None,
        };
        if let Some(policy) = (kind.compile)(section.as_ref(), &mut build) {
            chain.push(kind, policy);
        }
        if let (Some(grant), Some(section)) = (draft.owner.grant(), section) {
            owners::check_secrets(grant, &section, names.take(), build.problems);
        }
    }
    check_limits(&draft.section, draft.owner, &mut build);
    cache::check_share(&draft.section, &mut build);
    let limit_names: Vec<&str> = build.limit_names.iter().map(String::as_str).collect();
    let metrics = process.metrics.route(draft.name.as_str(), &limit_names);
    Route {
        name: draft.name.clone(),
        fingerprint: fingerprint::of(
            draft.section.value(),
            draft.upstream.map(|entry| entry.section.value()),
        ),
        chain,
        settings: build.settings,
        upstream: draft.upstream.and_then(|entry| upstreams.get(&entry.name)).cloned(),
        metrics,
        section: draft.section.clone(),
    }
}

fn lookup(section: &Section, key: &str) -> Option<Section> {
    key.split('.').try_fold(section.clone(), |section, part| section.get(part))
}
