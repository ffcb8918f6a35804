//! The cache's part of the journey, in `proxy_upstream_filter`: looked up, decided, served, or fetched once for all who ask.
//!
//! ```text
//! find ─▶ reuse? ── Fresh, Stale ──────────────────────────────▶ serve
//!   ▲        │ ──── WhileRevalidate ── refresh behind it ──────▶ serve
//!   │        ▼ Validate, or nothing is stored
//!   │     flights: lead ─▶ fetch (held exchange) ─▶ 304: renew ─▶ serve · else judge, store, deliver
//!   └───── wait ◀┘  Stored: look again · Unshared: fetch alone · Failed: share it, or serve stale
//! ```
//!
//! The rules are `cache`'s; here they are asked at the right moment. `key` has the functions that `explain` calls too.

mod decide;
mod fill;
mod invalidate;
mod key;
mod outcome;
mod parts;
mod serve;

use std::sync::Mutex;
use std::time::SystemTime;

use http::StatusCode;
use pingora::cache::CacheKey;
use pingora_proxy::Session;
use pingora_proxy::subrequest::{BodyMode, Ctx as Errand, UserCtx};

pub use fill::{Fetch, abandon, ask_as_client, begin_store, finish_store, pin, store_chunk, validated};
pub use invalidate::invalidate;
pub use key::{Bypass, IDENTITY, Request, drop_ignored, looks_up, query_of, with_key};
pub use outcome::{note_outcome, note_served, reason, status_field};
pub use parts::{Completed, Stretch, asks_for_part, complete, is_useless};
pub use serve::{Parts, View, part_of, parts_of, precondition_failed, serve, view};

use super::{Ctx, Gateway, failure, held, upstream_request};
use crate::cache::flights::{Failure, Landing, Lead, digest};
use crate::cache::reuse::{Reuse, may_stand_in, reuse};
use crate::cache::status::{Forward, Outcome, Source as CacheSource};
use crate::cache::vary::Selecting;
use crate::cache::{Found, Zone, directives::Asked};
use crate::plan::Route;
use crate::policy::Fault;

/// What is done with a request that was looked up.
enum Decision {
    /// It is answered from the store.
    Serve(Found, Outcome),
    /// The upstream is asked.
    Fetch(Box<Fetch>),
    /// It has failed: with others, or for want of patience.
    Fail(Fault),
}

impl Decision {
    fn fetch(fetch: Fetch) -> Self {
        Self::Fetch(Box::new(fetch))
    }
}

