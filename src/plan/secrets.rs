//! `secrets`: names, where their values are, and what is wrong with them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Options, Process, Secrets, upstreams};
use crate::config::units::Timespan;
use crate::config::{Problems, Section, codes, shape};
use crate::names::SecretName;
use crate::secret::{SecretProblem, SecretRef, SecretSlot, SecretStore};

/// Where a secret's value is: exactly one of `env` and `file`. The value itself is never written here. Under 8 bytes is refused.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("oneOf" = [{ "required": ["env"] }, { "required": ["file"] }]))]
pub(super) struct SecretSpec {
    /// The environment variable that holds the value; read when the gateway starts.
    #[schemars(example = &"VENDOR_KEY")]
    env: Option<String>,
    /// The file that holds the value; read again when it changes. One line break at its end is not part of the value.
    #[schemars(with = "Option<shape::File>", example = &"/run/secrets/vendor")]
    file: Option<PathBuf>,
    /// How long the old value is still used when the file goes away. Then requests that need it are answered with 503.
    #[schemars(extend("default" = Timespan(DEFAULT_KEEP_LAST_GOOD)))]
    keep_last_good: Option<Timespan>,
}

/// What is wrong with a secret, in the words of where it comes from. `source` is the file as written.
fn unusable(name: &SecretName, reference: &SecretRef, source: &str, why: SecretProblem) -> String {
    let from = match reference {
        SecretRef::Env(variable) => format!("the variable `{variable}`"),
        SecretRef::File(_) => format!("the file `{source}`"),
    };
    match (why, reference) {
        (SecretProblem::Missing, SecretRef::Env(_)) => {
            format!("the secret `{name}` is missing: {from} is not set")
        }
        (SecretProblem::Missing, SecretRef::File(_)) => {
            format!("the secret `{name}` is missing: {from} does not exist")
        }
        (SecretProblem::Empty, _) => format!("the secret `{name}` is empty: {from} holds nothing"),
        (SecretProblem::ForbiddenByte, _) => format!("the secret `{name}` from {from} {why}"),
        _ => format!("the secret `{name}` from {from} is {why}"),
    }
}

/// What to do about it.
fn remedy(why: SecretProblem) -> &'static str {
    match why {
        SecretProblem::Missing | SecretProblem::Empty => {
            "without its secret no request could be sent; where secrets are not at hand, use `check --no-secrets`"
        }
        SecretProblem::TooShort => "so short a secret is easily guessed, and cannot be told apart in answers",
        SecretProblem::ForbiddenByte => {
            "a secret is one line; a line break at the end of a file is no part of it"
        }
        SecretProblem::TooLarge | SecretProblem::Unreadable { .. } => {
            "without its secret no request could be sent, so this configuration is refused"
        }
    }
}

/// How long a secret whose file went away is still used, where `keepLastGood` is not written.
pub const DEFAULT_KEEP_LAST_GOOD: Duration = Duration::from_secs(24 * 3600);

/// The secrets of a document, read.
pub struct Slots {
    slots: BTreeMap<String, Slot>,
    used: std::cell::RefCell<std::collections::BTreeSet<String>>,
}

pub(super) struct Slot {
    name: SecretName,
    slot: Option<Arc<SecretSlot>>,
}

impl Slots {
    pub(super) fn read(
        root: &Section,
        process: &Process,
        options: &Options<'_>,
        problems: &mut Problems,
    ) -> Self {
        let mut slots = BTreeMap::new();
        let entries = root.get("secrets").map(|s| s.entries(problems)).unwrap_or_default();
        for (written, section) in entries {
            let name = match SecretName::parse(&written) {
                Ok(name) => name,
                Err(why) => {
                    problems
                        .error(codes::BAD_NAME, section.path(), format!("`{written}` is no name: {why}"))
                        .on_key();
                    continue;
                }
            };
            let slot = read_secret(&name, &section, process, options, problems);
            slots.insert(written, Slot { name, slot });
        }
        Self { slots, used: std::cell::RefCell::default() }
    }

    /// The slot of a secret; an unknown name is recorded at `at`. `None` also where secrets are only assumed.
    pub fn get(
        &self,
        name: &str,
        at: &crate::config::Path,
        problems: &mut Problems,
    ) -> Option<Arc<SecretSlot>> {
        let slot = self.check_name(name, at, problems)?;
        self.used.borrow_mut().insert(name.to_owned());
        slot.slot.clone()
    }

