//! Validation: asking the upstream whether a stored answer is still right, and what its word changes (RFC 9111 §4.3, §3.2).
//!
//! Pure functions over heads. The heads of the upstream come here as all answers do, erased and shaped: a tag that was
//! weakened when the answer was stored must be weakened on its 304 as well. Whether a merged head may be stored, and until
//! when it is fresh, is for [`super::freshness::judge`] to say; it also takes off what may not be kept.

use http::header::{
    AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, RANGE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};

use super::conditions::{Comparison, EntityTag, only, only_date};
use super::ranges::strong_date;

/// What the answer to a HEAD means for a stored answer to GET (RFC 9111 §4.3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum HeadEffect {
    /// It speaks of what is stored: [`merge`] it.
    Update,
    /// It speaks of something else: what is stored is stale from now on.
    Invalidate,
    /// It is no 200 and says nothing of what is stored.
    Nothing,
}

/// Turns a request into one that validates a stored answer (RFC 9111 §4.3.1): its entity tag in `If-None-Match`, weak or
/// not, and its `Last-Modified` in `If-Modified-Since`, both byte for byte. The client's own conditions and its `Range` are
/// removed: what comes back is for the store, and the client's conditions are evaluated on that.
///
/// Returns false where there is nothing to validate by; the request then asks for the whole.
pub fn add_validators(request: &mut RequestHeader, stored: &ResponseHeader) -> bool {
    for name in &OF_THE_CLIENT {
        request.remove_header(name);
    }
    let mut validates = false;
    for (from, to) in [(&ETAG, &IF_NONE_MATCH), (&LAST_MODIFIED, &IF_MODIFIED_SINCE)] {
        if let Some(value) = only(&stored.headers, from).filter(|value| !value.is_empty()) {
            validates |= request.insert_header(to, value.clone()).is_ok();
        }
    }
    validates
}

/// Whether [`add_validators`] would find something to validate by.
#[must_use]
pub fn can_be_asked_about(stored: &ResponseHeader) -> bool {
    [ETAG, LAST_MODIFIED]
        .iter()
        .any(|name| only(&stored.headers, name).is_some_and(|value| !value.is_empty()))
}

/// Whether a 304 speaks of the stored answer by whose validators it was asked (RFC 9111 §4.3.4). If not, it must update
/// nothing, and the request has to be made again without conditions.
///
/// A strong entity tag must be the stored one; a weak one, or a `Last-Modified`, must be equivalent to it. A 304 without
/// any validator is about the one answer that was asked about.
#[must_use]
pub fn is_about(stored: &ResponseHeader, not_modified: &ResponseHeader) -> bool {
    let (ours, theirs) = (&stored.headers, &not_modified.headers);
    match (ours.contains_key(ETAG), theirs.contains_key(ETAG)) {
        (true, true) => same_tag(ours, theirs),
        // No tag is stored: a date may stand in for it, for a strong one only a strong date.
        (false, true) => {
            let is_strong = EntityTag::of(theirs).is_some_and(|tag| !tag.is_weak);
            same_date(ours, theirs) && (!is_strong || strong_date(ours).is_some())
        }
        (_, false) => !theirs.contains_key(LAST_MODIFIED) || same_date(ours, theirs),
    }
}

/// The stored head, updated by a 304 or by the answer to a HEAD (RFC 9111 §3.2): every field of the update replaces the
/// stored lines of its name, all of them. Excepted are fields of the connection and those that `Connection` names, and what
/// the stored bytes depend on: their length, coding and digests, `Content-Range`, and the entity tag they are known by.
///
/// `Date` and `Age` are the update's or absent: the answer's age counts from the update, and one without `Date` was made
/// when it arrived (RFC 9110 §6.6.1).
#[must_use]
pub fn merge(stored: &ResponseHeader, update: &ResponseHeader) -> ResponseHeader {
    let mut merged = stored.clone();
    merged.remove_header(&DATE);
    merged.remove_header(&AGE);
    let nominated = nominated(&update.headers);
    let has_tag = stored.headers.contains_key(ETAG);
    let keeps = |name: &HeaderName| {
        NEVER_UPDATED.contains(name) || nominated.contains(name) || (has_tag && name == ETAG)
    };
    for name in update.headers.keys().filter(|name| !keeps(name)) {
        merged.remove_header(name);
        for line in update.headers.get_all(name) {
            let _ = merged.append_header(name.clone(), line.clone());
        }
    }
    merged
}

