//! Problems that rooms find in the document, collected until all are known.
//!
//! A problem names its place by a path; `Document::report` turns that into lines and columns. Nothing is printed here.

use std::collections::HashSet;
use std::ops::Range;

use super::path::Path;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The document cannot be used.
    Error,
    /// It can be used, but is probably not what was meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One problem at one place of the document. Made by [`Problems::error`] or [`Problems::warning`].
#[derive(Clone, Debug)]
pub struct Problem {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    pub(super) at: Path,
    pub(super) on_key: bool,
    pub(super) blank: bool,
    pub(super) message: String,
    pub(super) help: Vec<String>,
    pub(super) related: Vec<(Path, String)>,
}

impl Problem {
    /// Points at the key instead of the value.
    pub fn on_key(&mut self) -> &mut Self {
        self.on_key = true;
        self
    }

    /// Adds what to do about it: lower case, no final stop, only when sure.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help.push(help.into());
        self
    }

    /// Adds another place that belongs to the problem, such as the first of two equal names.
    pub fn related(&mut self, at: &Path, label: impl Into<String>) -> &mut Self {
        self.related.push((at.clone(), label.into()));
        self
    }

    /// Never shows the value at this problem's place: it may be a secret.
    pub fn blank_value(&mut self) -> &mut Self {
        self.blank = true;
        self
    }
}

/// All problems of one reading of the document.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    pub(super) list: Vec<Problem>,
    /// Keys that were most likely meant by a key reported as unknown: their absence is no second problem.
    meant: HashSet<(Path, String)>,
}

impl Problems {
    /// No problems yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that the document cannot be used. `message` is lower case, without a final stop, values in backticks.
    pub fn error(&mut self, code: &'static str, at: &Path, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Error, code, at, message.into())
    }

    /// Records something that is allowed, but probably not meant.
    pub fn warning(&mut self, code: &'static str, at: &Path, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Warning, code, at, message.into())
    }

    /// Whether any of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes over what another collection holds.
    pub fn extend(&mut self, other: Self) {
        self.list.extend(other.list);
        self.meant.extend(other.meant);
    }

    pub(super) fn note_meant(&mut self, at: &Path, key: &str) {
        self.meant.insert((at.clone(), key.to_owned()));
    }

    /// Whether a key that is not known was told already, and was most likely meant to be this one.
    #[must_use]
    pub fn is_meant(&self, at: &Path, key: &str) -> bool {
        !self.meant.is_empty() && self.meant.contains(&(at.clone(), key.to_owned()))
    }

    fn push(&mut self, severity: Severity, code: &'static str, at: &Path, message: String) -> &mut Problem {
        self.list.push(Problem {
            code,
            severity,
            at: at.clone(),
            on_key: false,
            blank: false,
            message,
            help: Vec::new(),
            related: Vec::new(),
        });
        self.list.last_mut().expect("one was just pushed")
    }
}

/// A problem with its bytes in the file: what the parser finds directly, and what a [`Problem`] becomes once located.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    /// Which file of the document.
    pub(super) file: usize,
    pub(super) place: Range<usize>,
    /// The path, shown beside the place; empty when there is none to show.
    pub(super) path: String,
    pub(super) message: String,
    pub(super) help: Vec<String>,
    pub(super) related: Vec<Related>,
}

/// Another place that belongs to a finding, perhaps in another file.
#[derive(Clone, Debug)]
pub(super) struct Related {
    pub(super) file: usize,
    pub(super) place: Range<usize>,
    pub(super) label: String,
}

impl Finding {
    pub(super) fn error(code: &'static str, place: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            file: 0,
            place,
            path: String::new(),
            message: message.into(),
            help: Vec::new(),
            related: Vec::new(),
        }
    }

    pub(super) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    pub(super) fn with_related(mut self, place: Range<usize>, label: impl Into<String>) -> Self {
        self.related.push(Related { file: self.file, place, label: label.into() });
        self
    }

    /// What the parser of one file found, as a finding of the whole document.
    pub(super) fn in_file(mut self, file: usize) -> Self {
        self.file = file;
        self.related.iter_mut().for_each(|related| related.file = file);
        self
    }
}
