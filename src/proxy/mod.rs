//! The journey of a request: one file per Pingora phase. `impl ProxyHttp` below has them in the order in which they run, each body one
//! call.
//!
//! ```text
//! request      early_request_filter, request_filter   normalise, client, route, limits, own answers, body ahead
//! cache        proxy_upstream_filter                  looked up, served, or fetched once for all who ask
//! held                                                our own exchange: `api`, what is shaped, what may be stored
//! upstream     upstream_peer, fail_to_connect, ...    the stock path: `app`
//! upstream_request / upstream_response / body         its hooks
//! response     response_filter                        what is this client's alone
//! failure      fail_to_proxy                          a fault becomes a status, here only
//! logging      logging                                one line, one count
//! ```
//!
//! `explain` tells the journey without making it, by the same functions.

pub mod body;
pub mod cache;
mod ctx;
mod date;
pub mod explain;
pub mod failure;
pub mod held;
pub mod logging;
pub mod purge;
pub mod request;
pub mod respond;
pub mod response;
pub mod upstream;
pub mod upstream_request;
pub mod upstream_response;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

pub use ctx::{BodyState, CacheFacts, Ctx};

use crate::cache::Zone;
use crate::exchange::{Exchange, Scheme};
use crate::names::ListenerName;
use crate::plan::{Listener, Plan, Process};
use crate::telemetry::AccessLog;
use crate::telemetry::metrics::{ListenerMetrics, RouteMetrics};

/// What all listeners of a process share.
pub struct Shared {
    /// The plan in force.
    pub plan: ArcSwap<Plan>,
    /// What survives plans.
    pub process: Process,
    /// The cache.
    pub zone: &'static Zone,
    /// The access log.
    pub access_log: AccessLog,
    /// The pool of our own exchanges.
    pub connector: Connector,
    /// The counters of requests that no route took.
    pub no_route: Arc<RouteMetrics>,
    /// The way to the connection of the current task.
    pub door: Arc<dyn Door>,
}

/// Where a request came in, as the connection guard knows it.
pub struct Connection {
    /// The other end.
    pub peer: std::net::SocketAddr,
    /// Whether TLS was ended here.
    pub tls: bool,
    /// The time for rate limits, where it is not the time of arrival.
    pub counted_at: Option<Instant>,
}

/// How the journey learns of the connection it runs on, and bounds it. Filled by `server`, which is above.
pub trait Door: Send + Sync {
    /// The connection of the current task; `None` in a background refresh.
    fn connection(&self) -> Option<Connection>;
    /// Ends the current exchange at this instant, whatever it waits for; `None` lifts it.
    fn set_deadline(&self, at: Option<Instant>);
    /// Tells how much of the request body has come, so that its total deadline is kept on HTTP/2 too.
    fn body_progress(&self, received_bytes: u64, ended: bool);
    /// Whether [`Door::keep_date`] has an effect: on HTTP/1.
    fn keeps_date(&self) -> bool;
    /// Puts this moment into the `Date` of the final head that goes out next, in place of the time of sending; `None` takes it back.
    fn keep_date(&self, moment: Option<SystemTime>);
}

/// The gateway behind one listener.
pub struct Gateway {
    /// What all listeners share.
    pub shared: Arc<Shared>,
    /// The listener, as it was bound.
    pub listener: Listener,
    /// Its counters.
    pub metrics: Arc<ListenerMetrics>,
}

impl Gateway {
    fn begin(&self) -> Ctx {
        let connection = self.shared.door.connection();
        let peer =
            connection.as_ref().map_or_else(|| (std::net::Ipv4Addr::UNSPECIFIED, 0).into(), |c| c.peer);
        // The cache's own errand has no connection; it repeats a request of this listener.
        let tls = connection.as_ref().map_or(!self.listener.tls.is_empty(), |c| c.tls);
        let scheme = if tls { Scheme::Https } else { Scheme::Http };
        let name: ListenerName = self.listener.name.clone();
        let mut exchange = Exchange::begin(name, peer, scheme);
        if let Some(at) = connection.and_then(|c| c.counted_at) {
            exchange.counted_at = at;
        }
        Ctx {
            shared: self.shared.clone(),
            plan: self.shared.plan.load_full(),
            route: None,
            protocol: "HTTP/1.1",
            fault: None,
            local: None,
            body: BodyState {
                read_bytes: 0,
                deadline: exchange.received + self.listener.timeouts.body,
                ahead: Vec::new(),
                whole_ahead: false,
                replays: false,
            },
            exchange,
            cache: CacheFacts::default(),
            tried: crate::upstream::Tried::default(),
            lease: None,
            endpoint: 0,
            repeat: false,
            attempts: 0,
            attempt_started: None,
            active: vec![self.metrics.active()],
            upstream_deadline: None,
            endless: false,
            background: false,
            user_agent: None,
            status: 0,
            response_bytes: 0,
            logged: false,
        }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        self.begin()
    }

    /// For the errands of the cache: a stale answer is refreshed behind the client's back.
    fn allow_spawning_subrequest(&self, _session: &Session, _ctx: &Ctx) -> bool {
        true
    }

    /// No module runs: compression on the way out would be done again for each hit.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        request::early(self, session, ctx);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        request::filter(self, session, ctx).await
    }

    async fn proxy_upstream_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        cache::run(self, session, ctx).await
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        upstream::peer(session, ctx)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        upstream::connected(ctx, reused);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        upstream_request::filter(head, ctx)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        chunk: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        body::filter(session, chunk, ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        upstream_response::filter(session, head, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _chunk: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        if end {
            upstream_response::note_end(ctx);
        }
        Ok(None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        response::filter(session, head, ctx)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        error: Box<Error>,
    ) -> Box<Error> {
        upstream::fail_to_connect(ctx, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        upstream::error_while_proxy(session, ctx, error, reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        failure::answer(session, error, ctx).await
    }

    /// Never the framework's: its text may hold bytes that the upstream sent, and with them our secret.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Ctx,
        _error: &Error,
        _on: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn request_summary(&self, _session: &Session, ctx: &Ctx) -> String {
        format!("request {}", ctx.exchange.request_id.as_str())
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        if let Some(error) = error {
            ctx.fault.get_or_insert_with(|| failure::fault_of(error));
        }
        logging::log(session, ctx);
    }
}
