//! The start that fails and the end: unready at once, requests in flight come to theirs, gone as soon as idle.

use std::net::{TcpListener, TcpStream};

use crate::harness::{Client, Gate, Gateway, HEAD, Origin, Reply, Setup, response_bytes};

/// Far longer than a test waits: whatever ends within it ended by itself.
const LONG: &str = "shutdown: { grace: 1h }\n";

/// An origin whose `/slow` waits for the gate, and a gateway before it that has such a request in flight.
fn busy(shutdown: &str) -> (Gateway, Origin, Gate, Client) {
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
    let gateway = Gateway::start(&format!(
        "{HEAD}{shutdown}upstreams: {{ web: {{ kind: app, url: \"{}\" }} }}
routes: [{{ name: site, match: {{ path: {{ prefix: / }} }}, upstream: web }}]
",
        origin.url()
    ));
    let mut client = Client::connect(gateway.address());
    client.send(b"GET /slow HTTP/1.1\r\nHost: app.example\r\n\r\n");
    eventually!(origin.count() == 1, "the request is on its way");
    (gateway, origin, gate, client)
}

#[test]
fn a_request_in_flight_ends_and_then_the_process() {
    let (mut gateway, _origin, gate, mut client) = busy(LONG);
    assert_eq!(gateway.admin("/readyz").status, 200, "before the signal");
    gateway.signal("TERM");
    eventually!(gateway.admin("/readyz").status == 503, "unready while it drains");
    assert_eq!(gateway.admin("/livez").status, 200, "and alive");
    assert_eq!(gateway.metric("portcullis_draining"), 1.0);
    eventually!(TcpStream::connect(gateway.address()).is_err(), "nothing new is taken");
    gate.open();
    let answer = client.read("GET");
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"), "what was in flight is answered");
    assert!(gateway.wait().success(), "a drain that came to its end: {}", gateway.stderr());
    assert_eq!(gateway.log().len(), 1, "its line was written before the end: {}", gateway.stdout());
}

#[test]
fn a_second_signal_ends_at_once() {
    let (mut gateway, _origin, _gate, mut client) = busy(LONG);
    gateway.signal("TERM");
    eventually!(gateway.admin("/readyz").status == 503, "draining");
    gateway.signal("TERM");
    assert!(gateway.wait().code().is_some(), "ended by itself, not by the signal: {}", gateway.stderr());
    assert!(client.try_read("GET").is_none(), "what was in flight is cut");
}

#[test]
fn the_grace_is_the_longest_wait() {
    let (mut gateway, _origin, _gate, mut client) = busy("shutdown: { grace: 100ms }\n");
    gateway.signal("TERM");
    assert!(gateway.wait().code().is_some(), "{}", gateway.stderr());
    assert!(client.try_read("GET").is_none(), "what took longer is cut");
}

#[test]
fn sigint_is_taken_as_sigterm() {
    let mut gateway = Gateway::start(&format!("{HEAD}{LONG}{HELLO}"));
    gateway.signal("INT");
    assert!(gateway.wait().success(), "{}", gateway.stderr());
}

#[test]
fn new_connections_are_taken_during_the_delay() {
    let mut gateway = Gateway::start(&format!("{HEAD}shutdown: {{ grace: 1h, delay: 1h }}\n{HELLO}"));
    gateway.signal("TERM");
    eventually!(gateway.admin("/readyz").status == 503, "a load balancer looks elsewhere");
    assert_eq!(gateway.get("/").status, 200, "and what still comes is answered");
    gateway.signal("TERM");
    assert!(gateway.wait().code().is_some(), "the second signal ends the delay too: {}", gateway.stderr());
}

#[test]
fn an_idle_connection_holds_nothing_up() {
    let mut gateway = Gateway::start(&format!("{HEAD}{LONG}{HELLO}"));
    let mut used = Client::connect(gateway.address());
    assert_eq!(used.request("GET", "/", &[], b"").status, 200);
    let fresh = Client::connect(gateway.address());
    eventually!(
        gateway.metric("portcullis_connections_active{listener=\"public\"}") >= 1.0,
        "the connections are there"
    );
    gateway.signal("TERM");
    assert!(gateway.wait().success(), "{}", gateway.stderr());
    assert!(used.is_closed(), "closed between two requests");
    drop(fresh);
}

#[test]
fn a_port_that_is_taken_is_a_failed_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let yaml = format!("{HEAD}{HELLO}").replacen("127.0.0.1:0", &address, 1);
    let (status, said) = Setup::new().try_start(&yaml).err().expect("no start");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("listener `public`") && said.contains(&address), "which one: {said}");
    assert!(said.contains("in use"), "why: {said}");
}

#[test]
fn an_admin_port_that_is_taken_is_a_failed_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let yaml = format!("{HEAD}{HELLO}")
        .replace("admin: { address: \"127.0.0.1:0\" }", &format!("admin: {{ address: \"{address}\" }}"));
    let (status, said) = Setup::new().try_start(&yaml).err().expect("no start");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("admin") && said.contains(&address), "which one: {said}");
}

#[test]
fn a_file_with_mistakes_is_a_failed_start() {
    let (status, said) = Setup::new()
        .try_start(&format!("{HEAD}{HELLO}").replace("respond", "respnd"))
        .err()
        .expect("no start");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("portcullis.yaml:4:") && said.contains("did you mean `respond`?"), "{said}");
}

const HELLO: &str = "routes: [{ name: hello, match: { path: { prefix: / } }, respond: { text: hello } }]\n";
