//! Answers of the two demo servers, and the loop that serves them.
//!
//! These servers stand for programs that are not ours: nothing here is part of the gateway, and the gateway's own answers are
//! built elsewhere. Loopback only; no TLS, no HTTP/2.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::cli::percent::form_decoded;

/// A whole answer, ready to be sent.
pub(super) type Answer = Response<Full<Bytes>>;

/// Connections that one demo server holds at once; the next one waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 2048;

/// How long a client may take for a request's head. The gateway in front has its own, stricter deadline.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait before accepting again when the process has no free descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `handler` on `listener` until the future is dropped. An error of one connection ends that connection only.
pub(super) async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return; // The semaphore is never closed; if it were, nobody could be served.
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small answers: without this, a keep-alive pair of writes can wait 40 ms for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let handler = handler.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
            drop(permit);
        });
    }
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, value: &Value) -> Answer {
    let mut text = value.to_string();
    text.push('\n');
    with_type(status, "application/json", text)
}

/// An HTML answer.
pub(super) fn html(status: StatusCode, page: impl Into<Bytes>) -> Answer {
    with_type(status, "text/html; charset=utf-8", page)
}

/// An answer of any media type.
pub(super) fn with_type(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

/// A redirect without a body. A `location` that is no header value becomes a 500, which a test would see.
pub(super) fn redirect(status: StatusCode, location: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    match HeaderValue::from_str(location) {
        Ok(value) => {
            *answer.status_mut() = status;
            answer.headers_mut().insert(header::LOCATION, value);
        }
        Err(_) => *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    answer
}

/// Sets one header whose value was put together at run time; a value that cannot be one is left out.
pub(super) fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// The headers of a request as `[name, value]` pairs in the order they came, so that doubles stay visible.
pub(super) fn header_pairs(headers: &HeaderMap, shown: impl Fn(&HeaderName, &str) -> String) -> Value {
    let pairs = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        json!([name.as_str(), shown(name, &value)])
    });
    Value::Array(pairs.collect())
}

/// The value of `name` in a query or form, `+` and `%XX` decoded. The first one wins.
pub(super) fn parameter(text: &str, name: &str) -> Option<String> {
    text.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| form_decoded(value))
    })
}

/// FNV-1a over 64 bits: a short name for bytes, so that two values can be told apart without being shown. No protection
/// against someone who wants two that collide; the demo needs none.
pub(super) fn fingerprint(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_one_wins() {
        assert_eq!(parameter("a=1&city=S%C3%A3o+Paulo&city=x", "city").as_deref(), Some("São Paulo"));
        assert_eq!(parameter("city", "city").as_deref(), Some(""), "a name without a value is empty");
        assert_eq!(parameter("cityx=1", "city"), None);
        assert_eq!(parameter("city=100%", "city").as_deref(), Some("100%"), "a lone percent sign stays");
        assert_eq!(parameter("city=%zz", "city").as_deref(), Some("%zz"));
    }

    #[test]
    fn the_fingerprint_is_fnv_1a() {
        assert_eq!(fingerprint(b""), "cbf29ce484222325");
        assert_eq!(fingerprint(b"a"), "af63dc4c8601ec8c");
    }

    #[test]
    fn a_location_with_a_line_break_is_refused() {
        assert_eq!(redirect(StatusCode::FOUND, "/a\r\nx: y").status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
