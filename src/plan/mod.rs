//! The compiled configuration: immutable, swapped whole.
//!
//! [`Plan::compile`] turns the document into a plan or says everything that is wrong with it; half a plan does not exist. Each
//! request holds the plan it began with until its end, so a reload never mixes two. What must survive a reload (limits, secrets,
//! resolved names, metrics) lives in [`Process`] and is only referred to from here.

mod address_or_port;
pub mod cases;
mod conflicts;
pub mod counters;
pub mod diff;
mod files;
mod fingerprint;
mod gateway;
pub mod listeners;
pub mod matching;
pub mod owners;
pub mod route;
pub mod router;
pub mod schema;
pub mod secrets;
pub mod upstreams;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Document, Problems, Report, Section, codes, keys_of};
use crate::exchange::Exchange;
use crate::limit;
use crate::names::{ListenerName, SecretName, UpstreamName};
use crate::secret::{SecretSlot, SecretStore};
use crate::telemetry::Metrics;
use crate::upstream::{Resolver, Stage};

use owners::Owners;

pub use counters::CounterTable;
pub use gateway::{
    AccessLogSink, CacheZone, DEFAULT_CACHE_BYTES, DEFAULT_GRACE, DEFAULT_MAX_OBJECT_BYTES,
    DEFAULT_UPGRADE_TIMEOUT, Upgrade,
};
pub use listeners::{Admin, AdminAddress, Listener, TlsFiles};
pub use route::Route;
pub use secrets::{DEFAULT_KEEP_LAST_GOOD, Slots};
pub use upstreams::UpstreamPlan;

/// What lives as long as the process and is only referred to by plans.
pub struct Process {
    /// Secret values by name.
    pub secrets: SecretStore,
    /// Background name resolution.
    pub resolver: Arc<Resolver>,
    /// Counters of all rate limits. Where they lie is settled when the configuration was read.
    pub limits: Arc<limit::Counters>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
}

impl Process {
    /// A fresh one. Must be called within a tokio runtime: the resolver works in the background.
    #[must_use]
    pub fn new() -> Self {
        Self {
            secrets: SecretStore::new(),
            resolver: Resolver::new(),
            limits: Arc::new(limit::Counters::new(counters::DEFAULT_KEYS as usize)),
            metrics: Metrics::new(),
        }
    }
}

impl Process {
    /// One for trying a configuration: every upstream is played by `stage`, and there is room for the clients of a test only.
    #[must_use]
    pub fn staged(stage: Arc<dyn Stage>) -> Self {
        Self {
            secrets: SecretStore::new(),
            resolver: Resolver::staged(stage),
            limits: Arc::new(limit::Counters::new(STAGED_LIMIT_TABLE_KEYS)),
            metrics: Metrics::new(),
        }
    }
}

/// Keys of the limits of one test: written anew for each.
const STAGED_LIMIT_TABLE_KEYS: usize = 1 << 13;

impl Default for Process {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether secrets are read while a plan is compiled.
#[derive(Debug, Clone, Copy)]
pub enum Secrets {
    /// Read, and a missing one refuses the plan.
    Read,
    /// Only their names are checked: for `check --no-secrets` on a machine that has none.
    Assume,
    /// Never read: each gets the value that is made up for its name, for `test`.
    Invent(fn(&SecretName) -> String),
}

/// How a plan is compiled.
pub struct Options<'a> {
    /// Whether secrets are read.
    pub secrets: Secrets,
    /// The directory of the configuration file; relative paths in it start here.
    pub directory: &'a Path,
    /// Checks a certificate of a listener with its key, and says everything that is wrong with the two files.
    pub check_certificates: &'a dyn Fn(&TlsFiles) -> Vec<listeners::FileMistake>,
    /// Whether the TLS files of upstreams are read.
    pub tls: UpstreamTls,
    /// Whether the cases under `tests` are looked at.
    pub cases: Cases,
}

/// Whether the cases under `tests` are looked at while a plan is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cases {
    /// Left alone: a gateway serves whatever its tests are.
    Ignore,
    /// Checked, and a mistake in one refuses the plan.
    Check,
}

