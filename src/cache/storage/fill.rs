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
//! whole. The bytes go into the arena as they come, and readers read them there. Where this process may not write to the arena, or may not
//! any more, they stay on the heap: the fill serves those who follow it, and is not stored.

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

use super::Store;
use super::head::Head;
use super::slot::Slot;
use crate::cache::purge::{Effect, Object};
use crate::shm::arena::{Draft, Pinned};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Filling,
    Complete,
    Failed,
}

/// Where the bytes of a fill lie.
#[derive(Debug)]
enum Kept {
    /// In the arena, and nobody finds them there yet.
    Draft(Draft),
    /// In the arena, as a stored object.
    Object(Pinned),
    /// Nowhere but on the heap.
    Heap,
}

#[derive(Debug)]
struct Progress {
    phase: Phase,
    len: usize,
    kept: Kept,
    /// How many of the bytes lie in the arena; the rest is on the heap.
    in_arena: usize,
    on_heap: Vec<Bytes>,
}

/// A running fill, shared by its writer and its readers.
#[derive(Debug)]
pub(super) struct Fill {
    store: &'static Store,
    pub(super) id: u64,
    pub(super) slot: Slot,
    pub(super) head: Head,
    /// When the fetch began, counted in purges.
    pub(super) began: u64,
    /// Where the body begins in the draft: behind as much as the head may take in the end.
    body_at: usize,
    progress: Mutex<Progress>,
    /// Says "look again"; what there is to see is in `progress`. Lives as long as any reader, so waiting cannot hang.
    wake: watch::Sender<()>,
    /// Set under the lock of its place when a purge of the key came after the fill began.
    doomed: AtomicBool,
    /// Set under the same lock when a soft purge of the key came after the fill began: it will be stored, stale from then on.
    stale_from: OnceLock<SystemTime>,
}

impl Fill {
    pub(super) fn new(
        store: &'static Store,
        id: u64,
        slot: Slot,
        (head, body_at): (Head, usize),
        began: u64,
        draft: Option<Draft>,
    ) -> Self {
        let kept = draft.map_or(Kept::Heap, Kept::Draft);
        let progress = Progress { phase: Phase::Filling, len: 0, kept, in_arena: 0, on_heap: Vec::new() };
        let (wake, _) = watch::channel(());
        let (doomed, stale_from) = (AtomicBool::new(false), OnceLock::new());
        let progress = Mutex::new(progress);
        Self { store, id, slot, head, began, body_at, progress, wake, doomed, stale_from }
    }

    pub(super) fn key(&self) -> &[u8] {
        self.head.key()
    }

