//! The promises of the store, one test each.

mod model;
mod purges;
mod two;

use std::time::Duration;

use super::*;
use bytes::Bytes;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_cache::key::HashBinary;
use pingora_cache::trace::{Span, SpanHandle};
use pingora_cache::{HitHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage};

/// A store with about so much room for objects, in memory of its own.
fn private(room_bytes: usize, max_object_bytes: usize) -> &'static Store {
    let max_objects = default_objects(room_bytes).max(512);
    let tables = 16_384 + Table::bytes_for(room_bytes) + max_objects.next_power_of_two() as usize * 4;
    let capacity_bytes = room_bytes.max(1 << 16) + tables + max_objects as usize * 128;
    let settings =
        Settings { capacity_bytes, max_objects, ..Settings::private(capacity_bytes, max_object_bytes) };
    let (store, _) = Store::open(&settings).unwrap();
    store.try_take().unwrap().unwrap();
    store
}

fn span() -> SpanHandle {
    Span::inactive().handle()
}

fn key(name: &str) -> CacheKey {
    CacheKey::new(name, "")
}

fn variant(name: &str, variance: HashBinary) -> CacheKey {
    let mut key = key(name);
    key.set_variance_key(variance);
    key
}

fn meta(fields: &[(&'static str, &str)]) -> CacheMeta {
    let mut head = ResponseHeader::build(200, None).unwrap();
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    let now = SystemTime::now();
    CacheMeta::new(now + Duration::from_secs(60), now, 1, 2, head)
}

async fn put(store: &'static Store, key: &CacheKey, meta: &CacheMeta, chunks: &[&[u8]]) -> Result<()> {
    let mut writer = store.get_miss_handler(key, meta, &span()).await?;
    for chunk in chunks {
        writer.write_body(Bytes::copy_from_slice(chunk), false).await?;
    }
    writer.finish().await.map(|_| ())
}

async fn get(store: &'static Store, key: &CacheKey) -> Option<(CacheMeta, HitHandler)> {
    store.lookup(key, &span()).await.unwrap()
}

async fn read(hit: &mut HitHandler) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = hit.read_body().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

async fn body(store: &'static Store, key: &CacheKey) -> Option<Vec<u8>> {
    let (_, mut hit) = get(store, key).await?;
    read(&mut hit).await.ok()
}

async fn purge(store: &'static Store, key: &CacheKey) -> PurgeOutcome {
    let compact = key.to_compact();
    store.purge(PurgeTarget::Active(&compact), PurgeType::Invalidation, &span()).await.unwrap()
}

#[tokio::test]
async fn what_was_stored_comes_back_with_its_meta() {
    let store = private(16 << 20, 4 << 20);
    let mut stored = meta(&[("Content-Type", "text/plain"), ("x-a", "1"), ("X-A", "2")]);
    stored.set_variance([9; 16]);
    stored.set_epoch_override(stored.created() - Duration::from_secs(30));
    put(store, &key("a"), &stored, &[b"hel", b"lo"]).await.unwrap();
    let (found, mut hit) = get(store, &key("a")).await.unwrap();
    assert_eq!(read(&mut hit).await.unwrap(), b"hello", "body");
    assert_eq!(found.fresh_until(), stored.fresh_until(), "freshness");
    assert_eq!((found.created(), found.epoch()), (stored.created(), stored.epoch()), "clock");
    assert_eq!((found.stale_while_revalidate_sec(), found.stale_if_error_sec()), (1, 2), "windows");
    assert_eq!(found.variance(), Some([9; 16]), "variance");
    assert_eq!(found.headers().get_all("x-a").iter().count(), 2, "both lines");
    assert_eq!(found.headers().get("content-length").unwrap(), "5", "the length is known by now");
    assert!(!found.response_header().has_case(), "no map of letter case");
    assert!(get(store, &key("b")).await.is_none(), "another key");
}

#[tokio::test]
async fn a_hit_seeks_to_ranges_without_copies() {
    let store = private(16 << 20, 4 << 20);
    let chunks: Vec<Vec<u8>> = (0..4).map(|i| vec![i; 50_000]).collect();
    let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    put(store, &key("a"), &meta(&[]), &slices).await.unwrap();
    let whole = chunks.concat();
    let (_, mut hit) = get(store, &key("a")).await.unwrap();
    assert!(hit.can_seek() && hit.can_seek_multipart(), "complete");
    for (start, end) in
        [(0, Some(1)), (49_999, Some(150_001)), (199_999, None), (100_000, Some(1 << 40)), (7, Some(7))]
    {
        hit.seek(start, end).unwrap();
        let expected = &whole[start..end.unwrap_or(whole.len()).min(whole.len())];
        assert_eq!(read(&mut hit).await.unwrap(), expected, "{start}..{end:?}");
    }
    assert!(hit.seek(200_000, None).is_err(), "past the end");
    assert!(hit.seek(10, Some(5)).is_err(), "backwards");
    let (_, mut empty) = {
        put(store, &key("empty"), &meta(&[]), &[]).await.unwrap();
        get(store, &key("empty")).await.unwrap()
    };
    assert!(empty.seek(0, None).is_err(), "nothing to seek in");
    assert_eq!(read(&mut empty).await.unwrap(), b"", "empty body");
}

#[tokio::test]
async fn readers_stream_from_a_running_fill() {
    let store = private(16 << 20, 4 << 20);
    let mut writer = store.get_miss_handler(&key("a"), &meta(&[]), &span()).await.unwrap();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn(async move {
                let (_, mut hit) = get(store, &key("a")).await.unwrap();
                assert!(!hit.can_seek(), "not while it runs");
                read(&mut hit).await
            })
        })
        .collect();
    for chunk in ["one ", "two ", "three"] {
        writer.write_body(chunk.into(), false).await.unwrap();
        tokio::task::yield_now().await;
    }
    let (_, mut own) = store
        .lookup_streaming_write(&key("a"), writer.streaming_write_tag(), &span())
        .await
        .unwrap()
        .unwrap();
    assert!(own.read_body().await.unwrap().unwrap().starts_with(b"one "), "the leader reads its own body");
    writer.finish().await.unwrap();
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), b"one two three", "whole");
    }
    assert!(read(&mut own).await.is_ok(), "to its end");
    assert_eq!(store.stats().fills, 0, "no fill left");
}

