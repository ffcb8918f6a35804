//! The document: the values of one or several files, and the places of both.
//!
//! `parse` and `load` are the only ways to one. A file is read by itself, so a mistake of syntax in one hides nothing of the
//! others: a document may hold files that could not be read, and says so in every report. It knows no key of ours.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use serde_yaml::Value;

use super::codes;
use super::file::{File, MAX_FILE_BYTES, too_large};
use super::include::{self, Reader};
use super::path::{Path, Place};
use super::problem::{Finding, Problem, Problems, Related};
use super::redact::Blanks;
use super::report::{Report, Shown};
use super::section::{self, Section};

/// The files of a configuration, read. Cheap to clone.
#[derive(Clone)]
pub struct Document {
    files: Arc<Files>,
}

/// All files of a document.
pub(super) struct Files {
    /// The main file first, the included ones by name.
    all: Vec<Arc<File>>,
    /// What is wrong with the inclusion itself; places are in the main file.
    notes: Problems,
    /// Those of each file. Found when the first problem is, since most documents have none.
    blanks: OnceLock<Vec<Blanks>>,
}

/// Reads and parses a file and those that it includes: a list of names and patterns under the key `include`, relative to the
/// file's folder.
///
/// An included file that cannot be read or is no YAML is no failure here: the document comes without its values, is not
/// [whole](Document::is_whole), and every report of it tells why.
///
/// # Errors
/// A [`Report`] when the main file cannot be read, is larger than [`MAX_FILE_BYTES`], is not UTF-8, or is no usable YAML; with
/// it all mistakes of syntax in the files that it seems to include. The operator's fault.
pub fn load(path: &std::path::Path, include: &str) -> Result<Document, Report> {
    let name = path.display().to_string();
    let text = super::file::read(path).map_err(|(code, why)| Report::about_file(&name, code, why))?;
    let main = Document::of(vec![Arc::new(File::parse(&name, text))], Problems::new());
    let mut notes = Problems::new();
    let wanted = include::wanted(&main, include, &mut notes);
    let first = main.files.all.iter().cloned();
    let files = Reader::new(path, &main.files.all).read(wanted, &mut notes);
    let document = Document::of(first.chain(files).collect(), notes);
    if document.is_readable(0) { Ok(document) } else { Err(document.report(Problems::new())) }
}

/// Parses a text that was read from `file_name`, which is only shown. It includes nothing.
///
/// # Errors
/// A [`Report`] with every mistake of syntax that can be told: a text that is no YAML, keys that stand twice, several
/// documents, tags, aliases that lead nowhere or expand without end.
pub fn parse(file_name: &str, text: String) -> Result<Document, Report> {
    if text.len() > MAX_FILE_BYTES {
        return Err(Report::about_file(file_name, codes::TOO_LARGE, too_large()));
    }
    let document = Document::of(vec![Arc::new(File::parse(file_name, text))], Problems::new());
    if document.is_readable(0) { Ok(document) } else { Err(document.report(Problems::new())) }
}

impl fmt::Debug for Document {
    /// The name only: the text may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({})", self.file_name())
    }
}

impl Document {
    fn of(all: Vec<Arc<File>>, notes: Problems) -> Self {
        Self { files: Arc::new(Files { all, notes, blanks: OnceLock::new() }) }
    }

    /// The whole main file as a section.
    #[must_use]
    pub fn root(&self) -> Section {
        Section::new(self.files.clone(), Path::root())
    }

    /// The whole of each included file as a section, by name. Those that could not be read are left out.
    #[must_use]
    pub fn included(&self) -> Vec<Section> {
        (1..self.files.all.len())
            .filter(|file| self.is_readable(*file))
            .map(|file| Section::new(self.files.clone(), Path::of_file(file)))
            .collect()
    }

