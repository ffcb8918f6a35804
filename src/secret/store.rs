//! All secrets in use, and reading them again.
//!
//! ```text
//!                 resolve, value valid                   refresh, valid again
//!   (no slot) -------------------------> has a value <------------------------ withdrawn (503)
//!                                         |  ^   \
//!                 refresh, another value  |  |    \ refresh failed, and the last good one is older than it may be kept
//!                 (version + 1)           +--+     +-----------------------------> withdrawn
//! ```
//!
//! The store holds its slots weakly: a slot lives as long as some configuration (or a request pinned to one) holds it, so a
//! configuration that was refused, or has gone, leaves nothing behind to be read and reported.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::slot::SecretSlot;
use super::source::Environment;
use super::watch::folders_of;
use super::{Secret, SecretProblem, SecretRef};
use crate::names::SecretName;

/// All secrets in use. Process lifetime. Reads files while it works: call it from where blocking is allowed, never from a
/// request.
pub struct SecretStore {
    environment: Environment,
    slots: Mutex<Vec<Weak<SecretSlot>>>,
    /// Held while files are read, so that writers of a slot are one at a time; apart from `slots`, so that a file system that
    /// hangs stops no metrics scrape.
    reading: Mutex<()>,
}

/// What reading one secret again led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose value was read.
    pub name: SecretName,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of reading a secret again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A new value is in use.
    Rotated,
    /// The value is the one that was in use.
    Unchanged,
    /// It could not be read, or is no valid secret; the last good value stays in use.
    Failed(SecretProblem),
    /// The same, and the last good value has been kept for as long as it may: there is none now.
    Expired(SecretProblem),
}

impl SecretStore {
    /// A store without secrets, over the environment of the process.
    #[must_use]
    pub fn new() -> Self {
        Self::over(|name| std::env::var_os(name))
    }

    fn over(environment: Environment) -> Self {
        Self { environment, slots: Mutex::new(Vec::new()), reading: Mutex::new(()) }
    }

    /// Reads the secret now, while a configuration is loaded. The same name at the same place gives the slot that is in use
    /// already (with the value just read); another place gives a slot of its own, so a configuration that is refused in
    /// the end does not touch the one that runs.
    ///
    /// `keep_last_good` is how long a value may be used after the last time that it could be read (default in the document:
    /// 24 h; seconds count, fractions do not).
    ///
    /// # Errors
    /// [`SecretProblem`] when there is no valid value now. A slot in use keeps its value.
    pub fn resolve(
        &self,
        name: &SecretName,
        source: &SecretRef,
        keep_last_good: Duration,
    ) -> Result<Arc<SecretSlot>, SecretProblem> {
        let _one_at_a_time = self.reading.lock();
        let now = SystemTime::now();
        let known = self.slots().into_iter().find(|slot| slot.is_for(name, source, keep_last_good));
        let read = source.read(self.environment);
        match (known, read) {
            (Some(slot), Ok(value)) => {
                slot.accept(value, now);
                Ok(slot)
            }
            (Some(slot), Err(problem)) => {
                slot.count_refusal();
                Err(problem)
            }
            (None, Ok(value)) => {
                let slot = SecretSlot::new(name.clone(), source.clone(), keep_last_good, value, now);
                let slot = Arc::new(slot);
                self.slots.lock().push(Arc::downgrade(&slot));
                Ok(slot)
            }
            (None, Err(problem)) => Err(problem),
        }
    }

    /// A slot with a value that was made up: nothing is read, now or later. For trying a configuration without its secrets.
    ///
    /// # Errors
    /// [`SecretProblem`] when the value could be no secret.
    pub fn invented(name: &SecretName, value: Vec<u8>) -> Result<Arc<SecretSlot>, SecretProblem> {
        let nowhere = SecretRef::Env(String::new());
        let value = Secret::checked(value)?;
        Ok(Arc::new(SecretSlot::new(name.clone(), nowhere, Duration::MAX, value, SystemTime::now())))
    }

    /// Reads every *file* secret again (variables cannot change) and says what came of each. Called when a watched folder
    /// changed, on SIGHUP, and at least every minute: the withdrawal of a value that is too old happens here.
    #[must_use = "a failed reading must be reported"]
    pub fn refresh(&self, now: SystemTime) -> Vec<Change> {
        let _one_at_a_time = self.reading.lock();
        let mut changes = Vec::new();
        for slot in self.slots().into_iter().filter(|slot| slot.file().is_some()) {
            let outcome = match slot.read(self.environment) {
                Ok(value) => {
                    if slot.accept(value, now) {
                        Outcome::Rotated
                    } else {
                        Outcome::Unchanged
                    }
                }
                Err(problem) if slot.miss(now) => Outcome::Expired(problem),
                Err(problem) => Outcome::Failed(problem),
            };
            changes.push(Change { name: slot.name().clone(), outcome });
        }
        changes
    }

