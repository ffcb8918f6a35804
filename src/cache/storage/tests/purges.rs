//! Purges of many, and of one URL: what they cost, what they reach, and that nothing purged is ever served as fresh.

use std::collections::HashMap;

use super::*;
use crate::cache::key::{KeyParts, MethodClass};
use crate::cache::purge::{MAX_BANS, Origin, Scope, Tag, UrlPrefix};
use crate::cache::storage::listing::{Cursor, Filter};
use crate::cache::terms::Terms;
use pingora_cache::MissHandler;
use proptest::prelude::*;

fn parts<'a>(route: &'a str, path: &'a str, headers: &'a [(&'a str, &'a [u8])]) -> KeyParts<'a> {
    KeyParts {
        route,
        policy: 1,
        method_class: MethodClass::Read,
        scheme: "https",
        host: "app.example",
        path,
        query: "",
        headers,
    }
}

pub(super) fn at(path: &str) -> CacheKey {
    parts("r", path, &[]).key()
}

pub(super) fn url(path: &str) -> UrlHash {
    UrlHash::of("https", "app.example", path, "")
}

pub(super) fn tagged(names: &[&str]) -> CacheMeta {
    let mut meta = meta(&[]);
    let tags = names.iter().map(|name| Box::from(*name)).collect();
    Terms { tags, ..Terms::default() }.stamp(&mut meta);
    meta
}

pub(super) fn tag(name: &str) -> Scope {
    Scope::Tag(Tag { name: name.into(), origin: None })
}

async fn freshness(store: &'static Store, key: &CacheKey) -> Option<bool> {
    let now = SystemTime::now() + Duration::from_millis(1);
    get(store, key).await.map(|(meta, _)| meta.is_fresh(now))
}

#[tokio::test]
async fn a_hundred_thousand_objects_are_purged_by_tag_without_touching_one() {
    const OBJECTS: usize = 100_000;
    let store = private(1 << 30, 1 << 20);
    let news = tagged(&["news", "all"]);
    for n in 0..OBJECTS {
        put(store, &at(&format!("/{n}")), &news, &[b"x"]).await.unwrap();
    }
    put(store, &at("/kept"), &tagged(&["all"]), &[b"x"]).await.unwrap();
    assert_eq!(store.count(&tag("news")), OBJECTS, "rehearsed");
    let before = store.stats();
    store.ban(&tag("news"), Mode::Hard);
    let after = store.stats();
    assert_eq!(after, StoreStats { bans: 1, ..before }, "nothing was looked at, nothing moved");
    for n in [0, 1, OBJECTS / 2, OBJECTS - 1] {
        assert!(get(store, &at(&format!("/{n}"))).await.is_none(), "{n} is gone at once");
    }
    assert_eq!(freshness(store, &at("/kept")).await, Some(true), "it has not that tag");
    assert_eq!(store.count(&tag("news")), 0, "what is gone is not counted");
    store.sweep_and_retire();
    let swept = store.stats();
    assert_eq!((swept.entries, swept.swept, swept.bans), (1, OBJECTS as u64, 0), "the sweep does the work");
    assert_eq!(swept.evictions_purge, OBJECTS as u64, "counted as purged");
}

#[tokio::test]
async fn a_soft_purge_makes_stale_and_keeps_the_windows() {
    let store = private(16 << 20, 2 << 20);
    put(store, &at("/a"), &tagged(&["x"]), &[b"1"]).await.unwrap();
    let fresh_until = get(store, &at("/a")).await.unwrap().0.fresh_until();
    store.ban(&tag("x"), Mode::Soft);
    let first = get(store, &at("/a")).await.unwrap().0;
    assert!(first.fresh_until() < fresh_until && !first.is_fresh(SystemTime::now()), "stale");
    assert_eq!((first.stale_while_revalidate_sec(), first.stale_if_error_sec()), (1, 2), "windows as before");
    store.ban(&tag("x"), Mode::Soft);
    assert_eq!(get(store, &at("/a")).await.unwrap().0.fresh_until(), first.fresh_until(), "said again");
    store.sweep_and_retire();
    let swept = get(store, &at("/a")).await.unwrap().0;
    assert_eq!(swept.fresh_until(), first.fresh_until(), "the sweep writes down the same");
    assert_eq!(store.stats().swept, 1, "once");
    put(store, &at("/a"), &tagged(&["x"]), &[b"2"]).await.unwrap();
    assert_eq!(freshness(store, &at("/a")).await, Some(true), "fetched after it");
}

