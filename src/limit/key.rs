//! Who is counted: one limit and one subject, hashed with a seed of this process.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::LazyLock;

/// Drawn once per process, so that nobody outside can choose subjects that fall together.
static SEED: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);

/// The first key there is. The table uses the numbers below for its own marks.
pub(super) const FIRST_KEY: u64 = 2;

/// One subject under one limit. Means nothing in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub(super) u64);

impl Key {
    /// The key of `subject` under the limit `limit_id`. Two limits never share a key, so they may share a table.
    ///
    /// 64 bits: among a million live keys the chance that any two are one is about 1 in 37 million.
    #[must_use]
    pub fn new(limit_id: u64, subject: &[u8]) -> Self {
        let mut hasher = SEED.build_hasher();
        hasher.write_u64(limit_id);
        hasher.write(subject);
        Self(hasher.finish().max(FIRST_KEY))
    }
}

/// What a client address counts as: a family mark, then the address or its network.
pub type Subject = [u8; 9];

/// The subject of an address: IPv4 whole, IPv6 by its /64, because one customer holds all of a /64 and could change
/// the rest for every request. An IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2) counts as the IPv4 address.
#[must_use]
pub fn client_subject(address: IpAddr) -> Subject {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [4, a, b, c, d, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            [6, a, b, c, d, e, f, g, h]
        }
    }
}

/// The same for people: the address, or its network.
#[must_use]
pub fn client_subject_text(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Subject {
        client_subject(text.parse().expect(text))
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        assert_eq!(subject("2001:db8:1:2::1"), subject("2001:db8:1:2:ffff::9"));
        assert_ne!(subject("2001:db8:1:2::1"), subject("2001:db8:1:3::1"));
    }

    #[test]
    fn an_ipv4_client_is_itself_in_both_spellings() {
        assert_ne!(subject("192.0.2.1"), subject("192.0.2.2"));
        assert_eq!(subject("192.0.2.1"), subject("::ffff:192.0.2.1"));
        assert_ne!(subject("0.0.0.0"), subject("::"), "families never meet");
    }

    #[test]
    fn a_subject_reads_as_what_is_counted() {
        let text = |address: &str| client_subject_text(address.parse().expect(address));
        assert_eq!(text("2001:db8:1:2:ffff::9"), "2001:db8:1:2::/64");
        assert_eq!(text("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn limits_do_not_share_keys() {
        assert_eq!(Key::new(1, b"a"), Key::new(1, b"a"));
        assert_ne!(Key::new(1, b"a"), Key::new(2, b"a"));
        assert_ne!(Key::new(1, b"a"), Key::new(1, b"b"));
    }
}
