//! The web app of the demo: one page that calls the vendor through the gate, and the ordinary things an app does.
//!
//! Behind the gate it must work as it does without: a login cookie, its own 404 page, a redirect to a foreign site, an
//! upload, a WebSocket. It knows nothing of the vendor: the page asks its own origin for `/api/...`, and only the gateway can
//! answer that. Sessions live in memory and end with the process.

use std::collections::VecDeque;
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes, Incoming};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;

use super::answer::{self, Answer, fingerprint, parameter};
use super::websocket;

/// Serves the web app until the future is dropped.
pub async fn webapp(listener: TcpListener) {
    let app = Arc::new(WebApp::default());
    answer::serve(listener, move |request| {
        let app = Arc::clone(&app);
        async move { app.answer(request).await }
    })
    .await;
}

/// The largest upload: what the gateway allows to an app by default.
const MAX_UPLOAD_BYTES: usize = 16 << 20;

/// The largest login form.
const MAX_FORM_BYTES: usize = 4 << 10;

/// Sessions kept; the oldest one goes first.
const MAX_SESSIONS: usize = 1_024;

/// The longest name that is remembered, in characters.
const MAX_NAME_CHARS: usize = 40;

/// Where `/away` leads: a site that is neither the app nor the vendor. The gate must leave it alone.
const FOREIGN_SITE: &str = "https://partner.example/welcome?from=demo";

/// Everything the page needs comes from its own origin; the style is in the page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; \
                                       img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Default)]
struct WebApp {
    /// `(session, name)`, oldest first. A demo has few, so a search is enough.
    sessions: Mutex<VecDeque<(String, String)>>,
}

impl WebApp {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_post = *request.method() == Method::POST;
        let mut answer = match request.uri().path() {
            "/" if is_read => answer::html(StatusCode::OK, PAGE),
            "/app.js" if is_read => {
                answer::with_type(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT)
            }
            "/login" if is_post => self.login(request).await,
            "/logout" if is_post => self.logout(request.headers()),
            "/account" if is_read => self.account(request.headers()),
            "/away" if is_read => answer::redirect(StatusCode::FOUND, FOREIGN_SITE),
            "/upload" if is_post => upload(request).await,
            "/seen" => seen(&request),
            "/ws" => return websocket::upgrade(request),
            "/" | "/app.js" | "/login" | "/logout" | "/account" | "/away" | "/upload" => {
                note(StatusCode::METHOD_NOT_ALLOWED, "Not this way", "This address takes another method.")
            }
            _ => note(
                StatusCode::NOT_FOUND,
                "This page is not here",
                "The demo app has no such page. The answer is its own: the gate lets an app's errors pass.",
            ),
        };
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        answer
    }

    async fn login(&self, request: Request<Incoming>) -> Answer {
        let Some(form) = whole(request, MAX_FORM_BYTES).await else {
            return note(StatusCode::PAYLOAD_TOO_LARGE, "Too much", "A name is shorter than that.");
        };
        let name = parameter(&String::from_utf8_lossy(&form), "name").unwrap_or_default();
        let name: String = name.trim().chars().take(MAX_NAME_CHARS).collect();
        if name.is_empty() {
            return note(StatusCode::BAD_REQUEST, "A name, please", "The form was empty.");
        }
        let session = uuid::Uuid::now_v7().simple().to_string();
        let mut answer = answer::redirect(StatusCode::SEE_OTHER, "/account");
        let cookie = format!("session={session}; Path=/; HttpOnly; SameSite=Lax");
        answer::set(&mut answer, header::SET_COOKIE, &cookie);
        let mut sessions = self.sessions.lock();
        sessions.push_back((session, name));
        if sessions.len() > MAX_SESSIONS {
            sessions.pop_front();
        }
        answer
    }

    fn logout(&self, headers: &HeaderMap) -> Answer {
        if let Some(session) = session_of(headers) {
            self.sessions.lock().retain(|(known, _)| *known != session);
        }
        let mut answer = answer::redirect(StatusCode::SEE_OTHER, "/");
        answer::set(&mut answer, header::SET_COOKIE, "session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
        answer
    }

    fn account(&self, headers: &HeaderMap) -> Answer {
        let session = session_of(headers);
        let sessions = self.sessions.lock();
        let name = sessions.iter().find(|(known, _)| Some(known) == session.as_ref()).map(|(_, name)| name);
        match name {
            Some(name) => note(
                StatusCode::OK,
                &format!("Signed in as {name}"),
                "Your login cookie came through the gate.",
            ),
            None => note(StatusCode::UNAUTHORIZED, "Please sign in", "This page needs the login cookie."),
        }
    }
}

fn session_of(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix("session=").map(str::to_owned))
}

/// The size and fingerprint of what arrived, so that the sender can tell whether it was all of it.
async fn upload(request: Request<Incoming>) -> Answer {
    match whole(request, MAX_UPLOAD_BYTES).await {
        Some(body) => {
            answer::json(StatusCode::OK, &json!({ "bytes": body.len(), "fnv1a": fingerprint(&body) }))
        }
        None => answer::json(StatusCode::PAYLOAD_TOO_LARGE, &json!({ "error": "16 MiB is the most" })),
    }
}

/// The request as it reached the app, cookies hidden: shows what a gate adds (`X-Forwarded-For` and the like).
fn seen(request: &Request<Incoming>) -> Answer {
    let headers = answer::header_pairs(request.headers(), |name: &HeaderName, value| match *name {
        header::COOKIE => "(cookies)".to_owned(),
        _ => value.to_owned(),
    });
    let target = request.uri().to_string();
    answer::json(
        StatusCode::OK,
        &json!({ "method": request.method().as_str(), "target": target, "headers": headers }),
    )
}

async fn whole(request: Request<Incoming>, max_bytes: usize) -> Option<Bytes> {
    let body = request.into_body();
    if body.size_hint().lower() > max_bytes as u64 {
        return None;
    }
    Limited::new(body, max_bytes).collect().await.ok().map(|body| body.to_bytes())
}

/// A small page with one message, in the app's own look.
fn note(status: StatusCode, title: &str, text: &str) -> Answer {
    let page = NOTE.replace("{title}", &escaped(title)).replace("{text}", &escaped(text));
    answer::html(status, page)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // The page is made by replacing `{...}`: text must not look like one.
            '{' => out.push_str("&#123;"),
            other => out.push(other),
        }
    }
    out
}

const PAGE: &str = include_str!("page/index.html");
const SCRIPT: &str = include_str!("page/app.js");
const NOTE: &str = include_str!("page/note.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_carry_markup_into_the_page() {
        let page = escaped("<script>{text}'\"&");
        assert_eq!(page, "&lt;script&gt;&#123;text}&#39;&quot;&amp;");
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("theme=dark; session=abc"));
        assert_eq!(session_of(&headers).as_deref(), Some("abc"));
        headers.insert(header::COOKIE, HeaderValue::from_static("my_session=abc"));
        assert_eq!(session_of(&headers), None, "another cookie whose name ends the same is not ours");
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        for text in [PAGE, SCRIPT, NOTE] {
            assert!(!text.contains("http://") && !text.contains("https://"), "no address of another origin");
        }
    }
}
