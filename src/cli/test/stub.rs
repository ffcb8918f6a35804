//! The upstreams of a case: each attempt of the gateway gets a unix socket of its own, behind which is the answer that is next.
//!
//! One socket per attempt makes it plain which answer belongs to which request, however many are under way. What arrives is kept as it
//! was sent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use super::masks::Masks;
use crate::names::UpstreamName;
use crate::plan::cases::{Answer, OneOrMany, Reply};
use crate::policy::told::counted;
use crate::upstream::{Dial, Stage};

/// What an upstream got, secrets by name.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which upstream.
    pub upstream: String,
    /// The request; `None`: the connection was refused, or nobody said what to answer.
    pub request: Option<Got>,
}

/// A request as an upstream got it, secrets by name.
#[derive(Debug, Clone)]
pub struct Got {
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// What stands behind `?`.
    pub query: Option<String>,
    /// Fields in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

type Answers = BTreeMap<String, OneOrMany<Answer>>;

/// What is answered, and how much of it was used up.
#[derive(Default)]
struct Script {
    case: Answers,
    step: Answers,
    used_of_case: BTreeMap<String, usize>,
    used_of_step: BTreeMap<String, usize>,
}

/// Of the plan, known once it is compiled.
struct Known {
    masks: Masks,
    /// `timeouts.request` of each upstream.
    patience: BTreeMap<String, Duration>,
}

struct Inner {
    folder: PathBuf,
    next: AtomicUsize,
    known: OnceLock<Known>,
    script: Mutex<Script>,
    calls: Mutex<Vec<Call>>,
    /// What the case forgot to say.
    complaints: Mutex<Vec<String>>,
    /// How long upstreams took to answer, on the clock of the case.
    took: Mutex<Duration>,
}

/// All upstreams of one case. Cheap to clone.
#[derive(Clone)]
pub struct Stubs(Arc<Inner>);

impl Stubs {
    /// Upstreams whose sockets lie in `folder`, which is nobody else's.
    pub fn new(folder: &Path, case: &Answers) -> Self {
        Self(Arc::new(Inner {
            folder: folder.to_owned(),
            next: AtomicUsize::new(0),
            known: OnceLock::new(),
            script: Mutex::new(Script { case: case.clone(), ..Script::default() }),
            calls: Mutex::default(),
            complaints: Mutex::default(),
            took: Mutex::default(),
        }))
    }

    /// Tells what the plan hides and how long it waits. Before the first request.
    pub fn know(&self, masks: Masks, patience: BTreeMap<String, Duration>) {
        let _ = self.0.known.set(Known { masks, patience });
    }

    /// Begins a step with answers of its own.
    pub fn begin_step(&self, step: &Answers) {
        let mut script = self.0.script.lock();
        script.step = step.clone();
        script.used_of_step.clear();
    }

    /// What was received since the last time.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.0.calls.lock())
    }

    /// What the case forgot to say, since the last time.
    pub fn take_complaints(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.complaints.lock())
    }

    /// How much time the answers took, since the last time.
    pub fn take_time(&self) -> Duration {
        std::mem::take(&mut *self.0.took.lock())
    }
}

impl Stage for Stubs {
    fn dial(&self, upstream: &UpstreamName) -> Dial {
        let inner = &self.0;
        let number = inner.next.fetch_add(1, Ordering::Relaxed);
        let socket = inner.folder.join(number.to_string());
        let patience = inner.known.get().and_then(|known| known.patience.get(upstream.as_str())).copied();
        let patience = patience.unwrap_or(Duration::MAX);
        let call = {
            let mut calls = inner.calls.lock();
            calls.push(Call { upstream: upstream.to_string(), request: None });
            calls.len() - 1
        };
        let answer = match inner.script.lock().next(upstream.as_str()) {
            Ok(Answer::Reply(reply)) if reply.delay.is_some_and(|delay| delay.0 >= patience) => {
                Answer::Timeout
            }
            Ok(answer) => answer,
            Err(why) => {
                let mut complaints = inner.complaints.lock();
                if !complaints.contains(&why) {
                    complaints.push(why);
                }
                Answer::Refused
            }
        };
        let expires_in = matches!(answer, Answer::Timeout).then_some(SOON);
        match &answer {
            Answer::Timeout => *inner.took.lock() += patience,
            Answer::Reply(reply) => *inner.took.lock() += reply.delay.map_or(Duration::ZERO, |delay| delay.0),
            Answer::Refused => {}
        }
        match UnixListener::bind(&socket) {
            // A socket file that nobody listens at any more: that is a refused connection.
            Ok(listener) if matches!(answer, Answer::Refused) => drop(listener),
            Ok(listener) => {
                if let Err(why) = self.listen(listener, call, answer) {
                    inner.complaints.lock().push(format!("the stub of `{upstream}` cannot listen: {why}"));
                }
            }
            Err(why) => {
                inner.complaints.lock().push(format!("the stub of `{upstream}` cannot listen: {why}"))
            }
        }
        Dial { socket, expires_in }
    }
}

