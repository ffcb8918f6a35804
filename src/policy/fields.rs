//! `set`, `add` and `remove` of header fields: the same on the way out and on the way back.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

use super::told::listed;
use super::{Build, Fault};
use crate::config::{Problems, Section, codes};

/// A head whose fields can be changed without losing the case map that Pingora keeps beside them.
pub trait Head {
    /// Removes all lines of a field.
    fn remove(&mut self, name: &HeaderName);
    /// Replaces all lines of a field.
    ///
    /// # Errors
    /// [`Fault::Internal`] when the head is full.
    fn insert(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Fault>;
    /// Adds a line.
    ///
    /// # Errors
    /// [`Fault::Internal`] when the head is full.
    fn append(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Fault>;
}

impl Head for RequestHeader {
    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn insert(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Fault> {
        self.insert_header(name, value).map_err(|_| Fault::Internal)
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Fault> {
        self.append_header(name, value).map(|_| ()).map_err(|_| Fault::Internal)
    }
}

impl Head for ResponseHeader {
    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn insert(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Fault> {
        self.insert_header(name, value).map_err(|_| Fault::Internal)
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Fault> {
        self.append_header(name, value).map(|_| ()).map_err(|_| Fault::Internal)
    }
}

/// What an operator does to the fields of a head.
#[derive(Debug, Default)]
pub struct FieldEdits {
    /// Taken away first.
    pub remove: Vec<HeaderName>,
    /// Then set.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Then added to what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl FieldEdits {
    /// Does it.
    ///
    /// # Errors
    /// [`Fault::Internal`] when the head is full.
    pub fn apply(&self, head: &mut impl Head) -> Result<(), Fault> {
        for name in &self.remove {
            head.remove(name);
        }
        for (name, value) in &self.set {
            head.insert(name.clone(), value.clone())?;
        }
        for (name, value) in &self.add {
            head.append(name.clone(), value.clone())?;
        }
        Ok(())
    }

    /// The names that are set.
    #[must_use]
    pub fn set_names(&self) -> Vec<&str> {
        self.set.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The names that are added.
    #[must_use]
    pub fn added_names(&self) -> Vec<&str> {
        self.add.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// What is set and added, in words; values are part of the head that is shown.
    pub fn words(&self) -> impl Iterator<Item = String> {
        [("sets", self.set_names()), ("adds", self.added_names())]
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(verb, names)| format!("{verb} {}", listed(&names)))
    }
}

/// Reads field names and values; `refuses` says why an operator cannot have a name at a key.
pub struct Reader<'a> {
    /// The `headers` section, for the place of a mistake.
    pub section: Option<&'a Section>,
    /// Why a name cannot stand at a key; `None`: it can.
    pub refuses: &'a dyn Fn(&HeaderName, &str, &Build<'_>) -> Option<&'static str>,
}

impl Reader<'_> {
    /// The names of a list.
    pub fn names<'n>(
        &self,
        key: &str,
        written: impl Iterator<Item = &'n String>,
        build: &mut Build<'_>,
    ) -> Vec<HeaderName> {
        written.filter_map(|name| self.name(key, name, build)).collect()
    }

    /// The names and values of a mapping.
    pub fn fields(
        &self,
        key: &str,
        written: &BTreeMap<String, String>,
        build: &mut Build<'_>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut list = Vec::with_capacity(written.len());
        for (name, value) in written {
            let Some(parsed) = self.name(key, name, build) else { continue };
            match HeaderValue::try_from(value.as_str()) {
                Ok(value) => list.push((parsed, value)),
                Err(_) => {
                    let Some(at) = self.section.map(|section| section.at(key).at(name)) else { continue };
                    build
                        .problems
                        .error(codes::BAD_VALUE, at.path(), format!("the value of `{name}` cannot be sent"))
                        .help("a header's value is one line of visible characters and spaces");
                }
            }
        }
        list
    }

    fn name(&self, key: &str, name: &str, build: &mut Build<'_>) -> Option<HeaderName> {
        let at = self.section.map(|section| place(&section.at(key), name));
        let Ok(parsed) = HeaderName::try_from(name) else {
            if let Some(at) = at {
                no_header_name(name, &at, build.problems);
            }
            return None;
        };
        match ((self.refuses)(&parsed, key, build), at) {
            (Some(why), Some(at)) => {
                build.problems.error(codes::BAD_VALUE, at.path(), format!("`{name}` {why}")).on_key();
                None
            }
            (Some(_), None) => None,
            (None, _) => Some(parsed),
        }
    }
}

/// Where a name is written: as a key of a mapping, or as an item of a list.
fn place(holder: &Section, name: &str) -> Section {
    match holder.value().as_sequence() {
        Some(items) => holder.item(items.iter().position(|item| item.as_str() == Some(name)).unwrap_or(0)),
        None => holder.at(name),
    }
}

/// Says that a text is no header name (RFC 9110 §5.1).
pub fn no_header_name(name: &str, at: &Section, problems: &mut Problems) {
    let problem = problems.error(codes::BAD_VALUE, at.path(), format!("`{name}` is no header name")).on_key();
    problem.help("a header name is made of letters, digits and `-`, without `:` and spaces");
}
