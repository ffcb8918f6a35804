//! Just enough of JSON Schema draft-07 to judge a file: the keywords that our schemas use. Any other one is a panic, so that none is
//! overlooked. What an editor makes of them is seen in `tests/editor/`.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};

/// Where something does not fit, as the configuration names places (`routes[0].cache.ttl`), and why.
#[derive(Debug, Clone)]
pub struct Flag {
    pub at: String,
    pub why: String,
}

/// Everything in `value` that does not fit `schema`.
pub fn flags(schema: &Value, value: &Value) -> Vec<Flag> {
    let mut found = Vec::new();
    judge(schema, value, "", &mut found);
    found
}

fn judge(schema: &Value, value: &Value, at: &str, found: &mut Vec<Flag>) {
    let Value::Object(schema) = schema else { return };
    for (keyword, rule) in schema {
        let before = found.len();
        match keyword.as_str() {
            "$schema"
            | "$comment"
            | "title"
            | "description"
            | "markdownDescription"
            | "default"
            | "examples" => {}
            "enumDescriptions" | "markdownEnumDescriptions" | "errorMessage" | "patternErrorMessage" => {}
            "anyOf" | "oneOf" | "not" => combined(keyword, rule, value, at, found),
            _ => match value {
                Value::Object(map) if of_mappings(keyword) => mapping(keyword, rule, schema, map, at, found),
                Value::Array(items) if of_lists(keyword) => list(keyword, rule, items, at, found),
                _ if of_mappings(keyword) || of_lists(keyword) => {}
                _ => {
                    if let Some(why) = scalar(keyword, rule, value) {
                        found.push(Flag { at: at.to_owned(), why });
                    }
                }
            },
        }
        // A value of another type is one mistake.
        if keyword == "type" && found.len() > before {
            return;
        }
    }
}

fn of_mappings(keyword: &str) -> bool {
    [
        "properties",
        "patternProperties",
        "additionalProperties",
        "required",
        "minProperties",
        "maxProperties",
        "dependencies",
    ]
    .contains(&keyword)
}

fn of_lists(keyword: &str) -> bool {
    ["items", "minItems", "maxItems"].contains(&keyword)
}

fn combined(keyword: &str, rule: &Value, value: &Value, at: &str, found: &mut Vec<Flag>) {
    if keyword == "not" {
        if flags(rule, value).is_empty() {
            found.push(Flag { at: at.to_owned(), why: "fits what it must not".into() });
        }
        return;
    }
    let choices = rule.as_array().expect("a list of schemas");
    let mut judged = choices.iter().map(|choice| {
        let mut inner = Vec::new();
        judge(choice, value, at, &mut inner);
        inner
    });
    let fitting = judged.clone().filter(Vec::is_empty).count();
    if fitting == 0 {
        // The choice that fits best has the mistake: one whose type is right before one whose type is wrong.
        let best = judged.by_ref().min_by_key(|flags| (flags.iter().any(|flag| flag.at == at), flags.len()));
        found.extend(best.into_iter().flatten());
    } else if keyword == "oneOf" && fitting > 1 {
        found.push(Flag { at: at.to_owned(), why: "fits more than one".into() });
    }
}

fn mapping(
    keyword: &str,
    rule: &Value,
    schema: &Map<String, Value>,
    map: &Map<String, Value>,
    at: &str,
    found: &mut Vec<Flag>,
) {
    let mut flag = |at: String, why: &str| found.push(Flag { at, why: why.to_owned() });
    match keyword {
        "properties" => {
            for (key, inner) in rule.as_object().expect("schemas") {
                if let Some(value) = map.get(key) {
                    judge(inner, value, &below(at, key), found);
                }
            }
        }
        "patternProperties" => {
            for (pattern, inner) in rule.as_object().expect("schemas") {
                for (key, value) in map.iter().filter(|(key, _)| fits(pattern, key)) {
                    judge(inner, value, &below(at, key), found);
                }
            }
        }
        "additionalProperties" => {
            let named = |group: &str, key: &String| {
                schema.get(group).and_then(Value::as_object).is_some_and(|rules| match group {
                    "properties" => rules.contains_key(key),
                    _ => rules.keys().any(|pattern| fits(pattern, key)),
                })
            };
            for (key, value) in map {
                if named("properties", key) || named("patternProperties", key) {
                    continue;
                }
                match rule {
                    Value::Bool(false) => {
                        found.push(Flag { at: below(at, key), why: "an unknown key".into() })
                    }
                    inner => judge(inner, value, &below(at, key), found),
                }
            }
        }
        "required" => {
            for key in texts(rule).filter(|key| !map.contains_key(*key)) {
                flag(below(at, key), "a missing key");
            }
        }
        "dependencies" => {
            for (_, needed) in
                rule.as_object().expect("lists").iter().filter(|(key, _)| map.contains_key(*key))
            {
                for key in texts(needed).filter(|key| !map.contains_key(*key)) {
                    flag(below(at, key), "a missing key");
                }
            }
        }
        "minProperties" if (map.len() as u64) < number(rule) => flag(at.to_owned(), "too few keys"),
        "maxProperties" if map.len() as u64 > number(rule) => flag(at.to_owned(), "too many keys"),
        _ => {}
    }
}

