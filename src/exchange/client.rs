//! Who the client is: the peer of the connection, or the address that trusted proxies report for it.
//!
//! `X-Forwarded-For` and `Forwarded` are text that anybody can send. They are believed only as far as trusted proxies
//! wrote them: hops are read from the right, the last one added first, and the first address that is not a trusted
//! proxy is the client. Where an entry cannot be read the walk ends, and the last address known for sure is used.
//! This file sets no header and knows no session.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

/// The networks whose word about the client is taken: a listener's `trustedProxies`. Empty trusts nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(pub Vec<IpNet>);

impl TrustedProxies {
    /// Whether `address` is one of them. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The address of the client: `peer`, unless that is a trusted proxy; then the rightmost hop that is not.
///
/// Both iterators give the field's lines in the order in which they came, each line's value as raw bytes. `Forwarded`
/// (RFC 7239) is read only if there is no `X-Forwarded-For` at all, so that a proxy that writes one of them cannot be
/// overruled through the other. If every hop is trusted, the leftmost one is the client.
#[must_use]
pub fn client_address<'a>(
    peer: IpAddr,
    trusted: &TrustedProxies,
    x_forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
    forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> IpAddr {
    let mut walk = Walk { trusted, client: peer.to_canonical() };
    if !trusted.contains(walk.client) {
        return walk.client;
    }
    let mut lines = x_forwarded_for.rev().peekable();
    if lines.peek().is_some() {
        let _ = lines.try_for_each(|line| walk.x_forwarded_for(line));
    } else {
        let _ = forwarded.rev().try_for_each(|line| walk.forwarded(line));
    }
    walk.client
}

/// The way from the peer towards the client.
struct Walk<'a> {
    trusted: &'a TrustedProxies,
    /// The farthest address known for sure.
    client: IpAddr,
}

impl Walk<'_> {
    /// Goes one hop further. `None` ends the walk: the entry cannot be read, or it is the client.
    fn hop(&mut self, address: Option<IpAddr>) -> Option<()> {
        self.client = address?.to_canonical();
        self.trusted.contains(self.client).then_some(())
    }

    fn x_forwarded_for(&mut self, line: &[u8]) -> Option<()> {
        line.rsplit(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            // Empty list elements mean nothing (RFC 9110 §5.6.1.2).
            .filter(|entry| !entry.is_empty())
            .try_for_each(|entry| self.hop(std::str::from_utf8(entry).ok().and_then(address)))
    }

    fn forwarded(&mut self, line: &[u8]) -> Option<()> {
        // Quotes can only be told apart from the left, so a line is split before it is walked.
        let line = std::str::from_utf8(line).ok()?;
        let elements = split_unquoted(line, ',')?;
        elements
            .into_iter()
            .rev()
            .map(str::trim_ascii)
            .filter(|element| !element.is_empty())
            .try_for_each(|element| self.hop(forwarded_for(element)))
    }
}

/// The `for` address of one element of `Forwarded`. `None` for `unknown`, an obfuscated `_name` (RFC 7239 §6.2, §6.3),
/// an element without `for` or with two, and anything malformed.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split_unquoted(element, ';')? {
        let pair = pair.trim_ascii();
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=')?;
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found?;
    match value.strip_prefix('"') {
        // An address holds nothing that is ever escaped, so a backslash is left to fail.
        Some(rest) => address(rest.strip_suffix('"')?),
        // Outside of quotes neither brackets nor a port may stand (RFC 7239 §4): an IPv4 address is all there is.
        None => value.parse().ok().map(IpAddr::V4),
    }
}

/// An address as proxies write it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (literal, port) = rest.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return literal.parse::<Ipv6Addr>().ok().filter(|_| is_port).map(IpAddr::V6);
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (host, port) = text.split_once(':')?;
    host.parse().ok().filter(|_| is_port(port)).map(IpAddr::V4)
}

