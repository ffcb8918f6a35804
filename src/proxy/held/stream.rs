//! An answer that passes as it comes: stored for everybody, and sent to the client that asked.
//!
//! ```text
//!   upstream ──▶ pieces ──▶ store ──▶ those who read along, each at its own pace
//!                   └─────▶ queue ──▶ the client that asked, at its own pace too
//! ```
//!
//! Who leads a fetch is chance, and may be somebody who does not read: while the answer is stored, the upstream is read at the pace of the
//! store. What is not stored is read at the pace of its one client.

use std::ops::Range;

use bytes::Bytes;
use http::{Method, header};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;
use tokio::sync::mpsc;

use super::attempt::{Connection, while_client_waits};
use super::deliver::{drain, release};
use super::{Delivered, erase, error};
use crate::exchange::content_length;
use crate::policy::Fault;
use crate::proxy::cache::{Parts, Stretch, View};
use crate::proxy::{Ctx, Gateway, cache, response};

/// What is still to come of an answer.
pub(super) struct Pieces<'a> {
    /// Where it comes from.
    pub(super) connection: Connection,
    /// A piece that was read already.
    pub(super) first: Option<Bytes>,
    /// What takes the upstream's own origin out of it.
    pub(super) eraser: Option<erase::Stream<'a>>,
    /// What of a stored part goes before it.
    pub(super) before: Option<Stretch>,
    /// And after it.
    pub(super) after: Option<Stretch>,
}

impl Pieces<'_> {
    /// What comes over a connection, after what was read of it.
    pub(super) fn of(connection: Connection, first: Option<Bytes>) -> Self {
        Self { connection, first, eraser: None, before: None, after: None }
    }

    /// Whether the last piece was given.
    fn is_done(&mut self) -> bool {
        self.first.is_none() && self.eraser.is_none() && self.after.is_none() && self.connection.is_done()
    }

    /// The next piece as it may pass; `None` at the end. Never an empty one: an empty chunk would end the client's body.
    async fn next(&mut self, ctx: &mut Ctx) -> Result<Option<Bytes>, Fault> {
        if let Some(before) = &mut self.before {
            match before.next().await.map_err(|_| Fault::Internal)? {
                Some(piece) => return Ok(Some(piece)),
                None => self.before = None,
            }
        }
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Ok(Some(first));
        }
        loop {
            let chunk = self.connection.read(ctx).await?;
            let piece = match (chunk, self.eraser.as_mut()) {
                (Some(chunk), None) => chunk,
                (Some(chunk), Some(eraser)) => eraser.piece(&chunk),
                (None, None) => return self.end().await,
                (None, Some(eraser)) => {
                    let last = eraser.end();
                    ctx.exchange.erased.json += eraser.erased();
                    self.eraser = None;
                    if last.is_empty() {
                        return Ok(None);
                    }
                    last
                }
            };
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    /// After the upstream's last byte.
    async fn end(&mut self) -> Result<Option<Bytes>, Fault> {
        match &mut self.after {
            Some(after) => {
                let piece = after.next().await.map_err(|_| Fault::Internal)?;
                if piece.is_none() {
                    self.after = None;
                }
                Ok(piece)
            }
            None => Ok(None),
        }
    }
}

/// The client that asked.
struct Client {
    /// Not sent yet.
    head: Option<Box<ResponseHeader>>,
    /// It gets no body of this answer.
    bodiless: bool,
    /// It has been answered otherwise: the answer is for others alone.
    answered: bool,
    /// The part that it asked for.
    range: Option<Range<u64>>,
    /// Where the next piece begins.
    at: u64,
    sent_bytes: u64,
    /// Whether it can be written to.
    state: pingora::Result<()>,
}

impl Client {
    async fn begin(&mut self, session: &mut Session) {
        if let Some(head) = self.head.take() {
            self.state = session.write_response_header(head, self.bodiless).await;
        }
    }

    async fn take(&mut self, session: &mut Session, piece: Bytes) {
        let at = self.at;
        self.at += piece.len() as u64;
        if self.bodiless || self.answered || self.state.is_err() {
            return;
        }
        let part = match &self.range {
            Some(range) => cache::part_of(&piece, at, range),
            None => piece,
        };
        if !part.is_empty() {
            self.sent_bytes += part.len() as u64;
            self.state = session.write_response_body(Some(part), false).await;
        }
    }

    /// Whether it needs nothing more of the body.
    fn has_all(&self) -> bool {
        self.answered || self.bodiless || self.range.as_ref().is_some_and(|range| self.at >= range.end)
    }

