//! `explain --live`: what only the running gateway knows, asked without touching it.

use std::process::Command;

use serde_json::Value;

use crate::harness::{Client, Gate, Gateway, HEAD, Origin, Reply, Setup, response, response_bytes};

const SECRET: &str = "s3cr3t-0123456789";
const TOKEN: &str = "admin-token-4711";

fn origin() -> Origin {
    Origin::start(|_| response(200, &[("Content-Type", "application/json")], b"{\"ok\":true}"))
}

fn yaml(head: &str, origin: &Origin) -> String {
    format!(
        "{head}secrets: {{ vendor-key: {{ env: VENDOR_KEY }}, admin-token: {{ env: ADMIN_TOKEN }} }}
upstreams: {{ vendor: {{ url: \"{}\", allowPrivate: true, credential: {{ bearer: vendor-key }} }} }}
routes:
  - name: kept
    match: {{ path: {{ prefix: /kept }} }}
    upstream: vendor
    cache: {{ ttl: 1h }}
  - name: limited
    match: {{ path: {{ prefix: /limited }} }}
    upstream: vendor
    rateLimit: {{ requests: 3, window: 10h }}
",
        origin.url()
    )
}

fn setup() -> Setup {
    Setup::new().env("VENDOR_KEY", SECRET).env("ADMIN_TOKEN", TOKEN)
}

/// The command, its exit code, stdout and stderr.
fn ask(arguments: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("explain")
        .args(arguments)
        .env_remove("PORTCULLIS_CONFIG")
        .env_remove("PORTCULLIS_ADMIN_TOKEN")
        .envs(env.iter().copied())
        .output()
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
}

/// What it tells of a path.
fn told(gateway: &Gateway, path: &str) -> Value {
    let url = format!("http://app.example{path}");
    let admin = gateway.admin.expect("an admin side").to_string();
    let (_, stdout, stderr) = ask(&["GET", &url, "--live", "--admin", &admin, "--format", "json"], &[]);
    assert!(!stdout.contains(SECRET), "the secret's name, never its value: {stdout}");
    serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("no JSON: {stdout}{stderr}"))
}

#[test]
fn what_a_limit_has_left_is_told_and_not_used_up() {
    let origin = origin();
    let gateway = setup().start(&yaml(HEAD, &origin));
    let left = || told(&gateway, "/limited/x")["live"]["now"]["rateLimit"][0].clone();
    for remaining in [3, 2, 1] {
        for _ in 0..3 {
            assert_eq!(left()["remaining"], remaining, "asking costs nothing");
        }
        assert_eq!(gateway.get("/limited/x").status, 200);
    }
    let spent = left();
    assert_eq!((&spent["remaining"], &spent["allowed"]), (&0.into(), &false.into()));
    assert!(
        spent["retryAfterSeconds"].as_f64().is_some_and(|wait| wait > 3600.0),
        "a third of ten hours: {spent}"
    );
    assert_eq!(gateway.get("/limited/x").status, 429);
    let admin = gateway.admin.expect("an admin side").to_string();
    let (code, human, _) = ask(&["GET", "http://app.example/limited/x", "--live", "--admin", &admin], &[]);
    assert!(code == 0 && human.contains("now a limit is used up"), "{human}");
    let elsewhere =
        ["GET", "http://app.example/limited/x", "--live", "--admin", &admin, "--from", "192.0.2.9"];
    assert!(ask(&elsewhere, &[]).1.contains("now: 3 requests left"), "another client has its own");
}

#[test]
fn requests_under_way_are_told_and_no_place_is_taken() {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin =
        Origin::start(move |_| Reply::Steps(vec![(opened.clone(), response_bytes(200, &[], b"done"))]));
    let text = yaml(HEAD, &origin).replace("cache: { ttl: 1h }", "concurrency: { max: 2, key: client.ip }");
    let gateway = setup().start(&text);
    let begin = || {
        let mut client = Client::connect(gateway.address());
        client.send(b"GET /kept HTTP/1.1\r\nHost: app.example\r\n\r\n");
        client
    };
    let running = || told(&gateway, "/kept")["live"]["now"]["concurrency"]["running"].clone();
    assert_eq!(running(), 0);
    let mut first = begin();
    eventually!(origin.count() == 1, "one is under way");
    assert_eq!((running(), running()), (1.into(), 1.into()), "looking takes no place");
    let mut second = begin();
    eventually!(origin.count() == 2, "the second place was free");
    let flying = &told(&gateway, "/kept")["live"]["now"]["upstream"][0]["inFlight"];
    assert_eq!((running(), flying), (2.into(), &2.into()));
    gate.open();
    assert_eq!((first.read("GET").status, second.read("GET").status), (200, 200));
    eventually!(running() == 0, "both places are given back");
}

#[test]
fn what_is_stored_is_told_with_its_age() {
    let origin = origin();
    let gateway = setup().start(&yaml(HEAD, &origin));
    let stored = |path: &str| told(&gateway, path)["live"]["now"]["cache"].clone();
    assert_eq!(stored("/kept/a")["stored"], false);
    let kept = || gateway.request("GET", "/kept/a", &[("Host", "app.example")], b"");
    assert_eq!(kept().status, 200);
    let cache = stored("/kept/a");
    assert_eq!(
        (&cache["stored"], &cache["fresh"], &cache["status"]),
        (&true.into(), &true.into(), &200.into())
    );
    assert!(cache["ttlSeconds"].as_i64().is_some_and(|ttl| (3500..=3600).contains(&ttl)), "{cache}");
    assert_eq!(stored("/kept/b")["stored"], false, "another key");
    assert_eq!(origin.count(), 1, "asking asks nobody else");
    let human = ask(
        &["HEAD", "http://app.example/kept/a", "--live", "--admin", &gateway.admin.expect("one").to_string()],
        &[],
    );
    assert!(
        human.1.contains("now: an answer is stored and fresh for 3") && human.1.contains("seconds: `hit`"),
        "HEAD is answered from it: {}",
        human.1
    );
}

#[test]
fn a_variant_is_stored_for_the_requests_that_choose_it() {
    let origin = Origin::start(|_| response(200, &[("Vary", "Accept-Language")], b"{}"));
    let gateway = setup().start(&yaml(HEAD, &origin));
    let stored = |language: &str| {
        let asked = format!(
            "{{\"method\": \"GET\", \"url\": \"http://app.example/kept/v\", \"headers\": [[\"Accept-Language\", \"{language}\"]]}}"
        );
        gateway.admin_post("/explain", &asked).json()["live"]["now"]["cache"]["stored"].clone()
    };
    let get =
        |language: &str| gateway.request("GET", "/kept/v", &[("Accept-Language", language)], b"").status;
    assert_eq!(
        (stored("de"), get("de"), stored("de"), stored("en")),
        (false.into(), 200, true.into(), false.into())
    );
    assert_eq!(
        (get("en"), stored("en"), stored("de"), stored("fr")),
        (200, true.into(), true.into(), false.into())
    );
}

#[test]
fn endpoints_secrets_and_the_file_are_told() {
    let origin = origin();
    let gateway = setup().start(&yaml(HEAD, &origin));
    let live = told(&gateway, "/limited")["live"].clone();
    assert_eq!(live["now"]["credential"]["secretLoaded"], true);
    let endpoint = &live["now"]["upstream"][0];
    assert_eq!(endpoint["endpoint"], origin.address.to_string());
    assert_eq!((&endpoint["inFlight"], &endpoint["resolved"]), (&0.into(), &true.into()));
    assert_eq!(live["sameAsFile"], true);
    // A file with a mistake is not in force.
    gateway.write_config(&yaml(HEAD, &origin).replace("requests: 3", "requests: none"));
    assert_eq!(told(&gateway, "/limited")["live"]["sameAsFile"], false);
    assert_eq!(
        told(&gateway, "/limited")["live"]["fingerprint"],
        live["fingerprint"],
        "the old one serves on"
    );
}

/// A reload changes no listener, so nothing else may be told of one that runs.
#[test]
fn a_listener_is_told_as_it_was_bound() {
    let origin = origin();
    let gateway = setup().start(&yaml(HEAD, &origin));
    let told = || {
        let asked = "{\"method\": \"GET\", \"url\": \"http://app.example/kept\", \"headers\": [[\"X-Forwarded-For\", \"192.0.2.7\"]]}";
        gateway.admin_post("/explain", asked).json()
    };
    let before = told();
    assert_eq!(before["request"]["client"], "127.0.0.1");
    let trusting = HEAD.replace("127.0.0.1:0\" }]", "127.0.0.1:0\", trustedProxies: [\"127.0.0.0/8\"] }]");
    gateway.write_config(&yaml(&trusting, &origin));
    gateway.signal("HUP");
    eventually!(
        told()["live"]["fingerprint"] != before["live"]["fingerprint"],
        "the reload: {}",
        gateway.stderr()
    );
    assert_eq!(told()["request"]["client"], "127.0.0.1", "it trusts nobody until the next start");
}

#[test]
fn a_socket_file_and_a_token_are_enough() {
    let origin = origin();
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock");
    let head = format!(
        "version: 1\nlisteners: [{{ name: public, address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"unix:{}\", token: admin-token }}\n",
        socket.display()
    );
    let gateway = setup().start(&yaml(&head, &origin));
    let config = gateway.directory().join("portcullis.yaml").display().to_string();
    let asked = ["GET", "http://app.example/kept", "--live", "--config", &config];
    let (code, stdout, stderr) = ask(&asked, &[]);
    assert!(code == 2 && stdout.is_empty(), "no token: {stdout}{stderr}");
    assert!(stderr.contains("`PORTCULLIS_ADMIN_TOKEN`"), "where it is to be put: {stderr}");
    let (code, stdout, stderr) = ask(&asked, &[("PORTCULLIS_ADMIN_TOKEN", "another-token")]);
    assert!(code == 2 && stdout.is_empty() && !stderr.contains("another-token"), "a wrong one: {stderr}");
    let (code, stdout, stderr) = ask(&asked, &[("PORTCULLIS_ADMIN_TOKEN", TOKEN)]);
    assert!(code == 0 && stdout.contains("the route `kept`") && stdout.contains("now: "), "{stdout}{stderr}");
    let own = [&asked[..], &["--token-env", "OURS"]].concat();
    assert_eq!(ask(&own, &[("OURS", TOKEN)]).0, 0, "another variable");
    assert!(!gateway.stdout().contains(TOKEN) && !gateway.stderr().contains(TOKEN), "no log has it");
}

#[test]
fn the_admin_side_says_what_it_cannot_explain() {
    let origin = origin();
    let gateway = setup().start(&yaml(HEAD, &origin));
    for (body, why) in [
        ("", "a question is"),
        ("{\"method\": \"GET\"}", "a question is"),
        ("{\"method\": \"GET\", \"url\": \"app.example\"}", "is no URL"),
        ("{\"method\": \"GET\", \"url\": \"/\", \"listener\": \"none\"}", "there is no listener `none`"),
        ("{\"method\": \"GET\", \"url\": \"/\", \"headers\": [[\"a\", \"b\\r\\nc: d\"]]}", "no line breaks"),
    ] {
        let answer = gateway.admin_post("/explain", body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["error"].as_str().is_some_and(|text| text.contains(why)), "{}", answer.text());
    }
    assert_eq!(gateway.admin("/explain").status, 405, "a question is posted");
    let page = Client::connect(gateway.admin.expect("an admin side")).request(
        "POST",
        "/explain",
        &[("Host", "localhost"), ("Origin", "http://x.example")],
        b"{\"method\": \"GET\", \"url\": \"/\"}",
    );
    assert_eq!(page.status, 403, "no page of a browser asks");
}
