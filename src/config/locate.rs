//! From a path to bytes: where a key and its value stand, through aliases and merge keys.
//!
//! A path that does not exist is located at its nearest ancestor that does, so every problem has a place.

use std::ops::Range;

use super::path::{Path, Seg};
use super::tree::{Kind, MERGE_KEY, Map, NodeId, Tree};

/// Where a path leads.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The key of the last step; the value itself in a sequence and at the root.
    pub(super) key: Range<usize>,
    /// The value. Where nothing is written, its key.
    pub(super) value: Range<usize>,
    /// The alias or merge key through which the value is used, when it is written elsewhere.
    pub(super) used_at: Option<Range<usize>>,
    /// The value's node, aliases followed.
    pub(super) node: NodeId,
    /// Steps that were found: fewer than the path has when the rest does not exist.
    pub(super) found: usize,
    /// Whether the last step found was a key.
    by_key: bool,
}

impl Place {
    /// The part to point at: the key if asked for, else the value, but never a block of many lines.
    pub(super) fn point(&self, text: &str, on_key: bool) -> Range<usize> {
        if on_key || (self.by_key && text.get(self.value.clone()).is_some_and(|value| value.contains('\n'))) {
            self.key.clone()
        } else {
            self.value.clone()
        }
    }
}

impl Tree {
    /// Where `path` stands, or as much of it as exists.
    pub(super) fn locate(&self, path: &Path) -> Place {
        let root = self.node(self.root()).span.clone();
        let mut place = Place {
            key: root.clone(),
            value: root,
            used_at: None,
            node: self.root(),
            found: 0,
            by_key: false,
        };
        for seg in path.segments() {
            let step = match (seg, &self.node(place.node).kind) {
                (Seg::Key(key), Kind::Map(map)) => self.entry(map, key),
                (Seg::Index(index), Kind::Seq(items)) => items.get(*index).map(|id| Step::item(*id)),
                _ => None,
            };
            let Some(step) = step else { break };
            self.advance(&mut place, step);
        }
        place
    }

    fn advance(&self, place: &mut Place, step: Step) {
        let written = self.node(step.value).span.clone();
        let target = self.resolve(step.value);
        if let Some(merge) = step.merge {
            place.used_at.get_or_insert(merge);
        }
        if target != step.value {
            place.used_at.get_or_insert(written);
        }
        let value = self.node(target).span.clone();
        place.by_key = step.key.is_some();
        place.key = step.key.unwrap_or_else(|| value.clone());
        place.value = if value.is_empty() { place.key.clone() } else { value };
        place.node = target;
        place.found += 1;
    }

    fn entry(&self, map: &Map, key: &str) -> Option<Step> {
        if let Some(entry) = map.get(key) {
            return Some(Step { key: Some(entry.key_span.clone()), value: entry.value, merge: None });
        }
        let merged = map.get(MERGE_KEY)?.value;
        let span = self.node(merged).span.clone();
        match &self.node(self.resolve(merged)).kind {
            Kind::Map(inner) => self.entry(inner, key).map(|step| step.through(span)),
            Kind::Seq(items) => items.iter().find_map(|item| match &self.node(self.resolve(*item)).kind {
                Kind::Map(inner) => {
                    self.entry(inner, key).map(|step| step.through(self.node(*item).span.clone()))
                }
                _ => None,
            }),
            _ => None,
        }
    }
}

struct Step {
    key: Option<Range<usize>>,
    value: NodeId,
    merge: Option<Range<usize>>,
}

impl Step {
    fn item(value: NodeId) -> Self {
        Self { key: None, value, merge: None }
    }

