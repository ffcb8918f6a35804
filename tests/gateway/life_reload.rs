//! Reload: by a changed file, a swapped link or SIGHUP; all or nothing; requests in flight keep their plan.

use std::os::unix::fs::symlink;

use crate::harness::{Client, Gate, Gateway, HEAD, Origin, Reply, Setup, response_bytes};

const SUCCESS: &str = "portcullis_config_last_reload_success";

fn says(word: &str) -> String {
    format!(
        "{HEAD}routes: [{{ name: hello, match: {{ path: {{ prefix: / }} }}, respond: {{ text: {word} }} }}]\n"
    )
}

fn reloads(gateway: &Gateway) -> f64 {
    gateway.metric("portcullis_config_reloads_total{result=\"success\"}")
}

#[test]
fn a_changed_file_is_served() {
    let gateway = Gateway::start(&says("one"));
    assert_eq!(gateway.get("/").text(), "one");
    gateway.write_config(&says("two"));
    eventually!(gateway.get("/").text() == "two", "the new file is not served: {}", gateway.stderr());
}

#[test]
fn sighup_reloads_without_a_change() {
    let gateway = Gateway::start(&says("one"));
    let before = reloads(&gateway);
    assert!(before >= 1.0, "the start counts: {before}");
    gateway.signal("HUP");
    eventually!(reloads(&gateway) == before + 1.0, "no reload: {}", gateway.stderr());
    assert_eq!(gateway.get("/").text(), "one");
}

#[test]
fn a_bad_file_changes_nothing_and_is_told_with_its_place() {
    let gateway = Gateway::start(&says("one"));
    assert_eq!(gateway.metric(SUCCESS), 1.0, "a good start");
    gateway.write_config(&says("two").replace("respond:", "respnd:"));
    eventually!(
        gateway.admin("/metrics").text().contains(&format!("\n{SUCCESS} 0\n")),
        "the refusal is not shown: {}",
        gateway.stderr()
    );
    assert_eq!(gateway.get("/").text(), "one", "the old configuration serves on");
    let said = gateway.stderr();
    let line = said.lines().find(|line| line.contains("respnd")).expect("the mistake is told");
    assert!(line.contains("portcullis.yaml"), "the file: {line}");
    assert!(line.contains("line=4") && line.contains("column="), "the place: {line}");
    assert!(line.contains("did you mean `respond`"), "the hint: {line}");
    assert!(said.contains("the old one serves on"), "what happens now: {said}");

    gateway.write_config(&says("three"));
    eventually!(gateway.get("/").text() == "three", "a good file is taken: {}", gateway.stderr());
    eventually!(gateway.metric(SUCCESS) == 1.0, "and shown");
}

#[test]
fn a_file_that_is_gone_or_no_yaml_changes_nothing() {
    let gateway = Gateway::start(&says("one"));
    std::fs::remove_file(gateway.directory().join("portcullis.yaml")).expect("removed");
    eventually!(gateway.stderr().contains("the old one serves on"), "a missing file is refused");
    gateway.write_config("routes: [\n");
    eventually!(gateway.stderr().matches("the old one serves on").count() >= 2, "no YAML is refused");
    assert_eq!(gateway.get("/").text(), "one");
}

#[test]
fn a_secret_that_went_away_refuses_the_new_file() {
    let yaml = |word: &str| {
        format!(
            "{HEAD}secrets: {{ key: {{ file: key }} }}
upstreams: {{ vendor: {{ url: \"https://vendor.example\", credential: {{ bearer: key }} }} }}
routes:
  - {{ name: hello, match: {{ path: {{ exact: / }} }}, respond: {{ text: {word} }} }}
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor }}
"
        )
    };
    let gateway = Setup::new().file("key", "0123456789").start(&yaml("one"));
    std::fs::remove_file(gateway.directory().join("key")).expect("removed");
    gateway.write_config(&yaml("two"));
    eventually!(gateway.stderr().contains("the old one serves on"), "refused: {}", gateway.stderr());
    assert_eq!(gateway.get("/").text(), "one");
    assert!(!gateway.stderr().contains("0123456789"));
}

#[test]
fn a_request_in_flight_keeps_its_plan() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |request| {
        let answer = response_bytes(200, &[], b"done");
        if request.target() == "/slow" {
            Reply::Steps(vec![(held.clone(), answer)])
        } else {
            Reply::Raw(answer)
        }
    });
    let yaml = |word: &str| {
        format!(
            "{HEAD}upstreams: {{ web: {{ kind: app, url: \"{}\" }} }}
routes: [{{ name: site, match: {{ path: {{ prefix: / }} }}, upstream: web, response: {{ headers: {{ set: {{ x-plan: {word} }} }} }} }}]
",
            origin.url()
        )
    };
    let gateway = Gateway::start(&yaml("old"));
    let mut slow = Client::connect(gateway.address());
    slow.send(b"GET /slow HTTP/1.1\r\nHost: app.example\r\n\r\n");
    eventually!(origin.count() == 1, "the request is on its way");
    gateway.write_config(&yaml("new"));
    eventually!(gateway.get("/").header("x-plan") == Some("new"), "reloaded: {}", gateway.stderr());
    gate.open();
    let answer = slow.read("GET");
    assert_eq!((answer.status, answer.header("x-plan")), (200, Some("old")), "it ends as it began");
    assert_eq!(
        slow.request("GET", "/", &[], b"").header("x-plan"),
        Some("new"),
        "the next one of its connection"
    );
}

