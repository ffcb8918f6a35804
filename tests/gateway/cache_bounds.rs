//! The size of the store and of one object; and purges.

use crate::cache_gate::{BOTH, begin, cache_status, gateway, is_hit, is_stored};
use crate::harness::{Gate, Gateway, Origin, Reply, response, response_bytes};

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut raw =
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(4096) {
        raw.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        raw.extend_from_slice(piece);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"0\r\n\r\n");
    raw
}

fn small_store(origin: &Origin, lines: &[&str]) -> Gateway {
    Gateway::start(&(crate::cache_gate::yaml(origin, lines) + "cache: { size: 1MiB, maxObject: 64KiB }\n"))
}

const TOO_LARGE: usize = 100_000;

#[test]
fn an_object_that_is_too_large_passes_whole_and_is_not_stored() {
    let origin = Origin::start(|request| {
        if request.target().ends_with("declared") {
            response(200, &[("Cache-Control", "max-age=60")], &[b'x'; TOO_LARGE])
        } else {
            Reply::Raw(chunked(&[b'x'; TOO_LARGE]))
        }
    });
    let gateway = small_store(&origin, &["cache: {}"]);
    for way in BOTH {
        for name in ["declared", "chunked"] {
            for n in 0..3 {
                let before = origin.count();
                let answer = gateway.get(&format!("{way}/{name}"));
                assert!(!answer.cut, "{way}/{name} {n}: not cut");
                assert_eq!((answer.status, answer.body.len()), (200, TOO_LARGE), "{way}/{name} {n}");
                assert!(!is_hit(&answer), "{way}/{name} {n}: {}", cache_status(&answer));
                assert_eq!(origin.count(), before + 1, "{way}/{name} {n}: asked each time");
            }
        }
    }
    let used = gateway.metric("portcullis_cache_used_bytes{tier=\"memory\"}");
    assert!(used < 64.0 * 1024.0, "nothing of it stays: {used}");
}

#[test]
fn those_who_wait_for_an_object_that_is_too_large_get_it_whole() {
    for way in BOTH {
        for declared in [true, false] {
            let gate = Gate::new();
            let door = gate.clone();
            let origin = Origin::start(move |request| {
                let body = [b'x'; TOO_LARGE];
                let bytes = if declared {
                    response_bytes(200, &[("Cache-Control", "max-age=60")], &body)
                } else {
                    chunked(&body)
                };
                let first = request.header("user-agent").is_some_and(|agent| agent == "first");
                Reply::Steps(vec![(if first { Gate::opened() } else { door.clone() }, bytes)])
            });
            let gateway = small_store(&origin, &["cache: {}"]);
            let target = format!("{way}/x");
            if !declared {
                // Only the first answer can show that a length which is not told is too much.
                let first = gateway.request("GET", &target, &[("User-Agent", "first")], b"");
                assert_eq!((first.body.len(), first.cut), (TOO_LARGE, false), "{way}");
            }
            let mut clients: Vec<_> = (0..4).map(|_| begin(&gateway, &target)).collect();
            crate::cache_gate::wait_active(&gateway, 4);
            gate.open();
            for client in &mut clients {
                let answer = client.read("GET");
                let seen = (answer.status, answer.body.len(), answer.cut);
                assert_eq!(seen, (200, TOO_LARGE, false), "{way}, declared: {declared}");
            }
        }
    }
}

#[test]
fn large_answers_that_were_asked_for_twice_stay_where_bytes_are_favored() {
    let stayed = |favor: &str| {
        let origin = Origin::start(|request| {
            let body = vec![b'x'; if request.target().contains("large") { 16_000 } else { 200 }];
            response(200, &[("Cache-Control", "max-age=600")], &body)
        });
        let cache = format!("cache: {{ size: 2MiB, maxObject: 64KiB, favor: {favor} }}\n");
        let gateway = Gateway::start(&(crate::cache_gate::yaml(&origin, &["cache: {}"]) + &cache));
        let [way, _] = BOTH;
        let ask = |name: String| gateway.get(&format!("{way}/{name}"));
        for _ in 0..2 {
            (0..8).for_each(|n| assert_eq!(ask(format!("large-{n}")).status, 200, "{favor}"));
        }
        (0..2500).for_each(|n| assert_eq!(ask(format!("small-{n}")).status, 200, "{favor}"));
        (0..8).filter(|n| is_hit(&ask(format!("large-{n}")))).count()
    };
    let (requests, bytes) = (stayed("requests"), stayed("bytes"));
    assert!(requests <= 1 && bytes >= 7, "of 8: {requests} by requests, {bytes} by bytes");
}

