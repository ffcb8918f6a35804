//! The room as a whole, driven through Pingora's own state machine as `proxy` will drive it.

use std::time::{Duration, SystemTime};

use super::freshness::{Policy, RequestFacts, Verdict, judge};
use super::key::{KeyParts, MethodClass};
use super::status::Outcome;
use super::*;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::ResponseHeader;
use pingora_cache::key::CacheHashKey;
use pingora_cache::lock::LockWaitOutcome;
use pingora_cache::{CacheMeta, HitStatus, NoCacheReason};

const SETTINGS: Settings = Settings { capacity_bytes: 1 << 20, max_object_bytes: 1 << 18 };

fn key(path: &str) -> CacheKey {
    let parts = KeyParts {
        route: "r",
        policy: 1,
        method_class: MethodClass::Read,
        scheme: "https",
        host: "app.example",
        path,
        query: "",
        headers: &[],
    };
    parts.key()
}

fn request(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(n, v)| (http::HeaderName::from_static(n), http::HeaderValue::from_static(v)))
        .collect()
}

fn answer(fields: &[(&'static str, &str)]) -> ResponseHeader {
    let mut head = ResponseHeader::build(200, None).unwrap();
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    head
}

fn enabled(zone: &'static Zone, path: &str) -> HttpCache {
    let mut cache = HttpCache::new();
    zone.enable(&mut cache, 1 << 30);
    cache.set_cache_key(key(path));
    cache
}

/// What `proxy_cache` does up to the decision: looks up, follows `Vary`, waits at the lock. True: a hit.
async fn look(cache: &mut HttpCache, request: &HeaderMap) -> bool {
    loop {
        match cache.cache_lookup().await.unwrap() {
            Some((meta, hit)) => {
                let variance = vary::variance(meta.headers(), request).hash();
                if let Some(variance) = variance.filter(|_| cache.cache_key().variance_bin().is_none())
                    && !cache.cache_vary_lookup(variance, &meta)
                {
                    continue;
                }
                let fresh = meta.is_fresh(SystemTime::now());
                cache.cache_found(meta, hit, if fresh { HitStatus::Fresh } else { HitStatus::Expired });
                return fresh;
            }
            None if cache.is_cache_locked() => match cache.cache_lock_wait().await {
                LockWaitOutcome::Done | LockWaitOutcome::TransientError => {}
                other => panic!("unexpected: {other:?}"),
            },
            None => {
                cache.cache_miss();
                return false;
            }
        }
    }
}

fn verdict(head: &ResponseHeader) -> CacheMeta {
    let policy = Policy { ttl: Some(Duration::from_secs(60)), ..Policy::default() };
    match judge(head, &RequestFacts::default(), &policy, SystemTime::now()) {
        Verdict::Store(meta) => meta,
        Verdict::Refuse(reason) => panic!("refused: {reason:?}"),
    }
}

/// What the own exchange does with a head, up to the open writer.
async fn begin(cache: &mut HttpCache, head: &ResponseHeader, request: &HeaderMap, epoch: FillEpoch) {
    let mut meta = verdict(head);
    epoch.stamp(&mut meta);
    let variance = vary::variance(meta.headers(), request).hash();
    cache.set_cache_meta(meta);
    cache.update_variance(variance);
    cache.set_miss_handler().await.unwrap();
}

async fn write(cache: &mut HttpCache, body: &'static str) {
    cache.miss_handler().unwrap().write_body(Bytes::from_static(body.as_bytes()), true).await.unwrap();
    cache.finish_miss_handler().await.unwrap();
}

async fn fill(zone: &'static Zone, path: &str, head: &ResponseHeader, sent: &HeaderMap, body: &'static str) {
    let mut cache = enabled(zone, path);
    assert!(!look(&mut cache, sent).await, "a miss");
    begin(&mut cache, head, sent, zone.epoch()).await;
    write(&mut cache, body).await;
}

async fn hit(zone: &'static Zone, path: &str, sent: &HeaderMap) -> Option<String> {
    let mut cache = enabled(zone, path);
    if !look(&mut cache, sent).await {
        cache.disable(NoCacheReason::InternalError);
        return None;
    }
    let mut body = Vec::new();
    while let Some(chunk) = cache.hit_handler().read_body().await.unwrap() {
        body.extend_from_slice(&chunk);
    }
    cache.finish_hit_handler().await.unwrap();
    Some(String::from_utf8(body).unwrap())
}

fn status(cache: &HttpCache) -> String {
    Outcome::of(cache, SystemTime::now()).value().to_str().unwrap().to_owned()
}

#[test]
fn enabling_twice_is_harmless_and_the_smaller_limit_applies() {
    let zone = Zone::new(SETTINGS);
    let mut cache = HttpCache::new();
    zone.enable(&mut cache, 1 << 30);
    zone.enable(&mut cache, 5);
    assert!(cache.enabled(), "on");
    assert_eq!(cache.max_file_size_bytes(), Some(1 << 18), "the store's limit");
}

#[tokio::test]
async fn a_miss_is_stored_and_the_next_request_hits() {
    let zone = Zone::new(SETTINGS);
    let none = request(&[]);
    let mut cache = enabled(zone, "/a");
    assert!(!look(&mut cache, &none).await, "a miss");
    assert_eq!(status(&cache), "portcullis; fwd=uri-miss");
    begin(&mut cache, &answer(&[]), &none, zone.epoch()).await;
    write(&mut cache, "body").await;
    let mut second = enabled(zone, "/a");
    assert!(look(&mut second, &none).await, "a hit");
    assert!(status(&second).starts_with("portcullis; hit; ttl="), "{}", status(&second));
    assert_eq!(hit(zone, "/a", &none).await.as_deref(), Some("body"), "the body");
    assert_eq!(hit(zone, "/b", &none).await, None, "another path");
}

#[tokio::test]
async fn variants_are_chosen_by_the_request_and_purged_together() {
    let zone = Zone::new(SETTINGS);
    let head = answer(&[("vary", "accept-language")]);
    let (german, english) = (request(&[("accept-language", "de")]), request(&[("accept-language", "en")]));
    fill(zone, "/a", &head, &german, "guten Tag").await;
    assert_eq!(hit(zone, "/a", &english).await, None, "not that variant");
    let mut miss = enabled(zone, "/a");
    look(&mut miss, &english).await;
    assert_eq!(status(&miss), "portcullis; fwd=vary-miss");
    miss.disable(NoCacheReason::InternalError);
    fill(zone, "/a", &head, &english, "good day").await;
    assert_eq!(hit(zone, "/a", &german).await.as_deref(), Some("guten Tag"), "first");
    assert_eq!(hit(zone, "/a", &english).await.as_deref(), Some("good day"), "second");
    assert!(zone.purge(&key("/a")), "purged");
    assert_eq!((hit(zone, "/a", &german).await, hit(zone, "/a", &english).await), (None, None), "both gone");
    assert_eq!(zone.stats().entries, 0, "and not merely hidden");
}

#[tokio::test]
async fn variants_survive_a_refresh_of_the_primary() {
    let zone = Zone::new(SETTINGS);
    let head = answer(&[("vary", "accept-language")]);
    let (german, english) = (request(&[("accept-language", "de")]), request(&[("accept-language", "en")]));
    fill(zone, "/a", &head, &german, "guten Tag").await;
    fill(zone, "/a", &head, &english, "good day").await;
    let compact = key("/a").to_compact();
    let span = pingora_cache::trace::Span::inactive().handle();
    use pingora_cache::{PurgeTarget, Storage};
    zone.store().expire(PurgeTarget::Active(&compact), &span).await.unwrap();
    fill(zone, "/a", &head, &german, "guten Abend").await;
    assert_eq!(hit(zone, "/a", &german).await.as_deref(), Some("guten Abend"), "refreshed");
    assert_eq!(zone.stats().entries, 2, "the other variant was not dropped");
}

#[tokio::test]
async fn waiters_stream_from_one_fetch() {
    let zone = Zone::new(SETTINGS);
    let none = request(&[]);
    let mut leader = enabled(zone, "/a");
    assert!(!look(&mut leader, &none).await, "leads");
    let waiters: Vec<_> =
        (0..4).map(|_| tokio::spawn(async move { hit(zone, "/a", &HeaderMap::new()).await })).collect();
    tokio::task::yield_now().await;
    begin(&mut leader, &answer(&[]), &none, zone.epoch()).await;
    tokio::task::yield_now().await;
    write(&mut leader, "body").await;
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().as_deref(), Some("body"), "shared");
    }
    assert_eq!(zone.stats().stored, 1, "one fetch");
}

