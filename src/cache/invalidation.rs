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
