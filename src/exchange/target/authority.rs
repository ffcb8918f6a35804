//! The one form of an authority: `Host` of HTTP/1, `:authority` of HTTP/2, and the one of an absolute-form target.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest host name, in bytes, without its trailing dot (RFC 1035 §2.3.4).
const MAX_HOST_BYTES: usize = 253;

/// The longest label of a host name, in bytes (RFC 1035 §2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// Host and port in their only form. Its `Display` is what can be sent as `Host`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Lower case ASCII without trailing dot; an IPv6 address in brackets, in its RFC 5952 text.
    pub host: String,
    /// 1 to 65535; `None` where none was written.
    pub port: Option<u16>,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Why an authority is refused with 400. Always the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadAuthority {
    /// No host.
    Blank,
    /// Longer than a host name can be, or a label of it is.
    TooLong,
    /// `user@`: it makes one host look like another.
    Userinfo,
    /// Something that a host name cannot hold: space, comma, path, `%`, a letter outside ASCII (IDNA names come as
    /// `xn--`), an empty label, digits that are no IPv4 address.
    Host,
    /// A bracketed literal that is no plain IPv6 address. Zones are refused too.
    Ipv6,
    /// A `:` without a number from 1 to 65535 behind it.
    Port,
}

impl BadAuthority {
    /// A stable code for logs and metrics. Holds nothing of the request.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Blank => "authority_blank",
            Self::TooLong => "authority_too_long",
            Self::Userinfo => "authority_userinfo",
            Self::Host => "authority_host",
            Self::Ipv6 => "authority_ipv6",
            Self::Port => "authority_port",
        }
    }
}

impl fmt::Display for BadAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl std::error::Error for BadAuthority {}

/// Normalises the value of `Host` (RFC 9110 §7.2) or `:authority` (RFC 9113 §8.3.1).
///
/// # Errors
/// [`BadAuthority`], for anything but a host name, an IPv4 address or a bracketed IPv6 address, and a port.
pub fn authority(raw: &str) -> Result<Authority, BadAuthority> {
    if raw.contains('@') {
        return Err(BadAuthority::Userinfo);
    }
    if let Some(rest) = raw.strip_prefix('[') {
        let (literal, port) = rest.split_once(']').ok_or(BadAuthority::Ipv6)?;
        let address: Ipv6Addr = literal.parse().map_err(|_| BadAuthority::Ipv6)?;
        let port = match port.strip_prefix(':') {
            Some(digits) => Some(parse_port(digits)?),
            None if port.is_empty() => None,
            None => return Err(BadAuthority::Ipv6),
        };
        return Ok(Authority { host: format!("[{address}]"), port });
    }
    let (host, port) = match raw.split_once(':') {
        Some((host, digits)) => (host, Some(parse_port(digits)?)),
        None => (raw, None),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    check_host(host)?;
    Ok(Authority { host: host.to_ascii_lowercase(), port })
}

fn check_host(host: &str) -> Result<(), BadAuthority> {
    if host.is_empty() {
        return Err(BadAuthority::Blank);
    }
    if host.len() > MAX_HOST_BYTES || host.split('.').any(|label| label.len() > MAX_LABEL_BYTES) {
        return Err(BadAuthority::TooLong);
    }
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !host.bytes().all(is_known) || host.split('.').any(str::is_empty) {
        return Err(BadAuthority::Host);
    }
    // `127.1` is a name to one reader and an address to another.
    let ends_in_number =
        host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if ends_in_number && host.parse::<Ipv4Addr>().is_err() {
        return Err(BadAuthority::Host);
    }
    Ok(())
}

fn parse_port(digits: &str) -> Result<u16, BadAuthority> {
    if digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadAuthority::Port);
    }
    digits.parse().ok().filter(|port| *port > 0).ok_or(BadAuthority::Port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(raw: &str) -> String {
        authority(raw).map_or_else(|why| why.code().to_owned(), |authority| authority.to_string())
    }

    #[test]
    fn authorities_have_one_form() {
        for (raw, form) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:0443", "example.com:443"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("my_host-1", "my_host-1"),
            ("127.0.0.1:65535", "127.0.0.1:65535"),
            ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(shown(raw), form, "{raw}");
        }
    }

    #[test]
    fn doubtful_authorities_are_refused() {
        for (raw, why) in [
            ("", BadAuthority::Blank),
            (".", BadAuthority::Blank),
            (":80", BadAuthority::Blank),
            ("a:", BadAuthority::Port),
            ("a:0", BadAuthority::Port),
            ("a:65536", BadAuthority::Port),
            ("a:+80", BadAuthority::Port),
            ("a:80:80", BadAuthority::Port),
            ("a:8a", BadAuthority::Port),
            ("u:p@a", BadAuthority::Userinfo),
            ("a b", BadAuthority::Host),
            ("a,b", BadAuthority::Host),
            ("a/b", BadAuthority::Host),
            ("a%2eb", BadAuthority::Host),
            ("a..b", BadAuthority::Host),
            ("a..", BadAuthority::Host),
            (".a", BadAuthority::Host),
            ("bücher.example", BadAuthority::Host),
            ("127.1", BadAuthority::Host),
            ("1.2.3.4.5", BadAuthority::Host),
            ("::1", BadAuthority::Port),
            ("[::1", BadAuthority::Ipv6),
            ("[::1]a", BadAuthority::Ipv6),
            ("[fe80::1%eth0]", BadAuthority::Ipv6),
            ("[v1.x]", BadAuthority::Ipv6),
            ("[1.2.3.4]", BadAuthority::Ipv6),
        ] {
            assert_eq!(authority(raw), Err(why), "{raw:?}");
        }
        assert_eq!(authority(&"a".repeat(64)), Err(BadAuthority::TooLong));
        assert_eq!(authority(&"a.".repeat(127)), authority(&"a.".repeat(127)[..253]), "253 bytes fit");
        assert_eq!(authority(&"a.".repeat(128)), Err(BadAuthority::TooLong));
    }

    proptest! {
        #[test]
        fn normalising_is_a_fixed_point(host in "[a-zA-Z0-9.:@\\[\\]%é-]{0,20}") {
            if let Ok(once) = authority(&host) {
                prop_assert_eq!(authority(&once.to_string()), Ok(once.clone()));
            }
        }
    }
}
