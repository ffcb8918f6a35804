//! One setting in its normal form: two ways to write the same are one value.
//!
//! `60s` and `1m` are one span, `64KiB` and `65536B` one size; the order of a list that has no order is none; names that are
//! compared without case are in small letters; a URL has its port only where it is not the scheme's.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde_yaml::Value as Yaml;

use crate::config::units::{ByteSize, TimespanOrZero};
use crate::plan::upstreams::endpoints::parse_url;

/// What a setting says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A block that is there: `cache: {}`.
    On,
    /// A word, a name, a path.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Number(u64),
    /// A duration.
    Span(Duration),
    /// A size in bytes.
    Size(u64),
    /// A list without order.
    Set(BTreeSet<String>),
    /// One place or several where an upstream is served.
    Urls(BTreeSet<String>),
}

/// How a setting is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it says itself: a duration, a size, a number, a text.
    Any,
    /// A text, whatever it looks like.
    Text,
    /// A text in which case means nothing.
    Caseless,
    /// A path in which a slash at the end means nothing.
    Prefix,
    /// A list in which order means nothing.
    Set,
    /// The same, where case means nothing either.
    CaselessSet,
    /// A block whose presence means something by itself; what is in it has rows of its own.
    Block,
    /// One block, or a list of blocks with a `name`.
    Named,
    /// `match.path`.
    Path,
    /// `url` or `endpoints`.
    Endpoints,
    /// `credential`: by where its secret comes from, not by the secret's name.
    Credential,
    /// The name of a secret, by where that comes from.
    Secret,
    /// `response.errors`.
    Errors,
    /// A JSON value or another one that is compared as a whole.
    Whole,
    /// Not compared.
    Skip,
}

impl Value {
    /// Reads a value that is no block. What fits no form is compared as a whole.
    #[must_use]
    pub fn read(form: Form, yaml: &Yaml) -> Self {
        match (form, yaml) {
            (Form::Caseless, Yaml::String(text)) => Self::Text(text.to_ascii_lowercase()),
            (Form::Prefix, Yaml::String(text)) => Self::Text(trimmed(text).to_owned()),
            (Form::Set | Form::CaselessSet, Yaml::Sequence(items)) => {
                let fold = |text: String| {
                    if form == Form::CaselessSet { text.to_ascii_lowercase() } else { text }
                };
                Self::Set(items.iter().map(|item| fold(plain(item))).collect())
            }
            (Form::Path, Yaml::Mapping(_)) => Self::Text(path(yaml)),
            (Form::Errors, _) => errors(yaml),
            (Form::Endpoints, _) => Self::Urls(endpoints(yaml)),
            (Form::Any, Yaml::Bool(flag)) => Self::Flag(*flag),
            (Form::Any, Yaml::Number(number)) if number.is_u64() => {
                Self::Number(number.as_u64().unwrap_or_default())
            }
            (Form::Any, Yaml::String(text)) => unit(text),
            _ => Self::Text(plain(yaml)),
        }
    }

