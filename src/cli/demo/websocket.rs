//! A WebSocket that sends back what it gets (RFC 6455): enough for the demo page and for the proof that upgrades pass.
//!
//! Fragments are sent back as they came, one frame for each; there are no extensions. The framing is by hand because an echo
//! needs ten lines of it; only the key of the handshake is taken from `tungstenite`, which knows SHA-1.

use std::io;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::answer::{self, Answer};

/// The longest frame that is sent back.
const MAX_FRAME_BYTES: u64 = 1 << 20;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Answers an upgrade request (RFC 6455 §4.2) and echoes from then on. Anything else gets 426.
pub(super) fn upgrade(mut request: Request<Incoming>) -> Answer {
    let Some(accept) = accept_key(request.version(), request.headers()) else {
        let mut refused =
            answer::with_type(StatusCode::UPGRADE_REQUIRED, "text/plain", "this is a WebSocket\n");
        refused.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        return refused;
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(connection) = upgraded.await {
            // A peer that goes away or breaks the protocol ends its own echo; there is nobody to tell.
            let _ = echo(TokioIo::new(connection)).await;
        }
    });
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer::set(&mut answer, HeaderName::from_static("sec-websocket-accept"), &accept);
    answer
}

fn accept_key(version: Version, headers: &HeaderMap) -> Option<String> {
    let has = |name: HeaderName, token: &str| {
        let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    let is_handshake = version == Version::HTTP_11
        && has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_handshake)?;
    Some(derive_accept_key(key.as_bytes()))
}

/// Sends every data frame back until the peer closes.
///
/// # Errors
/// What the connection reports, or `InvalidData` for a frame that is not masked or too long.
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    loop {
        let (first, payload) = read_frame(&mut stream).await?;
        match first & OPCODE {
            PONG => {}
            PING => write_frame(&mut stream, FIN | PONG, &payload).await?,
            CLOSE => {
                write_frame(&mut stream, FIN | CLOSE, &payload).await?;
                return stream.shutdown().await;
            }
            _ => write_frame(&mut stream, first, &payload).await?,
        }
    }
}

/// One frame of a client (RFC 6455 §5.2): its first byte, and the payload without the mask.
async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(u8, Vec<u8>)> {
    let first = stream.read_u8().await?;
    let second = stream.read_u8().await?;
    let length = match second & !MASKED {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    if second & MASKED == 0 || length > MAX_FRAME_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    let size = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut payload = vec![0; size];
    stream.read_exact(&mut payload).await?;
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    Ok((first, payload))
}

/// One frame of a server: never masked.
async fn write_frame<S: AsyncWrite + Unpin>(stream: &mut S, first: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => frame.push(short),
        (_, Ok(middle)) => {
            frame.push(126);
            frame.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..=125 => frame.push(MASKED | u8::try_from(short).expect("short")),
            long => {
                frame.push(MASKED | 126);
                frame.extend_from_slice(&u16::try_from(long).expect("under 64 KiB").to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    /// What the echo sends for `sent`, and how it ended.
    async fn exchanged(sent: &[u8]) -> (Vec<u8>, io::Result<()>) {
        let (mut client, server) = tokio::io::duplex(1 << 17);
        client.write_all(sent).await.expect("room in the pipe");
        client.shutdown().await.expect("open pipe");
        let end = echo(server).await;
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.expect("readable pipe");
        (got, end)
    }

    #[tokio::test]
    async fn text_comes_back_without_a_mask() {
        let (got, _) = exchanged(&masked(FIN | 1, b"hello")).await;
        assert_eq!(got, [&[FIN | 1, 5], b"hello".as_slice()].concat());
    }

    #[tokio::test]
    async fn a_longer_frame_has_a_longer_length() {
        let (got, _) = exchanged(&masked(FIN | 2, &[7; 300])).await;
        assert_eq!(got.get(..4), Some([FIN | 2, 126, 1, 44].as_slice()));
        assert_eq!(got.len(), 304);
    }

    #[tokio::test]
    async fn a_ping_is_a_pong_and_a_close_ends() {
        let sent = [masked(FIN | PING, b"?"), masked(FIN | CLOSE, &[3, 232])].concat();
        let (got, end) = exchanged(&sent).await;
        assert_eq!(got, [FIN | PONG, 1, b'?', FIN | CLOSE, 2, 3, 232]);
        assert!(end.is_ok(), "a clean close is no error");
    }

    #[tokio::test]
    async fn a_frame_without_a_mask_ends_the_connection() {
        let (got, end) = exchanged(&[FIN | 1, 1, b'x']).await;
        assert!(got.is_empty(), "nothing is sent back");
        assert_eq!(end.expect_err("refused").kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_accept_key_is_the_rfcs() {
        let headers: HeaderMap = [
            (header::UPGRADE, "WebSocket"),
            (header::CONNECTION, "keep-alive, Upgrade"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ]
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect();
        // RFC 6455 §1.3.
        assert_eq!(accept_key(Version::HTTP_11, &headers).as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(accept_key(Version::HTTP_10, &headers), None);
    }
}
