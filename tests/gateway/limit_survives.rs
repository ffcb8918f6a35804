//! The counters' file: what a client has used up is known to the next process, however the last one ended, and to those that live at once.

use std::process::Command;

use crate::harness::{Gateway, HEAD};

/// Five requests an hour, counted in this file.
fn yaml(file: &std::path::Path) -> String {
    format!(
        "{HEAD}rateLimits: {{ file: {}, keys: 1024 }}
routes:
  - name: hello
    match: {{ path: {{ prefix: / }} }}
    rateLimit: {{ requests: 5, window: 1h, key: client.ip }}
    respond: {{ text: hello }}
",
        file.display()
    )
}

fn allowed(gateway: &Gateway, times: usize) -> usize {
    (0..times).filter(|_| gateway.get("/").status == 200).count()
}

#[test]
fn a_client_has_what_it_had_after_a_reload_a_kill_and_in_another_process() {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let yaml = yaml(&folder.path().join("limits"));
    let mut first = Gateway::start(&yaml);
    assert_eq!(allowed(&first, 1), 1);
    first.write_config(&(yaml.clone() + "accessLog: off\n"));
    first.signal("HUP");
    let reloads = "portcullis_config_reloads_total{result=\"success\"}";
    eventually!(first.metric(reloads) >= 2.0, "reloaded");
    assert_eq!(allowed(&first, 1), 1);
    let second = Gateway::start(&yaml);
    assert_eq!(allowed(&second, 1), 1, "the third");
    first.signal("KILL");
    first.wait();
    drop(second);
    let third = Gateway::start(&yaml);
    assert_eq!(allowed(&third, 9), 2, "five in all, by three processes");
}

#[test]
fn a_client_has_what_it_had_after_an_upgrade() {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let yaml = yaml(&folder.path().join("limits")) + "upgrade: { socket: private/upgrade.sock }\n";
    let mut gateway = Gateway::start(&yaml);
    assert_eq!(allowed(&gateway, 2), 2);
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["upgrade", "--config"])
        .arg(gateway.directory().join("portcullis.yaml"))
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let pid = said.split(' ').nth(1).expect("the successor").to_owned();
    assert!(gateway.wait().success(), "the old process has left");
    let rest = allowed(&gateway, 9);
    let _ = Command::new("kill").args(["-KILL", &pid]).status();
    assert_eq!(rest, 3, "five in all, by two processes");
}
