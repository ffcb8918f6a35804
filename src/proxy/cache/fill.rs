//! From the upstream's answer to the store: judged, written, or a 304 that renews what is there.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header};
use pingora::cache::{CacheKey, CacheMeta};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::parts::{self, Parted, Stretch};
use super::{outcome, selecting};
use crate::cache::directives::Asked;
use crate::cache::flights::{Failure, Landing, Lead, Stray, digest};
use crate::cache::freshness::{self, Policy, Reason, RequestFacts, Verdict};
use crate::cache::purge::tag_list::TagNames;
use crate::cache::reuse::{Reuse, reuse};
use crate::cache::status::Forward;
use crate::cache::storage::FillEpoch;
use crate::cache::terms::Terms;
use crate::cache::validate::HeadEffect;
use crate::cache::{Found, HitHandler, NotStored, Refused, Writer, Zone, validate};
use crate::policy::forwarding;
use crate::proxy::Ctx;
use crate::proxy::held::weaken_etag;
use crate::telemetry::labels::Uncacheable;

/// A call to the upstream whose answer may be stored.
pub struct Fetch {
    /// Where it is stored.
    pub key: CacheKey,
    /// Why the upstream is asked.
    pub why: Forward,
    /// The upstream is asked for the whole, without the client's conditions, and with GET.
    pub whole: bool,
    /// Whether the answer may be stored as far as the request goes.
    pub stores: bool,
    /// The flight that others wait for.
    pub lead: Option<Lead>,
    /// The leave to go without one.
    pub stray: Option<Stray>,
    /// What is stored and has to be asked about.
    pub stale: Option<Found>,
    /// What it has to do with stored parts.
    pub parted: Option<Parted>,
    /// What of an older part goes after what is being stored.
    pub(super) after: Option<Stretch>,
    /// When it began: a purge in between wins over it.
    pub(super) epoch: FillEpoch,
    pub(super) writer: Option<Writer>,
}

impl Fetch {
    /// A fetch on behalf of all who ask.
    #[must_use]
    pub fn whole(zone: &Zone, key: CacheKey, why: Forward) -> Self {
        Self {
            key,
            why,
            whole: true,
            stores: true,
            lead: None,
            stray: None,
            stale: None,
            parted: None,
            after: None,
            epoch: zone.epoch(),
            writer: None,
        }
    }

    /// A fetch for this client alone, as it asks.
    #[must_use]
    pub fn alone(zone: &Zone, key: CacheKey, why: Forward) -> Self {
        Self { whole: false, ..Self::whole(zone, key, why) }
    }

    /// A fetch that nobody waits for: as the client asks, or about what is stored, if there is something.
    #[must_use]
    pub fn by_itself(zone: &Zone, key: CacheKey, why: Forward, stale: Option<Found>) -> Self {
        Self { whole: stale.is_some(), stale, ..Self::whole(zone, key, why) }
    }

    /// Asks whether what is stored still holds (RFC 9111 §4.3.1), where it can be asked, or for what is missing of it.
    pub fn validate(&self, head: &mut RequestHeader) {
        if let Some(parted) = &self.parted {
            parted.ask(head);
        }
        if let Some(stale) = self.stale.as_ref().filter(|_| self.whole) {
            validate::add_validators(head, stale.meta.response_header());
        }
    }
}

/// Tells those who wait. Once.
fn land(ctx: &mut Ctx, landing: Landing) {
    if let Some(lead) = ctx.cache.fetch.as_mut().and_then(|fetch| fetch.lead.take()) {
        lead.land(landing);
    }
}

/// Judges an answer; `head` is as the client would see it.
fn judge(session: &Session, ctx: &Ctx, head: &ResponseHeader, now: SystemTime) -> Option<Verdict> {
    // Fetched as a whole, a HEAD is sent as a GET.
    let is_head = ctx.exchange.method == Method::HEAD && !ctx.cache.fetches_whole();
    judge_as(session, ctx, head, now, is_head)
}