/// Whether the authorities and client certificates of upstreams are read while a plan is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Read, and a bad one refuses the plan.
    Read,
    /// Left out: for telling of a configuration on a machine that has none of its files. Such a plan connects to no upstream.
    Assume,
}

/// One configuration, compiled.
pub struct Plan {
    /// A hash of the document: shown in metrics, so that instances can be compared.
    pub fingerprint: u64,
    /// Where clients come in.
    pub listeners: Vec<Listener>,
    /// Where operators come in.
    pub admin: Option<Admin>,
    /// The cache zone.
    pub cache: CacheZone,
    /// Where a hand-over is asked for.
    pub upgrade: Option<Upgrade>,
    /// Where the counters of all rate limits lie.
    pub counters: CounterTable,
    /// The access log.
    pub access_log: AccessLogSink,
    /// How long a drain may take.
    pub grace: Duration,
    /// How long new requests are still taken after a drain began, so that a load balancer notices.
    pub drain_delay: Duration,
    /// Every route; the router's index points here.
    pub routes: Vec<Arc<Route>>,
    /// Every upstream.
    pub upstreams: BTreeMap<UpstreamName, Arc<UpstreamPlan>>,
    /// The secrets in use.
    pub secrets: Vec<SecretName>,
    /// The token that the admin side asks for.
    pub admin_token: Option<Arc<SecretSlot>>,
    router: router::Router,
    /// As written: where everything stands, and for the admin side.
    document: Document,
}

/// What a request's way through the router led to.
pub enum Routed {
    /// A route.
    Route(Arc<Route>),
    /// The path is there, the method is not.
    MethodNotAllowed(Vec<http::Method>),
    /// Nothing matches.
    NotFound,
}

impl Plan {
    /// Compiles a document.
    ///
    /// # Errors
    /// A report with every mistake; nothing of the process has changed.
    pub fn compile(
        document: &Document,
        process: &Process,
        options: &Options<'_>,
    ) -> Result<(Self, Report), Report> {
        let mut problems = Problems::new();
        let plan = compile(document, process, options, &mut problems);
        let report = document.report(problems);
        match plan {
            Some(plan) if !report.has_errors() => Ok((plan, report)),
            _ => Err(report),
        }
    }

    /// Finds the route for a request and keeps what its path captured.
    pub fn route(&self, exchange: &mut Exchange, headers: &http::HeaderMap) -> Routed {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let found = self.router.find(&query(exchange, &header));
        match found {
            router::Found::Route { index, params } => {
                let params =
                    params.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
                match self.routes.get(index) {
                    Some(route) => {
                        exchange.params = params;
                        Routed::Route(route.clone())
                    }
                    None => Routed::NotFound,
                }
            }
            router::Found::MethodNotAllowed { allow } => Routed::MethodNotAllowed(allow),
            router::Found::NotFound => Routed::NotFound,
        }
    }

    /// The routes whose host and path take the request, whatever else they ask for.
    pub fn routes_on(&self, exchange: &Exchange) -> impl Iterator<Item = &Arc<Route>> {
        self.router.on(&exchange.host, &exchange.path).into_iter().filter_map(|index| self.routes.get(index))
    }

    /// The routes that nearly took the request, for people: it looks at all of them.
    #[must_use]
    pub fn near(&self, exchange: &Exchange, headers: &http::HeaderMap, most: usize) -> Vec<router::Near> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        self.router.near(&query(exchange, &header), most)
    }

    /// The document as written, for the admin side: it holds references to secrets, never their values.
    #[must_use]
    pub fn shown(&self) -> serde_json::Value {
        serde_json::to_value(self.document.root().value()).unwrap_or_default()
    }

    /// The included files in the same manner, by name.
    #[must_use]
    pub fn included(&self) -> BTreeMap<String, serde_json::Value> {
        let of = |file: &Section| {
            (file.place().file.to_string(), serde_json::to_value(file.value()).unwrap_or_default())
        };
        self.document.included().iter().map(of).collect()
    }

    /// Where a listener is written.
    #[must_use]
    pub fn listener_section(&self, name: &ListenerName) -> Option<Section> {
        let section = self.document.root().get("listeners")?;
        let mut items = section.items(&mut Problems::new()).into_iter();
        items.find(|item| {
            item.get("name").is_some_and(|written| written.value().as_str() == Some(name.as_str()))
        })
    }

    /// The kind and the text of a route's path.
    #[must_use]
    pub fn pattern(&self, route: &Route) -> Option<(&'static str, String)> {
        let index = self.routes.iter().position(|other| std::ptr::eq(&**other, route))?;
        self.router.pattern(index)
    }
}

