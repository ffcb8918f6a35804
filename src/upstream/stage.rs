//! A stand-in for every upstream, for trying a configuration without a network (`portcullis test`).
//!
//! A [`Resolver`](super::Resolver) that was made [over a stage](super::Resolver::staged) asks no name server, and every upstream that is
//! compiled with it sends each attempt to a local socket that the stage names. What a request looks like, which endpoint is chosen,
//! whether its address may be used: all that stays as the configuration says. Since the address is replaced where the peer is made,
//! there is no attempt that could reach anything else.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::names::UpstreamName;

/// Who answers in place of the upstreams.
pub trait Stage: Send + Sync {
    /// Where the next attempt at `upstream` goes.
    fn dial(&self, upstream: &UpstreamName) -> Dial;
}

/// Where one attempt goes.
#[derive(Debug, Clone)]
pub struct Dial {
    /// A unix socket.
    pub socket: PathBuf,
    /// `Some`: the time for the whole exchange runs out so soon, whatever the configuration allows.
    pub expires_in: Option<Duration>,
}

/// What every name on a stage leads to: a public address, so that only a private one that is written as an address is refused. It is
/// never connected to.
pub(super) const ANY_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 3, 1));
