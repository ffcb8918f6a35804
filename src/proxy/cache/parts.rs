//! `ranges: combine`: parts are fetched as clients ask for them, kept, and put together (RFC 9111 §3.3, §3.4).
//!
//! ```text
//! a range      ─▶ the part holds it ─▶ serve           else fetched as it is asked for, and joined to the part
//! the whole    ─▶ the part is all but one end ─▶ the rest is asked for (If-Range), and both are the answer
//! ```
//!
//! What is stored as a whole goes before any part. Whatever does not fit is an ordinary fetch.

use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use pingora::cache::CacheKey;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::fill::Fetch;
use super::{Decision, selecting, with_key};
use crate::cache::flights::Seat;
use crate::cache::key::KeyParts;
use crate::cache::parts::{Joined, Part, are_of_one, as_whole, ask_for_rest, joined_head};
use crate::cache::ranges::{self, Selection};
use crate::cache::reuse::{Reuse, reuse};
use crate::cache::status::{Forward, Outcome};
use crate::cache::terms::Terms;
use crate::cache::{Found, HitHandler};
use crate::plan::Route;
use crate::policy::cache::Ranges;
use crate::proxy::Ctx;

/// What a fetch has to do with parts.
pub struct Parted {
    /// The part that is stored, and its place.
    stored: Option<(Found, Part)>,
    /// Where parts are stored.
    key: CacheKey,
    /// What was asked for of the rest; nothing where the client asked for a part.
    rest: Option<Range<u64>>,
}

/// Decides about a request of which parts [`are_kept`]; `None`: as about any other.
pub(super) async fn decide(
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
    whole: &CacheKey,
) -> Option<Decision> {
    if ctx.cache.asked.no_store {
        return None;
    }
    let zone = ctx.shared.zone;
    let (mut key, chosen) = (whole.clone(), selecting(session, ctx));
    if zone.find(&mut key, chosen).await.is_some() {
        return None;
    }
    let mut part_key = with_key(route, &ctx.exchange, chosen.fields, key_of_part)?;
    let found = zone.find(&mut part_key, chosen).await;
    let now = SystemTime::now();
    let stored = found.and_then(|found| {
        let part = Terms::of(&found.meta).part?;
        (reuse(&found.meta, &ctx.cache.asked, now) != Reuse::Validate).then_some((found, part))
    });
    if !ranges::is_one(chosen.fields) {
        return rest(ctx, key, part_key, stored?);
    }
    if let Some((found, part)) = &stored
        && let Selection::One(range) = wanted(session, found, *part)
        && part.holds(&range)
    {
        let outcome = Outcome::hit(now, found.meta.fresh_until());
        return stored.map(|(found, _)| Decision::Serve(found, outcome));
    }
    if ctx.cache.asked.only_if_cached {
        return None;
    }
    let why = if stored.is_some() { Forward::Partial } else { Forward::UriMiss };
    let parted = Parted { stored, key: part_key, rest: None };
    Some(Decision::fetch(Fetch { parted: Some(parted), ..Fetch::alone(zone, key, why) }))
}

/// Whether parts are kept of an answer to this method.
pub(super) fn are_kept(route: &Route, method: &Method) -> bool {
    let Some(settings) = &route.settings.cache else { return false };
    // What is shaped or searched must be whole.
    let combines = settings.ranges == Ranges::Combine && settings.app && route.settings.json.is_none();
    combines && method == Method::GET
}

/// Whether a request is sent upstream as it asks: for one part, where those are kept and nothing is stored as a whole.
#[must_use]
pub fn asks_for_part(route: &Route, method: &Method, fields: &HeaderMap) -> bool {
    are_kept(route, method) && ranges::is_one(fields)
}

/// Asks for what is missing, once for all who ask.
fn rest(ctx: &Ctx, key: CacheKey, part_key: CacheKey, stored: (Found, Part)) -> Option<Decision> {
    let rest = stored.1.missing()?;
    let zone = ctx.shared.zone;
    if !are_of_one(stored.0.meta.response_header(), stored.0.meta.response_header())
        || !stored.0.body.can_seek()
    {
        return None;
    }
    let Seat::Lead(lead) = zone.flights.join(&key) else { return None };
    let parted = Parted { stored: Some(stored), key: part_key, rest: Some(rest) };
    let fetch = Fetch::whole(zone, key, Forward::Partial);
    Some(Decision::fetch(Fetch { lead: Some(lead), parted: Some(parted), ..fetch }))
}

/// The key of the part of a key.
fn key_of_part(parts: &KeyParts<'_>) -> CacheKey {
    let mut headers = parts.headers.to_vec();
    headers.push((PART, b""));
    KeyParts { headers: &headers, ..*parts }.key()
}

/// The mark in the key of a part. No field can have this name.
const PART: &str = "(part)";

