//! Where something stands in the document: `routes[0].match.path`.
//!
//! A path names a place by its file, keys and positions; `locate` turns it into lines and columns. It says nothing about
//! the value that stands there.

use std::fmt;
use std::sync::Arc;

/// One step from a value into a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Seg {
    /// Into a mapping, by the key as written.
    Key(Arc<str>),
    /// Into a sequence, counted from 0.
    Index(usize),
}

/// A place in a file, for people: `conf/portcullis.yaml:12`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file's name as given.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The way from the root of a file to a value. The empty path is the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path {
    /// Which file of the document: 0 is the one that includes the others.
    pub(super) file: usize,
    pub(super) steps: Vec<Seg>,
}

impl Path {
    /// The whole main file.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The whole of one file, counted as in the document.
    pub(super) fn of_file(file: usize) -> Self {
        Self { file, steps: Vec::new() }
    }

    /// The value of `key` in the mapping at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Seg::Key(Arc::from(key)))
    }

    /// Item `index`, counted from 0, of the sequence at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Seg::Index(index))
    }

    /// The steps from the root.
    #[must_use]
    pub fn segments(&self) -> &[Seg] {
        &self.steps
    }

    /// Whether `other` is this place or a part of it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.file == self.file && other.steps.starts_with(&self.steps)
    }

    fn with(&self, seg: Seg) -> Self {
        let mut steps = Vec::with_capacity(self.steps.len() + 1);
        steps.extend_from_slice(&self.steps);
        steps.push(seg);
        Self { file: self.file, steps }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, seg) in self.steps.iter().enumerate() {
            match seg {
                Seg::Index(index) => write!(f, "[{index}]")?,
                Seg::Key(key) if is_plain(key) => {
                    f.write_str(if position == 0 { "" } else { "." })?;
                    f.write_str(key)?;
                }
                Seg::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_document() {
        let path = Path::root().key("routes").index(0).key("match").key("path");
        assert_eq!(path.to_string(), "routes[0].match.path");
        assert_eq!(Path::root().key("mask").key("$.card").to_string(), "mask[\"$.card\"]");
        assert_eq!(Path::root().to_string(), "");
    }

    #[test]
    fn a_place_contains_its_parts_and_itself() {
        let routes = Path::root().key("routes");
        assert!(routes.contains(&routes.index(1)) && routes.contains(&routes));
        assert!(!routes.index(1).contains(&routes));
        assert!(!routes.contains(&Path::of_file(1).key("routes")), "the same key of another file");
    }
}
