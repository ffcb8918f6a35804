//! Fifty clients for one URL that is not stored: one call to the upstream, whatever the clients and the upstream do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::cache_gate::{BOTH, begin, cache_status, gateway, is_hit, wait_active, yaml};
use crate::harness::{
    Answer, Client, Gate, Gateway, H2Client, Origin, Received, Reply, response, response_bytes, tls_setup,
};

const CROWD: usize = 50;
/// Larger than all buffers between the upstream and a client that does not read.
const LARGE: usize = 6 << 20;

/// An origin whose every answer waits at the gate.
fn gated(gate: &Gate, answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static) -> Origin {
    let gate = gate.clone();
    Origin::start(move |request| Reply::Steps(vec![(gate.clone(), answer(request))]))
}

fn ask(gateway: &Gateway, method: &str, target: &str, fields: &str) -> Client {
    let mut client = Client::connect(gateway.address());
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: app.example\r\n{fields}\r\n").as_bytes());
    client
}

/// The first asks alone; the others come while the origin thinks.
fn crowd(gateway: &Gateway, origin: &Origin, one: impl Fn(usize) -> Client) -> Vec<Client> {
    let before = origin.count();
    let mut clients = vec![one(0)];
    eventually!(origin.count() > before, "the first asks the origin");
    clients.extend((1..CROWD).map(one));
    wait_active(gateway, CROWD);
    clients
}

fn statuses(clients: &mut [Client]) -> Vec<u16> {
    clients.iter_mut().map(|client| client.read("GET").status).collect()
}

#[test]
fn heads_parts_and_wholes_are_one_call() {
    for way in BOTH {
        for first in 0..3 {
            let gate = Gate::new();
            let origin =
                gated(&gate, |_| response_bytes(200, &[("Cache-Control", "max-age=60")], b"0123456789"));
            let gateway = gateway(&origin, &["cache: {}"]);
            let target = format!("{way}/x");
            let kind = |n: usize| (n + first) % 3;
            let mut clients = crowd(&gateway, &origin, |n| match kind(n) {
                0 => ask(&gateway, "GET", &target, ""),
                1 => ask(&gateway, "HEAD", &target, ""),
                _ => ask(&gateway, "GET", &target, "Range: bytes=2-4\r\n"),
            });
            gate.open();
            for (n, client) in clients.iter_mut().enumerate() {
                let (method, status, body) = match kind(n) {
                    0 => ("GET", 200, "0123456789"),
                    1 => ("HEAD", 200, ""),
                    _ => ("GET", 206, "234"),
                };
                let answer = client.read(method);
                assert_eq!((answer.status, answer.text().as_str()), (status, body), "{way} {n}: {answer:?}");
            }
            assert_eq!(origin.count(), 1, "{way}: led by kind {first}");
        }
    }
}

#[test]
fn an_origin_that_is_silent_is_asked_once() {
    let origin = Origin::start(|_| Reply::Silence);
    let text = yaml(&origin, &["cache: { ttl: 60s }"])
        .replace("retry: { on: [] }", "retry: { on: [] }, timeouts: { request: 1s }");
    let gateway = Gateway::start(&text);
    for way in BOTH {
        let before = origin.count();
        let mut clients = crowd(&gateway, &origin, |_| begin(&gateway, &format!("{way}/x")));
        assert_eq!(statuses(&mut clients), [504; CROWD], "{way}");
        assert_eq!(origin.count() - before, 1, "{way}");
    }
}

#[test]
fn who_leads_and_does_not_read_holds_up_nobody() {
    for way in BOTH {
        let gate = Gate::new();
        let origin =
            gated(&gate, |_| response_bytes(200, &[("Cache-Control", "max-age=60")], &vec![b'x'; LARGE]));
        let gateway = gateway(&origin, &["cache: {}"]);
        let mut clients = crowd(&gateway, &origin, |_| begin(&gateway, &format!("{way}/x")));
        let stalled = clients.remove(0);
        gate.open();
        for client in &mut clients[..5] {
            let answer = client.read("GET");
            assert_eq!((answer.body.len(), answer.cut), (LARGE, false), "{way}: whole");
        }
        assert!(is_hit(&gateway.get(&format!("{way}/x"))), "{way}: stored");
        assert_eq!(origin.count(), 1, "{way}");
        drop(stalled);
    }
}

