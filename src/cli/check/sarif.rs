//! Problems as SARIF 2.1.0 (OASIS), which code hosts show beside the changed lines.
//!
//! No `fixes`: a mistake tells what is wrong, seldom for sure what was meant.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Checked;
use crate::config::codes::{self, Code};
use crate::config::{Entry, Severity};

pub(super) fn document(checked: &[Checked]) -> Value {
    let entries: Vec<Entry> = checked.iter().flat_map(|one| one.report.summary()).collect();
    let rules: Vec<&Code> =
        codes::ALL.iter().filter(|code| entries.iter().any(|entry| entry.code == code.code)).collect();
    let usable = checked.iter().all(|one| one.exit != super::EXIT_USAGE);
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "portcullis",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|code| rule(code)).collect::<Vec<_>>(),
            } },
            "invocations": [{ "executionSuccessful": usable }],
            // Columns are characters.
            "columnKind": "unicodeCodePoints",
            "results": entries.iter().map(|entry| result(entry, &rules)).collect::<Vec<_>>(),
        }],
    })
}

fn rule(code: &Code) -> Value {
    let explanation: Vec<&str> =
        code.help.lines().take_while(|line| *line != "Wrong:").filter(|line| !line.is_empty()).collect();
    json!({
        "id": code.code,
        "shortDescription": { "text": code.meaning },
        "fullDescription": { "text": explanation.join(" ") },
        "help": { "text": code.help, "markdown": code.help.replace("Wrong:\n", "Wrong:\n\n").replace("Right:\n", "Right:\n\n") },
    })
}

fn result(entry: &Entry, rules: &[&Code]) -> Value {
    let mut message = entry.message.clone();
    for help in &entry.help {
        let _ = write!(message, "\nhelp: {help}");
    }
    let mut physical = json!({ "artifactLocation": { "uri": uri(&entry.file) } });
    if entry.line > 0 {
        let start = (entry.line, entry.column);
        physical["region"] = region(start, (entry.end_line, entry.end_column));
    }
    let mut location = json!({ "physicalLocation": physical });
    if !entry.path.is_empty() {
        location["logicalLocations"] = json!([{ "fullyQualifiedName": entry.path }]);
    }
    let related: Vec<Value> = entry
        .related
        .iter()
        .enumerate()
        .map(|(place, other)| {
            json!({
                "id": place + 1,
                "physicalLocation": {
                    "artifactLocation": { "uri": uri(&other.file) },
                    "region": region((other.line, other.column), (other.end_line, other.end_column)),
                },
                "message": { "text": other.label },
            })
        })
        .collect();
    json!({
        "ruleId": entry.code,
        "ruleIndex": rules.iter().position(|code| code.code == entry.code),
        "level": match entry.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "message": { "text": message },
        "locations": [location],
        "relatedLocations": related,
    })
}

/// Where nothing is written, a region ends where it begins.
fn region(start: (usize, usize), end: (usize, usize)) -> Value {
    json!({ "startLine": start.0, "startColumn": start.1, "endLine": end.0, "endColumn": end.1 })
}

/// A path as a URI reference (RFC 3986): relative ones stay so, what is none of its characters is encoded.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("conf/a b.yaml"), "conf/a%20b.yaml");
        assert_eq!(uri("/etc/é.yaml"), "file:///etc/%C3%A9.yaml");
    }
}
