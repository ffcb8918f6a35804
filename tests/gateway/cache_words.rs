//! One vocabulary: what the cache did stands in `Cache-Status`, the access log, the metrics and `explain` in the same words, and so does why
//! an answer is not stored.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::Value;

use crate::cache_gate::{cache_status, yaml};
use crate::harness::{Gateway, Origin, Received, response};

/// A request, what `explain` foretells, what the log tells then, and the reason with it.
type Case = (&'static str, &'static str, Option<&'static str>, &'static str, Option<&'static str>);

const CASES: [Case; 12] = [
    ("GET", "kept", Some("miss"), "miss", None),
    ("GET", "kept", Some("hit"), "hit", None),
    ("HEAD", "kept", Some("hit"), "hit", None),
    ("POST", "kept", None, "bypass", None),
    ("GET", "secret", Some("miss"), "uncacheable", Some("no-store")),
    ("GET", "secret", Some("uncacheable"), "uncacheable", Some("no-store")),
    ("GET", "asked", Some("miss"), "miss", None),
    ("GET", "asked", Some("revalidated"), "revalidated", None),
    ("GET", "behind", Some("miss"), "miss", None),
    ("GET", "behind", Some("stale"), "stale", None),
    ("GET", "failing", Some("miss"), "miss", None),
    ("GET", "failing", Some("miss"), "stale", Some("stale-if-error")),
];

fn origin() -> Origin {
    let failing = AtomicUsize::new(0);
    Origin::start(move |request: &Received| {
        let name = request.target().rsplit('/').next().unwrap_or_default();
        let old = |windows| response(200, &[("Cache-Control", windows), ("Age", "5")], b"x");
        match name {
            "secret" => response(200, &[("Cache-Control", "no-store")], b"x"),
            "asked" if request.header("if-none-match").is_some() => response(304, &[("ETag", "\"a\"")], b""),
            "asked" => response(200, &[("Cache-Control", "max-age=0"), ("ETag", "\"a\"")], b"x"),
            "behind" => old("max-age=1, stale-while-revalidate=60"),
            "failing" if failing.fetch_add(1, SeqCst) > 0 => response(503, &[], b"x"),
            "failing" => old("max-age=1, stale-if-error=60"),
            _ => response(200, &[("Cache-Control", "max-age=60")], b"x"),
        }
    })
}

fn foretold(gateway: &Gateway, method: &str, target: &str) -> Value {
    let asked = format!("{{\"method\": \"{method}\", \"url\": \"http://app.example{target}\"}}");
    gateway.admin_post("/explain", &asked).json()["live"]["now"]["cache"]["result"].clone()
}

#[test]
fn what_the_cache_did_is_the_same_word_everywhere() {
    for way in ["api", "app"] {
        let origin = origin();
        let gateway = Gateway::start(&yaml(&origin, &["cache: {}"]).replace("accessLog: off\n", ""));
        for (place, (method, name, told, word, reason)) in CASES.into_iter().enumerate() {
            let target = format!("/{way}/{name}");
            assert_eq!(foretold(&gateway, method, &target).as_str(), told, "explain of {method} {target}");
            let answer = gateway.request(method, &target, &[("Host", "app.example")], b"");
            let status = cache_status(&answer);
            let detail = status.split("detail=").nth(1);
            assert_eq!(detail, reason, "{method} {target}: {status}");
            eventually!(gateway.log().len() > place, "a line for each: {}", gateway.stdout());
            let line = &gateway.log()[place];
            let logged = (line["cache"].as_str(), line["cache_reason"].as_str());
            assert_eq!(logged, (Some(word), reason), "{method} {target}: {line}");
        }
        for word in ["hit", "stale", "revalidated", "miss", "bypass", "uncacheable"] {
            let expected = CASES.iter().filter(|case| case.3 == word).count() as f64;
            let series = format!("portcullis_cache_requests_total{{route=\"{way}\",result=\"{word}\"}}");
            assert!((gateway.metric(&series) - expected).abs() < 0.5, "{series} is {expected}");
        }
        let series = format!("portcullis_cache_uncacheable_total{{route=\"{way}\",reason=\"no-store\"}}");
        assert!((gateway.metric(&series) - 2.0).abs() < 0.5, "{series} is 2");
        let other = gateway.admin("/metrics").text().matches("portcullis_cache_uncacheable_total{").count();
        assert_eq!(other, 1, "a reason that never came has no series");
    }
}

#[test]
fn what_cannot_be_stored_says_why_where_the_client_forbids_it() {
    let origin = origin();
    let gateway = Gateway::start(&yaml(&origin, &["cache: { requestDirectives: honor }"]));
    let answer = gateway.request("GET", "/api/kept", &[("Cache-Control", "no-store")], b"");
    assert_eq!(cache_status(&answer), "portcullis; fwd=request; detail=request-no-store");
}

#[test]
fn explain_tells_of_a_part_that_it_is_asked_for_as_one() {
    let origin = origin();
    let gateway = Gateway::start(
        &yaml(&origin, &["cache: {}"])
            .replace("upstream: web\n    cache: {}", "upstream: web\n    cache: { ranges: combine }"),
    );
    let sent = |way: &str| {
        let asked = format!(
            "{{\"method\": \"GET\", \"url\": \"http://app.example/{way}/kept\", \"headers\": [[\"Range\", \"bytes=0-0\"]]}}"
        );
        gateway.admin_post("/explain", &asked).json()["outcome"]["sent"]["fields"].clone()
    };
    let has_range = |fields: Value| {
        let fields = fields.as_array().cloned().unwrap_or_default();
        fields.iter().any(|field| field[0] == "range" || field["name"] == "range")
    };
    assert!(has_range(sent("app")), "parts are kept: {}", sent("app"));
    assert!(!has_range(sent("api")), "the whole is asked for: {}", sent("api"));
    let answer = gateway.request("GET", "/app/kept", &[("Range", "bytes=0-0")], b"");
    assert_eq!(origin.last().header("range"), Some("bytes=0-0"), "and so it is: {answer:?}");
}