    /// The outermost use is the one that the reader looks at.
    fn through(mut self, merge: Range<usize>) -> Self {
        self.merge = Some(merge);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_yaml::Value;

    use super::*;

    fn located(text: &str, path: &Path) -> (String, String, Option<String>, usize) {
        let (tree, findings) = Tree::build(text);
        assert!(findings.is_empty(), "{findings:?}");
        let place = tree.expect("a tree").locate(path);
        let show = |range: Range<usize>| text[range].to_owned();
        (show(place.key), show(place.value), place.used_at.map(show), place.found)
    }

    #[test]
    fn keys_items_and_values_are_found() {
        let text = "routes:\n  - name: a\n  - { name: b, tags: [x, y] }\n";
        let path = Path::root().key("routes").index(1).key("tags").index(1);
        assert_eq!(located(text, &path), ("y".into(), "y".into(), None, 4));
        let path = Path::root().key("routes").index(0).key("name");
        assert_eq!(located(text, &path), ("name".into(), "a".into(), None, 3));
    }

    #[test]
    fn a_path_that_does_not_exist_ends_at_its_ancestor() {
        let path = Path::root().key("a").key("b").key("c");
        assert_eq!(located("a: 1\n", &path), ("a".into(), "1".into(), None, 1));
    }

    #[test]
    fn aliases_are_followed_and_their_use_is_kept() {
        let text = "x: &x\n  k: v\ny: *x\n";
        let path = Path::root().key("y").key("k");
        assert_eq!(located(text, &path), ("k".into(), "v".into(), Some("*x".into()), 2));
    }

    #[test]
    fn merge_keys_are_looked_through_own_keys_first() {
        let text = "x: &x { k: v, l: w }\nz: &z { m: 1 }\ny:\n  <<: [*x, *z]\n  l: own\n";
        let at = |key: &str| Path::root().key("y").key(key);
        assert_eq!(located(text, &at("k")), ("k".into(), "v".into(), Some("*x".into()), 2));
        assert_eq!(located(text, &at("l")), ("l".into(), "own".into(), None, 2));
        assert_eq!(located(text, &at("m")), ("m".into(), "1".into(), Some("*z".into()), 2));
    }

    #[test]
    fn where_nothing_is_written_the_key_is_the_place() {
        let path = Path::root().key("upstream");
        assert_eq!(located("upstream:\nname: x\n", &path).1, "upstream");
    }

    fn every_path(value: &Value, path: &Path, visit: &mut impl FnMut(&Path, &Value)) {
        visit(path, value);
        match value {
            Value::Mapping(mapping) => {
                for (key, value) in mapping {
                    every_path(value, &path.key(key.as_str().expect("text keys only")), visit);
                }
            }
            Value::Sequence(items) => {
                for (index, value) in items.iter().enumerate() {
                    every_path(value, &path.index(index), visit);
                }
            }
            _ => {}
        }
    }

    fn check_all(text: &str) {
        let value: Value = serde_yaml::from_str(text).expect("what was written can be read");
        let (tree, findings) = Tree::build(text);
        assert!(findings.is_empty(), "{findings:?} in\n{text}");
        let tree = tree.expect("a tree");
        every_path(&value, &Path::root(), &mut |path, value| {
            let place = tree.locate(path);
            assert_eq!(place.found, path.segments().len(), "{path} in\n{text}");
            assert!(text.get(place.value.clone()).is_some() && text.get(place.key.clone()).is_some());
            let written = tree.scalar(place.node, text);
            match value {
                Value::String(expected) => assert_eq!(written, Some(expected.as_str()), "{path} in\n{text}"),
                Value::Number(number) => assert_eq!(written, Some(number.to_string().as_str())),
                Value::Bool(b) => assert_eq!(written, Some(b.to_string().as_str())),
                _ => {}
            }
        });
    }

    fn documents() -> impl Strategy<Value = Value> {
        let text = "[a-zA-Z0-9 :#'\"{},|>&*!%\\n\\t\u{e9}\u{4e2d}-]{0,24}";
        let leaf = prop_oneof![
            text.prop_map(Value::String),
            any::<i64>().prop_map(|number| Value::Number(number.into())),
            any::<bool>().prop_map(Value::Bool),
            Just(Value::Null),
        ];
        leaf.prop_recursive(5, 64, 12, move |inner| {
            let key = "[a-zA-Z0-9 :#'\"-]{0,12}".prop_map(Value::String);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..12).prop_map(Value::Sequence),
                prop::collection::btree_map(
                    key.prop_map(|k| k.as_str().unwrap_or("").to_owned()),
                    inner,
                    0..12
                )
                .prop_map(|map| Value::Mapping(map.into_iter().map(|(k, v)| (k.into(), v)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_that_is_decoded_is_located(value in documents()) {
            check_all(&serde_yaml::to_string(&value).expect("yaml"));
            // JSON is YAML in flow style.
            check_all(&serde_json::to_string(&value).expect("json"));
        }
    }
}
