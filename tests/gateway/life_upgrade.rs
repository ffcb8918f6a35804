//! A running gateway hands over to another process: no request is lost, and a successor that does not come up changes nothing.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::cache_gate::{begin, is_hit, wait_active, yaml};
use crate::harness::{
    Client, Gate, Gateway, H2Client, HEAD, Origin, PATIENCE, Reply, Setup, response, tls_setup,
};

const HELLO: &str = "routes: [{ name: hello, match: { path: { prefix: / } }, respond: { text: hello } }]\n";
/// The socket of a gateway that can be upgraded, in its own folder.
const UPGRADE: &str = "upgrade: { socket: private/upgrade.sock, timeout: 20s }\n";

/// A gateway and the processes that took over from it, which are ended with it.
struct Upgraded {
    gateway: Gateway,
    successors: Vec<u32>,
}

impl Upgraded {
    fn start(setup: Setup, yaml: &str) -> Self {
        Self { gateway: setup.start(yaml), successors: Vec::new() }
    }

    fn config(&self) -> PathBuf {
        self.gateway.directory().join("portcullis.yaml")
    }

    /// `portcullis upgrade`: its exit code, stdout and stderr.
    fn ask(&self, arguments: &[&str]) -> (i32, String, String) {
        ask(&self.config(), arguments)
    }

    /// One that comes about.
    fn upgrade(&mut self) -> u32 {
        let (code, stdout, stderr) = self.ask(&[]);
        assert_eq!(code, 0, "{stdout}{stderr}{}", self.gateway.stderr());
        let pid = stdout.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("a process");
        self.successors.push(pid);
        pid
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        for pid in &self.successors {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
    }
}

fn ask(config: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["upgrade", "--config"])
        .arg(config)
        .args(arguments)
        .output()
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
}

/// Stops the clients also where a test fails: their threads are waited for.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends requests over kept connections until it is told to stop. Returns how many were answered, and what went wrong.
fn client(gateway: &Gateway, stop: &AtomicBool, answered: &AtomicUsize) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut client = Client::connect(gateway.address());
    while !stop.load(Ordering::Relaxed) {
        if !client.try_send(b"GET /api/a HTTP/1.1\r\nHost: app.example\r\n\r\n") {
            wrong.push("closed before a request".to_owned());
            client = Client::connect(gateway.address());
            continue;
        }
        match client.try_read("GET") {
            Some(answer) if answer.status == 200 => {
                answered.fetch_add(1, Ordering::Relaxed);
                if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                    client = Client::connect(gateway.address());
                }
            }
            Some(answer) => wrong.push(format!("{}: {}", answer.status, answer.text())),
            None => {
                wrong.push("no answer".to_owned());
                client = Client::connect(gateway.address());
            }
        }
    }
    wrong
}

#[test]
fn clients_on_kept_connections_lose_nothing_and_the_cache_stays_warm() {
    let origin = Origin::start(|_| response(200, &[("Cache-Control", "max-age=600")], b"text"));
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let cache = format!("cache: {{ file: {}, size: 4MiB }}\n", folder.path().join("cache").display());
    let config = yaml(&origin, &["cache: {}"]) + UPGRADE + &cache;
    let mut upgraded = Upgraded::start(Setup::new(), &config);
    upgraded.gateway.get("/api/a");
    let calls = origin.count();
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (wrong, pids): (Vec<String>, Vec<u32>) = std::thread::scope(|scope| {
        let stops = Stops(&stop);
        let mut clients = Vec::new();
        let gateway = &upgraded.gateway;
        for _ in 0..4 {
            clients.push(scope.spawn(|| client(gateway, &stop, &answered)));
        }
        let config = gateway.directory().join("portcullis.yaml");
        let mut pids: Vec<u32> = Vec::new();
        for _ in 0..5 {
            let before = answered.load(Ordering::Relaxed);
            let (code, stdout, stderr) = ask(&config, &[]);
            assert_eq!(code, 0, "{stdout}{stderr}");
            pids.push(stdout.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("a process"));
            eventually!(answered.load(Ordering::Relaxed) > before + 50, "they go on");
        }
        drop(stops);
        (clients.into_iter().flat_map(|client| client.join().expect("a client")).collect(), pids)
    });
    upgraded.successors.extend(pids);
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(origin.count(), calls, "every answer came from the store, across five processes");
    assert!(is_hit(&upgraded.gateway.get("/api/a")));
    let stores = || upgraded.gateway.admin("/cache/stats").json()["writer"] == json!(true);
    eventually!(stores(), "the last of them stores");
    assert!(
        !upgraded
            .gateway
            .admin("/metrics")
            .text()
            .contains("portcullis_upgrades_total{result=\"success\"} 0")
    );
}

