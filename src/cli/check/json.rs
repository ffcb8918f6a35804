//! Problems as one JSON document. `docs/diagnostics.md` describes it; what is there keeps its name and meaning, more may come.

use serde_json::{Value, json};

use super::{Checked, Size};
use crate::config::{Entry, Region};

/// Grows when the meaning of a member changes.
const VERSION: u32 = 1;

pub(super) fn document(checked: &[Checked]) -> Value {
    let problems: Vec<Value> =
        checked.iter().flat_map(|one| one.report.summary()).map(|entry| problem(&entry)).collect();
    json!({
        "version": VERSION,
        "errors": checked.iter().map(|one| one.report.errors()).sum::<usize>(),
        "warnings": checked.iter().map(|one| one.report.warnings()).sum::<usize>(),
        "files": checked.iter().map(file).collect::<Vec<_>>(),
        "problems": problems,
    })
}

fn file(checked: &Checked) -> Value {
    let (routes, upstreams, cases) = match checked.size {
        Some(Size::Configuration { routes, upstreams }) => (Some(routes), Some(upstreams), None),
        Some(Size::Cases(cases)) => (None, None, Some(cases)),
        None => (None, None, None),
    };
    json!({
        "file": checked.file,
        "ok": checked.exit == super::EXIT_OK,
        "errors": checked.report.errors(),
        "warnings": checked.report.warnings(),
        "routes": routes,
        "upstreams": upstreams,
        "cases": cases,
    })
}

fn problem(entry: &Entry) -> Value {
    // Of the file itself there is no place in it.
    let place = |number: usize| (entry.line > 0).then_some(number);
    json!({
        "file": entry.file,
        "line": place(entry.line),
        "column": place(entry.column),
        "endLine": place(entry.end_line),
        "endColumn": place(entry.end_column),
        "severity": entry.severity.as_str(),
        "code": entry.code,
        "path": entry.path,
        "message": entry.message,
        "help": entry.help,
        "related": entry.related.iter().map(related).collect::<Vec<_>>(),
    })
}

fn related(region: &Region) -> Value {
    json!({
        "file": region.file,
        "line": region.line,
        "column": region.column,
        "endLine": region.end_line,
        "endColumn": region.end_column,
        "label": region.label,
    })
}
