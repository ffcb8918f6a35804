//! Files that somebody damaged: whatever lies in them, a process that opens one neither dies nor hangs, and gives no wrong byte.
//!
//! One file is made in which there is everything: objects in one piece and in many, heads of their own, pins, what is being written and what
//! is gone but for its readers. It is copied, damaged in a few places, looked at, opened, read, taken over, written and read again. Other
//! processes do that, so that their death or silence is seen; each ends after a number of files, because what is mapped stays mapped.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use portcullis::shm::Place;
use portcullis::shm::arena::{Arena, Full, Object, Parts, Pinned, Settings, View, Writer};

use crate::churn::{Churn, Found, Planted};
use crate::content::{self, Id, Random, Sizes};
use crate::process::{self, Kind, Process, Started, report};

#[test]
fn a_damaged_file_costs_objects_and_nothing_else() {
    let folder = process::folder(4 * ARENA_BYTES);
    let path = folder.path().join("whole");
    make(&path);
    let seconds: Option<u64> = std::env::var("DAMAGE_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    let begun = Instant::now();
    let mut seed = seconds.map_or(1, |_| now_ns());
    let mut kept = 0;
    for process in 0.. {
        let is_enough =
            seconds.map_or(process >= USUAL, |seconds| begun.elapsed() > Duration::from_secs(seconds));
        if is_enough {
            break;
        }
        kept += damage_some(&path, seed);
        seed += FILES;
    }
    assert!(kept > 1000, "most objects outlive it: {kept}");
}

/// Has a process damage some files. How many objects were found in them.
fn damage_some(path: &Path, seed: u64) -> u64 {
    let mut process = Process::start("damage", path, seed);
    let mut kept = 0;
    for at in seed..seed + FILES {
        let report = process.next();
        let said = report.is_some_and(|report| report.kind == Kind::Compared && report.key == at);
        assert!(said, "it died or hangs on the file of seed {at}: {report:?}");
        kept += report.map_or(0, |report| report.number);
    }
    assert!(process.wait(), "it came to its end");
    kept
}

/// Makes a file in which there is everything, as a process leaves it that is killed.
fn make(path: &Path) {
    let live = path.with_extension("live");
    let arena = open(&live);
    let found = Found::attach(arena, SIZES).expect("nobody else");
    let churn = Churn::new(arena, found, (SIZES, KEYS), Planted::Nothing, None);
    let mut random = Random(5);
    let id = |key| Id { key, version: arena.next_sequence() };
    let large: Vec<Id> =
        (KEYS..MADE_LATER).map(id).filter(|id| id.body_bytes(SIZES) > 8_000).take(4).collect();
    churn.weave(&large);
    (0..150).for_each(|_| churn.put(&mut random));
    (0..40).for_each(|_| churn.renew(&mut random));
    let pieces = |id: &Id| stretches(&arena.find(id.primary(), 0).expect("it is there"));
    assert!(large.iter().all(|id| pieces(id) > 3), "they have lists of their runs");
    let mut held: Vec<Pinned> = (0..KEYS).filter_map(|key| arena.find(content::primary(key), 0)).collect();
    held.truncate(12);
    held.iter().step_by(3).for_each(|pinned| churn.with_writer(|writer| writer.kill(pinned.record())));
    let _draft = churn.with_writer(|writer| writer.take(5000, 100)).unwrap();
    let sums = View::open(&live).unwrap().unwrap().unwrap().sums();
    let is_full = sums.objects > 30 && sums.dying == 4 && sums.writing == 1 && sums.pinned == 8;
    assert!(is_full, "there is everything: {sums:?}");
    std::fs::copy(&live, path).unwrap();
}

fn stretches(pinned: &Pinned) -> usize {
    let mut at = 0;
    std::iter::from_fn(|| {
        at += pinned.body(at, usize::MAX)?.len();
        Some(())
    })
    .count()
}

/// Damages files in so many ways.
pub fn child(started: Started) {
    let whole = std::fs::read(&started.file).unwrap();
    let parts = open(&started.file.with_extension("parts")).parts();
    // A file in which nothing lies has the same parts.
    std::fs::remove_file(started.file.with_extension("parts")).unwrap();
    for seed in started.argument..started.argument + FILES {
        let path = started.file.with_extension(seed.to_string());
        let mut random = Random(seed);
        let mut bytes = whole.clone();
        for _ in 0..=random.below(6) {
            damage(&mut bytes, &parts, &mut random);
        }
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let kept = use_it(&path, &mut random).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let _ = std::fs::remove_file(path.with_extension(format!("{seed}.aside")));
        std::fs::remove_file(path).unwrap();
        report(&started.socket, Kind::Compared, seed, 0, kept);
    }
}

/// Damages one place.
fn damage(bytes: &mut Vec<u8>, parts: &Parts, random: &mut Random) {
    let Parts { header, own, user, chains, records, data } = parts.clone();
    let part = match random.below(40) {
        0 => return bytes.truncate(random.below(bytes.len() as u64) as usize),
        1 => return bytes.resize(bytes.len() + random.below(10_000) as usize, 7),
        2 => header,
        3..6 => own,
        6 => user,
        7..12 => chains,
        12..34 => records,
        _ => data,
    };
    let length = part.len() as u64;
    // What is used of it: the rest is zero, and damage there is none.
    let within = |random: &mut Random| match random.below(2) {
        0 => part.start + random.below(length) as usize,
        _ => part.start + random.below(length.min(96 * 128)) as usize,
    };
    let (to, from) = (within(random), within(random));
    let value = match random.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => random.below(20_000),
        3 => random.below(20_000) << 32 | random.below(300),
        4 => 1 << random.below(64),
        _ => random.next(),
    };
    let Some(stretch) = bytes.get(from..).map(|rest| rest[..rest.len().min(128)].to_vec()) else { return };
    match random.below(8) {
        0 | 1 => change(bytes, to, |byte| byte ^ 1 << random.below(8), 1),
        2 | 3 => write(bytes, to & !7, &value.to_le_bytes()),
        4 => write(bytes, to & !3, &(value as u32).to_le_bytes()),
        5 => write(bytes, to & !127, &stretch),
        6 => write(bytes, to & !7, &stretch[..stretch.len().min(8)]),
        _ => change(bytes, to & !4095, |_| value as u8, 1 + random.below(4096) as usize),
    }
}

