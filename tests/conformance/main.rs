//! The standards of caching, sentence by sentence: RFC 9111, what of RFC 9110 a cache answers by itself (conditions, ranges), RFC 5861,
//! 9211, 9213 and 9875. Each test says one sentence in our words and is named by its section; each runs through the real binary over
//! real sockets, as far as it makes sense for both kinds of upstream.
//!
//! Nothing waits for an answer to grow old: the origin says `Age` or a `Date` in the past.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[macro_use]
#[path = "../gateway/harness/mod.rs"]
#[expect(unused_imports, reason = "shared with `tests/gateway/`, which needs more of it")]
mod harness;

mod stage;

mod age;
mod authorization;
mod cache_status;
mod conditions;
mod freshness;
mod groups;
mod headers;
mod interim;
mod invalidation;
mod parts;
mod ranges;
mod request_directives;
mod stale;
mod storing;
mod targeted;
mod validation;
mod vary;
