//! What a reviewer is told of a change: each folder of `diff/` has an `old.yaml` and a `new.yaml`, given to the real binary, and
//! the text that it answers.
//!
//! A first line `# arguments: ...` of `new.yaml` adds arguments. `BLESS=1` writes the expected texts anew.

mod golden;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::config;
use portcullis::plan::diff::{Diff, Kind, Side, compare};
use portcullis::plan::{Plan, Process};
use portcullis::proxy::explain::Asked;
use portcullis::server::{self, Load};
use proptest::prelude::*;

/// Stands in the examples where a secret should not; no output may repeat it.
const LITERAL: &str = "hunter2";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diff")
}

/// Exit code, stdout, stderr.
fn run(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("diff")
        .args(arguments)
        .current_dir(directory)
        .env_remove("VENDOR_KEY")
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).expect("the folder of examples");
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

#[test]
fn every_change_is_told_as_expected() {
    let mut wrong = Vec::new();
    let mut same = 0;
    let examples = examples();
    for example in &examples {
        let new = std::fs::read_to_string(example.join("new.yaml")).expect("an example");
        let first = new.lines().next().unwrap_or_default();
        let mut arguments: Vec<&str> =
            first.strip_prefix("# arguments: ").unwrap_or_default().split_whitespace().collect();
        arguments.extend(["old.yaml", "new.yaml"]);
        let (code, stdout, stderr) = run(example, &arguments);
        let actual = format!("exit {code}\n--- stdout\n{stdout}--- stderr\n{stderr}");
        assert!(!actual.contains(LITERAL), "{}: a secret is shown:\n{actual}", example.display());
        same += usize::from(code == 0);
        if !golden::holds(&example.join("expected"), &actual) {
            wrong.push(format!("{}:\n{actual}", example.display()));
        }
    }
    assert!(examples.len() >= 30, "only {} examples", examples.len());
    assert!(same >= 4, "several are the same: {same}");
    assert!(wrong.is_empty(), "not as expected; BLESS=1 accepts this:\n{}", wrong.join("\n"));
}

#[test]
fn every_id_is_shown_by_an_example_and_explained_in_the_documents() {
    let shown: String = examples()
        .iter()
        .map(|example| std::fs::read_to_string(example.join("expected")).expect("blessed"))
        .collect();
    let documented = include_str!("../docs/diff.md");
    let (_, documented) = documented.split_once("## Ids").expect("its section");
    let (documented, _) = documented.split_once("## JSON").expect("the next section");
    let told: BTreeSet<&str> = documented.lines().filter(|line| line.starts_with("| `")).collect();
    let known: BTreeSet<String> =
        Kind::ALL.iter().map(|kind| format!("| `{}` | {} |", kind.id(), kind.about())).collect();
    for kind in Kind::ALL {
        let id = kind.id();
        assert!(shown.contains(&format!("{id}:")), "no example shows `{id}`");
    }
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    assert_eq!(told, known, "docs/diff.md explains the ids as the program does");
}

/// What both texts mean, compared without a process around it; and whether the gateway does the same with these requests.
fn compared(old: &str, new: &str, requests: &[Asked]) -> (Diff, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let process = Process::new();
    let load = |name: &str, text: &str| {
        let document = config::parse(name, text.to_owned()).map_err(|report| report.human());
        let document = document.unwrap_or_else(|why| unreachable!("{why}\n{text}"));
        let plan = Load::assumed_of(&document, Path::new("."), &process).map_err(|report| report.human());
        let (plan, _) = plan.unwrap_or_else(|why| unreachable!("{why}\n{text}"));
        (document, plan)
    };
    let ((old_document, old_plan), (new_document, new_plan)) = (load("old", old), load("new", new));
    let same = requests.iter().all(|asked| {
        let outcome = |plan: &Plan| {
            let outcome = server::explain(plan, asked, None).expect("a request").outcome;
            assert_eq!(
                outcome,
                server::outcome(plan, asked).expect("a request"),
                "one answer, however it is asked"
            );
            unordered(&serde_json::to_value(outcome).expect("JSON"))
        };
        outcome(&old_plan) == outcome(&new_plan)
    });
    let old = Side { document: &old_document, plan: &old_plan };
    (compare(old, Side { document: &new_document, plan: &new_plan }), same)
}

/// A value whose lists are sorted: the order of names in the file means nothing.
fn unordered(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(unordered).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), unordered(value))).collect())
        }
        other => other.clone(),
    }
}