#[tokio::test]
async fn the_reader_of_a_dying_fill_gets_an_error_and_no_clean_end() {
    let store = private(16 << 20, 4 << 20);
    let mut writer = store.get_miss_handler(&key("a"), &meta(&[]), &span()).await.unwrap();
    writer.write_body("part".into(), true).await.unwrap();
    let (_, mut hit) = get(store, &key("a")).await.unwrap();
    assert_eq!(hit.read_body().await.unwrap().unwrap(), "part", "so far so good");
    let waiting = tokio::spawn(async move { hit.read_body().await });
    tokio::task::yield_now().await;
    drop(writer);
    assert!(waiting.await.unwrap().is_err(), "not the end");
    assert!(get(store, &key("a")).await.is_none(), "nothing stored");
    let stats = store.stats();
    assert_eq!((stats.used_bytes, stats.resident_bytes, stats.fills_failed), (0, 0, 1), "all given back");
}

#[tokio::test]
async fn a_body_of_another_length_than_declared_is_not_stored() {
    let store = private(16 << 20, 4 << 20);
    let declared = meta(&[("content-length", "5")]);
    assert!(put(store, &key("short"), &declared, &[b"four"]).await.is_err(), "short");
    assert!(put(store, &key("long"), &declared, &[b"four", b"ty"]).await.is_err(), "long");
    assert!(put(store, &key("right"), &declared, &[b"fi", b"ve!"]).await.is_ok(), "right");
    let stats = store.stats();
    assert_eq!((stats.entries, stats.fills_failed, stats.fills), (1, 2, 0), "only the right one");
}

