//! Test Anything Protocol, version 14: a line a case, details of a failure as a YAML block.

use std::fmt::Write as _;

use super::{Tried, calls, lines, milliseconds, title};

pub(super) fn render(tried: &[Tried]) -> String {
    let mut out = String::from("TAP version 14\n");
    let _ = writeln!(out, "1..{}", tried.len());
    for (index, case) in tried.iter().enumerate() {
        let not = if case.failures.is_empty() { "" } else { "not " };
        let _ =
            writeln!(out, "{not}ok {} - {}", index + 1, escaped(&format!("{}: {}", case.file, case.name)));
        out.push_str("  ---\n");
        let _ = writeln!(out, "  duration_ms: {}", milliseconds(case.took));
        if !case.failures.is_empty() {
            out.push_str("  failures:\n");
        }
        for failure in &case.failures {
            let _ = writeln!(out, "    - at: {}", text(&failure.at.to_string()));
            let _ = writeln!(out, "      what: {}", text(&title(failure)));
            let _ = writeln!(out, "      message: {}", text(&lines(failure).join("\n")));
        }
        if let Some(first) = case.failures.first() {
            let _ = writeln!(out, "  sentUpstream: {}", text(&calls(first).join("\n")));
        }
        out.push_str("  ...\n");
    }
    out
}

/// `#` begins a directive, and a backslash escapes it.
fn escaped(name: &str) -> String {
    let one_line = name.replace(['\n', '\r'], " ");
    one_line.replace('\\', "\\\\").replace('#', "\\#")
}

/// A text as a JSON string, which is one of YAML too.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_become_a_directive() {
        assert_eq!(escaped("a # TODO \\ b\nok 2"), "a \\# TODO \\\\ b ok 2");
    }
}
