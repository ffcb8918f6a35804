//! The shape of the file with the place of every key and value, built from the parser's events in one pass.
//!
//! It is what `locate` and `redact` walk. It holds no typed values: those come from the decoder. Aliases are kept as links,
//! never copied, so a file cannot make this tree larger than itself; what the aliases would expand to is counted here,
//! before the decoder, which does copy, ever sees the file.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, Span, StructureStyle};

use super::codes;
use super::problem::Finding;
use super::syntax;

/// Index of a node in the arena.
pub(super) type NodeId = usize;

/// A value and where it stands.
pub(super) struct Node {
    /// Bytes of the value in the file; of the `*name` for an alias. Empty where nothing is written.
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
    /// Nodes below and including this one, with aliases expanded.
    size: u64,
    /// Levels below and including this one, with aliases expanded.
    height: usize,
}

pub(super) enum Kind {
    /// The text, where it differs from the bytes of the file (quotes, escapes, folding).
    Scalar(Option<Box<str>>),
    Seq(Vec<NodeId>),
    Map(Map),
    Alias(NodeId),
}

/// A key and its value.
pub(super) struct Entry {
    pub(super) key: Box<str>,
    pub(super) key_span: Range<usize>,
    pub(super) value: NodeId,
}

/// A mapping in file order, with an index once it is wide.
#[derive(Default)]
pub(super) struct Map {
    pub(super) entries: Vec<Entry>,
    index: HashMap<Box<str>, usize>,
}

impl Map {
    /// The entry of `key`, the first one if it stands there twice.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.position(key).and_then(|position| self.entries.get(position))
    }

    fn position(&self, key: &str) -> Option<usize> {
        if self.index.is_empty() {
            self.entries.iter().position(|entry| *entry.key == *key)
        } else {
            self.index.get(key).copied()
        }
    }

    fn push(&mut self, entry: Entry) {
        if !self.index.is_empty() {
            self.index.entry(entry.key.clone()).or_insert(self.entries.len());
        }
        self.entries.push(entry);
        if self.index.is_empty() && self.entries.len() > NARROW {
            for (position, entry) in self.entries.iter().enumerate() {
                self.index.entry(entry.key.clone()).or_insert(position);
            }
        }
    }
}

/// All nodes of one file.
pub(super) struct Tree {
    nodes: Vec<Node>,
    root: NodeId,
    /// Whether any mapping has a key `<<`.
    pub(super) merges: bool,
}

impl Tree {
    /// How many values it has, aliases expanded.
    pub(super) fn size(&self) -> u64 {
        self.node(self.root).size
    }

    /// Reads `text`. Mistakes of syntax end it; all others are collected, so the tree comes with them.
    pub(super) fn build(text: &str) -> (Option<Self>, Vec<Finding>) {
        let mut builder = Builder::new(text);
        for event in Parser::new_from_str(text) {
            match event {
                Ok((event, span)) => {
                    if !builder.take(event, &span) {
                        break;
                    }
                }
                Err(error) => {
                    builder.findings.push(syntax::explain(text, &error));
                    return (None, builder.findings);
                }
            }
        }
        builder.finish()
    }

    pub(super) fn root(&self) -> NodeId {
        self.root
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        // Ids are made by the builder of this very arena and never leave it.
        self.nodes.get(id).expect("a node id comes from this arena")
    }

    /// The node that an alias stands for; the node itself otherwise.
    pub(super) fn resolve(&self, id: NodeId) -> NodeId {
        match self.node(id).kind {
            Kind::Alias(target) => target,
            _ => id,
        }
    }

    /// The text of a scalar; `None` for anything else.
    pub(super) fn scalar<'a>(&'a self, id: NodeId, text: &'a str) -> Option<&'a str> {
        let node = self.node(self.resolve(id));
        match &node.kind {
            Kind::Scalar(Some(cooked)) => Some(cooked),
            Kind::Scalar(None) => text.get(node.span.clone()),
            _ => None,
        }
    }
}

enum Frame {
    Seq { open: Open, items: Vec<NodeId> },
    Map { open: Open, map: Map, pending: Option<(Box<str>, Range<usize>)> },
}

