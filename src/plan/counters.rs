//! `rateLimits`: where the counters of all rate limits lie. Read once, at the start of a process.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Options;
use crate::config::{Problems, Section, codes, shape};

/// Default of the keys that are counted.
pub const DEFAULT_KEYS: u32 = 1 << 20;
/// The fewest keys that can be asked for.
pub const MIN_KEYS: u32 = 1 << 10;
/// The most keys that can be asked for: 17 GiB.
pub const MAX_KEYS: u32 = 1 << 30;

/// Where the counters of all rate limits lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterTable {
    /// The file; `None`: private memory.
    pub file: Option<PathBuf>,
    /// Keys that it has room for.
    pub keys: u32,
}

/// The counters of all rate limits of all routes.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    /// The file that the counters lie in, on a file system in memory (`/dev/shm`). All gateways that name it count together, exactly, and the
    /// counters outlive them: a restart, an upgrade, a crash. Taken at the start. Default: memory of the process, which goes with it.
    #[schemars(with = "Option<shape::File>", example = &"/dev/shm/portcullis.limits")]
    file: Option<PathBuf>,
    /// How many clients there is room for, each once for every limit that counts it; 17.1 bytes each. Past it, who has been at rest
    /// longest makes way, and newcomers are estimated while nobody is at rest. Taken at the start; with another number the file is made
    /// anew, and everybody begins at rest.
    #[schemars(range(min = MIN_KEYS, max = MAX_KEYS), extend("default" = DEFAULT_KEYS))]
    keys: Option<u32>,
}

/// Reads the settings. `cache` is the file that the answers lie in.
pub(super) fn read(
    root: &Section,
    cache: Option<&PathBuf>,
    options: &Options<'_>,
    problems: &mut Problems,
) -> CounterTable {
    let section = root.get("rateLimits");
    if let Some(section) = &section {
        section.check_keys::<Spec>(&[], problems);
    }
    let spec = section.as_ref().and_then(|section| section.decode::<Spec>(problems)).unwrap_or_default();
    let table = CounterTable {
        file: spec.file.map(|file| options.directory.join(file)),
        keys: spec.keys.unwrap_or(DEFAULT_KEYS),
    };
    let Some(section) = section else { return table };
    if !(MIN_KEYS..=MAX_KEYS).contains(&table.keys) {
        let message = format!("`keys` is from {MIN_KEYS} to {MAX_KEYS}");
        problems.error(codes::BAD_VALUE, section.at("keys").path(), message);
    }
    if table.file.is_some() && table.file.as_ref() == cache {
        problems
            .error(codes::BAD_VALUE, section.at("file").path(), "this is the file of the cache")
            .help("give the counters a file of their own");
    }
    table
}
