use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::cache::key::{KeyParts, MethodClass, UrlHash};
use crate::cache::purge::tag_list::{TagList, TagNames};
use crate::cache::purge::{Origin, Tag, UrlPrefix};
use crate::shm::{HEADER_BYTES, Lock, Place as File, Region, Spec};

/// A file with a table that several processes have open, each with its own mapping and its own lock.
struct Shared {
    folder: tempfile::TempDir,
    bytes: usize,
}

impl Shared {
    fn new(capacity_bytes: usize) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), bytes: Table::bytes_for(capacity_bytes) }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("table")
    }

    fn area(region: &'static Region) -> &'static [AtomicU64] {
        region.words(HEADER_BYTES, (region.bytes() - HEADER_BYTES) / 8)
    }

    fn region(&self) -> &'static Region {
        let path: &Path = &self.path();
        let bytes = HEADER_BYTES + self.bytes;
        let spec = Spec { place: File::File(path), bytes, magic: *b"TABLES\0\0", layout: 1, seeds: None };
        Region::open(&spec).unwrap().region
    }

    /// One more process.
    fn table(&self) -> Table {
        let region = self.region();
        Table::new(Self::area(region), Box::new(|| region.lock(Lock(1))))
    }

    fn words(&self) -> &'static [AtomicU64] {
        Self::area(self.region())
    }
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

fn key(route: &str, path: &str) -> Vec<u8> {
    let parts = KeyParts {
        route,
        policy: 1,
        method_class: MethodClass::Read,
        scheme: "https",
        host: "app.example",
        path,
        query: "",
        headers: &[],
    };
    parts.key().primary_key().to_vec()
}

fn tag(name: &str) -> Scope {
    Scope::Tag(Tag { name: name.into(), origin: None })
}

fn prefix(path: &str) -> Scope {
    let origin = Origin { scheme: "https".into(), host: "app.example".into() };
    Scope::Prefix(UrlPrefix { origin, path: path.into() })
}

fn scopes() -> [Scope; 7] {
    let url = UrlHash::of("https", "app.example", "/a", "");
    [Scope::All, Scope::Route("r".into()), tag("x"), tag("y"), prefix("/a"), prefix("/b"), Scope::Url(url)]
}

/// What a store may hold: keys and tags.
struct Stored(Vec<(Vec<u8>, TagNames, UrlHash)>);

impl Stored {
    fn new() -> Self {
        let of = |route, path, tags: &[&str]| {
            (key(route, path), tags.iter().collect(), UrlHash::of("https", "app.example", path, ""))
        };
        let (a, b) = (of("r", "/a", &["x"]), of("r", "/b", &[]));
        let (c, d, e) = (of("s", "/a", &["y", "x"]), of("s", "/b/c", &["y"]), of("s", "/d", &[]));
        Self(vec![a, b, c, d, e])
    }

