//! One request on its way through the app: what connection it runs on, and until when it may run.
//!
//! Both are held by a task-local value around the app's future, so that the proxy's hooks can ask and set without being
//! handed anything. Code that is spawned as a task of its own is outside.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use super::alarm::Alarm;
use super::dated::Asked;
use super::{MIN_BODY_RATE, Protocol};
use crate::names::ListenerName;

tokio::task_local! {
    static EXCHANGE: Exchange;
}

/// Facts of the connection that the current request runs on, or `None` outside of a request's task.
#[must_use]
pub fn connection() -> Option<ConnectionFacts> {
    EXCHANGE.try_with(|exchange| exchange.facts.clone()).ok()
}

/// Sets the instant at which the guard drops the current request's future: in HTTP/1 the connection is closed, in HTTP/2 the
/// stream is reset. `None`, the default, sets no limit. `ProxyHttp::logging` does not run for a dropped request: the proxy
/// counts it in `Drop` of its own context. Does nothing outside of a request's task.
pub fn set_exchange_deadline(deadline: Option<Instant>) {
    let _ = EXCHANGE.try_with(|exchange| exchange.deadline.set(deadline));
}

/// Tells the guard how much of the request body has arrived. From the first call on, the body must be complete within
/// [`Timeouts::body`](super::Timeouts::body) from the start of the request, plus one second for each [`MIN_BODY_RATE`] bytes
/// received; past that the request is dropped as `slow_body`. `ended` lifts the limit. Call it with 0 when the request has a
/// body, then from `request_body_filter`. Does nothing outside of a request's task.
pub fn body_progress(received_bytes: u64, ended: bool) {
    let _ = EXCHANGE.try_with(|exchange| {
        let due = exchange.started + exchange.body + Duration::from_secs(received_bytes / MIN_BODY_RATE);
        exchange.body_deadline.set((!ended).then_some(due));
    });
}

/// Whether the final head of the current request can carry a `Date` of our choice: on HTTP/1. On HTTP/2, and outside of a request's
/// task, the framework's own stays.
#[must_use]
pub fn keeps_date() -> bool {
    EXCHANGE.try_with(|exchange| exchange.facts.protocol() == Protocol::Http1).unwrap_or(false)
}

/// Puts this moment into the `Date` of the final head that goes out next, in place of the time of sending (RFC 9110 §6.6.1); `None`,
/// the default for each request, takes that back. Does nothing where [`keeps_date`] is false.
pub fn keep_date(moment: Option<SystemTime>) {
    let _ = EXCHANGE.try_with(|exchange| exchange.facts.shared.date.set(moment));
}

/// What is known of a connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionFacts {
    shared: Arc<Shared>,
    head_bytes: usize,
}

/// The part that every request of a connection shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) listener: ListenerName,
    pub(super) peer: SocketAddr,
    pub(super) tls: bool,
    pub(super) protocol: Protocol,
    /// Asked by a request, answered by the connection's stream; of no effect on HTTP/2, whose requests share this.
    pub(super) date: Asked,
}

impl ConnectionFacts {
    /// The listener that accepted the connection.
    #[must_use]
    pub fn listener(&self) -> &ListenerName {
        &self.shared.listener
    }

    /// Who is at the other end of the socket; IPv4 also where it arrived mapped into IPv6.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.shared.peer
    }

    /// Whether the client spoke TLS with us.
    #[must_use]
    pub fn tls(&self) -> bool {
        self.shared.tls
    }

    /// What is spoken.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.shared.protocol
    }

    /// The size of this request's head in bytes: on the wire in HTTP/1, of the decoded names and values in HTTP/2.
    #[must_use]
    pub fn head_bytes(&self) -> usize {
        self.head_bytes
    }
}

/// The task-local value. Only its own task touches it, so cells are enough.
struct Exchange {
    facts: ConnectionFacts,
    started: Instant,
    body: Duration,
    deadline: Cell<Option<Instant>>,
    body_deadline: Cell<Option<Instant>>,
}