fn list(keyword: &str, rule: &Value, items: &[Value], at: &str, found: &mut Vec<Flag>) {
    let why = match keyword {
        "items" => {
            for (index, item) in items.iter().enumerate() {
                judge(rule, item, &format!("{at}[{index}]"), found);
            }
            return;
        }
        "minItems" if (items.len() as u64) < number(rule) => "too few items",
        "maxItems" if items.len() as u64 > number(rule) => "too many items",
        _ => return,
    };
    found.push(Flag { at: at.to_owned(), why: why.into() });
}

fn scalar(keyword: &str, rule: &Value, value: &Value) -> Option<String> {
    let fits = match keyword {
        "type" => match rule {
            Value::Array(types) => types.iter().any(|kind| is_of(kind, value)),
            kind => is_of(kind, value),
        },
        "enum" => rule.as_array().expect("a list").contains(value),
        "pattern" => value.as_str().is_none_or(|text| self::fits(rule.as_str().expect("a pattern"), text)),
        "minimum" => value.as_f64().is_none_or(|found| found >= rule.as_f64().expect("a number")),
        "maximum" => value.as_f64().is_none_or(|found| found <= rule.as_f64().expect("a number")),
        other => unreachable!("`{other}` is a keyword that this validator does not know"),
    };
    (!fits).then(|| format!("{keyword}: {rule}"))
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().expect("a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => unreachable!("`{other}` is no type"),
    }
}

/// The `regex` crate has no look-ahead; one at the beginning is a second pattern.
pub fn fits(pattern: &str, text: &str) -> bool {
    let (ahead, rest) = match pattern.strip_prefix("^(?=").and_then(|rest| rest.split_once(')')) {
        Some((ahead, rest)) => (format!("^{ahead}"), format!("^{rest}")),
        None => (String::new(), pattern.to_owned()),
    };
    is_match(&ahead, text) && is_match(&rest, text)
}

fn is_match(pattern: &str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|all| {
        let compiled =
            all.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).expect("a pattern"));
        compiled.is_match(text)
    })
}

fn below(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

fn texts(rule: &Value) -> impl Iterator<Item = &str> {
    rule.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text"))
}

fn number(rule: &Value) -> u64 {
    rule.as_u64().expect("a number")
}

#[test]
fn what_does_not_fit_is_found_where_it_stands() {
    use serde_json::json;
    let schema = json!({
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": { "type": "string", "pattern": "^(?=.*[1-9])[0-9]+s$" },
            "b": { "anyOf": [{ "type": "string", "enum": ["x"] }, { "type": "object", "required": ["c"] }] },
            "d": { "type": "array", "items": { "type": "integer", "maximum": 9 }, "maxItems": 2 },
        },
        "additionalProperties": false,
    });
    let at = |value: Value| flags(&schema, &value).into_iter().map(|flag| flag.at).collect::<Vec<_>>();
    assert!(at(json!({ "a": "10s", "b": "x", "d": [1, 9] })).is_empty());
    assert_eq!(at(json!({})), ["a"]);
    assert_eq!(at(json!({ "a": "00s", "e": 1 })), ["a", "e"]);
    assert_eq!(at(json!({ "a": "1s", "b": {} })), ["b.c"]);
    assert_eq!(at(json!({ "a": "1s", "b": "y" })), ["b"]);
    assert_eq!(at(json!({ "a": "1s", "d": [1, 10, "2"] })), ["d[1]", "d[2]", "d"]);
    assert_eq!(at(json!({ "a": null })), ["a"]);
}
