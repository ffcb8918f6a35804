//! An HTTP/1.1 server that does what a test says and records every byte it got.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;

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
