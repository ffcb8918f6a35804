//! The hidden APIs: where they are, how they are connected to, and which endpoint is next.
//!
//! An [`Upstream`] is compiled from [`Settings`] when a configuration is loaded. Per attempt the proxy asks it to
//! [`pick`](Upstream::pick) (Pingora phase `upstream_peer`) and gets a peer made from an address that is known already, with
//! every timeout set to what is left of the exchange. Names are resolved in the background by the one [`Resolver`].
//!
//! This room sends nothing, knows no request and no credential, and decides neither whether a request may be repeated nor
//! what a client is told: it says [`UpstreamFault`] and [`Reason`], and the proxy answers.
//!
//! Lifetimes: [`Resolver`] is of the process, and with it the addresses, the requests in flight and the retry budget of each
//! upstream, kept by name; [`Upstream`] is of the configuration; [`Tried`] and [`Lease`] are of the request.

mod address;
mod balance;
mod budget;
mod dns;
mod endpoint;
#[cfg(test)]
mod handshake;
mod hidden;
mod ledger;
#[cfg(test)]
mod name_server;
mod pick;
mod reason;
mod resolver;
mod settings;
mod stage;
mod target;
mod tls;

pub use crate::exchange::Scheme;
pub use address::is_private;
pub use endpoint::EndpointProblem;
pub use hidden::{EndpointStanding, Upstream, UpstreamProblem};
pub use ledger::Lease;
pub use pick::{Picked, Tried, UpstreamFault};
pub use reason::{Reason, classify};
pub use resolver::{Resolution, Resolver};
pub use settings::{Balance, EndpointSettings, Retry, RetryOn, Settings, Timeouts, Tls};
pub use stage::{Dial, Stage};
pub use tls::{FileCause, FileProblem, check_files};