#[test]
fn the_store_stays_within_its_size_and_lets_the_oldest_go() {
    let origin = Origin::start(|_| response(200, &[("Cache-Control", "max-age=600")], &[b'x'; 20_000]));
    let gateway = small_store(&origin, &["cache: {}"]);
    let capacity = gateway.metric("portcullis_cache_capacity_bytes{tier=\"memory\"}");
    assert!((900_000.0..1_048_576.0).contains(&capacity), "as configured, without the tables: {capacity}");
    for n in 0..120 {
        for way in BOTH {
            assert!(is_stored(&gateway.get(&format!("{way}/{n}"))), "{way}/{n}: always room for one more");
        }
        if n % 20 == 0 {
            let used = gateway.metric("portcullis_cache_used_bytes{tier=\"memory\"}");
            assert!(used > 0.0 && used <= capacity, "after {n}: {used} of {capacity}");
        }
    }
    let used = gateway.metric("portcullis_cache_used_bytes{tier=\"memory\"}");
    assert!(used <= capacity, "{used} of {capacity}");
    let evicted = gateway.metric("portcullis_cache_evictions_total{tier=\"memory\",reason=\"size\"}");
    assert!(evicted >= 150.0, "240 objects of 20 kB do not fit: {evicted} were let go");
    let entries = gateway.metric("portcullis_cache_entries{tier=\"memory\"}");
    assert!(entries > 10.0 && entries < 60.0, "{entries}");
}

fn purge(gateway: &Gateway, url: &str) -> (u16, serde_json::Value) {
    let answer = gateway.admin_post("/purge", &serde_json::json!({ "url": url }).to_string());
    (answer.status, answer.json())
}

#[test]
fn a_purge_takes_all_variants_of_its_url_and_no_other() {
    let origin = Origin::start(|request| {
        let language = request.header("accept-language").unwrap_or_default().to_owned();
        response(200, &[("Cache-Control", "max-age=60"), ("Vary", "Accept-Language")], language.as_bytes())
    });
    let gateway = gateway(&origin, &["cache: { key: { headers: [accept] } }"]);
    for way in BOTH {
        let ask = |target: &str, language: &str, accept: &str| {
            let headers = [("Accept-Language", language), ("Accept", accept)];
            is_hit(&gateway.request("GET", &format!("{way}{target}"), &headers, b""))
        };
        let mine = [("de", "a/b"), ("en", "a/b"), ("en", "c/d")];
        let others = ["/x?page=2", "/x/y", "/xy", "/"];
        for (language, accept) in mine {
            ask("/x", language, accept);
            assert!(ask("/x", language, accept), "{way}: {language} {accept} is kept");
        }
        for other in others {
            ask(other, "de", "a/b");
        }
        let (status, body) = purge(&gateway, &format!("http://app.example{way}/x"));
        assert_eq!(status, 200, "{body}");
        assert!(body["matched"].as_u64().is_some_and(|n| n >= 1), "{way}: {body}");
        for other in others {
            assert!(ask(other, "de", "a/b"), "{way}{other} stays");
        }
        for (language, accept) in mine {
            assert!(!ask("/x", language, accept), "{way}: {language} {accept} is gone");
        }
        assert_eq!(purge(&gateway, &format!("http://app.example{way}/never")).1["matched"], 0, "{way}");
    }
    assert!(
        gateway.metric("portcullis_cache_purges_total{scope=\"url\",mode=\"soft\",origin=\"local\"}") >= 4.0
    );
}