#[test]
fn a_request_under_way_is_finished_by_the_old_process() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |_| {
        let mut begin = crate::harness::response_bytes(200, &[], b"begun and ended");
        let rest = begin.split_off(begin.len() - 5);
        Reply::Steps(vec![(Gate::opened(), begin), (held.clone(), rest)])
    });
    let mut upgraded = Upgraded::start(Setup::new(), &(yaml(&origin, &[]) + UPGRADE));
    let mut client = begin(&upgraded.gateway, "/app/slow");
    wait_active(&upgraded.gateway, 1);
    upgraded.upgrade();
    gate.open();
    assert_eq!(client.read("GET").text(), "begun and ended");
    assert!(upgraded.gateway.wait().success(), "then it leaves");
    assert_eq!(upgraded.gateway.get("/api/new").status, 200, "and the new one serves");
}

#[test]
fn a_successor_that_does_not_come_up_changes_nothing() {
    let mut upgraded = Upgraded::start(Setup::new(), &format!("{HEAD}{HELLO}{UPGRADE}").replace("20s", "2s"));
    let folder = upgraded.gateway.directory().to_owned();
    let mut kept = Client::connect(upgraded.gateway.address());
    assert_eq!(kept.request("GET", "/", &[], b"").status, 200);
    let script = folder.join("sleeps");
    std::fs::write(&script, "#!/bin/sh\nexec sleep 60\n").expect("written");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).expect("runs");
    let bad = folder.join("bad.yaml");
    std::fs::write(&bad, format!("{HEAD}{HELLO}nonsense: 1\n")).expect("written");
    let (script, bad) = (script.to_str().expect("text"), bad.to_str().expect("text"));
    let socket = folder.join("private/upgrade.sock");
    let socket = socket.to_str().expect("text");
    let cases: [(&[&str], &str); 4] = [
        (&["--binary", "/bin/false"], "ended before it was ready (exit status: 1)"),
        (&["--binary", script], "not ready within 2s"),
        (&["--binary", folder.to_str().expect("text")], "cannot be started"),
        (&["--socket", socket], "`nonsense`"),
    ];
    for (arguments, said) in cases {
        let other = arguments.contains(&"--socket");
        let config = if other { PathBuf::from(bad) } else { upgraded.config() };
        let (code, _, stderr) = ask(&config, arguments);
        assert_eq!(code, 1, "{said}: {stderr}");
        assert!(stderr.contains(said) && stderr.contains("serves on"), "{said}: {stderr}");
        assert_eq!(kept.request("GET", "/", &[], b"").status, 200, "the same connection");
        assert_eq!(upgraded.gateway.get("/").status, 200, "a new one");
        assert_eq!(upgraded.gateway.admin("/readyz").status, 200, "ready");
    }
    let failed = upgraded.gateway.metric("portcullis_upgrades_total{result=\"failure\"}");
    assert!((failed - 4.0).abs() < 0.5, "{failed}");
    upgraded.upgrade();
    assert_eq!(upgraded.gateway.get("/").status, 200, "and one that comes up takes over");
}

#[test]
fn a_successor_that_fails_late_takes_nothing_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let admin = folder.path().join("admin.sock");
    let head = "version: 1\nlisteners: [{ name: public, address: \"127.0.0.1:0\" }]\n";
    let config = format!("{head}{HELLO}admin: {{ address: \"unix:{}\" }}\n", admin.display());
    let mut upgraded = Upgraded::start(Setup::new().file("open/x", ""), &(config.clone() + UPGRADE));
    let socket = upgraded.gateway.directory().join("private/upgrade.sock");
    let socket = socket.to_str().expect("text").to_owned();
    upgraded.gateway.write_config(&(config.clone() + &UPGRADE.replace("private", "open")));
    let (code, _, stderr) = upgraded.ask(&["--socket", &socket]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("must be this user's alone"), "{stderr}");
    assert_eq!(upgraded.gateway.get("/").status, 200);
    assert!(std::os::unix::net::UnixStream::connect(&admin).is_ok(), "the admin side is where it was");
    upgraded.gateway.write_config(&(config + UPGRADE));
    upgraded.upgrade();
    assert!(std::os::unix::net::UnixStream::connect(&admin).is_ok(), "handed over");
}