/// A route as it is meant, to be written in two ways.
#[derive(Debug, Clone)]
struct Meant {
    path: u8,
    methods: BTreeSet<&'static str>,
    limit: Option<(u32, u64, Option<u32>)>,
    ttl_s: Option<u64>,
    forward: BTreeSet<&'static str>,
    remove: BTreeSet<&'static str>,
    errors: BTreeSet<u16>,
    body_kib: Option<u64>,
    rewrites: bool,
}

fn meant() -> impl Strategy<Value = Meant> {
    let methods = proptest::sample::subsequence(vec!["GET", "POST", "PUT"], 0..=3);
    let limit = proptest::option::of((1..500_u32, 1..90_u64, proptest::option::of(1..500_u32)));
    let forward = proptest::sample::subsequence(vec!["x-a", "x-b", "x-c"], 0..=3);
    let remove = proptest::sample::subsequence(vec!["$.a", "$.b.c", "$.d[*].e"], 0..=3);
    let errors = proptest::sample::subsequence(vec![400_u16, 404, 422], 0..=3);
    let ttl = proptest::option::of(1..7200_u64);
    let body = proptest::option::of(1..4096_u64);
    (0..3_u8, methods, limit, ttl, forward, remove, errors, body, any::<bool>()).prop_map(
        |(path, methods, limit, ttl_s, forward, remove, errors, body_kib, rewrites)| Meant {
            path,
            methods: methods.into_iter().collect(),
            limit,
            ttl_s,
            forward: forward.into_iter().collect(),
            remove: remove.into_iter().collect(),
            errors: errors.into_iter().collect(),
            body_kib,
            rewrites,
        },
    )
}

const HEAD: &str = "version: 1\nlisteners: [{ name: public, address: '127.0.0.1:0' }]\nsecrets: { k: { env: K } }\n\
                    upstreams: { v: { url: 'https://v.example', credential: { bearer: k } } }\n";

/// As short as possible: blocks of one line, defaults left away.
fn short(routes: &[Meant]) -> String {
    let mut text = format!("{HEAD}routes:\n");
    for (index, route) in routes.iter().enumerate() {
        let quoted = |items: Vec<String>| format!("[{}]", items.join(", "));
        let path = match route.path {
            0 => format!("{{ prefix: /r{index} }}"),
            1 => format!("{{ exact: /r{index} }}"),
            _ => format!("{{ template: '/r{index}/{{id}}' }}"),
        };
        let methods = match route.methods.len() {
            0 => String::new(),
            _ => format!("methods: {}, ", quoted(route.methods.iter().map(ToString::to_string).collect())),
        };
        text += &format!("  - {{ name: r{index}, match: {{ {methods}path: {path} }}, upstream: v");
        if let Some((requests, seconds, burst)) = route.limit {
            let burst = burst.map(|burst| format!(", burst: {burst}")).unwrap_or_default();
            text += &format!(", rateLimit: {{ requests: {requests}, window: {seconds}s{burst} }}");
        }
        if let Some(ttl) = route.ttl_s {
            text += &format!(", cache: {{ ttl: {ttl}s }}");
        }
        let mut request = Vec::new();
        if !route.forward.is_empty() {
            let names = quoted(route.forward.iter().map(ToString::to_string).collect());
            request.push(format!("headers: {{ forward: {names} }}"));
        }
        if let Some(kib) = route.body_kib {
            request.push(format!("body: {{ max: {kib}KiB }}"));
        }
        if !request.is_empty() {
            text += &format!(", request: {{ {} }}", request.join(", "));
        }
        let mut response = Vec::new();
        if !route.remove.is_empty() {
            let paths = quoted(route.remove.iter().map(|path| format!("'{path}'")).collect());
            response.push(format!("json: {{ remove: {paths} }}"));
        }
        if !route.errors.is_empty() {
            let list = quoted(route.errors.iter().map(ToString::to_string).collect());
            response.push(format!("errors: {{ pass: {list} }}"));
        }
        if !response.is_empty() {
            text += &format!(", response: {{ {} }}", response.join(", "));
        }
        if route.rewrites && route.path == 0 {
            text += &format!(", rewrite: {{ replacePrefixMatch: /r{index} }}");
        }
        text += " }\n";
    }
    text
}

