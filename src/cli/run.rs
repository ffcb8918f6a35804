//! `portcullis run --config FILE`: serves it until a signal.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{EXIT_FINDINGS, EXIT_OK, LogFormat};
use crate::server::{self, StartError, Started, Successor};
use crate::telemetry::events;

/// What `run` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// How events are written to stderr
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Which events: a level or a filter such as `info,portcullis::proxy=debug`
    #[arg(long, value_name = "FILTER", env = "PORTCULLIS_LOG", default_value = "info")]
    log: String,
    /// Threads that serve requests; as many as there are cores if not given
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Take over from the process that started this one, over standard input
    #[arg(long, hide = true)]
    successor: bool,
}

/// Serves.
#[must_use]
pub fn run(arguments: Arguments) -> u8 {
    let Some(config) = arguments.config else {
        eprintln!("error: no configuration is given; {}", super::init::first_steps());
        return super::EXIT_USAGE;
    };
    let format = match arguments.log_format {
        LogFormat::Text => events::Format::Text,
        LogFormat::Json => events::Format::Json,
    };
    if let Err(why) = events::init(format, &arguments.log) {
        eprintln!("error: {why}");
        return super::EXIT_USAGE;
    }
    let mut behind: Vec<OsString> = vec!["--log".into(), arguments.log.into()];
    if arguments.log_format == LogFormat::Json {
        behind.extend(["--log-format".into(), "json".into()]);
    }
    if let Some(threads) = arguments.threads {
        behind.extend(["--threads".into(), threads.to_string().into()]);
    }
    let successor = match arguments.successor.then(Successor::take).transpose() {
        Ok(successor) => successor,
        Err(why) => {
            eprintln!("error: `--successor` is for `portcullis upgrade`: {why}");
            return super::EXIT_USAGE;
        }
    };
    start(config, arguments.threads, Started { arguments: behind }, successor)
}

/// Serves with the usual events; for commands that serve as part of something else.
#[must_use]
pub fn serve(config: PathBuf, format: LogFormat, threads: Option<usize>) -> u8 {
    let format = match format {
        LogFormat::Text => events::Format::Text,
        LogFormat::Json => events::Format::Json,
    };
    if let Err(why) = events::init(format, "info") {
        eprintln!("error: {why}");
        return super::EXIT_USAGE;
    }
    start(config, threads, Started::default(), None)
}

fn start(config: PathBuf, threads: Option<usize>, started: Started, successor: Option<Successor>) -> u8 {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name("portcullis");
    if let Some(threads) = threads {
        builder.worker_threads(threads.max(1));
    }
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(why) => {
            eprintln!("error: no runtime: {why}");
            return EXIT_FINDINGS;
        }
    };
    let outcome = runtime.block_on(server::run(config, started, successor));
    // What a cut connection still holds is not waited for: the drain was.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => EXIT_OK,
        Err(StartError::Config(report)) => {
            eprint!("{report}");
            eprintln!("error: the configuration is refused");
            EXIT_FINDINGS
        }
        Err(StartError::System(why)) => {
            eprintln!("error: {why}");
            EXIT_FINDINGS
        }
    }
}
