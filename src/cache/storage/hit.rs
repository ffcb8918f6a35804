//! Reading a complete object: no copies, ranges by position.

use std::any::Any;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{Error, ErrorType, Result};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheEntryId, CacheKey, storage};

use super::fill::PIECE_BYTES;
use crate::shm::arena::Pinned;

/// Hands out bytes of a stored body where they lie. `seek` may be called again after the end was read, which is how several ranges of one
/// answer are served.
pub(super) struct Hit {
    object: Pinned,
    /// The range still to be read, as positions in the body.
    from: usize,
    until: usize,
}

impl Hit {
    pub(super) fn new(object: Pinned) -> Self {
        let until = object.body_bytes();
        Self { object, from: 0, until }
    }
}

#[async_trait]
impl storage::HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        if self.from >= self.until {
            return Ok(None);
        }
        let piece = self.object.body(self.from, self.until.min(self.from + PIECE_BYTES));
        let piece = piece.ok_or_else(|| {
            Error::explain(ErrorType::InternalError, "a piece of the stored body is missing")
        })?;
        self.from += piece.len();
        Ok(Some(piece))
    }

    async fn finish(
        self: Box<Self>,
        _storage: &'static (dyn storage::Storage + Sync),
        _key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let length = self.object.body_bytes();
        let until = end.unwrap_or(length).min(length);
        if start >= length || until < start {
            return Err(Error::explain(ErrorType::InternalError, "range outside the stored body"));
        }
        (self.from, self.until) = (start, until);
        Ok(())
    }

    fn get_eviction_weight(&self) -> usize {
        self.object.body_bytes()
    }

    fn entry_id(&self) -> Option<CacheEntryId> {
        Some(CacheEntryId::new(self.object.sequence()))
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}
