//! Two configurations compared by what they mean: order, comments, anchors, units and defaults make no difference.
//!
//! ```text
//! document -> parts (listener, secret, upstream, route, ...) -> settings in normal form, by key
//!    old ─┐
//!         ├─ by name, renamed ones by what they say -> entries -> marks: what loosens, what may break a client
//!    new ─┘
//! both routers <- made-up requests of every route: which of them another route answers
//! ```
//!
//! Nothing here reads a secret: documents hold references only, and plans for a comparison are compiled without values.

mod cover;
mod fixed;
mod judge;
pub mod parts;
pub mod risk;
mod rows;
mod traffic;
mod value;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Document, Place};
use crate::plan::Plan;

pub use fixed::Fixed;
pub use parts::PartKind;
pub use risk::{Kind, Mark};
pub use traffic::Move;

use judge::Both;
use parts::{Leaf, Part, Parts};
use value::Value;

/// One side of a comparison: a document and the plan that was compiled from it.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// What is written.
    pub document: &'a Document,
    /// What runs.
    pub plan: &'a Plan,
}

/// Everything that differs.
#[derive(Debug, Default)]
pub struct Diff {
    /// By part.
    pub changes: Vec<Change>,
    /// Keys of the top that a running process takes at its next start only.
    pub restart: Vec<&'static str>,
}

/// What happened to a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It had another name; what it says may differ too.
    Renamed {
        /// The old name.
        from: String,
    },
    /// It says something else.
    Changed,
}

/// What differs in one part.
#[derive(Debug)]
pub struct Change {
    /// What the part is.
    pub part: PartKind,
    /// Its name, the new one; empty for what there is only one of.
    pub name: String,
    /// What happened to it.
    pub what: What,
    /// Where it was.
    pub old: Option<Place>,
    /// Where it is.
    pub new: Option<Place>,
    /// Routes that lead to it, of an upstream; upstreams that send it, of a secret.
    pub touches: Vec<String>,
    /// What differs, setting by setting.
    pub entries: Vec<Entry>,
    /// What the change means as a whole.
    pub marks: Vec<Mark>,
}

/// One setting that differs.
#[derive(Debug)]
pub struct Entry {
    /// The key below the part, in the words of the YAML.
    pub key: String,
    /// What it said; `None`: nothing, and nothing holds by default.
    pub old: Option<String>,
    /// What it says.
    pub new: Option<String>,
    /// Where it was written; `None`: it was not.
    pub old_at: Option<Place>,
    /// Where it is written.
    pub new_at: Option<Place>,
    /// What the change means.
    pub marks: Vec<Mark>,
}

impl Diff {
    /// Whether both mean the same.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.changes.is_empty()
    }

    /// Every mark.
    pub fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.changes.iter().flat_map(Change::all_marks)
    }

    /// How many risks there are.
    #[must_use]
    pub fn risks(&self) -> usize {
        self.marks().filter(|mark| mark.kind.is_risk()).count()
    }

    /// How many changes may break a client.
    #[must_use]
    pub fn breaking(&self) -> usize {
        self.marks().filter(|mark| !mark.kind.is_risk()).count()
    }
}

impl Change {
    /// Its marks and those of its entries.
    pub fn all_marks(&self) -> impl Iterator<Item = &Mark> {
        self.marks.iter().chain(self.entries.iter().flat_map(|entry| &entry.marks))
    }
}

/// Compares.
#[must_use]
pub fn compare(old: Side<'_>, new: Side<'_>) -> Diff {
    let (old_parts, new_parts) = (Parts::of(old.document), Parts::of(new.document));
    let both = Both { old: &old_parts, new: &new_parts };
    let mut changes = Vec::new();
    let mut renamed_routes = BTreeMap::new();
    let empty = BTreeMap::new();
    for kind in PARTS {
        let (was, is) = (old_parts.0.get(&kind).unwrap_or(&empty), new_parts.0.get(&kind).unwrap_or(&empty));
        let renamed = renamed(kind, was, is);
        for (name, part) in is {
            let from = renamed.get(name);
            let before = was.get(from.unwrap_or(name));
            changes.extend(change(both, before, part, from));
        }
        let gone = was
            .iter()
            .filter(|(name, _)| !is.contains_key(*name) && !renamed.values().any(|from| from == *name));
        changes.extend(gone.map(|(_, part)| removed(part)));
        if kind == PartKind::Route {
            renamed_routes = renamed.into_iter().map(|(to, from)| (from, to)).collect();
        }
    }
    let moves = traffic::moves((old.plan, both.old), (new.plan, both.new), &renamed_routes);
    mark_moves(&moves, &mut changes);
    for change in &mut changes {
        change.touches = touches(both, change);
    }
    let restart = needs_restart(&changes);
    Diff { changes, restart }
}

