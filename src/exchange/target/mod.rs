//! The one normaliser for request targets and authorities.
//!
//! It runs before anything is matched, and what it returns is both what is decided on and what is sent upstream, so no
//! two parts of the journey can read one path differently. It does not look at routes, and it never repairs a target
//! whose meaning depends on who reads it: such a target is refused with 400 and a closed reason.
//!
//! What it does to a path, in one pass: percent-encodings are checked, those of unreserved characters are decoded, the
//! hex digits of the others are upper case (RFC 3986 §6.2.2); characters that no URI path may hold are encoded; `//` is
//! merged; then dot segments are resolved (§5.2.4). It is a fixed point: normalising the result changes nothing.

mod authority;

pub use authority::{Authority, BadAuthority, authority};

use std::fmt;

/// The longest target, before and after normalising, in bytes. RFC 9112 §3 asks for at least 8000 octets.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;

/// A request target in its only form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Absolute path: begins with `/`, holds no dot segment, no `//` and only ASCII. `*` where the asterisk-form was
    /// allowed and used.
    pub path: String,
    /// What stood after the first `?`, byte for byte. `Some("")` for a bare `?`.
    pub query: Option<String>,
    /// The authority of an absolute-form target (RFC 9112 §3.2.2). The caller compares it with `Host`.
    pub authority: Option<Authority>,
}

/// Whether the asterisk-form may stand as a target (RFC 9112 §3.2.4): only for `OPTIONS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asterisk {
    /// The method is `OPTIONS`.
    Allow,
    /// Any other method.
    Refuse,
}

/// Why a target is refused with 400. Always the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadTarget {
    /// Neither `/path` nor `http://host/path` nor an allowed `*`.
    Form,
    /// An absolute-form target of another scheme than `http` and `https`.
    Scheme,
    /// An absolute-form target whose authority is refused.
    Authority(BadAuthority),
    /// Longer than [`MAX_TARGET_BYTES`], as written or once normalised.
    TooLong,
    /// A `%` without two hex digits.
    Percent,
    /// `%2F` in a path: some upstreams take it for a separator.
    EncodedSlash,
    /// `\` or `%5C` in a path: some upstreams take it for a separator.
    Backslash,
    /// A control character or a space: raw anywhere, encoded in a path. `%00` is one.
    Control,
    /// A raw `#`: a fragment is never sent (RFC 9110 §7.1).
    Fragment,
    /// More `..` than there are segments to leave.
    AboveRoot,
    /// `;` in a segment beside `.` or `..` (`/..;x/`): some upstreams drop parameters first and resolve dots then.
    DotsWithSemicolon,
}

impl BadTarget {
    /// A stable code for logs and metrics. Holds nothing of the request.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Form => "target_form",
            Self::Scheme => "target_scheme",
            Self::Authority(why) => why.code(),
            Self::TooLong => "target_too_long",
            Self::Percent => "target_percent",
            Self::EncodedSlash => "target_encoded_slash",
            Self::Backslash => "target_backslash",
            Self::Control => "target_control",
            Self::Fragment => "target_fragment",
            Self::AboveRoot => "target_above_root",
            Self::DotsWithSemicolon => "target_dots_with_semicolon",
        }
    }
}

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "it does not begin with `/`",
            Self::Scheme => "its scheme is neither `http` nor `https`",
            Self::Authority(why) => return why.fmt(f),
            Self::TooLong => return write!(f, "it is longer than {MAX_TARGET_BYTES} bytes"),
            Self::Percent => "a `%` is not followed by two hex digits",
            Self::EncodedSlash => "`%2F` is refused in a path",
            Self::Backslash => "a backslash is refused in a path",
            Self::Control => "it has a space or a control character",
            Self::Fragment => "a `#` is never part of a request",
            Self::AboveRoot => "it has more `..` than segments to leave",
            Self::DotsWithSemicolon => "it has a `;` beside `.` or `..`",
        })
    }
}

impl std::error::Error for BadTarget {}

