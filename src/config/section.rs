//! A part of the document with its path: what the rooms above read their settings from.
//!
//! A section is cheap to clone. Every reading takes the collection of problems and records a mistake at its place; `None`
//! means that something was recorded.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_yaml::Value;

use super::codes;
use super::decode::{self, Input, Mistake, What};
use super::document::Files;
use super::keys::keys_of;
use super::path::{Path, Place, Seg};
use super::problem::Problems;
use super::words;

/// A value of the document and where it stands.
#[derive(Clone)]
pub struct Section {
    document: Arc<Files>,
    path: Path,
}

impl fmt::Debug for Section {
    /// The path only: the value may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Section({})", self.path)
    }
}

impl Section {
    pub(super) fn new(document: Arc<Files>, path: Path) -> Self {
        Self { document, path }
    }

    /// Where it stands.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file and line of its key, or of the value where there is no key. Looked up when asked for.
    #[must_use]
    pub fn place(&self) -> Place {
        self.document.place(&self.path)
    }

    /// The value as decoded, merge keys applied. May hold a secret: for decoding, not for showing.
    #[must_use]
    pub fn value(&self) -> &Value {
        self.document.value(&self.path).unwrap_or(&Value::Null)
    }

    /// Whether nothing in the value looks like a secret, so that it may be shown to people.
    #[must_use]
    pub fn may_be_shown(&self) -> bool {
        self.document.may_be_shown(&self.path)
    }

    /// Decodes the whole section into `T`. All mistakes that can be told apart are recorded, not only the first: unknown
    /// keys at the key with a suggestion, wrong values at the value. A `serde` error made by `T` itself
    /// (`Error::custom`) may carry a hint on a second line.
    pub fn decode<T: DeserializeOwned>(&self, problems: &mut Problems) -> Option<T> {
        let root = self.value();
        let mut skipped: Vec<&Value> = Vec::new();
        let mut reported: Vec<Path> = Vec::new();
        let mut meant: HashSet<(Path, String)> = HashSet::new();
        loop {
            let mistake = match T::deserialize(Input { value: root, skipped: &skipped }) {
                Ok(value) => return skipped.is_empty().then_some(value),
                Err(mistake) => mistake,
            };
            let place = self.path_of(&mistake);
            if is_independent(&mistake.what, &place, &reported, &meant) {
                self.record(&mistake, &place, problems);
            }
            // What was reported is read as absent, so that the next mistake can be seen. What cannot do without it is
            // left out as well, in silence.
            let wrong = match &mistake.what {
                What::UnknownKey { key, known } => {
                    if let Some(near) = words::meant(key, known.iter().copied()) {
                        meant.insert((place.clone(), near.to_owned()));
                    }
                    place.key(key)
                }
                _ => place,
            };
            if wrong == self.path || skipped.len() >= MOST_MISTAKES {
                return None;
            }
            match self.document.value(&wrong) {
                Some(value) if !skipped.iter().any(|other| std::ptr::eq(*other, value)) => {
                    skipped.push(value)
                }
                _ => return None,
            }
            reported.push(wrong);
        }
    }

