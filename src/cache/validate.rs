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

/// Whether a 304 speaks of the stored answer by whose validators it was asked (RFC 9111 §4.3.4). If not, it must update
/// nothing, and the request has to be made again without conditions.
///
/// A strong entity tag must be the stored one; a weak one, or a `Last-Modified`, must be equivalent to it. A 304 without
/// any validator is about the one answer that was asked about.
#[must_use]
pub fn is_about(stored: &ResponseHeader, not_modified: &ResponseHeader) -> bool {
    let (ours, theirs) = (&stored.headers, &not_modified.headers);
    if let (true, true) = (theirs.contains_key(ETAG), ours.contains_key(ETAG)) {
        return same_tag(ours, theirs);
    }
    if EntityTag::of(theirs).is_some_and(|tag| !tag.is_weak) {
        // No tag is stored: only a date that is as good as one may stand in for it.
        return strong_date(ours).is_some_and(|date| only_date(theirs, &LAST_MODIFIED) == Some(date));
    }
    !theirs.contains_key(LAST_MODIFIED) || same_date(ours, theirs)
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

/// Reads the answer to a HEAD for a stored answer to GET (RFC 9111 §4.3.5).
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
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
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
