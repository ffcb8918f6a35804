//! Stored parts of an answer, and what they are together (RFC 9111 §3.3, §3.4).
//!
//! One part is kept for each key and variant, in a place of its own beside the whole. A part answers whoever asks for no more than it
//! holds. Two parts that touch become one where both have the same strong entity tag; when nothing is missing any more, they are the
//! whole. This file reads no body: it says which bytes of which part go where.

use std::ops::Range;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, RANGE};
use http::{HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};

use super::conditions::{Comparison, EntityTag, only};
use super::validate;

/// Which bytes of a whole a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The place of its first byte.
    pub first: u64,
    /// The place after its last byte.
    pub end: u64,
    /// The length of the whole.
    pub total: u64,
}

impl Part {
    /// The part that a 206 brings, by its `Content-Range` (RFC 9110 §14.4). `None` where that cannot be read, where the length of the
    /// whole is not known, or where a `Content-Length` says something else; so also for several parts at once.
    #[must_use]
    pub fn of(answer: &ResponseHeader) -> Option<Self> {
        if answer.status != StatusCode::PARTIAL_CONTENT {
            return None;
        }
        let text = only(&answer.headers, &CONTENT_RANGE)?.to_str().ok()?.trim();
        let (unit, rest) = text.split_once(' ')?;
        let (bounds, total) = rest.trim().split_once('/')?;
        let (first, last) = bounds.split_once('-')?;
        let part = Self { first: number(first)?, end: number(last)?.checked_add(1)?, total: number(total)? };
        let agrees = only(&answer.headers, &CONTENT_LENGTH)
            .is_none_or(|length| length.to_str().ok().and_then(number) == Some(part.length()));
        let is_sound = unit.eq_ignore_ascii_case("bytes") && part.first < part.end && part.end <= part.total;
        (is_sound && agrees).then_some(part)
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn length(self) -> u64 {
        self.end.saturating_sub(self.first)
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.first == 0 && self.end == self.total
    }

    /// Whether it holds all of a range of the whole.
    #[must_use]
    pub fn holds(self, range: &Range<u64>) -> bool {
        self.first <= range.start && range.end <= self.end
    }

    /// What is missing, if that is one range: the part begins at the beginning or ends at the end.
    #[must_use]
    pub fn missing(self) -> Option<Range<u64>> {
        match (self.first == 0, self.end == self.total) {
            (true, false) => Some(self.end..self.total),
            (false, true) => Some(0..self.first),
            _ => None,
        }
    }

    /// What a newer part and this one are together. `None` where they do not touch, or speak of wholes of different lengths.
    #[must_use]
    pub fn join(self, newer: Self) -> Option<Joined> {
        let touches = self.first <= newer.end && newer.first <= self.end;
        (self.total == newer.total && touches).then(|| Joined {
            before: (self.first < newer.first).then_some(self.first..newer.first),
            after: (self.end > newer.end).then_some(newer.end..self.end),
            part: Self {
                first: self.first.min(newer.first),
                end: self.end.max(newer.end),
                total: self.total,
            },
        })
    }
}

/// Two parts as one: bytes of the older, all of the newer, bytes of the older. Ranges are places in the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Of the older part, what goes before the newer one.
    pub before: Option<Range<u64>>,
    /// Of the older part, what goes after it.
    pub after: Option<Range<u64>>,
    /// What both are.
    pub part: Part,
}

/// Whether two answers are parts of the same representation: the same strong entity tag (RFC 9110 §15.3.7.3).
#[must_use]
pub fn are_of_one(stored: &ResponseHeader, newer: &ResponseHeader) -> bool {
    match (EntityTag::of(&stored.headers), EntityTag::of(&newer.headers)) {
        (Some(ours), Some(theirs)) => ours.matches(theirs, Comparison::Strong),
        _ => false,
    }
}

/// Asks for what is missing of a stored part, as long as it is still the same (RFC 9110 §13.1.5). False where that cannot be asked.
pub fn ask_for_rest(
    request: &mut RequestHeader,
    stored: &ResponseHeader,
    missing: &Range<u64>,
    total: u64,
) -> bool {
    let Some(tag) = only(&stored.headers, &http::header::ETAG).filter(|_| are_of_one(stored, stored)) else {
        return false;
    };
    let range = if missing.end == total {
        format!("bytes={}-", missing.start)
    } else {
        format!("bytes={}-{}", missing.start, missing.end.saturating_sub(1))
    };
    let Ok(range) = HeaderValue::try_from(range) else { return false };
    request.insert_header(RANGE, range).is_ok() && request.insert_header(IF_RANGE, tag.clone()).is_ok()
}