    /// The value of `key`, if it is there.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Self> {
        let Value::Mapping(mapping) = self.value() else { return None };
        mapping.contains_key(key).then(|| self.child(self.path.key(key)))
    }

    /// The place of a mistake at `key`: its value, or this section where it is not there.
    #[must_use]
    pub fn at(&self, key: &str) -> Self {
        self.get(key).unwrap_or_else(|| self.clone())
    }

    /// The place of a mistake in an item of a list, or this section where there is no such item.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        match self.value() {
            Value::Sequence(items) if index < items.len() => self.child(self.path.index(index)),
            _ => self.clone(),
        }
    }

    /// The value of `key`, which must be there.
    pub fn require(&self, key: &str, problems: &mut Problems) -> Option<Self> {
        self.require_or(key, None, problems)
    }

    /// The value of `key`, which must be there; `help` says more where it is not.
    pub fn require_or(&self, key: &str, help: Option<&str>, problems: &mut Problems) -> Option<Self> {
        if !self.value().is_mapping() {
            self.wrong_type("a map", problems);
            return None;
        }
        let found = self.get(key);
        // A key that `check_keys` took for a misspelling of this one was reported already.
        if found.is_none() && !problems.is_meant(&self.path, key) {
            let problem = problems.error(codes::MISSING_KEY, &self.path, words::missing_key(key)).on_key();
            help.map(|help| problem.help(help));
        }
        found
    }

    /// The entries of a mapping in the order of the file. Anything but a mapping, and keys that are no text, are errors.
    pub fn entries(&self, problems: &mut Problems) -> Vec<(String, Self)> {
        let Value::Mapping(mapping) = self.value() else {
            self.wrong_type("a map", problems);
            return Vec::new();
        };
        let mut entries = Vec::with_capacity(mapping.len());
        for key in mapping.keys() {
            match key {
                Value::String(key) => entries.push((key.clone(), self.child(self.path.key(key)))),
                other => self.key_that_is_no_text(other, problems),
            }
        }
        entries
    }

    /// The items of a list. Anything else is an error.
    pub fn items(&self, problems: &mut Problems) -> Vec<Self> {
        let Value::Sequence(items) = self.value() else {
            self.wrong_type("a sequence", problems);
            return Vec::new();
        };
        (0..items.len()).map(|index| self.child(self.path.index(index))).collect()
    }

    /// Refuses keys that `T` does not have, those that are only `planned`, and those without a value. The keys are those that
    /// `serde` decodes `T` from. What follows a line break in an entry of `planned` says what there is instead.
    pub fn check_keys<T: DeserializeOwned>(&self, planned: &[&str], problems: &mut Problems) {
        self.check_keys_in(keys_of::<T>(), planned, problems);
    }

    /// The same with a list of keys, for a mapping whose keys no single type has.
    pub fn check_keys_in(&self, known: &[&str], planned: &[&str], problems: &mut Problems) {
        self.check_keys_but(known, planned, &[], problems);
    }

    /// The same, but says nothing of the keys that belong `elsewhere`: the caller knows where.
    pub fn check_keys_but(
        &self,
        known: &[&str],
        planned: &[&str],
        elsewhere: &[&str],
        problems: &mut Problems,
    ) {
        let Value::Mapping(mapping) = self.value() else {
            return self.wrong_type("a map", problems);
        };
        for (key, value) in mapping {
            let Value::String(key) = key else {
                self.key_that_is_no_text(key, problems);
                continue;
            };
            let at = self.path.key(key);
            if elsewhere.contains(&key.as_str()) {
                continue;
            }
            let planned = planned.iter().map(|entry| entry.split_once('\n').unwrap_or((entry, "")));
            if let Some((_, instead)) = planned.into_iter().find(|(name, _)| name == key) {
                let message = format!("`{key}` is known, but not supported by this version");
                let help = if instead.is_empty() { "remove it: it would do nothing" } else { instead };
                problems.error(codes::NOT_SUPPORTED, &at, message).on_key().help(help);
            } else if !known.contains(&key.as_str()) {
                let help = words::choose_key(key, known.iter().copied());
                if let Some(near) = words::meant(key, known.iter().copied()) {
                    problems.note_meant(&self.path, near);
                }
                let problem = problems.error(codes::UNKNOWN_KEY, &at, words::unknown_key(key)).on_key();
                help.map(|help| problem.help(help));
            } else if value.is_null() {
                problems.error(codes::NULL_VALUE, &at, words::NULL).help(words::NULL_HELP);
            }
        }
    }

    fn child(&self, path: Path) -> Self {
        Self { document: self.document.clone(), path }
    }

    fn wrong_type(&self, expected: &str, problems: &mut Problems) {
        let found = match self.value() {
            Value::Null => None,
            Value::Bool(_) => Some(decode::Found::Bool),
            Value::Number(_) => Some(decode::Found::Number),
            Value::String(_) => Some(decode::Found::Text),
            Value::Sequence(_) => Some(decode::Found::List),
            Value::Mapping(_) => Some(decode::Found::Mapping),
            Value::Tagged(_) => Some(decode::Found::Other),
        };
        let what = found.map_or(What::Null, |found| What::WrongType { found, expected: expected.to_owned() });
        self.record(&Mistake { steps: Vec::new(), on_key: false, what }, &self.path, problems);
    }

    fn key_that_is_no_text(&self, key: &Value, problems: &mut Problems) {
        let at = Path {
            file: self.path.file,
            steps: self.path.segments().iter().cloned().chain([decode::step(key)]).collect(),
        };
        problems.error(codes::WRONG_TYPE, &at, "a key must be a string").on_key().help("quote it");
    }

    fn path_of(&self, mistake: &Mistake) -> Path {
        Path {
            file: self.path.file,
            steps: self.path.segments().iter().chain(mistake.steps.iter().rev()).cloned().collect(),
        }
    }

    fn record(&self, mistake: &Mistake, place: &Path, problems: &mut Problems) {
        let raw = self.document.shown_scalar(place);
        let words = words::of(&mistake.what, raw);
        let (at, on_key) = match &mistake.what {
            What::UnknownKey { key, .. } => (place.key(key), true),
            What::MissingKey(_) => (place.clone(), true),
            _ => (place.clone(), mistake.on_key),
        };
        let problem = problems.error(words.code, &at, words.message);
        if on_key {
            problem.on_key();
        }
        words.help.map(|help| problem.help(help));
    }
}

