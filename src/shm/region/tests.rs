use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::sync::atomic::Ordering::SeqCst;

use super::*;

const MAGIC: [u8; 8] = *b"TESTING\0";
const BYTES: usize = 64 * 1024;

fn spec(path: &Path) -> Spec<'_> {
    Spec { place: Place::File(path), bytes: BYTES, magic: MAGIC, layout: 1, seeds: None }
}

fn open(path: &Path) -> Opened {
    Region::open(&spec(path)).unwrap()
}

fn refusal(path: &Path) -> String {
    Region::open(&spec(path)).unwrap_err().to_string()
}

#[test]
fn what_is_written_is_there_for_the_next_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let first = open(&path);
    assert!(matches!(first.how, How::Made), "{:?}", first.how);
    first.region.words(HEADER_BYTES, 1)[0].store(7, SeqCst);
    let second = open(&path);
    assert!(matches!(second.how, How::Found), "{:?}", second.how);
    assert_eq!(second.region.words(HEADER_BYTES, 1)[0].load(SeqCst), 7);
    assert_eq!(first.region.seeds(), second.region.seeds(), "one meaning of a hash");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn two_openings_exclude_each_other_and_death_is_a_release() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let (one, other) = (open(&path).region, open(&path).region);
    let held = one.try_lock(Lock(3)).unwrap().expect("free");
    assert!(other.try_lock(Lock(3)).unwrap().is_none(), "taken");
    assert!(other.is_locked_elsewhere(Lock(3)).unwrap() && !one.is_locked_elsewhere(Lock(3)).unwrap());
    assert!(other.try_lock(Lock(4)).unwrap().is_some(), "another byte");
    drop(held);
    assert!(other.try_lock(Lock(3)).unwrap().is_some(), "given back");
}

#[test]
fn what_cannot_be_used_is_set_aside_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let aside = folder.path().join("x.aside");
    let write = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    };
    let spoil = |what: &dyn Fn()| {
        what();
        match open(&path).how {
            How::MadeAnew { why, aside } => (why.to_string(), aside),
            how => panic!("{how:?}"),
        }
    };
    let (why, kept) = spoil(&|| write(b"somebody's diary"));
    assert_eq!((why.as_str(), kept.as_ref()), ("it is no file of this kind", Some(&aside)));
    assert_eq!(std::fs::read(&aside).unwrap(), b"somebody's diary", "nothing is lost");
    let whole = std::fs::read(&path).unwrap();
    let (why, _) = spoil(&|| write(&whole[..BYTES / 2]));
    assert_eq!(why, "it has 32768 bytes and says that it has 65536");
    for at in [0, 9, 17, 40, 79, 83] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        assert_eq!(spoil(&|| write(&bytes)).0, "its first page is damaged", "byte {at}");
    }
    let other = |spec: &Spec<'_>| match Region::open(spec).unwrap().how {
        How::MadeAnew { why, aside: None } => why.to_string(),
        how => panic!("{how:?}"),
    };
    assert!(other(&Spec { layout: 2, ..spec(&path) }).starts_with("another version wrote it"));
    assert!(
        other(&Spec { layout: 2, bytes: BYTES * 2, ..spec(&path) }).starts_with("it was made for 64.0 KiB")
    );
}

#[test]
fn a_file_of_before_the_last_start_of_the_machine_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let region = open(&path).region;
    let mut header = Header::new(&spec(&path), region.seeds()).unwrap();
    header.boot[0] ^= 1;
    for (word, value) in region.words(0, HEADER_WORDS).iter().zip(header.words()) {
        word.store(value, SeqCst);
    }
    assert!(matches!(open(&path).how, How::MadeAnew { why: SetAside::OtherBoot, aside: None }));
}

#[test]
fn who_has_the_old_file_mapped_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let old = open(&path).region;
    let new = Region::open(&Spec { layout: 2, ..spec(&path) }).unwrap().region;
    old.words(HEADER_BYTES, 1)[0].store(7, SeqCst);
    assert_eq!(new.words(HEADER_BYTES, 1)[0].load(SeqCst), 0, "two files");
}

#[test]
fn what_others_could_read_or_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    open(&path);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let said = refusal(&path);
    assert!(said.contains("mode 0640") && said.contains("chmod 600"), "{said}");
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(refusal(&link).contains("is a symbolic link"), "{}", refusal(&link));
    assert!(refusal(folder.path()).contains("is a folder"), "{}", refusal(folder.path()));
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(refusal(&pipe).contains("no regular file"), "{}", refusal(&pipe));
    let nowhere = folder.path().join("no/x");
    assert!(refusal(&nowhere).contains("its folder does not exist"), "{}", refusal(&nowhere));
}

#[test]
fn more_than_there_is_is_refused_with_what_mends_it() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("x");
    let error = Region::open(&Spec { bytes: 1 << 50, ..spec(&path) }).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("needs 1.0 PiB of shared memory"), "{said}");
    assert!(said.contains("mount -o remount,size=... /dev/shm") || said.contains("memory.max"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_view_reads_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    assert!(Region::view(&path, MAGIC, 1).unwrap().is_none(), "there is none");
    let region = open(&path).region;
    region.words(HEADER_BYTES, 1)[0].store(7, SeqCst);
    let view = Region::view(&path, MAGIC, 1).unwrap().unwrap().unwrap();
    assert_eq!(view.words(HEADER_BYTES, 1)[0].load(SeqCst), 7);
    let other = Region::view(&path, MAGIC, 2).unwrap().unwrap().unwrap_err();
    assert_eq!(other, SetAside::OtherLayout);
}

#[test]
fn a_file_with_holes_has_its_space_when_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("x"), folder.path().join("y"));
    open(&path);
    // As a copy that leaves out what is zero.
    let page = std::fs::read(&path).unwrap();
    let sparse = File::options().write(true).create_new(true).mode(0o600).open(&copy).unwrap();
    sparse.write_all_at(&page[..HEADER_BYTES], 0).unwrap();
    sparse.set_len(BYTES as u64).unwrap();
    assert!(sparse.metadata().unwrap().blocks() * 512 < BYTES as u64, "it has a hole");
    assert!(matches!(open(&copy).how, How::Found));
    assert!(sparse.metadata().unwrap().blocks() * 512 >= BYTES as u64, "no page can be missing later");
}

#[test]
fn private_memory_is_nobody_elses() {
    let spec =
        Spec { place: Place::Private("portcullis-test"), bytes: BYTES, magic: MAGIC, layout: 1, seeds: None };
    let (one, other) = (Region::open(&spec).unwrap().region, Region::open(&spec).unwrap().region);
    one.words(HEADER_BYTES, 1)[0].store(7, SeqCst);
    assert_eq!(other.words(HEADER_BYTES, 1)[0].load(SeqCst), 0);
    assert!(one.is_in_memory() && one.path().is_none());
}