#[test]
fn who_reads_slowly_and_leads_gets_all_of_it() {
    for way in BOTH {
        let gate = Gate::new();
        let body: Vec<u8> = (0..LARGE).map(|n| n.to_le_bytes()[1]).collect();
        let sent = body.clone();
        let origin = gated(&gate, move |_| response_bytes(200, &[("Cache-Control", "max-age=60")], &sent));
        let gateway = gateway(&origin, &["cache: {}"]);
        let target = format!("{way}/x");
        let mut part = ask(&gateway, "GET", &target, "Range: bytes=1000-5000000\r\n");
        eventually!(origin.count() == 1, "{way}: it leads");
        gate.open();
        eventually!(is_hit(&gateway.get(&target)), "{way}: stored behind it");
        let answer = part.read("GET");
        assert_eq!((answer.status, answer.cut), (206, false), "{way}");
        assert!(answer.body == body[1000..=5_000_000], "{way}: every byte, in order");
    }
}

#[test]
fn half_of_them_leave_and_the_others_get_it() {
    for way in BOTH {
        let gate = Gate::new();
        let origin = gated(&gate, |_| response_bytes(200, &[("Cache-Control", "max-age=60")], b"shared"));
        let gateway = gateway(&origin, &["cache: {}"]);
        let clients = crowd(&gateway, &origin, |_| begin(&gateway, &format!("{way}/x")));
        // The one that leads is among those who go.
        let (gone, mut left): (Vec<_>, Vec<_>) =
            clients.into_iter().enumerate().partition(|(n, _)| n.is_multiple_of(2));
        drop(gone);
        let active = "portcullis_requests_active{listener=\"public\"}";
        eventually!(gateway.metric(active) <= (left.len() + 1) as f64, "{way}: who left waits no longer");
        gate.open();
        for (n, client) in &mut left {
            assert_eq!(client.read("GET").text(), "shared", "{way} {n}");
        }
        assert_eq!(origin.count(), 1, "{way}");
    }
}

/// Answers that are one client's: the first burst learns it from its first request, the second knows.
fn not_shared(way: &str, lines: &[&str], fields: &'static [(&'static str, &'static str)]) {
    let (first, rest, again) = (Gate::new(), Gate::new(), Gate::new());
    let gates = [first.clone(), rest.clone(), again.clone()];
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let gate = match n {
            0 => &gates[0],
            n if n < CROWD => &gates[1],
            _ => &gates[2],
        };
        Reply::Steps(vec![(gate.clone(), response_bytes(200, fields, b"mine"))])
    });
    let gateway = gateway(&origin, lines);
    let target = format!("{way}/x");
    let mut clients = crowd(&gateway, &origin, |_| begin(&gateway, &target));
    assert_eq!(origin.count(), 1, "{way} {fields:?}: nothing is known yet");
    first.open();
    eventually!(origin.count() == CROWD, "{way} {fields:?}: side by side, not {}", origin.count());
    rest.open();
    assert_eq!(statuses(&mut clients), [200; CROWD], "{way} {fields:?}");
    let mut clients: Vec<_> = (0..CROWD).map(|_| begin(&gateway, &target)).collect();
    eventually!(origin.count() == 2 * CROWD, "{way} {fields:?}: nobody queues, not {}", origin.count());
    again.open();
    assert_eq!(statuses(&mut clients), [200; CROWD], "{way} {fields:?}: the second burst");
}

#[test]
fn nobody_queues_for_what_is_not_shared() {
    let cases: [&[(&str, &str)]; 5] = [
        &[("Cache-Control", "no-store")],
        &[("Cache-Control", "private, max-age=60")],
        &[("Cache-Control", "no-cache"), ("ETag", "\"1\"")],
        &[("Cache-Control", "max-age=60"), ("Vary", "*")],
        &[],
    ];
    for way in BOTH {
        for fields in cases {
            not_shared(way, &["cache: {}"], fields);
        }
    }
    not_shared("/app", &["cache: {}"], &[("Cache-Control", "max-age=60"), ("Set-Cookie", "sid=1")]);
}

#[test]
fn two_languages_are_two_calls_at_most() {
    for way in BOTH {
        let gate = Gate::new();
        let origin = gated(&gate, |request| {
            let language = request.header("accept-language").unwrap_or("none").to_owned();
            let fields = [("Cache-Control", "max-age=60"), ("Vary", "Accept-Language")];
            response_bytes(200, &fields, language.as_bytes())
        });
        let gateway = gateway(&origin, &["cache: {}"]);
        let language = |n: usize| if n.is_multiple_of(2) { "de" } else { "en" };
        let mut clients = crowd(&gateway, &origin, |n| {
            ask(&gateway, "GET", &format!("{way}/x"), &format!("Accept-Language: {}\r\n", language(n)))
        });
        gate.open();
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.read("GET").text(), language(n), "{way}: its own language");
        }
        assert_eq!(origin.count(), 2, "{way}");
    }
}