#[tokio::test]
async fn a_purge_of_many_wins_over_what_is_being_fetched() {
    for registered in [true, false] {
        for mode in [Mode::Hard, Mode::Soft] {
            let store = private(16 << 20, 2 << 20);
            let mut stored = tagged(&["x"]);
            store.epoch().stamp(&mut stored);
            let writer = if registered {
                Some(store.get_miss_handler(&at("/a"), &stored, &span()).await.unwrap())
            } else {
                None
            };
            store.ban(&tag("x"), mode);
            assert!(get(store, &at("/a")).await.is_none(), "{mode:?}: nobody follows it");
            let writer = match writer {
                Some(writer) => writer,
                None => store.get_miss_handler(&at("/a"), &stored, &span()).await.unwrap(),
            };
            assert!(get(store, &at("/a")).await.is_none(), "{mode:?}: nobody follows it");
            writer.finish().await.unwrap();
            let expected = (mode == Mode::Soft).then_some(false);
            assert_eq!(freshness(store, &at("/a")).await, expected, "{mode:?} {registered}");
            store.sweep_and_retire();
            assert_eq!(freshness(store, &at("/a")).await, expected, "{mode:?} {registered}: after the sweep");
        }
    }
}

#[tokio::test]
async fn a_hard_purge_reaches_a_fill_that_a_soft_one_struck_before() {
    for by_url in [true, false] {
        let store = private(16 << 20, 2 << 20);
        let writer = store.get_miss_handler(&at("/a"), &tagged(&["x"]), &span()).await.unwrap();
        store.purge_url(url("/a"), Mode::Soft);
        if by_url {
            store.purge_url(url("/a"), Mode::Hard);
        } else {
            store.ban(&tag("x"), Mode::Hard);
            store.sweep_and_retire();
        }
        writer.finish().await.unwrap();
        assert!(get(store, &at("/a")).await.is_none(), "by its URL: {by_url}");
    }
}

#[tokio::test]
async fn a_fetch_that_outlasts_the_ban_is_not_taken_for_a_later_one() {
    let store = private(16 << 20, 2 << 20);
    let mut stored = tagged(&["x"]);
    store.epoch().stamp(&mut stored);
    let early = store.get_miss_handler(&at("/early"), &stored, &span()).await.unwrap();
    store.ban(&tag("x"), Mode::Hard);
    store.sweep_and_retire();
    early.finish().await.unwrap();
    assert!(get(store, &at("/early")).await.is_none(), "struck by the sweep");
    put(store, &at("/late"), &stored, &[b"old"]).await.unwrap();
    assert!(get(store, &at("/late")).await.is_none(), "nobody knows any more, so it is not kept");
}

#[tokio::test]
async fn what_was_fetched_after_a_soft_purge_is_not_replaced_by_what_was_fetched_before() {
    let store = private(16 << 20, 2 << 20);
    let mut stored = tagged(&["x"]);
    store.epoch().stamp(&mut stored);
    let mut old = store.get_miss_handler(&at("/a"), &stored, &span()).await.unwrap();
    old.write_body("old".into(), false).await.unwrap();
    store.ban(&tag("x"), Mode::Soft);
    put(store, &at("/a"), &tagged(&["x"]), &[b"new"]).await.unwrap();
    old.finish().await.unwrap();
    assert_eq!(body(store, &at("/a")).await.unwrap(), b"new");
    assert_eq!(freshness(store, &at("/a")).await, Some(true));
    assert_eq!(store.stats().rejected_purged, 1, "counted");
}

