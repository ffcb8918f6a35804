//! The names of fields that a stored head has as one byte.
//!
//! The numbers lie in files that outlive the program: a name keeps its number for ever, a new one goes to the end. A program that does
//! not know a number refuses the head, and the object is fetched anew.

use std::collections::HashMap;
use std::sync::LazyLock;

use ahash::RandomState;
use http::header::{self, HeaderName};

/// The number of a name, from 1; `None`: it has none and is spelled out.
pub(super) fn number_of(name: &HeaderName) -> Option<u8> {
    static NUMBERS: LazyLock<HashMap<&'static str, u8, RandomState>> = LazyLock::new(|| {
        let numbers = NAMES.iter().zip(1..=u8::MAX);
        numbers.map(|(name, number)| (name.as_str(), number)).collect()
    });
    NUMBERS.get(name.as_str()).copied()
}

/// The name of a number.
pub(super) fn name_of(number: u8) -> Option<&'static HeaderName> {
    NAMES.get(usize::from(number).checked_sub(1)?)
}

/// The number of `Content-Length`.
pub(super) const CONTENT_LENGTH: u8 = 2;
/// The number of `Vary`.
pub(super) const VARY: u8 = 8;

/// Append only. Sorted by nothing but age: the first are what most answers have.
static NAMES: [HeaderName; 80] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CACHE_CONTROL,
    header::DATE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::EXPIRES,
    header::VARY,
    header::AGE,
    header::SERVER,
    header::VIA,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::ACCEPT_RANGES,
    header::LINK,
    header::LOCATION,
    header::PRAGMA,
    header::ALLOW,
    header::RETRY_AFTER,
    header::WARNING,
    header::UPGRADE,
    header::ALT_SVC,
    header::SET_COOKIE,
    header::WWW_AUTHENTICATE,
    header::STRICT_TRANSPORT_SECURITY,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
    header::REFERRER_POLICY,
    header::REFRESH,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_FRAME_OPTIONS,
    header::X_XSS_PROTECTION,
    header::X_DNS_PREFETCH_CONTROL,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    header::ACCEPT,
    header::CACHE_STATUS,
    header::CDN_CACHE_CONTROL,
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("cache-groups"),
    HeaderName::from_static("no-vary-search"),
    HeaderName::from_static("timing-allow-origin"),
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("permissions-policy"),
    HeaderName::from_static("cross-origin-resource-policy"),
    HeaderName::from_static("cross-origin-opener-policy"),
    HeaderName::from_static("cross-origin-embedder-policy"),
    HeaderName::from_static("origin-agent-cluster"),
    HeaderName::from_static("accept-ch"),
    HeaderName::from_static("accept-patch"),
    HeaderName::from_static("accept-post"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("deprecation"),
    HeaderName::from_static("sunset"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("reporting-endpoints"),
    HeaderName::from_static("nel"),
    HeaderName::from_static("x-powered-by"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-cache"),
    HeaderName::from_static("x-served-by"),
    HeaderName::from_static("x-robots-tag"),
    HeaderName::from_static("x-total-count"),
    HeaderName::from_static("x-download-options"),
    HeaderName::from_static("x-permitted-cross-domain-policies"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_one_number_and_every_number_its_name() {
        for (name, number) in NAMES.iter().zip(1..) {
            assert_eq!(number_of(name), Some(number), "{name}");
            assert_eq!(name_of(number), Some(name), "{number}");
        }
        assert_eq!(name_of(0), None, "spelled out");
        assert_eq!(name_of(NAMES.len() as u8 + 1), None, "behind the last");
        assert_eq!(number_of(&HeaderName::from_static("x-of-nobody")), None);
    }

    #[test]
    fn numbers_that_lie_in_files_keep_their_names() {
        let written = [
            (1, "content-type"),
            (4, "date"),
            (26, "set-cookie"),
            (43, "accept"),
            (80, "x-ratelimit-remaining"),
        ];
        for (number, name) in written {
            assert_eq!(name_of(number).map(HeaderName::as_str), Some(name), "{number}");
        }
        assert_eq!(
            (name_of(CONTENT_LENGTH), name_of(VARY)),
            (Some(&header::CONTENT_LENGTH), Some(&header::VARY))
        );
    }
}