fn judge_as(
    session: &Session,
    ctx: &Ctx,
    head: &ResponseHeader,
    now: SystemTime,
    method_head: bool,
) -> Option<Verdict> {
    let route = ctx.route.as_ref()?;
    let settings = route.settings.cache.as_ref()?;
    let request = session.req_header();
    // Where the route says who may share the answer, it is no longer HTTP that has to.
    let open = settings.share.is_none();
    let sent = |name: HeaderName, forwarded: bool| open && forwarded && request.headers.contains_key(name);
    let facts = RequestFacts {
        authorization_forwarded: sent(header::AUTHORIZATION, route.settings.forwards_authorization),
        cookie_forwarded: sent(header::COOKIE, route.settings.forwards_cookies),
        method_head,
        close_delimited: ctx.cache.close_delimited,
        no_store: ctx.cache.asked.no_store,
        path: &ctx.exchange.path,
        response_delay: response_delay(ctx),
    };
    let policy = Policy {
        ttl: settings.ttl,
        override_upstream: settings.overrides,
        stale_while_revalidate: settings.stale_while_revalidate,
        stale_if_error: settings.stale_if_error,
        heuristic_max: settings.heuristic_max,
        store_set_cookie: settings.store_set_cookie,
        negative_max: settings.negative_max,
    };
    if settings.app && varies_by_ours(head) {
        // The upstream saw what we said of the client, not what the client sent: no request could choose such a variant.
        return Some(Verdict::Refuse(Reason::Vary));
    }
    Some(freshness::judge(head, &facts, &policy, now))
}

/// From sending the request until now.
fn response_delay(ctx: &Ctx) -> std::time::Duration {
    ctx.exchange.upstream_started.map_or_else(Default::default, |began| began.elapsed())
}

/// Whether an answer of this head would not be stored because of who asks.
pub(super) fn is_for_who_asks(session: &Session, ctx: &Ctx, head: &ResponseHeader) -> bool {
    let verdict = judge_as(session, ctx, head, SystemTime::now(), false);
    matches!(verdict, Some(Verdict::Refuse(Reason::Authorization | Reason::Cookie)))
}

fn varies_by_ours(head: &ResponseHeader) -> bool {
    let names = head.headers.get_all(header::VARY).iter().filter_map(|line| line.to_str().ok());
    names.flat_map(|line| line.split(',')).any(|name| forwarding::is_ours(&name.trim().to_ascii_lowercase()))
}

/// Decides whether an answer is stored, opens its place, and lets those who wait go on. `true`: chunks may follow.
pub async fn begin_store(session: &Session, ctx: &mut Ctx, head: &ResponseHeader) -> bool {
    let zone = ctx.shared.zone;
    let Some(fetch) = &ctx.cache.fetch else { return false };
    if !fetch.stores {
        ctx.cache.refused = Some(Uncacheable::RequestNoStore);
        return false;
    }
    if head.status == StatusCode::PARTIAL_CONTENT && fetch.parted.is_some() {
        return begin_part(session, ctx, head).await;
    }
    let now = SystemTime::now();
    let mut meta = match judge(session, ctx, head, now) {
        Some(Verdict::Store(meta)) => meta,
        Some(Verdict::Refuse(reason)) => {
            if reason == Reason::Head {
                note_head(session, ctx, head).await;
            }
            refuse(session, ctx, head.status, reason);
            return false;
        }
        None => return false,
    };
    let chosen = selecting(session, ctx);
    tag(&mut meta, ctx.cache.tags.names.clone());
    let Some(fetch) = ctx.cache.fetch.as_mut() else { return false };
    let has_length = meta.headers().contains_key(header::CONTENT_LENGTH);
    let opened = if !has_length && zone.refused(&fetch.key) == Some(Refused::TooLarge) {
        // It outgrew the limit lately, and does not say that it would not again: nobody is to read along.
        Err(NotStored::TooLarge)
    } else {
        fetch.epoch.stamp(&mut meta);
        let landing = if reuse(&meta, &Asked::default(), now) == Reuse::Validate {
            // Good for one client only, until the upstream was asked again.
            Landing::Unshared
        } else {
            Landing::Stored
        };
        let (ttl, validates) = (outcome::seconds_of(now, &meta), Terms::of(&meta).validates);
        let opened = zone.open(&mut fetch.key, meta, chosen).await;
        opened.map(|writer| (writer, landing, ttl, validates))
    };
    match opened {
        Ok((writer, landing, ttl, validates)) => {
            fetch.writer = Some(writer);
            note_sharing(zone, &fetch.key, validates);
            land(ctx, landing);
            ctx.cache.stored = zone.stores();
            if let Some(outcome) = &mut ctx.cache.outcome {
                outcome.ttl_secs = Some(ttl);
            }
            true
        }
        Err(why) => {
            not_stored(ctx, why);
            false
        }
    }
}

