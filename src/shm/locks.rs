//! Locks on single bytes of a file. The kernel drops them when the process dies, however it dies.
//!
//! They are *open file description* locks (`fcntl(2)`, `F_OFD_SETLK`): they belong to one opening of the file, so two openings in one
//! process exclude each other as two processes do. The bytes stand for nothing but themselves; what is stored there is not looked at.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::AcqRel;

/// Which byte: a name for something that only one process may have or do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock(pub u8);

/// A lock that is held, until it is dropped or the process is gone.
#[derive(Debug)]
pub struct Held {
    file: BorrowedFd<'static>,
    lock: Lock,
    ours: Option<&'static Ours>,
}

/// The locks that one opening has: the kernel would give it each of them again.
#[derive(Debug, Default)]
pub(super) struct Ours([AtomicU64; 4]);

impl Drop for Held {
    fn drop(&mut self) {
        // Cannot fail for a descriptor that is open; were it to, the lock would go with the process.
        let _ = set(self.file, self.lock, libc::F_UNLCK, Wait::No);
        if let Some(ours) = self.ours {
            ours.remove(self.lock);
        }
    }
}

impl Ours {
    /// False: it is there already.
    fn insert(&self, lock: Lock) -> bool {
        let (word, bit) = self.bit(lock);
        word.fetch_or(bit, AcqRel) & bit == 0
    }

    fn remove(&self, lock: Lock) {
        let (word, bit) = self.bit(lock);
        word.fetch_and(!bit, AcqRel);
    }

    fn bit(&self, Lock(byte): Lock) -> (&AtomicU64, u64) {
        (self.0.get(usize::from(byte / 64)).expect("a byte has four times 64 values"), 1 << (byte % 64))
    }
}

/// Takes a lock if nobody has it, this opening included.
pub(super) fn try_take(
    file: BorrowedFd<'static>,
    lock: Lock,
    ours: &'static Ours,
) -> io::Result<Option<Held>> {
    if !ours.insert(lock) {
        return Ok(None);
    }
    match set(file, lock, libc::F_WRLCK, Wait::No) {
        Ok(()) => Ok(Some(Held { file, lock, ours: Some(ours) })),
        Err(why) => {
            ours.remove(lock);
            if is_taken(&why) { Ok(None) } else { Err(why) }
        }
    }
}

/// Takes a lock, however long another opening has it. For what is held for microseconds. Threads that share an opening need a lock of their
/// own around it.
pub(super) fn take(file: BorrowedFd<'static>, lock: Lock) -> io::Result<Held> {
    loop {
        match set(file, lock, libc::F_WRLCK, Wait::Yes) {
            Ok(()) => return Ok(Held { file, lock, ours: None }),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
}

/// Whether another opening of the file has a lock.
pub(super) fn is_taken_elsewhere(file: BorrowedFd<'_>, lock: Lock) -> io::Result<bool> {
    let mut wanted = request(lock, libc::F_WRLCK);
    // SAFETY: the descriptor is open for as long as it is borrowed, and the structure lives across the call.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut wanted) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(i32::from(wanted.l_type) != libc::F_UNLCK) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    No,
    Yes,
}

fn set(file: BorrowedFd<'_>, lock: Lock, kind: i32, wait: Wait) -> io::Result<()> {
    let wanted = request(lock, kind);
    let command = if wait == Wait::Yes { libc::F_OFD_SETLKW } else { libc::F_OFD_SETLK };
    // SAFETY: the descriptor is open for as long as it is borrowed, and the structure lives across the call.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const wanted) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn request(lock: Lock, kind: i32) -> libc::flock {
    libc::flock {
        // The constants fit: they are 0, 1 and 2.
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: libc::off_t::from(lock.0),
        l_len: 1,
        // Must be 0 for this kind of lock.
        l_pid: 0,
    }
}

fn is_taken(why: &io::Error) -> bool {
    matches!(why.raw_os_error(), Some(libc::EAGAIN | libc::EACCES))
}
