//! The parser's errors in words that help: what is wrong with the text as YAML, and what to do.
//!
//! The parser's own texts are not built in; they speak of scanners and tokens, which is nothing an operator writes.

use std::ops::Range;

use granit_parser::{ErrorKind, ScanError, Span};

use super::codes;
use super::problem::Finding;

/// The bytes of a span, always inside `text` and on the borders of characters.
pub(super) fn range_of(text: &str, span: &Span) -> Range<usize> {
    let range = span.byte_range().unwrap_or(0..0);
    let start = floor(text, range.start);
    start..floor(text, range.end).max(start)
}

fn floor(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset.min(text.len()))
}

/// What a syntax error means and where it is.
pub(super) fn explain(text: &str, error: &ScanError) -> Finding {
    let offset = floor(text, error.marker().byte_offset().unwrap_or_default());
    let code = match error.kind() {
        ErrorKind::UnknownAnchor => codes::UNKNOWN_ALIAS,
        ErrorKind::RecursionLimitExceeded | ErrorKind::AnchorCountOverflow => codes::TOO_LARGE,
        _ => codes::SYNTAX,
    };
    let (message, help) = words(error.kind(), text, offset);
    let offset = if message == TAB.0 { first_tab(text, offset) } else { offset };
    let finding = Finding::error(code, place(text, offset), message);
    match help {
        Some(help) => finding.with_help(help),
        None => finding,
    }
}

/// One character, so that there is something to point at; the last one that is seen where the text ends.
fn place(text: &str, offset: usize) -> Range<usize> {
    let rest = text.get(offset..).unwrap_or_default();
    if rest.trim_start().is_empty() {
        let end = text.trim_end().len();
        return end..end;
    }
    let end = rest.chars().next().map_or(offset, |c| offset + c.len_utf8());
    offset..end
}

/// Where the line begins that holds `offset`.
fn line_start(text: &str, offset: usize) -> usize {
    text.get(..offset).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1)
}

/// The parser stops behind a tab; the reader looks for the tab.
fn first_tab(text: &str, offset: usize) -> usize {
    let start = line_start(text, offset);
    let tab = text.get(start..).and_then(|line| line.split('\n').next()).and_then(|line| line.find('\t'));
    tab.map_or(offset, |at| start + at)
}

/// Whether this line begins with a key that stands deeper than a line above which already has its value.
fn is_indented_too_deep(text: &str, offset: usize) -> bool {
    let start = line_start(text, offset);
    let key = text.get(start..offset).unwrap_or_default();
    let above = text.get(..start).unwrap_or_default().trim_end().rsplit('\n').next().unwrap_or_default();
    let column = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let complete = above.split_once(": ").is_some_and(|(_, value)| !value.trim().is_empty());
    !key.contains(": ") && complete && column(key) > column(above)
}

