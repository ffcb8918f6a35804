//! What the reload, the admin side and the shutdown share: the plan in force and the way to a new one.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::listen::{CertificateFiles, Certificates};
use crate::config::{self, Document, Report, directory_of};
use crate::plan::diff::Fixed;
use crate::plan::listeners::FileMistake;
use crate::plan::{self, Cases, Listener, Options, Plan, Process, Secrets, TlsFiles, UpstreamTls};
use crate::policy::told::counted;
use crate::policy::told::tells_a_secret;
use crate::proxy::Shared;
use crate::proxy::explain::{AskError, Asked, Explanation, Live};
use crate::telemetry::labels::ObjectKind;
use crate::telemetry::metrics::catalogue::Metric;

/// The route label of requests that no route took. Not a name that a route can have.
pub const NO_ROUTE: &str = "_none";

/// Reading a configuration: file, document, plan.
pub struct Load;

impl Load {
    /// Reads and compiles to serve it.
    ///
    /// # Errors
    /// A report with every mistake.
    pub fn first(config: &Path, process: &Process) -> Result<(Plan, Report), Report> {
        Self::compile(config, process, Secrets::Read, Cases::Ignore)
    }

    /// Reads and compiles for somebody who wants to know all that is wrong: the cases under `tests` are checked too.
    ///
    /// # Errors
    /// A report with every mistake.
    pub fn with(config: &Path, process: &Process, secrets: Secrets) -> Result<(Plan, Report), Report> {
        Self::compile(config, process, secrets, Cases::Check)
    }

    fn compile(
        config: &Path,
        process: &Process,
        secrets: Secrets,
        cases: Cases,
    ) -> Result<(Plan, Report), Report> {
        let document = config::load(config, plan::INCLUDE)?;
        let check = |files: &TlsFiles| {
            let mistake = |wrong: super::listen::CertificateError| FileMistake {
                key: if wrong.file == files.key { "key" } else { "cert" },
                why: wrong.cause.to_string(),
                is_missing: wrong.cause.is_missing(),
            };
            certificate_files(std::slice::from_ref(files))
                .iter()
                .flat_map(Certificates::check)
                .map(mistake)
                .collect()
        };
        let directory = directory_of(config);
        let tls = UpstreamTls::Read;
        let options = Options { secrets, directory, check_certificates: &check, tls, cases };
        Plan::compile(&document, process, &options)
    }

    /// Reads and compiles where nothing is served: secrets, certificates and keys need not be there.
    ///
    /// # Errors
    /// A report with every mistake.
    pub fn assumed(config: &Path, process: &Process) -> Result<(Plan, Report), Report> {
        Self::described(config, process).map(|(_, plan, report)| (plan, report))
    }

    /// The same, with the document that the plan was made from.
    ///
    /// # Errors
    /// A report with every mistake.
    pub fn described(config: &Path, process: &Process) -> Result<(Document, Plan, Report), Report> {
        let document = config::load(config, plan::INCLUDE)?;
        let (plan, report) = Self::assumed_of(&document, directory_of(config), process)?;
        Ok((document, plan, report))
    }

    /// The same of a document that was read already; relative paths in it start at `directory`.
    ///
    /// # Errors
    /// A report with every mistake.
    pub fn assumed_of(
        document: &Document,
        directory: &Path,
        process: &Process,
    ) -> Result<(Plan, Report), Report> {
        let options = Options {
            secrets: Secrets::Assume,
            directory,
            check_certificates: &|_| Vec::new(),
            tls: UpstreamTls::Assume,
            cases: Cases::Ignore,
        };
        Plan::compile(document, process, &options)
    }
}

fn certificate_files(files: &[TlsFiles]) -> Vec<CertificateFiles> {
    files.iter().map(|f| CertificateFiles { cert: f.cert.clone(), key: f.key.clone() }).collect()
}