/// Reads the answer to a HEAD for a stored answer to GET (RFC 9111 §4.3.5): whatever it says of validators and length must
/// be so of what is stored. The stored head needs its `Content-Length` where the HEAD has one.
pub fn by_head(stored: &ResponseHeader, head_answer: &ResponseHeader) -> HeadEffect {
    let (ours, theirs) = (&stored.headers, &head_answer.headers);
    if head_answer.status != StatusCode::OK {
        return HeadEffect::Nothing;
    }
    let same = stored.status == StatusCode::OK
        && (!theirs.contains_key(ETAG) || same_tag(ours, theirs))
        && (!theirs.contains_key(LAST_MODIFIED) || same_date(ours, theirs))
        && (!theirs.contains_key(CONTENT_LENGTH) || theirs.get(CONTENT_LENGTH) == ours.get(CONTENT_LENGTH));
    if same { HeadEffect::Update } else { HeadEffect::Invalidate }
}

/// Same bytes, or two entity tags of which the received one allows the comparison: strong with strong, weak with any.
fn same_tag(ours: &HeaderMap, theirs: &HeaderMap) -> bool {
    match (EntityTag::of(ours), EntityTag::of(theirs)) {
        (Some(ours), Some(theirs)) => {
            theirs.matches(ours, if theirs.is_weak { Comparison::Weak } else { Comparison::Strong })
        }
        // Some upstreams do not quote: then only the bytes can tell.
        _ => only(ours, &ETAG).is_some_and(|ours| Some(ours) == only(theirs, &ETAG)),
    }
}

fn same_date(ours: &HeaderMap, theirs: &HeaderMap) -> bool {
    match (only_date(ours, &LAST_MODIFIED), only_date(theirs, &LAST_MODIFIED)) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => only(ours, &LAST_MODIFIED).is_some_and(|ours| Some(ours) == only(theirs, &LAST_MODIFIED)),
    }
}

/// The fields that `Connection` names (RFC 9110 §7.6.1).
#[must_use]
pub fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

/// Conditions and ranges that the client asked for itself.
static OF_THE_CLIENT: [HeaderName; 6] =
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];

