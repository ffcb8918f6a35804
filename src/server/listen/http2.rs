//! HTTP/2: the preface under its deadline, then an accept loop with our limits.
//!
//! The framework's own loop cannot be called from outside, and has neither our limits nor our answers. A slow HEADERS with
//! CONTINUATION frames is seen by the idle limit only, as long as no other stream runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{self, H2Accept, HttpSession};
use pingora::protocols::{Digest, Stream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::accept::{Guard, Held};
use super::alarm::Alarm;
use super::answer::{self, Content, Refused};
use super::exchange::{self, Shared};
use super::head;
use super::http1::write_net;

/// Serves a connection to its end. Streams that still run then hold `held` themselves.
pub(super) async fn serve<A: HttpServerApp + Send + Sync + 'static>(
    guard: &Arc<Guard<A>>,
    stream: Stream,
    shared: &Arc<Shared>,
    held: &Arc<Held>,
) {
    let digest = Arc::new(Digest {
        ssl_digest: stream.get_ssl_digest(),
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let mut options = server::default_h2_options();
    options.max_concurrent_streams(guard.settings.http2_max_streams);
    options.max_header_list_size(u32::try_from(guard.limits.bytes).unwrap_or(u32::MAX));
    let timeouts = guard.settings.timeouts;
    let place = guard.stop.place();
    let shaken = tokio::select! {
        biased;
        shaken = timeout(timeouts.header, server::handshake(stream, Some(options))) => shaken,
        () = guard.stop.wait(place) => return,
    };
    let mut connection = match shaken {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return,
        Err(_) => return guard.watch.cut("header_timeout"),
    };
    let active = Arc::new(Active::default());
    let mut alarm = Alarm::default();
    let (mut limit, mut draining, mut malformed) = (timeouts.header, false, 0);
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => accepted,
            () = guard.stop.wait(place), if !draining => {
                connection.graceful_shutdown();
                (draining, limit) = (true, DRAIN_GRACE);
                continue;
            }
            () = active.quiet(&mut alarm, limit) => {
                if draining {
                    return;
                }
                // GOAWAY first: a client that is about to send may then retry elsewhere without a doubt.
                guard.watch.cut("idle");
                connection.graceful_shutdown();
                (draining, limit) = (true, DRAIN_GRACE);
                continue;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                if !draining {
                    limit = timeouts.idle;
                }
                tokio::spawn(exchange(Arc::clone(guard), session, Arc::clone(shared), active.enter(held)));
            }
            Ok(Some(H2Accept::Rejected)) => {
                // The framework answered 400 or reset the stream; it does not say which.
                guard.tell(Refused::bad("malformed_stream"), shared, 0);
                malformed += 1;
                if malformed >= MALFORMED_STREAMS {
                    return guard.watch.cut("malformed_streams");
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// One stream, in a task of its own.
async fn exchange<A: HttpServerApp + Send + Sync + 'static>(
    guard: Arc<Guard<A>>,
    session: HttpSession,
    shared: Arc<Shared>,
    _entered: Entered,
) {
    let request = session.req_header();
    let length = head_bytes(request);
    if let Some(refused) = refusal(request, guard.limits.count) {
        let content = if request.method == http::Method::HEAD { Content::HeadOnly } else { Content::Full };
        guard.tell(refused, &shared, length);
        return answer::http2(session, refused, content).await;
    }
    let mut session = ServerSession::new_http2(session);
    session.set_write_timeout(Some(write_net(guard.settings.timeouts)));
    let work = guard.app.process_new_http(session, &guard.shutdown);
    // Dropping the work resets the stream: its handles are in there.
    if let Err(reason) =
        exchange::run(&shared, length, guard.settings.timeouts.body, &mut Alarm::default(), work).await
    {
        guard.watch.cut(reason);
    }
}

/// What the framework would pass on, or answer without a hook.
fn refusal(request: &RequestHeader, max_fields: usize) -> Option<Refused> {
    if head::is_refused_method(request.method.as_str().as_bytes()) {
        return Some(head::METHOD_REFUSED);
    }
    (request.headers.len() > max_fields)
        .then_some(Refused::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_headers"))
}

fn head_bytes(request: &RequestHeader) -> usize {
    let fields: usize = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let authority = request.uri.authority().map_or(0, |authority| authority.as_str().len());
    fields + authority + request.method.as_str().len() + request.raw_path().len()
}

/// The streams of a connection that run.
#[derive(Default)]
struct Active {
    count: AtomicUsize,
    changed: Notify,
}

impl Active {
    fn enter(self: &Arc<Self>, held: &Arc<Held>) -> Entered {
        // Relaxed: only the connection's task decides on the count, and `Notify` orders the way back.
        self.count.fetch_add(1, Ordering::Relaxed);
        Entered { active: Arc::clone(self), _held: Arc::clone(held) }
    }

    /// Resolves when no stream has been running for `limit`. A new stream cancels it from outside.
    async fn quiet(&self, alarm: &mut Alarm, limit: Duration) {
        while self.count.load(Ordering::Relaxed) > 0 {
            self.changed.notified().await;
        }
        alarm.at(Instant::now() + limit).await;
    }
}

/// One running stream.
struct Entered {
    active: Arc<Active>,
    _held: Arc<Held>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if self.active.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.active.changed.notify_one();
        }
    }
}

/// How many streams of a connection may be malformed; the framework's own number, which it keeps only in its own loop.
const MALFORMED_STREAMS: usize = 32;
/// For the client to take note of a GOAWAY.
const DRAIN_GRACE: Duration = Duration::from_secs(1);
