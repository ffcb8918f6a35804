//! Reload: a change in a directory, SIGHUP or the clock; all or nothing.
//!
//! ```text
//! event -> (debounce) -> secrets re-read -> certificates re-read -> document -> Plan::compile -> swap
//!                                                                        | any mistake
//!                                                                        +-> said, counted; the old plan serves on
//! ```
//!
//! Directories are watched, not files: an orchestrator swaps a symbolic link in the parent, and a watch on the file would never hear of it.
//! A clock re-reads every half minute as well, for file systems that tell nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecursiveMode, Watcher as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::State;
use crate::secret::Outcome;

/// Events of one change come in bursts; what follows within this time belongs to it.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often files are read again without an event.
const POLL: Duration = Duration::from_secs(30);

/// Watches until the process ends.
pub async fn watch(state: Arc<State>) {
    let (events, mut changed) = mpsc::channel::<()>(1);
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(why) => {
            tracing::error!(%why, "SIGHUP cannot be handled, so nothing reloads on it");
            return;
        }
    };
    let mut watcher = Directories::new(events);
    let mut content = state.fingerprint_of_file();
    loop {
        watcher.follow(&state.directories());
        let forced = tokio::select! {
            _ = hangup.recv() => true,
            Some(()) = changed.recv() => {
                settle(&mut changed).await;
                false
            }
            () = tokio::time::sleep(POLL) => false,
        };
        let working = state.clone();
        // File reads and compilation block: never on a worker that serves requests.
        let refreshed = tokio::task::spawn_blocking(move || {
            refresh_secrets(&working);
            working.refresh_certificates();
            working.fingerprint_of_file()
        })
        .await;
        let Ok(now) = refreshed else { continue };
        if forced || now != content {
            content = now;
            apply(&state).await;
        }
        if forced {
            state.shared.access_log.reopen();
        }
    }
}

async fn settle(changed: &mut mpsc::Receiver<()>) {
    while tokio::time::timeout(DEBOUNCE, changed.recv()).await.is_ok_and(|event| event.is_some()) {}
}

/// Loads, compiles and swaps, or says why not.
async fn apply(state: &Arc<State>) {
    announce_reload();
    let working = state.clone();
    let handle = tokio::runtime::Handle::current();
    let outcome = tokio::task::spawn_blocking(move || {
        let _runtime = handle.enter();
        working.load()
    })
    .await;
    match outcome {
        Ok(Ok((plan, report))) => {
            for entry in report.summary() {
                tracing::warn!(file = %entry.file, line = entry.line, column = entry.column, code = entry.code, "{}", entry.message);
            }
            state.swap(plan).await;
        }
        Ok(Err(report)) => {
            for entry in report.summary() {
                tracing::error!(file = %entry.file, line = entry.line, column = entry.column, code = entry.code, "{}", entry.message);
            }
            tracing::error!(
                errors = report.errors(),
                "the new configuration is refused; the old one serves on"
            );
            state.shared.process.metrics.process().config_reload(false, SystemTime::now());
        }
        Err(_) => tracing::error!("the reload itself failed; the old configuration serves on"),
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// Since version 253 systemd takes `RELOADING=1` only with the time beside it.
fn announce_reload() {
    if let Ok(now) = sd_notify::NotifyState::monotonic_usec_now() {
        // Without a supervisor there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading, now]);
    }
}

fn refresh_secrets(state: &State) {
    let now = SystemTime::now();
    let metrics = state.shared.process.metrics.process();
    for change in state.shared.process.secrets.refresh(now) {
        let name = change.name.as_str();
        match change.outcome {
            Outcome::Rotated => {
                metrics.secret_reload(name, true, now);
                tracing::info!(secret = name, "the secret was rotated");
            }
            Outcome::Unchanged => {}
            Outcome::Failed(why) => {
                metrics.secret_reload(name, false, now);
                tracing::warn!(secret = name, %why, "the secret cannot be read; its last good value serves on");
            }
            Outcome::Expired(why) => {
                metrics.secret_reload(name, false, now);
                tracing::error!(secret = name, %why, "the secret is lost for too long; requests that need it are answered 503");
            }
        }
    }
}

/// The watched directories.
struct Directories {
    watcher: Option<notify::RecommendedWatcher>,
    followed: BTreeSet<PathBuf>,
}

impl Directories {
    fn new(events: mpsc::Sender<()>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // One waiting event says as much as a hundred.
                let _ = events.try_send(());
            }
        });
        if let Err(why) = &watcher {
            tracing::warn!(%why, "directories cannot be watched; files are read again every {} s", POLL.as_secs());
        }
        Self { watcher: watcher.ok(), followed: BTreeSet::new() }
    }

    fn follow(&mut self, wanted: &BTreeSet<PathBuf>) {
        let Some(watcher) = self.watcher.as_mut() else { return };
        for gone in self.followed.difference(wanted) {
            // It may have been removed; then the watch went with it.
            let _ = watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.followed) {
            if let Err(why) = watcher.watch(Path::new(new), RecursiveMode::NonRecursive) {
                tracing::warn!(directory = %new.display(), %why, "the directory cannot be watched");
            }
        }
        self.followed.clone_from(wanted);
    }
}
