//! What every end-to-end test stands on: the real binary as a second process, an origin that records every byte it got, and a
//! client that sends and reads raw bytes. Ports are the kernel's choice; waiting is `eventually!`, never a bare sleep.
#![allow(dead_code, reason = "each test file uses its own part of the harness")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Generous: it bounds a hang, it measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `$condition` holds; fails with the message when it never does.
#[macro_export]
macro_rules! eventually {
    ($condition:expr, $($message:tt)+) => {{
        let until = std::time::Instant::now() + $crate::harness::PATIENCE;
        loop {
            if $condition {
                break;
            }
            assert!(std::time::Instant::now() < until, $($message)+);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }};
}

/// One request as the origin got it.
#[derive(Debug, Clone)]
pub struct Received {
    /// Method, target and version.
    pub line: String,
    /// Fields in order, names as they came.
    pub headers: Vec<(String, String)>,
    /// The decoded body.
    pub body: Vec<u8>,
    /// Every byte, head and body as they came.
    pub raw: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl Received {
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// All values of a field, by lower-case name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// What an origin does with a request.
pub enum Reply {
    /// Sends these bytes; the connection stays open.
    Raw(Vec<u8>),
    /// Sends these bytes and closes.
    RawThenClose(Vec<u8>),
    /// Sends the pieces one after the other, each once the gate before it is open; then keeps the connection.
    Steps(Vec<(Gate, Vec<u8>)>),
    /// Sends bytes, then hands the socket over (WebSocket and the like).
    Upgrade(Vec<u8>, Box<dyn FnOnce(TcpStream) + Send>),
    /// Closes without a word.
    Close,
    /// Reads on and never answers.
    Silence,
}

/// A door that a test opens when it wants the origin to go on.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// One that is open.
    pub fn opened() -> Self {
        let gate = Self::new();
        gate.open();
        gate
    }

    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn wait(&self) {
        let guard = self.0.0.lock().unwrap();
        let (guard, timeout) = self.0.1.wait_timeout_while(guard, PATIENCE, |open| !*open).unwrap();
        drop(guard);
        assert!(!timeout.timed_out(), "the test never opened the gate");
    }
}

/// `HTTP/1.1 STATUS` with these fields and this body, `Content-Length` added.
pub fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    Reply::Raw(response_bytes(status, headers, body))
}

pub fn response_bytes(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut raw = format!("HTTP/1.1 {status} Origin Says\r\n").into_bytes();
    for (name, value) in headers {
        raw.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    raw.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    raw.extend_from_slice(body);
    raw
}

type Handler = dyn Fn(&Received) -> Reply + Send + Sync;

/// An HTTP/1.1 server that records every byte.
pub struct Origin {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<Mutex<usize>>,
    stop: Arc<AtomicBool>,
}

impl Origin {
    pub fn start(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let origin =
            Self { address, received: Arc::default(), connections: Arc::default(), stop: Arc::default() };
        let (received, connections, stop) =
            (origin.received.clone(), origin.connections.clone(), origin.stop.clone());
        let handler: Arc<Handler> = Arc::new(handler);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let number = {
                    let mut count = connections.lock().unwrap();
                    *count += 1;
                    *count - 1
                };
                let (received, handler) = (received.clone(), handler.clone());
                std::thread::spawn(move || serve(stream, number, &received, &*handler));
            }
        });
        origin
    }

    /// One that answers 200 with a small JSON body to everything.
    pub fn ok() -> Self {
        Self::start(|_| response(200, &[("Content-Type", "application/json")], b"{\"ok\":true}"))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// The last request; fails where there was none.
    pub fn last(&self) -> Received {
        self.received.lock().unwrap().last().cloned().expect("the origin was asked")
    }

    /// Every byte that came in, of all requests.
    pub fn bytes(&self) -> Vec<u8> {
        self.received.lock().unwrap().iter().flat_map(|r| r.raw.iter().copied()).collect()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, connection: usize, received: &Mutex<Vec<Received>>, handler: &Handler) {
    let mut writer = stream.try_clone().expect("a socket");
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = read_request(&mut reader) {
        request.connection = connection;
        received.lock().unwrap().push(request.clone());
        match handler(&request) {
            Reply::Raw(bytes) => {
                if writer.write_all(&bytes).is_err() {
                    return;
                }
            }
            Reply::RawThenClose(bytes) => {
                let _ = writer.write_all(&bytes);
                let _ = writer.shutdown(std::net::Shutdown::Both);
                return;
            }
            Reply::Steps(steps) => {
                for (gate, bytes) in steps {
                    gate.wait();
                    if writer.write_all(&bytes).is_err() {
                        return;
                    }
                }
            }
            Reply::Upgrade(bytes, then) => {
                let _ = writer.write_all(&bytes);
                then(writer);
                return;
            }
            Reply::Close => return,
            Reply::Silence => {
                let mut rest = Vec::new();
                let _ = reader.read_to_end(&mut rest);
                return;
            }
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut raw = Vec::new();
    let mut lines = Vec::new();
    loop {
        let start = raw.len();
        if reader.read_until(b'\n', &mut raw).ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&raw[start..]).trim_end_matches(['\r', '\n']).to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut lines = lines.into_iter();
    let line = lines.next()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned())))
        .collect();
    let find =
        |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
    let mut body = Vec::new();
    if find("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        loop {
            let start = raw.len();
            reader.read_until(b'\n', &mut raw).ok()?;
            let size_line = String::from_utf8_lossy(&raw[start..]).trim().to_owned();
            let size = usize::from_str_radix(size_line.split(';').next().unwrap_or_default(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            raw.extend_from_slice(&chunk);
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else if let Some(length) = find("content-length").and_then(|v| v.parse::<usize>().ok()) {
        body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        raw.extend_from_slice(&body);
    }
    Some(Received { line, headers, body, raw, connection: 0 })
}

/// The gateway as a second process.
pub struct Gateway {
    child: Child,
    directory: tempfile::TempDir,
    config: PathBuf,
    pub listeners: BTreeMap<String, SocketAddr>,
    pub admin: Option<SocketAddr>,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

/// What a gateway is started with.
#[derive(Default)]
pub struct Setup {
    files: Vec<(String, Vec<u8>)>,
    env: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Setup {
    pub fn new() -> Self {
        Self::default()
    }

    /// A file beside the configuration.
    pub fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.push((name.into(), content.as_ref().to_vec()));
        self
    }

    /// A variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A further argument of `run`.
    pub fn argument(mut self, text: &str) -> Self {
        self.arguments.push(text.into());
        self
    }

    /// Starts and waits until it is ready.
    pub fn start(self, yaml: &str) -> Gateway {
        match self.try_start(yaml) {
            Ok(gateway) => gateway,
            Err((status, stderr)) => panic!("the gateway did not start ({status}):\n{stderr}"),
        }
    }

    /// Starts; the exit status and everything it said where it did not come up.
    pub fn try_start(self, yaml: &str) -> Result<Gateway, (ExitStatus, String)> {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("portcullis.yaml");
        std::fs::write(&config, yaml).expect("written");
        for (name, content) in &self.files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("run")
            .arg("--config")
            .arg(&config)
            .args(&self.arguments)
            .envs(self.env.iter().map(|(n, v)| (n.as_str(), v.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                // The collectors need a moment to see the end of the pipes.
                std::thread::sleep(Duration::from_millis(50));
                let said = stderr.lock().unwrap().clone();
                return Err((status, said));
            }
            if stdout.lock().unwrap().lines().any(|line| line.starts_with("ready ")) {
                break;
            }
            assert!(Instant::now() < until, "the gateway is not ready: {}", stderr.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut listeners = BTreeMap::new();
        let mut admin = None;
        for line in stdout.lock().unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["listening", name, address] => {
                    listeners.insert((*name).to_owned(), address.parse().expect("an address"));
                }
                ["admin", url] => admin = url.strip_prefix("http://").and_then(|a| a.parse().ok()),
                _ => {}
            }
        }
        Ok(Gateway { child, directory, config, listeners, admin, stdout, stderr })
    }
}

fn collect(mut pipe: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let sink = text.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(n) = pipe.read(&mut buffer) {
            if n == 0 {
                return;
            }
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    });
    text
}

impl Gateway {
    /// With nothing but its configuration.
    pub fn start(yaml: &str) -> Self {
        Setup::new().start(yaml)
    }

    /// Where the listener `public` is.
    pub fn address(&self) -> SocketAddr {
        *self.listeners.get("public").expect("a listener called public")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces the configuration file, as an editor would: a new file moved over the old.
    pub fn write_config(&self, yaml: &str) {
        self.write_file("portcullis.yaml", yaml.as_bytes());
    }

    /// Replaces a file beside the configuration.
    pub fn write_file(&self, name: &str, content: &[u8]) {
        let path = self.directory.path().join(name);
        let new = path.with_extension("new");
        std::fs::write(&new, content).expect("written");
        std::fs::rename(&new, &path).expect("moved");
    }

    /// Everything it wrote to stdout: start lines and the access log.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// Everything it wrote to stderr: events and diagnostics.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// The lines of the access log so far.
    pub fn log(&self) -> Vec<serde_json::Value> {
        self.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Sends a signal by name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .expect("kill is there");
        assert!(status.success(), "the signal was sent");
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < until, "the gateway does not end: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A request over its own connection.
    pub fn get(&self, target: &str) -> Answer {
        self.request("GET", target, &[], b"")
    }

    /// A request over its own connection, `Host: app.example` where no other is given.
    pub fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        Client::connect(self.address()).request(method, target, headers, body)
    }

    /// `GET` on the admin side.
    pub fn admin(&self, target: &str) -> Answer {
        Client::connect(self.admin.expect("an admin side")).request(
            "GET",
            target,
            &[("Host", "localhost")],
            b"",
        )
    }

    /// `POST` on the admin side.
    pub fn admin_post(&self, target: &str, body: &str) -> Answer {
        Client::connect(self.admin.expect("an admin side")).request(
            "POST",
            target,
            &[("Host", "localhost")],
            body.as_bytes(),
        )
    }

    /// The value of a metric's line, by its name and labels as they are written.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").text();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- gateway stdout\n{}\n--- gateway stderr\n{}", self.stdout(), self.stderr());
            eprintln!("--- config\n{}", std::fs::read_to_string(&self.config).unwrap_or_default());
        }
    }
}

/// A connection that sends and reads bytes.
pub struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        let reader = BufReader::new(stream.try_clone().expect("a socket"));
        Self { stream, reader }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Sends; false where the other side has closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The bare socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut raw = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
            raw.push_str("Host: app.example\r\n");
        }
        for (name, value) in headers {
            raw.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = headers.iter().any(|(n, _)| {
            n.eq_ignore_ascii_case("content-length") || n.eq_ignore_ascii_case("transfer-encoding")
        });
        if !framed && !body.is_empty() {
            raw.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        raw.push_str("\r\n");
        let mut bytes = raw.into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes);
        self.read(method)
    }

    /// Reads one final answer (interim ones are kept in `interim`).
    pub fn read(&mut self, method: &str) -> Answer {
        self.try_read(method).expect("an answer")
    }

    /// Reads one answer; `None` where the connection ended before a whole head.
    pub fn try_read(&mut self, method: &str) -> Option<Answer> {
        let mut interim = Vec::new();
        loop {
            let (status, headers, mut raw) = self.read_head()?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let mut answer =
                Answer { status, headers, body: Vec::new(), raw: Vec::new(), interim, cut: false };
            if method != "HEAD" && !matches!(status, 101 | 204 | 304) {
                answer.cut = self.read_body(&answer.headers.clone(), &mut answer.body, &mut raw).is_none();
            }
            answer.raw = raw;
            return Some(answer);
        }
    }

    /// Reads a head only, for streams.
    pub fn read_head(&mut self) -> Option<Head> {
        let mut raw = Vec::new();
        let mut lines = Vec::new();
        loop {
            let start = raw.len();
            if self.reader.read_until(b'\n', &mut raw).ok()? == 0 {
                return None;
            }
            let line = String::from_utf8_lossy(&raw[start..]).trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines.first()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .iter()
            .skip(1)
            .filter_map(|line| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned())))
            .collect();
        Some((status, headers, raw))
    }

    /// Exactly so many bytes.
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).expect("bytes");
        bytes
    }

    /// Everything until the other side closes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.reader.read_to_end(&mut bytes);
        bytes
    }

    /// Waits for the end of the connection; false where bytes came or nothing did in time.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.reader.read(&mut [0]), Ok(0)) || self.reader.get_ref().take_error().is_err()
    }

    fn read_body(
        &mut self,
        headers: &[(String, String)],
        body: &mut Vec<u8>,
        raw: &mut Vec<u8>,
    ) -> Option<()> {
        let find =
            |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        if find("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            loop {
                let start = raw.len();
                if self.reader.read_until(b'\n', raw).ok()? == 0 {
                    return None;
                }
                let size = usize::from_str_radix(String::from_utf8_lossy(&raw[start..]).trim(), 16).ok()?;
                let mut chunk = vec![0; size + 2];
                self.reader.read_exact(&mut chunk).ok()?;
                raw.extend_from_slice(&chunk);
                if size == 0 {
                    return Some(());
                }
                body.extend_from_slice(&chunk[..size]);
            }
        } else if let Some(length) = find("content-length") {
            let mut left = length.parse::<usize>().ok()?;
            let mut buffer = [0; 8192];
            while left > 0 {
                let wanted = left.min(buffer.len());
                match self.reader.read(&mut buffer[..wanted]) {
                    Ok(0) | Err(_) => return None,
                    Ok(n) => {
                        body.extend_from_slice(&buffer[..n]);
                        left -= n;
                    }
                }
            }
            raw.extend_from_slice(body);
            Some(())
        } else {
            self.reader.read_to_end(body).ok()?;
            raw.extend_from_slice(body);
            Some(())
        }
    }
}

