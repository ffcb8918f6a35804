//! `concurrency`: how many may be under way at once, and that a place is always given back.

use crate::harness::{Client, Gate, Gateway, HEAD, Origin, Reply, response_bytes};

fn gated(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |_| Reply::Steps(vec![(gate.clone(), response_bytes(200, &[], b"done"))]))
}

fn gateway(origin: &Origin, max: &str) -> Gateway {
    Gateway::start(&format!(
        "{HEAD}accessLog: off
upstreams:
  vendor: {{ url: \"{url}\", allowPrivate: true }}
  web: {{ kind: app, url: \"{url}\" }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, concurrency: {max} }}
  - {{ name: app, match: {{ path: {{ prefix: /app }} }}, upstream: web, concurrency: {max} }}
",
        url = origin.url()
    ))
}

fn begin(gateway: &Gateway, target: &str) -> Client {
    let mut client = Client::connect(gateway.address());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n").as_bytes());
    client
}

#[test]
fn one_more_than_allowed_is_refused_until_a_place_is_free() {
    for way in ["/api", "/app"] {
        let gate = Gate::new();
        let origin = gated(&gate);
        let gateway = gateway(&origin, "{ max: 2 }");
        let mut running: Vec<_> = (0..2).map(|_| begin(&gateway, way)).collect();
        eventually!(origin.count() == 2, "{way}: two are under way");
        let mut client = Client::connect(gateway.address());
        let refused = client.request("GET", way, &[], b"");
        assert_eq!((refused.status, refused.code().as_str()), (429, "concurrency_limited"), "{way}");
        assert!(refused.header("retry-after").is_some(), "{way}: {refused:?}");
        assert_eq!(client.request("GET", way, &[], b"").status, 429, "{way}: its connection stays open");
        assert_eq!(origin.count(), 2, "{way}: the upstream hears nothing of it");
        gate.open();
        for client in &mut running {
            assert_eq!(client.read("GET").status, 200, "{way}");
        }
        eventually!(gateway.get(way).status == 200, "{way}: a place is free again");
    }
}

#[test]
fn a_client_that_goes_away_gives_its_place_back() {
    for way in ["/api", "/app"] {
        let gate = Gate::new();
        let origin = gated(&gate);
        let gateway = gateway(&origin, "{ max: 1 }");
        let gone = begin(&gateway, way);
        eventually!(origin.count() == 1, "{way}: under way");
        assert_eq!(gateway.get(way).status, 429, "{way}: full");
        drop(gone);
        let active = "portcullis_requests_active{listener=\"public\"}";
        eventually!(gateway.metric(active) < 0.5, "{way}: noticed while the upstream is still silent");
        let mut next = begin(&gateway, way);
        eventually!(origin.count() == 2, "{way}: the place is free");
        gate.open();
        assert_eq!(next.read("GET").status, 200, "{way}");
    }
}

#[test]
fn clients_have_places_of_their_own_where_the_key_says_so() {
    let gate = Gate::new();
    let origin = gated(&gate);
    let gateway = Gateway::start(&format!(
        "version: 1
listeners: [{{ name: public, address: \"127.0.0.1:0\", trustedProxies: [\"127.0.0.0/8\"] }}]
upstreams: {{ vendor: {{ url: \"{}\", allowPrivate: true }} }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, concurrency: {{ max: 1, key: client.ip }} }}
",
        origin.url()
    ));
    let begin = |address: &str| {
        let mut client = Client::connect(gateway.address());
        client.send(format!("GET /api HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n\r\n").as_bytes());
        client
    };
    let mut first = begin("203.0.113.1");
    eventually!(origin.count() == 1, "one of the first client");
    assert_eq!(begin("203.0.113.1").read("GET").status, 429, "its second");
    let mut other = begin("203.0.113.2");
    eventually!(origin.count() == 2, "one of the other");
    gate.open();
    assert_eq!((first.read("GET").status, other.read("GET").status), (200, 200));
}
