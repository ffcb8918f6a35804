//! One mistake at a time, everywhere: each value of the commented file is emptied, given another type, given a key that nobody knows, and
//! left out. `check` and the schema must see the same at the same place.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::ROOT;
use crate::agreement::{OF_SHAPE, check, same_place, shown};
use crate::validator::flags;

/// A way to a value: keys and indices as in a JSON pointer.
type Pointer = String;

fn pointers(value: &Value, at: &str, found: &mut Vec<Pointer>) {
    let below = |step: &str| format!("{at}/{}", step.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                found.push(below(key));
                pointers(inner, &below(key), found);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                found.push(below(&index.to_string()));
                pointers(inner, &below(&index.to_string()), found);
            }
        }
        _ => {}
    }
}

/// Every file with one mistake, and what the mistake is.
fn mutants(whole: &Value) -> Vec<(String, Value)> {
    let mut places = Vec::new();
    pointers(whole, "", &mut places);
    let mut made = Vec::new();
    for at in &places {
        let mut with = |what: &str, value: Value| {
            let mut mutant = whole.clone();
            *mutant.pointer_mut(at).expect("a place") = value;
            made.push((format!("{at} {what}"), mutant));
        };
        let value = whole.pointer(at).expect("a place");
        with("emptied", Value::Null);
        match value {
            Value::Object(map) => {
                with("as text", json!("text"));
                with("as a list", json!([]));
                let mut more: Map<String, Value> = map.clone();
                more.insert("nobodyKnowsThis".into(), json!(1));
                with("with another key", Value::Object(more));
            }
            Value::Array(_) => with("as a mapping", json!({ "a": 1 })),
            Value::String(_) => {
                with("as a number", json!(7));
                with("as a list", json!(["text"]));
                with("as a mapping", json!({ "a": 1 }));
            }
            _ => {
                with("as text", json!("text"));
                with("as a list", json!([1]));
            }
        }
        let (above, key) = at.rsplit_once('/').expect("a step");
        let mut without = whole.clone();
        if let Some(Value::Object(map)) = without.pointer_mut(above) {
            map.shift_remove(&key.replace("~1", "/").replace("~0", "~"));
            made.push((format!("{at} left out"), without));
        }
    }
    made
}

/// A step may leave `send` to its case, and a case to its steps; only `check` looks at both.
const BEYOND_THE_SCHEMA: [&str; 2] = ["/tests/0/send left out", "/tests/1/send left out"];

#[test]
fn one_mistake_anywhere_is_seen_by_both() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("portcullis.yaml");
    let text = std::fs::read_to_string(Path::new(ROOT).join("conf/portcullis.yaml")).expect("the reference");
    let whole: Value = serde_yaml::from_str(&text).expect("YAML");
    let schema = portcullis::plan::schema::file();
    let mutants = mutants(&whole);
    assert!(mutants.len() > 500, "only {} mistakes", mutants.len());
    let mut wrong = Vec::new();
    let mut of_shape = 0;
    for (what, mutant) in mutants.iter().filter(|(what, _)| !BEYOND_THE_SCHEMA.contains(&what.as_str())) {
        std::fs::write(&file, serde_yaml::to_string(mutant).expect("YAML")).expect("written");
        let entries = check(&file);
        let found = flags(&schema, mutant);
        let unseen = entries
            .iter()
            .filter(|entry| OF_SHAPE.contains(&entry.code))
            .find(|entry| !found.iter().any(|flag| same_place(flag, entry)));
        let refused = found.iter().find(|flag| !entries.iter().any(|entry| same_place(flag, entry)));
        of_shape += usize::from(entries.iter().any(|entry| OF_SHAPE.contains(&entry.code)));
        if unseen.is_some() || refused.is_some() {
            let told: Vec<String> =
                entries.iter().map(|e| format!("  {} {}: {}\n", e.code, e.path, e.message)).collect();
            wrong.push(format!("{what}: check says\n{}the schema says\n{}", told.concat(), shown(&found)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), mutants.len(), wrong.join("\n"));
    assert!(of_shape > 400, "only {of_shape} mistakes of shape");
}