fn words(kind: &ErrorKind, text: &str, offset: usize) -> (String, Option<&'static str>) {
    use ErrorKind as K;
    let tab = text.get(offset..).is_some_and(|rest| rest.starts_with('\t'));
    if let Some((message, help)) = quoting(kind) {
        return (message.to_owned(), Some(help));
    }
    let (message, help) = match kind {
        K::TabNotAllowed | K::TabInBlockIndentation | K::TabInIndentation | K::TabAtBlockScalarStart => TAB,
        _ if tab => TAB,
        K::UnknownAnchor => (
            "no anchor of this name stands above",
            Some(
                "put a text that begins with `*` in quotes: `\"*.app.example\"`; an alias `*name` repeats what was marked `&name` before",
            ),
        ),
        K::UnclosedFlowCollection { open } => return unclosed(*open),
        K::MismatchedFlowCollectionEnd { open, close } => {
            return (format!("`{open}` is closed by `{close}`"), None);
        }
        K::MisplacedFlowCollectionEnd => ("a closing bracket without an opening one", None),
        K::ExpectedFlowMappingSeparator | K::ExpectedFlowSequenceSeparator => {
            ("a `,` or the closing bracket is missing before this", None)
        }
        K::UnexpectedEofFlowSequence => return unclosed('['),
        K::UnexpectedEofFlowMapping | K::UnexpectedEofImplicitFlowMapping => return unclosed('{'),
        K::ExpectedBlockMappingKey
        | K::ExpectedBlockSequenceEntry
        | K::InvalidIndentation
        | K::InvalidBlockScalarIndent
        | K::InvalidQuotedScalarIndent
        | K::InvalidFlowScalarIndent
        | K::BlockSequenceEntryNotAllowed
        | K::MappingKeyNotAllowed => INDENTATION,
        K::MappingValueNotAllowed if is_indented_too_deep(text, offset) => DEEPER,
        K::MappingValueNotAllowed | K::InvalidColonPlacement => (
            "a `: ` cannot stand here",
            Some(
                "put a text that contains `: ` in quotes; else look for a missing `:` or a wrong indentation above",
            ),
        ),
        K::SimpleKeyExpected | K::InvalidSimpleKey => {
            ("a key without its `:`", Some("write `key: value`, with a space after the colon"))
        }
        K::UnexpectedCharacter { character } if character.is_control() => {
            ("an invisible control character cannot stand here", Some("remove it"))
        }
        K::UnexpectedCharacter { .. } => {
            ("a text cannot begin with this character", Some("put the value in quotes"))
        }
        K::CommentNotSeparated | K::CommentInterceptedScalar => {
            ("a comment needs a space before its `#` and cannot stand inside a text", None)
        }
        K::ZeroBlockScalarIndent | K::InvalidBlockScalarHeader => (
            "after `|` or `>` the text begins on the next line",
            Some("put a text that begins with `|` or `>` in quotes"),
        ),
        K::RecursionLimitExceeded => ("nested too deep", None),
        K::MissingAnchorOrAliasName => {
            ("`&` or `*` without a name", Some("put a text that begins with `*` or `&` in quotes"))
        }
        K::BomInsideDocument => {
            ("a byte order mark inside the text", Some("remove this invisible character"))
        }
        K::UnexpectedEof | K::UnexpectedEofBlockMapping | K::UnexpectedEofBlockSequence => {
            ("the file ends too early", None)
        }
        _ => ("this is not valid YAML", None),
    };
    (message.to_owned(), help)
}

/// What is wrong inside or around quotes.
fn quoting(kind: &ErrorKind) -> Option<(&'static str, &'static str)> {
    use ErrorKind as K;
    Some(match kind {
        K::UnclosedQuotedScalar | K::DocumentIndicatorInQuotedScalar => {
            ("a quote that is opened here is never closed", "add the closing quote")
        }
        K::InvalidTrailingSingleQuotedScalar | K::InvalidTrailingDoubleQuotedScalar => (
            "text goes on after the closing quote",
            "put the whole value in quotes; inside single quotes a quote is written twice: `''`",
        ),
        K::UnknownQuotedScalarEscape
        | K::InvalidQuotedScalarHexEscape
        | K::InvalidUnicodeEscape
        | K::InvalidLowSurrogateHexEscape
        | K::InvalidLowSurrogate
        | K::MissingLowSurrogate
        | K::UnpairedLowSurrogate => (
            "this escape does not exist inside double quotes",
            "use single quotes, where a backslash is a backslash",
        ),
        _ => return None,
    })
}

fn unclosed(open: char) -> (String, Option<&'static str>) {
    (format!("this `{open}` is never closed"), None)
}

const TAB: (&str, Option<&str>) =
    ("a tab cannot be used for indentation", Some("use spaces; most editors can convert tabs"));
const DEEPER: (&str, Option<&str>) = (
    "this line is indented deeper than the key above it, which already has a value",
    Some("keys of one block begin in the same column"),
);
const INDENTATION: (&str, Option<&str>) = (
    "the indentation does not fit the lines above",
    Some("keys of one block begin in the same column, and a list item with its `-`"),
);
