//! The guard against web cache deception: a page that was asked for as if it were a file.
//!
//! Somebody is led to `/account/x.css`; the app, which knows only `/account`, answers with that person's page; a cache keeps it as the
//! style sheet it looks like, and the next one who asks for `/account/x.css` reads it. So an answer whose type is not the one that the
//! path's ending stands for is not stored. A pure function of path and content type; whose page it is, this file cannot know.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

/// Whether the type of an answer contradicts the ending of the path that was asked for.
///
/// `path` is the normalised one. Its last segment counts that is not empty, percent-decoded, and each piece of it that another parser
/// might take for the whole: what stands before and after `;`, `?`, `#`, `/`, a space and bytes that are no part of a name. Only a successful answer can
/// contradict: the body of an error or of a redirect describes that error, and is rightly a page. An answer without a type, or with
/// `application/octet-stream`, says nothing that could contradict.
#[must_use]
pub fn contradicts(path: &str, status: StatusCode, answer: &HeaderMap) -> bool {
    if !status.is_success() {
        return false;
    }
    let segment = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if !segment.contains('.') && !segment.contains('%') {
        return false;
    }
    let decoded = percent_encoding::percent_decode_str(segment);
    let decoded: std::borrow::Cow<'_, [u8]> = decoded.into();
    decoded
        .split(|byte| !is_of_a_name(*byte))
        .filter_map(ending)
        .any(|kind| answer.get_all(CONTENT_TYPE).iter().any(|line| !kind.allows(line.as_bytes())))
}

/// What a path ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A style sheet.
    Style,
    /// A script, or what belongs to one.
    Script,
    /// A picture.
    Image,
    /// A font.
    Font,
    /// Sound or moving pictures.
    Media,
    /// A document that is shown page by page.
    Pdf,
    /// Something to be unpacked or run: never a text.
    Binary,
    /// A text of no special form.
    Text,
}

impl Kind {
    /// Whether an answer of this content type can be what the ending stands for.
    fn allows(self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |known: &str| essence.eq_ignore_ascii_case(known.as_bytes());
        let starts = |known: &str| {
            essence.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known.as_bytes()))
        };
        let has = |known: &str| {
            essence.windows(known.len()).any(|part| part.eq_ignore_ascii_case(known.as_bytes()))
        };
        if essence.is_empty() || is("application/octet-stream") || is("binary/octet-stream") {
            return true;
        }
        match self {
            Self::Style => is("text/css"),
            Self::Script => has("javascript") || has("ecmascript") || is("application/wasm"),
            Self::Image => starts("image/"),
            Self::Font => starts("font/") || has("font") || is("image/svg+xml"),
            Self::Media => starts("audio/") || starts("video/") || is("application/ogg"),
            Self::Pdf => is("application/pdf"),
            Self::Binary => starts("application/") && !has("json") && !has("xml") && !has("javascript"),
            Self::Text => starts("text/") && !is("text/html"),
        }
    }
}

fn ending(piece: &[u8]) -> Option<Kind> {
    // Some systems take no notice of dots at the end of a name.
    let piece = piece.get(..=piece.iter().rposition(|byte| *byte != b'.')?)?;
    let dot = piece.iter().rposition(|byte| *byte == b'.')?;
    let ending = piece.get(dot + 1..)?;
    ENDINGS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known.as_bytes())).map(|(_, kind)| *kind)
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'@' | b'+' | b'=')
        || byte >= 0x80
}

/// The endings that caches and content networks take for static files. Not `html`, `json` and `xml`: those are what an app answers with.
const ENDINGS: &[(&str, Kind)] = &[
    ("css", Kind::Style),
    ("js", Kind::Script),
    ("mjs", Kind::Script),
    ("wasm", Kind::Script),
    ("png", Kind::Image),
    ("jpg", Kind::Image),
    ("jpeg", Kind::Image),
    ("gif", Kind::Image),
    ("webp", Kind::Image),
    ("avif", Kind::Image),
    ("svg", Kind::Image),
    ("ico", Kind::Image),
    ("bmp", Kind::Image),
    ("tif", Kind::Image),
    ("tiff", Kind::Image),
    ("woff", Kind::Font),
    ("woff2", Kind::Font),
    ("ttf", Kind::Font),
    ("otf", Kind::Font),
    ("eot", Kind::Font),
    ("mp3", Kind::Media),
    ("mp4", Kind::Media),
    ("m4a", Kind::Media),
    ("ogg", Kind::Media),
    ("ogv", Kind::Media),
    ("wav", Kind::Media),
    ("flac", Kind::Media),
    ("webm", Kind::Media),
    ("mov", Kind::Media),
    ("avi", Kind::Media),
    ("pdf", Kind::Pdf),
    ("zip", Kind::Binary),
    ("gz", Kind::Binary),
    ("bz2", Kind::Binary),
    ("xz", Kind::Binary),
    ("zst", Kind::Binary),
    ("7z", Kind::Binary),
    ("rar", Kind::Binary),
    ("tar", Kind::Binary),
    ("jar", Kind::Binary),
    ("exe", Kind::Binary),
    ("dmg", Kind::Binary),
    ("apk", Kind::Binary),
    ("doc", Kind::Binary),
    ("xls", Kind::Binary),
    ("ppt", Kind::Binary),
    ("txt", Kind::Text),
    ("csv", Kind::Text),
];

#[cfg(test)]
mod tests;
