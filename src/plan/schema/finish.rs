//! The last strokes on a generated schema: what makes it pleasant in an editor.
//!
//! - no `null`: a key that is there has a value, so an empty one is underlined;
//! - words of a choice as one `enum` with a description each, instead of one schema each;
//! - doc comments as running text, with the default as their last sentence, and the same as Markdown for hovering;
//! - no formats of Rust's numbers and no empty defaults, which tell nobody anything;
//! - what it is first, what it is made of last.

use serde_json::{Map, Value};

/// Does all of it, at every depth.
pub fn finish(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    without_null(object);
    one_enum(object);
    plain(object);
    describe(object);
    for (key, inner) in object.iter_mut() {
        match key.as_str() {
            "properties" | "patternProperties" => {
                inner.as_object_mut().into_iter().flatten().for_each(|(_, schema)| finish(schema));
            }
            "items" | "additionalProperties" => finish(inner),
            "anyOf" | "oneOf" => inner.as_array_mut().into_iter().flatten().for_each(finish),
            _ => {}
        }
    }
    choices_after_key(object);
    in_order(object);
}

/// An editor shows the text of the choice that fits instead of the key's, so a choice that says something says the key's first.
fn choices_after_key(object: &mut Map<String, Value>) {
    let Some(Value::String(key)) = object.get("description").cloned() else { return };
    for choice in object.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten() {
        for text in ["description", "markdownDescription"] {
            if let Some(Value::String(own)) = choice.get_mut(text) {
                *own = format!("{key}\n\n{own}");
            }
        }
    }
}

/// Keywords that come first, in this order, and those that come last; the rest stays between them as it was.
const FIRST: [&str; 6] = ["$schema", "title", "description", "markdownDescription", "type", "default"];
const LAST: [&str; 9] = [
    "required",
    "minItems",
    "maxItems",
    "anyOf",
    "oneOf",
    "properties",
    "patternProperties",
    "additionalProperties",
    "items",
];

fn in_order(object: &mut Map<String, Value>) {
    let mut rest = std::mem::take(object);
    let mut last = Map::new();
    for key in FIRST {
        object.extend(rest.shift_remove_entry(key));
    }
    for key in LAST {
        last.extend(rest.shift_remove_entry(key));
    }
    object.extend(rest);
    object.extend(last);
}

/// `Option<T>` is a key that may be absent, not one that may be empty.
fn without_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(words)) = object.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    for key in ["anyOf", "oneOf"] {
        let Some(Value::Array(choices)) = object.get_mut(key) else { continue };
        let all = choices.len();
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(only)] = choices.as_mut_slice()
            && all > 1
        {
            let only = std::mem::take(only);
            object.shift_remove(key);
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
}

/// `oneOf: [{ const: a, description: … }, …]` as `enum: [a, …]` with the descriptions beside it.
fn one_enum(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get("oneOf") else { return };
    let words: Option<Vec<(Value, Value)>> = choices
        .iter()
        .map(|choice| {
            let says = choice.get("description").and_then(Value::as_str).map(running)?;
            Some((choice.get("const")?.clone(), Value::String(says)))
        })
        .collect();
    let Some((words, says)) = words.map(|words| words.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()) else {
        return;
    };
    object.shift_remove("oneOf");
    object.insert("type".into(), "string".into());
    object.insert("enum".into(), Value::Array(words));
    object.insert("markdownEnumDescriptions".into(), Value::Array(says.clone()));
    object.insert("enumDescriptions".into(), Value::Array(says));
}

fn plain(object: &mut Map<String, Value>) {
    let is_number = object.get("type").is_some_and(|kind| kind == "integer" || kind == "number");
    if is_number {
        object.shift_remove("format");
    }
    if object.contains_key("enum") {
        object.shift_remove("minimum");
        object.shift_remove("maximum");
    }
    let is_empty = object.get("default").is_some_and(|default| match default {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Null => true,
        _ => false,
    });
    if is_empty {
        object.shift_remove("default");
    }
}

/// What an editor shows: the doc comment, and the default where it is one value.
fn describe(object: &mut Map<String, Value>) {
    let Some(Value::String(written)) = object.get("description") else { return };
    let mut text = running(written);
    if let Some(default) = object.get("default") {
        let shown = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        text.push_str(&format!(" Default: `{shown}`."));
    }
    object.insert("description".into(), text.clone().into());
    object.insert("markdownDescription".into(), text.into());
}

/// Lines joined; an empty line parts paragraphs.
fn running(text: &str) -> String {
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|paragraph| paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" "))
        .collect();
    paragraphs.join("\n\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn finished(mut schema: Value) -> Value {
        finish(&mut schema);
        schema
    }

    #[test]
    fn an_optional_key_takes_no_null() {
        assert_eq!(finished(json!({ "type": ["string", "null"] })), json!({ "type": "string" }));
        assert_eq!(
            finished(json!({ "anyOf": [{ "enum": ["a"] }, { "type": "null" }], "description": "x" })),
            json!({ "enum": ["a"], "description": "x", "markdownDescription": "x" })
        );
        assert_eq!(finished(json!({ "enum": ["a", null] })), json!({ "enum": ["a"] }));
    }

    #[test]
    fn words_with_descriptions_are_one_enum() {
        let one =
            |word: &str| json!({ "const": word, "type": "string", "description": format!("is\n{word}") });
        let found = finished(json!({ "oneOf": [one("a"), one("b")] }));
        assert_eq!(found["enum"], json!(["a", "b"]));
        assert_eq!(found["enumDescriptions"], json!(["is a", "is b"]));
        let kept = json!({ "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] });
        assert_eq!(finished(kept.clone()), kept, "another choice stays");
    }

    #[test]
    fn the_default_is_the_last_sentence() {
        let found = finished(json!({ "description": "How\nlong.\n\nMore.", "default": "10s" }));
        assert_eq!(found["description"], "How long.\n\nMore. Default: `10s`.");
        assert_eq!(found["description"], found["markdownDescription"]);
        assert!(finished(json!({ "default": [] })).get("default").is_none(), "an empty list says nothing");
    }

    #[test]
    fn a_choice_says_what_its_key_is_for_before_its_own() {
        let found = finished(
            json!({ "description": "A.", "anyOf": [{ "type": "string", "description": "B." }, { "enum": [1] }] }),
        );
        assert_eq!(found["anyOf"][0]["markdownDescription"], "A.\n\nB.");
        assert!(found["anyOf"][1].get("description").is_none());
    }

    #[test]
    fn values_of_examples_are_left_alone() {
        let kept = json!({ "examples": [{ "type": ["a", "null"], "default": [] }] });
        assert_eq!(finished(kept.clone()), kept);
    }
}
