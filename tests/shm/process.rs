//! Other processes of these tests: this program itself, started again in a role, with a socket to say what it does.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// What a process says. Each is written whole before the process goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// It is about to commit an object, and has.
    Committing,
    Committed,
    /// It is about to end one, and has.
    Killing,
    Killed,
    /// It is about to exchange a head, and has.
    Heading,
    Headed,
    /// This one is there and right.
    There,
    /// Something is wrong; what, is on stderr.
    Wrong,
    /// What it was started for has begun, or is done.
    Ready,
    /// So much was compared.
    Compared,
}

/// One thing that a process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub kind: Kind,
    pub key: u64,
    pub version: u64,
    pub number: u64,
}

/// A process that was started. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    socket: BufReader<UnixStream>,
}

impl Process {
    /// Starts this program in a role.
    pub fn start(role: &str, file: &Path, argument: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["started", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FILE, file)
            .env(ARGUMENT, argument.to_string())
            .env(SOCKET, &path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let socket = loop {
            match listener.accept() {
                Ok((socket, _)) => break socket,
                Err(why) if why.kind() == ErrorKind::WouldBlock => {}
                Err(why) => panic!("{why}"),
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended before it said a word");
            std::thread::sleep(Duration::from_millis(1));
        };
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { child, socket: BufReader::with_capacity(1 << 16, socket) }
    }

    /// The next report. `None`: it is gone, or it has not said a word for so long that it hangs.
    pub fn next(&mut self) -> Option<Report> {
        let mut words = [0; 32];
        self.socket.read_exact(&mut words).ok()?;
        Some(Report::of(words))
    }

    /// Says something to it: one byte.
    pub fn say(&mut self, what: u8) {
        self.socket.get_mut().write_all(&[what]).unwrap();
    }

    /// SIGKILL, and it is gone when this returns.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; whether it was a good one.
    pub fn wait(&mut self) -> bool {
        self.child.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process that was started knows of it.
#[derive(Debug)]
pub struct Started {
    pub role: String,
    pub file: PathBuf,
    pub argument: u64,
    pub socket: UnixStream,
}

impl Started {
    /// `None`: it is none.
    pub fn read() -> Option<Self> {
        let role = std::env::var(ROLE).ok()?;
        Some(Self {
            role,
            file: std::env::var_os(FILE).unwrap().into(),
            argument: std::env::var(ARGUMENT).unwrap().parse().unwrap(),
            socket: UnixStream::connect(std::env::var_os(SOCKET).unwrap()).unwrap(),
        })
    }

    /// Waits to be told something. `None`: whoever started it is gone.
    pub fn hear(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.socket.read_exact(&mut byte).ok()?;
        let [byte] = byte;
        Some(byte)
    }
}

/// Says something to the process that started this one.
pub fn report(mut socket: &UnixStream, kind: Kind, key: u64, version: u64, number: u64) {
    let words = [kind as u64, key, version, number];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    // Whoever is not heard any more is killed in a moment.
    let _ = socket.write_all(&bytes);
}

impl Report {
    fn of(bytes: [u8; 32]) -> Self {
        let word = |index: usize| {
            u64::from_le_bytes(bytes[index * 8..index * 8 + 8].try_into().expect("eight of them"))
        };
        let kind = KINDS.into_iter().find(|kind| *kind as u64 == word(0)).expect("a kind");
        Self { kind, key: word(1), version: word(2), number: word(3) }
    }
}

/// A folder in memory with so much room, or on a disk where there is none.
pub fn folder(bytes: usize) -> TempDir {
    let room = rustix::fs::statvfs(MEMORY).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
    if room > 2 * bytes as u64 { tempfile::tempdir_in(MEMORY).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Far longer than anything takes between two words.
const PATIENCE: Duration = Duration::from_secs(60);
const MEMORY: &str = "/dev/shm";
const KINDS: [Kind; 10] = [
    Kind::Committing,
    Kind::Committed,
    Kind::Killing,
    Kind::Killed,
    Kind::Heading,
    Kind::Headed,
    Kind::There,
    Kind::Wrong,
    Kind::Ready,
    Kind::Compared,
];
const ROLE: &str = "SHM_TEST_ROLE";
const FILE: &str = "SHM_TEST_FILE";
const ARGUMENT: &str = "SHM_TEST_ARGUMENT";
const SOCKET: &str = "SHM_TEST_SOCKET";
