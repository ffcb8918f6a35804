//! What a client sends before its last request is answered: kept for its turn.
//!
//! While an answer is awaited the framework reads one byte, to notice a client that leaves. A byte that does come is the next request
//! sent early (RFC 9112 §9.3.2), or the first frame for a tunnel that is not open yet; the framework would end the exchange for it on
//! its own path, and lose the byte on ours. No other read of it has room for a single byte only, so that tells the question from a
//! read: it is answered with the end of the connection and with nothing else, and what came is given to the next real read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that came early. At most [`EARLY_BYTES`]: past that nothing is read, and the client waits for its answer.
#[derive(Debug, Default)]
pub(super) struct Early(BytesMut);

impl Early {
    /// Reads for the framework: what came early first.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 1 {
            return self.poll_end(io, cx);
        }
        if self.0.is_empty() {
            return Pin::new(io).poll_read(cx, buf);
        }
        let taken = self.0.len().min(buf.remaining());
        buf.put_slice(self.0.get(..taken).unwrap_or_default());
        self.0.advance(taken);
        if self.0.is_empty() {
            self.0 = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Ready once the client has left.
    fn poll_end<S: AsyncRead + Unpin>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Where no more is read nothing wakes this: the answer does, or its failure to be written.
        while self.0.len() < EARLY_BYTES {
            let mut piece = [0; PIECE_BYTES];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.0.extend_from_slice(piece.filled());
        }
        Poll::Pending
    }
}

const EARLY_BYTES: usize = 16 * 1024;
const PIECE_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// A client that has sent this, and then waits or has left.
    struct Client {
        sent: BytesMut,
        left: bool,
    }

    impl AsyncRead for Client {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.sent.is_empty() && !self.left {
                return Poll::Pending;
            }
            let taken = self.sent.len().min(buf.remaining());
            buf.put_slice(&self.sent.split_to(taken));
            Poll::Ready(Ok(()))
        }
    }

    fn read(early: &mut Early, client: &mut Client, room: usize) -> Poll<Vec<u8>> {
        let mut bytes = vec![0; room];
        let mut buf = ReadBuf::new(&mut bytes);
        let polled = early.poll_read(client, &mut Context::from_waker(Waker::noop()), &mut buf);
        polled.map(|read| read.map(|()| buf.filled().to_vec()).expect("no error"))
    }

    fn client(sent: &[u8]) -> Client {
        Client { sent: sent.into(), left: false }
    }

    #[test]
    fn what_comes_early_is_no_answer_to_whether_the_client_left() {
        let (mut early, mut client) = (Early::default(), client(b"GET / HTTP/1.1\r\n"));
        assert_eq!(read(&mut early, &mut client, 1), Poll::Pending);
        client.sent.extend_from_slice(b"\r\n");
        assert_eq!(read(&mut early, &mut client, 1), Poll::Pending);
        assert_eq!(read(&mut early, &mut client, 6), Poll::Ready(b"GET / ".to_vec()), "in its turn");
        assert_eq!(read(&mut early, &mut client, 64), Poll::Ready(b"HTTP/1.1\r\n\r\n".to_vec()));
        client.sent.extend_from_slice(b"later");
        assert_eq!(read(&mut early, &mut client, 64), Poll::Ready(b"later".to_vec()));
    }

    #[test]
    fn the_end_of_the_connection_is_told_whatever_came_before() {
        for sent in [&b""[..], b"GET / HTTP/1.1\r\n\r\n"] {
            let (mut early, mut client) = (Early::default(), client(sent));
            assert_eq!(read(&mut early, &mut client, 1), Poll::Pending);
            client.left = true;
            assert_eq!(read(&mut early, &mut client, 1), Poll::Ready(Vec::new()));
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut early, mut client) = (Early::default(), client(&vec![b'x'; 1 << 20]));
        assert_eq!(read(&mut early, &mut client, 1), Poll::Pending);
        assert!(early.0.len() <= EARLY_BYTES + PIECE_BYTES, "{}", early.0.len());
        let left = client.sent.len();
        assert_eq!(read(&mut early, &mut client, 1), Poll::Pending);
        assert_eq!(client.sent.len(), left, "the rest waits with the client");
    }
}
