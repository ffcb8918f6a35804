//! The files of a configuration as bytes: to notice that one of them changed, came or went, without parsing them all.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::include;

/// What a configuration is made of. Lifetime: process; the list of patterns follows the main file.
pub struct Sources {
    main: PathBuf,
    key: &'static str,
    /// Of the main file from which the patterns are.
    main_hash: Option<u64>,
    patterns: Vec<String>,
    /// The included files as they were last found.
    files: Vec<PathBuf>,
    /// The folders whose entries decide which files are included.
    folders: BTreeSet<PathBuf>,
}

impl Sources {
    /// Those of a main file that names further files under `include`.
    #[must_use]
    pub fn new(main: PathBuf, include: &'static str) -> Self {
        Self {
            main,
            key: include,
            main_hash: None,
            patterns: Vec::new(),
            files: Vec::new(),
            folders: BTreeSet::new(),
        }
    }

    /// Looks at all files as they are now; a hash of their names and contents. A file that cannot be read has its own.
    pub fn fingerprint(&mut self) -> u64 {
        let bytes = std::fs::read(&self.main).ok();
        let main_hash = hash_of(&bytes);
        if self.main_hash != Some(main_hash) {
            self.main_hash = Some(main_hash);
            let text = bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
            if let Some(patterns) = text.and_then(|text| include::patterns_of(text, self.key)) {
                self.patterns = patterns;
            }
        }
        self.expand();
        let mut hasher = DefaultHasher::new();
        main_hash.hash(&mut hasher);
        for file in &self.files {
            file.hash(&mut hasher);
            hash_of(&std::fs::read(file).ok()).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The main file and the included ones, as they were last found.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.main).chain(&self.files).map(PathBuf::as_path)
    }

    /// Folders in which a new file may have to be included. One that does not exist is named all the same.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(PathBuf::as_path)
    }

    fn expand(&mut self) {
        let folder = self.main.parent().unwrap_or(Path::new(""));
        let mut left = include::MAX_FOLDER_ENTRIES;
        let mut files = BTreeSet::new();
        self.folders.clear();
        for pattern in &self.patterns {
            let Ok(found) = include::expand(folder, pattern, &mut left) else { continue };
            files.extend(found.files);
            self.folders.extend(found.folders);
        }
        self.files = files.into_iter().take(include::MAX_INCLUDED_FILES).collect();
    }
}

fn hash_of(bytes: &Option<Vec<u8>>) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_comes_or_goes_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        std::fs::create_dir(folder.path().join("d")).expect("made");
        write("main.yaml", "include: [d/*.yaml, one.yaml]\n");
        let mut sources = Sources::new(folder.path().join("main.yaml"), "include");
        let mut seen = vec![sources.fingerprint()];
        let mut look = |what: &str| {
            let now = sources.fingerprint();
            assert!(!seen.contains(&now), "{what} is not noticed");
            assert_eq!(sources.fingerprint(), now, "nothing changed");
            seen.push(now);
            sources.files().count()
        };
        write("d/a.yaml", "a: 1\n");
        assert_eq!(look("a new file"), 3, "main, the named one, the new one");
        write("d/a.yaml", "a: 2\n");
        look("another content");
        write("one.yaml", "a: 2\n");
        look("a named file that comes");
        std::fs::rename(folder.path().join("d/a.yaml"), folder.path().join("d/b.yaml")).expect("renamed");
        look("another name");
        write("main.yaml", "include: [d/*.yaml\n");
        assert_eq!(
            look("a main file that is no YAML"),
            3,
            "what was known counts until there is something better"
        );
        write("d/c.txt", "not included");
        assert_eq!(sources.folders().collect::<Vec<_>>(), [folder.path().join("d")]);
    }
}