#[test]
fn who_is_told_to_end_has_no_successor() {
    let mut upgraded = Upgraded::start(Setup::new(), &format!("{HEAD}{HELLO}{UPGRADE}"));
    let folder = upgraded.gateway.directory().to_owned();
    let (late, begun, go) = (folder.join("late"), folder.join("begun"), folder.join("go"));
    let (binary, at, until) = (env!("CARGO_BIN_EXE_portcullis"), begun.display(), go.display());
    let ended = folder.join("ended");
    let script = format!(
        "#!/bin/sh\ntouch {at}\nwhile [ ! -e {until} ]; do sleep 0.05; done\n{binary} \"$@\"\necho $? >{}\n",
        ended.display()
    );
    std::fs::write(&late, script).expect("written");
    std::fs::set_permissions(&late, PermissionsExt::from_mode(0o700)).expect("runs");
    let config = upgraded.config();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&config, &["--binary", late.to_str().expect("text")]));
        eventually!(begun.exists(), "it is under way");
        upgraded.gateway.signal("TERM");
        assert!(upgraded.gateway.wait().success(), "it ends as it was told");
        std::fs::write(&go, "").expect("written");
        let (code, _, stderr) = asked.join().expect("told");
        assert_eq!(code, 1);
        assert!(stderr.contains("ended before it answered"), "{stderr}");
    });
    let status = || std::fs::read_to_string(&ended).unwrap_or_default();
    eventually!(status() == "1\n", "the successor does not stay");
}

#[test]
fn a_signal_for_all_processes_does_not_cut_what_the_old_one_finishes() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |_| {
        let mut begin = crate::harness::response_bytes(200, &[], b"begun and ended");
        let rest = begin.split_off(begin.len() - 5);
        Reply::Steps(vec![(Gate::opened(), begin), (held.clone(), rest)])
    });
    let mut upgraded = Upgraded::start(Setup::new(), &(yaml(&origin, &[]) + UPGRADE));
    let mut client = begin(&upgraded.gateway, "/app/slow");
    wait_active(&upgraded.gateway, 1);
    upgraded.upgrade();
    upgraded.gateway.signal("TERM");
    assert_eq!(upgraded.gateway.admin("/readyz").status, 200, "the successor serves");
    gate.open();
    assert_eq!(client.read("GET").text(), "begun and ended");
    assert!(upgraded.gateway.wait().success(), "then it leaves");
}

#[test]
fn a_process_that_drains_is_not_upgraded() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |_| {
        Reply::Steps(vec![(held.clone(), crate::harness::response_bytes(200, &[], b"ended"))])
    });
    let mut upgraded = Upgraded::start(Setup::new(), &(yaml(&origin, &[]) + UPGRADE));
    let mut client = begin(&upgraded.gateway, "/app/slow");
    wait_active(&upgraded.gateway, 1);
    upgraded.gateway.signal("TERM");
    let socket = upgraded.gateway.directory().join("private/upgrade.sock");
    eventually!(!socket.exists(), "nobody can ask any more");
    let (code, _, stderr) = upgraded.ask(&[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("no running gateway answers"), "{stderr}");
    gate.open();
    assert_eq!(client.read("GET").text(), "ended");
    assert!(upgraded.gateway.wait().success());
}

#[test]
fn one_upgrade_at_a_time() {
    let upgraded = Upgraded::start(Setup::new(), &format!("{HEAD}{HELLO}{UPGRADE}").replace("20s", "5s"));
    let waits = upgraded.gateway.directory().join("waits");
    let begun = upgraded.gateway.directory().join("begun");
    std::fs::write(&waits, format!("#!/bin/sh\ntouch {}\nexec sleep 60\n", begun.display()))
        .expect("written");
    std::fs::set_permissions(&waits, PermissionsExt::from_mode(0o700)).expect("runs");
    let config = upgraded.config();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| ask(&config, &["--binary", waits.to_str().expect("text")]));
        eventually!(begun.exists(), "the first is under way");
        let (code, _, stderr) = ask(&config, &[]);
        assert_eq!(code, 1);
        assert!(stderr.contains("an upgrade is under way already"), "{stderr}");
        assert_eq!(first.join().expect("told").0, 1);
    });
}

