//! Holds decoder and locator in step: what `serde_yaml` reads at a path must be what the tree finds there.
//!
//! Documents are written by hand here, from a stream of choices, so that they have what no serializer writes: anchors,
//! aliases, merge keys, comments, block scalars with indicators, flow collections over several lines, line ends of Windows.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_yaml::Value;

use super::path::{Path, Seg};
use super::tree::Tree;
use super::{decode, merge};

/// Writes one document. A choice that is not there any more is the first, so every stream ends.
struct Writer<'c> {
    choices: std::slice::Iter<'c, u8>,
    text: String,
    /// Whether an anchor is of a mapping; nothing while that is not complete, since no alias may name it then.
    anchors: Vec<Option<bool>>,
    aliases: usize,
    keys: usize,
}

impl Writer<'_> {
    fn document(choices: &[u8]) -> String {
        let mut writer =
            Writer { choices: choices.iter(), text: String::new(), anchors: Vec::new(), aliases: 0, keys: 0 };
        let ends = writer.pick(2);
        if writer.pick(2) == 1 {
            writer.text.push_str("# a comment: with \"quotes' and é\n---\n");
        }
        writer.map(0, 0, 0);
        if ends == 1 { writer.text.replace('\n', "\r\n") } else { writer.text }
    }

    fn pick(&mut self, of: usize) -> usize {
        self.choices.next().map_or(0, |choice| usize::from(*choice) % of)
    }

    fn one(&mut self, of: &[&'static str]) -> &'static str {
        of.get(self.pick(of.len())).copied().unwrap_or_default()
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn line(&mut self, column: usize) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', column));
    }

    fn comment(&mut self) {
        let comment = self.one(&["", "", "", " # note: it's \"so\", {[", "  #"]);
        self.push(comment);
    }

    /// A block mapping at `column`, whose first key is written where the text ends, `indented` columns in already.
    fn map(&mut self, column: usize, depth: usize, indented: usize) {
        let entries = 1 + self.pick(4) + if depth == 0 { 6 } else { 0 };
        for entry in 0..entries {
            if entry > 0 || indented < column {
                self.text.extend(std::iter::repeat_n(' ', column));
            }
            let merges = self.anchors.contains(&Some(true)) && entry == 0 && self.pick(2) == 1;
            if merges {
                self.push("<<: ");
                self.merged();
                self.comment();
                self.push("\n");
                continue;
            }
            self.key(entry);
            self.push(":");
            self.value(column, depth);
        }
    }

    fn seq(&mut self, column: usize, depth: usize) {
        for _ in 0..=self.pick(3) {
            self.text.extend(std::iter::repeat_n(' ', column));
            self.push("-");
            if depth < DEEPEST && self.pick(4) == 1 {
                self.push(" ");
                self.map(column + 2, depth + 1, column + 2);
            } else {
                self.value(column, depth);
            }
        }
    }

    /// A key that its mapping does not have yet, though others may, so that merges have something to decide.
    fn key(&mut self, entry: usize) {
        self.keys += 1;
        let number = if self.pick(3) > 0 { entry } else { 100 + self.keys };
        let key = match self.pick(5) {
            0 => format!("k{number}"),
            1 => format!("\"k\\t{number}\""),
            2 => format!("'it''s: {number}'"),
            3 => format!("é中 {number}"),
            _ => number.to_string(),
        };
        self.push(&key);
    }

    /// What follows `key:` or `-` in a block at `column`, with the end of its line.
    fn value(&mut self, column: usize, depth: usize) {
        let kind = self.pick(if depth < DEEPEST { 16 } else { 8 });
        let anchored = kind != 6 && self.pick(3) == 1;
        let anchor = self.anchors.len() + 1;
        if anchored {
            self.push(&format!(" &a{anchor}"));
            self.anchors.push(None);
        }
        match kind {
            5 => self.block_scalar(column),
            6 if self.may_alias() => {
                self.push(" ");
                self.alias(false);
                self.comment();
                self.push("\n");
            }
            8 | 11.. => {
                self.comment();
                self.push("\n");
                self.map(column + 2, depth + 1, 0);
            }
            9 => {
                self.comment();
                self.push("\n");
                self.seq(column + 2, depth + 1);
            }
            10 => {
                self.push(" ");
                self.flow(column + 4, depth + 1);
                self.comment();
                self.push("\n");
            }
            _ => {
                self.push(" ");
                self.scalar(column + 2);
                self.comment();
                self.push("\n");
            }
        }
        if anchored && let Some(is_map) = self.anchors.get_mut(anchor - 1) {
            *is_map = Some(kind == 8 || kind > 10);
        }
    }

    fn may_alias(&self) -> bool {
        self.anchors.iter().any(Option::is_some) && self.aliases < MOST_ALIASES
    }

    /// An alias of what is complete; of a `map` where nothing else will do.
    fn alias(&mut self, map: bool) {
        self.aliases += 1;
        let fits = |is_map: &Option<bool>| if map { *is_map == Some(true) } else { is_map.is_some() };
        let fit: Vec<usize> = (0..self.anchors.len()).filter(|at| fits(&self.anchors[*at])).collect();
        let at = fit[self.pick(fit.len())];
        self.push(&format!("*a{}", at + 1));
    }

    fn merged(&mut self) {
        if self.pick(2) == 0 {
            return self.alias(true);
        }
        self.push("[");
        self.alias(true);
        self.push(" , ");
        self.alias(true);
        self.push("]");
    }

    /// A scalar on one line, or with its next lines at `column`.
    fn scalar(&mut self, column: usize) {
        match self.pick(4) {
            0 => {
                let word = self.one(&PLAIN);
                self.push(word);
            }
            1 => {
                let word = self.one(&WORDS);
                self.push(word);
            }
            2 => self.quoted(
                '"',
                &["a: b", "\\n", "\\u00e9", "# no", "\\\"", "\\\\", "中", "😀", " ", "{[,"],
                column,
            ),
            _ => self.quoted('\'', &["a: b", "\\", "''", "# no", "\"", "中", "😀", " ", "&x *y"], column),
        }
    }

    fn quoted(&mut self, quote: char, pieces: &[&'static str], column: usize) {
        self.text.push(quote);
        for _ in 0..self.pick(6) {
            let piece = self.one(pieces);
            self.push(piece);
            if self.pick(6) == 1 {
                self.line(column);
                self.push("on");
            }
        }
        self.text.push(quote);
    }

    fn block_scalar(&mut self, column: usize) {
        let header = self.one(&[" |", " >", " |-", " >-", " |+", " >+", " |2", " >2-", " |-2", " >+2"]);
        self.push(header);
        let comment = self.one(&["", " # note"]);
        self.push(comment);
        let mut begun = false;
        for _ in 0..=self.pick(5) {
            let text = self.one(&["text", "a: b", "# no comment", "é 中 😀", "  deeper", "", "'\"", "- x"]);
            // The first line decides how deep the text is where no number says so.
            let text = if begun { text } else { text.trim_start() };
            begun |= !text.is_empty();
            if text.is_empty() {
                self.push("\n")
            } else {
                self.line(column + 2)
            }
            self.push(text);
        }
        self.push("\n");
    }

    fn flow(&mut self, column: usize, depth: usize) {
        let map = self.pick(2) == 1;
        self.push(if map { "{" } else { "[" });
        for entry in 0..self.pick(4) {
            if entry > 0 {
                self.push(",");
            }
            match self.pick(4) {
                1 => self.line(column),
                2 => {
                    self.push(" # note: ]}");
                    self.line(column);
                }
                _ => self.push(" "),
            }
            if map {
                self.key(entry);
                self.push(": ");
            }
            match self.pick(if depth < DEEPEST { 4 } else { 2 }) {
                1 if self.may_alias() => self.alias(false),
                2 => self.flow(column + 2, depth + 1),
                _ => self.scalar(column),
            }
            self.push(" ");
        }
        if self.pick(4) == 1 {
            self.line(column);
        }
        self.push(if map { "}" } else { "]" });
    }
}

const DEEPEST: usize = 4;
const MOST_ALIASES: usize = 8;
const PLAIN: [&str; 10] =
    ["abc", "é中", "😀 x", "a:b", "a#b", "x  y z", "https://x.example/y?z", "it's", "-x", "1.2.3"];
/// What is, or looks like, something other than text.
const WORDS: [&str; 20] = [
    "0",
    "-12",
    "1.5",
    "0x1F",
    "0o17",
    "0100",
    "1e3",
    "1_000",
    "+1",
    "18446744073709551615",
    "true",
    "True",
    "false",
    "yes",
    "off",
    "null",
    "Null",
    "~",
    "1:30",
    "2026-01-01",
];

fn every_path(value: &Value, path: &Path, visit: &mut impl FnMut(&Path, &Value)) {
    visit(path, value);
    match value {
        Value::Mapping(mapping) => {
            for (key, value) in mapping {
                let Seg::Key(key) = decode::step(key) else { continue };
                every_path(value, &path.key(&key), visit);
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

/// How many scalars of `text` were found where they must be.
fn check(text: &str) -> usize {
    let mut value: Value = serde_yaml::from_str(text).unwrap_or_else(|why| panic!("{why} in\n{text}"));
    let (tree, findings) = Tree::build(text);
    assert!(findings.is_empty(), "{findings:?} in\n{text}");
    let tree = tree.expect("a tree");
    if tree.merges {
        merge::apply(&mut value);
    }
    let mut scalars = 0;
    every_path(&value, &Path::root(), &mut |path, value| {
        let place = tree.locate(path);
        assert_eq!(place.found, path.segments().len(), "{path} in\n{text}");
        if value.is_mapping() || value.is_sequence() {
            return;
        }
        scalars += 1;
        let at = tree.node(place.node).span.clone();
        let span = &text[at.clone()];
        let written = tree.scalar(place.node, text).expect("a scalar");
        match value {
            Value::String(expected) => assert_eq!(written, expected, "{path} in\n{text}"),
            other => assert_eq!(&decoded(written), other, "{path}: {written:?} in\n{text}"),
        }
        // The very bytes that are pointed at; those of a block scalar mean something only where they stand.
        if !follows_a_block_header(&text[..at.start]) {
            assert_eq!(&decoded(span), value, "{path}: {span:?} in\n{text}");
        }
    });
    scalars
}

/// Whether `before` ends in a `|` or `>`, with what belongs to it.
fn follows_a_block_header(before: &str) -> bool {
    let line = before.trim_end();
    let line = line.strip_suffix(" # note").unwrap_or(line);
    line.rsplit(' ').next().is_some_and(|last| last.starts_with(['|', '>']))
}

fn decoded(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|why| panic!("{why}: {text:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]
    #[test]
    fn what_the_decoder_reads_stands_where_the_locator_says(choices in prop::collection::vec(any::<u8>(), 0..600)) {
        check(&Writer::document(&choices));
    }
}

#[test]
fn everything_that_people_write_by_hand_is_read_alike() {
    let text = "a: &a # an anchor\n  x: |2-\n    deep\n      é\n  y: >+\n    folded\n    on\n\nb:\n  <<: *a\n  y: 'it''s'\n\
                c: [ *a , { k: \"\\u00e9\",\n    l: ~ } # note\n  ]\nd:\n";
    for text in [text.to_owned(), text.replace('\n', "\r\n")] {
        assert_eq!(check(&text), 9, "every scalar is looked at in\n{text}");
    }
}

#[test]
fn the_documents_hold_what_this_test_is_for() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let choices = prop::collection::vec(any::<u8>(), 600..601);
    let mut all = String::new();
    for _ in 0..200 {
        let written = choices.new_tree(&mut runner).expect("choices").current();
        all.push_str(&Writer::document(&written));
    }
    for part in
        ["<<: *a", "<<: [*a", ": *a", "- *a", "\r\n", "|2", "|-2", ">+2", "{ ", "# note: ]}", "😀", "\\u00e9"]
    {
        assert!(all.contains(part), "no document has {part:?}");
    }
}
