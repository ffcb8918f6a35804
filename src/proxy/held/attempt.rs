//! One request to the upstream, and again where that is safe.

use std::time::{Duration, Instant};

use http::{StatusCode, Version, header};
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use crate::plan::Route;
use crate::policy::{Fault, UpstreamKind};
use crate::proxy::upstream_request::{self, Way};
use crate::proxy::{Ctx, Gateway, body, failure, upstream, upstream_response};

/// An answer whose head was read and whose body was not.
pub struct Answer {
    /// The upstream's head, as it came.
    pub head: ResponseHeader,
    /// The connection, to read the body from.
    pub connection: Connection,
}

/// A connection that is given back to the pool when its answer was read to the end, and closed when not.
pub struct Connection {
    session: HttpSession,
    peer: Box<HttpPeer>,
    /// The request was sent whole; otherwise the connection cannot be used again.
    clean: bool,
}

impl Connection {
    /// The next piece of the body, before the deadline.
    ///
    /// # Errors
    /// A [`Fault`] of the upstream.
    pub async fn read(&mut self, ctx: &Ctx) -> Result<Option<bytes::Bytes>, Fault> {
        self.session.set_read_timeout(Some(remaining(ctx)?));
        self.session.read_response_body().await.map_err(|error| {
            let error = error.into_upstream();
            upstream::note(ctx, &error);
            failure::fault_of(&error)
        })
    }

    /// Whether nothing but its end says where the body of this answer does (RFC 9112 §6.3).
    pub fn delimits(&self, head: &ResponseHeader) -> bool {
        self.session.as_http2().is_none()
            && !head.headers.contains_key(header::CONTENT_LENGTH)
            && !head.headers.contains_key(header::TRANSFER_ENCODING)
    }

    /// Whether the body was read to its end.
    pub fn is_done(&mut self) -> bool {
        self.session.response_done()
    }

    /// Gives the connection back.
    pub async fn release(mut self, connector: &Connector) {
        if self.clean && self.session.response_done() {
            let idle = self.peer.idle_timeout();
            connector.release_http_session(self.session, &*self.peer, idle).await;
        } else {
            self.session.shutdown().await;
        }
    }
}

/// Works as long as the client waits. `for_others`: an answer that may be stored is fetched for the next client too.
///
/// # Errors
/// [`Fault::ClientGone`].
pub async fn while_client_waits<T>(
    session: &mut Session,
    for_others: bool,
    work: impl Future<Output = T>,
) -> Result<T, Fault> {
    if for_others || !session.as_downstream_mut().is_body_done() {
        return Ok(work.await);
    }
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = client_gone(session) => Err(Fault::ClientGone),
    }
}

async fn client_gone(session: &mut Session) {
    match session.as_downstream_mut().read_body_or_idle(true).await {
        Err(error) if *error.etype() != ErrorType::ConnectError => {}
        // Bytes after the request, though the answer is not out: no sign that nobody waits for it.
        _ => {
            session.set_keepalive(None);
            std::future::pending().await
        }
    }
}

/// What ended an attempt.
struct Broken {
    fault: Fault,
    /// Whether another attempt is safe as far as this failure goes.
    retry: Retry,
}

#[derive(Clone, Copy, PartialEq)]
enum Retry {
    /// Nothing was sent.
    Connect,
    /// A pooled connection had been closed by the other side.
    Reused,
    /// Something was sent: only for an idempotent request.
    Sent,
    /// No.
    Never,
}

impl Broken {
    fn never(fault: Fault) -> Self {
        Self { fault, retry: Retry::Never }
    }
}

