//! The strict reading of an HTTP/1 request head: is it complete, and is it beyond dispute?
//!
//! The framework parses the head again and builds the request. This scan stands in front for two reasons: what the framework
//! refuses is answered without any hook and with its product name, so everything that it would refuse must be refused here
//! first; and what two parsers could read in two ways (RFC 9112 §11.2) is refused although the framework has an opinion.
//! Stricter than the framework: bare LF, `Content-Length` twice or beside `Transfer-Encoding`, a missing or malformed `Host`,
//! bytes in the target that no URI has.
//!
//! It does not normalise: a path is only checked for its bytes.

use http::StatusCode;

use super::MAX_REQUEST_LINE_BYTES;
use super::answer::{Content, Refused};
use crate::plan::Listener;

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Request line and final empty line included.
    pub(super) bytes: usize,
    /// Fields.
    pub(super) count: usize,
}

/// The framework's parser refuses more, without a hook.
const FRAMEWORK_HEADER_BYTES: usize = 1024 * 1024;
/// The same for the number of fields.
const FRAMEWORK_HEADER_COUNT: usize = 256;

impl Limits {
    /// As configured, and never more than the framework takes.
    pub(super) fn of(bytes: usize, count: usize) -> Self {
        Self { bytes: bytes.min(FRAMEWORK_HEADER_BYTES), count: count.min(FRAMEWORK_HEADER_COUNT) }
    }
}

/// Whether what has arrived so far is a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// More must come; the next look may begin where this one ended.
    Partial,
    /// The head is this long, its final empty line included.
    Complete(usize),
}

/// Looks for the end of the head from `from` on.
///
/// # Errors
/// What can be refused before the end has arrived: a bare LF, a request line or head over its limit.
pub(super) fn extent(buf: &[u8], from: usize, limits: Limits) -> Result<Extent, Refused> {
    let mut at = from;
    while let Some(found) = buf.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
        let lf = at + found;
        if lf == 0 || buf.get(lf - 1) != Some(&b'\r') {
            return Err(Refused::bad("bare_lf"));
        }
        if lf >= 3 && buf.get(lf - 3..lf) == Some(b"\r\n\r") {
            return within(lf + 1, limits).map(|()| Extent::Complete(lf + 1));
        }
        at = lf + 1;
    }
    within(buf.len(), limits)?;
    if buf.len() > MAX_REQUEST_LINE_BYTES
        && !buf.iter().take(MAX_REQUEST_LINE_BYTES + 2).any(|byte| *byte == b'\n')
    {
        return Err(URI_TOO_LONG);
    }
    Ok(Extent::Partial)
}

fn within(length: usize, limits: Limits) -> Result<(), Refused> {
    if length > limits.bytes { Err(HEAD_TOO_LARGE) } else { Ok(()) }
}

/// Checks a complete head.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn check(head: &[u8], limits: Limits) -> Result<(), Refused> {
    let (line, mut rest) = split_line(head).ok_or(Refused::bad("request_line"))?;
    if line.len() > MAX_REQUEST_LINE_BYTES {
        return Err(URI_TOO_LONG);
    }
    let request = request_line(line)?;
    let mut fields = Fields::default();
    while let Some((line, next)) = split_line(rest) {
        rest = next;
        if line.is_empty() {
            break;
        }
        fields.count += 1;
        if fields.count > limits.count {
            return Err(Refused::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_headers"));
        }
        fields.take(line)?;
    }
    fields.judge(request)
}

/// What the guard of a listener answers to this head at once; `None`: the journey begins. For telling of it.
#[must_use]
pub fn refusal(listener: &Listener, head: &[u8]) -> Option<(StatusCode, &'static str)> {
    let limits = Limits::of(listener.max_header_bytes, listener.max_headers);
    let refused = extent(head, 0, limits).and_then(|_| check(head, limits)).err()?;
    Some((refused.status, refused.reason))
}

/// Whether the answer to this head, or to what arrived of it, has a body.
pub(super) fn content(head: &[u8]) -> Content {
    if head.starts_with(b"HEAD ") { Content::HeadOnly } else { Content::Full }
}

fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let lf = text.iter().position(|byte| *byte == b'\n')?;
    let line = text.get(..lf)?.strip_suffix(b"\r")?;
    Some((line, text.get(lf + 1..)?))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

#[derive(Debug, Clone, Copy)]
struct Request<'a> {
    version: Version,
    /// From an absolute-form target.
    authority: Option<&'a [u8]>,
}

/// RFC 9112 §3: exactly one space on each side of the target.
fn request_line(line: &[u8]) -> Result<Request<'_>, Refused> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::bad("request_line"));
    };
    if !is_token(method) || method.len() > MAX_NAME_BYTES {
        return Err(Refused::bad("method"));
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refused::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "http_version"));
        }
        _ => return Err(Refused::bad("request_line")),
    };
    if is_refused_method(method) {
        return Err(METHOD_REFUSED);
    }
    Ok(Request { version, authority: target_authority(method, target)? })
}

/// TRACE would show the client what we add to its request; CONNECT would make us an open proxy.
pub(super) fn is_refused_method(method: &[u8]) -> bool {
    // Methods are case-sensitive, but not every upstream knows.
    method.eq_ignore_ascii_case(b"TRACE") || method.eq_ignore_ascii_case(b"CONNECT")
}

/// RFC 9112 §3.2: origin-form, absolute-form of `http` and `https`, or `*` with OPTIONS.
fn target_authority<'a>(method: &[u8], target: &'a [u8]) -> Result<Option<&'a [u8]>, Refused> {
    // A backtick is sent by browsers in a query; in a path the framework refuses it.
    let mut path = target.split(|byte| *byte == b'?').next().unwrap_or_default().iter();
    if !target.iter().all(|byte| is_target_byte(*byte)) || path.any(|byte| *byte == b'`') {
        return Err(Refused::bad("request_target"));
    }
    if target.first() == Some(&b'/') || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let rest = strip_scheme(target, b"http://")
        .or_else(|| strip_scheme(target, b"https://"))
        .ok_or(Refused::bad("request_target"))?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    rest.get(..end).filter(|authority| is_host(authority)).map(Some).ok_or(Refused::bad("request_target"))
}

fn strip_scheme<'a>(target: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Visible ASCII without what no URI has and others read as an end: quotes, angle brackets, fragment.
fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'#')
}

