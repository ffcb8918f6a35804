//! Problems as text for people and as data for logs.
//!
//! Snippets come from a copy of the lines concerned with all possible secrets blanked. Rendering looks at these lines only:
//! a file of ten thousand routes may have ten thousand problems.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::codes;
use super::problem::{Finding, Severity};
use super::redact::Blanks;
use super::visible::{visible, visible_line};

/// A file's name, text and lines.
pub(super) struct Source {
    name: Arc<str>,
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Source {
    pub(super) fn new(name: &str, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Self { name: Arc::from(name), text, lines }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The line of a byte, counted from 0.
    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    fn start(&self, line: usize) -> usize {
        self.lines.get(line).copied().unwrap_or(self.text.len())
    }

    /// Where a line's text ends, without its line break.
    fn end(&self, line: usize) -> usize {
        let (start, next) = (self.start(line), self.start(line + 1));
        start + self.text.get(start..next).unwrap_or_default().trim_end_matches(['\n', '\r']).len()
    }

    /// Line and column of a byte, both counted from 1, the column in characters.
    pub(super) fn line_column(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let before = self.text.get(self.start(line)..offset).unwrap_or_default();
        (line + 1, before.chars().count() + 1)
    }
}

/// A file and what of it must not be shown.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) source: &'a Source,
    pub(super) blanks: &'a Blanks,
}

/// A piece of a file that is pointed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The file's name as given.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line of its end.
    pub end_line: usize,
    /// The column behind its last character.
    pub end_column: usize,
    /// What it has to do with the problem.
    pub label: String,
}

/// One problem as data, for a log or a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file's name as given.
    pub file: String,
    /// Counted from 1; 0 when the problem is the file itself.
    pub line: usize,
    /// In characters, counted from 1; 0 when the problem is the file itself.
    pub column: usize,
    /// The line of its end; 0 when the problem is the file itself.
    pub end_line: usize,
    /// The column behind its last character; 0 when the problem is the file itself.
    pub end_column: usize,
    /// How bad it is.
    pub severity: Severity,
    /// From [`super::codes`], or a room's own.
    pub code: &'static str,
    /// The place in the document, such as `routes[0].match`; empty when it has none.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it, one advice each.
    pub help: Vec<String>,
    /// Other places that belong to it, such as the first of two equal names.
    pub related: Vec<Region>,
}

/// Everything that is wrong with a document, sorted by place. Holds no secret.
#[derive(Clone, Debug, Default)]
pub struct Report {
    entries: Vec<Entry>,
    /// The same for people, rendered when asked for.
    groups: Vec<Group<'static>>,
}

