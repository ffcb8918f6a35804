//! Portcullis: a programmable edge gateway that hides third-party APIs behind a web app's own origin.
//!
//! It maps public paths to hidden upstreams, adds their secrets on the way out, cleans, shapes and caches the answers on the way back,
//! limits every client and counts every step. The modules stand on floors; imports point down only (`tests/house.rs` checks it):
//!
//! ```text
//! 8 cli        one file per command
//! 7 server     one running process: listen, reload, admin, shutdown
//! 6 proxy      the journey of a request, one file per Pingora phase
//! 5 plan       the compiled configuration, immutable, swapped whole
//! 4 policy     the catalogue of policies, and their order
//! 3 upstream   hidden APIs · cache  what is stored · limit  who may how often
//! 2 config     the document · telemetry  metrics and logs · body  JSON
//! 1 secret     values that never print · exchange  the facts of one request · shm  shared memory, the only `unsafe`
//! 0 names
//! ```

pub mod body;
pub mod cache;
pub mod cli;
pub mod config;
pub mod exchange;
pub mod limit;
pub mod names;
pub mod plan;
pub mod policy;
pub mod proxy;
pub mod secret;
pub mod server;
pub mod shm;
pub mod telemetry;
pub mod upstream;
