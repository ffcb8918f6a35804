//! What the two processes say to each other: whole messages of JSON over a socket pair, with descriptors beside the first.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The listeners that are handed over, in the order of their descriptors; the admin side's comes last.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Given {
    pub(super) listeners: Vec<Named>,
    /// As it is configured.
    pub(super) admin: Option<String>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    /// As it is configured: port 0 stays 0.
    pub(super) address: SocketAddr,
}

/// What a successor says once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Ready,
    /// After [`Permit::Serve`]: it accepts.
    Serving,
    Failed(String),
}

/// What the old process answers to [`Word::Ready`]. Before it, a successor accepts nothing: one that has been given up must not have
/// begun what nobody ends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Permit {
    Serve,
}

/// Two ends that keep messages whole. Neither is inherited but by who is given it.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends a message with descriptors.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE_BYTES || descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::other("too much to hand over"));
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many listeners to hand over"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message with its descriptors, within a time. `None`: the other end is closed.
pub(super) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
    within: Duration,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    set_socket_timeout(&socket, Timeout::Recv, Some(within))?;
    let mut bytes = vec![0; MAX_MESSAGE_BYTES];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut beside,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let message = bytes.get(..received.bytes).filter(|message| !message.is_empty());
    message.map(|message| Ok((serde_json::from_slice(message)?, descriptors))).transpose()
}

/// The longest message: a report of a configuration with many mistakes.
pub(super) const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Listeners that can be handed over (`SCM_MAX_FD` is 253).
const MAX_DESCRIPTORS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (one, other) = pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let named = Named { name: "public".into(), address: listener.local_addr().unwrap() };
        let given = Given { listeners: vec![named.clone()], admin: None };
        send(one.as_fd(), &given, &[listener.as_fd()]).unwrap();
        let (received, mut descriptors): (Given, _) =
            receive(&other, Duration::from_secs(5)).unwrap().unwrap();
        assert_eq!(received.listeners, std::slice::from_ref(&named));
        let again = std::net::TcpListener::from(descriptors.pop().unwrap());
        assert_eq!(again.local_addr().unwrap(), named.address, "the same socket");
        assert!(descriptors.is_empty());
        drop(one);
        assert!(receive::<Word>(&other, Duration::from_secs(5)).unwrap().is_none(), "closed");
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (one, other) = pair().unwrap();
        send(one.as_fd(), &"something else", &[]).unwrap();
        assert!(receive::<Given>(&other, Duration::from_secs(5)).is_err());
        let error = receive::<Word>(&other, Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "nothing came in time");
        assert!(send(one.as_fd(), &"x".repeat(MAX_MESSAGE_BYTES), &[]).is_err(), "too long");
    }
}
