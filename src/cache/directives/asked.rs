//! What a request asks of caches (RFC 9111 §5.2.1). Read only where the route listens to it.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

use super::{Seconds, members};

/// What a request asks of this cache. The default asks nothing.
///
/// All of it is advice (§5.2.1): a route that does not listen passes the default everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Nothing stored without asking the upstream (§5.2.1.4).
    pub no_cache: bool,
    /// Nothing of this exchange is to be kept (§5.2.1.5).
    pub no_store: bool,
    /// A stored answer or 504 (§5.2.1.7).
    pub only_if_cached: bool,
    /// No answer older than this, and none that is stale unless `max_stale` is there (§5.2.1.1).
    pub max_age: Option<Duration>,
    /// Only an answer that stays fresh for so long (§5.2.1.3).
    pub min_fresh: Option<Duration>,
    /// Also an answer that has been stale for so long; [`Duration::MAX`] where no value is given (§5.2.1.2).
    pub max_stale: Option<Duration>,
    /// While the upstream fails, an answer that has been stale for so long (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
}

impl Asked {
    /// Reads all `Cache-Control` lines of a request, or `Pragma: no-cache` where there is none (RFC 9111 §5.4).
    ///
    /// What cannot be read, or is said twice with two values, leads to the upstream: `max-age` counts as 0, `min-fresh` as more than any
    /// answer has, `max-stale` and `stale-if-error` as no leave.
    #[must_use]
    pub fn read(request: &HeaderMap) -> Self {
        let mut read = Read::default();
        if !request.contains_key(CACHE_CONTROL) {
            let pragma = request.get_all(PRAGMA).iter().filter_map(|line| line.to_str().ok());
            pragma.for_each(|line| {
                members(line, |name, _| read.asked.no_cache |= name.eq_ignore_ascii_case("no-cache"));
            });
            return read.asked;
        }
        for line in request.get_all(CACHE_CONTROL) {
            let is_whole = line.to_str().is_ok_and(|line| members(line, |name, value| read.add(name, value)));
            read.asked.no_cache |= !is_whole;
        }
        let or = |seconds: Seconds, unclear: Option<Duration>| match seconds {
            Seconds::Absent => None,
            Seconds::Is(value) => Some(value),
            Seconds::Unclear => unclear,
        };
        Self {
            max_age: or(read.max_age, Some(Duration::ZERO)),
            min_fresh: or(read.min_fresh, Some(Duration::MAX)),
            max_stale: or(read.max_stale, None).or(read.any_stale.then_some(Duration::MAX)),
            stale_if_error: or(read.stale_if_error, Some(Duration::ZERO)),
            ..read.asked
        }
    }
}

#[derive(Default)]
struct Read {
    asked: Asked,
    max_age: Seconds,
    min_fresh: Seconds,
    max_stale: Seconds,
    /// `max-stale` without a value.
    any_stale: bool,
    stale_if_error: Seconds,
}

impl Read {
    fn add(&mut self, name: &str, value: Option<&str>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if is("no-cache") => self.asked.no_cache = true,
            () if is("no-store") => self.asked.no_store = true,
            () if is("only-if-cached") => self.asked.only_if_cached = true,
            () if is("max-age") => self.max_age.add(value),
            () if is("min-fresh") => self.min_fresh.add(value),
            () if is("max-stale") && value.is_none() => self.any_stale = true,
            () if is("max-stale") => self.max_stale.add(value),
            () if is("stale-if-error") => self.stale_if_error.add(value),
            () => {}
        }
    }
}
