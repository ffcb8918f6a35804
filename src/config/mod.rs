//! The YAML document as written, with the place of everything in it.
//!
//! A document is a main file and those that it includes (`include`). A file is read in three steps that never mix: one parser finds where things stand (`tree`), another says what they are
//! (`document`), and a room that needs its part decodes it from a [`Section`] and records what is wrong in [`Problems`].
//! [`Document::report`] turns these into a [`Report`] with file, line, column and the lines concerned, secrets blanked.
//!
//! This room knows no policy, no route table and no key of ours except where secrets may stand (`redact`) and what other
//! gateways call them (`foreign`). It resolves
//! nothing: whether an upstream exists is the plan's question.

#[cfg(test)]
mod agreement;
pub mod codes;
mod decode;
mod document;
mod file;
mod foreign;
mod include;
mod keys;
mod locate;
mod merge;
mod path;
mod problem;
mod redact;
mod report;
mod section;
pub mod shape;
mod sources;
mod suggest;
mod syntax;
mod tree;
pub mod units;
mod visible;
mod words;

pub use document::{Document, load, parse};
pub use file::{MAX_FILE_BYTES, directory_of};
pub use include::{MAX_DOCUMENT_BYTES, MAX_INCLUDED_FILES};
pub use keys::keys_of;
pub use path::{Path, Place, Seg};
pub use problem::{Problem, Problems, Severity};
pub use report::{Entry, Region, Report};
pub use section::Section;
pub use sources::Sources;
pub use suggest::did_you_mean;
pub use units::{ByteSize, Percent, Rate, Timespan, TimespanOrZero};
pub use visible::{visible, visible_line};
