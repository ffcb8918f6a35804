//! HTTP caching: what may be kept, under which key, where, and what is said about it.
//!
//! ```text
//!   request ─▶ key ─▶ Zone::find ──▶ reuse ── fresh, or stale and allowed ──▶ conditions, ranges ──▶ client
//!                                     │ nothing, or to be asked about
//!                                     ▼
//!                                  flights: one leads (known refusals go by themselves), the others wait
//!                                     ▼
//!      validate (If-None-Match) ─▶ upstream ─▶ guard, erase, shape ─▶ freshness::judge ─▶ Zone::open: fill  ─▶ client
//! ```
//!
//! The rules are pure functions of heads and a clock; `proxy/cache` makes the journey by them. Of the framework's cache its storage
//! interface is used, with its keys, metas and handlers; its state machine is not, because a shared cache in front of credentialed
//! upstreams needs decisions that it has no place for (validation on request, invalidation, all fields of a 304, variants, failures that
//! are shared). This room does not know routes, sessions or policies, does not fetch, and changes no answer but by
//! [`freshness::strip_for_store`] and [`validate::merge`].
//!
//! Lifetimes: a [`Zone`] lives as long as the process and survives reloads; policies and patterns belong to the
//! configuration; keys, facts and outcomes to a request.

pub mod conditions;
pub mod deception;
pub mod directives;
pub mod flights;
pub mod freshness;
pub mod invalidation;
pub mod key;
pub mod parts;
pub mod purge;
pub mod ranges;
mod refusals;
pub mod reuse;
pub mod status;
pub mod storage;
pub mod terms;
pub mod validate;
pub mod vary;

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use pingora_cache::key::{CacheHashKey, HashBinary};
use pingora_cache::trace::Span;
use pingora_cache::{CacheKey, CacheMeta, MissHandler, Storage};

use directives::Asked;
use flights::Flights;
use key::UrlHash;
pub use pingora_cache::HitHandler;
use purge::{Mode, Purge, Report, Run};
use refusals::Refusals;
pub use refusals::Refused;
use reuse::Reuse;
pub use storage::Took;
use storage::listing::{Cursor, Filter, Listed, Page};
use storage::{FillEpoch, How, Settings, Store, StoreStats};
use vary::Selecting;

use crate::exchange::content_length;
use crate::shm::arena::ArenaError;

/// One cache zone: a store and what goes with it, shared by all workers and all routes that name it. One per process today
/// (`cache` in the configuration).
pub struct Zone {
    store: &'static Store,
    /// Who fetches what at the moment.
    pub flights: Flights,
    refusals: Refusals,
    is_made_anew: bool,
}

/// Something that is stored, or being stored.
pub struct Found {
    /// Its head and its times.
    pub meta: CacheMeta,
    /// Its body, to be read once.
    pub body: HitHandler,
}

/// Why an answer is not being stored after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStored {
    /// Larger than an object may be.
    TooLarge,
    /// No room, or a body that is not as long as it said.
    Failed,
}

/// An object that is being written. Dropped before [`Writer::finish`], it fails: nothing stays, and its readers are cut.
pub struct Writer {
    handler: MissHandler,
    left: usize,
}

impl Writer {
    /// Writes a piece of the body.
    ///
    /// # Errors
    /// [`NotStored`]: the object is given up.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), NotStored> {
        let Some(left) = self.left.checked_sub(piece.len()) else {
            // The store says no as well, and counts it.
            let _ = self.handler.write_body(piece, false).await;
            return Err(NotStored::TooLarge);
        };
        self.left = left;
        self.handler.write_body(piece, false).await.map_err(|_| NotStored::Failed)
    }

    /// Makes the object visible as whole.
    ///
    /// # Errors
    /// [`NotStored`].
    pub async fn finish(self) -> Result<(), NotStored> {
        self.handler.finish().await.map(|_| ()).map_err(|_| NotStored::Failed)
    }
}