#[tokio::test]
async fn a_purge_during_a_fill_wins() {
    let store = private(16 << 20, 4 << 20);
    let mut writer = store.get_miss_handler(&key("a"), &meta(&[]), &span()).await.unwrap();
    let (_, mut attached) = get(store, &key("a")).await.unwrap();
    writer.write_body("old".into(), false).await.unwrap();
    assert_eq!(purge(store, &key("a")).await, PurgeOutcome::NotFound, "nothing was stored yet");
    assert!(get(store, &key("a")).await.is_none(), "out of sight at once");
    let own = store.lookup_streaming_write(&key("a"), writer.streaming_write_tag(), &span()).await.unwrap();
    assert!(own.is_some(), "but its leader finds it");
    writer.finish().await.unwrap();
    assert_eq!(read(&mut attached).await.unwrap(), b"old", "who asked before the purge is served");
    assert!(get(store, &key("a")).await.is_none(), "not stored");
    assert_eq!(store.stats().rejected_purged, 1, "counted");
    put(store, &key("a"), &meta(&[]), &[b"new"]).await.unwrap();
    assert_eq!(body(store, &key("a")).await.unwrap(), b"new", "a fill that began later is stored");
}

#[tokio::test]
async fn a_purge_while_the_upstream_is_thinking_wins() {
    let store = private(16 << 20, 4 << 20);
    let mut stamped = meta(&[]);
    store.epoch().stamp(&mut stamped);
    purge(store, &key("a")).await;
    purge(store, &key("b")).await;
    let mut later = meta(&[]);
    store.epoch().stamp(&mut later);
    put(store, &key("a"), &stamped, &[b"old"]).await.unwrap();
    assert!(get(store, &key("a")).await.is_none(), "began before");
    put(store, &key("c"), &stamped, &[b"other"]).await.unwrap();
    assert!(get(store, &key("c")).await.is_some(), "another key is not concerned");
    put(store, &key("a"), &later, &[b"new"]).await.unwrap();
    assert!(get(store, &key("a")).await.is_some(), "began after");
}

#[tokio::test]
async fn more_purges_than_are_remembered_only_cost_a_store() {
    let store = private(16 << 20, 4 << 20);
    let mut stamped = meta(&[]);
    store.epoch().stamp(&mut stamped);
    purge(store, &key("a")).await;
    for n in 0..64 * 256 {
        purge(store, &key(&n.to_string())).await;
    }
    put(store, &key("a"), &stamped, &[b"old"]).await.unwrap();
    assert!(get(store, &key("a")).await.is_none(), "forgotten, and so not trusted");
}

#[tokio::test]
async fn variants_go_with_their_primary() {
    let store = private(16 << 20, 4 << 20);
    put(store, &key("a"), &meta(&[]), &[b"primary"]).await.unwrap();
    for n in 1..=3u8 {
        put(store, &variant("a", [n; 16]), &meta(&[]), &[b"variant"]).await.unwrap();
    }
    put(store, &key("b"), &meta(&[]), &[b"other"]).await.unwrap();
    assert_eq!(body(store, &variant("a", [2; 16])).await.unwrap(), b"variant", "stored apart");
    assert!(
        matches!(purge(store, &variant("a", [3; 16])).await, PurgeOutcome::Purged(Some(_))),
        "one variant"
    );
    assert!(get(store, &variant("a", [2; 16])).await.is_some(), "the others stay");
    assert!(store.purge_key(&key("a").to_compact()), "the primary");
    for n in 1..=3u8 {
        assert!(get(store, &variant("a", [n; 16])).await.is_none(), "variant {n}");
    }
    let stats = store.stats();
    assert_eq!((stats.entries, stats.evictions_purge), (1, 4), "only the other key is left");
}

