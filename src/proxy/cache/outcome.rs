//! What is said of the cache: `Cache-Status`, the metric, the log. One set of words (docs/caching.md).

use std::time::SystemTime;

use http::HeaderValue;
use pingora::cache::CacheMeta;

use crate::cache::freshness::Reason;
use crate::cache::key::MethodClass;
use crate::cache::status::{Forward, Outcome, Source as CacheSource, seconds_between};
use crate::exchange::Source;
use crate::proxy::Ctx;
use crate::telemetry::labels::{CacheResult, Uncacheable};

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
    let caches = caches(ctx);
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
        outcome.detail = reason(ctx);
    }
    outcome.value()
}

/// Why the answer is not stored, or why a stale one was given: `detail` and `cache_reason`.
#[must_use]
pub fn reason(ctx: &Ctx) -> Option<&'static str> {
    let stand_in = ctx.cache.outcome.and_then(|outcome| outcome.detail);
    stand_in.or(ctx.cache.refused.map(Uncacheable::as_str))
}

fn caches(ctx: &Ctx) -> bool {
    ctx.route.as_ref().is_some_and(|route| route.settings.cache.is_some())
}

/// At the end: what the metric and the log are told.
pub fn note_outcome(ctx: &mut Ctx) {
    if !ctx.cache.looked_up {
        if caches(ctx) && ctx.local.is_none() && ctx.cache.outcome.is_some() {
            ctx.cache.result = Some(CacheResult::Bypass);
        }
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

impl From<Reason> for Uncacheable {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Status => Self::Status,
            Reason::Head => Self::Head,
            Reason::RequestNoStore => Self::RequestNoStore,
            Reason::ContentRange => Self::ContentRange,
            Reason::EventStream => Self::EventStream,
            Reason::CloseDelimited => Self::CloseDelimited,
            Reason::NoStore => Self::NoStore,
            Reason::Private => Self::Private,
            Reason::NoCache => Self::NoCache,
            Reason::SetCookie => Self::SetCookie,
            Reason::Vary => Self::Vary,
            Reason::Authorization => Self::Authorization,
            Reason::Cookie => Self::Cookie,
            Reason::Deception => Self::Deception,
            Reason::ServerError => Self::ServerError,
            Reason::NoFreshness => Self::NoFreshness,
            Reason::Stale => Self::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::labels::Label;

    #[test]
    fn a_reason_is_the_same_word_everywhere() {
        let judged = Reason::ALL.map(|reason| (Uncacheable::from(reason).as_str(), reason.as_str()));
        assert!(judged.iter().all(|(label, judged)| label == judged), "{judged:?}");
        let labels: Vec<&str> = Uncacheable::ALL.iter().map(|reason| reason.as_str()).collect();
        let known: Vec<&str> = judged.iter().map(|(label, _)| *label).chain(["too-large"]).collect();
        assert_eq!(labels, known, "each judgement has its label, and the size of a body has one more");
    }
    #[test]
    fn every_reason_is_explained_on_its_page() {
        let page = include_str!("../../../docs/caching.md");
        let why_not = page.split("\n## ").find(|section| section.starts_with("Why not")).unwrap_or_default();
        let told: Vec<&str> =
            why_not.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let known: Vec<&str> = Uncacheable::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(told, known, "docs/caching.md, in the order in which an answer is judged");
    }
}