/// As long as possible: every line its own, everything in the other order, other units, defaults written out.
fn long(routes: &[Meant]) -> String {
    let mut text = String::from("# the same\nroutes:\n");
    let list = |indent: usize, items: Vec<String>| -> String {
        items.iter().rev().map(|item| format!("{:indent$}- {item}\n", "")).collect()
    };
    for (index, route) in routes.iter().enumerate().rev() {
        text += "  -\n    upstream: v\n";
        text += "    response:\n";
        if route.errors.is_empty() {
            text += "      errors: mask\n";
        } else {
            let items = list(10, route.errors.iter().map(ToString::to_string).collect());
            text += &format!("      errors:\n        pass:\n{items}");
        }
        if !route.remove.is_empty() {
            let items = list(10, route.remove.iter().map(|path| format!("\"{path}\"")).collect());
            text += &format!("      json:\n        max: 2048KiB\n        remove:\n{items}");
        }
        text +=
            &format!("    request:\n      body:\n        max: {}B\n", route.body_kib.unwrap_or(1024) * 1024);
        text += "      cookies:\n        forward: []\n";
        if !route.forward.is_empty() {
            let items = list(10, route.forward.iter().map(|name| name.to_uppercase()).collect());
            text += &format!("      headers:\n        forward:\n{items}");
        }
        if let Some(ttl) = route.ttl_s {
            text += &format!("    cache:\n      mode: respect\n      ttl: {}m {}000ms\n", ttl / 60, ttl % 60);
        }
        if let Some((requests, seconds, burst)) = route.limit {
            let burst = burst.unwrap_or(requests);
            text += &format!("    rateLimit:\n      - key: client.ip\n        burst: {burst}\n");
            text +=
                &format!("        window: {}ms # the same\n        requests: {requests}\n", seconds * 1000);
        }
        let path = match route.path {
            0 => format!("prefix: /r{index}/"),
            1 => format!("exact: \"/r{index}\""),
            _ => format!("template: \"/r{index}/{{id}}\""),
        };
        text += &format!("    match:\n      path:\n        {path}\n      hosts: []\n");
        if !route.methods.is_empty() {
            text += &format!(
                "      methods:\n{}",
                list(8, route.methods.iter().map(ToString::to_string).collect())
            );
        }
        text += &format!("    name: r{index}\n");
    }
    text + HEAD
}

/// Some that the routes match, and some that they do not.
fn requests() -> Vec<Asked> {
    let asked = |method: &str, url: String| Asked {
        method: method.to_owned(),
        url,
        headers: vec![("host".into(), "app.example".into()), ("x-a".into(), "1".into())],
        ..Asked::default()
    };
    let paths = (0..5).flat_map(|index| [format!("/r{index}"), format!("/r{index}/x?y=z")]);
    paths.flat_map(|path| [asked("GET", path.clone()), asked("POST", path)]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_in_other_words_is_no_difference(routes in proptest::collection::vec(meant(), 1..5)) {
        let (short, long) = (short(&routes), long(&routes));
        for (old, new) in [(&short, &long), (&long, &short), (&short, &short)] {
            let (diff, same) = compared(old, new, &requests());
            prop_assert!(same, "the gateway does not do the same:\n{old}\n{new}");
            prop_assert!(diff.is_same(), "{:#?}\n{old}\n{new}", diff.changes);
        }
    }

    #[test]
    fn what_differs_one_way_differs_the_other(
        old in proptest::collection::vec(meant(), 1..4),
        new in proptest::collection::vec(meant(), 1..4),
    ) {
        let (there, same) = compared(&short(&old), &long(&new), &requests());
        let (back, _) = compared(&long(&new), &short(&old), &[]);
        prop_assert!(same || !there.is_same(), "a difference that is not told:\n{}\n{}", short(&old), long(&new));
        prop_assert_eq!(there.is_same(), back.is_same());
        prop_assert_eq!(there.changes.len(), back.changes.len());
        // Each setting that loosens one way tightens the other, so a change without a mark has none either way.
        let marked = |diff: &Diff| -> Vec<(String, bool)> {
            diff.changes
                .iter()
                .flat_map(|c| &c.entries)
                .filter(|e| e.key.starts_with("response.errors") || e.key == "request.body.max")
                .map(|e| (e.key.clone(), e.marks.is_empty()))
                .collect()
        };
        if old.len() == new.len() {
            prop_assert_eq!(marked(&there), marked(&back));
        }
    }
}