#[tokio::test]
async fn variants_per_key_are_bounded() {
    let store = private(16 << 20, 4 << 20);
    put(store, &key("a"), &meta(&[]), &[b"primary"]).await.unwrap();
    for n in 0..100u8 {
        put(store, &variant("a", [n; 16]), &meta(&[]), &[b"variant"]).await.unwrap();
    }
    assert_eq!(store.stats().entries, MAX_VARIANTS, "no more than that");
    assert!(get(store, &key("a")).await.is_some(), "the primary is not the one to go");
    assert!(get(store, &variant("a", [99; 16])).await.is_some(), "the newest is there");
}

#[tokio::test]
async fn a_primary_with_another_vary_drops_the_variants_of_the_old_one() {
    let store = private(16 << 20, 4 << 20);
    put(store, &key("a"), &meta(&[("vary", "x")]), &[b"1"]).await.unwrap();
    put(store, &variant("a", [1; 16]), &meta(&[("vary", "x")]), &[b"2"]).await.unwrap();
    put(store, &key("a"), &meta(&[("vary", "x")]), &[b"3"]).await.unwrap();
    assert!(get(store, &variant("a", [1; 16])).await.is_some(), "the same `Vary`");
    put(store, &key("a"), &meta(&[("vary", "y")]), &[b"4"]).await.unwrap();
    assert!(get(store, &variant("a", [1; 16])).await.is_none(), "never to be found again");
    assert_eq!(store.stats().entries, 1, "so its room is free");
}

#[tokio::test]
async fn expire_keeps_the_body_and_ends_its_freshness() {
    let store = private(16 << 20, 4 << 20);
    put(store, &key("a"), &meta(&[]), &[b"x"]).await.unwrap();
    let used = store.stats().used_bytes;
    let compact = key("a").to_compact();
    let outcome = store.expire(PurgeTarget::Active(&compact), &span()).await.unwrap();
    assert_eq!(outcome, PurgeOutcome::Expired, "native");
    let (found, mut hit) = get(store, &key("a")).await.unwrap();
    assert!(!found.is_fresh(SystemTime::now() + Duration::from_millis(1)), "stale");
    assert_eq!((read(&mut hit).await.unwrap(), store.stats().used_bytes), (b"x".to_vec(), used), "same body");
    let other = key("b").to_compact();
    assert_eq!(
        store.expire(PurgeTarget::Active(&other), &span()).await.unwrap(),
        PurgeOutcome::NotFound,
        "absent"
    );
}

#[tokio::test]
async fn update_meta_refreshes_only_the_object_it_is_about() {
    let store = private(16 << 20, 4 << 20);
    let first = meta(&[("etag", "\"1\"")]);
    assert!(!store.update_meta(&key("a"), &first, &span()).await.unwrap(), "nothing there is no panic");
    put(store, &key("a"), &first, &[b"x"]).await.unwrap();
    let (mut found, _) = get(store, &key("a")).await.unwrap();
    found.update_freshness(found.created() + Duration::from_secs(600), 5, 6);
    found.response_header_mut().insert_header("x-new", "a longer head than before").unwrap();
    assert!(store.update_meta(&key("a"), &found, &span()).await.unwrap(), "refreshed");
    let (fresh, _) = get(store, &key("a")).await.unwrap();
    assert_eq!(fresh.fresh_until(), found.fresh_until(), "longer");
    assert_eq!(fresh.stale_if_error_sec(), 6, "windows");
    assert!(fresh.headers().contains_key("x-new"), "head");
    assert!(
        !store.update_meta(&key("a"), &meta(&[("etag", "\"1\"")]), &span()).await.unwrap(),
        "of another fill"
    );
    found.response_header_mut().insert_header("content-length", "2").unwrap();
    assert!(!store.update_meta(&key("a"), &found, &span()).await.unwrap(), "of another body");
}

#[tokio::test]
async fn an_older_fill_that_ends_later_does_not_take_the_place_of_a_newer_one() {
    let store = private(16 << 20, 4 << 20);
    let mut slow = store.get_miss_handler(&key("a"), &meta(&[]), &span()).await.unwrap();
    slow.write_body(Bytes::from_static(b"old"), false).await.unwrap();
    put(store, &key("a"), &meta(&[]), &[b"new"]).await.unwrap();
    slow.finish().await.unwrap();
    assert_eq!(body(store, &key("a")).await.as_deref(), Some(&b"new"[..]));
    assert_eq!(store.stats().entries, 1);
}

