//! `portcullis check FILE...`: everything that is wrong, all at once, without binding a port.

mod json;
mod sarif;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE};
use crate::config::{Entry, Report, visible_line};
use crate::plan::{Process, Secrets};
use crate::policy::told::counted;
use crate::server::Load;

/// What `check` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// Configuration files
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same, as `run` takes it
    #[arg(long, short, env = "PORTCULLIS_CONFIG")]
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
    /// How many routes and upstreams it has; `None` where it cannot be used.
    size: Option<(usize, usize)>,
    exit: u8,
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
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        eprintln!("error: no runtime");
        return EXIT_USAGE;
    };
    let _inside = runtime.enter();
    let secrets = if arguments.no_secrets { Secrets::Assume } else { Secrets::Read };
    let mut checked = Vec::with_capacity(files.len());
    for file in files {
        let one = check_one(file, secrets, arguments.strict);
        if arguments.format == Format::Human {
            human(&one);
        }
        checked.push(one);
    }
    match arguments.format {
        Format::Human => more_about(&checked),
        Format::Json => println!("{:#}", json::document(&checked)),
        Format::Sarif => println!("{:#}", sarif::document(&checked)),
    }
    checked.iter().map(|one| one.exit).max().unwrap_or(EXIT_OK)
}

fn check_one(file: &Path, secrets: Secrets, strict: bool) -> Checked {
    let name = file.display().to_string();
    if !file.is_file() {
        let why = "this is not a file that can be read";
        let report = Report::about_file(&name, crate::config::codes::UNREADABLE, why.to_owned());
        return Checked { file: name, report, size: None, exit: EXIT_USAGE };
    }
    let (report, size) = match Load::with(file, &Process::new(), secrets) {
        Ok((plan, report)) => (report, Some((plan.routes.len(), plan.upstreams.len()))),
        Err(report) => (report, None),
    };
    let fine = size.is_some() && !(strict && report.warnings() > 0);
    Checked { file: name, report, size, exit: if fine { EXIT_OK } else { EXIT_FINDINGS } }
}

/// Problems to stderr, in colour where that is a terminal and nobody objects (`NO_COLOR`); the outcome to stdout.
fn human(checked: &Checked) {
    let (file, report) = (visible_line(&checked.file), &checked.report);
    if checked.exit == EXIT_USAGE {
        eprintln!("error: `{file}` is not a file that can be read");
        return;
    }
    anstream::eprint!("{}", report.styled());
    match checked.size {
        Some((routes, upstreams)) if checked.exit == EXIT_OK => {
            let size = [counted(routes as u64, "route"), counted(upstreams as u64, "upstream")].join(", ");
            println!("{file}: fine: {size}, {}", counted(report.warnings() as u64, "warning"));
        }
        _ => println!(
            "{file}: {}, {}",
            counted(report.errors() as u64, "error"),
            counted(report.warnings() as u64, "warning")
        ),
    }
}

/// Says once, below everything, that codes can be explained.
fn more_about(checked: &[Checked]) {
    let found = checked.iter().filter(|one| one.exit != EXIT_USAGE).flat_map(|one| one.report.summary());
    if let Some(Entry { code, .. }) = found.into_iter().next() {
        eprintln!("\nrun \"portcullis explain {code}\" for more about a code");
    }
}
