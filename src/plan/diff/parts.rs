//! A document taken apart: listeners, secrets, upstreams, routes, each with its settings in their normal form.

use std::collections::BTreeMap;

use serde_yaml::Value as Yaml;

use super::rows::{self, Row};
use super::value::{Form, Value, plain};
use crate::config::{Document, Place, Problems, Section};
use crate::policy::UpstreamKind;

/// What a part is. The order is that of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartKind {
    /// What stands at the top and is none of the others.
    Gateway,
    /// `admin`.
    Admin,
    /// One of `listeners`.
    Listener,
    /// One of `secrets`.
    Secret,
    /// One of `upstreams`.
    Upstream,
    /// One of `routes`.
    Route,
}

impl PartKind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Admin => "admin",
            Self::Listener => "listener",
            Self::Secret => "secret",
            Self::Upstream => "upstream",
            Self::Route => "route",
        }
    }

    /// What is known of its settings.
    #[must_use]
    pub fn rows(self) -> &'static [Row] {
        match self {
            Self::Gateway => rows::GATEWAY,
            Self::Admin => rows::ADMIN,
            Self::Listener => rows::LISTENER,
            Self::Secret => rows::SECRET,
            Self::Upstream => rows::UPSTREAM,
            Self::Route => rows::ROUTE,
        }
    }
}

/// One setting that is written.
#[derive(Clone)]
pub struct Leaf {
    /// Its key below the part, in steps.
    pub steps: Vec<String>,
    /// What it says.
    pub value: Value,
    /// How that is shown, where it differs: a secret is compared by its source and shown by its name.
    pub shown: Option<String>,
    /// Where it stands.
    pub section: Section,
    /// What is known of it.
    pub row: Option<&'static Row>,
}

impl Leaf {
    /// Its key below the part, dotted.
    #[must_use]
    pub fn key(&self) -> String {
        self.steps.join(".")
    }

    /// The value for people; what may be a secret is not shown.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.shown {
            // Names of secrets that are declared: not the secrets.
            Some(shown) => shown.clone(),
            None if !self.section.may_be_shown() => HIDDEN.to_owned(),
            None => self.value.to_string(),
        }
    }
}

const HIDDEN: &str = "•••";

/// One part of a document.
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// Its name; empty for what there is only one of.
    pub name: String,
    /// Where it is written.
    pub section: Section,
    /// What is written in it, by key.
    pub leaves: BTreeMap<String, Leaf>,
    /// For an upstream its own, for a route its upstream's; without one as for an `api`, the stricter.
    pub upstream_kind: UpstreamKind,
}

impl Part {
    /// Whether a key is written.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.leaves.contains_key(key)
    }

    /// What a key says, written or by default.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Value> {
        match self.leaves.get(key) {
            Some(leaf) => Some(leaf.value.clone()),
            None => self.without(key),
        }
    }

    /// What would hold if a key were not written.
    #[must_use]
    pub fn without(&self, key: &str) -> Option<Value> {
        let steps: Vec<&str> = key.split('.').collect();
        rows::find(self.kind.rows(), &steps).and_then(|row| (row.default)(self, &steps))
    }

    /// The members of a list, written or by default.
    #[must_use]
    pub fn members(&self, key: &str) -> std::collections::BTreeSet<String> {
        self.value(key).map(|value| value.members()).unwrap_or_default()
    }

    /// The names under a key: `rateLimit` has `burst` and `sustained`.
    pub fn names<'p>(&'p self, key: &'p str) -> impl Iterator<Item = &'p str> {
        self.leaves.values().filter_map(move |leaf| {
            let depth = key.split('.').count();
            let is_below =
                leaf.steps.len() == depth + 1 && leaf.steps.iter().zip(key.split('.')).all(|(a, b)| a == b);
            (is_below && leaf.value == Value::On).then(|| leaf.steps.last().map(String::as_str)).flatten()
        })
    }

    /// Where it is written.
    #[must_use]
    pub fn place(&self) -> Place {
        self.section.place()
    }

    /// The same part with nothing written in it: to see what one that is new changes.
    #[must_use]
    pub fn blank(&self) -> Self {
        let keep = |key: &str| key == "upstream" || key == "kind" || key.starts_with("match");
        let leaves = self.leaves.iter().filter(|(key, _)| keep(key));
        Self {
            kind: self.kind,
            name: self.name.clone(),
            section: self.section.clone(),
            leaves: leaves.map(|(key, leaf)| (key.clone(), leaf.clone())).collect(),
            upstream_kind: self.upstream_kind,
        }
    }

    /// Whether both say the same, whatever they are called.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let keys = self.leaves.keys().chain(other.leaves.keys());
        keys.into_iter().all(|key| self.value(key) == other.value(key))
    }
}

/// All parts of a document, by kind and name.
pub struct Parts(pub BTreeMap<PartKind, BTreeMap<String, Part>>);

