//! What is counted for the gateway as a whole.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::catalogue::Metric;
use super::cells::{Counts, Sharded};
use super::histogram::{Histogram, OVERHEAD, REQUEST};
use super::labels::{
    BodyStage, Direction, Erased, Label, ObjectKind, Outcome, Overflow, Phase, PurgeMode, PurgeScope,
};
use super::scrape::Samples;

#[derive(Debug, Default)]
struct Cells {
    overhead: [Histogram; Phase::COUNT],
    lock_wait: Histogram,
    shape: Histogram,
    shape_bytes: Counts<Direction, { Direction::COUNT }>,
    bodies: Counts<BodyStage, { BodyStage::COUNT }>,
    erased: Counts<Erased, { Erased::COUNT }>,
}

#[derive(Debug, Default)]
struct SecretReads {
    success: u64,
    failure: u64,
    /// `None` until the first success.
    last_success: Option<f64>,
}

#[derive(Debug, Default)]
struct ConfigState {
    success: u64,
    failure: u64,
    upgrades: u64,
    failed_upgrades: u64,
    last_succeeded: bool,
    last_success: f64,
    hash: Option<String>,
}

/// The counters of the process.
#[derive(Debug)]
pub struct ProcessMetrics {
    started: Instant,
    cells: Sharded<Cells>,
    overflow: Counts<Overflow, { Overflow::COUNT }>,
    purges: [Counts<PurgeScope, { PurgeScope::COUNT }>; PurgeMode::COUNT],
    tags_dropped: AtomicU64,
    objects: [AtomicU64; ObjectKind::COUNT],
    draining: AtomicBool,
    build: OnceLock<[String; 3]>,
    // Moved by reloads, not by requests.
    config: Mutex<ConfigState>,
    secrets: Mutex<BTreeMap<String, SecretReads>>,
}

impl ProcessMetrics {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            cells: Sharded::default(),
            overflow: Counts::default(),
            purges: Default::default(),
            tags_dropped: AtomicU64::new(0),
            objects: Default::default(),
            draining: AtomicBool::new(false),
            build: OnceLock::new(),
            config: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    /// Counts time the gateway itself added to a request.
    pub fn overhead(&self, phase: Phase, duration: Duration) {
        overhead(self.cells.local(), phase).observe(&OVERHEAD, duration);
    }

    /// Counts the time a request waited for another that fetched the same thing.
    pub fn cache_lock_wait(&self, duration: Duration) {
        self.cells.local().lock_wait.observe(&REQUEST, duration);
    }

    /// Counts one answer's shaping: how long it took, how many bytes went in and came out.
    pub fn shaped(&self, duration: Duration, bytes_in: u64, bytes_out: u64) {
        let cells = self.cells.local();
        cells.shape.observe(&OVERHEAD, duration);
        cells.shape_bytes.of(Direction::In).add(bytes_in);
        cells.shape_bytes.of(Direction::Out).add(bytes_out);
    }

    /// Counts a request body over its limit.
    pub fn body_limit(&self, stage: BodyStage) {
        self.cells.local().bodies.add(stage);
    }

    /// Counts traces of an upstream that were mapped or removed.
    pub fn erased(&self, what: Erased, count: u32) {
        self.cells.local().erased.of(what).add(u64::from(count));
    }

    /// Counts a purge.
    pub fn purged(&self, scope: PurgeScope, mode: PurgeMode) {
        if let Some(purges) = self.purges.get(mode.index()) {
            purges.add(scope);
        }
    }

