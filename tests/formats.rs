//! `check --format`: JSON and SARIF say what the text for people says, in their own shapes; colour says nothing of its own.
//!
//! All examples of `check/` are read again. The SARIF is held against what the schema of version 2.1.0 (OASIS) requires.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check");
    let entries = std::fs::read_dir(folder).expect("the folder of examples");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files
}

fn check(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["check", "--no-secrets"])
        .args(arguments)
        .env_remove("PORTCULLIS_CONFIG")
        .envs(variables.iter().copied())
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn parsed(format: &str, file: &str) -> (Option<i32>, Value) {
    let (exit, stdout, stderr) = check(&["--format", format, file], &[]);
    assert!(stderr.is_empty(), "{file}: all is on stdout: {stderr}");
    let json = serde_json::from_str(&stdout);
    assert!(json.is_ok(), "{file}: no JSON:\n{stdout}");
    (exit, json.unwrap_or_default())
}

/// The text for people in short: severity, code, message, place.
fn told(text: &str) -> Vec<String> {
    let mut told = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((severity, rest)) = line.split_once("[PC") else { continue };
        let at = lines.next().and_then(|next| next.split_once("--> ")).map_or("", |(_, at)| at);
        told.push(format!("{severity}[PC{rest} @ {at}"));
    }
    told
}

#[test]
fn json_says_what_people_are_told() {
    for file in examples() {
        let file = file.to_str().expect("a name");
        let (exit, _, human) = check(&[file], &[]);
        let (json_exit, json) = parsed("json", file);
        assert_eq!(exit, json_exit, "{file}");
        assert_eq!(json["version"], 1);
        let problems = json["problems"].as_array().expect("a list");
        let text = |problem: &Value, key: &str| problem[key].as_str().expect(key).to_owned();
        let same: Vec<String> = problems
            .iter()
            .map(|p| {
                let place = match p["line"].as_u64() {
                    Some(line) => format!("{}:{line}:{}", text(p, "file"), p["column"]),
                    None => text(p, "file"),
                };
                format!("{}[{}]: {} @ {place}", text(p, "severity"), text(p, "code"), text(p, "message"))
            })
            .collect();
        assert_eq!(told(&human), same, "{file}");
        for problem in problems {
            let start = (problem["line"].as_u64(), problem["column"].as_u64());
            let end = (problem["endLine"].as_u64(), problem["endColumn"].as_u64());
            assert!(start <= end, "{file}: ends before it begins: {problem}");
            for help in problem["help"].as_array().expect("a list") {
                assert!(human.contains(help.as_str().expect("a text")), "{file}: {help}");
            }
        }
        let count = |severity: &str| problems.iter().filter(|p| p["severity"] == severity).count();
        assert_eq!(json["errors"], count("error"), "{file}");
        assert_eq!(json["warnings"], count("warning"), "{file}");
        assert_eq!(json["files"][0]["ok"], exit == Some(0), "{file}");
    }
}

/// What the schema of SARIF 2.1.0 requires of the objects that we write.
fn judge(log: &Value) -> Result<usize, String> {
    let need = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    need(log["version"] == "2.1.0", "sarifLog.version")?;
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    need(driver["name"].is_string(), "toolComponent.name")?;
    let rules = driver["rules"].as_array().ok_or("toolComponent.rules")?;
    for rule in rules {
        let is_text = |key: &str| rule[key]["text"].as_str().is_some_and(|text| !text.is_empty());
        need(rule["id"].is_string() && rule["name"].is_null(), "reportingDescriptor.id")?;
        need(["shortDescription", "fullDescription", "help"].into_iter().all(is_text), "message.text")?;
    }
    need(run["invocations"][0]["executionSuccessful"].is_boolean(), "invocation.executionSuccessful")?;
    need(run["columnKind"] == "unicodeCodePoints", "run.columnKind")?;
    let results = run["results"].as_array().ok_or("run.results")?;
    for result in results {
        need(result["message"]["text"].is_string(), "result.message")?;
        need(matches!(result["level"].as_str(), Some("error" | "warning")), "result.level")?;
        let rule = result["ruleIndex"].as_u64().and_then(|index| rules.get(usize::try_from(index).ok()?));
        need(rule.is_some_and(|rule| rule["id"] == result["ruleId"]), "result.ruleIndex")?;
        let related = result["relatedLocations"].as_array().ok_or("result.relatedLocations")?;
        for (place, location) in
            result["locations"].as_array().into_iter().flatten().chain(related).enumerate()
        {
            let physical = &location["physicalLocation"];
            let uri = physical["artifactLocation"]["uri"].as_str().unwrap_or_default();
            need(!uri.is_empty() && !uri.contains(' '), "artifactLocation.uri")?;
            let number = |key: &str| physical["region"][key].as_u64();
            let is_whole_file = physical["region"].is_null() && place == 0;
            let starts = number("startLine").zip(number("startColumn"));
            let ends = number("endLine").zip(number("endColumn"));
            let fits =
                starts.zip(ends).is_some_and(|(start, end)| start.0 > 0 && start.1 > 0 && start <= end);
            need(is_whole_file || fits, "region")?;
        }
    }
    Ok(results.len())
}

#[test]
fn sarif_has_what_its_schema_requires() {
    let mut seen = 0;
    for file in examples() {
        let file = file.to_str().expect("a name");
        let (_, log) = parsed("sarif", file);
        let (_, json) = parsed("json", file);
        let expected = json["problems"].as_array().map_or(0, Vec::len);
        assert_eq!(judge(&log), Ok(expected), "{file}:\n{log:#}");
        seen += expected;
    }
    assert!(seen > 200, "only {seen} results");
}

#[test]
fn a_file_that_is_not_there_is_a_problem_of_the_document() {
    let (exit, json) = parsed("json", "missing.yaml");
    assert_eq!(exit, Some(2));
    assert_eq!(json["problems"][0]["code"], "PC0101");
    assert!(json["problems"][0]["line"].is_null(), "of the whole file: {json:#}");
    let (exit, log) = parsed("sarif", "missing.yaml");
    assert_eq!((exit, judge(&log)), (Some(2), Ok(1)));
    assert_eq!(log["runs"][0]["invocations"][0]["executionSuccessful"], false);
}

#[test]
fn colour_is_for_terminals_and_says_nothing_of_its_own() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check/bad_units.yaml");
    let file = file.to_str().expect("a name");
    let (_, _, plain) = check(&[file], &[]);
    assert!(!plain.contains('\u{1b}'), "not to a pipe: {plain}");
    let (_, _, styled) = check(&[file], &[("CLICOLOR_FORCE", "1")]);
    assert!(styled.contains("\u{1b}["), "as if to a terminal: {styled}");
    let mut rest = styled.as_str();
    let mut stripped = String::new();
    while let Some((before, style)) = rest.split_once('\u{1b}') {
        stripped.push_str(before);
        rest = style.split_once('m').expect("a whole sequence").1;
    }
    assert_eq!(stripped + rest, plain, "colours alone differ");
    let (_, _, refused) = check(&[file], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
    assert_eq!(refused, plain, "`NO_COLOR` wins");
}
