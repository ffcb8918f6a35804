//! Which bytes of the file may be a secret. They are blanked before anything of the file is shown, and their texts are
//! taken out of messages.
//!
//! It errs on the side of blanking: what should not be in the file at all may be in it all the same, and a diagnostic ends
//! up in logs and in tickets. A file that cannot be parsed is judged line by line.

use std::ops::Range;

use super::suggest::did_you_mean;
use super::tree::{Entry, Kind, Map, NodeId, Tree};

/// What must not be shown.
#[derive(Debug, Default)]
pub(super) struct Blanks {
    /// Bytes of the file, sorted, not overlapping.
    ranges: Vec<Range<usize>>,
    /// The texts that stand there.
    texts: Vec<String>,
}

/// The character shown in place of each one that is hidden.
pub(super) const BLANK: char = '•';

impl Blanks {
    /// Finds them in a file that was parsed.
    pub(super) fn of_tree(tree: &Tree, text: &str) -> Self {
        let mut walk = Walk { tree, text, names: names(tree), blanks: Self::default() };
        walk.root();
        walk.blanks.settle();
        walk.blanks
    }

    /// Finds them in a file that was parsed and is not quite right: by both ways, as what stands twice is easily misread.
    pub(super) fn of_both(tree: &Tree, text: &str) -> Self {
        let mut blanks = Self::of_tree(tree, text);
        blanks.ranges.extend(suspicious_lines(text));
        blanks.settle();
        blanks
    }

    /// Finds them in a file that is no YAML: everything after the colon in lines that look like secrets; all where no line has a
    /// key.
    pub(super) fn of_lines(text: &str) -> Self {
        // Without a single key it is no configuration, and most likely the file of a secret that was named by mistake.
        let is_foreign = text.lines().all(|line| key_of(line.trim_end()).is_none());
        let ranges =
            if is_foreign { std::iter::once(0..text.len()).collect() } else { suspicious_lines(text) };
        let mut blanks = Self { ranges, texts: Vec::new() };
        blanks.settle();
        blanks
    }

    /// Adds a value and everything below it; [`Self::share`] has to follow.
    pub(super) fn add_value(&mut self, tree: &Tree, text: &str, value: NodeId) {
        let mut walk = Walk { tree, text, names: Vec::new(), blanks: std::mem::take(self) };
        walk.all(value);
        *self = walk.blanks;
    }

    /// Settles those of all files of a document: what is hidden in one is hidden in all.
    pub(super) fn share(files: &mut [Self]) {
        let mut all: Vec<String> =
            files.iter_mut().flat_map(|blanks| std::mem::take(&mut blanks.texts)).collect();
        all.sort_unstable();
        all.dedup();
        for blanks in files {
            blanks.texts.clone_from(&all);
            blanks.settle();
        }
    }

    /// Whether any byte of `range` is hidden.
    pub(super) fn touch(&self, range: &Range<usize>) -> bool {
        let first = self.ranges.partition_point(|blank| blank.end <= range.start);
        self.ranges.get(first).is_some_and(|blank| blank.start < range.end)
    }

    /// What is hidden inside `window`, with every other place there that repeats a hidden text.
    pub(super) fn within(&self, text: &str, window: &Range<usize>) -> Self {
        let first = self.ranges.partition_point(|blank| blank.end <= window.start);
        let known = self.ranges.iter().skip(first).take_while(|blank| blank.start < window.end);
        let mut inside = Self { ranges: known.cloned().collect(), texts: Vec::new() };
        let source = text.get(window.clone()).unwrap_or_default();
        for hidden in self.texts.iter().filter(|hidden| hidden.len() >= SHORTEST_ANYWHERE) {
            let found = source.match_indices(hidden.as_str()).map(|(at, _)| window.start + at);
            inside.ranges.extend(found.map(|at| at..at + hidden.len()));
        }
        inside.settle();
        inside
    }

    /// The bytes of `range` as they may be shown.
    pub(super) fn show(&self, text: &str, range: Range<usize>) -> String {
        let source = text.get(range.clone()).unwrap_or_default();
        let mut next = self.ranges.partition_point(|blank| blank.end <= range.start);
        let mut shown = String::with_capacity(source.len());
        for (offset, character) in source.char_indices() {
            let at = range.start + offset;
            while self.ranges.get(next).is_some_and(|blank| blank.end <= at) {
                next += 1;
            }
            let hidden = self.ranges.get(next).is_some_and(|blank| blank.contains(&at));
            shown.push(if hidden && !matches!(character, '\n' | '\r') { BLANK } else { character });
        }
        shown
    }

