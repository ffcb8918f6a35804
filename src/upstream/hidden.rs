//! An upstream, compiled: what the plan holds and the proxy asks.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::balance::Round;
use super::endpoint::Endpoint;
use super::ledger::Account;
use super::tls::TlsPolicy;
use super::{Balance, EndpointProblem, FileProblem, Resolution, Resolver, Retry, Scheme, Settings, Timeouts};
use crate::names::UpstreamName;

/// Why an upstream cannot be used as written. The operator's fault, found when the configuration is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamProblem {
    /// No endpoint, or none with a weight above zero.
    NoEndpoint,
    /// More than [`MAX_ENDPOINTS`](Upstream::MAX_ENDPOINTS) of them.
    TooManyEndpoints,
    /// The endpoint at this place (from 0) is wrong.
    Endpoint(usize, EndpointProblem),
    /// A TLS file is wrong.
    File(FileProblem),
}

impl fmt::Display for UpstreamProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("no endpoint with a weight above zero"),
            Self::TooManyEndpoints => write!(f, "more than {} endpoints", Upstream::MAX_ENDPOINTS),
            Self::Endpoint(_, problem) => problem.fmt(f),
            Self::File(problem) => problem.fmt(f),
        }
    }
}

impl std::error::Error for UpstreamProblem {}

/// A hidden API, ready to be asked for peers. Configuration lifetime; what must survive a reload (addresses, requests in
/// flight, retry budget, pooled connections) it shares with the one of the same name before and after it.
pub struct Upstream {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) round: Round,
    pub(super) account: Arc<Account>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) allow_private: bool,
    pub(super) balance: Balance,
    name: UpstreamName,
    base_path: String,
    timeouts: Timeouts,
    retry: Retry,
}

impl Upstream {
    /// The most endpoints of one upstream. A choice among them looks at each.
    pub const MAX_ENDPOINTS: usize = 256;

    /// Checks the settings, reads the TLS files and takes up what an upstream of this name left behind. Asks no name server;
    /// call [`ready`](Self::ready) before the first request.
    ///
    /// # Errors
    /// [`UpstreamProblem`], the first one found.
    pub fn compile(settings: Settings, resolver: &Arc<Resolver>) -> Result<Self, UpstreamProblem> {
        if settings.endpoints.len() > Self::MAX_ENDPOINTS {
            return Err(UpstreamProblem::TooManyEndpoints);
        }
        let weights: Vec<u32> = settings.endpoints.iter().map(|endpoint| endpoint.weight).collect();
        let round = Round::of(&weights).ok_or(UpstreamProblem::NoEndpoint)?;
        let tls = TlsPolicy::load(&settings.tls).map_err(UpstreamProblem::File)?;
        let account = resolver.ledger.account(&settings.name, Instant::now());
        let endpoints = settings.endpoints.iter().enumerate().map(|(at, written)| {
            Endpoint::compile(written, &settings, &tls, resolver, &account)
                .map_err(|problem| UpstreamProblem::Endpoint(at, problem))
        });
        Ok(Self {
            endpoints: endpoints.collect::<Result<_, _>>()?,
            round,
            account,
            resolver: Arc::clone(resolver),
            allow_private: settings.allow_private,
            balance: settings.balance,
            base_path: settings.base_path.trim_end_matches('/').to_owned(),
            timeouts: settings.timeouts,
            retry: settings.retry,
            name: settings.name,
        })
    }

    /// Starts resolving on the runtime of the caller and waits until every name was asked for once, whatever came of it, at
    /// most five seconds. Call it on a runtime that lives as long as the process, before the plan is swapped in.
    pub async fn ready(&self) {
        for endpoint in &self.endpoints {
            self.resolver.watch(&endpoint.target);
        }
        let all = async {
            for endpoint in &self.endpoints {
                endpoint.target.first_answer().await;
            }
        };
        if tokio::time::timeout(READY_TIMEOUT, all).await.is_err() {
            tracing::warn!(upstream = %self.name, "names not resolved in time, going on without");
        }
    }

    /// The name in the document.
    #[must_use]
    pub fn name(&self) -> &UpstreamName {
        &self.name
    }

    /// What `Host` is sent to a `kind: api` at this endpoint: `host[:port]`, the port left out where it is the default.
    /// Empty for an endpoint that there is not.
    #[must_use]
    pub fn authority(&self, endpoint: usize) -> &str {
        self.endpoints.get(endpoint).map_or("", |endpoint| &endpoint.authority)
    }

    /// The scheme of this endpoint. `Http` for an endpoint that there is not.
    #[must_use]
    pub fn scheme(&self, endpoint: usize) -> Scheme {
        self.endpoints.get(endpoint).map_or(Scheme::Http, |endpoint| endpoint.scheme)
    }

    /// The path under which every rewritten path is placed: empty, or with a slash before and none after.
    #[must_use]
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Every endpoint's scheme, host (lower case, no brackets) and port, in the order of the document: what `Location` and
    /// its like are recognised by.
    pub fn origins(&self) -> impl Iterator<Item = (Scheme, &str, u16)> {
        self.endpoints.iter().map(|endpoint| (endpoint.scheme, endpoint.host.as_str(), endpoint.port))
    }

    /// How long each step may take.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// What is tried again.
    #[must_use]
    pub fn retry(&self) -> &Retry {
        &self.retry
    }

    /// How an endpoint is chosen.
    #[must_use]
    pub fn balance(&self) -> Balance {
        self.balance
    }

    /// Whether private and loopback addresses may be connected to.
    #[must_use]
    pub fn allows_private(&self) -> bool {
        self.allow_private
    }

    /// Counts a first attempt, of which the retry budget is a share. Once per exchange, not per attempt.
    pub fn begin(&self) {
        self.account.budget.begin(Instant::now());
    }

    /// Takes a retry out of the budget. `false`: there are too many already, fail instead. Ask last, when all else says that
    /// the request may be repeated.
    #[must_use = "a retry was taken out of the budget"]
    pub fn may_retry(&self) -> bool {
        self.account.budget.take(self.retry.budget_percent, Instant::now())
    }

    /// Requests in flight to this upstream, from every configuration.
    #[must_use]
    pub fn active(&self) -> usize {
        self.account.active()
    }

    /// How each endpoint is at this moment, for people.
    #[must_use]
    pub fn standing(&self) -> Vec<EndpointStanding> {
        let now = Instant::now();
        let of = |endpoint: &Endpoint| EndpointStanding {
            authority: endpoint.authority.clone(),
            weight: endpoint.weight,
            in_flight: endpoint.in_flight.count(),
            resolution: endpoint.target.resolution(now),
        };
        self.endpoints.iter().map(of).collect()
    }

    /// How resolving its names went so far.
    #[must_use]
    pub fn resolution(&self) -> Resolution {
        let now = Instant::now();
        self.endpoints
            .iter()
            .fold(Resolution::default(), |sum, endpoint| sum.and(endpoint.target.resolution(now)))
    }
}

/// One endpoint at one moment.
#[derive(Debug, Clone)]
pub struct EndpointStanding {
    /// Host and port, the port left out where it is the default.
    pub authority: String,
    /// Its share of the requests among the weights of all.
    pub weight: u32,
    /// Requests in flight.
    pub in_flight: usize,
    /// Its addresses.
    pub resolution: Resolution,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How long a start or a reload waits for name servers.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
