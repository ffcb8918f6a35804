//! A guarded proxy that answers by itself, a watch that remembers, and a client that speaks in bytes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora::prelude::HttpPeer;
use pingora::server::configuration::ServerConf;
use pingora_proxy::{ProxyHttp, Session, http_proxy};
use portcullis::names::ListenerName;
use portcullis::server::listen::{
    BadRequest, Protocol, Refusal, Settings, Timeouts, Watch, bind, body_progress, connection,
    set_exchange_deadline,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Far longer than anything here takes: only a hang meets it.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Short enough to be waited for, long enough for a busy machine to do in time what must be in time.
pub const SHORT: Duration = Duration::from_secs(1);

/// The app behind the guard.
pub struct App {
    /// Lets `/wait` answer.
    pub release: Arc<Notify>,
    /// Told when `/wait` has begun.
    pub begun: Arc<Notify>,
    /// How often `logging` ran.
    pub logged: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl ProxyHttp for App {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Err(pingora::Error::new(pingora::ErrorType::InternalError))
    }

    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> pingora::Result<bool> {
        let path = session.req_header().uri.path().to_owned();
        let text = match path.as_str() {
            "/facts" => {
                let facts = connection().expect("a request has a connection");
                let words =
                    (facts.listener().as_str(), facts.tls(), facts.protocol().as_str(), facts.head_bytes());
                format!("{words:?} {}", facts.peer().ip())
            }
            "/upload" => {
                let mut received = 0;
                while let Some(bytes) = session.read_request_body().await? {
                    received += bytes.len();
                }
                received.to_string()
            }
            "/stuck-upload" => {
                body_progress(0, false);
                while session.read_request_body().await?.is_some() {}
                body_progress(0, true);
                "complete".to_owned()
            }
            "/big" => "x".repeat(64 << 20),
            "/never" => {
                set_exchange_deadline(Some(Instant::now() + SHORT));
                std::future::pending().await
            }
            "/wait" => {
                self.begun.notify_one();
                self.release.notified().await;
                "released".to_owned()
            }
            _ => "ok".to_owned(),
        };
        let mut head = ResponseHeader::build(200, None)?;
        head.insert_header("content-length", text.len().to_string())?;
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(Bytes::from(text)), true).await?;
        Ok(true)
    }

    async fn logging(&self, _: &mut Session, _: Option<&pingora::Error>, (): &mut ()) {
        self.logged.fetch_add(1, Ordering::SeqCst);
    }
}

/// What the guard told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Opened(Protocol),
    Closed,
    Refused(Refusal, IpAddr),
    Handshake(bool),
    Answered(u16, &'static str),
    Cut(&'static str),
}

#[derive(Default)]
pub struct Record {
    events: Mutex<Vec<Event>>,
    changed: Notify,
}

impl Record {
    fn push(&self, event: Event) {
        self.events.lock().push(event);
        self.changed.notify_one();
    }

    pub fn count(&self, event: &Event) -> usize {
        self.events.lock().iter().filter(|seen| *seen == event).count()
    }

    /// Waits until `event` has been told `times` times.
    pub async fn wait(&self, event: Event, times: usize) {
        let met = async {
            while self.count(&event) < times {
                self.changed.notified().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, met).await;
        assert!(waited.is_ok(), "{event:?} was not told {times} times, but {:?}", self.events.lock());
    }
}

impl Watch for Record {
    fn opened(&self, protocol: Protocol) {
        self.push(Event::Opened(protocol));
    }
    fn closed(&self) {
        self.push(Event::Closed);
    }
    fn refused(&self, why: Refusal, peer: IpAddr) {
        self.push(Event::Refused(why, peer));
    }
    fn handshake(&self, ok: bool) {
        self.push(Event::Handshake(ok));
    }
    fn answered(&self, request: BadRequest) {
        self.push(Event::Answered(request.status, request.reason));
    }
    fn cut(&self, reason: &'static str) {
        self.push(Event::Cut(reason));
    }
}

/// A running listener.
pub struct House {
    pub address: SocketAddr,
    pub record: Arc<Record>,
    pub release: Arc<Notify>,
    pub begun: Arc<Notify>,
    pub logged: Arc<AtomicUsize>,
    pub stop: watch::Sender<bool>,
    pub serving: JoinHandle<()>,
}

/// Timeouts that nothing meets by accident.
pub fn patient() -> Settings {
    let timeouts = Timeouts { header: PATIENCE, body: PATIENCE, idle: PATIENCE, write: PATIENCE };
    let name = ListenerName::parse("public").expect("a name");
    Settings { timeouts, ..Settings::new(name, SocketAddr::from(([127, 0, 0, 1], 0))) }
}

pub fn start(settings: Settings) -> House {
    let (release, begun, logged) =
        (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let app = App { release: Arc::clone(&release), begun: Arc::clone(&begun), logged: Arc::clone(&logged) };
    let app = Arc::new(http_proxy(&Arc::new(ServerConf::default()), app));
    let record = Arc::new(Record::default());
    let (stop, stopped) = watch::channel(false);
    let bound = bind(settings).expect("a free port");
    let address = bound.local_addr();
    let serving =
        tokio::spawn(bound.serve(app, Arc::clone(&record) as Arc<dyn Watch>, stopped, Arc::default()));
    House { address, record, release, begun, logged, stop, serving }
}

impl House {
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// Sends `text` on a fresh connection and reads to the end of it.
    pub async fn ask(&self, text: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text).await.expect("sent");
        read_all(&mut stream).await
    }
}

/// Everything up to the end of the connection, however it ends.
pub async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("an end");
    drop(read);
    String::from_utf8_lossy(&all).into_owned()
}

/// One answer with a `Content-Length`; the connection stays open.
pub async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let reading = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a byte of the head"));
        }
        let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        stream.read_exact(&mut body).await.expect("the body");
        (head, String::from_utf8(body).expect("text"))
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer")
}
