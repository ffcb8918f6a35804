//! What is done with a request that was looked up: after as many waits as it takes, and no more than it has patience for.

use std::time::{Duration, Instant, SystemTime};

use http::header;
use pingora::cache::{CacheKey, CacheMeta};
use pingora_proxy::Session;

use super::fill::{Fetch, is_for_who_asks};
use super::{Decision, outcome, refresh, selecting};
use crate::cache::directives::Asked;
use crate::cache::flights::{Failure, Landing, Lead, MAX_ROUNDS, PATIENCE, Seat, Stray, Wait};
use crate::cache::reuse::{Reuse, may_stand_in, reuse};
use crate::cache::status::{Forward, Outcome, Source as CacheSource};
use crate::cache::{Found, Zone};
use crate::policy::Fault;
use crate::proxy::Ctx;
use crate::proxy::held::attempt::while_client_waits;

/// Looks, and waits where somebody else fetches, until there is something to do.
pub(super) async fn decide(session: &mut Session, ctx: &mut Ctx, key: CacheKey) -> Decision {
    let zone = ctx.shared.zone;
    let asked = ctx.cache.asked;
    if asked.no_store {
        // Nothing of such a request and its answer is kept, and nothing that is kept is given (RFC 9111 §5.2.1.5).
        return match asked.only_if_cached {
            true => Decision::Fail(Fault::NotCached),
            false => Decision::fetch(Fetch { stores: false, ..Fetch::alone(zone, key, Forward::Request) }),
        };
    }
    let mut search = Search::begin(ctx, key);
    for _ in 0..MAX_ROUNDS {
        let (stale, why) = match search.look(session, ctx).await {
            Look::Serve(found, outcome) => return Decision::Serve(found, outcome),
            Look::Ask(stale, why) => (stale, why),
        };
        let wait = match search.take_a_place(ctx, stale, why) {
            Place::Decided(decision) => return decision,
            Place::LookAgain => continue,
            Place::Wait(wait, stale) => (wait, stale),
        };
        if let Some(decision) = search.wait(session, ctx, wait, why).await {
            return decision;
        }
        if search.is_out_of_patience {
            break;
        }
    }
    search.go_alone()
}

/// What a look at the store says.
enum Look {
    /// It has an answer for this request.
    Serve(Found, Outcome),
    /// The upstream is to be asked, about this or anew.
    Ask(Option<Found>, Forward),
}

/// What a request gets that has to be fetched.
enum Place {
    /// Something to do.
    Decided(Decision),
    /// The lead: looked at once more, as another may have landed since.
    LookAgain,
    /// A place behind another, with what is stale meanwhile.
    Wait(Wait, Option<Found>),
}

/// One request's search for an answer.
struct Search {
    zone: &'static Zone,
    key: CacheKey,
    asked: Asked,
    /// Until when others are waited for.
    until: Instant,
    /// As long as a call to the upstream may take.
    last: Instant,
    is_out_of_patience: bool,
    lead: Option<Lead>,
    stray: Option<Stray>,
    /// Another's fetch brought an answer while this one waited.
    collapsed: bool,
    /// Another's fetch failed that may have failed at the other's request.
    failed: Option<Failure>,
}

impl Search {
    fn begin(ctx: &Ctx, key: CacheKey) -> Self {
        let now = Instant::now();
        let upstream = ctx.route.as_ref().and_then(|route| route.upstream.as_ref());
        let call = upstream.map_or(Duration::ZERO, |plan| plan.upstream.timeouts().request);
        Self {
            zone: ctx.shared.zone,
            key,
            asked: ctx.cache.asked,
            until: now + PATIENCE,
            last: now + call.max(PATIENCE),
            is_out_of_patience: false,
            lead: None,
            stray: None,
            collapsed: false,
            failed: None,
        }
    }

    async fn look(&mut self, session: &Session, ctx: &Ctx) -> Look {
        let found = self.zone.find(&mut self.key, selecting(session, ctx)).await;
        let now = SystemTime::now();
        let missed = if self.key.get_variance_key().is_some() { Forward::VaryMiss } else { Forward::UriMiss };
        let Some(found) = found else { return Look::Ask(None, missed) };
        let verdict = reuse(&found.meta, &self.asked, now);
        if verdict == Reuse::Validate {
            let is_fresh = reuse(&found.meta, &Asked::default(), now) == Reuse::Fresh;
            return Look::Ask(Some(found), if is_fresh { Forward::Request } else { Forward::Stale });
        }
        if let Some(lead) = self.lead.take() {
            lead.land(Landing::Stored);
        }
        if verdict == Reuse::WhileRevalidate && brings_something(session, ctx, &found.meta) {
            refresh(self.zone, session, &self.key);
        }
        let mut outcome = Outcome::hit(now, found.meta.fresh_until());
        if self.collapsed {
            // Another's fetch brought it while this request waited: no hit in the sense of RFC 9211 §2.1.
            outcome.source = CacheSource::Forwarded(missed);
            outcome.collapsed = true;
        }
        Look::Serve(found, outcome)
    }

