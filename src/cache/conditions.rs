//! Conditional requests, answered from what is stored (RFC 9110 §13, RFC 9111 §4.3.2).
//!
//! RFC 9111 §4.3.2 leaves `If-Match` and `If-Unmodified-Since` to the origin server. To its clients a gateway is one
//! (RFC 9110 §3.7), so they are evaluated here too, on what would be sent; a client that asks for one representation never
//! gets another. Only GET and HEAD are ever answered from the store; everything else goes to the upstream, its conditions
//! with it. `If-Range` is judged where ranges are ([`super::ranges`]).
//!
//! What is written wrongly is never taken for a match: the client then gets the whole answer, or 412 where it insisted.

use std::time::SystemTime;

use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;

/// What the conditions of a request say about the stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Condition {
    /// There are none, or they hold: answer as if there were none.
    Met,
    /// The client has it already: 304, with the head of [`not_modified`].
    NotModified,
    /// 412: what the client insists on is not what is stored.
    Failed,
}

/// Evaluates the conditions of `request` on a stored answer, in the order of RFC 9110 §13.2.2.
///
/// A stored answer that is no 2xx is given whatever the conditions say (§13.2.1). `If-Modified-Since` is compared with the
/// stored `Date` where there is no `Last-Modified` (RFC 9111 §4.3.2).
pub fn evaluate(method: &Method, request: &HeaderMap, stored: &ResponseHeader) -> Condition {
    if !(method == Method::GET || method == Method::HEAD) || !stored.status.is_success() {
        return Condition::Met;
    }
    let tag = EntityTag::of(&stored.headers);
    if request.contains_key(IF_MATCH) {
        if !names(request, &IF_MATCH, tag, Comparison::Strong) {
            return Condition::Failed;
        }
    } else if let Some(since) = only_date(request, &IF_UNMODIFIED_SINCE)
        && only_date(&stored.headers, &LAST_MODIFIED).is_some_and(|modified| modified > since)
    {
        return Condition::Failed;
    }
    if request.contains_key(IF_NONE_MATCH) {
        return if names(request, &IF_NONE_MATCH, tag, Comparison::Weak) {
            Condition::NotModified
        } else {
            Condition::Met
        };
    }
    let changed = if stored.headers.contains_key(LAST_MODIFIED) { LAST_MODIFIED } else { DATE };
    match (only_date(request, &IF_MODIFIED_SINCE), only_date(&stored.headers, &changed)) {
        (Some(since), Some(changed)) if changed <= since => Condition::NotModified,
        _ => Condition::Met,
    }
}

/// The head of the 304 for a stored answer (RFC 9110 §15.4.5). What describes the representation is left out, except
/// what a client's cache is updated by; `Last-Modified` stays only where there is no entity tag. All other fields
/// (`Cache-Control`, `Vary`, those of CORS and of browser policies) go as they would with the body: browsers update their
/// stored answer from them.
#[must_use]
pub fn not_modified(stored: &ResponseHeader) -> ResponseHeader {
    let mut head = stored.clone();
    let _ = head.set_status(StatusCode::NOT_MODIFIED);
    let _ = head.set_reason_phrase(None);
    for name in &OF_THE_REPRESENTATION {
        head.remove_header(name);
    }
    if head.headers.contains_key(ETAG) {
        head.remove_header(&LAST_MODIFIED);
    }
    head
}

/// How two entity tags are compared (RFC 9110 §8.8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Both strong, same opaque part.
    Strong,
    /// Same opaque part.
    Weak,
}

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntityTag<'a> {
    /// `W/` stood before it.
    pub is_weak: bool,
    /// What stands between the quotes.
    pub opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// The tag of an answer. None where there is none, more than one, or something that is no entity tag.
    pub fn of(answer: &'a HeaderMap) -> Option<Self> {
        Self::parse(only(answer, &ETAG)?.as_bytes())
    }

    /// Reads a field value that is one entity tag.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::take(value.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    pub fn matches(self, other: Self, comparison: Comparison) -> bool {
        let may = comparison == Comparison::Weak || !(self.is_weak || other.is_weak);
        may && self.opaque == other.opaque
    }

    /// Takes a tag from the beginning of a list and says what follows it.
    fn take(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (is_weak, quoted) = match text.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, text),
        };
        let inside = quoted.strip_prefix(b"\"")?;
        let end = inside.iter().position(|byte| !matches!(byte, 0x21 | 0x23..=0x7e | 0x80..=0xff))?;
        let (opaque, rest) = inside.split_at_checked(end)?;
        Some((Self { is_weak, opaque }, rest.strip_prefix(b"\"")?))
    }
}

/// Whether a list of entity tags, or a lone `*`, names the stored one (RFC 9110 §13.1.1, §13.1.2). `*` names any.
fn names(
    request: &HeaderMap,
    name: &HeaderName,
    stored: Option<EntityTag<'_>>,
    comparison: Comparison,
) -> bool {
    if only(request, name).is_some_and(|value| value.as_bytes().trim_ascii() == b"*") {
        return true;
    }
    let Some(stored) = stored else { return false };
    let lines = request.get_all(name).iter();
    lines.flat_map(|line| Listed(line.as_bytes())).any(|tag| tag.matches(stored, comparison))
}

/// The entity tags of one line of a list. What is none is passed over up to the next comma.
struct Listed<'a>(&'a [u8]);

impl<'a> Iterator for Listed<'a> {
    type Item = EntityTag<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.0.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
            let text = self.0.get(start..)?;
            let taken = EntityTag::take(text);
            let rest = taken.map_or(text, |(_, rest)| rest);
            let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
            let (behind, after) = rest.split_at_checked(end)?;
            self.0 = after;
            // A tag ends at a comma or at the line's end, or it is no tag.
            if let Some((tag, _)) = taken.filter(|_| behind.trim_ascii().is_empty()) {
                return Some(tag);
            }
        }
    }
}

/// The value of a field that has exactly one line.
pub(super) fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = fields.get_all(name).iter();
    let first = lines.next();
    first.filter(|_| lines.next().is_none())
}

/// The date of a field that has exactly one line, in any of the three forms (RFC 9110 §5.6.7).
pub(super) fn only_date(fields: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    date(only(fields, name)?)
}

/// A date in any of the three forms of RFC 9110 §5.6.7.
pub(super) fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()
}

/// Fields that say what a body is, or how it travels. A 304 has none.
static OF_THE_REPRESENTATION: [HeaderName; 13] = [
    CONTENT_TYPE,
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_RANGE,
    CONTENT_DISPOSITION,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    ACCEPT_RANGES,
    TRANSFER_ENCODING,
    TRAILER,
];

#[cfg(test)]
mod tests;
