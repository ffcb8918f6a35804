//! A comparison for people: part by part, setting by setting, old before new, each with its line.

use std::fmt::Write as _;

use super::log::MAX_DISTINCT;
use super::requests::{Group, Replay};
use super::{counted, side_of, summary, verb};
use crate::config::Place;
use crate::plan::diff::{Change, Diff, Entry, Mark, PartKind, What};

/// The longest value that is shown whole, in characters.
const MAX_VALUE: usize = 160;

/// The text for stdout.
pub fn render(diff: &Diff, replay: Option<&Replay>) -> String {
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
    if let Some(replay) = replay {
        requests(&mut out, replay);
    }
    let _ = writeln!(out, "{}", summary(diff));
    out
}

fn requests(out: &mut String, replay: &Replay) {
    let Replay { lines, distinct, different, .. } = replay;
    let _ = writeln!(
        out,
        "requests: {different} of {} would be answered otherwise ({distinct} distinct)",
        lines_of(*lines)
    );
    for group in &replay.groups {
        let Group { lines, distinct, example, .. } = group;
        let host = if example.host.is_empty() { "" } else { &example.host };
        let _ = writeln!(
            out,
            "  {} ({distinct} distinct), such as `{} {host}{}`",
            lines_of(*lines),
            example.method,
            short(&example.target)
        );
        for difference in &group.differences {
            let _ = match (&difference.old, &difference.new) {
                (Some(old), Some(new)) => {
                    writeln!(out, "    {}: {} -> {}", difference.what, short(old), short(new))
                }
                _ => writeln!(out, "    {}", difference.what),
            };
        }
    }
    if replay.more_groups > 0 {
        let _ = writeln!(
            out,
            "  and {} more; `--limit` lists more",
            counted(replay.more_groups, "group", "groups")
        );
    }
    if replay.unreadable > 0 {
        let first = replay.first_unreadable.map(|n| format!(", the first is line {n}")).unwrap_or_default();
        let _ =
            writeln!(out, "  not compared: {}, not readable as requests{first}", lines_of(replay.unreadable));
    }
    if replay.beyond > 0 {
        let _ = writeln!(
            out,
            "  not compared: {} after the first {MAX_DISTINCT} distinct requests",
            lines_of(replay.beyond)
        );
    }
    for limit in &replay.limits {
        let _ = writeln!(out, "  note: {limit}");
    }
    out.push('\n');
}

fn lines_of(count: u64) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), "line", "lines")
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