    /// The lead, a place behind who has it, or leave to go by itself.
    fn take_a_place(&mut self, ctx: &Ctx, stale: Option<Found>, why: Forward) -> Place {
        if self.asked.only_if_cached {
            return Place::Decided(Decision::Fail(Fault::NotCached));
        }
        if let Some(failure) = self.failed.as_ref().filter(|failure| failure.is_final()) {
            return Place::Decided(share_failure(ctx, stale, failure.status));
        }
        let key = self.key.clone();
        if let Some(lead) = self.lead.take_if(|lead| lead.leads(&key)) {
            let fetch = Fetch { lead: Some(lead), stale, ..Fetch::whole(self.zone, key, why) };
            return Place::Decided(Decision::fetch(fetch));
        }
        if self.stray.is_some() {
            let alone = Fetch { stray: self.stray.take(), ..Fetch::alone(self.zone, key, Forward::UriMiss) };
            return Place::Decided(Decision::fetch(alone));
        }
        if self.zone.refused(&key).is_some() {
            let why = if stale.is_some() { why } else { Forward::Bypass };
            return Place::Decided(Decision::fetch(Fetch::by_itself(self.zone, key, why, stale)));
        }
        match self.zone.flights.join(&key) {
            Seat::Lead(mut lead) => {
                if let Some(failure) = &self.failed {
                    lead.after(failure);
                }
                self.lead = Some(lead);
                Place::LookAgain
            }
            Seat::Wait(wait) => {
                self.lead = None;
                Place::Wait(wait, stale)
            }
        }
    }

    /// Waits for another's fetch. `None`: look again.
    async fn wait(
        &mut self,
        session: &mut Session,
        ctx: &mut Ctx,
        (wait, stale): (Wait, Option<Found>),
        why: Forward,
    ) -> Option<Decision> {
        let began = Instant::now();
        let landing = while_client_waits(session, false, wait.landing(self.until)).await;
        *ctx.cache.waited.get_or_insert_default() += began.elapsed();
        match landing {
            Err(fault) => return Some(Decision::Fail(fault)),
            Ok(Some(Landing::Stored)) => {
                // It came after this request did, so it is as new as one that the client would have asked for.
                self.collapsed = true;
                self.asked = Asked { no_cache: false, max_age: None, min_fresh: None, ..self.asked };
            }
            Ok(Some(Landing::Unshared)) => {
                let fetch = Fetch::by_itself(self.zone, self.key.clone(), why, stale);
                return Some(Decision::fetch(fetch));
            }
            Ok(Some(Landing::Failed(failure))) => {
                // One more call where it may have been the other's request that the upstream failed at, and no third.
                if self.failed.is_some() || failure.is_for(&session.req_header().headers) {
                    return Some(share_failure(ctx, stale, failure.status));
                }
                self.failed = Some(failure);
            }
            Ok(Some(Landing::Lost)) => {}
            Ok(None) => {
                // Looked at once more before it goes: the other may have landed by now.
                self.stray = self.zone.flights.stray(&self.key);
                if self.stray.is_none() {
                    // A call more would not be faster: this one is waited for as long as one may take.
                    self.is_out_of_patience = self.last <= self.until;
                    self.until = self.last;
                }
            }
        }
        None
    }

    /// The end of patience: by itself, where not too many others do so already.
    fn go_alone(mut self) -> Decision {
        match self.stray.take().or_else(|| self.zone.flights.stray(&self.key)) {
            Some(stray) => {
                let alone = Fetch::alone(self.zone, self.key, Forward::UriMiss);
                Decision::fetch(Fetch { stray: Some(stray), ..alone })
            }
            None => {
                self.zone.flights.note_refused();
                Decision::Fail(Fault::Deadline)
            }
        }
    }
}

/// Whether the answer to this client may be stored in place of what is: not where the client says who it is, the upstream hears it, and
/// what is stored does not say that everybody may have it. The refresh would be thrown away, and the next client would cause another.
fn brings_something(session: &Session, ctx: &Ctx, stored: &CacheMeta) -> bool {
    let fields = &session.req_header().headers;
    let says_who = fields.contains_key(header::COOKIE) || fields.contains_key(header::AUTHORIZATION);
    !says_who || !is_for_who_asks(session, ctx, stored.response_header())
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