/// Opens the place of a part. `true`: chunks may follow.
async fn begin_part(session: &Session, ctx: &mut Ctx, head: &ResponseHeader) -> bool {
    let Some(store) = ctx.cache.fetch.as_mut().and_then(|fetch| parts::store(fetch, head)) else {
        ctx.cache.refused = Some(Uncacheable::Status);
        return false;
    };
    let mut meta = match judge(session, ctx, &store.head, SystemTime::now()) {
        Some(Verdict::Store(meta)) => meta,
        Some(Verdict::Refuse(reason)) => {
            ctx.cache.refused = Some(reason.into());
            return false;
        }
        None => return false,
    };
    Terms { part: store.part, tags: ctx.cache.tags.names.clone(), ..Terms::of(&meta) }.stamp(&mut meta);
    let (zone, chosen) = (ctx.shared.zone, selecting(session, ctx));
    let Some(fetch) = ctx.cache.fetch.as_mut() else { return false };
    fetch.epoch.stamp(&mut meta);
    fetch.key = store.key;
    let Ok(mut writer) = zone.open(&mut fetch.key, meta, chosen).await else { return false };
    if let Some(before) = store.before
        && !copy(before, &mut writer).await
    {
        return false;
    }
    fetch.after = store.after;
    fetch.writer = Some(writer);
    ctx.cache.stored = zone.stores();
    true
}

