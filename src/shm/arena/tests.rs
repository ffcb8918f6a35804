use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

pub(super) const SETTINGS: Settings<'static> = Settings {
    place: Place::Private("portcullis-test"),
    bytes: 1 << 20,
    records: 64,
    user_bytes: 64,
    seeds: None,
};

fn private() -> (&'static Arena, Writer) {
    let (arena, how) = Arena::open(&SETTINGS).unwrap();
    assert!(matches!(how, How::Made));
    (arena, attach(arena).writer)
}

pub(super) fn attach(arena: &'static Arena) -> Attached {
    arena.attach(arena.try_lease().unwrap().expect("free")).unwrap()
}

pub(super) fn open(path: &Path) -> &'static Arena {
    Arena::open(&Settings { place: Place::File(path), ..SETTINGS }).unwrap().0
}

pub(super) fn body_of(seed: u32, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) as u8).collect()
}

fn object(arena: &Arena, primary: u128, head: &[u8], body: &[u8]) -> Object {
    Object {
        primary,
        variance: 0,
        head_bytes: head.len(),
        body_at: head.len(),
        body_bytes: body.len(),
        body_sum: crc32fast::hash(body),
        sequence: arena.next_sequence(),
        began: 0,
        stale_from: None,
    }
}

pub(super) fn put(
    arena: &'static Arena,
    writer: &mut Writer,
    primary: u128,
    head: &[u8],
    body: &[u8],
) -> Result<u32, Full> {
    let draft = writer.take(head.len() + body.len(), head.len())?;
    assert_eq!(draft.write(0, head), head.len());
    assert_eq!(draft.write(head.len(), body), body.len());
    Ok(writer.commit(draft, &object(arena, primary, head, body)))
}

fn whole(pinned: &Pinned) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(piece) = pinned.body(body.len(), usize::MAX) {
        body.extend_from_slice(&piece);
    }
    body
}

pub(super) fn get(arena: &'static Arena, primary: u128) -> Option<(Bytes, Vec<u8>)> {
    let pinned = arena.find(primary, 0)?;
    Some((pinned.head().unwrap(), whole(&pinned)))
}

#[test]
fn what_is_put_is_found_and_nothing_else() {
    let (arena, mut writer) = private();
    put(arena, &mut writer, 7, b"head", b"body").unwrap();
    let (head, body) = get(arena, 7).unwrap();
    assert_eq!((&head[..], &body[..]), (&b"head"[..], &b"body"[..]));
    assert!(arena.find(8, 0).is_none() && arena.find(7, 1).is_none());
    let one_piece = arena.find(7, 0).unwrap().body(1, 3).unwrap();
    assert_eq!(&one_piece[..], b"od");
}

#[test]
fn a_body_is_not_copied() {
    let (arena, mut writer) = private();
    put(arena, &mut writer, 7, b"head", &body_of(1, 4000)).unwrap();
    let pinned = arena.find(7, 0).unwrap();
    assert_eq!(pinned.body(0, 4000).unwrap().as_ptr(), pinned.body(0, 10).unwrap().as_ptr());
}

#[test]
fn what_is_read_stays_until_it_is_let_go() {
    let (arena, mut writer) = private();
    let all = writer.free_bytes();
    let number = put(arena, &mut writer, 7, b"head", &body_of(7, 5000)).unwrap();
    let held = arena.find(7, 0).unwrap().body(0, 5000).unwrap();
    writer.kill(number);
    assert!(arena.find(7, 0).is_none(), "gone for who comes now");
    assert!(writer.free_bytes() < all && writer.pinned_bytes() >= 5000, "but not free");
    for n in 0..40 {
        put(arena, &mut writer, 100 + n, b"other", &body_of(n as u32, 5000)).unwrap();
    }
    assert_eq!(&held[..], &body_of(7, 5000)[..], "as it was");
    drop(held);
    writer.reclaim();
    assert_eq!(writer.pinned_bytes(), 0, "free now");
}

#[test]
fn readers_that_hold_too_much_of_what_is_gone_stop_what_is_new() {
    let (arena, mut writer) = private();
    let mut held = Vec::new();
    let refused = (0..100).find_map(|n| {
        let number = match put(arena, &mut writer, n, b"h", &body_of(0, 30_000)) {
            Ok(number) => number,
            Err(why) => return Some(why),
        };
        held.extend(arena.find(n, 0).unwrap().body(0, 1));
        writer.kill(number);
        None
    });
    assert_eq!(refused, Some(Full::Pinned));
    assert!(writer.pinned_bytes() < arena.data_bytes() / 4, "{}", writer.pinned_bytes());
    held.clear();
    assert!(put(arena, &mut writer, 1000, b"h", b"b").is_ok(), "let go");
}

