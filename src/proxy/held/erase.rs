//! Erasing the upstream's origin from the JSON of an `api`: whole where the answer is held, piece by piece where it streams.

use std::sync::Arc;

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;

use crate::body::json::origins::OriginEraser;
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
    let parts = head.status == StatusCode::PARTIAL_CONTENT;
    if parts && media_types(head).any(|media| media.starts_with(b"multipart/")) {
        return Err(Fault::Encoded);
    }
    if !is_json(head) && !is_untyped(head) {
        return Ok(None);
    }
    if is_coded(head) || parts || !is_utf8(head) {
        return Err(Fault::Encoded);
    }
    Ok(Some(map.clone()))
}

/// Whether the body of this answer may get another length.
#[must_use]
pub fn may_change(head: &ResponseHeader, route: &Route) -> bool {
    route.settings.reverse.is_some() && is_json(head)
}

/// Whether any of the body's types says, in some form, that it is JSON.
fn is_json(head: &ResponseHeader) -> bool {
    media_types(head).any(|media| media.windows(4).any(|part| part == b"json"))
}

/// Whether the body has no type: then its first bytes say whether somebody could read it as JSON.
#[must_use]
pub fn is_untyped(head: &ResponseHeader) -> bool {
    !head.headers.contains_key(header::CONTENT_TYPE)
}

/// Whether a body that begins like this could be JSON with strings in it.
#[must_use]
pub fn begins_like_json(first: &[u8]) -> bool {
    let text = first.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(first);
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'[' | b'"') | None)
}

fn media_types(head: &ResponseHeader) -> impl Iterator<Item = Vec<u8>> {
    head.headers.get_all(header::CONTENT_TYPE).iter().map(|value| {
        value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase()
    })
}

/// Whether the text is in the only encoding that is searched (RFC 8259 §8.1 knows no other).
fn is_utf8(head: &ResponseHeader) -> bool {
    head.headers.get_all(header::CONTENT_TYPE).iter().all(|value| {
        let text = value.as_bytes().to_ascii_lowercase();
        let charset = text.windows(8).position(|part| part == b"charset=").and_then(|at| text.get(at + 8..));
        charset.is_none_or(|name| {
            let name = name.strip_prefix(b"\"").unwrap_or(name);
            name.starts_with(b"utf-8") || name.starts_with(b"utf8") || name.starts_with(b"us-ascii")
        })
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
    pub fn new(map: &'a ReverseMap, from: String) -> Self {
        Self { eraser: OriginEraser::new(map.origins()), map, from }
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
