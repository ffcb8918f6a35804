//! Which endpoint and which address the next attempt goes to (Pingora phase `upstream_peer`).
//!
//! Attempts of one request go to another endpoint first, then to another address of the same endpoint, and when all were tried
//! they begin anew. Whether there is another attempt is not decided here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora::upstreams::peer::HttpPeer;

use super::balance::is_less_busy;
use super::target::Standing;
use super::{Balance, Lease, Upstream};

/// Where a request was sent already. Request lifetime; allocates only from the second attempt on.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    first: Option<(usize, IpAddr)>,
    more: Vec<(usize, IpAddr)>,
}

impl Tried {
    /// How many attempts there were since the last time that everything had been tried.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub(super) fn add(&mut self, endpoint: usize, address: IpAddr) {
        if self.first.is_none() {
            self.first = Some((endpoint, address));
        } else {
            self.more.push((endpoint, address));
        }
    }

    pub(super) fn has(&self, endpoint: usize, address: IpAddr) -> bool {
        self.iter().any(|tried| tried == (endpoint, address))
    }

    fn has_endpoint(&self, endpoint: usize) -> bool {
        self.iter().any(|(tried, _)| tried == endpoint)
    }

    fn iter(&self) -> impl Iterator<Item = (usize, IpAddr)> + '_ {
        self.first.into_iter().chain(self.more.iter().copied())
    }

    fn clear(&mut self) {
        self.first = None;
        self.more.clear();
    }
}

/// Where the next attempt goes.
#[derive(Debug)]
pub struct Picked {
    /// For `upstream_peer` to return, or for our own exchange to connect to. All timeouts are set.
    pub peer: Box<HttpPeer>,
    /// Which endpoint it is, for [`Upstream::authority`].
    pub endpoint: usize,
    /// The address in `peer`, for what depends on where a request really goes (a credential without TLS).
    pub address: SocketAddr,
    /// Keeps the request counted as in flight.
    pub lease: Lease,
    /// On a [`Stage`](super::Stage) only: the exchange is over its time so soon.
    pub expires_in: Option<Duration>,
}

/// Why there is no peer. Nobody's fault but the upstream's, its name servers' or the clock's; what a client is told is decided
/// in `proxy/failure.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamFault {
    /// No endpoint has an address (yet).
    Unresolved,
    /// The only addresses are private, and this upstream may not have such; see [`super::is_private`].
    PrivateAddress,
    /// No endpoint takes requests.
    NoEndpoint,
    /// The time for the whole exchange is over.
    DeadlinePassed,
}

impl fmt::Display for UpstreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unresolved => "no address is known",
            Self::PrivateAddress => "the address is private and `allowPrivate` is not set",
            Self::NoEndpoint => "no endpoint takes requests",
            Self::DeadlinePassed => "no time is left",
        })
    }
}

impl std::error::Error for UpstreamFault {}

impl Upstream {
    /// A peer for the next attempt of a request that was at `tried` already (the new one is added), of which `remaining` is
    /// left for the whole exchange.
    ///
    /// # Errors
    /// [`UpstreamFault`] when there is nowhere to send it.
    pub fn pick(&self, tried: &mut Tried, remaining: Duration) -> Result<Picked, UpstreamFault> {
        if remaining.is_zero() {
            return Err(UpstreamFault::DeadlinePassed);
        }
        // Only a first attempt takes a turn: were retries to take one too, two endpoints of which one is dead would fall into
        // step, and every request would begin at the dead one. Relaxed: whose turn it is orders nothing.
        let turn = if tried.count() == 0 {
            self.account.turn.fetch_add(1, Ordering::Relaxed)
        } else {
            self.account.turn.load(Ordering::Relaxed)
        };
        let at = match self.next(turn, tried) {
            Ok(at) => at,
            Err(Nowhere::Exhausted) => {
                tried.clear();
                self.next(turn, tried).map_err(Nowhere::fault)?
            }
            Err(nowhere) => return Err(nowhere.fault()),
        };
        let endpoint = self.endpoints.get(at).ok_or(UpstreamFault::NoEndpoint)?;
        // The addresses may have changed since they were looked at: then there may be nothing to choose for once.
        let address =
            endpoint.target.choose(at, tried, self.allow_private).ok_or(UpstreamFault::Unresolved)?;
        tried.add(at, address);
        let (peer, expires_in) = match &self.resolver.stage {
            None => (endpoint.peer(address, remaining), None),
            Some(stage) => {
                let dial = stage.dial(self.name());
                let remaining = dial.expires_in.map_or(remaining, |soon| soon.min(remaining));
                let peer = endpoint.staged_peer(&dial.socket, remaining).ok_or(UpstreamFault::NoEndpoint)?;
                (peer, dial.expires_in)
            }
        };
        Ok(Picked {
            peer,
            expires_in,
            endpoint: at,
            address: SocketAddr::new(address, endpoint.port),
            lease: endpoint.in_flight.lease(),
        })
    }

