//! `portcullis test`: tries the cases that stand beside the routes, through the gateway itself, without a network and without a secret.
//!
//! ```text
//! load    files and folders -> configuration and cases, or everything that is wrong with them
//! run     one case: a gateway of its own (`server::stage`), requests over a socket pair, time that is told to pass
//! stub    the upstreams: a unix socket for each attempt, what arrives is kept
//! masks   made-up secrets, shown by their names
//! expect  what has to come of it; leak: what must never stand in an answer; diff: where JSON differs
//! format  human, TAP, JUnit, JSON
//! ```

mod client;
mod diff;
mod expect;
mod format;
mod leak;
mod load;
mod masks;
mod run;
mod stub;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE, printed, runtime};
use crate::config::{Place, Report, visible_line};
use crate::policy::told::counted;
use expect::Failure;
pub use format::Format;
use load::Suite;
pub use load::is_cases_file;

/// What `test` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// Files with cases, or folders: of these every `*.test.yaml`, and every other `*.yaml` with `tests`
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The configuration that `*.test.yaml` files try, whatever they say; alone: try the cases that stand in it
    #[arg(long, short, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// Only the cases with this text in their name
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// How the results are written to stdout
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// What came of a case, for whatever format.
pub struct Tried {
    /// The file with the case, as given.
    pub file: String,
    /// Its place.
    pub at: Place,
    /// Its name.
    pub name: String,
    /// What does not hold.
    pub failures: Vec<Failure>,
    /// In real time.
    pub took: Duration,
}

/// Tries all cases.
#[must_use]
pub fn test(arguments: &Arguments) -> u8 {
    let began = Instant::now();
    let named: Vec<PathBuf> = match (&arguments.config, arguments.files.is_empty()) {
        (Some(config), true) => vec![config.clone()],
        (_, false) => arguments.files.clone(),
        (None, true) => {
            eprintln!("error: no file with cases; name one or a folder, as in `portcullis test conf/`");
            return EXIT_USAGE;
        }
    };
    let files = match load::files(&named) {
        Ok(files) => files,
        Err(why) => {
            eprintln!("error: {why}");
            return EXIT_USAGE;
        }
    };
    let Some(suites) = suites(&files, arguments.config.as_deref()) else { return EXIT_USAGE };
    let wanted = |name: &str| arguments.filter.as_deref().is_none_or(|text| name.contains(text));
    let jobs: Vec<Job<'_>> = suites
        .iter()
        .flat_map(|suite| (0..suite.cases.len()).map(move |index| Job { suite, index }))
        .filter(|job| job.suite.cases.get(job.index).is_some_and(|case| wanted(&case.name)))
        .collect();
    if jobs.is_empty() {
        eprintln!("error: {}", nothing_to_try(&suites, arguments.filter.as_deref()));
        return EXIT_FINDINGS;
    }
    let tried = match all(&jobs) {
        Ok(tried) => tried,
        Err(why) => {
            eprintln!("error: {why}");
            return EXIT_USAGE;
        }
    };
    let text = arguments.format.render(&tried, began.elapsed());
    let passed = tried.iter().all(|case| case.failures.is_empty());
    printed(&text, if passed { EXIT_OK } else { EXIT_FINDINGS })
}

/// Why there is no case, in words.
fn nothing_to_try(suites: &[Suite], filter: Option<&str>) -> String {
    let all: usize = suites.iter().map(|suite| suite.cases.len()).sum();
    match filter {
        Some(text) if all > 0 => {
            format!(
                "no case has `{}` in its name; there is {}",
                visible_line(text),
                counted(all as u64, "case")
            )
        }
        _ => {
            "no case found; cases stand under `tests`, in the configuration or in a `*.test.yaml`".to_owned()
        }
    }
}

/// How many cases a file of cases has; for `check`. Needs a runtime around it.
///
/// # Errors
/// Everything that is wrong with the file and with the configuration that it tries.
pub fn check(file: &Path) -> Result<usize, Report> {
    load::suite(file, None).map(|suite| suite.cases.len())
}

/// All that can be tried; `None`: something is wrong, and was told.
fn suites(files: &[PathBuf], config: Option<&Path>) -> Option<Vec<Suite>> {
    // Compiling a plan wants a runtime around it.
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(why) => {
            eprintln!("error: {why}");
            return None;
        }
    };
    let _inside = runtime.enter();
    let mut suites = Vec::with_capacity(files.len());
    let mut fine = true;
    for file in files {
        if let Some(why) = load::misfit(file, config) {
            fine = false;
            eprintln!("error: {why}");
            continue;
        }
        match load::suite(file, config) {
            Ok(suite) => suites.push(suite),
            Err(report) => {
                fine = false;
                eprint!("{}", report.human());
            }
        }
    }
    fine.then_some(suites)
}

/// One case to try.
struct Job<'a> {
    suite: &'a Suite,
    index: usize,
}

/// Tries all, several at a time, and gives the results in order.
fn all(jobs: &[Job<'_>]) -> Result<Vec<Tried>, String> {
    let folder = private_folder().map_err(|why| format!("no folder for sockets: {why}"))?;
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Tried)>> = Mutex::new(Vec::with_capacity(jobs.len()));
    let worker = || {
        while let Some((number, job)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(number).map(|job| (number, job))
        } {
            if let Some(tried) = one(job, &folder.join(number.to_string())) {
                results.lock().push((number, tried));
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(jobs.len());
    let started = std::thread::scope(|scope| {
        let all: Vec<_> = (0..workers)
            .map(|_| std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, worker))
            .collect();
        all.iter().filter(|worker| worker.is_ok()).count()
    });
    // What is left there are socket files that nobody will ask for again.
    let _ = std::fs::remove_dir_all(&folder);
    let mut results = results.into_inner();
    if started == 0 || results.len() != jobs.len() {
        return Err("a case ended without a result".into());
    }
    results.sort_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, tried)| tried).collect())
}

fn one(job: &Job<'_>, folder: &Path) -> Option<Tried> {
    let case = job.suite.cases.get(job.index)?;
    let at = case.at.place();
    let outcome = match std::fs::create_dir(folder) {
        Ok(()) => run::case(case, &job.suite.document, &job.suite.directory, folder),
        Err(why) => {
            let failures = vec![Failure::of_case(at.clone(), format!("no folder for sockets: {why}"))];
            run::Outcome { failures, took: Duration::ZERO }
        }
    };
    Some(Tried {
        file: job.suite.file.clone(),
        at,
        name: case.name.clone(),
        failures: outcome.failures,
        took: outcome.took,
    })
}

/// A new folder that only we may enter. Its path is short: that of a unix socket has at most 107 bytes.
fn private_folder() -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let name = format!("portcullis-test-{}", uuid::Uuid::now_v7().simple());
    let folder = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

/// The proxy's futures are deep; a thread of our own has 2 MiB only.
const STACK_BYTES: usize = 8 << 20;
