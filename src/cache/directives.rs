//! `Cache-Control` of an answer, read strictly (RFC 9111 §5.2): whatever cannot be understood makes the answer staler or
//! more private, never the opposite.

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

/// A directive with seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Seconds {
    /// Not there.
    #[default]
    Absent,
    /// There, understood, and the same everywhere.
    Is(Duration),
    /// There but unreadable, or twice with two values: counts as stale (RFC 9111 §4.2.1).
    Unclear,
}

impl Seconds {
    fn add(&mut self, value: Option<&str>) {
        let read = value.and_then(delta_seconds).map_or(Self::Unclear, Self::Is);
        *self = if *self == Self::Absent || *self == read { read } else { Self::Unclear };
    }

    /// The value, where unreadable means none.
    pub(super) fn known(self) -> Option<Duration> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Unclear => None,
        }
    }
}

/// The directives that this cache acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Directives {
    pub(super) no_store: bool,
    /// Also with a list of fields: such an answer is treated as private as a whole.
    pub(super) private: bool,
    /// Also with a list of fields.
    pub(super) no_cache: bool,
    pub(super) public: bool,
    /// `must-revalidate` or `proxy-revalidate`: stale answers are not used.
    pub(super) must_revalidate: bool,
    pub(super) max_age: Seconds,
    pub(super) s_maxage: Seconds,
    pub(super) stale_while_revalidate: Seconds,
    pub(super) stale_if_error: Seconds,
}

impl Directives {
    /// Reads all `Cache-Control` lines. A line that is not text counts as `no-store`.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            match line.to_str() {
                Ok(line) => members(line, |name, value| directives.add(name, value)),
                Err(_) => directives.no_store = true,
            }
        }
        directives
    }

    fn add(&mut self, name: &str, value: Option<&str>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if is("no-store") => self.no_store = true,
            () if is("private") => self.private = true,
            () if is("no-cache") => self.no_cache = true,
            () if is("public") => self.public = true,
            () if is("must-revalidate") || is("proxy-revalidate") => self.must_revalidate = true,
            () if is("max-age") => self.max_age.add(value),
            () if is("s-maxage") => self.s_maxage.add(value),
            () if is("stale-while-revalidate") => self.stale_while_revalidate.add(value),
            () if is("stale-if-error") => self.stale_if_error.add(value),
            () => {}
        }
    }
}

/// Calls `each` with every `name[=value]` of a list, where values may be quoted and quotes may hold commas.
fn members<'l>(line: &'l str, mut each: impl FnMut(&'l str, Option<&'l str>)) {
    let mut quoted = false;
    let mut escaped = false;
    let separator = |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    };
    for member in line.split(separator) {
        let (name, value) = match member.split_once('=') {
            Some((name, value)) => (name, Some(unquoted(value.trim()))),
            None => (member, None),
        };
        if !name.trim().is_empty() {
            each(name.trim(), value);
        }
    }
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// `delta-seconds` of RFC 9111 §1.2.2: digits only; a number too large is capped at 2^31.
pub(super) fn delta_seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(text.parse().map_or(MAX_SECONDS, |seconds: u64| seconds.min(MAX_SECONDS))))
}

/// RFC 9111 §1.2.2.
const MAX_SECONDS: u64 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(lines: &[&str]) -> Directives {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::try_from(*line).unwrap());
        }
        Directives::read(&headers)
    }

    fn seconds(n: u64) -> Seconds {
        Seconds::Is(Duration::from_secs(n))
    }

    #[test]
    fn rfc9111_5_2_names_ignore_case_and_unknown_ones_are_skipped() {
        let read = read(&["Max-Age=60 , PUBLIC,, foo=\"no-store\"", "S-MaxAge=\"5\""]);
        let expected =
            Directives { public: true, max_age: seconds(60), s_maxage: seconds(5), ..Directives::default() };
        assert_eq!(read, expected, "two lines, empty members, a quoted number");
    }

    #[test]
    fn a_comma_in_quotes_does_not_end_a_directive() {
        let read = read(&[r#"private="a, no-store\", max-age=9", max-age=1"#]);
        assert!(read.private && !read.no_store, "the list is one value: {read:?}");
        assert_eq!(read.max_age, seconds(1), "after the list");
    }

    #[test]
    fn an_open_quote_swallows_the_rest() {
        let read = read(&[r#"max-age="60, public"#]);
        assert_eq!((read.max_age, read.public), (Seconds::Unclear, false), "nothing is made of it");
    }

    #[test]
    fn rfc9111_4_2_1_unreadable_or_contradicting_seconds_are_unclear() {
        for line in
            ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=60s", "max-age=1, max-age=2"]
        {
            assert_eq!(read(&[line]).max_age, Seconds::Unclear, "{line}");
        }
        assert_eq!(read(&["max-age=7, max-age=7"]).max_age, seconds(7), "said twice");
    }

    #[test]
    fn rfc9111_1_2_2_a_huge_number_is_capped() {
        assert_eq!(read(&["max-age=99999999999999999999999"]).max_age, seconds(1 << 31), "2^31");
    }

    #[test]
    fn bytes_that_are_no_text_forbid_storing() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_bytes(b"max-age=60, \xff").unwrap());
        assert!(Directives::read(&headers).no_store, "not understood");
    }
}
