//! The numbers of the store: each moves with what it counts, in `/metrics`, on the admin side and in `portcullis cache stats`.

use serde_json::json;

use crate::cache_gate::{begin, is_hit, is_stored, yaml};
use crate::cache_warm::{kill, on, place, stores};
use crate::harness::{Client, Gate, Gateway, Origin, Reply, chunked, response, response_bytes};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=600");

fn number(gateway: &Gateway, name: &str) -> f64 {
    gateway.metric(&format!("portcullis_cache_{name}{{tier=\"memory\"}}"))
}

fn rejected(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("portcullis_cache_rejected_total{{tier=\"memory\",reason=\"{reason}\"}}"))
}

fn evicted(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("portcullis_cache_evictions_total{{tier=\"memory\",reason=\"{reason}\"}}"))
}

fn small(origin: &Origin, size: &str) -> Gateway {
    Gateway::start(&(yaml(origin, &["cache: {}"]) + &format!("cache: {{ {size} }}\n")))
}

#[test]
fn what_is_stored_and_what_goes_is_counted() {
    let origin = Origin::start(|request| match request.target() {
        // Of unknown length: what says that it is too large is never given to the store.
        "/app/huge" => {
            let head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n";
            Reply::Raw([&head[..], &chunked(&[&[b'x'; 600_000]])].concat())
        }
        "/app/cut" => {
            let mut bytes = response_bytes(200, &[FRESH], &[b'x'; 5000]);
            bytes.truncate(bytes.len() - 1000);
            Reply::RawThenClose(bytes)
        }
        large if large.starts_with("/app/large") => response(200, &[FRESH], &[b'x'; 500_000]),
        _ => response(200, &[FRESH], b"text"),
    });
    let gateway = small(&origin, "size: 4MiB, maxObject: 512KiB, maxObjects: 1024");
    assert!(number(&gateway, "max_entries") >= 1024.0 && number(&gateway, "writer") > 0.5);
    let empty = number(&gateway, "longest_free_bytes");
    assert!(empty > 1e6 && number(&gateway, "stored_total") < 0.5);
    gateway.get("/app/a");
    assert!((number(&gateway, "stored_total") - 1.0).abs() < 0.5);
    (0..6).for_each(|n| assert_eq!(gateway.get(&format!("/app/large{n}")).status, 200));
    assert!(number(&gateway, "longest_free_bytes") < empty, "most of it is taken");
    assert!(rejected(&gateway, "too-large") < 0.5);
    gateway.get("/app/huge");
    assert!(rejected(&gateway, "too-large") > 0.5, "larger than an object may be");
    assert!(rejected(&gateway, "failed") < 0.5);
    let _ = begin(&gateway, "/app/cut").try_read("GET");
    eventually!(rejected(&gateway, "failed") > 0.5, "its body was not as long as it said");
    let reload = [("Cache-Control", "no-cache")];
    assert!(evicted(&gateway, "replaced") < 0.5);
    gateway.admin_post("/purge", &json!({ "url": "http://app.example/app/a", "mode": "soft" }).to_string());
    gateway.request("GET", "/app/a", &reload, b"");
    eventually!(evicted(&gateway, "replaced") > 0.5, "a newer one took its place");
    gateway.admin_post("/purge", &json!({ "url": "http://app.example/app/a", "mode": "hard" }).to_string());
    eventually!(evicted(&gateway, "purge") > 0.5, "removed");
    (0..2000).for_each(|n| assert_eq!(gateway.get(&format!("/app/{n}")).status, 200));
    assert!(evicted(&gateway, "size") > 0.5, "no more than the records");
    assert!(number(&gateway, "entries") <= number(&gateway, "max_entries"));
    let stats = gateway.admin("/cache/stats").json();
    assert_eq!(stats["rejected"]["tooLarge"], json!(1), "{stats}");
    assert_eq!(stats["rejected"]["failed"], json!(1), "{stats}");
}

