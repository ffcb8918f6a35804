//! A process that has just opened a file finds what is there at once: it does not look at what it is not asked for.

use std::path::Path;

use crate::churn::{Churn, Found, Planted, open};
use crate::content::{self, Random, Sizes};
use crate::process::{self, Kind, Process, Started, report};

#[test]
fn the_first_hit_needs_no_scan() {
    let folder = process::folder(ARENA_BYTES);
    let path = folder.path().join("a");
    let arena = open(&path, ARENA_BYTES, RECORDS);
    let found = Found::attach(arena, SIZES).expect("nobody else");
    let churn = Churn::new(arena, found, (SIZES, u64::MAX), Planted::Nothing, None);
    churn.fill(OBJECTS);
    // This process keeps the lease, so the other cannot even attach.
    let mut process = Process::start("first", &path, 0);
    let first = process.next().expect("it says what it found");
    assert_eq!((first.kind, first.version), (Kind::There, 1), "the first of so many, at the first try");
    let table = u64::from(RECORDS) * 128;
    assert!(first.number > 0 && first.number < table / 4, "{} bytes of {table} were looked at", first.number);
    assert!(process.wait(), "it came to its end");
}

/// Opens, finds one, and says of how many bytes of the file there are pages in this process.
pub fn child(started: Started) {
    let arena = open(&started.file, ARENA_BYTES, RECORDS);
    let key = Random(started.argument).below(OBJECTS);
    let pinned = arena.find(content::primary(key), 0).expect("it is there");
    let (id, _) = content::check(&pinned, SIZES).unwrap();
    let is_it = u64::from(id.key == key && arena.try_lease().unwrap().is_none());
    report(&started.socket, Kind::There, id.key, is_it, resident(&started.file));
}

/// Bytes of a mapped file that this process has looked at, in whole pages and what the system maps around them.
fn resident(file: &Path) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = maps.lines().skip_while(|line| !line.ends_with(file.to_str().unwrap()));
    let line = lines.find_map(|line| line.strip_prefix("Rss:")).expect("it is mapped");
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

const OBJECTS: u64 = 100_000;
const RECORDS: u32 = 131_072;
const ARENA_BYTES: usize = 80 << 20;
const SIZES: Sizes = Sizes { most: 64 };