impl Parts {
    /// Takes a document apart that compiles.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        let root = document.root();
        let mut reader = Reader { secrets: BTreeMap::new(), parts: BTreeMap::new() };
        for (name, section) in entries(root.get("secrets")) {
            let source = section.value().as_mapping().into_iter().flatten();
            let source = source.filter(|(key, _)| matches!(key.as_str(), Some("env" | "file")));
            let source: Vec<String> =
                source.map(|(key, value)| format!("{} {}", plain(key), plain(value))).collect();
            reader.secrets.insert(name.clone(), source.join(" "));
            reader.part(PartKind::Secret, name, section, UpstreamKind::Api);
        }
        reader.gateway(&root);
        if let Some(section) = root.get("admin") {
            reader.part(PartKind::Admin, String::new(), section, UpstreamKind::Api);
        }
        for section in items(root.get("listeners")) {
            reader.part(PartKind::Listener, text(&section, "name"), section, UpstreamKind::Api);
        }
        let mut kinds: BTreeMap<String, UpstreamKind> = BTreeMap::new();
        for (name, section) in entries(root.get("upstreams")) {
            let kind = match text(&section, "kind").as_str() {
                "app" => UpstreamKind::App,
                _ => UpstreamKind::Api,
            };
            kinds.insert(name.clone(), kind);
            reader.part(PartKind::Upstream, name, section, kind);
        }
        for file in std::iter::once(root).chain(document.included()) {
            // A team's file: the name of the team and a slash stand before the names of its routes.
            let team = file.get("team").map(|team| plain(team.value()) + "/").unwrap_or_default();
            for section in items(file.get("routes")) {
                let kind = kinds.get(&text(&section, "upstream")).copied().unwrap_or(UpstreamKind::Api);
                reader.part(PartKind::Route, team.clone() + &text(&section, "name"), section, kind);
            }
        }
        Self(reader.parts)
    }

    /// Those of one kind.
    pub fn all(&self, kind: PartKind) -> impl Iterator<Item = &Part> {
        self.0.get(&kind).into_iter().flat_map(BTreeMap::values)
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, kind: PartKind, name: &str) -> Option<&Part> {
        self.0.get(&kind)?.get(name)
    }
}

fn entries(section: Option<Section>) -> Vec<(String, Section)> {
    // The document compiles: there is nothing to record.
    section.map(|section| section.entries(&mut Problems::new())).unwrap_or_default()
}

fn items(section: Option<Section>) -> Vec<Section> {
    section.map(|section| section.items(&mut Problems::new())).unwrap_or_default()
}

fn text(section: &Section, key: &str) -> String {
    section.get(key).map(|at| plain(at.value())).unwrap_or_default()
}

struct Reader {
    /// Where each secret comes from.
    secrets: BTreeMap<String, String>,
    parts: BTreeMap<PartKind, BTreeMap<String, Part>>,
}

/// Settings of the top that are parts of their own, which files belong together, or what is tried and changes nothing.
const PARTS: [&str; 7] = ["admin", "listeners", "secrets", "upstreams", "routes", "include", "tests"];

impl Reader {
    fn part(&mut self, kind: PartKind, name: String, section: Section, upstream_kind: UpstreamKind) {
        let mut leaves = BTreeMap::new();
        self.walk(kind.rows(), &section, &mut Vec::new(), &mut leaves);
        let part = Part { kind, name: name.clone(), section, leaves, upstream_kind };
        self.parts.entry(kind).or_default().insert(name, part);
    }

    fn gateway(&mut self, root: &Section) {
        let mut leaves = BTreeMap::new();
        for (key, section) in entries(Some(root.clone())) {
            if !PARTS.contains(&key.as_str()) {
                self.walk(rows::GATEWAY, &section, &mut vec![key], &mut leaves);
            }
        }
        let part = Part {
            kind: PartKind::Gateway,
            name: String::new(),
            section: root.clone(),
            leaves,
            upstream_kind: UpstreamKind::Api,
        };
        self.parts.entry(PartKind::Gateway).or_default().insert(String::new(), part);
    }

    /// Adds what is written at `section`, whose key is `steps`.
    fn walk(
        &self,
        rows: &'static [Row],
        section: &Section,
        steps: &mut Vec<String>,
        leaves: &mut BTreeMap<String, Leaf>,
    ) {
        let names: Vec<&str> = steps.iter().map(String::as_str).collect();
        let row = rows::find(rows, &names);
        match row.map(|row| row.form) {
            Some(Form::Skip) => {}
            Some(Form::Named) => self.named(rows, section, steps, leaves),
            Some(Form::Block) => {
                add(steps, Value::On, None, section, row, leaves);
                self.below(rows, section, steps, &[], leaves);
            }
            Some(Form::Credential) => {
                let (value, shown) = self.credential(section.value());
                add(steps, Value::Text(value), shown, section, row, leaves);
            }
            Some(Form::Secret) => {
                let name = plain(section.value());
                let source = self.source(&name);
                add(steps, Value::Text(source), Some(name), section, row, leaves);
            }
            Some(Form::Endpoints) => {
                // One key for both: an upstream has one of them, and they may say the same.
                add(
                    &["url".to_owned()],
                    Value::read(Form::Endpoints, section.value()),
                    None,
                    section,
                    row,
                    leaves,
                );
            }
            Some(form) => add(steps, Value::read(form, section.value()), None, section, row, leaves),
            None if section.value().as_mapping().is_some_and(|m| !m.is_empty()) => {
                self.below(rows, section, steps, &[], leaves);
            }
            None => add(steps, Value::read(Form::Any, section.value()), None, section, None, leaves),
        }
    }

