//! The cache's file: what is stored outlives the process, however that ends, and is shared by those that live at once.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cache_gate::{BOTH, begin, is_hit, is_stored, wait_active, yaml};
use crate::harness::{Gate, Gateway, Origin, Reply, Setup, response, response_bytes};

/// A folder in memory with the name of a file in it.
pub fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let file = folder.path().join("cache");
    (folder, file)
}

pub fn on(origin: &Origin, lines: &[&str], file: &Path) -> String {
    let file = file.display();
    yaml(origin, lines) + &format!("cache: {{ file: {file}, size: 4MiB, maxObject: 512KiB }}\n")
}

fn origin() -> Origin {
    Origin::start(|request| {
        let body = format!("{} at {}", request.target(), request.header("accept").unwrap_or("-"));
        let tag = if request.target().contains("news") { "news" } else { "rest" };
        response(
            200,
            &[("Cache-Control", "max-age=600"), ("Vary", "Accept"), ("Cache-Tag", tag)],
            body.as_bytes(),
        )
    })
}

pub fn kill(mut gateway: Gateway) {
    gateway.signal("KILL");
    gateway.wait();
}

pub fn stores(gateway: &Gateway) -> bool {
    gateway.admin("/cache/stats").json()["writer"] == json!(true)
}

#[test]
fn what_was_stored_is_served_after_a_kill() {
    let origin = origin();
    let (_folder, file) = place();
    let config = on(&origin, &["cache: { tags: [all] }"], &file);
    let first = Gateway::start(&config);
    for way in BOTH {
        for accept in ["text/html", "text/plain"] {
            let answer = first.request("GET", &format!("{way}/a"), &[("Accept", accept)], b"");
            assert!(is_stored(&answer), "{way} {accept}");
        }
        first.get(&format!("{way}/large?{}", "x".repeat(300)));
    }
    kill(first);
    let calls = origin.count();
    let next = Gateway::start(&config);
    for way in BOTH {
        for accept in ["text/html", "text/plain"] {
            let answer = next.request("GET", &format!("{way}/a"), &[("Accept", accept)], b"");
            assert!(is_hit(&answer), "{way} {accept}: {:?}", answer.headers);
            assert_eq!(answer.text(), format!("{way}/a at {accept}"), "the right variant");
        }
    }
    assert_eq!(origin.count(), calls, "the origin was not asked");
    eventually!(stores(&next), "it stores");
    assert!(is_stored(&next.get("/api/new")), "what is new as well");
}

#[test]
fn a_purge_is_not_undone_by_a_kill() {
    let origin = origin();
    let (_folder, file) = place();
    let config = on(&origin, &["cache: {}"], &file);
    for (body, gone) in [
        (json!({ "tag": "news", "mode": "hard" }), true),
        (json!({ "route": "api", "mode": "hard" }), true),
        (json!({ "url": "http://app.example/api/news", "mode": "hard" }), true),
        (json!({ "prefix": "http://app.example/api", "mode": "soft" }), false),
        (json!({ "all": true, "mode": "hard" }), true),
    ] {
        let first = Gateway::start(&config);
        eventually!(stores(&first), "it stores");
        first.get("/api/news");
        assert!(is_hit(&first.get("/api/news")), "{body}");
        assert_eq!(first.admin_post("/purge", &body.to_string()).status, 200, "{body}");
        kill(first);
        let next = Gateway::start(&config);
        let answer = next.get("/api/news");
        assert!(!is_hit(&answer), "{body}: purged is purged");
        let status = answer.header("cache-status").unwrap_or_default().to_owned();
        assert_eq!(status.contains("fwd=stale"), !gone, "{body}: {status}");
        kill(next);
    }
}

#[test]
fn a_second_process_serves_what_the_first_stores_and_takes_over_when_it_dies() {
    let origin = origin();
    let (_folder, file) = place();
    let config = on(&origin, &["cache: {}"], &file);
    let first = Gateway::start(&config);
    let second = Gateway::start(&config);
    assert!(stores(&first) && !stores(&second), "one stores");
    assert!(second.stderr().contains("another process stores"), "{}", second.stderr());
    first.get("/api/a");
    assert!(is_hit(&second.get("/api/a")), "at once");
    assert!(!is_stored(&second.get("/api/b")), "it passes by what is not there");
    assert!(!is_hit(&first.get("/api/b")), "and stores nothing");
    let purge = json!({ "url": "http://app.example/api/a", "mode": "hard" }).to_string();
    assert_eq!(second.admin_post("/purge", &purge).status, 200);
    assert!(!is_hit(&first.get("/api/a")), "a purge of the second is seen by the first");
    kill(first);
    eventually!(stores(&second), "the second takes over");
    assert!(is_hit(&second.get("/api/b")), "with what the first stored last");
    assert!(is_stored(&second.get("/api/c")), "and stores");
}

