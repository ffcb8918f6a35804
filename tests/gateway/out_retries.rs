//! Where a request is sent, when again, and for how long: endpoints, retries, deadlines, pools.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Client, Gate, Gateway, HEAD, Origin, Reply, Setup, response};
use crate::out_support::{both, plain, settle};

/// An address where nobody listens.
fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound")
}

/// `/api` and `/` lead to upstreams with these endpoints, as `url weight`, and these further keys.
fn endpoints(list: &[(String, u32)], upstream: &str) -> Gateway {
    let list: Vec<String> =
        list.iter().map(|(url, weight)| format!("{{ url: \"{url}\", weight: {weight} }}")).collect();
    let list = list.join(", ");
    Gateway::start(&format!(
        "{HEAD}
upstreams:
  vendor: {{ endpoints: [{list}], allowPrivate: true{upstream} }}
  web: {{ kind: app, endpoints: [{list}]{upstream} }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor }}
  - {{ name: site, match: {{ path: {{ prefix: / }} }}, upstream: web }}
"
    ))
}

/// Fails `failures` times with `status`, then answers 200.
fn flaky(status: u16, failures: usize) -> Origin {
    let left = Arc::new(AtomicUsize::new(failures));
    Origin::start(move |_| {
        let failing = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if failing { response(status, &[], b"busy") } else { response(200, &[], b"fine") }
    })
}

#[test]
fn a_dead_endpoint_is_passed_over() {
    let origin = Origin::ok();
    let gateway = endpoints(&[(format!("http://{}", dead()), 1), (origin.url(), 1)], "");
    for target in ["/api/x", "/x"] {
        for method in ["GET", "POST"] {
            let body: &[u8] = if method == "POST" { b"once" } else { b"" };
            for _ in 0..2 {
                assert_eq!(
                    gateway.request(method, target, &[], body).status,
                    200,
                    "{method} {target}: nothing was sent to the dead one"
                );
                if method == "POST" {
                    assert_eq!(origin.last().body, b"once", "{target}: the body arrives whole");
                }
            }
        }
    }
    let retried = gateway.metric("portcullis_upstream_retries_total{upstream=\"vendor\",result=\"retried\"}");
    assert!(retried >= 1.0, "retries are counted: {retried}\n{}", gateway.admin("/metrics").text());
}

#[test]
fn endpoints_take_turns_by_weight() {
    let (a, b) = (Origin::ok(), Origin::ok());
    let gateway = endpoints(&[(a.url(), 3), (b.url(), 1)], "");
    for target in ["/api/x", "/x"] {
        for _ in 0..8 {
            assert_eq!(gateway.get(target).status, 200);
        }
    }
    assert_eq!((a.count(), b.count()), (12, 4), "three to one");
    let hosts: Vec<String> = a
        .received()
        .iter()
        .filter(|r| r.target() == "/api/x")
        .filter_map(|r| r.header("host").map(str::to_owned))
        .collect();
    assert!(hosts.iter().all(|host| *host == a.address.to_string()), "an api hears its own name: {hosts:?}");
}

#[test]
fn a_listed_status_is_tried_again_and_no_other() {
    for (status, on, asked) in [
        (503, "[503]", 2),
        (502, "[502]", 2),
        (504, "[504]", 2),
        (503, "[502]", 1),
        (504, "[502, 503]", 1),
        (500, "[502, 503, 504]", 1),
    ] {
        {
            let target = "/api/x";
            let origin = flaky(status, 1);
            let gateway = both(&origin, &format!(", retry: {{ attempts: 1, on: {on} }}"), "", "");
            let answer = gateway.get(target);
            assert_eq!(answer.status, if asked == 2 { 200 } else { status }, "{target}: {status} with {on}");
            assert_eq!(origin.count(), asked, "{target}: {status} with {on}");
        }
    }
}

#[test]
fn a_listed_status_of_an_app_is_tried_again() {
    let origin = flaky(503, 1);
    let gateway = both(&origin, ", retry: { attempts: 1, on: [503] }", "", "");
    assert_eq!(
        (gateway.get("/x").status, origin.count()),
        (200, 2),
        "`on: [503]` holds for an `app` as for an `api`"
    );
}

#[test]
fn a_post_is_sent_once_whatever_happens_after() {
    for reply in ["503", "cut", "late cut"] {
        let origin = Origin::start(move |_| match reply {
            "503" => response(503, &[], b"busy"),
            "cut" => Reply::Close,
            _ => Reply::RawThenClose(b"HTTP/1.1 200 O".to_vec()),
        });
        let gateway = both(&origin, ", retry: { attempts: 3, on: [connect-failure, 502, 503] }", "", "");
        for (at, target) in ["/api/x", "/x"].into_iter().enumerate() {
            let answer = gateway.request("POST", target, &[], b"pay 10");
            assert!(answer.status >= 500, "{reply} {target}: {}", answer.status);
            assert_eq!(origin.count(), at + 1, "{reply} {target}: paid twice");
        }
    }
}