/// Normalises a request target: origin-form, absolute-form, or the asterisk-form where `asterisk` allows it.
///
/// The query is checked (no controls, no raw `#`, valid percent-encodings) but never changed.
///
/// # Errors
/// [`BadTarget`], for a target that is malformed or that two readers could take for two things.
pub fn target(raw: &str, asterisk: Asterisk) -> Result<Target, BadTarget> {
    if raw.len() > MAX_TARGET_BYTES {
        return Err(BadTarget::TooLong);
    }
    if raw == "*" {
        return match asterisk {
            Asterisk::Allow => Ok(Target { path: String::from("*"), query: None, authority: None }),
            Asterisk::Refuse => Err(BadTarget::Form),
        };
    }
    let (authority, rest) = if raw.starts_with('/') { (None, raw) } else { split_absolute(raw)? };
    let (raw_path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let path = path(raw_path)?;
    if let Some(query) = query {
        check_query(query)?;
    }
    // Encoding may have made the path longer. Its result must pass here again, or it would be no fixed point.
    if path.len() + query.map_or(0, |query| query.len() + 1) > MAX_TARGET_BYTES {
        return Err(BadTarget::TooLong);
    }
    Ok(Target { path, query: query.map(String::from), authority })
}

/// Takes `scheme://authority` off an absolute-form target. The rest begins with `/` or `?`, or is empty.
fn split_absolute(raw: &str) -> Result<(Option<Authority>, &str), BadTarget> {
    let (scheme, rest) = raw.split_once("://").ok_or(BadTarget::Form)?;
    if !(scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")) {
        return Err(BadTarget::Scheme);
    }
    // A backslash or a fragment right behind the host belongs to neither; `authority` refuses both.
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, rest) = rest.split_at(end);
    Ok((Some(authority(host).map_err(BadTarget::Authority)?), rest))
}

/// Normalises the path. An empty one is `/` (RFC 9110 §4.2.3).
fn path(raw: &str) -> Result<String, BadTarget> {
    let mut out = String::with_capacity(raw.len().max(1));
    out.push('/');
    let mut segment = 1;
    let mut bytes = raw.strip_prefix('/').unwrap_or(raw).bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'/' => segment = close_segment(&mut out, segment, Ending::Slash)?,
            b'%' => push_decoded(&mut out, triplet(&mut bytes)?)?,
            b'\\' => return Err(BadTarget::Backslash),
            b'#' => return Err(BadTarget::Fragment),
            0..=b' ' | 0x7f => return Err(BadTarget::Control),
            byte if is_path_character(byte) => out.push(char::from(byte)),
            byte => push_encoded(&mut out, byte),
        }
    }
    close_segment(&mut out, segment, Ending::Path)?;
    Ok(out)
}

/// What ended a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Slash,
    Path,
}

/// Resolves the segment that began at `start` of `out`, and says where the next one begins.
///
/// `out` is ASCII, begins with `/` and, up to `start`, ends with `/`. An empty segment adds no second slash, so `//` is
/// merged before `..` is resolved: `/a//../b` is `/b`, as file systems and nginx read it.
fn close_segment(out: &mut String, start: usize, ending: Ending) -> Result<usize, BadTarget> {
    match out.get(start..).unwrap_or_default() {
        "" => {}
        "." => out.truncate(start),
        ".." => {
            let parent = out.get(..start.saturating_sub(1)).and_then(|above| above.rfind('/'));
            out.truncate(parent.ok_or(BadTarget::AboveRoot)? + 1);
        }
        segment if has_dots_beside_semicolon(segment) => return Err(BadTarget::DotsWithSemicolon),
        _ if ending == Ending::Slash => out.push('/'),
        _ => {}
    }
    Ok(out.len())
}

/// Whether a piece between semicolons, raw or encoded, is a dot segment of its own.
fn has_dots_beside_semicolon(segment: &str) -> bool {
    (segment.contains(';') || segment.contains("%3B"))
        && segment.split(';').flat_map(|piece| piece.split("%3B")).any(|piece| matches!(piece, "." | ".."))
}

/// The byte that the two hex digits after a `%` stand for.
fn triplet(bytes: &mut std::str::Bytes<'_>) -> Result<u8, BadTarget> {
    let high = bytes.next().and_then(hex_value).ok_or(BadTarget::Percent)?;
    let low = bytes.next().and_then(hex_value).ok_or(BadTarget::Percent)?;
    Ok(high << 4 | low)
}

