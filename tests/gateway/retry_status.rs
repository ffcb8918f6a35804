//! `retry.on` with statuses, for both kinds of upstream: another endpoint answers instead, where a repeat is safe.

use crate::harness::{Gateway, HEAD, Origin, response};

fn gateway(kind: &str, bad: &Origin, good: &Origin) -> Gateway {
    Gateway::start(&format!(
        "{HEAD}
upstreams:
  u:
    kind: {kind}
    endpoints: [{{ url: \"{}\" }}, {{ url: \"{}\" }}]
    allowPrivate: true
    retry: {{ attempts: 1, on: [503], budget: 100% }}
routes: [{{ name: r, match: {{ path: {{ prefix: / }} }}, upstream: u }}]
",
        bad.url(),
        good.url()
    ))
}

fn another_endpoint_answers(kind: &str) {
    let bad = Origin::start(|_| response(503, &[], b"not now"));
    let good = Origin::start(|_| response(200, &[("Content-Type", "text/plain")], b"here"));
    let gateway = gateway(kind, &bad, &good);
    for _ in 0..4 {
        let answer = gateway.get("/x");
        assert_eq!((answer.status, answer.text().as_str()), (200, "here"), "{kind}");
    }
    let asked = bad.count();
    assert!(asked > 0, "the first endpoint was asked too");
    let mut refused = 0;
    for _ in 0..2 {
        let answer = gateway.request("POST", "/x", &[("Content-Type", "text/plain")], b"once");
        refused += usize::from(answer.status == 503);
    }
    assert_eq!(bad.count() - asked, refused, "{kind}: a POST is sent once, whatever comes back");
    assert_eq!(refused, 1, "{kind}: the two endpoints took one POST each");
}

#[test]
fn another_endpoint_of_an_api_answers() {
    another_endpoint_answers("api");
}

#[test]
fn another_endpoint_of_an_app_answers() {
    another_endpoint_answers("app");
}
