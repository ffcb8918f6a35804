//! A timer that is hardly ever set.
//!
//! Setting and unsetting a timer of the runtime takes a lock that all workers share. Deadlines of a connection mostly move
//! away from request to request, so the timer stays where it is: when it fires too early it is set anew. A connection that
//! serves a thousand requests a second sets it once in the shortest of its limits.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer for one deadline at a time.
#[derive(Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when `at` has passed. The deadline of this call replaces that of the one before.
    pub(super) fn poll_at(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
        Poll::Pending
    }

    /// Resolves when `at` has passed.
    pub(super) async fn at(&mut self, at: Instant) {
        poll_fn(|cx| self.poll_at(at, cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_goes_off_at_the_last_deadline_named_whether_earlier_or_later() {
        let begin = Instant::now();
        let mut alarm = Alarm::default();
        let (soon, later) = (begin + Duration::from_millis(10), begin + Duration::from_millis(60));
        let far = begin + Duration::from_secs(3600);
        for (first, then) in [(soon, later), (far, later + Duration::from_millis(10))] {
            poll_fn(|cx| {
                assert!(alarm.poll_at(first.max(Instant::now() + Duration::from_millis(5)), cx).is_pending());
                Poll::Ready(())
            })
            .await;
            alarm.at(then).await;
            assert!(Instant::now() >= then, "never before its time");
        }
        alarm.at(begin).await;
    }
}
