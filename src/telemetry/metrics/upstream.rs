//! What is counted per upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::catalogue::Metric;
use super::cells::{Active, ActiveGuard, Counts, Sharded};
use super::histogram::{Histogram, REQUEST};
use super::kept::Kept;
use super::labels::{ConnectionState, RetryResult, UpstreamError};
use super::scrape::Samples;
use super::status::CodeCounts;

#[derive(Debug, Default)]
struct Cells {
    answered: CodeCounts,
    duration: Histogram,
    connect: Histogram,
    connections: Counts<ConnectionState, { ConnectionState::COUNT }>,
    errors: Counts<UpstreamError, { UpstreamError::COUNT }>,
    retries: Counts<RetryResult, { RetryResult::COUNT }>,
}

/// Whether the last connection to an endpoint failed. A new one counts as healthy.
#[derive(Debug, Default)]
pub(super) struct Endpoint {
    failed: AtomicBool,
}

/// Everything counted under one upstream name. Outlives the plans that use it.
#[derive(Debug, Default)]
pub(super) struct UpstreamCells {
    cells: Sharded<Cells>,
    active: Active,
    endpoints: Kept<Endpoint>,
}

impl UpstreamCells {
    /// Series of an upstream without endpoints: two histograms, the closed counters, the gauge, and ten status codes.
    pub(super) const SERIES: usize =
        2 * 18 + ConnectionState::COUNT + UpstreamError::COUNT + RetryResult::COUNT + 1 + 10;

    pub(super) fn series(&self) -> usize {
        Self::SERIES + self.endpoints.len()
    }

    pub(super) fn endpoints(&self) -> &Kept<Endpoint> {
        &self.endpoints
    }

    pub(super) fn collect(&self, upstream: &str, samples: &mut Samples) {
        let labels = &[upstream];
        samples.codes(Metric::UpstreamRequestsTotal, labels, &self.cells, |cells| Some(&cells.answered));
        samples.histogram(Metric::UpstreamDurationSeconds, labels, &self.cells, |cells| &cells.duration);
        samples
            .histogram(Metric::UpstreamConnectDurationSeconds, labels, &self.cells, |cells| &cells.connect);
        samples.counts(Metric::UpstreamConnectionsTotal, labels, &self.cells, |cells| &cells.connections);
        samples.counts(Metric::UpstreamErrorsTotal, labels, &self.cells, |cells| &cells.errors);
        samples.counts(Metric::UpstreamRetriesTotal, labels, &self.cells, |cells| &cells.retries);
        samples.whole(Metric::UpstreamRequestsActive, labels, self.active.value());
        self.endpoints.each(|endpoint, state| {
            let is_healthy = !state.failed.load(Ordering::Relaxed);
            samples.whole(Metric::UpstreamEndpointHealthy, &[upstream, endpoint], u64::from(is_healthy));
        });
    }
}

/// The counters of one upstream, as one plan uses them.
#[derive(Debug)]
pub struct UpstreamMetrics {
    pub(super) upstream: Arc<UpstreamCells>,
    pub(super) endpoints: Box<[Arc<Endpoint>]>,
}

impl UpstreamMetrics {
    /// Counts an answer's final status, as the upstream sent it.
    pub fn answered(&self, status: u16) {
        self.upstream.cells.local().answered.add(status);
    }

    /// Counts the time from sending the request to the last byte of the answer.
    pub fn duration(&self, duration: Duration) {
        self.upstream.cells.local().duration.observe(&REQUEST, duration);
    }

    /// Counts the connection an exchange uses: `new`, which took `setup` (TCP and TLS), or taken from the pool; `setup` is
    /// not looked at then.
    pub fn connected(&self, new: bool, setup: Duration) {
        let cells = self.upstream.cells.local();
        if new {
            cells.connections.add(ConnectionState::New);
            cells.connect.observe(&REQUEST, setup);
        } else {
            cells.connections.add(ConnectionState::Reused);
        }
    }

    /// Counts a failed exchange.
    pub fn error(&self, reason: UpstreamError) {
        self.upstream.cells.local().errors.add(reason);
    }

    /// Counts a failed exchange that could be tried again.
    pub fn retry(&self, result: RetryResult) {
        self.upstream.cells.local().retries.add(result);
    }

    /// Counts one request in flight until the guard is dropped.
    pub fn active(&self) -> ActiveGuard {
        self.upstream.active.enter()
    }

    /// Says whether a connection to the endpoint at `index` of the plan's list was made.
    pub fn endpoint_healthy(&self, index: usize, healthy: bool) {
        if let Some(endpoint) = self.endpoints.get(index)
            && endpoint.failed.load(Ordering::Relaxed) == healthy
        {
            endpoint.failed.store(!healthy, Ordering::Relaxed);
        }
    }
}