/// `node-port` of RFC 7239 §6, the obfuscated ones too: a port is passed over, not used.
fn is_port(text: &str) -> bool {
    let is_obfuscated = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    match text.strip_prefix('_') {
        Some(name) => is_obfuscated(name),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Splits at `separator` outside of quoted strings. `None` if a quote is not closed.
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut quoted = false;
    let mut escaped = false;
    let is_split = |c: char| {
        let is_escape = quoted && !escaped && c == '\\';
        quoted ^= c == '"' && !escaped;
        escaped = is_escape;
        c == separator && !quoted
    };
    let parts = text.split(is_split).collect();
    (!quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted() -> TrustedProxies {
        let networks = ["10.0.0.0/8", "2001:db8:ffff::/48"];
        TrustedProxies(networks.map(|text| text.parse().expect(text)).to_vec())
    }

    fn client(peer: &str, x_forwarded_for: &[&str], forwarded: &[&str]) -> String {
        client_address(
            peer.parse().expect(peer),
            &trusted(),
            x_forwarded_for.iter().map(|line| line.as_bytes()),
            forwarded.iter().map(|line| line.as_bytes()),
        )
        .to_string()
    }

    fn by_x_forwarded_for(lines: &[&str]) -> String {
        client("10.0.0.1", lines, &[])
    }

    fn by_forwarded(lines: &[&str]) -> String {
        client("10.0.0.1", &[], lines)
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_client() {
        assert_eq!(client("192.0.2.9", &["1.1.1.1"], &["for=1.1.1.1"]), "192.0.2.9");
        assert_eq!(client("::ffff:192.0.2.9", &["1.1.1.1"], &[]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &[], &[]), "10.0.0.1", "nothing was reported");
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        assert_eq!(
            by_x_forwarded_for(&["1.1.1.1, 192.0.2.1"]),
            "192.0.2.1",
            "what a client wrote is left of it"
        );
        assert_eq!(by_x_forwarded_for(&["1.1.1.1, 192.0.2.1,10.1.1.1 , 10.2.2.2"]), "192.0.2.1");
        assert_eq!(by_x_forwarded_for(&["1.1.1.1, 192.0.2.1", "10.1.1.1"]), "192.0.2.1", "over all lines");
        assert_eq!(by_x_forwarded_for(&["10.1.1.1, 10.2.2.2"]), "10.1.1.1", "all are trusted");
        assert_eq!(by_x_forwarded_for(&["192.0.2.1,, ,"]), "192.0.2.1", "empty elements mean nothing");
        assert_eq!(client("::ffff:10.0.0.1", &["192.0.2.1, ::ffff:10.1.1.1"], &[]), "192.0.2.1", "mapped");
    }

    #[test]
    fn addresses_are_read_in_the_forms_proxies_write() {
        for (entry, address) in [
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(by_x_forwarded_for(&[entry]), address, "{entry}");
            assert_eq!(by_forwarded(&[&format!("for=\"{entry}\"")]), address, "{entry} quoted");
        }
    }

    #[test]
    fn an_entry_that_cannot_be_read_ends_the_walk() {
        for bad in
            ["unknown", "_hidden", "1.2.3", "1.2.3.4:", "1.2.3.4:x", "[::1", "[::1]x", "\"1.2.3.4\"", "é"]
        {
            assert_eq!(by_x_forwarded_for(&[&format!("192.0.2.1, {bad}, 10.1.1.1")]), "10.1.1.1", "{bad}");
        }
        let line: &[u8] = b"192.0.2.1, \xff";
        let client = client_address(
            IpAddr::from([10, 0, 0, 1]),
            &trusted(),
            std::iter::once(line),
            std::iter::empty(),
        );
        assert_eq!(client, IpAddr::from([10, 0, 0, 1]));
    }

    #[test]
    fn forwarded_is_walked_likewise() {
        assert_eq!(by_forwarded(&["for=1.1.1.1, for=192.0.2.1;proto=https;by=10.0.0.1"]), "192.0.2.1");
        assert_eq!(by_forwarded(&["For=192.0.2.1", "by=\"a,b;c\" ; for=10.1.1.1"]), "192.0.2.1");
        assert_eq!(by_forwarded(&["for=192.0.2.1, for=\"[2001:db8:ffff::1]:_port\""]), "192.0.2.1");
        for bad in [
            "for=unknown",
            "for=_hidden",
            "for=\"_hidden:80\"",
            "proto=https",
            "for=192.0.2.7;for=192.0.2.8",
            "for=2001:db8::1",
            "for=192.0.2.1:80",
            "for",
            "for=\"192.0.2.1",
            "for=\"192.0.2\\.1\"",
        ] {
            assert_eq!(by_forwarded(&["for=1.1.1.1", bad, "for=10.1.1.1"]), "10.1.1.1", "{bad}");
        }
    }

    #[test]
    fn a_client_cannot_hide_a_hop_in_quotes() {
        assert_eq!(by_forwarded(&["for=\"x, for=192.0.2.1"]), "10.0.0.1", "an open quote ends the walk");
        assert_eq!(by_forwarded(&["for=\"\\\", for=1.1.1.1\", for=192.0.2.1"]), "192.0.2.1");
    }

    #[test]
    fn forwarded_is_read_only_without_x_forwarded_for() {
        assert_eq!(client("10.0.0.1", &["192.0.2.1"], &["for=192.0.2.2"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &[""], &["for=192.0.2.2"]), "10.0.0.1", "an empty one is there");
    }

    proptest! {
        #[test]
        fn what_stands_left_of_an_untrusted_hop_changes_nothing(forged in "[ -~]{0,40}") {
            let line = format!("{forged}, 192.0.2.1, 10.1.1.1");
            prop_assert_eq!(by_x_forwarded_for(&[&forged, &line]), "192.0.2.1");
            prop_assert_eq!(by_forwarded(&[&forged, "for=192.0.2.1, for=10.1.1.1"]), "192.0.2.1");
        }
    }
}