impl Report {
    /// Whether the document cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// How many errors there are.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.entries.iter().filter(|entry| entry.severity == Severity::Error).count()
    }

    /// How many warnings there are.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.entries.len() - self.errors()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All problems for a person: the lines concerned, marked, without colour. Ends with a line break unless empty.
    #[must_use]
    pub fn human(&self) -> String {
        visible(&self.rendered(&Renderer::plain())).into_owned()
    }

    /// The same with the colours of a terminal. They say nothing that the text does not.
    #[must_use]
    pub fn styled(&self) -> String {
        let is_c1 = |character| ('\u{80}'..='\u{9f}').contains(&character);
        self.rendered(&Renderer::styled()).replace(is_c1, "\u{fffd}")
    }

    fn rendered(&self, renderer: &Renderer) -> String {
        let mut text = String::new();
        for group in &self.groups {
            if !text.is_empty() {
                text.push('\n');
            }
            let rendered = renderer.render(std::slice::from_ref(group));
            // A piece of a long line has its own place line, and the renderer adds one without a name.
            for line in rendered.lines().filter(|line| without_style(line).trim() != ":::") {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    /// All problems as data, in the same order.
    #[must_use]
    pub fn summary(&self) -> Vec<Entry> {
        self.entries.clone()
    }

    /// A problem with the file itself.
    #[must_use]
    pub fn about_file(file: &str, code: &'static str, message: String) -> Self {
        let group =
            Group::with_title(Level::ERROR.primary_title(visible_line(&message).into_owned()).id(code))
                .element(Origin::path(visible_line(file).into_owned()));
        let entry = Entry {
            file: file.to_owned(),
            line: 0,
            column: 0,
            end_line: 0,
            end_column: 0,
            severity: Severity::Error,
            code,
            path: String::new(),
            message,
            help: Vec::new(),
            related: Vec::new(),
        };
        Self { entries: vec![entry], groups: vec![group] }
    }

    /// The findings of all files, sorted by file and place.
    pub(super) fn new(files: &[Shown<'_>], mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|a, b| {
            (a.file, a.place.start, a.severity, a.code, &a.message).cmp(&(
                b.file,
                b.place.start,
                b.severity,
                b.code,
                &b.message,
            ))
        });
        // Two rooms may look at the same key, and one problem said twice is no better known.
        findings.dedup_by(|a, b| {
            a.file == b.file && a.place == b.place && a.code == b.code && a.message == b.message
        });
        // What is known and not supported is also unknown to the decoder.
        let planned: HashSet<(usize, Range<usize>)> = findings
            .iter()
            .filter(|f| f.code == codes::NOT_SUPPORTED)
            .map(|f| (f.file, f.place.clone()))
            .collect();
        findings.retain(|f| f.code != codes::UNKNOWN_KEY || !planned.contains(&(f.file, f.place.clone())));
        let mut report = Self::default();
        for mut finding in findings {
            let Some(file) = files.get(finding.file) else { continue };
            finding.message = file.blanks.scrub(&finding.message);
            finding.path = file.blanks.scrub(&finding.path);
            finding.help.iter_mut().for_each(|help| *help = file.blanks.scrub(help));
            finding.related.iter_mut().for_each(|related| related.label = file.blanks.scrub(&related.label));
            report.groups.push(group(files, &finding));
            report.entries.push(entry(files, finding));
        }
        report
    }
}

/// A line without the sequences that colour it.
fn without_style(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, styled)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = styled.split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}

