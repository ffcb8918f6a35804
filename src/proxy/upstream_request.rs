//! `upstream_request_filter`: the outgoing copy of the head. What was authorised is what is sent, and the secret comes last.

use http::{HeaderName, Method, Version, header};
use pingora::http::RequestHeader;

use super::{Ctx, held};
use crate::exchange::Exchange;
use crate::plan::Route;
use crate::policy::{Fault, UpstreamKind};

/// Fields of one hop (RFC 9110 §7.6.1), and what else never goes on.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// On the stock path Pingora has removed the hop-by-hop fields and those that `Connection` nominates by now; what is left is ours.
///
/// # Errors
/// The fault is kept in `ctx`; the error only ends the attempt.
pub fn filter(head: &mut RequestHeader, ctx: &mut Ctx) -> pingora::Result<()> {
    let Some(route) = ctx.route.clone() else { return held::fail(ctx, Fault::Internal) };
    match prepare(head, &mut ctx.exchange, &route, Way { endpoint: ctx.endpoint, caches: false }) {
        Ok(()) => Ok(()),
        Err(fault) => held::fail(ctx, fault),
    }
}

/// What of an attempt shows in the outgoing head.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Which endpoint it goes to.
    pub endpoint: usize,
    /// Whether the answer may be stored: then it is asked for as a whole.
    pub caches: bool,
}

/// Rewrites, filters, injects: the part that both paths share.
///
/// # Errors
/// A [`Fault`]: nothing is sent.
pub fn prepare(
    head: &mut RequestHeader,
    exchange: &mut Exchange,
    route: &Route,
    way: Way,
) -> Result<(), Fault> {
    begin(head, exchange, route, way)?;
    route.chain.upstream_request_filter(head, exchange)?;
    finish(head, route, way)
}

/// What is done to the outgoing head before the policies are asked.
///
/// # Errors
/// A [`Fault`]: nothing is sent.
pub fn begin(head: &mut RequestHeader, exchange: &Exchange, route: &Route, way: Way) -> Result<(), Fault> {
    let Some(upstream) = route.upstream.as_ref() else { return Err(Fault::Internal) };
    let internal = |_| Fault::Internal;
    // One field for all cookies: HTTP/2 clients may send them in crumbs (RFC 9113 §8.2.3).
    join_cookies(head)?;
    head.remove_header(&header::EXPECT);
    if !upgrades(head, route) {
        head.remove_header(&header::UPGRADE);
        head.remove_header(&header::CONNECTION);
    }
    let several = |value: &http::HeaderValue| value.as_bytes().contains(&b',');
    if upstream.kind == UpstreamKind::Api && head.headers.get(header::RANGE).is_some_and(several) {
        // Several ranges come back wrapped in a type of their own, which could not be searched.
        head.remove_header(&header::RANGE);
    }
    if route.settings.json.is_some() {
        // What is shaped must be whole and uncoded.
        for name in [header::RANGE, header::IF_RANGE, header::ACCEPT_ENCODING] {
            head.remove_header(&name);
        }
    }
    // Host is ours to say. Pingora checks that it agrees with the target: `rewrite`, which every route to an upstream has, sets a
    // target without the client's authority.
    let host = match upstream.kind {
        UpstreamKind::Api => upstream.upstream.authority(way.endpoint).to_owned(),
        UpstreamKind::App => exchange.authority(),
    };
    head.insert_header(header::HOST, host).map_err(internal)
}

/// What is done to it after them.
///
/// # Errors
/// A [`Fault`]: nothing is sent.
pub fn finish(head: &mut RequestHeader, route: &Route, way: Way) -> Result<(), Fault> {
    if asks_uncoded(route) {
        head.insert_header(header::ACCEPT_ENCODING, "identity").map_err(|_| Fault::Internal)?;
    }
    if way.caches && head.method == Method::HEAD {
        head.set_method(Method::GET);
    }
    Ok(())
}

/// Whether the upstream is asked for a body without coding, whatever the client takes: our own origin is erased from JSON, which a coded
/// body would hide.
#[must_use]
pub fn asks_uncoded(route: &Route) -> bool {
    route.settings.json.is_some()
        || route.upstream.as_ref().is_some_and(|upstream| upstream.kind == UpstreamKind::Api)
}

