//! TLS and HTTP/2: clients, and an origin.

use std::net::SocketAddr;

use super::{PATIENCE, Setup};

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

/// An HTTP/2 origin without TLS that gives each request to `serve`.
pub fn h2_origin<F>(
    serve: impl Fn(http::Request<h2::RecvStream>, h2::server::SendResponse<bytes::Bytes>) -> F
    + Copy
    + Send
    + 'static,
) -> std::net::SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("set");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(serve(request, respond));
                    }
                });
            }
        });
    });
    address
}
