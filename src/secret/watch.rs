//! Which folders must be watched to notice that a secret file changed.
//!
//! A watch on the file itself misses the usual way to rotate: a symbolic link somewhere on the way is replaced by another
//! (Kubernetes swaps `..data` beside the file's link). So every folder in which a link of the chain lies is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How many links of a chain are followed; Linux itself stops at 40. Beyond it the periodic re-read still notices.
const MAX_LINKS: usize = 16;

/// Adds the folders to watch for `path` to `folders`. Missing files and folders are no error: the folder is named anyway.
pub fn folders_of(path: &Path, folders: &mut BTreeSet<PathBuf>) {
    follow(path, folders, MAX_LINKS);
}

fn follow(path: &Path, folders: &mut BTreeSet<PathBuf>, links_left: usize) {
    folders.insert(parent(path));
    if links_left == 0 {
        return;
    }
    // The file, and every folder above it, may be a link; the chain of the first one found (from the file upward) is followed,
    // the ones above it are met again on the way.
    for step in path.ancestors().filter(|step| !step.as_os_str().is_empty()) {
        let Ok(target) = fs::read_link(step) else { continue };
        folders.insert(parent(step));
        let rest = path.strip_prefix(step).unwrap_or(Path::new(""));
        let mut next = parent(step).join(target);
        if !rest.as_os_str().is_empty() {
            next.push(rest);
        }
        follow(&next, folders, links_left - 1);
        return;
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn watched(path: &Path) -> BTreeSet<PathBuf> {
        let mut folders = BTreeSet::new();
        folders_of(path, &mut folders);
        folders
    }

    #[test]
    fn a_plain_file_needs_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        assert_eq!(watched(&root.join("secret")), BTreeSet::from([root]));
        assert_eq!(
            watched(Path::new("secret")),
            BTreeSet::from([PathBuf::from(".")]),
            "a bare name lies here"
        );
    }

    #[test]
    fn the_kubernetes_layout_names_the_folder_of_the_swapped_link() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("..one")).unwrap();
        fs::write(root.join("..one/key"), "x").unwrap();
        symlink("..one", root.join("..data")).unwrap();
        symlink("..data/key", root.join("key")).unwrap();
        let folders = watched(&root.join("key"));
        assert!(folders.contains(&root), "where `key` and `..data` lie: {folders:?}");
        assert!(folders.contains(&root.join("..one")), "where the bytes lie: {folders:?}");
    }

    #[test]
    fn a_link_above_the_file_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/deep")).unwrap();
        fs::create_dir(root.join("at")).unwrap();
        symlink("../real", root.join("at/current")).unwrap();
        let folders = watched(&root.join("at/current/deep/key"));
        assert!(folders.contains(&root.join("at")), "where the link lies: {folders:?}");
    }

    #[test]
    fn a_loop_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(!watched(&folder.path().join("a")).is_empty());
    }
}
