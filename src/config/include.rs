//! Which further files belong to a document, and reading them.
//!
//! A name or a pattern is relative to the folder of the main file. `*` and `?` stand for characters within one name of a
//! path, and for none of a name that begins with a dot. An included file includes nothing. Everything found is sorted by
//! name, and what is found twice is read once.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use serde_yaml::Value;

use super::codes;
use super::document::Document;
use super::file::{self, File};
use super::path::Path;
use super::problem::Problems;

/// The most files that one document includes.
pub const MAX_INCLUDED_FILES: usize = 1024;
/// The most bytes of all files of a document together.
pub const MAX_DOCUMENT_BYTES: usize = 32 * 1024 * 1024;
/// The most values of all files together, aliases expanded.
const MAX_DOCUMENT_NODES: u64 = 4_000_000;
/// The most entries of folders that all patterns of a document look at.
pub(super) const MAX_FOLDER_ENTRIES: usize = 100_000;

/// One entry of the list, and where it stands.
pub(super) struct Wanted {
    pattern: String,
    at: Path,
}

/// The list under `key` of the main file. Of a file that is no YAML only as much as its lines tell.
pub(super) fn wanted(main: &Document, key: &str, problems: &mut Problems) -> Vec<Wanted> {
    let at = Path::root().key(key);
    if let Some(text) = main.broken_text() {
        let patterns = patterns_in_lines(text, key).into_iter().enumerate();
        return patterns.map(|(index, pattern)| Wanted { pattern, at: at.index(index) }).collect();
    }
    let Some(section) = main.root().get(key) else { return Vec::new() };
    let patterns = section.decode::<Vec<String>>(problems).unwrap_or_default().into_iter().enumerate();
    patterns.map(|(index, pattern)| Wanted { pattern, at: at.index(index) }).collect()
}

/// The patterns that a main file's text names; `None` where it is no YAML and its lines tell none either.
pub(super) fn patterns_of(text: &str, key: &str) -> Option<Vec<String>> {
    match serde_yaml::from_str::<Value>(text) {
        Ok(value) => Some(value.get(key).map(texts).unwrap_or_default()),
        Err(_) => Some(patterns_in_lines(text, key)).filter(|patterns| !patterns.is_empty()),
    }
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_sequence().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The block of `key` by itself: from its line to the next one that begins with another key.
fn patterns_in_lines(text: &str, key: &str) -> Vec<String> {
    let begins = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
    let mut lines = text.lines().skip_while(|line| !begins(line));
    let Some(first) = lines.next() else { return Vec::new() };
    let inner = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '-', ']', '#']));
    let block: Vec<&str> = std::iter::once(first).chain(inner).collect();
    let value = serde_yaml::from_str::<Value>(&block.join("\n")).unwrap_or_default();
    value.get(key).map(texts).unwrap_or_default()
}

/// Why a pattern cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadPattern {
    Empty,
    Recursive,
    Brackets,
    TooManyEntries,
}

impl BadPattern {
    fn words(&self, pattern: &str) -> (String, &'static str) {
        match self {
            Self::Empty => ("an empty name names no file".to_owned(), "such as `routes.d/*.yaml`"),
            Self::Recursive => (
                format!("`{pattern}` would look into every folder below, and `**` is not supported"),
                "name each level: `teams/*/*.yaml` looks into the folders of `teams`",
            ),
            Self::Brackets => (
                format!("`{pattern}` has brackets or braces, which mean nothing here"),
                "`*` stands for any characters and `?` for one, both within one name of the path",
            ),
            Self::TooManyEntries => (
                format!("`{pattern}` looks at folders with more than {MAX_FOLDER_ENTRIES} entries"),
                "give the route files a folder of their own",
            ),
        }
    }
}

/// What a pattern finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expansion {
    /// Files that are there; for a plain name the name, whether it is there or not.
    pub(super) files: Vec<PathBuf>,
    /// The folders that were looked through: a change of their entries may change the files.
    pub(super) folders: Vec<PathBuf>,
}

fn has_wildcard(part: &str) -> bool {
    part.contains(['*', '?'])
}

