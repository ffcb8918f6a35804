//! The only constructor of a cache key.
//!
//! A key is made of declared parts, before any credential is injected, so a secret can never be in one. Every part is framed
//! by its length: no two different requests give the same bytes, whatever characters they contain. The 128-bit hash is keyed
//! with seeds that live with the store, so that the next process computes the same, and computed once per request; the store compares the
//! framed bytes too, so even a collision is a miss and never somebody else's answer.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use http::Method;
use pingora_cache::CacheKey;
use pingora_cache::key::HashBinary;
use siphasher::sip::SipHasher13;
use siphasher::sip128;

/// Methods whose answers are kept together. GET and HEAD share one: a HEAD is answered from what a GET stored
/// (RFC 9111 §4). All other methods have none and are never looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodClass {
    /// GET and HEAD.
    Read,
}

impl MethodClass {
    /// The class of a method, or `None` for methods that the cache does not serve.
    pub fn of(method: &Method) -> Option<Self> {
        (method == Method::GET || method == Method::HEAD).then_some(Self::Read)
    }
}

/// Everything that tells one stored answer from another. Filled by `proxy` in `cache_key_callback`.
#[derive(Debug, Clone, Copy)]
pub struct KeyParts<'a> {
    /// The route's name. Comes first, so that all of a route can be purged.
    pub route: &'a str,
    /// A fingerprint of the route's settings that shape the stored body (JSON rules, rewriting, upstream). A reload that
    /// changes them must not serve bodies that the old rules shaped.
    pub policy: u64,
    /// GET and HEAD share one.
    pub method_class: MethodClass,
    /// `http` or `https`, as the client used it.
    pub scheme: &'a str,
    /// The public host, lower case, as routing saw it.
    pub host: &'a str,
    /// The public path in the one normal form that was authorised.
    pub path: &'a str,
    /// The query from [`canonical_query`], without `?`. What is dropped here must not reach the upstream either: an input
    /// that shapes the answer but not the key is how caches are poisoned.
    pub query: &'a str,
    /// Request headers that the route declared as part of the key, in the order of the declaration, names in lower case.
    /// A header that the request does not have is left out, which differs from one that is empty.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl KeyParts<'_> {
    /// The key, with its hash already computed. The upper half of the hash is the URL's alone ([`UrlHash`]), so everything that
    /// is stored for one URL, whatever its route, settings and headers, lies side by side and can be purged together.
    pub fn key(&self) -> CacheKey {
        let url = [self.scheme, self.host, self.path, self.query];
        let length: usize = url.iter().map(|part| part.len() + FRAME_BYTES).sum();
        let mut framed =
            Vec::with_capacity(self.route.len() + length + 2 * FRAME_BYTES + 10 + 64 * self.headers.len());
        framed.push(FORMAT);
        frame(&mut framed, self.route.as_bytes());
        frame(&mut framed, &self.policy.to_le_bytes());
        framed.push(match self.method_class {
            MethodClass::Read => READ,
        });
        let begin = framed.len();
        for part in url {
            frame(&mut framed, part.as_bytes());
        }
        let UrlHash(url) = UrlHash::of_framed(framed.get(begin..).unwrap_or_default());
        for (name, value) in self.headers {
            frame(&mut framed, name.as_bytes());
            frame(&mut framed, value);
        }
        let hash = (u128::from(url) << 64) | u128::from(hash64(&framed));
        let mut key = CacheKey::new(framed, String::new());
        key.set_primary_bin_override(hash.to_le_bytes());
        key
    }
}

/// A URL as purges find it: a hash of scheme, host, path and query, keyed with the store's seeds. The upper half of the hash
/// of every key of that URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UrlHash(pub(super) u64);

impl UrlHash {
    /// The hash of a URL in the form that keys have it in ([`KeyParts`]).
    #[must_use]
    pub fn of(scheme: &str, host: &str, path: &str, query: &str) -> Self {
        let mut framed = Vec::new();
        for part in [scheme, host, path, query] {
            frame(&mut framed, part.as_bytes());
        }
        Self::of_framed(&framed)
    }