fn region(files: &[Shown<'_>], file: usize, place: &Range<usize>, label: String) -> Option<Region> {
    let source = files.get(file)?.source;
    let (line, column) = source.line_column(place.start);
    let (end_line, end_column) = source.line_column(place.end);
    Some(Region { file: source.name.to_string(), line, column, end_line, end_column, label })
}

fn entry(files: &[Shown<'_>], finding: Finding) -> Entry {
    let at = region(files, finding.file, &finding.place, String::new());
    let related = finding.related.into_iter().filter_map(|r| region(files, r.file, &r.place, r.label));
    let (line, column) = at.as_ref().map_or((0, 0), |at| (at.line, at.column));
    let (end_line, end_column) = at.as_ref().map_or((0, 0), |at| (at.end_line, at.end_column));
    Entry {
        file: at.map(|at| at.file).unwrap_or_default(),
        line,
        column,
        end_line,
        end_column,
        severity: finding.severity,
        code: finding.code,
        path: finding.path,
        message: finding.message,
        help: finding.help,
        related: related.collect(),
    }
}

/// A marked piece of one line.
struct Mark<'f> {
    file: usize,
    place: Range<usize>,
    primary: bool,
    label: &'f str,
}

/// What is shown of a finding: its message, the lines concerned, blanked, and what to do.
fn group(files: &[Shown<'_>], finding: &Finding) -> Group<'static> {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group =
        Group::with_title(level.primary_title(visible_line(&finding.message).into_owned()).id(finding.code));
    for marks in excerpts(files, finding) {
        if let Some(file) = marks.first().and_then(|mark| files.get(mark.file)) {
            group = show(file.source, file.blanks, &marks, group);
        }
    }
    for help in &finding.help {
        group = group.element(Level::HELP.message(visible(help).into_owned()));
    }
    group
}

/// The marks, those in neighbouring lines of a file together, the problem's own place first.
fn excerpts<'f>(files: &[Shown<'_>], finding: &'f Finding) -> Vec<Vec<Mark<'f>>> {
    // A path of one key says no more than the line does.
    let label = if finding.path.contains(['.', '[']) { finding.path.as_str() } else { "" };
    let mark = |file: usize, place: &Range<usize>, primary, label| {
        let source = files.get(file)?.source;
        Some(Mark { file, place: clip(source, place), primary, label })
    };
    let mut marks: Vec<Mark<'f>> = mark(finding.file, &finding.place, true, label).into_iter().collect();
    marks.extend(finding.related.iter().filter_map(|r| mark(r.file, &r.place, false, &r.label)));
    marks.sort_by_key(|mark| (mark.file, mark.place.start, mark.place.end));
    let is_near = |before: &Mark<'_>, mark: &Mark<'_>| {
        files.get(mark.file).is_some_and(|file| {
            mark.file == before.file
                && file.source.line(mark.place.start) <= file.source.line(before.place.start) + NEAR_LINES
                && mark.place.end.saturating_sub(before.place.start) <= NEAR_BYTES
        })
    };
    let mut groups: Vec<Vec<Mark<'f>>> = Vec::new();
    for mark in marks {
        match groups.last_mut() {
            Some(group) if group.last().is_some_and(|before| is_near(before, &mark)) => group.push(mark),
            _ => groups.push(vec![mark]),
        }
    }
    groups.sort_by_key(|group| !group.iter().any(|mark| mark.primary));
    groups
}

/// The part of a place in its first line, at most so much as is readable.
fn clip(source: &Source, place: &Range<usize>) -> Range<usize> {
    let end = source.end(source.line(place.start)).max(place.start);
    let end = place.end.min(end).min(place.start.saturating_add(LONGEST_MARK));
    place.start..source.text.floor_char_boundary(end).max(place.start)
}

fn show(source: &Source, blanks: &Blanks, marks: &[Mark<'_>], group: Group<'static>) -> Group<'static> {
    let (Some(first), Some(last)) = (marks.first(), marks.last()) else { return group };
    let lines = source.line(first.place.start)..source.line(last.place.start);
    let whole = source.start(lines.start)..source.end(lines.end);
    let far =
        |mark: &Mark<'_>| mark.place.start.saturating_sub(source.start(source.line(mark.place.start))) > FAR;
    // A generated file may be one line of megabytes: then only the surroundings are shown.
    let clipped = whole.len() > NEAR_BYTES * 2 || marks.iter().any(far);
    let window = if clipped {
        let start = first.place.start.saturating_sub(AROUND).max(whole.start);
        let end = marks.iter().map(|mark| mark.place.end).max().unwrap_or(start) + AROUND;
        source.text.ceil_char_boundary(start)..source.text.floor_char_boundary(end.min(whole.end))
    } else {
        whole
    };
    let blanks = blanks.within(&source.text, &window);
    let annotations: Vec<Annotation<'static>> = marks
        .iter()
        .map(|mark| {
            let kind = if mark.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            let at = |offset: usize| blanks.show(&source.text, window.start..offset).len();
            kind.span(at(mark.place.start)..at(mark.place.end))
                .label((!mark.label.is_empty()).then(|| visible_line(mark.label).into_owned()))
        })
        .collect();
    let snippet = Snippet::source(blanks.show(&source.text, window.clone()))
        .line_start(lines.start + 1)
        .annotations(annotations);
    if !clipped {
        return group.element(snippet.path(visible_line(source.name()).into_owned()));
    }
    // The renderer would count columns from where the window begins.
    let shown = marks.iter().find(|mark| mark.primary).unwrap_or(first);
    let (line, column) = source.line_column(shown.place.start);
    group
        .element(Origin::path(visible_line(source.name()).into_owned()).line(line).char_column(column))
        .element(snippet)
}

/// Marks at most so many lines apart share an excerpt.
const NEAR_LINES: usize = 6;
/// And at most so many bytes.
const NEAR_BYTES: usize = 2048;
/// The longest piece that is underlined.
const LONGEST_MARK: usize = 200;
/// How far into a line a mark may stand before the line is cut.
const FAR: usize = 1024;
/// What is shown around a mark in a line that is cut.
const AROUND: usize = 60;