    /// Takes every hidden text out of a message. Short ones only where they are quoted: `an` is also a word.
    pub(super) fn scrub(&self, message: &str) -> String {
        let mut clean = message.to_owned();
        for text in &self.texts {
            let escaped = text.escape_debug().to_string();
            for form in [text.as_str(), escaped.as_str()] {
                if form.len() >= SHORTEST_ANYWHERE && clean.contains(form) {
                    clean = clean.replace(form, HIDDEN);
                } else if !form.is_empty() && form.len() < SHORTEST_ANYWHERE {
                    for quote in ['`', '"', '\''] {
                        let quoted = format!("{quote}{form}{quote}");
                        if clean.contains(&quoted) {
                            clean = clean.replace(&quoted, &format!("{quote}{HIDDEN}{quote}"));
                        }
                    }
                }
            }
        }
        clean
    }

    /// Sorts what was added.
    pub(super) fn settle(&mut self) {
        self.ranges.retain(|range| !range.is_empty());
        self.ranges.sort_by_key(|range| (range.start, range.end));
        self.ranges.dedup_by(|next, kept| {
            let overlaps = next.start <= kept.end;
            if overlaps {
                kept.end = kept.end.max(next.end);
            }
            overlaps
        });
        self.texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        self.texts.dedup();
    }
}

struct Walk<'t> {
    tree: &'t Tree,
    text: &'t str,
    /// The names under `secrets`.
    names: Vec<&'t str>,
    blanks: Blanks,
}

impl<'t> Walk<'t> {
    fn root(&mut self) {
        let root = self.tree.root();
        let map = match &self.tree.node(root).kind {
            Kind::Map(map) => map,
            Kind::Seq(_) => return self.plain(root, false),
            // A text by itself is no configuration: most likely the file of a secret was named by mistake.
            _ => return self.all(root),
        };
        for entry in &map.entries {
            match entry.key.to_lowercase().as_str() {
                "secrets" | "secret" => self.secrets(entry.value),
                _ => self.entry(entry, false),
            }
        }
    }

    /// The top-level block: a source of a secret is shown, everything else is not.
    fn secrets(&mut self, value: NodeId) {
        match self.map(value) {
            None => self.all(value),
            Some(map) => {
                for entry in &map.entries {
                    match self.map(entry.value) {
                        None => self.all(entry.value),
                        Some(source) => source.entries.iter().for_each(|part| self.source(part)),
                    }
                }
            }
        }
    }

    fn source(&mut self, entry: &Entry) {
        if matches!(&*entry.key, "env" | "file" | "keepLastGood") {
            return;
        }
        // `{ s3cr3t }` is a key with nothing after it.
        if self.tree.scalar(entry.value, self.text).is_some_and(str::is_empty) {
            self.hide(entry.key_span.clone(), entry.key.to_string());
        }
        self.all(entry.value);
    }

    fn entry(&mut self, entry: &Entry, in_credential: bool) {
        let key = entry.key.to_lowercase();
        match self.tree.scalar(entry.value, self.text) {
            None => match key.as_str() {
                "password" => self.all(entry.value),
                _ => self.plain(entry.value, in_credential || key == "credential"),
            },
            Some(text) => {
                let hide = match key.as_str() {
                    "password" => !self.is_declared(text),
                    // Names of fields as well as of headers that somebody may set to a literal.
                    "secret"
                    | "token"
                    | "username"
                    | "clientsecret"
                    | "bearer"
                    | "privatekey"
                    | "authorization"
                    | "proxy-authorization"
                    | "cookie"
                    | "x-api-key" => !self.is_name(text),
                    _ => {
                        // A key that no credential has: nobody knows what its value is.
                        let is_unknown = in_credential && !HARMLESS.contains(&key.as_str());
                        is_unknown || (key == "credential" && !self.is_name(text))
                    }
                };
                if hide {
                    self.all(entry.value);
                } else {
                    self.user_info(entry.value);
                }
            }
        }
    }

    fn plain(&mut self, id: NodeId, in_credential: bool) {
        // What an alias stands for was walked where it is written; only its meaning as a credential may be new.
        if !in_credential && matches!(self.tree.node(id).kind, Kind::Alias(_)) {
            return;
        }
        match &self.tree.node(self.tree.resolve(id)).kind {
            Kind::Map(map) => map.entries.iter().for_each(|entry| self.entry(entry, in_credential)),
            Kind::Seq(items) => items.iter().for_each(|item| self.plain(*item, in_credential)),
            _ => match self.tree.scalar(id, self.text) {
                Some(text) if in_credential && !self.is_name(text) => self.all(id),
                _ => self.user_info(id),
            },
        }
    }

    /// Whether a text is the name of a secret of this file, or a slip of the pen away from one.
    fn is_declared(&self, text: &str) -> bool {
        self.names.contains(&text) || did_you_mean(text, self.names.iter().copied()).is_some()
    }

