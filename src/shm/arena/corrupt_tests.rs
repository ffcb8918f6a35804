//! What lies in a file is not believed: each of these bytes has been wrong once.

use std::path::Path;

use super::tests::{attach, body_of, get, open, put};
use super::*;

/// A file with so many objects, whose writer is gone.
fn filled(path: &Path, objects: u128) -> &'static Arena {
    let arena = open(path);
    let mut writer = attach(arena).writer;
    for n in 0..objects {
        put(arena, &mut writer, n, b"head", &body_of(n as u32, 100)).unwrap();
    }
    arena
}

#[test]
fn a_ring_of_what_belongs_elsewhere_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let arena = filled(&path, 50);
    // All chains lead into a ring of two, of which each belongs to one chain at most.
    arena.first.iter().for_each(|first| first.store(1, SeqCst));
    arena.records[1].next.store(2, SeqCst);
    arena.records[2].next.store(1, SeqCst);
    let attached = attach(open(&path));
    assert_eq!(attached.survivors.len(), 50);
    for n in 0..50 {
        assert_eq!(get(arena, n).unwrap().1, body_of(n as u32, 100), "{n}");
    }
}

#[test]
fn half_a_record_is_nothing_even_before_the_scan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let arena = filled(&path, 1);
    let record = &arena.records[0];
    record.runs.iter().for_each(|run| run.store(0, SeqCst));
    // The checksum of no bytes is 0.
    [&record.body_bytes, &record.body_at, &record.body_sum]
        .into_iter()
        .for_each(|word| word.store(0, SeqCst));
    let next = open(&path);
    assert!(next.find(0, 0).is_none());
    assert_eq!(next.corrupt(), 1);
}

#[test]
fn numbers_go_on_behind_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for nonsense in [0, u64::MAX, u64::MAX - 1] {
        let arena = filled(&path, 3);
        let last = arena.sequence(2);
        arena.word(SEQUENCE).store(nonsense, SeqCst);
        assert_eq!(arena.next_sequence(), nonsense.wrapping_add(1), "nobody is stopped");
        let next = open(&path);
        let _writer = attach(next).writer;
        assert_eq!(next.next_sequence(), last + 1);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for (word, nonsense) in
        [(USER_BYTES, u64::MAX), (USER_BYTES, 1 << 40), (RECORDS, u64::MAX), (RECORDS, u32::MAX.into())]
    {
        let arena = filled(&path, 1);
        arena.word(word).store(nonsense, SeqCst);
        let view = View::open(&path).unwrap().unwrap();
        assert!(matches!(view, Err(SetAside::Inconsistent(_))), "{view:?}");
        let (_, how) = Arena::open(&Settings { place: Place::File(&path), ..tests::SETTINGS }).unwrap();
        assert!(matches!(how, How::MadeAnew { .. }), "{how:?}");
        std::fs::remove_file(&path).unwrap();
    }
    let too_many = Settings { records: u32::MAX, ..tests::SETTINGS };
    assert!(matches!(Arena::open(&too_many), Err(ArenaError::TooSmall(_))), "no panic");
}

#[test]
fn runs_that_are_longer_than_all_there_is_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let arena = filled(&path, 1);
    let record = &arena.records[0];
    // A list that names all of the data, again and again.
    let list = Run { start: 0, units: data::LIST_UNITS };
    let all = Run { start: 0, units: arena.geometry.units };
    let words = arena.region.words(arena.geometry.piece(list).unwrap().at, 128);
    words.iter().for_each(|word| word.store(all.word(), SeqCst));
    words[0].store(127, SeqCst);
    record.runs[0].store(list.word(), SeqCst);
    record.run_count.store(record::LISTED, SeqCst);
    record.sum.store(record.fixed_sum(), SeqCst);
    assert_eq!(arena.geometry.runs(arena.region, record), None);
    let view = View::open(&path).unwrap().unwrap().unwrap();
    assert!(view.object(0).is_none() && view.is_unsound(0));
    assert!(open(&path).find(0, 0).is_none());
}

#[test]
fn a_head_without_end_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let settings = Settings { place: Place::File(&path), bytes: 8 << 20, ..tests::SETTINGS };
    let arena = Arena::open(&settings).unwrap().0;
    let mut writer = attach(arena).writer;
    let number = put(arena, &mut writer, 7, b"head", b"body").unwrap();
    arena.records[number as usize].head.store(data::MAX_HEAD_BYTES as u64 + 1, SeqCst);
    assert_eq!(arena.find(7, 0).unwrap().head(), None);
    drop(writer);
    let next = Arena::open(&settings).unwrap().0;
    assert_eq!(attach(next).unsound, 1);
}

#[test]
fn what_is_ended_twice_is_free_once() {
    let folder = tempfile::tempdir().unwrap();
    let arena = open(&folder.path().join("a"));
    let mut writer = attach(arena).writer;
    let number = put(arena, &mut writer, 7, b"head", &body_of(7, 5000)).unwrap();
    let held = arena.find(7, 0).unwrap();
    writer.kill(number);
    writer.kill(number);
    drop(held);
    writer.reclaim();
    assert_eq!((writer.free_bytes(), writer.pinned_bytes()), (arena.data_bytes(), 0));
}

#[test]
fn a_broken_record_that_is_read_is_not_reused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let arena = filled(&path, 2);
    let held = arena.find(1, 0).unwrap();
    // It claims what the other has.
    arena.records[1].runs[0].store(arena.records[0].runs[0].load(SeqCst), SeqCst);
    let Attached { mut writer, survivors, unsound, .. } = attach(arena);
    assert_eq!((survivors.len(), unsound), (1, 1));
    for n in 10..30 {
        put(arena, &mut writer, n, b"head", b"another's").unwrap();
    }
    assert_eq!((held.primary(), held.body(0, 100)), (1, None), "nothing of another object");
    drop(held);
    writer.reclaim();
    assert_eq!(writer.pinned_bytes(), 0);
}

#[test]
fn pins_that_no_process_made_go_when_a_writer_comes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let arena = filled(&path, 1);
    arena.records[0].pins[5].store(77, SeqCst);
    let mut writer = attach(arena).writer;
    writer.kill(0);
    assert_eq!((writer.free_bytes(), writer.pinned_bytes()), (arena.data_bytes(), 0));
}

#[test]
fn an_opening_has_the_lease_once() {
    let folder = tempfile::tempdir().unwrap();
    let arena = open(&folder.path().join("a"));
    let held = arena.try_lease().unwrap().expect("free");
    assert!(arena.try_lease().unwrap().is_none(), "the kernel would give it again");
    drop(held);
    assert!(arena.try_lease().unwrap().is_some(), "given back");
}
