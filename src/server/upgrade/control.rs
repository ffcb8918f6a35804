//! The socket on which an operator asks for an upgrade: in a folder of its own, for this user alone.
//!
//! One request a connection: a line of JSON, and a line back.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{Outcome, Request};

/// The socket, bound.
#[derive(Debug)]
pub(in crate::server) struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Where the file is until it takes its place.
    beside: Option<PathBuf>,
    /// Which file it is: another process may have put its own there since.
    file: (u64, u64),
}

/// Who takes the socket's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Who {
    /// A process that was started by itself: the place must be nobody's.
    First,
    /// One that takes over: the old process loses it, at [`Control::take_place`].
    Successor,
}

/// Takes the socket's place. One that a process left behind when it died is removed.
///
/// # Errors
/// When the folder is not private, or something else is in the way; in the operator's words.
pub(in crate::server) fn bind(path: &Path, who: Who) -> Result<Control, String> {
    try_bind(path, who).map_err(|why| format!("upgrade: cannot listen on `{}`: {why}", path.display()))
}

fn try_bind(path: &Path, who: Who) -> io::Result<Control> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.exists() {
        std::fs::DirBuilder::new().mode(0o700).create(folder)?;
    }
    let about = std::fs::metadata(folder)?;
    let ours = rustix::process::geteuid().as_raw();
    if about.uid() != ours || about.mode() & 0o077 != 0 {
        let (folder, mode) = (folder.display(), about.mode() & 0o7777);
        return Err(io::Error::other(format!(
            "its folder `{folder}` must be this user's alone (it is user {}'s, mode {mode:04o}): `chmod 700 {folder}`, or name one that does not exist",
            about.uid()
        )));
    }
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(io::Error::other("there is a file that is no socket"));
    }
    if who == Who::First && std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another gateway answers there; name another socket",
        ));
    }
    // Made beside it and renamed, so that there is always one that answers. A successor that was stopped may have left its own.
    let beside = path.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    let about = std::fs::metadata(&beside)?;
    let file = (about.dev(), about.ino());
    let mut control = Control { listener, path: path.into(), beside: Some(beside), file };
    if who == Who::First {
        control.take_place()?;
    }
    Ok(control)
}

/// A request that waits for its answer.
pub struct Ask {
    /// What is asked for.
    pub request: Request,
    stream: UnixStream,
}

impl Ask {
    /// Answers.
    pub async fn answer(mut self, outcome: &Outcome) {
        if let Ok(mut line) = serde_json::to_vec(outcome) {
            line.push(b'\n');
            // Who asked may have left.
            let _ = self.stream.write_all(&line).await;
        }
    }
}

impl Control {
    /// Puts the socket where it is looked for.
    pub(in crate::server) fn take_place(&mut self) -> io::Result<()> {
        if let Some(beside) = self.beside.take() {
            std::fs::rename(beside, &self.path)?;
        }
        Ok(())
    }

    /// The next request of somebody who may ask.
    pub(in crate::server) async fn next(&self) -> Ask {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of descriptors, most likely: the next moment may have one.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let ours = rustix::process::geteuid().as_raw();
            let may = stream.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0);
            if !may {
                refuse(stream, "the running gateway obeys its own user and root, and nobody else").await;
            } else if let Some(ask) = read(stream).await {
                return ask;
            }
        }
    }
}

async fn read(mut stream: UnixStream) -> Option<Ask> {
    let mut line = Vec::new();
    let mut reader = tokio::io::BufReader::new((&mut stream).take(MAX_REQUEST_BYTES));
    let read = tokio::time::timeout(ASKED_WITHIN, reader.read_until(b'\n', &mut line)).await;
    read.ok()?.ok()?;
    match serde_json::from_slice(&line) {
        Ok(request) => Some(Ask { request, stream }),
        Err(_) => {
            let why = "this is no request for an upgrade: is `portcullis upgrade` of another version?";
            refuse(stream, why).await;
            None
        }
    }
}

async fn refuse(mut stream: UnixStream, why: &str) {
    if let Ok(mut line) = serde_json::to_vec(&Outcome::Refused { why: why.into() }) {
        line.push(b'\n');
        // Who asked may have left.
        let _ = stream.write_all(&line).await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = std::fs::remove_file(beside);
        }
        let is_ours =
            std::fs::metadata(&self.path).is_ok_and(|about| (about.dev(), about.ino()) == self.file);
        if is_ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Asks a running process, and waits for what becomes of it.
///
/// # Errors
/// When nobody answers; in the operator's words.
pub fn ask(socket: &Path, request: &Request) -> Result<Outcome, String> {
    let told = |why: io::Error| {
        let hint = if why.kind() == io::ErrorKind::PermissionDenied {
            "; it obeys its own user and root, and nobody else"
        } else {
            ""
        };
        format!("no running gateway answers on `{}`: {why}{hint}", socket.display())
    };
    let mut stream = std::os::unix::net::UnixStream::connect(socket).map_err(told)?;
    let mut line = serde_json::to_vec(request).map_err(|why| why.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(told)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(told)?;
    if answer.is_empty() {
        return Err("the running gateway ended before it answered".into());
    }
    serde_json::from_str(&answer).map_err(|_| format!("the running gateway answered `{}`", answer.trim()))
}

/// The longest request: two paths.
const MAX_REQUEST_BYTES: u64 = 16 * 1024;
/// From connecting to the end of the request.
const ASKED_WITHIN: Duration = Duration::from_secs(5);