#[test]
fn what_finds_no_room_is_counted_as_that_and_what_a_purge_overtakes_as_that() {
    let gate = Gate::new();
    let door = gate.clone();
    let origin = Origin::start(move |_| {
        let mut begin = response_bytes(200, &[FRESH], &[b'x'; 500_000]);
        let rest = begin.split_off(begin.len() - 1000);
        Reply::Steps(vec![(Gate::opened(), begin), (door.clone(), rest)])
    });
    let gateway = small(&origin, "size: 4MiB, maxObject: 512KiB");
    let mut clients: Vec<Client> = (0..12).map(|n| begin(&gateway, &format!("/app/{n}"))).collect();
    eventually!(rejected(&gateway, "no-room") > 0.5, "those that are being stored fill it");
    assert!(number(&gateway, "fills") > 1.5, "they are running");
    gateway.admin_post("/purge", &json!({ "all": true, "mode": "hard" }).to_string());
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read("GET").body.len(), 500_000, "every client gets it");
    }
    eventually!(rejected(&gateway, "purged") > 0.5, "what was asked for before the purge");
    eventually!(number(&gateway, "fills") < 0.5, "none is running");
}

#[test]
fn what_slow_readers_hold_is_counted_and_bounded() {
    const BODY: usize = 8 << 20;
    let origin = Origin::start(|_| response(200, &[FRESH], &vec![b'x'; BODY]));
    let gateway = small(&origin, "size: 64MiB, maxObject: 8MiB");
    let targets = ["/app/a", "/app/b"];
    let mut readers: Vec<Client> = targets
        .iter()
        .map(|target| {
            gateway.get(target);
            let mut client = begin(&gateway, target);
            let head = client.read_head().expect("a head");
            assert!(format!("{head:?}").contains("; hit"), "{head:?}");
            client
        })
        .collect();
    assert!(number(&gateway, "pinned_bytes") < 0.5, "what is there is not counted");
    gateway.admin_post("/purge", &json!({ "all": true, "mode": "hard" }).to_string());
    eventually!(number(&gateway, "pinned_bytes") > (2 * BODY) as f64 - 1.0, "gone but for their readers");
    assert!(rejected(&gateway, "pinned") < 0.5);
    assert!(!is_stored(&gateway.get("/app/c")) || rejected(&gateway, "pinned") > 0.5);
    eventually!(rejected(&gateway, "pinned") > 0.5, "nothing new is stored meanwhile");
    for reader in &mut readers {
        assert_eq!(reader.read_exact(BODY), vec![b'x'; BODY], "as it was when they began");
    }
    eventually!(number(&gateway, "pinned_bytes") < 0.5, "they have let go");
    gateway.get("/app/c");
    assert!(is_hit(&gateway.get("/app/c")), "and it is stored again");
}

#[test]
fn who_stores_what_survived_and_what_was_damaged_is_counted() {
    let origin = Origin::start(|request| response(200, &[FRESH], request.target().as_bytes()));
    let (_folder, file) = place();
    let config = on(&origin, &["cache: {}"], &file);
    let first = Gateway::start(&config);
    let second = Gateway::start(&config);
    assert!(number(&first, "writer") > 0.5 && number(&second, "writer") < 0.5);
    first.get("/app/a");
    first.get("/app/b-of-a-length");
    assert!(rejected(&second, "no-lease") < 0.5);
    second.get("/app/c");
    eventually!(rejected(&second, "no-lease") > 0.5, "it may not store");
    kill(first);
    eventually!(stores(&second) && number(&second, "writer") > 0.5, "it takes over");
    assert!((number(&second, "survived_entries") - 2.0).abs() < 0.5, "with two answers");
    kill(second);
    let mut bytes = std::fs::read(&file).expect("read");
    // The body, not the path in its key.
    let body = memchr::memmem::rfind(&bytes, b"/app/b-of-a-length").expect("a body");
    bytes[body] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let third = Gateway::start(&config);
    eventually!(stores(&third), "it stores");
    assert!(number(&third, "corrupt_total") < 0.5 && number(&third, "made_anew") < 0.5);
    assert!(!is_hit(&third.get("/app/b-of-a-length")), "never a wrong byte");
    assert!(number(&third, "corrupt_total") > 0.5, "and it is counted");
    kill(third);
    std::fs::write(&file, b"not a cache").expect("written");
    let fourth = Gateway::start(&config);
    assert!(number(&fourth, "made_anew") > 0.5 && number(&fourth, "survived_entries") < 0.5);
}
