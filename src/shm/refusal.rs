//! Why a file in shared memory cannot be used, in the operator's words.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

/// Why there is no region. The operator's fault, or the system's; nothing was changed.
#[derive(Debug)]
pub enum OpenError {
    /// The folder of the file is not there.
    NoFolder(PathBuf),
    /// The file is something else: a link, a folder, a device.
    NotAFile(PathBuf, &'static str),
    /// The file is another user's.
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        ours: u32,
    },
    /// Others may read or write the file.
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file system, or the memory that the process may use, is too small.
    NoSpace {
        /// The file.
        path: PathBuf,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Who sets the bound.
        bound: Bound,
    },
    /// The system said no.
    System(PathBuf, io::Error),
}

/// What bounds the memory that a file can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// The file system that is mounted there.
    Mount(PathBuf),
    /// The memory limit of the control group (`memory.max`).
    Group,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFolder(path) => {
                write!(f, "`{}` cannot be made: its folder does not exist", path.display())
            }
            Self::NotAFile(path, what) => {
                write!(f, "`{}` is {what}; a path of its own is needed", path.display())
            }
            Self::Foreign { path, owner, ours } => write!(
                f,
                "`{}` belongs to user {owner}, and this process is user {ours}: another gateway's, or somebody's who wants to be read; \
                 name another path or remove it",
                path.display()
            ),
            Self::Open { path, mode } => write!(
                f,
                "`{}` may be read or written by others (mode {mode:04o}): `chmod 600 {}`, or remove it",
                path.display(),
                path.display()
            ),
            Self::NoSpace { path, needed, free, bound } => no_space(f, path, *needed, *free, bound),
            Self::System(path, why) => write!(f, "`{}`: {why}", path.display()),
        }
    }
}

fn no_space(f: &mut fmt::Formatter<'_>, path: &Path, needed: u64, free: u64, bound: &Bound) -> fmt::Result {
    let (needed, free) = (ByteSize(needed), ByteSize(free));
    write!(f, "`{}` needs {needed} of shared memory, and {free} are free: ", path.display())?;
    match bound {
        Bound::Mount(mount) => {
            let mount = mount.display();
            write!(
                f,
                "make the file system larger (`mount -o remount,size=... {mount}`; a container: `--shm-size=...` or a memory volume with a \
                 larger `sizeLimit`), or set a smaller size"
            )
        }
        Bound::Group => f.write_str(
            "the memory limit of this container or service (`memory.max`) is smaller; raise it (`--memory=...`, `resources.limits.memory`, \
             `MemoryMax=`), or set a smaller size",
        ),
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(_, why) => Some(why),
            _ => None,
        }
    }
}

/// Why a file that was there is not used, and a fresh one made in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetAside {
    /// It does not begin as such a file does.
    NotOurs,
    /// Shorter or longer than it says.
    Truncated {
        /// Bytes there are.
        found: u64,
        /// Bytes it says.
        said: u64,
    },
    /// Its first page does not match its checksum.
    Corrupt,
    /// Another build's, which lays things out in another way.
    OtherLayout,
    /// Made for other settings, which divide it in another way.
    OtherSettings,
    /// Made for another size.
    OtherSize {
        /// Its size.
        found: u64,
        /// The size that is configured.
        wanted: u64,
    },
    /// From before the machine was started.
    OtherBoot,
    /// Its inside contradicts itself.
    Inconsistent(&'static str),
}

impl SetAside {
    /// Whether it may tell something to who looks at it: then it is kept beside the fresh one, and removed otherwise.
    pub(super) fn is_worth_keeping(&self) -> bool {
        !matches!(self, Self::OtherLayout | Self::OtherSettings | Self::OtherSize { .. } | Self::OtherBoot)
    }
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs => f.write_str("it is no file of this kind"),
            Self::Truncated { found, said } => {
                write!(f, "it has {found} bytes and says that it has {said}")
            }
            Self::Corrupt => f.write_str("its first page is damaged"),
            Self::OtherLayout => f.write_str("another version wrote it, in another layout"),
            Self::OtherSettings => f.write_str("it was divided for other settings"),
            Self::OtherSize { found, wanted } => {
                write!(f, "it was made for {}, and {} are configured", ByteSize(*found), ByteSize(*wanted))
            }
            Self::OtherBoot => f.write_str("it is from before the machine was started"),
            Self::Inconsistent(what) => write!(f, "it contradicts itself: {what}"),
        }
    }
}
