//! Purges from outside: the command, the admin side and `PURGE`, against a gateway that is a process of its own.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::cache_gate::{begin, is_hit, wait_active};
use crate::harness::{Gate, Gateway, HEAD, Origin, Reply, Setup, response, response_bytes};

fn yaml(origin: &Origin, purge: &str) -> String {
    format!(
        "{HEAD}upstreams: {{ vendor: {{ kind: app, url: \"{}\" }} }}
routes:
  - name: news
    match: {{ path: {{ prefix: /news }} }}
    upstream: vendor
    cache: {{ ttl: 1h, staleIfError: 1h, key: {{ headers: [accept], query: {{ ignore: [\"utm_*\"] }} }}{purge} }}
  - name: other
    match: {{ path: {{ prefix: /other }} }}
    upstream: vendor
    cache: {{ ttl: 1h }}
  - name: live
    match: {{ path: {{ prefix: /live }} }}
    upstream: vendor
",
        origin.url()
    )
}

fn origin() -> Origin {
    Origin::start(|_| response(200, &[("Cache-Control", "max-age=3600")], b"text"))
}

/// `portcullis cache ...`: its exit code, stdout and stderr.
fn cache(gateway: &Gateway, arguments: &[&str]) -> (i32, String, String) {
    let admin = gateway.admin.expect("an admin side").to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("cache")
        .args(arguments)
        .args(["--admin", &admin])
        .env_remove("PORTCULLIS_CONFIG")
        .env_remove("PORTCULLIS_ADMIN_TOKEN")
        .output()
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
}

fn json_of(gateway: &Gateway, arguments: &[&str]) -> (i32, Value) {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--format", "json"]).collect();
    let (code, stdout, stderr) = cache(gateway, &arguments);
    (code, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("no JSON: {stdout}{stderr}")))
}

fn purge(gateway: &Gateway, body: &Value) -> Value {
    let answer = gateway.admin_post("/purge", &body.to_string());
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()
}

fn fill(gateway: &Gateway, targets: &[&str]) {
    for target in targets {
        gateway.get(target);
        assert!(is_hit(&gateway.get(target)), "{target} is kept");
    }
}

const ALL: [&str; 4] = ["/news/a", "/news/a?page=2", "/news/ab", "/other/a"];

#[test]
fn each_scope_takes_what_it_names_and_leaves_the_rest() {
    let origin = origin();
    let gateway = Gateway::start(&yaml(&origin, ""));
    let cases = [
        (json!({ "url": "http://app.example/news/a?utm_source=x" }), &ALL[..1], "url"),
        (json!({ "prefix": "http://app.example/news/a" }), &ALL[..2], "prefix"),
        (json!({ "prefix": "http://app.example/" }), &ALL[..], "prefix"),
        (json!({ "prefix": "http://other.example/" }), &[][..], "prefix"),
        (json!({ "route": "news" }), &ALL[..3], "route"),
        (json!({ "all": true }), &ALL[..], "all"),
    ];
    for mode in ["soft", "hard"] {
        for (body, struck, scope) in &cases {
            fill(&gateway, &ALL);
            let mut asked = body.clone();
            asked["mode"] = mode.into();
            asked["dryRun"] = true.into();
            let told = json!({ "scope": scope, "mode": mode, "dryRun": true, "matched": struck.len() });
            assert_eq!(purge(&gateway, &asked), told, "{asked}: a rehearsal counts");
            assert!(ALL.iter().all(|target| is_hit(&gateway.get(target))), "{asked}: and changes nothing");
            asked["dryRun"] = false.into();
            assert_eq!(purge(&gateway, &asked)["mode"], mode, "{asked}");
            for target in ALL {
                let is_left = is_hit(&gateway.get(target));
                assert_eq!(is_left, !struck.contains(&target), "{asked}: {target}");
            }
        }
        let series = |scope: &str| {
            format!("portcullis_cache_purges_total{{scope=\"{scope}\",mode=\"{mode}\",origin=\"local\"}}")
        };
        for (scope, count) in [("url", 1.0), ("prefix", 3.0), ("route", 1.0), ("all", 1.0)] {
            let counted = gateway.metric(&series(scope));
            assert!((counted - count).abs() < 0.5, "{mode} {scope}: {counted}");
        }
    }
    assert!(gateway.metric("portcullis_cache_bans{tier=\"memory\"}") >= 1.0, "in force");
    eventually!(
        gateway.metric("portcullis_cache_sweeps_total{tier=\"memory\",reason=\"behind\"}") >= 1.0,
        "swept"
    );
}

#[test]
fn a_soft_purge_asks_the_upstream_and_stands_in_where_that_fails() {
    let fails = Arc::new(AtomicBool::new(false));
    let down = fails.clone();
    let origin = Origin::start(move |_| match down.load(Ordering::SeqCst) {
        true => Reply::Close,
        false => response(200, &[("Cache-Control", "max-age=3600")], b"text"),
    });
    let gateway = Gateway::start(&yaml(&origin, ""));
    for (mode, expected) in [("soft", 200), ("hard", 502)] {
        fails.store(false, Ordering::SeqCst);
        fill(&gateway, &["/news/a"]);
        purge(&gateway, &json!({ "all": true, "mode": mode }));
        fails.store(true, Ordering::SeqCst);
        assert_eq!(gateway.get("/news/a").status, expected, "{mode}");
    }
}

#[test]
fn what_is_no_purge_is_refused_with_its_reason() {
    let origin = origin();
    let gateway = Gateway::start(&yaml(&origin, ""));
    for (body, expected) in [
        (r#"{"url": "http://app.example/news/a", "all": true}"#, "one of"),
        ("{}", "one of"),
        (r#"{"all": false}"#, "`all` is `true` or absent"),
        (r#"{"everything": true}"#, "unknown field `everything`"),
        (r#"{"all": true, "mode": "medium"}"#, "medium"),
        (r#"{"route": "sports"}"#, "no route has the name `sports`"),
        (r#"{"prefix": "http://app.example/news?page=2"}"#, "a prefix has no query"),
        (r#"{"prefix": "/news"}"#, "begins with `http://`"),
        (r#"{"tag": ""}"#, "a tag is not empty"),
        (r#"{"tag": "x", "origin": "http://app.example/news"}"#, "has a path"),
        (r#"{"all": true, "origin": "http://app.example"}"#, "`origin` belongs to a `tag`"),
        (r#"{"url": "http://app.example/live/a"}"#, "the route `live` does not cache"),
        (r#"{"url": "http://app.example/nowhere"}"#, "no route takes"),
    ] {
        let answer = gateway.admin_post("/purge", body);
        let why = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 400, "{body}: {why}");
        assert!(why.contains(expected), "{body}: `{why}` says `{expected}`");
    }
    for (target, expected) in [
        ("/cache/entries?limit=0", "1 to 1000"),
        ("/cache/entries?limit=1001", "1 to 1000"),
        ("/cache/entries?after=x", "no place"),
        ("/cache/entries?host=x", "there is no `host`"),
        ("/cache/entry", "which URL"),
        ("/cache/entry?url=news", "no URL"),
    ] {
        let answer = gateway.admin(target);
        let why = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 400, "{target}: {why}");
        assert!(why.contains(expected), "{target}: `{why}` says `{expected}`");
    }
}

#[test]
fn the_command_shows_and_purges() {
    let origin = Origin::start(|_| {
        response(200, &[("Cache-Control", "max-age=3600"), ("Vary", "Accept-Language")], b"text")
    });
    let gateway = Gateway::start(&yaml(&origin, ""));
    for language in ["de-secret", "en"] {
        for target in ["/news/a", "/news/b"] {
            gateway.request("GET", target, &[("Accept-Language", language), ("Accept", "a/secret")], b"");
        }
    }
    let (code, stats) = json_of(&gateway, &["stats"]);
    assert_eq!((code, &stats["entries"], &stats["stored"]), (0, &4.into(), &4.into()), "{stats}");

    let (code, listed) = json_of(&gateway, &["ls", "--route", "news", "--limit", "1"]);
    assert_eq!((code, listed["entries"].as_array().map(Vec::len)), (0, Some(1)), "a page: {listed}");
    let next = listed["next"].as_str().expect("another page").to_owned();
    let (_, rest) = json_of(&gateway, &["ls", "--route", "news", "--after", &next]);
    assert_eq!((rest["entries"].as_array().map(Vec::len), &rest["next"]), (Some(1), &Value::Null), "{rest}");

    let (code, one) = json_of(&gateway, &["get", "http://app.example/news/a"]);
    let entry = &one["entries"][0];
    assert_eq!(
        (code, &entry["url"], &entry["route"]),
        (0, &"http://app.example/news/a".into(), &"news".into())
    );
    assert_eq!(entry["keyHeaders"][0]["name"], "accept", "{one}");
    assert_eq!(entry["variants"].as_array().map(Vec::len), Some(2), "both languages: {one}");
    let variant = &entry["variants"][0];
    assert_eq!((&variant["status"], &variant["bodyBytes"]), (&200.into(), &4.into()), "{one}");
    assert!(variant["ttlSeconds"].as_i64().is_some_and(|ttl| (3500..=3600).contains(&ttl)), "{one}");
    assert!(!one.to_string().contains("secret"), "names and hashes, no values: {one}");
    let (_, human, _) = cache(&gateway, &["get", "http://app.example/news/a"]);
    assert!(human.contains("http://app.example/news/a  (route `news`)\n  for accept #"), "{human}");
    assert!(human.contains("  200  4B  age "), "{human}");

    let (code, human, _) = cache(&gateway, &["purge", "--url", "http://app.example/news/a", "--dry-run"]);
    assert_eq!((code, human.as_str()), (0, "2 answers would become stale; nothing was changed\n"));
    let (code, human, _) = cache(&gateway, &["purge", "--url", "http://app.example/news/a", "--hard"]);
    assert_eq!((code, human.as_str()), (0, "2 answers removed\n"));
    let (code, human, _) = cache(&gateway, &["get", "http://app.example/news/a"]);
    assert_eq!((code, human.as_str()), (1, "nothing is stored\n"), "gone");
    let (code, human, _) = cache(&gateway, &["purge", "--prefix", "http://app.example/news/b"]);
    assert_eq!((code, human.as_str()), (0, "done: every answer that this names is made stale as of now\n"));

    for (arguments, expected) in [
        (&["purge", "--route", "sports"][..], "no route has the name `sports`"),
        (&["purge"], "--url <URL>"),
        (&["purge", "--all", "--route", "news"], "cannot be used with"),
        (&["get", "news"], "no URL"),
    ] {
        let (code, _, stderr) = cache(&gateway, arguments);
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn purge_is_a_method_only_where_and_for_whom_the_route_grants_it() {
    let origin = origin();
    let grant = ", purge: { from: [\"127.0.0.0/8\"], mode: hard }";
    let elsewhere = ", purge: { from: [\"10.0.0.0/8\"] }";
    for (written, expected) in [(grant, 200), (elsewhere, 405), ("", 405)] {
        let gateway = Gateway::start(&yaml(&origin, written));
        fill(&gateway, &["/news/a", "/news/b", "/other/a"]);
        gateway.request("GET", "/news/a", &[("Accept", "x/y")], b"");
        let asked = origin.count();
        let answer = gateway.request("PURGE", "/news/a?utm_source=mail", &[], b"");
        assert_eq!(answer.status, expected, "{written}: {}", answer.text());
        for target in ["/other/a", "/live/a"] {
            let answer = gateway.request("PURGE", target, &[], b"");
            assert_eq!(answer.status, 405, "{written}: {target} grants nothing");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{written}: {target}");
        }
        assert_eq!(gateway.request("PURGE", "/nowhere", &[], b"").status, 404, "{written}");
        assert_eq!(origin.count(), asked, "{written}: the upstream never sees it");
        let is_granted = expected == 200;
        if is_granted {
            assert_eq!(answer.json(), json!({ "mode": "hard", "matched": 2 }), "all variants");
            let series = "portcullis_cache_purges_total{scope=\"url\",mode=\"hard\",origin=\"local\"}";
            assert!((gateway.metric(series) - 1.0).abs() < 0.5, "counted");
        }
        for headers in [&[][..], &[("Accept", "x/y")]] {
            assert_eq!(!is_hit(&gateway.request("GET", "/news/a", headers, b"")), is_granted, "{written}");
        }
        assert!(
            is_hit(&gateway.get("/news/b")) && is_hit(&gateway.get("/other/a")),
            "{written}: the rest stays"
        );
        let is_logged = |line: &Value| line["method"] == "PURGE" && line["status"] == expected;
        eventually!(gateway.log().iter().any(is_logged), "the log says PURGE");
    }
}

#[test]
fn a_grant_holds_for_the_client_and_not_for_the_proxy_before_it() {
    let origin = origin();
    let grant = ", purge: { from: [\"10.0.0.0/8\"] }";
    let trusting = yaml(&origin, grant).replace(
        "address: \"127.0.0.1:0\" }]",
        "address: \"127.0.0.1:0\", trustedProxies: [\"127.0.0.1\"] }]",
    );
    assert!(trusting.contains("trustedProxies"), "{trusting}");
    let gateway = Setup::new().start(&trusting);
    for (client, expected) in [("10.1.2.3", 200), ("192.0.2.1", 405), ("10.1.2.3, 192.0.2.1", 405)] {
        let answer = gateway.request("PURGE", "/news/a", &[("X-Forwarded-For", client)], b"");
        assert_eq!(answer.status, expected, "{client}");
    }
    let stranger = Gateway::start(&yaml(&origin, grant));
    let answer = stranger.request("PURGE", "/news/a", &[("X-Forwarded-For", "10.1.2.3")], b"");
    assert_eq!(answer.status, 405, "nobody says so who is trusted");
}

#[test]
fn answers_are_purged_by_the_tags_of_their_route_and_of_the_upstream() {
    let origin = Origin::start(|request| {
        let named: &[(&str, &str)] = match request.target() {
            "/news/group" => &[("Cache-Groups", "\"front\", \"with, comma\"")],
            "/news/key" => &[("Surrogate-Key", "front key-1")],
            "/news/tag" => &[("Cache-Tag", "front, tag 1")],
            _ => &[],
        };
        let mut fields = vec![("Cache-Control", "max-age=3600")];
        fields.extend_from_slice(named);
        response(200, &fields, b"text")
    });
    let url = origin.url();
    let gateway = Gateway::start(&format!(
        "{HEAD}upstreams: {{ vendor: {{ url: \"{url}\", allowPrivate: true }} }}
routes:
  - {{ name: news, match: {{ path: {{ template: \"/news/{{name}}\" }} }}, upstream: vendor, cache: {{ tags: [news, \"name:{{name}}\"] }} }}
"
    ));
    let all = ["/news/group", "/news/key", "/news/tag", "/news/none"];
    for (tag, struck) in [
        ("front", &all[..3]),
        ("with, comma", &all[..1]),
        ("key-1", &all[1..2]),
        ("tag 1", &all[2..3]),
        ("news", &all[..]),
        ("name:none", &all[3..]),
        ("Front", &[]),
    ] {
        fill(&gateway, &all);
        let told = purge(&gateway, &json!({ "tag": tag, "dryRun": true }));
        assert_eq!(told["matched"], struck.len(), "{tag}: {told}");
        let elsewhere = json!({ "tag": tag, "origin": "https://app.example", "mode": "hard" });
        purge(&gateway, &elsewhere);
        assert!(all.iter().all(|target| is_hit(&gateway.get(target))), "{tag}: of another origin");
        purge(&gateway, &json!({ "tag": tag, "origin": "http://app.example" }));
        for target in all {
            assert_eq!(!is_hit(&gateway.get(target)), struck.contains(&target), "{tag}: {target}");
        }
    }
    let answer = gateway.get("/news/key");
    for field in ["cache-groups", "surrogate-key", "cache-tag"] {
        assert_eq!(answer.header(field), None, "an api's tags are not the client's");
    }
}

#[test]
fn rfc9111_3_2_a_304_keeps_the_tags_and_a_new_list_replaces_them() {
    let renames = Arc::new(AtomicBool::new(false));
    let new = renames.clone();
    let origin = Origin::start(move |request| {
        let mut fields = vec![("Cache-Control", "max-age=3600"), ("ETag", "\"1\"")];
        match (request.header("if-none-match").is_some(), new.load(Ordering::SeqCst)) {
            (false, _) => fields.push(("Surrogate-Key", "first")),
            (true, true) => fields.push(("Surrogate-Key", "second")),
            (true, false) => {}
        }
        let status = if request.header("if-none-match").is_some() { 304 } else { 200 };
        response(status, &fields, if status == 200 { b"text" } else { b"" })
    });
    let gateway = Gateway::start(&yaml(&origin, ""));
    fill(&gateway, &["/news/a"]);
    for (rename, expected) in [(false, "first"), (true, "second")] {
        renames.store(rename, Ordering::SeqCst);
        purge(&gateway, &json!({ "all": true }));
        assert!(
            !is_hit(&gateway.get("/news/a")) && is_hit(&gateway.get("/news/a")),
            "asked about, and fresh again"
        );
        for tag in ["first", "second"] {
            let told = purge(&gateway, &json!({ "tag": tag, "dryRun": true }));
            assert_eq!(told["matched"] == 1, tag == expected, "{expected}: {tag}");
        }
    }
}

#[test]
fn rfc9875_3_an_answer_to_an_unsafe_method_invalidates_its_groups() {
    let origin = Origin::start(|request| match request.target() {
        "/news/change" => response(200, &[("Cache-Group-Invalidation", "\"front\"")], b"changed"),
        "/news/other" => {
            response(200, &[("Cache-Control", "max-age=3600"), ("Cache-Groups", "\"back\"")], b"x")
        }
        _ => response(200, &[("Cache-Control", "max-age=3600"), ("Cache-Groups", "\"front\"")], b"x"),
    });
    let gateway = Gateway::start(&yaml(&origin, ""));
    fill(&gateway, &["/news/a", "/news/b", "/news/other"]);
    gateway.get("/news/change");
    assert!(is_hit(&gateway.get("/news/a")), "a safe method changes nothing");
    assert_eq!(gateway.request("POST", "/news/change", &[], b"").status, 200);
    assert!(!is_hit(&gateway.get("/news/a")) && !is_hit(&gateway.get("/news/b")), "the group");
    assert!(is_hit(&gateway.get("/news/other")), "and no other");
}

#[test]
fn explain_tells_what_a_purge_does_and_for_whom() {
    let origin = origin();
    let gateway = Gateway::start(&yaml(&origin, ", purge: { from: [\"127.0.0.1\"] }"));
    let admin = gateway.admin.expect("an admin side").to_string();
    for (from, path, verdict, status) in [
        ("127.0.0.1", "/news/a", "answered", 200),
        ("192.0.2.1", "/news/a", "methodNotAllowed", 405),
        ("127.0.0.1", "/other/a", "methodNotAllowed", 405),
        ("127.0.0.1", "/nowhere", "notFound", 404),
    ] {
        let url = format!("http://app.example{path}");
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["explain", "PURGE", &url, "--live", "--admin", &admin, "--from", from, "--format", "json"])
            .output()
            .expect("the binary runs");
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let outcome = &told["outcome"];
        assert_eq!(
            (&outcome["verdict"], &outcome["status"]),
            (&verdict.into(), &status.into()),
            "{from} {path}"
        );
        assert!(outcome["sent"].is_null(), "{from} {path}: nothing goes upstream");
    }
}

#[test]
fn the_command_finds_a_socket_file_by_the_configuration_and_shows_a_token() {
    let origin = origin();
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock");
    let text = yaml(&origin, "").replace(
        "admin: { address: \"127.0.0.1:0\" }\n",
        &format!(
            "admin: {{ address: \"unix:{}\", token: admin-token }}\nsecrets: {{ admin-token: {{ env: ADMIN_TOKEN }} }}\n",
            socket.display()
        ),
    );
    let gateway = Setup::new().env("ADMIN_TOKEN", "admin-token-4711").start(&text);
    assert!(gateway.get("/news/a").status == 200, "something is stored");
    let config = folder.path().join("portcullis.yaml");
    std::fs::write(&config, &text).expect("written");
    for (token, expected) in [(Some("admin-token-4711"), 0), (Some("another-token"), 2), (None, 2)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["cache", "ls", "--config"]).arg(&config).env_remove("PORTCULLIS_ADMIN_TOKEN");
        command.envs(token.map(|token| ("PORTCULLIS_ADMIN_TOKEN", token)));
        let output = command.output().expect("the binary runs");
        let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(expected), "{token:?}: {said}{why}");
        assert_eq!(said.contains("http://app.example/news/a"), expected == 0, "{token:?}: {said}");
        assert_eq!(why.contains("wants a token"), expected == 2, "{token:?}: {why}");
    }
}

#[test]
fn a_purge_of_many_during_a_fill_wins_and_those_who_wait_ask_once_more_together() {
    for mode in ["soft", "hard"] {
        let gate = Gate::new();
        let door = gate.clone();
        let origin = Origin::start(move |_| {
            let head = response_bytes(200, &[("Cache-Control", "max-age=3600"), ("Cache-Tag", "x")], b"text");
            Reply::Steps(vec![(door.clone(), head)])
        });
        let gateway = Gateway::start(&yaml(&origin, ""));
        let mut clients: Vec<_> = (0..8).map(|_| begin(&gateway, "/news/a")).collect();
        wait_active(&gateway, 8);
        eventually!(origin.count() == 1, "{mode}: one asks for all");
        purge(&gateway, &json!({ "tag": "x", "mode": mode }));
        gate.open();
        for client in &mut clients {
            let answer = client.read("GET");
            assert_eq!((answer.status, answer.text().as_str(), answer.cut), (200, "text", false), "{mode}");
        }
        assert!(origin.count() <= 3, "{mode}: not one after the other: {}", origin.count());
        let before = origin.count();
        let is_kept = is_hit(&gateway.get("/news/a"));
        // What the second call brought began after the purge; what the first brought is not given as fresh.
        assert!(before >= 2 || !is_kept, "{mode}: what was asked for before the purge is not kept as fresh");
        gateway.get("/news/a");
        assert!(is_hit(&gateway.get("/news/a")), "{mode}: what was asked for after it is");
    }
}
