//! The end of a listener, as its connections hear of it.
//!
//! Every connection waits for it between two requests. A single place to wait at would be a lock that all workers share, so
//! there are many, and a connection keeps to one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Lifetime: process.
pub(super) struct Stop {
    done: AtomicBool,
    next: AtomicUsize,
    places: [Notify; PLACES],
}

/// Where a connection waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize);

impl Stop {
    pub(super) fn new() -> Self {
        Self {
            done: AtomicBool::new(false),
            next: AtomicUsize::new(0),
            places: std::array::from_fn(|_| Notify::new()),
        }
    }

    /// A place for a new connection.
    pub(super) fn place(&self) -> Place {
        // Relaxed: any number will do.
        Place(self.next.fetch_add(1, Ordering::Relaxed) % PLACES)
    }

    /// Tells everybody, also those who ask later.
    pub(super) fn now(&self) {
        // Release, with Acquire below: who is not woken because it was not waiting yet must see the flag.
        self.done.store(true, Ordering::Release);
        for place in &self.places {
            place.notify_waiters();
        }
    }

    /// Resolves when the listener is to end.
    pub(super) async fn wait(&self, place: Place) {
        let notify = self.places.get(place.0).expect("a place is a remainder of their number");
        let notified = notify.notified();
        tokio::pin!(notified);
        // Waiting begins before the flag is read, so that nothing falls between.
        notified.as_mut().enable();
        if !self.done.load(Ordering::Acquire) {
            notified.await;
        }
    }
}

/// More than workers.
const PLACES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_and_who_comes_later_are_both_told() {
        let stop = std::sync::Arc::new(Stop::new());
        let place = stop.place();
        let waiting = tokio::spawn({
            let stop = std::sync::Arc::clone(&stop);
            async move { stop.wait(place).await }
        });
        tokio::task::yield_now().await;
        stop.now();
        waiting.await.expect("told");
        stop.wait(stop.place()).await;
    }
}
