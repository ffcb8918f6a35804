//! Two processes on one file: real ones, of which one is killed.

use super::super::*;
use crate::limit::clock;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Times that one process is killed.
const KILLS: u64 = 50;
/// Keys of one round, and how often each passes.
const KEYS: u64 = 500;
const BURST: u64 = 100;
/// Keys that the file has room for: so many that no set is ever full of live ones, whatever the seeds.
const ROOM: usize = 400_000;
/// Threads of the process that is killed.
const THREADS: u64 = 2;
/// Says to the other process where the files are, and which round it is.
const FOLDER: &str = "PORTCULLIS_TEST_LIMITS";
const ROUND: &str = "PORTCULLIS_TEST_ROUND";

/// Nothing is paid back while a test runs.
fn quota() -> Quota {
    let burst = NonZeroU32::new(BURST as u32).expect("not zero");
    Quota::new(NonZeroU32::MIN, Duration::from_hours(1000), burst)
}

fn now_ns() -> u64 {
    clock::nanoseconds(Instant::now())
}

/// A file of counters, and beside it a word for each key: how many requests passed, counted after the decision.
struct Shared {
    table: Table,
    passed: &'static [AtomicU64],
}

impl Shared {
    fn open(folder: &Path) -> Self {
        let words = (KILLS * KEYS) as usize;
        let path = folder.join("passed");
        let bytes = HEADER_BYTES + words * 8;
        let spec = Spec { place: Place::File(&path), bytes, magic: *b"TESTING\0", layout: 1, seeds: None };
        let passed = Region::open(&spec).unwrap().region.words(HEADER_BYTES, words);
        Self { table: Table::open(&folder.join("limits"), ROOM).unwrap().0, passed }
    }

    /// Asks for so many keys of a round, in turn from one of them on, until each is refused. Between them come strangers, who are at rest at
    /// once: a new key is what takes several steps.
    fn ask(&self, round: u64, first: u64, keys: u64) {
        let at_rest = Quota::new(NonZeroU32::MIN, Duration::from_nanos(1), NonZeroU32::MIN);
        for n in (first..first + keys).map(|n| round * KEYS + n % KEYS) {
            let key = self.table.key(7, &n.to_le_bytes());
            while self.table.decide(key, &quota(), now_ns()).allowed {
                self.passed[n as usize].fetch_add(1, SeqCst);
                let stranger = self.table.key(8, &now_ns().to_le_bytes());
                let _ = self.table.decide(stranger, &at_rest, now_ns());
            }
        }
    }

    /// How many passed of each key of a round.
    fn passed(&self, round: u64) -> Vec<u64> {
        let words = self.passed.iter().skip((round * KEYS) as usize).take(KEYS as usize);
        words.map(|word| word.load(SeqCst)).collect()
    }
}

/// What the other process does, until it is killed or nothing is left that could pass.
#[test]
#[ignore = "the other process of the tests here, which start it"]
fn another_process() {
    let folder = std::env::var_os(FOLDER).expect("a test starts this, and says where its files are");
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let shared = Shared::open(Path::new(&folder));
    std::fs::write(sign(Path::new(&folder), round), "").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let shared = &shared;
            scope.spawn(move || shared.ask(round, thread * KEYS / 4, KEYS));
        }
    });
}

/// A file that says that the other process has begun.
fn sign(folder: &Path, round: u64) -> PathBuf {
    folder.join(format!("began.{round}"))
}

/// Starts the other process, and waits until it has opened the files.
fn start(folder: &Path, round: u64) -> Child {
    let name = module_path!().split_once("::").map(|(_, path)| format!("{path}::another_process"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &name.unwrap(), "--ignored", "--nocapture"]);
    command.env(FOLDER, folder).env(ROUND, round.to_string());
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    while !sign(folder, round).exists() {
        assert!(child.try_wait().unwrap().is_none_or(|status| status.success()), "it cannot begin");
        std::thread::yield_now();
    }
    child
}

#[test]
fn two_processes_let_pass_together_exactly_what_one_would() {
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::open(folder.path());
    let mut other = start(folder.path(), 0);
    shared.ask(0, KEYS / 2, KEYS);
    assert!(other.wait().unwrap().success());
    assert_eq!(shared.passed(0), [BURST; KEYS as usize], "the burst of each key, of both together");
    assert_eq!(shared.table.stats().overflowed, 0);
}

#[test]
fn a_process_killed_at_any_moment_holds_up_nobody_and_gives_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::open(folder.path());
    let mut at_work = 0;
    for round in 0..KILLS {
        let mut other = start(folder.path(), round);
        // Another stretch of work each time, so that the other one dies elsewhere.
        shared.ask(round, KEYS / 2, 1 + round * 13 % 97);
        let dies = other.try_wait().unwrap().is_none();
        at_work += u64::from(dies);
        other.kill().unwrap();
        other.wait().unwrap();
        shared.ask(round, 0, KEYS);
        let passed = shared.passed(round);
        let not_counted: u64 = passed.iter().map(|passed| BURST.saturating_sub(*passed)).sum();
        assert!(passed.iter().all(|passed| *passed <= BURST), "round {round}: {passed:?}");
        let most = if dies { THREADS } else { 0 };
        assert!(not_counted <= most, "round {round}: what each thread was about to count, and no more");
    }
    assert!(at_work > KILLS / 2, "most were at work when they were killed: {at_work}");
    assert_eq!((shared.table.stats().mended, shared.table.stats().overflowed), (0, 0));
}

#[test]
fn the_counters_are_there_for_the_next_opening() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("limits");
    let (now_ns, left) = (1_000_000, BURST as u32);
    let (first, how) = Table::open(&file, 75).unwrap();
    assert!(matches!(how, How::Made), "{how:?}");
    let decide = |table: &Table| table.decide(table.key(1, b"client"), &quota(), now_ns).remaining;
    assert_eq!(decide(&first), left - 1);
    drop(first);
    let (second, how) = Table::open(&file, 75).unwrap();
    assert!(matches!(how, How::Found), "{how:?}");
    assert_eq!(decide(&second), left - 2);
    let (larger, how) = Table::open(&file, 7000).unwrap();
    assert!(matches!(how, How::MadeAnew { .. }), "{how:?}");
    assert_eq!(decide(&larger), left - 1, "another size, other counters");
}
