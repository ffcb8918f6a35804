//! One piece of shared memory: a file of fixed size, mapped for as long as the process lives.
//!
//! ```text
//!   0        magic, layout, bytes, boot id, seeds, when it was made, checksum      (one page; written before anybody can see the file)
//!   4096     what lies in it: the user's
//! ```
//!
//! A file appears under its name only when it is complete: it is made beside it and renamed. Its space is reserved at once, because a page
//! that cannot be had later is a SIGBUS. A file that cannot be used is set aside, and a fresh one takes its name; a process that still has
//! the old one mapped keeps it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use memmap2::{MmapOptions, MmapRaw};
use portable_atomic::AtomicU128;
use rustix::fs::{CWD, FallocateFlags, FileType, MemfdFlags, Mode, OFlags, RenameFlags, renameat_with};

use super::locks::{self, Held, Lock, Ours};
use super::refusal::{Bound, OpenError, SetAside};

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Spec<'a> {
    /// Where it lies.
    pub place: Place<'a>,
    /// The size of the whole in bytes, its first page included.
    pub bytes: usize,
    /// What such a file begins with.
    pub magic: [u8; 8],
    /// A number for the way things are laid out in it.
    pub layout: u64,
    /// The seeds of one that is made; `None`: they are drawn.
    pub seeds: Option<fn() -> [u64; 4]>,
}

