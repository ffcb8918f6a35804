//! A comparison for programs. The shape is stable: members are added, none is renamed or taken away (`docs/diff.md`).

use serde_json::{Value, json};

use super::verb;
use crate::config::Place;
use crate::plan::diff::{Change, Diff, Entry, Mark, What};

/// The number of the shape.
const VERSION: u32 = 1;

/// One object and a line break.
pub fn render(old: &str, new: &str, diff: &Diff) -> String {
    let object = json!({
        "version": VERSION,
        "old": old,
        "new": new,
        "same": diff.is_same(),
        "risks": diff.risks(),
        "breaking": diff.breaking(),
        "needsRestart": diff.restart,
        "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

fn change(change: &Change) -> Value {
    let from = match &change.what {
        What::Renamed { from } => Some(from),
        _ => None,
    };
    json!({
        "part": change.part.as_str(),
        "name": change.name,
        "change": verb(&change.what),
        "oldName": from,
        "old": change.old.as_ref().map(place),
        "new": change.new.as_ref().map(place),
        "reaches": change.touches,
        "marks": change.marks.iter().map(mark).collect::<Vec<_>>(),
        "entries": change.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn entry(entry: &Entry) -> Value {
    json!({
        "key": entry.key,
        "old": entry.old,
        "new": entry.new,
        "oldAt": entry.old_at.as_ref().map(place),
        "newAt": entry.new_at.as_ref().map(place),
        "marks": entry.marks.iter().map(mark).collect::<Vec<_>>(),
    })
}

fn place(place: &Place) -> Value {
    json!({ "file": &*place.file, "line": place.line, "column": place.column })
}

fn mark(mark: &Mark) -> Value {
    json!({
        "kind": if mark.kind.is_risk() { "risk" } else { "breaking" },
        "id": mark.kind.id(),
        "why": mark.why,
    })
}
