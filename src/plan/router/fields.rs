//! Conditions on headers and query parameters.

use super::path::{inner, whole};
use regex::Regex;

/// A condition on one header or query parameter, as written. Only the first of several values is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMatch {
    /// Its name.
    pub name: String,
    /// What its value must be.
    pub value: FieldValue,
}

/// What the value of a field must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// This.
    Exact(String),
    /// Matched as a whole by this regular expression.
    Regex(String),
    /// Anything, if only the field is there.
    Present,
}

/// A condition that can be asked.
#[derive(Debug)]
pub(super) struct Condition {
    name: Box<str>,
    lower_name: Box<str>,
    value: Expected,
}

#[derive(Debug)]
enum Expected {
    Exact(Box<str>),
    Regex(Regex),
    Present,
}

impl Condition {
    pub(super) fn compile(written: &FieldMatch) -> Result<Self, regex::Error> {
        let value = match &written.value {
            FieldValue::Exact(text) => Expected::Exact(text.as_str().into()),
            FieldValue::Regex(text) => Expected::Regex(whole(text)?),
            FieldValue::Present => Expected::Present,
        };
        let lower_name = written.name.to_ascii_lowercase().into();
        Ok(Self { name: written.name.as_str().into(), lower_name, value })
    }

    /// The name by which a header is asked for.
    pub(super) fn lower_name(&self) -> &str {
        &self.lower_name
    }

    /// Its name as written.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What its value must be, in words.
    pub(super) fn wanted(&self) -> String {
        match &self.value {
            Expected::Exact(text) => format!("`{text}`"),
            Expected::Regex(regex) => format!("something that matches `{}`", inner(regex.as_str())),
            Expected::Present => "any value".to_owned(),
        }
    }

    /// Whether a header with this value fulfils it.
    pub(super) fn holds_for(&self, value: Option<&str>) -> bool {
        value.is_some_and(|value| match &self.value {
            Expected::Exact(text) => **text == *value,
            Expected::Regex(regex) => regex.is_match(value),
            Expected::Present => true,
        })
    }

    /// Whether a query, `a=1&b=2`, fulfils it. Names and values are compared decoded.
    pub(super) fn holds_in(&self, query: &str) -> bool {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut ours = pairs.filter(|(name, _)| decoded(name).eq(self.name.bytes()));
        ours.next().is_some_and(|(_, value)| match &self.value {
            Expected::Exact(text) => decoded(value).eq(text.bytes()),
            Expected::Regex(regex) => {
                let bytes: Vec<u8> = decoded(value).collect();
                std::str::from_utf8(&bytes).is_ok_and(|text| regex.is_match(text))
            }
            Expected::Present => true,
        })
    }
}

/// The bytes that a part of a query stands for: `%41` is `A`, `+` is a space (WHATWG URL, form encoding).
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut bytes = text.bytes();
    std::iter::from_fn(move || match bytes.next()? {
        b'+' => Some(b' '),
        b'%' => {
            let mut ahead = bytes.clone();
            let mut digit = || ahead.next().and_then(|byte| char::from(byte).to_digit(16));
            match digit().zip(digit()).map(|(high, low)| u8::try_from(high * 16 + low)) {
                Some(Ok(byte)) => {
                    bytes = ahead;
                    Some(byte)
                }
                _ => Some(b'%'),
            }
        }
        byte => Some(byte),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(name: &str, value: FieldValue) -> Condition {
        Condition::compile(&FieldMatch { name: name.into(), value }).expect("right")
    }

    #[test]
    fn query_parameters_are_compared_decoded() {
        let exact = condition("a b", FieldValue::Exact("1+é".into()));
        for query in ["a+b=1%2B%c3%A9", "x&a%20b=1%2bé&y", "a+b=1%2B%c3%A9&a+b=2"] {
            assert!(exact.holds_in(query), "{query}");
        }
        for query in ["", "a+b", "a+b=1", "a+b=2&a+b=1%2B%c3%A9", "a%2Bb=1%2B%c3%A9", "A+b=1%2B%c3%A9"] {
            assert!(!exact.holds_in(query), "{query}: the first value and the very name count");
        }
    }

    #[test]
    fn expressions_match_whole_values() {
        let regex = condition("v", FieldValue::Regex("[0-9]+|x".into()));
        assert!(regex.holds_in("v=12") && regex.holds_for(Some("x")));
        assert!(!regex.holds_in("v=12a") && !regex.holds_for(Some("xx")) && !regex.holds_for(None));
        assert!(!regex.holds_in("v=%ff"), "what is no text matches no expression");
    }

    #[test]
    fn presence_is_enough_where_nothing_else_is_asked() {
        let present = condition("V", FieldValue::Present);
        assert!(present.holds_in("V") && present.holds_in("V=") && present.holds_for(Some("")));
        assert!(!present.holds_in("") && !present.holds_in("v=1") && !present.holds_for(None));
        assert_eq!(present.lower_name(), "v");
    }
}
