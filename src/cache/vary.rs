//! `Vary`: which variant of a stored answer a request selects (RFC 9111 §4.1).
//!
//! The names come from the stored head, the values from the request as it goes upstream, all lines of a field, in one form
//! (`values`). They are hashed with a framing of their own; a header that is absent is not the same as one that is empty.

mod values;

use std::cmp::Ordering;

use http::header::{ACCEPT_ENCODING, VARY};
use http::{HeaderMap, HeaderName};
use pingora_cache::key::HashBinary;

use super::key::hash128;

/// What `Vary` says about a stored answer and a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vary {
    /// One answer for all requests.
    None,
    /// `*`, or something that cannot be followed (too many names, bytes that are no name): never matches, never stored.
    Star,
    /// The request selects this variant.
    Hash(HashBinary),
}

impl Vary {
    /// The hash, if there is one. A stored answer is never [`Vary::Star`], so that case is moot.
    pub fn hash(self) -> Option<HashBinary> {
        match self {
            Self::Hash(hash) => Some(hash),
            Self::None | Self::Star => None,
        }
    }
}

/// The fields of a request by which a variant is chosen.
#[derive(Debug, Clone, Copy)]
pub struct Selecting<'a> {
    /// As the client sent them.
    pub fields: &'a HeaderMap,
    /// The upstream is asked for no coding, whatever the client takes: then `Accept-Encoding` makes no difference.
    pub uncoded: bool,
}

impl<'a> From<&'a HeaderMap> for Selecting<'a> {
    fn from(fields: &'a HeaderMap) -> Self {
        Self { fields, uncoded: false }
    }
}

/// Computes the variance of `request` under the `Vary` lines of `stored`. Allocates only if there are any.
pub fn variance<'a>(stored: &HeaderMap, request: impl Into<Selecting<'a>>) -> Vary {
    if !stored.contains_key(VARY) {
        return Vary::None;
    }
    let mut names: [&str; MAX_NAMES] = [""; MAX_NAMES];
    let Some(count) = named(stored, &mut names) else { return Vary::Star };
    let Some(names) = names.get_mut(..count).filter(|names| !names.is_empty()) else { return Vary::None };
    names.sort_unstable_by(|a, b| order_ignoring_case(a, b));
    Vary::Hash(hash128(&selected(names, request.into())))
}

/// Whether the `Vary` of an answer leaves any request that it is for: `false` where [`variance`] would be [`Vary::Star`].
pub fn can_be_followed(answer: &HeaderMap) -> bool {
    !answer.contains_key(VARY) || named(answer, &mut [""; MAX_NAMES]).is_some()
}

/// Writes the names, each once, and says how many there are. `None`: they cannot be followed.
fn named<'h>(stored: &'h HeaderMap, names: &mut [&'h str; MAX_NAMES]) -> Option<usize> {
    let mut count = 0;
    for line in stored.get_all(VARY) {
        let line = line.to_str().ok()?;
        for name in line.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            // What is no name cannot be followed, `*` foremost.
            if name == "*" || HeaderName::from_bytes(name.as_bytes()).is_err() {
                return None;
            }
            if names.iter().take(count).any(|known| known.eq_ignore_ascii_case(name)) {
                continue;
            }
            *names.get_mut(count)? = name;
            count += 1;
        }
    }
    Some(count)
}

/// Each name in lower case, a zero byte, and the form of its value.
fn selected(names: &[&str], request: Selecting<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    for name in names {
        bytes.extend(name.bytes().map(|b| b.to_ascii_lowercase()));
        bytes.push(0);
        if request.uncoded && name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str()) {
            continue;
        }
        values::push_form(&mut bytes, name, request.fields);
    }
    bytes
}

fn order_ignoring_case(a: &str, b: &str) -> Ordering {
    a.bytes().map(|c| c.to_ascii_lowercase()).cmp(b.bytes().map(|c| c.to_ascii_lowercase()))
}