    /// The next endpoint: one that this request was not at, else one with an address that it was not at.
    fn next(&self, turn: usize, tried: &Tried) -> Result<usize, Nowhere> {
        let mut nowhere = Nowhere::Closed;
        let standing = |at: usize, nowhere: &mut Nowhere| {
            let Some(endpoint) = self.endpoints.get(at).filter(|endpoint| endpoint.weight > 0) else {
                return false;
            };
            self.resolver.watch(&endpoint.target);
            let standing = endpoint.target.standing(at, tried, self.allow_private);
            *nowhere = (*nowhere).max(match standing {
                Standing::Fresh => return true,
                Standing::Spent => Nowhere::Exhausted,
                Standing::Private => Nowhere::Private,
                Standing::Unresolved => Nowhere::Unresolved,
            });
            false
        };
        let elsewhere = self.preferred(turn, |at| !tried.has_endpoint(at) && standing(at, &mut nowhere));
        elsewhere.or_else(|| self.preferred(turn, |at| standing(at, &mut nowhere))).ok_or(nowhere)
    }

    /// The endpoint that the way of balancing prefers among those that `may_be` taken.
    fn preferred(&self, turn: usize, mut may_be: impl FnMut(usize) -> bool) -> Option<usize> {
        let first = self.round.at(turn);
        let count = self.endpoints.len();
        let mut in_order = (0..count).map(|step| (first + step) % count);
        match self.balance {
            Balance::RoundRobin => in_order.find(|&at| may_be(at)),
            Balance::LeastInFlight => {
                let mut best: Option<(usize, (usize, u32))> = None;
                for at in in_order {
                    let Some(endpoint) = self.endpoints.get(at) else { continue };
                    let (flying, weight) = (endpoint.in_flight.count(), endpoint.weight);
                    let is_better = best.is_none_or(|(_, best)| is_less_busy(flying, weight, best));
                    if is_better && may_be(at) {
                        best = Some((at, (flying, weight)));
                    }
                }
                best.map(|(at, _)| at)
            }
        }
    }
}

/// Why no endpoint can be taken; the greatest of all endpoints' is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nowhere {
    Closed,
    Unresolved,
    Private,
    Exhausted,
}

impl Nowhere {
    fn fault(self) -> UpstreamFault {
        match self {
            Self::Closed => UpstreamFault::NoEndpoint,
            Self::Private => UpstreamFault::PrivateAddress,
            Self::Unresolved | Self::Exhausted => UpstreamFault::Unresolved,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hickory_resolver::config::ResolverConfig;
    use pingora::upstreams::peer::{ALPN, Peer};

    use super::super::{Resolver, Settings, UpstreamProblem};
    use super::*;

    const TIME: Duration = Duration::from_secs(30);

    fn resolver() -> Arc<Resolver> {
        Resolver::with_name_servers(ResolverConfig::from_name_servers(Vec::new()))
    }

    fn compile(settings: Settings) -> Upstream {
        Upstream::compile(settings, &resolver()).unwrap()
    }

    /// Endpoints at 1.0.0.1, 1.0.0.2, ...
    fn with_weights(weights: &[u32], balance: Balance) -> Upstream {
        let hosts = ["1.0.0.1", "1.0.0.2", "1.0.0.3"];
        let endpoints: Vec<_> =
            hosts.into_iter().zip(weights).map(|(host, weight)| ("http", host, *weight)).collect();
        compile(Settings { balance, ..Settings::for_test(&endpoints) })
    }

    fn pick(upstream: &Upstream) -> Picked {
        upstream.pick(&mut Tried::default(), TIME).unwrap()
    }

    #[test]
    fn round_robin_follows_the_weights() {
        let upstream = with_weights(&[2, 1, 0], Balance::RoundRobin);
        let order: Vec<usize> = (0..6).map(|_| pick(&upstream).endpoint).collect();
        assert_eq!(order, [0, 1, 0, 0, 1, 0]);
    }

    #[test]
    fn least_in_flight_takes_the_idle_one() {
        let upstream = with_weights(&[1, 1, 1], Balance::LeastInFlight);
        let (first, second) = (pick(&upstream), pick(&upstream));
        let third = pick(&upstream);
        let mut all = [first.endpoint, second.endpoint, third.endpoint];
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2], "each has one");
        assert_eq!(upstream.active(), 3);
        let idle = second.endpoint;
        drop(second);
        assert_eq!(upstream.active(), 2);
        assert!((0..5).all(|_| pick(&upstream).endpoint == idle), "the only one without");
    }