fn push_decoded(out: &mut String, byte: u8) -> Result<(), BadTarget> {
    match byte {
        b'/' => return Err(BadTarget::EncodedSlash),
        b'\\' => return Err(BadTarget::Backslash),
        0..=0x1f | 0x7f => return Err(BadTarget::Control),
        byte if is_unreserved(byte) => out.push(char::from(byte)),
        byte => push_encoded(out, byte),
    }
    Ok(())
}

fn push_encoded(out: &mut String, byte: u8) {
    out.push('%');
    out.push(hex_digit(byte >> 4));
    out.push(hex_digit(byte & 0xf));
}

fn check_query(query: &str) -> Result<(), BadTarget> {
    let mut bytes = query.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                triplet(&mut bytes)?;
            }
            b'#' => return Err(BadTarget::Fragment),
            0..=b' ' | 0x7f => return Err(BadTarget::Control),
            _ => {}
        }
    }
    Ok(())
}

/// `unreserved` of RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986 §3.3 without the percent-encodings.
fn is_path_character(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
        )
}

fn hex_value(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path_of(raw: &str) -> Result<String, BadTarget> {
        target(raw, Asterisk::Refuse).map(|target| target.path)
    }

    #[test]
    fn equivalent_spellings_have_one_form() {
        for (raw, path) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b///c", "/a/b/c"),
            ("/%61%2Db%7e", "/a-b~"),
            ("/%c3%a9", "/%C3%A9"),
            ("/é", "/%C3%A9"),
            ("/a|b[c]\"", "/a%7Cb%5Bc%5D%22"),
            ("/a%20b", "/a%20b"),
            ("/a;v=1.2/b", "/a;v=1.2/b"),
            ("/..a/b../...", "/..a/b../..."),
            ("/a/", "/a/"),
        ] {
            assert_eq!(path_of(raw).as_deref(), Ok(path), "{raw}");
        }
    }

    #[test]
    fn dot_segments_are_resolved_in_every_spelling() {
        for dots in ["..", "%2e%2e", "%2E%2E", ".%2e", ".%2E", "%2e.", "%2E."] {
            assert_eq!(path_of(&format!("/a/{dots}/b")).as_deref(), Ok("/b"), "{dots} in the middle");
            assert_eq!(path_of(&format!("/a/b/{dots}")).as_deref(), Ok("/a/"), "{dots} at the end");
            assert_eq!(path_of(&format!("/a//{dots}/b")).as_deref(), Ok("/b"), "{dots} behind two slashes");
            assert_eq!(path_of(&format!("/{dots}")), Err(BadTarget::AboveRoot), "{dots} above the root");
            assert_eq!(path_of(&format!("/a/{dots}/{dots}/b")), Err(BadTarget::AboveRoot), "{dots} twice");
            assert_eq!(path_of(&format!("/a/{dots};x/b")), Err(BadTarget::DotsWithSemicolon), "{dots};x");
            assert_eq!(path_of(&format!("/a/{dots}%3b/b")), Err(BadTarget::DotsWithSemicolon), "{dots}%3b");
        }
        for dot in [".", "%2e", "%2E"] {
            assert_eq!(path_of(&format!("/a/{dot}/b")).as_deref(), Ok("/a/b"), "{dot}");
            assert_eq!(path_of(&format!("/a/{dot}")).as_deref(), Ok("/a/"), "{dot} at the end");
        }
    }

    #[test]
    fn what_was_encoded_twice_is_text() {
        for raw in ["/a/%252e%252e/b", "/a%252fb", "/%25%32%65"] {
            let once = path_of(raw).expect(raw);
            assert_eq!(path_of(&once), Ok(once.clone()), "{raw}");
        }
        assert_eq!(path_of("/a/%252e%252e/b").as_deref(), Ok("/a/%252e%252e/b"));
        assert_eq!(path_of("/%25%32%65").as_deref(), Ok("/%252e"));
    }

    #[test]
    fn what_two_readers_could_take_for_two_things_is_refused() {
        for (raw, why) in [
            ("/a%2fb", BadTarget::EncodedSlash),
            ("/a/..%2Fb", BadTarget::EncodedSlash),
            ("/a\\..\\b", BadTarget::Backslash),
            ("/a%5cb", BadTarget::Backslash),
            ("/a%00", BadTarget::Control),
            ("/a%0d%0ab", BadTarget::Control),
            ("/a\u{0}", BadTarget::Control),
            ("/a b", BadTarget::Control),
            ("/a?b\nc", BadTarget::Control),
            ("/a#b", BadTarget::Fragment),
            ("/a?b#c", BadTarget::Fragment),
            ("/%zz", BadTarget::Percent),
            ("/%4", BadTarget::Percent),
            ("/%+1", BadTarget::Percent),
            ("/a?%", BadTarget::Percent),
            ("/%%32e", BadTarget::Percent),
            ("", BadTarget::Form),
            ("a/b", BadTarget::Form),
            ("?a", BadTarget::Form),
            ("*", BadTarget::Form),
            ("example:443", BadTarget::Form),
            ("ftp://a/b", BadTarget::Scheme),
            ("http:///b", BadTarget::Authority(BadAuthority::Blank)),
            ("http://a#b", BadTarget::Authority(BadAuthority::Host)),
            ("http://a\\b", BadTarget::Authority(BadAuthority::Host)),
            ("http://u@a/", BadTarget::Authority(BadAuthority::Userinfo)),
        ] {
            assert_eq!(path_of(raw), Err(why), "{raw:?}");
        }
    }

    #[test]
    fn the_query_is_kept_byte_for_byte() {
        for query in ["", "a=%2f%2F&b=../..//&c=é\\", "?&&=", "x=%00"] {
            let target = target(&format!("/a/./b?{query}"), Asterisk::Refuse).expect(query);
            assert_eq!((target.path.as_str(), target.query.as_deref()), ("/a/b", Some(query)));
        }
    }

    #[test]
    fn absolute_form_gives_path_and_authority() {
        let target = target("HTTP://Example:80/a/../b?c", Asterisk::Refuse).expect("absolute-form");
        assert_eq!((target.path.as_str(), target.query.as_deref()), ("/b", Some("c")));
        assert_eq!(target.authority, Some(Authority { host: "example".to_owned(), port: Some(80) }));
        assert_eq!(path_of("https://example").as_deref(), Ok("/"), "an empty path is the root");
        assert_eq!(path_of("https://example?q").as_deref(), Ok("/"), "a query alone too");
    }

    #[test]
    fn the_asterisk_stands_only_where_it_is_allowed() {
        assert_eq!(target("*", Asterisk::Allow).map(|target| target.path).as_deref(), Ok("*"));
        assert_eq!(target("*", Asterisk::Refuse), Err(BadTarget::Form));
        assert_eq!(path_of("/*").as_deref(), Ok("/*"));
    }

    #[test]
    fn eight_kibibytes_are_the_most_before_and_after() {
        let longest = format!("/{}", "a".repeat(MAX_TARGET_BYTES - 1));
        assert_eq!(path_of(&longest), Ok(longest.clone()));
        assert_eq!(path_of(&format!("{longest}a")), Err(BadTarget::TooLong));
        assert_eq!(path_of(&format!("/{}", "|".repeat(4096))), Err(BadTarget::TooLong), "grows threefold");
    }

    fn joined(target: &Target) -> String {
        target.query.as_ref().map_or_else(|| target.path.clone(), |query| format!("{}?{query}", target.path))
    }

    proptest! {
        #[test]
        fn normalising_is_a_fixed_point(pieces in prop::collection::vec(prop::sample::select(vec![
            "/", "/", ".", "..", "%2e", "%2E", "a", "%61", "%25", "2e", "%c3", "é", ";", "%3B", "|", "%7c", "?", "*", "=",
        ]), 0..24)) {
            if let Ok(once) = target(&format!("/{}", pieces.concat()), Asterisk::Refuse) {
                prop_assert_eq!(target(&joined(&once), Asterisk::Refuse), Ok(once.clone()));
                prop_assert!(once.path.starts_with('/') && once.path.is_ascii() && !once.path.contains("//"));
                prop_assert!(once.path.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }

        #[test]
        fn nothing_a_client_sends_panics(raw in "\\PC{0,40}") {
            if let Ok(once) = target(&raw, Asterisk::Allow) {
                prop_assert_eq!(target(&joined(&once), Asterisk::Allow).map(|again| again.path), Ok(once.path));
            }
        }
    }
}