fn write(bytes: &mut [u8], at: usize, what: &[u8]) {
    for (byte, value) in bytes.iter_mut().skip(at).zip(what) {
        *byte = *value;
    }
}

fn change(bytes: &mut [u8], at: usize, mut how: impl FnMut(u8) -> u8, count: usize) {
    bytes.iter_mut().skip(at).take(count).for_each(|byte| *byte = how(*byte));
}

/// Does with a file all that can be done. How many objects were in it.
fn use_it(path: &Path, random: &mut Random) -> Result<u64, String> {
    look(path)?;
    let arena = open(path);
    // Before the scan, as a new process does that another may still write for.
    read_all(arena)?;
    let attached = arena.attach(arena.try_lease().unwrap().expect("nobody else")).unwrap();
    let kept = read_all(arena)?;
    if kept > attached.survivors.len() as u64 {
        return Err(format!("{kept} of {} survivors", attached.survivors.len()));
    }
    let mut writer = attached.writer;
    let mut records: Vec<u32> = attached.survivors.iter().map(|survivor| survivor.record).collect();
    let live: usize = attached.survivors.iter().map(|survivor| survivor.size).sum();
    if live + writer.free_bytes() + writer.pinned_bytes() != arena.data_bytes() {
        return Err("what lives and what is free is not all there is".to_owned());
    }
    for _ in 0..30 {
        write_some(arena, &mut writer, &mut records, random);
    }
    read_all(arena)?;
    look(path)?;
    records.into_iter().for_each(|record| writer.kill(record));
    (0..10).for_each(|_| writer.reclaim());
    if writer.free_bytes() + writer.pinned_bytes() != arena.data_bytes() {
        return Err(format!("{} free, {} pinned", writer.free_bytes(), writer.pinned_bytes()));
    }
    Ok(kept)
}

