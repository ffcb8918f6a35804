//! One reading of an authority, in HTTP/1 and HTTP/2; and the methods that are refused at the door.

use crate::harness::{Client, Gateway, H2Client, HEAD, Origin, tls_setup};

fn yaml(head: &str, origin: &Origin) -> String {
    format!(
        "{head}
upstreams:
  web: {{ kind: app, url: \"{}\" }}
routes:
  - {{ name: site, match: {{ hosts: [app.example] }}, upstream: web }}
",
        origin.url()
    )
}

fn ask(gateway: &Gateway, text: &str) -> u16 {
    let mut client = Client::connect(gateway.address());
    client.send(text.as_bytes());
    client.read("GET").status
}

#[test]
fn a_host_has_one_form() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&yaml(HEAD, &origin));
    for (written, sent) in [
        ("app.example", "app.example"),
        ("APP.Example", "app.example"),
        ("app.example.", "app.example"),
        ("app.example:8080", "app.example:8080"),
        ("app.example:08080", "app.example:8080"),
    ] {
        let answer = gateway.request("GET", "/", &[("Host", written)], b"");
        assert_eq!(answer.status, 200, "{written}: {}", answer.text());
        assert_eq!(origin.last().all("host"), [sent], "{written}");
    }
    assert_eq!(gateway.request("GET", "/", &[("Host", "other.example")], b"").status, 404, "another host");
    assert_eq!(gateway.request("GET", "/", &[("Host", "app.example.evil.example")], b"").status, 404);
}

#[test]
fn a_host_in_dispute_is_refused() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&yaml(HEAD, &origin));
    for fields in [
        "",
        "Host:\r\n",
        "Host: app.example\r\nHost: app.example\r\n",
        "Host: app.example\r\nhost: other.example\r\n",
        "Host: user@app.example\r\n",
        "Host: other.example@app.example\r\n",
        "Host: app.example:\r\n",
        "Host: app.example:0\r\n",
        "Host: app.example:99999\r\n",
        "Host: app.example:80a\r\n",
        "Host: app.example, other.example\r\n",
        "Host: app.example/x\r\n",
        "Host: app example\r\n",
        "Host: app%2eexample\r\n",
        "Host: http://app.example\r\n",
        "Host: [::1\r\n",
        "Host : app.example\r\n",
    ] {
        let status = ask(&gateway, &format!("GET / HTTP/1.1\r\n{fields}\r\n"));
        assert_eq!(status, 400, "{fields:?}");
    }
    assert_eq!(origin.count(), 0, "nothing reached the origin");
}

#[test]
fn an_absolute_target_names_the_same_host_or_nothing() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&yaml(HEAD, &origin));
    let get =
        |target: &str, host: &str| ask(&gateway, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(get("http://app.example/x?y=1", "app.example"), 200);
    assert_eq!(origin.last().line, "GET /x?y=1 HTTP/1.1", "sent in origin-form");
    for (target, host) in [
        ("http://other.example/x", "app.example"),
        ("http://app.example/x", "other.example"),
        ("http://app.example:81/x", "app.example"),
        ("http://user@app.example/x", "app.example"),
        ("ftp://app.example/x", "app.example"),
        ("http:///x", "app.example"),
        ("http://app.example#@other.example/x", "app.example"),
    ] {
        assert_eq!(get(target, host), 400, "{target} with {host}");
    }
    assert_eq!(origin.count(), 1, "nothing else reached the origin");
}

#[test]
fn an_authority_of_http2_is_read_the_same_way() {
    let origin = Origin::ok();
    let (setup, head) = tls_setup();
    let gateway = setup.start(&yaml(&head, &origin));
    let client = H2Client::connect(gateway.address(), "app.example");
    for (authority, sent) in [
        ("app.example", "app.example"),
        ("APP.Example", "app.example"),
        ("app.example:8443", "app.example:8443"),
    ] {
        let answer = client.request("GET", &format!("https://{authority}/x"), &[], &[]).expect("an answer");
        assert_eq!(answer.status, 200, "{authority}: {}", answer.text());
        assert_eq!(origin.last().all("host"), [sent], "{authority}");
        assert_eq!(origin.last().line, "GET /x HTTP/1.1");
    }
    let asked = origin.count();
    for authority in ["user@app.example", "app.example:0", "app.example:99999", "a..b"] {
        let Ok(uri) = format!("https://{authority}/x").parse::<http::Uri>() else { continue };
        let request = http::Request::builder().uri(uri).body(()).expect("a request");
        if let Ok(answer) = client.send(request, &[]) {
            assert_eq!(answer.status, 400, "{authority}");
        }
    }
    let other = client.request("GET", "https://other.example/x", &[], &[]).expect("an answer");
    assert_eq!(other.status, 404, "not this host");
    assert_eq!(origin.count(), asked, "nothing else reached the origin");
}

#[test]
fn a_host_field_beside_another_authority_does_not_win() {
    let origin = Origin::ok();
    let (setup, head) = tls_setup();
    let gateway = setup.start(&yaml(&head, &origin));
    let client = H2Client::connect(gateway.address(), "app.example");
    // RFC 9113 §8.3.1: a Host that differs from :authority makes the request malformed; at the least it must not count.
    for (authority, host) in [("app.example", "other.example"), ("other.example", "app.example")] {
        let before = origin.count();
        let answer = client.request("GET", &format!("https://{authority}/"), &[("host", host)], &[]);
        match answer {
            Ok(answer) if answer.status == 200 => {
                assert_eq!(authority, "app.example", "the Host field chose the route");
                assert_eq!(origin.last().all("host"), ["app.example"], "one Host, the authorised one");
            }
            _ => assert_eq!(origin.count(), before, "refused, but the origin was asked"),
        }
    }
}

#[test]
fn trace_and_connect_are_refused() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&yaml(HEAD, &origin));
    for text in [
        "TRACE / HTTP/1.1\r\nHost: app.example\r\n\r\n",
        "trace / HTTP/1.1\r\nHost: app.example\r\n\r\n",
        "CONNECT app.example:443 HTTP/1.1\r\nHost: app.example:443\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: app.example\r\n\r\n",
    ] {
        let mut client = Client::connect(gateway.address());
        client.send(text.as_bytes());
        let answer = client.read("GET");
        assert_eq!(answer.status, 405, "{text:?}: {}", answer.text());
        assert!(answer.header("allow").is_some(), "a 405 says what is allowed");
        assert_eq!(answer.header("server"), None, "no product name");
    }
    assert_eq!(origin.count(), 0, "nothing reached the origin");
    eventually!(
        gateway.stderr().matches("method_refused").count() + gateway.log().len() >= 4,
        "each is logged: {} {}",
        gateway.stderr(),
        gateway.stdout()
    );
}

#[test]
fn trace_and_connect_are_refused_over_http2() {
    let origin = Origin::ok();
    let (setup, head) = tls_setup();
    let gateway = setup.start(&yaml(&head, &origin));
    let client = H2Client::connect(gateway.address(), "app.example");
    let trace = client.request("TRACE", "https://app.example/", &[], &[]).expect("an answer");
    assert_eq!(trace.status, 405, "{}", trace.text());
    let connect =
        http::Request::builder().method("CONNECT").uri("app.example:443").body(()).expect("a request");
    if let Ok(answer) = client.send(connect, &[]) {
        assert_eq!(answer.status, 405, "{}", answer.text());
    }
    let after = client.request("GET", "https://app.example/", &[], &[]).expect("the connection lives");
    assert_eq!((after.status, origin.count()), (200, 1), "only the last one reached the origin");
}
