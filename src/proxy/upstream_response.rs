//! `upstream_response_filter`: the head of the upstream's answer, cleaned before it is stored.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::{Ctx, cache, date, held, purge, upstream};
use crate::cache::freshness;
use crate::cache::validate::nominated;
use crate::exchange::Source;
use crate::plan::Route;
use crate::policy::{Fault, UpstreamKind};

/// On the stock path: counts the answer and cleans it.
///
/// # Errors
/// The fault is kept in `ctx`.
pub fn filter(session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> pingora::Result<()> {
    let asked_to_upgrade = session.is_upgrade_req();
    let Some(route) = ctx.route.clone() else { return held::fail(ctx, Fault::Internal) };
    if head.status == StatusCode::SWITCHING_PROTOCOLS && !(asked_to_upgrade && route.settings.websocket) {
        return held::fail(ctx, Fault::UnexpectedUpgrade);
    }
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        // Early hints tell of the upstream what its final head does.
        return clean(head, ctx, &route).or_else(|fault| held::fail(ctx, fault));
    }
    if head.status != StatusCode::SWITCHING_PROTOCOLS && route.holds_answer() {
        // Only a request for a tunnel comes here where answers are held; what it got instead was neither shaped, masked nor erased.
        return held::fail(ctx, Fault::Protocol);
    }
    if upstream::answer_is_retryable(session, ctx, &route, head.status.as_u16()) {
        ctx.repeat = true;
        return held::error(Fault::Connection);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS || is_event_stream(head) {
        // A tunnel and an event stream have no end to wait for; silence still ends them.
        ctx.shared.door.set_deadline(None);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        session.set_read_timeout(None);
        ctx.shared.door.body_progress(ctx.body.read_bytes, true);
    }
    note_answer(head, ctx, &route);
    if let Err(fault) = clean(head, ctx, &route) {
        return held::fail(ctx, fault);
    }
    cache::invalidate(ctx, head);
    Ok(())
}

/// Whether the answer is a stream of server-sent events.
#[must_use]
pub fn is_event_stream(head: &ResponseHeader) -> bool {
    freshness::is_event_stream(&head.headers)
}

/// Counts an answer of the upstream.
pub fn note_answer(head: &ResponseHeader, ctx: &mut Ctx, route: &Route) {
    ctx.exchange.source = Source::Upstream;
    if let Some(upstream) = &route.upstream {
        upstream.metrics.answered(head.status.as_u16());
    }
    // Before what tells of the upstream is taken off.
    purge::note_answer(head, ctx, route);
}

/// The last byte of the upstream's answer is in.
pub fn note_end(ctx: &mut Ctx) {
    if ctx.exchange.upstream_duration.is_some() {
        return;
    }
    let Some(started) = ctx.exchange.upstream_started else { return };
    let duration = Instant::now().saturating_duration_since(started);
    ctx.exchange.upstream_duration = Some(duration);
    if let Some(upstream) = ctx.route.as_ref().and_then(|route| route.upstream.as_ref()) {
        upstream.metrics.duration(duration);
    }
}

/// Removes what belongs to the hop and what tells of the upstream, and dates what has no date: the part that both paths share.
///
/// # Errors
/// A [`Fault`]: the answer goes nowhere.
pub fn clean(head: &mut ResponseHeader, ctx: &mut Ctx, route: &Route) -> Result<(), Fault> {
    remove_hop_by_hop(head);
    if !head.status.is_informational() {
        date::note_received(head, SystemTime::now()).map_err(|_| Fault::Internal)?;
    }
    let kind = route.upstream.as_ref().map_or(UpstreamKind::Api, |upstream| upstream.kind);
    if kind == UpstreamKind::Api {
        match head.status {
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                return Err(Fault::CredentialRefused);
            }
            StatusCode::TOO_MANY_REQUESTS => {
                return Err(Fault::UpstreamLimited { retry_after: retry_after(head) });
            }
            _ => {}
        }
        // The reason phrase is the vendor's text.
        head.set_reason_phrase(None).map_err(|_| Fault::Internal)?;
    }
    route.chain.upstream_response_filter(head, &mut ctx.exchange)
}

fn retry_after(head: &ResponseHeader) -> Option<Duration> {
    let text = head.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    text.parse().ok().map(|seconds: u64| Duration::from_secs(seconds.min(MAX_RETRY_AFTER_SECS)))
}

/// A vendor that asks for more than a day is taken at a day.
const MAX_RETRY_AFTER_SECS: u64 = 24 * 3600;

/// Removes the fields of one hop and those that `Connection` names (RFC 9110 §7.6.1); a switch of protocols keeps its own.
fn remove_hop_by_hop(head: &mut ResponseHeader) {
    let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let mut nominated = nominated(&head.headers);
    // What frames the body, and what is decided below.
    let is_spared = |name: &HeaderName| {
        matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION)
            || (switching && *name == header::UPGRADE)
    };
    nominated.retain(|name| !is_spared(name));
    // One look at each field that is there, instead of one for each that could be.
    let unwanted: Vec<HeaderName> = head
        .headers
        .keys()
        .filter(|name| match name.as_str() {
            "keep-alive" | "proxy-connection" | "proxy-authenticate" | "te" | "trailer" => true,
            "upgrade" | "connection" => !switching,
            _ => nominated.contains(name),
        })
        .cloned()
        .collect();
    for name in &unwanted {
        head.remove_header(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_7_6_1_connection_options_of_an_answer_are_removed() {
        let mut head = ResponseHeader::build(200, None).expect("a head");
        for (name, value) in
            [("connection", "x-hop, close"), ("x-hop", "1"), ("keep-alive", "5"), ("x-end", "2")]
        {
            head.append_header(name, value).expect("a field");
        }
        remove_hop_by_hop(&mut head);
        assert_eq!(head.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-end"]);
    }

    #[test]
    fn a_wait_is_read_in_seconds_and_bounded() {
        let mut head = ResponseHeader::build(429, None).expect("a head");
        head.insert_header("retry-after", "99999999").expect("a field");
        assert_eq!(retry_after(&head), Some(Duration::from_secs(MAX_RETRY_AFTER_SECS)));
        head.insert_header("retry-after", "Wed, 25 Nov 2026 10:00:00 GMT").expect("a field");
        assert_eq!(retry_after(&head), None);
    }
}
