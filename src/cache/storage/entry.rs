//! One stored object: a parsed head, an immutable body, and what eviction needs to know.
//!
//! Nothing is encoded: a hit clones a header map and hands out reference-counted slices of the body.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, VARY};
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;
use pingora_cache::key::{CacheHashKey, HashBinary};

use super::Shift;
use super::ledger::Held;
use crate::cache::purge::Object;
use crate::cache::terms::Terms;
use crate::exchange::content_length;

/// Where an object lies: the hash of the key and, for every variant but the first, the hash of the request headers that
/// select it. All slots of one primary hash live in the same shard, so one lock covers a whole family of variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) primary: u128,
    pub(super) variance: Option<u128>,
}

impl Slot {
    pub(super) fn of(key: &impl CacheHashKey) -> Self {
        Self {
            primary: u128::from_le_bytes(key.primary_bin()),
            variance: key.variance_bin().map(u128::from_le_bytes),
        }
    }
}

/// The pieces of a [`CacheMeta`] as fields, with the header without its map of original letter case.
///
/// `CacheMeta` cannot be cloned and cannot be built with a `provenance` of its own (the framework's tombstone for variants).
/// Both uses of it survive: in the primary slot only the provenance matters, so it takes the place of `created` there; in a
/// variant's slot only `created` is compared. The age is kept exact by the epoch.
#[derive(Debug)]
pub(super) struct Head {
    fresh_until: SystemTime,
    pub(super) created: SystemTime,
    epoch: SystemTime,
    stale_while_revalidate_sec: u32,
    stale_if_error_sec: u32,
    variance: Option<HashBinary>,
    terms: Terms,
    header: ResponseHeader,
}

impl Head {
    pub(super) fn from_meta(meta: &CacheMeta, slot: Slot) -> Self {
        Self {
            fresh_until: meta.fresh_until(),
            created: if slot.variance.is_none() { meta.provenance() } else { meta.created() },
            epoch: meta.epoch(),
            stale_while_revalidate_sec: meta.stale_while_revalidate_sec(),
            stale_if_error_sec: meta.stale_if_error_sec(),
            variance: meta.variance(),
            terms: Terms::of(meta),
            header: copied(meta.response_header()),
        }
    }

    /// The meta of it; `stale_from` is since when a purge made it stale, if one did.
    pub(super) fn to_meta(&self, stale_from: Option<SystemTime>) -> CacheMeta {
        let mut meta = CacheMeta::new(
            self.fresh_until(stale_from),
            self.created,
            self.stale_while_revalidate_sec,
            self.stale_if_error_sec,
            self.header.clone(),
        );
        if self.epoch != self.created {
            meta.set_epoch_override(self.epoch);
        }
        if let Some(variance) = self.variance {
            meta.set_variance(variance);
        }
        self.terms.clone().stamp(&mut meta);
        meta
    }

    /// The same head, stale from `instant` on; the windows for serving stale run from there.
    pub(super) fn expired_at(&self, instant: SystemTime) -> Self {
        Self {
            fresh_until: self.fresh_until.min(instant),
            header: self.header.clone(),
            terms: self.terms.clone(),
            ..*self
        }
    }

    /// The same head after a [`Shift`] of the clock.
    pub(super) fn shifted(&self, shift: Shift) -> Self {
        // An answer that was old when it came has its epoch before it was stored; one that was renewed, after.
        let stored_at = self.created.max(self.epoch);
        Self {
            fresh_until: shift.of(self.fresh_until, stored_at),
            created: shift.of(self.created, self.created),
            epoch: shift.of(self.epoch, stored_at),
            header: self.header.clone(),
            terms: self.terms.clone(),
            ..*self
        }
    }

    /// A stored object whose length is now known says so: without it a hit could not be asked for ranges.
    pub(super) fn with_length(&self, len: usize) -> Self {
        let mut header = self.header.clone();
        if !header.headers.contains_key(CONTENT_LENGTH) && may_have_length(header.status.as_u16()) {
            // Cannot fail: the name is static and digits are a valid value. An error would only lose ranges.
            let _ = header.insert_header(CONTENT_LENGTH, len);
        }
        Self { header, terms: self.terms.clone(), ..*self }
    }

    /// The body length the upstream declared, if it did.
    pub(super) fn declared_length(&self) -> Option<usize> {
        usize::try_from(content_length(&self.header.headers)?).ok()
    }

    /// False if the length differs: then the other head is about another body.
    pub(super) fn describes_same_body(&self, other: &Self) -> bool {
        self.header.headers.get(CONTENT_LENGTH) == other.header.headers.get(CONTENT_LENGTH)
    }

