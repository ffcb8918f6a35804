//! The counters' file: what a client has used up is known to the next process, however the last one ended, and to those that live at once.

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
