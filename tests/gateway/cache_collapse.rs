//! Concurrent misses: one request to the upstream, its bytes and its failures shared; nobody's departure hurts the others.

use std::sync::Mutex;

use crate::cache_gate::{BOTH, begin, cache_status, gateway, is_hit, wait_active};
use crate::harness::{Answer, Client, Gate, Gateway, Origin, Reply, response, response_bytes};

const READERS: usize = 6;
/// Half of a body; larger than any buffer on the way, because a small body of known length is sent at its end.
const HALF: usize = 200_000;

/// An answer that may be stored, in two halves.
fn halves() -> (Vec<u8>, Vec<u8>) {
    let mut head = response_bytes(200, &[("Cache-Control", "max-age=60")], &[b'x'; 2 * HALF]);
    let tail = head.split_off(head.len() - HALF);
    (head, tail)
}

/// An origin whose answer waits at a gate.
fn gated(gate: &Gate, bytes: Vec<u8>) -> Origin {
    let gate = gate.clone();
    Origin::start(move |_| Reply::Steps(vec![(gate.clone(), bytes.clone())]))
}

fn all_begin(gateway: &Gateway, target: &str, origin: &Origin) -> Vec<Client> {
    let before = origin.count();
    let mut clients = vec![begin(gateway, target)];
    eventually!(origin.count() == before + 1, "the first asks the origin");
    clients.extend((1..READERS).map(|_| begin(gateway, target)));
    wait_active(gateway, READERS);
    clients
}

fn read_all(clients: &mut [Client]) -> Vec<Answer> {
    clients.iter_mut().map(|client| client.read("GET")).collect()
}

#[test]
fn concurrent_misses_are_one_request_to_the_upstream() {
    for way in BOTH {
        let gate = Gate::new();
        let origin = gated(&gate, response_bytes(200, &[("Cache-Control", "max-age=60")], b"shared"));
        let gateway = gateway(&origin, &["cache: {}"]);
        let mut clients = all_begin(&gateway, &format!("{way}/x"), &origin);
        gate.open();
        for (n, answer) in read_all(&mut clients).iter().enumerate() {
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "shared"),
                "{way} reader {n}: {answer:?}"
            );
            let status = cache_status(answer);
            if n == 0 {
                assert!(status.contains("stored") && !status.contains("collapsed"), "{way} leader: {status}");
            } else {
                assert!(status.contains("collapsed") || status.contains("hit"), "{way} reader {n}: {status}");
            }
        }
        assert_eq!(origin.count(), 1, "{way}: one request for all");
    }
}

#[test]
fn readers_get_the_first_bytes_while_the_rest_is_still_to_come() {
    for way in BOTH {
        let (first, rest) = (Gate::new(), Gate::new());
        let gates = (first.clone(), rest.clone());
        let origin = Origin::start(move |_| {
            let (head, tail) = halves();
            Reply::Steps(vec![(gates.0.clone(), head), (gates.1.clone(), tail)])
        });
        let gateway = gateway(&origin, &["cache: {}"]);
        let mut clients = all_begin(&gateway, &format!("{way}/x"), &origin);
        first.open();
        for (n, client) in clients.iter_mut().enumerate() {
            let (status, ..) = client.read_head().expect("a head before the body is complete");
            assert_eq!((status, client.read_exact(HALF / 2).len()), (200, HALF / 2), "{way} reader {n}");
        }
        // One that comes now joins the fill too.
        let mut late = begin(&gateway, &format!("{way}/x"));
        assert!(late.read_head().is_some_and(|(status, ..)| status == 200), "{way}: a late reader");
        assert_eq!(late.read_exact(HALF / 2).len(), HALF / 2, "{way}: from the first byte");
        rest.open();
        for client in clients.iter_mut().chain([&mut late]) {
            assert_eq!(client.read_exact(HALF + HALF / 2).len(), HALF + HALF / 2, "{way}: the rest");
        }
        assert_eq!(origin.count(), 1, "{way}: one request for all");
    }
}

#[test]
fn the_failure_of_the_one_request_is_everybodys() {
    for (kind, bytes) in [
        ("closed", Vec::new()),
        ("no HTTP", b"SSH-2.0-nothing\r\n\r\n".to_vec()),
        ("error answer", response_bytes(500, &[], b"vendor trace")),
        ("busy answer", response_bytes(503, &[], b"vendor trace")),
    ] {
        for way in BOTH {
            let gate = Gate::new();
            let (door, answer) = (gate.clone(), bytes.clone());
            let origin = Origin::start(move |_| {
                door.wait();
                if answer.is_empty() { Reply::Close } else { Reply::RawThenClose(answer.clone()) }
            });
            let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
            let mut clients = all_begin(&gateway, &format!("{way}/x"), &origin);
            gate.open();
            for answer in read_all(&mut clients) {
                assert!(answer.status >= 500, "{way} {kind}: {answer:?}");
                assert!(!is_hit(&answer), "{way} {kind}: {}", cache_status(&answer));
            }
            let asked = origin.count();
            if way == "/api" || !kind.ends_with("answer") {
                // An exchange that broke may be tried a second time, for all of them.
                let most = if kind.ends_with("answer") { 1 } else { 2 };
                assert!(
                    asked <= most,
                    "{way} {kind}: the upstream was asked {asked} times, not once per waiter"
                );
            }
            assert!(gateway.get(&format!("{way}/x")).status >= 500, "{way} {kind}");
            assert!(origin.count() > asked, "{way} {kind}: who comes later asks again");
        }
    }
}

