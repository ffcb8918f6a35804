//! `Cache-Control` and `CDN-Cache-Control`, read strictly: of an answer here, of a request in [`Asked`] (RFC 9111 §5.2, RFC 9213).
//!
//! Whatever cannot be understood makes the answer staler or more private, never the opposite. RFC 9111 §4.2.1 leaves two ways for a
//! directive that is given twice with different values, the first one or stale, and encourages stale for one that is no number: it is
//! stale here, because of two contradicting lifetimes nobody can say which was meant, and asking once more is never wrong.
//! This file reads; what follows from it is [`super::freshness`]'s and [`super::reuse`]'s.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName};

pub use asked::Asked;

mod asked;
mod targeted;

/// A directive with seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Seconds {
    /// Not there.
    #[default]
    Absent,
    /// There, understood, and the same everywhere.
    Is(Duration),
    /// There but unreadable, or twice with two values: counts as stale (RFC 9111 §4.2.1).
    Unclear,
}

impl Seconds {
    fn add(&mut self, value: Option<&str>) {
        let read = value.and_then(delta_seconds).map_or(Self::Unclear, Self::Is);
        *self = if *self == Self::Absent || *self == read { read } else { Self::Unclear };
    }

    /// The value, where unreadable means none.
    pub(super) fn known(self) -> Option<Duration> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Unclear => None,
        }
    }
}

/// The directives of an answer that this cache acts on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Directives {
    /// `no-store` (RFC 9111 §5.2.2.5).
    pub(super) no_store: bool,
    /// Something of the field cannot be read, so that a ban might be hidden in it: counts as `no-store`, and nothing lifts it.
    pub(super) unreadable: bool,
    /// `private` without fields (§5.2.2.7).
    pub(super) private: bool,
    /// `no-cache` without fields (§5.2.2.4).
    pub(super) no_cache: bool,
    /// Fields that `private="..."` and `no-cache="..."` name: they are not stored, the rest may be. Sorted by nothing, seldom any.
    pub(super) withheld: Vec<HeaderName>,
    /// `public` (§5.2.2.9).
    pub(super) public: bool,
    /// `must-revalidate` (§5.2.2.2), which also lets the answer to a request with `Authorization` be shared (§3.5).
    pub(super) must_revalidate: bool,
    /// `proxy-revalidate` (§5.2.2.8), which does not.
    pub(super) proxy_revalidate: bool,
    /// `must-understand` (§5.2.2.3).
    pub(super) must_understand: bool,
    /// `immutable` (RFC 8246).
    pub(super) immutable: bool,
    pub(super) max_age: Seconds,
    pub(super) s_maxage: Seconds,
    pub(super) stale_while_revalidate: Seconds,
    pub(super) stale_if_error: Seconds,
    /// They come from a targeted field, so `Expires` does not count either (RFC 9213 §2.2).
    pub(super) targeted: bool,
}

impl Directives {
    /// Whether an answer says that everybody may have it, whoever asked: `public`, or `s-maxage` that can be read (RFC 9111 §3.5).
    pub(super) fn is_for_all(&self) -> bool {
        self.public || self.s_maxage.known().is_some()
    }

    /// Reads what an answer says to a cache like this one: `CDN-Cache-Control` where it is there and valid, else all `Cache-Control`
    /// lines. Allocates only for field lists and the targeted field.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        if let Some(targeted) = targeted::read(headers) {
            return targeted;
        }
        let mut directives = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            let Ok(line) = line.to_str() else {
                directives.unreadable = true;
                continue;
            };
            if !members(line, |name, value| directives.add(name, value)) {
                directives.unreadable = true;
            }
        }
        directives
    }

    /// Whether the answer is not to be used when stale, said for itself and not by `s-maxage`.
    pub(super) fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate
    }

    /// `Unclear` and the bans also for what is written wrongly; leave (`public`, `must-understand`, `immutable`) only for what is not.
    fn add(&mut self, name: &str, value: Option<&str>) {
        // A space before the `=` is no part of the grammar: what it is a value of is unclear, if it is one at all.
        let (name, is_torn) = match name.split_once([' ', '\t']) {
            Some((first, _)) => (first, true),
            None => (name, false),
        };
        let plain = value.is_none() && !is_torn;
        let value = value.filter(|_| !is_torn);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if is("max-age") => self.max_age.add(value),
            () if is("s-maxage") => self.s_maxage.add(value),
            () if is("stale-while-revalidate") => self.stale_while_revalidate.add(value),
            () if is("stale-if-error") => self.stale_if_error.add(value),
            () if is("no-store") => self.no_store = true,
            () if is("private") => self.private |= !self.withhold(value),
            () if is("no-cache") => self.no_cache |= !self.withhold(value),
            () if is("must-revalidate") => self.must_revalidate = true,
            () if is("proxy-revalidate") => self.proxy_revalidate = true,
            () if is("public") => self.public |= plain,
            () if is("must-understand") => self.must_understand |= plain,
            () if is("immutable") => self.immutable |= plain,
            () => {}
        }
    }

    /// Notes the fields of a list. False where there is no list, or one that cannot be followed: then the directive speaks of the whole
    /// answer. That is so, too, for a list that names a field without which the rest is another answer.
    fn withhold(&mut self, list: Option<&str>) -> bool {
        let Some(list) = list else { return false };
        let before = self.withheld.len();
        for name in list.split(',').map(|name| name.trim_matches([' ', '\t'])).filter(|name| !name.is_empty())
        {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) if !INSEPARABLE.contains(&name) => self.withheld.push(name),
                _ => return false,
            }
        }
        self.withheld.len() > before
    }
}

/// Calls `each` with every `name[=value]` of a list, where values may be quoted and quotes may hold commas. The value has no quotes
/// around it; one that is quoted in part keeps them, so that no directive can read it. False where a quote is open at the end: what it
/// swallowed is unknown.
fn members<'l>(line: &'l str, mut each: impl FnMut(&'l str, Option<&'l str>)) -> bool {
    let mut quoted = false;
    let mut escaped = false;
    let separator = |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    };
    for member in line.split(separator) {
        let member = member.trim_matches([' ', '\t']);
        match member.split_once('=') {
            Some((name, value)) => each(name, Some(unquoted(value))),
            None if !member.is_empty() => each(member, None),
            None => {}
        }
    }
    !quoted
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// `delta-seconds` of RFC 9111 §1.2.2: digits only; a number too large is capped at 2^31.
pub(super) fn delta_seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(text.parse().map_or(MAX_SECONDS, |seconds: u64| seconds.min(MAX_SECONDS))))
}

/// Without one of these the rest would say something else, or to somebody else.
static INSEPARABLE: [HeaderName; 6] =
    [CACHE_CONTROL, targeted::CDN_CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY];

/// RFC 9111 §1.2.2.
const MAX_SECONDS: u64 = 1 << 31;

#[cfg(test)]
mod tests;