/// An origin with a first answer that is soon stale, and later ones that wait at the gate; 304 where it is asked by the tag.
fn soon_stale(gate: &Gate, control: &'static str) -> Origin {
    let (gate, count) = (gate.clone(), AtomicUsize::new(0));
    Origin::start(move |request| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            return response(200, &[("Cache-Control", control), ("ETag", "\"v\"")], b"body");
        }
        let fields = [("Cache-Control", "max-age=60"), ("ETag", "\"v\"")];
        let bytes = match request.header("if-none-match") {
            Some("\"v\"") => {
                b"HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\nCache-Control: max-age=60\r\n\r\n".to_vec()
            }
            _ => response_bytes(200, &fields, b"body"),
        };
        Reply::Steps(vec![(gate.clone(), bytes)])
    })
}

#[test]
fn a_stale_answer_is_refreshed_once_for_all() {
    for way in BOTH {
        let gate = Gate::new();
        let origin = soon_stale(&gate, "max-age=1");
        let gateway = gateway(&origin, &["cache: { staleWhileRevalidate: 1h }"]);
        let target = format!("{way}/x");
        gateway.get(&target);
        std::thread::sleep(Duration::from_millis(2100));
        let mut clients: Vec<_> = (0..CROWD).map(|_| begin(&gateway, &target)).collect();
        for client in &mut clients {
            assert_eq!(client.read("GET").text(), "body", "{way}: at once");
        }
        eventually!(origin.count() == 2, "{way}: it is refreshed");
        gate.open();
        eventually!(!cache_status(&gateway.get(&target)).contains("ttl=-"), "{way}: fresh again");
        assert_eq!(origin.count(), 2, "{way}: once");
    }
}

#[test]
fn what_must_be_validated_is_asked_about_once_for_all() {
    for way in BOTH {
        let gate = Gate::new();
        let origin = soon_stale(&gate, "max-age=1, must-revalidate");
        let gateway = gateway(&origin, &["cache: { staleWhileRevalidate: 1h }"]);
        let target = format!("{way}/x");
        gateway.get(&target);
        std::thread::sleep(Duration::from_millis(2100));
        let mut clients = crowd(&gateway, &origin, |_| begin(&gateway, &target));
        assert_eq!(origin.last().header("if-none-match"), Some("\"v\""), "{way}: by its tag");
        gate.open();
        for client in &mut clients {
            let answer = client.read("GET");
            assert_eq!((answer.status, answer.text().as_str()), (200, "body"), "{way}: {answer:?}");
        }
        assert_eq!(origin.count(), 2, "{way}: one question for all");
    }
}

#[test]
fn the_streams_of_one_connection_are_one_call() {
    let gate = Gate::new();
    let origin = gated(&gate, |_| response_bytes(200, &[("Cache-Control", "max-age=60")], b"shared"));
    let (setup, head) = tls_setup();
    let text = yaml(&origin, &["cache: {}"]);
    let (_, rest) = text.split_once("accessLog").expect("the head ends there");
    let gateway = setup.start(&format!("{head}accessLog{rest}"));
    let client = H2Client::connect(gateway.address(), "app.example");
    for (n, way) in BOTH.iter().enumerate() {
        let before = origin.count();
        let uri = format!("https://app.example{way}/{n}");
        std::thread::scope(|scope| {
            let streams: Vec<_> =
                (0..CROWD).map(|_| scope.spawn(|| client.request("GET", &uri, &[], &[]))).collect();
            wait_active(&gateway, if n == 0 { CROWD } else { 0 });
            gate.open();
            for stream in streams {
                let answer = stream.join().expect("no panic").expect("an answer");
                assert_eq!((answer.status, answer.text().as_str()), (200, "shared"), "{way}");
            }
        });
        assert_eq!(origin.count() - before, 1, "{way}");
    }
}