impl Exchange {
    /// The next deadline and what it would be called.
    fn due(&self) -> Option<(Instant, &'static str)> {
        match (self.deadline.get(), self.body_deadline.get()) {
            (Some(all), Some(body)) if body < all => Some((body, SLOW_BODY)),
            (Some(all), _) => Some((all, EXCHANGE_DEADLINE)),
            (None, Some(body)) => Some((body, SLOW_BODY)),
            (None, None) => None,
        }
    }
}

/// Runs `work` as one exchange.
///
/// # Errors
/// The name of the deadline that passed; `work` is dropped then.
pub(super) async fn run<F>(
    shared: &Arc<Shared>,
    head_bytes: usize,
    body: Duration,
    alarm: &mut Alarm,
    work: F,
) -> Result<F::Output, &'static str>
where
    F: Future + Unpin,
{
    shared.date.set(None);
    let exchange = Exchange {
        facts: ConnectionFacts { shared: Arc::clone(shared), head_bytes },
        started: Instant::now(),
        body,
        deadline: Cell::new(None),
        body_deadline: Cell::new(None),
    };
    EXCHANGE.scope(exchange, Bounded { work, alarm }).await
}

/// `work` until a deadline. Deadlines are set by `work` while it is polled, so looking after each poll misses none.
struct Bounded<'a, F> {
    work: F,
    alarm: &'a mut Alarm,
}

impl<F: Future + Unpin> Future for Bounded<'_, F> {
    type Output = Result<F::Output, &'static str>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = Pin::new(&mut self.work).poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match EXCHANGE.with(Exchange::due) {
            Some((at, name)) => self.alarm.poll_at(at.into(), cx).map(|()| Err(name)),
            None => Poll::Pending,
        }
    }
}

const EXCHANGE_DEADLINE: &str = "exchange_deadline";
const SLOW_BODY: &str = "slow_body";

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Arc<Shared> {
        Arc::new(Shared {
            listener: ListenerName::parse("public").expect("a name"),
            peer: SocketAddr::from(([192, 0, 2, 1], 1)),
            tls: true,
            protocol: Protocol::Http1,
            date: Asked::nothing(),
        })
    }

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn facts_are_there_inside_and_only_there() {
        assert!(connection().is_none());
        let work = Box::pin(async { connection().expect("facts") });
        let facts = run(&shared(), 77, SOON, &mut Alarm::default(), work).await.expect("no deadline");
        assert_eq!((facts.head_bytes(), facts.tls(), facts.listener().as_str()), (77, true, "public"));
        assert!(connection().is_none());
    }

    #[tokio::test]
    async fn a_deadline_drops_the_work() {
        let (alive, dropped) = tokio::sync::oneshot::channel::<()>();
        let work = Box::pin(async move {
            let _alive = alive;
            set_exchange_deadline(Some(Instant::now() + SOON));
            std::future::pending::<()>().await;
        });
        assert_eq!(run(&shared(), 0, SOON, &mut Alarm::default(), work).await, Err("exchange_deadline"));
        assert!(dropped.await.is_err(), "the work is gone");
    }

    #[tokio::test]
    async fn a_deadline_can_be_moved_and_lifted() {
        let work = Box::pin(async {
            set_exchange_deadline(Some(Instant::now() + Duration::from_secs(3600)));
            tokio::task::yield_now().await;
            set_exchange_deadline(Some(Instant::now() + SOON));
            tokio::task::yield_now().await;
            set_exchange_deadline(None);
            tokio::time::sleep(2 * SOON).await;
        });
        assert_eq!(run(&shared(), 0, SOON, &mut Alarm::default(), work).await, Ok(()));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_cut_and_a_complete_one_is_not() {
        let stuck = Box::pin(async {
            body_progress(0, false);
            std::future::pending::<()>().await;
        });
        assert_eq!(run(&shared(), 0, SOON, &mut Alarm::default(), stuck).await, Err("slow_body"));
        let complete = Box::pin(async {
            body_progress(0, false);
            body_progress(5, true);
            tokio::time::sleep(2 * SOON).await;
        });
        assert_eq!(run(&shared(), 0, SOON, &mut Alarm::default(), complete).await, Ok(()));
    }
}
