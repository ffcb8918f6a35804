//! The operators' side: metrics that parse, health, the configuration without secrets, and who is let in.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};

use portcullis::telemetry::metrics::catalogue::{Kind, Metric};

use crate::harness::{Answer, Client, Gateway, HEAD, Origin, Setup};

const SECRET: &str = "s3cr3t-0123456789";
const HELLO: &str = "routes: [{ name: hello, match: { path: { prefix: / } }, respond: { text: hello } }]\n";

/// `HEAD` with another admin side.
fn with_admin(admin: &str) -> String {
    format!(
        "{}{HELLO}",
        HEAD.replace("admin: { address: \"127.0.0.1:0\" }", &format!("admin: {{ {admin} }}"))
    )
}

/// Families of a scrape: name, type, help and samples. Fails on a line that is not of the text format 0.0.4.
fn parse(text: &str) -> BTreeMap<String, (String, Vec<(String, f64)>)> {
    let mut families: BTreeMap<String, (String, Vec<(String, f64)>)> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help has a text");
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "one HELP for each: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(helped.contains(name), "HELP comes before TYPE: {line}");
            let twice = families.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
            assert!(twice.is_none(), "a family comes once: {line}");
            current = name.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            let value = value.parse::<f64>().ok();
            assert!(value.is_some(), "no number: {line}");
            let value = value.unwrap_or_default();
            let name = series.split('{').next().expect("a name");
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix).filter(|base| *base == current))
                .unwrap_or(name);
            assert_eq!(base, current, "a sample stands below its family: {line}");
            if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
                assert!(labels.starts_with('{') && labels.ends_with("\"}"), "labels: {line}");
            }
            let samples = &mut families.get_mut(&current).expect("a family").1;
            assert!(!samples.iter().any(|(other, _)| other == series), "a series comes once: {line}");
            samples.push((series.to_owned(), value));
        }
    }
    families
}