#[test]
fn what_only_a_restart_changes_is_said_as_long_as_it_differs() {
    let gateway = Gateway::start(&says("one"));
    let old = gateway.address();
    let with = |word: &str| {
        says(word).replace("listeners: [", "listeners: [{ name: second, address: \"127.0.0.1:0\" }, ")
    };
    let warnings = |gateway: &Gateway| gateway.stderr().matches("takes effect at the next start").count();
    gateway.write_config(&with("two"));
    eventually!(gateway.get("/").text() == "two", "the rest of the file is served: {}", gateway.stderr());
    eventually!(warnings(&gateway) == 1, "it is said: {}", gateway.stderr());
    let said = gateway.stderr();
    let line = said.lines().find(|line| line.contains("next start")).expect("the line");
    assert!(line.contains("listeners"), "which part: {line}");
    assert_eq!(gateway.address(), old);

    gateway.write_config(&with("three"));
    eventually!(gateway.get("/").text() == "three", "served");
    eventually!(warnings(&gateway) == 2, "it still differs from what runs: {}", gateway.stderr());
    gateway.write_config(&says("four"));
    eventually!(gateway.get("/").text() == "four", "served");
    eventually!(reloads(&gateway) == 4.0, "loaded");
    assert_eq!(warnings(&gateway), 2, "back to what runs: nothing to say: {}", gateway.stderr());
}

#[test]
fn series_of_a_listener_that_still_runs_stay_though_the_file_renames_it() {
    let gateway = Gateway::start(&says("one"));
    for word in ["two", "three", "four"] {
        gateway.write_config(&says(word).replace("name: public", "name: renamed"));
        eventually!(gateway.get("/").text() == word, "served");
    }
    let metrics = gateway.admin("/metrics").text();
    assert!(
        metrics.contains("portcullis_connections_total{listener=\"public\""),
        "it still takes connections:\n{metrics}"
    );
}

#[test]
fn a_swapped_link_is_noticed_as_a_config_map_makes_it() {
    let gateway = Gateway::start(&says("one"));
    let root = gateway.directory();
    for (folder, word) in [("..1", "two"), ("..2", "three")] {
        std::fs::create_dir(root.join(folder)).expect("made");
        std::fs::write(root.join(folder).join("portcullis.yaml"), says(word)).expect("written");
    }
    let swap = |target: &str, link: &str| {
        symlink(target, root.join("..new")).expect("linked");
        std::fs::rename(root.join("..new"), root.join(link)).expect("moved");
    };
    swap("..1", "..data");
    swap("..data/portcullis.yaml", "portcullis.yaml");
    eventually!(gateway.get("/").text() == "two", "the first link: {}", gateway.stderr());
    swap("..2", "..data");
    eventually!(gateway.get("/").text() == "three", "the swapped link: {}", gateway.stderr());
}

#[test]
fn the_count_of_a_limit_outlives_a_reload() {
    let yaml = |word: &str| {
        format!(
            "{HEAD}routes:
  - {{ name: limited, match: {{ path: {{ exact: /limited }} }}, respond: {{ text: x }}, rateLimit: {{ requests: 2, window: 1h }} }}
  - {{ name: hello, match: {{ path: {{ exact: / }} }}, respond: {{ text: {word} }} }}
"
        )
    };
    let gateway = Gateway::start(&yaml("one"));
    assert_eq!([gateway.get("/limited").status, gateway.get("/limited").status], [200, 200]);
    gateway.write_config(&yaml("two"));
    eventually!(gateway.get("/").text() == "two", "reloaded");
    assert_eq!(gateway.get("/limited").status, 429, "a reload forgives nothing");
}

#[test]
fn the_series_of_a_removed_route_go_at_the_second_reload() {
    let yaml = |extra: &str, word: &str| {
        format!(
            "{HEAD}routes:\n  - {{ name: hello, match: {{ path: {{ exact: / }} }}, respond: {{ text: {word} }} }}\n{extra}"
        )
    };
    let gone = "  - { name: gone, match: { path: { exact: /gone } }, respond: { text: x } }\n";
    let gateway = Gateway::start(&yaml(gone, "one"));
    assert_eq!(gateway.get("/gone").status, 200);
    let shown = |gateway: &Gateway| gateway.admin("/metrics").text().contains("route=\"gone\"");
    assert!(shown(&gateway), "counted while it is there");
    gateway.write_config(&yaml("", "two"));
    eventually!(gateway.get("/").text() == "two", "reloaded");
    assert!(shown(&gateway), "its last counts can still be scraped");
    for word in ["three", "four"] {
        gateway.write_config(&yaml("", word));
        eventually!(gateway.get("/").text() == word, "reloaded");
    }
    eventually!(!shown(&gateway), "its series stay forever");
}