#[test]
fn attempts_are_bounded_and_may_be_none() {
    for (attempts, asked) in [(0, 1), (3, 4)] {
        let origin = flaky(503, 100);
        let gateway = both(&origin, &format!(", retry: {{ attempts: {attempts}, on: [503] }}"), "", "");
        assert_eq!(gateway.get("/api/x").status, 503);
        assert_eq!(origin.count(), asked, "attempts: {attempts}");
    }
}

#[test]
fn a_broken_exchange_is_not_repeated_where_nothing_is_listed() {
    let origin = Origin::start(|_| Reply::Close);
    let gateway = both(&origin, ", retry: { attempts: 3, on: [] }", "", "");
    for (at, target) in ["/api/x", "/x"].into_iter().enumerate() {
        assert_eq!(gateway.get(target).status, 502, "{target}");
        assert_eq!(origin.count(), at + 1, "{target}: `on: []` means no retry at all");
    }
}

#[test]
fn a_spent_budget_ends_retries() {
    let origin = flaky(503, 1000);
    let gateway = both(&origin, ", retry: { attempts: 1, on: [503], budget: 10% }", "", "");
    for _ in 0..40 {
        assert_eq!(gateway.get("/api/x").status, 503);
    }
    assert!(
        (50..=52).contains(&origin.count()),
        "ten a window and no more, or a share of the traffic: {}",
        origin.count()
    );
    let none = flaky(503, 1000);
    let gateway = both(&none, ", retry: { attempts: 1, on: [503], budget: 0% }", "", "");
    gateway.get("/api/x");
    assert_eq!(none.count(), 1, "no budget, no retry");
}

#[test]
fn a_pooled_connection_that_the_origin_closed_costs_nothing() {
    for target in ["/api/x", "/x"] {
        let origin = Origin::start(|_| {
            Reply::RawThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
        });
        let gateway = both(&origin, ", retry: { attempts: 0, on: [] }", "", "");
        for _ in 0..20 {
            assert_eq!(
                gateway.get(target).status,
                200,
                "{target}: a stale connection is the pool's own affair"
            );
        }
        assert_eq!(origin.count(), 20, "{target}");
    }
}

#[test]
fn a_pooled_connection_that_dies_at_the_next_request_is_replaced_for_a_get() {
    for target in ["/api/x", "/x"] {
        let count = AtomicUsize::new(0);
        let origin = Origin::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            1 => Reply::Close,
            _ => response(200, &[], b"ok"),
        });
        let gateway = both(&origin, ", retry: { attempts: 0, on: [] }", "", "");
        assert_eq!(gateway.get(target).status, 200);
        settle(&gateway);
        assert_eq!(gateway.get(target).status, 200, "{target}: closed in the very moment it was used again");
        assert_eq!((origin.count(), origin.connections()), (3, 2), "{target}");
    }
}

#[test]
fn connections_are_kept_and_used_again() {
    let origin = Origin::ok();
    let gateway = plain(&origin);
    for target in ["/api/x", "/x"] {
        for _ in 0..5 {
            assert_eq!(gateway.get(target).status, 200);
            settle(&gateway);
        }
    }
    assert_eq!(origin.connections(), 2, "one of each upstream");
    let reused =
        gateway.metric("portcullis_upstream_connections_total{upstream=\"vendor\",state=\"reused\"}");
    let metrics = gateway.admin("/metrics").text();
    let lines: Vec<&str> =
        metrics.lines().filter(|l| l.starts_with("portcullis_upstream_connections_total")).collect();
    assert!(reused >= 4.0 || lines.iter().any(|l| l.contains("vendor") && l.ends_with(" 4")), "{lines:?}");
}

#[test]
fn a_silent_origin_is_504_in_time() {
    let origin = Origin::start(|_| Reply::Silence);
    let gateway = both(&origin, ", timeouts: { request: 1s }, retry: { attempts: 3 }", "", "");
    for target in ["/api/x", "/x"] {
        let answer = gateway.get(target);
        assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"), "{target}");
    }
    assert_eq!(origin.count(), 2, "what is over its time is not repeated");
}

#[test]
fn an_origin_that_drips_is_cut_at_the_deadline() {
    for target in ["/api/x", "/x"] {
        let origin = Origin::start(|_| {
            let mut steps =
                vec![(Gate::opened(), b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec())];
            steps.extend((0..400).map(|_| (Gate::new(), b"x".to_vec())));
            Reply::Steps(drip(steps))
        });
        let gateway = both(&origin, ", timeouts: { request: 1s }, retry: { attempts: 0 }", "", "");
        let mut client = Client::connect(gateway.address());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n").as_bytes());
        let cut = client.try_read("GET").is_none_or(|answer| answer.cut);
        assert!(cut, "{target}: each byte came in time, the whole did not");
        eventually!(gateway.log().len() == 1, "{target}: logged");
        assert!(!gateway.log()[0]["error"].is_null(), "{target}: {}", gateway.stdout());
    }
}