    /// What becomes of each, for each time at which its fetch may have begun.
    fn effects(&self, epoch: u64, effect: impl Fn(&Object<'_>) -> Effect) -> Vec<Effect> {
        let all = |began| {
            self.0.iter().map(move |(key, tags, url)| Object { key, tags: tags.list(), began, url: *url })
        };
        (0..=epoch + 1).flat_map(all).map(|object| effect(&object)).collect()
    }
}

fn severity(effect: &Effect) -> u64 {
    match effect {
        Effect::Spared => 0,
        Effect::StaleFrom(at) => u64::MAX - at.duration_since(UNIX_EPOCH).unwrap().as_secs(),
        Effect::Gone => u64::MAX,
    }
}

fn on_table(table: &Table) -> Bans {
    table.bans().map(|asked| Bans::clone(asked.bans().expect("it can be read"))).unwrap_or_default()
}

#[derive(Debug, Clone)]
enum Step {
    Add { scope: usize, mode: Mode },
    Retire { swept: u64, before: u64 },
    Count,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let mode = any::<bool>().prop_map(|is_hard| if is_hard { Mode::Hard } else { Mode::Soft });
    let step = prop_oneof![
        4 => (0..7_usize, mode).prop_map(|(scope, mode)| Step::Add { scope, mode }),
        2 => (0..12_u64, 0..12_u64).prop_map(|(swept, before)| Step::Retire { swept, before }),
        1 => Just(Step::Count),
    ];
    (0..2_usize, step)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn two_processes_see_what_one_table_on_the_heap_would_hold(steps in proptest::collection::vec(step(), 1..16)) {
        let shared = Shared::new(0);
        let processes = [shared.table(), shared.table()];
        let (stored, scopes) = (Stored::new(), scopes());
        let (mut model, mut epoch, mut retired) = (Bans::default(), 0, 0);
        for (now, (process, step)) in (1..).zip(steps) {
            let table = &processes[process];
            match step {
                Step::Add { scope, mode } => {
                    epoch += 1;
                    model.add(&scopes[scope], Ban { mode, epoch, at: at(now) });
                    let added = table.add(&scopes[scope], mode, at(now)).unwrap();
                    prop_assert_eq!(added, Added { epoch, bans: model.len() });
                }
                Step::Retire { swept, before } => {
                    let off = model.iter().filter(|ban| ban.epoch <= swept && ban.at <= at(before));
                    retired = off.map(|ban| ban.epoch).fold(retired, u64::max);
                    model.retire(swept, at(before));
                    table.retire(swept, at(before));
                }
                Step::Count => {
                    epoch += 1;
                    prop_assert_eq!(table.next_epoch(), epoch);
                }
            }
            let new = |object: &Object<'_>| if object.began < retired { Effect::Gone } else { model.effect(object) };
            for seen in processes.iter().chain([&shared.table()]) {
                prop_assert_eq!(&on_table(seen), &model);
                prop_assert_eq!((seen.len(), seen.epoch()), (model.len(), epoch));
                let effects = stored.effects(epoch, |object| seen.effect(object));
                prop_assert_eq!(effects, stored.effects(epoch, |object| model.effect(object)));
                let effects = stored.effects(epoch, |object| seen.effect_on_new(object));
                prop_assert_eq!(effects, stored.effects(epoch, new), "to come in");
                prop_assert_eq!(seen.times_lost(), 0);
            }
        }
    }
}

#[test]
fn who_dies_while_it_writes_leaves_the_old_table_or_the_new_one() {
    let shared = Shared::new(0);
    let (dying, other) = (shared.table(), shared.table());
    for (now, scope) in (1..).zip(scopes()) {
        dying.add(&scope, Mode::Soft, at(now)).unwrap();
    }
    let mut is_through = false;
    for steps in 0.. {
        let old = on_table(&other);
        let mut new = old.clone();
        new.add(&tag("z"), Ban { mode: Mode::Hard, epoch: dying.next_epoch(), at: at(9) });
        let contents = Contents { epoch: dying.known.load(Relaxed), retired: 1, bytes: new.to_bytes() };
        let number = unseal(dying.place.word()).unwrap() + 1;
        is_through = dying.place.write_until(number, &contents, steps);
        let expected = if is_through { &new } else { &old };
        assert_eq!(&on_table(&other), expected, "dead after {steps} words");
        assert_eq!(&on_table(&shared.table()), expected, "who comes later sees the same");
        // Of another length than the last, so that what is left behind never fits.
        let (scope, mut next) = (prefix(&"/x".repeat(steps % 5 + 1)), expected.clone());
        let added = other.add(&scope, Mode::Hard, at(9)).unwrap();
        next.add(&scope, Ban { mode: Mode::Hard, epoch: added.epoch, at: at(9) });
        assert_eq!(on_table(&shared.table()), next, "and whoever purges next goes on from there");
        assert_eq!((other.times_lost(), shared.table().times_lost()), (0, 0), "nothing was torn");
        if is_through {
            break;
        }
    }
    assert!(is_through, "in the end it was written");
}

#[test]
fn no_word_that_is_spoilt_takes_a_ban_away() {
    let shared = Shared::new(0);
    let before = shared.table();
    for (now, scope) in (1..).zip(scopes().into_iter().skip(1)) {
        before.add(&scope, if now % 2 == 0 { Mode::Soft } else { Mode::Hard }, at(now)).unwrap();
    }
    before.retire(1, at(1));
    let (stored, epoch) = (Stored::new(), before.epoch());
    let rightful = stored.effects(epoch, |object| before.effect_on_new(object));
    let area = shared.words();
    let written: Vec<u64> = area.iter().map(|word| word.load(SeqCst)).collect();
    let neighbour = |index: usize| written.get(index + 1).copied().unwrap_or_default();
    let (mut lost, mut unharmed) = (0, 0);
    for (index, word) in area.iter().enumerate() {
        let right = written[index];
        let bits = (0..64).filter(|_| right != 0).map(|bit| right ^ (1 << bit));
        for wrong in bits.chain([0, 1, u64::MAX, right.wrapping_add(1), neighbour(index)]) {
            word.store(wrong, SeqCst);
            let after = shared.table();
            for table in [&before, &after] {
                let effects = stored.effects(epoch, |object| table.effect_on_new(object));
                let all = effects.iter().zip(&rightful);
                let is_severe = |(now, then)| severity(now) >= severity(then);
                assert!(all.clone().all(is_severe), "word {index}: {right:#x} became {wrong:#x}");
            }
            if after.times_lost() > 0 {
                lost += 1
            } else {
                unharmed += 1
            }
            assert!(after.epoch() == epoch || after.epoch() > 1 << 40, "word {index}: a later epoch");
            let added = after.add(&Scope::All, Mode::Hard, at(20)).unwrap();
            assert!(added.epoch > epoch, "word {index}: what comes now counts for all that was");
            let seen = stored.effects(epoch, |object| before.effect(object));
            let were = seen.iter().take(seen.len() - stored.0.len());
            assert!(
                were.into_iter().all(|effect| *effect == Effect::Gone),
                "word {index}: seen by who had it open"
            );
            for (word, value) in area.iter().zip(&written) {
                word.store(*value, SeqCst);
            }
        }
    }
    assert!(
        lost > 1000 && unharmed > 1000,
        "{lost} and {unharmed}: words that matter, and words that do not"
    );
}

/// What has no key and no tags: struck by bans of everything only.
fn object(began: u64) -> Object<'static> {
    Object { key: &[], tags: TagList::default(), began, url: UrlHash(0) }
}