struct Open {
    start: usize,
    /// End of the last thing inside: where a block ends, since its end event comes at the next token.
    last: usize,
    flow: bool,
    anchor: usize,
    size: u64,
    height: usize,
}

struct Builder<'t> {
    text: &'t str,
    nodes: Vec<Node>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, NodeId>,
    root: Option<NodeId>,
    documents: usize,
    merges: bool,
    findings: Vec<Finding>,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            nodes: Vec::with_capacity(text.len() / 16),
            stack: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            documents: 0,
            merges: false,
            findings: Vec::new(),
        }
    }

    /// Takes one event; `false` ends the reading early.
    fn take(&mut self, event: Event<'_>, span: &Span) -> bool {
        let range = syntax::range_of(self.text, span);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.several_documents(range);
                    return false;
                }
                true
            }
            Event::Scalar(value, _, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span, &range);
                self.scalar(&value, range, anchor)
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span, &range);
                let open = self.open(&range, style, anchor);
                self.push_frame(Frame::Seq { open, items: Vec::new() }, range)
            }
            Event::MappingStart(style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span, &range);
                let open = self.open(&range, style, anchor);
                self.push_frame(Frame::Map { open, map: Map::default(), pending: None }, range)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range.end),
            Event::Alias(anchor) => self.alias(anchor, range),
            _ => true,
        }
    }

    fn several_documents(&mut self, range: Range<usize>) {
        let message = "a second document begins here, and one file holds one";
        self.findings.push(
            Finding::error(codes::SEVERAL_DOCUMENTS, range, message)
                .with_help("remove the `---`, or move what follows it into a file of its own"),
        );
    }

    fn refuse_tag(&mut self, tagged: bool, span: &Span, range: &Range<usize>) {
        if tagged {
            let place = span.tag_span().map_or(range.clone(), |tag| syntax::range_of(self.text, &tag));
            self.findings.push(
                Finding::error(codes::NOT_SUPPORTED, place, "a tag such as `!name` has no meaning here")
                    .with_help("remove it; to make a number a text, put it in quotes"),
            );
        }
    }

    fn scalar(&mut self, value: &str, range: Range<usize>, anchor: usize) -> bool {
        let cooked = match self.text.get(range.clone()) {
            // The parser gives `~` for a value that is not there.
            Some(raw) if raw == value || (raw.is_empty() && value == "~") => None,
            _ => Some(Box::from(value)),
        };
        let node = Node { span: range.clone(), kind: Kind::Scalar(cooked), size: 1, height: 1 };
        self.attach(node, range.end, anchor)
    }

    fn open(&self, range: &Range<usize>, style: StructureStyle, anchor: usize) -> Open {
        Open {
            start: range.start,
            last: range.end,
            flow: matches!(style, StructureStyle::Flow),
            anchor,
            size: 1,
            height: 0,
        }
    }

    fn push_frame(&mut self, frame: Frame, range: Range<usize>) -> bool {
        self.stack.push(frame);
        if self.stack.len() > MAX_DEPTH {
            self.too_deep(range);
            return false;
        }
        true
    }

    fn too_deep(&mut self, range: Range<usize>) {
        let message = format!("nested more than {MAX_DEPTH} levels deep");
        self.findings.push(Finding::error(codes::TOO_LARGE, range, message));
    }

    fn close(&mut self, end: usize) -> bool {
        let Some(frame) = self.stack.pop() else { return true };
        let (open, kind) = match frame {
            Frame::Seq { open, items } => (open, Kind::Seq(items)),
            Frame::Map { open, map, .. } => (open, Kind::Map(map)),
        };
        let end = if open.flow { end } else { open.last };
        let span = open.start..end.max(open.start);
        self.attach(Node { span, kind, size: open.size, height: open.height + 1 }, end, open.anchor)
    }

    fn alias(&mut self, anchor: usize, range: Range<usize>) -> bool {
        let Some(&target) = self.anchors.get(&anchor) else {
            let message = "an alias inside the very thing that it stands for";
            self.findings.push(Finding::error(codes::UNKNOWN_ALIAS, range, message));
            return false;
        };
        let Some((size, height)) = self.nodes.get(target).map(|node| (node.size, node.height)) else {
            return true;
        };
        let end = range.end;
        self.attach(Node { span: range, kind: Kind::Alias(target), size, height }, end, 0)
    }

    /// Puts a finished node where it belongs: into the innermost open collection, or at the root.
    fn attach(&mut self, node: Node, end: usize, anchor: usize) -> bool {
        let id = self.nodes.len();
        let (span, size, height) = (node.span.clone(), node.size, node.height);
        self.nodes.push(node);
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        let depth = self.stack.len() + height;
        let total = match self.stack.last_mut() {
            None => {
                self.root = Some(id);
                size
            }
            Some(Frame::Seq { open, items }) => {
                items.push(id);
                open.grow(size, height, end)
            }
            Some(Frame::Map { open, pending, .. }) => {
                let total = open.grow(size, height, end);
                match pending.take() {
                    None => self.begin_entry(id, span.clone()),
                    Some((key, key_span)) => self.finish_entry(Entry { key, key_span, value: id }),
                }
                total
            }
        };
        if total > MAX_NODES {
            let message = format!("aliases expand to more than {MAX_NODES} values");
            self.findings.push(
                Finding::error(codes::TOO_LARGE, span, message)
                    .with_help("write the repeated part once and use it fewer times"),
            );
            return false;
        }
        if depth > MAX_DEPTH + 1 {
            self.too_deep(span);
            return false;
        }
        true
    }

    fn begin_entry(&mut self, id: NodeId, span: Range<usize>) {
        let target = match self.nodes.get(id).map(|node| &node.kind) {
            Some(Kind::Alias(target)) => *target,
            _ => id,
        };
        let key: Box<str> = match self.nodes.get(target) {
            Some(Node { kind: Kind::Scalar(Some(cooked)), .. }) => cooked.clone(),
            Some(Node { kind: Kind::Scalar(None), span, .. }) => {
                Box::from(self.text.get(span.clone()).unwrap_or_default())
            }
            _ => {
                let message = "a key must be plain text, and this is a list or a mapping";
                let help = if self.text.get(..span.start).is_some_and(|before| before.ends_with('{')) {
                    "`{{ ... }}` is not filled in here: write the value out, and a secret as a name under `secrets`"
                } else {
                    "a value that begins with `{` or `[` and is meant as text needs quotes"
                };
                self.findings.push(Finding::error(codes::WRONG_TYPE, span.clone(), message).with_help(help));
                Box::from("")
            }
        };
        if let Some(Frame::Map { pending, .. }) = self.stack.last_mut() {
            *pending = Some((key, span));
        }
    }

    fn finish_entry(&mut self, entry: Entry) {
        if &*entry.key == MERGE_KEY {
            self.merges = true;
            self.check_merge(entry.value);
        }
        let Some(Frame::Map { map, .. }) = self.stack.last_mut() else { return };
        if let Some(first) = map.get(&entry.key) {
            let is_map = |id: NodeId| matches!(self.nodes.get(id), Some(Node { kind: Kind::Map(_), .. }));
            let help = if is_map(first.value) && is_map(entry.value) {
                "keep one of the two, or move what is under the second into the first"
            } else {
                "keep one of the two"
            };
            let message = format!("key `{}` is written twice", entry.key);
            self.findings.push(
                Finding::error(codes::DUPLICATE_KEY, entry.key_span.clone(), message)
                    .with_related(first.key_span.clone(), "first written here")
                    .with_help(help),
            );
        }
        map.push(entry);
    }

    /// `<<` takes a mapping, or a list of mappings, mostly through an alias.
    fn check_merge(&mut self, value: NodeId) {
        let resolve = |id: NodeId| match self.nodes.get(id).map(|node| &node.kind) {
            Some(Kind::Alias(target)) => *target,
            _ => id,
        };
        let is_map =
            |id: NodeId| matches!(self.nodes.get(resolve(id)), Some(Node { kind: Kind::Map(_), .. }));
        let fine = match self.nodes.get(resolve(value)).map(|node| &node.kind) {
            Some(Kind::Map(_)) => true,
            Some(Kind::Seq(items)) => items.iter().all(|item| is_map(*item)),
            _ => false,
        };
        if !fine {
            let place = self.nodes.get(value).map_or(0..0, |node| node.span.clone());
            self.findings.push(
                Finding::error(codes::BAD_MERGE, place, "`<<` takes a mapping or a list of mappings")
                    .with_help("write `<<: *name`, where `&name` stands before a mapping"),
            );
        }
    }

    fn finish(mut self) -> (Option<Tree>, Vec<Finding>) {
        let root = match self.root {
            Some(root) => root,
            None if !self.findings.is_empty() => return (None, self.findings),
            None => {
                self.nodes.push(Node { span: 0..0, kind: Kind::Scalar(None), size: 1, height: 1 });
                self.nodes.len() - 1
            }
        };
        (Some(Tree { nodes: self.nodes, root, merges: self.merges }), self.findings)
    }
}

