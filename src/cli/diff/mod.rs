//! `portcullis diff OLD NEW`: what a change of the configuration means, before it is in force.
//!
//! It compares meanings, not texts, and says what loosens, what may break a client and what needs a restart. No secret is read, no
//! port is bound, no certificate is needed.

mod human;
mod json;
mod log;
mod names;
mod outcome;
mod requests;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use names::Names;

use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE, printed, runtime};
use crate::config::{Document, visible, visible_line};
use crate::plan::diff::{Diff, Mark, Side, What, compare};
use crate::plan::{Plan, Process};
use crate::server::Load;

/// What `diff` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration in force
    old: PathBuf,
    /// The configuration that is to be
    new: PathBuf,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// What makes the exit code 1
    #[arg(long, value_enum, default_value = "difference", value_name = "WHAT")]
    fail_on: FailOn,
    /// An access log of the gateway, or `-`: which of its requests are answered otherwise
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// The most groups of such requests that are listed
    #[arg(long, default_value_t = 20, requires = "requests", value_name = "N")]
    limit: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Lines of text
    Human,
    /// One JSON object; its shape is in docs/diff.md
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum FailOn {
    /// Anything that differs
    Difference,
    /// Only what loosens
    Risk,
}

/// A configuration that compiles.
struct Loaded {
    name: String,
    document: Document,
    plan: Plan,
}

impl Loaded {
    fn side(&self) -> Side<'_> {
        Side { document: &self.document, plan: &self.plan }
    }
}

/// Compares two configurations.
#[must_use]
pub fn diff(arguments: &Arguments) -> u8 {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(why) => {
            eprintln!("error: {why}");
            return EXIT_USAGE;
        }
    };
    let _inside = runtime.enter();
    let process = Process::new();
    // Both are read before the first is given up: all mistakes at once.
    let (old, new) = (load(&arguments.old, &process), load(&arguments.new, &process));
    let (Some(old), Some(new)) = (old, new) else { return EXIT_USAGE };
    let diff = compare(old.side(), new.side());
    let replay = match &arguments.requests {
        Some(file) => match requests::replay(file, arguments.limit, &old, &new, &Names::of(&diff)) {
            Ok(replay) => Some(replay),
            Err(why) => {
                eprintln!("error: {why}");
                return EXIT_USAGE;
            }
        },
        None => None,
    };
    let text = match arguments.format {
        Format::Human => visible(&human::render(&diff, replay.as_ref())).into_owned(),
        Format::Json => json::render(&old.name, &new.name, &diff, replay.as_ref()),
    };
    let fails = match arguments.fail_on {
        FailOn::Difference => !diff.is_same(),
        FailOn::Risk => diff.risks() > 0,
    };
    printed(&text, if fails { EXIT_FINDINGS } else { EXIT_OK })
}

/// Reads and compiles without secrets and without certificates; what is wrong is said on stderr.
fn load(file: &Path, process: &Process) -> Option<Loaded> {
    match Load::described(file, process) {
        Ok((document, plan, _warnings)) => Some(Loaded { name: file.display().to_string(), document, plan }),
        Err(report) => {
            eprint!("{}", report.human());
            eprintln!(
                "error: `{}` cannot be compared: it does not pass `portcullis check --no-secrets`",
                visible_line(&file.display().to_string())
            );
            None
        }
    }
}

/// What a change is called: `changed`.
fn verb(what: &What) -> &'static str {
    match what {
        What::Added => "added",
        What::Removed => "removed",
        What::Renamed { .. } => "renamed",
        What::Changed => "changed",
    }
}

/// `risk` or `breaking?`.
fn side_of(mark: &Mark) -> &'static str {
    if mark.kind.is_risk() { "risk" } else { "breaking?" }
}

/// `1 risk`, `2 risks`.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The last line.
fn summary(diff: &Diff) -> String {
    if diff.is_same() {
        return "no difference: both mean the same".to_owned();
    }
    format!(
        "{}: {}, {} that may break clients",
        counted(diff.changes.len(), "change", "changes"),
        counted(diff.risks(), "risk", "risks"),
        diff.breaking()
    )
}