    /// The lines of `Vary`.
    pub(super) fn vary_lines(&self) -> impl Iterator<Item = &HeaderValue> {
        self.header.headers.get_all(VARY).iter()
    }

    /// Until when it is fresh; `stale_from` as in [`Self::to_meta`].
    pub(super) fn fresh_until(&self, stale_from: Option<SystemTime>) -> SystemTime {
        stale_from.map_or(self.fresh_until, |at| self.fresh_until.min(at))
    }

    /// The names by which it can be purged.
    pub(super) fn tags(&self) -> &[Box<str>] {
        &self.terms.tags
    }

    /// The head as it is stored.
    pub(super) fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Since when its age counts.
    pub(super) fn epoch(&self) -> SystemTime {
        self.epoch
    }

    /// What the head costs in memory, estimated from above.
    pub(super) fn bytes(&self) -> usize {
        let fields = &self.header.headers;
        let fields: usize =
            fields.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES).sum();
        fields + self.terms.tags.iter().map(|tag| tag.len() + TAG_OVERHEAD_BYTES).sum::<usize>()
    }
}

/// A copy of a head whose values share one buffer of their own. The values of a parsed head are slices of the buffer it was
/// read into, which would stay in memory, uncounted, as long as the object.
fn copied(head: &ResponseHeader) -> ResponseHeader {
    let mut buffer = BytesMut::with_capacity(head.headers.values().map(HeaderValue::len).sum());
    head.headers.values().for_each(|value| buffer.extend_from_slice(value.as_bytes()));
    let mut buffer = buffer.freeze();
    let mut parts = head.as_owned_parts();
    for value in parts.headers.values_mut() {
        let own = buffer.split_to(value.len().min(buffer.len()));
        // The bytes were a valid value before; were they not, the old value would do as well.
        *value = HeaderValue::from_maybe_shared(own).unwrap_or_else(|_| value.clone());
    }
    ResponseHeader::from(parts)
}

fn may_have_length(status: u16) -> bool {
    status >= 200 && status != 204 && status != 304
}

/// The bytes of an object in order. Never changes once built.
#[derive(Debug)]
pub(super) struct Body {
    chunks: Box<[Bytes]>,
    len: usize,
    _held: Held,
}

impl Body {
    /// Builds the body of a finished fill. Small bodies and bodies in crumbs are copied together, so a stored object does
    /// not keep the larger read buffers alive that its pieces were cut from; larger ones keep their pieces.
    pub(super) fn new(chunks: Vec<Bytes>, len: usize, held: Held) -> Self {
        let crumbs = chunks.len() > 1 + len / CRUMB_BYTES;
        let chunks = if len <= ONE_CHUNK_BYTES || crumbs { copied_together(&chunks, len) } else { chunks };
        Self { chunks: chunks.into_boxed_slice(), len, _held: held }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn chunk(&self, index: usize) -> Option<&Bytes> {
        self.chunks.get(index)
    }

    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }
}

fn copied_together(chunks: &[Bytes], len: usize) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(len.div_ceil(PIECE_BYTES));
    let mut left = len;
    let mut piece = BytesMut::with_capacity(left.min(PIECE_BYTES));
    for chunk in chunks {
        let mut rest = chunk.clone();
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(PIECE_BYTES - piece.len()));
            piece.extend_from_slice(&part);
            if piece.len() == PIECE_BYTES {
                left = left.saturating_sub(PIECE_BYTES);
                let next = BytesMut::with_capacity(left.min(PIECE_BYTES));
                pieces.push(std::mem::replace(&mut piece, next).freeze());
            }
        }
    }
    if !piece.is_empty() {
        pieces.push(piece.freeze());
    }
    pieces
}

/// The queue of the eviction policy an entry stands in. Changed under the shard's write lock only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// New objects: most of them are never asked for again and leave from here.
    Small,
    /// Objects that were asked for again.
    Main,
}

/// One stored object.
#[derive(Debug)]
pub(super) struct Entry {
    /// Generation: a different number for each fill.
    pub(super) id: u64,
    /// Names the place in the queues; kept when a newer generation takes the slot, so a refreshed object stays as hot.
    pub(super) ticket: u64,
    /// The framed key in full: a collision of hashes is a miss, never somebody else's answer.
    pub(super) key: Arc<[u8]>,
    pub(super) head: Head,
    pub(super) body: Arc<Body>,
    pub(super) cost: usize,
    /// When the fetch of the head began, counted in purges.
    pub(super) began: u64,
    hits: AtomicU8,
    lane: AtomicU8,
}

impl Entry {
    pub(super) fn new(id: u64, key: Arc<[u8]>, head: Head, body: Arc<Body>, began: u64) -> Self {
        let cost = cost(&key, &head, body.len(), body.chunk_count());
        let (hits, lane) = (AtomicU8::new(0), AtomicU8::new(0));
        Self { id, ticket: id, key, head, body, cost, began, hits, lane }
    }