#[test]
fn a_reload_while_they_wait_changes_nothing_for_them() {
    for way in BOTH {
        let gate = Gate::new();
        let origin = gated(&gate, |_| response_bytes(200, &[("Cache-Control", "max-age=60")], b"shared"));
        let gateway = gateway(&origin, &["cache: {}"]);
        let mut clients = crowd(&gateway, &origin, |_| begin(&gateway, &format!("{way}/x")));
        gateway.write_config(&yaml(&origin, &["cache: { ttl: 7s }"]));
        gateway.signal("HUP");
        eventually!(
            gateway.metric("portcullis_config_reloads_total{result=\"success\"}") >= 2.0,
            "{way}: reloaded"
        );
        gate.open();
        for client in &mut clients {
            assert_eq!(client.read("GET").text(), "shared", "{way}");
        }
        assert_eq!(origin.count(), 1, "{way}");
    }
}

#[test]
fn a_stop_while_they_wait_lets_them_have_their_answer() {
    for way in BOTH {
        let gate = Gate::new();
        let origin = gated(&gate, |_| response_bytes(200, &[("Cache-Control", "max-age=60")], b"shared"));
        let mut gateway = gateway(&origin, &["cache: {}"]);
        let mut clients = crowd(&gateway, &origin, |_| begin(&gateway, &format!("{way}/x")));
        gateway.signal("TERM");
        eventually!(gateway.admin("/readyz").status == 503, "{way}: it drains");
        gate.open();
        for client in &mut clients {
            assert_eq!(client.read("GET").text(), "shared", "{way}");
        }
        assert!(gateway.wait().success(), "{way}");
        assert_eq!(origin.count(), 1, "{way}");
    }
}

#[test]
fn who_has_waited_too_long_goes_alone_and_only_a_few_of_them() {
    let gate = Gate::new();
    let origin = gated(&gate, |_| response_bytes(200, &[("Cache-Control", "max-age=60")], b"late"));
    let gateway = gateway(&origin, &["cache: {}"]);
    let mut clients = crowd(&gateway, &origin, |_| begin(&gateway, "/api/x"));
    assert_eq!(origin.count(), 1, "they wait");
    eventually!(origin.count() == 9, "some go alone, not {}", origin.count());
    let series = "portcullis_cache_impatient_total{then=\"alone\"}";
    eventually!(gateway.metric(series) == 8.0, "counted: {}", gateway.metric(series));
    // Until the last of them has lost patience too.
    std::thread::sleep(Duration::from_secs(1));
    gate.open();
    assert_eq!(statuses(&mut clients), [200; CROWD], "the others waited on");
    assert_eq!(origin.count(), 9, "and did not ask");
}

#[test]
fn an_event_stream_is_nobody_elses_and_ends_with_its_client() {
    let ended = Arc::new(AtomicUsize::new(0));
    let seen = ended.clone();
    let origin = Origin::start(move |_| {
        let seen = seen.clone();
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: a\n\r\n";
        Reply::Upgrade(
            head.to_vec(),
            Box::new(move |mut socket| {
                use std::io::Write as _;
                while socket.write_all(b"8\r\ndata: a\n\r\n").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                seen.fetch_add(1, Ordering::SeqCst);
            }),
        )
    });
    for way in BOTH {
        let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
        let before = (origin.count(), ended.load(Ordering::SeqCst));
        let mut clients: Vec<_> = (0..2).map(|_| begin(&gateway, &format!("{way}/x"))).collect();
        for client in &mut clients {
            assert!(client.read_head().is_some_and(|(status, ..)| status == 200), "{way}");
        }
        assert_eq!(origin.count() - before.0, 2, "{way}: each has its own");
        drop(clients);
        eventually!(ended.load(Ordering::SeqCst) - before.1 == 2, "{way}: the upstream is let go");
    }
}

/// Whoever asks with this cookie makes the app fail.
fn fragile(gate: &Gate) -> Origin {
    gated(gate, |request| match request.header("cookie") {
        Some("bad") => response_bytes(500, &[], b"oops"),
        _ => response_bytes(200, &[("Cache-Control", "public, max-age=60")], b"good"),
    })
}

#[test]
fn a_failure_that_one_clients_request_caused_is_not_the_others() {
    let gate = Gate::new();
    let origin = fragile(&gate);
    let gateway = gateway(&origin, &["cache: {}"]);
    let mut clients = crowd(&gateway, &origin, |n| {
        ask(&gateway, "GET", "/app/x", if n == 0 { "Cookie: bad\r\n" } else { "" })
    });
    gate.open();
    let all: Vec<Answer> = clients.iter_mut().map(|client| client.read("GET")).collect();
    assert_eq!(all[0].status, 500, "its own fault");
    for answer in &all[1..] {
        assert_eq!((answer.status, answer.text().as_str()), (200, "good"), "not theirs: {answer:?}");
    }
    assert_eq!(origin.count(), 2, "one more call, for all of them");
}