#[test]
fn a_table_that_cannot_be_read_strikes_everything_until_it_is_mended() {
    let shared = Shared::new(0);
    let (table, other) = (shared.table(), shared.table());
    table.add(&tag("x"), Mode::Soft, at(1)).unwrap();
    shared.words()[0].fetch_xor(1, SeqCst);
    let stored = Stored::new();
    for _ in 0..3 {
        assert!(
            stored.effects(3, |object| table.effect(object)).iter().all(|effect| *effect == Effect::Gone)
        );
        assert!(stored.effects(3, |object| table.effect_on_new(object)).iter().all(|it| *it == Effect::Gone));
    }
    assert_eq!((table.times_lost(), table.len()), (1, 0), "said once, and nothing to retire");
    table.retire(u64::MAX, SystemTime::now());
    assert!(
        table.is_broken() && table.bans().is_some_and(|asked| asked.bans().is_none()),
        "as bad as before"
    );
    let old = object(table.epoch());
    assert!(table.mend(at(5)) && table.mend(at(6)) && other.mend(at(7)));
    assert_eq!((table.len(), other.len()), (1, 1), "one ban, of everything");
    let new = object(other.epoch());
    assert_eq!(
        (other.effect(&old), other.effect(&new)),
        (Effect::Gone, Effect::Spared),
        "what comes now is stored"
    );
    table.retire(new.began, at(5));
    assert!(other.bans().is_none(), "swept");
    assert_eq!((other.effect_on_new(&old), other.effect_on_new(&new)), (Effect::Gone, Effect::Spared));
}

#[test]
fn a_table_that_begins_anew_lets_nothing_in_from_before() {
    let shared = Shared::new(0);
    let table = shared.table();
    table.add(&tag("x"), Mode::Soft, at(1)).unwrap();
    table.begin_anew();
    assert_eq!(table.len(), 1, "not while it can be read");
    shared.words()[0].store(0, SeqCst);
    let old = object(table.epoch());
    table.begin_anew();
    assert!(table.bans().is_none() && shared.table().bans().is_none(), "no ban is left");
    let new = object(table.epoch());
    assert_eq!((table.effect_on_new(&old), table.effect_on_new(&new)), (Effect::Gone, Effect::Spared));
}

#[test]
fn one_ban_of_everything_takes_the_place_of_all_and_is_as_hard_as_they_were() {
    for (first, asked, expected) in [
        (Mode::Soft, Mode::Soft, Effect::StaleFrom(at(2))),
        (Mode::Hard, Mode::Soft, Effect::Gone),
        (Mode::Soft, Mode::Hard, Effect::Gone),
    ] {
        let shared = Shared::new(0);
        let (table, other) = (shared.table(), shared.table());
        table.add(&tag("x"), first, at(1)).unwrap();
        table.clear_for(asked, at(2));
        assert_eq!((other.len(), other.effect(&object(0))), (1, expected), "{first:?}, {asked:?}");
    }
}

#[test]
fn a_full_table_refuses_and_changes_nothing_and_everything_always_has_room() {
    let shared = Shared::new(11 * 1024 * 1024);
    let (table, other) = (shared.table(), shared.table());
    for n in 0..MAX_BANS {
        table.add(&tag(&n.to_string()), Mode::Soft, at(1)).unwrap();
    }
    let full = on_table(&other);
    assert!(matches!(table.add(&tag("one more"), Mode::Hard, at(2)), Err(Refused::Full)), "by their number");
    assert_eq!(on_table(&other), full);
    let everything = other.add(&Scope::All, Mode::Hard, at(3)).unwrap();
    assert_eq!((everything.bans, table.len()), (1, 1));

    let small = Shared::new(0).table();
    let long = "x".repeat(1000);
    let count =
        (0..).take_while(|n| small.add(&prefix(&format!("/{n}{long}")), Mode::Hard, at(1)).is_ok()).count();
    assert_eq!(count, 3, "by their bytes");
    assert!(matches!(small.add(&prefix(&format!("/{long}")), Mode::Hard, at(1)), Err(Refused::Full)));
    small.retire(small.epoch(), at(1));
    assert!(small.add(&prefix(&format!("/{long}")), Mode::Hard, at(1)).is_ok(), "after a sweep");
}