#[tokio::test]
async fn an_answer_from_before_a_purge_refreshes_nothing() {
    let store = private(16 << 20, 2 << 20);
    for way in ["url", "tag"] {
        let name = format!("/{way}");
        put(store, &at(&name), &tagged(&["x"]), &[b"x"]).await.unwrap();
        let (mut asked, _) = get(store, &at(&name)).await.unwrap();
        store.epoch().stamp(&mut asked);
        match way {
            "url" => assert_eq!(store.purge_url(url(&name), Mode::Soft), Some(1)),
            _ => store.ban(&tag("x"), Mode::Soft),
        }
        let (mut again, _) = get(store, &at(&name)).await.unwrap();
        asked.update_freshness(asked.created() + Duration::from_secs(600), 5, 6);
        assert!(!store.update_meta(&at(&name), &asked, &span()).await.unwrap(), "{way}: asked before");
        assert_eq!(freshness(store, &at(&name)).await, Some(false), "{way}");
        store.epoch().stamp(&mut again);
        again.update_freshness(again.created() + Duration::from_secs(600), 5, 6);
        assert!(store.update_meta(&at(&name), &again, &span()).await.unwrap(), "{way}: asked after");
        assert_eq!(freshness(store, &at(&name)).await, Some(true), "{way}");
    }
}

#[tokio::test]
async fn a_url_is_purged_with_all_its_variants_routes_and_key_headers() {
    for mode in [Mode::Hard, Mode::Soft] {
        let store = private(16 << 20, 2 << 20);
        let headers: [&[(&str, &[u8])]; 3] =
            [&[], &[("accept-language", b"de")], &[("accept-language", b"en")]];
        for headers in headers {
            put(store, &parts("r", "/a", headers).key(), &meta(&[]), &[b"x"]).await.unwrap();
        }
        let mut other = parts("s", "/a", &[]).key();
        put(store, &other, &meta(&[]), &[b"x"]).await.unwrap();
        other.set_variance_key([3; 16]);
        put(store, &other, &meta(&[]), &[b"x"]).await.unwrap();
        put(store, &at("/b"), &meta(&[]), &[b"x"]).await.unwrap();
        assert_eq!(store.of_url(url("/a"), SystemTime::now()).len(), 4, "four keys");
        assert_eq!(store.purge_url(url("/a"), mode), Some(5), "{mode:?}: every variant is counted");
        let left = (mode == Mode::Soft).then_some(false);
        for headers in headers {
            assert_eq!(
                freshness(store, &parts("r", "/a", headers).key()).await,
                left,
                "{mode:?} {headers:?}"
            );
        }
        assert_eq!(freshness(store, &other).await, left, "{mode:?}: of another route");
        assert_eq!(freshness(store, &at("/b")).await, Some(true), "{mode:?}: another URL");
        let again = if mode == Mode::Soft { 5 } else { 0 };
        assert_eq!(store.purge_url(url("/a"), mode), Some(again), "again");
    }
}

#[tokio::test]
async fn a_purge_of_a_url_reaches_fetches_that_the_store_does_not_know_yet() {
    for mode in [Mode::Hard, Mode::Soft] {
        let store = private(16 << 20, 2 << 20);
        let mut stored = meta(&[]);
        store.epoch().stamp(&mut stored);
        store.purge_url(url("/a"), mode);
        let key = parts("r", "/a", &[("x", b"1")]).key();
        put(store, &key, &stored, &[b"old"]).await.unwrap();
        assert_eq!(freshness(store, &key).await, (mode == Mode::Soft).then_some(false), "{mode:?}");
        put(store, &at("/b"), &stored, &[b"other"]).await.unwrap();
        assert_eq!(freshness(store, &at("/b")).await, Some(true), "{mode:?}: another URL is not concerned");
    }
}

#[tokio::test]
async fn a_full_table_is_swept_at_once_and_never_grows() {
    let store = private(16 << 20, 2 << 20);
    put(store, &at("/a"), &tagged(&["0"]), &[b"x"]).await.unwrap();
    for n in 0..=MAX_BANS {
        store.ban(&tag(&n.to_string()), Mode::Soft);
        assert!(store.stats().bans <= MAX_BANS, "{n}");
    }
    let stats = store.stats();
    assert_eq!((stats.bans, stats.sweeps_forced, stats.swept), (1, 1, 1), "{stats:?}");
    assert_eq!(freshness(store, &at("/a")).await, Some(false), "what was on the table holds");
}

