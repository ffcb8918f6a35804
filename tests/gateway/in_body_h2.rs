//! Request bodies and cookies over HTTP/2.

use crate::harness::{Gateway, H2Client, Origin, tls_setup};
use crate::in_body::{SIZES, pattern};

fn gateway(origin: &Origin) -> Gateway {
    let (setup, head) = tls_setup();
    setup.start(&format!(
        "{head}
upstreams:
  vendor: {{ url: \"{0}\", allowPrivate: true }}
  web: {{ kind: app, url: \"{0}\" }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, request: {{ cookies: {{ forward: [lang] }} }} }}
  - {{ name: small, match: {{ path: {{ prefix: /small }} }}, upstream: vendor, request: {{ body: {{ max: 100KiB }} }} }}
  - {{ name: tiny, match: {{ path: {{ prefix: /tiny }} }}, upstream: web, request: {{ body: {{ max: 100KiB }} }} }}
  - {{ name: site, upstream: web }}
",
        origin.url()
    ))
}

#[test]
fn a_body_of_unknown_length_arrives_whole_and_once_over_http2() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let client = H2Client::connect(gateway.address(), "app.example");
    for path in ["/api", "/site"] {
        for size in SIZES {
            let body = pattern(size);
            for piece in [size.max(1), 1000] {
                let pieces: Vec<&[u8]> = body.chunks(piece).collect();
                let what = format!("{path}, {size} bytes in pieces of {piece}");
                let before = origin.count();
                let answer =
                    client.request("POST", &format!("https://app.example{path}"), &[], &pieces).expect(&what);
                assert_eq!(answer.status, 200, "{what}: {}", answer.text());
                assert_eq!(origin.count(), before + 1, "{what}: asked once");
                let got = origin.last();
                assert!(got.body == body, "{what}: {} other bytes", got.body.len());
                let framings = got.all("content-length").len() + got.all("transfer-encoding").len();
                assert!(framings <= 1, "{what}: {:?}", got.headers);
            }
        }
    }
}

#[test]
fn a_body_over_the_limit_is_413_over_http2_and_the_connection_lives() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let client = H2Client::connect(gateway.address(), "app.example");
    let body = pattern(200 << 10);
    for path in ["/small", "/tiny"] {
        let uri = format!("https://app.example{path}");
        let pieces: Vec<&[u8]> = body.chunks(10_000).collect();
        let answer = client.request("POST", &uri, &[], &pieces).expect("an answer");
        assert_eq!(answer.status, 413, "{path}: {}", answer.text());
        let declared =
            client.request("POST", &uri, &[("content-length", "204800")], &pieces).expect("an answer");
        assert_eq!(declared.status, 413, "{path}: {}", declared.text());
    }
    assert_eq!(origin.count(), 0, "no whole request arrived");
    let after = client.request("GET", "https://app.example/", &[], &[]).expect("the connection lives");
    assert_eq!(after.status, 200);
}

#[test]
fn cookie_crumbs_are_joined() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let client = H2Client::connect(gateway.address(), "app.example");
    let crumbs = [("cookie", "a=1"), ("cookie", "lang=en"), ("cookie", "c=3")];
    client.request("GET", "https://app.example/", &crumbs, &[]).expect("an answer");
    assert_eq!(origin.last().all("cookie"), ["a=1; lang=en; c=3"], "app: all of them, in one field");
    client.request("GET", "https://app.example/api", &crumbs, &[]).expect("an answer");
    assert_eq!(origin.last().all("cookie"), ["lang=en"], "api: the listed one");
}

#[test]
fn connection_fields_of_http2_are_refused_or_gone() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let client = H2Client::connect(gateway.address(), "app.example");
    for path in ["/", "/api"] {
        let answer = client.request("GET", &format!("https://app.example{path}"), &[("te", "trailers")], &[]);
        assert_eq!(answer.expect("an answer").status, 200);
        assert_eq!(origin.last().header("te"), None, "{path}: of one hop");
    }
}
