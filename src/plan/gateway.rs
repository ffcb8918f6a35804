//! What a process takes from the configuration once, at its start: cache, hand-over, access log; and how it stops.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Options;
use crate::cache::storage::{self, Favor, Settings as StoreSettings};
use crate::config::units::{ByteSize, Timespan, TimespanOrZero};
use crate::config::{Problems, Section, codes, shape};

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogSink {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// The cache zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheZone {
    /// The file that it lies in; `None`: private memory.
    pub file: Option<PathBuf>,
    /// All of it: objects, keys, tables.
    pub size_bytes: u64,
    /// The largest object.
    pub max_object_bytes: u64,
    /// The most objects.
    pub max_objects: u32,
    /// What stays when not all can.
    pub favor: Favor,
}

impl CacheZone {
    /// What the store is told.
    #[must_use]
    pub fn settings(&self) -> StoreSettings<'_> {
        let to_usize = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        StoreSettings {
            file: self.file.as_deref(),
            capacity_bytes: to_usize(self.size_bytes),
            max_object_bytes: to_usize(self.max_object_bytes),
            max_objects: self.max_objects,
            favor: self.favor,
        }
    }
}

/// The least size of the cache.
pub const MIN_CACHE_BYTES: u64 = 1 << 20;

/// The largest: the store counts units of 64 bytes in 32 bits.
pub const MAX_CACHE_BYTES: u64 = 255 << 30;

/// Default size of the cache.
pub const DEFAULT_CACHE_BYTES: u64 = 256 << 20;
/// Default of the largest object in it.
pub const DEFAULT_MAX_OBJECT_BYTES: u64 = 8 << 20;
/// Where and how a hand-over is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The socket.
    pub socket: PathBuf,
    /// How long the successor may take to be ready.
    pub timeout: Duration,
}

/// Default of how long a successor may take to be ready.
pub const DEFAULT_UPGRADE_TIMEOUT: Duration = Duration::from_secs(60);
/// Default of how long a drain may take.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// The store of cached answers: one for all routes and all processes that share its file.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CacheSpec {
    /// The file that the store lies in, on a file system in memory (`/dev/shm`). What is stored is there for the next process: after an
    /// upgrade, a restart, a crash. One file for each gateway. Default: memory of the process, which goes with it.
    file: Option<PathBuf>,
    /// The whole store: answers, keys and tables, from 1MiB to 255GiB. Taken at the start. What is asked for least makes way.
    #[schemars(extend("default" = ByteSize(DEFAULT_CACHE_BYTES)))]
    size: Option<ByteSize>,
    /// The largest answer that is kept, at most an eighth of `size`. A longer one is passed on and not stored. Default: 8MiB, or an eighth of
    /// `size` if that is less.
    #[schemars(extend("default" = ByteSize(DEFAULT_MAX_OBJECT_BYTES)))]
    max_object: Option<ByteSize>,
    /// The most answers. Each takes a record of 128 bytes in the store, used or not. Default: one for each 2KiB of `size`.
    #[schemars(range(min = 256, max = 268_435_456))]
    max_objects: Option<u32>,
    /// What stays when not all answers can.
    #[schemars(extend("default" = "requests"))]
    favor: Option<FavorWord>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FavorWord {
    /// As many requests as can be are answered from the store: a large answer must have been asked for more often than a small one.
    Requests,
    /// As many bytes as can be come from the store: the size of an answer does not matter.
    Bytes,
}

/// How a running gateway hands over to its next release (`portcullis upgrade`).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpgradeSpec {
    /// The socket on which an upgrade is asked for. Its folder must be the gateway's user's alone; one that does not exist is made.
    socket: PathBuf,
    /// How long the next release may take to be ready. One that takes longer is stopped, and the running one serves on.
    #[schemars(extend("default" = Timespan(DEFAULT_UPGRADE_TIMEOUT)))]
    timeout: Option<Timespan>,
}

