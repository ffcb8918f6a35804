//! A comparison for programs. The shape is stable: members are added, none is renamed or taken away (`docs/diff.md`).

use serde_json::{Value, json};

use super::log::Logged;
use super::requests::{Group, Replay};
use super::verb;
use crate::config::Place;
use crate::plan::diff::{Change, Diff, Entry, Mark, What};

/// The number of the shape.
const VERSION: u32 = 1;

/// One object and a line break.
pub fn render(old: &str, new: &str, diff: &Diff, replay: Option<&Replay>) -> String {
    let mut object = json!({
        "version": VERSION,
        "old": old,
        "new": new,
        "same": diff.is_same(),
        "risks": diff.risks(),
        "breaking": diff.breaking(),
        "needsRestart": diff.restart,
        "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
    });
    if let (Some(replay), Some(object)) = (replay, object.as_object_mut()) {
        object.insert("requests".to_owned(), requests(replay));
    }
    format!("{object:#}\n")
}

fn requests(replay: &Replay) -> Value {
    let group = |group: &Group| {
        let differences = group.differences.iter();
        let differences = differences.map(|d| json!({ "what": d.what, "old": d.old, "new": d.new }));
        let Logged { method, host, target, listener } = &group.example;
        json!({
            "lines": group.lines,
            "distinct": group.distinct,
            "differences": differences.collect::<Vec<_>>(),
            "example": { "method": method, "host": host, "target": target, "listener": listener },
        })
    };
    json!({
        "lines": replay.lines,
        "distinct": replay.distinct,
        "different": replay.different,
        "groups": replay.groups.iter().map(group).collect::<Vec<_>>(),
        "moreGroups": replay.more_groups,
        "unreadable": replay.unreadable,
        "firstUnreadable": replay.first_unreadable,
        "beyond": replay.beyond,
        "limits": replay.limits,
    })
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
