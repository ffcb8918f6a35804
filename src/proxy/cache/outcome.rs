//! What is said of the cache: `Cache-Status`, the metric, the log. One set of words (docs/caching.md).

use std::time::SystemTime;

use http::HeaderValue;
use pingora::cache::CacheMeta;

use crate::cache::key::MethodClass;
use crate::cache::status::{Forward, Outcome, Source as CacheSource, seconds_between};
use crate::exchange::Source;
use crate::proxy::Ctx;
use crate::telemetry::labels::CacheResult;

/// A stale answer in the place of an error.
pub(super) fn instead_of_error(now: SystemTime, meta: &CacheMeta) -> Outcome {
    Outcome {
        ttl_secs: Some(seconds_of(now, meta)),
        detail: Some("stale-if-error"),
        ..Outcome::new(CacheSource::Forwarded(Forward::Stale))
    }
}

/// Seconds of freshness left.
pub(super) fn seconds_of(now: SystemTime, meta: &CacheMeta) -> i64 {
    seconds_between(now, meta.fresh_until())
}

/// In `response_filter`: what is not said yet is said before the head goes out.
pub fn note_served(ctx: &mut Ctx) {
    let caches = ctx.route.as_ref().is_some_and(|route| route.settings.cache.is_some());
    let outcome = ctx.cache.outcome.get_or_insert_with(|| {
        let why = if caches && MethodClass::of(&ctx.exchange.method).is_none() {
            Forward::Method
        } else {
            Forward::Bypass
        };
        Outcome::new(CacheSource::Forwarded(why))
    });
    let from_store = matches!(outcome.source, CacheSource::Hit)
        || outcome.collapsed
        || outcome.fwd_status.is_some()
        || outcome.detail.is_some();
    if from_store {
        ctx.exchange.source = Source::Cache;
    }
}

/// The value of `Cache-Status` (RFC 9211).
#[must_use]
pub fn status_field(ctx: &Ctx) -> HeaderValue {
    let mut outcome = match ctx.cache.outcome {
        Some(outcome) if ctx.local.is_none() => outcome,
        _ => Outcome::new(CacheSource::Gateway),
    };
    if matches!(outcome.source, CacheSource::Forwarded(_)) && !outcome.collapsed {
        outcome.stored = ctx.cache.stored;
        outcome.detail = outcome.detail.or(ctx.cache.refused);
    }
    outcome.value()
}

/// At the end: what the metric and the log are told.
pub fn note_outcome(ctx: &mut Ctx) {
    if !ctx.cache.looked_up {
        return;
    }
    if let Some(waited) = ctx.cache.waited {
        ctx.shared.process.metrics.process().cache_lock_wait(waited);
    }
    let Some(outcome) = ctx.cache.outcome else { return };
    let is_stale = outcome.ttl_secs.is_some_and(|ttl| ttl < 0);
    ctx.cache.result = Some(match outcome.source {
        CacheSource::Hit if is_stale => CacheResult::Stale,
        CacheSource::Hit => CacheResult::Hit,
        _ if outcome.detail.is_some() => CacheResult::Stale,
        _ if outcome.collapsed => CacheResult::Collapsed,
        _ if outcome.fwd_status.is_some() => CacheResult::Revalidated,
        _ if ctx.cache.refused.is_some() => CacheResult::Uncacheable,
        CacheSource::Forwarded(Forward::Bypass) => CacheResult::Bypass,
        CacheSource::Forwarded(_) => CacheResult::Miss,
        CacheSource::Gateway => return,
    });
}