/// Opens the gates one by one, a tenth of a second apart: the drip is the subject here, not a way to wait.
fn drip(steps: Vec<(Gate, Vec<u8>)>) -> Vec<(Gate, Vec<u8>)> {
    let gates: Vec<Gate> = steps.iter().map(|(gate, _)| gate.clone()).collect();
    std::thread::spawn(move || {
        for gate in gates {
            gate.open();
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    steps
}

#[test]
fn the_deadline_of_one_exchange_does_not_end_the_next() {
    let late = Gate::new();
    let step = late.clone();
    let origin = Origin::start(move |request| {
        if request.target().ends_with("silent") {
            return Reply::Silence;
        }
        if request.target().ends_with("late") {
            return Reply::Steps(vec![(
                step.clone(),
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            )]);
        }
        response(200, &[], b"ok")
    });
    let gateway = both(&origin, ", timeouts: { request: 1s }, retry: { attempts: 0 }", "", "");
    let mut client = Client::connect(gateway.address());
    assert_eq!(client.request("GET", "/x", &[], b"").status, 200);
    // Another client's exchange that takes its whole time: after it the first deadline has passed.
    for _ in 0..3 {
        assert_eq!(gateway.get("/silent").status, 504);
    }
    client.send(b"GET /late HTTP/1.1\r\nHost: app.example\r\n\r\n");
    late.open();
    assert_eq!(client.read("GET").status, 200, "the connection was idle, not late");
}

#[test]
fn an_address_that_does_not_answer_ends_the_attempt_in_time() {
    // A listener whose queue is full: further connections are neither taken nor refused.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()).expect("bound");
    full.listen(0).expect("listening");
    let address = full.local_addr().expect("bound").as_socket().expect("an address");
    let mut waiting = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200))
    {
        waiting.push(stream);
        assert!(waiting.len() < 64, "the queue takes everything");
    }
    let origin = Origin::ok();
    let timeouts = ", timeouts: { connect: 200ms }";
    let gateway = endpoints(&[(format!("http://{address}"), 1), (origin.url(), 1)], timeouts);
    for target in ["/api/x", "/x"] {
        assert_eq!(
            (gateway.get(target).status, gateway.get(target).status),
            (200, 200),
            "{target}: the other endpoint answers"
        );
    }
    let alone = endpoints(
        &[(format!("http://{address}"), 1)],
        ", timeouts: { connect: 200ms }, retry: { attempts: 0 }",
    );
    for target in ["/api/x", "/x"] {
        assert_eq!(alone.get(target).status, 504, "{target}");
    }
}

#[test]
fn a_private_address_of_an_api_is_refused_at_the_start() {
    for url in [
        "http://127.0.0.1:9",
        "http://[::1]:9",
        "http://10.1.2.3",
        "http://169.254.169.254",
        "http://[::ffff:127.0.0.1]:9",
    ] {
        let yaml = format!(
            "{HEAD}upstreams: {{ vendor: {{ url: \"{url}\" }} }}\nroutes:\n  - {{ name: a, match: {{ path: {{ prefix: /a }} }}, upstream: vendor }}\n"
        );
        let (status, said) =
            Setup::new().try_start(&yaml).err().expect("a configuration that must not start");
        assert_eq!(status.code(), Some(1), "{url}: {said}");
        assert!(said.contains("private address"), "{url}: {said}");
    }
}

#[test]
fn a_name_that_leads_to_a_private_address_is_refused_at_the_connection() {
    let origin = Origin::ok();
    let port = origin.address.port();
    let gateway = Gateway::start(&format!(
        "{HEAD}
upstreams:
  vendor: {{ url: \"http://localhost:{port}\" }}
  trusted: {{ url: \"http://localhost:{port}\", allowPrivate: true }}
routes:
  - {{ name: a, match: {{ path: {{ prefix: /a }} }}, upstream: vendor }}
  - {{ name: b, match: {{ path: {{ prefix: /b }} }}, upstream: trusted }}
"
    ));
    let answer = gateway.get("/a");
    assert_eq!((answer.status, answer.code().as_str()), (502, "destination_ip_prohibited"));
    assert!(!answer.contains(b"127.0.0.1") && !answer.contains(b"localhost"));
    assert_eq!(origin.connections(), 0, "nobody was connected to");
    assert_eq!(gateway.get("/b").status, 200, "where it is allowed, it is reached");
}

#[test]
fn a_name_that_has_no_address_is_503_with_a_time_to_wait() {
    let gateway = Gateway::start(&format!(
        "{HEAD}upstreams: {{ vendor: {{ url: \"http://nobody.invalid\" }} }}\nroutes:\n  - {{ name: a, match: {{ path: {{ prefix: /a }} }}, upstream: vendor }}\n"
    ));
    let answer = gateway.get("/a");
    assert_eq!((answer.status, answer.code().as_str()), (503, "destination_unavailable"));
    assert!(answer.header("retry-after").is_some());
    assert!(!answer.contains(b"nobody.invalid"));
}
