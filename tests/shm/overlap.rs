//! Two processes on one file at once: one writes, both read and pin; one dies with its pins; the roles change.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use portcullis::shm::arena::{Arena, Pinned};

use crate::churn::{Churn, Found, Planted, open};
use crate::content::{self, Id, Random, Sizes};
use crate::process::{self, Kind, Process, Started, report};

#[test]
fn a_reader_that_dies_with_its_pins_has_seen_no_wrong_byte_and_keeps_nothing() {
    let folder = process::folder(ARENA_BYTES);
    let path = folder.path().join("a");
    let arena = open(&path, ARENA_BYTES, RECORDS);
    let found = Found::attach(arena, SIZES).expect("nobody else");
    let churn = Churn::new(arena, found, (SIZES, KEYS), Planted::Nothing, None);
    (0..KEYS).for_each(|seed| churn.step(&mut Random(seed)));
    for round in 0..3 {
        let reader = while_churning(&churn, round, || {
            let mut reader = Process::start("reader", &path, round);
            let compared = reader.next().expect("it lives");
            assert_eq!(compared.kind, Kind::Compared, "nothing is wrong");
            assert!(compared.number >= PINS as u64, "hundreds of pins: {}", compared.number);
            reader.kill();
            reader
        });
        drop(reader);
        // What the dead one pinned is still kept.
        (0..RECORDS).for_each(|record| churn.with_writer(|writer| writer.kill(record)));
        let pinned = churn.with_writer(|writer| {
            writer.reclaim();
            writer.pinned_bytes()
        });
        assert!(pinned > 0, "it died with its pins");
        assert_eq!(churn.with_writer(|writer| writer.clear_dead().unwrap()), 1);
        let (free, pinned) = churn.with_writer(|writer| (writer.free_bytes(), writer.pinned_bytes()));
        assert_eq!((free, pinned), (arena.data_bytes(), 0), "all of it is free");
        churn.forget();
    }
}

#[test]
fn the_next_writer_takes_back_the_pins_of_the_dead() {
    let folder = process::folder(ARENA_BYTES);
    let path = folder.path().join("a");
    let arena = open(&path, ARENA_BYTES, RECORDS);
    let found = Found::attach(arena, SIZES).expect("nobody else");
    let churn = Churn::new(arena, found, (SIZES, KEYS), Planted::Nothing, None);
    (0..KEYS).for_each(|seed| churn.step(&mut Random(seed)));
    let mut reader = Process::start("reader", &path, 0);
    assert_eq!(reader.next().expect("it lives").kind, Kind::Compared);
    (0..RECORDS).for_each(|record| churn.with_writer(|writer| writer.kill(record)));
    reader.kill();
    assert!(churn.with_writer(|writer| writer.pinned_bytes()) > 0, "it died with its pins");
    churn.stop();
    let next = open(&path, ARENA_BYTES, RECORDS);
    let found = Found::attach(next, SIZES).expect("the lease is free");
    // The first opening still lives.
    assert_eq!((found.attached.cleared, found.ids.len()), (1, 0));
    assert!(found.attached.unfinished > 0 && found.wrong.is_empty(), "{found:?}");
    assert_eq!(found.attached.writer.free_bytes(), next.data_bytes());
}

#[test]
fn two_processes_hand_the_lease_over_twenty_times() {
    let folder = process::folder(ARENA_BYTES);
    let path = folder.path().join("a");
    let arena = open(&path, ARENA_BYTES, RECORDS);
    let mut other = Process::start("partner", &path, 0);
    let (stop, mut left) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read(arena, &stop));
        for turn in 0..10 {
            let mine = write_for_a_turn(arena, turn * 2).expect("the other has given it back");
            assert_eq!(mine.found, left, "all that the other left");
            assert_eq!(mine.wrong, Vec::<String>::new());
            assert!(arena.try_lease().unwrap().is_some(), "free, and dropped at once");
            other.say(b'w');
            let theirs = other.next().expect("it lives");
            assert_eq!(theirs.kind, Kind::Ready, "nothing is wrong");
            assert_eq!(theirs.key, mine.left, "all that this one left");
            left = theirs.number;
        }
        stop.store(true, Relaxed);
        let (compared, wrong) = reading.join().unwrap();
        assert_eq!(wrong, None);
        assert!(compared > 100 && left > 100, "something was tested: {compared}, {left}");
    });
}

