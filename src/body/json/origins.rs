//! Erasing an upstream's origin from the strings of a JSON body, as it streams.
//!
//! Every string that begins with one of the origins (however its characters are escaped) is handed to a mapping; what comes back takes
//! its place, and the empty string where there is none. Nothing else changes: not a space, not a number. It is no parser: it only knows
//! where strings begin and end, so it does not judge whether the body is JSON. Memory is bounded by [`MAX_REFERENCE_BYTES`].

/// The longest reference that is mapped; a longer one is erased.
pub const MAX_REFERENCE_BYTES: usize = 8 << 10;

/// The beginnings that are looked for, compiled once per upstream.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// Lower-case beginnings: `https://host`, `//host:port`, ...
    needles: Vec<Box<[u8]>>,
}

impl Origins {
    /// From the authorities by which an upstream calls itself.
    #[must_use]
    pub fn new<'a>(authorities: impl IntoIterator<Item = &'a str>) -> Self {
        let mut needles = Vec::new();
        for authority in authorities {
            for scheme in ["https:", "http:", "wss:", "ws:", ""] {
                needles.push(
                    format!("{scheme}//{}", authority.to_ascii_lowercase()).into_bytes().into_boxed_slice(),
                );
            }
        }
        Self { needles }
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// What a string with this beginning is.
    fn verdict(&self, beginning: &[u8], ended: bool) -> Verdict {
        let mut maybe = false;
        for needle in &self.needles {
            if beginning.len() < needle.len() {
                maybe |= !ended && needle.starts_with(beginning);
                continue;
            }
            if !beginning.starts_with(needle) {
                continue;
            }
            match beginning.get(needle.len()) {
                // The authority ends here: anything longer is another host's name.
                Some(b'/' | b'?' | b'#' | b':' | b'\\' | b'@') => return Verdict::Ours,
                None if ended => return Verdict::Ours,
                None => maybe = true,
                Some(_) => {}
            }
        }
        if maybe { Verdict::Maybe } else { Verdict::Other }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ours,
    Maybe,
    Other,
}

/// Where in the text we are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between strings.
    Outside,
    /// In a string that may still turn out to be ours: held.
    Candidate,
    /// In one that is: held to its end.
    Ours,
    /// In one that is ours and too long to be mapped: dropped to its end.
    TooLong,
    /// In another string: passed on.
    Other,
}

/// The state between two chunks.
pub struct OriginEraser<'a> {
    origins: &'a Origins,
    state: State,
    /// Within an escape: the bytes of it so far, without the backslash.
    escape: Option<Vec<u8>>,
    /// The raw string so far, with its opening quote.
    held: Vec<u8>,
    /// Its characters, unescaped and in lower case, as long as they matter.
    beginning: Vec<u8>,
    /// How many strings were mapped or erased.
    pub erased: u32,
}

impl<'a> OriginEraser<'a> {
    /// At the beginning of a body.
    #[must_use]
    pub fn new(origins: &'a Origins) -> Self {
        Self {
            origins,
            state: State::Outside,
            escape: None,
            held: Vec::new(),
            beginning: Vec::new(),
            erased: 0,
        }
    }

    /// Takes a chunk, appends what can be passed on.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>, map: &dyn Fn(&str) -> Option<String>) {
        let mut rest = chunk;
        while let Some(&byte) = rest.first() {
            match self.state {
                State::Outside => {
                    // Whole stretches between strings pass at once.
                    let end = rest.iter().position(|b| *b == b'"').unwrap_or(rest.len());
                    let (plain, tail) = rest.split_at(end);
                    out.extend_from_slice(plain);
                    rest = tail;
                    if !rest.is_empty() {
                        rest = rest.get(1..).unwrap_or_default();
                        self.state = State::Candidate;
                        self.held.clear();
                        self.held.push(b'"');
                        self.beginning.clear();
                    }
                    continue;
                }
                State::Other if self.escape.is_none() => {
                    let end = rest.iter().position(|b| matches!(b, b'"' | b'\\')).unwrap_or(rest.len());
                    let (plain, tail) = rest.split_at(end);
                    out.extend_from_slice(plain);
                    rest = tail;
                    if let Some(&byte) = rest.first() {
                        out.push(byte);
                        rest = rest.get(1..).unwrap_or_default();
                        match byte {
                            b'"' => self.state = State::Outside,
                            _ => self.escape = Some(Vec::new()),
                        }
                    }
                    continue;
                }
                State::Other => {
                    out.push(byte);
                    // Which character it is does not matter here, only that a quote in it ends nothing.
                    self.escape = None;
                }
                State::Candidate | State::Ours | State::TooLong => self.held_byte(byte, out, map),
            }
            rest = rest.get(1..).unwrap_or_default();
        }
    }

    /// The end of the body: what is still held of an unfinished string goes as it is, unless it is ours.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.state {
            State::Candidate => out.append(&mut self.held),
            State::Ours | State::TooLong => {
                self.erased += 1;
                out.extend_from_slice(b"\"\"");
            }
            State::Outside | State::Other => {}
        }
        self.state = State::Outside;
    }

    fn held_byte(&mut self, byte: u8, out: &mut Vec<u8>, map: &dyn Fn(&str) -> Option<String>) {
        if self.state != State::TooLong {
            self.held.push(byte);
        }
        if let Some(mut escape) = self.escape.take() {
            escape.push(byte);
            match unescaped(&escape) {
                None => self.escape = Some(escape),
                Some(character) => self.character(character, out),
            }
            return;
        }
        match byte {
            b'\\' => self.escape = Some(Vec::new()),
            b'"' => self.end(out, map),
            other => self.character(other.to_ascii_lowercase(), out),
        }
    }

    /// One more character of a held string.
    fn character(&mut self, character: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Candidate => {
                // Browsers strip white space in front of a URL.
                if self.beginning.is_empty() && matches!(character, b' ' | b'\t' | b'\n' | b'\r') {
                    if self.held.len() > MAX_REFERENCE_BYTES {
                        self.pass(out);
                    }
                    return;
                }
                self.beginning.push(character);
                match self.origins.verdict(&self.beginning, false) {
                    Verdict::Maybe => {}
                    Verdict::Ours => self.state = State::Ours,
                    Verdict::Other => self.pass(out),
                }
            }
            State::Ours if self.held.len() > MAX_REFERENCE_BYTES => {
                self.state = State::TooLong;
                self.held.clear();
            }
            _ => {}
        }
    }

    fn pass(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.state = State::Other;
    }

    fn end(&mut self, out: &mut Vec<u8>, map: &dyn Fn(&str) -> Option<String>) {
        let ours = match self.state {
            State::Candidate => self.origins.verdict(&self.beginning, true) == Verdict::Ours,
            _ => true,
        };
        if ours {
            self.erased += 1;
            let text = match self.state {
                State::TooLong => None,
                _ => serde_json::from_slice::<String>(&self.held).ok(),
            };
            let public = text.and_then(|text| map(text.trim_start())).unwrap_or_default();
            out.extend_from_slice(serde_json::Value::String(public).to_string().as_bytes());
            self.held.clear();
        } else {
            out.append(&mut self.held);
        }
        self.state = State::Outside;
    }
}