/// More names than this are taken for `*`: such answers have as many variants as clients.
pub const MAX_NAMES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::heads::fields;

    fn select(vary: &str, request: &[(&str, &str)]) -> Vary {
        variance(&fields(&[("vary", vary)]), &fields(request))
    }

    #[test]
    fn rfc9111_4_1_no_vary_and_an_empty_one_select_nothing() {
        assert_eq!(variance(&HeaderMap::new(), &fields(&[("a", "1")])), Vary::None, "absent");
        assert_eq!(select(" , ", &[]), Vary::None, "empty");
    }

    #[test]
    fn where_no_coding_is_asked_for_the_client_s_codings_make_no_difference() {
        let stored = fields(&[("vary", "Accept-Encoding, x-kind")]);
        let chosen = |request: &[(&str, &str)]| {
            let fields = fields(request);
            variance(&stored, Selecting { fields: &fields, uncoded: true })
        };
        assert_eq!(chosen(&[("accept-encoding", "br")]), chosen(&[]), "one variant");
        assert_ne!(chosen(&[("x-kind", "a")]), chosen(&[]), "other fields still choose");
    }

    #[test]
    fn rfc9111_4_1_a_star_anywhere_never_matches() {
        assert_eq!(select("accept, *", &[]), Vary::Star, "in a list");
        assert_eq!(
            variance(&fields(&[("vary", "a"), ("vary", "*")]), &HeaderMap::new()),
            Vary::Star,
            "on a second line"
        );
    }

    #[test]
    fn nine_names_are_a_star_and_eight_are_not() {
        assert!(matches!(select("a,b,c,d,e,f,g,h,A,B", &[]), Vary::Hash(_)), "eight, some twice");
        assert_eq!(select("a,b,c,d,e,f,g,h,i", &[]), Vary::Star, "nine");
    }

    #[test]
    fn order_and_case_of_names_do_not_matter_but_values_do() {
        let request = [("accept-language", "de"), ("origin", "https://a.example")];
        let base = select("Accept-Language, Origin", &request);
        assert_eq!(base, select("origin,accept-language", &request), "same set");
        assert_ne!(base, select("origin,accept-language", &[("accept-language", "en")]), "other values");
    }

    #[test]
    fn an_absent_header_is_not_an_empty_one() {
        assert_ne!(select("origin", &[]), select("origin", &[("origin", "")]), "absent or empty");
    }

    #[test]
    fn rfc9111_4_1_all_lines_of_a_field_count_as_one() {
        let one = select("x-tenant", &[("x-tenant", "a")]);
        let two = select("x-tenant", &[("x-tenant", "a"), ("x-tenant", "b")]);
        assert_ne!(one, two, "a second line");
        assert_eq!(two, select("x-tenant", &[("x-tenant", "a, b")]), "the same on one line");
    }

    #[test]
    fn a_value_cannot_reach_into_the_next() {
        let request = |a: &str, b: &str| select("a, b", &[("a", a), ("b", b)]);
        assert_ne!(request("1", "2,3"), request("1,2", "3"), "other fields, same bytes");
        assert_ne!(select("a, b", &[("a", "=b")]), select("a, b", &[("b", "=b")]), "one of two");
    }

    #[test]
    fn rfc9110_12_5_5_what_is_no_name_is_a_star() {
        for vary in ["accept encoding", "a;b", "\"a\"", "a, b c", "é"] {
            assert_eq!(select(vary, &[]), Vary::Star, "{vary}");
        }
    }

    #[test]
    fn accept_encoding_is_compared_by_what_it_means() {
        let encoding = |value| select("Accept-Encoding", &[("accept-encoding", value)]);
        assert_eq!(encoding("gzip, br"), encoding("br,x-GZIP;q=1.0"), "same codings");
        assert_ne!(encoding("deflate"), encoding("identity"), "a coding that only some accept");
        assert_ne!(encoding("gzip"), encoding("gzip, identity;q=0"), "identity refused");
    }
}
