//! A number for what is written about a route: part of every cache key, so that an answer which other rules shaped is never found.
//!
//! Keys lie in files that outlive the program. So it is computed of what is written and of nothing that a compiler or a library
//! decides: each value of the document, framed, through SipHash-1-3. Defaults are not written. Where a version shapes answers otherwise
//! than the one before although nothing else is written, [`SHAPING`] is raised, and what the old one stored is not found.

use serde_yaml::Value;
use siphasher::sip::SipHasher13;

/// The fingerprint of a route and its upstream. The order in which keys are written counts, as it does for some of them.
pub(super) fn of(route: &Value, upstream: Option<&Value>) -> u64 {
    let mut bytes = Vec::with_capacity(1024);
    push_mapping(&mut bytes, route, &UNRELATED);
    upstream.iter().for_each(|upstream| push(&mut bytes, upstream));
    SipHasher13::new_with_keys(SHAPING, 0).hash(&bytes)
}

/// What is written in a mapping but for some of its keys. All of what is none.
fn push_mapping(bytes: &mut Vec<u8>, value: &Value, but: &[&str]) {
    let Value::Mapping(mapping) = value else { return push(bytes, value) };
    let counts = |key: &Value| !key.as_str().is_some_and(|key| but.contains(&key));
    for (key, value) in mapping.iter().filter(|(key, _)| counts(key)) {
        bytes.push(b'k');
        push(bytes, key);
        push(bytes, value);
    }
    bytes.push(b'}');
}

fn push(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => bytes.push(b'0'),
        Value::Bool(value) => bytes.push(if *value { b't' } else { b'f' }),
        Value::Number(number) => push_text(bytes, b'n', &number.to_string()),
        Value::String(text) => push_text(bytes, b's', text),
        Value::Sequence(values) => {
            for value in values {
                bytes.push(b'-');
                push(bytes, value);
            }
            bytes.push(b']');
        }
        Value::Mapping(_) => push_mapping(bytes, value, &[]),
        Value::Tagged(tagged) => {
            push_text(bytes, b'!', &tagged.tag.to_string());
            push(bytes, &tagged.value);
        }
    }
}

fn push_text(bytes: &mut Vec<u8>, kind: u8, text: &str) {
    bytes.push(kind);
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// How this version shapes answers beyond what is written: erasure, rewriting, JSON. Raise it with a change that must not serve what was
/// stored before it.
const SHAPING: u64 = 1;

/// Keys of a route that say nothing about the answer: who may ask how often. To change them keeps the cache warm.
const UNRELATED: [&str; 2] = ["rateLimit", "concurrency"];

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap()
    }

    const ROUTE: &str = "
name: weather
match: { path: { prefix: /api/weather } }
upstream: weather
rewrite: { path: { template: '/v1/{rest}' } }
response: { json: { keep: [/city, /temperature], max: 64KiB } }
cache: { ttl: 30s, shared: true, tags: ['city:{city}'], weight: 1.5, retries: 3, note: ~ }
";
    const UPSTREAM: &str = "
name: weather
kind: api
endpoints: [https://api.weather.example]
";

    #[test]
    fn it_is_the_same_in_every_version() {
        let print = of(&yaml(ROUTE), Some(&yaml(UPSTREAM)));
        assert_eq!(
            print, 0x6092_950f_dd51_1b9e,
            "everything that is stored is lost with another one: raise `SHAPING` if that is meant"
        );
    }

    #[test]
    fn it_is_of_all_that_shapes_the_answer_and_of_nothing_else() {
        let base = of(&yaml(ROUTE), Some(&yaml(UPSTREAM)));
        let with = |more: &str| of(&yaml(&format!("{ROUTE}\n{more}")), Some(&yaml(UPSTREAM)));
        assert_eq!(with("rateLimit: { rate: 5/s }"), base, "who may ask how often");
        assert_eq!(with("concurrency: 4"), base);
        assert_eq!(with("# said aside"), base, "a comment");
        assert_ne!(with("errors: mask"), base, "another rule");
        assert_ne!(of(&yaml(ROUTE), None), base, "no upstream");
        assert_ne!(of(&yaml(ROUTE), Some(&yaml("name: weather"))), base, "another upstream");
        let nested = |text: &str| of(&yaml(text), None);
        assert_ne!(nested("a: { rateLimit: 1 }"), nested("a: {}"), "only of the route itself");
    }

    #[test]
    fn no_two_values_are_mistaken_for_each_other() {
        let values = [
            "[]",
            "{}",
            "~",
            "''",
            "'~'",
            "0",
            "'0'",
            "0.0",
            "true",
            "'t'",
            "[[]]",
            "[{}]",
            "[a, b]",
            "[ab]",
            "[a, [b]]",
            "[[a], b]",
            "{a: b}",
            "{a: b, c: d}",
            "{a: {b: c}}",
            "{a: [b]}",
            "[a, b, c]",
            "!t a",
            "!t [a]",
            "a",
            "{a: ~}",
        ];
        let mut prints: Vec<u64> = values.iter().map(|text| of(&yaml(text), None)).collect();
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), values.len());
    }
}
