//! Parts of a stored answer: `Range`, `If-Range`, 206 and 416 (RFC 9110 §14, §13.1.5, §15.3.7, §15.5.17).
//!
//! A range is a wish: whatever is wrong with it (another unit, bad syntax, too many ranges, a failed `If-Range`) gives the
//! whole answer, which is always right. The one thing that is refused is a well-formed wish for bytes that are not there.
//! Only complete answers to GET with status 200 have parts. This file reads no body: it says which bytes go, and writes
//! heads and the text between parts.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, EXPIRES,
    IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;

use super::conditions::{Comparison, EntityTag, date, not_modified, only, only_date};

/// Which bytes of a stored body a request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Selection {
    /// All of them, with 200.
    Whole,
    /// One part: 206 with the head of [`one`]. Never empty, always inside the body.
    One(Range<u64>),
    /// Two parts or more, in the order of the request: 206 with a [`Multipart`]. None is empty, none overlaps or touches
    /// another.
    Many(Vec<Range<u64>>),
    /// Nothing of what is wished for is there: 416 with the head of [`unsatisfiable`].
    Unsatisfiable,
}

/// Reads `Range` and `If-Range` of a request for a stored body of `length` bytes. Ask after the other conditions
/// (RFC 9110 §13.2.2).
pub fn select(method: &Method, request: &HeaderMap, stored: &ResponseHeader, length: u64) -> Selection {
    if method != Method::GET || stored.status != StatusCode::OK {
        return Selection::Whole;
    }
    let Some(specs) = only(request, &RANGE).and_then(|value| specs(value.as_bytes())) else {
        return Selection::Whole;
    };
    if request.contains_key(IF_RANGE) && !is_unchanged(request, stored) {
        return Selection::Whole;
    }
    // §14.1.2: a suffix of an empty body is satisfiable, but no `Content-Range` can say so.
    if length == 0 && specs.iter().any(|spec| matches!(spec, Spec::Suffix(1..))) {
        return Selection::Whole;
    }
    let mut parts = merged(specs.iter().filter_map(|spec| spec.of(length)));
    match parts.len() {
        0 => Selection::Unsatisfiable,
        1 => parts.pop().map_or(Selection::Unsatisfiable, Selection::One),
        _ => Selection::Many(parts),
    }
}

/// Whether a request asks for one range of bytes, wherever that lies.
#[must_use]
pub fn is_one(request: &HeaderMap) -> bool {
    only(request, &RANGE).and_then(|value| specs(value.as_bytes())).is_some_and(|specs| specs.len() == 1)
}

/// Makes the head of a stored answer that of a 206 with one part (RFC 9110 §15.3.7.1).
pub fn one(head: &mut ResponseHeader, range: &Range<u64>, length: u64) {
    partial(head);
    let _ = head.insert_header(CONTENT_RANGE, content_range(range, length));
    let _ = head.insert_header(CONTENT_LENGTH, range.end.saturating_sub(range.start));
}

/// Makes the head of a stored answer that of a 416 without a body (RFC 9110 §15.5.17). It loses its validators and its
/// freshness with what describes the body: it speaks of the request, and must not be kept for another.
pub fn unsatisfiable(head: &mut ResponseHeader, length: u64) {
    *head = not_modified(head);
    let _ = head.set_status(StatusCode::RANGE_NOT_SATISFIABLE);
    for name in &OF_WHAT_IS_KEPT {
        head.remove_header(name);
    }
    let _ = head.insert_header(CONTENT_RANGE, format!("bytes */{length}"));
    let _ = head.insert_header(CONTENT_LENGTH, 0);
}

/// A 206 with several parts (RFC 9110 §15.3.7.2, §14.6): for each part the text of [`Multipart::part`] and then its bytes;
/// [`Multipart::end`] after the last.
#[derive(Debug, Clone)]
pub struct Multipart {
    content_type: Option<HeaderValue>,
    ranges: Vec<Range<u64>>,
    length: u64,
    boundary: String,
}

impl Multipart {
    /// `content_type` is that of the stored answer, which each part repeats; `length` that of the whole body in bytes;
    /// `boundary` a random number that nobody can foretell, so that no body holds it.
    #[must_use]
    pub fn new(
        content_type: Option<&HeaderValue>,
        ranges: Vec<Range<u64>>,
        length: u64,
        boundary: u128,
    ) -> Self {
        Self { content_type: content_type.cloned(), ranges, length, boundary: format!("{boundary:032x}") }
    }

    /// The parts, in the order in which they are sent.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Makes the head of the stored answer that of this one. There is no `Content-Range` in it.
    pub fn head(&self, head: &mut ResponseHeader) {
        partial(head);
        head.remove_header(&CONTENT_RANGE);
        let _ = head.insert_header(CONTENT_TYPE, format!("multipart/byteranges; boundary={}", self.boundary));
        let _ = head.insert_header(CONTENT_LENGTH, self.content_length());
    }

    /// What goes before the bytes of part `index`. Empty if there is no such part.
    #[must_use]
    pub fn part(&self, index: usize) -> Bytes {
        let Some(range) = self.ranges.get(index) else { return Bytes::new() };
        let mut text = BytesMut::with_capacity(160);
        text.put_slice(if index == 0 { b"--" } else { b"\r\n--" });
        text.put_slice(self.boundary.as_bytes());
        if let Some(content_type) = &self.content_type {
            text.put_slice(b"\r\nContent-Type: ");
            text.put_slice(content_type.as_bytes());
        }
        // Writing to a buffer that grows cannot fail.
        let _ = write!(text, "\r\nContent-Range: {}\r\n\r\n", content_range(range, self.length));
        text.freeze()
    }