    /// The folders to watch: those of the files, and those in which a symbolic link on the way to one lies. Ask again after
    /// each change, for links may lead elsewhere then.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        let mut folders = BTreeSet::new();
        for slot in self.slots() {
            if let Some(path) = slot.file() {
                folders_of(path, &mut folders);
            }
        }
        folders.into_iter().collect()
    }

    /// The slots that some configuration holds, oldest first. While an old configuration still serves requests, a name may
    /// come twice.
    #[must_use]
    pub fn slots(&self) -> Vec<Arc<SecretSlot>> {
        let mut slots = self.slots.lock();
        slots.retain(|slot| slot.strong_count() > 0);
        slots.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Default for SecretStore {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn name() -> SecretName {
        SecretName::parse("vendor-key").unwrap()
    }

    fn file(path: &Path) -> SecretRef {
        SecretRef::File(path.to_owned())
    }

    fn value(slot: &SecretSlot) -> Option<(Vec<u8>, u64)> {
        slot.current().map(|current| (current.secret.expose().to_vec(), current.version))
    }

    fn outcomes(changes: &[Change]) -> Vec<Outcome> {
        changes.iter().map(|change| change.outcome).collect()
    }

    #[test]
    fn a_swapped_link_rotates_the_value_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (at, content) in [("..one", "first-value\n"), ("..two", "second-value\n")] {
            fs::create_dir(root.join(at)).unwrap();
            fs::write(root.join(at).join("key"), content).unwrap();
        }
        symlink("..one", root.join("..data")).unwrap();
        symlink("..data/key", root.join("key")).unwrap();

        let store = SecretStore::new();
        let slot = store.resolve(&name(), &file(&root.join("key")), DAY).unwrap();
        assert_eq!(value(&slot), Some((b"first-value".to_vec(), 1)));
        let in_flight = slot.current().unwrap();

        symlink("..two", root.join("..next")).unwrap();
        fs::rename(root.join("..next"), root.join("..data")).unwrap();
        let changes = store.refresh(SystemTime::now());
        assert_eq!(changes, [Change { name: name(), outcome: Outcome::Rotated }]);
        assert_eq!(value(&slot), Some((b"second-value".to_vec(), 2)));
        assert_eq!(in_flight.secret.expose(), b"first-value", "a request in flight keeps what it took");
        assert_eq!(outcomes(&store.refresh(SystemTime::now())), [Outcome::Unchanged]);
        assert_eq!(slot.stats().reloads_ok, 3, "resolve and two refreshes");
    }

    #[test]
    fn a_failed_refresh_keeps_the_last_good_value_until_it_is_too_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "first-value").unwrap();
        let store = SecretStore::new();
        let slot = store.resolve(&name(), &file(&path), DAY).unwrap();
        let start = SystemTime::now();

        fs::write(&path, "short").unwrap();
        let soon = store.refresh(start + Duration::from_secs(60));
        assert_eq!(outcomes(&soon), [Outcome::Failed(SecretProblem::TooShort)]);
        fs::remove_file(&path).unwrap();
        let later = store.refresh(start + DAY - Duration::from_secs(60));
        assert_eq!(outcomes(&later), [Outcome::Failed(SecretProblem::Missing)]);
        assert_eq!(value(&slot), Some((b"first-value".to_vec(), 1)), "the last good one");

        let too_late = store.refresh(start + DAY + Duration::from_secs(60));
        assert_eq!(outcomes(&too_late), [Outcome::Expired(SecretProblem::Missing)]);
        assert_eq!(value(&slot), None, "withdrawn");
        let stats = slot.stats();
        assert_eq!((stats.reloads_ok, stats.reloads_failed, stats.available), (1, 3, false));

        fs::write(&path, "second-value").unwrap();
        assert_eq!(outcomes(&store.refresh(start + 2 * DAY)), [Outcome::Rotated]);
        assert_eq!(value(&slot), Some((b"second-value".to_vec(), 2)), "back again");
    }

    #[test]
    fn a_new_configuration_shares_the_slot_of_an_unchanged_reference() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "first-value").unwrap();
        let store = SecretStore::new();
        let running = store.resolve(&name(), &file(&path), DAY).unwrap();
        fs::write(&path, "second-value").unwrap();
        let next = store.resolve(&name(), &file(&path), DAY).unwrap();
        assert!(Arc::ptr_eq(&running, &next));
        assert_eq!(value(&running), Some((b"second-value".to_vec(), 2)), "read again");

        fs::write(&path, "bad\nvalue").unwrap();
        let refused = store.resolve(&name(), &file(&path), DAY).unwrap_err();
        assert_eq!(refused, SecretProblem::ForbiddenByte);
        assert_eq!(value(&running), Some((b"second-value".to_vec(), 2)), "untouched");
    }

    #[test]
    fn a_changed_reference_does_not_touch_the_running_slot() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        fs::write(&old, "first-value").unwrap();
        fs::write(&new, "second-value").unwrap();
        let store = SecretStore::new();
        let running = store.resolve(&name(), &file(&old), DAY).unwrap();
        let next = store.resolve(&name(), &file(&new), DAY).unwrap();
        assert_eq!(value(&running), Some((b"first-value".to_vec(), 1)));
        assert_eq!(value(&next), Some((b"second-value".to_vec(), 1)));
        assert_eq!(store.slots().len(), 2);

        drop(next);
        assert_eq!(store.slots().len(), 1, "the refused configuration left nothing behind");
        drop(running);
        assert!(store.refresh(SystemTime::now()).is_empty(), "nothing in use, nothing read");
        assert!(store.directories().is_empty());
    }

    #[test]
    fn variables_are_read_at_load_only() {
        let store = SecretStore::over(|key| (key == "KEY").then(|| "from-environment".into()));
        let slot = store.resolve(&name(), &SecretRef::Env("KEY".to_owned()), DAY).unwrap();
        assert_eq!(value(&slot), Some((b"from-environment".to_vec(), 1)));
        assert!(store.refresh(SystemTime::now() + 9 * DAY).is_empty(), "never too old");
        assert!(value(&slot).is_some());
        let other = store.resolve(&name(), &SecretRef::Env("OTHER".to_owned()), DAY);
        assert_eq!(other.unwrap_err(), SecretProblem::Missing);
    }

    #[test]
    fn debug_of_everything_that_holds_a_value_hides_it() {
        let store = SecretStore::over(|_| Some("canary-value".into()));
        let slot = store.resolve(&name(), &SecretRef::Env("KEY".to_owned()), DAY).unwrap();
        let shown = format!("{slot:?} {:?}", slot.current());
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("vendor-key"), "the name may be shown: {shown}");
    }
}
