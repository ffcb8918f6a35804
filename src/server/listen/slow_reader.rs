//! Finds the client that does not read what it asked for.
//!
//! A write timeout cannot tell: it judges one write call, and the kernel wakes a writer only when a third of its buffer is
//! free, so an honest client on a slow line is cut and one that trickles is not. Here the kernel is asked, once a window,
//! what the client has acknowledged. Waiting for the upstream leaves nothing queued and is never held against the client.

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::SocketDigest;

use super::wire::Cut;

/// The least rate at which a client must take what is waiting for it, in bytes per second. A tenth of a poor mobile line;
/// a 64 KiB answer is held for at most about a minute.
pub const MIN_READ_RATE: u64 = 1024;

/// Returns when the client of this socket has been too slow for a whole `window`. Never returns where the system does not
/// tell (anything but TCP on Linux), and once the socket is closed. Belongs into the task that owns the socket.
pub(super) async fn watch(socket: Option<Arc<SocketDigest>>, state: Cut, window: Duration) {
    let ask = || socket.as_deref().filter(|_| !state.is_closed()).and_then(progress);
    let Some(mut before) = ask() else { return std::future::pending().await };
    loop {
        tokio::time::sleep(window).await;
        let Some(now) = ask() else { return std::future::pending().await };
        if is_too_slow(before, now, window) {
            return;
        }
        before = now;
    }
}

/// What the kernel says at one instant.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// Bytes written by us and not yet put on the wire.
    queued: u64,
    /// Bytes acknowledged by the client since the connection began.
    acknowledged: u64,
}

fn progress(socket: &SocketDigest) -> Option<Progress> {
    let info = socket.tcp_info()?;
    Some(Progress { queued: u64::from(info.tcpi_notsent_bytes), acknowledged: info.tcpi_bytes_acked })
}

/// Something was waiting when the window began, and the client took less than the rate asks for and less than all of it.
/// The second condition keeps small answers that trickle (event streams) safe.
fn is_too_slow(before: Progress, now: Progress, window: Duration) -> bool {
    let due = MIN_READ_RATE.saturating_mul(u64::try_from(window.as_millis()).unwrap_or(u64::MAX)) / 1000;
    let taken = now.acknowledged.saturating_sub(before.acknowledged);
    before.queued > 0 && taken < due.min(before.queued)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(queued: u64, acknowledged: u64) -> Progress {
        Progress { queued, acknowledged }
    }

    #[test]
    fn nothing_waiting_is_never_slow() {
        assert!(!is_too_slow(at(0, 500), at(1_000_000, 500), WINDOW));
    }

    #[test]
    fn nothing_taken_is_slow() {
        assert!(is_too_slow(at(1, 500), at(1, 500), WINDOW));
        assert!(is_too_slow(at(1_000_000, 500), at(2_000_000, 500), WINDOW));
    }

    #[test]
    fn the_rate_is_the_boundary() {
        assert!(is_too_slow(at(1_000_000, 0), at(1_000_000, 10 * MIN_READ_RATE - 1), WINDOW));
        assert!(!is_too_slow(at(1_000_000, 0), at(1_000_000, 10 * MIN_READ_RATE), WINDOW));
    }

    #[test]
    fn all_of_a_small_queue_is_enough() {
        assert!(!is_too_slow(at(300, 0), at(300, 300), WINDOW));
    }
}