impl Open {
    fn grow(&mut self, size: u64, height: usize, end: usize) -> u64 {
        self.size = self.size.saturating_add(size);
        self.height = self.height.max(height);
        self.last = self.last.max(end);
        self.size
    }
}

/// The key that copies another mapping's entries into its own.
pub(super) const MERGE_KEY: &str = "<<";
/// Values in a file, aliases expanded. Ten thousand routes have about 250 000.
const MAX_NODES: u64 = 2_000_000;
/// Levels of nesting, aliases expanded. The deepest known document has ten.
const MAX_DEPTH: usize = 64;
/// Up to this many keys a scan is faster than a hash.
const NARROW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(tree: &Tree, id: NodeId) -> Vec<String> {
        match &tree.node(tree.resolve(id)).kind {
            Kind::Map(map) => map.entries.iter().map(|entry| entry.key.to_string()).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn keys_and_values_keep_their_bytes() {
        let text = "name: \"a\\tb\"\nlist: [x, y]\nmap:\n  k: v\n";
        let (tree, findings) = Tree::build(text);
        let tree = tree.expect("a tree");
        assert!(findings.is_empty());
        assert_eq!(keys(&tree, tree.root()), ["name", "list", "map"]);
        let Kind::Map(map) = &tree.node(tree.root()).kind else { panic!("a mapping") };
        let span = |key: &str| tree.node(map.get(key).expect("a key").value).span.clone();
        assert_eq!(&text[span("name")], "\"a\\tb\"");
        assert_eq!(tree.scalar(map.get("name").expect("a key").value, text), Some("a\tb"));
        assert_eq!(&text[span("list")], "[x, y]");
        assert_eq!(&text[span("map")], "k: v");
    }

    #[test]
    fn wide_mappings_are_found_by_hash() {
        let text: String = (0..1000).map(|n| format!("k{n}: {n}\n")).collect();
        let (tree, _) = Tree::build(&text);
        let tree = tree.expect("a tree");
        let Kind::Map(map) = &tree.node(tree.root()).kind else { panic!("a mapping") };
        let value = map.get("k777").expect("a key").value;
        assert_eq!(tree.scalar(value, &text), Some("777"));
        assert!(map.get("k1000").is_none());
    }

    #[test]
    fn expansion_is_counted_before_anything_is_copied() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let below = format!("*a{}, ", n - 1).repeat(10);
            text.push_str(&format!("a{n}: &a{n} [{below}]\n"));
        }
        let (_, findings) = Tree::build(&text);
        assert_eq!(findings.first().map(|f| f.code), Some(codes::TOO_LARGE));
    }

    #[test]
    fn two_mappings_of_one_key_may_be_brought_together_and_nothing_else() {
        let help = |text: &str| {
            let (_, findings) = Tree::build(text);
            assert_eq!(findings.iter().map(|f| f.code).collect::<Vec<_>>(), [codes::DUPLICATE_KEY], "{text}");
            findings.into_iter().flat_map(|finding| finding.help).collect::<Vec<_>>()
        };
        assert!(help("a:\n  b: 1\na:\n  c: 2\n").concat().contains("into the first"));
        for text in ["a: 1\na: { c: 2 }\n", "a: { b: 1 }\na: 2\n", "a: [1]\na: [2]\n"] {
            assert_eq!(help(text), ["keep one of the two"], "{text}");
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_value() {
        let (tree, findings) = Tree::build("# nothing\n");
        assert!(findings.is_empty() && tree.is_some_and(|t| t.node(t.root()).span.is_empty()));
    }
}
