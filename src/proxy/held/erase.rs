//! Erasing the upstream's origin from the JSON of an `api`: whole where the answer is held, piece by piece where it streams.

use std::sync::Arc;

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;

use crate::body::json::origins::{OriginEraser, Origins};
use crate::exchange::Exchange;
use crate::plan::Route;
use crate::policy::Fault;
use crate::policy::origin::ReverseMap;

/// The map for a JSON answer of an `api`.
///
/// # Errors
/// [`Fault::Encoded`] for an answer that cannot be searched: it may name the upstream, so it does not pass.
pub fn map_for(head: &ResponseHeader, route: &Route) -> Result<Option<Arc<ReverseMap>>, Fault> {
    let Some(map) = route.settings.reverse.as_ref().filter(|map| !map.origins().is_empty()) else {
        return Ok(None);
    };
    if !is_json(head) {
        return Ok(None);
    }
    if is_coded(head) || head.status == StatusCode::PARTIAL_CONTENT {
        return Err(Fault::Encoded);
    }
    Ok(Some(map.clone()))
}

/// Whether the body of this answer may get another length.
#[must_use]
pub fn may_change(head: &ResponseHeader, route: &Route) -> bool {
    route.settings.reverse.is_some() && is_json(head)
}

fn is_json(head: &ResponseHeader) -> bool {
    head.headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes).is_some_and(|value| {
        let media = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        media.ends_with(b"/json") || media.ends_with(b"+json")
    })
}

/// Whether the body comes in a content coding.
#[must_use]
pub fn is_coded(head: &ResponseHeader) -> bool {
    head.headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Erases from a body that is all there. Nothing is copied where nothing is found.
#[must_use]
pub fn whole(exchange: &mut Exchange, map: &ReverseMap, body: Bytes) -> Bytes {
    let mut out = Vec::with_capacity(body.len());
    let mut eraser = OriginEraser::new(map.origins());
    eraser.push(&body, &mut out, &|text| map.public_reference(text, &exchange.upstream_path));
    eraser.finish(&mut out);
    if eraser.erased == 0 {
        return body;
    }
    exchange.erased.json += eraser.erased;
    Bytes::from(out)
}

/// Erases from a body that passes in pieces.
pub struct Stream<'a> {
    eraser: OriginEraser<'a>,
    map: &'a ReverseMap,
    from: String,
}

impl<'a> Stream<'a> {
    /// At the beginning of the answer to a request for `from`.
    #[must_use]
    pub fn new(origins: &'a Origins, map: &'a ReverseMap, from: String) -> Self {
        Self { eraser: OriginEraser::new(origins), map, from }
    }

    /// The next piece, as it may pass; empty where all of it is held back.
    pub fn piece(&mut self, chunk: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(chunk.len());
        let (map, from) = (self.map, &self.from);
        self.eraser.push(chunk, &mut out, &|text| map.public_reference(text, from));
        Bytes::from(out)
    }

    /// How many strings were mapped or emptied so far.
    #[must_use]
    pub fn erased(&self) -> u32 {
        self.eraser.erased
    }

    /// What was held back to the end.
    pub fn end(&mut self) -> Bytes {
        let mut out = Vec::new();
        self.eraser.finish(&mut out);
        Bytes::from(out)
    }
}
