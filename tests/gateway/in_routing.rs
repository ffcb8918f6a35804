//! Which route a request takes, whatever the order of the file; and what a miss looks like.

use crate::harness::{Gateway, HEAD};

/// Each route answers its own name.
const ROUTES: [(&str, &str); 20] = [
    ("a", "{ path: { prefix: /a } }"),
    ("ab", "{ path: { prefix: /a/b } }"),
    ("exact", "{ path: { exact: /a/b/c } }"),
    ("template", "{ path: { template: \"/users/{id}\" } }"),
    ("me", "{ path: { exact: /users/me } }"),
    ("posts", "{ path: { template: \"/users/{id}/posts/{post}\" } }"),
    ("regex", "{ path: { regex: \"/reports/[0-9]{4}\" } }"),
    ("host", "{ hosts: [app.example] , path: { prefix: /h } }"),
    ("wild", "{ hosts: [\"*.app.example\"], path: { prefix: /h } }"),
    ("deep", "{ hosts: [\"*.b.app.example\"], path: { prefix: /h } }"),
    ("named", "{ hosts: [x.app.example], path: { prefix: /h } }"),
    ("any-host", "{ path: { prefix: /h } }"),
    ("get", "{ methods: [GET], path: { exact: /m } }"),
    ("post", "{ methods: [POST], path: { exact: /m } }"),
    ("delete", "{ methods: [DELETE], path: { exact: /only } }"),
    ("header", "{ path: { exact: /f }, headers: [{ name: X-Client, exact: web }] }"),
    ("two-headers", "{ path: { exact: /f }, headers: [{ name: x-client, exact: web }, { name: x-more }] }"),
    ("query", "{ path: { exact: /f }, query: [{ name: format, exact: json }] }"),
    ("query-regex", "{ path: { exact: /f }, query: [{ name: v, regex: \"[0-9]+\" }] }"),
    ("field", "{ path: { exact: /f } }"),
];

fn gateway(backwards: bool) -> Gateway {
    let mut lines: Vec<String> = ROUTES
        .iter()
        .map(|(name, matched)| {
            format!("  - {{ name: {name}, match: {matched}, respond: {{ text: {name} }} }}\n")
        })
        .collect();
    if backwards {
        lines.reverse();
    }
    Gateway::start(&format!("{HEAD}routes:\n{}", lines.concat()))
}

type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

const CASES: [Case; 33] = [
    ("GET", "/", &[], ""),
    ("GET", "/x/y", &[], ""),
    ("GET", "/a", &[], "a"),
    ("GET", "/a/", &[], "a"),
    ("GET", "/a/x", &[], "a"),
    ("GET", "/ab", &[], ""),
    ("GET", "/a/b", &[], "ab"),
    ("GET", "/a/b/d", &[], "ab"),
    ("GET", "/a/bc", &[], "a"),
    ("GET", "/a/b/c", &[], "exact"),
    ("GET", "/a/b/c/", &[], "ab"),
    ("GET", "/A", &[], ""),
    ("GET", "/users/7", &[], "template"),
    ("GET", "/users/me", &[], "me"),
    ("GET", "/users/7/x", &[], ""),
    ("GET", "/users/7/posts/8", &[], "posts"),
    ("GET", "/users/", &[], ""),
    ("GET", "/reports/2024", &[], "regex"),
    ("GET", "/h", &[("Host", "app.example")], "host"),
    ("GET", "/h", &[("Host", "APP.example:8080")], "host"),
    ("GET", "/h", &[("Host", "x.app.example")], "named"),
    ("GET", "/h", &[("Host", "y.app.example")], "wild"),
    ("GET", "/h", &[("Host", "y.z.app.example")], "wild"),
    ("GET", "/h", &[("Host", "y.b.app.example")], "deep"),
    ("GET", "/h", &[("Host", "notapp.example")], "any-host"),
    ("GET", "/m", &[], "get"),
    ("POST", "/m", &[], "post"),
    ("GET", "/f", &[("X-Client", "web")], "header"),
    ("GET", "/f", &[("X-Client", "web"), ("X-More", "1")], "two-headers"),
    ("GET", "/f", &[("X-Client", "Web")], "field"),
    ("GET", "/f?a=1&format=json", &[], "query"),
    ("GET", "/f?format=jso%6E", &[], "query"),
    ("GET", "/f?v=12", &[], "query-regex"),
];

#[test]
fn the_most_specific_route_wins_whatever_the_order_of_the_file() {
    for backwards in [false, true] {
        let gateway = gateway(backwards);
        for (method, target, headers, route) in CASES {
            let answer = gateway.request(method, target, headers, b"");
            let taken = if answer.status == 404 { String::new() } else { answer.text() };
            assert_eq!(taken, route, "{method} {target} {headers:?}, backwards: {backwards}");
        }
        assert_eq!(gateway.get("/f?v=12x").text(), "field", "a regex holds for the whole value");
        let head = gateway.request("HEAD", "/m", &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "HEAD goes where GET goes");
    }
}

#[test]
fn another_method_is_405_and_says_which_are_allowed() {
    let yaml = format!(
        "{HEAD}routes:
  - {{ name: get, match: {{ methods: [GET], path: {{ exact: /m }} }}, respond: {{ text: x }} }}
  - {{ name: put, match: {{ methods: [PUT], path: {{ exact: /m }} }}, respond: {{ text: x }} }}
"
    );
    let gateway = Gateway::start(&yaml);
    let answer = gateway.request("DELETE", "/m", &[], b"");
    assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
    let mut allowed: Vec<&str> = answer.header("allow").expect("Allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "PUT"]);
    assert_eq!(gateway.request("get", "/m", &[], b"").status, 405, "methods are case-sensitive");
    assert_eq!(gateway.request("DELETE", "/n", &[], b"").status, 404, "no route, whatever the method");
}

#[test]
fn a_miss_is_a_problem_document_or_html_where_a_browser_asks() {
    let gateway = Gateway::start(&format!(
        "{HEAD}routes: [{{ name: a, match: {{ path: {{ exact: /a }} }}, respond: {{ text: a }} }}]\n"
    ));
    let json = gateway.get("/missing/<b>");
    assert_eq!(json.status, 400, "a raw < is in no path");
    let json = gateway.get("/missing/%3Cb%3E");
    assert_eq!((json.status, json.code().as_str()), (404, "no_route"));
    assert_eq!(json.header("content-type"), Some("application/problem+json"));
    let body = json.json();
    assert_eq!((body["status"].as_u64(), body["title"].as_str()), (Some(404), Some("Not Found")));
    assert_eq!(body["requestId"].as_str(), json.header("x-request-id"), "the id to ask about");
    assert!(!json.text().contains("missing"), "nothing of the request is in it");
    for accept in [
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/html",
        "application/json;q=0.1, text/html",
    ] {
        let html = gateway.request("GET", "/missing/%3Cb%3E", &[("Accept", accept)], b"");
        assert_eq!(html.status, 404);
        assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"), "{accept}");
        assert!(
            html.text().starts_with("<!doctype html>") && !html.text().contains("missing"),
            "{}",
            html.text()
        );
    }
    for accept in [
        "*/*",
        "application/json",
        "application/json, text/html;q=0.5",
        "application/problem+json, text/html",
    ] {
        let json = gateway.request("GET", "/missing", &[("Accept", accept)], b"");
        assert_eq!(json.header("content-type"), Some("application/problem+json"), "{accept}");
    }
    let head = gateway.request("HEAD", "/missing", &[], b"");
    assert_eq!((head.status, head.body.len()), (404, 0));
}
