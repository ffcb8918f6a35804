//! Writing an object while others already read it.
//!
//! ```text
//!            write_body            finish, length right
//!   Filling ───────────▶ Filling ───────────────────────▶ Complete   readers reach the end
//!      │                                                             (stored, unless a purge came between)
//!      └── dropped, too large, no room, wrong length ───▶ Failed     readers get an error: their connection is cut
//! ```
//!
//! A reader is never told that a body ended when it did not: a dying upstream must not become a truncated answer that looks
//! whole. Room is taken chunk by chunk before a chunk is kept, so running fills count like stored objects.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pingora::{Error, ErrorType, Result};
use pingora_cache::storage::streaming_write::U64WriteId;
use pingora_cache::storage::{HandleHit, HandleMiss, MissFinishType, Storage};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheEntryId, CacheKey};
use tokio::sync::watch;

use super::HeapStore;
use super::entry::{Body, CHUNK_OVERHEAD_BYTES, Entry, Head, Slot, cost};
use super::ledger::Held;
use crate::cache::purge::{Effect, Object};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Filling,
    Complete,
    Failed,
}

#[derive(Debug)]
struct Progress {
    chunks: Vec<Bytes>,
    len: usize,
    phase: Phase,
    held: Held,
    /// Once it is complete: answers for the memory as long as somebody follows the fill, also when it was evicted meanwhile.
    body: Option<Arc<Body>>,
}

/// A running fill, shared by its writer and its readers.
#[derive(Debug)]
pub(super) struct Fill {
    pub(super) id: u64,
    pub(super) slot: Slot,
    pub(super) key: Arc<[u8]>,
    pub(super) head: Head,
    /// When the fetch began, counted in purges.
    pub(super) began: u64,
    progress: Mutex<Progress>,
    /// Says "look again"; what there is to see is in `progress`. Lives as long as any reader, so waiting cannot hang.
    wake: watch::Sender<()>,
    /// Set under the shard's lock when a purge of the key came after the fill began.
    doomed: AtomicBool,
    /// Set under the shard's lock when a soft purge of the key came after the fill began: it will be stored, stale from then on.
    stale_from: OnceLock<SystemTime>,
}

impl Fill {
    pub(super) fn new(id: u64, slot: Slot, key: Arc<[u8]>, head: Head, began: u64, held: Held) -> Self {
        let progress =
            Mutex::new(Progress { chunks: Vec::new(), len: 0, phase: Phase::Filling, held, body: None });
        let (wake, _) = watch::channel(());
        let (doomed, stale_from) = (AtomicBool::new(false), OnceLock::new());
        Self { id, slot, key, head, began, progress, wake, doomed, stale_from }
    }

    /// What bans look at.
    pub(super) fn object(&self) -> Object<'_> {
        Object { key: &self.key, tags: self.head.tags(), began: self.began }
    }

    /// Takes in what a purge makes of it. Nobody finds it any more, but readers that are attached still get their body: they asked
    /// before the purge.
    pub(super) fn strike(&self, effect: Effect) {
        match effect {
            Effect::Spared => {}
            // Relaxed: written and read under the shard's lock.
            Effect::Gone => self.doomed.store(true, Ordering::Relaxed),
            Effect::StaleFrom(at) => {
                // The first counts.
                let _ = self.stale_from.set(at);
            }
        }
    }

    /// Whether no purge struck it.
    pub(super) fn is_spared(&self) -> bool {
        !self.is_doomed() && self.stale_from.get().is_none()
    }

    pub(super) fn stale_from(&self) -> Option<SystemTime> {
        self.stale_from.get().copied()
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Relaxed)
    }

    fn end(&self, phase: Phase) {
        self.progress.lock().phase = phase;
        self.wake.send_replace(());
    }
}

/// Follows a fill from its first byte.
pub(super) struct FillReader {
    fill: Arc<Fill>,
    wake: watch::Receiver<()>,
    next: usize,
}

impl FillReader {
    pub(super) fn new(fill: Arc<Fill>) -> Self {
        let wake = fill.wake.subscribe();
        Self { fill, wake, next: 0 }
    }

    /// What there is to read now; `None` means wait.
    fn poll(&mut self) -> Option<Result<Option<Bytes>>> {
        let progress = self.fill.progress.lock();
        match (progress.phase, progress.chunks.get(self.next)) {
            (Phase::Failed, _) => {
                Some(Err(Error::explain(ErrorType::ReadError, "the fill of this object failed")))
            }
            (_, Some(chunk)) => {
                self.next += 1;
                Some(Ok(Some(chunk.clone())))
            }
            (Phase::Complete, None) => Some(Ok(None)),
            (Phase::Filling, None) => None,
        }
    }
}

