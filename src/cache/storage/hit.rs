//! Reading a complete object: no copies, ranges by position.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{Error, ErrorType, Result};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheEntryId, CacheKey, storage};

use super::entry::{Body, Entry};

/// Hands out slices of a stored body. `seek` may be called again after the end was read, which is how several ranges of one
/// answer are served.
pub(super) struct Hit {
    body: Arc<Body>,
    id: u64,
    /// The chunk to read next and where its first byte lies in the body.
    chunk: usize,
    chunk_start: usize,
    /// The range still to be read, as positions in the body.
    from: usize,
    until: usize,
}

impl Hit {
    pub(super) fn new(entry: &Entry) -> Self {
        let body = Arc::clone(&entry.body);
        let until = body.len();
        Self { body, id: entry.id, chunk: 0, chunk_start: 0, from: 0, until }
    }

    fn next(&mut self) -> Option<Bytes> {
        while self.from < self.until {
            let chunk = self.body.chunk(self.chunk)?;
            let chunk_end = self.chunk_start + chunk.len();
            let end = chunk_end.min(self.until);
            let slice =
                (self.from < end).then(|| chunk.slice(self.from - self.chunk_start..end - self.chunk_start));
            if end == chunk_end {
                self.chunk += 1;
                self.chunk_start = chunk_end;
            }
            if let Some(slice) = slice {
                self.from = end;
                return Some(slice);
            }
        }
        None
    }
}

#[async_trait]
impl storage::HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        Ok(self.next())
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
        let until = end.unwrap_or(self.body.len()).min(self.body.len());
        if start >= self.body.len() || until < start {
            return Err(Error::explain(ErrorType::InternalError, "range outside the stored body"));
        }
        (self.chunk, self.chunk_start) = (0, 0);
        while let Some(chunk) = self.body.chunk(self.chunk) {
            if self.chunk_start + chunk.len() > start {
                break;
            }
            self.chunk_start += chunk.len();
            self.chunk += 1;
        }
        (self.from, self.until) = (start, until);
        Ok(())
    }

    fn get_eviction_weight(&self) -> usize {
        self.body.len()
    }

    fn entry_id(&self) -> Option<CacheEntryId> {
        Some(CacheEntryId::new(self.id))
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}
