//! From the store to the client: its conditions, the part it asks for, the body in slices.

use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use crate::cache::conditions::{self, Condition};
use crate::cache::ranges::{self, Multipart, Selection};
use crate::cache::terms::Terms;
use crate::cache::{Found, HitHandler};
use crate::exchange::content_length;
use crate::policy::{Fault, Reply};
use crate::proxy::{Ctx, held, respond, response};
use crate::telemetry::labels::LocalReason;

/// What of a whole answer this client gets. The head is changed to suit.
pub enum View {
    /// All of it.
    Whole,
    /// The head alone: what the client has still holds (304), or its range lies outside (416).
    Head,
    /// 412: its condition does not hold.
    Failed,
    /// One part.
    One(std::ops::Range<u64>),
    /// Several parts.
    Many(Multipart),
}

/// How many parts of a body can be cut out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// One, as the body passes by.
    One,
    /// Several: the body is all there.
    Several,
}

/// Applies the client's conditions and ranges to the head of a whole answer, of so many bytes where that is known (RFC 9110 §13, §14).
pub fn view(session: &Session, head: &mut ResponseHeader, length: Option<u64>, parts: Parts) -> View {
    let request = session.req_header();
    match conditions::evaluate(&request.method, &request.headers, head) {
        Condition::Met => {}
        Condition::NotModified => {
            *head = conditions::not_modified(head);
            return View::Head;
        }
        Condition::Failed => return View::Failed,
    }
    let Some(length) = length else { return View::Whole };
    match ranges::select(&request.method, &request.headers, head, length) {
        Selection::Whole => View::Whole,
        Selection::One(range) => {
            ranges::one(head, &range, length);
            View::One(range)
        }
        // A server may ignore a range (RFC 9110 §14.2).
        Selection::Many(_) if parts == Parts::One => View::Whole,
        Selection::Many(ranges) => {
            let multipart =
                Multipart::new(head.headers.get(header::CONTENT_TYPE), ranges, length, boundary());
            multipart.head(head);
            View::Many(multipart)
        }
        Selection::Unsatisfiable => {
            ranges::unsatisfiable(head, length);
            View::Head
        }
    }
}

/// What separates parts: nobody can put it into a body beforehand.
fn boundary() -> u128 {
    let random = || u128::from(RandomState::new().hash_one(0));
    (random() << 64) | random()
}

/// The parts of a body that is all there, with what stands between them.
#[must_use]
pub fn parts_of(body: &Bytes, multipart: &Multipart) -> Bytes {
    let mut all = BytesMut::new();
    for (index, range) in multipart.ranges().iter().enumerate() {
        all.extend_from_slice(&multipart.part(index));
        all.extend_from_slice(&part_of(body, 0, range));
    }
    all.extend_from_slice(&multipart.end());
    all.freeze()
}

/// The bytes of a piece that begins at `at` which belong to a range.
#[must_use]
pub fn part_of(piece: &Bytes, at: u64, range: &std::ops::Range<u64>) -> Bytes {
    let inside =
        |position: u64| usize::try_from(position.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len());
    let (from, until) = (inside(range.start), inside(range.end));
    piece.slice(from..until.max(from))
}

/// Sends what was found.
///
/// # Errors
/// When the client is gone, or the rest of a body that is still being filled does not come: the connection is cut.
pub async fn serve(session: &mut Session, ctx: &mut Ctx, found: Found) -> pingora::Result<()> {
    let Found { mut meta, body } = found;
    // Taken, not copied: the meta was made for this request.
    let mut head = std::mem::replace(meta.response_header_mut(), ResponseHeader::build_no_case(200, None)?);
    let now = SystemTime::now();
    let age = now.duration_since(meta.epoch()).unwrap_or_default();
    head.insert_header(header::AGE, age.as_secs())?;
    if head.status == StatusCode::OK && body.can_seek() {
        // A hint, whatever the origin can do: the parts are cut here (RFC 9110 §14.3).
        head.insert_header(header::ACCEPT_RANGES, "bytes")?;
    }
    let part = Terms::of(&meta).part;
    let length = match part {
        Some(part) => Some(part.total),
        None => content_length(&head.headers),
    };
    let begins = part.map_or(0, |part| part.first);
    let parts = if body.can_seek() { Parts::Several } else { Parts::One };
    let view = view(session, &mut head, length, parts);
    if matches!(view, View::Failed) {
        return precondition_failed(session, ctx).await;
    }
    response::filter(session, &mut head, ctx)?;
    let bodiless = session.req_header().method == Method::HEAD
        // Nobody reads what a refresh would be given.
        || ctx.background
        || matches!(view, View::Head)
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || length == Some(0);
    if length.is_none() && !bodiless && response::takes_chunks(session) {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    session.write_response_header(Box::new(head), bodiless).await?;
    if bodiless {
        return session.write_response_body(None, true).await;
    }
    let sent = send_body(session, ctx, (body, begins), &view).await;
    if sent.is_err() {
        session.set_keepalive(None);
    }
    sent
}

/// 412, for a condition that what is stored does not meet (RFC 9110 §15.5.13).
///
/// # Errors
/// When the client cannot be written to.
pub async fn precondition_failed(session: &mut Session, ctx: &mut Ctx) -> pingora::Result<()> {
    let reply = Reply::problem(StatusCode::PRECONDITION_FAILED, "precondition_failed");
    respond::send(session, ctx, &reply, LocalReason::Precondition).await
}

async fn send_body(
    session: &mut Session,
    ctx: &mut Ctx,
    (mut body, begins): (HitHandler, u64),
    view: &View,
) -> pingora::Result<()> {
    match view {
        View::Many(multipart) => {
            for (index, range) in multipart.ranges().iter().enumerate() {
                write(session, ctx, multipart.part(index)).await?;
                send_range(session, ctx, (&mut body, begins), range).await?;
            }
            write(session, ctx, multipart.end()).await?;
        }
        View::One(range) => send_range(session, ctx, (&mut body, begins), range).await?,
        View::Whole | View::Head | View::Failed => {
            while let Some(piece) = read(ctx, &mut body).await? {
                write(session, ctx, piece).await?;
            }
        }
    }
    session.write_response_body(None, true).await
}

/// Seeks where the object is whole; reads up to the range where it is still being filled. The body begins at that place of the whole.
async fn send_range(
    session: &mut Session,
    ctx: &mut Ctx,
    (body, begins): (&mut HitHandler, u64),
    range: &std::ops::Range<u64>,
) -> pingora::Result<()> {
    let place = |position: u64| usize::try_from(position.saturating_sub(begins)).unwrap_or(usize::MAX);
    let mut at = begins;
    if body.can_seek() {
        body.seek(place(range.start), Some(place(range.end)))?;
        at = range.start;
    }
    while at < range.end {
        let Some(piece) = read(ctx, body).await? else { break };
        let part = part_of(&piece, at, range);
        at += piece.len() as u64;
        if !part.is_empty() {
            write(session, ctx, part).await?;
        }
    }
    Ok(())
}

async fn read(ctx: &mut Ctx, body: &mut HitHandler) -> pingora::Result<Option<Bytes>> {
    match body.read_body().await {
        Ok(piece) => Ok(piece),
        Err(_) => {
            // The fill that this client read along with has died: an end would make a part look like the whole.
            ctx.fault = Some(Fault::Connection);
            held::error(Fault::Connection)
        }
    }
}

async fn write(session: &mut Session, ctx: &mut Ctx, piece: Bytes) -> pingora::Result<()> {
    ctx.response_bytes += piece.len() as u64;
    session.write_response_body(Some(piece), false).await
}
