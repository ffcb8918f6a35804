//! The accept loop and the life of one connection, from the socket to the protocol.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pingora::apps::HttpServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::{ALPN, GetSocketDigest, Ssl, Stream};
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::caps::{Caps, Permit};
use super::dated::{Asked, Dated};
use super::exchange::Shared;
use super::head::Limits;
use super::stop::Stop;
use super::wire::Wire;
use super::{BadRequest, BindError, Protocol, Settings, Watch, answer, http1, http2, slow_reader, tls};

/// A listener that holds its port and does not accept yet.
#[derive(Debug)]
pub struct Bound {
    settings: Settings,
    socket: std::net::TcpListener,
    address: SocketAddr,
}

/// Takes the port. Needs no runtime.
///
/// # Errors
/// [`BindError`] names the address and what the system said.
pub fn bind(settings: Settings) -> Result<Bound, BindError> {
    let address = settings.address;
    let told = |cause| BindError { address, cause };
    let socket = listening_socket(address).map_err(told)?;
    let bound = socket.local_addr().map_err(told)?;
    Ok(Bound { settings, socket, address: bound })
}

/// A listener on a socket that another process gave. It keeps listening there too until it closes its own.
///
/// # Errors
/// When it is no listening socket of TCP.
pub fn adopt(settings: Settings, socket: OwnedFd) -> Result<Bound, BindError> {
    let address = settings.address;
    let told = |cause| BindError { address, cause };
    let socket = std::net::TcpListener::from(socket);
    socket.set_nonblocking(true).map_err(told)?;
    let bound = socket.local_addr().map_err(told)?;
    Ok(Bound { settings, socket, address: bound })
}

fn listening_socket(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(SocketProtocol::TCP))?;
    // A restart must not wait for the old process's connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it: our writes are whole messages already.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Bound {
    /// The address that was taken; the port is the real one.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The socket once more, for a process that takes over.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn share(&self) -> std::io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Accepts and serves until `shutdown` turns true or its sender is gone. Then the port is closed, idle connections are
    /// closed, requests in flight finish, and this returns when the last connection has ended; the caller sets a limit to
    /// that. Needs a tokio runtime with time and I/O.
    ///
    /// Where `lingers` is true by then, idle connections stay open for [`LINGER`]: the next request of each is answered, with
    /// `Connection: close`. A client that sends at the very moment at which its connection is closed would see its request fail, and
    /// where another process listens on already, nobody has to hurry.
    pub async fn serve<A>(
        self,
        app: Arc<A>,
        watch: Arc<dyn Watch>,
        mut shutdown: watch::Receiver<bool>,
        lingers: Arc<AtomicBool>,
    ) where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let listener = match TcpListener::from_std(self.socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(listener = %self.settings.name, %error, "the runtime refuses the listening socket");
                return;
            }
        };
        let (alive, mut all_ended) = mpsc::channel::<Infallible>(1);
        let guard = Arc::new(Guard::new(self.settings, app, watch, shutdown.clone()));
        accept_all(&listener, &guard, &alive, &mut shutdown).await;
        drop(listener);
        drop(alive);
        if lingers.load(Ordering::Acquire) {
            // Nothing is ever sent: this ends when the last connection has dropped its sender.
            let _ = timeout(LINGER, all_ended.recv()).await;
        }
        guard.stop.now();
        guard.app.http_cleanup().await;
        let _ = all_ended.recv().await;
    }
}

/// Serves one connection to its end that nobody accepted here: `peer` is who the proxy is told is at the other end, `tls` whether
/// it is told that the client spoke TLS (no certificate is needed). For trying a configuration without its ports.
pub async fn serve_one<A>(
    settings: Settings,
    app: Arc<A>,
    told: Arc<dyn Watch>,
    (socket, peer): (TcpStream, SocketAddr),
    tls: bool,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let (_open, shutdown) = watch::channel(false);
    let guard = Arc::new(Guard { tls, ..Guard::new(settings, app, told, shutdown) });
    let (alive, _) = mpsc::channel::<Infallible>(1);
    if let Ok(permit) = guard.caps.admit(peer.ip()) {
        run(guard, socket, peer, Arc::new(Held { _permit: permit, _alive: alive })).await;
    }
}

