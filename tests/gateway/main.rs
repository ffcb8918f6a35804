//! End to end: the real binary as a second process, over real sockets, before an origin that records every byte.

#[macro_use]
mod harness;

mod smoke;

mod cache_bounds;
mod cache_collapse;
mod cache_conditions;
mod cache_gate;
mod cache_keys;
mod cache_stale;
mod cache_storing;
mod cache_tls;
mod limit_concurrency;
mod limit_rate;
