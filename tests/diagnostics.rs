//! What an operator sees: every `diagnostics/*.yaml` next to the text that `check` would print for it.
//!
//! `BLESS=1` writes the expected texts anew; read the difference before you commit it.

mod golden;

use std::collections::BTreeMap;
use std::path::Path;

use portcullis::config::{self, ByteSize, Percent, Problems, Section, Timespan};
use serde::Deserialize;

/// A small document of the same manner as the real one: what can be seen without the plan.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "only the decoding is looked at")]
struct Route {
    name: String,
    upstream: String,
    #[serde(rename = "match")]
    matches: Option<Match>,
    cache: Option<Cache>,
    balance: Option<Balance>,
    status: Option<BTreeMap<u16, u16>>,
    share: Option<Percent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "only the decoding is looked at")]
struct Match {
    hosts: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    path: Option<PathMatch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only the decoding is looked at")]
enum PathMatch {
    Exact(String),
    Prefix(String),
    Regex(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "only the decoding is looked at")]
struct Cache {
    ttl: Option<Timespan>,
    stale_while_revalidate: Option<Timespan>,
    max: Option<ByteSize>,
    shared: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Balance {
    RoundRobin,
    LeastInFlight,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only the decoding is looked at")]
enum SecretSource {
    Env(String),
    File(String),
}

fn decode(root: &Section, problems: &mut Problems) {
    root.check_keys_in(&["version", "secrets", "upstreams", "routes", "shared"], &["wasm"], problems);
    root.require("version", problems).map(|version| version.decode::<u32>(problems));
    for (_, secret) in root.get("secrets").map(|secrets| secrets.entries(problems)).unwrap_or_default() {
        secret.decode::<SecretSource>(problems);
    }
    for (_, upstream) in
        root.get("upstreams").map(|upstreams| upstreams.entries(problems)).unwrap_or_default()
    {
        upstream.check_keys_in(&["url", "credential"], &[], problems);
        upstream.require("url", problems).map(|url| url.decode::<String>(problems));
        if let Some(credential) = upstream.get("credential") {
            credential.decode::<BTreeMap<String, u32>>(problems);
        }
    }
    for route in root.get("routes").map(|routes| routes.items(problems)).unwrap_or_default() {
        route.decode::<Route>(problems);
    }
}

fn problems_of(text: &str) -> String {
    let document = match config::parse("portcullis.yaml", text.to_owned()) {
        Ok(document) => document,
        Err(report) => return report.human(),
    };
    let mut problems = Problems::new();
    decode(&document.root(), &mut problems);
    document.report(problems).human()
}

#[test]
fn every_mistake_reads_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the folder of examples") {
        let file = entry.expect("an entry").path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        seen += 1;
        let actual = problems_of(&std::fs::read_to_string(&file).expect("an example"));
        if !golden::holds(&file.with_extension("expected"), &actual) {
            wrong.push(format!("{}:\n{actual}", file.display()));
        }
    }
    assert!(seen > 0, "no examples found");
    assert!(wrong.is_empty(), "not as expected; BLESS=1 accepts this:\n{}", wrong.join("\n"));
}

#[test]
fn no_example_shows_a_secret() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    for entry in std::fs::read_dir(&folder).expect("the folder of examples") {
        let file = entry.expect("an entry").path();
        if file.extension().is_some_and(|extension| extension == "yaml") {
            let text = problems_of(&std::fs::read_to_string(&file).expect("an example"));
            assert!(!text.contains("hunter2"), "{}:\n{text}", file.display());
        }
    }
}
