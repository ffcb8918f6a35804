//! The gateway's metrics.
//!
//! ```text
//! compile of a plan:  Metrics::route("weather", ["perClient"]) -> Arc<RouteMetrics>     names become handles
//! request:            handle.finished(..)                       one shard, relaxed adds
//! scrape:             Metrics::render()                         all shards added up, text format 0.0.4
//! reload:             Metrics::retain(..)                       names that went are forgotten
//! ```
//!
//! A request never looks a name up, takes a lock or makes a series; that all happens when a plan is compiled. The registry is
//! the one of the `prometheus` crate, so an embedder can register collectors of their own beside ours.

pub mod catalogue;
pub mod cells;
pub mod histogram;
mod kept;
pub mod labels;
mod listener;
mod process;
mod route;
pub mod scrape;
mod status;
mod upstream;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{Registry, TextEncoder};

pub use catalogue::markdown;
use catalogue::{Kind, Metric, Owner};
pub use cells::ActiveGuard;
use kept::SWEEPS;
use labels::Overflow;
pub use listener::ListenerMetrics;
pub use process::ProcessMetrics;
use route::RouteCells;
pub use route::{Finished, RouteMetrics};
use scrape::{Samples, Scrape};
use upstream::UpstreamCells;
pub use upstream::UpstreamMetrics;

/// The cap on series when none is configured. A route takes about 100, an upstream about 60.
pub const DEFAULT_MAX_SERIES: usize = 50_000;

/// The label of what found no room under the cap. No configured name begins with `_`.
const OVERFLOW: &str = "_overflow";

/// Why a function could not be registered. The programmer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterError {
    /// The family's samples come from handles or from the process collector.
    NotRegistrable(Metric),
    /// The family is of another type.
    OtherKind(Metric),
    /// The family has another number of labels.
    OtherLabels(Metric),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (metric, why) = match self {
            Self::NotRegistrable(metric) => (metric, "has samples of its own"),
            Self::OtherKind(metric) => (metric, "is of another type"),
            Self::OtherLabels(metric) => (metric, "has another number of labels"),
        };
        write!(f, "`{}` {why}", metric.family().name)
    }
}

impl std::error::Error for RegisterError {}

#[derive(Debug)]
struct Entry<T> {
    cells: Arc<T>,
    missed: u8,
}

type Names<T> = BTreeMap<String, Entry<T>>;

#[derive(Debug, Default)]
struct Known {
    routes: Names<RouteCells>,
    upstreams: Names<UpstreamCells>,
    listeners: Names<ListenerMetrics>,
    overflow_route: Option<Arc<RouteCells>>,
    overflow_upstream: Option<Arc<UpstreamCells>>,
    /// Series that are taken, by the sizes of routes, limits and upstreams.
    series: usize,
}

impl Known {
    /// Takes `need` series if there is room for them under `max`.
    fn take(&mut self, need: usize, max: usize) -> bool {
        let series = self.series.saturating_add(need);
        let fits = series <= max;
        if fits {
            self.series = series;
        }
        fits
    }

    /// Counts anew what is there. Not for every name that is added: a large plan adds thousands.
    fn recount(&mut self) {
        let routes: usize = self.routes.values().map(|entry| entry.cells.series()).sum();
        let upstreams: usize = self.upstreams.values().map(|entry| entry.cells.series()).sum();
        self.series = routes + upstreams;
    }
}

/// Reads one number of another room.
pub type Reader = Box<dyn Fn() -> f64 + Send + Sync>;
/// Reads numbers whose labels come and go.
pub type SamplesReader = Box<dyn Fn(&mut Samples) + Send + Sync>;

struct Registered {
    metric: Metric,
    labels: Vec<String>,
    read: Reader,
}

#[derive(Default)]
struct Readers {
    single: Vec<Registered>,
    many: Vec<SamplesReader>,
}

struct State {
    process: Arc<ProcessMetrics>,
    // Both locks are taken by compiling, reloading and scraping only.
    known: Mutex<Known>,
    readers: Mutex<Readers>,
}

