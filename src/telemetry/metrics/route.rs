//! What is counted per route.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::catalogue::Metric;
use super::cells::{Count, Counts, Sharded};
use super::histogram::{Histogram, REQUEST};
use super::kept::Kept;
use super::labels::{
    CacheResult, Label, LimitDecision, LocalReason, Method, Phase, ShapeResult, Source, Uncacheable,
};
use super::process::ProcessMetrics;
use super::scrape::Samples;
use super::status::CodeCounts;

/// One request that came to its end, as the log phase knows it.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// The client's method.
    pub method: Method,
    /// The status the client got; 499 when it went away first.
    pub status: u16,
    /// Who made the answer.
    pub source: Source,
    /// From the first byte of the request to the last byte of the answer.
    pub duration: Duration,
    /// Body bytes read from the client.
    pub request_bytes: u64,
    /// Body bytes written to the client.
    pub response_bytes: u64,
}

#[derive(Debug, Default)]
struct Cells {
    /// Made with the first request of a method: most routes see two or three.
    requests: [OnceLock<Box<CodeCounts>>; Method::COUNT],
    duration: [Histogram; Source::COUNT],
    request_bytes: Count,
    response_bytes: Count,
    local: Counts<LocalReason, { LocalReason::COUNT }>,
    cache: Counts<CacheResult, { CacheResult::COUNT }>,
    /// Made with the first answer that is not stored: 16 cells a route and shard are much for what most routes never see.
    uncacheable: OnceLock<Box<Reasons>>,
    shape: Counts<ShapeResult, { ShapeResult::COUNT }>,
}

type Reasons = Counts<Uncacheable, { Uncacheable::COUNT }>;
type LimitCells = Sharded<Counts<LimitDecision, { LimitDecision::COUNT }>>;

/// Everything counted under one route name. Outlives the plans that use it.
#[derive(Debug, Default)]
pub(super) struct RouteCells {
    cells: Sharded<Cells>,
    limits: Kept<LimitCells>,
}

impl RouteCells {
    /// Series of a route without limits: the closed counters, two of bytes, three histograms, a dozen pairs of method and code, and
    /// two reasons why an answer is not stored, which is what real routes show.
    pub(super) const SERIES: usize =
        LocalReason::COUNT + CacheResult::COUNT + ShapeResult::COUNT + 2 + 3 * 18 + 12 + 2;
    /// Series of one limit.
    pub(super) const LIMIT_SERIES: usize = LimitDecision::COUNT;

    pub(super) fn series(&self) -> usize {
        Self::SERIES + self.limits.len() * Self::LIMIT_SERIES
    }

    pub(super) fn limits(&self) -> &Kept<LimitCells> {
        &self.limits
    }

    pub(super) fn collect(&self, route: &str, samples: &mut Samples) {
        for method in Method::ALL {
            samples.codes(Metric::RequestsTotal, &[route, method.as_str()], &self.cells, |cells| {
                cells.requests.get(method.index())?.get().map(AsRef::as_ref)
            });
        }
        for source in Source::ALL {
            samples.histogram(
                Metric::RequestDurationSeconds,
                &[route, source.as_str()],
                &self.cells,
                |cells| duration(cells, *source),
            );
        }
        samples.count(Metric::RequestBytesTotal, &[route], &self.cells, |cells| &cells.request_bytes);
        samples.count(Metric::ResponseBytesTotal, &[route], &self.cells, |cells| &cells.response_bytes);
        samples.counts(Metric::LocalResponsesTotal, &[route], &self.cells, |cells| &cells.local);
        samples.counts(Metric::CacheRequestsTotal, &[route], &self.cells, |cells| &cells.cache);
        samples.counts_seen(Metric::CacheUncacheableTotal, &[route], &self.cells, |cells| {
            cells.uncacheable.get().map(AsRef::as_ref)
        });
        samples.counts(Metric::ShapeResponsesTotal, &[route], &self.cells, |cells| &cells.shape);
        self.limits.each(|limit, cells| {
            samples.counts(Metric::RatelimitDecisionsTotal, &[route, limit], cells, |counts| counts);
        });
    }
}

fn duration(cells: &Cells, source: Source) -> &Histogram {
    cells.duration.get(source.index()).expect("there is one histogram per source")
}

/// The counters of one route, as one plan uses them: resolved when the plan is compiled, moved without a lock, a look-up or an
/// allocation. A later plan with the same name gets a handle on the same numbers.
#[derive(Debug)]
pub struct RouteMetrics {
    pub(super) route: Arc<RouteCells>,
    pub(super) limits: Box<[Arc<LimitCells>]>,
    pub(super) process: Arc<ProcessMetrics>,
}

impl RouteMetrics {
    /// Counts a request that came to its end. Log phase, once per request.
    pub fn finished(&self, finished: Finished) {
        let cells = self.route.cells.local();
        if let Some(codes) = cells.requests.get(finished.method.index()) {
            codes.get_or_init(Box::default).add(finished.status);
        }
        duration(cells, finished.source).observe(&REQUEST, finished.duration);
        cells.request_bytes.add(finished.request_bytes);
        cells.response_bytes.add(finished.response_bytes);
    }

    /// Counts an answer the gateway made by itself, or a request it gave up.
    pub fn local(&self, reason: LocalReason) {
        self.route.cells.local().local.add(reason);
    }

    /// Counts what the cache said.
    pub fn cache(&self, result: CacheResult) {
        self.route.cells.local().cache.add(result);
    }

    /// Counts an answer that was not stored.
    pub fn uncacheable(&self, reason: Uncacheable) {
        self.route.cells.local().uncacheable.get_or_init(Box::default).add(reason);
    }

    /// Counts what the limit at `limit_index` of the plan's list said. An index outside the list counts nothing.
    pub fn limit(&self, limit_index: usize, decision: LimitDecision) {
        if let Some(limit) = self.limits.get(limit_index) {
            limit.local().add(decision);
        }
    }

    /// Counts what became of an answer that was to be shaped.
    pub fn shape(&self, result: ShapeResult) {
        self.route.cells.local().shape.add(result);
    }

    /// Counts time the gateway itself added; kept for all routes together.
    pub fn overhead(&self, phase: Phase, duration: Duration) {
        self.process.overhead(phase, duration);
    }
}
