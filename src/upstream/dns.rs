//! Asking for the addresses of a name: hosts file, then DNS, as the system is configured. Knows nothing of what the addresses
//! are for, keeps nothing: the caller asks again when the time to live is over.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};

/// Asks for addresses. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client(Option<TokioResolver>);

/// What came of a question: the addresses and how long they may be used, or nothing. Why there is nothing is told to the
/// operator's log by the caller, with the text that is here.
pub(super) type Answer = Result<(Vec<IpAddr>, Duration), String>;

impl Client {
    /// As the system is configured. Without a usable `resolv.conf` (a container from scratch), the hosts file only.
    pub(super) fn of_system() -> Self {
        match TokioResolver::builder_tokio() {
            Ok(builder) => Self::built(builder),
            Err(error) => {
                tracing::warn!(%error, "no DNS configuration: only addresses and the hosts file are resolved");
                Self::with(ResolverConfig::from_name_servers(Vec::new()))
            }
        }
    }

    /// With the name servers of `config` instead of the system's.
    pub(super) fn with(config: ResolverConfig) -> Self {
        Self::built(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
    }

    fn built(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Self {
        tune(builder.options_mut());
        match builder.build() {
            Ok(resolver) => Self(Some(resolver)),
            Err(error) => {
                tracing::error!(%error, "no DNS client: only addresses are resolved");
                Self(None)
            }
        }
    }

    /// The addresses of `host`, both families, within [`LOOKUP_TIMEOUT`].
    pub(super) async fn addresses(&self, host: &str) -> Answer {
        let Some(resolver) = &self.0 else { return Err("no DNS client".to_owned()) };
        let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(host)).await;
        let found = lookup.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        // Aliases on the way count too: the shortest life of the chain is that of the answer (RFC 1034 §3.6.2).
        let life = found.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or(0);
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err("no address".to_owned());
        }
        Ok((addresses, Duration::from_secs(u64::from(life))))
    }
}

fn tune(options: &mut ResolverOpts) {
    // The caller keeps answers itself, by its own clock; a second cache would only make them older.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Always;
    options.timeout = options.timeout.min(SERVER_TIMEOUT);
}

/// How long one name server may take before the next is asked.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a question may take in all: every server, every search domain.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