    /// Records an unknown name at `at`, where it is not used.
    pub(super) fn check_name(
        &self,
        name: &str,
        at: &crate::config::Path,
        problems: &mut Problems,
    ) -> Option<&Slot> {
        let slot = self.slots.get(name);
        if slot.is_none() {
            let known: Vec<&str> = self.slots.keys().map(String::as_str).collect();
            let problem = problems.error(codes::UNKNOWN_SECRET, at, format!("there is no secret `{name}`"));
            match upstreams::closest(name, &known) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None if known.is_empty() => {
                    problem.help(format!("declare it: `secrets: {{ {name}: {{ env: VARIABLE }} }}`"))
                }
                None => problem.help(format!("declared are: `{}`", known.join("`, `"))),
            };
        }
        slot
    }

    pub(super) fn names(&self) -> Vec<SecretName> {
        self.slots.values().map(|slot| slot.name.clone()).collect()
    }

    pub(super) fn warn_of_unused(&self, root: &Section, problems: &mut Problems) {
        let Some(section) = root.get("secrets") else { return };
        for name in self.slots.keys().filter(|name| !self.used.borrow().contains(*name)) {
            if let Some(entry) = section.get(name) {
                problems
                    .warning(codes::NO_EFFECT, entry.path(), format!("nothing uses the secret `{name}`"))
                    .on_key();
            }
        }
    }
}

/// Whether a shell or a supervisor could set a variable of this name (IEEE Std 1003.1, Base Definitions, §8.1, widely read).
fn can_be_set(variable: &str) -> bool {
    !variable.is_empty()
        && !variable.contains(|c: char| c.is_whitespace() || c.is_control() || "=$".contains(c))
}

fn read_secret(
    name: &SecretName,
    section: &Section,
    process: &Process,
    options: &Options<'_>,
    problems: &mut Problems,
) -> Option<Arc<SecretSlot>> {
    if !section.value().is_mapping() {
        problems
            .error(codes::INLINE_SECRET, section.path(), "a secret is never written into the configuration")
            .blank_value()
            .help("refer to it: `{ env: VARIABLE }` or `{ file: /run/secrets/name }`");
        return None;
    }
    let spec = section.decode::<SecretSpec>(problems)?;
    let reference = match (spec.env, spec.file) {
        (Some(variable), None) if !can_be_set(&variable) => {
            let at = section.get("env").unwrap_or_else(|| section.clone());
            let problem = problems
                .error(codes::BAD_VALUE, at.path(), "no variable of the environment can have this name")
                .help("write the name alone, as in `{ env: VENDOR_KEY }`");
            if variable.contains('=') {
                // What stands behind it is the value.
                problem.blank_value();
            }
            return None;
        }
        (Some(variable), None) => SecretRef::Env(variable),
        (None, Some(file)) => SecretRef::File(options.directory.join(file)),
        _ => {
            problems
                .error(
                    codes::BAD_VALUE,
                    section.path(),
                    "a secret comes from exactly one of `env` and `file`",
                )
                .help("`{ env: VARIABLE }` or `{ file: /run/secrets/name }`");
            return None;
        }
    };
    match options.secrets {
        Secrets::Read => {}
        Secrets::Assume => return None,
        Secrets::Invent(value) => return SecretStore::invented(name, value(name).into_bytes()).ok(),
    }
    let keep = spec.keep_last_good.map_or(DEFAULT_KEEP_LAST_GOOD, |span| span.0);
    match process.secrets.resolve(name, &reference, keep) {
        Ok(slot) => Some(slot),
        Err(why) => {
            let key = if matches!(reference, SecretRef::Env(_)) { "env" } else { "file" };
            let at = section.get(key).unwrap_or_else(|| section.clone());
            let code = match why {
                SecretProblem::Missing | SecretProblem::Empty => codes::SECRET_MISSING,
                _ => codes::SECRET_INVALID,
            };
            let source = at.value().as_str().unwrap_or_default();
            problems.error(code, at.path(), unusable(name, &reference, source, why)).help(remedy(why));
            None
        }
    }
}
