//! The room as a whole: found, filled, renewed, purged, in variants.

mod bytes;

use std::time::{Duration, SystemTime};

use super::key::{KeyParts, MethodClass};
use super::*;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;

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
    let field =
        |(n, v): &(&'static str, &'static str)| (HeaderName::from_static(n), HeaderValue::from_static(v));
    fields.iter().map(field).collect()
}

fn meta(fields: &[(&'static str, &str)]) -> CacheMeta {
    let mut head = ResponseHeader::build(200, None).unwrap();
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    let now = SystemTime::now();
    CacheMeta::new(now + Duration::from_secs(60), now, 0, 0, head)
}

async fn fill(zone: &'static Zone, asked: &HeaderMap, answer: CacheMeta, body: &'static str) {
    let mut key = key("/a");
    zone.find(&mut key, asked).await;
    let mut writer = zone.open(&mut key, answer, asked).await.expect("a place");
    writer.write(Bytes::from_static(body.as_bytes())).await.expect("room");
    writer.finish().await.expect("whole");
}

/// The body that a request is given.
async fn given(zone: &'static Zone, asked: &HeaderMap) -> Option<Bytes> {
    let mut found = zone.find(&mut key("/a"), asked).await?;
    found.body.read_body().await.expect("a body")
}

#[tokio::test]
async fn what_was_filled_is_found() {
    let (zone, any) = (Zone::private(1 << 20, 1 << 18), request(&[]));
    assert!(given(zone, &any).await.is_none(), "nothing yet");
    fill(zone, &any, meta(&[]), "body").await;
    assert_eq!(given(zone, &any).await.as_deref(), Some(&b"body"[..]));
    assert!(zone.find(&mut key("/b"), &any).await.is_none(), "another path");
    assert!(zone.purge_key(&key("/a")) && given(zone, &any).await.is_none(), "purged");
}

#[tokio::test]
async fn rfc9111_4_1_a_request_is_given_its_variant_and_no_other() {
    let zone = Zone::private(1 << 20, 1 << 18);
    let (german, english, french) =
        (request(&[("lang", "de")]), request(&[("lang", "en")]), request(&[("lang", "fr")]));
    fill(zone, &german, meta(&[("vary", "lang")]), "deutsch").await;
    fill(zone, &english, meta(&[("vary", "lang")]), "english").await;
    assert_eq!(given(zone, &german).await.as_deref(), Some(&b"deutsch"[..]));
    assert_eq!(given(zone, &english).await.as_deref(), Some(&b"english"[..]));
    assert!(given(zone, &french).await.is_none(), "nobody asked for that yet");
}

#[tokio::test]
async fn a_variant_that_is_fetched_anew_leaves_the_others() {
    let zone = Zone::private(1 << 20, 1 << 18);
    let (german, english) = (request(&[("lang", "de")]), request(&[("lang", "en")]));
    fill(zone, &german, meta(&[("vary", "lang")]), "deutsch").await;
    fill(zone, &english, meta(&[("vary", "lang")]), "english").await;
    fill(zone, &german, meta(&[("vary", "lang")]), "neu").await;
    assert_eq!(given(zone, &german).await.as_deref(), Some(&b"neu"[..]));
    assert_eq!(given(zone, &english).await.as_deref(), Some(&b"english"[..]), "still there");
}

#[tokio::test]
async fn another_vary_makes_a_first_object_of_its_own() {
    let zone = Zone::private(1 << 20, 1 << 18);
    let (german, english) = (request(&[("lang", "de")]), request(&[("lang", "en"), ("kind", "x")]));
    fill(zone, &german, meta(&[("vary", "lang")]), "deutsch").await;
    fill(zone, &english, meta(&[("vary", "kind")]), "of a kind").await;
    assert_eq!(given(zone, &english).await.as_deref(), Some(&b"of a kind"[..]));
    assert!(given(zone, &german).await.is_none(), "chosen by the newer `Vary`");
}

#[tokio::test]
async fn a_renewed_object_keeps_its_body() {
    let (zone, any) = (Zone::private(1 << 20, 1 << 18), request(&[]));
    fill(zone, &any, meta(&[("etag", "\"1\"")]), "body").await;
    let mut key = key("/a");
    let found = zone.find(&mut key, &any).await.expect("stored");
    let newer = meta(&[("etag", "\"1\""), ("x-new", "1"), ("content-length", "4")]);
    assert!(zone.renew(&key, &found.meta, &newer, zone.epoch()).await, "the same object");
    let found = zone.find(&mut key, &any).await.expect("stored");
    assert!(found.meta.headers().contains_key("x-new"), "with the new fields");
    assert_eq!(given(zone, &any).await.as_deref(), Some(&b"body"[..]));
    fill(zone, &any, meta(&[]), "other").await;
    assert!(!zone.renew(&key, &found.meta, &newer, zone.epoch()).await, "another object by now");
}

#[tokio::test]
async fn rfc9111_4_1_a_variant_that_a_304_gave_another_vary_answers_nobody() {
    let zone = Zone::private(1 << 20, 1 << 18);
    let (german, english) = (request(&[("lang", "de")]), request(&[("lang", "en")]));
    fill(zone, &german, meta(&[("vary", "lang")]), "deutsch").await;
    fill(zone, &english, meta(&[("vary", "lang")]), "english").await;
    let mut key = key("/a");
    let found = zone.find(&mut key, &english).await.expect("stored");
    let newer = meta(&[("vary", "kind"), ("content-length", "7")]);
    assert!(zone.renew(&key, &found.meta, &newer, zone.epoch()).await, "the same object");
    let of_a_kind = request(&[("lang", "en"), ("kind", "x")]);
    assert!(given(zone, &of_a_kind).await.is_none(), "it was brought by a request of no kind");
    assert_eq!(given(zone, &german).await.as_deref(), Some(&b"deutsch"[..]), "the other stays");
}

#[tokio::test]
async fn an_object_over_the_limit_is_not_stored() {
    let (zone, any) = (Zone::private(1 << 20, 4), request(&[]));
    let mut key = key("/a");
    let declared = zone.open(&mut key, meta(&[("content-length", "5")]), &any).await;
    assert_eq!(declared.err(), Some(NotStored::TooLarge), "known before");
    let mut writer = zone.open(&mut key, meta(&[]), &any).await.expect("a place");
    assert_eq!(writer.write(Bytes::from_static(b"12345")).await, Err(NotStored::TooLarge), "known by then");
    drop(writer);
    assert!(given(zone, &any).await.is_none(), "nothing stays");
}