    /// Whether a text reads like the name of a secret rather than like the secret: a declared one, words of small letters joined by
    /// `-`, `_` or `.`, or one word that is too short for a secret, which has 8 bytes at least.
    fn is_name(&self, text: &str) -> bool {
        let words: Vec<&str> = text.split(['-', '_', '.']).collect();
        let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
        let is_number = |word: &&str| word.len() <= 2 && word.bytes().all(|b| b.is_ascii_digit());
        let is_short = words.len() > 1 || text.len() < SHORTEST_ANYWHERE;
        let reads =
            is_short && words.iter().all(|word| word.len() <= 20 && (is_word(word) || is_number(word)));
        reads || self.is_declared(text)
    }

    /// `https://user:password@host/path?key=value`: hides what stands before the `@`, and the query.
    fn user_info(&mut self, id: NodeId) {
        let span = self.tree.node(self.tree.resolve(id)).span.clone();
        let Some(raw) = self.text.get(span.clone()) else { return };
        let Some((scheme, rest)) = raw.split_once("://") else { return };
        let begin = span.start + scheme.len() + 3;
        if let Some((before, query)) = rest.split_once('?') {
            let query = query.trim_end_matches(['"', '\'']);
            let from = begin + before.len() + 1;
            self.hide(from..from + query.len(), query.to_owned());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let Some((user, _)) = authority.rsplit_once('@') else { return };
        self.hide(begin..begin + user.len(), user.to_owned());
    }

    fn all(&mut self, id: NodeId) {
        let id = self.tree.resolve(id);
        let node = self.tree.node(id);
        match &node.kind {
            Kind::Map(map) => map.entries.iter().for_each(|entry| self.all(entry.value)),
            Kind::Seq(items) => items.iter().for_each(|item| self.all(*item)),
            _ => {
                let text = self.tree.scalar(id, self.text).unwrap_or_default().to_owned();
                self.hide(node.span.clone(), text);
            }
        }
    }

    fn hide(&mut self, range: Range<usize>, text: String) {
        self.blanks.ranges.push(range);
        self.blanks.texts.push(text);
    }

    fn map(&self, id: NodeId) -> Option<&'t Map> {
        match &self.tree.node(self.tree.resolve(id)).kind {
            Kind::Map(map) => Some(map),
            _ => None,
        }
    }
}

/// The names that the file gives to its secrets.
fn names(tree: &Tree) -> Vec<&str> {
    let map = |id: NodeId| match &tree.node(tree.resolve(id)).kind {
        Kind::Map(map) => Some(map),
        _ => None,
    };
    let secrets = map(tree.root()).and_then(|root| map(root.get("secrets")?.value));
    secrets.map(|secrets| secrets.entries.iter().map(|entry| &*entry.key).collect()).unwrap_or_default()
}

/// Lines below and beside a key that holds secrets, from their first colon on.
fn suspicious_lines(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut block: Option<Block> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end();
        let indent = line.len() - line.trim_start().len();
        let key = key_of(content);
        if block.as_ref().is_some_and(|b| b.depth <= 0 && indent <= b.indent && key.is_some()) {
            block = None;
        }
        let sensitive = key.is_some_and(|(key, _)| SUSPICIOUS.contains(&key.to_lowercase().as_str()));
        // A one-line mapping may hold one anywhere.
        let inside = content.to_lowercase();
        let mentions = SUSPICIOUS.iter().any(|word| inside.contains(word));
        if block.is_some() || sensitive || mentions {
            let from = match key {
                Some((_, value_at)) => value_at,
                None => indent.min(content.len()),
            };
            let harmless = key.is_some_and(|(key, _)| matches!(key, "env" | "file" | "keepLastGood"));
            if !harmless {
                ranges.push(start + from..start + content.len());
            }
        }
        if let Some((scheme, rest)) = content.split_once("://")
            && rest.contains('@')
        {
            ranges.push(start + scheme.len() + 3..start + content.len());
        }
        if (sensitive || mentions) && block.is_none() && !content.trim_start().starts_with('#') {
            block = Some(Block { indent, depth: 0 });
        }
        if let Some(block) = &mut block {
            block.depth += brackets(content);
        }
        start += line.len();
    }
    ranges
}

struct Block {
    indent: usize,
    /// Brackets open since its first line.
    depth: i64,
}

fn brackets(line: &str) -> i64 {
    line.chars().fold(0, |depth, c| match c {
        '{' | '[' => depth + 1,
        '}' | ']' => depth - 1,
        _ => depth,
    })
}

/// The key that a line begins with, and where its value begins.
fn key_of(line: &str) -> Option<(&str, usize)> {
    let (before, _) = line.split_once(':')?;
    let key = before
        .trim_start_matches([' ', '\t', '-', '{', '[', ',', '"', '\''])
        .trim_end_matches(['"', '\'', ' ']);
    let plain =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    plain.then_some((key, before.len() + 1))
}