    /// What bans look at.
    pub(super) fn object(&self) -> Object<'_> {
        Object { key: self.head.key(), tags: self.head.tags(), began: self.began, url: self.slot.url() }
    }

    /// Takes in what a purge makes of it. Nobody finds it any more, but readers that are attached still get their body: they asked
    /// before the purge.
    pub(super) fn strike(&self, effect: Effect) {
        match effect {
            Effect::Spared => {}
            // Relaxed: written and read under the lock of its place.
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

impl Drop for Fill {
    fn drop(&mut self) {
        if let Kept::Draft(draft) = std::mem::replace(&mut self.progress.get_mut().kept, Kept::Heap) {
            self.store.discard(draft);
        }
    }
}

/// Follows a fill from its first byte.
pub(super) struct FillReader {
    fill: Arc<Fill>,
    wake: watch::Receiver<()>,
    read: usize,
}

impl FillReader {
    pub(super) fn new(fill: Arc<Fill>) -> Self {
        let wake = fill.wake.subscribe();
        Self { fill, wake, read: 0 }
    }

    /// What there is to read now; `None` means wait.
    fn poll(&mut self) -> Option<Result<Option<Bytes>>> {
        let progress = self.fill.progress.lock();
        if progress.phase == Phase::Failed {
            return Some(Err(internal("the fill of this object failed")));
        }
        if self.read == progress.len {
            return (progress.phase == Phase::Complete).then_some(Ok(None));
        }
        let piece = progress.piece(self.read, self.fill.body_at);
        drop(progress);
        Some(match piece {
            Some(piece) => {
                self.read += piece.len();
                Ok(Some(piece))
            }
            None => Err(internal("a piece of this object is missing")),
        })
    }
}

impl Progress {
    /// Bytes of the body from a position on.
    fn piece(&self, from: usize, body_at: usize) -> Option<Bytes> {
        if from < self.in_arena {
            let length = (self.in_arena - from).min(PIECE_BYTES);
            return match &self.kept {
                Kept::Draft(draft) => draft.read(body_at + from, length),
                Kept::Object(pinned) => pinned.body(from, from + length),
                Kept::Heap => None,
            };
        }
        let mut at = from - self.in_arena;
        for chunk in &self.on_heap {
            if at < chunk.len() {
                return Some(chunk.slice(at..));
            }
            at -= chunk.len();
        }
        None
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
                return Err(internal("the writer of this object is gone"));
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
    store: &'static Store,
    fill: Arc<Fill>,
    tag: U64WriteId,
    declared: Option<usize>,
    sum: crc32fast::Hasher,
    /// Whether it is counted already why this is not stored.
    is_counted: bool,
    settled: bool,
}

impl FillWriter {
    pub(super) fn new(store: &'static Store, fill: Arc<Fill>) -> Self {
        let (tag, declared) = (U64WriteId::from(fill.id), fill.head.content_length());
        Self { store, fill, tag, declared, sum: crc32fast::Hasher::new(), is_counted: false, settled: false }
    }

    fn accept(&mut self, data: &Bytes) -> Result<()> {
        let mut progress = self.fill.progress.lock();
        if progress.phase != Phase::Filling {
            return Err(internal("write to a fill that has ended"));
        }
        let len = progress.len + data.len();
        if self.declared.is_some_and(|declared| len > declared) {
            return Err(internal("body longer than its content-length"));
        }
        if len > self.store.max_object_bytes() {
            self.is_counted = true;
            self.store.counts().too_large.fetch_add(1, Ordering::Relaxed);
            return Err(internal("object larger than the cache takes"));
        }
        self.sum.update(data);
        let written = self.write(&mut progress, data);
        self.is_counted |= written.is_err();
        written?;
        progress.len = len;
        drop(progress);
        self.fill.wake.send_replace(());
        Ok(())
    }

    /// Puts bytes behind those that there are.
    fn write(&self, progress: &mut Progress, data: &Bytes) -> Result<()> {
        let mut written = 0;
        if progress.on_heap.is_empty() {
            while let Kept::Draft(draft) = &mut progress.kept {
                written += draft.write(self.fill.body_at + progress.len + written, &data[written..]);
                if written == data.len() {
                    break;
                }
                let more = draft.capacity().clamp(data.len() - written, GROWTH_BYTES.max(data.len()));
                match self.store.grow(draft, more) {
                    Some(Ok(())) => {}
                    Some(Err(_)) => return Err(internal("no room in the cache")),
                    // The lease went while this was written: the rest is for those who follow it.
                    None => break,
                }
            }
            progress.in_arena += written;
        }
        if written < data.len() {
            progress.on_heap.push(data.slice(written..));
        }
        Ok(())
    }

    fn fail(&mut self) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        // Out of sight first, so that nobody attaches to a fill that has failed.
        self.store.end_fill(&self.fill);
        self.fill.end(Phase::Failed);
        if !self.is_counted {
            self.store.counts().failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The draft and what it becomes, if all of it lies in the arena.
    fn complete(&self, progress: &mut Progress) -> Option<(Draft, Head)> {
        if progress.in_arena < progress.len {
            return None;
        }
        let head = self.fill.head.with_length(progress.len);
        let fits = head.as_bytes().len() <= self.fill.body_at;
        let kept = std::mem::replace(&mut progress.kept, Kept::Heap);
        match kept {
            Kept::Draft(draft) if fits => {
                draft.write(0, head.as_bytes());
                Some((draft, head))
            }
            kept => {
                progress.kept = kept;
                None
            }
        }
    }
}

#[async_trait]
impl HandleMiss for FillWriter {
    async fn write_body(&mut self, data: Bytes, _eof: bool) -> Result<()> {
        // The end is what `finish` says, because only then the length was compared.
        if data.is_empty() {
            return Ok(());
        }
        self.accept(&data).inspect_err(|_| self.fail())
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        if self.settled {
            return Err(internal("the fill has failed before"));
        }
        let len = self.fill.progress.lock().len;
        if self.declared.is_some_and(|declared| declared != len) {
            self.fail();
            return Err(internal("body shorter than its content-length"));
        }
        self.settled = true;
        let sum = std::mem::take(&mut self.sum).finalize();
        let mut progress = self.fill.progress.lock();
        match self.complete(&mut progress) {
            Some((draft, head)) => {
                let (body_at, in_arena) = (self.fill.body_at, progress.in_arena);
                let body = super::Body { at: body_at, bytes: in_arena, sum };
                progress.kept = match self.store.commit(&self.fill, draft, &head, body) {
                    Ok(pinned) => pinned.map_or(Kept::Heap, Kept::Object),
                    Err(draft) => Kept::Draft(draft),
                };
            }
            None => {
                self.store.counts().no_lease.fetch_add(1, Ordering::Relaxed);
                self.store.end_fill(&self.fill);
            }
        }
        drop(progress);
        self.fill.end(Phase::Complete);
        Ok(MissFinishType::Created(len))
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

fn internal(why: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InternalError, why)
}

/// The most bytes of a body that are handed out at once.
pub(super) const PIECE_BYTES: usize = 256 * 1024;
/// The most room that a body of unknown length takes at once.
const GROWTH_BYTES: usize = 1 << 20;