/// How the gateway stops when it is told to (SIGTERM).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShutdownSpec {
    /// The longest wait for requests under way. What is still open then is cut.
    #[schemars(extend("default" = Timespan(DEFAULT_GRACE)))]
    pub(super) grace: Option<Timespan>,
    /// How long new requests are still taken while `/readyz` already says 503, so that a load balancer notices first.
    #[schemars(extend("default" = "0s"))]
    pub(super) delay: Option<TimespanOrZero>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogFileSpec {
    /// Path of the file; lines are appended. A relative path starts at the configuration file.
    #[schemars(with = "shape::File", example = &"/var/log/portcullis/access.log")]
    file: PathBuf,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogWord {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// No access log.
    Off,
}

pub(super) fn cache_zone(root: &Section, options: &Options<'_>, problems: &mut Problems) -> CacheZone {
    let section = root.get("cache");
    if let Some(section) = &section {
        section.check_keys::<CacheSpec>(&["zones\nall routes share one store"], problems);
    }
    let spec = section.as_ref().and_then(|s| s.decode::<CacheSpec>(problems));
    let spec = spec.unwrap_or_default();
    let size_bytes = spec.size.map_or(DEFAULT_CACHE_BYTES, |size| size.0);
    let most = size_bytes / 8;
    let most_objects = storage::default_objects(usize::try_from(size_bytes).unwrap_or(usize::MAX));
    let zone = CacheZone {
        file: spec.file.map(|file| options.directory.join(file)),
        size_bytes,
        max_object_bytes: spec.max_object.map_or(DEFAULT_MAX_OBJECT_BYTES.min(most), |max| max.0),
        max_objects: spec.max_objects.unwrap_or(most_objects),
        favor: match spec.favor {
            Some(FavorWord::Requests) | None => Favor::Requests,
            Some(FavorWord::Bytes) => Favor::Bytes,
        },
    };
    let Some(section) = section else { return zone };
    let mut bad = |why: String| {
        problems.error(codes::BAD_VALUE, section.path(), why);
    };
    if !(MIN_CACHE_BYTES..=MAX_CACHE_BYTES).contains(&zone.size_bytes) {
        bad("`size` is from 1MiB to 255GiB".into());
    } else if zone.max_object_bytes > most {
        let most = bytesize::ByteSize(most);
        bad(format!("`maxObject` is larger than an eighth of the cache, {most}"));
    }
    let least = storage::MIN_OBJECTS;
    // A record takes 128 bytes: with more than this, the tables would take a quarter of the store.
    let records = u32::try_from(zone.size_bytes / 512).unwrap_or(u32::MAX).clamp(least, storage::MAX_OBJECTS);
    if !(least..=records).contains(&zone.max_objects) {
        bad(format!("`maxObjects` is from {least} to {records} for a cache of this size"));
    }
    zone
}

pub(super) fn access_log(root: &Section, options: &Options<'_>, problems: &mut Problems) -> AccessLogSink {
    let Some(section) = root.get("accessLog") else { return AccessLogSink::Stdout };
    if section.value().is_mapping() {
        let spec = section.decode::<LogFileSpec>(problems);
        return spec
            .map_or(AccessLogSink::Off, |spec| AccessLogSink::File(options.directory.join(spec.file)));
    }
    match section.decode::<LogWord>(problems) {
        Some(LogWord::Stdout) => AccessLogSink::Stdout,
        Some(LogWord::Stderr) => AccessLogSink::Stderr,
        Some(LogWord::Off) | None => AccessLogSink::Off,
    }
}

pub(super) fn upgrade(root: &Section, options: &Options<'_>, problems: &mut Problems) -> Option<Upgrade> {
    let spec = root.get("upgrade")?.decode::<UpgradeSpec>(problems)?;
    Some(Upgrade {
        socket: options.directory.join(spec.socket),
        timeout: spec.timeout.map_or(DEFAULT_UPGRADE_TIMEOUT, |span| span.0),
    })
}