impl State {
    fn collect(&self, samples: &mut Samples) {
        self.process.collect(samples);
        {
            let known = self.known.lock();
            let routes = known.routes.iter().map(|(name, entry)| (name.as_str(), &entry.cells));
            routes
                .chain(known.overflow_route.iter().map(|cells| (OVERFLOW, cells)))
                .for_each(|(name, cells)| cells.collect(name, samples));
            let upstreams = known.upstreams.iter().map(|(name, entry)| (name.as_str(), &entry.cells));
            upstreams
                .chain(known.overflow_upstream.iter().map(|cells| (OVERFLOW, cells)))
                .for_each(|(name, cells)| cells.collect(name, samples));
            known.listeners.iter().for_each(|(name, entry)| entry.cells.collect(name, samples));
        }
        let readers = self.readers.lock();
        for one in &readers.single {
            let labels: Vec<&str> = one.labels.iter().map(String::as_str).collect();
            samples.push(one.metric, &labels, (one.read)());
        }
        readers.many.iter().for_each(|read| read(samples));
    }
}

/// All metrics of the process. Lives as long as the process; plans hold handles from it.
pub struct Metrics {
    registry: Registry,
    state: Arc<State>,
    max_series: usize,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("max_series", &self.max_series).finish_non_exhaustive()
    }
}

