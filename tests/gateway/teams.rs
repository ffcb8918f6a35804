//! `include`: routes in files of the teams' own. They are served under `team/route`, and a file that changes, comes, goes or is
//! broken is noticed like the main one.

use crate::harness::{Gateway, HEAD, Origin, Setup, response};

fn team(name: &str, route: &str, word: &str) -> String {
    format!(
        "team: {name}\nroutes: [{{ name: {route}, match: {{ path: {{ exact: /{route} }} }}, respond: {{ text: {word} }} }}]\n"
    )
}

fn main_file(include: &str) -> String {
    format!("{HEAD}include: [{include}]\n")
}

#[test]
fn a_route_of_a_team_is_called_after_it_everywhere() {
    let origin = Origin::start(|_| response(503, &[], b""));
    let file = "team: checkout
routes:
  - name: pay
    match: { path: { prefix: /pay } }
    upstream: vendor
    rateLimit: { requests: 2, window: 1m }
    cache: { ttl: 60s }
";
    let yaml = main_file("routes.d/*.yaml")
        + &format!("upstreams: {{ vendor: {{ url: \"{}\", allowPrivate: true }} }}\n", origin.url());
    let gateway = Setup::new().file("routes.d/checkout.yaml", file).start(&yaml);
    let answer = gateway.get("/pay");
    assert_eq!(answer.json()["route"], "checkout/pay", "the problem document");
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some("\"default\";q=2;w=60"),
        "a name that needs no escape"
    );
    assert_eq!(gateway.get("/pay").status, 503);
    assert_eq!(gateway.get("/pay").status, 429, "limited under that name");
    let metrics = gateway.admin("/metrics").text();
    assert!(
        metrics.contains("route=\"checkout/pay\""),
        "the label:
{metrics}"
    );
    assert!(!metrics.contains("route=\"pay\""), "and no other");
    eventually!(
        gateway.log().iter().any(|line| line["route"] == "checkout/pay"),
        "the log: {:?}",
        gateway.log()
    );
    let shown = gateway.admin("/config").json();
    let included = shown["included"].as_object().expect("the included files");
    assert!(included.keys().any(|name| name.ends_with("routes.d/checkout.yaml")), "{shown}");
}

#[test]
fn a_file_that_comes_changes_and_goes_is_noticed() {
    let gateway =
        Setup::new().file("routes.d/a.yaml", team("a", "one", "first")).start(&main_file("routes.d/*.yaml"));
    assert_eq!(gateway.get("/one").text(), "first");
    assert_eq!(gateway.get("/two").status, 404);
    gateway.write_file("routes.d/b.yaml", team("b", "two", "second").as_bytes());
    eventually!(gateway.get("/two").text() == "second", "a new file: {}", gateway.stderr());
    gateway.write_file("routes.d/b.yaml", team("b", "two", "third").as_bytes());
    eventually!(gateway.get("/two").text() == "third", "a changed file: {}", gateway.stderr());
    std::fs::remove_file(gateway.directory().join("routes.d/a.yaml")).expect("removed");
    eventually!(gateway.get("/one").status == 404, "a file that is gone: {}", gateway.stderr());
    assert_eq!(gateway.get("/two").text(), "third", "the other team's routes stay");
}

#[test]
fn one_broken_file_changes_nothing_of_any_team() {
    let gateway = Setup::new()
        .file("routes.d/a.yaml", team("a", "one", "first"))
        .file("routes.d/b.yaml", team("b", "two", "second"))
        .start(&main_file("routes.d/*.yaml"));
    gateway.write_file("routes.d/a.yaml", b"team: a\nroutes: [\n");
    eventually!(gateway.stderr().contains("the old one serves on"), "refused: {}", gateway.stderr());
    let said = gateway.stderr();
    assert!(said.lines().any(|line| line.contains("PC0104") && line.contains("a.yaml")), "{said}");
    gateway.write_file("routes.d/b.yaml", team("b", "two", "changed").as_bytes());
    eventually!(gateway.stderr().matches("the old one serves on").count() >= 2, "all or nothing");
    assert_eq!((gateway.get("/one").text(), gateway.get("/two").text()), ("first".into(), "second".into()));
    gateway.write_file("routes.d/a.yaml", team("a", "one", "repaired").as_bytes());
    eventually!(gateway.get("/one").text() == "repaired", "taken once it is whole: {}", gateway.stderr());
    assert_eq!(gateway.get("/two").text(), "changed");
}

