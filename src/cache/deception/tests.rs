//! What contradicts, and what does not.

use super::*;
use http::HeaderValue;

fn judged(path: &str, content_type: &str) -> bool {
    with_status(path, content_type, 200)
}

fn with_status(path: &str, content_type: &str, status: u16) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::try_from(content_type).unwrap());
    contradicts(path, StatusCode::from_u16(status).unwrap(), &headers)
}

#[test]
fn a_page_or_data_under_the_path_of_a_file_contradicts() {
    for path in ["/account/x.css", "/account.js", "/me/a.PNG", "/a/b.woff2", "/me.pdf", "/me.txt", "/me.zip"]
    {
        assert!(judged(path, "text/html; charset=utf-8"), "{path} as a page");
    }
    for path in ["/account/x.css", "/account.js", "/me/a.jpg", "/me.mp4", "/me.gz"] {
        assert!(judged(path, "application/json"), "{path} as data");
        assert!(judged(path, "Application/Problem+JSON"), "{path} as a problem");
    }
}

#[test]
fn a_file_of_its_type_does_not() {
    for (path, content_type) in [
        ("/a.css", "text/css; charset=utf-8"),
        ("/a.js", "application/javascript"),
        ("/a.mjs", "Text/JavaScript"),
        ("/a.svg", "image/svg+xml"),
        ("/a.jpg", "image/webp"),
        ("/a.woff2", "application/font-woff2"),
        ("/a.pdf", "application/pdf"),
        ("/a.zip", "application/x-zip-compressed"),
        ("/a.csv", "text/csv"),
        ("/a.exe", "application/octet-stream"),
        ("/a.png", "application/octet-stream"),
    ] {
        assert!(!judged(path, content_type), "{path} as {content_type}");
    }
}

#[test]
fn a_path_that_looks_like_no_file_is_left_alone() {
    for path in
        ["/account", "/", "/a.css/b", "/page.html", "/data.json", "/feed.xml", "/v1.2/me", "/.", "/css"]
    {
        assert!(!judged(path, "text/html"), "{path}");
    }
}

#[test]
fn what_another_parser_takes_for_the_end_does_not_hide_it() {
    for path in [
        "/account;a.css",
        "/account.css;jsessionid=1",
        "/account%2Fa.css",
        "/account%3Ba.css",
        "/account/a.css%3Fq=1",
        "/account/a.css%23f",
        "/account/a%00.css",
        "/account/a.css%00",
        "/account/a.css%20",
        "/account/a.css.",
        "/account/a.css%2e%2e",
        "/account/a%2ecss",
        "/account/a.css/",
        "/account/a.css%0A",
    ] {
        assert!(judged(path, "text/html"), "{path}");
    }
}

#[test]
fn an_answer_without_a_type_contradicts_nothing() {
    assert!(!contradicts("/a.css", StatusCode::OK, &HeaderMap::new()), "no type");
    assert!(!judged("/a.css", ""), "an empty one");
}

#[test]
fn one_contradicting_line_of_several_is_enough() {
    let mut headers = HeaderMap::new();
    headers.append(CONTENT_TYPE, HeaderValue::from_static("text/css"));
    headers.append(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    assert!(contradicts("/a.css", StatusCode::OK, &headers), "the second");
}

#[test]
fn the_body_of_an_error_or_a_redirect_is_rightly_a_page() {
    for status in [301, 404, 410, 500] {
        assert!(!with_status("/a.css", "text/html", status), "{status}");
    }
    assert!(with_status("/a.css", "text/html", 203), "203");
}
