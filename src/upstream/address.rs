//! Which addresses are no public server's. A hidden upstream's name is somebody else's to change: it must not lead the
//! gateway, which stands inside, to a neighbour, to itself or to a cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` is loopback, private, link-local, multicast, reserved, or a spelling of such an IPv4 address in IPv6.
/// The lists are those of IANA's special-purpose registries (RFC 6890), by default refused for `kind: api`.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    V4.iter().any(|&([a, b, c, d], length)| {
        let network = u32::from_be_bytes([a, b, c, d]);
        (bits ^ network) >> (32 - length) == 0
    })
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    if let Some(embedded) = embedded_v4(bits) {
        return is_private_v4(embedded);
    }
    V6.iter().any(|&(network, length)| (bits ^ network.to_bits()) >> (128 - length) == 0)
}

/// The IPv4 address that traffic to an IPv6 address ends at.
fn embedded_v4(bits: u128) -> Option<Ipv4Addr> {
    let low = bits & 0xffff_ffff;
    let within = match (bits >> 32, bits >> 112) {
        (MAPPED | NAT64, _) => low,
        (_, SIX_TO_FOUR) => (bits >> 80) & 0xffff_ffff,
        _ => return None,
    };
    u32::try_from(within).ok().map(Ipv4Addr::from_bits)
}

/// `::ffff:0:0/96`, IPv4-mapped (RFC 4291 §2.5.5.2), without its last 32 bits.
const MAPPED: u128 = 0xffff;
/// `64:ff9b::/96`, NAT64 (RFC 6052 §2.1), without its last 32 bits.
const NAT64: u128 = 0x0064_ff9b_0000_0000_0000_0000;
/// `2002::/16`, 6to4 (RFC 3056 §2), its first 16 bits.
const SIX_TO_FOUR: u128 = 0x2002;

const V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),       // this network; Linux connects 0.0.0.0 to itself (RFC 1122 §3.2.1.3)
    ([10, 0, 0, 0], 8),      // private (RFC 1918)
    ([100, 64, 0, 0], 10),   // carrier-grade NAT (RFC 6598)
    ([127, 0, 0, 0], 8),     // loopback (RFC 1122 §3.2.1.3)
    ([169, 254, 0, 0], 16),  // link-local (RFC 3927); cloud metadata services live here
    ([172, 16, 0, 0], 12),   // private (RFC 1918)
    ([192, 0, 0, 0], 24),    // protocol assignments (RFC 6890)
    ([192, 0, 2, 0], 24),    // documentation (RFC 5737)
    ([192, 88, 99, 0], 24),  // 6to4 relays, withdrawn (RFC 7526)
    ([192, 168, 0, 0], 16),  // private (RFC 1918)
    ([198, 18, 0, 0], 15),   // benchmarks (RFC 2544)
    ([198, 51, 100, 0], 24), // documentation (RFC 5737)
    ([203, 0, 113, 0], 24),  // documentation (RFC 5737)
    ([224, 0, 0, 0], 4),     // multicast (RFC 5771)
    ([240, 0, 0, 0], 4),     // reserved (RFC 1112 §4) and broadcast (RFC 919)
];

const V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96), // unspecified, loopback, IPv4-compatible (RFC 4291)
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48), // local NAT64 (RFC 8215)
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64), // discard (RFC 6666)
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments (RFC 2928), Teredo (RFC 4380)
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation (RFC 3849)
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation (RFC 9637)
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16), // segment routing (RFC 9602)
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7), // unique local (RFC 4193)
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), // link-local (RFC 4291)
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10), // site-local, withdrawn (RFC 3879)
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8), // multicast (RFC 4291)
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_no_public_servers_are_private() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn neighbours_of_the_private_ranges_are_public() {
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:200::1",
            "fbff::1",
        ] {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }
}
