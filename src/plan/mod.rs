//! The compiled configuration: immutable, swapped whole.
//!
//! [`Plan::compile`] turns the document into a plan or says everything that is wrong with it; half a plan does not exist. Each
//! request holds the plan it began with until its end, so a reload never mixes two. What must survive a reload (limits, secrets,
//! resolved names, metrics) lives in [`Process`] and is only referred to from here.

mod address_or_port;
pub mod cases;
mod conflicts;
pub mod diff;
mod files;
pub mod listeners;
pub mod matching;
pub mod owners;
pub mod route;
pub mod router;
pub mod schema;
pub mod secrets;
pub mod upstreams;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::cache::storage::{self, Favor, Settings as StoreSettings};
use crate::config::units::{ByteSize, Timespan, TimespanOrZero};
use crate::config::{Document, Problems, Report, Section, codes, keys_of, shape};
use crate::exchange::Exchange;
use crate::limit;
use crate::names::{ListenerName, SecretName, UpstreamName};
use crate::secret::{SecretSlot, SecretStore};
use crate::telemetry::Metrics;
use crate::upstream::{Resolver, Stage};

use owners::Owners;

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
    /// Counters of all rate limits.
    pub limits: Arc<limit::Table>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
}

/// Keys of all rate limits together. 40 bytes each; past it, the longest idle make way.
pub const LIMIT_TABLE_KEYS: usize = 1 << 20;

