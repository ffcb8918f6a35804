//! What `portcullis explain` says to people, and that it explains every route of the configurations that we hand out.
//!
//! `BLESS=1 cargo test --test explain` writes the golden files anew; read them as somebody who never saw the product.

mod golden;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn explain(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("explain")
        .args(arguments)
        .current_dir(folder)
        .env_remove("PORTCULLIS_CONFIG")
        .output()
        .expect("the binary runs")
}

/// The name of a golden file, and the arguments.
const GOLDEN: &[(&str, &[&str])] = &[
    (
        "cached_api",
        &[
            "GET",
            "https://shop.example/api/weather/ulm?utm_source=mail&lang=de&appid=mine",
            "-H",
            "Accept: application/json",
            "-H",
            "Accept-Language: de",
            "-H",
            "Cookie: sid=1",
            "-H",
            "Range: bytes=0-9",
            "-H",
            "X-Forwarded-For: 198.51.100.7",
        ],
    ),
    (
        "payment",
        &[
            "POST",
            "https://shop.example/api/pay",
            "-H",
            "Content-Length: 40",
            "-H",
            "Content-Type: application/json",
            "-H",
            "Idempotency-Key: 7",
            "-H",
            "Authorization: Bearer of-the-client",
            "-H",
            "User-Agent: phone",
        ],
    ),
    ("body_too_large", &["POST", "https://shop.example/api/pay", "-H", "Content-Length: 70000"]),
    ("several_endpoints", &["DELETE", "https://eu.shop.example/stock/7", "--from", "2001:db8:1:2::9"]),
    (
        "app_behind_a_proxy",
        &[
            "GET",
            "https://shop.example/cart/../basket//",
            "--from",
            "10.0.0.9",
            "-H",
            "X-Forwarded-For: 198.51.100.7, 10.1.1.1",
            "-H",
            "Cookie: sid=1",
            "-H",
            "x_real_ip: 1.2.3.4",
        ],
    ),
    (
        "websocket",
        &["GET", "https://www.shop.example/live", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"],
    ),
    ("lower_case_method", &["post", "https://shop.example/api/pay"]),
    ("redirect", &["GET", "http://shop.example/shop/shoes?size=42"]),
    ("fixed_answer", &["GET", "/robots.txt", "-H", "Host: shop.example", "--listener", "plain"]),
    ("host_goes_first", &["GET", "https://help.shop.example/api/weather/ulm"]),
    ("slip_of_the_pen", &["GET", "https://shop.example/api/wether/ulm"]),
    ("no_route", &["GET", "http://app.example/wether", "--config", "api_only.yaml"]),
    ("no_host_fits", &["GET", "http://shop.example/weather/ulm", "--config", "api_only.yaml"]),
    (
        "no_condition_holds",
        &["GET", "http://app.example/reports/2026?format=csv", "--config", "api_only.yaml"],
    ),
    (
        "wrong_method",
        &["PUT", "http://app.example/people/7/posts", "-H", "X-Key: 1", "--config", "api_only.yaml"],
    ),
    ("bad_path", &["GET", "https://shop.example/api/a%2Fb"]),
    ("no_host", &["GET", "/api/weather/ulm"]),
    ("cannot_be_sent", &["GET", "https://shop.example/api/weather/ulm", "-H", "Connection: host"]),
    (
        "too_many_headers",
        &[
            "GET",
            "http://app.example/weather",
            "-H",
            "A: 1",
            "-H",
            "B: 2",
            "-H",
            "C: 3",
            "-H",
            "D: 4",
            "--config",
            "api_only.yaml",
        ],
    ),
    ("unknown_listener", &["GET", "https://shop.example/", "--listener", "private"]),
    ("no_url", &["GET", "shop.example/"]),
];

#[test]
fn what_people_read_is_as_it_was_read() {
    let folder = Path::new(ROOT).join("tests/explain");
    let mut wrong = Vec::new();
    for (name, arguments) in GOLDEN {
        let shop = ["--config", "shop.yaml"];
        let rest: &[&str] = if arguments.contains(&"--config") { &[] } else { &shop };
        let output = explain(&folder, &[arguments, rest].concat());
        let shown: Vec<String> = arguments
            .iter()
            .map(|a| if a.contains([' ', '&', '?']) { format!("'{a}'") } else { (*a).into() })
            .collect();
        let text = format!(
            "$ portcullis explain {}\n{}{}[exit {}]\n",
            shown.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status.code().expect("an exit code")
        );
        let file = folder.join(format!("{name}.expected"));
        if !golden::holds(&file, &text) {
            wrong.push(format!("{name}:\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 writes them anew:\n{}", wrong.join("\n"));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A request that a route's match asks for.
fn request_of(matched: &Value) -> Vec<String> {
    let first = |key: &str| matched[key].get(0).and_then(Value::as_str);
    let path = &matched["path"];
    let text = |key: &str| path[key].as_str().map(str::to_owned);
    let target = text("exact")
        .or_else(|| text("prefix"))
        .or_else(|| text("template").map(|template| template.replace(['{', '}'], "")))
        .or_else(|| text("regex").map(|regex| regex.replace("[0-9]{4}", "2026")))
        .unwrap_or_else(|| "/".to_owned());
    let value = |field: &Value| {
        let exact = field["exact"].as_str().or_else(|| field["regex"].as_str()?.split('|').next());
        (field["name"].as_str().expect("a name").to_owned(), exact.unwrap_or("1").to_owned())
    };
    let fields = |key: &str| matched[key].as_array().into_iter().flatten().map(value).collect::<Vec<_>>();
    let query: Vec<String> = fields("query").into_iter().map(|(n, v)| format!("{n}={v}")).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let host = first("hosts").unwrap_or("any.example").replace("*.", "a.");
    let mut arguments = vec![first("methods").unwrap_or("GET").to_owned(), format!("{target}{query}")];
    let headers = fields("headers").into_iter().chain([("Host".to_owned(), host)]);
    arguments.extend(headers.flat_map(|(name, value)| ["-H".to_owned(), format!("{name}: {value}")]));
    arguments
}

#[test]
fn every_route_that_we_hand_out_is_explained() {
    let mut routes = 0;
    for file in files(&Path::new(ROOT).join("conf")) {
        let text = std::fs::read_to_string(&file).expect("a file");
        let document: Value = serde_yaml::from_str(&text).expect("YAML");
        for route in document["routes"].as_array().into_iter().flatten() {
            let mut arguments = request_of(&route["match"]);
            // A team's file is explained as part of the one that includes it.
            let main = match document["team"].as_str() {
                Some(_) => file.with_file_name("../portcullis.yaml").canonicalize().expect("the main file"),
                None => file.clone(),
            };
            let (file, main) = (file.display().to_string(), main.display().to_string());
            arguments.extend(["--format", "json", "--config", &main].map(str::to_owned));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let output = explain(Path::new(ROOT), &arguments);
            let error = String::from_utf8_lossy(&output.stderr);
            let told: Value =
                serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {error}"));
            assert_eq!(told["version"], 1);
            // Of a team's file the name begins with the team's.
            let taken = told["route"]["name"].as_str().unwrap_or_default();
            assert_eq!(taken.rsplit('/').next(), route["name"].as_str(), "{arguments:?}: {told:#}");
            assert!(
                told["route"]["place"].as_str().is_some_and(|place| place.starts_with(&file)),
                "{told:#}"
            );
            assert_eq!(output.status.code(), Some(0), "{arguments:?}");
            routes += 1;
        }
    }
    assert!(routes >= 15, "{routes} routes");
}

#[test]
fn a_secret_that_is_there_is_not_read() {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["explain", "GET", "https://shop.example/api/weather/ulm", "--config", "shop.yaml"])
        .args(["--format", "json"])
        .current_dir(Path::new(ROOT).join("tests/explain"))
        .env("WEATHER_KEY", "s3cr3t-0123456789")
        .output()
        .expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("<secret:weather-key>"), "{text}");
    assert!(!text.contains("s3cr3t") && output.stderr.is_empty(), "{text}");
}

/// A policy that decides something and does not say what would be a hole in every explanation.
#[test]
fn no_policy_is_silent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let file = Path::new(ROOT).join("conf/portcullis.yaml");
    let loaded = portcullis::server::Load::assumed(&file, &portcullis::plan::Process::new());
    let (plan, _) = loaded.unwrap_or_else(|report| panic!("{}", report.human()));
    let head = pingora::http::RequestHeader::build("GET", b"/", None).expect("a head");
    let listener = plan.listeners[0].name.clone();
    let peer = ([127, 0, 0, 1], 1).into();
    let exchange = portcullis::exchange::Exchange::begin(listener, peer, portcullis::exchange::Scheme::Http);
    let telling = portcullis::policy::Telling {
        exchange: &exchange,
        heads: Some((&head, &head)),
        counters: portcullis::policy::Counters::None,
    };
    let mut told = std::collections::BTreeSet::new();
    for (kind, policy) in plan.routes.iter().flat_map(|route| route.chain.iter()) {
        let words = policy.explain(&telling).map(|told| told.words).unwrap_or_default();
        assert!(!words.is_empty(), "`{}` says nothing", kind.key);
        told.insert(kind.key);
    }
    assert!(told.len() >= 9, "the reference has them all: {told:?}");
}

#[test]
fn a_route_of_a_team_is_told_with_its_own_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write(
        "gate.yaml",
        "version: 1
listeners: [{ name: public, address: \"127.0.0.1:8080\" }]
include: [teams/*.yaml]
upstreams: { vendor: { url: https://api.vendor.example } }
",
    );
    write(
        "teams/shop.yaml",
        "team: shop
routes:
  - name: prices
    match: { path: { prefix: /shop/prices } }
    upstream: vendor
    rateLimit: { requests: 10, window: 1s }
",
    );
    let arguments = ["GET", "http://a.example/shop/prices/7", "--format", "json", "--config", "gate.yaml"];
    let output = explain(folder.path(), &arguments);
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(told["outcome"]["route"], "shop/prices");
    assert_eq!(told["route"]["place"], "teams/shop.yaml:3");
    let place = |key: &str| {
        let steps = told["steps"].as_array().into_iter().flatten();
        steps.filter(|step| step["key"] == key).map(|step| step["place"].clone()).next()
    };
    assert_eq!(place("rateLimit"), Some("teams/shop.yaml:6".into()));
    assert_eq!(place("upstream"), Some("teams/shop.yaml:5".into()));
    assert_eq!(place("request.body"), Some("gate.yaml:4".into()), "the kind belongs to the upstream's owner");
}

#[test]
fn a_code_of_a_diagnostic_is_explained_too() {
    let folder = Path::new(ROOT);
    let output = explain(folder, &["PC0304"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("PC0304"), "its own text");
    let output = explain(folder, &["PC9999"]);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "no such code");
    for (only, expected) in [
        ("PC304", "there is no code `PC304`"),
        ("https://a.example/x", "`portcullis explain GET https://a.example/x`"),
        ("GET", "a URL follows the method"),
    ] {
        let output = explain(folder, &[only]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{only}: {errors}");
        assert!(errors.contains(expected), "{only}: {errors}");
    }
}

#[test]
fn what_cannot_be_asked_is_a_matter_of_usage() {
    let folder = Path::new(ROOT).join("tests/explain");
    for arguments in [
        vec!["GET", "https://a.example/"],
        vec!["GET", "https://a.example/", "--config", "none.yaml"],
        vec!["GET", "https://a.example/", "--config", "shop.yaml", "-H", "no colon"],
        vec!["GET", "https://a.example/", "--config", "shop.yaml", "-H", "A: b\r\nC: d"],
        vec!["GET", "https://a.example/", "--admin", "127.0.0.1:1"],
        vec!["GET", "https://a.example/", "--live", "--admin", "127.0.0.1"],
    ] {
        let output = explain(&folder, &arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}: talk, and no data");
    }
}
