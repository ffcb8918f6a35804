//! `Vary`: which variant of a stored answer a request selects (RFC 9111 §4.1).
//!
//! The names come from the stored head, the values from the request as it goes upstream, all lines of a field. Values are
//! hashed with a framing of their own; a header that is absent is not the same as one that is empty.

use std::cmp::Ordering;

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, VARY};
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
    /// What the framework's `cache_vary_filter` wants. A stored answer is never [`Vary::Star`], so that case is moot.
    pub fn hash(self) -> Option<HashBinary> {
        match self {
            Self::Hash(hash) => Some(hash),
            Self::None | Self::Star => None,
        }
    }
}

/// Computes the variance of `request` under the `Vary` lines of `stored`. Allocates only if there are any.
pub fn variance(stored: &HeaderMap, request: &HeaderMap) -> Vary {
    if !stored.contains_key(VARY) {
        return Vary::None;
    }
    let mut names: [&str; MAX_NAMES] = [""; MAX_NAMES];
    let mut count = 0;
    for line in stored.get_all(VARY) {
        let Ok(line) = line.to_str() else { return Vary::Star };
        for name in line.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "*" {
                return Vary::Star;
            }
            if names.iter().take(count).any(|known| known.eq_ignore_ascii_case(name)) {
                continue;
            }
            let Some(place) = names.get_mut(count) else { return Vary::Star };
            *place = name;
            count += 1;
        }
    }
    let Some(names) = names.get_mut(..count).filter(|names| !names.is_empty()) else { return Vary::None };
    names.sort_unstable_by(|a, b| order_ignoring_case(a, b));
    Vary::Hash(hash128(&selected(names, request)))
}

/// `name, number of lines, (length, line)...` for each name.
fn selected(names: &[&str], request: &HeaderMap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    for name in names {
        bytes.extend(name.bytes().map(|b| b.to_ascii_lowercase()));
        bytes.push(0);
        if name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str()) {
            bytes.push(codings(request));
            continue;
        }
        // A name that is no header name has no lines.
        let lines = request.get_all(*name);
        bytes.extend_from_slice(&lines.iter().count().to_le_bytes());
        for line in lines {
            bytes.extend_from_slice(&line.len().to_le_bytes());
            bytes.extend_from_slice(line.as_bytes());
        }
    }
    bytes
}

/// `Accept-Encoding` as a set of what it accepts: browsers spell the same set in many ways (RFC 9110 §12.5.3).
fn codings(request: &HeaderMap) -> u8 {
    let (mut accepted, mut refused, mut any) = (0, 0, false);
    for line in request.get_all(ACCEPT_ENCODING) {
        for member in line.to_str().unwrap_or_default().split(',') {
            let (name, weight) = member.split_once(';').unwrap_or((member, ""));
            let bit = match name.trim() {
                name if name.eq_ignore_ascii_case("br") => BR,
                name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => GZIP,
                name if name.eq_ignore_ascii_case("zstd") => ZSTD,
                name if name.eq_ignore_ascii_case("identity") => IDENTITY,
                "*" => {
                    any = !is_zero(weight);
                    continue;
                }
                _ => continue,
            };
            if is_zero(weight) { refused |= bit } else { accepted |= bit }
        }
    }
    let implied = if any { BR | GZIP | ZSTD } else { 0 };
    (accepted | implied | IDENTITY) & !refused
}

/// True for `q=0`, `q=0.0` and so on.
fn is_zero(weight: &str) -> bool {
    let Some((name, value)) = weight.split_once('=') else { return false };
    let value = value.trim();
    name.trim().eq_ignore_ascii_case("q")
        && value.starts_with('0')
        && value.bytes().all(|b| b == b'0' || b == b'.')
}

fn order_ignoring_case(a: &str, b: &str) -> Ordering {
    a.bytes().map(|c| c.to_ascii_lowercase()).cmp(b.bytes().map(|c| c.to_ascii_lowercase()))
}

/// More names than this are taken for `*`: such answers have as many variants as clients.
pub const MAX_NAMES: usize = 8;
const BR: u8 = 1;
const GZIP: u8 = 2;
const ZSTD: u8 = 4;
const IDENTITY: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            map.append(name, value);
        }
        map
    }

    fn select(vary: &str, request: &[(&str, &str)]) -> Vary {
        variance(&map(&[("vary", vary)]), &map(request))
    }

    #[test]
    fn rfc9111_4_1_no_vary_and_an_empty_one_select_nothing() {
        assert_eq!(variance(&map(&[]), &map(&[("a", "1")])), Vary::None, "absent");
        assert_eq!(select(" , ", &[]), Vary::None, "empty");
    }

    #[test]
    fn rfc9111_4_1_a_star_anywhere_never_matches() {
        assert_eq!(select("accept, *", &[]), Vary::Star, "in a list");
        assert_eq!(
            variance(&map(&[("vary", "a"), ("vary", "*")]), &map(&[])),
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
    fn all_lines_of_a_field_count() {
        let one = select("x-tenant", &[("x-tenant", "a")]);
        assert_ne!(one, select("x-tenant", &[("x-tenant", "a"), ("x-tenant", "b")]), "a second line");
        let split = select("x-tenant", &[("x-tenant", "a,b")]);
        assert_ne!(split, select("x-tenant", &[("x-tenant", "a"), ("x-tenant", "b")]), "lines are framed");
    }

    #[test]
    fn accept_encoding_is_a_set_of_known_codings() {
        let encoding = |value| select("Accept-Encoding", &[("accept-encoding", value)]);
        assert_eq!(encoding("gzip, br;q=0.8, deflate"), encoding("br,GZIP;q=1.0"), "same set");
        assert_eq!(encoding("gzip;q=0"), select("accept-encoding", &[]), "nothing but identity");
        assert_eq!(encoding("*"), encoding("gzip,br,zstd"), "any");
        assert_eq!(encoding("*, br;q=0"), encoding("gzip,zstd"), "any but one");
        assert_ne!(encoding("gzip"), encoding("gzip, identity;q=0"), "identity refused");
    }
}
