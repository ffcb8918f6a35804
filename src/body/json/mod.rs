//! Shapes a JSON body: keeps some subtrees, removes others, and copies what stays byte for byte.
//!
//! One strict pass over a complete body (RFC 8259), no tree: numbers keep their digits and strings their escapes. A body
//! that is no JSON is refused as a whole, so what a path should have removed never slips through a reading of our own.
//! It does not decode content codings and does not know HTTP; whoever calls it turns an error into 502.
//!
//! What a path means where it does not quite fit:
//! - a container on the way to a kept subtree stays, empty if nothing in it matches; a scalar there goes;
//! - a body whose root is such a scalar becomes `null`, because some value must stand there;
//! - array elements that go close the gap, and paths count positions in the body as it came;
//! - every member of a repeated name is treated alike, and names are compared unescaped (`"\u0069d"` is `id`).

pub mod origins;
mod path;
mod scan;

pub use path::PathError;

use path::Step;
use scan::Scanner;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// The deepest nesting of arrays and objects that is read. The same bound as `serde_json`'s.
pub const MAX_DEPTH: usize = 128;

/// Why a body could not be shaped. The upstream's fault. Holds nothing of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeError {
    /// Not one JSON text; the byte at which that became clear.
    NotJson {
        /// Offset into the body.
        at: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// Not UTF-8 (RFC 8259 §8.1).
    InvalidUtf8,
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson { at } => write!(f, "not JSON at byte {at}"),
            Self::TooDeep => write!(f, "nested deeper than {MAX_DEPTH}"),
            Self::InvalidUtf8 => f.write_str("not UTF-8"),
        }
    }
}

impl std::error::Error for ShapeError {}

/// What stays and what goes, as a trie of path steps. Part of the configuration; shared by all requests.
#[derive(Debug)]
pub struct Shape {
    nodes: Vec<Node>,
    /// Whether everything stays that is not removed: no `keep`, or `keep: ["$"]`.
    keeps_root: bool,
}

/// One place in the trie: the same steps from the root lead here.
#[derive(Debug, Default)]
struct Node {
    names: HashMap<Box<str>, usize>,
    indexes: HashMap<u64, usize>,
    wildcard: Option<usize>,
    /// A `keep` path ends here.
    keeps: bool,
    /// A `keep` path goes on from here.
    keeps_below: bool,
    /// A `remove` path ends here.
    removes: bool,
}

/// What a list of paths is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Keep,
    Remove,
}

impl Shape {
    /// Compiles the paths. An empty `keep` keeps everything; `remove` wins over `keep`.
    ///
    /// # Errors
    /// [`PathError`] of the first path that cannot be read or is not supported.
    pub fn compile(keep: &[&str], remove: &[&str]) -> Result<Self, PathError> {
        let mut shape = Self { nodes: vec![Node::default()], keeps_root: keep.is_empty() };
        for path in keep {
            shape.add(&path::parse(path)?, Purpose::Keep);
        }
        for path in remove {
            let steps = path::parse(path)?;
            if steps.is_empty() {
                return Err(PathError::new(path, 0, "this would remove everything"));
            }
            shape.add(&steps, Purpose::Remove);
        }
        shape.keeps_root |= shape.nodes.first().is_some_and(|root| root.keeps);
        Ok(shape)
    }

    /// Appends the shaped `body` to `out`. On an error `out` is as it was.
    ///
    /// # Errors
    /// [`ShapeError`]: the body is not one valid JSON text. It is checked whole, also where it is removed.
    pub fn shape(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), ShapeError> {
        let body = std::str::from_utf8(body).map_err(|_| ShapeError::InvalidUtf8)?;
        let before = out.len();
        out.reserve(body.len());
        let mut walk = Walk { shape: self, scanner: Scanner::new(body), out, active: vec![0] };
        let result = walk.document();
        if result.is_err() {
            out.truncate(before);
        }
        result
    }

    fn add(&mut self, steps: &[Step], purpose: Purpose) {
        let mut at = 0;
        for step in steps {
            let fresh = self.nodes.len();
            let node = self.node_mut(at);
            node.keeps_below |= purpose == Purpose::Keep;
            at = match step {
                Step::Name(name) => *node.names.entry(name.as_str().into()).or_insert(fresh),
                Step::Index(index) => *node.indexes.entry(*index).or_insert(fresh),
                Step::Wildcard => *node.wildcard.get_or_insert(fresh),
            };
            if at == fresh {
                self.nodes.push(Node::default());
            }
        }
        let node = self.node_mut(at);
        match purpose {
            Purpose::Keep => node.keeps = true,
            Purpose::Remove => node.removes = true,
        }
    }

    fn node_mut(&mut self, at: usize) -> &mut Node {
        self.nodes.get_mut(at).expect("nodes are only ever added")
    }
}

/// Where a child of a container stands.
enum Child<'a> {
    Name(&'a str),
    Index(u64),
}