    /// What bans look at.
    pub(super) fn object(&self) -> Object<'_> {
        Object { key: &self.key, tags: self.head.tags(), began: self.began }
    }

    /// The next generation in this one's place in the queues.
    pub(super) fn succeed(&mut self, old: &Self) {
        self.ticket = old.ticket;
        self.hits = AtomicU8::new(old.hits());
        self.lane = AtomicU8::new(old.lane.load(Relaxed));
    }

    /// The same generation with another head, whose fetch `began` then.
    pub(super) fn with_head(&self, head: Head, began: u64) -> Self {
        let mut entry = Self::new(self.id, Arc::clone(&self.key), head, Arc::clone(&self.body), began);
        entry.succeed(self);
        entry
    }

    /// Counts a hit. Saturates at once on hot objects, so their cache line is only read.
    pub(super) fn touch(&self) {
        let hits = self.hits();
        if hits < MAX_HITS {
            self.hits.store(hits + 1, Relaxed);
        }
    }

    /// Recent hits, 0 to [`MAX_HITS`]. A lost increment between two threads does not matter.
    pub(super) fn hits(&self) -> u8 {
        self.hits.load(Relaxed)
    }

    pub(super) fn set_hits(&self, hits: u8) {
        self.hits.store(hits, Relaxed);
    }

    pub(super) fn lane(&self) -> Lane {
        if self.lane.load(Relaxed) == 0 { Lane::Small } else { Lane::Main }
    }

    pub(super) fn set_lane(&self, lane: Lane) {
        self.lane.store(if lane == Lane::Small { 0 } else { 1 }, Relaxed);
    }
}

/// The price of an object in bytes: body, head, key, and an estimate from above of what keeps track of them.
pub(super) fn cost(key: &[u8], head: &Head, body_len: usize, chunks: usize) -> usize {
    ENTRY_OVERHEAD_BYTES + key.len() + head.bytes() + body_len + chunks * CHUNK_OVERHEAD_BYTES
}

/// The most hits that are remembered, as in the S3-FIFO paper (SOSP 2023).
pub(super) const MAX_HITS: u8 = 3;
/// Entry, map slot, queue place, two reference counts.
const ENTRY_OVERHEAD_BYTES: usize = 640;
/// A header map's bucket, index and allocation of a value.
const FIELD_OVERHEAD_BYTES: usize = 128;
/// A tag's place in the list and its allocation.
const TAG_OVERHEAD_BYTES: usize = 48;
/// A `Content-Length` that is added when the length is known.
pub(super) const LENGTH_FIELD_BYTES: usize = FIELD_OVERHEAD_BYTES + 34;
/// A `Bytes` and the header of its allocation.
pub(super) const CHUNK_OVERHEAD_BYTES: usize = 96;
/// Bodies up to here are one piece: one read and one write per hit.
const ONE_CHUNK_BYTES: usize = 64 * 1024;
/// Pieces smaller than this on average are copied together.
const CRUMB_BYTES: usize = 8 * 1024;
/// The size of a piece that was copied together.
const PIECE_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::storage::ledger::Ledger;

    fn body_of(chunks: Vec<Bytes>) -> Body {
        let ledger: &'static Ledger = Box::leak(Box::new(Ledger::new(1 << 30)));
        let len = chunks.iter().map(Bytes::len).sum();
        Body::new(chunks, len, ledger.hold(len))
    }

    #[test]
    fn a_small_body_becomes_one_piece() {
        let body = body_of(vec![Bytes::from_static(b"hel"), Bytes::from_static(b"lo")]);
        assert_eq!((body.chunk_count(), body.chunk(0).unwrap().as_ref()), (1, &b"hello"[..]), "joined");
    }

    #[test]
    fn crumbs_of_a_large_body_are_joined_without_loss() {
        let crumb: Bytes = (0..=255u8).collect::<Vec<_>>().into();
        let body = body_of(vec![crumb.clone(); 4096]);
        assert_eq!(body.chunk_count(), 4, "1 MiB in pieces of 256 KiB");
        let whole: Vec<u8> = (0..4).flat_map(|i| body.chunk(i).unwrap().to_vec()).collect();
        assert_eq!(whole, crumb.repeat(4096), "same bytes");
    }

    #[test]
    fn large_pieces_are_kept_as_they_are() {
        let piece = Bytes::from(vec![7u8; 100_000]);
        let body = body_of(vec![piece.clone(), piece.clone()]);
        assert_eq!(body.chunk(1).unwrap().as_ptr(), piece.as_ptr(), "no copy");
    }
}
