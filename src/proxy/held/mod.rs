//! Our own exchange with the upstream, in `proxy_upstream_filter`: after the cache was asked, before Pingora would connect.
//!
//! Pingora writes the head of an answer before any hook has seen the body. Where an answer must be judged first (everything from an
//! `api`, everything that is shaped, everything that may be stored), the exchange is ours: the head is held, cleaned, the body shaped,
//! then stored and sent.
//!
//! ```text
//! attempt: pick -> connect -> head (copied, cleaned, injected) -> body -> read head (1xx skipped)
//!    | retryable and in budget: again, elsewhere
//! deliver: clean head -> mask or shape (body held) -> store -> write          nothing was sent before: a fault is a clean answer
//!                     -> or stream: store and write as it comes               a fault later cuts the connection
//! ```
//!
//! A fault before the first byte is left in `ctx` and `Ok(true)` returned: `cache` may serve a stale object in its place; otherwise
//! Pingora asks for a peer, gets the fault as an error, and lets `failure` answer.

pub mod attempt;
mod deliver;
mod erase;
mod shape;
mod stream;

pub use shape::weaken_etag;

use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::{Ctx, Gateway, upstream_request};
use crate::plan::Route;
use crate::policy::Fault;

/// Whether the miss of this request is ours to fetch.
#[must_use]
pub fn takes(session: &Session, ctx: &Ctx, route: &Route) -> bool {
    let upgrades = session.is_upgrade_req() && upstream_request::upgrades(session.req_header(), route);
    ctx.cache.looked_up || (ctx.body.whole_ahead && route.upstream.is_some()) || holds(route, upgrades)
}

/// Whether answers of this route are held, as far as the head of a request tells; `upgrades`: it opens a tunnel.
#[must_use]
pub fn holds(route: &Route, upgrades: bool) -> bool {
    route.upstream.is_some() && route.holds_answer() && !upgrades
}

/// Makes the exchange. `true`: Pingora goes on, with the fault that `ctx` holds or on its own path.
///
/// # Errors
/// When the connection of the client must be cut.
pub async fn run(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut Ctx,
    route: &Route,
) -> pingora::Result<bool> {
    loop {
        let answer = match attempt::until_answered(gateway, session, ctx, route).await {
            Ok(answer) => answer,
            Err(fault) => {
                ctx.fault = Some(fault);
                return Ok(true);
            }
        };
        match deliver::deliver(gateway, session, ctx, route, answer).await? {
            Delivered::Sent => return Ok(false),
            Delivered::Failed => return Ok(true),
            Delivered::AskAgain => {}
        }
    }
}

/// What became of an answer.
enum Delivered {
    /// The client has it.
    Sent,
    /// Nothing was sent; the fault is in `ctx`.
    Failed,
    /// It answered a condition that does not fit what is stored: asked anew, without it.
    AskAgain,
}

/// A fault as the framework's error: by its source Pingora decides whether a stale object may take its place.
///
/// # Errors
/// Always: that is what it is for.
pub fn error<T>(fault: Fault) -> pingora::Result<T> {
    let mut error = match fault {
        Fault::ClientGone | Fault::BodyTooLarge | Fault::BodyTimeout | Fault::BadTarget => {
            Error::new_down(ErrorType::Custom(fault.code()))
        }
        Fault::SecretMissing | Fault::Internal => Error::new_in(ErrorType::Custom(fault.code())),
        _ => Error::new_up(ErrorType::Custom(fault.code())),
    };
    error.retry = false.into();
    Err(error)
}

/// Keeps the fault and ends the attempt.
///
/// # Errors
/// Always.
pub fn fail(ctx: &mut Ctx, fault: Fault) -> pingora::Result<()> {
    ctx.fault = Some(fault);
    error(fault)
}
