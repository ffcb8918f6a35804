//! Signals: SIGHUP reloads, SIGTERM and SIGINT drain.
//!
//! A drain goes unready first, so that a load balancer looks elsewhere; waits the configured delay; closes the listeners; and ends as
//! soon as nothing is in flight, or at the end of the grace. A second signal ends it at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::State;
use super::listen::LINGER;

/// The signals that end a process.
pub struct EndSignals {
    term: Signal,
    int: Signal,
}

impl EndSignals {
    /// Starts to listen for them.
    ///
    /// # Errors
    /// When the process may not handle signals.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// The next one, by name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// Drains. Returns whether everything in flight came to its end.
pub async fn drain(state: &Arc<State>, signals: &mut EndSignals, listeners: &mut JoinSet<()>) -> bool {
    let (delay, grace) = {
        let plan = state.shared.plan.load();
        (plan.drain_delay, plan.grace)
    };
    state.begin_drain();
    if !delay.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = signals.next() => return false,
        }
    }
    let second = async {
        signals.next().await;
    };
    finish(state, grace, second, listeners).await
}

/// Leaves to another process what it has taken over: closes the listeners at once, as nobody has to look elsewhere, and lets what is in flight
/// come to its end. Returns whether everything did. The first signal is for all processes of a service and changes nothing here; a second one
/// ends this one at once.
pub async fn leave(state: &Arc<State>, signals: &mut EndSignals, listeners: &mut JoinSet<()>) -> bool {
    let grace = state.shared.plan.load().grace;
    state.begin_drain();
    state.lingers.store(true, Ordering::Release);
    let second = async {
        signals.next().await;
        signals.next().await;
    };
    finish(state, grace + LINGER, second, listeners).await
}

async fn finish(
    state: &State,
    grace: Duration,
    at_once: impl Future<Output = ()>,
    listeners: &mut JoinSet<()>,
) -> bool {
    state.close_listeners();
    let idle = async { while listeners.join_next().await.is_some() {} };
    tokio::select! {
        () = idle => true,
        () = tokio::time::sleep(grace) => false,
        () = at_once => false,
    }
}