/// Whether a mistake found while earlier ones were left out is one of its own, and not caused by leaving them out.
fn is_independent(what: &What, place: &Path, reported: &[Path], meant: &HashSet<(Path, String)>) -> bool {
    match what {
        What::UnknownKey { .. } => true,
        What::MissingKey(key) => {
            !reported.contains(&place.key(key)) && !meant.contains(&(place.clone(), (*key).to_owned()))
        }
        // Items of a list count from the start, so a list whose item was left out is not judged again.
        _ => !reported.iter().any(|path| place.contains(path)),
    }
}

/// Mistakes told in one section: nobody reads more before correcting the first.
const MOST_MISTAKES: usize = 32;

/// The part of `value` that one step leads to.
pub(super) fn child<'v>(value: &'v Value, seg: &Seg) -> Option<&'v Value> {
    match (value, seg) {
        (Value::Mapping(mapping), Seg::Key(key)) => mapping.get(&**key).or_else(|| {
            let same = |(other, _): &(&Value, &Value)| !other.is_string() && decode::step(other) == *seg;
            mapping.iter().find(same).map(|(_, value)| value)
        }),
        (Value::Sequence(items), Seg::Index(index)) => items.get(*index),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::config::units::Timespan;

    fn section(text: &str) -> Section {
        crate::config::parse("x", text.to_owned())
            .unwrap_or_else(|report| panic!("{}", report.human()))
            .root()
    }

    /// What decoding `T` finds, as `code path: message`.
    fn mistakes<T: DeserializeOwned>(text: &str) -> Vec<String> {
        let mut problems = Problems::new();
        let decoded = section(text).decode::<T>(&mut problems);
        assert_eq!(
            decoded.is_none(),
            problems.has_errors(),
            "no value without a reason, and no reason with one"
        );
        problems.list.iter().map(|p| format!("{} {}: {}", p.code, p.at, p.message)).collect()
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Limit {
        requests: u32,
        window: Option<Timespan>,
        key: Option<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    enum Credential {
        None,
        Bearer(String),
        Basic { user: String },
    }

    #[test]
    fn choices_are_words_or_mappings_of_one_key() {
        let decoded = |text| section(text).decode::<Credential>(&mut Problems::new());
        assert_eq!(decoded("none"), Some(Credential::None));
        assert_eq!(decoded("none: {}"), Some(Credential::None));
        assert_eq!(decoded("bearer: key"), Some(Credential::Bearer("key".into())));
        assert_eq!(decoded("basic: { user: me }"), Some(Credential::Basic { user: "me".into() }));
        assert_eq!(mistakes::<Credential>("bearer"), ["PC0301 : `bearer` needs settings"]);
        assert_eq!(mistakes::<Credential>("baerer: x"), ["PC0201 baerer: unknown key `baerer`"]);
        assert_eq!(
            mistakes::<Credential>("{ none: {}, bearer: x }"),
            ["PC0203 : expected exactly one key here, found 2"]
        );
        assert_eq!(mistakes::<Credential>("bearer:"), ["PC0205 bearer: nothing is written here"]);
    }

    #[test]
    fn nothing_and_numbers_are_no_text_and_no_default() {
        assert_eq!(mistakes::<Limit>("{ requests: 1, key: ~ }"), ["PC0205 key: nothing is written here"]);
        assert_eq!(
            mistakes::<Limit>("{ requests: 1, key: 5 }"),
            ["PC0203 key: expected a string, found a number"]
        );
        assert_eq!(
            mistakes::<Limit>("{ requests: 1, key: true }"),
            ["PC0203 key: expected a string, found `true` or `false`"]
        );
        assert_eq!(
            mistakes::<Limit>("{ requests: -1 }"),
            ["PC0301 requests: expected a whole number from 0 to 4294967295"]
        );
        assert_eq!(
            mistakes::<Limit>("{ requests: 1.5 }"),
            ["PC0203 requests: expected a whole number from 0 to 4294967295, found a number"]
        );
    }

    #[test]
    fn all_mistakes_of_a_section_are_told_and_none_that_follows_from_another() {
        assert_eq!(
            mistakes::<Limit>("{ reqests: 5, window: 60, kee: x, key: [] }"),
            [
                "PC0201 reqests: unknown key `reqests`",
                "PC0301 window: a duration needs a unit",
                "PC0201 kee: unknown key `kee`",
                "PC0203 key: expected a string, found a list",
            ]
        );
        assert_eq!(
            mistakes::<Vec<Limit>>("[{ requests: x }, { window: 1s }]"),
            [
                "PC0203 [0].requests: expected a whole number from 0 to 4294967295, found a string",
                "PC0202 [1]: missing key `requests`",
            ]
        );
    }

    #[test]
    fn forms_that_fit_none_are_told_without_names_of_types() {
        #[derive(Debug, Deserialize)]
        #[serde(untagged)]
        #[expect(dead_code, reason = "only the decoding is looked at")]
        enum Either {
            One(u8),
            Many(BTreeMap<String, u8>),
        }
        assert_eq!(mistakes::<Either>("[]"), ["PC0203 : this has none of the forms that can stand here"]);
    }

    #[test]
    fn keys_are_checked_and_a_misspelled_one_is_not_also_missing() {
        let root = section("{ upstraem: a, wasm: 1, name: , 5: x }");
        let mut problems = Problems::new();
        root.check_keys_in(&["upstream", "name"], &["wasm"], &mut problems);
        assert!(root.require("upstream", &mut problems).is_none());
        assert!(root.require("match", &mut problems).is_none());
        let codes: Vec<_> = problems.list.iter().map(|problem| problem.code).collect();
        assert_eq!(
            codes,
            [
                codes::UNKNOWN_KEY,
                codes::NOT_SUPPORTED,
                codes::NULL_VALUE,
                codes::WRONG_TYPE,
                codes::MISSING_KEY
            ]
        );
    }

    #[test]
    fn entries_and_items_come_in_file_order() {
        let root = section("{ z: 1, a: 2, list: [x, y] }");
        let mut problems = Problems::new();
        let keys: Vec<_> = root.entries(&mut problems).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["z", "a", "list"]);
        let items = root.get("list").expect("a list").items(&mut problems);
        assert_eq!(
            items.iter().map(|item| item.path().to_string()).collect::<Vec<_>>(),
            ["list[0]", "list[1]"]
        );
        assert!(problems.is_empty());
        assert!(root.items(&mut problems).is_empty() && problems.has_errors());
    }
}
