//! The document: a file's text, its values, and the places of both.
//!
//! `parse` is the only way to one. It refuses what is no YAML, what stands twice, and what would grow without end, and
//! says all of it at once where that is possible. It knows no key of ours.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::sync::{Arc, OnceLock};

use serde_yaml::Value;

use super::codes;
use super::merge;
use super::path::{Path, Place};
use super::problem::{Finding, Problem, Problems};
use super::redact::Blanks;
use super::report::{Report, Source};
use super::section::{self, Section};
use super::tree::Tree;

/// A file that was read. Cheap to clone.
#[derive(Clone)]
pub struct Document {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    source: Source,
    tree: Tree,
    value: Value,
    /// Found when the first problem is, since most documents have none.
    blanks: OnceLock<Blanks>,
}

/// The largest file that is read, in bytes: about 40 000 routes.
pub const MAX_FILE_BYTES: usize = 8 * 1024 * 1024;

/// Reads and parses a file.
///
/// # Errors
/// A [`Report`] when the file cannot be read, is larger than [`MAX_FILE_BYTES`], is not UTF-8, or is no usable YAML. The
/// operator's fault.
pub fn load(path: &std::path::Path) -> Result<Document, Report> {
    let name = path.display().to_string();
    let refuse = |code, message: String| Report::about_file(&name, code, message);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        // One byte more than allowed tells that there is more, whatever the file's size claims to be.
        .and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| refuse(codes::UNREADABLE, format!("cannot read `{name}`: {error}")))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(refuse(codes::TOO_LARGE, too_large()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        refuse(codes::NOT_TEXT, format!("line {line} is not UTF-8 text"))
    })?;
    parse(&name, text)
}

/// Parses a text that was read from `file_name`, which is only shown.
///
/// # Errors
/// A [`Report`] with every mistake of syntax that can be told: a text that is no YAML, keys that stand twice, several
/// documents, tags, aliases that lead nowhere or expand without end.
pub fn parse(file_name: &str, text: String) -> Result<Document, Report> {
    if text.len() > MAX_FILE_BYTES {
        return Err(Report::about_file(file_name, codes::TOO_LARGE, too_large()));
    }
    // An invisible mark that some editors put first.
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    let source = Source::new(file_name, text);
    let (tree, findings) = Tree::build(source.text());
    let tree = match tree {
        Some(tree) if findings.is_empty() => tree,
        Some(tree) => {
            return Err(Report::new(&source, &Blanks::of_both(&tree, source.text()), findings));
        }
        None => return Err(Report::new(&source, &Blanks::of_lines(source.text()), findings)),
    };
    let mut value: Value = match serde_yaml::from_str(source.text()) {
        Ok(value) => value,
        Err(error) => {
            let finding = decoder_error(&source, &error);
            return Err(Report::new(&source, &Blanks::of_both(&tree, source.text()), vec![finding]));
        }
    };
    if tree.merges {
        merge::apply(&mut value);
    }
    Ok(Document { inner: Arc::new(Inner { source, tree, value, blanks: OnceLock::new() }) })
}

fn too_large() -> String {
    format!("the file is larger than {} MiB", MAX_FILE_BYTES / (1024 * 1024))
}

/// What the locator accepts and the decoder does not: rare, and told without the decoder's own text, which may echo values.
fn decoder_error(source: &Source, error: &serde_yaml::Error) -> Finding {
    let Some(location) = error.location() else {
        return Finding::error(codes::TOO_LARGE, 0..0, "aliases are repeated too often in this file");
    };
    let at = location.index().min(source.text().trim_end().len());
    let at = source.text().floor_char_boundary(at);
    Finding::error(codes::SYNTAX, at..at, "this value cannot be read")
        .with_help("a number may be too large; if it is meant as text, quote it")
}

impl fmt::Debug for Document {
    /// The name only: the text may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({})", self.inner.source.name())
    }
}

impl Document {
    /// The whole document as a section.
    #[must_use]
    pub fn root(&self) -> Section {
        Section::new(self.inner.clone(), Path::root())
    }

