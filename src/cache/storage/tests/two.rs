//! Purges where two processes have one store: the old one and the new one of an upgrade.

use super::purges::{at, tag, tagged, url};
use super::*;
use crate::cache::purge::{MAX_BANS, Mode};

/// A store on a file, opened twice; the first opening stores.
struct Two {
    _folder: tempfile::TempDir,
    old: &'static Store,
    new: &'static Store,
}

fn two() -> Two {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache");
    let settings = Settings { file: Some(&file), ..Settings::private(16 << 20, 1 << 20) };
    let [old, new] = [(); 2].map(|()| Store::open(&settings).unwrap().0);
    old.try_take().unwrap().unwrap();
    Two { _folder: folder, old, new }
}

impl Two {
    async fn are_there(&self, path: &str) -> (bool, bool) {
        (get(self.old, &at(path)).await.is_some(), get(self.new, &at(path)).await.is_some())
    }

    /// The lease goes from the old process to the new one.
    fn hand_over(&self) {
        self.old.release();
        self.new.try_take().unwrap().expect("nobody has it");
    }
}

#[tokio::test]
async fn who_does_not_store_takes_no_ban_off_the_table() {
    let two = two();
    put(two.old, &at("/a"), &tagged(&["x"]), &[b"x"]).await.unwrap();
    assert_eq!(two.are_there("/a").await, (true, true));
    two.new.ban(&tag("x"), Mode::Hard);
    two.new.sweep_and_retire();
    assert_eq!(two.are_there("/a").await, (false, false), "nobody has applied it");
    two.old.sweep_and_retire();
    assert_eq!((two.old.stats().bans, two.old.stats().entries), (0, 0), "who stores has");
    assert_eq!(two.are_there("/a").await, (false, false));
}

#[tokio::test]
async fn a_table_that_who_does_not_store_fills_loses_no_ban() {
    let two = two();
    put(two.old, &at("/a"), &tagged(&["0"]), &[b"x"]).await.unwrap();
    for n in 0..=MAX_BANS {
        two.new.ban(&tag(&n.to_string()), Mode::Hard);
    }
    assert_eq!(two.new.stats().bans, 1, "one of everything");
    assert_eq!(two.are_there("/a").await, (false, false));
}

#[tokio::test(start_paused = true)]
async fn a_ban_of_one_process_is_swept_by_the_other() {
    let two = two();
    put(two.old, &at("/a"), &tagged(&["x"]), &[b"x"]).await.unwrap();
    let tasks = [two.old, two.new].map(|store| tokio::spawn(store.keep_swept()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    two.new.ban(&tag("x"), Mode::Hard);
    assert_eq!(two.are_there("/a").await, (false, false), "seen by a look-up");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((two.old.stats().entries, two.old.stats().swept), (0, 1));
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_ban_that_the_old_process_did_not_apply_is_applied_by_the_new_one() {
    let two = two();
    put(two.old, &at("/a"), &tagged(&["x"]), &[b"x"]).await.unwrap();
    let task = tokio::spawn(two.new.keep_swept());
    two.new.ban(&tag("x"), Mode::Hard);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(two.new.stats().bans, 1, "it stays for who stores");
    two.hand_over();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((two.new.stats().entries, two.new.stats().swept), (0, 1), "without another purge");
    task.abort();
}

#[tokio::test]
async fn what_was_asked_for_before_a_purge_by_the_old_process_is_not_stored_by_the_new_one() {
    let two = two();
    let ask = || {
        let mut meta = tagged(&[]);
        two.new.epoch().stamp(&mut meta);
        meta
    };
    let before = ask();
    two.old.purge_url(url("/a"), Mode::Hard);
    let after = ask();
    assert_eq!(two.old.stats().bans, 0, "it had no need of a ban");
    two.hand_over();
    put(two.new, &at("/a"), &before, &[b"old"]).await.unwrap();
    assert_eq!(two.are_there("/a").await, (false, false), "asked before the purge");
    put(two.new, &at("/a"), &after, &[b"new"]).await.unwrap();
    assert_eq!(two.are_there("/a").await, (true, true), "asked after it, and before the lease came");
}
