//! End to end: the real binary as a second process, over real sockets, before an origin that records every byte.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[macro_use]
mod harness;

mod attacks;
mod erasure;
mod http2_refresh;
mod retry_status;

mod life_admin;
mod life_log;
mod life_notify;
mod life_reload;
mod life_stop;
mod life_upgrade;

mod in_body;
mod in_body_h2;
mod in_credential;
mod in_door;
mod in_headers;
mod in_host;
mod in_path;
mod in_rewrite;
mod in_routing;
mod in_secret;
mod in_tls;

mod explain_agrees;
mod explain_live;
mod explain_random;

mod smoke;
mod teams;

mod out_date;
mod out_errors;
mod out_framing;
mod out_headers;
mod out_mapping;
mod out_retries;
mod out_shaping;
mod out_streams;
mod out_support;
mod out_tls;

mod cache_attacks;
mod cache_bounds;
mod cache_collapse;
mod cache_conditions;
mod cache_file;
mod cache_gate;
mod cache_keys;
mod cache_numbers;
mod cache_purges;
mod cache_stale;
mod cache_stampede;
mod cache_storing;
mod cache_tls;
mod cache_warm;
mod cache_whole;
mod cache_words;
mod cases_agree;
mod limit_concurrency;
mod limit_rate;
mod limit_survives;
