//! What a client sees of the upstream's errors.

use crate::harness::{Origin, Received, Reply, response};
use crate::out_support::{assert_hidden, both, plain};

const LEAKY: &[u8] = b"{\"error\":\"pg://db_7.internal:5432 refused\",\"trace\":\"at Vendor.java:12\"}";

/// Answers with the status that is the last part of the path.
fn status_of_path(request: &Received) -> Reply {
    let status = request.target().rsplit('/').next().and_then(|s| s.parse().ok()).unwrap_or(200);
    response(
        status,
        &[("Content-Type", "application/json"), ("X-Trace", "db_7"), ("ETag", "\"leak\"")],
        LEAKY,
    )
}

#[test]
fn an_error_of_an_api_keeps_its_status_and_gets_our_body() {
    let origin = Origin::start(status_of_path);
    let gateway = plain(&origin);
    for status in [400, 403, 404, 405, 409, 410, 422, 500, 501, 504, 599] {
        let answer = gateway.get(&format!("/api/{status}"));
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{status}");
        let document = answer.json();
        assert_eq!(document["status"], status, "{document}");
        assert_eq!(document["code"], "upstream_error", "{document}");
        assert_eq!(document["route"], "api", "{document}");
        assert!(
            !answer.contains(b"db_7") && !answer.contains(b"Vendor.java") && !answer.contains(b"leak"),
            "{status}"
        );
        assert_hidden(&answer, &origin, &status.to_string());
    }
}

#[test]
fn a_browser_gets_a_small_page_for_a_masked_error() {
    let origin = Origin::start(status_of_path);
    let answer = plain(&origin).request("GET", "/api/404", &[("Accept", "text/html,*/*;q=0.5")], b"");
    assert_eq!((answer.status, answer.header("content-type")), (404, Some("text/html; charset=utf-8")));
    assert!(answer.text().starts_with("<!doctype html>") && !answer.contains(b"db_7"), "{}", answer.text());
}

#[test]
fn a_masked_error_keeps_connections_on_both_sides() {
    let origin = Origin::start(status_of_path);
    let gateway = plain(&origin);
    let mut client = crate::harness::Client::connect(gateway.address());
    for status in [404, 500, 400, 200] {
        assert_eq!(client.request("GET", &format!("/api/{status}"), &[], b"").status, status);
    }
    assert_eq!(origin.connections(), 1, "error bodies are read to their end");
}

#[test]
fn a_masked_error_of_a_head_request_has_no_body() {
    let origin =
        Origin::start(|_| Reply::Raw(b"HTTP/1.1 404 Gone Fishing\r\nContent-Length: 77\r\n\r\n".to_vec()));
    let gateway = plain(&origin);
    let mut client = crate::harness::Client::connect(gateway.address());
    let answer = client.request("HEAD", "/api/x", &[], b"");
    assert_eq!(answer.status, 404);
    assert_hidden(&answer, &origin, "HEAD");
    assert!(!answer.contains(b"Fishing"));
    assert_eq!(client.request("HEAD", "/api/y", &[], b"").status, 404, "the connection goes on");
}

#[test]
fn errors_pass_where_the_route_says_so() {
    let origin = Origin::start(status_of_path);
    let gateway = both(&origin, "", ", response: { errors: pass }", "");
    for status in [400, 404, 500] {
        let answer = gateway.get(&format!("/api/{status}"));
        assert_eq!((answer.status, answer.body.as_slice()), (status, LEAKY), "passed as it came");
        assert_eq!(answer.header("x-trace"), None, "the list of fields holds for errors too");
        assert!(!answer.contains(b"Origin Says"), "the reason phrase never passes");
    }
    assert_eq!(gateway.get("/other/404").json()["code"], "upstream_error", "another route masks");
}

#[test]
fn single_errors_pass_where_they_are_listed() {
    let origin = Origin::start(status_of_path);
    let gateway = both(&origin, "", ", response: { errors: { pass: [422] } }", "");
    assert_eq!(gateway.get("/api/422").body, LEAKY);
    assert_eq!(gateway.get("/api/400").json()["code"], "upstream_error");
    assert_eq!(gateway.get("/api/500").json()["code"], "upstream_error");
}