    /// The main file's name as given.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.file_names().next().unwrap_or_default()
    }

    /// The names of all files, the main one first.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        self.files.all.iter().map(|file| file.source.name())
    }

    /// Whether every file could be read. One that is not must not be used, though it can be looked through for more mistakes.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.files.notes.has_errors() && (0..self.files.all.len()).all(|file| self.is_readable(file))
    }

    /// Locates, sorts and renders what was found, together with what was wrong with the files themselves.
    #[must_use]
    pub fn report(&self, problems: Problems) -> Report {
        let files = &self.files;
        let all = || files.notes.list.iter().chain(&problems.list);
        let of_files = files.all.iter().enumerate().flat_map(|(index, file)| {
            file.findings.iter().map(move |finding| finding.clone().in_file(index))
        });
        let findings: Vec<Finding> = of_files.chain(all().map(|problem| files.locate(problem))).collect();
        if findings.is_empty() {
            return Report::default();
        }
        if !all().any(|problem| problem.blank) {
            return Report::new(&files.shown(files.blanks()), findings);
        }
        let mut blanks: Vec<Blanks> = files.all.iter().map(|file| file.blanks()).collect();
        for problem in all().filter(|problem| problem.blank) {
            if let (Some(file), Some(blanks)) =
                (files.all.get(problem.at.file), blanks.get_mut(problem.at.file))
            {
                file.blank(&problem.at, blanks);
            }
        }
        Blanks::share(&mut blanks);
        Report::new(&files.shown(&blanks), findings)
    }

    /// A number that differs when the text of any file differs: to see whether a reload has anything to do. The same in every
    /// process of one build, wherever the files lie.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.files.all.iter().for_each(|file| file.source.text().hash(&mut hasher));
        hasher.finish()
    }

    /// File, line and column of the key at `path`, or of the value where there is no key.
    #[must_use]
    pub fn place(&self, path: &Path) -> Place {
        self.files.place(path)
    }

    fn is_readable(&self, file: usize) -> bool {
        self.files.all.get(file).is_some_and(|file| file.findings.is_empty())
    }

    /// The main file's text, for what can be told of it though it is no YAML.
    pub(super) fn broken_text(&self) -> Option<&str> {
        let main = self.files.all.first()?;
        (!main.findings.is_empty()).then(|| main.source.text())
    }
}

impl Files {
    pub(super) fn value(&self, path: &Path) -> Option<&Value> {
        let root = &self.all.get(path.file)?.value;
        path.segments().iter().try_fold(root, |value, seg| section::child(value, seg))
    }

    /// File, line and column of the key at `path`, or of the value where there is no key.
    pub(super) fn place(&self, path: &Path) -> Place {
        match self.all.get(path.file) {
            Some(file) => file.place(path),
            None => Place { file: Arc::from(""), line: 0, column: 0 },
        }
    }

    /// The scalar at `path` as written, if it is one and may be shown.
    pub(super) fn shown_scalar(&self, path: &Path) -> Option<&str> {
        self.all.get(path.file)?.shown_scalar(path, self.blanks().get(path.file)?)
    }

    /// Whether no part of the value at `path` may be a secret.
    pub(super) fn may_be_shown(&self, path: &Path) -> bool {
        let file = self.all.get(path.file).zip(self.blanks().get(path.file));
        file.is_some_and(|(file, blanks)| file.may_be_shown(path, blanks))
    }

    fn blanks(&self) -> &[Blanks] {
        self.blanks.get_or_init(|| {
            let mut blanks: Vec<Blanks> = self.all.iter().map(|file| file.blanks()).collect();
            Blanks::share(&mut blanks);
            blanks
        })
    }

    fn shown<'f>(&'f self, blanks: &'f [Blanks]) -> Vec<Shown<'f>> {
        self.all.iter().zip(blanks).map(|(file, blanks)| Shown { source: &file.source, blanks }).collect()
    }

    fn locate(&self, problem: &Problem) -> Finding {
        let point = |at: &Path, on_key| self.all.get(at.file).map(|file| file.point(at, on_key));
        let (place, used_at) = point(&problem.at, problem.on_key).unwrap_or_default();
        // Whatever else is wrong with such a value, it is not what was meant.
        let filled = !problem.on_key
            && self
                .all
                .get(problem.at.file)
                .and_then(|file| file.source.text().get(place.clone()))
                .is_some_and(is_to_be_filled);
        let mut related: Vec<Related> = problem
            .related
            .iter()
            .filter_map(|(at, label)| {
                let (place, _) = point(at, true)?;
                Some(Related { file: at.file, place, label: label.clone() })
            })
            .collect();
        related.extend(used_at.map(|place| Related {
            file: problem.at.file,
            place,
            label: "used here".to_owned(),
        }));
        Finding {
            code: problem.code,
            severity: problem.severity,
            file: problem.at.file,
            place,
            path: problem.at.to_string(),
            message: problem.message.clone(),
            help: if filled { vec![NOT_FILLED_IN.to_owned()] } else { problem.help.clone() },
            related,
        }
    }
}

/// Whether a value is written to be filled in by a template or a shell, which nobody does here.
fn is_to_be_filled(written: &str) -> bool {
    !written.contains('\n')
        && [("${", "}"), ("{{", "}}")]
            .iter()
            .any(|(open, close)| written.split_once(open).is_some_and(|(_, rest)| rest.contains(close)))
}

