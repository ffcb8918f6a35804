//! The part of JSONPath (RFC 9535) that names places: children, indexes and wildcards.

use std::fmt;

/// One step from a value to its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// `.name` or `['name']`: the members of that name.
    Name(String),
    /// `[0]`: one element, counted from the front.
    Index(u64),
    /// `.*` or `[*]`: every member or element.
    Wildcard,
}

/// The largest index (RFC 9535 §2.1: the exact integers of I-JSON).
const MAX_INDEX: u64 = (1 << 53) - 1;

/// What is said of JSONPath that exists but is not built.
const UNSUPPORTED: &str =
    "known, not supported by this version: a path is made of `.name`, `['name']`, `[0]`, `.*` and `[*]`";

/// A path that cannot be used. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathError {
    /// The path as written.
    pub which: String,
    /// The byte of it where reading stopped.
    pub at: usize,
    /// What is wrong there.
    pub why: &'static str,
}

impl PathError {
    pub(super) fn new(which: &str, at: usize, why: &'static str) -> Self {
        Self { which: which.to_owned(), at, why }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, byte {}: {}", self.which, self.at, self.why)
    }
}

impl std::error::Error for PathError {}

/// Reads a path. `$` alone has no steps.
pub(super) fn parse(path: &str) -> Result<Vec<Step>, PathError> {
    let mut reader = Reader { rest: path };
    let steps = reader.steps();
    steps.map_err(|why| PathError::new(path, path.len() - reader.rest.len(), why))
}

/// What is left of a path.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn steps(&mut self) -> Result<Vec<Step>, &'static str> {
        if !self.take('$') {
            return Err("a path begins with `$`");
        }
        let mut steps = Vec::new();
        while !self.rest.is_empty() {
            if self.rest.starts_with("..") {
                return Err(UNSUPPORTED);
            }
            if self.take('.') {
                steps.push(self.after_dot()?);
            } else if self.take('[') {
                steps.push(self.in_brackets()?);
            } else {
                return Err("expected `.` or `[`");
            }
        }
        Ok(steps)
    }

    fn after_dot(&mut self) -> Result<Step, &'static str> {
        if self.take('*') {
            return Ok(Step::Wildcard);
        }
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        if !self.rest.starts_with(is_first) {
            return Err("expected a name: letters, digits and `_`; write any other name as `['...']`");
        }
        Ok(Step::Name(self.take_while(|c| is_first(c) || c.is_ascii_digit()).to_owned()))
    }

    fn in_brackets(&mut self) -> Result<Step, &'static str> {
        self.blanks();
        let step = match self.rest.chars().next() {
            Some('*') => {
                self.take('*');
                Step::Wildcard
            }
            Some(quote @ ('\'' | '"')) => {
                self.take(quote);
                Step::Name(self.quoted(quote)?)
            }
            Some('0'..='9') => Step::Index(self.index()?),
            Some('-' | '?' | ':') => return Err(UNSUPPORTED),
            _ => return Err("expected `'name'`, an index or `*`"),
        };
        self.blanks();
        match self.rest.chars().next() {
            Some(']') => {
                self.take(']');
                Ok(step)
            }
            Some(',' | ':') => Err(UNSUPPORTED),
            _ => Err("expected `]`"),
        }
    }

    fn index(&mut self) -> Result<u64, &'static str> {
        let start = self.rest;
        let digits = self.take_while(|c| c.is_ascii_digit());
        let index = digits.parse().ok().filter(|index| *index <= MAX_INDEX);
        if digits.len() > 1 && digits.starts_with('0') {
            self.rest = start;
            return Err("an index has no leading zero");
        }
        index.ok_or("an index is at most 2^53 - 1")
    }

    /// The rest of a quoted name (RFC 9535 §2.3.1.1).
    fn quoted(&mut self, quote: char) -> Result<String, &'static str> {
        let mut name = String::new();
        loop {
            let Some(character) = self.next() else { return Err("the quote is not closed") };
            match character {
                c if c == quote => return Ok(name),
                '\\' => name.push(self.escaped(quote)?),
                '\0'..='\x1f' => return Err("a control character must be escaped"),
                c => name.push(c),
            }
        }
    }

    fn escaped(&mut self, quote: char) -> Result<char, &'static str> {
        match self.next() {
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('u') => self.unicode(),
            Some(c) if c == quote || matches!(c, '/' | '\\') => Ok(c),
            _ => Err("no such escape"),
        }
    }

    fn unicode(&mut self) -> Result<char, &'static str> {
        let first = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&first) {
            let is_pair = self.take('\\') && self.take('u');
            let second = if is_pair { self.hex4()? } else { 0 };
            if !(0xdc00..0xe000).contains(&second) {
                return Err("half a surrogate pair");
            }
            0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or("half a surrogate pair")
    }

    fn hex4(&mut self) -> Result<u32, &'static str> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.next().and_then(|c| c.to_digit(16)).ok_or("`\\u` needs four hex digits")?;
            code = code << 4 | digit;
        }
        Ok(code)
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next();
        self.rest = characters.as_str();
        character
    }

    fn take(&mut self, character: char) -> bool {
        let rest = self.rest.strip_prefix(character);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &str {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Step {
        Step::Name(text.to_owned())
    }

    #[test]
    fn every_spelling_of_a_place_is_read() {
        for (path, steps) in [
            ("$", vec![]),
            ("$.a.b_1", vec![name("a"), name("b_1")]),
            ("$.été", vec![name("été")]),
            ("$['a']", vec![name("a")]),
            ("$[\"a.b\"]['']", vec![name("a.b"), name("")]),
            (r"$['it\'s\u0020\ud83d\ude00\\']", vec![name("it's 😀\\")]),
            ("$[0][ 12 ]", vec![Step::Index(0), Step::Index(12)]),
            ("$.*[*].a", vec![Step::Wildcard, Step::Wildcard, name("a")]),
        ] {
            assert_eq!(parse(path), Ok(steps), "{path}");
        }
    }

    #[test]
    fn what_is_known_but_not_built_is_said_so() {
        for (path, at) in [
            ("$..a", 1),
            ("$.a..*", 3),
            ("$[-1]", 2),
            ("$[1:2]", 3),
            ("$[:2]", 2),
            ("$[?@.a]", 2),
            ("$['a','b']", 5),
        ] {
            assert_eq!(parse(path), Err(PathError::new(path, at, UNSUPPORTED)), "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused_at_its_place() {
        for (path, at) in [
            ("", 0),
            ("a", 0),
            ("$a", 1),
            ("$.", 2),
            ("$.1a", 2),
            ("$.a-b", 3),
            ("$.a b", 3),
            ("$[", 2),
            ("$[]", 2),
            ("$[0", 3),
            ("$[01]", 2),
            ("$[9007199254740992]", 18),
            ("$['a", 4),
            (r"$['\x']", 5),
            (r"$['\ud800']", 9),
            ("$ .a", 1),
        ] {
            assert_eq!(parse(path).map_err(|error| error.at), Err(at), "{path}");
        }
    }

    #[test]
    fn the_message_shows_path_and_place() {
        let error = parse("$.a-b").expect_err("a dash needs quotes");
        assert_eq!(error.to_string(), "`$.a-b`, byte 3: expected `.` or `[`");
    }
}
