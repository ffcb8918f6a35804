//! A mistake in plain words, with what to do about it.

use super::codes;
use super::decode::{Found, What};
use super::foreign;
use super::suggest::{did_you_mean, listed};

/// Code, message and hint of a mistake.
pub(super) struct Words {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Puts a mistake into words. `raw` is the value as written where it is one that may be shown: without it nothing of the
/// document is repeated except keys.
pub(super) fn of(what: &What, raw: Option<&str>) -> Words {
    let (code, message, help) = match what {
        What::UnknownKey { key, known } => {
            (codes::UNKNOWN_KEY, unknown_key(key), choose_key(key, known.iter().copied()))
        }
        What::UnknownChoice { written, known } => {
            let message = match raw {
                Some(_) => format!("`{written}` is not known here"),
                None => "this value is not known here".to_owned(),
            };
            let help = if raw.is_some() {
                choose(written, known.iter().copied(), "one of")
            } else {
                Some(format!("one of: {}", listed(known.iter().copied())))
            };
            (codes::BAD_VALUE, message, help)
        }
        What::MissingKey(key) => (codes::MISSING_KEY, missing_key(key), None),
        What::Null => (codes::NULL_VALUE, NULL.to_owned(), Some(NULL_HELP.to_owned())),
        What::WrongType { found, expected } => {
            let expected = plain(expected);
            let help = type_help(*found, &expected, raw);
            (codes::WRONG_TYPE, format!("expected {expected}, found {}", name(*found)), help)
        }
        What::BadValue { expected } => (codes::BAD_VALUE, format!("expected {}", plain(expected)), None),
        What::NotOneKey { found, known } => {
            let message = format!("expected exactly one key here, found {found}");
            (codes::WRONG_TYPE, message, Some(format!("one of: {}", listed(known.iter().copied()))))
        }
        What::Other(text) if text.starts_with("data did not match any variant of untagged enum") => {
            (codes::WRONG_TYPE, "this has none of the forms that can stand here".to_owned(), None)
        }
        What::Other(text) => {
            let (message, help) = match text.split_once('\n') {
                Some((message, help)) => (message, Some(help.to_owned())),
                None => (text.as_str(), None),
            };
            (codes::BAD_VALUE, message.to_owned(), help)
        }
    };
    Words { code, message, help }
}

pub(super) fn unknown_key(key: &str) -> String {
    format!("unknown key `{key}`")
}

pub(super) fn missing_key(key: &str) -> String {
    format!("missing key `{key}`")
}

/// The key that was most likely meant by one that is not known: another gateway's word for it, or a near one.
pub(super) fn meant<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    foreign::key(key, known.clone()).or_else(|| did_you_mean(key, known))
}

/// What to write instead of a key that is not known: the one that was meant, else where it belongs, else all keys.
pub(super) fn choose_key<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    if meant(key, known.clone()).is_none()
        && let Some(advice) = foreign::advice(key, known.clone())
    {
        return Some(advice.to_owned());
    }
    match foreign::key(key, known.clone()) {
        Some(ours) if did_you_mean(key, [ours]).is_none() => Some(format!("it is called `{ours}` here")),
        Some(ours) => Some(format!("did you mean `{ours}`?")),
        None => choose(key, known, "known here"),
    }
}

/// The nearest known word, else all of them.
pub(super) fn choose<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    title: &str,
) -> Option<String> {
    match did_you_mean(word, known.clone()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None => {
            let all = listed(known);
            (!all.is_empty()).then(|| format!("{title}: {all}"))
        }
    }
}

/// The message for a key with nothing after it.
pub(super) const NULL: &str = "nothing is written here";
/// What to do about it.
pub(super) const NULL_HELP: &str = "give it a value, or remove the key";

fn name(found: Found) -> &'static str {
    match found {
        Found::Bool => "`true` or `false`",
        Found::Number => "a number",
        Found::Text => "a string",
        Found::List => "a list",
        Found::Mapping => "a mapping",
        Found::Other => "something else",
    }
}

/// What `serde` expects, in an operator's words.
fn plain(expected: &str) -> String {
    let word = match expected {
        "bool" | "a boolean" => "`true` or `false`",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "u128" | "usize" => "a whole number of at least 0",
        "a nonzero u8" => "a whole number from 1 to 255",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "a nonzero u64" | "a nonzero usize" => "a whole number of at least 1",
        "f32" | "f64" => "a number",
        "str" | "string" | "a string" | "string or map" => "a string",
        "a sequence" => "a list",
        "a map" | "map" => "a mapping",
        _ if ["struct ", "enum ", "internally tagged", "adjacently tagged"]
            .iter()
            .any(|p| expected.starts_with(p)) =>
        {
            "a mapping"
        }
        _ if expected.starts_with("tuple ") || expected.starts_with("a tuple ") => "a list",
        _ => expected,
    };
    word.to_owned()
}

