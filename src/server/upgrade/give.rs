//! The old process's side: it starts its successor, gives it the listeners, and waits for its word.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
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
    pub(in crate::server) end: Arc<End>,
}

/// How this process comes to its end: by a signal or by a successor. What comes first holds: otherwise a successor could serve on where all
/// was to stop.
#[derive(Debug, Default)]
pub(in crate::server) struct End(Mutex<Option<By>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Signal,
    Successor,
}

impl End {
    /// A signal came. Returns whether a successor was let before.
    pub(in crate::server) fn by_signal(&self) -> bool {
        let mut by = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *by.get_or_insert(By::Signal) == By::Successor
    }

    /// Lets a successor serve by `tell`, unless a signal came. Returns whether it was let.
    fn by_successor(&self, tell: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
        let mut by = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if by.is_some() {
            return Ok(false);
        }
        tell()?;
        *by = Some(By::Successor);
        Ok(true)
    }
}

impl Giver {
    /// Starts the successor, waits until it is ready, and lets it serve where no signal has come by then. Blocks. Nothing of this process has
    /// changed when it returns.
    pub(in crate::server) fn give(&self, request: &Request) -> Outcome {
        match self.try_give(request) {
            Ok(pid) => Outcome::Done { pid, old: std::process::id() },
            Err(why) => Outcome::Refused { why },
        }
    }

    fn try_give(&self, request: &Request) -> Result<u32, String> {
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
            Ok(Some(Word::Ready)) => match self.end.by_successor(|| let_serve(&ours)) {
                Ok(true) => Ok(child.id()),
                Ok(false) => {
                    drop(ours);
                    end(&mut child);
                    Err("this process was told to stop; its successor was stopped as well".into())
                }
                Err(why) => {
                    end(&mut child);
                    Err(format!("the successor ended as soon as it was ready: {why}"))
                }
            },
            Ok(Some(Word::Failed(why))) => {
                end(&mut child);
                Err(format!("the successor does not start:\n{}", why.trim_end()))
            }
            Ok(Some(Word::Serving)) => {
                end(&mut child);
                Err("the successor did not wait until it was let".into())
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
        let least = Duration::from_millis(1);
        Ok(wire::receive(socket, self.timeout.max(least))?.map(|(word, _)| word))
    }
}

/// Lets the successor serve, and waits until it does. One that does not say so in time was let all the same.
///
/// # Errors
/// When it is gone.
fn let_serve(successor: &OwnedFd) -> io::Result<()> {
    wire::send(successor.as_fd(), &Permit::Serve, &[])?;
    match wire::receive::<Word>(successor, SERVES_WITHIN) {
        Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(why) if why.kind() == io::ErrorKind::ConnectionReset => Err(why),
        _ => Ok(()),
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

/// The successor has nothing left to do that takes time.
const SERVES_WITHIN: Duration = Duration::from_secs(2);
/// How long a successor that has said why it does not start may take to leave.
const OWN_END: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_first_ends_the_process() {
        let signalled = End::default();
        assert!(!signalled.by_signal(), "nobody was let");
        assert!(!signalled.by_successor(|| panic!("nobody is told")).unwrap());
        let left = End::default();
        assert!(left.by_successor(|| Err(io::ErrorKind::BrokenPipe.into())).is_err(), "the successor died");
        assert!(left.by_successor(|| Ok(())).unwrap(), "another one can still be let");
        assert!(left.by_signal(), "the signal comes too late");
    }

    #[test]
    fn a_successor_that_dies_as_it_is_let_is_none() {
        let (ours, theirs) = wire::pair().unwrap();
        wire::send(theirs.as_fd(), &Word::Serving, &[]).unwrap();
        let_serve(&ours).unwrap();
        let (ours, theirs) = wire::pair().unwrap();
        let dies = std::thread::spawn(move || {
            wire::receive::<Permit>(&theirs, Duration::from_secs(5)).unwrap().expect("it is let");
        });
        assert!(let_serve(&ours).is_err(), "let, and gone");
        dies.join().unwrap();
        let (ours, theirs) = wire::pair().unwrap();
        drop(theirs);
        assert!(let_serve(&ours).is_err(), "gone before");
    }
}
