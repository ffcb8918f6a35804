//! What the demo vendor remembers: how often it was asked for what, and with which credential.
//!
//! This is the witness for the promise that no request reaches an upstream without exactly the right credential: it is
//! written down here, on the other side of the gateway. Keys are kept as fingerprints.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::answer::fingerprint;

/// Different paths and credentials that are counted apart; all others are counted as `other`.
const MAX_NAMES: usize = 256;

/// What a request brought as its credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// One, and it is taken.
    Valid(String),
    /// One, and it is not taken.
    Wrong,
    /// None.
    Missing,
    /// More than one: the client's own passed beside ours.
    Several,
}

/// The one credential in `X-Api-Key` or `Authorization: Bearer`. Whether it is taken, the caller knows.
///
/// # Errors
/// [`Seen::Missing`], [`Seen::Several`], or [`Seen::Wrong`] for one that is not text or of another scheme.
pub(super) fn presented(headers: &HeaderMap) -> Result<String, Seen> {
    let keys = headers.get_all("x-api-key").iter().map(|value| (value, false));
    let bearers = headers.get_all(AUTHORIZATION).iter().map(|value| (value, true));
    let mut found = keys.chain(bearers);
    let (value, is_bearer) = found.next().ok_or(Seen::Missing)?;
    if found.next().is_some() {
        return Err(Seen::Several);
    }
    let text = value.to_str().map_err(|_| Seen::Wrong)?;
    if !is_bearer {
        return Ok(text.to_owned());
    }
    match text.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(key.trim().to_owned()),
        _ => Err(Seen::Wrong),
    }
}

/// The counts. One lock for everything: this is a demo server.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Book>);

#[derive(Default)]
struct Book {
    paths: BTreeMap<String, u64>,
    valid: BTreeMap<String, u64>,
    wrong: u64,
    missing: u64,
    several: u64,
}

impl Ledger {
    /// Writes one request down.
    pub(super) fn record(&self, path: &str, seen: &Seen) {
        let mut book = self.0.lock();
        count(&mut book.paths, path);
        match seen {
            Seen::Valid(key) => count(&mut book.valid, &fingerprint(key.as_bytes())),
            Seen::Wrong => book.wrong += 1,
            Seen::Missing => book.missing += 1,
            Seen::Several => book.several += 1,
        }
    }

    /// How often `path` was asked for, this time included.
    pub(super) fn times(&self, path: &str) -> u64 {
        self.0.lock().paths.get(path).copied().unwrap_or(0)
    }

    /// Requests per path.
    pub(super) fn counts(&self) -> Value {
        json!({ "counts": self.0.lock().paths })
    }

    /// Requests per credential (a fingerprint, never the value), and those that were refused, by reason.
    pub(super) fn credentials(&self) -> Value {
        let book = self.0.lock();
        json!({
            "valid": book.valid,
            "refused": { "wrong": book.wrong, "missing": book.missing, "several": book.several },
        })
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    let name = if counts.contains_key(name) || counts.len() < MAX_NAMES { name } else { "other" };
    *counts.entry(name.to_owned()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn one_credential_is_taken_from_either_header() {
        assert_eq!(presented(&headers(&[("x-api-key", "abc")])), Ok("abc".to_owned()));
        assert_eq!(presented(&headers(&[("authorization", "bearer abc")])), Ok("abc".to_owned()));
    }

    #[test]
    fn a_clients_credential_beside_ours_is_seen() {
        let both = headers(&[("x-api-key", "abc"), ("authorization", "Bearer theirs")]);
        assert_eq!(presented(&both), Err(Seen::Several));
        let mut twice = headers(&[("x-api-key", "abc")]);
        twice.append("x-api-key", HeaderValue::from_static("theirs"));
        assert_eq!(presented(&twice), Err(Seen::Several));
    }

    #[test]
    fn none_and_another_scheme_are_told_apart() {
        assert_eq!(presented(&HeaderMap::new()), Err(Seen::Missing));
        assert_eq!(presented(&headers(&[("authorization", "Basic YTpi")])), Err(Seen::Wrong));
    }

    #[test]
    fn counts_are_bounded() {
        let ledger = Ledger::default();
        for n in 0..1_000 {
            ledger.record(&format!("/{n}"), &Seen::Missing);
        }
        assert_eq!(ledger.0.lock().paths.len(), MAX_NAMES + 1, "256 names and `other`");
        assert_eq!(ledger.times("other"), 1_000 - 256);
    }
}
