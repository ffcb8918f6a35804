//! What an upstream is made from: plain values that the plan takes out of the document. Not yet checked against the world
//! (files, names); [`super::Upstream::compile`] does that.

use std::path::PathBuf;
use std::time::Duration;

use crate::exchange::Scheme;
use crate::names::UpstreamName;

/// Everything about one upstream. Set by the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The name in the document: label of the metrics, part of the pool key.
    pub name: UpstreamName,
    /// Where it is served; at least one with a weight above zero.
    pub endpoints: Vec<EndpointSettings>,
    /// The path of the URL, under which every rewritten path is placed: empty or `/base`, without a slash at its end.
    pub base_path: String,
    /// Whether loopback, private and other addresses that are no one's public server may be connected to; see
    /// [`super::is_private`]. Default: `false` for `api`, `true` for `app`.
    pub allow_private: bool,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// What is tried again, and how often.
    pub retry: Retry,
    /// How the upstream proves who it is, and we to it. Ignored for `http` endpoints.
    pub tls: Tls,
    /// Whether HTTP/2 is offered (ALPN); over `http` it means that the upstream is known to speak it (RFC 9113 §3.3).
    /// Default `false`.
    pub http2: bool,
    /// How an endpoint is chosen.
    pub balance: Balance,
}

/// One place where an upstream is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSettings {
    /// With or without TLS.
    pub scheme: Scheme,
    /// A name or an address; an IPv6 address with or without its brackets.
    pub host: String,
    /// The port, also when it is the scheme's default.
    pub port: u16,
    /// Its share of the requests among the weights of all; 0 takes none. Default 1.
    pub weight: u32,
}

/// How long each step may take. Pingora has no limit for any of them by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A TCP connection; TCP and TLS together have twice as long. Default 2 s.
    pub connect: Duration,
    /// The whole exchange, all attempts included. Default 30 s.
    pub request: Duration,
    /// How long an unused connection is kept. Default 55 s: below the 60 s at which most servers close theirs.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            request: Duration::from_secs(30),
            idle: Duration::from_secs(55),
        }
    }
}

/// What is tried again, and how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// How many attempts may follow the first. Default 1.
    pub attempts: u32,
    /// After what.
    pub on: RetryOn,
    /// How many retries there may be per hundred requests, over the last ten seconds. Default 20; 0 means none at all.
    pub budget_percent: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 1, on: RetryOn::default(), budget_percent: 20.0 }
    }
}

/// After what an attempt is followed by another. Whether the request may be repeated at all is not decided here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection was made, so nothing was sent. Default `true`.
    pub connect_failure: bool,
    /// 502. Default `true`.
    pub bad_gateway: bool,
    /// 503. Default `true`.
    pub unavailable: bool,
    /// 504. Default `false`: the time is most likely gone, and the work most likely done.
    pub gateway_timeout: bool,
}

impl Default for RetryOn {
    fn default() -> Self {
        Self { connect_failure: true, bad_gateway: true, unavailable: true, gateway_timeout: false }
    }
}

impl RetryOn {
    /// Retries nothing.
    pub const NOTHING: Self =
        Self { connect_failure: false, bad_gateway: false, unavailable: false, gateway_timeout: false };

    /// Whether an answer with this status is followed by another attempt.
    #[must_use]
    pub fn covers_status(self, status: u16) -> bool {
        match status {
            502 => self.bad_gateway,
            503 => self.unavailable,
            504 => self.gateway_timeout,
            _ => false,
        }
    }
}

/// How the upstream proves who it is, and we to it. Verification itself cannot be turned off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// A PEM file with the authorities to trust, instead of the system's.
    pub ca: Option<PathBuf>,
    /// The name to ask for and to verify, instead of the endpoint's host.
    pub sni: Option<String>,
    /// Our certificate chain and its key, both PEM files.
    pub client_cert: Option<(PathBuf, PathBuf)>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn, by weight, evenly spread. The default.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight from this process, in proportion to its weight.
    LeastInFlight,
}

#[cfg(test)]
impl Settings {
    /// Endpoints by scheme, host and weight, on the ports 8001, 8002, ...; all else as the document's defaults.
    pub(super) fn for_test(endpoints: &[(&str, &str, u32)]) -> Self {
        let endpoint = |(at, &(scheme, host, weight)): (u16, &(&str, &str, u32))| EndpointSettings {
            scheme: if scheme == "https" { Scheme::Https } else { Scheme::Http },
            host: host.to_owned(),
            port: 8000 + at,
            weight,
        };
        Self {
            name: UpstreamName::parse("vendor").unwrap(),
            endpoints: (1..).zip(endpoints).map(endpoint).collect(),
            base_path: String::new(),
            allow_private: false,
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            tls: Tls::default(),
            http2: false,
            balance: Balance::default(),
        }
    }
}