#[tokio::test]
async fn exact_purge_spares_a_newer_generation() {
    let store = private(16 << 20, 4 << 20);
    put(store, &key("a"), &meta(&[]), &[b"1"]).await.unwrap();
    let (_, old) = get(store, &key("a")).await.unwrap();
    put(store, &key("a"), &meta(&[]), &[b"2"]).await.unwrap();
    let exact = |id| pingora_cache::CacheEntryKey::from_entry_id(key("a").to_compact(), id);
    let target = exact(old.entry_id());
    let outcome = store.purge(PurgeTarget::Exact(&target), PurgeType::Eviction, &span()).await.unwrap();
    assert_eq!(outcome, PurgeOutcome::NotFound, "the old one is gone already");
    let target = exact(get(store, &key("a")).await.unwrap().1.entry_id());
    let outcome = store.purge(PurgeTarget::Exact(&target), PurgeType::Eviction, &span()).await.unwrap();
    assert!(matches!(outcome, PurgeOutcome::Purged(_)), "the one that was meant");
}

#[tokio::test]
async fn objects_over_the_limit_are_not_stored() {
    let store = private(16 << 20, 10);
    let declared = meta(&[("content-length", "11")]);
    assert!(store.get_miss_handler(&key("a"), &declared, &span()).await.is_err(), "declared");
    assert!(put(store, &key("b"), &meta(&[]), &[b"123456", b"78901"]).await.is_err(), "found out on the way");
    assert!(put(store, &key("c"), &meta(&[]), &[b"1234567890"]).await.is_ok(), "exactly");
    let stats = store.stats();
    assert_eq!((stats.rejected_too_large, stats.entries, stats.fills), (2, 1, 0), "counted");
}

#[tokio::test]
async fn evictions_are_counted_and_hot_objects_stay() {
    let store = private(256 << 10, 64 << 10);
    put(store, &key("hot"), &meta(&[]), &[&[1; 1000]]).await.unwrap();
    for n in 0..2000 {
        assert!(get(store, &key("hot")).await.is_some(), "still there before {n}");
        put(store, &key(&n.to_string()), &meta(&[]), &[&[0; 1000]]).await.unwrap();
    }
    let stats = store.stats();
    assert!(stats.used_bytes <= stats.capacity_bytes, "bounded: {stats:?}");
    assert_eq!(stats.stored, 2001, "all were stored");
    assert_eq!(stats.evictions_size as usize + stats.entries, 2001, "each is there or was evicted");
    assert!(stats.entries > 50, "the room is used: {stats:?}");
}

#[tokio::test]
async fn one_hit_keeps_a_large_answer_only_where_bytes_are_favored() {
    for (favor, stay) in [(Favor::Requests, 0..=6), (Favor::Bytes, 58..=64)] {
        let settings = Settings { max_objects: 8192, favor, ..Settings::private(5 << 20, 64 << 10) };
        let (store, _) = Store::open(&settings).unwrap();
        store.try_take().unwrap();
        let large = (0..64).map(|n| key(&format!("large {n}")));
        for key in large.clone() {
            put(store, &key, &meta(&[]), &[&[1; 16_000]]).await.unwrap();
            assert!(get(store, &key).await.is_some(), "asked for once");
        }
        for n in 0..8000 {
            put(store, &key(&n.to_string()), &meta(&[]), &[&[0; 500]]).await.unwrap();
        }
        let mut stayed = 0;
        for key in large {
            stayed += usize::from(get(store, &key).await.is_some());
        }
        assert!(stay.contains(&stayed), "{favor:?}: {stayed} of 64 are still there");
    }
}

