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
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::State;
use crate::config::Sources;
use crate::plan::INCLUDE;
use crate::secret::{Outcome, folders_of};

/// Events of one change come in bursts; what follows within this time belongs to it.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often files are read again without an event.
const POLL: Duration = Duration::from_secs(30);

/// What notices a change. Made before the process says that it is ready: from then on, a signal or a new file is not missed.
pub struct Watch {
    state: Arc<State>,
    hangup: Signal,
    watcher: Directories,
    changed: mpsc::Receiver<()>,
    sources: Sources,
    /// Of the files as they were last loaded.
    content: u64,
}

impl Watch {
    /// Begins to watch. `content` is the fingerprint of the `sources` from before they were loaded.
    ///
    /// # Errors
    /// When the process may not handle signals.
    pub fn begin(state: Arc<State>, sources: Sources, content: u64) -> std::io::Result<Self> {
        let (events, changed) = mpsc::channel::<()>(1);
        let hangup = signal(SignalKind::hangup())?;
        let mut watcher = Directories::new(events);
        watcher.follow(&directories(&state, &sources));
        Ok(Self { state, hangup, watcher, changed, sources, content })
    }

    /// Watches until the process ends.
    pub async fn run(self) {
        let Self { state, mut hangup, mut watcher, mut changed, mut sources, mut content } = self;
        // Once at the start: a file may have changed between its loading and the first watch.
        let mut wait = Duration::ZERO;
        loop {
            let forced = tokio::select! {
                _ = hangup.recv() => true,
                Some(()) = changed.recv() => {
                    settle(&mut changed).await;
                    false
                }
                () = tokio::time::sleep(wait) => false,
            };
            wait = POLL;
            // Before the files are read, so that what changes from here on is noticed.
            watcher.follow(&directories(&state, &sources));
            let working = state.clone();
            // File reads and compilation block: never on a worker that serves requests.
            let refreshed = tokio::task::spawn_blocking(move || {
                refresh_secrets(&working);
                working.refresh_certificates();
                let now = sources.fingerprint();
                (sources, now)
            })
            .await;
            let Ok((looked_at, now)) = refreshed else {
                sources = Sources::new(state.config().to_owned(), INCLUDE);
                continue;
            };
            sources = looked_at;
            if forced || now != content {
                content = now;
                apply(&state).await;
            }
            // A new plan may have secrets and files in other directories; where it is refused as well, as a change there may be
            // what it lacks. What happened there before the watch began is looked at once more.
            if watcher.follow(&directories(&state, &sources)) {
                wait = DEBOUNCE;
            }
            if forced {
                state.shared.access_log.reopen();
            }
        }
    }
}

/// Every directory whose changes matter.
fn directories(state: &State, sources: &Sources) -> BTreeSet<PathBuf> {
    let mut all = state.directories();
    sources.files().for_each(|file| folders_of(file, &mut all));
    for folder in sources.folders() {
        // One that does not exist is waited for where it would be made.
        let there = folder.ancestors().find(|folder| folder.as_os_str().is_empty() || folder.is_dir());
        // As for a file in it: the folder may be a link that is swapped as well.
        folders_of(&there.unwrap_or(folder).join("*"), &mut all);
    }
    all
}

async fn settle(changed: &mut mpsc::Receiver<()>) {
    let quiet = async {
        while tokio::time::timeout(DEBOUNCE, changed.recv()).await.is_ok_and(|event| event.is_some()) {}
    };
    // A log in the same folder may never be quiet.
    let _ = tokio::time::timeout(DEBOUNCE * 10, quiet).await;
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
                let help = (!entry.help.is_empty()).then(|| entry.help.join("; "));
                tracing::error!(file = %entry.file, line = entry.line, column = entry.column, code = entry.code, help, "{}", entry.message);
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

    /// Watches these and no others; whether one is new.
    fn follow(&mut self, wanted: &BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = self.watcher.as_mut() else { return false };
        for gone in self.followed.difference(wanted) {
            // It may have been removed; then the watch went with it.
            let _ = watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.followed) {
            if let Err(why) = watcher.watch(Path::new(new), RecursiveMode::NonRecursive) {
                tracing::warn!(directory = %new.display(), %why, "the directory cannot be watched");
            }
        }
        let is_new = !wanted.is_subset(&self.followed);
        self.followed.clone_from(wanted);
        is_new
    }
}
