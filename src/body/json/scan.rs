//! A strict reader of JSON text (RFC 8259): it finds where values end and builds nothing.

use super::{Cow, MAX_DEPTH, ShapeError};

/// A place in a JSON text. Every method either moves past one complete token or value, or fails.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// What was passed since `start`, a former position.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.text.as_bytes().get(start..self.at).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn is_at_container(&self) -> bool {
        matches!(self.peek(), Some(b'{' | b'['))
    }

    /// Passes the byte that was peeked.
    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    pub(super) fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    pub(super) fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), ShapeError> {
        if self.take(byte) { Ok(()) } else { Err(self.wrong()) }
    }

    pub(super) fn end(&self) -> Result<(), ShapeError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.wrong()) }
    }

    /// Passes one value of any kind, which stands at nesting `depth`.
    pub(super) fn skip_value(&mut self, depth: usize) -> Result<(), ShapeError> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'{') => self.skip_container(b'}', depth + 1),
            Some(b'[') => self.skip_container(b']', depth + 1),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => self.number(),
        }
    }

    /// Passes a string and returns it as written, with its quotes.
    pub(super) fn string(&mut self) -> Result<&'a str, ShapeError> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(self.wrong()),
            }
        }
        self.at += 1;
        Ok(self.text.get(start..self.at).expect("quotes are whole characters"))
    }

    fn escape(&mut self) -> Result<(), ShapeError> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    match self.peek() {
                        Some(digit) if digit.is_ascii_hexdigit() => self.at += 1,
                        _ => return Err(self.wrong()),
                    }
                }
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    fn skip_container(&mut self, close: u8, depth: usize) -> Result<(), ShapeError> {
        if depth > MAX_DEPTH {
            return Err(ShapeError::TooDeep);
        }
        self.advance();
        self.skip_whitespace();
        if self.take(close) {
            return Ok(());
        }
        loop {
            if close == b'}' {
                self.string()?;
                self.skip_whitespace();
                self.expect(b':')?;
                self.skip_whitespace();
            }
            self.skip_value(depth)?;
            self.skip_whitespace();
            if self.take(close) {
                return Ok(());
            }
            self.expect(b',')?;
            self.skip_whitespace();
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), ShapeError> {
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.wrong())
    }

    /// `[ minus ] int [ frac ] [ exp ]` of RFC 8259 §6.
    fn number(&mut self) -> Result<(), ShapeError> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ShapeError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.wrong()) } else { Ok(()) }
    }

    fn wrong(&self) -> ShapeError {
        ShapeError::NotJson { at: self.at }
    }
}

/// The text of a string token that [`Scanner::string`] returned. Half a surrogate pair, which the grammar allows, is
/// read as U+FFFD.
pub(super) fn unescape(token: &str) -> Cow<'_, str> {
    let inner = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(token);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => text.push(unescape_one(&mut rest)),
            character => text.push(character),
        }
    }
    Cow::Owned(text)
}

/// The character of the escape whose backslash was just passed.
fn unescape_one(rest: &mut std::str::Chars<'_>) -> char {
    match rest.next() {
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u') => unescape_unicode(rest),
        Some(character) => character,
        None => char::REPLACEMENT_CHARACTER,
    }
}

fn unescape_unicode(rest: &mut std::str::Chars<'_>) -> char {
    let first = hex4(rest);
    let mut ahead = rest.clone();
    if (0xd800..0xdc00).contains(&first) && ahead.next() == Some('\\') && ahead.next() == Some('u') {
        let second = hex4(&mut ahead);
        if (0xdc00..0xe000).contains(&second) {
            *rest = ahead;
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
    }
    char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn hex4(rest: &mut std::str::Chars<'_>) -> u32 {
    rest.by_ref().take(4).fold(0, |code, digit| code << 4 | digit.to_digit(16).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.skip_whitespace();
        let value = scanner.skip_value(0);
        scanner.skip_whitespace();
        value.and_then(|()| scanner.end()).is_ok()
    }

    #[test]
    fn reads_what_the_grammar_allows_and_nothing_else() {
        for text in [
            "0",
            "-0",
            "10.50e+3",
            "1E9",
            "-1.0e-0",
            "true",
            " null ",
            "\"\"",
            "\"\\u00e9\\n\\/\"",
            "\"\\ud800\"",
            "[]",
            "[ ]",
            "{ }",
            "[1 , 2]",
            "{\"a\" : 1,\"a\":2}",
            "\"é\u{7f}\"",
        ] {
            assert!(accepts(text), "{text}");
        }
        for text in [
            "",
            " ",
            "01",
            "-",
            "+1",
            ".5",
            "1.",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "tru",
            "truefalse",
            "nulL",
            "'a'",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1",
            "{\"a\"}",
            "{a:1}",
            "{\"a\":1,}",
            "{1:1}",
            "{\"a\":}",
            "1 2",
            "[1]]",
            "[}",
            "// a\n1",
            "\u{feff}1",
            "\u{a0}1",
        ] {
            assert!(!accepts(text), "{text:?}");
        }
    }

    #[test]
    fn names_are_read_unescaped() {
        assert_eq!(unescape("\"plain\""), "plain");
        assert_eq!(unescape(r#""\u0069d\t\"\\\/""#), "id\t\"\\/");
        assert_eq!(unescape(r#""\ud83d\ude00""#), "😀");
        assert_eq!(unescape(r#""\ud83dx\udead""#), "\u{fffd}x\u{fffd}");
        assert_eq!(unescape(r#""\ud83d\u0041""#), "\u{fffd}A");
    }
}