/// Finds the files of `pattern`, relative to `folder`. `entries_left` counts what is looked at.
pub(super) fn expand(
    folder: &FilePath,
    pattern: &str,
    entries_left: &mut usize,
) -> Result<Expansion, BadPattern> {
    if pattern.is_empty() || pattern.ends_with('/') {
        return Err(BadPattern::Empty);
    }
    if pattern.contains("**") {
        return Err(BadPattern::Recursive);
    }
    if pattern.contains(['[', ']', '{', '}']) {
        return Err(BadPattern::Brackets);
    }
    let root = if pattern.starts_with('/') { PathBuf::from("/") } else { folder.to_owned() };
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let mut found = Expansion { files: vec![root], folders: Vec::new() };
    for (index, part) in parts.iter().enumerate() {
        if !has_wildcard(part) {
            found.files.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let is_last = index + 1 == parts.len();
        let mut matching = Vec::new();
        for folder in std::mem::take(&mut found.files) {
            let shown = if folder.as_os_str().is_empty() { FilePath::new(".") } else { &folder };
            for entry in std::fs::read_dir(shown).into_iter().flatten().flatten() {
                *entries_left = entries_left.checked_sub(1).ok_or(BadPattern::TooManyEntries)?;
                let name = entry.file_name();
                if !fits(part, &name.to_string_lossy()) {
                    continue;
                }
                let path = folder.join(&name);
                // Links are followed: an orchestrator's files are all links.
                if if is_last { path.is_file() } else { path.is_dir() } {
                    matching.push(path);
                }
            }
            found.folders.push(folder);
        }
        found.files = matching;
    }
    if has_wildcard(pattern) {
        // A plain name below a folder that was found need not be there.
        found.files.retain(|path| path.is_file());
    }
    found.files.sort();
    Ok(found)
}

/// Whether `name` is what `pattern` stands for. Linear but for the last star, which is tried again.
fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(character) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == character => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|rest| *rest == '*')
}

/// Reads included files, within the limits of a document.
pub(super) struct Reader {
    folder: PathBuf,
    /// Where the main file really lies: including it means nothing.
    main: Option<PathBuf>,
    bytes: usize,
    nodes: u64,
}

impl Reader {
    /// For the files beside `main`, which was read.
    pub(super) fn new(main: &FilePath, read: &[Arc<File>]) -> Self {
        Self {
            folder: main.parent().map(FilePath::to_owned).unwrap_or_default(),
            main: main.canonicalize().ok(),
            bytes: read.iter().map(|file| file.source.text().len()).sum(),
            nodes: read.iter().map(|file| file.size()).sum(),
        }
    }

    /// The files of the list, by name. What cannot be read is a problem at its entry.
    pub(super) fn read(mut self, list: Vec<Wanted>, problems: &mut Problems) -> Vec<Arc<File>> {
        let mut found: BTreeMap<PathBuf, Path> = BTreeMap::new();
        let mut seen: std::collections::HashSet<PathBuf> = self.main.clone().into_iter().collect();
        let mut entries_left = MAX_FOLDER_ENTRIES;
        for wanted in list {
            for path in self.find(&wanted, &mut entries_left, problems) {
                if seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                    found.insert(path, wanted.at.clone());
                }
            }
        }
        if let Some(at) = found.values().nth(MAX_INCLUDED_FILES) {
            problems
                .error(codes::TOO_LARGE, at, format!("more than {MAX_INCLUDED_FILES} files are included"))
                .help("put several routes into one file");
        }
        let mut files = Vec::new();
        for (path, at) in found.into_iter().take(MAX_INCLUDED_FILES) {
            match file::read(&path) {
                Ok(text) if self.bytes + text.len() > MAX_DOCUMENT_BYTES => {
                    problems.error(codes::TOO_LARGE, &at, too_large_together(&path, "32 MiB"));
                    break;
                }
                Ok(text) => {
                    self.bytes += text.len();
                    let file = File::parse(&path.display().to_string(), text);
                    self.nodes += file.size();
                    files.push(Arc::new(file));
                    if self.nodes > MAX_DOCUMENT_NODES {
                        let limit = format!("{MAX_DOCUMENT_NODES} values, aliases expanded");
                        problems.error(codes::TOO_LARGE, &at, too_large_together(&path, &limit));
                        break;
                    }
                }
                Err((code, why)) if code == codes::UNREADABLE => {
                    problems.error(code, &at, why);
                }
                Err((code, why)) => {
                    problems.error(code, &at, format!("`{}`: {why}", path.display()));
                }
            }
        }
        files
    }

    fn find(&self, wanted: &Wanted, entries_left: &mut usize, problems: &mut Problems) -> Vec<PathBuf> {
        let pattern = wanted.pattern.as_str();
        match expand(&self.folder, pattern, entries_left) {
            Err(bad) => {
                let (message, help) = bad.words(pattern);
                problems.error(codes::BAD_PATTERN, &wanted.at, message).help(help);
                Vec::new()
            }
            Ok(found) if found.files.is_empty() => {
                problems
                    .warning(codes::NO_EFFECT, &wanted.at, format!("no file matches `{pattern}`"))
                    .help("patterns start at the folder of this file");
                Vec::new()
            }
            Ok(found) => {
                let (files, others): (Vec<PathBuf>, Vec<PathBuf>) =
                    found.files.into_iter().partition(|path| path.is_file());
                for path in others {
                    let (message, help) = if path.is_dir() {
                        (format!("`{pattern}` is a folder"), format!("its files are `{pattern}/*.yaml`"))
                    } else if path.exists() {
                        (format!("`{pattern}` is no regular file"), "include files only".to_owned())
                    } else {
                        (
                            format!("there is no file `{}`", path.display()),
                            "names start at the folder of this file".to_owned(),
                        )
                    };
                    problems.error(codes::UNREADABLE, &wanted.at, message).help(help);
                }
                files
            }
        }
    }
}