/// Where a region lies.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// In a file, which should lie on tmpfs: it outlives the process.
    File(&'a Path),
    /// In memory that goes with the process. The name is for `/proc`. Its space is not reserved.
    Private(&'a str),
}

/// A region, and how it came to be.
#[derive(Debug)]
pub struct Opened {
    /// The region.
    pub region: &'static Region,
    /// How it came to be.
    pub how: How,
}

/// How a region came to be.
#[derive(Debug)]
pub enum How {
    /// There was none.
    Made,
    /// It was there: what lies in it is older than this process.
    Found,
    /// What was there could not be used.
    MadeAnew {
        /// Why not.
        why: SetAside,
        /// Where it lies now; `None`: removed.
        aside: Option<PathBuf>,
    },
}

/// Shared memory, mapped.
#[derive(Debug)]
pub struct Region {
    map: MmapRaw,
    file: File,
    path: Option<PathBuf>,
    seeds: [u64; 4],
    made_at: SystemTime,
    boot: [u64; 2],
    ours: Ours,
}

impl Region {
    /// Opens what is there, or makes it. Leaked: it is mapped for as long as the process lives.
    ///
    /// # Errors
    /// [`OpenError`]: nothing was changed.
    pub fn open(spec: &Spec<'_>) -> Result<Opened, OpenError> {
        Self::open_with(spec, &|_| {})
    }

    /// The same; `begin` fills a region that is new, before anybody else can see it.
    ///
    /// # Errors
    /// [`OpenError`]: nothing was changed.
    pub fn open_with(spec: &Spec<'_>, begin: &dyn Fn(&'static Self)) -> Result<Opened, OpenError> {
        let path = match spec.place {
            Place::File(path) => path,
            Place::Private(name) => {
                let region =
                    Self::private(name, spec).map_err(|why| OpenError::System(PathBuf::from(name), why))?;
                let region = leak(region);
                begin(region);
                return Ok(Opened { region, how: How::Made });
            }
        };
        let file = match open_safely(path, Access::Both)? {
            Some(file) => file,
            None => match Self::make(path, spec, begin)? {
                Some(region) => return Ok(Opened { region, how: How::Made }),
                // Another process was faster.
                None => return Self::open_with(spec, begin),
            },
        };
        match Self::read(file, path, Some(spec)).map_err(|why| OpenError::System(path.into(), why))? {
            Ok(region) => {
                reserve(&region.file, path, spec.bytes)?;
                Ok(Opened { region: leak(region), how: How::Found })
            }
            Err(why) => Self::replace(path, spec, why, begin),
        }
    }

    /// Sets aside what lies at a path, and makes a fresh region there.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn replace(
        path: &Path,
        spec: &Spec<'_>,
        why: SetAside,
        begin: &dyn Fn(&'static Self),
    ) -> Result<Opened, OpenError> {
        let aside = with_suffix(path, ".aside");
        let moved = if why.is_worth_keeping() {
            std::fs::rename(path, &aside).map(|()| Some(aside))
        } else {
            std::fs::remove_file(path).map(|()| None)
        };
        let aside = moved.map_err(|why| OpenError::System(path.into(), why))?;
        match Self::make(path, spec, begin)? {
            Some(region) => Ok(Opened { region, how: How::MadeAnew { why, aside } }),
            None => Self::open_with(spec, begin),
        }
    }

    /// Maps a file to look at it: nothing of it is written, no lock taken. `None`: there is none.
    ///
    /// # Errors
    /// [`OpenError`], or why it cannot be read.
    pub fn view(
        path: &Path,
        magic: [u8; 8],
        layout: u64,
    ) -> Result<Option<Result<&'static Self, SetAside>>, OpenError> {
        let Some(file) = open_safely(path, Access::Read)? else { return Ok(None) };
        let system = |why| OpenError::System(path.into(), why);
        let bytes = usize::try_from(file.metadata().map_err(system)?.len()).unwrap_or(usize::MAX);
        if bytes < HEADER_BYTES {
            return Ok(Some(Err(SetAside::NotOurs)));
        }
        let map = MmapOptions::new().len(bytes).map_raw_read_only(&file).map_err(system)?;
        let checked = Header::read(&map, bytes).and_then(|header| {
            header.check(magic, layout).map(|()| Self {
                map,
                file,
                path: Some(path.into()),
                seeds: header.seeds,
                made_at: header.made_at(),
                boot: header.boot,
                ours: Ours::default(),
            })
        });
        Ok(Some(checked.map(leak)))
    }

    fn read(file: File, path: &Path, spec: Option<&Spec<'_>>) -> io::Result<Result<Self, SetAside>> {
        let bytes = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if bytes < HEADER_BYTES {
            return Ok(Err(SetAside::NotOurs));
        }
        let map = MmapOptions::new().len(bytes).map_raw(&file)?;
        let checked = Header::read(&map, bytes).and_then(|header| {
            if let Some(spec) = spec {
                header.check(spec.magic, spec.layout)?;
                header.check_use(spec.bytes)?;
            }
            let (seeds, made_at, boot) = (header.seeds, header.made_at(), header.boot);
            Ok(Self { map, file, path: Some(path.into()), seeds, made_at, boot, ours: Ours::default() })
        });
        Ok(checked)
    }

    fn private(name: &str, spec: &Spec<'_>) -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
        file.set_len(spec.bytes as u64)?;
        Self::begin(file, None, spec)
    }

    /// Makes the file beside its name, complete, and gives it its name. `None`: another has it by now.
    fn make(
        path: &Path,
        spec: &Spec<'_>,
        begin: &dyn Fn(&'static Self),
    ) -> Result<Option<&'static Self>, OpenError> {
        let system = |why: io::Error| OpenError::System(path.into(), why);
        let beside = with_suffix(path, &format!(".{}.new", std::process::id()));
        // Left behind by a process of the same number that died while it made one.
        let _ = std::fs::remove_file(&beside);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&beside, flags, Mode::RUSR | Mode::WUSR).map(File::from).map_err(
            |why| match why {
                rustix::io::Errno::NOENT => OpenError::NoFolder(path.into()),
                why => system(why.into()),
            },
        )?;
        let made = reserve(&file, path, spec.bytes)
            .and_then(|()| Self::begin(file, Some(path), spec).map_err(system))
            .and_then(|region| {
                let region = leak(region);
                begin(region);
                match renameat_with(CWD, &beside, CWD, path, RenameFlags::NOREPLACE) {
                    Ok(()) => Ok(Some(region)),
                    Err(rustix::io::Errno::EXIST) => Ok(None),
                    Err(why) => Err(system(why.into())),
                }
            });
        if !matches!(made, Ok(Some(_))) {
            let _ = std::fs::remove_file(&beside);
        }
        made
    }

    fn begin(file: File, path: Option<&Path>, spec: &Spec<'_>) -> io::Result<Self> {
        let map = MmapOptions::new().len(spec.bytes).map_raw(&file)?;
        let seeds = spec.seeds.map_or_else(drawn, |seeds| Ok(seeds()))?;
        let header = Header::new(spec, seeds)?;
        let (path, made_at) = (path.map(Into::into), header.made_at());
        let region = Self { map, file, path, seeds, made_at, boot: header.boot, ours: Ours::default() };
        let words = words_of(&region.map, 0, HEADER_WORDS);
        for (word, value) in words.iter().zip(header.words()) {
            word.store(value, Relaxed);
        }
        Ok(region)
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    /// The file, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Random numbers that were drawn when it was made: what is hashed with them means the same to every process.
    #[must_use]
    pub fn seeds(&self) -> [u64; 4] {
        self.seeds
    }

    /// When it was made.
    #[must_use]
    pub fn made_at(&self) -> SystemTime {
        self.made_at
    }

    /// Whether it was made since the machine was started.
    #[must_use]
    pub fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot)
    }

    /// Words of it.
    ///
    /// # Panics
    /// When they are not all inside, or not aligned: a mistake of the caller's, who knows the layout.
    #[must_use]
    pub fn words(&'static self, at: usize, count: usize) -> &'static [AtomicU64] {
        words_of(&self.map, at, count)
    }

    /// Words of twice the width.
    ///
    /// # Panics
    /// As [`Self::words`].
    #[must_use]
    pub fn wide_words(&'static self, at: usize, count: usize) -> &'static [AtomicU128] {
        self.check(at, count.checked_mul(16), 16);
        // SAFETY: inside the mapping and aligned, as was checked; mapped for the life of the process, because a region is leaked before
        // anybody has a static borrow of it; and everybody reads and writes these bytes as atomic words of this width.
        unsafe { std::slice::from_raw_parts(self.pointer(at).cast::<AtomicU128>(), count) }
    }

    /// The address of a byte.
    pub(super) fn pointer(&self, at: usize) -> *mut u8 {
        debug_assert!(at <= self.bytes(), "inside");
        // SAFETY: `at` is at most the length of the mapping, which callers have checked.
        unsafe { self.map.as_mut_ptr().add(at) }
    }

    /// Makes sure that a stretch lies inside.
    pub(super) fn check(&self, at: usize, length: Option<usize>, align: usize) {
        check_inside(&self.map, at, length, align);
    }

    /// Takes a lock if nobody has it, through this opening of the file or another.
    ///
    /// # Errors
    /// When the file system has no such locks.
    pub fn try_lock(&'static self, lock: Lock) -> io::Result<Option<Held>> {
        locks::try_take(self.file.as_fd(), lock, &self.ours)
    }

    /// Takes a lock, and waits for the other opening that has it. Blocks the thread: for what is held for microseconds. It does not tell the
    /// threads of a process apart: they need a lock of their own around it.
    ///
    /// # Errors
    /// As [`Self::try_lock`].
    pub fn lock(&'static self, lock: Lock) -> io::Result<Held> {
        locks::take(self.file.as_fd(), lock)
    }

    /// Whether another opening of the file has a lock.
    ///
    /// # Errors
    /// As [`Self::try_lock`].
    pub fn is_locked_elsewhere(&'static self, lock: Lock) -> io::Result<bool> {
        let file: BorrowedFd<'static> = self.file.as_fd();
        locks::is_taken_elsewhere(file, lock)
    }

    /// Whether it lies in memory: a tmpfs, or private memory.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.path.is_none() || rustix::fs::fstatfs(&self.file).is_ok_and(|fs| fs.f_type == TMPFS_MAGIC)
    }
}