/// Whether the client asks for what the route allows: a WebSocket, and nothing else.
#[must_use]
pub fn upgrades(client: &RequestHeader, route: &Route) -> bool {
    let asked = client.headers.get(header::UPGRADE);
    route.settings.websocket && asked.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn join_cookies(head: &mut RequestHeader) -> Result<(), Fault> {
    let mut lines = head.headers.get_all(header::COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return Ok(());
    }
    let joined =
        head.headers.get_all(header::COOKIE).iter().map(http::HeaderValue::as_bytes).collect::<Vec<_>>();
    let value = http::HeaderValue::from_bytes(&joined.join(b"; ".as_slice())).map_err(|_| Fault::Internal)?;
    head.insert_header(header::COOKIE, value).map_err(|_| Fault::Internal)
}

/// The outgoing head for our own exchange: a copy of the client's, without what belongs to its connection, and whole where the answer
/// may be stored.
///
/// # Errors
/// [`Fault::BadTarget`] when `Connection` nominates what it may not.
pub fn copy_of(client: &RequestHeader, has_body: bool, caches: bool) -> Result<RequestHeader, Fault> {
    Ok(without_connection(client, &nominated(client, is_protected)?, has_body, caches))
}

fn without_connection(
    client: &RequestHeader,
    nominated: &[HeaderName],
    has_body: bool,
    caches: bool,
) -> RequestHeader {
    // Without the map of original letter case: names are compared without it (RFC 9110 §5.1), and each field that is set or removed
    // would be looked up twice.
    let mut head = RequestHeader::from(client.as_owned_parts());
    // One look at each field that is there, instead of one for each that could be.
    let unwanted: Vec<HeaderName> = client
        .headers
        .keys()
        .filter(|name| {
            is_hop_by_hop(name) || nominated.contains(name) || (!has_body && **name == header::CONTENT_LENGTH)
        })
        .cloned()
        .collect();
    for name in &unwanted {
        head.remove_header(name);
    }
    head.set_version(Version::HTTP_11);
    if caches {
        // What is stored must be whole: no ranges, and no condition that could turn it into a 304.
        for name in STORE_NEEDS_WHOLE {
            head.remove_header(&name);
        }
    }
    head
}

/// Fields that ask for a part, or for nothing if unchanged.
const STORE_NEEDS_WHOLE: [header::HeaderName; 6] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// The head that [`filter`] is given: what Pingora makes of the client's on the stock path before it asks (`proxy_common.rs`,
/// `sanitize_h1_upstream_request`). For telling of it; the end-to-end tests hold the two together.
///
/// # Errors
/// [`Fault::BadTarget`] when `Connection` nominates what it may not.
pub fn stock_copy_of(client: &RequestHeader) -> Result<RequestHeader, Fault> {
    let is_websocket = client
        .headers
        .get(header::UPGRADE)
        .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let mut head = without_connection(client, &nominated(client, is_protected_by_pingora)?, true, false);
    if is_websocket {
        let internal = |_| Fault::Internal;
        head.insert_header(header::CONNECTION, "Upgrade").map_err(internal)?;
        head.insert_header(header::UPGRADE, "websocket").map_err(internal)?;
    }
    Ok(head)
}

/// Takes away what `Connection` names: it ends here, so it chooses neither a key nor a variant of what others will be given.
///
/// # Errors
/// [`Fault::BadTarget`] when it names what it may not.
pub fn drop_nominated(head: &mut RequestHeader) -> Result<(), Fault> {
    for name in nominated(head, is_protected)? {
        head.remove_header(&name);
    }
    Ok(())
}

/// The fields that `Connection` names. At most ten, and none that a client must not be able to take away.
fn nominated(
    client: &RequestHeader,
    is_protected: fn(&HeaderName) -> bool,
) -> Result<Vec<HeaderName>, Fault> {
    let mut names = Vec::new();
    for token in client
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
    {
        let token = token.trim_ascii();
        if token.is_empty() {
            continue;
        }
        let name = HeaderName::from_bytes(token).map_err(|_| Fault::BadTarget)?;
        if names.len() >= MAX_NOMINATIONS || is_protected(&name) {
            return Err(Fault::BadTarget);
        }
        names.push(name);
    }
    Ok(names)
}

fn is_protected(name: &HeaderName) -> bool {
    *name == header::HOST || name.as_str().starts_with("x-forwarded-")
}

fn is_protected_by_pingora(name: &HeaderName) -> bool {
    matches!(name.as_str(), "host" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto")
}

/// As many as Pingora allows on its own path.
const MAX_NOMINATIONS: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).expect("a request");
        for (name, value) in fields {
            head.append_header(*name, *value).expect("a field");
        }
        head
    }

    #[test]
    fn rfc9110_7_6_1_connection_options_are_removed() {
        let client =
            request(&[("connection", "x-a, keep-alive"), ("x-a", "1"), ("x-b", "2"), ("te", "trailers")]);
        let head = copy_of(&client, false, false).expect("a sound request");
        let left: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-b"]);
    }

    #[test]
    fn a_client_cannot_nominate_the_host_away() {
        assert_eq!(copy_of(&request(&[("connection", "host")]), false, false).err(), Some(Fault::BadTarget));
        assert_eq!(
            copy_of(&request(&[("connection", "a,b,c,d,e,f,g,h,i,j")]), false, false).err(),
            Some(Fault::BadTarget)
        );
    }

    #[test]
    fn cookie_crumbs_become_one_field() {
        let mut head = request(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut head).expect("joined");
        assert_eq!(head.headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
