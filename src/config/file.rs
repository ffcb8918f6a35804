//! One file of the document: its text, its values, and the places of both.
//!
//! It is read and parsed by itself. What is no YAML, what stands twice and what would grow without end is kept as findings,
//! and such a file has no values.

use std::io::Read;
use std::ops::Range;

use serde_yaml::Value;

use super::codes;
use super::merge;
use super::path::{Path, Place};
use super::problem::Finding;
use super::redact::Blanks;
use super::report::Source;
use super::tree::Tree;

/// One file, parsed as far as possible.
pub(super) struct File {
    pub(super) source: Source,
    /// `None` where the text is no YAML.
    tree: Option<Tree>,
    /// Null where there is a finding.
    pub(super) value: Value,
    /// What makes it unusable.
    pub(super) findings: Vec<Finding>,
}

/// The largest file that is read, in bytes: about 40 000 routes.
pub const MAX_FILE_BYTES: usize = 8 * 1024 * 1024;

/// Where the relative paths of a file start: its folder.
#[must_use]
pub fn directory_of(file: &std::path::Path) -> &std::path::Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => std::path::Path::new("."),
    }
}

/// The text of a file, or a code and why there is none.
pub(super) fn read(path: &std::path::Path) -> Result<String, (&'static str, String)> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        // One byte more than allowed tells that there is more, whatever the file's size claims to be.
        .and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| (codes::UNREADABLE, format!("cannot read `{}`: {error}", path.display())))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err((codes::TOO_LARGE, too_large()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        (codes::NOT_TEXT, format!("line {line} is not UTF-8 text"))
    })
}

pub(super) fn too_large() -> String {
    format!("the file is larger than {} MiB", MAX_FILE_BYTES / (1024 * 1024))
}

impl File {
    pub(super) fn parse(name: &str, text: String) -> Self {
        // An invisible mark that some editors put first.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        let source = Source::new(name, text);
        let (tree, mut findings) = Tree::build(source.text());
        let mut value = Value::Null;
        if let Some(tree) = tree.as_ref().filter(|_| findings.is_empty()) {
            match serde_yaml::from_str(source.text()) {
                Ok(decoded) => value = decoded,
                Err(error) => findings.push(decoder_error(&source, &error)),
            }
            if tree.merges {
                merge::apply(&mut value);
            }
        }
        Self { source, tree, value, findings }
    }

    /// How many values it has, aliases expanded.
    pub(super) fn size(&self) -> u64 {
        self.tree.as_ref().map_or(0, Tree::size)
    }

    /// File, line and column of the key at `path`, or of the value where there is no key.
    pub(super) fn place(&self, path: &Path) -> Place {
        let at = self.tree.as_ref().map_or(0, |tree| tree.locate(path).key.start);
        let (line, column) = self.source.line_column(at);
        let counted = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Place { file: self.source.shared_name(), line: counted(line), column: counted(column) }
    }

    /// The bytes of `path` to point at, and where an alias or a merge key uses them.
    pub(super) fn point(&self, path: &Path, on_key: bool) -> (Range<usize>, Option<Range<usize>>) {
        let Some(tree) = &self.tree else { return (0..0, None) };
        let place = tree.locate(path);
        // Where the path goes on beyond what is written, the key of the last part that exists is the place.
        let on_key = on_key || place.found < path.segments().len();
        (place.point(self.source.text(), on_key), place.used_at)
    }

    /// Whether no part of the value at `path` may be a secret.
    pub(super) fn may_be_shown(&self, path: &Path, blanks: &Blanks) -> bool {
        self.tree.as_ref().is_some_and(|tree| !blanks.touch(&tree.locate(path).value))
    }

    /// The scalar at `path` as written, if it is one and is not among the `blanks`.
    pub(super) fn shown_scalar(&self, path: &Path, blanks: &Blanks) -> Option<&str> {
        let tree = self.tree.as_ref()?;
        let place = tree.locate(path);
        if place.found < path.segments().len() || blanks.touch(&place.value) {
            return None;
        }
        tree.scalar(place.node, self.source.text())
    }

    /// What of it must not be shown.
    pub(super) fn blanks(&self) -> Blanks {
        match &self.tree {
            None => Blanks::of_lines(self.source.text()),
            Some(tree) if self.findings.is_empty() => Blanks::of_tree(tree, self.source.text()),
            Some(tree) => Blanks::of_both(tree, self.source.text()),
        }
    }

    /// Adds the value at `path`, if it exists, to what must not be shown.
    pub(super) fn blank(&self, path: &Path, blanks: &mut Blanks) {
        let Some(tree) = &self.tree else { return };
        let place = tree.locate(path);
        if place.found == path.segments().len() {
            blanks.add_value(tree, self.source.text(), place.node);
        }
    }
}

/// What the locator accepts and the decoder does not: rare, and told without the decoder's own text, which may echo values.
fn decoder_error(source: &Source, error: &serde_yaml::Error) -> Finding {
    let Some(location) = error.location() else {
        return Finding::error(codes::TOO_LARGE, 0..0, "aliases are repeated too often in this file");
    };
    let at = location.index().min(source.text().trim_end().len());
    let at = source.text().floor_char_boundary(at);
    Finding::error(codes::SYNTAX, at..at, "this value cannot be read")
        .with_help("a number may be too large; if it is meant as text, quote it")
}
