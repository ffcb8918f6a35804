//! The gateway, in this process, with an origin that is a function and a clock that is told to go on.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use portcullis::config;
use portcullis::names::{ListenerName, SecretName, UpstreamName};
use portcullis::server::stage::{self, Staged};
use portcullis::upstream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::message::{Answer, Ask, HOST};
use crate::origin::{Call, Origin};
use crate::settings::{PREFIX, Settings};

/// What a client got.
#[derive(Debug, Clone, Default)]
pub struct Got {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Got {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// The origin of the step that is under way.
struct Playing {
    folder: PathBuf,
    epoch: SystemTime,
    state: Mutex<State>,
}

struct State {
    origin: Origin,
    step: usize,
    calls: Vec<Call>,
    sockets: usize,
}

#[derive(Clone)]
struct Player(Arc<Playing>);

impl upstream::Stage for Player {
    fn dial(&self, _upstream: &UpstreamName) -> upstream::Dial {
        let mut state = self.0.state.lock().unwrap();
        state.sockets += 1;
        let socket = self.0.folder.join(state.sockets.to_string());
        // A path at which nobody listens is a refused connection.
        if state.origin == Origin::Dead {
            let call = Call::default();
            state.calls.push(call);
        } else {
            let listener = UnixListener::bind(&socket).unwrap();
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::UnixListener::from_std(listener).unwrap();
            let playing = self.0.clone();
            tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                answer(&playing, stream).await;
            });
        }
        upstream::Dial { socket, expires_in: None }
    }
}

/// One request on a connection of its own.
async fn answer(playing: &Playing, mut stream: UnixStream) {
    let mut bytes = Vec::new();
    let text = loop {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap_or(0))
            });
            if body.len() >= length.unwrap_or(0) {
                break head.to_owned();
            }
        }
    };
    let reply = {
        let mut state = playing.state.lock().unwrap();
        let call = call(&text);
        let nth = state.calls.len();
        state.calls.push(call.clone());
        let answer = state.origin.answer(&call, state.step, nth, playing.epoch).unwrap();
        raw(&answer, &call, playing.epoch)
    };
    let _ = stream.write_all(reply.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn call(head: &str) -> Call {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let url = words.next().and_then(|target| target.rsplit('/').next()?.parse().ok()).unwrap_or(usize::MAX);
    let mut call = Call { method, url, ..Call::default() };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        call.read(&name.to_ascii_lowercase(), value.trim());
    }
    call
}

fn raw(answer: &Answer, call: &Call, epoch: SystemTime) -> String {
    let mut text = format!("HTTP/1.1 {} As Told\r\nConnection: close\r\n", answer.status);
    for (name, value) in answer.fields.lines(epoch, PREFIX) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !matches!(answer.status, 204 | 304) {
        text.push_str(&format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", answer.body.len()));
    }
    text.push_str("\r\n");
    if call.method != "HEAD" {
        text.push_str(&answer.body);
    }
    text
}

/// One gateway for one sequence.
pub struct Stage {
    gateway: Arc<Staged>,
    playing: Arc<Playing>,
    listener: ListenerName,
}

impl Stage {
    pub fn new(settings: &Settings, folder: &Path, epoch: SystemTime) -> Self {
        let state = State { origin: Origin::Dead, step: 0, calls: Vec::new(), sockets: 0 };
        let playing = Arc::new(Playing { folder: folder.to_owned(), epoch, state: Mutex::new(state) });
        let process = stage::process(Arc::new(Player(playing.clone())));
        let document = config::parse("model.yaml", settings.yaml()).map_err(|report| report.human()).unwrap();
        let invented = |name: &SecretName| name.to_string();
        let plan = stage::compile(&document, folder, &process, invented);
        let (plan, _) = plan.map_err(|report| report.human()).unwrap();
        let gateway = Arc::new(Staged::new(plan, process, &folder.join("log")).unwrap());
        Self { gateway, playing, listener: ListenerName::parse("public").unwrap() }
    }

    pub fn pass(&self, seconds: i64) {
        self.gateway.pass(Duration::from_secs(seconds.unsigned_abs()));
    }

    /// Sends a request, and waits until nothing is under way any more.
    pub async fn step(&self, ask: &Ask, origin: &Origin, step: usize) -> (Got, Vec<Call>) {
        {
            let mut state = self.playing.state.lock().unwrap();
            (state.origin, state.step) = (origin.clone(), step);
            state.calls.clear();
        }
        let (mut ours, theirs) = pair().await;
        let (gateway, listener) = (self.gateway.clone(), self.listener.clone());
        let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 50_000));
        let serving = tokio::spawn(async move { gateway.serve(&listener, theirs, peer).await });
        ours.write_all(self.request(ask).as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(LONGEST, ours.read_to_end(&mut bytes)).await;
        read.expect("an answer in time").unwrap();
        drop(ours);
        serving.await.expect("the gateway does not panic");
        self.settle().await;
        let calls = std::mem::take(&mut self.playing.state.lock().unwrap().calls);
        (got(&bytes, ask.method == "HEAD"), calls)
    }

    fn request(&self, ask: &Ask) -> String {
        let mut text =
            format!("{} {PREFIX}/{} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n", ask.method, ask.url);
        for (name, value) in ask.lines(self.playing.epoch) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let body = if matches!(ask.method, "POST" | "PUT") { "x" } else { "" };
        if !body.is_empty() {
            text.push_str("content-length: 1\r\n");
        }
        text + "\r\n" + body
    }

    /// A stale answer is renewed behind its client's back.
    async fn settle(&self) {
        let deadline = Instant::now() + LONGEST;
        let mut turns = 0_u32;
        while !self.gateway.is_idle() {
            turns += 1;
            if turns < 256 {
                tokio::task::yield_now().await;
            } else {
                assert!(Instant::now() < deadline, "something is still under way behind the answer");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    loop {
        let (theirs, from) = listener.accept().await.unwrap();
        if from == ours.local_addr().unwrap() {
            ours.set_nodelay(true).unwrap();
            theirs.set_nodelay(true).unwrap();
            return (ours, theirs);
        }
    }
}

fn got(bytes: &[u8], is_head: bool) -> Got {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Got::default() };
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let mut got = Got { status, fields: lines.filter_map(field).collect(), body: body.to_owned() };
    if got.field("transfer-encoding").is_some() && !is_head {
        got.body = unchunked(body);
    }
    got
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        body.push_str(after.get(..size).unwrap_or_default());
        rest = after.get(size + 2..).unwrap_or_default();
        if size == 0 {
            return body;
        }
    }
    format!("{body}, and no end")
}

/// Nothing takes time here.
const LONGEST: Duration = Duration::from_secs(20);