    /// What goes after the bytes of the last part.
    #[must_use]
    pub fn end(&self) -> Bytes {
        Bytes::from(format!("\r\n--{}--\r\n", self.boundary))
    }

    /// The length of all of it in bytes.
    #[must_use]
    pub fn content_length(&self) -> u64 {
        let text: usize = (0..self.ranges.len()).map(|index| self.part(index).len()).sum();
        let text = u64::try_from(text.saturating_add(self.end().len())).unwrap_or(u64::MAX);
        let bytes = self.ranges.iter().map(|range| range.end.saturating_sub(range.start));
        bytes.fold(text, u64::saturating_add)
    }
}

/// One member of a `Range` (RFC 9110 §14.1.1). Positions beyond what fits are at the end of all numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `first-` and `first-last`, both included.
    From(u64, Option<u64>),
    /// `-length`: the last bytes.
    Suffix(u64),
}

impl Spec {
    fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|byte| *byte == b'-')?;
        let (first, last) = (text.get(..dash)?, text.get(dash + 1..)?);
        match (first, last) {
            ([], last) => Some(Self::Suffix(number(last)?)),
            (first, []) => Some(Self::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The bytes that this is in a body; none if there are none.
    fn of(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(length, |last| last.saturating_add(1).min(length)),
            Self::Suffix(count) => length.saturating_sub(count)..length,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// The members of a `Range` of bytes. None if the unit is another, if anything is wrong with it, or if there are more than
/// [`MAX_RANGES`].
fn specs(value: &[u8]) -> Option<Vec<Spec>> {
    let unit = value.get(..UNIT.len())?;
    // §14.1: the names of units are case-insensitive.
    let set = value.get(UNIT.len()..).filter(|_| unit.eq_ignore_ascii_case(UNIT))?;
    let mut specs = Vec::new();
    // §5.6.1.2: a recipient passes over empty members, but not over any number of them.
    for member in set.split(|byte| *byte == b',').take(MAX_MEMBERS + 1).map(<[u8]>::trim_ascii).enumerate() {
        match member {
            (index, _) if index == MAX_MEMBERS => return None,
            (_, []) => {}
            _ if specs.len() == MAX_RANGES => return None,
            (_, member) => specs.push(Spec::parse(member)?),
        }
    }
    (!specs.is_empty()).then_some(specs)
}

/// Digits and nothing else. §14.1.2: a number that does not fit is still a number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

/// Ranges that overlap or touch become one, in the place of the first of them (RFC 9110 §15.3.7.2): no byte is sent twice,
/// whatever is asked (§17.15).
fn merged(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut parts: Vec<Range<u64>> = Vec::new();
    for mut range in ranges {
        let mut place = None;
        let mut index = 0;
        // At most `MAX_RANGES` times as many.
        while let Some(part) = parts.get(index) {
            if part.start > range.end || range.start > part.end {
                index += 1;
                continue;
            }
            range = part.start.min(range.start)..part.end.max(range.end);
            parts.remove(index);
            place = Some(place.map_or(index, |place: usize| place.min(index)));
            index = 0;
        }
        parts.insert(place.unwrap_or(parts.len()).min(parts.len()), range);
    }
    parts
}

/// RFC 9110 §13.1.5: whether `If-Range` names exactly what is stored, by a strong validator.
fn is_unchanged(request: &HeaderMap, stored: &ResponseHeader) -> bool {
    let Some(value) = only(request, &IF_RANGE) else { return false };
    if let Some(tag) = EntityTag::parse(value.as_bytes()) {
        return EntityTag::of(&stored.headers).is_some_and(|stored| tag.matches(stored, Comparison::Strong));
    }
    date(value).is_some_and(|date| strong_date(&stored.headers) == Some(date))
}

/// `Last-Modified`, if it is a strong validator: a second or more before the answer's `Date` (RFC 9110 §8.8.2.2).
pub(super) fn strong_date(stored: &HeaderMap) -> Option<std::time::SystemTime> {
    let modified = only_date(stored, &LAST_MODIFIED)?;
    let passed = only_date(stored, &DATE)?.duration_since(modified).ok()?;
    (passed >= Duration::from_secs(1)).then_some(modified)
}

fn content_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1))
}

/// What all 206 have in common. Digests of the message are not those of a part of it (RFC 9530 §2); those of the whole
/// representation stay.
fn partial(head: &mut ResponseHeader) {
    let _ = head.set_status(StatusCode::PARTIAL_CONTENT);
    let _ = head.set_reason_phrase(None);
    for name in &OF_THE_WHOLE_MESSAGE {
        head.remove_header(name);
    }
}

/// More ranges than this are answered with the whole. Browsers and download tools ask for a handful at most.
pub const MAX_RANGES: usize = 16;
/// Members of a list, empty ones included.
const MAX_MEMBERS: usize = 4 * MAX_RANGES;
const UNIT: &[u8] = b"bytes=";

static OF_THE_WHOLE_MESSAGE: [HeaderName; 2] =
    [HeaderName::from_static("content-md5"), HeaderName::from_static("content-digest")];

static OF_WHAT_IS_KEPT: [HeaderName; 8] = [
    AGE,
    CACHE_CONTROL,
    HeaderName::from_static("cdn-cache-control"),
    CONTENT_LOCATION,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    HeaderName::from_static("pragma"),
];

#[cfg(test)]
mod tests;
