//! What a supervisor hears (sd_notify(3)): ready once bound, reloading with the time, stopping.

use std::os::unix::net::UnixDatagram;

use crate::harness::{Gateway, HEAD, PATIENCE, Setup};

const HELLO: &str = "routes: [{ name: hello, match: { path: { prefix: / } }, respond: { text: hello } }]\n";

struct Supervisor {
    socket: UnixDatagram,
    _folder: tempfile::TempDir,
}

impl Supervisor {
    fn start(yaml: &str) -> (Self, Gateway) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        let gateway = Setup::new().env("NOTIFY_SOCKET", path.to_str().expect("text")).start(yaml);
        (Self { socket, _folder: folder }, gateway)
    }

    /// The next message, line by line.
    fn hear(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_supervisor_hears_of_ready_reload_and_end() {
    let (supervisor, mut gateway) = Supervisor::start(&format!("{HEAD}{HELLO}"));
    assert_eq!(supervisor.hear(), ["READY=1"]);
    assert_eq!(gateway.get("/").status, 200, "ready is when it serves");

    gateway.signal("HUP");
    let reloading = supervisor.hear();
    assert_eq!(reloading[0], "RELOADING=1");
    let time =
        reloading.get(1).and_then(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("the time beside it");
    assert!(time.parse::<u64>().is_ok_and(|time| time > 0), "microseconds: {time}");
    assert_eq!(supervisor.hear(), ["READY=1"], "a reload ends, whatever came of it");

    gateway.write_config("version: 2\n");
    assert_eq!(supervisor.hear()[0], "RELOADING=1");
    assert_eq!(supervisor.hear(), ["READY=1"], "the old configuration serves on");

    gateway.signal("TERM");
    assert_eq!(supervisor.hear(), ["STOPPING=1"]);
    assert!(gateway.wait().success());
}
