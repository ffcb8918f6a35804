//! What must not stand in an answer, and where it is looked for.
//!
//! The whole answer is searched: status line, field names and values, trailer fields and body, each as it came, percent-decoded, and, of
//! a JSON body, with the escapes of its strings undone. A secret is looked for in its three forms of Base64 too (plain and URL-safe),
//! whatever stands before it; a host in any letter case. A body in a content coding is searched as it is, coded.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::masks::{Hidden, Masks};
use super::run::Seen;
use crate::body::json::Shape;
use crate::cli::percent;
use crate::plan::cases::Expect;

/// Something that must not be there.
pub struct Leak {
    /// Which expectation forbids it, from `expect` down; empty: what always holds.
    pub path: Vec<&'static str>,
    /// The rule.
    pub expected: String,
    /// Where it stands.
    pub found: String,
}

/// Everything forbidden that stands in the answer.
pub fn find(expect: &Expect, seen: &Seen) -> Vec<Leak> {
    let places = places(seen);
    let mut leaks = Vec::new();
    let mut told: Vec<String> = Vec::new();
    let mut note = |path: Vec<&'static str>, what: String, place: &str, leaks: &mut Vec<Leak>| {
        if !told.contains(&what) {
            told.push(what.clone());
            leaks.push(Leak {
                path,
                expected: format!("never {what}"),
                found: format!("it stands in {place}"),
            });
        }
    };
    for rule in &expect.never {
        if rule.starts_with('$') {
            if leads_somewhere(rule, &seen.answer.body) {
                note(vec!["never"], format!("`{rule}`"), "the body", &mut leaks);
            }
            continue;
        }
        for (what, needle) in needles(rule, &seen.masks) {
            if let Some(place) = needle.place_in(&places) {
                note(vec!["never"], what, place, &mut leaks);
            }
        }
    }
    let always =
        seen.masks.secrets().map(|(name, value)| (format!("`<secret:{name}>`"), Needle::secret(value)));
    let allowed = |hidden: &&Hidden| {
        hidden.by_default
            && !expect
                .allow
                .iter()
                .any(|rule| *rule == format!("<upstream:{}>", hidden.name) || rule == "<upstream:*>")
    };
    let hosts = seen.masks.upstreams().iter().filter(allowed);
    let always =
        always.chain(hosts.map(|hidden| (format!("`<upstream:{}>`", hidden.name), Needle::host(hidden))));
    for (what, needle) in always {
        if let Some(place) = needle.place_in(&places) {
            note(Vec::new(), what, place, &mut leaks);
        }
    }
    leaks
}

/// What a rule stands for.
fn needles(rule: &str, masks: &Masks) -> Vec<(String, Needle)> {
    let name_of = |what: &str| rule.strip_prefix(&format!("<{what}:"))?.strip_suffix('>');
    if let Some(wanted) = name_of("secret") {
        let all = masks.secrets().filter(|(name, _)| wanted == "*" || *name == wanted);
        return all.map(|(name, value)| (format!("`<secret:{name}>`"), Needle::secret(value))).collect();
    }
    if let Some(wanted) = name_of("upstream") {
        let all = masks.upstreams().iter().filter(|hidden| wanted == "*" || hidden.name == wanted);
        return all.map(|hidden| (format!("`<upstream:{}>`", hidden.name), Needle::host(hidden))).collect();
    }
    vec![(format!("`{rule}`"), Needle { forms: vec![masks.filled(rule)], any_case: false })]
}

/// A text in all the forms in which it is looked for.
struct Needle {
    forms: Vec<String>,
    any_case: bool,
}

impl Needle {
    fn secret(value: &str) -> Self {
        let mut forms = vec![value.to_owned()];
        for before in 0..3_usize {
            let mut bytes = vec![0; before];
            bytes.extend_from_slice(value.as_bytes());
            for coded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
                // The letters at both ends depend on what stands beside the secret.
                let first = (before * 8).div_ceil(6);
                let last = bytes.len() * 8 / 6;
                forms.extend(coded.get(first..last).map(str::to_owned));
            }
        }
        forms.dedup();
        Self { forms, any_case: false }
    }

    fn host(hidden: &Hidden) -> Self {
        Self { forms: hidden.hosts.clone(), any_case: true }
    }

    fn place_in<'p>(&self, places: &'p [(String, String)]) -> Option<&'p str> {
        let holds = |text: &str| {
            let lower = if self.any_case { text.to_ascii_lowercase() } else { String::new() };
            let text = if self.any_case { lower.as_str() } else { text };
            self.forms.iter().any(|form| text.contains(form.as_str()))
        };
        places.iter().find(|(_, text)| holds(text)).map(|(place, _)| place.as_str())
    }
}

/// The parts of the answer, each in the forms in which something could stand there.
fn places(seen: &Seen) -> Vec<(String, String)> {
    let answer = &seen.answer;
    let mut places = vec![("the status line".to_owned(), answer.status_line.clone())];
    for (what, fields) in [("header", &answer.headers), ("trailer", &answer.trailers)] {
        places.extend(fields.iter().map(|(name, value)| {
            (format!("the {what} field `{}`", seen.masks.shown(name)), format!("{name}: {value}"))
        }));
    }
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let mut unescaped = String::new();
    if let Ok(json) = serde_json::from_str::<Value>(&body) {
        texts(&json, &mut unescaped);
    }
    places.push(("the body".to_owned(), body));
    places.push(("the body".to_owned(), unescaped));
    let decoded: Vec<_> =
        places.iter().map(|(place, text)| (place.clone(), percent::decoded(text))).collect();
    places.extend(decoded);
    places
}

/// All keys and strings of a value, a line each.
fn texts(json: &Value, out: &mut String) {
    match json {
        Value::String(text) => {
            out.push_str(text);
            out.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, out)),
        Value::Object(members) => {
            for (key, member) in members {
                out.push_str(key);
                out.push('\n');
                texts(member, out);
            }
        }
        _ => {}
    }
}

/// Whether a JSON path leads to something: then taking it away makes a difference.
fn leads_somewhere(path: &str, body: &[u8]) -> bool {
    let Ok(before) = serde_json::from_slice::<Value>(body) else { return false };
    let mut without = Vec::new();
    let taken = Shape::compile(&[], &[path]).is_ok_and(|shape| shape.shape(body, &mut without).is_ok());
    taken && serde_json::from_slice::<Value>(&without).map_or(true, |after| after != before)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_secret_is_found_in_base64_whatever_stands_beside_it() {
        let secret = "QWERTYUIOPASDFGHJKL";
        let needle = Needle::secret(secret);
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "x", "yz"] {
                let coded = STANDARD.encode(format!("{before}{secret}{after}"));
                let places = [("here".to_owned(), coded.clone())];
                assert_eq!(needle.place_in(&places), Some("here"), "{before} {after} {coded}");
            }
        }
        let other = [("here".to_owned(), STANDARD.encode("QWERTYUIOPASDFGHJK?"))];
        assert_eq!(needle.place_in(&other), None);
    }

    #[test]
    fn a_path_leads_somewhere_or_not() {
        let body = br#"{"a":{"b":1},"list":[{"id":1}]}"#;
        for (path, leads) in [("$.a.b", true), ("$.a.c", false), ("$.list[*].id", true), ("$.list[1]", false)]
        {
            assert_eq!(leads_somewhere(path, body), leads, "{path}");
        }
        assert!(!leads_somewhere("$.a", b"no JSON"));
    }
}