/// The first page.
struct Header {
    magic: u64,
    layout: u64,
    bytes: u64,
    boot: [u64; 2],
    seeds: [u64; 4],
    made_at_ns: u64,
}

impl Header {
    fn new(spec: &Spec<'_>, seeds: [u64; 4]) -> io::Result<Self> {
        let made_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            magic: u64::from_le_bytes(spec.magic),
            layout: spec.layout,
            bytes: spec.bytes as u64,
            boot: boot_id()?,
            seeds,
            made_at_ns: u64::try_from(made_at.as_nanos()).unwrap_or(u64::MAX),
        })
    }

    fn read(map: &MmapRaw, length: usize) -> Result<Self, SetAside> {
        let mut words = [0; HEADER_WORDS];
        for (value, word) in words.iter_mut().zip(words_of(map, 0, HEADER_WORDS)) {
            *value = word.load(Relaxed);
        }
        let [magic, layout, bytes, boot @ .., sum] = words;
        let [b0, b1, s0, s1, s2, s3, made_at_ns] = boot;
        let header = Self { magic, layout, bytes, boot: [b0, b1], seeds: [s0, s1, s2, s3], made_at_ns };
        if header.sum() != sum {
            // What never had a sum is somebody else's.
            return Err(if sum == 0 { SetAside::NotOurs } else { SetAside::Corrupt });
        }
        if bytes != length as u64 {
            return Err(SetAside::Truncated { found: length as u64, said: bytes });
        }
        Ok(header)
    }

    fn words(&self) -> [u64; HEADER_WORDS] {
        let [b0, b1] = self.boot;
        let [s0, s1, s2, s3] = self.seeds;
        let (magic, layout, bytes) = (self.magic, self.layout, self.bytes);
        [magic, layout, bytes, b0, b1, s0, s1, s2, s3, self.made_at_ns, self.sum()]
    }

    fn sum(&self) -> u64 {
        let mut hasher = crc32fast::Hasher::new();
        let [b0, b1] = self.boot;
        let [s0, s1, s2, s3] = self.seeds;
        for word in [self.magic, self.layout, self.bytes, b0, b1, s0, s1, s2, s3, self.made_at_ns] {
            hasher.update(&word.to_le_bytes());
        }
        // Never 0, which is what an empty page has.
        u64::from(hasher.finalize()) | (1 << 32)
    }

    fn check(&self, magic: [u8; 8], layout: u64) -> Result<(), SetAside> {
        if self.magic != u64::from_le_bytes(magic) {
            return Err(SetAside::NotOurs);
        }
        if self.layout == layout { Ok(()) } else { Err(SetAside::OtherLayout) }
    }

    fn check_use(&self, wanted: usize) -> Result<(), SetAside> {
        if self.bytes != wanted as u64 {
            return Err(SetAside::OtherSize { found: self.bytes, wanted: wanted as u64 });
        }
        match boot_id() {
            Ok(boot) if boot == self.boot => Ok(()),
            _ => Err(SetAside::OtherBoot),
        }
    }

    fn made_at(&self) -> SystemTime {
        UNIX_EPOCH + std::time::Duration::from_nanos(self.made_at_ns)
    }
}