#[tokio::test]
async fn waiters_share_the_failure_of_their_leader() {
    let zone = Zone::new(SETTINGS);
    let mut leader = enabled(zone, "/a");
    assert!(!look(&mut leader, &request(&[])).await, "leads");
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async move {
                let arrived = Instant::now();
                let mut cache = enabled(zone, "/a");
                assert!(!look(&mut cache, &HeaderMap::new()).await, "nothing is stored");
                let shared = zone.shared_failure(&cache, arrived);
                cache.disable(NoCacheReason::UpstreamError);
                shared
            })
        })
        .collect();
    tokio::task::yield_now().await;
    zone.note_failure(&leader, 502, Instant::now());
    leader.disable(NoCacheReason::UpstreamError);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Some(502), "none of them asked the upstream");
    }
    let mut later = enabled(zone, "/a");
    look(&mut later, &request(&[])).await;
    assert_eq!(zone.shared_failure(&later, Instant::now()), None, "who did not wait asks anew");
    later.disable(NoCacheReason::UpstreamError);
}

#[tokio::test]
async fn a_purge_in_the_middle_leaves_the_leader_its_body_and_the_store_empty() {
    let zone = Zone::new(SETTINGS);
    let none = request(&[]);
    let mut leader = enabled(zone, "/a");
    look(&mut leader, &none).await;
    let epoch = zone.epoch();
    assert!(!zone.purge(&key("/a")), "nothing there yet");
    begin(&mut leader, &answer(&[]), &none, epoch).await;
    write(&mut leader, "old").await;
    let own = leader.miss_body_reader().unwrap().read_body().await.unwrap().unwrap();
    assert_eq!(own, "old", "the leader's client is served");
    assert_eq!(hit(zone, "/a", &none).await, None, "nobody else");
}