impl Stubs {
    fn listen(&self, listener: UnixListener, call: usize, answer: Answer) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let inner = self.0.clone();
        tokio::spawn(async move {
            let Ok((stream, _)) = listener.accept().await else { return };
            let service = service_fn(|request| answered(&inner, call, &answer, request));
            // A gateway that goes away in between is no mistake here: it may have had enough.
            let _ = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        Ok(())
    }
}

impl Script {
    fn next(&mut self, upstream: &str) -> Result<Answer, String> {
        let (answers, used) = match (self.step.get(upstream), self.case.get(upstream)) {
            (Some(answers), _) => (answers, &mut self.used_of_step),
            (None, Some(answers)) => (answers, &mut self.used_of_case),
            (None, None) => {
                return Err(format!(
                    "the upstream `{upstream}` is called, and no `stub` says what it answers"
                ));
            }
        };
        match answers {
            OneOrMany::One(answer) => Ok(answer.clone()),
            OneOrMany::Many(all) => {
                let at = used.entry(upstream.to_owned()).or_default();
                *at += 1;
                all.get(*at - 1).cloned().ok_or_else(|| {
                    let answers = counted(all.len() as u64, "answer");
                    format!(
                        "the upstream `{upstream}` is called once more, and its `stub` has {answers} only"
                    )
                })
            }
        }
    }
}

async fn answered(
    inner: &Inner,
    call: usize,
    answer: &Answer,
    request: http::Request<Incoming>,
) -> Result<http::Response<Part>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let shown =
        |text: &str| inner.known.get().map_or_else(|| text.to_owned(), |known| known.masks.shown(text));
    let got = Got {
        method: head.method.to_string(),
        path: shown(head.uri.path()),
        query: head.uri.query().map(shown),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), shown(&String::from_utf8_lossy(value.as_bytes()))))
            .collect(),
        body: shown(&String::from_utf8_lossy(&body)),
    };
    if let Some(call) = inner.calls.lock().get_mut(call) {
        call.request = Some(got);
    }
    match answer {
        Answer::Reply(reply) => Ok(response(inner, reply)),
        Answer::Timeout | Answer::Refused => std::future::pending().await,
    }
}

fn response(inner: &Inner, reply: &Reply) -> http::Response<Part> {
    let filled =
        |text: &str| inner.known.get().map_or_else(|| text.to_owned(), |known| known.masks.filled(text));
    let (body, media_type) = match (&reply.json, &reply.body) {
        (Some(json), _) => (filled(&json.to_string()), Some("application/json")),
        (None, Some(text)) => (filled(text), None),
        (None, None) => (String::new(), None),
    };
    let broken = reply.broken.unwrap_or(false);
    let mut response = http::Response::new(Part::of(body, broken));
    if let Some(status) = reply.status.and_then(|status| http::StatusCode::from_u16(status).ok()) {
        *response.status_mut() = status;
    }
    let length = response.body().declared;
    let headers = response.headers_mut();
    for (name, values) in &reply.headers {
        for value in values.as_slice() {
            // Checked when the case was read.
            if let (Ok(name), Ok(value)) =
                (http::HeaderName::try_from(name.as_str()), http::HeaderValue::try_from(filled(value)))
            {
                headers.append(name, value);
            }
        }
    }
    if let Some(media_type) = media_type
        && !headers.contains_key(http::header::CONTENT_TYPE)
    {
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    }
    if broken {
        headers.insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(length));
    }
    response
}

/// A body, or the first half of one that breaks.
struct Part {
    bytes: Option<Bytes>,
    breaks: bool,
    paused: bool,
    declared: usize,
}

impl Part {
    fn of(text: String, breaks: bool) -> Self {
        let whole = Bytes::from(text);
        let declared = whole.len().max(usize::from(breaks));
        let bytes = if breaks { whole.slice(..whole.len() / 2) } else { whole };
        Self { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), breaks, paused: false, declared }
    }
}

impl Body for Part {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.bytes.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.breaks && !self.paused => {
                // A pause makes the connection send what it has: what breaks is an answer that was begun.
                self.paused = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None if self.breaks => Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into()))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && !self.breaks
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match &self.bytes {
            _ if self.breaks => hyper::body::SizeHint::default(),
            Some(bytes) => hyper::body::SizeHint::with_exact(bytes.len() as u64),
            None => hyper::body::SizeHint::with_exact(0),
        }
    }
}

/// How soon an exchange is over its time whose upstream never answers.
const SOON: Duration = Duration::from_millis(20);
