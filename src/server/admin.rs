//! The operators' side: metrics, health, the configuration in force, purge. Never on a public listener.
//!
//! It listens on loopback or a socket file; anything else asks for a token. No `GET` changes anything, and nothing that a browser's page
//! could send from another origin is obeyed: such a request carries `Origin` or `Sec-Fetch-Site`, and is refused. Without a token a
//! request must ask by address, so that a name made to lead here (DNS rebinding) reads nothing.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::{State, cache};
use crate::exchange::target;
use crate::plan::AdminAddress;
use crate::proxy::explain::Asked;

/// Connections of operators and scrapers at once; more wait.
pub const MAX_CONNECTIONS: usize = 64;
/// The largest body of a request.
pub const MAX_BODY_BYTES: usize = 64 << 10;
/// From connecting to the end of a head.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A bound admin side.
pub enum Bound {
    /// On TCP.
    Tcp(TcpListener),
    /// On a socket file, removed at the end.
    Unix(UnixListener, SocketFile),
}

/// The file of a socket. Removed when this goes, unless another process listens on it by then.
pub struct SocketFile {
    path: PathBuf,
    kept: Arc<AtomicBool>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Acquire) {
            // It may have been removed by somebody else: then there is nothing to do.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds the admin side.
///
/// # Errors
/// When the address cannot be had; the text names it.
pub fn bind(address: &AdminAddress) -> Result<Bound, String> {
    match address {
        AdminAddress::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .and_then(TcpListener::from_std)
                .map_err(|why| format!("admin: cannot listen on `{address}`: {why}"))?;
            Ok(Bound::Tcp(listener))
        }
        AdminAddress::Unix(path) => {
            bind_unix(path).map_err(|why| format!("admin: cannot listen on `{}`: {why}", path.display()))
        }
    }
}

fn bind_unix(path: &Path) -> std::io::Result<Bound> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, "another process answers there"));
    }
    // Nobody answers: a socket that is left is that of a process that died. Anything else is somebody's file; binding fails on it.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Bound::Unix(listener, SocketFile::new(path)))
}

/// The admin side on a socket that another process gave.
///
/// # Errors
/// When it is no listening socket of this kind; the text names the address.
pub fn adopt(address: &AdminAddress, socket: OwnedFd) -> Result<Bound, String> {
    let told =
        |why: std::io::Error| format!("admin: what was handed over for `{}` is no use: {why}", name(address));
    match address {
        AdminAddress::Tcp(_) => {
            let listener = std::net::TcpListener::from(socket);
            listener.set_nonblocking(true).map_err(told)?;
            TcpListener::from_std(listener).map(Bound::Tcp).map_err(told)
        }
        AdminAddress::Unix(path) => {
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true).map_err(told)?;
            let listener = UnixListener::from_std(listener).map_err(told)?;
            let file = SocketFile::new(path);
            // Still the other process's: this one may fail to start.
            file.kept.store(true, Ordering::Release);
            Ok(Bound::Unix(listener, file))
        }
    }
}

/// The address as it is configured.
#[must_use]
pub fn name(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

impl SocketFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), kept: Arc::default() }
    }
}

impl Bound {
    /// Where it listens, as an operator would type it.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| "http://?".into(), |address| format!("http://{address}")),
            Self::Unix(_, file) => format!("unix:{}", file.path.display()),
        }
    }

    /// The socket once more, for a successor, and what keeps its file when this process leaves.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn share(&self) -> std::io::Result<(OwnedFd, Option<Arc<AtomicBool>>)> {
        match self {
            Self::Tcp(listener) => Ok((listener.as_fd().try_clone_to_owned()?, None)),
            Self::Unix(listener, file) => {
                Ok((listener.as_fd().try_clone_to_owned()?, Some(file.kept.clone())))
            }
        }
    }

    fn reach(&self) -> Reach {
        match self {
            Self::Tcp(listener) if listener.local_addr().is_ok_and(|address| address.ip().is_loopback()) => {
                Reach::Loopback
            }
            Self::Tcp(_) => Reach::Network,
            Self::Unix(..) => Reach::Socket,
        }
    }

    /// Serves until the process ends.
    pub async fn serve(self, state: Arc<State>) {
        let reach = self.reach();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        if let Self::Unix(_, file) = &self {
            file.kept.store(false, Ordering::Release);
        }
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let accepted: std::io::Result<Box<dyn Io>> = match &self {
                Self::Tcp(listener) => {
                    listener.accept().await.map(|(stream, _)| Box::new(stream) as Box<dyn Io>)
                }
                Self::Unix(listener, _) => {
                    listener.accept().await.map(|(stream, _)| Box::new(stream) as Box<dyn Io>)
                }
            };
            let Ok(stream) = accepted else {
                // Out of descriptors, most likely: the next moment may have one.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let state = state.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let state = state.clone();
                    async move { Ok::<_, Infallible>(answer(&state, reach, request).await) }
                });
                // A scraper that breaks off is its own business.
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                drop(place);
            });
        }
    }
}

/// Who can reach the admin side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Who may open the socket file: no browser.
    Socket,
    /// Programs on this machine, a browser among them.
    Loopback,
    /// Anybody.
    Network,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

type Answer = Response<Full<Bytes>>;

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    typed(status, "application/json", format!("{body}\n"))
}

