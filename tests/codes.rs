//! The help of every code: its examples are judged by the binary, and `docs/codes.md` is made of it.
//!
//! An example is a part of a configuration: the blocks that it does not show are taken from a small one that is fine.

mod golden;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use portcullis::config::codes::{self, Code};

/// Blocks of a configuration without a mistake, by their key.
const BASE: &[(&str, &str)] = &[
    ("version", "version: 1\n"),
    ("listeners", "listeners: [{ name: public, address: \"127.0.0.1:8080\" }]\n"),
    ("upstreams", "upstreams:\n  vendor: { url: \"https://api.vendor.example\" }\n"),
    (
        "routes",
        "routes:\n  - { name: weather, match: { path: { prefix: /api/weather } }, upstream: vendor }\n",
    ),
];
const SECRETS: &str = "secrets: { vendor-key: { env: VENDOR_KEY } }\n";
/// Codes of files that no example of YAML can show. `config::document` has their tests.
const COMMANDS: &[&str] = &[codes::UNREADABLE, codes::NOT_TEXT];
/// Codes that no configuration of this version can have: their wrong example is refused for another reason.
const NOT_YET: &[&str] = &[codes::SECRET_NOT_GRANTED];
/// Begins the name of a further file in an example.
const FILE: &str = "# routes.d/";

/// The example with every block that it lacks.
fn whole(example: &str) -> String {
    let has = |key: &str| example.lines().any(|line| line.starts_with(&format!("{key}:")));
    let mut text: String = BASE.iter().filter(|(key, _)| !has(key)).map(|(_, block)| *block).collect();
    if example.contains("vendor-key") && !has("secrets") {
        text.push_str(SECRETS);
    }
    text.push_str(example);
    text
}

/// The exit code of `check` and the codes that it found.
fn check(folder: &Path, example: &str, flags: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let routes = folder.join("routes.d");
    let _ = std::fs::remove_dir_all(&routes);
    std::fs::create_dir(&routes).expect("made");
    // A whole file of a team: the main one grants it everything.
    let granted;
    let example = if example.starts_with("team:") {
        granted = format!(
            "owners: {{ checkout: {{ prefixes: [/], upstreams: [vendor] }} }}\n{FILE}team.yaml\n{example}"
        );
        granted.as_str()
    } else {
        example
    };
    let mut files = example.split(FILE);
    let mut main = files.next().unwrap_or_default().to_owned();
    for file in files {
        let (name, text) = file.split_once('\n').expect("a name and a text");
        std::fs::write(routes.join(name), text).expect("written");
        if !main.contains("include:") {
            main.push_str("include: [routes.d/*.yaml]\n");
        }
    }
    std::fs::write(folder.join("example.yaml"), whole(&main)).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("check")
        .args(flags)
        .arg("example.yaml")
        .current_dir(folder)
        .env_remove("NOT_SET")
        .env("VENDOR_KEY", "0123456789")
        .env("VENDOR_PIN", "1234")
        .output()
        .expect("the binary runs");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let titles = text.lines().filter(|line| line.starts_with("error[") || line.starts_with("warning["));
    let mut found: Vec<String> =
        titles.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect();
    found.dedup();
    (output.status.code(), found, text)
}

#[test]
fn each_wrong_example_has_its_mistake_and_each_right_one_has_none() {
    let folder = tempfile::tempdir().expect("a folder");
    for code in codes::ALL.iter().filter(|code| !COMMANDS.contains(&code.code)) {
        // What secrets hold can only be wrong where they are read.
        let reads = [codes::SECRET_MISSING, codes::SECRET_INVALID].contains(&code.code);
        let flags: &[&str] = if reads { &[] } else { &["--no-secrets"] };
        let (_, found, text) = check(folder.path(), &code.wrong(), flags);
        let is_shown = !NOT_YET.contains(&code.code);
        assert_eq!(found == [code.code], is_shown, "the wrong example of {}:\n{text}", code.code);
        let (exit, found, text) = check(folder.path(), &code.right(), &["--no-secrets", "--strict"]);
        assert!(exit == Some(0) && found.is_empty(), "the right example of {}:\n{text}", code.code);
    }
}

#[test]
fn examples_of_files_are_commands() {
    for code in codes::ALL {
        let is_command = code.wrong().starts_with("$ ") && code.right().starts_with("$ ");
        assert_eq!(is_command, COMMANDS.contains(&code.code), "{}", code.code);
    }
}

#[test]
fn every_code_is_listed() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_portcullis")).args(["check", "--codes"]).output().expect("runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text.lines().count(), codes::ALL.len());
    assert!(text.contains("PC0304  an address or URL that cannot be used\n"), "{text}");
}

#[test]
fn a_code_is_explained_in_any_case_and_only_if_there_is_one() {
    let explain = |code: &str| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_portcullis")).args(["explain", code]).output().expect("runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
    };
    let (exit, text) = explain("pc0304");
    assert_eq!(exit, Some(0));
    assert!(text.starts_with("PC0304: an address or URL that cannot be used\n\nAn address"), "{text}");
    assert!(text.contains("\nWrong:\n") && text.contains("\nRight:\n"), "{text}");
    assert_eq!(explain("PC9999"), (Some(2), String::new()));
}

fn document() -> String {
    let mut text = String::from(
        "# Codes of configuration problems\n\nGenerated from `src/config/codes/`; `portcullis explain PC0304` says the same. \
         Examples are parts of a file.\n",
    );
    for Code { code, meaning, help } in codes::ALL {
        let _ = write!(text, "\n## {code}: {meaning}\n\n");
        for line in help.lines() {
            text.push_str(line);
            text.push('\n');
            if matches!(line, "Wrong:" | "Right:") {
                text.push('\n');
            }
        }
    }
    text
}

#[test]
fn the_document_of_codes_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/codes.md");
    assert!(
        golden::holds(&path, &document()),
        "docs/codes.md is stale: BLESS=1 cargo nextest run the_document_of_codes"
    );
}
