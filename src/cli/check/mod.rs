//! `portcullis check FILE...`: everything that is wrong, all at once, without binding a port.

mod json;
mod sarif;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::test::is_cases_file;
use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE, printed, runtime};
use crate::config::{Entry, Report, visible_line};
use crate::plan::{Process, Secrets};
use crate::policy::told::counted;
use crate::server::Load;

/// What `check` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// Configuration files, and files with cases (`*.test.yaml`)
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// One more configuration file, given as `run` takes it
    #[arg(long, short, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// Check the names of secrets and TLS files only, where these are not at hand
    #[arg(long)]
    no_secrets: bool,
    /// Warnings are mistakes too
    #[arg(long)]
    strict: bool,
    /// How problems are written: for people on stderr, or as one document on stdout
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// List the codes of all problems, each in one line
    #[arg(long)]
    codes: bool,
}

/// How problems are written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: the lines concerned, marked.
    Human,
    /// For programs; the shape is stable (docs/diagnostics.md).
    Json,
    /// For code hosts and editors: SARIF 2.1.0.
    Sarif,
}

/// One file, checked.
struct Checked {
    file: String,
    report: Report,
    /// What is in it; `None` where it cannot be used.
    size: Option<Size>,
    exit: u8,
}

/// What is in a file that can be used.
#[derive(Clone, Copy)]
enum Size {
    /// A configuration.
    Configuration { routes: usize, upstreams: usize },
    /// A file of cases for `portcullis test`.
    Cases(usize),
}

/// Checks each file by itself.
#[must_use]
pub fn check(arguments: &Arguments) -> u8 {
    if arguments.codes {
        return super::explain_code::list();
    }
    let files: Vec<&PathBuf> = arguments.files.iter().chain(&arguments.config).collect();
    if files.is_empty() {
        eprintln!("error: no file to check; name one, as in `portcullis check conf/minimal.yaml`");
        return EXIT_USAGE;
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(why) => {
            eprintln!("error: {why}");
            return EXIT_USAGE;
        }
    };
    let _inside = runtime.enter();
    let secrets = if arguments.no_secrets { Secrets::Assume } else { Secrets::Read };
    let mut checked = Vec::with_capacity(files.len());
    let mut written = EXIT_OK;
    for file in files {
        let one = check_one(file, secrets, arguments.strict);
        if arguments.format == Format::Human {
            written = written.max(human(&one));
        }
        checked.push(one);
    }
    let code = checked.iter().map(|one| one.exit).max().unwrap_or(EXIT_OK);
    match arguments.format {
        Format::Human => {
            more_about(&checked);
            code.max(written)
        }
        Format::Json => printed(&format!("{:#}\n", json::document(&checked)), code),
        Format::Sarif => printed(&format!("{:#}\n", sarif::document(&checked)), code),
    }
}

fn check_one(file: &Path, secrets: Secrets, strict: bool) -> Checked {
    let name = file.display().to_string();
    if !file.is_file() {
        let why = "this is not a file that can be read";
        let report = Report::about_file(&name, crate::config::codes::UNREADABLE, why.to_owned());
        return Checked { file: name, report, size: None, exit: EXIT_USAGE };
    }
    let (report, size) = if is_cases_file(file) {
        match super::test::check(file) {
            Ok(cases) => (Report::default(), Some(Size::Cases(cases))),
            Err(report) => (report, None),
        }
    } else {
        match Load::with(file, &Process::new(), secrets) {
            Ok((plan, report)) => {
                let size = Size::Configuration { routes: plan.routes.len(), upstreams: plan.upstreams.len() };
                (report, Some(size))
            }
            Err(report) => (report, None),
        }
    };
    let fine = size.is_some() && !(strict && report.warnings() > 0);
    Checked { file: name, report, size, exit: if fine { EXIT_OK } else { EXIT_FINDINGS } }
}

/// Problems to stderr, in colour where that is a terminal and nobody objects (`NO_COLOR`); the outcome to stdout. Gives an exit code.
fn human(checked: &Checked) -> u8 {
    let (file, report) = (visible_line(&checked.file), &checked.report);
    if checked.exit == EXIT_USAGE {
        eprintln!("error: `{file}` is not a file that can be read");
        return EXIT_USAGE;
    }
    anstream::eprint!("{}", report.styled());
    let outcome = match checked.size {
        Some(size) if checked.exit == EXIT_OK => {
            let size = match size {
                Size::Configuration { routes, upstreams } => {
                    [counted(routes as u64, "route"), counted(upstreams as u64, "upstream")].join(", ")
                }
                Size::Cases(cases) => counted(cases as u64, "case"),
            };
            format!("{file}: fine: {size}, {}\n", counted(report.warnings() as u64, "warning"))
        }
        _ => format!(
            "{file}: {}, {}\n",
            counted(report.errors() as u64, "error"),
            counted(report.warnings() as u64, "warning")
        ),
    };
    printed(&outcome, checked.exit)
}

/// Says once, below everything, that codes can be explained.
fn more_about(checked: &[Checked]) {
    let found = checked.iter().filter(|one| one.exit != EXIT_USAGE).flat_map(|one| one.report.summary());
    if let Some(Entry { code, .. }) = found.into_iter().next() {
        eprintln!("\nrun \"portcullis explain {code}\" for more about a code");
    }
}