async fn copy(mut stretch: Stretch, writer: &mut Writer) -> bool {
    loop {
        match stretch.next().await {
            Ok(Some(piece)) => {
                if writer.write(piece).await.is_err() {
                    return false;
                }
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Who may be given this only after asking the upstream does not wait for others.
fn note_sharing(zone: &Zone, key: &CacheKey, validates: bool) {
    if validates {
        zone.note_refusal(key, Refused::Unshared);
    } else {
        zone.forget_refusal(key);
    }
}

fn refuse(session: &Session, ctx: &mut Ctx, status: StatusCode, reason: Reason) {
    ctx.cache.refused = Some(reason.into());
    if status.is_server_error() {
        // The others share it, instead of asking a failing upstream one by one.
        let fields = Some(digest(&session.req_header().headers));
        return land(ctx, Landing::Failed(Failure::new(status.as_u16(), fields)));
    }
    if reason.lasts()
        && let Some(fetch) = &ctx.cache.fetch
    {
        ctx.shared.zone.note_refusal(&fetch.key, Refused::Unshared);
    }
    land(ctx, Landing::Unshared);
}

fn not_stored(ctx: &mut Ctx, why: NotStored) {
    ctx.cache.stored = false;
    if why == NotStored::TooLarge {
        ctx.cache.refused = Some(Uncacheable::TooLarge);
        if let Some(fetch) = &ctx.cache.fetch {
            ctx.shared.zone.note_refusal(&fetch.key, Refused::TooLarge);
        }
    }
    land(ctx, Landing::Unshared);
}

/// From now on the upstream is asked what the client asks, for the client alone.
pub fn ask_as_client(ctx: &mut Ctx) {
    if let Some(fetch) = ctx.cache.fetch.as_mut() {
        (fetch.whole, fetch.stores, fetch.stale) = (false, false, None);
    }
}

/// To be held as long as somebody has pieces of what is being stored: they count as memory of the cache.
pub async fn pin(ctx: &Ctx) -> Option<HitHandler> {
    let fetch = ctx.cache.fetch.as_ref()?;
    ctx.shared.zone.pin(&fetch.key, fetch.writer.as_ref()?).await
}

/// Stores a piece. `false`: the object cannot be stored to its end, and those who read along are cut.
pub async fn store_chunk(ctx: &mut Ctx, chunk: Bytes) -> bool {
    let Some(fetch) = ctx.cache.fetch.as_mut() else { return false };
    let Some(writer) = fetch.writer.as_mut() else { return false };
    match writer.write(chunk).await {
        Ok(()) => true,
        Err(why) => {
            fetch.writer = None;
            not_stored(ctx, why);
            false
        }
    }
}

/// Makes a stored object visible as whole.
pub async fn finish_store(ctx: &mut Ctx) {
    let Some(fetch) = ctx.cache.fetch.as_mut() else { return };
    let Some(mut writer) = fetch.writer.take() else { return };
    let is_whole = match fetch.after.take() {
        Some(after) => copy(after, &mut writer).await,
        None => true,
    };
    if !is_whole || writer.finish().await.is_err() {
        ctx.cache.stored = false;
    }
}

/// Gives up a fill: its readers get an error, nothing stays.
pub fn abandon(ctx: &mut Ctx) {
    if let Some(fetch) = ctx.cache.fetch.as_mut()
        && fetch.writer.take().is_some()
    {
        ctx.cache.stored = false;
    }
}

/// Gives an answer the names by which it can be purged.
fn tag(meta: &mut CacheMeta, tags: TagNames) {
    Terms { tags, ..Terms::of(meta) }.stamp(meta);
}

/// The same of one whose head is renewed: it keeps its names, unless the upstream said others.
fn tag_again(ctx: &Ctx, meta: &mut CacheMeta, stored: &CacheMeta) {
    let said = &ctx.cache.tags;
    tag(meta, if said.are_said { said.names.clone() } else { Terms::of(stored).tags });
}

/// What is stored with the fields of a 304; `None` if that is about something else.
fn merged(stored: &ResponseHeader, head: &ResponseHeader) -> Option<ResponseHeader> {
    let is_weak = |head: &ResponseHeader| {
        head.headers.get(header::ETAG).is_some_and(|tag| tag.as_bytes().starts_with(b"W/"))
    };
    let mut head = head.clone();
    if is_weak(stored) {
        // A body that was changed on its way has a weak tag in the store; the upstream speaks of its own, which is strong.
        weaken_etag(&mut head);
    }
    validate::is_about(stored, &head).then(|| validate::merge(stored, &head))
}

/// What the answer to a HEAD that went upstream as one says of what is stored for a GET (RFC 9111 §4.3.5).
async fn note_head(session: &Session, ctx: &Ctx, head: &ResponseHeader) {
    let zone = ctx.shared.zone;
    let Some(fetch) = &ctx.cache.fetch else { return };
    let (mut key, began) = (fetch.key.clone(), fetch.epoch);
    let Some(found) = zone.find(&mut key, selecting(session, ctx)).await else { return };
    match validate::by_head(found.meta.response_header(), head) {
        HeadEffect::Nothing => {}
        HeadEffect::Update => {
            let merged = validate::merge(found.meta.response_header(), head);
            match judge_as(session, ctx, &merged, SystemTime::now(), false) {
                Some(Verdict::Store(mut meta)) => {
                    tag_again(ctx, &mut meta, &found.meta);
                    zone.renew(&key, &found.meta, &meta, began).await;
                }
                Some(Verdict::Refuse(reason)) if reason.is_of_request() => {}
                _ => drop(zone.purge_key(&key)),
            }
        }
        HeadEffect::Invalidate => drop(zone.purge_key(&key)),
    }
}

/// A 304 to our own question: gives what is stored the fields that came, and returns it to be served (RFC 9111 §4.3.4). `None`: it is
/// about something else, and the question has to be asked anew, without a condition.
pub async fn validated(session: &Session, ctx: &mut Ctx, head: &ResponseHeader) -> Option<Found> {
    let zone = ctx.shared.zone;
    let mut found = ctx.cache.fetch.as_mut().filter(|fetch| fetch.whole)?.stale.take()?;
    let merged = merged(found.meta.response_header(), head)?;
    let now = SystemTime::now();
    let verdict = judge(session, ctx, &merged, now)?;
    let landing = match verdict {
        Verdict::Store(mut meta) => {
            tag_again(ctx, &mut meta, &found.meta);
            let fetch = ctx.cache.fetch.as_mut()?;
            let renewed = zone.renew(&fetch.key, &found.meta, &meta, fetch.epoch).await;
            let is_shared = reuse(&meta, &Asked::default(), now) != Reuse::Validate;
            note_sharing(zone, &fetch.key, Terms::of(&meta).validates);
            found.meta = meta;
            ctx.cache.stored = renewed;
            if is_shared && renewed { Landing::Stored } else { Landing::Unshared }
        }
        Verdict::Refuse(reason) => {
            if !reason.is_of_request() {
                // Good for this client, and no longer for others.
                zone.purge_key(&ctx.cache.fetch.as_ref()?.key);
            }
            ctx.cache.refused = Some(reason.into());
            found.meta = freshness::unkept(merged, response_delay(ctx), now);
            Landing::Unshared
        }
    };
    if let Some(outcome) = &mut ctx.cache.outcome {
        outcome.fwd_status = Some(StatusCode::NOT_MODIFIED.as_u16());
        outcome.ttl_secs = Some(outcome::seconds_of(now, &found.meta));
    }
    land(ctx, landing);
    Some(found)
}
