//! What a policy says of itself for one request, in words and as data: `portcullis explain`.
//!
//! It is said by the policy that decides, from what it decides with. Saying it changes nothing and uses nothing up, and no secret is
//! read for it.

use std::time::Duration;

use http::HeaderName;
use pingora::http::RequestHeader;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Reply;
use crate::exchange::Exchange;

/// What a policy is asked about.
#[derive(Clone, Copy)]
pub struct Telling<'a> {
    /// The request, as the policy would see it.
    pub exchange: &'a Exchange,
    /// The outgoing head before and after the policy, where it has a [`super::Policy::upstream_request_filter`].
    pub heads: Option<(&'a RequestHeader, &'a RequestHeader)>,
    /// Whether the counters of this process are those that the request would meet.
    pub counters: Counters,
}

/// Whose counters a policy can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counters {
    /// Nobody's: this process serves no requests.
    None,
    /// Those of the gateway itself.
    Live,
}

/// What it says.
#[derive(Debug, Default)]
pub struct Told {
    /// Plain statements: lower case, no full stop.
    pub words: Vec<String>,
    /// The same as data that depends on the configuration and the request only; null for none.
    pub data: Value,
    /// What holds at this moment only; null for none.
    pub now: Value,
    /// The answer, where the policy gives one instead of the upstream.
    pub reply: Option<Box<Reply>>,
}

impl Told {
    /// Words and data.
    #[must_use]
    pub fn new(words: impl IntoIterator<Item = String>, data: Value) -> Self {
        Self { words: words.into_iter().collect(), data, ..Self::default() }
    }
}

/// A field of the client that does not go on, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Its name, in lower case.
    pub name: String,
    /// Why.
    pub because: String,
}

/// The fields of `before` that are not in `after`, each with what `because` says of it.
pub fn dropped(
    before: &RequestHeader,
    after: &RequestHeader,
    because: impl Fn(&HeaderName) -> String,
) -> Vec<Dropped> {
    let gone = before.headers.keys().filter(|name| !after.headers.contains_key(*name));
    let mut list: Vec<Dropped> =
        gone.map(|name| Dropped { name: name.as_str().to_owned(), because: because(name) }).collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// "`a` and `b`: why" for each reason, in the order in which they are met first.
#[must_use]
pub fn grouped(list: &[Dropped]) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for Dropped { name, because } in list {
        match groups.iter_mut().find(|(known, _)| known == because) {
            Some((_, names)) => names.push(name),
            None => groups.push((because, vec![name])),
        }
    }
    let sentence = |(because, names): (&str, Vec<&str>)| format!("drops {}: {because}", listed(&names));
    groups.into_iter().map(sentence).collect()
}

/// "`a`, `b` and `c`".
#[must_use]
pub fn listed(names: &[impl AsRef<str>]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// "`a`, `b` or `c`".
#[must_use]
pub fn either(names: &[impl AsRef<str>]) -> String {
    let text = listed(names);
    match text.rsplit_once(" and ") {
        Some((all, last)) => format!("{all} or {last}"),
        None => text,
    }
}

/// "1 request", "3 requests".
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A time as people write it: `60s` is `1m`. Rounded to milliseconds, below one to microseconds.
#[must_use]
pub fn span(duration: Duration) -> String {
    let ms = Duration::from_millis(1);
    let nanos = duration.subsec_nanos();
    let rounded = if duration >= ms { nanos / 1_000_000 * 1_000_000 } else { nanos / 1_000 * 1_000 };
    humantime::format_duration(Duration::new(duration.as_secs(), rounded)).to_string()
}

/// Whether the value of a field of this name is not shown, because people write into it what they should not.
#[must_use]
pub fn tells_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SENSITIVE_NAMES.iter().any(|part| name.contains(part))
}

/// Parts of such names.
const SENSITIVE_NAMES: [&str; 5] = ["authorization", "cookie", "api-key", "api_key", "x-auth"];

/// How a secret is shown: by its name.
#[must_use]
pub fn secret(name: &str) -> String {
    format!("<secret:{name}>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_one_reason_are_told_together() {
        let drop = |name: &str, because: &str| Dropped { name: name.into(), because: because.into() };
        let list = [drop("a", "x"), drop("b", "y"), drop("c", "x"), drop("d", "x")];
        assert_eq!(grouped(&list), ["drops `a`, `c` and `d`: x", "drops `b`: y"]);
        assert_eq!(listed(&Vec::<String>::new()), "nothing");
    }

    #[test]
    fn times_are_told_with_their_unit() {
        assert_eq!(span(Duration::from_secs(60)), "1m");
        assert_eq!(span(Duration::from_nanos(333_333_334)), "333ms");
        assert_eq!(span(Duration::from_nanos(1_500)), "1us");
    }
}
