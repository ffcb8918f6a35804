//! Which URLs are no longer right after a request that may have changed something (RFC 9111 §4.4).
//!
//! The heads of the upstream come here erased, so that `Location` and `Content-Location` are URLs as clients see them. This
//! file only names URLs; removing what is stored under them is for the caller, on every route that answers them.

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};

use crate::exchange::Scheme;
use crate::exchange::target::{self, Asterisk};

/// The target of a request, as routing saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Url<'a> {
    /// How the client reached us.
    pub scheme: Scheme,
    /// Host, and port where one was written, in their one form.
    pub authority: &'a str,
    /// In its one form.
    pub path: &'a str,
    /// Without `?`.
    pub query: Option<&'a str>,
}

/// A URL of the same origin as the request's, in the one form that requests for it have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedUrl {
    /// That of the request.
    pub scheme: Scheme,
    /// That of the request, byte for byte.
    pub authority: String,
    /// In its one form.
    pub path: String,
    /// Without `?`.
    pub query: Option<String>,
}

/// The URLs to invalidate after `method` was answered with `status` and `answer`: the target's own, and those of the same
/// origin that `Location` and `Content-Location` name. Empty where the method is safe or the status is an error.
#[must_use]
pub fn invalidated(
    method: &Method,
    status: StatusCode,
    answer: &HeaderMap,
    target: Url<'_>,
) -> Vec<OwnedUrl> {
    if is_safe(method) || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut urls = vec![target.own(target.path.to_owned(), target.query.map(str::to_owned))];
    for name in [LOCATION, CONTENT_LOCATION] {
        let lines = answer.get_all(name).iter().take(MAX_LINES);
        for url in lines.filter_map(|line| target.resolve(std::str::from_utf8(line.as_bytes()).ok()?)) {
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
    }
    urls
}

/// Methods that IANA's registry of HTTP methods marks as safe (RFC 9110 §9.2.1, §16.1.1). Any other changes something,
/// above all one that nobody knows.
#[must_use]
pub fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PRI" | "PROPFIND" | "QUERY" | "REPORT" | "SEARCH"
    )
}

impl Url<'_> {
    fn own(&self, path: String, query: Option<String>) -> OwnedUrl {
        OwnedUrl { scheme: self.scheme, authority: self.authority.to_owned(), path, query }
    }

    /// What a reference means here (RFC 3986 §5.2). None for another origin (RFC 9111 §4.4 forbids those), and for what no
    /// request could ask for.
    fn resolve(&self, reference: &str) -> Option<OwnedUrl> {
        let reference = reference.trim_ascii();
        let reference = reference.split_once('#').map_or(reference, |(before, _)| before);
        let rest = self.within_origin(reference)?;
        let text = match rest.bytes().next() {
            Some(b'/') => rest.to_owned(),
            // Nothing but an authority stood there.
            None if rest.len() < reference.len() => String::from("/"),
            Some(b'?') if rest.len() < reference.len() => format!("/{rest}"),
            None => return Some(self.own(self.path.to_owned(), self.query.map(str::to_owned))),
            Some(b'?') => format!("{}{rest}", self.path),
            Some(_) => {
                let folder = self.path.rfind('/').and_then(|end| self.path.get(..=end)).unwrap_or("/");
                format!("{folder}{rest}")
            }
        };
        let found = target::target(&text, Asterisk::Refuse).ok()?;
        Some(self.own(found.path, found.query))
    }

    /// Takes scheme and authority off a reference if they are ours, and gives what follows.
    fn within_origin<'r>(&self, reference: &'r str) -> Option<&'r str> {
        let rest = match scheme_end(reference) {
            Some(end) => {
                let (scheme, rest) = reference.split_at_checked(end)?;
                rest.strip_prefix(':').filter(|_| scheme.eq_ignore_ascii_case(self.scheme.as_str()))?
            }
            None => reference,
        };
        let Some(rest) = rest.strip_prefix("//") else {
            // `https:path` is no reference of its own to one reader, and a path to another.
            return (rest.len() == reference.len()).then_some(rest);
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        (self.origin(authority)? == self.origin(self.authority)?).then_some(rest)
    }

    /// Host and port, the port in full.
    fn origin(&self, authority: &str) -> Option<(String, u16)> {
        let authority = target::authority(authority).ok()?;
        Some((authority.host, authority.port.unwrap_or(self.scheme.default_port())))
    }
}

/// Where the scheme of a reference ends, if it begins with one (RFC 3986 §3.1).
fn scheme_end(reference: &str) -> Option<usize> {
    let end = reference.find([':', '/', '?'])?;
    let scheme =
        reference.get(..end).filter(|_| reference.get(end..).is_some_and(|rest| rest.starts_with(':')))?;
    let mut bytes = scheme.bytes();
    let is_scheme = bytes.next()?.is_ascii_alphabetic()
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme.then_some(end)
}

