//! For people: one line a case, failures in full, a summary.

use std::fmt::Write as _;
use std::time::Duration;

use crate::config::visible_line;
use crate::policy::told::counted;

use super::{Tried, calls, lines, milliseconds, title};

pub(super) fn render(tried: &[Tried], took: Duration) -> String {
    let mut out = String::new();
    for case in tried {
        let word = if case.failures.is_empty() { "ok  " } else { "FAIL" };
        let _ = writeln!(
            out,
            "{word} {}: {} ({} ms)",
            visible_line(&case.file),
            visible_line(&case.name),
            milliseconds(case.took)
        );
        for failure in &case.failures {
            let _ = writeln!(out, "\n  {}: {}", failure.at, title(failure));
            for line in lines(failure) {
                let _ = writeln!(out, "    {line}");
            }
        }
        let Some(first) = case.failures.first() else { continue };
        for (what, lines) in [("sent upstream", calls(first)), ("answered", first.answer.clone())] {
            if lines.is_empty() {
                continue;
            }
            let _ = writeln!(out, "\n  {what}:");
            for line in lines {
                out.push_str(format!("    {line}").trim_end());
                out.push('\n');
            }
        }
        out.push('\n');
    }
    let failed = tried.iter().filter(|case| !case.failures.is_empty()).count();
    let passed = tried.len() - failed;
    let _ = writeln!(
        out,
        "{}: {passed} passed, {failed} failed ({} ms)",
        counted(tried.len() as u64, "case"),
        milliseconds(took)
    );
    out
}