const NOT_FILLED_IN: &str = "`${NAME}` and `{{ name }}` are not filled in here: write the value out, or a secret as a name under `secrets` (`env` or `file`)";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_one_problem() {
        let folder = tempfile::tempdir().expect("a folder");
        let report = load(&folder.path().join("none.yaml"), "include").expect_err("no such file");
        assert_eq!(report.summary()[0].code, codes::UNREADABLE);
        assert!(report.human().contains("none.yaml"), "{}", report.human());

        let file = folder.path().join("latin1.yaml");
        std::fs::write(&file, b"a: 1\nb: \xe9\n").expect("a file");
        let report = load(&file, "include").expect_err("not UTF-8");
        assert_eq!(report.summary()[0].code, codes::NOT_TEXT);
        assert!(report.human().contains("line 2"), "{}", report.human());

        std::fs::write(&file, vec![b' '; MAX_FILE_BYTES + 1]).expect("a file");
        assert_eq!(load(&file, "include").expect_err("too large").summary()[0].code, codes::TOO_LARGE);
    }

    #[test]
    fn places_are_counted_from_one_in_characters() {
        let document = parse("x", "a: 1\nroutes:\n  - { é: 1, name: b }\n".into()).expect("a document");
        let path = Path::root().key("routes").index(0).key("name");
        let at = |path: &Path| (document.place(path).line, document.place(path).column);
        assert_eq!(at(&path), (3, 13));
        assert_eq!(at(&Path::root().key("routes")), (2, 1));
    }

    #[test]
    fn other_line_ends_and_a_byte_order_mark_change_no_place() {
        let document = parse("x", "\u{feff}a: 1\r\nb:\r\n  - c\r\n".into()).expect("a document");
        let path = Path::root().key("b").index(0);
        assert_eq!((document.place(&path).line, document.place(&path).column), (3, 5));
        let mut problems = Problems::new();
        problems.error("PC9901", &path, "bad");
        let human = document.report(problems).human();
        assert!(human.contains("x:3:5") && human.contains("|     ^ b[0]"), "{human}");
    }

    #[test]
    fn the_fingerprint_is_of_the_text() {
        let of = |text: &str| parse("x", text.into()).expect("a document").fingerprint();
        assert_eq!(of("a: 1\n"), of("a: 1\n"));
        assert_ne!(of("a: 1\n"), of("a: 2\n"));
    }

    #[test]
    fn problems_of_one_document_are_sorted_counted_and_said_once() {
        let document = parse("x", "a: 1\nb: topsecret\n".into()).expect("a document");
        let mut problems = Problems::new();
        problems.error("PC9902", &Path::root().key("b"), "bad `topsecret`").blank_value();
        problems.warning("PC9901", &Path::root().key("a"), "odd").help("even").help("or none");
        problems.warning("PC9901", &Path::root().key("a"), "odd");
        let report = document.report(problems);
        assert_eq!((report.errors(), report.warnings(), report.is_empty()), (1, 1, false));
        let entries = report.summary();
        assert_eq!(
            (entries[0].line, entries[0].column, entries[0].help.join("; ").as_str()),
            (1, 4, "even; or none")
        );
        assert_eq!(entries[1].message, "bad `•••`");
        assert!(!report.human().contains("topsecret"), "{}", report.human());
        assert!(document.report(Problems::new()).is_empty());
    }

    #[test]
    fn a_line_of_megabytes_is_shown_in_part() {
        let text =
            format!("{{\"a\": \"{}\", \"b\": 1, \"c\": \"{}\"}}", "x".repeat(100_000), "y".repeat(100_000));
        let document = parse("x", text).expect("a document");
        let mut problems = Problems::new();
        problems.error("PC9901", &Path::root().key("b"), "bad");
        let human = document.report(problems).human();
        assert!(human.len() < 1000 && human.contains("x:1:100016") && !human.contains(":::"), "{human}");
    }

    #[test]
    fn ten_thousand_problems_are_told_in_one_pass() {
        let text: String = (0..10_000).map(|n| format!("- {{ name: r{n}, bad: 1 }}\n")).collect();
        let document = parse("x", text).expect("a document");
        let mut problems = Problems::new();
        for item in document.root().items(&mut problems) {
            item.check_keys_in(&["name"], &[], &mut problems);
        }
        assert_eq!(document.report(problems).errors(), 10_000);
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic_and_no_report_shows_a_secret(
            before in "[a-c:\\n \\t{}\\[\\],&*\"'|>#!%é-]{0,60}",
            after in "[a-c:\\n \\t{}\\[\\],&*\"'|>#!%é-]{0,60}",
        ) {
            let text = format!("{before}\nsecrets:\n  v: \"LEAKED-key\"\n{after}");
            let report = match parse("x", text) {
                Err(report) => report,
                Ok(document) => {
                    let mut problems = Problems::new();
                    document.root().items(&mut problems);
                    document.root().check_keys_in(&[], &[], &mut problems);
                    for (_, part) in document.root().entries(&mut problems) {
                        part.decode::<std::collections::BTreeMap<String, u8>>(&mut problems);
                    }
                    document.report(problems)
                }
            };
            prop_assert!(!report.human().contains("LEAKED-key"), "{}", report.human());
        }
    }
}