/// Answers from the store, or asks the upstream. `true`: Pingora goes on, with the fault that `ctx` holds or on its own path.
///
/// # Errors
/// When the connection of the client must be cut.
pub async fn run(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<bool> {
    let Some(route) = ctx.route.clone() else { return Ok(true) };
    // Boxed where they are entered: the framework allocates the future of this hook for every request, also for those that need none of it.
    if looks(session, ctx, &route) {
        return Box::pin(looked_up(gateway, session, ctx, &route)).await;
    }
    if !held::takes(session, ctx, &route) {
        return Ok(true);
    }
    Box::pin(held::run(gateway, session, ctx, &route)).await
}

async fn looked_up(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
) -> pingora::Result<bool> {
    drop_ignored(route, &mut ctx.exchange);
    ctx.cache.looked_up = true;
    if let Err(fault) = upstream_request::drop_nominated(session.req_header_mut()) {
        ctx.fault = Some(fault);
        return Ok(true);
    }
    let headers = &session.req_header().headers;
    if route.settings.cache.as_ref().is_some_and(|settings| settings.requests_honored) {
        ctx.cache.asked = Asked::read(headers);
    }
    let Some(key) = with_key(route, &ctx.exchange, headers, |parts| parts.key()) else { return Ok(true) };
    let decision = match errand(session) {
        Some(lead) => refetch(session, ctx, key, lead).await,
        None => {
            let parted = if parts::are_kept(route, &ctx.exchange.method) {
                Box::pin(parts::decide(session, ctx, route, &key)).await
            } else {
                None
            };
            match parted {
                Some(decision) => decision,
                None => decide::decide(session, ctx, key).await,
            }
        }
    };
    match decision {
        Decision::Serve(found, outcome) => {
            ctx.cache.outcome = Some(outcome);
            serve(session, ctx, found).await.map(|()| false)
        }
        Decision::Fetch(fetch) => Box::pin(fetched(gateway, session, ctx, route, fetch)).await,
        Decision::Fail(fault) => {
            if ctx.cache.waited.is_some() {
                let forwarded = Outcome::new(CacheSource::Forwarded(Forward::Miss));
                ctx.cache.outcome = Some(Outcome { collapsed: true, ..forwarded });
            }
            ctx.fault = Some(fault);
            Ok(true)
        }
    }
}

fn looks(session: &mut Session, ctx: &Ctx, route: &Route) -> bool {
    let request = Request {
        method: &ctx.exchange.method,
        has_body: !session.as_downstream_mut().is_body_empty(),
        upgrades: session.is_upgrade_req(),
    };
    looks_up(route, request).is_ok()
}

/// What the request that caused a refresh hands to it.
struct Inherited(Mutex<Option<Lead>>);

/// Fetches anew behind a stale answer, unless somebody does so already (RFC 5861 §3).
fn refresh(zone: &'static Zone, session: &Session, key: &CacheKey) {
    if let Some(spawner) = &session.subrequest_spawner
        && let Some(lead) = zone.flights.lead(key)
    {
        let inherited: UserCtx = Box::new(Inherited(Mutex::new(Some(lead))));
        let errand = Errand::builder().user_ctx(inherited).body_mode(BodyMode::NoBody).build();
        drop(spawner.spawn_background_subrequest(session.as_ref(), errand));
    }
}

/// The lead that a refresh was given.
fn errand(session: &mut Session) -> Option<Lead> {
    let inherited = session.subrequest_ctx.as_mut()?.user_ctx_mut()?.downcast_mut::<Inherited>()?;
    inherited.0.get_mut().ok()?.take()
}

async fn refetch(session: &Session, ctx: &Ctx, mut key: CacheKey, lead: Lead) -> Decision {
    let zone = ctx.shared.zone;
    let found = zone.find(&mut key, selecting(session, ctx)).await;
    let now = SystemTime::now();
    match found {
        // Another refresh landed between the look that found it stale and the taking of the lead.
        Some(found) if reuse(&found.meta, &Asked::default(), now) == Reuse::Fresh => {
            lead.land(Landing::Stored);
            let outcome = Outcome::hit(now, found.meta.fresh_until());
            Decision::Serve(found, outcome)
        }
        stale => {
            Decision::fetch(Fetch { lead: Some(lead), stale, ..Fetch::whole(zone, key, Forward::Stale) })
        }
    }
}

/// Fetches, and gives what is stale where that fails and is allowed.
async fn fetched(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    fetch: Box<Fetch>,
) -> pingora::Result<bool> {
    ctx.cache.outcome = Some(Outcome::new(CacheSource::Forwarded(fetch.why)));
    ctx.cache.fetch = Some(fetch);
    if !held::run(gateway, session, ctx, route).await? {
        return Ok(false);
    }
    let (Some(fault), Some(fetch)) = (ctx.fault, ctx.cache.fetch.take()) else { return Ok(true) };
    let is_clients = matches!(
        fault,
        Fault::BadTarget | Fault::BodyTooLarge | Fault::BodyTimeout | Fault::ClientGone | Fault::Internal
    );
    let Some(reply) = failure::reply(fault).filter(|_| !is_clients) else { return Ok(true) };
    if let Some(lead) = fetch.lead {
        // Where the upstream was never reached, is busy or takes too long, the request has no part in it.
        let is_seen = !matches!(
            fault,
            Fault::NoEndpoint
                | Fault::PrivateAddress
                | Fault::SecretMissing
                | Fault::Tls
                | Fault::Deadline
                | Fault::UpstreamLimited { .. }
        );
        let fields = is_seen.then(|| digest(&session.req_header().headers));
        lead.land(Landing::Failed(Failure::new(reply.status.as_u16(), fields)));
    }
    let now = SystemTime::now();
    // A credential that is missing is a failure of ours.
    let stale = fetch.stale.filter(|_| fault != Fault::SecretMissing);
    match stale.filter(|found| may_stand_in(&found.meta, &ctx.cache.asked, now)) {
        Some(found) => {
            ctx.fault = None;
            ctx.cache.outcome = Some(outcome::instead_of_error(now, &found.meta));
            serve(session, ctx, found).await.map(|()| false)
        }
        None => Ok(true),
    }
}

/// Whether a stale answer takes the place of this error of the upstream (RFC 5861 §4).
#[must_use]
pub fn stands_in(ctx: &Ctx, status: StatusCode) -> bool {
    let is_error = matches!(status.as_u16(), 500 | 502 | 503 | 504);
    let stale = ctx.cache.fetch.as_ref().and_then(|fetch| fetch.stale.as_ref());
    is_error && stale.is_some_and(|found| may_stand_in(&found.meta, &ctx.cache.asked, SystemTime::now()))
}

/// Whether the upstream was asked if what is stored still holds.
#[must_use]
pub fn asked_whether(ctx: &Ctx) -> bool {
    ctx.cache.fetch.as_ref().is_some_and(|fetch| fetch.whole && fetch.stale.is_some())
}

/// The fields by which a variant is chosen.
fn selecting<'a>(session: &'a Session, ctx: &Ctx) -> Selecting<'a> {
    Selecting {
        fields: &session.req_header().headers,
        uncoded: ctx.route.as_ref().is_some_and(|route| upstream_request::asks_uncoded(route)),
    }
}