/// Attempts until there is an answer or no attempt is left.
///
/// # Errors
/// The fault of the last attempt.
pub async fn until_answered(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
) -> Result<Answer, Fault> {
    session.as_downstream_mut().enable_retry_buffering();
    loop {
        let broken = match attempt(gateway, session, ctx, route).await {
            Ok(answer) => {
                if !upstream::answer_is_retryable(session, ctx, route, answer.head.status.as_u16()) {
                    return Ok(answer);
                }
                answer.connection.release(&gateway.shared.connector).await;
                continue;
            }
            Err(broken) => broken,
        };
        let again = match broken.retry {
            Retry::Never => false,
            Retry::Connect => upstream::may_retry(ctx, true),
            Retry::Reused => upstream::replayable(session) && ctx.attempts < MAX_ATTEMPTS,
            Retry::Sent => {
                upstream::replayable(session)
                    && upstream::repeats_broken(ctx)
                    && upstream::may_retry(ctx, false)
            }
        };
        if !again {
            return Err(broken.fault);
        }
    }
}

/// The end of all attempts, whatever the pool does: each stale pooled connection costs one.
const MAX_ATTEMPTS: u32 = 16;

fn remaining(ctx: &Ctx) -> Result<Duration, Fault> {
    if ctx.endless {
        return Ok(upstream::TUNNEL_IDLE);
    }
    let left = ctx.upstream_deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    left.filter(|left| !left.is_zero()).ok_or(Fault::Deadline)
}

async fn attempt(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
) -> Result<Answer, Broken> {
    let peer = upstream::pick(ctx, route).map_err(Broken::never)?;
    let (mut client, reused) = gateway.shared.connector.get_http_session(&*peer).await.map_err(|error| {
        let error = error.into_upstream();
        upstream::note_unreachable(ctx, &error);
        Broken { fault: failure::fault_of(&error), retry: Retry::Connect }
    })?;
    upstream::connected(ctx, reused);
    let retry = if reused { Retry::Reused } else { Retry::Sent };
    let broken = |ctx: &Ctx, error: Box<Error>, retry: Retry| {
        let error = error.into_upstream();
        upstream::note(ctx, &error);
        Broken { fault: failure::fault_of(&error), retry }
    };

    let has_body = !session.as_downstream_mut().is_body_empty();
    let is_h2 = client.as_http2().is_some();
    let head = outgoing(session, ctx, route, has_body, is_h2).map_err(Broken::never)?;
    let left = remaining(ctx).map_err(Broken::never)?;
    client.set_write_timeout(Some(left));
    client.set_read_timeout(Some(left));
    client.write_request_header(Box::new(head)).await.map_err(|error| broken(ctx, error, retry))?;
    let clean = send_body(session, ctx, route, &mut client, has_body).await?;

    loop {
        client.set_read_timeout(Some(remaining(ctx).map_err(Broken::never)?));
        // A server may answer before it has read the whole body; then a failed write is no failure of the exchange.
        let for_others = ctx.cache.fetches_whole();
        let read = while_client_waits(session, for_others, client.read_response_header()).await;
        let read = read.map_err(Broken::never)?;
        read.map_err(|error| {
            let timed_out = *error.etype() == ErrorType::ReadTimedout;
            broken(ctx, error, if timed_out { Retry::Never } else { retry })
        })?;
        let Some(head) = client.response_header() else { return Err(Broken::never(Fault::Protocol)) };
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Broken::never(Fault::UnexpectedUpgrade));
        }
        if !head.status.is_informational() {
            let head = without_case(head);
            return Ok(Answer { head, connection: Connection { session: client, peer, clean } });
        }
        let head = without_case(head);
        pass_interim(session, ctx, route, head).await.map_err(Broken::never)?;
    }
}

/// Hands an interim answer on, such as early hints: those of an `app` only, to who knows them. It is never stored (RFC 9111 §3).
async fn pass_interim(
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    mut head: ResponseHeader,
) -> Result<(), Fault> {
    let is_app = route.upstream.as_ref().is_some_and(|plan| plan.kind == UpstreamKind::App);
    let takes = session.req_header().version == Version::HTTP_11 && !ctx.background;
    // The upstream's 100 answers our head, not the client's.
    if !is_app || !takes || head.status == StatusCode::CONTINUE {
        return Ok(());
    }
    upstream_response::clean(&mut head, ctx, route)?;
    match session.write_response_header(Box::new(head), false).await {
        // What others wait for is fetched without the one that asked.
        Err(_) if !ctx.cache.fetches_whole() => Err(Fault::ClientGone),
        _ => Ok(()),
    }
}