    /// Counts tags of an answer that were left out.
    pub fn tags_dropped(&self, count: u64) {
        if count > 0 {
            self.tags_dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Counts a load of the configuration that took effect (`ok`) or was refused, at the time `at`.
    pub fn config_reload(&self, ok: bool, at: SystemTime) {
        let mut config = self.config.lock();
        config.last_succeeded = ok;
        if ok {
            config.success += 1;
            config.last_success = unix_seconds(at);
        } else {
            config.failure += 1;
        }
    }

    /// Counts a hand-over: one by which this process took over (`ok`), or one that was asked of it and failed.
    pub fn upgrade(&self, ok: bool) {
        let mut config = self.config.lock();
        if ok {
            config.upgrades += 1;
        } else {
            config.failed_upgrades += 1;
        }
    }

    /// Says which configuration is in use, by a digest of it.
    pub fn config_info(&self, hash: &str) {
        self.config.lock().hash = Some(hash.to_owned());
    }

    /// Says how many things of a kind the configuration in use has.
    pub fn objects(&self, kind: ObjectKind, count: usize) {
        if let Some(cell) = self.objects.get(kind.index()) {
            cell.store(count as u64, Ordering::Relaxed);
        }
    }

    /// Counts a read of a secret that worked (`ok`) or not, at the time `at`. Takes the secret's name, never its value.
    pub fn secret_reload(&self, name: &str, ok: bool, at: SystemTime) {
        let mut secrets = self.secrets.lock();
        let reads = secrets.entry(name.to_owned()).or_default();
        if ok {
            reads.success += 1;
            reads.last_success = Some(unix_seconds(at));
        } else {
            reads.failure += 1;
        }
    }

    /// Forgets secrets that the configuration in use does not name, so that their age wakes nobody.
    pub fn retain_secrets(&self, names: &HashSet<&str>) {
        self.secrets.lock().retain(|name, _| names.contains(name.as_str()));
    }

    /// Says whether the gateway is going down.
    pub fn draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }

    /// Says which build is running. The first call counts.
    pub fn build_info(&self, version: &str, revision: &str, tls: &str) {
        let _ = self.build.set([version.to_owned(), revision.to_owned(), tls.to_owned()]);
    }

    pub(super) fn overflowed(&self, label: Overflow) {
        self.overflow.add(label);
    }

    pub(super) fn collect(&self, samples: &mut Samples) {
        for phase in Phase::ALL {
            let labels = &[phase.as_str()];
            samples.histogram(Metric::OverheadSeconds, labels, &self.cells, |cells| overhead(cells, *phase));
        }
        samples.histogram(Metric::CacheLockWaitSeconds, &[], &self.cells, |cells| &cells.lock_wait);
        samples.histogram(Metric::ShapeDurationSeconds, &[], &self.cells, |cells| &cells.shape);
        samples.counts(Metric::ShapeBytesTotal, &[], &self.cells, |cells| &cells.shape_bytes);
        samples.counts(Metric::RequestBodiesRefusedTotal, &[], &self.cells, |cells| &cells.bodies);
        samples.counts(Metric::ErasedTotal, &[], &self.cells, |cells| &cells.erased);
        for (mode, purges) in PurgeMode::ALL.iter().zip(&self.purges) {
            for scope in PurgeScope::ALL {
                let labels = &[scope.as_str(), mode.as_str(), "local"];
                samples.whole(Metric::CachePurgesTotal, labels, purges.of(*scope).value());
            }
        }
        samples.whole(Metric::CacheTagsDroppedTotal, &[], self.tags_dropped.load(Ordering::Relaxed));
        for label in Overflow::ALL {
            samples.whole(Metric::MetricsOverflowTotal, &[label.as_str()], self.overflow.of(*label).value());
        }
        self.collect_config(samples);
        self.collect_secrets(samples);
        if let Some([version, revision, tls]) = self.build.get() {
            samples.whole(Metric::BuildInfo, &[version, revision, tls], 1);
        }
        samples.whole(Metric::Draining, &[], u64::from(self.draining.load(Ordering::Relaxed)));
        samples.push(Metric::UptimeSeconds, &[], self.started.elapsed().as_secs_f64());
    }

    fn collect_config(&self, samples: &mut Samples) {
        let config = self.config.lock();
        samples.whole(Metric::UpgradesTotal, &[Outcome::Success.as_str()], config.upgrades);
        samples.whole(Metric::UpgradesTotal, &[Outcome::Failure.as_str()], config.failed_upgrades);
        samples.whole(Metric::ConfigReloadsTotal, &[Outcome::Success.as_str()], config.success);
        samples.whole(Metric::ConfigReloadsTotal, &[Outcome::Failure.as_str()], config.failure);
        samples.whole(Metric::ConfigLastReloadSuccess, &[], u64::from(config.last_succeeded));
        samples.push(Metric::ConfigLastSuccessTimestampSeconds, &[], config.last_success);
        if let Some(hash) = &config.hash {
            samples.whole(Metric::ConfigInfo, &[hash], 1);
        }
        for kind in ObjectKind::ALL {
            let count = self.objects.get(kind.index()).map_or(0, |cell| cell.load(Ordering::Relaxed));
            samples.whole(Metric::ConfigObjects, &[kind.as_str()], count);
        }
    }

    fn collect_secrets(&self, samples: &mut Samples) {
        for (name, reads) in self.secrets.lock().iter() {
            samples.whole(Metric::SecretReloadsTotal, &[name, Outcome::Success.as_str()], reads.success);
            samples.whole(Metric::SecretReloadsTotal, &[name, Outcome::Failure.as_str()], reads.failure);
            if let Some(at) = reads.last_success {
                samples.push(Metric::SecretLastSuccessTimestampSeconds, &[name], at);
            }
        }
    }
}

fn overhead(cells: &Cells, phase: Phase) -> &Histogram {
    cells.overhead.get(phase.index()).expect("there is one histogram per phase")
}

fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_before_1970_is_0() {
        assert!(unix_seconds(UNIX_EPOCH - Duration::from_secs(1)).abs() < f64::EPSILON);
        assert!((unix_seconds(UNIX_EPOCH + Duration::from_millis(1500)) - 1.5).abs() < f64::EPSILON);
    }
}
