//! `Cache-Status` (RFC 9211): one member that says what this cache did.
//!
//! `proxy` makes an [`Outcome`] where it decides, and writes the value on every answer. A fresh hit costs one small allocation.

use std::time::SystemTime;

use http::HeaderValue;

/// Why a request went to the upstream (RFC 9211 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The cache was not to be used for this request: no `cache` on the route, or a memory that the answer is not shared.
    Bypass,
    /// The method is not served from the cache.
    Method,
    /// Nothing was stored under the key.
    UriMiss,
    /// Something was, but no variant for this request's headers.
    VaryMiss,
    /// A miss of a kind that is not known.
    Miss,
    /// The request itself asked for it.
    Request,
    /// A part was stored, and not the one that is asked for.
    Partial,
    /// What was stored was stale.
    Stale,
}

impl Forward {
    /// The token of RFC 9211.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Partial => "partial",
            Self::Stale => "stale",
        }
    }
}

/// Where the answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The cache alone.
    Hit,
    /// The upstream, for a reason.
    Forwarded(Forward),
    /// Neither: a redirect, an error or a fixed answer of ours.
    Gateway,
}

/// What became of a request in this cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Where the answer came from.
    pub source: Source,
    /// Seconds of freshness left when it was sent; negative when stale (RFC 9211 §2.5).
    pub ttl_secs: Option<i64>,
    /// The status the upstream gave, where it differs from the one sent (§2.3). Leave it out where errors are masked.
    pub fwd_status: Option<u16>,
    /// The answer was stored (§2.4).
    pub stored: bool,
    /// Another request's call to the upstream brought the answer (§2.6).
    pub collapsed: bool,
    /// A token from a closed set, such as [`super::freshness::Reason::as_str`] (§2.8). Never text of a request or upstream.
    pub detail: Option<&'static str>,
}

impl Outcome {
    /// The outcome of a source, with nothing else said.
    pub const fn new(source: Source) -> Self {
        Self { source, ttl_secs: None, fwd_status: None, stored: false, collapsed: false, detail: None }
    }

    /// An answer from the store alone, so long before (after: negative) it grows stale.
    pub fn hit(now: SystemTime, fresh_until: SystemTime) -> Self {
        Self { ttl_secs: Some(seconds_between(now, fresh_until)), ..Self::new(Source::Hit) }
    }

    /// The field value.
    pub fn value(&self) -> HeaderValue {
        let mut text = String::with_capacity(64);
        text.push_str(NAME);
        match self.source {
            Source::Hit => text.push_str("; hit"),
            Source::Forwarded(why) => {
                text.push_str("; fwd=");
                text.push_str(why.as_str());
            }
            Source::Gateway => {}
        }
        if let Some(status) = self.fwd_status {
            text.push_str("; fwd-status=");
            text.push_str(itoa::Buffer::new().format(status));
        }
        if let Some(ttl) = self.ttl_secs {
            text.push_str("; ttl=");
            text.push_str(itoa::Buffer::new().format(ttl));
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=");
            text.push_str(detail);
        }
        // The parts are static tokens and digits, so this cannot fail; the bare name is a true answer all the same.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(NAME))
    }
}

/// Seconds from `now` until `until`, rounded; negative when it is over.
pub fn seconds_between(now: SystemTime, until: SystemTime) -> i64 {
    let seconds = |d: std::time::Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    match until.duration_since(now) {
        // To the nearest: an answer that is fresh for a minute says so, though it took a moment to come.
        Ok(left) => seconds(left.saturating_add(HALF)),
        // Away from zero: what is over by half a second is stale, and 0 would not say so.
        Err(past) => {
            let past = past.duration();
            -seconds(past).saturating_add(i64::from(past.subsec_nanos() > 0))
        }
    }
}

/// How this cache calls itself. Says nothing about what is behind it.
const NAME: &str = "portcullis";
const HALF: std::time::Duration = std::time::Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn text(outcome: Outcome) -> String {
        outcome.value().to_str().unwrap().to_owned()
    }

    #[test]
    fn rfc9211_values_read_as_in_the_standard() {
        let hit = Outcome { ttl_secs: Some(12), ..Outcome::new(Source::Hit) };
        assert_eq!(text(hit), "portcullis; hit; ttl=12");
        assert_eq!(text(Outcome { ttl_secs: Some(-412), ..hit }), "portcullis; hit; ttl=-412");
        let miss = Outcome::new(Source::Forwarded(Forward::UriMiss));
        assert_eq!(text(Outcome { stored: true, ..miss }), "portcullis; fwd=uri-miss; stored");
        assert_eq!(text(Outcome { collapsed: true, ..miss }), "portcullis; fwd=uri-miss; collapsed");
        let refused = Outcome { fwd_status: Some(304), detail: Some("no-store"), ..miss };
        assert_eq!(text(refused), "portcullis; fwd=uri-miss; fwd-status=304; detail=no-store");
        assert_eq!(text(Outcome::new(Source::Gateway)), "portcullis");
    }

    #[test]
    fn every_forward_has_its_token() {
        let all = [
            Forward::Bypass,
            Forward::Method,
            Forward::Miss,
            Forward::Request,
            Forward::Stale,
            Forward::VaryMiss,
            Forward::Partial,
        ];
        let texts = all.map(Forward::as_str);
        assert_eq!(texts, ["bypass", "method", "miss", "request", "stale", "vary-miss", "partial"]);
    }

    #[test]
    fn seconds_are_negative_after_the_end() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(seconds_between(now, now + Duration::from_millis(1900)), 2, "to the nearest");
        assert_eq!(seconds_between(now, now - Duration::from_secs(5)), -5, "past");
        assert_eq!(seconds_between(now, now - Duration::from_millis(1)), -1, "just past");
    }
}
