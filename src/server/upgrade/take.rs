//! The successor's side: it takes what it is given, starts, and says so.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::wire::{self, Given, MAX_MESSAGE_BYTES, Named, Permit, Word};

/// A process that was started to take over from another.
#[derive(Debug)]
pub struct Successor {
    socket: OwnedFd,
    listeners: Vec<(Named, OwnedFd)>,
    admin: Option<(String, OwnedFd)>,
}

impl Successor {
    /// Takes what the old process gives, over the socket that is this one's standard input.
    ///
    /// # Errors
    /// Where that is no such socket: somebody else started this process so.
    pub fn take() -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        let received = wire::receive::<Given>(&socket, GIVEN_WITHIN)?;
        let (given, descriptors) = received.ok_or_else(|| io::Error::other("the old process is gone"))?;
        let mut descriptors = VecDeque::from(descriptors);
        let mut next = || descriptors.pop_front().ok_or_else(|| io::Error::other("a listener is missing"));
        let listeners = given.listeners.into_iter().map(|named| Ok((named, next()?)));
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let admin = given.admin.map(|address| Ok::<_, io::Error>((address, next()?))).transpose()?;
        Ok(Self { socket, listeners, admin })
    }

    /// The listener of a name and an address as they are configured, if the old process had one.
    pub(in crate::server) fn listener(&mut self, name: &str, address: SocketAddr) -> Option<OwnedFd> {
        let place = self.listeners.iter().position(|(given, _)| {
            // Port 0 is a different one for each: only the name tells them apart.
            given.address == address && (address.port() != 0 || given.name == name)
        })?;
        Some(self.listeners.swap_remove(place).1)
    }

    /// The admin side's listener, if it is the same one.
    pub(in crate::server) fn admin(&mut self, address: &str) -> Option<OwnedFd> {
        self.admin.take_if(|(given, _)| given == address).map(|(_, descriptor)| descriptor)
    }

    /// Says that this process can serve, and waits for leave to do so. What it was given and did not take is closed.
    ///
    /// # Errors
    /// When the old process is gone, drains or did not wait so long: then this one must not serve.
    pub fn ready(self) -> io::Result<Let> {
        wire::send(self.socket.as_fd(), &Word::Ready, &[]).map_err(|_| io::Error::other("it has ended"))?;
        match wire::receive(&self.socket, PERMITTED_WITHIN)? {
            Some((Permit::Serve, _)) => Ok(Let(self.socket)),
            None => Err(io::Error::other("it did not wait for this one")),
        }
    }

    /// Says why this process does not start.
    pub fn failed(&self, why: &str) {
        let most = MAX_MESSAGE_BYTES / 8;
        let why = why.chars().take(most).collect();
        // The old process has given up waiting, at worst; it is told by the end of this one as well.
        let _ = wire::send(self.socket.as_fd(), &Word::Failed(why), &[]);
    }
}

/// One that may serve.
#[derive(Debug)]
pub struct Let(OwnedFd);

impl Let {
    /// Says that this process accepts: from now on the old one leaves.
    pub fn serves(&self) {
        // Where the old one has not waited so long, it has left already.
        let _ = wire::send(self.0.as_fd(), &Word::Serving, &[]);
    }
}

/// The old process sends before it waits.
const GIVEN_WITHIN: Duration = Duration::from_secs(10);
/// The old process waits for nothing else than this one's word.
const PERMITTED_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn successor() -> (Successor, OwnedFd) {
        let (socket, old) = wire::pair().unwrap();
        (Successor { socket, listeners: Vec::new(), admin: None }, old)
    }

    #[test]
    fn it_serves_when_the_old_process_lets_it() {
        let (successor, old) = successor();
        wire::send(old.as_fd(), &wire::Permit::Serve, &[]).unwrap();
        successor.ready().unwrap();
        let word = wire::receive::<Word>(&old, Duration::from_secs(5)).unwrap().map(|(word, _)| word);
        assert!(matches!(word, Some(Word::Ready)), "and has said that it can");
    }

    #[test]
    fn it_does_not_serve_when_the_old_process_has_given_up() {
        let (one, old) = successor();
        let waits = std::thread::spawn(move || one.ready());
        let word = wire::receive::<Word>(&old, Duration::from_secs(5)).unwrap().map(|(word, _)| word);
        assert!(matches!(word, Some(Word::Ready)));
        drop(old);
        assert!(waits.join().unwrap().is_err(), "closed after its word");
        let (two, old) = successor();
        drop(old);
        assert!(two.ready().is_err(), "closed before it");
    }
}