fn type_help(found: Found, expected: &str, raw: Option<&str>) -> Option<String> {
    let short = raw.filter(|raw| !raw.is_empty() && raw.len() <= 40 && !raw.contains(['\n', '"']));
    match found {
        Found::Number | Found::Bool if expected == "a string" || expected.starts_with("one of `") => {
            Some(short.map_or_else(|| "quote it".to_owned(), |raw| format!("quote it: `\"{raw}\"`")))
        }
        Found::Text | Found::Number | Found::Bool if expected.starts_with("a list") => Some(
            short
                .filter(|raw| !SWITCHES.contains(raw))
                .map_or_else(|| "a list is written `[a, b]`".to_owned(), |raw| format!("write `[{raw}]`")),
        ),
        Found::Text | Found::Number | Found::Bool if expected == "a mapping" => {
            Some("settings are written `{ key: value }`, or as lines below it".to_owned())
        }
        Found::List if expected == "a mapping" => {
            Some("write `key: value` here, a line each, without `- ` in front".to_owned())
        }
        Found::Mapping if expected == "a list" => {
            Some("write a list here: each item begins with `- `, as in `- name: first`".to_owned())
        }
        Found::Text if expected.contains("number") => {
            short.filter(|raw| raw.parse::<f64>().is_ok()).map(|raw| match raw.trim_start_matches('0') {
                rest if rest.len() < raw.len() && rest.starts_with(|c: char| c.is_ascii_digit()) => {
                    format!("a number has no zeros in front: write `{rest}`")
                }
                _ => "write the number without quotes".to_owned(),
            })
        }
        Found::Text if expected.starts_with("`true`") => short
            .filter(|raw| SWITCHES.contains(&raw.to_lowercase().as_str()))
            .map(|_| "write `true` or `false`, without quotes".to_owned()),
        _ => None,
    }
}

/// How a switch is written in one program or another.
const SWITCHES: [&str; 6] = ["true", "false", "yes", "no", "on", "off"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_words_become_plain_ones() {
        let wrong =
            |found, expected: &str, raw| of(&What::WrongType { found, expected: expected.into() }, raw);
        let words = wrong(Found::Number, "a string", Some("12"));
        assert_eq!(words.message, "expected a string, found a number");
        assert_eq!(words.help.as_deref(), Some("quote it: `\"12\"`"));
        let words = wrong(Found::Text, "a sequence", Some("GET"));
        assert_eq!(words.message, "expected a list, found a string");
        assert_eq!(words.help.as_deref(), Some("write `[GET]`"));
        assert_eq!(
            wrong(Found::List, "struct Route with 3 elements", None).message,
            "expected a mapping, found a list"
        );
    }

    #[test]
    fn what_others_write_is_answered_with_our_form() {
        let help = |found, expected: &str, raw| {
            of(&What::WrongType { found, expected: expected.into() }, Some(raw)).help.unwrap_or_default()
        };
        assert_eq!(help(Found::Text, "u32", "0100"), "a number has no zeros in front: write `100`");
        assert_eq!(help(Found::Text, "u32", "0.5"), "write the number without quotes");
        assert_eq!(help(Found::Text, "u32", "0"), "write the number without quotes");
        assert_eq!(help(Found::Text, "a sequence", "on"), "a list is written `[a, b]`");
        assert_eq!(help(Found::Text, "a boolean", "Off"), "write `true` or `false`, without quotes");
        assert_eq!(
            choose_key("proxy_pass", ["upstream"].into_iter()).as_deref(),
            Some("it is called `upstream` here")
        );
        assert_eq!(
            choose_key("rate_limit", ["rateLimit"].into_iter()).as_deref(),
            Some("did you mean `rateLimit`?")
        );
    }

    #[test]
    fn a_value_that_may_not_be_shown_is_not_repeated() {
        let what = What::UnknownChoice { written: "hunter2".into(), known: &["a", "b"] };
        let words = of(&what, None);
        assert!(
            !words.message.contains("hunter2") && words.help.is_some_and(|help| help == "one of: `a`, `b`")
        );
    }

    #[test]
    fn the_second_line_of_a_message_is_its_hint() {
        let words = of(&What::Other("too long\nat most 5".into()), None);
        assert_eq!((words.message.as_str(), words.help.as_deref()), ("too long", Some("at most 5")));
    }
}