/// Status, fields and every byte of a head.
pub type Head = (u16, Vec<(String, String)>, Vec<u8>);

/// An answer as the client got it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Fields in order, names as they came.
    pub headers: Vec<(String, String)>,
    /// The decoded body.
    pub body: Vec<u8>,
    /// Every byte.
    pub raw: Vec<u8>,
    /// Interim answers before it.
    pub interim: Vec<u16>,
    /// Whether the connection ended before the body did.
    pub cut: bool,
}

impl Answer {
    /// All values of a field, by name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("no JSON ({why}): {}", self.text()))
    }

    /// The `code` of a problem document.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether any byte sequence of the answer is `needle`.
    pub fn contains(&self, needle: &[u8]) -> bool {
        contains(&self.raw, needle)
    }
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The head of every test configuration: one listener called `public`, an admin side, no access log noise.
pub const HEAD: &str = "version: 1\nlisteners: [{ name: public, address: \"127.0.0.1:0\" }]\nadmin: { address: \"127.0.0.1:0\" }\n";

// ---- TLS and HTTP/2 clients -------------------------------------------------------------------------------------------------

/// A self-signed certificate for one name, as PEM: certificate and key.
pub fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

async fn tls_stream(
    address: SocketAddr,
    name: &str,
    alpn: pingora::protocols::ALPN,
) -> pingora::protocols::Stream {
    let mut peer = pingora::prelude::HttpPeer::new(address, true, name.to_owned());
    peer.options.verify_cert = false;
    peer.options.verify_hostname = false;
    peer.options.alpn = alpn;
    let connector = pingora::connectors::TransportConnector::new(None);
    connector.new_stream(&peer).await.expect("a TLS connection")
}

