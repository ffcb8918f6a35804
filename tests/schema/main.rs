//! The JSON Schema: it is committed as it is generated, it is fit to be shown, and it agrees with `check`.

mod agreement;
#[path = "../golden/mod.rs"]
mod golden;
mod mutation;
mod reference;
mod validator;

use std::path::{Path, PathBuf};

use portcullis::plan::schema;
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Every YAML file below a folder.
fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What `portcullis` prints for these arguments.
fn printed(arguments: &[&str]) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .output()
        .expect("the binary runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_committed_schemas_are_those_that_are_printed() {
    let all = [
        ("portcullis", &["schema"][..]),
        ("team", &["schema", "--team-file"]),
        ("test", &["schema", "--test-file"]),
    ];
    for (name, arguments) in all {
        let file = Path::new(ROOT).join(format!("conf/{name}.schema.json"));
        let is_in_step = golden::holds(&file, &printed(arguments));
        assert!(is_in_step, "{} is stale: BLESS=1 cargo test --test schema writes it", file.display());
    }
}

/// Every property at any depth: its dotted name and its schema.
fn properties<'s>(schema: &'s Value, at: &str, found: &mut Vec<(String, &'s Value)>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        found.push((at.clone(), inner));
        properties(inner, &at, found);
    }
    for (_, inner) in schema["patternProperties"].as_object().into_iter().flatten() {
        properties(inner, &format!("{at}.*"), found);
    }
    if schema["items"].is_object() {
        properties(&schema["items"], &format!("{at}[]"), found);
    }
    for choice in schema["anyOf"].as_array().into_iter().flatten().filter(|choice| choice["type"].is_string())
    {
        properties(choice, at, found);
    }
}

#[test]
fn every_key_says_what_it_is_for() {
    let mut found = Vec::new();
    let (file, team_file) = (schema::file(), schema::team_file());
    properties(&file, "", &mut found);
    properties(&team_file, "", &mut found);
    assert!(found.len() > 100, "only {} keys", found.len());
    let mut wrong = Vec::new();
    for (at, schema) in &found {
        let says = schema["description"].as_str().unwrap_or_default();
        if says.is_empty() {
            wrong.push(format!("{at}: nothing is said of it"));
        }
        if !says.ends_with(['.', ':']) || !says.starts_with(|c: char| c.is_uppercase() || c == '`') {
            wrong.push(format!("{at}: no sentence: {says}"));
        }
        if says.contains("[`") || says.contains("crate::") {
            wrong.push(format!("{at}: speaks of the program, not of the file: {says}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for key in
        ["routes[].response.json.remove", "routes[].request.body.max", "upstreams.*.credential.apiKey.in"]
    {
        assert!(found.iter().any(|(at, _)| at == key), "`{key}` is missing");
    }
}

#[test]
fn what_is_only_planned_is_not_offered() {
    let schema = schema::file();
    let route = &schema["properties"]["routes"]["items"]["properties"];
    assert!(route["cache"].is_object() && route["wasm"].is_null() && route["when"].is_null());
    assert!(!schema.to_string().contains("null"), "an optional key takes no `null`");
}