#[tokio::test(start_paused = true)]
async fn bans_leave_the_table_by_themselves() {
    let store = private(16 << 20, 2 << 20);
    put(store, &at("/a"), &tagged(&["x"]), &[b"x"]).await.unwrap();
    let task = tokio::spawn(store.keep_swept());
    store.ban(&tag("x"), Mode::Hard);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if store.stats().entries == 0 {
            break;
        }
    }
    assert_eq!((store.stats().entries, store.stats().bans), (0, 1), "applied, and kept for late fetches");
    task.abort();
}

#[tokio::test]
async fn a_list_comes_in_pages_and_tells_no_values() {
    let store = private(16 << 20, 2 << 20);
    for n in 0..500 {
        let path = format!("/api/{n}");
        let key = parts("r", &path, &[("(identity)", b"who"), ("accept-language", b"de-secret")]).key();
        put(store, &key, &tagged(&["x"]), &[b"body"]).await.unwrap();
    }
    put(store, &at("/other"), &meta(&[("vary", "Accept, cookie")]), &[b"x"]).await.unwrap();
    let under = UrlPrefix {
        origin: Origin { scheme: "https".into(), host: "app.example".into() },
        path: "/api".into(),
    };
    let filter = Filter { scopes: vec![Scope::Prefix(under), Scope::Route("r".into())] };
    let (mut urls, mut after) = (std::collections::BTreeSet::new(), None);
    loop {
        let page = store.page(&filter, after, 64, SystemTime::now());
        assert!(page.entries.len() <= 64, "bounded");
        for listed in page.entries {
            let told = format!("{listed:?}");
            assert!(!told.contains("de-secret") && !told.contains("who"), "no values: {told}");
            let one = &listed.variants[0];
            assert_eq!((one.status, one.body_bytes, one.tags.as_slice()), (200, 4, &["x".to_owned()][..]));
            assert!(urls.insert(listed.url), "each once");
        }
        let Some(next) = page.next else { break };
        after = Cursor::parse(&next.to_string());
        assert_eq!(after, Some(next), "a cursor can be written down");
    }
    assert_eq!(urls.len(), 500, "all, and the other one is not among them");
    let other = store.of_url(url("/other"), SystemTime::now());
    assert_eq!(other[0].variants[0].vary, ["accept", "cookie"], "names only");
    assert_eq!(Cursor::parse("+0000000000000000000000000000000"), None, "no cursor");
}

#[derive(Debug, Clone)]
enum Step {
    /// Begins a fetch of a key.
    Fetch(u8),
    /// Ends the oldest fetch, as told the store or only now.
    Store,
    Register,
    Url(u8, Mode),
    Ban(u8, Mode),
    Sweep,
    Retire,
}

fn step() -> impl Strategy<Value = Step> {
    let mode = || prop_oneof![Just(Mode::Soft), Just(Mode::Hard)];
    prop_oneof![
        4 => (0u8..24).prop_map(Step::Fetch),
        4 => Just(Step::Store),
        2 => Just(Step::Register),
        1 => (0u8..24, mode()).prop_map(|(n, mode)| Step::Url(n, mode)),
        2 => (0u8..8, mode()).prop_map(|(n, mode)| Step::Ban(n, mode)),
        1 => Just(Step::Sweep),
        1 => Just(Step::Retire),
    ]
}

fn path_of(n: u8) -> String {
    format!("/{}/{n}", n % 3)
}