    /// The file's name as given.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.inner.source.name()
    }

    /// Locates, sorts and renders what was found.
    #[must_use]
    pub fn report(&self, problems: Problems) -> Report {
        if problems.is_empty() {
            return Report::default();
        }
        let inner = &self.inner;
        let findings = problems.list.iter().map(|problem| inner.locate(problem)).collect();
        if !problems.list.iter().any(|problem| problem.blank) {
            return Report::new(&inner.source, inner.blanks(), findings);
        }
        let mut blanks = Blanks::of_tree(&inner.tree, inner.source.text());
        for problem in problems.list.iter().filter(|problem| problem.blank) {
            let place = inner.tree.locate(&problem.at);
            if place.found == problem.at.segments().len() {
                blanks.add_value(&inner.tree, inner.source.text(), place.node);
            }
        }
        blanks.settle();
        Report::new(&inner.source, &blanks, findings)
    }

    /// A number that differs when the text differs: to see whether a reload has anything to do. The same in every process
    /// of one build.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.inner.source.text().hash(&mut hasher);
        hasher.finish()
    }

    /// File, line and column of the key at `path`, or of the value where there is no key.
    #[must_use]
    pub fn place(&self, path: &Path) -> Place {
        self.inner.place(path)
    }
}

impl Inner {
    pub(super) fn value(&self, path: &Path) -> Option<&Value> {
        path.segments().iter().try_fold(&self.value, |value, seg| section::child(value, seg))
    }

    /// File, line and column of the key at `path`, or of the value where there is no key.
    pub(super) fn place(&self, path: &Path) -> Place {
        let (line, column) = self.source.line_column(self.tree.locate(path).key.start);
        let counted = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Place { file: self.source.shared_name(), line: counted(line), column: counted(column) }
    }

    /// The scalar at `path` as written, if it is one and may be shown.
    pub(super) fn shown_scalar(&self, path: &Path) -> Option<&str> {
        let place = self.tree.locate(path);
        if place.found < path.segments().len() || self.blanks().touch(&place.value) {
            return None;
        }
        self.tree.scalar(place.node, self.source.text())
    }

    fn blanks(&self) -> &Blanks {
        self.blanks.get_or_init(|| Blanks::of_tree(&self.tree, self.source.text()))
    }

    fn locate(&self, problem: &Problem) -> Finding {
        let text = self.source.text();
        let place = self.tree.locate(&problem.at);
        // Where the path goes on beyond what is written, the key of the last part that exists is the place.
        let on_key = problem.on_key || place.found < problem.at.segments().len();
        let mut related: Vec<_> = problem
            .related
            .iter()
            .map(|(at, label)| (self.tree.locate(at).point(text, true), label.clone()))
            .collect();
        related.extend(place.used_at.clone().map(|used| (used, "used here".to_owned())));
        Finding {
            code: problem.code,
            severity: problem.severity,
            place: place.point(text, on_key),
            path: problem.at.to_string(),
            message: problem.message.clone(),
            help: problem.help.clone(),
            related,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_one_problem() {
        let folder = tempfile::tempdir().expect("a folder");
        let report = load(&folder.path().join("none.yaml")).expect_err("no such file");
        assert_eq!(report.summary()[0].code, codes::UNREADABLE);
        assert!(report.human().contains("none.yaml"), "{}", report.human());

        let file = folder.path().join("latin1.yaml");
        std::fs::write(&file, b"a: 1\nb: \xe9\n").expect("a file");
        let report = load(&file).expect_err("not UTF-8");
        assert_eq!(report.summary()[0].code, codes::NOT_TEXT);
        assert!(report.human().contains("line 2"), "{}", report.human());

        std::fs::write(&file, vec![b' '; MAX_FILE_BYTES + 1]).expect("a file");
        assert_eq!(load(&file).expect_err("too large").summary()[0].code, codes::TOO_LARGE);
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
            (entries[0].line, entries[0].column, entries[0].help.as_deref()),
            (1, 4, Some("even; or none"))
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
            item.check_keys(&["name"], &[], &mut problems);
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
                    document.root().check_keys(&[], &[], &mut problems);
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
