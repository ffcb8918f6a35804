//! The old process's side: it starts its successor, gives it the listeners, and waits for its word.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::wire::{self, Given, Named, Permit, Word};
use super::{Outcome, Request, Started};

/// What there is to give.
pub(in crate::server) struct Giver {
    /// The configuration of this process.
    pub(in crate::server) config: PathBuf,
    pub(in crate::server) started: Started,
    /// How long the successor may take to be ready.
    pub(in crate::server) timeout: Duration,
    /// Name, address as configured, and the socket.
    pub(in crate::server) listeners: Vec<(String, std::net::SocketAddr, OwnedFd)>,
    /// The address as configured, and the socket.
    pub(in crate::server) admin: Option<(String, OwnedFd)>,
}

impl Giver {
    /// Starts the successor, waits until it is ready, and lets it serve where this process may leave by then. Blocks. Nothing of this
    /// process has changed when it returns.
    pub(in crate::server) fn give(&self, request: &Request, may_leave: impl Fn() -> bool) -> Outcome {
        match self.try_give(request, may_leave) {
            Ok(pid) => Outcome::Done { pid, old: std::process::id() },
            Err(why) => Outcome::Refused { why },
        }
    }

    fn try_give(&self, request: &Request, may_leave: impl Fn() -> bool) -> Result<u32, String> {
        let told = |why: io::Error| format!("`{}` cannot be started: {why}", request.binary.display());
        let (ours, theirs) = wire::pair().map_err(told)?;
        let mut child = self.start(request, theirs).map_err(told)?;
        let word = self.hand(&ours).and_then(|()| self.wait(&ours));
        // With what it was given unread, the end of a process is a reset.
        let is_gone = |why: &io::Error| {
            matches!(why.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
        };
        let word = word.or_else(|why| if is_gone(&why) { Ok(None) } else { Err(why) });
        match word {
            Ok(Some(Word::Ready)) if !may_leave() => {
                drop(ours);
                end(&mut child);
                Err("this process was told to stop; its successor was stopped as well".into())
            }
            Ok(Some(Word::Ready)) => match wire::send(ours.as_fd(), &Permit::Serve, &[]) {
                Ok(()) => Ok(child.id()),
                Err(why) => {
                    end(&mut child);
                    Err(format!("the successor ended when it was ready: {why}"))
                }
            },
            Ok(Some(Word::Failed(why))) => {
                end(&mut child);
                Err(format!("the successor does not start:\n{}", why.trim_end()))
            }
            Ok(None) => {
                let status = end(&mut child);
                let status = status.map_or_else(|| "without a status".into(), |status| status.to_string());
                Err(format!("the successor ended before it was ready ({status})"))
            }
            Err(why) if matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                end(&mut child);
                Err(format!("the successor was not ready within {:?}; it was stopped", self.timeout))
            }
            Err(why) => {
                end(&mut child);
                Err(format!("the successor cannot be talked to: {why}"))
            }
        }
    }

    fn start(&self, request: &Request, socket: OwnedFd) -> io::Result<Child> {
        let config = request.config.as_ref().unwrap_or(&self.config);
        // Dropped at the end of this: the end of the successor is then the end of the socket.
        Command::new(&request.binary)
            .args(["run", "--successor", "--config"])
            .arg(config)
            .args(&self.started.arguments)
            .stdin(Stdio::from(socket))
            .spawn()
    }

    fn hand(&self, socket: &OwnedFd) -> io::Result<()> {
        let listeners = self.listeners.iter();
        let given = Given {
            listeners: listeners
                .map(|(name, address, _)| Named { name: name.clone(), address: *address })
                .collect(),
            admin: self.admin.as_ref().map(|(address, _)| address.clone()),
        };
        let descriptors = self.listeners.iter().map(|(.., socket)| socket);
        let descriptors: Vec<BorrowedFd<'_>> =
            descriptors.chain(self.admin.as_ref().map(|(_, socket)| socket)).map(AsFd::as_fd).collect();
        wire::send(socket.as_fd(), &given, &descriptors)
    }

    fn wait(&self, socket: &OwnedFd) -> io::Result<Option<Word>> {
        let until = Instant::now() + self.timeout;
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        Ok(wire::receive(socket, left)?.map(|(word, _)| word))
    }
}

/// Ends a successor that did not come up.
fn end(child: &mut Child) -> Option<ExitStatus> {
    // It may have ended by itself: then that status is told.
    let until = Instant::now() + OWN_END;
    while Instant::now() < until {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    child.wait().ok()
}

/// How long a successor that has said why it does not start may take to leave.
const OWN_END: Duration = Duration::from_millis(500);