impl Process {
    /// A fresh one. Must be called within a tokio runtime: the resolver works in the background.
    #[must_use]
    pub fn new() -> Self {
        Self {
            secrets: SecretStore::new(),
            resolver: Resolver::new(),
            limits: Arc::new(limit::Table::new(LIMIT_TABLE_KEYS)),
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
            limits: Arc::new(limit::Table::new(STAGED_LIMIT_TABLE_KEYS)),
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

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogSink {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// The cache zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheZone {
    /// The file that it lies in; `None`: private memory.
    pub file: Option<PathBuf>,
    /// All of it: objects, keys, tables.
    pub size_bytes: u64,
    /// The largest object.
    pub max_object_bytes: u64,
    /// The most objects.
    pub max_objects: u32,
    /// What stays when not all can.
    pub favor: Favor,
}

impl CacheZone {
    /// What the store is told.
    #[must_use]
    pub fn settings(&self) -> StoreSettings<'_> {
        let to_usize = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        StoreSettings {
            file: self.file.as_deref(),
            capacity_bytes: to_usize(self.size_bytes),
            max_object_bytes: to_usize(self.max_object_bytes),
            max_objects: self.max_objects,
            favor: self.favor,
        }
    }
}

/// The least size of the cache.
pub const MIN_CACHE_BYTES: u64 = 1 << 20;

/// The largest: the store counts units of 64 bytes in 32 bits.
pub const MAX_CACHE_BYTES: u64 = 255 << 30;

/// Default size of the cache.
pub const DEFAULT_CACHE_BYTES: u64 = 256 << 20;
/// Default of the largest object in it.
pub const DEFAULT_MAX_OBJECT_BYTES: u64 = 8 << 20;
/// Default of how long a drain may take.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

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

/// The store of cached answers: one for all routes and all processes that share its file.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CacheSpec {
    /// The file that the store lies in, on a file system in memory (`/dev/shm`). What is stored is there for the next process: after an
    /// upgrade, a restart, a crash. One file for each gateway. Default: memory of the process, which goes with it.
    file: Option<PathBuf>,
    /// The whole store: answers, keys and tables, from 1MiB to 255GiB. Taken at the start. What is asked for least makes way.
    #[schemars(extend("default" = ByteSize(DEFAULT_CACHE_BYTES)))]
    size: Option<ByteSize>,
    /// The largest answer that is kept, at most an eighth of `size`. A longer one is passed on and not stored. Default: 8MiB, or an eighth of
    /// `size` if that is less.
    #[schemars(extend("default" = ByteSize(DEFAULT_MAX_OBJECT_BYTES)))]
    max_object: Option<ByteSize>,
    /// The most answers. Each takes a record of 128 bytes in the store, used or not. Default: one for each 2KiB of `size`.
    #[schemars(range(min = 256, max = 268_435_456))]
    max_objects: Option<u32>,
    /// What stays when not all answers can.
    #[schemars(extend("default" = "requests"))]
    favor: Option<FavorWord>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FavorWord {
    /// As many requests as can be are answered from the store: a large answer must have been asked for more often than a small one.
    Requests,
    /// As many bytes as can be come from the store: the size of an answer does not matter.
    Bytes,
}

/// How the gateway stops when it is told to (SIGTERM).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ShutdownSpec {
    /// The longest wait for requests under way. What is still open then is cut.
    #[schemars(extend("default" = Timespan(DEFAULT_GRACE)))]
    grace: Option<Timespan>,
    /// How long new requests are still taken while `/readyz` already says 503, so that a load balancer notices first.
    #[schemars(extend("default" = "0s"))]
    delay: Option<TimespanOrZero>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogFileSpec {
    /// Path of the file; lines are appended. A relative path starts at the configuration file.
    #[schemars(with = "shape::File", example = &"/var/log/portcullis/access.log")]
    file: PathBuf,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum LogWord {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// No access log.
    Off,
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
    let cache = cache_zone(&root, options, problems);
    let access_log = access_log(&root, options, problems);
    let shutdown = root.get("shutdown").and_then(|s| s.decode::<ShutdownSpec>(problems));
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
        cache,
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

fn cache_zone(root: &Section, options: &Options<'_>, problems: &mut Problems) -> CacheZone {
    let section = root.get("cache");
    if let Some(section) = &section {
        section.check_keys::<CacheSpec>(&["zones\nall routes share one store"], problems);
    }
    let spec = section.as_ref().and_then(|s| s.decode::<CacheSpec>(problems));
    let spec = spec.unwrap_or_default();
    let size_bytes = spec.size.map_or(DEFAULT_CACHE_BYTES, |size| size.0);
    let most = size_bytes / 8;
    let most_objects = storage::default_objects(usize::try_from(size_bytes).unwrap_or(usize::MAX));
    let zone = CacheZone {
        file: spec.file.map(|file| options.directory.join(file)),
        size_bytes,
        max_object_bytes: spec.max_object.map_or(DEFAULT_MAX_OBJECT_BYTES.min(most), |max| max.0),
        max_objects: spec.max_objects.unwrap_or(most_objects),
        favor: match spec.favor {
            Some(FavorWord::Requests) | None => Favor::Requests,
            Some(FavorWord::Bytes) => Favor::Bytes,
        },
    };
    let Some(section) = section else { return zone };
    let mut bad = |why: String| {
        problems.error(codes::BAD_VALUE, section.path(), why);
    };
    if !(MIN_CACHE_BYTES..=MAX_CACHE_BYTES).contains(&zone.size_bytes) {
        bad("`size` is from 1MiB to 255GiB".into());
    } else if zone.max_object_bytes > most {
        let most = bytesize::ByteSize(most);
        bad(format!("`maxObject` is larger than an eighth of the cache, {most}"));
    }
    let least = storage::MIN_OBJECTS;
    // A record takes 128 bytes: with more than this, the tables would take a quarter of the store.
    let records = u32::try_from(zone.size_bytes / 512).unwrap_or(u32::MAX).clamp(least, storage::MAX_OBJECTS);
    if !(least..=records).contains(&zone.max_objects) {
        bad(format!("`maxObjects` is from {least} to {records} for a cache of this size"));
    }
    zone
}

fn access_log(root: &Section, options: &Options<'_>, problems: &mut Problems) -> AccessLogSink {
    let Some(section) = root.get("accessLog") else { return AccessLogSink::Stdout };
    if section.value().is_mapping() {
        let spec = section.decode::<LogFileSpec>(problems);
        return spec
            .map_or(AccessLogSink::Off, |spec| AccessLogSink::File(options.directory.join(spec.file)));
    }
    match section.decode::<LogWord>(problems) {
        Some(LogWord::Stdout) => AccessLogSink::Stdout,
        Some(LogWord::Stderr) => AccessLogSink::Stderr,
        Some(LogWord::Off) | None => AccessLogSink::Off,
    }
}