fn typed(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

async fn answer(state: &Arc<State>, reach: Reach, request: Request<Incoming>) -> Answer {
    // Probes come from orchestrators that have no token, and tell nothing.
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/livez") => return text(StatusCode::OK, "alive\n"),
        (&Method::GET | &Method::HEAD, "/readyz") => {
            return if state.is_ready() {
                text(StatusCode::OK, "ready\n")
            } else {
                text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
            };
        }
        _ => {}
    }
    if let Some(refusal) = refused(state, reach, &request) {
        return refusal;
    }
    match (request.method().clone(), request.uri().path()) {
        (Method::GET | Method::HEAD, "/metrics") => metrics(state).await,
        (Method::GET | Method::HEAD, "/config") => json(StatusCode::OK, &state.describe()),
        (Method::POST, "/purge") => purge(state, request).await,
        (Method::GET, "/cache/stats") => json(StatusCode::OK, &state.cache_stats()),
        (Method::GET, "/cache/entries") => asked_of_cache(state, &request, State::entries).await,
        (Method::GET, "/cache/entry") => asked_of_cache(state, &request, State::stored).await,
        (Method::POST, "/explain") => explain(state, request).await,
        (Method::GET, "/") => text(StatusCode::OK, PATHS),
        (
            _,
            "/livez" | "/readyz" | "/metrics" | "/config" | "/purge" | "/explain" | "/" | "/cache/stats"
            | "/cache/entries" | "/cache/entry",
        ) => text(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method\n"),
        _ => text(StatusCode::NOT_FOUND, PATHS),
    }
}

const PATHS: &str = "GET /metrics  GET /livez  GET /readyz  GET /config  GET /cache/stats  GET /cache/entries  GET /cache/entry?url=...  POST /purge {\"url\": \"https://app.example/path\"}  POST /explain {\"method\": \"GET\", \"url\": \"https://app.example/path\"}\n";

fn refused(state: &State, reach: Reach, request: &Request<Incoming>) -> Option<Answer> {
    if request.headers().contains_key(header::ORIGIN) || request.headers().contains_key("sec-fetch-site") {
        return Some(text(StatusCode::FORBIDDEN, "not for pages in a browser\n"));
    }
    let plan = state.shared.plan.load();
    let asks_for_token = plan.admin.as_ref().is_some_and(|admin| admin.token.is_some());
    // The address is the one of the start: a new file that moves it and drops the token must not leave this one open.
    match reach {
        Reach::Socket if !asks_for_token => return None,
        Reach::Loopback if !asks_for_token => {
            // A page whose name was made to lead here reads as from its own origin, but it cannot say another `Host`.
            return (!is_local_name(request))
                .then(|| text(StatusCode::MISDIRECTED_REQUEST, "ask by address or as localhost\n"));
        }
        _ => {}
    }
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    // A token that was lost refuses everybody: the admin side fails closed.
    let current = plan.admin_token.as_ref().and_then(|slot| slot.current());
    if current.is_some_and(|token| token.secret.matches(shown)) {
        return None;
    }
    let mut response = text(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
    Some(response)
}

/// Whether `Host` is an address or `localhost`, which no name server can point here.
fn is_local_name(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    target::authority(host).is_ok_and(|authority| {
        let bare = authority.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok()
    })
}

/// Rendered off the workers: a scrape of many routes takes milliseconds.
async fn metrics(state: &Arc<State>) -> Answer {
    let metrics = state.shared.process.metrics.clone();
    match tokio::task::spawn_blocking(move || metrics.render()).await {
        Ok(body) => typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be rendered\n"),
    }
}

/// What happens to a request, under the plan in force and with what the process knows. Changes nothing.
async fn explain(state: &Arc<State>, request: Request<Incoming>) -> Answer {
    let body = match body(request).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let Ok(asked) = serde_json::from_slice::<Asked>(&body) else {
        return json(
            StatusCode::BAD_REQUEST,
            &serde_json::json!({ "error": "a question is {\"method\": \"GET\", \"url\": \"https://app.example/path\", \"headers\": [[\"name\", \"value\"]]}" }),
        );
    };
    // Off the workers: it reads the files, and looks at every route.
    let state = state.clone();
    match tokio::task::spawn_blocking(move || state.explain(&asked)).await {
        Ok(Ok(told)) => json(StatusCode::OK, &serde_json::to_value(told).unwrap_or_default()),
        Ok(Err(why)) => json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": why.to_string() })),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "it could not be explained\n"),
    }
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Answer> {
    match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(_) => {
            Err(json(StatusCode::PAYLOAD_TOO_LARGE, &serde_json::json!({ "error": "the body is too large" })))
        }
    }
}

async fn purge(state: &Arc<State>, request: Request<Incoming>) -> Answer {
    let body = match body(request).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    // Off the workers: a dry run looks at everything, and a full table of purges is swept at once.
    let state = state.clone();
    told(tokio::task::spawn_blocking(move || state.purge(&body)).await)
}

/// A question about what is stored, off the workers: it may look at many objects.
async fn asked_of_cache(
    state: &Arc<State>,
    request: &Request<Incoming>,
    ask: fn(&State, &str) -> cache::Told,
) -> Answer {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let state = state.clone();
    told(tokio::task::spawn_blocking(move || ask(&state, &query)).await)
}

fn told(told: Result<cache::Told, tokio::task::JoinError>) -> Answer {
    match told {
        Ok(Ok(told)) => json(StatusCode::OK, &told),
        Ok(Err((status, why))) => json(status, &serde_json::json!({ "error": why })),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the cache could not be asked\n"),
    }
}
