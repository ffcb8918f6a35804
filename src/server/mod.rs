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
pub mod upgrade;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::server::configuration::ServerConf;
use tokio::task::JoinSet;

pub use cache::{MAX_PAGE, told, told_whole};
pub use explain::{explain, outcome};
pub use state::{Load, State};
use upgrade::{End, Giver, Outcome};
pub use upgrade::{Started, Successor};

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

/// Runs the gateway until a signal ends it, or a successor has taken over. Everything that can fail to start fails before the first request
/// is accepted. `successor`: this process is one.
///
/// # Errors
/// [`StartError`]: nothing was served.
pub async fn run(
    config: PathBuf,
    started: Started,
    mut successor: Option<Successor>,
) -> Result<(), StartError> {
    let is_first = successor.is_none();
    match start(config, started, &mut successor).await {
        Ok(mut running) => {
            if let Some(successor) = successor {
                let may = successor.ready().map_err(|why| {
                    StartError::System(format!("the process that was to be taken over does not leave: {why}"))
                })?;
                running.state.shared.process.metrics.process().upgrade(true);
                tracing::info!("taken over from the old process");
                running.open();
                may.serves();
            }
            if is_first {
                // Without a supervisor there is nobody to tell. Of a successor, the process that it believes tells it.
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
            running.run().await;
            Ok(())
        }
        Err(why) => {
            if let Some(successor) = &successor {
                successor.failed(&why.to_string());
            }
            Err(why)
        }
    }
}

/// A process that serves.
struct Running {
    state: Arc<State>,
    signals: shutdown::EndSignals,
    /// What is bound and does not accept yet.
    doors: Option<Doors>,
    listeners: JoinSet<()>,
    admin: Option<AdminTask>,
    upgrades: Option<Upgrades>,
}

/// Who answers those who ask for an upgrade, until one has come about: then it tells the successor's number.
struct Upgrades {
    task: tokio::task::JoinHandle<u32>,
    end: Arc<End>,
}

/// All that a process accepts on. A successor opens it when the old process lets it.
struct Doors {
    listeners: Vec<(Listener, listen::Bound)>,
    closing: tokio::sync::watch::Receiver<bool>,
    admin: Option<admin::Bound>,
    upgrades: Option<(Giver, upgrade::Control)>,
}

/// The admin side, and what keeps the file of its socket.
struct AdminTask {
    task: tokio::task::JoinHandle<()>,
    file: Option<Arc<AtomicBool>>,
}

async fn start(
    config: PathBuf,
    started: Started,
    successor: &mut Option<Successor>,
) -> Result<Running, StartError> {
    let system = |why: std::io::Error| StartError::System(why.to_string());
    let signals = shutdown::EndSignals::new().map_err(system)?;
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
    memory::counters(&plan.counters, &process.limits).map_err(StartError::System)?;
    let zone = memory::cache(&plan.cache).map_err(StartError::System)?;
    let no_route = process.metrics.route(state::NO_ROUTE, &[]);
    let admin = plan.admin.as_ref().map(|admin| bind_admin(admin, successor)).transpose()?;
    let listeners = plan.listeners.clone();
    let certificates = state::certificates(&listeners).map_err(StartError::System)?;
    let mut bound = Vec::with_capacity(listeners.len());
    for (listener, certificates) in listeners.iter().zip(&certificates) {
        bound.push(bind(listener, certificates.clone(), successor)?);
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
    let certificates = certificates.into_iter().flatten().collect();
    let (state, closing) = State::new(config.clone(), shared.clone(), certificates);
    state.register_metrics();
    state.note_loaded(SystemTime::now());
    let giver = giver(config, started, &state, &listeners, &bound, admin.as_ref()).map_err(system)?;
    for (listener, bound) in listeners.iter().zip(&bound) {
        println!("listening {} {}", listener.name, bound.local_addr());
    }
    if let Some(admin) = &admin {
        println!("admin {}", admin.describe());
    }
    let who = if successor.is_some() { upgrade::Who::Successor } else { upgrade::Who::First };
    let upgrades = giver.map(|giver| bind_upgrades(giver, &state, who)).transpose()?;
    let listeners = listeners.into_iter().zip(bound).collect();
    let doors = Some(Doors { listeners, closing, admin, upgrades });
    let mut running = Running {
        state: state.clone(),
        signals,
        doors,
        listeners: JoinSet::new(),
        admin: None,
        upgrades: None,
    };
    if who == upgrade::Who::First {
        running.open();
    }
    tokio::spawn(memory::keep_storing(zone));
    tokio::spawn(zone.keep_swept());
    state.warm_up().await;
    tokio::spawn(reload::Watch::begin(state.clone(), sources, content).map_err(system)?.run());
    println!("ready config {}", state.summary());
    Ok(running)
}

impl Running {
    /// Begins to accept.
    fn open(&mut self) {
        let Some(doors) = self.doors.take() else { return };
        let shared = &self.state.shared;
        for (listener, bound) in doors.listeners {
            let metrics = shared.process.metrics.listener(listener.name.as_str());
            let gateway = Gateway { shared: shared.clone(), metrics: metrics.clone(), listener };
            let app = Arc::new(pingora_proxy::http_proxy(&Arc::new(framework_settings()), gateway));
            let watch = Arc::new(watch::Watch::new(metrics));
            let (closing, lingers) = (doors.closing.clone(), self.state.lingers.clone());
            self.listeners.spawn(bound.serve(app, watch, closing, lingers));
        }
        self.admin = doors.admin.map(|admin| {
            let file = admin.share().ok().and_then(|(_, file)| file);
            AdminTask { task: tokio::spawn(admin.serve(self.state.clone())), file }
        });
        self.upgrades = doors.upgrades.map(|(giver, mut control)| {
            if let Err(error) = control.take_place() {
                tracing::error!(%error, "the socket for upgrades is not in its place: none can be asked for");
            }
            let end = giver.end.clone();
            Upgrades { task: tokio::spawn(upgrades(giver, control, self.state.clone())), end }
        });
    }

    /// Serves until its end, and drains.
    async fn run(mut self) {
        let successor = async {
            match &mut self.upgrades {
                Some(upgrades) => (&mut upgrades.task).await.ok(),
                None => std::future::pending().await,
            }
        };
        let left_to = tokio::select! {
            signal = self.signals.next() => {
                tracing::info!(signal, "draining");
                None
            }
            Some(pid) = successor => Some(pid),
        };
        let left_to = match (left_to, &mut self.upgrades) {
            (None, Some(upgrades)) if upgrades.end.by_signal() => (&mut upgrades.task).await.ok(),
            (left_to, _) => left_to,
        };
        let whole = match left_to {
            None => {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                if let Some(upgrades) = &self.upgrades {
                    upgrades.task.abort();
                }
                shutdown::drain(&self.state, &mut self.signals, &mut self.listeners).await
            }
            Some(pid) => {
                tracing::info!(pid, "the successor is ready; this process leaves");
                self.state.shared.zone.release();
                let _ = sd_notify::notify(&[sd_notify::NotifyState::MainPid(pid)]);
                self.end_admin(true).await;
                shutdown::leave(&self.state, &mut self.signals, &mut self.listeners).await
            }
        };
        self.listeners.abort_all();
        self.end_admin(false).await;
        self.state.shared.access_log.shutdown();
        tracing::info!(whole, "stopped");
    }

    /// Ends the admin side; its socket's file stays where a successor listens on it.
    async fn end_admin(&mut self, keep_file: bool) {
        if let Some(admin) = self.admin.take() {
            if let Some(file) = admin.file.filter(|_| keep_file) {
                file.store(true, Ordering::Release);
            }
            // Waited for, so that its socket file is gone when the process is.
            admin.task.abort();
            let _ = admin.task.await;
        }
    }
}

fn bind_admin(admin: &plan::Admin, successor: &mut Option<Successor>) -> Result<admin::Bound, StartError> {
    let given = successor.as_mut().and_then(|given| given.admin(&admin::name(&admin.address)));
    match given {
        Some(socket) => admin::adopt(&admin.address, socket),
        None => admin::bind(&admin.address),
    }
    .map_err(StartError::System)
}

fn bind(
    listener: &Listener,
    certificates: Option<Arc<listen::Certificates>>,
    successor: &mut Option<Successor>,
) -> Result<listen::Bound, StartError> {
    let settings = settings(listener, certificates);
    let given = successor.as_mut().and_then(|given| given.listener(listener.name.as_str(), listener.address));
    let bound = match given {
        Some(socket) => listen::adopt(settings, socket),
        None => listen::bind(settings),
    };
    bound.map_err(|why| {
        let (name, address, cause) = (&listener.name, why.address, why.cause);
        StartError::System(format!("listener `{name}`: cannot listen on `{address}`: {cause}"))
    })
}

/// What this process could hand over, where that can be asked for.
fn giver(
    config: PathBuf,
    started: Started,
    state: &State,
    listeners: &[Listener],
    bound: &[listen::Bound],
    admin: Option<&admin::Bound>,
) -> std::io::Result<Option<Giver>> {
    let plan = state.shared.plan.load();
    let Some(upgrade) = &plan.upgrade else { return Ok(None) };
    let listeners = listeners.iter().zip(bound);
    let shared = listeners
        .map(|(listener, bound)| Ok((listener.name.to_string(), listener.address, bound.share()?)))
        .collect::<std::io::Result<_>>()?;
    let admin = plan.admin.as_ref().zip(admin);
    let admin = admin
        .map(|(as_written, bound)| {
            Ok::<_, std::io::Error>((admin::name(&as_written.address), bound.share()?.0))
        })
        .transpose()?;
    let end = Arc::default();
    Ok(Some(Giver { config, started, timeout: upgrade.timeout, listeners: shared, admin, end }))
}

fn bind_upgrades(
    giver: Giver,
    state: &State,
    who: upgrade::Who,
) -> Result<(Giver, upgrade::Control), StartError> {
    let plan = state.shared.plan.load();
    let upgrade = plan.upgrade.as_ref().expect("a giver is made where an upgrade can be asked for");
    let control = upgrade::bind(&upgrade.socket, who).map_err(StartError::System)?;
    Ok((giver, control))
}

/// Answers those who ask for an upgrade, one at a time, until one has come about. Returns the number of the successor.
async fn upgrades(giver: Giver, control: upgrade::Control, state: Arc<State>) -> u32 {
    let giver = Arc::new(giver);
    loop {
        let ask = control.next().await;
        tracing::info!(binary = %ask.request.binary.display(), "an upgrade is asked for");
        let (giving, request) = (giver.clone(), ask.request.clone());
        let mut given = tokio::task::spawn_blocking(move || giving.give(&request));
        let given = loop {
            tokio::select! {
                given = &mut given => break given,
                other = control.next() => {
                    let why = "an upgrade is under way already".into();
                    other.answer(&Outcome::Refused { why }).await;
                }
            }
        };
        let outcome =
            given.unwrap_or_else(|_| Outcome::Refused { why: "the hand-over itself failed".into() });
        match &outcome {
            Outcome::Done { pid, .. } => {
                let pid = *pid;
                ask.answer(&outcome).await;
                return pid;
            }
            Outcome::Refused { why } => {
                state.shared.process.metrics.process().upgrade(false);
                tracing::error!(%why, "the upgrade failed; this process serves on");
                ask.answer(&outcome).await;
            }
        }
    }
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