#[test]
fn the_listeners_follow_the_new_configuration_and_the_admin_socket_stays() {
    let origin = Origin::ok();
    let folder = tempfile::tempdir().expect("a folder");
    let admin = folder.path().join("admin.sock");
    let with_admin =
        |head: &str| format!("{head}{UPGRADE}admin: {{ address: \"unix:{}\" }}\n{}", admin.display(), HELLO);
    let head = |names: &[&str]| {
        let list: Vec<String> =
            names.iter().map(|name| format!("{{ name: {name}, address: \"127.0.0.1:0\" }}")).collect();
        format!("version: 1\nlisteners: [{}]\n", list.join(", "))
    };
    let mut upgraded = Upgraded::start(Setup::new(), &with_admin(&head(&["public", "old"])));
    let (public, old) = (upgraded.gateway.listeners["public"], upgraded.gateway.listeners["old"]);
    upgraded.gateway.write_config(&with_admin(&head(&["public", "fresh"])));
    upgraded.upgrade();
    assert!(upgraded.gateway.wait().success(), "the old process has left");
    let get = |address| Client::connect(address).request("GET", "/", &[], b"").status;
    assert_eq!(get(public), 200, "handed over");
    assert!(std::net::TcpStream::connect(old).is_err(), "nobody wants it any more");
    let said = upgraded.gateway.stdout();
    let fresh = said.lines().rev().find_map(|line| line.strip_prefix("listening fresh ")).expect("a new one");
    assert_eq!(get(fresh.parse().expect("an address")), 200, "bound by the successor");
    assert!(std::os::unix::net::UnixStream::connect(&admin).is_ok(), "the admin side answers on its file");
    drop(origin);
}

#[test]
fn a_client_of_http2_is_told_to_go_and_comes_back() {
    let (setup, head) = tls_setup();
    let mut upgraded = Upgraded::start(setup, &format!("{head}{HELLO}{UPGRADE}"));
    let address = upgraded.gateway.address();
    let client = H2Client::connect(address, "app.example");
    assert_eq!(client.request("GET", "https://app.example/", &[], &[]).expect("an answer").status, 200);
    upgraded.upgrade();
    assert!(upgraded.gateway.wait().success(), "the old process has left");
    let again = H2Client::connect(address, "app.example");
    assert_eq!(again.request("GET", "https://app.example/", &[], &[]).expect("an answer").status, 200);
}

#[test]
fn the_supervisor_is_told_which_process_it_has_now() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let setup = Setup::new().env("NOTIFY_SOCKET", path.to_str().expect("text"));
    let mut upgraded = Upgraded::start(setup, &format!("{HEAD}{HELLO}{UPGRADE}"));
    let hear = || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(hear().starts_with("READY=1"), "the first");
    let pid = upgraded.upgrade();
    assert!(
        hear().starts_with(&format!("MAINPID={pid}")),
        "the one that it believes says who it believes now"
    );
}

#[test]
fn the_socket_is_in_a_private_folder_or_the_start_is_refused() {
    let open = Setup::new().file("private/x", "");
    let (status, said) = open.try_start(&format!("{HEAD}{HELLO}{UPGRADE}")).err().expect("refused");
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("must be this user's alone") && said.contains("chmod 700"), "{said}");
    let upgraded = Upgraded::start(Setup::new(), &format!("{HEAD}{HELLO}{UPGRADE}"));
    let socket = upgraded.gateway.directory().join("private/upgrade.sock");
    assert_eq!(socket.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    let (same, path) = (HEAD.to_owned() + HELLO, socket.display());
    let second = Setup::new().try_start(&format!("{same}upgrade: {{ socket: \"{path}\" }}\n"));
    assert!(second.err().expect("refused").1.contains("another gateway answers there"));
    let (code, _, stderr) = ask(Path::new("/dev/null"), &["--socket", "/nowhere/upgrade.sock"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("no running gateway answers on `/nowhere/upgrade.sock`"), "{stderr}");
    let mut gateway = upgraded;
    gateway.gateway.signal("KILL");
    gateway.gateway.wait();
    let again = Setup::new().start(&format!("{same}upgrade: {{ socket: \"{path}\" }}\n"));
    assert_eq!(again.get("/").status, 200, "what a dead process left is no hindrance");
}