/// In the order of the output.
const PARTS: [PartKind; 6] = [
    PartKind::Gateway,
    PartKind::Admin,
    PartKind::Listener,
    PartKind::Secret,
    PartKind::Upstream,
    PartKind::Route,
];

/// From new names to old ones: of routes that match the same, of other parts that say the same.
fn renamed(
    kind: PartKind,
    old: &BTreeMap<String, Part>,
    new: &BTreeMap<String, Part>,
) -> BTreeMap<String, String> {
    let identity = |part: &Part| -> String {
        let relevant =
            part.leaves.iter().filter(|(key, _)| kind != PartKind::Route || key.starts_with("match."));
        let written: Vec<String> = relevant
            .filter(|(key, leaf)| part.without(key) != Some(leaf.value.clone()))
            .map(|(key, leaf)| format!("{key}={}", leaf.value))
            .collect();
        written.join("\n")
    };
    let mut gone: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for (name, part) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        gone.entry(identity(part)).or_default().push(name);
    }
    let mut pairs = BTreeMap::new();
    for (name, part) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        if let Some(from) = gone.get_mut(&identity(part)).and_then(Vec::pop) {
            pairs.insert(name.clone(), from.clone());
        }
    }
    pairs
}

fn change(both: Both<'_>, before: Option<&Part>, part: &Part, from: Option<&String>) -> Option<Change> {
    let blank = part.blank();
    let was = before.unwrap_or(&blank);
    let mut marks = Vec::new();
    let mut entries = entries(was, part);
    for (key, mark) in judge::part(both, was, part) {
        match entries.iter_mut().find(|entry| is_at_or_below(&entry.key, &key)) {
            Some(entry) => entry.marks.push(mark),
            None => marks.push(mark),
        }
    }
    if before.is_none() {
        entries = written(part, entries);
        // What is new breaks nobody.
        let counts = |mark: &Mark| mark.kind.is_risk() && mark.kind != Kind::TlsTrustChanged;
        marks.retain(counts);
        entries.iter_mut().for_each(|entry| entry.marks.retain(counts));
        // A secret that nobody had before is no other one; a way in is one.
        if part.kind == PartKind::Secret {
            marks.clear();
        }
        if part.kind == PartKind::Listener {
            marks.push(Mark::plain(Kind::ListenerAdded));
        }
    } else if from.is_none() && entries.is_empty() {
        return None;
    }
    if let Some(from) = from
        && part.kind == PartKind::Route
        && team(from) != team(&part.name)
    {
        let whose =
            |name: &str| team(name).map_or("the main file's".to_owned(), |team| format!("team `{team}`'s"));
        let why = format!("the route was {} and is now {}", whose(from), whose(&part.name));
        marks.push(Mark::new(Kind::TeamTakeover, why));
    }
    let what = match (before, from) {
        (None, _) => What::Added,
        (_, Some(from)) => What::Renamed { from: from.clone() },
        _ => What::Changed,
    };
    fold(&mut entries);
    Some(Change {
        part: part.kind,
        name: part.name.clone(),
        what,
        old: before.map(Part::place),
        new: Some(part.place()),
        touches: Vec::new(),
        entries,
        marks,
    })
}

fn removed(part: &Part) -> Change {
    let marks = match part.kind {
        PartKind::Listener => vec![Mark::plain(Kind::ListenerRemoved)],
        _ => Vec::new(),
    };
    Change {
        part: part.kind,
        name: part.name.clone(),
        what: What::Removed,
        old: Some(part.place()),
        new: None,
        touches: Vec::new(),
        entries: Vec::new(),
        marks,
    }
}