    fn below(
        &self,
        rows: &'static [Row],
        section: &Section,
        steps: &mut Vec<String>,
        without: &[&str],
        leaves: &mut BTreeMap<String, Leaf>,
    ) {
        if !section.value().is_mapping() {
            return;
        }
        let folds = steps.iter().any(|step| step == "headers");
        for (key, section) in entries(Some(section.clone())) {
            if without.contains(&key.as_str()) {
                continue;
            }
            steps.push(if folds { key.to_ascii_lowercase() } else { key });
            self.walk(rows, &section, steps, leaves);
            steps.pop();
        }
    }

    /// One block or a list of them, each by its name; without one by the name that the gateway gives it.
    fn named(
        &self,
        rows: &'static [Row],
        section: &Section,
        steps: &mut Vec<String>,
        leaves: &mut BTreeMap<String, Leaf>,
    ) {
        let list = match section.value() {
            Yaml::Sequence(_) => items(Some(section.clone())),
            _ => vec![section.clone()],
        };
        let alone = list.len() == 1;
        let folds = steps.last().is_some_and(|step| step == "headers");
        for (index, item) in list.iter().enumerate() {
            let name = match item.get("name") {
                Some(name) if folds => plain(name.value()).to_ascii_lowercase(),
                Some(name) => plain(name.value()),
                None if alone => "default".to_owned(),
                None => format!("limit-{}", index + 1),
            };
            steps.push(name);
            add(steps, Value::On, None, item, None, leaves);
            self.below(rows, item, steps, &["name"], leaves);
            steps.pop();
        }
    }

    fn source(&self, name: &str) -> String {
        self.secrets.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// The credential by its form and where its secret comes from, and the same with the secret's name.
    fn credential(&self, yaml: &Yaml) -> (String, Option<String>) {
        let part = |form: &str, key: &str| yaml.get(form).and_then(|form| form.get(key)).map(plain);
        if let Some(name) = yaml.get("bearer").map(plain) {
            return (format!("bearer {}", self.source(&name)), Some(format!("bearer {name}")));
        }
        if let (Some(place), Some(field), Some(name)) =
            (part("apiKey", "in"), part("apiKey", "name"), part("apiKey", "secret"))
        {
            let field = if place == "header" { field.to_ascii_lowercase() } else { field };
            return (
                format!("apiKey {place} {field} {}", self.source(&name)),
                Some(format!("apiKey {name} in {place} {field}")),
            );
        }
        if let (Some(user), Some(name)) = (part("basic", "username"), part("basic", "password")) {
            return (
                format!("basic {user} {}", self.source(&name)),
                Some(format!("basic {user} with {name}")),
            );
        }
        (plain(yaml), None)
    }
}

fn add(
    steps: &[String],
    value: Value,
    shown: Option<String>,
    section: &Section,
    row: Option<&'static Row>,
    leaves: &mut BTreeMap<String, Leaf>,
) {
    let leaf = Leaf { steps: steps.to_vec(), value, shown, section: section.clone(), row };
    leaves.insert(steps.join("."), leaf);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Parts {
        Parts::of(&crate::config::parse("x", text.to_owned()).expect("a document"))
    }

    #[test]
    fn every_key_of_the_reference_has_a_row() {
        let parts = parts(include_str!("../../../conf/portcullis.yaml"));
        let mut seen = 0;
        for part in parts.0.values().flat_map(BTreeMap::values) {
            for leaf in part.leaves.values() {
                let is_name_of_a_block = leaf.value == Value::On && leaf.section.get("name").is_some();
                assert!(leaf.row.is_some() || is_name_of_a_block, "{}: {}", part.kind.as_str(), leaf.key());
                seen += 1;
            }
        }
        assert!(seen > 80, "the reference has every key: {seen}");
    }

    #[test]
    fn a_default_is_what_holds_without_the_key() {
        let parts = parts(
            "listeners: [{ name: a, address: '1.2.3.4:5' }]\nupstreams: { w: { kind: app, url: 'http://w' } }\n\
             routes: [{ name: r, upstream: w, rateLimit: { requests: 7, window: 1m } }]",
        );
        let route = parts.get(PartKind::Route, "r").expect("the route");
        assert_eq!(route.value("rateLimit.default.burst"), Some(Value::Number(7)));
        assert_eq!(route.value("request.body.max"), Some(Value::Size(16 << 20)), "of an app");
        assert_eq!(route.value("response.errors"), Some(Value::Text("pass".into())), "of an app");
        assert_eq!(route.value("rewrite.replacePrefixMatch"), Some(Value::Text("/".into())));
        assert_eq!(route.value("cache.ttl"), None);
        let listener = parts.get(PartKind::Listener, "a").expect("the listener");
        assert_eq!(listener.value("http2"), Some(Value::Flag(false)), "without TLS");
    }
}
