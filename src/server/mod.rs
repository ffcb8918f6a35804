//! One running process: it binds, serves, reloads and drains. It knows the operating system; it does not know policies.

pub mod admin;
mod cache;
mod explain;
pub mod listen;
mod memory;
pub mod reload;
pub mod shutdown;
pub mod stage;
mod state;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::server::configuration::ServerConf;
use tokio::task::JoinSet;

pub use explain::{explain, outcome};
pub use state::{Load, State};

use crate::config::Sources;
use crate::plan::{self, AccessLogSink, Listener, Process};
use crate::proxy::{Gateway, Shared};
use crate::telemetry::{AccessLog, Sink};

/// Idle connections to upstreams, of all workers together, that each pool keeps at most.
pub const KEEPALIVE_POOL: usize = 4096;

/// Why a process did not start, in the operator's words.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is refused; the report is for people.
    Config(String),
    /// Something of the system could not be had: a port, a file.
    System(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(text) | Self::System(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StartError {}

/// Runs the gateway until a signal ends it. Everything that can fail to start fails before the first request is accepted.
///
/// # Errors
/// [`StartError`]: nothing was served.
pub async fn run(config: PathBuf) -> Result<(), StartError> {
    let system = |why: std::io::Error| StartError::System(why.to_string());
    let mut signals = shutdown::EndSignals::new().map_err(system)?;
    let process = Process::new();
    let mut sources = Sources::new(config.clone(), plan::INCLUDE);
    let content = sources.fingerprint();
    let loaded = Load::first(&config, &process).map_err(|report| StartError::Config(report.human()))?;
    let (plan, report) = loaded;
    if !report.is_empty() {
        eprint!("{}", report.human());
    }
    let access_log = AccessLog::start(sink(&plan.access_log))
        .map_err(|why| StartError::System(format!("the access log cannot be opened: {why}")))?;
    let zone = memory::cache(&plan.cache).map_err(StartError::System)?;
    let no_route = process.metrics.route(state::NO_ROUTE, &[]);
    let admin = plan
        .admin
        .as_ref()
        .map(|admin| admin::bind(&admin.address))
        .transpose()
        .map_err(StartError::System)?;
    let listeners = plan.listeners.clone();
    let certificates = state::certificates(&listeners).map_err(StartError::System)?;
    let mut bound = Vec::with_capacity(listeners.len());
    for (listener, certificates) in listeners.iter().zip(&certificates) {
        let settings = settings(listener, certificates.clone());
        bound.push(listen::bind(settings).map_err(|why| {
            StartError::System(format!(
                "listener `{}`: cannot listen on `{}`: {}",
                listener.name, why.address, why.cause
            ))
        })?);
    }
    let shared = Arc::new(Shared {
        plan: arc_swap::ArcSwap::from_pointee(plan),
        process,
        zone,
        access_log,
        connector: Connector::new(Some(ConnectorOptions::new(KEEPALIVE_POOL))),
        no_route,
        door: Arc::new(watch::Door),
    });
    let (state, closing) = State::new(config, shared.clone(), certificates.into_iter().flatten().collect());
    state.register_metrics();
    state.note_loaded(SystemTime::now());

    let mut running = JoinSet::new();
    for (listener, bound) in listeners.into_iter().zip(bound) {
        println!("listening {} {}", listener.name, bound.local_addr());
        let metrics = shared.process.metrics.listener(listener.name.as_str());
        let gateway = Gateway { shared: shared.clone(), metrics: metrics.clone(), listener };
        let app = Arc::new(pingora_proxy::http_proxy(&Arc::new(framework_settings()), gateway));
        running.spawn(bound.serve(app, Arc::new(watch::Watch::new(metrics)), closing.clone()));
    }
    let admin = admin.map(|admin| {
        println!("admin {}", admin.describe());
        tokio::spawn(admin.serve(state.clone()))
    });
    tokio::spawn(memory::keep_storing(zone));
    tokio::spawn(zone.keep_swept());
    state.warm_up().await;
    tokio::spawn(reload::Watch::begin(state.clone(), sources, content).map_err(system)?.run());
    println!("ready config {}", state.summary());
    // Without a supervisor there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let signal = signals.next().await;
    tracing::info!(signal, "draining");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let whole = shutdown::drain(&state, &mut signals, &mut running).await;
    running.abort_all();
    if let Some(admin) = admin {
        // Waited for, so that its socket file is gone when the process is.
        admin.abort();
        let _ = admin.await;
    }
    shared.access_log.shutdown();
    tracing::info!(whole, "stopped");
    Ok(())
}

fn sink(sink: &AccessLogSink) -> Sink {
    match sink {
        AccessLogSink::Off => Sink::Off,
        AccessLogSink::Stdout => Sink::Stdout,
        AccessLogSink::Stderr => Sink::Stderr,
        AccessLogSink::File(path) => Sink::File(path.clone()),
    }
}

fn settings(listener: &Listener, certificates: Option<Arc<listen::Certificates>>) -> listen::Settings {
    let mut settings = listen::Settings::new(listener.name.clone(), listener.address);
    settings.tls = certificates;
    settings.http2 = listener.http2;
    settings.timeouts = listen::Timeouts {
        header: listener.timeouts.header,
        // The journey answers 408 at the deadline; the guard ends, a moment later, what the journey cannot.
        body: listener.timeouts.body + BODY_CUT_AFTER,
        idle: listener.timeouts.idle,
        write: listener.timeouts.write,
    };
    settings.max_connections = listener.max_connections;
    settings.max_connections_per_address = listener.max_connections_per_address;
    settings.max_header_bytes = listener.max_header_bytes;
    settings.max_header_count = listener.max_headers;
    settings
}

/// How much later than `timeouts.body` the connection guard cuts.
const BODY_CUT_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// What the framework is told. Made in code: its own reader of YAML prints a file it cannot read into its errors.
fn framework_settings() -> ServerConf {
    ServerConf {
        upstream_keepalive_pool_size: KEEPALIVE_POOL,
        // The end of all attempts; `upstreams.*.retry` decides long before.
        max_retries: (plan::upstreams::MAX_ATTEMPTS + 6) as usize,
        ..ServerConf::default()
    }
}