/// Scope 0 to 7, and whether it names key `n`.
fn scope_of(scope: u8) -> (Scope, fn(u8, u8) -> bool) {
    let origin = Origin { scheme: "https".into(), host: "app.example".into() };
    match scope {
        0 => (Scope::All, |_, _| true),
        1 => (Scope::Route("r".into()), |_, _| true),
        2 => (Scope::Route("s".into()), |_, _| false),
        3 | 4 => {
            let path = format!("/{}", scope - 3).into();
            (Scope::Prefix(UrlPrefix { origin, path }), |scope, n| n % 3 == scope - 3)
        }
        _ => (tag(&scope.to_string()), |scope, n| n % 8 == scope),
    }
}

struct Fetch {
    key: u8,
    version: u8,
    writer: Option<MissHandler>,
    meta: CacheMeta,
}

/// What of each key was purged: the last version that may no longer be served, and the last that may no longer be served as fresh.
#[derive(Default, Clone, Copy)]
struct Purged {
    gone: Option<u8>,
    stale: Option<u8>,
}

async fn end(store: &'static Store, fetch: Fetch) {
    let writer = match fetch.writer {
        Some(writer) => Ok(writer),
        None => store.get_miss_handler(&at(&path_of(fetch.key)), &fetch.meta, &span()).await,
    };
    let mut writer = writer.unwrap();
    writer.write_body(vec![fetch.version].into(), true).await.unwrap();
    writer.finish().await.unwrap();
}

async fn agree(steps: Vec<Step>) {
    let store = private(16 << 20, 2 << 20);
    let mut fetches: Vec<Fetch> = Vec::new();
    let mut purged: HashMap<u8, Purged> = HashMap::new();
    let mut version = 0u8;
    for (round, step) in steps.into_iter().enumerate() {
        match step {
            Step::Fetch(key) => {
                let mut meta = tagged(&[&(key % 8).to_string()]);
                store.epoch().stamp(&mut meta);
                version += 1;
                fetches.push(Fetch { key, version, writer: None, meta });
            }
            Step::Register => {
                if let Some(fetch) = fetches.iter_mut().find(|fetch| fetch.writer.is_none()) {
                    let writer = store.get_miss_handler(&at(&path_of(fetch.key)), &fetch.meta, &span()).await;
                    fetch.writer = writer.ok();
                }
            }
            Step::Store if !fetches.is_empty() => end(store, fetches.remove(0)).await,
            Step::Store => {}
            Step::Url(key, mode) => {
                store.purge_url(url(&path_of(key)), mode);
                note(&mut purged, key, mode, version);
            }
            Step::Ban(which, mode) => {
                let (scope, names) = scope_of(which);
                store.ban(&scope, mode);
                (0..24)
                    .filter(|key| names(which, *key))
                    .for_each(|key| note(&mut purged, key, mode, version));
            }
            Step::Sweep => drop(store.sweep()),
            Step::Retire => store.sweep_and_retire(),
        }
        for key in 0..24u8 {
            let Some((meta, mut hit)) = get(store, &at(&path_of(key))).await else { continue };
            if fetches.iter().any(|fetch| fetch.key == key && fetch.writer.is_some()) {
                // It may be a fill, whose end is not there to read.
                continue;
            }
            let served = read(&mut hit).await.unwrap()[0];
            let Purged { gone, stale } = purged.get(&key).copied().unwrap_or_default();
            assert!(
                gone.is_none_or(|gone| served > gone),
                "round {round}: {key}: version {served} was purged"
            );
            let is_fresh = meta.is_fresh(SystemTime::now() + Duration::from_millis(1));
            let may_be = stale.is_none_or(|stale| served > stale);
            assert!(!is_fresh || may_be, "round {round}: {key}: version {served} is stale");
        }
        let stats = store.stats();
        assert!(stats.used_bytes <= stats.capacity_bytes && stats.bans <= MAX_BANS, "{stats:?}");
    }
}

fn note(purged: &mut HashMap<u8, Purged>, key: u8, mode: Mode, version: u8) {
    let purged = purged.entry(key).or_default();
    match mode {
        Mode::Hard => purged.gone = Some(version),
        Mode::Soft => purged.stale = Some(version),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_was_purged_is_ever_served_as_fresh(steps in prop::collection::vec(step(), 1..120)) {
        super::model::block_on(agree(steps));
    }
}