#[test]
fn a_purge_finds_what_a_route_with_header_matches_stored() {
    let origin = Origin::start(|_| response(200, &[("Cache-Control", "max-age=60")], b"x"));
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "{}upstreams: {{ vendor: {{ url: \"{url}\", allowPrivate: true }} }}
routes:
  - {{ name: beta, match: {{ path: {{ prefix: /api }}, headers: [{{ name: x-beta, exact: \"1\" }}] }}, upstream: vendor, cache: {{}} }}
  - {{ name: all, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, cache: {{}} }}
",
        crate::harness::HEAD
    ));
    let beta = || is_hit(&gateway.request("GET", "/api/x", &[("X-Beta", "1")], b""));
    let all = || is_hit(&gateway.get("/api/x"));
    assert!(!beta() && !all(), "two entries");
    assert!(beta() && all(), "both are kept");
    assert_eq!(
        purge(&gateway, "http://app.example/api/x"),
        (200, serde_json::json!({ "scope": "url", "mode": "soft", "dryRun": false, "matched": 2 }))
    );
    assert!(!beta() && !all(), "both are gone");
}

#[test]
fn a_purge_during_a_fill_wins_over_it() {
    // Pieces larger than any buffer on the way: a smaller body of known length is sent at its end.
    static BODY: [u8; 400_000] = [b'x'; 400_000];
    for way in BOTH {
        let (first, rest) = (Gate::new(), Gate::new());
        let gates = (first.clone(), rest.clone());
        let origin = Origin::start(move |request| {
            let mut head = response_bytes(200, &[("Cache-Control", "max-age=60")], &BODY);
            let tail = head.split_off(head.len() - 200_000);
            let opened = request.target().ends_with("thinks");
            Reply::Steps(vec![
                (gates.0.clone(), head),
                (if opened { Gate::opened() } else { gates.1.clone() }, tail),
            ])
        });
        let gateway = gateway(&origin, &["cache: {}"]);
        // While the origin still thinks.
        let mut early = begin(&gateway, &format!("{way}/thinks"));
        eventually!(origin.count() == 1, "asked");
        assert_eq!(purge(&gateway, &format!("http://app.example{way}/thinks")).0, 200);
        // While the body comes.
        let mut midway = begin(&gateway, &format!("{way}/x"));
        eventually!(origin.count() == 2, "asked");
        first.open();
        assert_eq!(early.read("GET").body.len(), BODY.len(), "{way}: its client gets it");
        midway.read_head().expect("a head");
        assert_eq!(purge(&gateway, &format!("http://app.example{way}/x")).0, 200);
        rest.open();
        assert_eq!(midway.read_exact(BODY.len()), BODY, "{way}: its client gets it");
        for name in ["thinks", "x"] {
            let answer = gateway.get(&format!("{way}/{name}"));
            assert!(!is_hit(&answer), "{way}/{name}: what was fetched before the purge is not kept");
            assert!(is_hit(&gateway.get(&format!("{way}/{name}"))), "{way}/{name}: what came after it is");
        }
    }
}

#[test]
fn a_purge_that_names_no_url_says_how_to() {
    let origin = Origin::ok();
    let gateway = gateway(&origin, &["cache: {}"]);
    for (body, expected) in [
        ("", "a purge is {\"url\""),
        ("not json", "a purge is {\"url\""),
        ("{\"url\": 7}", "a purge is {\"url\""),
        ("{\"url\": \"/api/x\"}", "http://"),
        ("{\"url\": \"ftp://app.example/api/x\"}", "http://"),
        ("{\"url\": \"http://app.example/a%00\"}", "path"),
        ("{\"url\": \"http://bad host/\"}", "host"),
        ("{\"url\": \"http://app.example/elsewhere\"}", "no route"),
    ] {
        let answer = gateway.admin_post("/purge", body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let text = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(text.contains(expected), "{body}: `{text}` says `{expected}`");
    }
    assert_eq!(gateway.admin("/purge").status, 405, "no GET changes anything");
}