/// RFC 9111 §3.1: not stored, so not updated; and what the stored bytes depend on (§3.2).
static NEVER_UPDATED: [HeaderName; 17] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::heads::{answer, fields, lines};
    use proptest::prelude::*;

    const SUNDAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const MONDAY: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    fn request(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn rfc9111_4_3_1_validators_are_sent_as_they_were_stored() {
        for tag in ["\"a\"", "W/\"a\"", "unquoted"] {
            let mut request = request(&[]);
            let stored = answer(200, &[("etag", tag), ("last-modified", "Sunday, 06-Nov-94 08:49:37 GMT")]);
            assert!(add_validators(&mut request, &stored), "{tag}");
            assert_eq!(request.headers.get(IF_NONE_MATCH).unwrap(), tag);
            assert_eq!(request.headers.get(IF_MODIFIED_SINCE).unwrap(), "Sunday, 06-Nov-94 08:49:37 GMT");
        }
    }

    #[test]
    fn rfc9111_4_3_1_the_clients_conditions_and_range_do_not_go_along() {
        let mut request = request(&[
            ("if-match", "*"),
            ("if-none-match", "\"theirs\""),
            ("if-none-match", "\"more\""),
            ("if-modified-since", SUNDAY),
            ("if-unmodified-since", SUNDAY),
            ("if-range", SUNDAY),
            ("range", "bytes=0-1"),
            ("accept", "text/html"),
        ]);
        let none: [(&str, &str); 1] = [("date", SUNDAY)];
        assert!(!add_validators(&mut request, &answer(200, &none)), "nothing to validate by");
        assert_eq!(request.headers, fields(&[("accept", "text/html")]), "only what is no condition");
    }

    #[test]
    fn rfc9111_4_3_1_two_lines_of_a_validator_are_none() {
        let stored = answer(200, &[("etag", "\"a\""), ("etag", "\"b\"")]);
        assert!(!add_validators(&mut request(&[]), &stored), "which of them?");
    }

    #[test]
    fn rfc9111_4_3_4_a_strong_tag_must_be_the_stored_one() {
        let about = |stored: &str, new: &str| {
            is_about(&answer(200, &[("etag", stored)]), &answer(304, &[("etag", new)]))
        };
        assert!(about("\"a\"", "\"a\""), "same");
        assert!(!about("\"a\"", "\"b\""), "other");
        assert!(!about("W/\"a\"", "\"a\""), "strong in the 304, weak in the store");
        assert!(about("W/\"a\"", "W/\"a\""), "both weak");
        assert!(about("\"a\"", "W/\"a\""), "weak in the 304: equivalent is enough");
        assert!(!about("\"a\"", "W/\"b\""), "weak, another");
        assert!(about("unquoted", "unquoted"), "no tags, but the same bytes");
        assert!(!about("a", "\"a\""), "no tag, and other bytes");
    }

    #[test]
    fn rfc9111_4_3_4_another_tag_is_not_outweighed_by_a_date() {
        let stored = answer(200, &[("etag", "\"a\""), ("last-modified", SUNDAY), ("date", MONDAY)]);
        assert!(
            !is_about(&stored, &answer(304, &[("etag", "\"b\""), ("last-modified", SUNDAY)])),
            "tag first"
        );
    }

    #[test]
    fn rfc9111_4_3_4_a_date_must_be_the_stored_one() {
        let stored = answer(200, &[("etag", "\"a\""), ("last-modified", SUNDAY)]);
        let same_in_another_form = answer(304, &[("last-modified", "Sun Nov  6 08:49:37 1994")]);
        assert!(is_about(&stored, &same_in_another_form), "same moment");
        assert!(!is_about(&stored, &answer(304, &[("last-modified", MONDAY)])), "later");
        let without = answer(200, &[("etag", "\"a\"")]);
        assert!(!is_about(&without, &answer(304, &[("last-modified", SUNDAY)])), "none is stored");
    }

    #[test]
    fn rfc9111_4_3_4_a_strong_tag_that_is_not_stored_needs_a_strong_date() {
        let new = answer(304, &[("etag", "\"a\""), ("last-modified", SUNDAY)]);
        assert!(is_about(&answer(200, &[("last-modified", SUNDAY), ("date", MONDAY)]), &new), "a day old");
        assert!(!is_about(&answer(200, &[("last-modified", SUNDAY), ("date", SUNDAY)]), &new), "that second");
        let weak = answer(304, &[("etag", "W/\"a\""), ("last-modified", SUNDAY)]);
        assert!(
            is_about(&answer(200, &[("last-modified", SUNDAY), ("date", SUNDAY)]), &weak),
            "weak is enough"
        );
        assert!(
            !is_about(&answer(200, &[("date", SUNDAY)]), &answer(304, &[("etag", "W/\"a\"")])),
            "neither"
        );
    }

    #[test]
    fn rfc9111_4_3_4_a_304_without_validators_is_about_what_was_asked() {
        assert!(is_about(&answer(200, &[("etag", "\"a\"")]), &answer(304, &[("date", SUNDAY)])));
    }

    #[test]
    fn rfc9111_3_2_a_field_is_replaced_with_all_its_lines() {
        let stored = answer(
            200,
            &[("a", "1"), ("a", "2"), ("b", "old"), ("kept", "yes"), ("content-type", "text/plain")],
        );
        let update = answer(
            304,
            &[("b", "new"), ("b", "newer"), ("a", "3"), ("c", "added"), ("content-type", "text/html")],
        );
        let merged = merge(&stored, &update);
        assert_eq!(lines(&merged, "a"), ["3"], "two lines became one");
        assert_eq!(lines(&merged, "b"), ["new", "newer"], "one became two");
        assert_eq!(lines(&merged, "c"), ["added"]);
        assert_eq!(lines(&merged, "kept"), ["yes"]);
        assert_eq!(lines(&merged, "content-type"), ["text/html"], "`Content-*` is no rule of its own");
        assert_eq!(merged.status, 200, "the status is the stored one");
    }

    #[test]
    fn rfc9111_3_2_what_the_stored_bytes_depend_on_stays() {
        let names =
            ["content-length", "content-encoding", "content-range", "content-md5", "content-digest", "etag"];
        for name in names {
            let merged = merge(&answer(200, &[(name, "old")]), &answer(304, &[(name, "new")]));
            assert_eq!(lines(&merged, name), ["old"], "{name}");
        }
        let nothing: [(&str, &str); 0] = [];
        let merged =
            merge(&answer(200, &nothing), &answer(304, &[("etag", "\"a\""), ("content-length", "0")]));
        assert_eq!(lines(&merged, "etag"), ["\"a\""], "a tag where there was none");
        assert_eq!(lines(&merged, "content-length"), [""; 0], "the length of a 304 is not that of the body");
    }

    #[test]
    fn rfc9111_3_1_fields_of_the_connection_are_not_updated() {
        let update = answer(
            304,
            &[
                ("connection", "close, X-Hop"),
                ("connection", "another"),
                ("x-hop", "1"),
                ("another", "1"),
                ("keep-alive", "timeout=5"),
                ("transfer-encoding", "chunked"),
                ("proxy-authenticate", "Basic"),
                ("upgrade", "h2c"),
                ("x-kept", "1"),
            ],
        );
        let merged = merge(&answer(200, &[("x-hop", "0")]), &update);
        assert_eq!(merged.headers, fields(&[("x-hop", "0"), ("x-kept", "1")]));
    }

    #[test]
    fn rfc9111_4_2_3_the_age_counts_from_the_update() {
        let stored = answer(200, &[("date", SUNDAY), ("age", "9")]);
        let merged = merge(&stored, &answer(304, &[("date", MONDAY)]));
        assert_eq!(merged.headers, fields(&[("date", MONDAY)]), "its date, and no old age");
        let merged = merge(&stored, &answer(304, &[("age", "4")]));
        assert_eq!(merged.headers, fields(&[("age", "4")]), "no date: it was made when it arrived");
    }

    #[test]
    fn rfc9111_4_3_5_a_head_updates_what_it_agrees_with() {
        let stored = answer(200, &[("etag", "\"a\""), ("last-modified", SUNDAY), ("content-length", "5")]);
        let said = |status, fields: &[(&str, &str)]| by_head(&stored, &answer(status, fields));
        assert_eq!(said(200, &[]), HeadEffect::Update, "it says nothing else");
        assert_eq!(
            said(200, &[("etag", "\"a\""), ("last-modified", SUNDAY), ("content-length", "5")]),
            HeadEffect::Update
        );
        assert_eq!(said(200, &[("etag", "\"b\"")]), HeadEffect::Invalidate, "another tag");
        assert_eq!(said(200, &[("last-modified", MONDAY)]), HeadEffect::Invalidate, "another date");
        assert_eq!(said(200, &[("content-length", "6")]), HeadEffect::Invalidate, "another length");
        for status in [206, 304, 404, 410, 500] {
            assert_eq!(said(status, &[("etag", "\"b\"")]), HeadEffect::Nothing, "{status}");
        }
        assert_eq!(
            by_head(&answer(404, &[("a", "1")]), &answer(200, &[("a", "1")])),
            HeadEffect::Invalidate,
            "it is back"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_bytes_in_validators_are_survived(
            ours in "[ -~\\u{80}-\\u{ff}]{0,12}", theirs in "[\"W/a,]{0,6}", connection in "[ ,;a-zé]{0,12}"
        ) {
            let stored = answer(200, &[("etag", &ours), ("last-modified", &theirs)]);
            let update = answer(304, &[("etag", &theirs), ("connection", &connection), ("a", &ours)]);
            prop_assert!(is_about(&stored, &stored), "an answer is about itself");
            let _ = (is_about(&stored, &update), by_head(&stored, &update));
            let merged = merge(&stored, &update);
            prop_assert_eq!(merged.headers.get("etag"), stored.headers.get("etag"));
            prop_assert_eq!(&merge(&merged, &update).headers, &merged.headers, "twice is once");
        }
    }
}
