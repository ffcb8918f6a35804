//! The socket as the framework sees it: buffered, able to give bytes back, and able to be cut.
//!
//! The framework's own accept path sizes the buffers of its stream, but not for a stream made by us, so the buffers are here.
//! A cut makes every read and write fail at once: the request ends on the framework's ordinary error path, with its hooks.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pingora::protocols::l4::stream::Stream as TcpStream;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, ReadBuf};

/// Ends a connection from outside its future. The future must be polled once more to notice.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cut: AtomicBool,
    closed: AtomicBool,
}

impl Cut {
    /// From now on every read and write fails.
    pub(super) fn now(&self) {
        // Relaxed: the flag guards no other memory, and the polling task sees it at its next poll or a later one.
        self.0.cut.store(true, Ordering::Relaxed);
    }

    /// Whether the socket is closed: its descriptor may be another connection's by now. Exact for the task that owns the
    /// socket, which is the one that asks.
    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    fn check(&self) -> io::Result<()> {
        if self.0.cut.load(Ordering::Relaxed) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Wire {
    io: BufReader<BufWriter<TcpStream>>,
    /// Read before anything else.
    prefix: BytesMut,
    cut: Cut,
}

impl Wire {
    /// Takes over an accepted socket. `tls` chooses the read buffer: TLS reads in small pieces, HTTP in the clear in large
    /// ones that pass a small buffer by.
    pub(super) fn new(socket: tokio::net::TcpStream, peer: SocketAddr, tls: bool) -> (Self, Cut) {
        let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
        // Known from accept: the framework need not ask the kernel again. The cell is new, so it cannot be full.
        let _ = digest.peer_addr.set(Some(pingora::protocols::l4::socket::SocketAddr::Inet(peer)));
        let mut stream = TcpStream::from(socket);
        stream.set_socket_digest(digest);
        let read_bytes = if tls { TLS_READ_BYTES } else { PLAIN_READ_BYTES };
        let io = BufReader::with_capacity(read_bytes, BufWriter::with_capacity(WRITE_BYTES, stream));
        let cut = Cut::default();
        (Self { io, prefix: BytesMut::new(), cut: cut.clone() }, cut)
    }

    /// Puts bytes back, to be read first.
    pub(super) fn give_back(&mut self, bytes: BytesMut) {
        if self.prefix.is_empty() {
            self.prefix = bytes;
        } else {
            let rest = std::mem::replace(&mut self.prefix, bytes);
            self.prefix.extend_from_slice(&rest);
        }
    }

    fn stream(&self) -> &TcpStream {
        self.io.get_ref().get_ref()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut.0.closed.store(true, Ordering::Relaxed);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.cut.check()?;
        if !self.prefix.is_empty() {
            let taken = self.prefix.len().min(buf.remaining());
            buf.put_slice(self.prefix.get(..taken).unwrap_or_default());
            self.prefix.advance(taken);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.cut.check()?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cut.check()?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cut.check()?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.cut.check()?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[async_trait::async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        // The peer may be gone already; there is nobody to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.stream().id()
    }
}

impl Ssl for Wire {}

impl Peek for Wire {}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream().get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream().get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream().get_write_pending_time()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream().get_proxy_digest()
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream().get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.io.get_mut().get_mut().set_socket_digest(digest);
    }
}

/// One TLS record is at most this large: one system call for each.
const TLS_READ_BYTES: usize = 16 * 1024;
/// Smaller than any read that we or the framework issue.
const PLAIN_READ_BYTES: usize = 512;
/// Head and small body leave together, larger writes pass by. The framework takes 1460, one segment: with the fields that we add, an
/// answer of 1 KiB is larger and would cost two system calls.
const WRITE_BYTES: usize = 4096;
