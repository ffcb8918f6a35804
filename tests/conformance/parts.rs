//! Parts that are kept and put together (RFC 9111 §3.3, §3.4), before an origin that gives any part that it is asked for. Whatever was kept
//! before, a client gets the bytes it asked for, of one representation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Answer, Gateway, HEAD, Origin, Received, Reply, response};

/// The versions of the one resource, of the same length.
const VERSIONS: [&str; 2] = ["abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"];

struct Scene {
    origin: Origin,
    gateway: Gateway,
    version: Arc<AtomicUsize>,
}

/// The first and last byte of `bytes=A-B`, `bytes=A-` or `bytes=-N`, as far as they are there.
fn wanted(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let end = length - 1;
    Some(match (first.parse::<usize>().ok(), last.parse::<usize>().ok()) {
        (Some(first), Some(last)) => (first, last.min(end)),
        (Some(first), None) => (first, end),
        (None, Some(last)) => (length.saturating_sub(last), end),
        (None, None) => return None,
    })
}

fn answer(request: &Received, version: usize, tag: &str) -> Reply {
    let body = VERSIONS[version];
    let tag = tag.replace('#', &version.to_string());
    let mut fields = vec![("Cache-Control", "max-age=60"), ("Content-Type", "text/plain")];
    if !tag.is_empty() {
        fields.push(("ETag", &tag));
    }
    let is_same = request.header("if-range").is_none_or(|known| known == tag);
    match request.header("range").filter(|_| is_same).and_then(|range| wanted(range, body.len())) {
        Some((first, last)) => {
            let content_range = format!("bytes {first}-{last}/{}", body.len());
            fields.push(("Content-Range", &content_range));
            response(206, &fields, &body.as_bytes()[first..=last])
        }
        None => response(200, &fields, body.as_bytes()),
    }
}

/// A `#` in the tag stands for the version.
fn scene(tag: &'static str) -> Scene {
    let version = Arc::new(AtomicUsize::new(0));
    let now = version.clone();
    let origin = Origin::start(move |request| answer(request, now.load(Ordering::SeqCst), tag));
    let gateway = Gateway::start(&format!(
        "{HEAD}accessLog: off\nupstreams: {{ web: {{ kind: app, url: \"{}\", retry: {{ on: [] }} }} }}\nroutes: [{{ name: all, match: {{ path: \
         {{ prefix: / }} }}, upstream: web, cache: {{ ranges: combine }} }}]\n",
        origin.url()
    ));
    Scene { origin, gateway, version }
}

impl Scene {
    fn ask(&self, target: &str, range: &str) -> Answer {
        let headers: &[(&str, &str)] = if range.is_empty() { &[] } else { &[("Range", range)] };
        self.gateway.request("GET", target, headers, b"")
    }

    /// Asks, and holds that the answer is right by one of these versions.
    fn expect(&self, target: &str, range: &str, versions: &[usize]) {
        let answer = self.ask(target, range);
        let rights: Vec<(u16, String, Option<String>)> = versions
            .iter()
            .map(|version| {
                let body = VERSIONS[*version];
                match wanted(range, body.len()) {
                    Some((first, last)) => {
                        let content_range = format!("bytes {first}-{last}/{}", body.len());
                        (206, body[first..=last].to_owned(), Some(content_range))
                    }
                    None => (200, body.to_owned(), None),
                }
            })
            .collect();
        let got = (answer.status, answer.text(), answer.header("content-range").map(str::to_owned));
        assert!(rights.contains(&got), "{target} `{range}`: {got:?} is none of {rights:?}");
    }
}

#[test]
fn rfc9111_3_4_whatever_was_kept_before_the_bytes_are_the_right_ones() {
    for tag in ["\"v#\"", "W/\"v#\"", ""] {
        let scene = scene(tag);
        let ranges = ["bytes=0-4", "bytes=3-9", "bytes=20-", "bytes=-2", "bytes=10-19", ""];
        for (a, first) in ranges.iter().enumerate() {
            for (b, second) in ranges.iter().enumerate() {
                let target = format!("/{a}-{b}");
                for range in [first, second, &"bytes=2-21", &"", &"bytes=0-0"] {
                    scene.expect(&target, range, &[0]);
                }
            }
        }
    }
}

#[test]
fn rfc9111_3_4_parts_of_two_versions_are_never_mixed() {
    for tag in ["\"v#\"", "W/\"v#\"", ""] {
        let scene = scene(tag);
        for (n, (before, after)) in [
            ("bytes=0-9", "bytes=10-"),
            ("bytes=10-", "bytes=0-9"),
            ("bytes=0-9", "bytes=5-14"),
            ("", "bytes=5-9"),
        ]
        .into_iter()
        .enumerate()
        {
            let target = format!("/{n}");
            scene.version.store(0, Ordering::SeqCst);
            scene.expect(&target, before, &[0]);
            scene.version.store(1, Ordering::SeqCst);
            scene.expect(&target, after, &[0, 1]);
            scene.expect(&target, "", &[0, 1]);
            scene.expect(&target, "bytes=8-11", &[0, 1]);
        }
    }
}

#[test]
fn rfc9111_3_3_a_part_that_is_kept_is_not_fetched_again() {
    let scene = scene("\"v#\"");
    scene.expect("/x", "bytes=5-9", &[0]);
    let before = scene.origin.count();
    for range in ["bytes=5-9", "bytes=6-8", "bytes=9-9"] {
        scene.expect("/x", range, &[0]);
    }
    assert_eq!(scene.origin.count(), before, "from the store");
}

#[test]
fn rfc9111_3_3_a_part_whose_length_belies_its_range_is_not_kept() {
    let fields = [("Cache-Control", "max-age=60"), ("ETag", "\"a\""), ("Content-Range", "bytes 0-5/10")];
    let origin = Origin::start(move |_| response(206, &fields, b"01234"));
    let gateway = Gateway::start(&format!(
        "{HEAD}accessLog: off\nupstreams: {{ web: {{ kind: app, url: \"{}\", retry: {{ on: [] }} }} }}\nroutes: [{{ name: all, match: {{ path: \
         {{ prefix: / }} }}, upstream: web, cache: {{ ranges: combine }} }}]\n",
        origin.url()
    ));
    for _ in 0..2 {
        gateway.request("GET", "/x", &[("Range", "bytes=0-5")], b"");
    }
    assert_eq!(origin.count(), 2, "asked each time");
}