    fn of_framed(framed: &[u8]) -> Self {
        let [one, other, ..] = seeds();
        Self(hash(framed, one, other))
    }
}

/// The parts of a key, read back from its framed bytes: for purges and for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framed<'a> {
    /// See [`KeyParts::route`].
    pub route: &'a str,
    /// See [`KeyParts::scheme`].
    pub scheme: &'a str,
    /// See [`KeyParts::host`].
    pub host: &'a str,
    /// See [`KeyParts::path`].
    pub path: &'a str,
    /// See [`KeyParts::query`].
    pub query: &'a str,
    headers: &'a [u8],
}

impl<'a> Framed<'a> {
    /// Reads the bytes of a key; `None` if they are no key of [`KeyParts::key`].
    #[must_use]
    pub fn read(framed: &'a [u8]) -> Option<Self> {
        let mut rest = framed.strip_prefix(&[FORMAT])?;
        let mut text = || std::str::from_utf8(unframe(&mut rest)?).ok();
        let route = text()?;
        unframe(&mut rest)?;
        rest = rest.strip_prefix(&[READ])?;
        let mut text = || std::str::from_utf8(unframe(&mut rest)?).ok();
        let (scheme, host, path, query) = (text()?, text()?, text()?, text()?);
        Some(Self { route, scheme, host, path, query, headers: rest })
    }

    /// The header parts: name and value.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut rest = self.headers;
        std::iter::from_fn(move || {
            let name = std::str::from_utf8(unframe(&mut rest)?).ok()?;
            Some((name, unframe(&mut rest)?))
        })
    }
}

fn unframe<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<FRAME_BYTES>()?;
    let (part, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = after;
    Some(part)
}

fn frame(framed: &mut Vec<u8>, part: &[u8]) {
    // Parts are parts of a request head, whose size is limited far below 4 GiB; a longer one would only lose the cache.
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
    framed.extend_from_slice(&length.to_le_bytes());
    framed.extend_from_slice(part);
}

/// A 128-bit hash, keyed with the store's seeds: equal for all processes that share it, and for those that come after them.
pub(super) fn hash128(bytes: &[u8]) -> HashBinary {
    let [.., one, other] = seeds();
    wide(bytes, one, other)
}

fn hash64(bytes: &[u8]) -> u64 {
    let [_, one, other, _] = seeds();
    hash(bytes, one, other)
}

/// SipHash-1-3 (Aumasson and Bernstein, 2012): nobody who does not know the seeds can make two keys fall together, and another build
/// computes the same.
fn hash(bytes: &[u8], one: u64, other: u64) -> u64 {
    SipHasher13::new_with_keys(one, other).hash(bytes)
}

/// The same with twice as many bits.
fn wide(bytes: &[u8], one: u64, other: u64) -> HashBinary {
    sip128::SipHasher13::new_with_keys(one, other).hash(bytes).as_bytes()
}

/// The seeds of every hash of this process.
static SEEDS: OnceLock<[u64; 4]> = OnceLock::new();

/// Takes the seeds of a store that was there before this process. False: others are in use already, and nothing of it will be found.
pub fn adopt(seeds: [u64; 4]) -> bool {
    *SEEDS.get_or_init(|| seeds) == seeds
}

/// The seeds in use; drawn, where no store gave any.
pub fn seeds() -> [u64; 4] {
    *SEEDS.get_or_init(|| {
        // Keyed from the system's random numbers.
        let drawn = RandomState::new();
        [0, 1, 2, 3].map(|number: u64| drawn.hash_one(number))
    })
}

/// A name of query parameters, as written in `cache.key.query.ignore`: exact, or with a `*` at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    is_prefix: bool,
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.is_prefix { "*" } else { "" })
    }
}