impl Zone {
    /// Opens a zone, or makes it. What is stored is served at once; storing begins in [`Self::keep_storing`]. Leaked on purpose: it must
    /// outlive every configuration. Call it when the process starts, before any key is made, not when it reloads.
    ///
    /// # Errors
    /// [`ArenaError`]: the memory cannot be had.
    pub fn new(settings: &Settings<'_>) -> Result<(&'static Self, How), ArenaError> {
        let (store, how) = Store::open(settings)?;
        let is_made_anew = matches!(how, How::MadeAnew { .. });
        let refusals = Refusals::new(Instant::now());
        let zone = Self { store, flights: Flights::default(), refusals, is_made_anew };
        Ok((Box::leak(Box::new(zone)), how))
    }

    /// Whether a file lay there at the start that could not be used, so that it began cold.
    #[must_use]
    pub fn is_made_anew(&self) -> bool {
        self.is_made_anew
    }

    /// One in private memory that stores at once, for what does not outlive the process.
    ///
    /// # Panics
    /// When the system gives no memory.
    pub fn private(capacity_bytes: usize, max_object_bytes: usize) -> &'static Self {
        let settings = Settings::private(capacity_bytes, max_object_bytes);
        let (zone, _) = Self::new(&settings).expect("private memory of a size that the tables fit into");
        zone.store.try_take().expect("locks on private memory");
        zone
    }

    /// Becomes the process that stores as soon as no other is, says so, and from then on takes back what processes that died had pinned.
    /// Ends when this one has given that up.
    pub async fn keep_storing(&'static self, took: impl FnOnce(Took) + Send) {
        loop {
            // It looks at every record: never on a worker that serves requests.
            match tokio::task::spawn_blocking(|| self.store.try_take()).await {
                Ok(Ok(Some(found))) => {
                    took(found);
                    break;
                }
                Ok(Ok(None)) if self.store.is_settled() => break,
                Ok(Ok(None)) => tokio::time::sleep(LEASE_POLL).await,
                Ok(Err(why)) => {
                    tracing::error!(%why, "the cache's file cannot be locked; nothing is stored");
                    return;
                }
                Err(_) => return,
            }
        }
        while self.stores() {
            tokio::time::sleep(CLEARED_EVERY).await;
            // It asks the system about each process that shares the file.
            let _ = tokio::task::spawn_blocking(|| self.store.clear_dead()).await;
        }
    }

    /// Whether this process stores. Where it does not, what it fetches is for those who wait for it.
    pub fn stores(&self) -> bool {
        self.store.is_writer()
    }

    /// Gives up storing for good, so that another process may: what is stored is served on, the rest passes by. For who is about to leave.
    pub fn release(&self) {
        self.store.release();
    }

    /// When a fetch begins: take it before the upstream is asked, stamp it into the meta that [`freshness::judge`] gives.
    pub fn epoch(&self) -> FillEpoch {
        self.store.epoch()
    }

    /// What is stored under a key for this request. The first object of a key says by its `Vary` which variant the request is answered
    /// with (RFC 9111 §4.1); `key` becomes that variant's, found or not.
    pub async fn find<'a>(
        &'static self,
        key: &mut CacheKey,
        request: impl Into<Selecting<'a>>,
    ) -> Option<Found> {
        let request = request.into();
        key.remove_variance_key();
        let first = self.look(key).await?;
        let Some(other) = other_variant(&first.meta, request) else { return Some(first) };
        key.set_variance_key(other);
        self.look(key).await.filter(|found| is_for(&found.meta, request))
    }

    async fn look(&'static self, key: &CacheKey) -> Option<Found> {
        // The store does not fail: what it cannot read is not there.
        let found = self.store.lookup(key, &Span::inactive().handle()).await.ok()??;
        Some(Found { meta: found.0, body: found.1 })
    }

    /// Opens the place of an answer to `request`. `key` as [`Self::find`] left it; it becomes that of the new object.
    ///
    /// # Errors
    /// [`NotStored`].
    pub async fn open<'a>(
        &'static self,
        key: &mut CacheKey,
        mut meta: CacheMeta,
        request: impl Into<Selecting<'a>>,
    ) -> Result<Writer, NotStored> {
        let variance = vary::variance(meta.headers(), request).hash();
        if key.variance_bin() != variance {
            // Another `Vary` than that of the first object, or none: this one is the first from now on.
            key.remove_variance_key();
        }
        if let Some(variance) = variance {
            meta.set_variance_key(variance);
        }
        let max = self.store.max_object_bytes();
        if content_length(meta.headers()).is_some_and(|length| length > max as u64) {
            return Err(NotStored::TooLarge);
        }
        let handler = self.store.get_miss_handler(key, &meta, &Span::inactive().handle()).await;
        Ok(Writer { handler: handler.map_err(|_| NotStored::Failed)?, left: max })
    }

    /// A hold on what is being written: its pieces count as memory of the cache for as long, whatever becomes of the object.
    pub async fn pin(&'static self, key: &CacheKey, writer: &Writer) -> Option<HitHandler> {
        let tag = writer.handler.streaming_write_tag()?;
        let found = self.store.lookup_streaming_write(key, Some(tag), &Span::inactive().handle()).await;
        Some(found.ok()??.1)
    }

    /// Gives a stored object a new head, as a 304 brought it. `stored` is what was found, `meta` the judgement on the merged head, `began`
    /// when it was asked for. False if another object is stored there by now, or what is there was purged since.
    pub async fn renew(
        &'static self,
        key: &CacheKey,
        stored: &CacheMeta,
        meta: &CacheMeta,
        began: FillEpoch,
    ) -> bool {
        let mut renewed = CacheMeta::new(
            meta.fresh_until(),
            // By this the store knows which object is meant.
            stored.created(),
            meta.stale_while_revalidate_sec(),
            meta.stale_if_error_sec(),
            meta.response_header_copy(),
        );
        renewed.set_epoch_override(meta.epoch());
        if let Some(variance) = stored.variance() {
            renewed.set_variance_key(variance);
        }
        terms::Terms::of(meta).stamp(&mut renewed);
        began.stamp(&mut renewed);
        self.store.update_meta(key, &renewed, &Span::inactive().handle()).await.unwrap_or(false)
    }

    /// Why requests of this key go by themselves, if an answer of it was found not to be storable lately.
    pub fn refused(&self, key: &CacheKey) -> Option<Refused> {
        self.refusals.holds(key, Instant::now)
    }

    /// An answer of this key is not for sharing: the next requests do not wait for one another.
    pub fn note_refusal(&self, key: &CacheKey, why: Refused) {
        self.refusals.note(key, why, Instant::now());
    }

    /// An answer of this key is storable again.
    pub fn forget_refusal(&self, key: &CacheKey) {
        self.refusals.forget(key);
    }

    /// Purges what is named, or, run dry, only counts it. Costs the same whatever is stored; what is fetched meanwhile is reached
    /// too. [`Purge::Urls`] is exact and counted; the rest is a ban, which the sweep applies later.
    pub fn purge(&'static self, what: &Purge, mode: Mode, run: Run) -> Report {
        let matched = match (what, run) {
            (Purge::Urls(urls), Run::Real) => urls.iter().map(|url| self.store.purge_url(*url, mode)).sum(),
            (Purge::Urls(urls), Run::Dry) => {
                Some(self.of_urls(urls).iter().map(|one| one.variants.len()).sum())
            }
            (Purge::Scope(scope), Run::Real) => {
                self.store.ban(scope, mode);
                None
            }
            (Purge::Scope(scope), Run::Dry) => Some(self.store.count(scope)),
        };
        Report { matched }
    }

    /// Everything that is stored for these URLs.
    pub fn of_urls(&'static self, urls: &[UrlHash]) -> Vec<Listed> {
        let now = SystemTime::now();
        urls.iter().flat_map(|url| self.store.of_url(*url, now)).collect()
    }

    /// Lists what is stored ([`Store::page`]).
    pub fn page(&'static self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Page {
        self.store.page(filter, after, limit, SystemTime::now())
    }

    /// Applies purges to what is stored, for as long as the process lives: a task of its own.
    pub async fn keep_swept(&'static self) {
        self.store.keep_swept().await;
    }

    /// Removes a key with all its variants. True if anything was stored.
    pub fn purge_key(&'static self, key: &CacheKey) -> bool {
        self.store.purge_key(&key.to_compact())
    }

    /// What is stored under a key for this request, for people: nothing is read, nothing becomes more recent.
    pub fn peek<'a>(
        &'static self,
        key: &CacheKey,
        request: impl Into<Selecting<'a>>,
        asked: &Asked,
        now: SystemTime,
    ) -> Peeked {
        let is_refused = self.refused(key).is_some();
        let request = request.into();
        let mut key = key.clone();
        let mut meta = self.store.peek(&key, now);
        if let Some(other) = meta.as_ref().and_then(|first| other_variant(first, request)) {
            key.set_variance_key(other);
            meta = self.store.peek(&key, now).filter(|meta| is_for(meta, request));
        }
        let stored = meta.map(|meta| Stored {
            status: meta.response_header().status.as_u16(),
            age_secs: meta.age().as_secs(),
            ttl_secs: status::seconds_between(now, meta.fresh_until()),
            reuse: reuse::reuse(&meta, asked, now),
            has_validator: validate::can_be_asked_about(meta.response_header()),
            while_revalidate_secs: meta.stale_while_revalidate_sec().into(),
            if_error_secs: meta.stale_if_error_sec().into(),
        });
        let is_under_way = self.flights.is_under_way(&key);
        Peeked { stored, is_refused, is_under_way }
    }

    /// Moves the times of everything that is kept, for a clock that is not the wall's. While no request is under way.
    pub fn shift(&'static self, shift: storage::Shift) {
        self.store.shift(shift);
        self.refusals.age(shift.passed);
    }

    /// Numbers for the metrics.
    pub fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// The store itself.
    pub fn store(&self) -> &'static Store {
        self.store
    }
}

