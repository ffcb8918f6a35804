//! The store as the framework's storage interface has it ([`Storage`]): what the engine in `proxy/cache` works with.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::SystemTime;

use async_trait::async_trait;
use pingora::Result;
use pingora_cache::storage::streaming_write::U64WriteId;
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheEntryId, CacheKey, CacheMeta, HitHandler, MissHandler, Storage};
use pingora_cache::{PurgeOutcome, PurgeTarget, PurgeType};

use super::fill::{Fill, FillReader, FillWriter};
use super::head::Head;
use super::hit::Hit;
use super::slot::Slot;
use super::{FillEpoch, Found, Store, internal};
use crate::cache::purge::{Effect, Object};

#[async_trait]
impl Storage for Store {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let found = self.find(Slot::of(key), key.primary_key(), SystemTime::now);
        Ok(found.map(|found| match found {
            Found::Object(pinned, head, stale_from) => {
                pinned.touch();
                (head.to_meta(stale_from), Box::new(Hit::new(pinned)) as HitHandler)
            }
            Found::Fill(fill) => (fill.head.to_meta(None), Box::new(FillReader::new(fill)) as HitHandler),
        }))
    }

    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        tag: Option<&[u8]>,
        trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let Some(Ok(id)) = tag.map(U64WriteId::try_from) else { return self.lookup(key, trace).await };
        // Found by its id and not by its key: a purge in between must not take the leader's body away.
        let fill = self.fills.by_id(Slot::of(key), id.into());
        Ok(fill.map(|fill| (fill.head.to_meta(None), Box::new(FillReader::new(fill)) as HitHandler)))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<MissHandler> {
        let slot = Slot::of(key);
        let began = meta.extensions().get::<FillEpoch>().copied().unwrap_or_else(|| self.epoch());
        let Ok(head) = Head::encode(key.primary_key(), meta) else {
            self.counts.too_large.fetch_add(1, Relaxed);
            return Err(internal("head larger than the cache takes"));
        };
        let declared = head.content_length();
        if declared.is_some_and(|len| len > self.max_object_bytes) {
            self.counts.too_large.fetch_add(1, Relaxed);
            return Err(internal("object larger than the cache takes"));
        }
        let body_at =
            head.as_bytes().len() + if declared.is_none() { super::head::LENGTH_FIELD_BYTES } else { 0 };
        // A declared body gets its room at once: refused now, the answer just passes by; refused half-way, its readers are cut.
        let draft = match self.room(body_at, declared) {
            Some(Ok(draft)) => Some(draft),
            Some(Err(_)) => return Err(internal("no room in the cache")),
            None => None,
        };
        let id = self.arena.next_sequence();
        let fill = Arc::new(Fill::new(self, id, slot, (head, body_at), began.0, draft));
        // Judged under the lock: a sweep that has passed here would not see the fill.
        let mut place = self.fills.place(slot);
        place.begin(&fill, self.table.effect_on_new(&fill.object()));
        self.counts.fills.fetch_add(1, Release);
        drop(place);
        Ok(Box::new(FillWriter::new(self, fill)))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _why: PurgeType,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let struck = self.strike(Slot::of(target.key()), number_of(&target), Effect::Gone);
        let struck = struck.first().map(|id| PurgeOutcome::Purged(Some(CacheEntryId::new(*id))));
        Ok(struck.unwrap_or(PurgeOutcome::NotFound))
    }

    async fn expire(&'static self, target: PurgeTarget<'_>, _trace: &SpanHandle) -> Result<PurgeOutcome> {
        let effect = Effect::StaleFrom(SystemTime::now());
        let struck = self.strike(Slot::of(target.key()), number_of(&target), effect);
        Ok(if struck.is_empty() { PurgeOutcome::NotFound } else { PurgeOutcome::Expired })
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<bool> {
        let slot = Slot::of(key);
        let Some(pinned) = self.arena.find(slot.primary, slot.folded()) else { return Ok(false) };
        let Some(old) = pinned.head().and_then(|head| Head::read(head).ok()) else { return Ok(false) };
        // `created` is carried over from what was looked up. Another value, or other validators, mean that another object is stored by now,
        // and a 304 about the old one says nothing about it.
        if *old.key() != *key.primary_key() || old.created() != meta.created() {
            return Ok(false);
        }
        let began = meta.extensions().get::<FillEpoch>().copied().unwrap_or_else(|| self.epoch());
        let Ok(head) = Head::encode(key.primary_key(), meta) else { return Ok(false) };
        let head = head.with_length(pinned.body_bytes());
        if !old.describes_same_body(&head) {
            return Ok(false);
        }
        // Judged under the lock, as a fill is. An answer from before a purge makes nothing fresh, and what is gone does not come
        // back.
        let place = self.fills.place(slot);
        let object = Object { key: old.key(), tags: old.tags(), began: pinned.began(), url: slot.url() };
        let effect = self.table.effect_on_new(&Object { began: began.0, ..object });
        let is_purged = effect != Effect::Spared
            || self.table.effect(&object) == Effect::Gone
            || place.is_struck(slot, began.0);
        let (record, sequence) = (pinned.record(), pinned.sequence());
        // Its own pin would keep the old head.
        drop(pinned);
        let mut desk = self.desk.lock();
        let Some(desk) = desk.as_mut().filter(|desk| !is_purged && desk.is_there(record, sequence)) else {
            return Ok(false);
        };
        Ok(desk.put_head(record, head.as_bytes(), began.0))
    }

    fn support_streaming_partial_write(&self) -> bool {
        true
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

fn number_of(target: &PurgeTarget<'_>) -> Option<u64> {
    match target {
        PurgeTarget::Active(_) => None,
        PurgeTarget::Exact(entry) => entry.entry_id().map(CacheEntryId::get),
    }
}
