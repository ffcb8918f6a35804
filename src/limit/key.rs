//! Who is counted: one limit and one subject, hashed with the seeds of a table.
//!
//! SipHash-1-3, because its result is written down: another process, of another build, must come to the same.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::net::IpAddr;

/// What keys are hashed with. Drawn at random, so that nobody outside can choose subjects that fall together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seeds(pub(super) [u64; 2]);

/// One subject under one limit. Means something only to tables with the same seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub(super) u64);

impl Key {
    /// The key of `subject` under the limit `limit_id`. Two limits never share a key, so they may share a table.
    ///
    /// 64 bits: among a million live keys the chance that any two are one is about 1 in 37 million.
    pub(super) fn new(Seeds([first, second]): Seeds, limit_id: u64, subject: &[u8]) -> Self {
        let mut hasher = SipHasher13::new_with_keys(first, second);
        hasher.write(&limit_id.to_le_bytes());
        hasher.write(subject);
        // 0 is no key.
        Self(hasher.finish().max(1))
    }
}

/// The same number for the same limit in every process of every build: a reload, an upgrade and a restart keep its counters.
#[must_use]
pub fn limit_id(route: &str, limit: &str) -> u64 {
    // Numbers of our own, which stay: the names are the operator's, so nobody chooses them to fall together.
    let mut hasher = SipHasher13::new_with_keys(5, 6);
    hasher.write(route.as_bytes());
    // In no text.
    hasher.write(&[0xff]);
    hasher.write(limit.as_bytes());
    hasher.finish()
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
        let key = |limit_id, subject| Key::new(Seeds([1, 2]), limit_id, subject);
        assert_eq!(key(1, b"a"), key(1, b"a"));
        assert_ne!(key(1, b"a"), key(2, b"a"));
        assert_ne!(key(1, b"a"), key(1, b"b"));
        assert_ne!(key(1, b"a"), Key::new(Seeds([1, 3]), 1, b"a"), "seeds tell tables apart");
    }

    #[test]
    fn a_limit_has_its_number_for_ever() {
        assert_ne!(limit_id("ab", "c"), limit_id("a", "bc"));
        // Written down by every gateway: another number would forget everybody at an upgrade. So would another key.
        assert_eq!(limit_id("weather", "default"), 14_422_004_325_511_140_895);
        assert_eq!(Key::new(Seeds([1, 2]), 3, b"client"), Key(2_236_576_317_072_825_117));
    }
}
