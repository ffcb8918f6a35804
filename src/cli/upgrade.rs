//! `portcullis upgrade`: asks a running gateway to hand over to a new process, and tells what became of it.

use std::path::{Path, PathBuf};

use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE};
use crate::plan::Process;
use crate::server::Load;
use crate::server::upgrade::{Outcome, Request, ask};

/// What `upgrade` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration file of the running gateway: its `upgrade.socket` is asked, and the new process reads it
    #[arg(long, short, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// The socket to ask, where the file does not say it
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// The program to start; this one if not given
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Upgrades.
#[must_use]
pub fn upgrade(arguments: &Arguments) -> u8 {
    let config = match arguments.config.as_deref().map(std::fs::canonicalize).transpose() {
        Ok(config) => config,
        Err(why) => {
            let file = arguments.config.as_deref().unwrap_or(Path::new("")).display();
            eprintln!("error: `{file}`: {why}");
            return EXIT_USAGE;
        }
    };
    let Some(socket) = arguments.socket.clone().or_else(|| socket_of(config.as_deref()?)) else {
        eprintln!(
            "error: which gateway? name its socket with `--socket`, or a configuration with `upgrade: {{ socket: ... }}` with `--config`"
        );
        return EXIT_USAGE;
    };
    let binary = match arguments.binary.clone().map_or_else(std::env::current_exe, std::fs::canonicalize) {
        Ok(binary) => binary,
        Err(why) => {
            eprintln!("error: the program to start: {why}");
            return EXIT_USAGE;
        }
    };
    match ask(&socket, &Request { binary, config }) {
        Ok(Outcome::Done { pid, old }) => {
            println!("process {pid} serves; process {old} finishes what it has begun and leaves");
            EXIT_OK
        }
        Ok(Outcome::Refused { why }) => {
            eprintln!("error: {why}");
            eprintln!("the running gateway serves on, as if nothing had been asked");
            EXIT_FINDINGS
        }
        Err(why) => {
            eprintln!("error: {why}");
            EXIT_FINDINGS
        }
    }
}

/// Where the running gateway listens, as its file says. What is wrong with the file is the new process's to tell.
fn socket_of(config: &Path) -> Option<PathBuf> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let _entered = runtime.enter();
    let (plan, _) = Load::assumed(config, &Process::new()).ok()?;
    Some(plan.upgrade?.socket)
}