/// The head of the whole that a part belongs to, as far as it is known: 200, without the range, and with the length of what is stored.
#[must_use]
pub fn as_whole(part: &ResponseHeader, length: u64) -> ResponseHeader {
    let mut head = part.clone();
    // Cannot fail: the status is one, and digits are a value.
    let _ = head.set_status(StatusCode::OK);
    head.remove_header(&CONTENT_RANGE);
    let _ = head.insert_header(CONTENT_LENGTH, length);
    head
}

/// The head of two parts together: that of the stored one with the fields of the newer (RFC 9111 §3.4).
#[must_use]
pub fn joined_head(stored: &ResponseHeader, newer: &ResponseHeader, length: u64) -> ResponseHeader {
    as_whole(&validate::merge(stored, newer), length)
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn part(first: u64, end: u64) -> Part {
        Part { first, end, total: 10 }
    }

    fn answer(fields: &[(&'static str, &'static str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(206, None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    #[test]
    fn rfc9110_14_4_a_part_is_what_its_content_range_says() {
        let of = |range: &'static str| Part::of(&answer(&[("content-range", range)]));
        assert_eq!(of("bytes 2-5/10"), Some(part(2, 6)));
        assert_eq!(of("Bytes 0-9/10"), Some(part(0, 10)), "all of it");
        for bad in [
            "bytes 2-5/*",
            "bytes */10",
            "bytes 5-2/10",
            "bytes 2-10/10",
            "items 2-5/10",
            "bytes +2-5/10",
            "2-5/10",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        let disagrees = answer(&[("content-range", "bytes 2-5/10"), ("content-length", "5")]);
        assert_eq!(Part::of(&disagrees), None, "another length");
        assert_eq!(Part::of(&answer(&[("content-type", "multipart/byteranges")])), None, "several");
    }

    #[test]
    fn rfc9111_3_4_parts_that_touch_are_one() {
        let join =
            |old: Part, new: Part| old.join(new).map(|joined| (joined.before, joined.after, joined.part));
        assert_eq!(
            join(part(0, 5), part(5, 10)),
            Some((Some(0..5), None, part(0, 10))),
            "one after the other"
        );
        assert_eq!(join(part(5, 10), part(0, 5)), Some((None, Some(5..10), part(0, 10))), "the other way");
        assert_eq!(join(part(0, 8), part(3, 5)), Some((Some(0..3), Some(5..8), part(0, 8))), "inside");
        assert_eq!(join(part(3, 5), part(0, 8)), Some((None, None, part(0, 8))), "around");
        assert_eq!(join(part(0, 4), part(5, 10)), None, "a byte is missing");
        assert_eq!(join(part(0, 5), Part { total: 11, ..part(5, 10) }), None, "of another whole");
    }

    #[test]
    fn what_is_missing_is_asked_for_where_it_is_one_range() {
        assert_eq!(part(0, 4).missing(), Some(4..10));
        assert_eq!(part(4, 10).missing(), Some(0..4));
        assert_eq!((part(2, 4).missing(), part(0, 10).missing()), (None, None), "two, or none");
        let stored = answer(&[("etag", "\"a\"")]);
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        assert!(ask_for_rest(&mut request, &stored, &(4..10), 10));
        let said = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!((said("range"), said("if-range")), (Some("bytes=4-"), Some("\"a\"")));
        let weak = answer(&[("etag", "W/\"a\"")]);
        assert!(!ask_for_rest(&mut request.clone(), &weak, &(4..10), 10), "no part can be added to that");
    }

    proptest! {
        #[test]
        fn joined_parts_have_every_byte_once(a in 0u64..20, b in 1u64..20, c in 0u64..20, d in 1u64..20) {
            let bounded = |first: u64, length: u64| Part { first, end: first + length, total: 40 };
            let (old, new) = (bounded(a, b), bounded(c, d));
            if let Some(joined) = old.join(new) {
                let before = joined.before.clone().unwrap_or(new.first..new.first);
                let after = joined.after.clone().unwrap_or(new.end..new.end);
                prop_assert_eq!(before.start, joined.part.first);
                prop_assert_eq!(before.end, new.first);
                prop_assert_eq!(after.start, new.end);
                prop_assert_eq!(after.end, joined.part.end);
                prop_assert!(joined.before.is_none_or(|range| old.holds(&range)));
                prop_assert!(joined.after.is_none_or(|range| old.holds(&range)));
            }
        }

        #[test]
        fn any_bytes_in_a_content_range_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut head = ResponseHeader::build(206, None).unwrap();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                head.insert_header(CONTENT_RANGE, value).unwrap();
            }
            if let Some(part) = Part::of(&head) {
                prop_assert!(part.first < part.end && part.end <= part.total);
            }
        }
    }
}
