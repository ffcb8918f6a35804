//! The names by which answers can be purged together, read from an upstream's answer.
//!
//! `Cache-Groups` (RFC 9875 §2) is a structured field; `Surrogate-Key` (names apart by spaces) and `Cache-Tag` (by commas) are what
//! content systems send to the caches they know. All are taken from the answer as the upstream sent it, before what tells of the
//! upstream is taken off. They come from outside, so their number and their length are bounded.

use http::{HeaderMap, HeaderName, Method};
use sfv::{BareItem, ListEntry, Parser};

use super::tag_list::TagNames;

/// The tags of one answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags {
    /// Each once, in the order: the route's, groups, surrogate keys, cache tags.
    pub names: TagNames,
    /// How many were left out, being too many, too long or no text: a purge by these misses the answer.
    pub dropped: usize,
    /// Whether the upstream said any: a 304 that says none leaves those that are stored.
    pub are_said: bool,
}

/// The tags of an answer: what its route gives to all of its answers, and what the upstream said.
pub fn of_answer<'a>(headers: &HeaderMap, route_tags: impl Iterator<Item = &'a str>) -> Tags {
    let mut taken = Taken::default();
    route_tags.for_each(|name| taken.take(name));
    groups(headers, &GROUPS).iter().for_each(|name| taken.take(name));
    split(headers, &SURROGATE_KEY, &mut taken, |line| line.split_ascii_whitespace());
    split(headers, &CACHE_TAG, &mut taken, |line| line.split(',').map(str::trim));
    let are_said = FIELDS.iter().any(|field| headers.contains_key(field));
    Tags { names: taken.names.into_iter().collect(), dropped: taken.dropped, are_said }
}

/// The groups that an answer to an unsafe method makes invalid, for its own origin (RFC 9875 §3). None for a safe method.
#[must_use]
pub fn invalidated_groups(method: &Method, headers: &HeaderMap) -> Vec<Box<str>> {
    if method.is_safe() {
        return Vec::new();
    }
    let mut taken = Taken::default();
    groups(headers, &GROUP_INVALIDATION).iter().for_each(|name| taken.take(name));
    taken.names
}

/// The fields that tags come from.
pub const FIELDS: [HeaderName; 3] = [GROUPS, SURROGATE_KEY, CACHE_TAG];

/// The most tags of one object. RFC 9875 §2 asks for 32 at least.
pub const MAX_TAGS: usize = 64;
/// The longest tag, in bytes. RFC 9875 §2 asks for 32 characters at least.
pub const MAX_TAG_BYTES: usize = 1024;

#[derive(Default)]
struct Taken {
    names: Vec<Box<str>>,
    dropped: usize,
}

impl Taken {
    fn take(&mut self, name: &str) {
        if name.is_empty() || self.names.iter().any(|known| **known == *name) {
            return;
        }
        if self.names.len() >= MAX_TAGS || name.len() > MAX_TAG_BYTES {
            self.dropped += 1;
        } else {
            self.names.push(name.into());
        }
    }
}

/// A list of strings (RFC 9651 §3.1, §3.3.3), over all lines of the field. One that is anything else says nothing (§4.2).
fn groups(headers: &HeaderMap, field: &HeaderName) -> Vec<String> {
    let lines: Vec<&[u8]> = headers.get_all(field).iter().map(http::HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return Vec::new();
    }
    let Ok(list) = Parser::parse_list(&lines.join(&b", "[..])) else { return Vec::new() };
    let name = |entry: ListEntry| match entry {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::String(name) => Some(name),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    };
    list.into_iter().map(name).collect::<Option<Vec<String>>>().unwrap_or_default()
}

fn split<'a, I>(headers: &'a HeaderMap, field: &HeaderName, taken: &mut Taken, names: impl Fn(&'a str) -> I)
where
    I: Iterator<Item = &'a str>,
{
    for line in headers.get_all(field) {
        match line.to_str() {
            Ok(line) => names(line).for_each(|name| taken.take(name)),
            Err(_) => taken.dropped += 1,
        }
    }
}

const GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), http::HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields.iter().map(pair) {
            map.append(name, value);
        }
        map
    }

    fn names(fields: &[(&'static str, &str)]) -> Vec<String> {
        let tags = of_answer(&headers(fields), std::iter::empty());
        tags.names.list().into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rfc9875_2_groups_are_a_list_of_strings() {
        assert_eq!(names(&[("cache-groups", r#""scripts", "a b, c";x=1"#)]), ["scripts", "a b, c"]);
        assert_eq!(names(&[("cache-groups", r#""a""#), ("cache-groups", r#""b""#)]), ["a", "b"], "two lines");
        for other in ["scripts", r#""a", b"#, r#"("a")"#, r#""a"#, "\"a\", ", "1"] {
            assert_eq!(names(&[("cache-groups", other)]), [""; 0], "{other}: no list of strings");
        }
    }

    #[test]
    fn surrogate_keys_are_apart_by_spaces_and_cache_tags_by_commas() {
        let fields =
            [("surrogate-key", " post-1  post-2 "), ("cache-tag", "a b, c ,,d"), ("surrogate-key", "x")];
        assert_eq!(names(&fields), ["post-1", "post-2", "x", "a b", "c", "d"]);
    }

    #[test]
    fn tags_of_the_route_come_first_and_each_name_is_kept_once() {
        let tags = of_answer(&headers(&[("cache-tag", "b,a")]), ["a", "city:Oslo"].into_iter());
        assert_eq!(tags.names.list().into_iter().collect::<Vec<_>>(), ["a", "city:Oslo", "b"]);
        assert_eq!((tags.dropped, tags.are_said), (0, true), "a repeated one is no loss");
        assert!(!of_answer(&HeaderMap::new(), ["a"].into_iter()).are_said, "by the route only");
    }

    #[test]
    fn number_and_length_are_bounded_and_what_is_left_out_is_counted() {
        let many = (0..MAX_TAGS + 3).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let tags = of_answer(&headers(&[("surrogate-key", &many)]), std::iter::empty());
        assert_eq!((tags.names.list().into_iter().count(), tags.dropped), (MAX_TAGS, 3), "too many");
        let (longest, longer) = ("x".repeat(MAX_TAG_BYTES), "y".repeat(MAX_TAG_BYTES + 1));
        let tags =
            of_answer(&headers(&[("cache-tag", &longest), ("cache-tag", &longer)]), std::iter::empty());
        assert_eq!((tags.names.list().into_iter().count(), tags.dropped), (1, 1), "too long");
        assert_eq!(of_answer(&headers(&[("cache-tag", "ü")]), std::iter::empty()).dropped, 1, "no text");
    }

    #[test]
    fn rfc9875_3_only_answers_to_unsafe_methods_invalidate_groups() {
        let fields = headers(&[("cache-group-invalidation", r#""eurovision", "kylie""#)]);
        assert_eq!(invalidated_groups(&Method::POST, &fields), ["eurovision".into(), "kylie".into()]);
        assert_eq!(invalidated_groups(&Method::from_bytes(b"LINK").unwrap(), &fields).len(), 2, "unknown");
        assert_eq!(invalidated_groups(&Method::GET, &fields), Vec::<Box<str>>::new(), "safe");
    }
}