#[test]
fn a_failing_origin_is_asked_twice_where_the_requests_differ() {
    let gate = Gate::new();
    let origin = gated(&gate, |_| response_bytes(500, &[], b"oops"));
    let gateway = gateway(&origin, &["cache: {}"]);
    let mut clients =
        crowd(&gateway, &origin, |n| ask(&gateway, "GET", "/app/x", &format!("Cookie: id={n}\r\n")));
    gate.open();
    assert!(statuses(&mut clients).iter().all(|status| *status >= 500));
    assert_eq!(origin.count(), 2, "once more, to see whether it was the request");
}

#[test]
fn hints_to_a_client_that_is_gone_end_no_fetch() {
    let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
    let doors = gates.clone();
    let origin = Origin::start(move |_| {
        let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n".to_vec();
        let answer = response_bytes(200, &[("Cache-Control", "max-age=60")], b"shared");
        Reply::Steps(doors.iter().cloned().zip([hint.clone(), hint, answer]).collect())
    });
    let gateway = gateway(&origin, &["cache: {}"]);
    let mut clients = crowd(&gateway, &origin, |_| begin(&gateway, "/app/x"));
    drop(clients.remove(0));
    for gate in &gates {
        gate.open();
        // The first hint is what the gone client's side answers with a reset.
        std::thread::sleep(Duration::from_millis(100));
    }
    for client in &mut clients {
        assert_eq!(client.read("GET").text(), "shared");
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn the_ceiling_of_the_route_holds_for_what_is_not_shared() {
    for way in BOTH {
        let gate = Gate::new();
        let origin = gated(&gate, |_| response_bytes(200, &[("Cache-Control", "no-store")], b"mine"));
        let gateway = gateway(&origin, &["cache: {}", "concurrency: { max: 10 }"]);
        let target = format!("{way}/x");
        let mut clients = vec![begin(&gateway, &target)];
        eventually!(origin.count() == 1, "{way}: the first asks");
        clients.extend((1..CROWD).map(|_| begin(&gateway, &target)));
        let refused = "portcullis_local_responses_total{route=\"ROUTE\",reason=\"concurrency\"}"
            .replace("ROUTE", &way[1..]);
        eventually!(
            gateway.metric(&refused) == (CROWD - 10) as f64,
            "{way}: who waits for another has a place too"
        );
        gate.open();
        let statuses = statuses(&mut clients);
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10, "{way}: {statuses:?}");
        assert_eq!(origin.count(), 10, "{way}: and no more");
    }
}

#[test]
fn nothing_is_fetched_for_nobody() {
    const HUGE: usize = 64 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let origin = Origin::start(move |request| {
        if request.header("range").is_some() {
            return response(
                206,
                &[("Content-Range", "bytes 67108863-67108863/67108864"), ("Content-Type", "image/png")],
                b"x",
            );
        }
        let (count, head) = (
            count.clone(),
            format!("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {HUGE}\r\n\r\n"),
        );
        Reply::Upgrade(
            head.into_bytes(),
            Box::new(move |mut socket| {
                use std::io::Write as _;
                while socket.write_all(&[b'x'; 65536]).is_ok() {
                    count.fetch_add(65536, Ordering::SeqCst);
                }
            }),
        )
    });
    let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
    for (n, way) in BOTH.iter().enumerate() {
        // It stays: one that goes away would end the call by that.
        let mut client = Client::connect(gateway.address());
        let part = client.request("GET", &format!("{way}/{n}"), &[("Range", "bytes=67108863-")], b"");
        assert_eq!((part.status, part.text().as_str()), (206, "x"), "{way}: {part:?}");
        assert_eq!(client.request("HEAD", &format!("{way}/head"), &[], b"").status, 200, "{way}");
        let active = format!("portcullis_upstream_requests_active{{upstream=\"{}\"}}", ["vendor", "web"][n]);
        eventually!(gateway.metric(&active) == 0.0, "{way}: the upstream is let go");
        drop(client);
    }
    assert!(sent.load(Ordering::SeqCst) < HUGE, "{} bytes for nobody", sent.load(Ordering::SeqCst));
}