/// What the router is asked for a request.
fn query<'a>(exchange: &'a Exchange, header: &'a dyn Fn(&str) -> Option<&'a str>) -> router::Query<'a> {
    router::Query {
        method: &exchange.method,
        host: &exchange.host,
        path: &exchange.path,
        query: exchange.query.as_deref(),
        header,
    }
}

/// The key of the main file that names further files, for [`crate::config::load`].
pub const INCLUDE: &str = "include";

const PLANNED: [&str; 3] = ["metrics", "plugins", "tracing"];

fn compile(
    document: &Document,
    process: &Process,
    options: &Options<'_>,
    problems: &mut Problems,
) -> Option<Plan> {
    let root = document.root();
    if root.value().is_null() {
        problems.error(codes::NULL_VALUE, root.path(), "this file is empty").help(
            "it begins with `version: 1` and has `listeners` and `routes`; conf/minimal.yaml is a whole one",
        );
        return None;
    }
    root.check_keys::<schema::FileSpec>(&PLANNED, problems);
    check_version(&root, problems);

    let listeners = listeners::listeners(&root, options, problems);
    let admin = listeners::admin(&root, options, problems);
    let cache = gateway::cache_zone(&root, options, problems);
    let counters = counters::read(&root, cache.file.as_ref(), options, problems);
    let upgrade = gateway::upgrade(&root, options, problems);
    let access_log = gateway::access_log(&root, options, problems);
    let shutdown = root.get("shutdown").and_then(|s| s.decode::<gateway::ShutdownSpec>(problems));
    let (grace, drain_delay) = shutdown.map_or((None, None), |spec| (spec.grace, spec.delay));

    let secrets = Slots::read(&root, process, options, problems);
    let upstreams = upstreams::Declared::read(&root, &secrets, problems);
    let main_keys: Vec<&str> = keys_of::<schema::FileSpec>().iter().copied().chain(PLANNED).collect();
    let owners = Owners::read(&root, &upstreams, &secrets, problems);
    let files = files::read(document, owners.as_ref(), &main_keys, problems);
    let compiled = route::compile(&files, owners.as_ref(), &upstreams, &secrets, process, options, problems);
    let admin_token = admin
        .as_ref()
        .and_then(|admin| admin.token.as_ref())
        .and_then(|(name, at)| secrets.get(name, at, problems));
    // Behind a misspelled name everything looks unused: such warnings are only worth something without mistakes.
    if !problems.has_errors() && document.is_whole() {
        secrets.warn_of_unused(&root, problems);
        upstreams.warn_of_unused(&root, problems);
    }

    let (routes, router, upstreams) = compiled?;
    let plan = Plan {
        fingerprint: document.fingerprint(),
        listeners,
        admin,
        upgrade,
        cache,
        counters,
        access_log,
        grace: grace.map_or(DEFAULT_GRACE, |span| span.0),
        drain_delay: drain_delay.map_or(Duration::ZERO, |span| span.0),
        routes,
        upstreams,
        secrets: secrets.names(),
        admin_token,
        router,
        document: document.clone(),
    };
    if let Some(tests) = root.get(cases::TESTS).filter(|_| options.cases == Cases::Check) {
        cases::read(&tests, &cases::Names::of(&plan), problems);
    }
    (!problems.has_errors()).then_some(plan)
}

fn check_version(root: &Section, problems: &mut Problems) {
    let Some(version) = root.require("version", problems) else { return };
    if version.value().as_u64() != Some(1) {
        problems
            .error(codes::BAD_VALUE, version.path(), "this version of the gateway reads `version: 1`")
            .help("write `version: 1`");
    }
}