#[test]
fn an_answer_that_cannot_be_shaped_fails_for_all_who_waited() {
    let gate = Gate::new();
    let origin = gated(&gate, response_bytes(200, &[("Cache-Control", "max-age=60")], b"no json"));
    let gateway = gateway(&origin, &["cache: {}", "response: { json: { remove: [\"$.a\"] } }"]);
    let mut clients = all_begin(&gateway, "/api/x", &origin);
    gate.open();
    for answer in read_all(&mut clients) {
        assert_eq!(answer.status, 502, "{answer:?}");
    }
    assert_eq!(origin.count(), 1, "one request for all");
}

#[test]
fn an_origin_that_dies_in_the_body_cuts_every_reader_and_leaves_nothing() {
    for way in BOTH {
        let (first, rest) = (Gate::new(), Gate::new());
        let gates = (first.clone(), rest.clone());
        let healthy = Mutex::new(false);
        let origin = Origin::start(move |_| {
            let (head, tail) = halves();
            if std::mem::replace(&mut *healthy.lock().unwrap(), true) {
                return Reply::Raw([head, tail].concat());
            }
            gates.0.wait();
            let gate = gates.1.clone();
            Reply::Upgrade(
                head,
                Box::new(move |socket| {
                    gate.wait();
                    let _ = socket.shutdown(std::net::Shutdown::Both);
                }),
            )
        });
        let gateway = gateway(&origin, &["cache: {}"]);
        let mut clients = all_begin(&gateway, &format!("{way}/x"), &origin);
        first.open();
        for client in &mut clients {
            assert!(client.read_head().is_some_and(|(status, ..)| status == 200), "{way}: a head");
            assert_eq!(client.read_exact(HALF / 2).len(), HALF / 2, "{way}");
        }
        rest.open();
        for (n, client) in clients.iter_mut().enumerate() {
            let rest = client.read_to_end().len();
            assert!(rest <= HALF / 2, "{way} reader {n}: cut, not ended: {rest} more");
        }
        let next = gateway.get(&format!("{way}/x"));
        assert_eq!((next.body.len(), is_hit(&next)), (2 * HALF, false), "{way}: nothing was stored");
    }
}

#[test]
fn a_client_that_goes_away_does_not_end_the_fill_that_it_leads() {
    for way in BOTH {
        let (first, rest) = (Gate::new(), Gate::new());
        let gates = (first.clone(), rest.clone());
        let origin = Origin::start(move |_| {
            let (head, tail) = halves();
            Reply::Steps(vec![(gates.0.clone(), head), (gates.1.clone(), tail)])
        });
        let gateway = gateway(&origin, &["cache: {}"]);
        let mut clients = all_begin(&gateway, &format!("{way}/x"), &origin);
        let mut leader = clients.remove(0);
        first.open();
        assert!(leader.read_head().is_some(), "{way}: the leader has begun to read");
        drop(leader);
        rest.open();
        for answer in read_all(&mut clients) {
            assert_eq!(
                (answer.status, answer.body.len(), answer.cut),
                (200, 2 * HALF, false),
                "{way}: whole"
            );
        }
        let next = gateway.get(&format!("{way}/x"));
        assert!(is_hit(&next), "{way}: it was stored: {}", cache_status(&next));
        assert_eq!(origin.count(), 1, "{way}");
    }
}

#[test]
fn a_client_that_goes_away_before_the_head_leaves_the_others_their_answer() {
    for way in BOTH {
        let gate = Gate::new();
        let origin = gated(&gate, response_bytes(200, &[("Cache-Control", "max-age=60")], b"shared"));
        let gateway = gateway(&origin, &["cache: {}"]);
        let mut clients = all_begin(&gateway, &format!("{way}/x"), &origin);
        drop(clients.remove(0));
        gate.open();
        for answer in read_all(&mut clients) {
            assert_eq!((answer.status, answer.text().as_str()), (200, "shared"), "{way}");
        }
        assert!(is_hit(&gateway.get(&format!("{way}/x"))), "{way}: stored");
    }
}

#[test]
fn an_answer_that_cannot_be_shared_lets_all_waiters_go_at_once() {
    for way in BOTH {
        let first = Gate::new();
        let rest = Gate::new();
        let gates = (first.clone(), rest.clone());
        let count = Mutex::new(0);
        let origin = Origin::start(move |_| {
            let mut count = count.lock().unwrap();
            *count += 1;
            // The first answer opens the way; the others answer only when all of them are there.
            let gate = if *count == 1 { &gates.0 } else { &gates.1 };
            Reply::Steps(vec![(gate.clone(), response_bytes(200, &[("Cache-Control", "no-store")], b"mine"))])
        });
        let gateway = gateway(&origin, &["cache: {}"]);
        let mut clients = all_begin(&gateway, &format!("{way}/x"), &origin);
        first.open();
        eventually!(origin.count() == READERS, "{way}: {} of {READERS} asked side by side", origin.count());
        rest.open();
        for answer in read_all(&mut clients) {
            assert_eq!((answer.status, answer.text().as_str()), (200, "mine"), "{way}");
        }
    }
}

#[test]
fn a_url_that_was_not_shared_and_now_may_be_is_stored_again() {
    for way in BOTH {
        let store = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let now = store.clone();
        let origin = Origin::start(move |_| {
            let now = now.load(std::sync::atomic::Ordering::SeqCst);
            response(200, &[("Cache-Control", if now { "max-age=60" } else { "no-store" })], b"x")
        });
        let gateway = gateway(&origin, &["cache: {}"]);
        for _ in 0..2 {
            assert!(!is_hit(&gateway.get(&format!("{way}/x"))), "{way}");
        }
        store.store(true, std::sync::atomic::Ordering::SeqCst);
        gateway.get(&format!("{way}/x"));
        let next = gateway.get(&format!("{way}/x"));
        assert!(is_hit(&next), "{way}: the memory of the refusal ends: {}", cache_status(&next));
    }
}
