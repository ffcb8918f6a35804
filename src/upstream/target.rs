//! The addresses of one host: the last good ones, when to ask again, and which to use next.
//!
//! ```text
//!   unknown --answer--> known --(time to live, 5 s to 5 min)--> asked again --answer----> known, new addresses
//!      ^   \                                                        \--nothing--> known, OLD addresses
//!      +----+ nothing: asked again after 1 s, 2 s, 4 s ... 30 s                   (asked again as on the left)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::dns::Client;
use super::stage::ANY_ADDRESS;
use super::{Resolution, Tried, is_private};

/// One host. Process lifetime, shared by every endpoint that names it.
pub(super) struct Target {
    host: String,
    /// An address or `localhost`: never asked for, never changes.
    is_fixed: bool,
    known: ArcSwap<Known>,
    asked: watch::Sender<bool>,
    pub(super) is_watched: AtomicBool,
    resolutions_ok: AtomicU64,
    resolutions_failed: AtomicU64,
    failures_in_row: AtomicU32,
    turn: AtomicUsize,
    /// IPv6 first: set when no IPv4 address could be used, and back when no IPv6 address could.
    prefers_v6: AtomicBool,
}

#[derive(Default)]
struct Known {
    addresses: Vec<Address>,
    since: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Address {
    ip: IpAddr,
    is_private: bool,
}

/// Whether a host can be used for the next attempt of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has an address that was not tried.
    Fresh,
    /// Every address was tried.
    Spent,
    /// It has addresses, and all are private and may not be used.
    Private,
    /// It has no address (yet).
    Unresolved,
}

impl Target {
    pub(super) fn new(host: &str, now: Instant) -> Self {
        Self::with(host, fixed_addresses(host), now)
    }

    /// A host that is never asked for: where it is no address itself, any public one stands for it.
    pub(super) fn staged(host: &str, now: Instant) -> Self {
        let mut fixed = fixed_addresses(host);
        if fixed.is_empty() {
            fixed.push(ANY_ADDRESS);
        }
        Self::with(host, fixed, now)
    }

    fn with(host: &str, fixed: Vec<IpAddr>, now: Instant) -> Self {
        let known =
            Known { addresses: arranged(fixed.clone()), since: Some(now).filter(|_| !fixed.is_empty()) };
        Self {
            host: host.to_owned(),
            is_fixed: !fixed.is_empty(),
            known: ArcSwap::from_pointee(known),
            asked: watch::Sender::new(!fixed.is_empty()),
            is_watched: AtomicBool::new(!fixed.is_empty()),
            resolutions_ok: AtomicU64::new(0),
            resolutions_failed: AtomicU64::new(0),
            failures_in_row: AtomicU32::new(0),
            turn: AtomicUsize::new(0),
            prefers_v6: AtomicBool::new(false),
        }
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.is_fixed
    }

    /// Asks now, keeps what is good, and says how long to wait before the next time.
    pub(super) async fn refresh(&self, client: &Client, now: Instant) -> Duration {
        let answer = client.addresses(&self.host).await;
        let wait = match answer {
            Ok((addresses, life)) => {
                self.failures_in_row.store(0, Ordering::Relaxed);
                self.resolutions_ok.fetch_add(1, Ordering::Relaxed);
                self.known.store(Arc::new(Known { addresses: arranged(addresses), since: Some(now) }));
                life.clamp(MIN_LIFE, MAX_LIFE)
            }
            Err(reason) => {
                let failures = self.failures_in_row.fetch_add(1, Ordering::Relaxed) + 1;
                self.resolutions_failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(host = %self.host, %reason, failures, "upstream name not resolved");
                backoff(failures)
            }
        };
        self.asked.send_replace(true);
        wait
    }

    /// Waits until the name was asked for once, whatever came of it.
    pub(super) async fn first_answer(&self) {
        // The sender lives in `self`, so the only error there is cannot happen.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    /// A receiver that ends when this host is no longer used by anyone.
    pub(super) fn end(&self) -> watch::Receiver<bool> {
        self.asked.subscribe()
    }

    pub(super) fn resolution(&self, now: Instant) -> Resolution {
        let known = self.known.load();
        Resolution {
            ok: self.resolutions_ok.load(Ordering::Relaxed),
            failed: self.resolutions_failed.load(Ordering::Relaxed),
            addresses: known.addresses.len(),
            age: known.since.filter(|_| !self.is_fixed).map(|since| now.saturating_duration_since(since)),
        }
    }

    /// Whether this host, as `endpoint`, has something left to try.
    pub(super) fn standing(&self, endpoint: usize, tried: &Tried, allow_private: bool) -> Standing {
        let known = self.known.load();
        if known.addresses.is_empty() {
            return Standing::Unresolved;
        }
        let mut standing = Standing::Private;
        for address in known.usable(allow_private) {
            if !tried.has(endpoint, address) {
                return Standing::Fresh;
            }
            standing = Standing::Spent;
        }
        standing
    }

    /// The next address to use that was not tried. Addresses of one family take turns; the other family is only for when the
    /// first has none left, and is then remembered as the one that works here.
    pub(super) fn choose(&self, endpoint: usize, tried: &Tried, allow_private: bool) -> Option<IpAddr> {
        let known = self.known.load();
        let prefers_v6 = self.prefers_v6.load(Ordering::Relaxed);
        let of_family = |v6: bool| known.usable(allow_private).filter(move |address| address.is_ipv6() == v6);
        if let Some(address) = self.in_turn(of_family(prefers_v6), endpoint, tried) {
            return Some(address);
        }
        let other = self.in_turn(of_family(!prefers_v6), endpoint, tried)?;
        self.prefers_v6.store(!prefers_v6, Ordering::Relaxed);
        Some(other)
    }

    fn in_turn(
        &self,
        addresses: impl Iterator<Item = IpAddr> + Clone,
        endpoint: usize,
        tried: &Tried,
    ) -> Option<IpAddr> {
        let fresh = addresses.filter(|address| !tried.has(endpoint, *address));
        let start = match fresh.clone().count() {
            0 => return None,
            1 => 0,
            count => self.turn.fetch_add(1, Ordering::Relaxed) % count,
        };
        fresh.clone().nth(start)
    }
}

impl Known {
    fn usable(&self, allow_private: bool) -> impl Iterator<Item = IpAddr> + Clone + '_ {
        self.addresses
            .iter()
            .filter(move |address| allow_private || !address.is_private)
            .map(|address| address.ip)
    }
}