/// Every setting whose meaning differs, in the order of the keys.
fn entries(old: &Part, new: &Part) -> Vec<Entry> {
    // By steps: what stands in a block follows it.
    let keys: BTreeMap<&[String], &String> =
        old.leaves.iter().chain(&new.leaves).map(|(key, leaf)| (leaf.steps.as_slice(), key)).collect();
    let mut list = Vec::new();
    for key in keys.into_values() {
        let (was, is) = (old.value(key), new.value(key));
        let (was_written, is_written) = (old.leaves.get(key), new.leaves.get(key));
        // A secret's source is compared, its name is shown: another source is told with the secret.
        let is_same_secret =
            was_written.zip(is_written).is_some_and(|(a, b)| a.shown.is_some() && a.shown == b.shown);
        if was == is || is_same_secret {
            continue;
        }
        let row = is_written.or(was_written).and_then(|leaf| leaf.row);
        let marks = row.map(|row| judge::setting(row.judge, was.as_ref(), is.as_ref())).unwrap_or_default();
        list.push(Entry {
            key: key.clone(),
            old: shown(key, was_written, was.as_ref()),
            new: shown(key, is_written, is.as_ref()),
            old_at: was_written.map(|leaf| leaf.section.place()),
            new_at: is_written.map(|leaf| leaf.section.place()),
            marks,
        });
    }
    list
}

/// All that a new part says, with the marks of what differs from a part that says nothing.
fn written(part: &Part, differing: Vec<Entry>) -> Vec<Entry> {
    let mut marks: BTreeMap<String, Vec<Mark>> =
        differing.into_iter().map(|entry| (entry.key, entry.marks)).collect();
    let mut leaves: Vec<(&String, &Leaf)> = part.leaves.iter().collect();
    leaves.sort_by(|(_, a), (_, b)| a.steps.cmp(&b.steps));
    let entry = |(key, leaf): (&String, &Leaf)| Entry {
        key: key.clone(),
        old: None,
        new: Some(leaf.text()),
        old_at: None,
        new_at: Some(leaf.section.place()),
        marks: marks.remove(key).unwrap_or_default(),
    };
    leaves.into_iter().map(entry).collect()
}

fn shown(key: &str, written: Option<&Leaf>, value: Option<&Value>) -> Option<String> {
    match (written, value) {
        (Some(leaf), _) => Some(leaf.text()),
        (None, Some(Value::Set(set))) if set.is_empty() => {
            Some(if key.starts_with("match.") { "any (default)" } else { "none (default)" }.to_owned())
        }
        (None, Some(value)) => Some(format!("{value} (default)")),
        (None, None) => None,
    }
}

/// A block that came or went is one entry with its settings in braces.
fn fold(entries: &mut Vec<Entry>) {
    let on = Value::On.to_string();
    let is_block = |entry: &Entry| {
        entry.old.as_ref() != entry.new.as_ref()
            && (entry.old.is_none() || entry.new.is_none())
            && entry.old.as_ref().or(entry.new.as_ref()) == Some(&on)
    };
    let mut folded: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        match folded.last_mut() {
            Some(block) if is_below(&entry.key, &block.key) && block.old.is_none() != block.new.is_none() => {
                let side = if block.old.is_some() {
                    (&mut block.old, &entry.old)
                } else {
                    (&mut block.new, &entry.new)
                };
                if let ((Some(text), Some(value)), true) =
                    ((side.0.as_mut(), side.1), entry.old_at.is_some() || entry.new_at.is_some())
                {
                    let name = entry.key.get(block.key.len() + 1..).unwrap_or(&entry.key);
                    add_member(text, name, value);
                }
                block.marks.extend(entry.marks);
            }
            _ => {
                let mut entry = entry;
                if is_block(&entry) {
                    // A condition without a value asks only that the field is there.
                    let empty = if entry.key.starts_with("match.") { ANY_VALUE } else { "{}" };
                    for side in [&mut entry.old, &mut entry.new].into_iter().flatten() {
                        empty.clone_into(side);
                    }
                }
                folded.push(entry);
            }
        }
    }
    *entries = folded;
}

const ANY_VALUE: &str = "any value";