#[test]
fn a_draft_is_nobodys_until_it_is_committed_and_leaves_nothing_when_it_is_not() {
    let (arena, mut writer) = private();
    let all = writer.free_bytes();
    let draft = writer.take(3000, 10).unwrap();
    draft.write(0, &body_of(1, 3000));
    assert!(arena.find(7, 0).is_none());
    let read = draft.read(100, 50).unwrap();
    writer.discard(draft);
    assert_eq!(&read[..], &body_of(1, 3000)[100..150], "a follower still reads");
    drop(read);
    writer.reclaim();
    assert_eq!(writer.free_bytes(), all);
}

#[test]
fn a_draft_grows_and_gives_back_what_it_does_not_need() {
    let (arena, mut writer) = private();
    let all = writer.free_bytes();
    let mut draft = writer.take(100, 50).unwrap();
    let body = body_of(3, 100_000);
    let mut written = 0;
    while written < body.len() {
        let more = draft.write(4 + written, &body[written..]);
        written += more;
        if more == 0 {
            writer.grow(&mut draft, 9000).unwrap();
        }
    }
    draft.write(0, b"head");
    let capacity = draft.capacity();
    let number = writer.commit(draft, &object(arena, 7, b"head", &body));
    assert_eq!(get(arena, 7).unwrap().1, body);
    let list = data::LIST_UNITS as usize * UNIT;
    assert!(writer.size(number) < capacity && writer.size(number) < 100_004 + UNIT + list);
    assert_eq!(writer.size(number) + writer.free_bytes(), all);
    writer.kill(number);
    assert_eq!(writer.free_bytes(), all, "all of it, its list of runs too");
}

#[test]
fn objects_a_little_longer_than_a_block_leave_nothing_unused() {
    let (arena, _) = Arena::open(&Settings { records: 1024, ..SETTINGS }).unwrap();
    let mut writer = attach(arena).writer;
    // Each is 16 units and one.
    let body = body_of(1, 16 * UNIT);
    let full = (0..1024).find_map(|n| put(arena, &mut writer, n, b"head", &body).err());
    assert_eq!(full, Some(Full::Units));
    assert!(writer.free_bytes() < arena.data_bytes() / 100, "{} bytes are of no use", writer.free_bytes());
    assert_eq!(get(arena, 5).unwrap().1, body, "in two pieces");
}

#[test]
fn a_new_head_takes_the_place_of_the_old_one() {
    let (arena, mut writer) = private();
    let all = writer.free_bytes();
    let number = put(arena, &mut writer, 7, b"head", b"body").unwrap();
    let reader = arena.find(7, 0).unwrap();
    for n in 0..10 {
        writer.put_head(number, format!("another head, number {n}").as_bytes()).unwrap();
    }
    assert_eq!(&reader.head().unwrap()[..], b"another head, number 9");
    assert_eq!(whole(&reader), b"body");
    drop(reader);
    writer.kill(number);
    writer.reclaim();
    assert_eq!(writer.free_bytes(), all);
}

#[test]
fn another_opening_finds_what_is_there_at_once_and_can_take_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let old = open(&path);
    let mut writer = attach(old).writer;
    put(old, &mut writer, 7, b"head", &body_of(7, 5000)).unwrap();
    let new = open(&path);
    assert_eq!(get(new, 7).unwrap().1, body_of(7, 5000), "before any scan");
    assert!(new.try_lease().unwrap().is_none(), "one writer");
    let held = old.find(7, 0).unwrap();
    drop(writer);
    let Attached { mut writer, survivors, unsound: 0, unfinished: 0, .. } = attach(new) else { panic!() };
    assert_eq!(survivors.len(), 1);
    writer.kill(survivors[0].record);
    assert!(old.find(7, 0).is_none(), "seen by both");
    assert!(writer.pinned_bytes() > 0, "held by the other process");
    assert_eq!(whole(&held), body_of(7, 5000));
    drop(held);
    writer.reclaim();
    assert_eq!(writer.pinned_bytes(), 0);
}

#[test]
fn of_two_of_one_key_the_newer_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let arena = open(&path);
    let mut writer = attach(arena).writer;
    put(arena, &mut writer, 7, b"h", b"older").unwrap();
    put(arena, &mut writer, 7, b"h", b"newer").unwrap();
    drop(writer);
    let attached = attach(open(&path));
    assert_eq!(attached.survivors.len(), 1);
    assert_eq!(get(arena, 7).unwrap().1, b"newer");
}

#[test]
fn a_chain_that_is_broken_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let arena = open(&path);
    let mut writer = attach(arena).writer;
    for n in 0..50 {
        put(arena, &mut writer, n, b"h", &body_of(n as u32, 100)).unwrap();
    }
    drop(writer);
    // Every kind of nonsense: rings, other chains, no record at all.
    for (index, link) in arena.first.iter().enumerate() {
        link.store([3, 3, NONE, 60, 1 << 30][index % 5], SeqCst);
    }
    for (index, record) in arena.records.iter().enumerate() {
        record.next.store([3, index as u32, NONE, 1 << 30][index % 4], SeqCst);
    }
    let attached = attach(open(&path));
    assert_eq!((attached.survivors.len(), attached.unsound), (50, 0));
    for n in 0..50 {
        assert_eq!(get(arena, n).unwrap().1, body_of(n as u32, 100), "{n}");
    }
}

