//! Stale answers: given at once while one request refreshes them, or while the upstream fails; and revalidation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::cache_gate::{BOTH, begin, cache_status, gateway, is_hit};
use crate::harness::{Answer, Gate, Origin, Reply, response, response_bytes};

/// A switch between a healthy origin and one that fails.
type Switch = Arc<AtomicBool>;

fn is_stale(answer: &Answer) -> bool {
    let status = cache_status(answer);
    let ttl = status.split("; ").find_map(|m| m.strip_prefix("ttl=")).and_then(|n| n.parse::<i64>().ok());
    // In the place of an error it is no hit: the upstream was asked (RFC 9211 §2.1).
    (is_hit(answer) || status.contains("detail=stale-if-error")) && ttl.is_some_and(|ttl| ttl < 0)
}

#[test]
fn a_stale_answer_is_given_at_once_and_refreshed_once_behind_it() {
    for way in BOTH {
        let gate = Gate::new();
        let (door, count) = (gate.clone(), AtomicUsize::new(0));
        let origin = Origin::start(move |_| {
            let n = count.fetch_add(1, Ordering::SeqCst);
            let fresh = if n == 0 { "max-age=1" } else { "max-age=60" };
            let bytes = response_bytes(200, &[("Cache-Control", fresh)], format!("v{n}").as_bytes());
            Reply::Steps(vec![(if n == 0 { Gate::opened() } else { door.clone() }, bytes)])
        });
        let gateway = gateway(
            &origin,
            &["cache: { staleWhileRevalidate: 1h }", "rateLimit: { requests: 1000, window: 1h }"],
        );
        let target = format!("{way}/x");
        gateway.get(&target);
        eventually!(is_stale(&gateway.get(&target)), "{way}: it grows stale and is given nevertheless");
        eventually!(origin.count() == 2, "{way}: somebody refreshes it");
        for _ in 0..5 {
            let answer = gateway.get(&target);
            assert_eq!(
                (answer.text().as_str(), is_stale(&answer)),
                ("v0", true),
                "{way}: at once, while it is fetched"
            );
        }
        assert_eq!(origin.count(), 2, "{way}: one refresh, however many ask");
        gate.open();
        eventually!(gateway.get(&target).text() == "v1", "{way}: the new one is there");
        let fresh = gateway.get(&target);
        assert!(is_hit(&fresh) && !is_stale(&fresh), "{way}: {}", cache_status(&fresh));
        assert_eq!(origin.count(), 2, "{way}: exactly one refresh");
    }
}

#[test]
fn who_could_not_be_stored_causes_no_refresh() {
    let origin = Origin::start(|request| {
        let fresh = if request.target().contains("all") { "public, max-age=0" } else { "max-age=0" };
        response(200, &[("Cache-Control", fresh)], request.header("cookie").unwrap_or("nobody").as_bytes())
    });
    let gateway = gateway(&origin, &["cache: { staleWhileRevalidate: 1h }"]);
    let ask = |target: &str| gateway.request("GET", target, &[("Cookie", "a=1")], b"");
    gateway.get("/app/mine");
    for _ in 0..3 {
        let answer = ask("/app/mine");
        assert!(is_stale(&answer) && answer.text() == "nobody", "given what is there: {answer:?}");
    }
    assert!(is_stale(&gateway.get("/app/mine")), "and who could be");
    eventually!(origin.count() == 2, "brings a new one");
    gateway.get("/app/all");
    assert!(is_stale(&ask("/app/all")), "where everybody may have it");
    eventually!(origin.count() == 4, "a cookie is no hindrance");
}

#[test]
fn a_refresh_is_charged_to_nobodys_limit_and_counted_as_no_request() {
    for way in BOTH {
        let count = AtomicUsize::new(0);
        let origin = Origin::start(move |_| {
            let fresh = if count.fetch_add(1, Ordering::SeqCst) == 0 { "max-age=1" } else { "max-age=60" };
            response(200, &[("Cache-Control", fresh)], b"x")
        });
        let gateway = gateway(
            &origin,
            &["cache: { staleWhileRevalidate: 1h }", "rateLimit: { requests: 1000, window: 1h }"],
        );
        let target = format!("{way}/x");
        let mut asked = 0;
        eventually!(
            {
                asked += 1;
                gateway.get(&target).status == 200 && origin.count() == 2
            },
            "{way}: it is refreshed"
        );
        let last = gateway.get(&target);
        let left = format!("\"default\";r={};", 1000 - asked - 1);
        assert!(last.header("ratelimit").is_some_and(|v| v.starts_with(&left)), "{way}: {left} in {last:?}");
        let series =
            format!("portcullis_requests_total{{route=\"{}\",method=\"GET\",code=\"200\"}}", &way[1..]);
        eventually!(
            gateway.metric(&series) == f64::from(asked + 1),
            "{way}: {} requests",
            gateway.metric(&series)
        );
    }
}

#[test]
fn a_refresh_comes_from_the_address_of_the_client_that_caused_it() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |_| {
        let fresh = if count.fetch_add(1, Ordering::SeqCst) == 0 { "max-age=1" } else { "max-age=60" };
        response(200, &[("Cache-Control", fresh)], b"x")
    });
    let gateway = gateway(&origin, &["cache: { staleWhileRevalidate: 1h }"]);
    eventually!(gateway.get("/app/x").status == 200 && origin.count() == 2, "it is refreshed");
    let [first, second] = &origin.received()[..] else { panic!("two requests") };
    for name in ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"] {
        assert_eq!(
            second.header(name),
            first.header(name),
            "`{name}` of the refresh is that of the first fetch"
        );
    }
}

