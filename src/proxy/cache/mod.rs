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

mod fill;
mod invalidate;
mod key;
mod outcome;
mod parts;
mod serve;

use std::sync::Mutex;
use std::time::{Instant, SystemTime};

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

use super::held::attempt::while_client_waits;
use super::{Ctx, Gateway, failure, held, upstream_request};
use crate::cache::flights::{Failure, Landing, Lead, MAX_ROUNDS, PATIENCE, Seat, Stray, digest};
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
        None => match Box::pin(parts::decide(session, ctx, route, &key)).await {
            Some(decision) => decision,
            None => decide(session, ctx, key).await,
        },
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

/// Decides, after as many waits as it takes.
async fn decide(session: &mut Session, ctx: &mut Ctx, mut key: CacheKey) -> Decision {
    let zone = ctx.shared.zone;
    let mut asked = ctx.cache.asked;
    if asked.no_store {
        // Nothing of such a request and its answer is kept, and nothing that is kept is given (RFC 9111 §5.2.1.5).
        return match asked.only_if_cached {
            true => Decision::Fail(Fault::NotCached),
            false => Decision::fetch(Fetch { stores: false, ..Fetch::alone(zone, key, Forward::Request) }),
        };
    }
    let (mut patience, mut stray) = (Patience::begin(ctx), None);
    let (mut lead, mut collapsed, mut failed): (Option<Lead>, bool, Option<Failure>) = (None, false, None);
    for _ in 0..MAX_ROUNDS {
        let found = zone.find(&mut key, selecting(session, ctx)).await;
        let now = SystemTime::now();
        let mut why = if key.get_variance_key().is_some() { Forward::VaryMiss } else { Forward::UriMiss };
        let mut stale = None;
        if let Some(found) = found {
            let verdict = reuse(&found.meta, &asked, now);
            if verdict == Reuse::Validate {
                why = if reuse(&found.meta, &Asked::default(), now) == Reuse::Fresh {
                    Forward::Request
                } else {
                    Forward::Stale
                };
                stale = Some(found);
            } else {
                if let Some(lead) = lead.take() {
                    lead.land(Landing::Stored);
                }
                if verdict == Reuse::WhileRevalidate {
                    refresh(zone, session, &key);
                }
                let mut outcome = Outcome::hit(now, found.meta.fresh_until());
                if collapsed {
                    // Another's fetch brought it while this request waited: no hit in the sense of RFC 9211 §2.1.
                    outcome.source = CacheSource::Forwarded(why);
                    outcome.collapsed = true;
                }
                return Decision::Serve(found, outcome);
            }
        }
        if asked.only_if_cached {
            return Decision::Fail(Fault::NotCached);
        }
        if let Some(failure) = failed.as_ref().filter(|failure| failure.is_final()) {
            return share_failure(ctx, stale, failure.status);
        }
        if lead.as_ref().is_some_and(|lead| lead.leads(&key)) {
            return Decision::fetch(Fetch { lead, stale, ..Fetch::whole(zone, key, why) });
        }
        if let Some(stray) = stray.take() {
            return go_alone(zone, key, stray);
        }
        if zone.refused(&key).is_some() {
            let why = if stale.is_some() { why } else { Forward::Bypass };
            return Decision::fetch(Fetch::by_itself(zone, key, why, stale));
        }
        let wait = match zone.flights.join(&key) {
            Seat::Lead(mut taken) => {
                if let Some(failure) = &failed {
                    taken.after(failure);
                }
                // Looked at once more: another may have landed since.
                lead = Some(taken);
                continue;
            }
            Seat::Wait(wait) => wait,
        };
        lead = None;
        let began = Instant::now();
        let landing = while_client_waits(session, false, wait.landing(patience.until)).await;
        *ctx.cache.waited.get_or_insert_default() += began.elapsed();
        match landing {
            Err(fault) => return Decision::Fail(fault),
            Ok(Some(Landing::Stored)) => {
                // It came after this request did, so it is as new as one that the client would have asked for.
                collapsed = true;
                asked = Asked { no_cache: false, max_age: None, min_fresh: None, ..asked };
            }
            Ok(Some(Landing::Unshared)) => return Decision::fetch(Fetch::by_itself(zone, key, why, stale)),
            Ok(Some(Landing::Failed(failure))) => {
                // One more call where it may have been the other's request that the upstream failed at, and no third.
                if failed.is_some() || failure.is_for(&session.req_header().headers) {
                    return share_failure(ctx, stale, failure.status);
                }
                failed = Some(failure);
            }
            Ok(Some(Landing::Lost)) => {}
            Ok(None) => match zone.flights.stray(&key) {
                // Looked at once more: the other may have landed by now.
                Some(taken) => stray = Some(taken),
                // A call more would not be faster: this one is waited for as long as one may take.
                None if patience.prolong() => {}
                None => break,
            },
        }
    }
    match stray.or_else(|| zone.flights.stray(&key)) {
        Some(stray) => go_alone(zone, key, stray),
        None => {
            zone.flights.note_refused();
            Decision::Fail(Fault::Deadline)
        }
    }
}

fn go_alone(zone: &Zone, key: CacheKey, stray: Stray) -> Decision {
    Decision::fetch(Fetch { stray: Some(stray), ..Fetch::alone(zone, key, Forward::UriMiss) })
}

/// How long a request waits for others.
struct Patience {
    until: Instant,
    /// As long as a call to the upstream may take.
    last: Instant,
}

impl Patience {
    fn begin(ctx: &Ctx) -> Self {
        let now = Instant::now();
        let upstream = ctx.route.as_ref().and_then(|route| route.upstream.as_ref());
        let call = upstream.map(|plan| plan.upstream.timeouts().request).unwrap_or_default();
        Self { until: now + PATIENCE, last: now + call.max(PATIENCE) }
    }

    /// False where there is nothing more to wait for.
    fn prolong(&mut self) -> bool {
        let is_longer = self.last > self.until;
        self.until = self.last;
        is_longer
    }
}

/// The fetch that this request waited for has failed; to repeat it would only queue up failures.
fn share_failure(ctx: &Ctx, stale: Option<Found>, status: u16) -> Decision {
    let now = SystemTime::now();
    match stale.filter(|found| may_stand_in(&found.meta, &ctx.cache.asked, now)) {
        Some(found) => {
            let outcome = Outcome { collapsed: true, ..outcome::instead_of_error(now, &found.meta) };
            Decision::Serve(found, outcome)
        }
        None => Decision::Fail(match status {
            503 => Fault::NoEndpoint,
            504 => Fault::Deadline,
            _ => Fault::Connection,
        }),
    }
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