#[async_trait]
impl HandleHit for FillReader {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        loop {
            // Marked as seen before looking: a change after the look wakes the wait below.
            self.wake.borrow_and_update();
            if let Some(ready) = self.poll() {
                return ready;
            }
            if self.wake.changed().await.is_err() {
                return Err(Error::explain(ErrorType::InternalError, "the writer of this object is gone"));
            }
        }
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn should_count_access(&self) -> bool {
        false
    }

    fn entry_id(&self) -> Option<CacheEntryId> {
        Some(CacheEntryId::new(self.fill.id))
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// The writing end. Dropping it before `finish` fails the fill.
pub(super) struct FillWriter {
    store: &'static HeapStore,
    fill: Arc<Fill>,
    tag: U64WriteId,
    /// Room taken so far, given back unless the object is stored.
    taken: usize,
    /// How much of it is in use.
    spent: usize,
    declared: Option<usize>,
    settled: bool,
}

impl FillWriter {
    /// `base` is the price of the object without its body, `body` the room taken for a body of declared length.
    pub(super) fn new(store: &'static HeapStore, fill: Arc<Fill>, base: usize, body: usize) -> Self {
        let (tag, declared) = (U64WriteId::from(fill.id), fill.head.declared_length());
        Self { store, fill, tag, taken: base + body, spent: base, declared, settled: false }
    }

    fn accept(&mut self, data: Bytes) -> Result<()> {
        let len = {
            let progress = self.fill.progress.lock();
            if progress.phase != Phase::Filling {
                return Err(Error::explain(ErrorType::InternalError, "write to a fill that has ended"));
            }
            progress.len + data.len()
        };
        if self.declared.is_some_and(|declared| len > declared) {
            return Err(Error::explain(ErrorType::InternalError, "body longer than its content-length"));
        }
        if len > self.store.max_object_bytes() {
            self.store.ledger().rejected_too_large.fetch_add(1, Ordering::Relaxed);
            return Err(Error::explain(ErrorType::InternalError, "object larger than the cache takes"));
        }
        let spent = self.spent + data.len() + CHUNK_OVERHEAD_BYTES;
        let more = spent.saturating_sub(self.taken);
        if more > 0 && !self.store.make_room(more) {
            return Err(Error::explain(ErrorType::InternalError, "no room in the cache"));
        }
        self.taken += more;
        self.spent = spent;
        let mut progress = self.fill.progress.lock();
        progress.held.grow(data.len());
        progress.len = len;
        progress.chunks.push(data);
        drop(progress);
        self.fill.wake.send_replace(());
        Ok(())
    }

    fn fail(&mut self) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        // Out of sight first, so that nobody attaches to a fill that has failed.
        self.store.end_fill(&self.fill);
        self.fill.end(Phase::Failed);
        self.store.ledger().give(std::mem::take(&mut self.taken));
        self.store.ledger().fills_failed.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl HandleMiss for FillWriter {
    async fn write_body(&mut self, data: Bytes, _eof: bool) -> Result<()> {
        // The end is what `finish` says, because only then the length was compared.
        if data.is_empty() {
            return Ok(());
        }
        self.accept(data).inspect_err(|_| self.fail())
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        if self.settled {
            return Err(Error::explain(ErrorType::InternalError, "the fill has failed before"));
        }
        let (chunks, len, held) = {
            let mut progress = self.fill.progress.lock();
            // The body answers for the memory from here on.
            let held = std::mem::replace(&mut progress.held, self.store.ledger().hold(0));
            (progress.chunks.clone(), progress.len, held)
        };
        if self.declared.is_some_and(|declared| declared != len) {
            self.fail();
            return Err(Error::explain(ErrorType::InternalError, "body shorter than its content-length"));
        }
        let body = Arc::new(Body::new(chunks, len, held));
        let head = self.fill.head.with_length(len);
        let price = cost(&self.fill.key, &head, body.len(), body.chunk_count());
        if price > self.taken && !self.store.make_room(price - self.taken) {
            self.fail();
            return Err(Error::explain(ErrorType::InternalError, "no room in the cache"));
        }
        self.store.ledger().give(self.taken.saturating_sub(price));
        self.taken = 0;
        self.settled = true;
        let began = self.fill.began;
        let entry = Entry::new(self.fill.id, Arc::clone(&self.fill.key), head, Arc::clone(&body), began);
        self.fill.progress.lock().body = Some(body);
        self.store.commit(&self.fill, entry);
        self.fill.end(Phase::Complete);
        Ok(MissFinishType::Created(price))
    }

    fn streaming_write_tag(&self) -> Option<&[u8]> {
        Some(self.tag.as_bytes())
    }

    fn entry_id(&self) -> Option<CacheEntryId> {
        Some(CacheEntryId::new(self.fill.id))
    }
}

impl Drop for FillWriter {
    fn drop(&mut self) {
        self.fail();
    }
}