fn client_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// The digest of the certificate that is shown to a client which asks for `name`.
pub fn served_certificate(address: SocketAddr, name: &str) -> Vec<u8> {
    client_runtime().block_on(async {
        let stream = tls_stream(address, name, pingora::protocols::ALPN::H1).await;
        stream.get_ssl_digest().expect("TLS").cert_digest.clone()
    })
}

/// Sends bytes over TLS and reads until the other side closes.
pub fn tls_exchange(address: SocketAddr, name: &str, bytes: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    client_runtime().block_on(async {
        let mut stream = tls_stream(address, name, pingora::protocols::ALPN::H1).await;
        stream.write_all(bytes).await.expect("sent");
        stream.flush().await.expect("sent");
        let mut all = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("an end");
        String::from_utf8_lossy(&all).into_owned()
    })
}

/// One HTTP/2 connection over TLS.
pub struct H2Client {
    runtime: tokio::runtime::Runtime,
    sender: h2::client::SendRequest<bytes::Bytes>,
}

/// An answer over HTTP/2.
#[derive(Debug, Clone)]
pub struct H2Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl H2Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl H2Client {
    pub fn connect(address: SocketAddr, name: &str) -> Self {
        let runtime = client_runtime();
        let sender = runtime.block_on(async {
            let stream = tls_stream(address, name, pingora::protocols::ALPN::H2).await;
            let (sender, connection) = h2::client::handshake(stream).await.expect("a handshake");
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    /// `uri` is absolute: its authority becomes `:authority`. The reset's reason where there is no answer.
    pub fn request(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        chunks: &[&[u8]],
    ) -> Result<H2Answer, h2::Error> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(()).expect("a request"), chunks)
    }

    pub fn send(&self, request: http::Request<()>, chunks: &[&[u8]]) -> Result<H2Answer, h2::Error> {
        let chunks: Vec<bytes::Bytes> = chunks.iter().map(|c| bytes::Bytes::copy_from_slice(c)).collect();
        let sender = self.sender.clone();
        self.runtime.block_on(async move {
            let asking = async move {
                let mut sender = sender.ready().await?;
                let (answer, mut body) = sender.send_request(request, chunks.is_empty())?;
                let uploading = tokio::spawn(async move { h2_upload(&mut body, chunks).await });
                let (head, mut body) = answer.await?.into_parts();
                let mut bytes = Vec::new();
                while let Some(chunk) = body.data().await {
                    let chunk = chunk?;
                    body.flow_control().release_capacity(chunk.len())?;
                    bytes.extend_from_slice(&chunk);
                }
                uploading.abort();
                Ok(H2Answer { status: head.status.as_u16(), headers: head.headers, body: bytes })
            };
            tokio::time::timeout(PATIENCE, asking).await.expect("an answer or a reset")
        })
    }
}

async fn h2_upload(
    body: &mut h2::SendStream<bytes::Bytes>,
    chunks: Vec<bytes::Bytes>,
) -> Result<(), h2::Error> {
    let last = chunks.len().saturating_sub(1);
    for (number, mut chunk) in chunks.into_iter().enumerate() {
        while !chunk.is_empty() {
            body.reserve_capacity(chunk.len());
            let Some(room) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await else { return Ok(()) };
            let part = chunk.split_to(room?.min(chunk.len()));
            let ends = number == last && chunk.is_empty();
            body.send_data(part, ends)?;
        }
    }
    Ok(())
}

/// A listener called `public` that speaks TLS and HTTP/2 with `tls/a.crt`, and an admin side; with the files for it.
pub fn tls_setup() -> (Setup, String) {
    let (cert, key) = certificate("app.example");
    let setup = Setup::new().file("tls/a.crt", cert).file("tls/a.key", key);
    let head = "version: 1\nlisteners:\n  - { name: public, address: \"127.0.0.1:0\", tls: { certificates: [{ cert: tls/a.crt, key: tls/a.key }] } }\nadmin: { address: \"127.0.0.1:0\" }\n";
    (setup, head.to_owned())
}

/// `chunked` framing of these pieces, the last chunk included.
pub fn chunked(pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
