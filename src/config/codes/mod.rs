//! The stable codes of configuration problems, in one table.
//!
//! A code is what a person searches for and what a dashboard groups by, so it never changes its meaning and is never used
//! again for something else. The first two digits are the group: 01 the file as text, 02 the shape of the document,
//! 03 values and units, 04 references between blocks, 05 routes, 06 secrets, 07 teams. Nothing here decides when a code applies:
//! the room that finds the problem does.
//!
//! What a code means at length stands beside this table, one text a code: why it is refused, an example that is, and one that
//! is not. `portcullis explain PC0304` shows it, `docs/codes.md` is made of it, and `tests/codes.rs` checks the examples.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal: $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            $(#[$doc])*
            pub const $name: &str = $code;
        )*

        /// Every code with its meaning in one line, in the order of the codes.
        pub const ALL: &[Code] = &[$(Code {
            code: $code,
            meaning: $meaning,
            help: include_str!(concat!($code, ".txt")),
        }),*];
    };
}

codes! {
    UNREADABLE = "PC0101": "the file cannot be opened or read";
    NOT_TEXT = "PC0102": "the file is not UTF-8 text";
    TOO_LARGE = "PC0103": "the file, its nesting or what its aliases expand to is over the limit";
    SYNTAX = "PC0104": "the text is not YAML";
    DUPLICATE_KEY = "PC0105": "a key stands twice in one mapping";
    UNKNOWN_ALIAS = "PC0106": "an alias names no anchor above it";
    SEVERAL_DOCUMENTS = "PC0107": "one file holds more than one YAML document";
    BAD_MERGE = "PC0108": "a merge key `<<` holds something that is no mapping";
    UNKNOWN_KEY = "PC0201": "a key that this place does not have";
    MISSING_KEY = "PC0202": "a key that this place must have";
    WRONG_TYPE = "PC0203": "a value of another type than this place takes";
    NOT_SUPPORTED = "PC0204": "a key or value that is known, but not supported by this version";
    NULL_VALUE = "PC0205": "a key with nothing after it";
    BAD_VALUE = "PC0301": "a value of the right type that cannot be used";
    BAD_NAME = "PC0302": "a name with characters that a name cannot have";
    BAD_PATTERN = "PC0303": "a path, host or regular expression that cannot be used";
    BAD_ADDRESS = "PC0304": "an address or URL that cannot be used";
    BAD_CERTIFICATE = "PC0305": "a certificate or private key that cannot be used";
    UNKNOWN_UPSTREAM = "PC0401": "an upstream that is not declared";
    UNKNOWN_SECRET = "PC0402": "a secret that is not declared";
    DUPLICATE_NAME = "PC0403": "two things of one kind with the same name";
    CONFLICTING_ROUTES = "PC0501": "two routes that match the same requests with the same precedence";
    UNREACHABLE_ROUTE = "PC0502": "a route that no request can reach";
    BAD_REWRITE = "PC0503": "a rewrite that does not fit what the route matches";
    CATCH_ALL_TO_API = "PC0504": "a route for every path that leads to an `api` upstream";
    NO_TARGET = "PC0505": "a route without `upstream`, `redirect` or `respond`, or with several";
    NO_EFFECT = "PC0506": "a setting that changes nothing where it stands";
    ADMIN_EXPOSED = "PC0507": "the admin listener can be reached from other machines without a token";
    SHARE_MISSING = "PC0508": "a cache on a route that passes the client's identity on, and nothing says who may share its answers";
    INLINE_SECRET = "PC0601": "a secret written into the file itself";
    SECRET_MISSING = "PC0602": "a secret whose source has no value";
    SECRET_INVALID = "PC0603": "a secret whose value cannot be used";
    CLEARTEXT_SECRET = "PC0604": "a secret that would travel without encryption";
    PRIVATE_ADDRESS = "PC0605": "an upstream at a private address without `allowPrivate`";
    NOT_FOR_TEAMS = "PC0701": "a block in a team's file that belongs into the main file";
    UNKNOWN_TEAM = "PC0702": "a file of a team that `owners` does not name";
    PATH_NOT_GRANTED = "PC0703": "a route that matches paths which its team is not granted";
    HOST_NOT_GRANTED = "PC0704": "a route that matches hosts which its team is not granted";
    UPSTREAM_NOT_GRANTED = "PC0705": "a route that uses an upstream which its team is not granted";
    SECRET_NOT_GRANTED = "PC0706": "a route that names a secret which its team is not granted";
    RATE_NOT_GRANTED = "PC0707": "a route that lets more requests through than its team is granted";
    TTL_NOT_GRANTED = "PC0708": "a route that stores answers for longer than its team is granted";
    OVERLAPPING_GRANTS = "PC0709": "two teams that are granted the same prefix";
    CROSSING_TEAMS = "PC0710": "a route that takes requests from a route of another team";
    NO_OWNERS = "PC0711": "files of teams without `owners` that say what each team may do";
}

/// A code with what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `PC0304`.
    pub code: &'static str,
    /// In one line: lower case, no final stop.
    pub meaning: &'static str,
    /// At length, in plain text: why it is refused, then an example after `Wrong:` and one after `Right:`, indented by four.
    pub help: &'static str,
}

impl Code {
    /// The example of the help that has this mistake, without its indentation; commands begin with `$ `.
    #[must_use]
    pub fn wrong(&self) -> String {
        self.example("Wrong:")
    }

    /// The example of the help that is right, without its indentation; commands begin with `$ `.
    #[must_use]
    pub fn right(&self) -> String {
        self.example("Right:")
    }

    fn example(&self, title: &str) -> String {
        let lines = self.help.lines().skip_while(|line| *line != title).skip(1);
        let inside = lines.take_while(|line| line.starts_with("    "));
        inside.map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect()
    }
}

/// The code with this text, in capitals or not.
#[must_use]
pub fn find(code: &str) -> Option<&'static Code> {
    ALL.iter().find(|known| known.code.eq_ignore_ascii_case(code))
}

/// Whether a text has the form of a code: `PC` and four digits.
#[must_use]
pub fn is_code(text: &str) -> bool {
    let digits = text.get(..2).filter(|letters| letters.eq_ignore_ascii_case("PC")).and(text.get(2..));
    digits.is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        for pair in ALL.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} comes before {}", pair[0].code, pair[1].code);
        }
        assert_eq!(find("pc0201").map(|code| code.code), Some(UNKNOWN_KEY));
        assert_eq!(find("PC9999"), None);
        assert!(ALL.iter().all(|code| is_code(code.code)));
        for other in ["PC020", "PC02011", "PX0201", "PC02a1", "GET", "é0201"] {
            assert!(!is_code(other), "{other}");
        }
    }

    #[test]
    fn every_code_is_told_at_length_in_lines_that_a_terminal_holds() {
        for code in ALL {
            let explanation: Vec<&str> = code.help.lines().take_while(|line| *line != "Wrong:").collect();
            assert!((2..=7).contains(&explanation.len()), "{}: {} lines", code.code, explanation.len());
            assert!(explanation.iter().all(|line| line.chars().count() <= 100), "{}: too wide", code.code);
            assert!(!code.wrong().is_empty() && !code.right().is_empty(), "{}: an example lacks", code.code);
        }
    }
}
