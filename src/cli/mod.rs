//! The commands: one file each. Arguments in, exit code out; data on stdout, talk on stderr.

mod admin;
pub mod cache;
pub mod check;
pub mod codeowners;
pub mod demo;
pub mod diff;
pub mod explain;
pub mod explain_code;
pub mod init;
mod percent;
pub mod run;
pub mod schema;
pub mod test;
pub mod upgrade;

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// A programmable edge gateway that hides third-party APIs behind your own origin.
#[derive(Parser)]
#[command(name = "portcullis", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Write a commented configuration to begin with; exit 0 written, 1 not writable, 2 unusable options or files there already
    Init(init::Arguments),
    /// Serve a configuration until SIGTERM; exit 0 stopped, 1 refused, 2 wrong arguments
    Run(run::Arguments),
    /// Say everything that is wrong with configuration files; exit 0 fine, 1 mistakes, 2 unreadable
    Check(check::Arguments),
    /// Print who answers for which file, as rules for the code host; exit 0 printed, 1 mistakes, 2 unreadable
    Codeowners(codeowners::Arguments),
    /// Print the JSON Schema of the configuration, for editors
    Schema(schema::Arguments),
    /// Tell what happens to a request, and why, without sending it; exit 0 taken, 1 no route or refused
    Explain(explain::Arguments),
    /// Hand a running gateway over to a new process: another release, no request lost; exit 0 done, 1 not: what runs serves on, 2 unusable options
    Upgrade(upgrade::Arguments),
    /// See and purge what a running gateway has stored; exit 0 done, 1 nothing found, 2 unusable options or no gateway
    Cache(cache::Arguments),
    /// Say what a change of a configuration means: what differs, what loosens, what may break clients; exit 0 same, 1 different, 2 unusable
    Diff(diff::Arguments),
    /// Try the cases that stand beside the routes, without a network; exit 0 all pass, 1 failures, 2 unusable files
    Test(test::Arguments),
    /// Run the gateway with a built-in hidden API and a web app, to try it
    Demo(DemoArguments),
    /// Serve only the built-in hidden API (for tests under load)
    #[command(hide = true)]
    DemoVendor {
        /// Where it listens
        #[arg(long)]
        address: std::net::SocketAddr,
        /// File with the keys that are valid, one a line, read at each request
        #[arg(long)]
        keys: PathBuf,
    },
    /// Serve only the built-in web app
    #[command(hide = true)]
    DemoWebapp {
        /// Where it listens
        #[arg(long)]
        address: std::net::SocketAddr,
    },
}

#[derive(clap::Args)]
struct DemoArguments {
    /// The configuration that the gateway serves
    #[arg(long, short, value_name = "FILE", default_value = demo::CONFIG)]
    config: PathBuf,
}

/// How events are written to stderr.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A command ended well, or found nothing wrong.
pub const EXIT_OK: u8 = 0;
/// The input has mistakes, or the gateway could not start.
pub const EXIT_FINDINGS: u8 = 1;
/// The arguments are wrong, a file cannot be read, or stdout cannot be written.
pub const EXIT_USAGE: u8 = 2;

/// A runtime on this thread alone, for commands that compile a plan or talk to themselves.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| format!("no runtime: {why}"))
}

/// Writes what a command was asked for to stdout, and gives the exit code: `code`, also where the reader has had enough, as `head` has.
#[must_use]
fn printed(text: &str, code: u8) -> u8 {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(why) if why.kind() != ErrorKind::BrokenPipe => {
            eprintln!("error: stdout cannot be written: {why}");
            EXIT_USAGE
        }
        _ => code,
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let Some(command) = Arguments::parse().command else {
        eprintln!("error: no command is given; {}", init::first_steps());
        return ExitCode::from(EXIT_USAGE);
    };
    let code = match command {
        Command::Init(arguments) => init::init(&arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Upgrade(arguments) => upgrade::upgrade(&arguments),
        Command::Cache(arguments) => cache::cache(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Codeowners(arguments) => codeowners::codeowners(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Schema(arguments) => schema::schema(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Diff(arguments) => diff::diff(&arguments),
        Command::Demo(arguments) => demo(&arguments),
        Command::DemoVendor { address, keys } => {
            served(demo::serve_vendor(address, demo::Keys::File(keys), std::io::stdout()))
        }
        Command::DemoWebapp { address } => served(demo::serve_webapp(address, std::io::stdout())),
    };
    ExitCode::from(code)
}

fn served(result: Result<(), demo::DemoError>) -> u8 {
    match result {
        Ok(()) => EXIT_OK,
        Err(why) => {
            eprintln!("error: {why}");
            EXIT_FINDINGS
        }
    }
}

fn demo(arguments: &DemoArguments) -> u8 {
    if !arguments.config.is_file() {
        eprintln!(
            "error: there is no `{}` here; run the demo from the project's folder",
            arguments.config.display()
        );
        return EXIT_USAGE;
    }
    let running = match demo::start(&arguments.config, demo::VENDOR, demo::WEBAPP) {
        Ok(running) => running,
        Err(why) => {
            eprintln!("error: {why}");
            return EXIT_FINDINGS;
        }
    };
    let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    if demo::print_banner(at(8080), at(9090), &running, &mut std::io::stdout()).is_err() {
        return EXIT_FINDINGS;
    }
    run::serve(arguments.config.clone(), LogFormat::Text, None)
}