const HIDDEN: &str = "•••";
/// Texts of this length are no words of a message by chance. Shorter secrets are refused.
const SHORTEST_ANYWHERE: usize = 8;
/// Keys of a credential whose values are not secret.
const HARMLESS: &[&str] =
    &["in", "name", "header", "url", "tokenurl", "scope", "scopes", "audience", "region", "service"];
/// Keys that hold a secret or a block of them. All are found inside a line as well.
const SUSPICIOUS: &[&str] =
    &["secrets", "secret", "credential", "password", "token", "bearer", "authorization", "api-key"];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let (tree, _) = Tree::build(text);
        Blanks::of_tree(&tree.expect("a tree"), text).show(text, 0..text.len())
    }

    #[test]
    fn secrets_are_blanked_and_their_sources_are_not() {
        let text = "secrets:\n  a: hunter2x\n  b: { env: KEY, value: \"s3\" }\n  c: { oops }\n";
        let expected = "secrets:\n  a: ••••••••\n  b: { env: KEY, value: •••• }\n  c: { •••• }\n";
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn credentials_show_names_only() {
        let text =
            "u:\n  credential: { bearer: vendor-key }\nv:\n  credential: { bearer: Sk_Live+1, in: header }\n";
        let expected =
            "u:\n  credential: { bearer: vendor-key }\nv:\n  credential: { bearer: •••••••••, in: header }\n";
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn a_name_is_what_is_declared_or_reads_like_one() {
        let secrets = "secrets: { key5: { env: K } }\n";
        let of = |key: &str, value: &str| {
            let text = format!("{secrets}credential: {{ {key}: {value} }}\n");
            shown(&text).contains(value)
        };
        for (key, value) in [
            ("bearer", "vendor-key"),
            ("bearer", "vendor"),
            ("secret", "vendor.key_2"),
            ("bearer", "key5"),
            ("bearer", "kye5"),
            ("password", "key5"),
        ] {
            assert!(of(key, value), "{key}: {value} is a name");
        }
        for (key, value) in [
            ("bearer", "hunter2"),
            ("bearer", "topsecret"),
            ("secret", "sk-live-a1b2c3d4"),
            ("bearer", "Vendor-Key"),
            ("password", "vendor-key"),
            ("value", "x9y8z7w6"),
        ] {
            assert!(!of(key, value), "{key}: {value} may be a secret");
        }
    }

    #[test]
    fn passwords_long_tokens_and_user_info_are_blanked_anywhere() {
        assert_eq!(shown("a: [{ Password: x y }]\n"), "a: [{ Password: ••• }]\n");
        assert_eq!(shown("token: admin-token\n"), "token: admin-token\n");
        assert_eq!(shown("token: 0123456789-0123456789\n"), "token: •••••••••••••••••••••\n");
        assert_eq!(shown("url: https://u:p@h/x@y\n"), "url: https://•••@h/x@y\n");
        assert_eq!(shown("url: \"https://h/x?k=v&l\"\n"), "url: \"https://h/x?•••••\"\n");
    }

    #[test]
    fn a_secret_behind_an_alias_is_blanked_where_it_is_written() {
        assert_eq!(shown("x: &s topsecret\nsecrets: { a: *s }\n"), "x: &s •••••••••\nsecrets: { a: *s }\n");
    }

    #[test]
    fn texts_of_many_lines_are_blanked_in_all_of_them() {
        let text =
            "secrets:\n  a: |\n    one\n    two\n  b: \"x\n    y\"\n  c: >-\n    three\n  d: { env: K }\n";
        let shown = shown(text);
        for hidden in ["one", "two", "x\n", "y\"", "three"] {
            assert!(!shown.contains(hidden), "{hidden} in\n{shown}");
        }
        assert!(shown.contains("env: K"), "{shown}");
    }

    #[test]
    fn text_that_is_no_yaml_is_judged_by_lines() {
        let text = "a: 1\nsecrets:\n  x: \"open\n  more\nroutes: []\nb: { password: y }\n";
        let expected = "a: 1\nsecrets:\n  x:••••••\n  ••••\nroutes: []\nb:••••••••••••••••\n";
        let blanks = Blanks::of_lines(text);
        assert_eq!(blanks.show(text, 0..text.len()), expected);
    }

    #[test]
    fn messages_lose_the_texts() {
        let text = "secrets: { a: \"hunter22\", b: ab }\n";
        let (tree, _) = Tree::build(text);
        let blanks = Blanks::of_tree(&tree.expect("a tree"), text);
        assert_eq!(blanks.scrub("no `hunter22` about `ab`"), "no `•••` about `•••`");
    }
}
