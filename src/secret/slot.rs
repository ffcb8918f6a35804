//! One secret in use: its current value, and how reading it again went. The value is swapped whole; a reader takes no lock.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;

use super::source::Environment;
use super::{Secret, SecretProblem, SecretRef};
use crate::names::SecretName;

/// A value and which one of its slot it is.
#[derive(Debug)]
pub struct Versioned {
    /// The value.
    pub secret: Secret,
    /// 1 for the first value of the slot, one more with each rotation. For whoever keeps something derived from the value.
    pub version: u64,
}

/// One secret in use. Process lifetime; shared by every configuration that names the same secret at the same place.
pub struct SecretSlot {
    name: SecretName,
    source: SecretRef,
    keep_last_good: Duration,
    current: ArcSwapOption<Versioned>,
    reloads_ok: AtomicU64,
    reloads_failed: AtomicU64,
    last_success_unix: AtomicU64,
    version: AtomicU64,
}

/// How reading a secret went so far; plain numbers for a metrics collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretStats {
    /// Readings that gave a valid value, the first included.
    pub reloads_ok: u64,
    /// Readings that did not.
    pub reloads_failed: u64,
    /// When the last valid value was read, in seconds since 1970.
    pub last_success_unix: u64,
    /// Which value of the slot is the latest; see [`Versioned::version`].
    pub version: u64,
    /// Whether there is a value now. `false`: requests that need it are answered 503.
    pub available: bool,
}

impl SecretSlot {
    pub(super) fn new(
        name: SecretName,
        source: SecretRef,
        keep_last_good: Duration,
        first: Secret,
        now: SystemTime,
    ) -> Self {
        let slot = Self {
            name,
            source,
            keep_last_good,
            current: ArcSwapOption::empty(),
            reloads_ok: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
            last_success_unix: AtomicU64::new(0),
            version: AtomicU64::new(0),
        };
        slot.accept(first, now);
        slot
    }

    /// The name in the document.
    #[must_use]
    pub fn name(&self) -> &SecretName {
        &self.name
    }

    /// The value, or `None` when it could not be read for longer than it may be kept: then the request is answered 503, never
    /// sent without its credential. Take it once per request and keep it for all of that request's attempts.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Versioned>> {
        self.current.load_full()
    }

    /// How reading went so far.
    #[must_use]
    pub fn stats(&self) -> SecretStats {
        // Relaxed: numbers for people; each is right by itself.
        SecretStats {
            reloads_ok: self.reloads_ok.load(Ordering::Relaxed),
            reloads_failed: self.reloads_failed.load(Ordering::Relaxed),
            last_success_unix: self.last_success_unix.load(Ordering::Relaxed),
            version: self.version.load(Ordering::Relaxed),
            available: self.current.load().is_some(),
        }
    }

    pub(super) fn read(&self, environment: Environment) -> Result<Secret, SecretProblem> {
        self.source.read(environment)
    }

    pub(super) fn file(&self) -> Option<&Path> {
        match &self.source {
            SecretRef::File(path) => Some(path),
            SecretRef::Env(_) => None,
        }
    }

    /// Whether this is the slot of these words in a document. Another keeping time makes another slot, so that a
    /// configuration that is refused in the end has changed nothing for the one that runs.
    pub(super) fn is_for(&self, name: &SecretName, source: &SecretRef, keep_last_good: Duration) -> bool {
        self.name == *name && self.source == *source && self.keep_last_good == keep_last_good
    }

    /// Takes a valid reading; `true` when the value is another than before. Writers are one at a time (the store's lock).
    pub(super) fn accept(&self, read: Secret, now: SystemTime) -> bool {
        self.reloads_ok.fetch_add(1, Ordering::Relaxed);
        self.last_success_unix.store(unix_seconds(now), Ordering::Relaxed);
        let same = self.current.load().as_ref().is_some_and(|current| current.secret.matches(read.expose()));
        if same {
            return false;
        }
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        self.current.store(Some(Arc::new(Versioned { secret: read, version })));
        true
    }

    /// Counts a failed reading and withdraws the value when it is too old; `true` when there is none any more.
    pub(super) fn miss(&self, now: SystemTime) -> bool {
        self.reloads_failed.fetch_add(1, Ordering::Relaxed);
        let age = unix_seconds(now).saturating_sub(self.last_success_unix.load(Ordering::Relaxed));
        if age > self.keep_last_good.as_secs() {
            self.current.store(None);
        }
        self.current.load().is_none()
    }

    /// Counts a failed reading while a configuration is loaded, which changes nothing else.
    pub(super) fn count_refusal(&self) {
        self.reloads_failed.fetch_add(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for SecretSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretSlot")
            .field("name", &self.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