fn too_large_together(path: &FilePath, limit: &str) -> String {
    format!("with `{}`, the files together are over the limit of {limit}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Severity, load};

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        folder
    }

    /// The included files, and what loading says.
    fn loaded(folder: &tempfile::TempDir) -> (Vec<String>, Vec<String>) {
        let base = format!("{}/", folder.path().display());
        let (names, report) = match load(&folder.path().join("main.yaml"), "include") {
            Ok(document) => {
                let names = document.file_names().skip(1).map(|name| name.replace(&base, "")).collect();
                (names, document.report(Problems::new()))
            }
            Err(report) => (Vec::new(), report),
        };
        let told = |entry: crate::config::Entry| {
            let file = entry.file.replace(&base, "");
            format!("{} {file}:{} {}", entry.code, entry.line, entry.message.replace(&base, ""))
        };
        (names, report.summary().into_iter().map(told).collect())
    }

    #[test]
    fn a_pattern_stands_for_characters_within_one_name() {
        for (pattern, name, expected) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a.yml", false),
            ("*.yaml", ".a.yaml", false),
            (".*", ".a", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
            ("?.yaml", "é.yaml", true),
            ("?.yaml", ".yaml", false),
            ("*", "", true),
            ("**", "x", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
        let many = "a*".repeat(30) + "b";
        assert!(!fits(&many, &"a".repeat(200)), "and does not try without end");
    }

    #[test]
    fn files_are_found_sorted_and_read_once() {
        let folder = folder(&[
            ("main.yaml", "include: [d/*.yaml, ./d/b.yaml, t/*/r.yaml, '*.yaml']\n"),
            ("d/b.yaml", "a: 1\n"),
            ("d/a.yaml", "a: 1\n"),
            ("d/a.yml", "a: 1\n"),
            ("d/.hidden.yaml", "a: 1\n"),
            ("d/folder.yaml/x", ""),
            ("t/y/r.yaml", "a: 1\n"),
            ("t/x/r.yaml", "a: 1\n"),
            ("t/z/other.yaml", "a: 1\n"),
        ]);
        std::os::unix::fs::symlink("b.yaml", folder.path().join("d/link.yaml")).expect("a link");
        let (names, told) = loaded(&folder);
        assert_eq!(names, ["d/a.yaml", "d/b.yaml", "t/x/r.yaml", "t/y/r.yaml"]);
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn what_names_no_file_is_told_where_it_stands() {
        let folder = folder(&[
            (
                "main.yaml",
                "include:\n- none/*.yaml\n- missing.yaml\n- d\n- d/**/x\n- '[a].yaml'\n- ''\n- 5\n",
            ),
            ("d/b.yaml", "a: 1\n"),
        ]);
        let (_, told) = loaded(&folder);
        assert_eq!(
            told,
            ["PC0203 main.yaml:8 expected a string, found a number"],
            "a list that can be read first"
        );
        std::fs::write(
            folder.path().join("main.yaml"),
            "include:\n- none/*.yaml\n- missing.yaml\n- d\n- d/**/x\n- '[a].yaml'\n- ''\n",
        )
        .expect("written");
        let (_, told) = loaded(&folder);
        assert_eq!(
            told,
            [
                "PC0506 main.yaml:2 no file matches `none/*.yaml`",
                "PC0101 main.yaml:3 there is no file `missing.yaml`",
                "PC0101 main.yaml:4 `d` is a folder",
                "PC0303 main.yaml:5 `d/**/x` would look into every folder below, and `**` is not supported",
                "PC0303 main.yaml:6 `[a].yaml` has brackets or braces, which mean nothing here",
                "PC0303 main.yaml:7 an empty name names no file",
            ]
        );
    }

    #[test]
    fn a_mistake_of_syntax_hides_nothing_of_the_other_files() {
        let files = [
            ("main.yaml", "include: [d/*.yaml]\na: 1\n"),
            ("d/a.yaml", "a: 'open\n"),
            ("d/b.yaml", "a: 1\na: 2\n"),
            ("d/c.yaml", "a: 1\n"),
        ];
        let folder = folder(&files);
        let document = load(&folder.path().join("main.yaml"), "include").expect("the main file is fine");
        assert!(!document.is_whole());
        let mut problems = Problems::new();
        for part in std::iter::once(document.root()).chain(document.included()) {
            part.check_keys_in(&["include"], &[], &mut problems);
        }
        let found: Vec<(String, &str)> = document
            .report(problems)
            .summary()
            .iter()
            .map(|entry| (entry.file.rsplit('/').next().expect("a name").to_owned(), entry.code))
            .collect();
        let expected = [
            ("main.yaml", codes::UNKNOWN_KEY),
            ("a.yaml", codes::SYNTAX),
            ("b.yaml", codes::DUPLICATE_KEY),
            ("c.yaml", codes::UNKNOWN_KEY),
        ];
        assert_eq!(found, expected.map(|(file, code)| (file.to_owned(), code)));

        // And of a main file that is no YAML, the lines tell which others there are.
        std::fs::write(folder.path().join("main.yaml"), "include:\n  - d/*.yaml\nx: 'open\n")
            .expect("written");
        let report = load(&folder.path().join("main.yaml"), "include").expect_err("the main file is broken");
        assert_eq!(report.errors(), 3, "{}", report.human());
    }

    #[test]
    fn a_secret_of_one_file_is_shown_in_no_other() {
        let folder = folder(&[
            ("main.yaml", "include: [b.yaml]\nsecrets: { a: LEAKED-key }\n"),
            ("b.yaml", "x: LEAKED-key\nLEAKED-key: 1\n"),
        ]);
        let document = load(&folder.path().join("main.yaml"), "include").expect("a document");
        let mut problems = Problems::new();
        let other = document.included().remove(0);
        other.check_keys_in(&["x"], &[], &mut problems);
        other.get("x").expect("x").decode::<u32>(&mut problems);
        problems
            .error("PC9901", other.get("x").expect("x").path(), "odd `LEAKED-key`")
            .related(document.root().get("secrets").expect("secrets").path(), "compare LEAKED-key");
        let report = document.report(problems);
        let human = report.human();
        assert!(report.errors() >= 2 && !human.contains("LEAKED-key"), "{human}");
        assert!(human.contains("main.yaml:2"), "the other place is shown with its file: {human}");
        assert!(report.summary().iter().all(|entry| entry.severity == Severity::Error));
    }

    #[test]
    fn the_limits_of_a_document_hold() {
        let many: Vec<String> = (0..=MAX_INCLUDED_FILES).map(|n| format!("d/{n:05}.yaml")).collect();
        let mut files: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "a: 1\n")).collect();
        files.push(("main.yaml", "include: [d/*]\n"));
        let (names, told) = loaded(&folder(&files));
        assert_eq!(names.len(), MAX_INCLUDED_FILES);
        assert_eq!(told, ["PC0103 main.yaml:1 more than 1024 files are included"]);

        let large = "# ".to_owned() + &"x".repeat(file::MAX_FILE_BYTES - 2);
        let mut files = vec![("main.yaml", "include: [d/*]\n")];
        files.extend(["d/1", "d/2", "d/3", "d/4"].map(|name| (name, large.as_str())));
        let (names, told) = loaded(&folder(&files));
        assert_eq!(names, ["d/1", "d/2", "d/3"]);
        assert_eq!(told, ["PC0103 main.yaml:1 with `d/4`, the files together are over the limit of 32 MiB"]);
        // Each file within its own limit of expanded aliases, all together not.
        let bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
            c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n";
        let names: Vec<String> = (0..400).map(|n| format!("d/{n:03}")).collect();
        let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), bomb)).collect();
        files.push(("main.yaml", "include: [d/*]\n"));
        let (names, told) = loaded(&folder(&files));
        assert!(names.len() < 400 && told.len() == 1 && told[0].contains("4000000 values"), "{told:?}");
    }
}
