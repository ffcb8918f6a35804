//! The access log: one JSON line per request, nothing secret in it, and never in the way of a request.

use std::process::Command;

use crate::harness::{Client, Gateway, HEAD, Origin, Setup};

const SECRET: &str = "s3cr3t-0123456789";

fn hello(log: &str) -> String {
    format!(
        "{HEAD}{log}routes: [{{ name: hello, match: {{ path: {{ prefix: / }} }}, respond: {{ text: hello }} }}]\n"
    )
}

#[test]
fn a_line_has_what_happened_and_nothing_secret() {
    let origin = Origin::ok();
    let yaml = format!(
        "{HEAD}secrets: {{ vendor-key: {{ env: VENDOR_KEY }} }}
upstreams: {{ vendor: {{ url: \"{}\", allowPrivate: true, credential: {{ apiKey: {{ in: query, name: key, secret: vendor-key }} }} }} }}
routes: [{{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, cache: {{ ttl: 60s }} }}]
",
        origin.url()
    );
    let gateway = Setup::new().env("VENDOR_KEY", SECRET).start(&yaml);
    let headers = [
        ("User-Agent", "tests/1"),
        ("Authorization", "Bearer client-token"),
        ("Cookie", "sid=client-cookie"),
    ];
    let answer = gateway.request("GET", "/api/x?password=client-query", &headers, b"");
    assert_eq!(answer.status, 200);
    assert_eq!(gateway.get("/none?password=client-query").status, 404);
    eventually!(gateway.log().len() == 2, "one line for each: {}", gateway.stdout());
    let log = gateway.log();
    let line = &log[0];
    for (key, value) in [
        ("listener", "public"),
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("host", "app.example"),
        ("route", "api"),
        ("path", "/api/x"),
        ("source", "upstream"),
        ("cache", "miss"),
        ("upstream", "vendor"),
        ("user_agent", "tests/1"),
        ("protocol", "HTTP/1.1"),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert_eq!(line["status"], 200);
    assert_eq!(line["response_bytes"], 11, "{line}");
    assert!(line["duration_us"].as_u64() >= line["upstream_duration_us"].as_u64(), "{line}");
    assert_eq!(
        line["request_id"].as_str(),
        origin.last().header("x-request-id"),
        "the id that the upstream got"
    );
    let time = line["time"].as_str().expect("a time");
    assert!(time.ends_with('Z') && time.contains('T'), "RFC 3339 in UTC: {time}");
    assert_eq!((&log[1]["status"], &log[1]["error"]), (&404.into(), &"no_route".into()), "{}", log[1]);
    for secret in
        [SECRET, "client-token", "client-cookie", "client-query", "password", &origin.address.to_string()]
    {
        assert!(!gateway.stdout().contains(secret), "`{secret}` is logged: {}", gateway.stdout());
        assert!(!gateway.stderr().contains(secret), "`{secret}` is told: {}", gateway.stderr());
    }
}

#[test]
fn what_a_client_writes_cannot_break_a_line() {
    let gateway = Gateway::start(&hello(""));
    let mut client = Client::connect(gateway.address());
    client.send(b"GET /%22%7d/x HTTP/1.1\r\nHost: app.example\r\nUser-Agent: a\tb\"c\\d\xff\xc3\xa9{\"status\":500}\r\n\r\n");
    let answer = client.read("GET");
    eventually!(gateway.log().len() == 1, "one line: {}", gateway.stdout());
    let out = gateway.stdout();
    let lines: Vec<&str> = out.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "one line of text too: {out}");
    assert!(lines[0].bytes().all(|byte| byte >= 0x20), "no control character: {out}");
    let line = &gateway.log()[0];
    assert_eq!(line["status"], answer.status, "{line}");
    assert_eq!(line["user_agent"], "a\tb\"c\\d\u{fffd}\u{e9}{\"status\":500}", "{line}");
}

#[test]
fn a_file_is_opened_anew_on_sighup() {
    let gateway = Gateway::start(&hello("accessLog: { file: access.log }\n"));
    let (file, moved) = (gateway.directory().join("access.log"), gateway.directory().join("access.log.1"));
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    gateway.get("/");
    eventually!(lines(&file) == 1, "written to the file");
    std::fs::rename(&file, &moved).expect("moved");
    gateway.signal("HUP");
    eventually!(file.exists(), "a new file: {}", gateway.stderr());
    gateway.get("/");
    eventually!(lines(&file) == 1, "and written to");
    assert_eq!(lines(&moved), 1, "the old one is left alone");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("a file").permissions());
    assert_eq!(mode & 0o777, 0o600, "addresses of clients stand in it");
    assert!(gateway.log().is_empty(), "nothing on stdout");
}

#[test]
fn off_is_off() {
    let mut gateway = Gateway::start(&hello("accessLog: off\n"));
    gateway.get("/");
    gateway.signal("TERM");
    gateway.wait();
    assert!(gateway.log().is_empty(), "{}", gateway.stdout());
}

#[test]
fn a_log_that_nobody_reads_stops_no_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("log");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
    // Read and write: opening does not wait for the other side, and nobody ever reads.
    let _open = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("a pipe");
    let mut gateway = Gateway::start(&hello(&format!("accessLog: {{ file: {} }}\n", pipe.display())));
    let target = format!("/{}", "x".repeat(2000));
    let mut client = Client::connect(gateway.address());
    let dropped = "portcullis_log_lines_dropped_total{sink=\"file\"}";
    eventually!(
        {
            for _ in 0..100 {
                assert_eq!(client.request("GET", &target, &[], b"").status, 200, "answered all the same");
            }
            gateway.metric(dropped) > 0.0
        },
        "no line is dropped, so somebody waits"
    );
    assert_eq!(gateway.get("/").status, 200);
    gateway.signal("TERM");
    gateway.wait();
}
