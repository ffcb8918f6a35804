//! The gateway without its surroundings, for `portcullis test`: the same guard, the same journey and the same plan as in a running
//! process, but connections are handed in, upstreams are played, secrets are made up, and time passes when it is told to.
//!
//! What is left out is what needs the machine: ports, certificates, reload, the admin side and signals.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora_proxy::HttpProxy;
use tokio::net::TcpStream;

use super::{KEEPALIVE_POOL, framework_settings, listen, settings, state, watch};
use crate::cache::Zone;
use crate::cache::storage::{Settings as StoreSettings, Shift};
use crate::config::{Document, Report};
use crate::names::{ListenerName, SecretName};
use crate::plan::{Cases, Options, Plan, Process, Secrets, TlsFiles, UpstreamTls};
use crate::proxy::{self, Gateway, Shared};
use crate::telemetry::{AccessLog, Sink};
use crate::upstream::Stage;

/// One gateway with fresh limits and a fresh cache, and a clock that stands still until it is told otherwise.
pub struct Staged {
    shared: Arc<Shared>,
    clock: Arc<Mutex<Clock>>,
    fronts: Mutex<BTreeMap<ListenerName, Front>>,
}

/// A listener without its port.
#[derive(Clone)]
struct Front {
    settings: listen::Settings,
    app: Arc<HttpProxy<Gateway>>,
    told: Arc<watch::Watch>,
    tls: bool,
}

/// What time it is.
struct Clock {
    /// For limits.
    counted_at: Instant,
    /// When what is stored was last moved, on the wall clock.
    shifted_at: SystemTime,
}

/// The way to the connection of a running gateway, with the time of ours.
struct Door {
    clock: Arc<Mutex<Clock>>,
}

impl proxy::Door for Door {
    fn connection(&self) -> Option<proxy::Connection> {
        let counted_at = Some(self.clock.lock().counted_at);
        watch::Door.connection().map(|connection| proxy::Connection { counted_at, ..connection })
    }

    fn set_deadline(&self, at: Option<Instant>) {
        watch::Door.set_deadline(at);
    }

    fn body_progress(&self, received_bytes: u64, ended: bool) {
        watch::Door.body_progress(received_bytes, ended);
    }

    fn keeps_date(&self) -> bool {
        watch::Door.keeps_date()
    }

    fn keep_date(&self, moment: Option<SystemTime>) {
        watch::Door.keep_date(moment);
    }
}

/// Compiles a document as a running gateway would, except that no certificate, key or secret is read.
///
/// # Errors
/// A report with every mistake.
pub fn compile(
    document: &Document,
    directory: &Path,
    process: &Process,
    secrets: fn(&SecretName) -> String,
) -> Result<(Plan, Report), Report> {
    let unread = |_: &TlsFiles| Vec::new();
    let options = Options {
        secrets: Secrets::Invent(secrets),
        directory,
        check_certificates: &unread,
        tls: UpstreamTls::Assume,
        cases: Cases::Check,
    };
    Plan::compile(document, process, &options)
}

/// What every compilation on a stage needs.
#[must_use]
pub fn process(stage: Arc<dyn Stage>) -> Process {
    Process::staged(stage)
}

impl Staged {
    /// A gateway with this plan, compiled with this process, that logs to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(plan: Plan, process: Process, access_log: &Path) -> std::io::Result<Self> {
        let no_route = process.metrics.route(state::NO_ROUTE, &[]);
        // Never the gateway's own file; and as small as a test needs, for there may be thousands of them.
        let settings = StoreSettings { file: None, max_objects: STAGED_OBJECTS, ..plan.cache.settings() };
        let (zone, _) = Zone::new(&settings).map_err(std::io::Error::other)?;
        zone.store().try_take()?;
        let clock = Arc::new(Mutex::new(Clock { counted_at: Instant::now(), shifted_at: SystemTime::now() }));
        Ok(Self {
            clock: clock.clone(),
            fronts: Mutex::default(),
            shared: Arc::new(Shared {
                plan: arc_swap::ArcSwap::from_pointee(plan),
                process,
                zone,
                access_log: AccessLog::start(Sink::File(access_log.to_owned()))?,
                connector: Connector::new(Some(ConnectorOptions::new(KEEPALIVE_POOL))),
                no_route,
                door: Arc::new(Door { clock }),
            }),
        })
    }

    /// The plan in force.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        self.shared.plan.load_full()
    }

    /// Serves one connection to its end as the listener of this name would; `peer` is who is said to be at the other end.
    pub async fn serve(&self, listener: &ListenerName, socket: TcpStream, peer: SocketAddr) {
        let Some(front) = self.front(listener) else { return };
        listen::serve_one(front.settings, front.app, front.told, (socket, peer), front.tls).await;
    }

    /// What stands behind the listener of this name. Made once: it is slow to make.
    fn front(&self, name: &ListenerName) -> Option<Front> {
        let mut fronts = self.fronts.lock();
        if let Some(front) = fronts.get(name) {
            return Some(front.clone());
        }
        let listener = self.plan().listeners.iter().find(|other| other.name == *name).cloned()?;
        let metrics = self.shared.process.metrics.listener(name.as_str());
        let told = Arc::new(watch::Watch::new(metrics.clone()));
        let (settings, tls) = (settings(&listener, None), !listener.tls.is_empty());
        let gateway = Gateway { shared: self.shared.clone(), metrics, listener };
        let app = Arc::new(pingora_proxy::http_proxy(&Arc::new(framework_settings()), gateway));
        let front = Front { settings, app, told, tls };
        fronts.insert(name.clone(), front.clone());
        Some(front)
    }

    /// Lets so much time pass for what is stored and what is counted, and none besides since the last call. Only while no request is under way.
    pub fn pass(&self, time: Duration) {
        let mut clock = self.clock.lock();
        let now = SystemTime::now();
        self.shared.zone.shift(Shift { since: clock.shifted_at, now, passed: time });
        clock.shifted_at = now;
        // A clock that ran over would be one that stands still.
        clock.counted_at = clock.counted_at.checked_add(time).unwrap_or(clock.counted_at);
    }

    /// Whether neither a connection nor an errand of the cache is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        // Ours, and one of each listener; every request has one of its own.
        Arc::strong_count(&self.shared) == 1 + self.fronts.lock().len()
    }

    /// Waits until every line so far is in the access log.
    pub fn flush(&self) -> bool {
        self.shared.access_log.flush()
    }
}

/// Answers that the cache of one test holds.
const STAGED_OBJECTS: u32 = 1024;
