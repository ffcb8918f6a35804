//! A comparison for people: part by part, setting by setting, old before new, each with its line.

use std::fmt::Write as _;

use super::{side_of, summary, verb};
use crate::config::Place;
use crate::plan::diff::{Change, Diff, Entry, Mark, PartKind, What};

/// The longest value that is shown whole, in characters.
const MAX_VALUE: usize = 160;

/// The text for stdout.
pub fn render(diff: &Diff) -> String {
    let mut out = String::new();
    for change in &diff.changes {
        head(&mut out, change);
        marks(&mut out, "  ", &change.marks);
        for entry in &change.entries {
            line(&mut out, change, entry);
            marks(&mut out, "    ", &entry.marks);
        }
        out.push('\n');
    }
    if !diff.restart.is_empty() {
        let _ = writeln!(out, "needs a restart to take effect: `{}`", diff.restart.join("`, `"));
    }
    let _ = writeln!(out, "{}", summary(diff));
    out
}

fn head(out: &mut String, change: &Change) {
    let part = change.part.as_str();
    let name = if change.name.is_empty() { String::new() } else { format!(" `{}`", change.name) };
    let from = match &change.what {
        What::Renamed { from } => format!(", it was `{from}`"),
        _ => String::new(),
    };
    let at = match change.part {
        PartKind::Gateway => String::new(),
        _ => places(change.old.as_ref(), change.new.as_ref()),
    };
    let _ = writeln!(out, "{part}{name} {}{from}{at}", verb(&change.what));
    if !change.touches.is_empty() {
        let shown: Vec<&str> = change.touches.iter().take(MAX_TOUCHES).map(String::as_str).collect();
        let more = change.touches.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = if change.part == PartKind::Secret { "sent by the upstream" } else { "reaches the route" };
        let plural = if change.touches.len() == 1 { "" } else { "s" };
        let _ = writeln!(out, "  {what}{plural} `{}`{more}", shown.join("`, `"));
    }
}

/// Routes that are named with an upstream.
const MAX_TOUCHES: usize = 12;

fn line(out: &mut String, change: &Change, entry: &Entry) {
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "not set".to_owned(), short);
    let at = places(entry.old_at.as_ref(), entry.new_at.as_ref());
    let _ = match change.what {
        What::Added => writeln!(out, "  {}: {}{at}", entry.key, value(&entry.new)),
        _ => writeln!(out, "  {}: {} -> {}{at}", entry.key, value(&entry.old), value(&entry.new)),
    };
}

fn short(value: &str) -> String {
    if value.chars().count() <= MAX_VALUE {
        return value.to_owned();
    }
    let kept: String = value.chars().take(MAX_VALUE).collect();
    format!("{kept}…")
}

fn places(old: Option<&Place>, new: Option<&Place>) -> String {
    match (old, new) {
        (Some(old), Some(new)) => format!("   ({old} -> {new})"),
        (Some(only), None) | (None, Some(only)) => format!("   ({only})"),
        (None, None) => String::new(),
    }
}

fn marks(out: &mut String, indent: &str, marks: &[Mark]) {
    for mark in marks {
        let _ = writeln!(out, "{indent}{} {}: {}", side_of(mark), mark.kind.id(), mark.why);
    }
}
