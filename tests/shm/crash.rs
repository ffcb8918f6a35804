//! A writer is killed at a random moment, again and again, on one file. What it had said to be there has to be there, whole; and nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::churn::{Churn, Found, Planted, open};
use crate::content::{self, Random, Sizes};
use crate::process::{self, Kind, Process, Report, Started, report};

#[test]
fn a_kill_leaves_every_object_whole_or_absent() {
    let folder = process::folder(ARENA_BYTES);
    let seen = kill_again_and_again(&folder.path().join("a"), 50, Planted::Nothing, |_| false);
    println!("{seen:?}");
    assert_eq!(seen.wrong, 0, "every byte of every object, and all units accounted for");
    assert_eq!(seen.returned, 0, "what was ended is gone");
    assert_eq!(seen.missing, 0, "of {} that were there", seen.expected);
    assert!(
        seen.expected > 1000 && seen.killed_while_busy > 0 && seen.unfinished > 0,
        "something was tested: {seen:?}"
    );
}

/// The test of the test.
#[test]
fn a_commit_before_the_copy_would_be_found() {
    let folder = process::folder(ARENA_BYTES);
    let has_found = |seen: &Seen| seen.wrong + seen.missing > 0;
    let seen = kill_again_and_again(&folder.path().join("a"), 50, Planted::CommitBeforeCopy, has_found);
    assert!(has_found(&seen), "{seen:?}");
}

/// What was seen over all rounds.
#[derive(Debug, Default)]
struct Seen {
    /// Objects that were there when a writer was killed, and those of them that were not found.
    expected: usize,
    missing: usize,
    /// Objects that were found and had been ended.
    returned: usize,
    /// Objects with a wrong byte, and sums that were no sums.
    wrong: usize,
    /// Rounds in which it was killed in the middle of a commit or a kill.
    killed_while_busy: usize,
    /// Objects that were being written or were still read when it was killed.
    unfinished: u64,
}

/// What is known of each key.
type Known = BTreeMap<u64, Told>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    version: u64,
    revision: u64,
}

/// What the writers have said.
#[derive(Debug, Default)]
struct Witness {
    seen: Seen,
    known: Known,
    /// What the last one was at when it was killed.
    under_way: Option<Report>,
    /// What the one that lives has found, until it says that this was all.
    found: Known,
    is_ready: bool,
}

fn kill_again_and_again(path: &Path, rounds: u64, planted: Planted, enough: impl Fn(&Seen) -> bool) -> Seen {
    let (mut witness, mut random) = (Witness::default(), Random(1));
    for round in 0..rounds {
        let argument = round * 2 + u64::from(planted == Planted::CommitBeforeCopy);
        let mut process = Process::start("crash", path, argument);
        (witness.is_ready, witness.found) = (false, Known::new());
        // At a moment that has nothing to do with what it is at. In some rounds it has not even looked at all that is there.
        if random.one_in(8) {
            std::thread::sleep(Duration::from_micros(random.below(40_000)));
        } else {
            let steps = random.below(600);
            let mut after = 0;
            while after < steps {
                witness.take_in(&process.next().expect("nobody kills it yet"));
                after += u64::from(witness.is_ready);
            }
            std::thread::sleep(Duration::from_micros(random.below(2000)));
        }
        process.kill();
        while let Some(report) = process.next() {
            witness.take_in(&report);
        }
        witness.seen.killed_while_busy += usize::from(witness.is_ready && witness.under_way.is_some());
        if enough(&witness.seen) {
            break;
        }
    }
    witness.seen
}

impl Witness {
    fn take_in(&mut self, report: &Report) {
        let told = Told { version: report.version, revision: report.number };
        match report.kind {
            Kind::There => {
                let is_twice = self.found.insert(report.key, told).is_some();
                self.seen.wrong += usize::from(is_twice);
            }
            Kind::Wrong => self.seen.wrong += 1,
            Kind::Ready => {
                self.seen.compare(&self.known, self.under_way, &self.found);
                self.known = std::mem::take(&mut self.found);
                self.seen.unfinished += report.number;
                (self.is_ready, self.under_way) = (true, None);
            }
            Kind::Committing | Kind::Killing | Kind::Heading => self.under_way = Some(*report),
            Kind::Committed | Kind::Headed => {
                self.known.insert(report.key, told);
                self.under_way = None;
            }
            Kind::Killed => {
                // Another may have taken its place.
                if self.known.get(&report.key).is_some_and(|now| now.version == report.version) {
                    self.known.remove(&report.key);
                }
                self.under_way = None;
            }
            Kind::Compared => panic!("no such report is made here"),
        }
    }
}

impl Seen {
    fn compare(&mut self, known: &Known, under_way: Option<Report>, found: &Known) {
        let may_be = |key: u64, found: Option<&Told>| {
            under_way.filter(|report| report.key == key).is_some_and(|report| match (report.kind, found) {
                (Kind::Killing, None) => known.get(&key).is_some_and(|known| known.version == report.version),
                (Kind::Committing | Kind::Heading, Some(found)) => {
                    *found == Told { version: report.version, revision: report.number }
                }
                _ => false,
            })
        };
        for (key, told) in known {
            self.expected += 1;
            let found = found.get(key);
            if found != Some(told) && !may_be(*key, found) {
                eprintln!("{key}: {told:?} was there, {found:?} is; {under_way:?}");
                self.missing += 1;
            }
        }
        for (key, told) in found {
            if !known.contains_key(key) && !may_be(*key, Some(told)) {
                eprintln!("{key}: {told:?} is there again; {under_way:?}");
                self.returned += 1;
            }
        }
    }
}

/// Attaches, says what is there, and goes on until it is killed.
pub fn child(started: Started) {
    let (round, planted) = match started.argument % 2 {
        0 => (started.argument / 2, Planted::Nothing),
        _ => (started.argument / 2, Planted::CommitBeforeCopy),
    };
    let arena = open(&started.file, ARENA_BYTES, RECORDS);
    let wrong = |why: &str| {
        eprintln!("round {round}: {why}");
        report(&started.socket, Kind::Wrong, 0, 0, 0);
    };
    let found = Found::attach(arena, SIZES).expect("the last one is dead");
    found.wrong.iter().for_each(|why| wrong(why));
    for (id, revision) in &found.ids {
        report(&started.socket, Kind::There, id.key, id.version, (*revision).into());
    }
    report(&started.socket, Kind::Ready, 0, 0, found.attached.unfinished as u64);
    let listener = Some(started.socket.try_clone().unwrap());
    let churn = Churn::new(arena, found, (SIZES, KEYS), planted, listener);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let churn = &churn;
            scope.spawn(move || {
                let mut random = Random(round << 8 | thread);
                loop {
                    churn.step(&mut random);
                }
            });
        }
        let mut random = Random(round << 8 | 2);
        let mut held = Vec::new();
        loop {
            // Pins of this process are there when it dies, on what lives and on what is gone.
            let Some(pinned) = arena.find(content::primary(random.below(KEYS)), 0) else { continue };
            if planted == Planted::Nothing
                && let Err(why) = content::check(&pinned, SIZES)
            {
                wrong(&why);
            }
            held.push(pinned);
            if held.len() > 8 {
                held.swap_remove(random.below(8) as usize);
            }
        }
    });
}

const ARENA_BYTES: usize = 64 << 20;
const RECORDS: u32 = 2048;
const SIZES: Sizes = Sizes { most: 8 << 20 };
const KEYS: u64 = 300;