    #[test]
    fn least_in_flight_counts_by_weight() {
        let upstream = with_weights(&[3, 1], Balance::LeastInFlight);
        let held: Vec<Picked> = (0..8).map(|_| pick(&upstream)).collect();
        let at_first = held.iter().filter(|picked| picked.endpoint == 0).count();
        assert_eq!(at_first, 6, "three to one");
    }

    #[test]
    fn attempts_go_to_another_endpoint_and_then_begin_anew() {
        for balance in [Balance::RoundRobin, Balance::LeastInFlight] {
            let upstream = with_weights(&[1, 1, 1], balance);
            let mut tried = Tried::default();
            let mut order: Vec<usize> =
                (0..3).map(|_| upstream.pick(&mut tried, TIME).unwrap().endpoint).collect();
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2], "{balance:?}");
            assert!(upstream.pick(&mut tried, TIME).is_ok(), "all tried: again from the start");
            assert_eq!(tried.count(), 1);
        }
    }

    #[test]
    fn attempts_try_another_endpoint_before_another_address() {
        let endpoints = [("http", "localhost", 1), ("http", "10.0.0.1", 1)];
        let upstream = compile(Settings { allow_private: true, ..Settings::for_test(&endpoints) });
        let mut tried = Tried::default();
        let order: Vec<String> =
            (0..3).map(|_| upstream.pick(&mut tried, TIME).unwrap().address.to_string()).collect();
        assert_eq!(order, ["127.0.0.1:8001", "10.0.0.1:8002", "[::1]:8001"]);
    }

    #[test]
    fn a_dead_endpoint_is_not_the_first_of_every_request() {
        let upstream = with_weights(&[1, 1], Balance::RoundRobin);
        let first_of_a_request_that_fails_at_0 = || {
            let mut tried = Tried::default();
            let first = upstream.pick(&mut tried, TIME).unwrap().endpoint;
            if first == 0 {
                assert_eq!(upstream.pick(&mut tried, TIME).unwrap().endpoint, 1, "the retry");
            }
            first
        };
        let firsts: Vec<usize> = (0..6).map(|_| first_of_a_request_that_fails_at_0()).collect();
        assert_eq!(firsts, [0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn private_addresses_are_refused_at_pick_unless_allowed() {
        for host in ["localhost", "169.254.169.254", "[::ffff:10.0.0.1]", "0.0.0.0"] {
            let settings = Settings::for_test(&[("http", host, 1)]);
            let refused = compile(settings.clone()).pick(&mut Tried::default(), TIME);
            assert_eq!(refused.err(), Some(UpstreamFault::PrivateAddress), "{host}");
            let allowed = compile(Settings { allow_private: true, ..settings });
            assert!(allowed.pick(&mut Tried::default(), TIME).is_ok(), "{host}");
        }
    }

    #[test]
    fn there_is_no_peer_without_an_address_or_without_time() {
        let unresolved = compile(Settings::for_test(&[("http", "vendor.example", 1)]));
        assert_eq!(unresolved.pick(&mut Tried::default(), TIME).err(), Some(UpstreamFault::Unresolved));
        let late = with_weights(&[1], Balance::RoundRobin).pick(&mut Tried::default(), Duration::ZERO);
        assert_eq!(late.err(), Some(UpstreamFault::DeadlinePassed));
    }

    #[test]
    fn every_timeout_is_set_and_none_is_longer_than_what_is_left() {
        let upstream = with_weights(&[1], Balance::RoundRobin);
        let options = |remaining: Duration| {
            upstream.pick(&mut Tried::default(), remaining).unwrap().peer.options.clone()
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let ample = options(TIME);
        assert_eq!((ample.connection_timeout, ample.total_connection_timeout), (seconds(2), seconds(4)));
        assert_eq!((ample.read_timeout, ample.write_timeout), (seconds(30), seconds(30)));
        assert_eq!(ample.idle_timeout, seconds(55));
        let late = options(Duration::from_secs(1));
        let all =
            [late.connection_timeout, late.total_connection_timeout, late.read_timeout, late.write_timeout];
        assert_eq!(all, [seconds(1); 4]);
    }

    #[test]
    fn tls_is_verified_by_the_name_that_was_asked_for() {
        let settings = Settings::for_test(&[("https", "1.0.0.1", 1)]);
        let peer = pick(&compile(settings.clone())).peer;
        assert!(peer.is_tls() && peer.verify_cert() && peer.verify_hostname());
        assert_eq!(peer.sni, "1.0.0.1", "never empty: Pingora would verify nothing");
        assert_eq!(peer.options.alpn, ALPN::H1);

        let mut named = settings.clone();
        named.tls.sni = Some("vendor.example".to_owned());
        named.http2 = true;
        let peer = pick(&compile(named)).peer;
        assert_eq!((peer.sni.as_str(), &peer.options.alpn), ("vendor.example", &ALPN::H2H1));

        let mut unnamed = settings;
        unnamed.tls.sni = Some(String::new());
        let refused = Upstream::compile(unnamed, &resolver());
        assert!(matches!(refused, Err(UpstreamProblem::Endpoint(0, _))), "{refused:?}");
    }

    #[test]
    fn pooled_connections_never_cross_upstreams_or_tls_policies() {
        let settings = Settings::for_test(&[("https", "1.0.0.1", 1)]);
        let hash = |settings: &Settings| pick(&compile(settings.clone())).peer.reuse_hash();
        let same = hash(&settings);
        assert_eq!(hash(&settings), same, "a reload without a change keeps its connections");

        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let made = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        std::fs::write(&ca, made.cert.pem()).unwrap();
        let mut pinned = settings.clone();
        pinned.tls.ca = Some(ca);
        let mut h2 = settings.clone();
        h2.http2 = true;
        let mut other = settings.clone();
        other.name = crate::names::UpstreamName::parse("other").unwrap();
        for (changed, what) in [(pinned, "authorities"), (h2, "protocol"), (other, "upstream")] {
            assert_ne!(hash(&changed), same, "{what}");
        }
    }

    #[test]
    fn the_plan_can_ask_where_it_is() {
        let mut settings = Settings::for_test(&[("https", "API.Vendor.Example", 1), ("http", "[::1]", 1)]);
        settings.base_path = "/base/".to_owned();
        let upstream = compile(settings);
        assert_eq!(upstream.authority(0), "api.vendor.example:8001");
        assert_eq!(upstream.authority(1), "[::1]:8002");
        assert_eq!(upstream.base_path(), "/base");
        let origins: Vec<_> =
            upstream.origins().map(|(scheme, host, port)| (scheme.as_str(), host, port)).collect();
        assert_eq!(origins, [("https", "api.vendor.example", 8001), ("http", "::1", 8002)]);
    }

    #[test]
    fn an_upstream_without_a_working_endpoint_is_refused() {
        let compile = |endpoints: &[(&str, &str, u32)]| {
            Upstream::compile(Settings::for_test(endpoints), &resolver()).err()
        };
        assert_eq!(compile(&[]), Some(UpstreamProblem::NoEndpoint));
        assert_eq!(compile(&[("http", "a.example", 0)]), Some(UpstreamProblem::NoEndpoint));
        let second = compile(&[("http", "a.example", 1), ("http", "a b", 1)]);
        assert!(matches!(second, Some(UpstreamProblem::Endpoint(1, _))), "{second:?}");
    }
}