    async fn end(mut self, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<Delivered> {
        ctx.response_bytes += self.sent_bytes;
        if self.state.is_ok() && !self.answered {
            self.state = session.write_response_body(None, true).await;
        }
        if self.state.is_err() {
            ctx.fault = Some(Fault::ClientGone);
            session.set_keepalive(None);
        }
        self.state.map(|()| Delivered::Sent)
    }

    /// The rest does not come: the client must not take what it has for the whole.
    fn cut<T>(&self, session: &mut Session, ctx: &mut Ctx, fault: Fault) -> pingora::Result<T> {
        ctx.response_bytes += self.sent_bytes;
        session.set_keepalive(None);
        ctx.fault = Some(fault);
        error(fault)
    }
}

/// Stores and sends as it comes. A client that goes away does not end a fill: the next one wants it too.
///
/// # Errors
/// When the connection of the client must be cut.
pub(super) async fn stream(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    head: ResponseHeader,
    mut pieces: Pieces<'_>,
) -> pingora::Result<Delivered> {
    let filling = cache::begin_store(session, ctx, &head).await;
    if !filling && is_waste(session, ctx, &head) {
        release(gateway, ctx, pieces.connection).await;
        cache::ask_as_client(ctx);
        return Ok(Delivered::AskAgain);
    }
    let mut client = client_of(session, ctx, head).await?;
    if filling {
        // Until the client has what is stored, it counts as memory of the cache.
        let pin = cache::pin(ctx).await;
        match fill(gateway, session, ctx, pieces, &mut client).await {
            Filled::Whole => return client.end(session, ctx).await,
            Filled::Broken(fault) => return client.cut(session, ctx, fault),
            Filled::GivenUp(rest) => pieces = *rest,
        }
        drop(pin);
    } else {
        client.begin(session).await;
    }
    while client.state.is_ok() && !client.has_all() {
        match while_client_waits(session, ctx.background, pieces.next(ctx)).await.and_then(|next| next) {
            Ok(Some(piece)) => client.take(session, piece).await,
            Ok(None) => break,
            Err(fault) => return client.cut(session, ctx, fault),
        }
    }
    if client.state.is_ok() {
        drain(ctx, &mut pieces.connection).await;
    }
    release(gateway, ctx, pieces.connection).await;
    client.end(session, ctx).await
}

/// Whether the whole was asked for the sake of the store, which does not take it, and the client wants a part: the upstream would send the
/// rest for nobody.
fn is_waste(session: &Session, ctx: &Ctx, head: &ResponseHeader) -> bool {
    ctx.cache.fetches_whole()
        && !ctx.background
        && session.req_header().headers.contains_key(header::RANGE)
        && content_length(&head.headers).is_none_or(|length| length > WASTE_MAX_BYTES)
}

/// How much is read for nobody rather than asking twice.
const WASTE_MAX_BYTES: u64 = 1 << 20;

/// What this client gets of a whole answer.
async fn client_of(
    session: &mut Session,
    ctx: &mut Ctx,
    mut head: ResponseHeader,
) -> pingora::Result<Client> {
    let length = head.headers.get(header::CONTENT_LENGTH).cloned();
    if let Some(length) = &length {
        // Said twice by the upstream, it is said once.
        head.insert_header(header::CONTENT_LENGTH, length)?;
    }
    head.remove_header(&header::TRANSFER_ENCODING);
    let mut client = Client {
        head: None,
        bodiless: session.req_header().method == Method::HEAD,
        answered: false,
        range: None,
        at: 0,
        sent_bytes: 0,
        state: Ok(()),
    };
    if !ctx.background && ctx.cache.fetches_whole() {
        let length = content_length(&head.headers);
        match cache::view(session, &mut head, length, Parts::One) {
            View::Whole | View::Many(_) => {}
            View::One(part) => client.range = Some(part),
            View::Head => client.bodiless = true,
            View::Failed => {
                // The fill goes on for those who read along.
                client.answered = true;
                client.state = cache::precondition_failed(session, ctx).await;
                return Ok(client);
            }
        }
    }
    if length.is_none() && !client.bodiless && response::takes_chunks(session) {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    response::filter(session, &mut head, ctx)?;
    client.head = Some(Box::new(head));
    Ok(client)
}

/// How a fill ended.
enum Filled<'a> {
    /// All of it is stored, and the client has it or is gone.
    Whole,
    /// The store gave it up; this is still to come.
    GivenUp(Box<Pieces<'a>>),
    /// The upstream did.
    Broken(Fault),
}

/// Reads the upstream into the store, however slowly the client takes it. The queue between them is never longer than what the store takes
/// of one object (`cache.maxObject`), and holds no copy of it.
async fn fill<'a>(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    mut pieces: Pieces<'a>,
    client: &mut Client,
) -> Filled<'a> {
    let (give, mut take) = mpsc::unbounded_channel();
    let storing = async move {
        loop {
            match pieces.next(ctx).await {
                Ok(Some(piece)) => {
                    let is_stored = cache::store_chunk(ctx, piece.clone()).await;
                    if is_stored && pieces.is_done() {
                        // Stored before the client has the last byte: what it asks next finds it.
                        cache::finish_store(ctx).await;
                    }
                    // Nobody takes it where the client is gone.
                    let _ = give.send(piece);
                    if !is_stored {
                        return Filled::GivenUp(Box::new(pieces));
                    }
                }
                Ok(None) => {
                    cache::finish_store(ctx).await;
                    release(gateway, ctx, pieces.connection).await;
                    return Filled::Whole;
                }
                Err(fault) => {
                    // Its readers are cut with it.
                    cache::abandon(ctx);
                    return Filled::Broken(fault);
                }
            }
        }
    };
    let sending = async move {
        client.begin(session).await;
        while client.state.is_ok()
            && let Some(piece) = take.recv().await
        {
            client.take(session, piece).await;
        }
    };
    let (filled, ()) = tokio::join!(storing, sending);
    filled
}
