//! `rateLimit`: who is counted, how many pass, and what a refusal says; over real sockets.

use crate::harness::{Answer, Client, Gateway, HEAD, Origin, Setup};

fn yaml(origin: &Origin, route: &str) -> String {
    format!(
        "{HEAD}accessLog: off
upstreams:
  vendor: {{ url: \"{}\", allowPrivate: true }}
  web: {{ kind: app, url: \"{}\" }}
routes:
{route}",
        origin.url(),
        origin.url()
    )
}

fn route(name: &str, upstream: &str, limit: &str) -> String {
    format!(
        "  - {{ name: {name}, match: {{ path: {{ prefix: /{name} }} }}, upstream: {upstream}, cache: {{ ttl: 60s }}, rateLimit: {limit} }}\n"
    )
}

/// A window in which nothing is paid back while a test runs.
const HOURLY: &str = "{ requests: 3, window: 24h }";

fn passed(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.status == 200).count()
}

#[test]
fn exactly_so_many_pass_and_the_next_is_told_when_to_come_back() {
    let origin = Origin::ok();
    for (name, upstream) in [("api", "vendor"), ("app", "web")] {
        let gateway = Gateway::start(&yaml(&origin, &route(name, upstream, HOURLY)));
        for left in [2, 1, 0] {
            let answer = gateway.get(&format!("/{name}/x"));
            assert_eq!(answer.status, 200, "{name}: {left} left");
            assert_eq!(answer.header("ratelimit-policy"), Some("\"default\";q=3;w=86400"), "{name}");
            let state = answer.header("ratelimit").unwrap_or_default().to_owned();
            assert!(state.starts_with(&format!("\"default\";r={left};t=")), "{name}: {state}");
        }
        let refused = gateway.get(&format!("/{name}/x"));
        assert_eq!(refused.status, 429, "{name}");
        let problem = refused.json();
        assert_eq!((problem["status"].as_u64(), problem["code"].as_str()), (Some(429), Some("rate_limited")));
        assert_eq!(problem["route"], name);
        assert_eq!(refused.header("content-type"), Some("application/problem+json"), "{name}");
        assert_eq!(refused.header("cache-control"), Some("no-store"), "{name}: a refusal is nobody else's");
        let wait: u64 = refused.header("retry-after").and_then(|v| v.parse().ok()).expect("seconds");
        assert!((28_000..=28_800).contains(&wait), "{name}: one third of the window: {wait}");
        let state = refused.header("ratelimit").unwrap_or_default();
        assert!(state.starts_with("\"default\";r=0;t="), "{name}: {state}");
        assert_eq!(refused.header("ratelimit-policy"), Some("\"default\";q=3;w=86400"), "{name}");
    }
}

#[test]
fn hits_count_too() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&yaml(&origin, &route("api", "vendor", HOURLY)));
    let answers: Vec<_> = (0..6).map(|_| gateway.get("/api/x")).collect();
    assert_eq!((passed(&answers), origin.count()), (3, 1), "one fetch, two hits, three refusals");
}

#[test]
fn a_refused_client_keeps_its_connection() {
    let origin = Origin::ok();
    let yaml = yaml(
        &origin,
        &(route("api", "vendor", HOURLY)
            + "  - { name: free, match: { path: { exact: /free } }, respond: { text: hi } }\n"),
    );
    let gateway = Gateway::start(&yaml);
    let mut client = Client::connect(gateway.address());
    for _ in 0..3 {
        assert_eq!(client.request("GET", "/api/x", &[], b"").status, 200);
    }
    for _ in 0..3 {
        assert_eq!(client.request("GET", "/api/x", &[], b"").status, 429, "refused");
        let posted = client.request("POST", "/api/x", &[("Content-Type", "text/plain")], b"a small body");
        assert_eq!(posted.status, 429, "refused with a body");
        let head = client.request("HEAD", "/api/x", &[], b"");
        assert_eq!(head.status, 429, "refused without one");
    }
    let free = client.request("GET", "/free", &[], b"");
    assert_eq!((free.status, free.text().as_str()), (200, "hi"), "the same socket serves on");
}

#[test]
fn a_burst_of_its_own_bounds_what_passes_at_once() {
    let origin = Origin::ok();
    for (burst, expected) in [(2, 2), (7, 7)] {
        let limit = format!("{{ requests: 4, window: 24h, burst: {burst} }}");
        let gateway = Gateway::start(&yaml(&origin, &route("api", "vendor", &limit)));
        let answers: Vec<_> = (0..10).map(|_| gateway.get("/api/x")).collect();
        assert_eq!(passed(&answers), expected, "burst {burst}");
    }
}

#[test]
fn concurrent_requests_pass_exactly_so_many() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&yaml(&origin, &route("api", "vendor", "{ requests: 20, window: 24h }")));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asks = |_| {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.address());
                (0..8).map(|_| client.request("GET", "/api/x", &[], b"").status).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..8).map(asks).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 44, "{statuses:?}");
}