/// Loads the certificates of each listener.
///
/// # Errors
/// The first that cannot be used, with its file.
pub fn certificates(listeners: &[Listener]) -> Result<Vec<Option<Arc<Certificates>>>, String> {
    listeners
        .iter()
        .map(|listener| {
            if listener.tls.is_empty() {
                return Ok(None);
            }
            Certificates::load(&certificate_files(&listener.tls))
                .map(|certificates| Some(Arc::new(certificates)))
                .map_err(|why| format!("listener `{}`: {why}", listener.name))
        })
        .collect()
}

/// One running process.
pub struct State {
    config: PathBuf,
    /// What the listeners share.
    pub shared: Arc<Shared>,
    certificates: Vec<Arc<Certificates>>,
    /// What the process was started with, whatever the file says since.
    fixed: Fixed,
    /// As they were bound.
    listeners: Vec<Listener>,
    draining: AtomicBool,
    /// Another process has taken the listeners over: who waits for its next request is not hurried.
    pub lingers: Arc<AtomicBool>,
    closing: watch::Sender<bool>,
}

impl State {
    /// The state, and what listeners listen to in order to close.
    #[must_use]
    pub fn new(
        config: PathBuf,
        shared: Arc<Shared>,
        certificates: Vec<Arc<Certificates>>,
    ) -> (Arc<Self>, watch::Receiver<bool>) {
        let (closing, closed) = watch::channel(false);
        let plan = shared.plan.load_full();
        let state = Self {
            config,
            certificates,
            fixed: Fixed::of(&plan),
            listeners: plan.listeners.clone(),
            shared,
            draining: AtomicBool::new(false),
            lingers: Arc::default(),
            closing,
        };
        (Arc::new(state), closed)
    }