/// The character of an escape, in lower case; `None` while it is not complete. What is no ASCII character is 0xFF: part of no origin.
fn unescaped(escape: &[u8]) -> Option<u8> {
    match escape {
        [b'u', digits @ ..] if digits.len() < 4 => None,
        [b'u', digits @ ..] => {
            let code = std::str::from_utf8(digits).ok().and_then(|text| u32::from_str_radix(text, 16).ok());
            let ascii = code.and_then(|code| u8::try_from(code).ok()).filter(u8::is_ascii);
            Some(ascii.map_or(0xFF, |byte| byte.to_ascii_lowercase()))
        }
        [b'n'] => Some(b'\n'),
        [b't'] => Some(b'\t'),
        [b'r'] => Some(b'\r'),
        [byte] => Some(byte.to_ascii_lowercase()),
        _ => Some(0xFF),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(text: &str) -> Option<String> {
        text.split_once("/v2").map(|(_, rest)| format!("/api{rest}"))
    }

    fn erase(chunks: &[&[u8]]) -> String {
        let origins = Origins::new(["api.vendor.example", "api.vendor.example:443"]);
        let mut eraser = OriginEraser::new(&origins);
        let mut out = Vec::new();
        for chunk in chunks {
            eraser.push(chunk, &mut out, &map);
        }
        eraser.finish(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn an_origin_is_mapped_in_every_spelling() {
        for spelling in [
            r#""https://api.vendor.example/v2/x""#,
            r#""HTTPS://API.vendor.example:443/v2/x""#,
            r#""https:\/\/api.vendor.example\/v2\/x""#,
            r#""\u0068ttps:\u002F/api.vendor\u002eexample/v2/x""#,
            r#""//api.vendor.example/v2/x""#,
            r#"" https://api.vendor.example/v2/x""#,
        ] {
            assert_eq!(erase(&[spelling.as_bytes()]), r#""/api/x""#, "{spelling}");
        }
    }

    #[test]
    fn what_has_no_public_path_is_erased() {
        for spelling in [
            r#""https://api.vendor.example""#,
            r#""https://api.vendor.example:8443/other""#,
            r#""wss://api.vendor.example/live""#,
            r#""https://api.vendor.example@x/""#,
        ] {
            assert_eq!(erase(&[spelling.as_bytes()]), r#""""#, "{spelling}");
        }
        let long = format!("\"https://api.vendor.example/v2/{}\" ", "a".repeat(MAX_REFERENCE_BYTES));
        assert_eq!(erase(&[long.as_bytes()]), "\"\" ");
    }

    #[test]
    fn everything_else_is_untouched() {
        let body = r#"{ "a" : "https://api.vendor.example.evil/v2", "b\"": "see https://api.vendor.example/", "c":[1.0e5,"","\\"], "d":"é\u00e9" }"#;
        assert_eq!(erase(&[body.as_bytes()]), body);
    }

    #[test]
    fn the_end_of_a_cut_body_reveals_nothing() {
        assert_eq!(erase(&[br#"["https://api.vendor.example/v2/"#]), r#"["""#);
        assert_eq!(erase(&[br#"["https://ap"#]), r#"["https://ap"#);
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(split in proptest::collection::vec(0_usize..120, 0..6)) {
            let body = br#"{"u":"https:\/\/api.vendor.example\/v2\/x?y=1","v":"https://api.vendor.example","w":"a\"b\\"}"#;
            let mut cuts: Vec<usize> = split.into_iter().map(|at| at.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
            prop_assert_eq!(erase(&chunks), erase(&[body]));
        }
    }
}