/// What the fields say about framing and authority.
#[derive(Debug, Default)]
struct Fields<'a> {
    count: usize,
    host: Option<&'a [u8]>,
    has_length: bool,
    has_coding: bool,
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: &'a [u8]) -> Result<(), Refused> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Refused::bad("obs_fold"));
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Refused::bad("header_name"))?;
        let (name, value) = line.split_at_checked(colon).ok_or(Refused::bad("header_name"))?;
        if matches!(name.last(), Some(b' ' | b'\t')) {
            return Err(Refused::bad("space_before_colon"));
        }
        if !is_token(name) || name.len() > MAX_NAME_BYTES {
            return Err(Refused::bad("header_name"));
        }
        let value = value.get(1..).unwrap_or_default();
        if !value.iter().all(|byte| is_value_byte(*byte)) {
            return Err(Refused::bad("header_value"));
        }
        // Length first: nearly every field is ruled out by it.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.take_host(trim(value)),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.take_length(trim(value)),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.take_coding(trim(value)),
            _ => Ok(()),
        }
    }

    /// RFC 9112 §3.2: exactly one, and well formed.
    fn take_host(&mut self, value: &'a [u8]) -> Result<(), Refused> {
        if self.host.is_some() {
            return Err(Refused::bad("host_repeated"));
        }
        if !is_host(value) {
            return Err(Refused::bad("host"));
        }
        self.host = Some(value);
        Ok(())
    }

    /// RFC 9110 §8.6: digits only. A list of equal lengths may be refused, and is.
    fn take_length(&mut self, value: &[u8]) -> Result<(), Refused> {
        let fits = !value.is_empty() && value.len() <= MAX_LENGTH_DIGITS;
        if self.has_length || !fits || !value.iter().all(u8::is_ascii_digit) {
            return Err(Refused::bad("content_length"));
        }
        self.has_length = true;
        Ok(())
    }

    /// RFC 9112 §6.1: `chunked`, once, is all that we take.
    fn take_coding(&mut self, value: &[u8]) -> Result<(), Refused> {
        if self.has_coding {
            return Err(Refused::bad("transfer_encoding"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(unknown_coding(value));
        }
        self.has_coding = true;
        Ok(())
    }

    fn judge(self, request: Request<'_>) -> Result<(), Refused> {
        if self.has_coding && self.has_length {
            return Err(Refused::bad("length_and_coding"));
        }
        if self.has_coding && request.version == Version::Http10 {
            return Err(Refused::bad("transfer_encoding"));
        }
        match (self.host, request.authority, request.version) {
            (None, _, Version::Http11) => Err(Refused::bad("host_missing")),
            (Some(host), Some(authority), _) if host != authority => Err(Refused::bad("host")),
            _ => Ok(()),
        }
    }
}

/// 501 for a list that is well formed and ends with `chunked` once: we understand the framing and lack the coding (RFC 9112
/// §6.1). Anything else is a mistake or an attack.
fn unknown_coding(value: &[u8]) -> Refused {
    let mut codings = value.split(|byte| *byte == b',').map(trim).rev();
    let ends_chunked = codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    if ends_chunked && codings.all(|coding| is_token(coding) && !coding.eq_ignore_ascii_case(b"chunked")) {
        return Refused::new(StatusCode::NOT_IMPLEMENTED, "transfer_encoding");
    }
    Refused::bad("transfer_encoding")
}

/// `uri-host [ ":" port ]` of RFC 9110 §7.2, as bytes: no userinfo, no path, no space; a port has digits.
fn is_host(value: &[u8]) -> bool {
    let (name, port) = match value.first() {
        Some(b'[') => match value.iter().position(|byte| *byte == b']') {
            Some(end) => value.split_at_checked(end + 1).unwrap_or_default(),
            None => return false,
        },
        _ => {
            let colon = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
            value.split_at_checked(colon).unwrap_or_default()
        }
    };
    let name_is_right = match name.strip_prefix(b"[").and_then(|inner| inner.strip_suffix(b"]")) {
        Some(inner) => {
            std::str::from_utf8(inner).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
        }
        None => {
            !name.is_empty() && name.len() <= MAX_HOST_BYTES && name.iter().all(|byte| is_host_byte(*byte))
        }
    };
    name_is_right && is_port(port)
}

fn is_port(value: &[u8]) -> bool {
    match value.split_first() {
        None => true,
        Some((b':', digits)) => {
            digits.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(digits).is_ok_and(|text| text.parse::<u16>().is_ok())
        }
        Some(_) => false,
    }
}

/// Names as they are in use: letters, digits, `-`, `.`, `_`. The other sub-delims of RFC 3986 are in no name that resolves.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| TOKEN.get(usize::from(*byte)) == Some(&true))
}

/// RFC 9110 §5.5: visible characters, space, tab and `obs-text`.
fn is_value_byte(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

const HEAD_TOO_LARGE: Refused = Refused::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large");
const URI_TOO_LONG: Refused = Refused::new(StatusCode::URI_TOO_LONG, "request_line_too_long");
pub(super) const METHOD_REFUSED: Refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method_refused");

/// Longer than any field name in use; a bound below that of the `http` crate.
const MAX_NAME_BYTES: usize = 1024;
/// The longest DNS name.
const MAX_HOST_BYTES: usize = 255;
/// Every number of 18 digits fits 63 bits; a body of an exabyte is none.
const MAX_LENGTH_DIGITS: usize = 18;

/// `tchar` of RFC 9110 §5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let c = byte as u8;
        table[byte] = c.is_ascii_alphanumeric()
            || matches!(
                c,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