    /// Whether new requests are welcome.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Acquire)
    }

    /// Goes unready.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.shared.process.metrics.process().draining(true);
    }

    /// Tells the listeners to close.
    pub fn close_listeners(&self) {
        self.closing.send_replace(true);
    }

    /// Reads and compiles the configuration as it is now.
    ///
    /// # Errors
    /// A report with every mistake; nothing has changed.
    pub fn load(&self) -> Result<(Plan, Report), Report> {
        Load::first(&self.config, &self.shared.process)
    }

    /// Puts a plan into force. Requests in flight keep theirs.
    pub async fn swap(&self, plan: Plan) {
        for key in self.fixed.needs_restart(&Fixed::of(&plan)) {
            tracing::warn!(key, "this part of the configuration takes effect at the next start");
        }
        let plan = Arc::new(plan);
        resolve(&plan).await;
        self.shared.plan.store(plan);
        self.note_loaded(SystemTime::now());
        tracing::info!(config = %self.summary(), "the new configuration is in force");
    }

    /// Waits, not for long, until the names of the upstreams are resolved: the first request should not meet a 503.
    pub async fn warm_up(&self) {
        resolve(&self.shared.plan.load_full()).await;
    }

    /// Tells the metrics which plan is in force.
    pub fn note_loaded(&self, at: SystemTime) {
        let plan = self.shared.plan.load_full();
        let metrics = &self.shared.process.metrics;
        let process = metrics.process();
        process.config_reload(true, at);
        process.config_info(&format!("{:016x}", plan.fingerprint));
        process.objects(ObjectKind::Routes, plan.routes.len());
        process.objects(ObjectKind::Upstreams, plan.upstreams.len());
        process.objects(ObjectKind::Listeners, plan.listeners.len());
        process.objects(ObjectKind::Secrets, plan.secrets.len());
        let mut routes: HashSet<&str> = plan.routes.iter().map(|route| route.name.as_str()).collect();
        routes.insert(NO_ROUTE);
        let upstreams: HashSet<&str> = plan.upstreams.keys().map(|name| name.as_str()).collect();
        // Listeners are the process's, whatever the new file says of them.
        let listeners: HashSet<&str> = self.listeners.iter().map(|listener| listener.name.as_str()).collect();
        metrics.retain(&routes, &upstreams, &listeners);
        process.retain_secrets(&plan.secrets.iter().map(|name| name.as_str()).collect());
        for slot in self.shared.process.secrets.slots() {
            process.secret_reload(slot.name().as_str(), slot.stats().available, at);
        }
    }

    /// Registers the numbers of the rooms that keep their own.
    pub fn register_metrics(&self) {
        let metrics = &self.shared.process.metrics;
        metrics.process().build_info(
            env!("CARGO_PKG_VERSION"),
            option_env!("PORTCULLIS_REVISION").unwrap_or("unknown"),
            "rustls",
        );
        let zone = self.shared.zone;
        let limits = self.shared.process.limits.clone();
        let resolver = self.shared.process.resolver.clone();
        let certificates = self.certificates.clone();
        metrics.register_samples_fn(Box::new(move |samples| {
            let store = zone.stats();
            for (metric, value) in [
                (Metric::CacheUsedBytes, store.used_bytes),
                (Metric::CacheCapacityBytes, store.capacity_bytes),
                (Metric::CacheEntries, store.entries),
                (Metric::CacheMaxEntries, store.max_entries),
                (Metric::CachePinnedBytes, store.pinned_bytes),
                (Metric::CacheLongestFreeBytes, store.longest_free_bytes),
                (Metric::CacheWriter, usize::from(store.is_writer)),
                (Metric::CacheMadeAnew, usize::from(zone.is_made_anew())),
                (Metric::CacheFills, store.fills),
            ] {
                samples.push(metric, &["memory"], value as f64);
            }
            for (metric, reason, count) in [
                (Metric::CacheEvictionsTotal, "size", store.evictions_size),
                (Metric::CacheEvictionsTotal, "purge", store.evictions_purge),
                (Metric::CacheEvictionsTotal, "replaced", store.evictions_replaced),
                (Metric::CacheRejectedTotal, "too-large", store.rejected_too_large),
                (Metric::CacheRejectedTotal, "no-room", store.rejected_no_room),
                (Metric::CacheRejectedTotal, "pinned", store.rejected_pinned),
                (Metric::CacheRejectedTotal, "purged", store.rejected_purged),
                (Metric::CacheRejectedTotal, "no-lease", store.rejected_no_lease),
                (Metric::CacheRejectedTotal, "failed", store.fills_failed),
            ] {
                samples.push(metric, &["memory", reason], count as f64);
            }
            samples.push(Metric::CacheStoredTotal, &["memory"], store.stored as f64);
            samples.push(Metric::CacheSurvived, &["memory"], store.survived as f64);
            samples.push(Metric::CacheCorruptTotal, &["memory"], store.corrupt as f64);
            samples.push(Metric::CacheBans, &["memory"], store.bans as f64);
            let behind = store.sweeps.saturating_sub(store.sweeps_forced);
            samples.push(Metric::CacheSweepsTotal, &["memory", "behind"], behind as f64);
            samples.push(Metric::CacheSweepsTotal, &["memory", "full"], store.sweeps_forced as f64);
            samples.push(Metric::CacheSweptTotal, &["memory"], store.swept as f64);
            let (alone, refused) = zone.flights.impatient();
            samples.push(Metric::CacheImpatientTotal, &["alone"], alone as f64);
            samples.push(Metric::CacheImpatientTotal, &["refused"], refused as f64);
            let counted = limits.stats();
            samples.push(Metric::RatelimitClients, &[], counted.tracked as f64);
            samples.push(Metric::RatelimitCapacity, &[], counted.capacity as f64);
            samples.push(Metric::RatelimitOverflowTotal, &[], counted.overflowed as f64);
            samples.push(Metric::RatelimitMendedTotal, &[], counted.mended as f64);
            let resolved = resolver.stats();
            samples.push(Metric::UpstreamResolutionsTotal, &["success"], resolved.ok as f64);
            samples.push(Metric::UpstreamResolutionsTotal, &["failure"], resolved.failed as f64);
            for (name, expiry) in certificates.iter().flat_map(|c| c.expiries()) {
                samples.push(Metric::TlsCertificateExpiryTimestampSeconds, &[&name], expiry as f64);
            }
        }));
        if self.shared.access_log.register(metrics).is_err() {
            tracing::warn!("the count of dropped log lines is not shown");
        }
    }

    /// Reads the certificates again; a set that cannot be used changes nothing.
    pub fn refresh_certificates(&self) {
        for certificates in &self.certificates {
            match certificates.reload() {
                Ok(true) => tracing::info!("certificates were renewed"),
                Ok(false) => {}
                Err(why) => {
                    tracing::error!(%why, "the new certificates cannot be used; the old ones serve on")
                }
            }
        }
    }

    /// The directories of secrets and certificates, whose changes matter.
    #[must_use]
    pub fn directories(&self) -> BTreeSet<PathBuf> {
        let mut all = BTreeSet::new();
        all.extend(self.shared.process.secrets.directories());
        all.extend(self.certificates.iter().flat_map(|certificates| certificates.directories()));
        all
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// One line about the plan in force.
    #[must_use]
    pub fn summary(&self) -> String {
        let plan = self.shared.plan.load();
        format!(
            "{:016x}: {}, {}, {}",
            plan.fingerprint,
            counted(plan.routes.len() as u64, "route"),
            counted(plan.upstreams.len() as u64, "upstream"),
            counted(plan.secrets.len() as u64, "secret")
        )
    }

    /// The plan in force as the admin side shows it: as written, secrets by name and age only.
    #[must_use]
    pub fn describe(&self) -> serde_json::Value {
        let plan = self.shared.plan.load();
        let now = SystemTime::now();
        let secrets: serde_json::Map<String, serde_json::Value> = self
            .shared
            .process
            .secrets
            .slots()
            .iter()
            .map(|slot| {
                let stats = slot.stats();
                let last = SystemTime::UNIX_EPOCH + Duration::from_secs(stats.last_success_unix);
                let age = now.duration_since(last).unwrap_or_default().as_secs();
                let state = serde_json::json!({
                    "available": stats.available,
                    "version": stats.version,
                    "ageSeconds": age,
                });
                (slot.name().to_string(), state)
            })
            .collect();
        serde_json::json!({
            "fingerprint": format!("{:016x}", plan.fingerprint),
            "ready": self.is_ready(),
            "secrets": secrets,
            "document": redacted(plan.shown()),
            "included": redacted(serde_json::json!(plan.included())),
        })
    }

    /// Tells what happens to a request under the plan in force. Reads the files, to say whether they are that plan.
    ///
    /// # Errors
    /// [`AskError`] where there is no such request.
    pub fn explain(&self, asked: &Asked) -> Result<Explanation, AskError> {
        let file = config::load(&self.config, plan::INCLUDE).ok();
        let live = Live {
            zone: self.shared.zone,
            listeners: &self.listeners,
            file_fingerprint: file.map(|document| document.fingerprint()),
        };
        super::explain(&self.shared.plan.load_full(), asked, Some(&live))
    }
}

/// The document without what people write into header values though they should not.
fn redacted(mut value: serde_json::Value) -> serde_json::Value {
    match &mut value {
        serde_json::Value::Object(members) => {
            for (key, member) in members.iter_mut() {
                let tells = tells_a_secret(key);
                // `secrets:` and `credential:` hold names; a header's value holds itself.
                *member = match member.take() {
                    serde_json::Value::String(_) if tells => "(hidden)".into(),
                    other => redacted(other),
                };
            }
        }
        serde_json::Value::Array(items) => {
            for item in items.iter_mut() {
                *item = redacted(item.take());
            }
        }
        _ => {}
    }
    value
}

/// How long a start or a reload waits for names.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

async fn resolve(plan: &Plan) {
    let all = async {
        for upstream in plan.upstreams.values() {
            upstream.upstream.ready().await;
        }
    };
    if tokio::time::timeout(RESOLVE_TIMEOUT, all).await.is_err() {
        tracing::warn!(
            "not every upstream's name is resolved yet; requests to it are answered 503 until it is"
        );
    }
}