/// A copy without the map of original letter case: names are compared without it (RFC 9110 §5.1), a stored head has none, and each
/// field that is set or removed later would be looked up twice.
fn without_case(head: &ResponseHeader) -> ResponseHeader {
    let mut copy = ResponseHeader::from(head.as_owned_parts());
    // Cannot fail: it was one before.
    let _ = copy.set_reason_phrase(head.get_reason_phrase());
    copy
}

/// The outgoing head, framed for the body that follows.
fn outgoing(
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    has_body: bool,
    is_h2: bool,
) -> Result<RequestHeader, Fault> {
    let whole = session.as_downstream_mut().is_body_done();
    let way = Way { endpoint: ctx.endpoint, caches: ctx.cache.fetches_whole() };
    let mut head = upstream_request::copy_of(session.req_header(), has_body, way.caches)?;
    if let Some(fetch) = &ctx.cache.fetch {
        fetch.validate(&mut head);
    }
    upstream_request::prepare(&mut head, &mut ctx.exchange, route, way)?;
    let internal = |_| Fault::Internal;
    if has_body && !head.headers.contains_key(header::CONTENT_LENGTH) {
        if whole {
            let length = if ctx.body.whole_ahead {
                ctx.body.ahead.iter().map(bytes::Bytes::len).sum::<usize>()
            } else {
                session.as_downstream().get_retry_buffer().map_or(0, |buffer| buffer.len())
            };
            head.insert_header(header::CONTENT_LENGTH, length).map_err(internal)?;
        } else if !is_h2 {
            head.insert_header(header::TRANSFER_ENCODING, "chunked").map_err(internal)?;
        }
    }
    if is_h2 {
        as_h2(&mut head, ctx, route)?;
    }
    Ok(head)
}

/// HTTP/2 has no `Host`: scheme and authority are part of the target (RFC 9113 §8.3.1).
fn as_h2(head: &mut RequestHeader, ctx: &Ctx, route: &Route) -> Result<(), Fault> {
    let Some(plan) = route.upstream.as_ref() else { return Err(Fault::Internal) };
    let host = head.remove_header(&header::HOST).ok_or(Fault::Internal)?;
    let path = head.uri.path_and_query().cloned().ok_or(Fault::BadTarget)?;
    let uri = http::Uri::builder()
        .scheme(plan.upstream.scheme(ctx.endpoint).as_str())
        .authority(host.as_bytes())
        .path_and_query(path)
        .build()
        .map_err(|_| Fault::BadTarget)?;
    head.set_uri(uri);
    head.set_version(Version::HTTP_2);
    Ok(())
}

/// Sends the request body. `false`: the upstream stopped reading, but may have answered.
async fn send_body(
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    client: &mut HttpSession,
    has_body: bool,
) -> Result<bool, Broken> {
    if has_body {
        let replay: Vec<bytes::Bytes> = if ctx.body.ahead.is_empty() {
            session.as_downstream().get_retry_buffer().into_iter().collect()
        } else {
            ctx.body.ahead.clone()
        };
        for chunk in replay {
            if client.write_request_body(chunk, false).await.is_err() {
                return Ok(false);
            }
        }
        if !ctx.body.whole_ahead && !session.as_downstream_mut().is_body_done() {
            body::expect_continue(session).await.map_err(Broken::never)?;
            while let Some(chunk) = body::next_chunk(session, ctx, route).await.map_err(Broken::never)? {
                client.set_write_timeout(Some(remaining(ctx).map_err(Broken::never)?));
                if client.write_request_body(chunk, false).await.is_err() {
                    return Ok(false);
                }
            }
        }
    }
    Ok(client.finish_request_body().await.is_ok())
}

/// Marks an error as the upstream's.
trait IntoUpstream {
    fn into_upstream(self) -> Box<Error>;
}

impl IntoUpstream for Box<Error> {
    fn into_upstream(mut self) -> Box<Error> {
        self.as_up();
        self
    }
}
