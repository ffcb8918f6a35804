//! What the guard answers by itself: a small problem document (RFC 9457), no product name, and a close that the client can
//! see.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::v2::server::HttpSession as Http2Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A decision: this request goes no further. Carries fixed words only, nothing from the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// The status of the answer.
    pub(super) status: StatusCode,
    /// The stable code of the answer.
    pub(super) reason: &'static str,
}

impl Refused {
    pub(super) const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }

    pub(super) const fn bad(reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    fn body(self) -> String {
        format!(
            r#"{{"type":"about:blank","title":"{}","status":{},"code":"{}"}}"#,
            self.title(),
            self.status.as_u16(),
            self.reason
        )
    }

    fn title(self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }
}

/// Whether the answer has a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// As ever.
    Full,
    /// The request is a HEAD (RFC 9110 §9.3.2).
    HeadOnly,
}

/// Answers on an HTTP/1 connection and closes it. All of it is bounded in time and bytes.
pub(super) async fn http1(mut stream: Stream, refused: Refused, content: Content) {
    // A client that neither reads nor closes is dropped at the end of the bound.
    let _ = tokio::time::timeout(ANSWER_WITHIN, async {
        let text = head_and_body(refused, content);
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await?;
        AsyncWriteExt::shutdown(&mut stream).await?;
        drain(&mut stream).await
    })
    .await;
}

fn head_and_body(refused: Refused, content: Content) -> String {
    let body = refused.body();
    let allow = if refused.status == StatusCode::METHOD_NOT_ALLOWED {
        format!("Allow: {ALLOWED}\r\n")
    } else {
        String::new()
    };
    let mut text = format!(
        "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: {PROBLEM}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{allow}Connection: close\r\n\r\n",
        refused.status.as_u16(),
        refused.title(),
        httpdate::fmt_http_date(SystemTime::now()),
        body.len(),
    );
    if content == Content::Full {
        text.push_str(&body);
    }
    text
}

/// Reads away what the client is still sending: closing with unread bytes resets the connection, and the reset may overtake
/// the answer.
async fn drain(stream: &mut Stream) -> std::io::Result<()> {
    let mut scrap = [0u8; 2048];
    let mut left = DRAIN_BYTES;
    while left > 0 {
        match stream.read(&mut scrap).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// Answers one HTTP/2 stream; its siblings are not concerned.
pub(super) async fn http2(mut session: Http2Session, refused: Refused, content: Content) {
    let body = refused.body();
    let Ok(head) = http2_head(refused, body.len()) else { return };
    let ends = content == Content::HeadOnly;
    // The client may have reset the stream already; there is nobody to tell.
    if session.write_response_header(Box::new(head), ends).is_ok() && !ends {
        let _ = tokio::time::timeout(ANSWER_WITHIN, session.write_body(Bytes::from(body), true)).await;
    }
}

fn http2_head(refused: Refused, length: usize) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build_no_case(refused.status, Some(5))?;
    head.insert_header(http::header::CONTENT_TYPE, PROBLEM)?;
    head.insert_header(http::header::CONTENT_LENGTH, length)?;
    head.insert_header(http::header::CACHE_CONTROL, "no-store")?;
    if refused.status == StatusCode::METHOD_NOT_ALLOWED {
        head.insert_header(http::header::ALLOW, ALLOWED)?;
    }
    Ok(head)
}

/// RFC 9457 §3.
const PROBLEM: &str = "application/problem+json";
/// A 405 must name what is allowed (RFC 9110 §15.5.6); a route may allow less.
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// For writing the answer and for draining, together.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How much of an unwanted request is read away.
const DRAIN_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_problem_document_that_closes_and_names_nobody() {
        let text = head_and_body(Refused::bad("bare_lf"), Content::Full);
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        assert!(!text.to_ascii_lowercase().contains("server:"), "{text}");
        let body = text.split("\r\n\r\n").nth(1).expect("a body");
        let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(value["code"], "bare_lf");
        assert_eq!(value["status"], 400);
        assert!(text.contains(&format!("Content-Length: {}\r\n", body.len())), "{text}");
    }

    #[test]
    fn a_405_names_what_is_allowed() {
        let refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method_refused");
        assert!(head_and_body(refused, Content::Full).contains("\r\nAllow: GET, "));
    }

    #[test]
    fn a_head_request_gets_no_body() {
        assert!(head_and_body(Refused::bad("bare_lf"), Content::HeadOnly).ends_with("\r\n\r\n"));
    }
}