#[test]
fn a_body_that_changed_behind_our_back_is_never_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let arena = open(&path);
    let mut writer = attach(arena).writer;
    put(arena, &mut writer, 7, b"head", &body_of(7, 5000)).unwrap();
    let at = arena.piece_at(&arena.records[0], 2000).unwrap().at;
    arena.write(at, b"!");
    drop(writer);
    let next = open(&path);
    assert!(next.find(7, 0).is_none());
    assert_eq!(next.corrupt(), 1);
    let mut writer = attach(next).writer;
    assert_eq!(writer.free_bytes(), next.data_bytes());
    put(next, &mut writer, 7, b"head", b"anew").unwrap();
    assert_eq!(get(next, 7).unwrap().1, b"anew");
}

#[test]
fn a_file_for_other_settings_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    open(&path);
    let (_, how) = Arena::open(&Settings { place: Place::File(&path), records: 65, ..SETTINGS }).unwrap();
    assert!(matches!(how, How::MadeAnew { why: SetAside::OtherSettings, aside: None }), "{how:?}");
    let small = Arena::open(&Settings { bytes: 20_000, ..SETTINGS }).unwrap_err();
    assert!(small.to_string().starts_with("it must have at least 80."), "{small}");
}

#[test]
fn a_view_shows_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let arena = open(&path);
    let mut writer = attach(arena).writer;
    let number = put(arena, &mut writer, 7, b"head", &body_of(7, 5000)).unwrap();
    put(arena, &mut writer, 8, b"head", b"x").unwrap();
    let held = arena.find(7, 0).unwrap();
    let view = View::open(&path).unwrap().unwrap().unwrap();
    let seen = view.object(number).unwrap();
    assert_eq!((seen.primary, &seen.head[..], seen.body_bytes, seen.pins), (7, &b"head"[..], 5000, 1));
    assert_eq!(view.body(&seen).unwrap(), (body_of(7, 5000), true));
    let sums = view.sums();
    assert_eq!((sums.objects, sums.pinned), (2, 1));
    assert!(sums.free_stretches >= 1 && sums.longest_free_bytes <= writer.free_bytes());
    assert_eq!(sums.used_bytes, arena.data_bytes() - writer.free_bytes());
    assert!(view.writer().0, "somebody has the lease");
    assert_eq!(view.processes(), [view::Process { slot: 0, pid: std::process::id().into(), is_alive: true }]);
    drop(held);
    drop(writer);
    assert!(!view.writer().0, "nobody");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn it_is_a_map_that_forgets_what_it_is_told_to(
        steps in prop::collection::vec((0u8..6, 0u128..24, 0usize..60_000), 1..120),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let (mut arena, mut openings) = (open(&path), 1);
        let mut writer = Some(attach(arena).writer);
        let mut model: HashMap<u128, (u32, Vec<u8>, Vec<u8>)> = HashMap::new();
        for (what, key, size) in steps {
            let w = writer.as_mut().unwrap();
            match what {
                0..=2 => {
                    let (head, body) = (body_of(what.into(), 1 + size % 300), body_of(key as u32, size));
                    if let Ok(number) = put(arena, w, key, &head, &body) {
                        if let Some((old, ..)) = model.insert(key, (number, head, body)) {
                            w.kill(old);
                        }
                    } else if let Some((number, ..)) = model.remove(&key) {
                        w.kill(number);
                    }
                }
                3 => if let Some((number, ..)) = model.remove(&key) {
                    w.kill(number);
                },
                4 => if let Some((number, head, _)) = model.get_mut(&key) {
                    let new = body_of(9, 1 + size % 500);
                    if w.put_head(*number, &new).is_ok() {
                        *head = new;
                    }
                },
                _ if openings < SLOTS => {
                    openings += 1;
                    // Another process takes over.
                    drop(writer.take());
                    arena = open(&path);
                    let attached = attach(arena);
                    prop_assert_eq!((attached.unsound, attached.unfinished), (0, 0));
                    prop_assert_eq!(attached.survivors.len(), model.len());
                    writer = Some(attached.writer);
                }
                _ => {}
            }
            for key in 0..24 {
                let expected = model.get(&key).map(|(_, head, body)| (head.clone(), body.clone()));
                prop_assert_eq!(get(arena, key).map(|(head, body)| (head.to_vec(), body)), expected);
            }
            let w = writer.as_mut().unwrap();
            w.reclaim();
            let sizes: usize = model.values().map(|(number, ..)| w.size(*number)).sum();
            prop_assert_eq!(sizes + w.free_bytes(), arena.data_bytes(), "live and free units are all units");
        }
    }
}