/// Finds all that can be found.
fn read_all(arena: &'static Arena) -> Result<u64, String> {
    let mut found = 0;
    for key in 0..ALL_KEYS {
        let _ = arena.family(content::primary(key));
        let Some(pinned) = arena.find(content::primary(key), 0) else { continue };
        found += 1;
        let id = Id { key, version: pinned.sequence() };
        check_body(id, &pinned)?;
        // A head has a checksum of its own, which is its user's to look at.
        if let Some(head) = pinned.head()
            && let Some((said, revision)) = content::read_head(&head)
            && (said.key != key || head != said.head(revision))
        {
            return Err(format!("{id:?} has the head of {said:?}"));
        }
    }
    Ok(found)
}

fn check_body(id: Id, pinned: &Pinned) -> Result<(), String> {
    if pinned.body_bytes() != id.body_bytes(SIZES) {
        return Err(format!("{id:?} has {} bytes", pinned.body_bytes()));
    }
    let mut at = 0;
    while at < pinned.body_bytes() {
        let piece = pinned.body(at, usize::MAX).ok_or_else(|| format!("{id:?} ends at {at}"))?;
        content::check_piece(id, at, &piece)?;
        at += piece.len();
    }
    Ok(())
}

/// Looks at it from outside.
fn look(path: &Path) -> Result<(), String> {
    let Ok(Some(Ok(view))) = View::open(path) else { return Ok(()) };
    let sums = view.sums();
    if sums.used_bytes > sums.data_bytes || sums.longest_free_bytes > sums.data_bytes {
        return Err(format!("{sums:?}"));
    }
    let (_, _) = (view.processes(), view.writer());
    let keys: HashMap<u128, u64> = (0..ALL_KEYS).map(|key| (content::primary(key), key)).collect();
    for number in 0..view.record_count() {
        let _ = view.is_unsound(number);
        let Some(seen) = view.object(number) else { continue };
        let Some((body, true)) = view.body(&seen) else { continue };
        let key = *keys.get(&seen.primary).ok_or("an object under no key")?;
        let id = Id { key, version: seen.sequence };
        if body.len() != id.body_bytes(SIZES) {
            return Err(format!("{id:?} is seen with {} bytes", body.len()));
        }
        content::check_piece(id, 0, &body)?;
    }
    Ok(())
}

/// Puts an object or a head, and ends others where there is no room.
fn write_some(arena: &'static Arena, writer: &mut Writer, records: &mut Vec<u32>, random: &mut Random) {
    let id = Id { key: MADE_LATER + random.below(40), version: arena.next_sequence() };
    let (head, bytes) = (id.head(0), id.body_bytes(SIZES));
    let draft = loop {
        match writer.take(head.len() + bytes, head.len()) {
            Ok(draft) => break draft,
            Err(Full::Pinned) => return,
            Err(Full::Records | Full::Units) if records.is_empty() => return,
            Err(Full::Records | Full::Units) => {
                writer.kill(records.swap_remove(random.below(records.len() as u64) as usize));
            }
        }
    };
    draft.write(0, &head);
    let mut at = 0;
    while at < bytes {
        let piece = id.body(at);
        at += draft.write(head.len() + at, &piece[..piece.len().min(bytes - at)]);
    }
    let (body_at, body_sum) = (head.len(), id.body_sum(bytes));
    let object = Object {
        primary: id.primary(),
        variance: 0,
        head_bytes: head.len(),
        body_at,
        body_bytes: bytes,
        body_sum,
        sequence: id.version,
        began: 0,
        stale_from: None,
    };
    let record = writer.commit(draft, &object);
    records.push(record);
    if random.one_in(3) {
        let _ = writer.put_head(record, &id.head(1));
    }
}

fn open(path: &Path) -> &'static Arena {
    let settings = Settings {
        place: Place::File(path),
        bytes: ARENA_BYTES,
        records: RECORDS,
        user_bytes: 128,
        seeds: None,
    };
    Arena::open(&settings).unwrap().0
}

fn now_ns() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64
}

const ARENA_BYTES: usize = 320 << 10;
const RECORDS: u32 = 128;
const KEYS: u64 = 60;
/// Large objects are behind the others, and what is made in damaged files behind those.
const MADE_LATER: u64 = 120;
const ALL_KEYS: u64 = 160;
const SIZES: Sizes = Sizes { most: 20_000 };
/// Files that one process damages, and how many processes there are in the suite.
const FILES: u64 = 100;
const USUAL: u64 = 3;
