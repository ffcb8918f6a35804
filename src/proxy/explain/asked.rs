//! The question: a method, a URL, header fields, and where it comes from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use pingora::http::RequestHeader;
use serde::{Deserialize, Serialize};

use crate::exchange::Scheme;
use crate::plan::Listener;

/// A request that somebody asks about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    /// The method, upper case.
    pub method: String,
    /// `https://host/path?query`, or `/path?query` with a `Host` among the headers.
    pub url: String,
    /// Header fields in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The other end of the connection; loopback if not given.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// The listener by its name; the one that fits the URL if not given.
    #[serde(default)]
    pub listener: Option<String>,
}

/// Why a question cannot be asked. The asker's fault; a request that can be sent, however bad, is explained instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskError {
    /// There is no listener of this name; those that there are.
    NoListener(String, Vec<String>),
    /// Neither a URL of `http` or `https` nor a path.
    NoUrl(String),
    /// A line break in the method, the URL or a field: it would begin another line.
    LineBreak,
    /// A method or field that the head cannot hold at all.
    NoHead,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoListener(name, known) => {
                write!(f, "there is no listener `{name}`; there are `{}`", known.join("`, `"))
            }
            Self::NoUrl(url) => write!(
                f,
                "`{url}` is no URL: write `https://app.example/path`, or `/path` with `-H 'Host: app.example'`"
            ),
            Self::LineBreak => f.write_str("a method, a URL and a header have no line breaks"),
            Self::NoHead => f.write_str("this method or a header's name cannot be sent"),
        }
    }
}

impl std::error::Error for AskError {}

/// A question that can be answered.
pub(super) struct Request<'a> {
    pub(super) listener: &'a Listener,
    /// Why this listener.
    pub(super) chosen: String,
    pub(super) method: &'a str,
    /// Origin-form.
    pub(super) target: String,
    pub(super) fields: Vec<(&'a str, String)>,
    pub(super) peer: IpAddr,
}

impl<'a> Request<'a> {
    pub(super) fn of(listeners: &'a [Listener], asked: &'a Asked) -> Result<Self, AskError> {
        let texts = asked.headers.iter().flat_map(|(name, value)| [name, value]);
        if texts.chain([&asked.method, &asked.url]).any(|text| text.contains(['\r', '\n', '\0'])) {
            return Err(AskError::LineBreak);
        }
        let url = Url::parse(&asked.url).ok_or_else(|| AskError::NoUrl(asked.url.clone()))?;
        let (listener, chosen) = listener(listeners, asked, url.as_ref())?;
        let has_host = asked.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = url.as_ref().filter(|_| !has_host).map(|url| ("host", url.authority.to_owned()));
        let fields = asked.headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
        Ok(Self {
            listener,
            chosen,
            method: &asked.method,
            target: url.map_or_else(|| asked.url.clone(), |url| url.target),
            fields: host.into_iter().chain(fields).collect(),
            peer: asked.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        })
    }

    /// The head as it would be written on the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// The head as the framework would read it.
    pub(super) fn head(&self) -> Result<RequestHeader, AskError> {
        let build = || {
            let mut head = RequestHeader::build(self.method, self.target.as_bytes(), None)?;
            for (name, value) in &self.fields {
                head.append_header((*name).to_owned(), value.trim().as_bytes())?;
            }
            Ok::<_, Box<pingora::Error>>(head)
        };
        build().map_err(|_| AskError::NoHead)
    }
}

/// A full URL.
struct Url<'a> {
    scheme: Scheme,
    authority: &'a str,
    target: String,
}

impl<'a> Url<'a> {
    /// `Some(None)` for a bare path, `None` for neither.
    fn parse(text: &'a str) -> Option<Option<Self>> {
        if text.starts_with('/') || text == "*" {
            return Some(None);
        }
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        // A fragment stays with the client (RFC 9110 §7.1).
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let target = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Some(Some(Self { scheme, authority, target }))
    }

    fn port(&self) -> u16 {
        let port = self.authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.unwrap_or(self.scheme.default_port())
    }
}

/// The listener that the request comes in by, and why this one.
fn listener<'a>(
    all: &'a [Listener],
    asked: &Asked,
    url: Option<&Url<'_>>,
) -> Result<(&'a Listener, String), AskError> {
    let names = || all.iter().map(|listener| listener.name.to_string()).collect();
    if let Some(name) = &asked.listener {
        let found = all.iter().find(|listener| listener.name.as_str() == name);
        let found = found.ok_or_else(|| AskError::NoListener(name.clone(), names()))?;
        return Ok((found, "it was asked for".to_owned()));
    }
    let is_tls =
        |listener: &&Listener| url.is_none_or(|url| (url.scheme == Scheme::Https) != listener.tls.is_empty());
    let by_port = |listener: &&Listener| url.is_some_and(|url| listener.address.port() == url.port());
    if let [only] = all {
        let but = match url {
            Some(url) if !is_tls(&only) => format!(", though it does not speak {}", url.scheme.as_str()),
            _ => String::new(),
        };
        return Ok((only, format!("it is the only one{but}")));
    }
    if let Some(found) = all.iter().find(|listener| is_tls(listener) && by_port(listener)) {
        return Ok((found, "scheme and port of the URL are its own".to_owned()));
    }
    let fits: Vec<&Listener> = all.iter().filter(is_tls).collect();
    match (fits.as_slice(), all.first()) {
        ([only], _) if url.is_some() => Ok((only, "it is the only one of the URL's scheme".to_owned())),
        ([first, ..], _) => {
            Ok((first, "assumed, as the first that fits; `--listener` names another".to_owned()))
        }
        ([], Some(first)) => {
            Ok((first, "assumed, as none speaks the URL's scheme; `--listener` names another".to_owned()))
        }
        ([], None) => Err(AskError::NoListener("any".to_owned(), names())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(String, String, u16)> {
        let url = Url::parse(text)??;
        Some((url.authority.to_owned(), url.target.clone(), url.port()))
    }

    #[test]
    fn a_url_is_taken_apart_and_not_judged() {
        let of = |authority: &str, target: &str, port| Some((authority.to_owned(), target.to_owned(), port));
        assert_eq!(parts("https://a.example/x?y#z"), of("a.example", "/x?y", 443));
        assert_eq!(parts("HTTP://a.example:8080?q"), of("a.example:8080", "/?q", 8080));
        assert_eq!(parts("http://a.example"), of("a.example", "/", 80));
        assert_eq!(parts("http://[::1]:81/%zz/../"), of("[::1]:81", "/%zz/../", 81));
        assert!(Url::parse("/only/a/path").is_some_and(|url| url.is_none()));
        assert!(Url::parse("a.example/x").is_none() && Url::parse("ftp://a/").is_none());
    }
}
