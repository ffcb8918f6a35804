//! Erasing an upstream's origin from the strings of a JSON body, as it streams.
//!
//! Every string that begins with one of the origins (however its characters are escaped) is handed to a mapping; what comes back takes
//! its place, and the empty string where there is none. Nothing else changes: not a space, not a number. It is no parser: it only knows
//! where strings begin and end, so it does not judge whether the body is JSON. Memory is bounded by [`MAX_REFERENCE_BYTES`].

/// The longest reference that is mapped; a longer one is erased.
pub const MAX_REFERENCE_BYTES: usize = 8 << 10;

/// The places that are looked for, compiled once per upstream.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// `host` and `host:port`, lower case, without a dot at the end.
    authorities: Vec<Box<str>>,
}

/// Schemes that lead a browser, or whoever follows a reference, to the host behind them.
const SCHEMES: [&[u8]; 5] = [b"https", b"http", b"wss", b"ws", b"ftp"];
/// A host name has at most 253 characters; with user information and port, more than this is none.
const MAX_AUTHORITY_BYTES: usize = 1024;

impl Origins {
    /// From the authorities by which an upstream calls itself.
    #[must_use]
    pub fn new<'a>(authorities: impl IntoIterator<Item = &'a str>) -> Self {
        Self { authorities: authorities.into_iter().map(|text| text.to_ascii_lowercase().into()).collect() }
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty()
    }

    /// What a string with this beginning is. Read as browsers do (WHATWG URL): any number of slashes of either kind, user
    /// information, a dot behind the host, zeros before the port.
    fn verdict(&self, beginning: &[u8], ended: bool) -> Verdict {
        let open = if ended { Verdict::Other } else { Verdict::Maybe };
        let Some(after) = after_scheme(beginning) else {
            let may_become_one = SCHEMES.iter().any(|scheme| scheme.starts_with(beginning));
            return if may_become_one { open } else { Verdict::Other };
        };
        let slashes = after.iter().take_while(|b| matches!(b, b'/' | b'\\')).count();
        if after.len() == beginning.len() && slashes < 2 {
            // Without a scheme, two slashes make a reference to a host.
            return if slashes == after.len() { open } else { Verdict::Other };
        }
        let rest = after.get(slashes..).unwrap_or_default();
        let end = rest.iter().position(|b| matches!(b, b'/' | b'\\' | b'?' | b'#'));
        let authority = match end {
            Some(end) => rest.get(..end).unwrap_or_default(),
            None if ended => rest,
            None if rest.len() > MAX_AUTHORITY_BYTES => return Verdict::Other,
            None => return Verdict::Maybe,
        };
        if self.has(authority) { Verdict::Ours } else { Verdict::Other }
    }

    fn has(&self, authority: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(authority) else { return false };
        let text = text.rsplit_once('@').map_or(text, |(_, place)| place);
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
                (host, port.trim_start_matches('0'))
            }
            _ => (text, ""),
        };
        let host = host.trim_end_matches('.');
        self.authorities.iter().any(|own| {
            // A host that stands by itself is served on a scheme's own port; any other port of it names it as well.
            **own == *host
                || (!port.is_empty()
                    && own.strip_prefix(host).is_some_and(|rest| rest.strip_prefix(':') == Some(port)))
        })
    }
}

/// What stands behind `scheme:`, or all of it where it begins with a slash; `None` where it is no reference to a host.
fn after_scheme(beginning: &[u8]) -> Option<&[u8]> {
    if matches!(beginning.first(), Some(b'/' | b'\\')) {
        return Some(beginning);
    }
    SCHEMES.iter().find_map(|scheme| beginning.strip_prefix(*scheme)?.strip_prefix(b":"))
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
                // Browsers drop what is below a space in front of a URL, and line breaks and tabs anywhere in it.
                let dropped = (self.beginning.is_empty() && character <= b' ')
                    || matches!(character, b'\t' | b'\n' | b'\r');
                if dropped {
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
        [b'b'] => Some(8),
        [b'f'] => Some(12),
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
            r#""\u0001https://api.vendor.example/v2/x""#,
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
            r#""https://x@api.vendor.example/""#,
            r#""https:/api.vendor.example/other""#,
            r#""https:///api.vendor.example/other""#,
            r#""http:\\\\api.vendor.example/other""#,
            r#""ht\ttps://api.vendor.example/other""#,
            r#""https://api.vendor.example./other""#,
            r#""https://api.vendor.example:0443/other""#,
            r#""\\\\api.vendor.example""#,
            r#""ftp://api.vendor.example/other""#,
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
    fn a_port_of_its_own_is_part_of_the_name() {
        let origins = Origins::new(["127.0.0.1:9101"]);
        let ours = |text: &[u8]| origins.verdict(text, true) == Verdict::Ours;
        assert!(ours(b"http://127.0.0.1:9101/x") && ours(b"//127.0.0.1:09101"));
        assert!(
            !ours(b"http://127.0.0.1:8080/x") && !ours(b"http://127.0.0.1/"),
            "another place on the same host"
        );
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