/// What becomes of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Stays, but for what is removed below.
    Stays,
    /// Stays only as the container of kept subtrees.
    Holds,
    /// Goes.
    Goes,
}

/// One pass over one body.
struct Walk<'s, 'b, 'o> {
    shape: &'s Shape,
    scanner: Scanner<'b>,
    out: &'o mut Vec<u8>,
    /// A stack of node ids: on top, those that the value at hand matches. Empty there means that no path goes further.
    active: Vec<usize>,
}

impl Walk<'_, '_, '_> {
    fn document(&mut self) -> Result<(), ShapeError> {
        self.scanner.skip_whitespace();
        let fate = if self.shape.keeps_root { Fate::Stays } else { Fate::Holds };
        if fate == Fate::Holds && !self.scanner.is_at_container() {
            self.scanner.skip_value(0)?;
            self.out.extend_from_slice(b"null");
        } else {
            self.value(0, fate, 0)?;
        }
        self.scanner.skip_whitespace();
        self.scanner.end()
    }

    /// Reads the value at hand and writes what stays of it. Its active nodes are those of the stack from `base` on.
    fn value(&mut self, base: usize, fate: Fate, depth: usize) -> Result<(), ShapeError> {
        let is_whole = fate == Fate::Stays && self.active.len() == base;
        match self.scanner.peek() {
            Some(open @ (b'{' | b'[')) if fate != Fate::Goes && !is_whole => {
                self.container(open, base, fate, depth + 1)
            }
            _ => {
                let start = self.scanner.position();
                self.scanner.skip_value(depth)?;
                if fate == Fate::Stays {
                    self.out.extend_from_slice(self.scanner.since(start));
                }
                Ok(())
            }
        }
    }

    /// Walks an array or object; whitespace between its tokens is dropped.
    fn container(&mut self, open: u8, base: usize, fate: Fate, depth: usize) -> Result<(), ShapeError> {
        if depth > MAX_DEPTH {
            return Err(ShapeError::TooDeep);
        }
        let close = if open == b'{' { b'}' } else { b']' };
        self.scanner.advance();
        self.out.push(open);
        self.scanner.skip_whitespace();
        if !self.scanner.take(close) {
            let mut written = false;
            let mut index = 0;
            loop {
                self.member(open, index, base, fate, depth, &mut written)?;
                index += 1;
                self.scanner.skip_whitespace();
                if self.scanner.take(close) {
                    break;
                }
                self.scanner.expect(b',')?;
                self.scanner.skip_whitespace();
            }
        }
        self.out.push(close);
        Ok(())
    }

    /// One element or member, with the comma before it if an earlier one stayed.
    fn member(
        &mut self,
        open: u8,
        index: u64,
        base: usize,
        fate: Fate,
        depth: usize,
        written: &mut bool,
    ) -> Result<(), ShapeError> {
        let top = self.active.len();
        let (child_fate, name) = if open == b'{' {
            let name = self.scanner.string()?;
            let text = scan::unescape(name);
            let child_fate = self.descend(base, &Child::Name(&text), fate);
            self.scanner.skip_whitespace();
            self.scanner.expect(b':')?;
            self.scanner.skip_whitespace();
            (child_fate, Some(name))
        } else {
            (self.descend(base, &Child::Index(index), fate), None)
        };
        // A scalar cannot hold what was asked for.
        let child_fate = match child_fate {
            Fate::Holds if !self.scanner.is_at_container() => Fate::Goes,
            other => other,
        };
        if child_fate != Fate::Goes {
            if std::mem::replace(written, true) {
                self.out.push(b',');
            }
            if let Some(name) = name {
                self.out.extend_from_slice(name.as_bytes());
                self.out.push(b':');
            }
        }
        self.value(top, child_fate, depth)?;
        self.active.truncate(top);
        Ok(())
    }

    /// Puts the nodes that `child` matches on the stack and says what becomes of it.
    fn descend(&mut self, base: usize, child: &Child<'_>, parent: Fate) -> Fate {
        let top = self.active.len();
        let mut fate = if parent == Fate::Stays { Fate::Stays } else { Fate::Goes };
        for place in base..top {
            let node = self.active.get(place).and_then(|id| self.shape.nodes.get(*id));
            let Some(node) = node else { continue };
            let named = match child {
                Child::Name(name) => node.names.get(*name),
                Child::Index(index) => node.indexes.get(index),
            };
            for id in named.into_iter().chain(&node.wildcard) {
                let Some(next) = self.shape.nodes.get(*id) else { continue };
                if next.removes {
                    self.active.truncate(top);
                    return Fate::Goes;
                }
                if next.keeps {
                    fate = Fate::Stays;
                } else if next.keeps_below && fate == Fate::Goes {
                    fate = Fate::Holds;
                }
                self.active.push(*id);
            }
        }
        fate
    }
}

#[cfg(test)]
mod tests;
