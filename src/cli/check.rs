//! `portcullis check FILE...`: everything that is wrong, all at once, without binding a port.

use std::path::PathBuf;

use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE};
use crate::plan::{Process, Secrets};
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
    /// Check the names of secrets only, where their values are not at hand
    #[arg(long)]
    no_secrets: bool,
    /// Warnings are mistakes too
    #[arg(long)]
    strict: bool,
    /// List the codes of all problems, each in one line
    #[arg(long)]
    codes: bool,
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
    let mut worst = EXIT_OK;
    for file in files {
        if !file.is_file() {
            eprintln!("error: `{}` is not a file that can be read", file.display());
            worst = EXIT_USAGE;
            continue;
        }
        worst = worst.max(check_one(file, secrets, arguments.strict));
    }
    worst
}

fn check_one(file: &std::path::Path, secrets: Secrets, strict: bool) -> u8 {
    let (report, plan) = match Load::with(file, &Process::new(), secrets) {
        Ok((plan, report)) => (report, Some(plan)),
        Err(report) => (report, None),
    };
    eprint!("{}", report.human());
    let warnings = report.warnings();
    match plan {
        Some(plan) if !(strict && warnings > 0) => {
            println!(
                "{}: fine: {} routes, {} upstreams, {} warnings",
                file.display(),
                plan.routes.len(),
                plan.upstreams.len(),
                warnings
            );
            EXIT_OK
        }
        _ => {
            println!("{}: {} errors, {warnings} warnings", file.display(), report.errors());
            EXIT_FINDINGS
        }
    }
}
