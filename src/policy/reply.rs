//! The only builder of answers of our own: problem documents (RFC 9457), small HTML where a browser asks, fixed answers.
//!
//! A reply is made of a status, a stable code and fixed words. It cannot be made from an error's text, so nothing that an
//! upstream or a parser said can reach a client through it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use crate::exchange::RequestId;

/// The body of a reply.
#[derive(Debug, Clone)]
pub enum Body {
    /// A problem document, or HTML that says the same.
    Problem,
    /// Fixed bytes with their media type.
    Fixed {
        /// `Content-Type`.
        media_type: HeaderValue,
        /// What is sent.
        bytes: Bytes,
    },
    /// No body.
    Empty,
}

/// An answer that the gateway makes itself.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// A stable, machine-readable word: the problem document's `code`.
    pub code: &'static str,
    /// Fields beside those that every answer has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Body,
}

/// What is written: the finished head and body.
pub struct Rendered {
    /// Status and fields, `Content-Length` among them.
    pub head: ResponseHeader,
    /// The body, possibly empty.
    pub body: Bytes,
}

impl Reply {
    /// A problem with its code.
    #[must_use]
    pub fn problem(status: StatusCode, code: &'static str) -> Self {
        Self { status, code, headers: Vec::new(), body: Body::Problem }
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Head and body for this client.
    ///
    /// `request_id` is left out where the answer may be stored and given to somebody else.
    ///
    /// # Errors
    /// When the head cannot be built, which fixed words do not cause.
    pub fn render(
        &self,
        wants_html: bool,
        route: Option<&str>,
        request_id: Option<&RequestId>,
    ) -> pingora::Result<Rendered> {
        let mut head = ResponseHeader::build_no_case(self.status, Some(self.headers.len() + 4))?;
        for (name, value) in &self.headers {
            head.append_header(name.clone(), value.clone())?;
        }
        let body = match &self.body {
            Body::Problem if wants_html => {
                head.insert_header(http::header::CONTENT_TYPE, "text/html; charset=utf-8")?;
                Bytes::from(self.html(request_id))
            }
            Body::Problem => {
                head.insert_header(http::header::CONTENT_TYPE, "application/problem+json")?;
                Bytes::from(self.document(route, request_id))
            }
            Body::Fixed { media_type, bytes } => {
                head.insert_header(http::header::CONTENT_TYPE, media_type.clone())?;
                bytes.clone()
            }
            Body::Empty => Bytes::new(),
        };
        if matches!(self.body, Body::Problem) {
            head.insert_header(http::header::CACHE_CONTROL, "no-store")?;
        }
        let may_have_a_body =
            self.status != StatusCode::NO_CONTENT && self.status != StatusCode::NOT_MODIFIED;
        if may_have_a_body {
            head.insert_header(http::header::CONTENT_LENGTH, body.len())?;
        }
        Ok(Rendered { head, body })
    }

    fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    fn document(&self, route: Option<&str>, request_id: Option<&RequestId>) -> String {
        let mut document = serde_json::json!({
            "type": "about:blank",
            "title": self.title(),
            "status": self.status.as_u16(),
            "code": self.code,
        });
        if let Some(members) = document.as_object_mut() {
            if let Some(route) = route {
                members.insert("route".into(), route.into());
            }
            if let Some(id) = request_id {
                members.insert("requestId".into(), id.as_str().into());
            }
        }
        let mut text = document.to_string();
        text.push('\n');
        text
    }

    fn html(&self, request_id: Option<&RequestId>) -> String {
        let status = self.status.as_u16();
        let title = self.title();
        let id = request_id.map(|id| format!("<p>Request {}</p>", id.as_str())).unwrap_or_default();
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status} {title}</title>\
             <style>body{{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:32em;padding:0 1em}}\
             p{{color:#667}}</style><h1>{status} {title}</h1>{id}</html>\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_gets_a_problem_document() {
        let reply = Reply::problem(StatusCode::NOT_FOUND, "no_route");
        let rendered = reply.render(false, Some("weather"), None).expect("fixed words");
        let value: serde_json::Value = serde_json::from_slice(&rendered.body).expect("JSON");
        assert_eq!(value["status"], 404);
        assert_eq!(value["code"], "no_route");
        assert_eq!(value["route"], "weather");
        assert_eq!(rendered.head.headers["content-type"], "application/problem+json");
        assert_eq!(rendered.head.headers["content-length"], rendered.body.len().to_string());
    }

    #[test]
    fn a_browser_gets_html() {
        let rendered =
            Reply::problem(StatusCode::BAD_GATEWAY, "x").render(true, None, None).expect("fixed words");
        assert!(rendered.body.starts_with(b"<!doctype html>"));
    }

    #[test]
    fn no_content_has_no_length() {
        let reply = Reply { status: StatusCode::NO_CONTENT, code: "", headers: vec![], body: Body::Empty };
        let rendered = reply.render(false, None, None).expect("fixed words");
        assert!(!rendered.head.headers.contains_key("content-length"), "RFC 9110 §8.6");
    }
}