#[test]
fn an_answer_that_was_half_stored_is_not_there() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |_| {
        let mut begin = response_bytes(200, &[("Cache-Control", "max-age=600")], &[b'a'; 200_000]);
        let rest = begin.split_off(100_000);
        Reply::Steps(vec![(Gate::opened(), begin), (held.clone(), rest)])
    });
    let (_folder, file) = place();
    let config = on(&origin, &["cache: {}"], &file);
    let first = Gateway::start(&config);
    let _client = begin(&first, "/app/half");
    wait_active(&first, 1);
    eventually!(first.admin("/cache/stats").json()["fills"] == json!(1), "it is being stored");
    kill(first);
    gate.open();
    let next = Gateway::start(&config);
    let answer = next.get("/app/half");
    assert!(!is_hit(&answer) && answer.body.len() == 200_000, "fetched anew, whole");
}

#[test]
fn what_cannot_be_used_is_set_aside_and_said_and_a_start_never_fails_for_it() {
    let origin = origin();
    let (_folder, file) = place();
    let config = on(&origin, &["cache: {}"], &file);
    let start = |said: &str| {
        let gateway = Gateway::start(&config);
        assert!(gateway.stderr().contains(said), "{said}: {}", gateway.stderr());
        gateway.get("/api/a");
        assert!(is_hit(&gateway.get("/api/a")), "{said}: it stores");
        kill(gateway);
    };
    start("a fresh file was made");
    start("what is in the file is used on");
    let whole = std::fs::read(&file).expect("read");
    let write = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("written");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("private");
    };
    write(&whole[..1 << 20]);
    start("it has 1048576 bytes and says that it has 4194304");
    write(b"not a cache");
    start("it is no file of this kind");
    write(&vec![0xa5; 4 << 20]);
    start("its first page is damaged");
    let mut scribbled = whole.clone();
    for (at, byte) in scribbled.iter_mut().enumerate().skip(4096).step_by(97) {
        *byte ^= at as u8;
    }
    write(&scribbled);
    start("what is in the file is used on");
    let smaller = config.replace("4MiB", "8MiB");
    let gateway = Gateway::start(&smaller);
    assert!(
        gateway.stderr().contains("it was made for 4.0 MiB, and 8.0 MiB are configured"),
        "{}",
        gateway.stderr()
    );
}

#[test]
fn a_file_that_is_not_ours_alone_or_has_no_room_is_a_refused_start_with_what_mends_it() {
    let origin = origin();
    let (folder, file) = place();
    let config = on(&origin, &["cache: {}"], &file);
    kill(Gateway::start(&config));
    let refused = |config: &str| {
        let (status, said) = Setup::new().try_start(config).err().expect("refused");
        assert_eq!(status.code(), Some(1), "{said}");
        said
    };
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("open to all");
    let said = refused(&config);
    assert!(said.contains("error: cache: ") && said.contains("chmod 600"), "{said}");
    let link = folder.path().join("link");
    symlink(&file, &link).expect("a link");
    let said = refused(&on(&origin, &["cache: {}"], &link));
    assert!(said.contains("is a symbolic link"), "{said}");
    let said = refused(&on(&origin, &["cache: {}"], &folder.path().join("no/such/folder")));
    assert!(said.contains("its folder does not exist"), "{said}");
    let said = refused(&on(&origin, &["cache: {}"], &folder.path().join("huge")).replace("4MiB", "255GiB"));
    assert!(
        said.contains("of shared memory, and") && (said.contains("remount") || said.contains("memory.max")),
        "{said}"
    );
}

#[test]
fn nothing_of_a_request_and_no_secret_is_in_the_file() {
    const SECRET: &str = "sk-live-9f8e7d6c5b4a";
    let origin = Origin::start(|request| {
        assert!(request.header("authorization").is_some_and(|value| value.contains(SECRET)), "it came");
        response(200, &[("Cache-Control", "max-age=600")], b"the answer")
    });
    let (_folder, file) = place();
    let url = origin.url();
    let config = format!(
        "{}cache: {{ file: {}, size: 4MiB }}
secrets: {{ vendor-key: {{ env: VENDOR_KEY }} }}
upstreams:
  vendor: {{ url: \"{url}\", allowPrivate: true, credential: {{ bearer: vendor-key }} }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, cache: {{ ttl: 60s }} }}
",
        crate::harness::HEAD,
        file.display()
    );
    let gateway = Setup::new().env("VENDOR_KEY", SECRET).start(&config);
    let ask = || {
        let headers = [
            ("Cookie", "session=cookie-of-a-client"),
            ("User-Agent", "agent-of-a-client"),
            ("X-Other", "other-of-a-client"),
        ];
        gateway.request("GET", "/api/a", &headers, b"")
    };
    ask();
    assert!(is_hit(&ask()), "stored");
    let bytes = std::fs::read(&file).expect("read");
    let holds = |text: &str| memchr::memmem::find(&bytes, text.as_bytes()).is_some();
    assert!(holds("the answer") && holds("/api/a"), "the answer and its key are");
    for text in [SECRET, "cookie-of-a-client", "agent-of-a-client", "other-of-a-client", "authorization"] {
        assert!(!holds(text), "`{text}` is in the file");
    }
}
