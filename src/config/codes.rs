//! The stable codes of configuration problems, in one table.
//!
//! A code is what a person searches for and what a dashboard groups by, so it never changes its meaning and is never used
//! again for something else. The first two digits are the group: 01 the file as text, 02 the shape of the document,
//! 03 values and units, 04 references between blocks, 05 routes, 06 secrets, 07 teams. Nothing here decides when a code applies:
//! the room that finds the problem does.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal: $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            $(#[$doc])*
            pub const $name: &str = $code;
        )*

        /// Every code with its meaning in one line, in the order of the codes.
        pub const ALL: &[(&str, &str)] = &[$(($code, $meaning)),*];
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
    INLINE_SECRET = "PC0601": "a secret written into the file itself";
    SECRET_MISSING = "PC0602": "a secret whose source has no value";
    SECRET_INVALID = "PC0603": "a secret whose value cannot be used";
    CLEARTEXT_SECRET = "PC0604": "a secret that would travel without encryption";
    PRIVATE_ADDRESS = "PC0605": "an upstream at a private address without `allowPrivate`";
    NOT_FOR_TEAMS = "PC0701": "a block in a team's file that belongs into the main file";
}

/// What `code` means, in one line.
#[must_use]
pub fn meaning(code: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        for pair in ALL.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} comes before {}", pair[0].0, pair[1].0);
        }
        assert_eq!(meaning(UNKNOWN_KEY), Some("a key that this place does not have"));
        assert_eq!(meaning("PC9999"), None);
    }
}