#[test]
fn a_folder_that_is_made_later_is_noticed() {
    let yaml = main_file("teams/*/routes.yaml")
        + "routes: [{ name: home, match: { path: { exact: / } }, respond: { text: home } }]\n";
    let gateway = Gateway::start(&yaml);
    assert_eq!(gateway.get("/").text(), "home");
    let folder = gateway.directory().join("teams/a");
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("routes.yaml"), team("a", "one", "first")).expect("written");
    eventually!(gateway.get("/one").text() == "first", "the new folder: {}", gateway.stderr());
}

#[test]
fn what_a_refused_configuration_lacks_is_waited_for() {
    let gateway = Setup::new()
        .file("routes.d/a.yaml", team("a", "one", "first"))
        .file("more/b.yaml", "team: b\nroutes: [\n")
        .start(&main_file("routes.d/*.yaml"));
    gateway.write_config(&main_file("routes.d/*.yaml, more/*.yaml"));
    eventually!(gateway.stderr().contains("the old one serves on"), "refused: {}", gateway.stderr());
    gateway.write_file("more/b.yaml", team("b", "two", "second").as_bytes());
    eventually!(gateway.get("/two").text() == "second", "the file alone changed: {}", gateway.stderr());
}

#[test]
fn what_a_team_is_not_granted_never_comes_into_force() {
    let owners = "owners: { a: { prefixes: [/one], maxRate: 100/min }, b: { prefixes: [/two] } }\n";
    let limited = |path: &str, requests: u32| {
        format!(
            "team: a\nroutes: [{{ name: one, match: {{ path: {{ exact: {path} }} }}, respond: {{ text: ours }}, \
             rateLimit: {{ requests: {requests}, window: 1m }} }}]\n"
        )
    };
    let gateway = Setup::new()
        .file("routes.d/a.yaml", limited("/one", 100))
        .file("routes.d/b.yaml", team("b", "two", "theirs"))
        .start(&(main_file("routes.d/*.yaml") + owners));
    assert_eq!(gateway.get("/one").header("ratelimit-policy"), Some("\"default\";q=100;w=60"));
    for (file, code) in [(limited("/two/more", 100), "PC0703"), (limited("/one", 101), "PC0707")] {
        gateway.write_file("routes.d/a.yaml", file.as_bytes());
        let told = || gateway.stderr().lines().any(|line| line.contains(code) && line.contains("a.yaml"));
        eventually!(told(), "{code} is told with its file: {}", gateway.stderr());
    }
    assert_eq!(gateway.get("/two/more").status, 404, "the paths of another team");
    assert_eq!(
        gateway.get("/one").header("ratelimit-policy"),
        Some("\"default\";q=100;w=60"),
        "the old limit"
    );
    gateway.write_config(&(main_file("routes.d/*.yaml") + &owners.replace("100/min", "101/min")));
    eventually!(
        gateway.get("/one").header("ratelimit-policy") == Some("\"default\";q=101;w=60"),
        "granted, it is taken: {}",
        gateway.stderr()
    );
}

/// As Kubernetes mounts a ConfigMap: each file is a link into a folder that is swapped by one rename.
#[test]
fn a_folder_of_links_that_is_swapped_is_noticed() {
    let setup = Setup::new().file("routes.d/..one/a.yaml", team("a", "one", "first"));
    let yaml = main_file("routes.d/*.yaml")
        + "routes: [{ name: home, match: { path: { exact: / } }, respond: { text: home } }]\n";
    let gateway = setup.start(&yaml);
    let folder = gateway.directory().join("routes.d");
    let swap = |version: &str| {
        std::os::unix::fs::symlink(version, folder.join("..new")).expect("a link");
        std::fs::rename(folder.join("..new"), folder.join("..data")).expect("swapped");
    };
    assert_eq!(gateway.get("/one").status, 404, "a folder with two dots is none of the teams'");
    swap("..one");
    std::os::unix::fs::symlink("..data/a.yaml", folder.join("a.yaml")).expect("a link");
    eventually!(gateway.get("/one").text() == "first", "the link is followed: {}", gateway.stderr());
    std::fs::create_dir(folder.join("..two")).expect("made");
    std::fs::write(folder.join("..two/a.yaml"), team("a", "one", "second")).expect("written");
    swap("..two");
    eventually!(gateway.get("/one").text() == "second", "the swap is noticed: {}", gateway.stderr());
}