/// Why a text is no [`Pattern`]. The operator's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternError {
    /// Nothing, or only a star: that would ignore the whole query; use `keep` of the rewrite for that.
    Empty,
    /// A star anywhere but at the end.
    StarInside,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`] if it is empty or has a `*` before its end.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (text, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        match text {
            "" => Err(PatternError::Empty),
            text if text.contains('*') => Err(PatternError::StarInside),
            text => Ok(Self { text: text.into(), is_prefix }),
        }
    }

    fn matches(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&*self.text) } else { name == &*self.text }
    }
}

/// The query without the parameters that `ignore` names, the rest in its order, because order may matter to the upstream.
/// Names are compared as they are written: an encoded spelling of an ignored name only costs a second stored answer.
pub fn canonical_query<'q>(query: &'q str, ignore: &[Pattern]) -> Cow<'q, str> {
    let ignored = |parameter: &str| {
        let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
        ignore.iter().any(|pattern| pattern.matches(name))
    };
    if ignore.is_empty() || !query.split('&').any(ignored) {
        return Cow::Borrowed(query);
    }
    let mut kept = String::with_capacity(query.len());
    for parameter in query.split('&').filter(|parameter| !ignored(parameter)) {
        if !kept.is_empty() {
            kept.push('&');
        }
        kept.push_str(parameter);
    }
    Cow::Owned(kept)
}

/// Bytes of a length.
const FRAME_BYTES: usize = 4;
/// The first byte of every key; another layout gets another number.
const FORMAT: u8 = 1;
/// The byte of [`MethodClass::Read`].
const READ: u8 = b'R';

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_cache::key::CacheHashKey;
    use proptest::prelude::*;

    const PARTS: KeyParts<'static> = KeyParts {
        route: "weather",
        policy: 7,
        method_class: MethodClass::Read,
        scheme: "https",
        host: "app.example",
        path: "/api/weather",
        query: "city=Ulm",
        headers: &[("accept-language", b"de")],
    };

    #[test]
    fn every_build_computes_the_same() {
        // The reference's key, and its result for no bytes.
        let (one, other) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(hash(b"", one, other).to_le_bytes(), [0xdc, 0xc4, 0x0f, 0x05, 0x58, 0x01, 0xac, 0xab]);
        assert_eq!(
            hash(PARTS.key().primary_key(), 1, 2),
            0x2673_f013_794f_c650,
            "what is stored would not be found any more"
        );
        assert_eq!(
            u128::from_le_bytes(wide(b"news", 1, 2)),
            0x7b91_2147_60ae_c66e_1fd8_c2a5_a16e_e69e,
            "tags and variants"
        );
    }

    #[test]
    fn seeds_are_taken_once() {
        let key = PARTS.key();
        let taken = seeds();
        assert!(adopt(taken), "the same");
        assert!(!adopt(taken.map(|seed| !seed)), "others");
        assert_eq!(PARTS.key().primary_bin(), key.primary_bin(), "they stay");
        assert!(taken.iter().enumerate().all(|(at, seed)| !taken[..at].contains(seed)), "four of them");
    }

    #[test]
    fn every_part_changes_the_key() {
        let base = PARTS.key();
        let others = [
            KeyParts { route: "weathe", ..PARTS },
            KeyParts { policy: 8, ..PARTS },
            KeyParts { scheme: "http", ..PARTS },
            KeyParts { host: "app.exampl", ..PARTS },
            KeyParts { path: "/api/weather/", ..PARTS },
            KeyParts { query: "city=Ulm&", ..PARTS },
            KeyParts { headers: &[("accept-language", b"en")], ..PARTS },
            KeyParts { headers: &[], ..PARTS },
            KeyParts { headers: &[("accept-language", b"")], ..PARTS },
        ];
        for other in others {
            let key = other.key();
            assert_ne!(key.primary_key(), base.primary_key(), "{other:?}");
            assert_ne!(key.primary_bin(), base.primary_bin(), "{other:?}");
        }
        assert_eq!(PARTS.key().primary_bin(), base.primary_bin(), "the same parts, the same key");
    }

    #[test]
    fn characters_cannot_move_a_boundary_between_parts() {
        let one = KeyParts { host: "a", path: "b/c", ..PARTS }.key();
        let two = KeyParts { host: "ab", path: "/c", ..PARTS }.key();
        assert_ne!(one.primary_key(), two.primary_key(), "same text, other frames");
    }

    #[test]
    fn all_keys_of_a_url_share_the_upper_half_of_their_hash() {
        let url = UrlHash::of("https", "app.example", "/api/weather", "city=Ulm");
        let half = |parts: KeyParts<'_>| (u128::from_le_bytes(parts.key().primary_bin()) >> 64) as u64;
        for parts in [PARTS, KeyParts { route: "x", policy: 8, headers: &[], ..PARTS }] {
            assert_eq!(half(parts), url.0, "{parts:?}");
        }
        assert_ne!(half(KeyParts { query: "city=Ulm2", ..PARTS }), url.0, "a longer query is another URL");
        assert_ne!(half(KeyParts { host: "app.exampl", ..PARTS }), url.0, "another host");
    }

    #[test]
    fn a_key_can_be_read_back_and_nothing_else_can() {
        let key = PARTS.key();
        let read = Framed::read(key.primary_key()).unwrap();
        assert_eq!((read.route, read.scheme, read.host), ("weather", "https", "app.example"));
        assert_eq!((read.path, read.query), ("/api/weather", "city=Ulm"));
        assert_eq!(read.headers().collect::<Vec<_>>(), [("accept-language", &b"de"[..])]);
        for end in 0..key.primary_key().len() {
            let cut = &key.primary_key()[..end];
            assert!(Framed::read(cut).is_none_or(|read| read.headers().next().is_none()), "cut at {end}");
        }
        assert_eq!(Framed::read(b"/a"), None, "no key");
    }

    #[test]
    fn only_get_and_head_have_a_class() {
        assert_eq!(MethodClass::of(&Method::HEAD), MethodClass::of(&Method::GET), "shared");
        assert_eq!(MethodClass::of(&Method::POST), None, "post");
    }

    #[test]
    fn ignored_parameters_are_dropped_and_the_rest_keeps_its_order() {
        let ignore = [Pattern::parse("utm_*").unwrap(), Pattern::parse("fbclid").unwrap()];
        let cases = [
            ("b=2&a=1", "b=2&a=1"),
            ("utm_source=x&b=2&fbclid=1&a=1&utm_", "b=2&a=1"),
            ("utm=1&fbclid2=2", "utm=1&fbclid2=2"),
            ("utm_x", ""),
            ("", ""),
            ("a=1&&b=2", "a=1&&b=2"),
        ];
        for (query, expected) in cases {
            assert_eq!(canonical_query(query, &ignore), expected, "{query}");
        }
        assert!(
            matches!(canonical_query("a=1", &ignore), Cow::Borrowed(_)),
            "nothing to drop, nothing copied"
        );
    }

    #[test]
    fn a_pattern_has_its_star_at_the_end_or_not_at_all() {
        assert_eq!(Pattern::parse("*"), Err(PatternError::Empty), "everything");
        assert_eq!(Pattern::parse(""), Err(PatternError::Empty), "nothing");
        assert_eq!(Pattern::parse("a*b"), Err(PatternError::StarInside), "inside");
    }

    proptest! {
        #[test]
        fn different_parts_never_share_a_key(a in proptest::array::uniform4(".{0,6}"), b in proptest::array::uniform4(".{0,6}")) {
            let key = |p: &[String; 4]| KeyParts { scheme: &p[0], host: &p[1], path: &p[2], query: &p[3], ..PARTS }.key();
            prop_assert_eq!(a == b, key(&a).primary_key() == key(&b).primary_key());
        }
    }
}