impl Metrics {
    /// With the default cap of [`DEFAULT_MAX_SERIES`].
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_max_series(DEFAULT_MAX_SERIES)
    }

    /// With a cap on series. It is checked when names are added: what finds no room is counted under `_overflow`.
    #[must_use]
    pub fn with_max_series(max_series: usize) -> Arc<Self> {
        let state = Arc::new(State {
            process: Arc::new(ProcessMetrics::new()),
            known: Mutex::default(),
            readers: Mutex::default(),
        });
        let registry = Registry::new();
        registry
            .register(Box::new(Scrape::new(Arc::downgrade(&state))))
            .expect("a new registry has no other collector, and a test checks the catalogue");
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("the process collector's names are not in use");
        Arc::new(Self { registry, state, max_series })
    }

    /// The registry, for collectors of an embedder.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// One scrape as text, format 0.0.4 (`text/plain; version=0.0.4`). Costs about half a microsecond per series: run it
    /// where it delays no request.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail; a family that somebody registered without samples is left out by the registry.
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }

    /// The counters of the process.
    #[must_use]
    pub fn process(&self) -> &ProcessMetrics {
        &self.state.process
    }

    /// The counters of a route and of its limits, in the order of `limits`. The same name finds the same numbers again.
    #[must_use]
    pub fn route(&self, name: &str, limits: &[&str]) -> Arc<RouteMetrics> {
        let mut known = self.state.known.lock();
        let route = if let Some(entry) = known.routes.get(name) {
            Arc::clone(&entry.cells)
        } else if known.take(RouteCells::SERIES, self.max_series) {
            let cells = Arc::<RouteCells>::default();
            known.routes.insert(name.to_owned(), Entry { cells: Arc::clone(&cells), missed: 0 });
            cells
        } else {
            self.state.process.overflowed(Overflow::Route);
            Arc::clone(known.overflow_route.get_or_insert_default())
        };
        let is_overflow = known.overflow_route.as_ref().is_some_and(|overflow| Arc::ptr_eq(overflow, &route));
        let limits = limits.iter().map(|limit| {
            if is_overflow {
                return route.limits().find_or_make(OVERFLOW);
            }
            if route.limits().find(limit).is_some() || known.take(RouteCells::LIMIT_SERIES, self.max_series) {
                return route.limits().find_or_make(limit);
            }
            self.state.process.overflowed(Overflow::Limit);
            known.overflow_route.get_or_insert_default().limits().find_or_make(OVERFLOW)
        });
        let limits = limits.collect();
        Arc::new(RouteMetrics { route, limits, process: Arc::clone(&self.state.process) })
    }

    /// The counters of an upstream with so many endpoints. The same name finds the same numbers again.
    #[must_use]
    pub fn upstream(&self, name: &str, endpoints: usize) -> Arc<UpstreamMetrics> {
        let mut known = self.state.known.lock();
        let found = known.upstreams.get(name).map(|entry| Arc::clone(&entry.cells));
        if found.is_none() && !known.take(UpstreamCells::SERIES.saturating_add(endpoints), self.max_series) {
            self.state.process.overflowed(Overflow::Upstream);
            let upstream = Arc::clone(known.overflow_upstream.get_or_insert_default());
            return Arc::new(UpstreamMetrics { upstream, endpoints: Box::default() });
        }
        let upstream = found.unwrap_or_else(|| {
            let cells = Arc::<UpstreamCells>::default();
            known.upstreams.insert(name.to_owned(), Entry { cells: Arc::clone(&cells), missed: 0 });
            cells
        });
        let endpoints =
            (0..endpoints).map(|index| upstream.endpoints().find_or_make(&index.to_string())).collect();
        Arc::new(UpstreamMetrics { upstream, endpoints })
    }

    /// The counters of a listener. Listeners are few and not under the cap.
    #[must_use]
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        let mut known = self.state.known.lock();
        let entry = known.listeners.entry(name.to_owned());
        Arc::clone(&entry.or_insert_with(|| Entry { cells: Arc::default(), missed: 0 }).cells)
    }

    /// To be called once per reload that took effect, with the names of the new plan. A name that is not among them is
    /// forgotten at the second such call, so that the last scrape before it still sees its final numbers.
    pub fn retain(&self, routes: &HashSet<&str>, upstreams: &HashSet<&str>, listeners: &HashSet<&str>) {
        let mut known = self.state.known.lock();
        sweep(&mut known.routes, routes);
        sweep(&mut known.upstreams, upstreams);
        sweep(&mut known.listeners, listeners);
        known.routes.values().for_each(|entry| entry.cells.limits().sweep());
        known.upstreams.values().for_each(|entry| entry.cells.endpoints().sweep());
        known.recount();
    }

    /// Reads a gauge of another room at every scrape. A second registration for the same metric and labels replaces the
    /// first.
    ///
    /// # Errors
    /// [`RegisterError`] when the catalogue does not say that the metric is a registered gauge with so many labels.
    pub fn register_gauge_fn(
        &self,
        metric: Metric,
        labels: &[&str],
        read: Reader,
    ) -> Result<(), RegisterError> {
        self.register(metric, Kind::Gauge, labels, read)
    }

    /// Reads a counter of another room at every scrape; it must only rise. A second registration for the same metric and
    /// labels replaces the first.
    ///
    /// # Errors
    /// [`RegisterError`] when the catalogue does not say that the metric is a registered counter with so many labels.
    pub fn register_counter_fn(
        &self,
        metric: Metric,
        labels: &[&str],
        read: Reader,
    ) -> Result<(), RegisterError> {
        self.register(metric, Kind::Counter, labels, read)
    }

    /// Reads numbers whose labels come and go with the configuration (limits, certificates) at every scrape. The function
    /// pushes samples of registered metrics; no two may have the same labels. Register once per process and look at the plan
    /// in use inside. It must not call back into [`Metrics`].
    pub fn register_samples_fn(&self, read: SamplesReader) {
        self.state.readers.lock().many.push(read);
    }

    fn register(
        &self,
        metric: Metric,
        kind: Kind,
        labels: &[&str],
        read: Reader,
    ) -> Result<(), RegisterError> {
        let family = metric.family();
        if family.owner != Owner::Registered {
            return Err(RegisterError::NotRegistrable(metric));
        }
        if family.kind != kind {
            return Err(RegisterError::OtherKind(metric));
        }
        if family.labels.len() != labels.len() {
            return Err(RegisterError::OtherLabels(metric));
        }
        let mut readers = self.state.readers.lock();
        readers.single.retain(|one| one.metric != metric || one.labels != labels);
        readers.single.push(Registered {
            metric,
            labels: labels.iter().map(|&l| l.to_owned()).collect(),
            read,
        });
        Ok(())
    }
}

fn sweep<T>(names: &mut Names<T>, wanted: &HashSet<&str>) {
    names.retain(|name, entry| {
        entry.missed = if wanted.contains(name.as_str()) { 0 } else { entry.missed.saturating_add(1) };
        entry.missed < SWEEPS
    });
}

#[cfg(test)]
mod tests;