#[test]
fn a_passed_error_is_shaped() {
    let origin = Origin::start(status_of_path);
    let route = ", response: { errors: pass, json: { remove: [\"$.trace\"] } }";
    let answer = both(&origin, "", route, "").get("/api/422");
    assert_eq!(answer.status, 422);
    assert_eq!(answer.text(), "{\"error\":\"pg://db_7.internal:5432 refused\"}");
}

#[test]
fn a_refused_credential_is_our_fault_and_never_passes() {
    let origin = Origin::start(|request| {
        let status = if request.target().ends_with("401") { 401 } else { 407 };
        response(
            status,
            &[("WWW-Authenticate", "Bearer realm=\"vendor\""), ("Proxy-Authenticate", "Basic")],
            LEAKY,
        )
    });
    for errors in ["", ", response: { errors: pass, headers: { allow: [\"*\"] } }"] {
        let gateway = both(&origin, "", errors, "");
        for status in ["401", "407"] {
            let answer = gateway.get(&format!("/api/{status}"));
            assert_eq!(answer.status, 502, "{status}");
            assert_eq!(answer.code(), "upstream_credential_refused", "{status}");
            assert_eq!(
                (answer.header("www-authenticate"), answer.header("proxy-authenticate")),
                (None, None)
            );
            assert_hidden(&answer, &origin, status);
            assert!(!answer.contains(b"db_7") && !answer.contains(b"realm"), "{status}");
        }
        // Counted when the exchange ends, which is after the client has its answer.
        let series = "portcullis_local_responses_total{route=\"api\",reason=\"upstream_refused\"}";
        eventually!(gateway.metric(series) == 2.0, "counted: {}", gateway.metric(series));
    }
}

#[test]
fn a_vendors_limit_is_503_with_a_time_to_wait() {
    let origin = Origin::start(|request| {
        let wait = if request.target().contains("dated") { "Wed, 25 Nov 2026 10:00:00 GMT" } else { "7" };
        if request.target().ends_with("bare") {
            response(429, &[], LEAKY)
        } else {
            response(429, &[("Retry-After", wait)], LEAKY)
        }
    });
    let gateway = plain(&origin);
    let answer = gateway.get("/api/x");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
    assert_eq!(answer.code(), "upstream_limited");
    assert!(!answer.contains(b"db_7"));
    for target in ["/api/bare", "/api/dated"] {
        let answer = gateway.get(target);
        assert_eq!(answer.status, 503, "{target}");
        let wait = answer.header("retry-after").and_then(|v| v.parse::<u64>().ok());
        assert!(wait.is_some_and(|seconds| seconds >= 1), "{target}: {wait:?}");
    }
    assert_eq!(origin.count(), 3, "a limit is not answered with retries");
}

#[test]
fn errors_of_an_app_are_its_own() {
    let origin = Origin::start(status_of_path);
    let gateway = both(&origin, ", retry: { attempts: 0 }", "", "");
    for status in [400, 401, 404, 407, 429, 500, 503] {
        let answer = gateway.get(&format!("/{status}"));
        assert_eq!((answer.status, answer.body.as_slice()), (status, LEAKY), "an app's {status} passes");
        assert_eq!(answer.header("x-trace"), Some("db_7"));
    }
}

#[test]
fn an_app_that_is_down_gets_our_page_in_the_form_that_is_wanted() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let gateway = crate::harness::Gateway::start(&format!(
        "{}upstreams: {{ web: {{ kind: app, url: \"http://{dead}\" }} }}
routes:
  - {{ name: site, match: {{ path: {{ prefix: / }} }}, upstream: web }}
",
        crate::harness::HEAD
    ));
    let page = gateway.request("GET", "/", &[("Accept", "text/html")], b"");
    assert_eq!((page.status, page.header("content-type")), (502, Some("text/html; charset=utf-8")));
    let document = gateway.request("GET", "/", &[("Accept", "application/json")], b"");
    assert_eq!((document.status, document.code().as_str()), (502, "connection_refused"));
    assert!(!document.contains(dead.to_string().as_bytes()), "the address of the app stays hidden");
}

#[test]
fn masked_server_errors_are_what_an_app_may_ask_for_too() {
    let origin = Origin::start(status_of_path);
    let answer = both(&origin, ", retry: { attempts: 0 }", "", ", response: { errors: mask }").get("/500");
    assert_eq!(answer.status, 500);
    assert!(
        !answer.contains(b"db_7.internal"),
        "`errors: mask` on an app does what it says: {}",
        answer.text()
    );
}
