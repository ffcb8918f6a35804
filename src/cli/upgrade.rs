//! `portcullis upgrade`: asks a running gateway to hand over to a new process, and tells what became of it.

use std::path::{Path, PathBuf};

use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE};
use crate::plan::Process;
use crate::server::Load;
use crate::server::upgrade::{Outcome, Request, ask};

/// What `upgrade` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration of the running gateway: it is asked on its `upgrade.socket`, and the new process reads it anew
    #[arg(long, short, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// Ask on this socket, whatever the file says
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// The program to start, as the running gateway sees it; this one if not given
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
    let socket = match (&arguments.socket, config.as_deref()) {
        (Some(socket), _) => socket.clone(),
        (None, Some(config)) => match socket_of(config) {
            Ok(Some(socket)) => socket,
            Ok(None) => {
                eprintln!(
                    "error: `{}` has no `upgrade: {{ socket: ... }}`: a gateway that was started with it cannot be asked",
                    config.display()
                );
                return EXIT_USAGE;
            }
            Err(report) => {
                eprint!("{report}");
                eprintln!(
                    "error: the configuration is refused; the running gateway was not asked and serves on"
                );
                return EXIT_FINDINGS;
            }
        },
        (None, None) => {
            eprintln!(
                "error: which gateway? name its configuration with `--config`, or its socket with `--socket`"
            );
            return EXIT_USAGE;
        }
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

/// Where the running gateway listens, as its file says. Secrets and certificates are the new process's to look for.
fn socket_of(config: &Path) -> Result<Option<PathBuf>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| format!("error: no runtime: {why}\n"))?;
    let _entered = runtime.enter();
    let (plan, _) = Load::assumed(config, &Process::new()).map_err(|report| report.human())?;
    Ok(plan.upgrade.map(|upgrade| upgrade.socket))
}