/// Lines of one field that are looked at. One is what the RFC knows.
const MAX_LINES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::heads::fields;
    use proptest::prelude::*;

    const TARGET: Url<'static> =
        Url { scheme: Scheme::Https, authority: "app.example", path: "/api/items/1", query: Some("a=1") };

    /// What a `Location` means for [`TARGET`], `path?query`; the target's own URL is left out.
    fn location(reference: &str) -> Option<String> {
        let answer = fields(&[("location", reference)]);
        let urls = invalidated(&Method::POST, StatusCode::CREATED, &answer, TARGET);
        assert_eq!(shown(&urls[0]), "/api/items/1?a=1", "the target comes first");
        assert!(urls.iter().all(|url| url.authority == "app.example" && url.scheme == Scheme::Https));
        urls.get(1).map(shown)
    }

    fn shown(url: &OwnedUrl) -> String {
        url.query.as_ref().map_or_else(|| url.path.clone(), |query| format!("{}?{query}", url.path))
    }

    #[test]
    fn rfc9111_4_4_unsafe_and_unknown_methods_invalidate_the_target() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "PURGE", "PROPPATCH", "get", "X"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let urls = invalidated(&method, StatusCode::OK, &HeaderMap::new(), TARGET);
            let target = OwnedUrl {
                scheme: Scheme::Https,
                authority: "app.example".into(),
                path: "/api/items/1".into(),
                query: Some("a=1".into()),
            };
            assert_eq!(urls, [target], "{method}");
        }
    }

    #[test]
    fn rfc9110_9_2_1_safe_methods_invalidate_nothing() {
        let answer = fields(&[("location", "/api/items")]);
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(invalidated(&method, StatusCode::OK, &answer, TARGET), [], "{method}");
        }
    }

    #[test]
    fn rfc9111_4_4_an_error_invalidates_nothing() {
        let count = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            invalidated(&Method::POST, status, &HeaderMap::new(), TARGET).len()
        };
        for status in [200, 201, 204, 299, 301, 303, 304] {
            assert_eq!(count(status), 1, "{status}");
        }
        for status in [100, 199, 400, 404, 412, 500, 503, 600] {
            assert_eq!(count(status), 0, "{status}");
        }
    }

    #[test]
    fn rfc3986_5_2_references_are_resolved_against_the_target() {
        for (reference, url) in [
            ("/other", "/other"),
            ("/other?b=2#part", "/other?b=2"),
            ("2", "/api/items/2"),
            ("./2?b", "/api/items/2?b"),
            ("../users/", "/api/users/"),
            ("?b=2", "/api/items/1?b=2"),
            ("?", "/api/items/1?"),
            ("https://app.example/other", "/other"),
            ("HTTPS://App.Example.:443/other", "/other"),
            ("https://app.example", "/"),
            ("https://app.example?b", "/?b"),
            ("https://app.example#part", "/"),
            ("//app.example/other", "/other"),
            ("/a//b/%7ec/../d", "/a/b/d"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("x/https://elsewhere.example/", "/api/items/x/https:/elsewhere.example/"),
        ] {
            assert_eq!(location(reference).as_deref(), Some(url), "{reference}");
        }
        for own in ["", "#part", "1?a=1", "https://app.example/api/items/1?a=1"] {
            assert_eq!(location(own), None, "{own:?} is the target");
        }
    }

    #[test]
    fn rfc9111_4_4_another_origin_is_never_invalidated() {
        for reference in [
            "https://elsewhere.example/other",
            "https://sub.app.example/other",
            "https://app.example.elsewhere.example/other",
            "https://app.example:8443/other",
            "http://app.example/other",
            "http://app.example:443/other",
            "//elsewhere.example/other",
            "///other",
            "https://user@app.example/other",
            "https://app.example\\@elsewhere.example/other",
            "https:/other",
            "https:other",
            "mailto:someone@app.example",
            "urn:x",
            "/a%2fb",
            "/a b",
            "../../../other",
            "https://",
        ] {
            assert_eq!(location(reference), None, "{reference}");
        }
    }

    #[test]
    fn rfc9111_4_4_an_explicit_port_is_part_of_the_origin() {
        let target = Url { scheme: Scheme::Http, authority: "app.example:8080", path: "/", query: None };
        let count = |reference: &str| {
            invalidated(&Method::PUT, StatusCode::OK, &fields(&[("location", reference)]), target).len()
        };
        assert_eq!(count("http://app.example:8080/a"), 2, "the same");
        assert_eq!(count("http://app.example/a"), 1, "port 80");
    }

    #[test]
    fn rfc9111_4_4_content_location_counts_as_location_does() {
        let answer = fields(&[("location", "/a"), ("content-location", "/b"), ("content-location", "/a")]);
        let urls = invalidated(&Method::DELETE, StatusCode::OK, &answer, TARGET);
        assert_eq!(urls.iter().map(shown).collect::<Vec<_>>(), ["/api/items/1?a=1", "/a", "/b"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_bytes_in_a_location_are_survived(
            start in prop::sample::select(vec!["", "/", "//", "https:", "https://app.example", "?", "../"]),
            rest in prop::collection::vec(prop_oneof![
                2 => prop::sample::select(b"/.:?#@%2eE5c\\;a[]".to_vec()), 1 => 0x20..=0x7e_u8, 1 => 0x80..=0xff_u8
            ], 0..24),
        ) {
            let answer = fields(&[("location", [start.as_bytes(), &rest].concat())]);
            let urls = invalidated(&Method::POST, StatusCode::OK, &answer, TARGET);
            prop_assert!(urls.len() <= 2);
            for url in urls.iter().skip(1) {
                prop_assert_eq!(url.authority.as_str(), TARGET.authority);
                let again = target::target(&shown(url), Asterisk::Refuse);
                prop_assert_eq!(again.map(|target| target.path), Ok(url.path.clone()), "its path is in the one form");
            }
        }
    }
}
