//! Where secrets come from: refused when they cannot be good, swapped under traffic, kept when lost, and 503 at last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Client, Gateway, HEAD, Origin, Setup};

const OLD: &str = "old-secret-0123456789";
const NEW: &str = "new-secret-9876543210-and-longer";

fn yaml(origin: &Origin, source: &str) -> String {
    format!(
        "{HEAD}secrets:\n  vendor-key: {source}
upstreams:
  vendor: {{ url: \"{0}\", allowPrivate: true, credential: {{ apiKey: {{ in: header, name: X-Api-Key, secret: vendor-key }} }} }}
routes: [{{ name: api, upstream: vendor }}]
",
        origin.url()
    )
}

fn with_file(origin: &Origin, more: &str) -> Gateway {
    Setup::new().file("key", format!("{OLD}\n")).start(&yaml(origin, &format!("{{ file: key{more} }}")))
}

#[test]
fn a_secret_that_cannot_be_good_is_a_refused_start_with_its_place_and_without_its_value() {
    let origin = Origin::ok();
    for (what, value) in [
        ("missing", None),
        ("empty", Some("")),
        ("short", Some("shorty7")),
        ("CR", Some("canary-value\rwith-cr")),
        ("LF", Some("canary-value\nwith-lf")),
        ("CRLF", Some("canary-value\r\nX-Evil: 1")),
    ] {
        for source in ["{ env: VENDOR_KEY }", "{ file: key }"] {
            let mut setup = Setup::new();
            if let Some(value) = value {
                setup = setup.env("VENDOR_KEY", value).file("key", value);
            }
            let refused = setup.try_start(&yaml(&origin, source));
            let Err((status, said)) = refused else { panic!("{what} from {source}: it started") };
            assert!(!status.success(), "{what} from {source}");
            assert!(
                said.contains("portcullis.yaml:5:"),
                "{what} from {source}: the place is missing in\n{said}"
            );
            assert!(said.contains("vendor-key"), "{what} from {source}: the name is missing in\n{said}");
            assert!(
                !said.contains("canary-value") && !said.contains("shorty7"),
                "{what} from {source}: the value is in\n{said}"
            );
        }
    }
    let nul = Setup::new().file("key", b"canary-value\0with-nul").try_start(&yaml(&origin, "{ file: key }"));
    let Err((_, said)) = nul else { panic!("NUL: it started") };
    assert!(!said.contains("canary-value"), "{said}");
}

#[test]
fn an_inline_secret_is_refused_and_not_repeated() {
    let origin = Origin::ok();
    for source in ["canary-inline-value", "{ value: canary-inline-value }"] {
        let Err((_, said)) = Setup::new().try_start(&yaml(&origin, source)) else { panic!("it started") };
        assert!(!said.contains("canary-inline"), "{said}");
    }
}

#[test]
fn a_rotation_under_traffic_sends_the_old_or_the_new_and_nothing_else() {
    let origin = Origin::ok();
    let gateway = with_file(&origin, "");
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (stop, address) = (stop.clone(), gateway.address());
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut failed = 0;
                while !stop.load(Ordering::Acquire) {
                    failed += usize::from(client.request("GET", "/", &[], b"").status != 200);
                }
                failed
            })
        })
        .collect();
    for value in [NEW, OLD, NEW] {
        gateway.write_file("key", value.as_bytes());
        eventually!(
            origin.count() > 0 && origin.last().header("x-api-key") == Some(value),
            "{value} is never used: {}",
            gateway.stderr()
        );
    }
    stop.store(true, Ordering::Release);
    let failed: usize = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    assert_eq!(failed, 0, "no request failed");
    for got in origin.received() {
        let sent = got.all("x-api-key");
        assert!(sent == [OLD] || sent == [NEW], "{sent:?}");
    }
    assert!(!gateway.stderr().contains(OLD) && !gateway.stderr().contains(NEW));
}

#[test]
fn a_file_that_is_lost_or_broken_leaves_the_last_good_value_in_use() {
    let origin = Origin::ok();
    let gateway = with_file(&origin, "");
    let path = gateway.directory().join("key");
    let failures = || {
        gateway
            .admin("/metrics")
            .text()
            .lines()
            .filter(|l| l.contains("secret") && l.contains("fail") || l.contains("error"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for bad in [None, Some(""), Some("short"), Some("canary-with\nnewline")] {
        match bad {
            None => std::fs::remove_file(&path).expect("removed"),
            Some(text) => gateway.write_file("key", text.as_bytes()),
        }
        let said = gateway.stderr().len();
        gateway.signal("HUP");
        eventually!(
            gateway.stderr().get(said..).is_some_and(|s| s.contains("vendor-key")),
            "{bad:?}: it is said: {}",
            gateway.stderr()
        );
        assert_eq!(gateway.get("/").status, 200, "{bad:?}: {:?}", failures());
        assert_eq!(origin.last().all("x-api-key"), [OLD], "{bad:?}");
    }
    assert!(
        !gateway.stderr().contains("canary-with") && !gateway.stderr().contains(OLD),
        "{}",
        gateway.stderr()
    );
    gateway.write_file("key", NEW.as_bytes());
    eventually!(
        gateway.get("/").status == 200 && origin.last().all("x-api-key") == [NEW],
        "a good one is taken again"
    );
}

#[test]
fn a_value_that_is_kept_for_too_long_is_503_and_the_origin_is_not_asked() {
    let origin = Origin::ok();
    let gateway = with_file(&origin, ", keepLastGood: 1s");
    assert_eq!(gateway.get("/").status, 200);
    std::fs::remove_file(gateway.directory().join("key")).expect("removed");
    eventually!(
        {
            gateway.signal("HUP");
            gateway.get("/").status == 503
        },
        "it is used for ever: {}",
        gateway.stderr()
    );
    let asked = origin.count();
    let answer = gateway.get("/");
    assert_eq!((answer.status, answer.code().as_str()), (503, "secret_unavailable"));
    assert!(answer.header("retry-after").is_some(), "when to come again");
    assert_eq!(origin.count(), asked, "never a request without its credential");
    gateway.write_file("key", NEW.as_bytes());
    eventually!(gateway.get("/").status == 200, "it comes back with the file: {}", gateway.stderr());
    assert_eq!(origin.last().all("x-api-key"), [NEW]);
}
