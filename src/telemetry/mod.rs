//! What the gateway tells about itself: metrics, the access log and events.
//!
//! This room only counts and writes. It reads no configuration, decides nothing and knows no framework type: rooms above it
//! resolve handles when a plan is compiled and move them while a request travels. Rooms below or beside it keep plain
//! counters; `server/` registers a function that reads them ([`Metrics::register_counter_fn`] and its sisters).
//!
//! - [`metrics`]: all series, declared in one table ([`metrics::catalogue`]); the text answer of `/metrics`.
//! - [`access_log`]: one JSON line per request; drops and counts rather than blocks.
//! - [`events`]: `tracing` events of the process, on stderr.

pub mod access_log;
pub mod events;
pub mod metrics;

pub use access_log::{AccessLog, Line, Sink};
pub use metrics::labels;
pub use metrics::{Finished, ListenerMetrics, Metrics, ProcessMetrics, RouteMetrics, UpstreamMetrics};