    /// The members of a list; none of anything else.
    #[must_use]
    pub fn members(&self) -> BTreeSet<String> {
        match self {
            Self::Set(set) | Self::Urls(set) => set.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// How large it is, where values of its kind are larger or smaller.
    #[must_use]
    pub fn magnitude(&self) -> Option<u128> {
        match self {
            Self::Number(number) | Self::Size(number) => Some(u128::from(*number)),
            Self::Span(span) => Some(span.as_nanos()),
            _ => None,
        }
    }

    /// The text of a text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("on"),
            Self::Text(text) => f.write_str(text),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Span(span) => f.write_str(
                &TimespanOrZero(*span).to_string().replace(' ', "").replace("days", "d").replace("day", "d"),
            ),
            Self::Size(bytes) => write!(f, "{}", ByteSize(*bytes)),
            Self::Urls(set) if set.len() == 1 => f.write_str(set.first().map_or("", String::as_str)),
            Self::Set(set) | Self::Urls(set) => {
                write!(f, "[{}]", set.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A duration or a size by what it means, anything else as it is.
fn unit(text: &str) -> Value {
    if let Ok(span) = text.parse::<TimespanOrZero>() {
        return Value::Span(span.0);
    }
    match text.parse::<ByteSize>() {
        Ok(size) => Value::Size(size.0),
        Err(_) => Value::Text(text.to_owned()),
    }
}

/// A scalar as its text, anything else as JSON with sorted keys.
pub(super) fn plain(yaml: &Yaml) -> String {
    match yaml {
        Yaml::String(text) => text.clone(),
        other => serde_json::to_value(other).map(|json| sorted(&json).to_string()).unwrap_or_default(),
    }
}

/// The members of every object by name: whether a map keeps the order of the file is a matter of how the program is built.
fn sorted(json: &serde_json::Value) -> serde_json::Value {
    match json {
        serde_json::Value::Object(members) => {
            let mut members: Vec<_> =
                members.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            serde_json::Value::Object(members.into_iter().collect())
        }
        serde_json::Value::Array(items) => serde_json::Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// Without the slash at its end; `/` stays.
fn trimmed(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        rest => rest,
    }
}

fn path(yaml: &Yaml) -> String {
    let written = |key: &str| yaml.get(key).and_then(Yaml::as_str);
    match (written("prefix"), written("exact"), written("template"), written("regex")) {
        (Some(prefix), ..) => format!("prefix {}", trimmed(prefix)),
        (_, Some(exact), ..) => format!("exact {exact}"),
        (_, _, Some(template), _) => format!("template {template}"),
        (_, _, _, Some(regex)) => format!("regex {regex}"),
        _ => plain(yaml),
    }
}

fn errors(yaml: &Yaml) -> Value {
    match yaml.get("pass").and_then(Yaml::as_sequence) {
        Some(list) => Value::Set(list.iter().map(plain).collect()),
        None => Value::Text(plain(yaml)),
    }
}

/// Where an upstream is served; a weight is said where there is something to weigh.
fn endpoints(yaml: &Yaml) -> BTreeSet<String> {
    let Yaml::Sequence(items) = yaml else { return BTreeSet::from([url(&plain(yaml))]) };
    let weight = |item: &Yaml| item.get("weight").and_then(Yaml::as_u64).unwrap_or(1);
    let is_even = items.iter().all(|item| items.first().map(weight) == Some(weight(item)));
    let shown = |item: &Yaml| {
        let url = url(&item.get("url").map(plain).unwrap_or_default());
        if is_even { url } else { format!("{url} weight {}", weight(item)) }
    };
    items.iter().map(shown).collect()
}

fn url(written: &str) -> String {
    match parse_url(written) {
        Ok((scheme, host, port, base)) if port == scheme.default_port() => {
            format!("{}://{host}{base}", scheme.as_str())
        }
        Ok((scheme, host, port, base)) => format!("{}://{host}:{port}{base}", scheme.as_str()),
        Err(_) => written.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: Form, yaml: &str) -> Value {
        Value::read(form, &serde_yaml::from_str(yaml).expect("YAML"))
    }

    #[test]
    fn two_ways_to_write_the_same_are_one_value() {
        for (form, one, other) in [
            (Form::Any, "60s", "1m"),
            (Form::Any, "64KiB", "65536B"),
            (Form::Any, "'100'", "\"100\""),
            (Form::Caseless, "App.Example", "app.example"),
            (Form::Prefix, "/v2/", "/v2"),
            (Form::Set, "[a, b]", "[b, a, a]"),
            (Form::CaselessSet, "[X-A]", "[x-a]"),
            (Form::Path, "{ prefix: /a/ }", "{ prefix: /a }"),
            (Form::Endpoints, "https://A.example:443/", "[{ url: https://a.example, weight: 7 }]"),
            (Form::Errors, "{ pass: [400, 422] }", "{ pass: [422, 400] }"),
            (Form::Whole, "{ a: 1, b: [x] }", "{ b: [x], a: 1 }"),
        ] {
            assert_eq!(read(form, one), read(form, other), "{one} and {other}");
        }
    }

    #[test]
    fn what_differs_is_not_one_value() {
        for (form, one, other) in [
            (Form::Any, "60s", "60ms"),
            (Form::Prefix, "/", "/v2"),
            (Form::Path, "{ exact: /a/ }", "{ exact: /a }"),
            (Form::Path, "{ exact: /a }", "{ prefix: /a }"),
            (Form::Endpoints, "https://a.example", "http://a.example"),
            (
                Form::Endpoints,
                "[{ url: https://a.example }, { url: https://b.example }]",
                "[{ url: https://a.example, weight: 2 }, { url: https://b.example }]",
            ),
            (Form::Errors, "pass", "{ pass: [] }"),
        ] {
            assert_ne!(read(form, one), read(form, other), "{one} and {other}");
        }
    }
}