fn wanted(session: &Session, found: &Found, part: Part) -> Selection {
    let request = session.req_header();
    ranges::select(&request.method, &request.headers, found.meta.response_header(), part.total)
}

impl Parted {
    /// Asks the upstream for the rest of what is stored.
    pub(super) fn ask(&self, head: &mut RequestHeader) {
        if let (Some((found, part)), Some(rest)) = (&self.stored, &self.rest) {
            ask_for_rest(head, found.meta.response_header(), rest, part.total);
        }
    }
}

/// Something of a stored body that goes before or after what the upstream sends.
pub struct Stretch {
    body: HitHandler,
    left: u64,
}

impl Stretch {
    fn of(mut body: HitHandler, part: Part, range: &Range<u64>) -> Option<Self> {
        let place = |position: u64| usize::try_from(position.checked_sub(part.first)?).ok();
        body.seek(place(range.start)?, Some(place(range.end)?)).ok()?;
        Some(Self { body, left: range.end.saturating_sub(range.start) })
    }

    /// What of a stored part goes before a newer one, and what after it. `None` where both do, as its body is read once: the newer one
    /// lies inside of what is there already.
    fn around(body: HitHandler, part: Part, joined: &Joined) -> Option<(Option<Self>, Option<Self>)> {
        match (&joined.before, &joined.after) {
            (None, None) => Some((None, None)),
            (Some(range), None) => Some((Some(Self::of(body, part, range)?), None)),
            (None, Some(range)) => Some((None, Some(Self::of(body, part, range)?))),
            (Some(_), Some(_)) => None,
        }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the stored body cannot be read to the end of the stretch.
    pub async fn next(&mut self) -> pingora::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let piece = self.body.read_body().await?;
        let Some(piece) = piece else { return crate::proxy::held::error(crate::policy::Fault::Internal) };
        let length = self.left.min(piece.len() as u64);
        self.left -= length;
        Ok(Some(piece.slice(..usize::try_from(length).unwrap_or(piece.len()).min(piece.len()))))
    }
}

/// An answer that a stored part makes whole.
pub struct Completed {
    /// The head of the whole.
    pub head: ResponseHeader,
    /// What goes before the upstream's bytes.
    pub before: Option<Stretch>,
    /// What goes after them.
    pub after: Option<Stretch>,
}

/// What the answer to our own question for the rest makes; `None`: it is an answer of its own.
pub fn complete(ctx: &mut Ctx, head: &ResponseHeader) -> Option<Completed> {
    let parted = ctx.cache.fetch.as_mut()?.parted.as_mut().filter(|parted| parted.rest.is_some())?;
    let (found, part) = parted.stored.take()?;
    let newer = Part::of(head)?;
    let joined = part.join(newer).filter(|joined| joined.part.is_whole())?;
    if !are_of_one(found.meta.response_header(), head) {
        return None;
    }
    let head = joined_head(found.meta.response_header(), head, joined.part.total);
    let (before, after) = Stretch::around(found.body, part, &joined)?;
    Some(Completed { head, before, after })
}

/// Whether the answer is a part that nobody can use: it answers our question for the rest, and does not fit. Then that is forgotten.
pub fn is_useless(ctx: &mut Ctx, head: &ResponseHeader) -> bool {
    let asked =
        ctx.cache.fetch.as_mut().and_then(|fetch| fetch.parted.take_if(|parted| parted.rest.is_some()));
    asked.is_some() && matches!(head.status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE)
}

/// How a part that a client asked for is stored.
pub(super) struct Store {
    /// Where.
    pub(super) key: CacheKey,
    /// Under which head: that of the whole.
    pub(super) head: ResponseHeader,
    /// What of it; nothing where it is the whole.
    pub(super) part: Option<Part>,
    /// What goes before it.
    pub(super) before: Option<Stretch>,
    /// What goes after it.
    pub(super) after: Option<Stretch>,
}

/// How to store a 206 that a client's range brought: joined to what is there, where that is possible.
pub(super) fn store(fetch: &mut Fetch, head: &ResponseHeader) -> Option<Store> {
    let parted = fetch.parted.take()?;
    let newer = Part::of(head)?;
    let joined = parted
        .stored
        .filter(|(found, _)| found.body.can_seek() && are_of_one(found.meta.response_header(), head))
        .and_then(|(found, part)| Some((part.join(newer)?, found, part)));
    let (part, head, (before, after)) = match joined {
        Some((joined, found, part)) => {
            let head = joined_head(found.meta.response_header(), head, joined.part.length());
            (joined.part, head, Stretch::around(found.body, part, &joined)?)
        }
        None => (newer, as_whole(head, newer.length()), (None, None)),
    };
    let key = if part.is_whole() { fetch.key.clone() } else { parted.key };
    Some(Store { key, head, part: (!part.is_whole()).then_some(part), before, after })
}
