//! May a stored answer be used for this request, without asking the upstream? (RFC 9111 §4.2, §4.2.4, §5.2.1; RFC 5861; RFC 8246.)
//!
//! Pure functions over what was stored, what the request asks for and the time. What was stored carries the word of the upstream and
//! of the route already: its times and windows are in the meta, what forbids its reuse in its [`Terms`]. A client's word is heard only
//! where the caller hands it over; without one, pass [`Asked::default`]. This file does not look anything up, and does not know whether
//! an answer is about the resource at all: key and `Vary` say that.
//!
//! ```text
//!   epoch ──────────────── fresh_until ───────── + stale-while-revalidate ───── + the client's max-stale ───▶ time
//!     │        Fresh            │      WhileRevalidate      │             Stale          │      Validate
//! ```

use std::time::{Duration, SystemTime};

use pingora_cache::CacheMeta;

use super::directives::{Asked, Directives};
use super::terms::Terms;

/// How a stored answer may be used for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Reuse {
    /// It is fresh (RFC 9111 §4.2).
    Fresh,
    /// It is stale, and given at once while a new one is fetched behind it (RFC 5861 §3).
    WhileRevalidate,
    /// It is stale, and the client said that it takes it (`max-stale`, RFC 9111 §5.2.1.2).
    Stale,
    /// Not before the upstream was asked.
    Validate,
}

/// Judges a stored answer for a request.
///
/// A client that says `max-age` without `max-stale` wants no stale answer (RFC 9111 §5.2.1.1), so `stale-while-revalidate` does not
/// apply to it; `min-fresh` is a wish for a fresh one all the more. The client's `max-age` alone does not make an answer that says
/// `immutable` be asked for again while it is fresh (RFC 8246 §2.1): that is what browsers send on a reload. `no-cache` does.
pub fn reuse(meta: &CacheMeta, asked: &Asked, now: SystemTime) -> Reuse {
    let (validates, never_stale) = Terms::bounds(meta);
    if asked.no_cache || validates {
        return Reuse::Validate;
    }
    let left = meta.fresh_until().duration_since(now).unwrap_or_default();
    let is_fresh = !left.is_zero();
    if asked.min_fresh.is_some_and(|wanted| left < wanted || !is_fresh) {
        return Reuse::Validate;
    }
    if let Some(oldest) = asked.max_age {
        let is_too_old = now.duration_since(meta.epoch()).unwrap_or_default() > oldest;
        if is_too_old && !(is_fresh && Directives::read(meta.headers()).immutable) {
            return Reuse::Validate;
        }
        if !is_fresh && asked.max_stale.is_none() {
            return Reuse::Validate;
        }
    }
    if is_fresh {
        return Reuse::Fresh;
    }
    let staleness = staleness(meta, now);
    if staleness < seconds(meta.stale_while_revalidate_sec()) {
        return Reuse::WhileRevalidate;
    }
    // The windows of an answer that is never to be stale are closed already, but for those that it opened itself.
    if !never_stale && asked.max_stale.is_some_and(|longest| staleness <= longest) {
        return Reuse::Stale;
    }
    Reuse::Validate
}

/// Whether a stored answer may stand in where the upstream cannot be reached, or fails with a 5xx (RFC 5861 §4; RFC 9111 §4.2.4).
///
/// - Never one that has to be validated, nor for a request that says `no-cache` and does not itself allow it with `stale-if-error`.
/// - Else within the window that was stored with it. `stale-if-error` of the request speaks for this request in its stead, to both
///   sides: it is "the upper limit to staleness" that the client sets (RFC 5861 §4), and RFC 9111 §4.2.4 lets a client permit a stale
///   answer. Where the answer is never to be stale, it can only shorten the window that the answer opened itself.
/// - `max-age` and `min-fresh` of the request are wishes for an answer that is not to be had now (RFC 9111 §5.2.1): they do not stand
///   against it.
/// - Never a stored 5xx: one failure is no better than another, and the new one says more.
#[must_use]
pub fn may_stand_in(meta: &CacheMeta, asked: &Asked, now: SystemTime) -> bool {
    let (validates, never_stale) = Terms::bounds(meta);
    if validates
        || (asked.no_cache && asked.stale_if_error.is_none())
        || meta.response_header().status.is_server_error()
    {
        return false;
    }
    let stored = seconds(meta.stale_if_error_sec());
    let window = match asked.stale_if_error {
        Some(wanted) if never_stale => wanted.min(stored),
        Some(wanted) => wanted,
        None => stored,
    };
    let is_fresh = meta.fresh_until() > now;
    is_fresh || staleness(meta, now) < window
}

fn staleness(meta: &CacheMeta, now: SystemTime) -> Duration {
    now.duration_since(meta.fresh_until()).unwrap_or_default()
}

fn seconds(window: u32) -> Duration {
    Duration::from_secs(window.into())
}

#[cfg(test)]
mod tests;