#[test]
fn two_limits_of_a_route_both_hold_and_both_speak() {
    let origin = Origin::ok();
    let limit =
        "[{ name: burst, requests: 2, window: 12h }, { name: daily, requests: 10, window: 24h, key: route }]";
    let gateway = Gateway::start(&yaml(&origin, &route("api", "vendor", limit)));
    let first = gateway.get("/api/x");
    assert_eq!(first.header("ratelimit-policy"), Some("\"burst\";q=2;w=43200, \"daily\";q=10;w=86400"));
    let state = first.header("ratelimit").unwrap_or_default().to_owned();
    let members: Vec<&str> = state.split(", ").collect();
    assert!(
        members[0].starts_with("\"burst\";r=1;t=") && members[1].starts_with("\"daily\";r=9;t="),
        "{state}"
    );
    let statuses: Vec<u16> = (0..3).map(|_| gateway.get("/api/x").status).collect();
    assert_eq!(statuses, [200, 429, 429], "the tighter one decides");
    for (name, decision, count) in [("burst", "allow", 2.0), ("burst", "deny", 2.0)] {
        let series = format!(
            "portcullis_ratelimit_decisions_total{{route=\"api\",limit=\"{name}\",decision=\"{decision}\"}}"
        );
        eventually!(gateway.metric(&series) == count, "{series}: {}", gateway.metric(&series));
    }
}

fn behind_proxy(origin: &Origin, limit: &str) -> Gateway {
    let yaml = yaml(origin, &route("api", "vendor", limit)).replace(
        "address: \"127.0.0.1:0\" }]",
        "address: \"127.0.0.1:0\", trustedProxies: [\"127.0.0.0/8\", \"10.0.0.0/8\"] }]",
    );
    assert!(yaml.contains("trustedProxies"), "{yaml}");
    Setup::new().start(&yaml)
}

fn from(gateway: &Gateway, chain: &str) -> u16 {
    gateway.request("GET", "/api/x", &[("X-Forwarded-For", chain)], b"").status
}

#[test]
fn a_client_behind_trusted_proxies_is_the_rightmost_that_is_not_one() {
    let origin = Origin::ok();
    let gateway = behind_proxy(&origin, "{ requests: 2, window: 24h }");
    assert_eq!(from(&gateway, "203.0.113.7"), 200);
    assert_eq!(from(&gateway, "198.51.100.1, 203.0.113.7, 10.1.2.3"), 200, "the same client, one proxy more");
    assert_eq!(from(&gateway, "203.0.113.7"), 429, "has had its two");
    assert_eq!(from(&gateway, "203.0.113.99, 203.0.113.7"), 429, "what it says itself does not help");
    assert_eq!(from(&gateway, "203.0.113.8"), 200, "another client");
    let lines = [("X-Forwarded-For", "203.0.113.8"), ("X-Forwarded-For", "203.0.113.7")];
    assert_eq!(gateway.request("GET", "/api/x", &lines, b"").status, 429, "several lines are one list");
}

#[test]
fn a_client_that_names_itself_is_not_believed() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&yaml(&origin, &route("api", "vendor", HOURLY)));
    let statuses: Vec<u16> = (0..5).map(|n| from(&gateway, &format!("203.0.113.{n}"))).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429], "without trusted proxies the connection counts");
    let forwarded = gateway.request("GET", "/api/x", &[("Forwarded", "for=203.0.113.50")], b"");
    assert_eq!(forwarded.status, 429, "nor by RFC 7239");
}

#[test]
fn an_ipv6_client_is_its_network() {
    let origin = Origin::ok();
    let gateway = behind_proxy(&origin, "{ requests: 2, window: 24h }");
    assert_eq!(from(&gateway, "2001:db8:1:2::1"), 200);
    assert_eq!(from(&gateway, "2001:db8:1:2:ffff:ffff:ffff:ffff"), 200, "another address of the same /64");
    assert_eq!(from(&gateway, "2001:db8:1:2:aaaa::3"), 429, "shares what it has");
    assert_eq!(from(&gateway, "2001:db8:1:3::1"), 200, "the next /64 has its own");
    assert_eq!(from(&gateway, "::ffff:203.0.113.7"), 200, "a mapped IPv4 address is an IPv4 address");
    assert_eq!(from(&gateway, "203.0.113.7"), 200);
    assert_eq!(from(&gateway, "203.0.113.7"), 429, "in both spellings");
}

#[test]
fn a_limit_of_the_route_is_shared_by_all_clients() {
    let origin = Origin::ok();
    let gateway = behind_proxy(&origin, "{ requests: 3, window: 24h, key: route }");
    let statuses: Vec<u16> = (0..5).map(|n| from(&gateway, &format!("203.0.113.{n}"))).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
}

#[test]
fn a_reload_forgets_nobody() {
    let origin = Origin::ok();
    let yaml = yaml(&origin, &route("api", "vendor", HOURLY));
    let gateway = Gateway::start(&yaml);
    assert_eq!(passed(&[gateway.get("/api/x"), gateway.get("/api/x")]), 2);
    gateway.write_config(
        &(yaml + "  - { name: new, match: { path: { exact: /new } }, respond: { text: new } }\n"),
    );
    eventually!(gateway.get("/new").status == 200, "the new configuration");
    assert_eq!([gateway.get("/api/x").status, gateway.get("/api/x").status], [200, 429], "one was left");
}

#[test]
fn answers_of_our_own_are_limited_too() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&yaml(
        &origin,
        "  - { name: hello, match: { path: { exact: /hello } }, respond: { text: hi }, rateLimit: { requests: 1, window: 24h } }
  - { name: moved, match: { path: { exact: /moved } }, redirect: { path: /hello }, rateLimit: { requests: 1, window: 24h } }
",
    ));
    for (target, status) in [("/hello", 200), ("/moved", 302)] {
        let first = gateway.get(target);
        assert_eq!(first.status, status, "{target}");
        assert!(first.header("ratelimit").is_some(), "{target}: it says what is left: {first:?}");
        assert_eq!(gateway.get(target).status, 429, "{target}");
    }
}