/// What every connection of a listener shares. Lifetime: process.
pub(super) struct Guard<A> {
    pub(super) app: Arc<A>,
    pub(super) watch: Arc<dyn Watch>,
    pub(super) settings: Settings,
    pub(super) limits: Limits,
    /// For the framework, which asks once per request.
    pub(super) shutdown: watch::Receiver<bool>,
    /// For ourselves.
    pub(super) stop: Stop,
    acceptor: Option<Acceptor>,
    /// Whether clients reach us by TLS: ended here, or on a stage said to be.
    tls: bool,
    caps: Arc<Caps>,
}

/// A connection's share of the caps, and the sign that it has not ended. HTTP/2 streams hold it too.
pub(super) struct Held {
    _permit: Permit,
    _alive: mpsc::Sender<Infallible>,
}

impl<A: HttpServerApp + Send + Sync + 'static> Guard<A> {
    fn new(settings: Settings, app: Arc<A>, watch: Arc<dyn Watch>, shutdown: watch::Receiver<bool>) -> Self {
        Self {
            app,
            watch,
            limits: Limits::of(settings.max_header_bytes, settings.max_header_count),
            acceptor: settings.tls.as_ref().map(|certificates| tls::acceptor(certificates, settings.http2)),
            tls: settings.tls.is_some(),
            caps: Caps::new(settings.max_connections, settings.max_connections_per_address),
            settings,
            shutdown,
            stop: Stop::new(),
        }
    }

    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, alive: &mpsc::Sender<Infallible>) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        match self.caps.admit(peer.ip()) {
            Ok(permit) => {
                let held = Arc::new(Held { _permit: permit, _alive: alive.clone() });
                tokio::spawn(run(Arc::clone(self), socket, peer, held));
            }
            Err(why) => self.watch.refused(why, peer.ip()),
        }
    }

    /// Tells the watch about an answer of our own.
    pub(super) fn tell(&self, refused: answer::Refused, shared: &Shared, received_bytes: usize) {
        self.watch.answered(BadRequest {
            peer: shared.peer,
            status: refused.status.as_u16(),
            reason: refused.reason,
            protocol: shared.protocol,
            received_bytes,
        });
    }

    fn shared(&self, peer: SocketAddr, protocol: Protocol) -> Arc<Shared> {
        let listener = self.settings.name.clone();
        Arc::new(Shared { listener, peer, tls: self.tls, protocol, date: Asked::nothing() })
    }
}

/// Resolves when `shutdown` is true or its sender is gone.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}

async fn accept_all<A: HttpServerApp + Send + Sync + 'static>(
    listener: &TcpListener,
    guard: &Arc<Guard<A>>,
    alive: &mpsc::Sender<Infallible>,
    shutdown: &mut watch::Receiver<bool>,
) {
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(shutdown) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                failing = false;
                guard.admit(socket, peer, alive);
            }
            // No descriptor, no memory: the queue keeps the connection, and trying again at once would burn the processor.
            Err(error) if !is_of_the_connection(&error) => {
                if !failing {
                    tracing::warn!(listener = %guard.settings.name, %error, "cannot accept connections");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            Err(_) => {}
        }
    }
    // What is in the queue has been promised a connection by the kernel: serve what it has sent already.
    for _ in 0..BACKLOG {
        match timeout(Duration::ZERO, listener.accept()).await {
            Ok(Ok((socket, peer))) => guard.admit(socket, peer, alive),
            _ => break,
        }
    }
}