#[tokio::test]
async fn running_fills_count_and_are_never_evicted() {
    let store = private(100_000, 90_000);
    let mut one = store.get_miss_handler(&key("a"), &meta(&[]), &span()).await.unwrap();
    one.write_body(vec![1; 60_000].into(), false).await.unwrap();
    let mut two = store.get_miss_handler(&key("b"), &meta(&[]), &span()).await.unwrap();
    assert!(two.write_body(vec![1; 60_000].into(), false).await.is_err(), "no room beside a running fill");
    assert!(store.stats().used_bytes <= store.stats().capacity_bytes, "bounded");
    drop(two);
    one.finish().await.unwrap();
    assert_eq!(body(store, &key("a")).await.unwrap().len(), 60_000, "the first is whole");
    assert_eq!(store.stats().rejected_no_room, 1, "counted");
}

#[tokio::test]
async fn refreshing_one_object_forever_keeps_the_books_small() {
    let store = private(16 << 20, 4 << 20);
    for _ in 0..5000 {
        put(store, &key("a"), &meta(&[]), &[b"x"]).await.unwrap();
        purge(store, &key("a")).await;
        put(store, &key("a"), &meta(&[]), &[b"x"]).await.unwrap();
    }
    purge(store, &key("a")).await;
    let stats = store.stats();
    assert_eq!(
        (stats.used_bytes, stats.entries, stats.resident_bytes),
        (0, 0, 0),
        "nothing left behind: {stats:?}"
    );
}

#[tokio::test]
async fn a_collision_of_hashes_is_a_miss() {
    let store = private(16 << 20, 4 << 20);
    let (mut mine, mut theirs) = (key("mine"), key("theirs"));
    mine.set_primary_bin_override([5; 16]);
    theirs.set_primary_bin_override([5; 16]);
    put(store, &mine, &meta(&[]), &[b"mine"]).await.unwrap();
    assert!(get(store, &theirs).await.is_none(), "never somebody else's answer");
    assert!(get(store, &mine).await.is_some(), "still there");
}

#[tokio::test]
async fn a_body_that_is_being_read_outlives_its_eviction() {
    let store = private(16 << 20, 4 << 20);
    put(store, &key("a"), &meta(&[]), &[&[7; 100_000]]).await.unwrap();
    let (_, mut hit) = get(store, &key("a")).await.unwrap();
    purge(store, &key("a")).await;
    let stats = store.stats();
    assert!(stats.used_bytes == 0 && stats.pinned_bytes > 100_000, "held by the reader: {stats:?}");
    assert_eq!(read(&mut hit).await.unwrap().len(), 100_000, "whole");
    drop(hit);
    assert_eq!(store.stats().resident_bytes, 0, "let go");
}

#[tokio::test]
async fn a_declared_body_has_its_room_before_its_first_byte() {
    let store = private(100_000, 90_000);
    let declared = meta(&[("content-length", "60000")]);
    let mut first = store.get_miss_handler(&key("a"), &declared, &span()).await.unwrap();
    assert!(
        store.get_miss_handler(&key("b"), &declared, &span()).await.is_err(),
        "refused while it can still pass by"
    );
    for _ in 0..60 {
        first.write_body(vec![1; 1000].into(), false).await.unwrap();
    }
    first.finish().await.unwrap();
    assert!(get(store, &key("a")).await.is_some(), "the room was kept for it");
}

#[tokio::test]
async fn a_stored_head_does_not_keep_the_buffer_it_was_read_into() {
    let store = private(16 << 20, 4 << 20);
    let buffer = Bytes::from(vec![b'v'; 4096]);
    let mut stored = meta(&[]);
    let value = http::HeaderValue::from_maybe_shared(buffer.slice(..3)).unwrap();
    stored.response_header_mut().insert_header("x-a", value).unwrap();
    put(store, &key("a"), &stored, &[b"x"]).await.unwrap();
    drop(stored);
    assert!(buffer.is_unique(), "no slice of it is left");
    assert_eq!(get(store, &key("a")).await.unwrap().0.headers().get("x-a").unwrap(), "vvv", "same value");
}