fn add_member(text: &mut String, name: &str, value: &str) {
    let inner = text.trim_start_matches("{ ").trim_end_matches(" }").to_owned();
    *text = if text == "{}" || text == ANY_VALUE {
        format!("{{ {name}: {value} }}")
    } else {
        format!("{{ {inner}, {name}: {value} }}")
    };
}

fn is_below(key: &str, block: &str) -> bool {
    key.strip_prefix(block).is_some_and(|rest| rest.starts_with('.'))
}

fn is_at_or_below(key: &str, block: &str) -> bool {
    key == block || is_below(key, block)
}

/// The team of a route: what stands before the slash of its name.
fn team(route: &str) -> Option<&str> {
    route.split_once('/').map(|(team, _)| team)
}

fn mark_moves(moves: &[Move], changes: &mut [Change]) {
    for one in moves {
        let place = |changes: &[Change], name: &str| {
            changes.iter().position(|change| change.part == PartKind::Route && change.name == name)
        };
        let from_at = place(changes, &one.from);
        let is_gone =
            from_at.and_then(|at| changes.get(at)).is_some_and(|change| change.what == What::Removed);
        let to_at = one.to.as_deref().and_then(|to| place(changes, to)).or(from_at);
        let other_team = one.to.as_deref().is_some_and(|to| team(to) != team(&one.from));
        let to = one.to.as_deref().map_or_else(|| "404 or 405".to_owned(), |to| format!("by `{to}`"));
        let (from, example) = (&one.from, &one.example);
        let mut marks = Vec::new();
        if is_gone {
            let why = format!("`{example}` is now answered {to}");
            marks.push((from_at, Mark::new(Kind::RouteRemoved, why)));
        } else if one.to.is_some() {
            let why = format!("`{example}`, which `{from}` answered, is now answered {to}");
            marks.push((to_at, Mark::new(Kind::TrafficMoved, why)));
        }
        if other_team {
            let why = format!("`{example}` of `{from}` is now answered {to}");
            marks.push((to_at, Mark::new(Kind::TeamTakeover, why)));
        }
        for (at, mark) in marks {
            if let Some(change) = at.and_then(|at| changes.get_mut(at)) {
                change.marks.push(mark);
            }
        }
    }
    for change in changes.iter_mut().filter(|c| c.part == PartKind::Route && c.what == What::Removed) {
        if !change.marks.iter().any(|mark| mark.kind == Kind::RouteRemoved) {
            change.marks.push(Mark::plain(Kind::RouteRemoved));
        }
    }
}

/// Which routes a change of an upstream reaches, and which upstreams one of a secret.
fn touches(both: Both<'_>, change: &Change) -> Vec<String> {
    let side = if change.what == What::Removed { both.old } else { both.new };
    let named = |part: &Part, key: &str| part.leaves.get(key).is_some_and(|leaf| leaf.text() == change.name);
    let sends = |part: &Part| {
        part.leaves
            .get("credential")
            .and_then(|leaf| leaf.shown.as_deref())
            .is_some_and(|shown| shown.split(' ').any(|word| word == change.name))
    };
    let names: Vec<String> = match change.part {
        PartKind::Upstream => side
            .all(PartKind::Route)
            .filter(|route| named(route, "upstream"))
            .map(|route| route.name.clone())
            .collect(),
        PartKind::Secret => {
            side.all(PartKind::Upstream).filter(|up| sends(up)).map(|up| up.name.clone()).collect()
        }
        _ => Vec::new(),
    };
    names
}

/// Keys of [`Fixed`], from what changed: two documents may lie in different folders, so plans cannot be compared.
fn needs_restart(changes: &[Change]) -> Vec<&'static str> {
    let mut keys = BTreeSet::new();
    for change in changes {
        let has = |key: &str| change.entries.iter().any(|entry| is_at_or_below(&entry.key, key));
        match change.part {
            PartKind::Listener => {
                keys.insert("listeners");
            }
            PartKind::Admin if change.what != What::Changed || has("address") => {
                keys.insert("admin.address");
            }
            PartKind::Gateway => {
                keys.extend(has("cache").then_some("cache"));
                keys.extend(has("rateLimits").then_some("rateLimits"));
                keys.extend(has("accessLog").then_some("accessLog"));
            }
            _ => {}
        }
    }
    keys.into_iter().collect()
}
