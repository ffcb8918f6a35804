//! Characters that a terminal obeys, made visible.

use std::borrow::Cow;

/// A text for people without what a terminal would obey: control characters become their pictures (`␛`), those without one
/// and marks that reorder or hide text `\u{FFFD}`. Line breaks and tabs stay.
///
/// Names of files and cases, answers of upstreams and texts from YAML reach terminals and build logs through this.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().any(|character| picture(character).is_some()) {
        Cow::Owned(text.chars().map(|character| picture(character).unwrap_or(character)).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// The same for what is part of one line.
#[must_use]
pub fn visible_line(text: &str) -> Cow<'_, str> {
    let text = visible(text);
    if text.contains('\n') { Cow::Owned(text.replace('\n', "\u{240A}")) } else { text }
}

fn picture(character: char) -> Option<char> {
    match character {
        '\n' | '\t' => None,
        '\u{7f}' => Some('\u{2421}'),
        '\0'..'\u{20}' => char::from_u32(0x2400 + u32::from(character)),
        '\u{80}'..='\u{9f}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{61c}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => Some(char::REPLACEMENT_CHARACTER),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        assert_eq!(visible("a\u{1b}[2J\r\0\u{7f}\n\tb"), "a␛[2J␍␀␡\n\tb");
        assert_eq!(visible("\u{9b}31m \u{202e}x\u{2066}"), "\u{fffd}31m \u{fffd}x\u{fffd}");
        assert_eq!(visible_line("a\nnot ok 2"), "a␊not ok 2");
        assert!(matches!(visible("plain `ü` •"), Cow::Borrowed(_)), "and nothing else is touched");
    }
}
