//! How many connections there may be, in all and from one address.
//!
//! A [`Permit`] is one connection's share of both counts; dropping it gives the share back. Counting per address is sharded,
//! so that no lock is shared by all workers, and an address without connections costs no memory. Nothing is done per request.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use parking_lot::Mutex;

/// Why a connection was closed right after accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The listener has as many connections as it may have.
    TotalLimit,
    /// The peer's address has as many connections as it may have.
    AddressLimit,
}

impl Refusal {
    /// The label: `total_limit` or `address_limit`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TotalLimit => "total_limit",
            Self::AddressLimit => "address_limit",
        }
    }
}

/// The counts of one listener. Lifetime: process.
pub(super) struct Caps {
    total_limit: usize,
    address_limit: usize,
    total: AtomicUsize,
    hasher: RandomState,
    shards: [Mutex<HashMap<IpAddr, usize, RandomState>>; SHARDS],
}

impl Caps {
    pub(super) fn new(total_limit: usize, address_limit: usize) -> Arc<Self> {
        Arc::new(Self {
            total_limit,
            address_limit,
            total: AtomicUsize::new(0),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(RandomState::new()))),
        })
    }

    /// Takes one connection's share, or says which limit stands against it.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Permit, Refusal> {
        // Relaxed: the counter guards no other memory, and adding before comparing keeps the limit exact.
        if self.total.fetch_add(1, Ordering::Relaxed) >= self.total_limit {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::TotalLimit);
        }
        let group = group(peer);
        {
            let mut counts = self.shard(group).lock();
            let count = counts.entry(group).or_insert(0);
            if *count < self.address_limit {
                *count += 1;
                return Ok(Permit { caps: Arc::clone(self), group });
            }
            if *count == 0 {
                counts.remove(&group);
            }
        }
        self.total.fetch_sub(1, Ordering::Relaxed);
        Err(Refusal::AddressLimit)
    }

    fn shard(&self, group: IpAddr) -> &Mutex<HashMap<IpAddr, usize, RandomState>> {
        let index = usize::try_from(self.hasher.hash_one(group) % SHARDS as u64).unwrap_or(0);
        self.shards.get(index).expect("the index is a remainder of the number of shards")
    }
}

/// One connection's share of the counts, given back on drop.
pub(super) struct Permit {
    caps: Arc<Caps>,
    group: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.caps.total.fetch_sub(1, Ordering::Relaxed);
        let mut counts = self.caps.shard(self.group).lock();
        if let Some(count) = counts.get_mut(&self.group) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.group);
            }
        }
    }
}

/// Whom a limit per address is meant for: an IPv4 address, also where it arrives mapped into IPv6, or an IPv6 /64, the
/// least that a provider gives to one customer.
fn group(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Enough that 64 workers seldom meet.
const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_total_is_exact_and_comes_back() {
        let caps = Caps::new(2, 10);
        let first = caps.admit(ip("192.0.2.1")).ok();
        let second = caps.admit(ip("192.0.2.2")).ok();
        assert!(first.is_some() && second.is_some(), "two fit");
        assert_eq!(caps.admit(ip("192.0.2.3")).err(), Some(Refusal::TotalLimit));
        drop(first);
        assert!(caps.admit(ip("192.0.2.3")).is_ok(), "a closed connection makes room");
    }

    #[test]
    fn one_address_cannot_take_all() {
        let caps = Caps::new(10, 1);
        let held = caps.admit(ip("192.0.2.1")).ok();
        assert_eq!(caps.admit(ip("192.0.2.1")).err(), Some(Refusal::AddressLimit));
        assert_eq!(
            caps.admit(ip("::ffff:192.0.2.1")).err(),
            Some(Refusal::AddressLimit),
            "mapped is the same"
        );
        assert!(caps.admit(ip("192.0.2.2")).is_ok(), "another address is not concerned");
        drop(held);
        assert_eq!(caps.total.load(Ordering::Relaxed), 0, "refusals keep no share");
        assert!(
            caps.shards.iter().all(|shard| shard.lock().is_empty()),
            "an address without connections is forgotten"
        );
    }

    #[test]
    fn ipv6_is_counted_by_64() {
        let caps = Caps::new(10, 1);
        let _held = caps.admit(ip("2001:db8:0:1::1")).ok();
        assert_eq!(caps.admit(ip("2001:db8:0:1:ffff::2")).err(), Some(Refusal::AddressLimit));
        assert!(caps.admit(ip("2001:db8:0:2::1")).is_ok());
    }
}