fn leak(region: Region) -> &'static Region {
    Box::leak(Box::new(region))
}

fn words_of(map: &MmapRaw, at: usize, count: usize) -> &'static [AtomicU64] {
    check_inside(map, at, count.checked_mul(8), 8);
    // SAFETY: `at` is inside the mapping, as was checked.
    let first = unsafe { map.as_mut_ptr().add(at) };
    // SAFETY: inside the mapping and aligned, as was checked; a region is leaked, so the mapping stays (where one is given up while it is
    // opened, nothing of it is kept); and everybody reads and writes these bytes as atomic words.
    unsafe { std::slice::from_raw_parts(first.cast::<AtomicU64>(), count) }
}

fn check_inside(map: &MmapRaw, at: usize, length: Option<usize>, align: usize) {
    let end = length.and_then(|length| at.checked_add(length));
    assert!(end.is_some_and(|end| end <= map.len()), "a stretch lies inside the region");
    assert!(at.is_multiple_of(align), "a stretch is aligned");
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Both,
}

/// Opens a file that is ours alone. `None`: there is none.
fn open_safely(path: &Path, access: Access) -> Result<Option<File>, OpenError> {
    let flags = if access == Access::Both { OFlags::RDWR } else { OFlags::RDONLY };
    // Without waiting: the path may be a pipe.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(OpenError::NotAFile(path.into(), "a symbolic link")),
        Err(rustix::io::Errno::ISDIR) => return Err(OpenError::NotAFile(path.into(), "a folder")),
        Err(why) => return Err(OpenError::System(path.into(), why.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|why| OpenError::System(path.into(), why.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(OpenError::NotAFile(path.into(), "no regular file"));
    }
    let ours = rustix::process::geteuid().as_raw();
    // Root looks at what the gateway's user wrote.
    if stat.st_uid != ours && !(access == Access::Read && ours == 0) {
        return Err(OpenError::Foreign { path: path.into(), owner: stat.st_uid, ours });
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o077 != 0 {
        return Err(OpenError::Open { path: path.into(), mode });
    }
    Ok(Some(file.into()))
}

/// Takes the space of the whole file now, as far as the file has it not yet: one that was copied may have holes.
fn reserve(file: &File, path: &Path, bytes: usize) -> Result<(), OpenError> {
    let system = |why: io::Error| OpenError::System(path.into(), why);
    let had = file.metadata().map_err(system)?.blocks().saturating_mul(512);
    let needed = (bytes as u64).saturating_sub(had);
    if needed == 0 {
        return Ok(());
    }
    let no_space = |free, bound| OpenError::NoSpace { path: path.into(), needed, free, bound };
    let fs = rustix::fs::fstatvfs(file).map_err(|why| system(why.into()))?;
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    let mount = || Bound::Mount(mount_of(path));
    if free < needed {
        return Err(no_space(free, mount()));
    }
    if let Some(free) = free_of_group().filter(|free| *free < needed) {
        return Err(no_space(free, Bound::Group));
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOSPC | rustix::io::Errno::NOMEM) => Err(no_space(free, mount())),
        // A file system that cannot reserve: at least it is as long as it should be.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes as u64).map_err(system),
        Err(why) => Err(system(why.into())),
    }
}

/// The folder at which the file system of a path is mounted, as far as it can be told.
fn mount_of(path: &Path) -> PathBuf {
    let device = |path: &Path| rustix::fs::stat(path).ok().map(|stat| stat.st_dev);
    let mut mount = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    while let Some(parent) = mount.parent() {
        if device(parent).is_none() || device(parent) != device(mount) {
            break;
        }
        mount = parent;
    }
    mount.to_owned()
}

/// What the control group of this process may still take, where it has a bound (cgroup v2).
fn free_of_group() -> Option<u64> {
    let number =
        |name| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(name)).ok()?.trim().parse().ok();
    let (most, now): (u64, u64) = (number("memory.max")?, number("memory.current")?);
    Some(most.saturating_sub(now))
}

fn drawn() -> io::Result<[u64; 4]> {
    let mut seeds = [0; 4];
    for seed in &mut seeds {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        *seed = u64::from_le_bytes(bytes);
    }
    Ok(seeds)
}

/// The number of this start of the machine.
fn boot_id() -> io::Result<[u64; 2]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let id = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    Ok([(id >> 64) as u64, id as u64])
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Where what lies in a region begins.
pub const HEADER_BYTES: usize = 4096;
/// The words of the first page that are used.
const HEADER_WORDS: usize = 11;
/// `TMPFS_MAGIC` of `statfs(2)`.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

#[cfg(test)]
mod tests;