/// Runs something while a thread writes.
fn while_churning<T>(churn: &Churn, seed: u64, what: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut random = Random(seed);
            while !stop.load(Relaxed) {
                churn.step(&mut random);
            }
        });
        let result = what();
        stop.store(true, Relaxed);
        writing.join().unwrap();
        result
    })
}

/// What one turn as the writer came to.
struct Turn {
    found: u64,
    left: u64,
    wrong: Vec<String>,
}

fn write_for_a_turn(arena: &'static Arena, seed: u64) -> Option<Turn> {
    let found = Found::attach(arena, SIZES)?;
    let (count, wrong) = (found.ids.len() as u64, found.wrong.clone());
    let churn = Churn::new(arena, found, (SIZES, KEYS), Planted::Nothing, None);
    let mut random = Random(seed);
    (0..500).for_each(|_| churn.step(&mut random));
    let left = churn.live() as u64;
    churn.stop();
    Some(Turn { found: count, left, wrong })
}

/// Compares what it finds until it is stopped. How many objects that were, and what was wrong.
fn read(arena: &'static Arena, stop: &AtomicBool) -> (u64, Option<String>) {
    let (mut random, mut compared) = (Random(99), 0);
    while !stop.load(Relaxed) {
        let Some(pinned) = arena.find(content::primary(random.below(KEYS)), 0) else { continue };
        if let Err(why) = content::check(&pinned, SIZES) {
            return (compared, Some(why));
        }
        compared += 1;
    }
    (compared, None)
}

/// Reads, and writes a turn whenever it is told to.
pub fn partner(mut started: Started) {
    let arena = open(&started.file, ARENA_BYTES, RECORDS);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read(arena, &stop));
        let mut turn = 0;
        while started.hear().is_some() {
            turn += 1;
            let mine = write_for_a_turn(arena, turn * 2 + 1).expect("the other has given it back");
            let is_wrong = !mine.wrong.is_empty() || reading.is_finished();
            mine.wrong.iter().for_each(|why| eprintln!("{why}"));
            let kind = if is_wrong { Kind::Wrong } else { Kind::Ready };
            report(&started.socket, kind, mine.found, 0, mine.left);
        }
        stop.store(true, Relaxed);
    });
}

/// Something that a reader holds.
struct Hold {
    id: Id,
    pinned: Pinned,
    bytes: Vec<Bytes>,
}

/// Reads and holds, says once how much when that is a lot, and goes on until it is killed.
pub fn reader(started: Started) {
    let arena = open(&started.file, ARENA_BYTES, RECORDS);
    let (mut random, mut compared) = (Random(started.argument), 0);
    let mut held: Vec<Hold> = Vec::new();
    let wrong = |why: &str| {
        eprintln!("{why}");
        report(&started.socket, Kind::Wrong, 0, 0, 0);
    };
    loop {
        let Some(pinned) = arena.find(content::primary(random.below(KEYS)), 0) else { continue };
        compared += 1;
        match content::check(&pinned, SIZES) {
            Ok((id, _)) => held.push(Hold { id, bytes: stretches(&pinned), pinned }),
            Err(why) => wrong(&why),
        }
        if held.len() > PINS {
            let gone = held.swap_remove(random.below(PINS as u64) as usize);
            gone.check().unwrap_or_else(|why| wrong(&why));
        }
        if compared == COMPARED {
            held.iter().for_each(|held| held.check().unwrap_or_else(|why| wrong(&why)));
            report(&started.socket, Kind::Compared, compared, 0, held.len() as u64);
        }
    }
}

impl Hold {
    /// It is what it was, whatever has happened to it.
    fn check(&self) -> Result<(), String> {
        let mut at = 0;
        for piece in &self.bytes {
            content::check_piece(self.id, at, piece)?;
            at += piece.len();
        }
        let is_whole = at == self.id.body_bytes(SIZES) && content::check(&self.pinned, SIZES).is_ok();
        if is_whole { Ok(()) } else { Err(format!("{:?} has changed", self.id)) }
    }
}

fn stretches(pinned: &Pinned) -> Vec<Bytes> {
    let mut at = 0;
    std::iter::from_fn(|| {
        let piece = pinned.body(at, usize::MAX)?;
        at += piece.len();
        Some(piece)
    })
    .collect()
}

const ARENA_BYTES: usize = 48 << 20;
const RECORDS: u32 = 4096;
const SIZES: Sizes = Sizes { most: 256 << 10 };
/// More than there is room for.
const KEYS: u64 = 4000;
const PINS: usize = 200;
/// How many objects a reader compares before it says so.
const COMPARED: u64 = 4000;