#[test]
fn a_name_that_fits_no_table_is_refused_for_good() {
    let table = Shared::new(0).table();
    let most = table.place.room();
    let refused = table.add(&Scope::Route("x".repeat(most).into()), Mode::Hard, at(1)).unwrap_err();
    let text = format!("the name is too long for the table of purges, which has {most} bytes for it");
    assert_eq!(refused.to_string(), text);
    assert!(table.bans().is_none());
}

#[test]
fn without_the_lock_nothing_is_written_and_nothing_served() {
    let shared = Shared::new(0);
    let other = shared.table();
    let no_lock = || Err(io::Error::other("no locks here"));
    let table = Table::new(shared.words(), Box::new(no_lock));
    let refused = table.add(&tag("x"), Mode::Hard, at(1)).unwrap_err();
    assert_eq!(refused.to_string(), "the table of purges cannot be locked: no locks here");
    assert!(other.bans().is_none());
    other.add(&tag("x"), Mode::Hard, at(1)).unwrap();
    table.retire(1, at(1));
    assert_eq!((table.len(), other.len()), (1, 1), "it stays");
    table.clear_for(Mode::Hard, at(1));
    assert_eq!(
        (table.effect(&object(9)), other.effect(&object(9))),
        (Effect::Gone, Effect::Spared),
        "at least here"
    );
    assert!(!table.mend(at(1)), "still no lock");
    other.add(&tag("y"), Mode::Hard, at(1)).unwrap();
    assert_eq!((table.len(), table.effect(&object(9))), (2, Effect::Spared), "until somebody writes");
}

#[test]
fn who_cannot_lock_a_blank_place_has_no_table() {
    let shared = Shared::new(0);
    let table = Table::new(shared.words(), Box::new(|| Err(io::Error::other("no locks here"))));
    assert!(table.is_broken());
    assert!(shared.table().bans().is_none() && !table.is_broken(), "until another makes one");
}

#[test]
fn purges_of_two_processes_at_once_all_come_onto_the_table() {
    let shared = Shared::new(256 * 1024 * 1024);
    let tables = [shared.table(), shared.table()];
    let mut epochs: Vec<u64> = std::thread::scope(|scope| {
        let purge = |(process, thread): (usize, usize)| {
            let table = &tables[process];
            move || {
                let name = |n| tag(&format!("{process} {thread} {n}"));
                (0..60).map(|n| table.add(&name(n), Mode::Hard, at(1)).unwrap().epoch).collect::<Vec<_>>()
            }
        };
        let threads = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|who| scope.spawn(purge(who)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=240).collect::<Vec<u64>>(), "each its own number");
    assert_eq!((tables[0].len(), tables[1].len(), shared.table().len()), (240, 240, 240), "none is lost");
}

#[test]
fn a_purge_that_has_returned_is_seen_by_every_lookup_and_no_table_is_torn() {
    const PURGES: u64 = 2000;
    let shared = Shared::new(256 * 1024 * 1024);
    let (purger, reader) = (shared.table(), shared.table());
    let (said, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let looks = std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut looks = 0_u64;
            while !is_over.load(SeqCst) {
                let n = said.load(SeqCst);
                let tags: TagNames = [n.to_string()].iter().collect();
                let old = Object { tags: tags.list(), ..object(0) };
                // Retired or not, what began before it does not come in.
                assert!(n == 0 || reader.effect_on_new(&old) == Effect::Gone, "ban {n}");
                looks += 1;
            }
            looks
        });
        for n in 1..=PURGES {
            let added = purger.add(&tag(&n.to_string()), Mode::Hard, at(n)).unwrap();
            said.store(n, SeqCst);
            if added.bans > 200 {
                purger.retire(added.epoch, at(n - 1));
            }
        }
        is_over.store(true, SeqCst);
        looks.join().unwrap()
    });
    assert!(looks > 0);
    assert_eq!((reader.times_lost(), purger.times_lost()), (0, 0), "{looks} looks");
}

#[tokio::test]
async fn who_sweeps_is_woken_by_the_purge_of_another_process() {
    let shared = Shared::new(0);
    let (purger, sweeper) = (shared.table(), shared.table());
    purger.add(&tag("x"), Mode::Hard, at(1)).unwrap();
    assert!(sweeper.bans().is_some(), "a lookup sees it");
    let is_woken = tokio::select! {
        biased;
        () = sweeper.asked().notified() => true,
        () = std::future::ready(()) => false,
    };
    assert!(is_woken);
}
