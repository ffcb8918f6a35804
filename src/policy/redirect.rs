//! `redirect`: an answer that sends the client elsewhere, instead of an upstream. Names are Gateway API's `RequestRedirect`.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::reply::Body;
use super::told::{Telling, Told};
use super::{Build, Hooks, Policy, Reply, Verdict};
use crate::config::{Section, codes, shape};
use crate::exchange::{Exchange, Scheme};

/// Send the client elsewhere, instead of asking an upstream (Gateway API's `RequestRedirect`). What is left out stays as it was
/// requested; at least one of `scheme`, `host`, `port`, `path` is needed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("anyOf" = [
    { "required": ["scheme"] }, { "required": ["host"] }, { "required": ["port"] }, { "required": ["path"] }
]))]
pub(super) struct Spec {
    /// The scheme to go to. Default: the request's.
    scheme: Option<SchemeSpec>,
    /// The host to go to, without a port. Default: the request's.
    #[schemars(example = &"app.example")]
    host: Option<String>,
    /// The port to go to. Default: the request's; the scheme's own where `scheme` or `host` is given.
    #[schemars(range(min = 1), example = 443)]
    port: Option<u16>,
    /// The path to go to, percent-encoded; the request's query stays. Default: the request's.
    #[schemars(with = "Option<shape::UrlPath>", example = &"/new")]
    path: Option<String>,
    /// Which redirect (RFC 9110 §15.4): 307 and 308 keep the method, 301 and 308 are for good.
    #[schemars(extend("enum" = STATUSES, "default" = 302))]
    status: Option<u16>,
}

#[derive(Deserialize, Clone, Copy, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum SchemeSpec {
    Http,
    Https,
}

struct Redirect {
    scheme: Option<Scheme>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<String>,
    status: StatusCode,
}

/// Statuses that carry a `Location` (RFC 9110 §15.4).
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// Compiles the redirect; `status` is 302 where it is not written.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let section = section?;
    let spec = section.decode::<Spec>(build.problems)?;
    let status = spec.status.unwrap_or(302);
    let mut sound = true;
    if !STATUSES.contains(&status) {
        build
            .problems
            .error(codes::BAD_VALUE, section.at("status").path(), format!("`{status}` is no redirect"))
            .help("use 301, 302, 303, 307 or 308");
        sound = false;
    }
    if spec.scheme.is_none() && spec.host.is_none() && spec.port.is_none() && spec.path.is_none() {
        build
            .problems
            .error(codes::BAD_VALUE, section.path(), "this redirect leads to where the client already is")
            .help("give at least one of `scheme`, `host`, `port`, `path`");
        sound = false;
    }
    if let Some(path) = &spec.path
        && (!path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()))
    {
        build
            .problems
            .error(
                codes::BAD_VALUE,
                section.at("path").path(),
                format!("`{path}` is no path to redirect to"),
            )
            .help("a path begins with `/` and is percent-encoded, such as `/new%20place`; another site goes into `host`");
        sound = false;
    }
    if let Some(host) = &spec.host
        && crate::exchange::target::authority(host).is_err()
    {
        build
            .problems
            .error(codes::BAD_VALUE, section.at("host").path(), format!("`{host}` is no host name"))
            .help("such as `app.example`; `scheme`, `port` and `path` are keys of their own");
        sound = false;
    }
    let redirect = Redirect {
        scheme: spec.scheme.map(|scheme| match scheme {
            SchemeSpec::Http => Scheme::Http,
            SchemeSpec::Https => Scheme::Https,
        }),
        host: spec.host,
        port: spec.port,
        path: spec.path,
        status: StatusCode::from_u16(status).ok()?,
    };
    sound.then(|| Arc::new(redirect) as Arc<dyn Policy>)
}

impl Redirect {
    fn location(&self, exchange: &Exchange) -> String {
        let scheme = self.scheme.unwrap_or(exchange.scheme);
        let host = self.host.as_deref().unwrap_or(&exchange.host);
        // The client's port belongs to the client's scheme; a new scheme or host starts from the default.
        let port =
            self.port.or(if self.scheme.is_none() && self.host.is_none() { exchange.port } else { None });
        let path = self.path.as_deref().unwrap_or(&exchange.path);
        let mut location = format!("{}://{host}", scheme.as_str());
        if let Some(port) = port
            && port != scheme.default_port()
        {
            location.push_str(&format!(":{port}"));
        }
        location.push_str(path);
        if let Some(query) = &exchange.query
            && !path.contains('?')
        {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

impl Policy for Redirect {
    fn hooks(&self) -> Hooks {
        Hooks { request: true, ..Hooks::default() }
    }

    fn request_filter(&self, exchange: &mut Exchange) -> Verdict {
        Verdict::Respond(Box::new(self.answer(exchange)))
    }

    fn explain(&self, telling: &Telling<'_>) -> Option<Told> {
        let reply = Box::new(self.answer(telling.exchange));
        let location = self.location(telling.exchange);
        let words =
            format!("sends the client to `{location}` with {}; no upstream is asked", self.status.as_u16());
        let data = serde_json::json!({ "status": self.status.as_u16(), "location": location });
        Some(Told { reply: Some(reply), ..Told::new([words], data) })
    }
}

impl Redirect {
    fn answer(&self, exchange: &Exchange) -> Reply {
        match HeaderValue::try_from(self.location(exchange)) {
            Ok(location) => Reply {
                status: self.status,
                code: "redirect",
                headers: vec![(http::header::LOCATION, location)],
                body: Body::Empty,
            },
            Err(_) => Reply::problem(StatusCode::BAD_REQUEST, "bad_request"),
        }
    }
}