/// The addresses of a host that no name server is asked for: a literal, or this machine (RFC 6761 §6.3).
fn fixed_addresses(host: &str) -> Vec<IpAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return vec![address];
    }
    if host == "localhost" || host.ends_with(".localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    Vec::new()
}

/// In a fixed order, each once, at most [`MAX_ADDRESSES`]: servers answer in another order each time.
fn arranged(addresses: Vec<IpAddr>) -> Vec<Address> {
    let mut arranged: Vec<Address> =
        addresses.into_iter().map(|ip| Address { ip, is_private: is_private(ip) }).collect();
    arranged.sort_unstable();
    arranged.dedup();
    arranged.truncate(MAX_ADDRESSES);
    arranged
}

fn backoff(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_RETRY.saturating_mul(doubled).min(LAST_RETRY)
}

/// A shorter time to live would make us a burden to the name server.
const MIN_LIFE: Duration = Duration::from_secs(5);

/// A longer one would leave us with an old address for hours after a move.
const MAX_LIFE: Duration = Duration::from_secs(300);

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// More addresses than anyone serves one name from; the rest is left unused.
const MAX_ADDRESSES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn with(addresses: &[&str]) -> Target {
        let target = Target::new("vendor.example", Instant::now());
        let addresses = arranged(addresses.iter().map(|text| text.parse().unwrap()).collect());
        target.known.store(Arc::new(Known { addresses, since: None }));
        target
    }

    fn next(target: &Target, tried: &mut Tried) -> Option<String> {
        let address = target.choose(0, tried, true)?;
        tried.add(0, address);
        Some(address.to_string())
    }

    #[test]
    fn failures_are_asked_again_ever_more_slowly() {
        let waits: Vec<u64> =
            [1, 2, 3, 5, 6, 40, u32::MAX].map(|failures| backoff(failures).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 16, 30, 30, 30]);
    }

    #[test]
    fn literals_and_localhost_are_never_asked_for() {
        for host in ["127.0.0.1", "::1", "localhost", "app.localhost"] {
            assert!(Target::new(host, Instant::now()).is_fixed(), "{host}");
        }
        assert!(!Target::new("localhost.example", Instant::now()).is_fixed());
    }

    #[test]
    fn requests_take_the_addresses_in_turn() {
        let target = with(&["1.0.0.1", "1.0.0.2", "2606::1"]);
        let first: Vec<_> = (0..4).map(|_| next(&target, &mut Tried::default()).unwrap()).collect();
        assert_eq!(first, ["1.0.0.1", "1.0.0.2", "1.0.0.1", "1.0.0.2"], "one family only");
    }

    #[test]
    fn attempts_try_every_address_and_the_other_family_last() {
        let target = with(&["2606::1", "1.0.0.2", "1.0.0.1"]);
        let mut tried = Tried::default();
        let order: Vec<_> = std::iter::from_fn(|| next(&target, &mut tried)).collect();
        assert_eq!(order, ["1.0.0.1", "1.0.0.2", "2606::1"]);
        assert_eq!(target.standing(0, &tried, true), Standing::Spent);
        assert_eq!(
            next(&target, &mut Tried::default()).unwrap(),
            "2606::1",
            "the family that was left is kept"
        );
    }

    #[test]
    fn private_addresses_are_passed_over() {
        let target = with(&["10.0.0.1", "1.0.0.1"]);
        assert_eq!(target.choose(0, &Tried::default(), false), Some("1.0.0.1".parse().unwrap()));
        let target = with(&["10.0.0.1", "fd00::1"]);
        assert_eq!(target.standing(0, &Tried::default(), false), Standing::Private);
        assert_eq!(target.choose(0, &Tried::default(), false), None);
        assert_eq!(target.standing(0, &Tried::default(), true), Standing::Fresh);
    }
}
