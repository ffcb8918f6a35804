//! JUnit XML, as build servers read it: a suite per file, a case per case. Small enough to be written by hand.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Tried, calls, lines, title};

pub(super) fn render(tried: &[Tried], took: Duration) -> String {
    let failed = |cases: &[Tried]| cases.iter().filter(|case| !case.failures.is_empty()).count();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"portcullis\" tests=\"{}\" failures=\"{}\" time=\"{}\">",
        tried.len(),
        failed(tried),
        seconds(took)
    );
    for cases in tried.chunk_by(|one, other| one.file == other.file) {
        let Some(first) = cases.first() else { continue };
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" time=\"{}\">",
            escaped(&first.file),
            cases.len(),
            failed(cases),
            seconds(cases.iter().map(|case| case.took).sum())
        );
        cases.iter().for_each(|case| test_case(case, &mut out));
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn test_case(case: &Tried, out: &mut String) {
    let _ = write!(
        out,
        "    <testcase name=\"{}\" classname=\"{}\" file=\"{}\" line=\"{}\" time=\"{}\"",
        escaped(&case.name),
        escaped(&case.file),
        escaped(&case.at.file),
        case.at.line,
        seconds(case.took)
    );
    let Some(first) = case.failures.first() else {
        out.push_str("/>\n");
        return;
    };
    out.push_str(">\n");
    // One element: readers of this format show the first only.
    let mut text = String::new();
    for failure in &case.failures {
        let _ = writeln!(text, "{}: {}", failure.at, title(failure));
        lines(failure).iter().for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
    }
    let _ = writeln!(
        out,
        "      <failure message=\"{}\" type=\"expectation\">{}</failure>",
        escaped(&format!("{}: {}", first.at, title(first))),
        escaped(&text)
    );
    let calls = calls(first);
    if !calls.is_empty() {
        let _ =
            writeln!(out, "      <system-out>sent upstream:\n{}</system-out>", escaped(&calls.join("\n")));
    }
    out.push_str("    </testcase>\n");
}

fn seconds(took: Duration) -> String {
    format!("{:.3}", took.as_secs_f64())
}

/// A text as XML 1.0 can hold it: markup escaped, and what no XML may hold (§2.2) replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' => out.push(c),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(char::REPLACEMENT_CHARACTER),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_break_the_document() {
        assert_eq!(
            escaped("<secret:a> & \"b\" ]]>\u{1b}[0m"),
            "&lt;secret:a&gt; &amp; &quot;b&quot; ]]&gt;\u{fffd}[0m"
        );
    }
}