/// What a cache holds for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// The object that would be served, if it is fresh enough.
    pub stored: Option<Stored>,
    /// Whether the answer was found lately not to be storable, so that requests do not wait for one another.
    pub is_refused: bool,
    /// Whether another request fetches it at the moment.
    pub is_under_way: bool,
}

/// A stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its status.
    pub status: u16,
    /// How old it is, in seconds.
    pub age_secs: u64,
    /// Seconds of freshness left; negative when stale.
    pub ttl_secs: i64,
    /// How it may be used for the request.
    pub reuse: Reuse,
    /// Whether the upstream can be asked if it still holds.
    pub has_validator: bool,
    /// How long after its freshness it is given while a new one is fetched, in seconds.
    pub while_revalidate_secs: i64,
    /// How long after its freshness it is given where the upstream fails, in seconds.
    pub if_error_secs: i64,
}

impl Stored {
    /// How long from now a window is still open that begins when the answer becomes stale, in seconds; 0 when it is over.
    #[must_use]
    pub fn left(&self, window_secs: i64) -> i64 {
        if window_secs == 0 { 0 } else { self.ttl_secs.saturating_add(window_secs).max(0) }
    }
}

impl std::fmt::Debug for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zone").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The variant that a request is answered with, by the `Vary` of the first object of its key, where that is not the first itself.
fn other_variant(first: &CacheMeta, request: Selecting<'_>) -> Option<HashBinary> {
    vary::variance(first.headers(), request).hash().filter(|wanted| first.variance() != Some(*wanted))
}

/// Whether a variant is still what its place says. A 304 may have given it another `Vary`; what its request said in those fields is not
/// known any more.
fn is_for(variant: &CacheMeta, request: Selecting<'_>) -> bool {
    vary::variance(variant.headers(), request).hash() == variant.variance()
}

/// How often the process that stores looks for others that died.
const CLEARED_EVERY: Duration = Duration::from_secs(5);
/// How often a process that may not store asks whether it may.
const LEASE_POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod heads;
#[cfg(test)]
mod tests;