/// The client left while it was waiting in the queue.
fn is_of_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// One connection under the eye of the slow-reader watchdog.
async fn run<A: HttpServerApp + Send + Sync + 'static>(
    guard: Arc<Guard<A>>,
    socket: TcpStream,
    peer: SocketAddr,
    held: Arc<Held>,
) {
    let (wire, cut) = Wire::new(socket, peer, guard.acceptor.is_some());
    let digest = wire.get_socket_digest();
    let work = serve(&guard, wire, peer, &held);
    tokio::pin!(work);
    tokio::select! {
        biased;
        () = &mut work => return,
        () = slow_reader::watch(digest, cut.clone(), guard.settings.timeouts.write) => {}
    }
    guard.watch.cut("slow_reader");
    cut.now();
    // Polled once more, the work meets the cut and ends on its error path; what does not is dropped.
    let _ = timeout(CUT_GRACE, work).await;
}

async fn serve<A: HttpServerApp + Send + Sync + 'static>(
    guard: &Arc<Guard<A>>,
    wire: Wire,
    peer: SocketAddr,
    held: &Arc<Held>,
) {
    let shared = guard.shared(peer, Protocol::Http1);
    let Some(stream) = secure(guard, wire, &shared).await else { return };
    let http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
    if !http2 {
        let opened = Opened::new(&guard.watch, Protocol::Http1);
        let Some((rest, preface)) = http1::serve(guard, stream, &shared).await else { return };
        drop(opened);
        // Only a connection in the clear is asked for the preface, and there the stream is ours.
        let Ok(dated) = rest.into_any().downcast::<Dated<Wire>>() else { return };
        let mut wire = dated.into_inner();
        wire.give_back(preface);
        serve_http2(guard, Box::new(wire), peer, held).await;
    } else {
        serve_http2(guard, stream, peer, held).await;
    }
}

async fn serve_http2<A: HttpServerApp + Send + Sync + 'static>(
    guard: &Arc<Guard<A>>,
    stream: Stream,
    peer: SocketAddr,
    held: &Arc<Held>,
) {
    let shared = guard.shared(peer, Protocol::Http2);
    let _opened = Opened::new(&guard.watch, Protocol::Http2);
    http2::serve(guard, stream, &shared, held).await;
}

/// The TLS handshake, if any, under its deadline. What is to speak HTTP/1 can keep a date.
async fn secure<A: HttpServerApp + Send + Sync + 'static>(
    guard: &Guard<A>,
    wire: Wire,
    shared: &Arc<Shared>,
) -> Option<Stream> {
    let Some(acceptor) = &guard.acceptor else {
        return Some(Box::new(Dated::new(wire, Arc::clone(shared))));
    };
    let place = guard.stop.place();
    let shaken = tokio::select! {
        biased;
        shaken = timeout(guard.settings.timeouts.header, acceptor.tls_handshake(wire)) => shaken,
        () = guard.stop.wait(place) => return None,
    };
    let stream = shaken.ok().and_then(Result::ok);
    guard.watch.handshake(stream.is_some());
    let stream = stream?;
    if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
        return Some(Box::new(stream));
    }
    Some(Box::new(Dated::new(stream, Arc::clone(shared))))
}

/// Pairs [`Watch::opened`] with [`Watch::closed`].
struct Opened(Arc<dyn Watch>);

impl Opened {
    fn new(watch: &Arc<dyn Watch>, protocol: Protocol) -> Self {
        watch.opened(protocol);
        Self(Arc::clone(watch))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long a connection that waits for its next request stays open after a hand-over: longer than the pause between two requests of a
/// client that is at work, far shorter than `shutdown.grace`.
pub const LINGER: Duration = Duration::from_secs(5);
/// Between two tries while the system has no descriptor for us.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For the error path of a connection that was cut: logging, giving the upstream back.
const CUT_GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ListenerName;

    fn settings(address: SocketAddr) -> Settings {
        Settings::new(ListenerName::parse("public").expect("a name"), address)
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_that_names_it() {
        let first = bind(settings(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("a free port");
        assert_ne!(first.local_addr().port(), 0);
        let error = bind(settings(first.local_addr())).expect_err("taken");
        assert_eq!(error.address, first.local_addr());
        assert!(error.to_string().contains(&first.local_addr().to_string()), "{error}");
        assert_eq!(error.cause.kind(), std::io::ErrorKind::AddrInUse);
    }
}