#[test]
fn a_refresh_that_fails_leaves_the_stale_answer() {
    for way in BOTH {
        let count = AtomicUsize::new(0);
        let origin = Origin::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => response(200, &[("Cache-Control", "max-age=1")], b"good"),
            1 => Reply::Close,
            _ => response(500, &[], b"bad"),
        });
        let gateway = gateway(&origin, &["cache: { staleWhileRevalidate: 1h }"]);
        let target = format!("{way}/x");
        eventually!(
            gateway.get(&target).text() == "good" && origin.count() >= 4,
            "{way}: refreshed again and again"
        );
        let answer = gateway.get(&target);
        assert_eq!((answer.status, answer.text().as_str()), (200, "good"), "{way}: {answer:?}");
    }
}

fn failing(switch: &Switch, fresh: &'static str, how: impl Fn() -> Reply + Send + Sync + 'static) -> Origin {
    let fails = switch.clone();
    Origin::start(move |_| {
        if fails.load(Ordering::SeqCst) {
            return how();
        }
        response(200, &[("Cache-Control", fresh)], b"good")
    })
}

#[test]
fn a_stale_answer_takes_the_place_of_an_error() {
    type Way = (&'static str, fn() -> Reply);
    let ways: [Way; 3] = [
        ("closed", || Reply::Close),
        ("500", || response(500, &[], b"bad")),
        ("503", || response(503, &[("Retry-After", "9")], b"bad")),
    ];
    for (kind, how) in ways {
        let switch = Switch::default();
        let origin = failing(&switch, "max-age=0", how);
        let gateway = gateway(&origin, &["cache: { staleIfError: 1h }"]);
        for way in BOTH {
            switch.store(false, Ordering::SeqCst);
            let target = format!("{way}/x");
            gateway.get(&target);
            switch.store(true, Ordering::SeqCst);
            let answer = gateway.get(&target);
            assert!(is_stale(&answer), "{way} {kind}: {answer:?}");
            assert_eq!((answer.status, answer.text().as_str()), (200, "good"), "{way} {kind}: {answer:?}");
            assert!(!answer.text().contains("bad"), "{way} {kind}");
            switch.store(false, Ordering::SeqCst);
            assert!(!is_hit(&gateway.get(&target)), "{way} {kind}: healthy again");
        }
    }
}

#[test]
fn without_a_window_an_error_is_an_error() {
    let switch = Switch::default();
    let origin = failing(&switch, "max-age=1", || Reply::Close);
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        switch.store(false, Ordering::SeqCst);
        gateway.get(&format!("{way}/x"));
        switch.store(true, Ordering::SeqCst);
        eventually!(gateway.get(&format!("{way}/x")).status == 502, "{way}: once it is stale");
    }
}

#[test]
fn an_app_is_asked_whether_its_stale_answer_still_holds() {
    let origin = Origin::start(|request| {
        if request.header("if-none-match") == Some("\"v1\"") {
            return Reply::Raw(
                b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nCache-Control: max-age=60\r\n\r\n".to_vec(),
            );
        }
        response(200, &[("Cache-Control", "max-age=1"), ("ETag", "\"v1\"")], b"body")
    });
    let gateway = gateway(&origin, &["cache: {}"]);
    gateway.get("/app/x");
    let mut last;
    eventually!(
        {
            last = gateway.get("/app/x");
            origin.count() == 2
        },
        "it grows stale"
    );
    assert_eq!((last.status, last.text().as_str()), (200, "body"), "the stored body: {last:?}");
    assert_eq!(origin.last().header("if-none-match"), Some("\"v1\""), "asked with the stored tag");
    assert!(cache_status(&last).contains("fwd=stale"), "{}", cache_status(&last));
    let next = gateway.get("/app/x");
    assert_eq!((next.text().as_str(), is_hit(&next)), ("body", true), "fresh again: {}", cache_status(&next));
    assert_eq!(origin.count(), 2);
}

#[test]
fn waiters_at_a_stale_entry_are_one_request_too() {
    for way in BOTH {
        let gate = Gate::new();
        let (door, count) = (gate.clone(), AtomicUsize::new(0));
        let origin = Origin::start(move |_| {
            let n = count.fetch_add(1, Ordering::SeqCst);
            // Stale on arrival, and kept for the sake of its window.
            let fresh = if n == 0 { "max-age=0" } else { "max-age=60" };
            let bytes = response_bytes(200, &[("Cache-Control", fresh)], format!("v{n}").as_bytes());
            Reply::Steps(vec![(if n == 0 { Gate::opened() } else { door.clone() }, bytes)])
        });
        let gateway = gateway(&origin, &["cache: { staleIfError: 1h }"]);
        let target = format!("{way}/x");
        assert!(cache_status(&gateway.get(&target)).contains("stored"), "{way}: kept");
        let mut clients = vec![begin(&gateway, &target)];
        eventually!(origin.count() == 2, "{way}: the first fetches it anew");
        clients.extend((0..4).map(|_| begin(&gateway, &target)));
        crate::cache_gate::wait_active(&gateway, 5);
        gate.open();
        for client in &mut clients {
            assert_eq!(client.read("GET").text(), "v1", "{way}: the new one");
        }
        assert_eq!(origin.count(), 2, "{way}: one request");
    }
}