#[test]
fn metrics_parse_and_are_those_of_the_catalogue() {
    let origin = Origin::ok();
    let yaml = format!(
        "{HEAD}secrets: {{ vendor-key: {{ env: VENDOR_KEY }} }}
upstreams: {{ vendor: {{ url: \"{}\", allowPrivate: true, credential: {{ bearer: vendor-key }} }} }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, cache: {{ ttl: 60s }}, rateLimit: {{ requests: 9, window: 1m }}, response: {{ json: {{ remove: [\"$.x\"] }} }} }}
",
        origin.url()
    );
    let gateway = Setup::new().env("VENDOR_KEY", SECRET).start(&yaml);
    assert_eq!(
        [gateway.get("/api").status, gateway.get("/api").status, gateway.get("/none").status],
        [200, 200, 404]
    );
    let mut broken = Client::connect(gateway.address());
    broken.send(b"no request\r\n\r\n");
    assert_eq!(broken.read("GET").status, 400, "answered before a route is looked for");
    let answer = gateway.admin("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let families = parse(&answer.text());
    for metric in Metric::ALL {
        let family = metric.family();
        // Families whose series come with an event that did not happen here.
        let absent =
            ["portcullis_tls_certificate_expiry_timestamp_seconds", "portcullis_cache_uncacheable_total"]
                .contains(&family.name);
        let Some((kind, samples)) = families.get(family.name) else {
            assert!(absent, "`{}` is missing in a scrape", family.name);
            continue;
        };
        let expected = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert_eq!(kind, expected, "{}", family.name);
        assert!(!samples.is_empty(), "`{}` has no series", family.name);
    }
    let known: BTreeSet<&str> = Metric::ALL.iter().map(|metric| metric.family().name).collect();
    let strange: Vec<&String> = families.keys().filter(|name| !known.contains(name.as_str())).collect();
    assert!(strange.is_empty(), "not in the catalogue: {strange:?}");
    let series: usize = families.values().map(|(_, samples)| samples.len()).sum();
    assert_eq!(families["portcullis_metrics_series"].1[0].1, series as f64, "it counts itself");
    assert!(!answer.contains(SECRET.as_bytes()) && !answer.contains(origin.address.to_string().as_bytes()));
}

#[test]
fn every_path_has_its_method_and_no_other_path_is_there() {
    let gateway = Gateway::start(&format!("{HEAD}{HELLO}"));
    let ask = |method: &str, target: &str| {
        Client::connect(gateway.admin.expect("an admin side"))
            .request(method, target, &[("Host", "localhost")], b"")
            .status
    };
    for path in ["/livez", "/readyz", "/metrics", "/config", "/"] {
        assert_eq!(ask("GET", path), 200, "GET {path}");
        assert_eq!(ask("POST", path), 405, "POST {path}");
    }
    assert_eq!(ask("GET", "/purge"), 405, "no GET changes anything");
    assert_eq!(ask("POST", "/purge"), 400, "a purge names its URL");
    for path in ["/nothing", "/metrics/", "/Metrics", "//metrics", "/config/secrets"] {
        assert_eq!(ask("GET", path), 404, "{path}");
    }
    for path in ["/metrics", "/config", "/livez"] {
        assert_eq!(gateway.get(path).text(), "hello", "{path} of the public side is a route's");
    }
}

#[test]
fn the_configuration_is_shown_with_names_and_ages_of_secrets_only() {
    let yaml = format!(
        "{HEAD}secrets: {{ from-env: {{ env: VENDOR_KEY }}, from-file: {{ file: key }} }}
upstreams:
  a: {{ url: \"https://a.vendor.example\", credential: {{ bearer: from-env }} }}
  b: {{ url: \"https://b.vendor.example\", credential: {{ bearer: from-file }} }}
routes:
  - {{ name: a, match: {{ path: {{ prefix: /a }} }}, upstream: a }}
  - {{ name: b, match: {{ path: {{ prefix: /b }} }}, upstream: b }}
"
    );
    let gateway = Setup::new().env("VENDOR_KEY", SECRET).file("key", "another-secret-1").start(&yaml);
    let answer = gateway.admin("/config");
    assert!(
        !answer.contains(SECRET.as_bytes()) && !answer.contains(b"another-secret-1"),
        "{}",
        answer.text()
    );
    let shown = answer.json();
    for name in ["from-env", "from-file"] {
        assert_eq!(shown["secrets"][name]["available"], true, "{shown}");
        assert!(shown["secrets"][name]["ageSeconds"].is_u64(), "{shown}");
    }
    assert_eq!(shown["ready"], true);
    assert_eq!(shown["document"]["routes"][0]["name"], "a", "as written: {shown}");
    assert_eq!(shown["document"]["secrets"]["from-env"]["env"], "VENDOR_KEY");
    let fingerprint = shown["fingerprint"].as_str().expect("a fingerprint");
    assert_eq!(gateway.metric(&format!("portcullis_config_info{{hash=\"{fingerprint}\"}}")), 1.0);
}

#[test]
fn pages_in_a_browser_are_refused() {
    let gateway = Gateway::start(&format!("{HEAD}{HELLO}"));
    let ask = |method: &str, target: &str, header: (&str, &str)| {
        let mut client = Client::connect(gateway.admin.expect("an admin side"));
        client
            .request(method, target, &[("Host", "localhost"), header], b"{\"url\":\"http://app.example/\"}")
            .status
    };
    for header in [("Origin", "https://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")] {
        assert_eq!(ask("POST", "/purge", header), 403, "{header:?}");
        for target in ["/config", "/cache/stats", "/cache/entries", "/cache/entry"] {
            assert_eq!(ask("GET", target, header), 403, "{target} {header:?}");
        }
    }
}

/// Asks the admin side with these `Authorization` values.
fn with_token(admin: SocketAddr, target: &str, token: Option<&str>) -> Answer {
    let mut headers = vec![("Host", "localhost")];
    headers.extend(token.map(|token| ("Authorization", token)));
    Client::connect(admin).request("GET", target, &headers, b"")
}

#[test]
fn where_a_token_is_set_nobody_gets_in_without_it() {
    let yaml = with_admin("address: \"0.0.0.0:0\", token: admin-token")
        + "secrets: { admin-token: { env: ADMIN_TOKEN } }\n";
    let gateway = Setup::new().env("ADMIN_TOKEN", SECRET).start(&yaml);
    let admin = gateway.admin.expect("an admin side");
    let right = format!("Bearer {SECRET}");
    let (longer, shorter) = (format!("{right}x"), right[..right.len() - 1].to_owned());
    for path in ["/metrics", "/config", "/purge", "/cache/stats", "/cache/entries", "/cache/entry", "/"] {
        let wrong = [
            None,
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer wrong"),
            Some(SECRET),
            Some(&longer),
            Some(&shorter),
        ];
        for token in wrong {
            let answer = with_token(admin, path, token);
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, Some("Bearer")),
                "{path} {token:?}"
            );
        }
    }
    assert_eq!(with_token(admin, "/metrics", Some(&right)).status, 200);
    assert_eq!(with_token(admin, "/livez", None).status, 200, "a probe has no token");
    assert_eq!(with_token(admin, "/readyz", None).status, 200);
    assert!(!gateway.stderr().contains(SECRET) && !gateway.stdout().contains(SECRET));
}

#[test]
fn a_new_file_without_the_token_does_not_open_an_address_that_others_reach() {
    let yaml = with_admin("address: \"0.0.0.0:0\", token: admin-token")
        + "secrets: { admin-token: { env: ADMIN_TOKEN } }\n";
    let gateway = Setup::new().env("ADMIN_TOKEN", SECRET).start(&yaml);
    let admin = gateway.admin.expect("an admin side");
    for (word, side) in [("two", "admin: { address: \"127.0.0.1:0\" }\n"), ("three", "")] {
        let head = HEAD.replace("admin: { address: \"127.0.0.1:0\" }\n", side);
        gateway.write_config(&format!("{head}{HELLO}").replace("text: hello", &format!("text: {word}")));
        eventually!(gateway.get("/").text() == word, "reloaded: {}", gateway.stderr());
        assert_eq!(with_token(admin, "/config", None).status, 401, "it listens where it did: {side:?}");
    }
}

fn over_unix(path: &std::path::Path, target: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("somebody listens");
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_socket_file_is_for_its_owner_and_gone_at_the_end() {
    let mut gateway = Gateway::start(&with_admin("address: \"unix:admin.sock\""));
    let path = gateway.directory().join("admin.sock");
    let mode = std::fs::metadata(&path).expect("a socket").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(over_unix(&path, "/readyz").starts_with("HTTP/1.1 200"), "it answers");
    gateway.signal("TERM");
    assert!(gateway.wait().success());
    assert!(!path.exists(), "a clean end leaves no socket behind");
}

#[test]
fn the_socket_of_a_dead_process_is_replaced_and_of_a_living_one_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("admin.sock");
    drop(UnixListener::bind(&path).expect("bound"));
    assert!(path.exists(), "a socket that nobody serves is left behind");
    let yaml = with_admin(&format!("address: \"unix:{}\"", path.display()));
    let first = Gateway::start(&yaml);
    assert!(over_unix(&path, "/livez").starts_with("HTTP/1.1 200"), "replaced");
    let (status, said) = Setup::new().try_start(&yaml).err().expect("no second one");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("another process answers there") && said.contains("admin.sock"), "{said}");
    assert!(over_unix(&path, "/livez").starts_with("HTTP/1.1 200"), "the first one is untouched");
    drop(first);
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "precious").expect("written");
    let (status, said) = Setup::new()
        .try_start(&with_admin(&format!("address: \"unix:{}\"", path.display())))
        .err()
        .expect("no start");
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), "precious", "{said}");
    assert!(!std::fs::metadata(&path).expect("there").file_type().is_socket());
}