#[tokio::test]
async fn an_answer_that_is_not_shared_is_bypassed_for_a_while() {
    let zone = Zone::new(SETTINGS);
    let mut first = enabled(zone, "/a");
    look(&mut first, &request(&[])).await;
    let reason = freshness::Reason::NoStore.no_cache_reason();
    first.response_became_uncacheable(reason);
    first.disable(reason);
    let mut second = enabled(zone, "/a");
    assert!(!second.cacheable_prediction(), "known");
    second.bypass();
    assert_eq!(status(&second), "portcullis; fwd=bypass");
    second.response_became_cacheable();
    second.cache_miss();
    begin(&mut second, &answer(&[]), &request(&[]), zone.epoch()).await;
    write(&mut second, "now shared").await;
    assert_eq!(hit(zone, "/a", &request(&[])).await.as_deref(), Some("now shared"), "stored from a bypass");
}

#[tokio::test]
async fn a_stale_object_is_revalidated_in_place() {
    let zone = Zone::new(SETTINGS);
    let none = request(&[]);
    let stale = answer(&[("cache-control", "max-age=0, stale-while-revalidate=60"), ("etag", "\"1\"")]);
    fill(zone, "/a", &stale, &none, "body").await;
    let mut cache = enabled(zone, "/a");
    // Freshness has a resolution of the clock: asked a second later, nothing of it is left.
    let (meta, handler) = cache.cache_lookup().await.unwrap().unwrap();
    assert!(!meta.is_fresh(SystemTime::now() + Duration::from_secs(1)), "stale");
    cache.cache_found(meta, handler, HitStatus::Expired);
    assert!(cache.can_serve_stale_updating(), "within its window");
    let merged = cache.revalidate_merge_header(&answer(&[("cache-control", "max-age=60")]).as_owned_parts());
    assert!(cache.revalidate_cache_meta(verdict(&merged)).await.unwrap(), "refreshed");
    assert_eq!(status(&cache), "portcullis; fwd=stale");
    assert_eq!(hit(zone, "/a", &none).await.as_deref(), Some("body"), "fresh again");
}
