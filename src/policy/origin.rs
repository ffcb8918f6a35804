//! Erasing the upstream's place from the answer: `Location`, `Content-Location`, `Link`, `Refresh`, `Set-Cookie`.
//!
//! Implied by the kind of upstream. For an `api` every reference is mapped to its public path; a redirect that has none is a fault,
//! any other field is removed; cookies never pass. For an `app` only what names the upstream's own origin is mapped, all else is
//! the app's business.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use pingora::http::ResponseHeader;

use super::credential::without_parameter;
use super::told::{Telling, Told};
use super::{Build, Fault, Hooks, Policy, UpstreamKind};
use crate::body::json::origins::Origins;
use crate::config::Section;
use crate::exchange::{Exchange, target};

/// One way back: what lies below `upstream` on the other side lies below `public` on ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayBack {
    /// Path at the upstream, base included, no slash at the end.
    pub upstream: String,
    /// Path at the gateway, no slash at the end.
    pub public: String,
    /// Whether only this very path is mapped, nothing below it.
    pub exact: bool,
}

/// Where the paths of one upstream are public, made from all routes that lead to it.
#[derive(Debug, Clone, Default)]
pub struct ReverseMap {
    /// Authorities of the upstream, `host` and `host:port`, lower case.
    authorities: Vec<String>,
    ways: Vec<WayBack>,
    origins: Origins,
    /// The query parameter that carries our key: a reference that comes back with it loses it.
    key_parameter: Option<String>,
}

impl ReverseMap {
    /// `authorities` are the hosts by which the upstream calls itself. The longest way back wins, then the one that stands first
    /// in the file.
    #[must_use]
    pub fn new(authorities: Vec<String>, mut ways: Vec<WayBack>) -> Self {
        ways.sort_by(|a, b| b.upstream.len().cmp(&a.upstream.len()).then(b.exact.cmp(&a.exact)));
        ways.dedup();
        let origins = Origins::new(authorities.iter().map(String::as_str));
        Self { authorities, ways, origins, key_parameter: None }
    }

    /// The ways back for people: public path and path at the upstream, the first [`MOST_SHOWN`].
    fn shown(&self) -> Vec<serde_json::Value> {
        let way = |way: &WayBack| serde_json::json!({ "public": way.public, "upstream": way.upstream, "exact": way.exact });
        self.ways.iter().take(MOST_SHOWN).map(way).collect()
    }

    /// The same for an upstream whose key goes into the query.
    #[must_use]
    pub fn without_key(mut self, parameter: Option<String>) -> Self {
        self.key_parameter = parameter;
        self
    }

    /// What a JSON string of this upstream begins with.
    #[must_use]
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Whether this authority is the upstream's.
    #[must_use]
    pub fn names(&self, authority: &str) -> bool {
        self.authorities.iter().any(|own| own.eq_ignore_ascii_case(authority))
    }

    /// Whether this host is the upstream's, whatever the port: a cookie's `Domain` has none (RFC 6265 §8.5).
    fn names_host(&self, host: &str) -> bool {
        self.authorities.iter().any(|own| {
            let own = own.rsplit_once(':').map_or(own.as_str(), |(own, _)| own);
            own.eq_ignore_ascii_case(host)
        })
    }

    /// The public path of a path at the upstream.
    #[must_use]
    pub fn public_path(&self, path: &str) -> Option<String> {
        self.way(path).map(|(_, public)| public)
    }

    /// The public path of a cookie's path that lies under a base which only the upstream has; `None`: it stays as it is.
    fn public_cookie_path(&self, path: &str) -> Option<String> {
        self.way(path)
            .filter(|(way, _)| way.upstream != way.public && !way.upstream.is_empty())
            .map(|(_, p)| p)
    }

    fn way(&self, path: &str) -> Option<(&WayBack, String)> {
        self.ways.iter().find_map(|way| {
            let rest = path.strip_prefix(way.upstream.as_str())?;
            let fits = rest.is_empty() || rest == "/" || (!way.exact && rest.starts_with('/'));
            let public = format!("{}{rest}", way.public);
            fits.then(|| (way, if public.is_empty() { "/".to_owned() } else { public }))
        })
    }

    /// The public reference for a reference in an answer to a request for `from`; `None` where it has none.
    #[must_use]
    pub fn public_reference(&self, reference: &str, from: &str) -> Option<String> {
        let (rest, fragment) = match reference.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (reference, None),
        };
        let local = match split_authority(rest) {
            Some((authority, local)) if self.names(authority) => local.to_owned(),
            Some(_) => return None,
            None if rest.starts_with('/') => rest.to_owned(),
            None if rest.starts_with('?') => format!("{from}{rest}"),
            None if rest.is_empty() => from.to_owned(),
            None => {
                let directory = from.rsplit_once('/').map_or("", |(directory, _)| directory);
                format!("{directory}/{rest}")
            }
        };
        let local = if local.is_empty() || local.starts_with('?') { format!("/{local}") } else { local };
        let resolved = target::target(&local, target::Asterisk::Refuse).ok()?;
        let mut public = self.public_path(&resolved.path)?;
        let query = match (resolved.query, &self.key_parameter) {
            (Some(query), Some(parameter)) => {
                Some(without_parameter(&query, parameter)).filter(|query| !query.is_empty())
            }
            (query, _) => query,
        };
        if let Some(query) = query {
            public.push('?');
            public.push_str(&query);
        }
        if let Some(fragment) = fragment {
            public.push('#');
            public.push_str(fragment);
        }
        Some(public)
    }
}

/// An upstream of a thousand routes is not told whole.
const MOST_SHOWN: usize = 32;

/// Authority and the rest, where the reference has a scheme or begins with `//`. An unknown scheme has no authority of ours.
fn split_authority(reference: &str) -> Option<(&str, &str)> {
    let after = match reference.strip_prefix("//") {
        Some(after) => after,
        None => {
            let (scheme, after) = reference.split_once(':')?;
            let is_scheme = !scheme.is_empty()
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
            if !is_scheme {
                return None;
            }
            // `mailto:` and the like, but also `https:/x` and `https:x`, which browsers read as they please.
            after.strip_prefix("//").unwrap_or("")
        }
    };
    let end = after.find(['/', '?', '\\']).unwrap_or(after.len());
    Some(after.split_at(end))
}

struct Origin {
    kind: UpstreamKind,
    map: Arc<ReverseMap>,
}

/// Implied by the kind of upstream.
pub fn compile(_section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let facts = build.upstream.as_ref()?;
    build.settings.reverse = (facts.kind == UpstreamKind::Api).then(|| facts.reverse.clone());
    Some(Arc::new(Origin { kind: facts.kind, map: facts.reverse.clone() }))
}

impl Policy for Origin {
    fn hooks(&self) -> Hooks {
        Hooks { upstream_response: true, ..Hooks::default() }
    }

    fn upstream_response_filter(
        &self,
        head: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        match self.kind {
            UpstreamKind::Api => self.erase(head, exchange),
            UpstreamKind::App => {
                self.map_own(head, exchange);
                Ok(())
            }
        }
    }

    fn explain(&self, _telling: &Telling<'_>) -> Option<Told> {
        let words = match self.kind {
            UpstreamKind::Api => vec![
                "`set-cookie` is removed".to_owned(),
                "what names the upstream in `location`, `link`, `refresh` and in JSON strings becomes the public path; a redirect to a \
                 place without one is answered 502"
                    .to_owned(),
            ],
            UpstreamKind::App => {
                vec!["`location`, `link` and `set-cookie` are changed only where they name the upstream itself".to_owned()]
            }
        };
        Some(Told::new(words, serde_json::json!({ "publicPaths": self.map.shown() })))
    }
}

/// Fields with one reference each; `Location` is apart, because a redirect cannot do without.
const SINGLE: [HeaderName; 1] = [header::CONTENT_LOCATION];

impl Origin {
    fn erase(&self, head: &mut ResponseHeader, exchange: &mut Exchange) -> Result<(), Fault> {
        if head.remove_header(&header::SET_COOKIE).is_some() {
            exchange.erased.set_cookie += 1;
        }
        if let Some(location) = head.headers.get(header::LOCATION) {
            match self.mapped(location, exchange) {
                Some(public) => set(head, header::LOCATION, &public)?,
                None if head.status.is_redirection() => return Err(Fault::RedirectUnmapped),
                None => {
                    head.remove_header(&header::LOCATION);
                }
            }
            exchange.erased.location += 1;
        }
        for name in SINGLE {
            let Some(value) = head.headers.get(&name) else { continue };
            match self.mapped(value, exchange) {
                Some(public) => set(head, name, &public)?,
                None => {
                    head.remove_header(&name);
                }
            }
            exchange.erased.location += 1;
        }
        if head.headers.contains_key(header::LINK) {
            let links: Vec<String> = head
                .headers
                .get_all(header::LINK)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(split_links)
                .filter_map(|link| self.mapped_link(link, exchange))
                .collect();
            head.remove_header(&header::LINK);
            if !links.is_empty() {
                set(head, header::LINK, &links.join(", "))?;
            }
            exchange.erased.link += 1;
        }
        if let Some(value) = head.headers.get(header::REFRESH) {
            let mapped = value.to_str().ok().and_then(|text| self.mapped_refresh(text, exchange));
            match mapped {
                Some(text) => set(head, header::REFRESH, &text)?,
                None => {
                    head.remove_header(&header::REFRESH);
                }
            }
            exchange.erased.refresh += 1;
        }
        Ok(())
    }

    fn mapped(&self, value: &HeaderValue, exchange: &Exchange) -> Option<String> {
        self.map.public_reference(value.to_str().ok()?, &exchange.upstream_path)
    }

    /// `<target>; rel=next`: the target mapped, an `anchor` that would name another place makes the link go.
    fn mapped_link(&self, link: &str, exchange: &Exchange) -> Option<String> {
        let (reference, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let lower = parameters.to_ascii_lowercase();
        let names_place =
            lower.contains("//") || self.map.authorities.iter().any(|own| lower.contains(own.as_str()));
        if lower.contains("anchor") || names_place {
            return None;
        }
        Some(format!("<{}>{parameters}", self.map.public_reference(reference, &exchange.upstream_path)?))
    }

    fn mapped_refresh(&self, text: &str, exchange: &Exchange) -> Option<String> {
        let (seconds, url) = match text.split_once(';') {
            Some((seconds, url)) => (seconds.trim(), url.trim()),
            None => (text.trim(), ""),
        };
        if !seconds.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        if url.is_empty() {
            return Some(seconds.to_owned());
        }
        let reference = url.split_once('=').filter(|(key, _)| key.trim().eq_ignore_ascii_case("url"))?.1;
        let reference = reference.trim().trim_matches(['"', '\'']);
        Some(format!("{seconds}; url={}", self.map.public_reference(reference, &exchange.upstream_path)?))
    }

    /// For an `app`: what names the upstream's own origin, and nothing else.
    fn map_own(&self, head: &mut ResponseHeader, exchange: &mut Exchange) {
        for name in [header::LOCATION, header::CONTENT_LOCATION, header::LINK, header::REFRESH] {
            let values: Vec<HeaderValue> = head.headers.get_all(&name).iter().cloned().collect();
            let mapped: Vec<Option<String>> = values
                .iter()
                .map(|value| {
                    let text = value.to_str().ok()?;
                    match name {
                        header::LINK => self.own_links(text, exchange),
                        header::REFRESH => self.own_refresh(text, exchange),
                        _ => self.own_reference(text, exchange),
                    }
                })
                .collect();
            replace(head, &name, values, mapped, exchange);
        }
        let cookies: Vec<HeaderValue> = head.headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        let mapped = cookies.iter().map(|cookie| self.own_cookie(cookie.to_str().ok()?)).collect();
        replace(head, &header::SET_COOKIE, cookies, mapped, exchange);
    }

    fn own_reference(&self, text: &str, exchange: &Exchange) -> Option<String> {
        let (authority, _) = split_authority(text)?;
        let own = self.map.names(authority) && !authority.eq_ignore_ascii_case(&exchange.authority());
        own.then(|| self.map.public_reference(text, &exchange.upstream_path))?
    }

    fn own_links(&self, text: &str, exchange: &Exchange) -> Option<String> {
        let mut changed = false;
        let links: Vec<String> = split_links(text)
            .into_iter()
            .map(|link| {
                let parts = link.trim_start().strip_prefix('<').and_then(|rest| rest.split_once('>'));
                let public = parts.and_then(|(reference, parameters)| {
                    Some(format!(" <{}>{parameters}", self.own_reference(reference, exchange)?))
                });
                changed |= public.is_some();
                public.unwrap_or_else(|| link.to_owned())
            })
            .collect();
        changed.then(|| links.join(",").trim_start().to_owned())
    }

    fn own_refresh(&self, text: &str, exchange: &Exchange) -> Option<String> {
        let url = text.split_once(';')?.1.trim();
        let reference = url.split_once('=').filter(|(key, _)| key.trim().eq_ignore_ascii_case("url"))?.1;
        self.own_reference(reference.trim().trim_matches(['"', '\'']), exchange)?;
        self.mapped_refresh(text, exchange)
    }

    /// Without a `Domain` that names the upstream, which the browser would refuse from us, and with the public form of a `Path`
    /// that only the upstream has.
    fn own_cookie(&self, cookie: &str) -> Option<String> {
        let mut changed = false;
        let mut kept: Vec<String> = Vec::new();
        for (place, attribute) in cookie.split(';').enumerate() {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let (is, value) =
                (|wanted: &str| place > 0 && name.trim().eq_ignore_ascii_case(wanted), value.trim());
            if is("domain") && self.map.names_host(value.trim_start_matches('.')) {
                changed = true;
            } else if let Some(public) = self.map.public_cookie_path(value).filter(|_| is("path")) {
                changed = true;
                kept.push(format!("{name}={public}"));
            } else {
                kept.push(attribute.to_owned());
            }
        }
        changed.then(|| kept.join(";"))
    }
}

/// Writes the mapped values in the place of the old, in their order; nothing where none was mapped.
fn replace(
    head: &mut ResponseHeader,
    name: &HeaderName,
    values: Vec<HeaderValue>,
    mapped: Vec<Option<String>>,
    exchange: &mut Exchange,
) {
    if mapped.iter().all(Option::is_none) {
        return;
    }
    head.remove_header(name);
    for (value, mapped) in values.into_iter().zip(mapped) {
        if mapped.is_some() {
            let erased = &mut exchange.erased;
            *match *name {
                header::LINK => &mut erased.link,
                header::REFRESH => &mut erased.refresh,
                header::SET_COOKIE => &mut erased.set_cookie,
                _ => &mut erased.location,
            } += 1;
        }
        let mapped = mapped.and_then(|text| HeaderValue::try_from(text).ok());
        // Appending what was there a line ago cannot fail; a field that cannot be written is one less.
        let _ = head.append_header(name.clone(), mapped.unwrap_or(value));
    }
}

/// Splits a `Link` field at the commas between links (RFC 8288 §3): those outside of `<>` and quotes.
fn split_links(field: &str) -> Vec<&str> {
    let mut links = Vec::new();
    let (mut start, mut in_reference, mut quoted, mut escaped) = (0, false, false, false);
    for (at, c) in field.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !in_reference => quoted = !quoted,
            '<' if !quoted => in_reference = true,
            '>' if !quoted => in_reference = false,
            ',' if !quoted && !in_reference => {
                links.extend(field.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    links.extend(field.get(start..));
    links
}

fn set(head: &mut ResponseHeader, name: HeaderName, value: &str) -> Result<(), Fault> {
    let value = HeaderValue::try_from(value).map_err(|_| Fault::Internal)?;
    head.insert_header(name, value).map_err(|_| Fault::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> ReverseMap {
        ReverseMap::new(
            vec!["api.vendor.example".into(), "api.vendor.example:443".into()],
            vec![
                WayBack { upstream: "/base/v2".into(), public: "/api/weather".into(), exact: false },
                WayBack { upstream: "/base/v2/one".into(), public: "/one".into(), exact: true },
            ],
        )
    }

    #[test]
    fn references_to_the_upstream_become_public_paths() {
        let map = map();
        let public = |reference| map.public_reference(reference, "/base/v2/list");
        assert_eq!(
            public("https://api.vendor.example/base/v2/x?y=1#z").as_deref(),
            Some("/api/weather/x?y=1#z")
        );
        assert_eq!(public("//API.vendor.example:443/base/v2").as_deref(), Some("/api/weather"));
        assert_eq!(public("/base/v2/one").as_deref(), Some("/one"));
        assert_eq!(public("next?page=2").as_deref(), Some("/api/weather/next?page=2"));
        assert_eq!(public("?page=2").as_deref(), Some("/api/weather/list?page=2"));
        assert_eq!(public("../v2/../v2/a").as_deref(), Some("/api/weather/a"));
    }

    #[test]
    fn what_has_no_public_path_has_none() {
        let map = map();
        let public = |reference| map.public_reference(reference, "/base/v2/list");
        for foreign in [
            "https://other.example/base/v2",
            "/base/v20",
            "/base",
            "/",
            "https:/api.vendor.example/base/v2",
            "https:\\\\api.vendor.example/base/v2",
            "javascript:alert(1)",
            "/base/v2/../../secret",
            "https://user@api.vendor.example/base/v2",
            "/base/v2/one/more/../../..",
        ] {
            assert_eq!(public(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn links_are_split_outside_of_quotes() {
        assert_eq!(split_links("<a,b>; t=\"x,y\", <c>"), ["<a,b>; t=\"x,y\"", " <c>"]);
    }

    #[test]
    fn a_cookie_loses_only_what_names_the_upstream() {
        let origin = Origin { kind: UpstreamKind::App, map: Arc::new(map()) };
        assert_eq!(
            origin.own_cookie("domain=1; Path=/; Domain=.api.vendor.example; Secure").as_deref(),
            Some("domain=1; Path=/; Secure")
        );
        assert_eq!(
            origin.own_cookie("path=/base/v2; Path=/base/v2/x").as_deref(),
            Some("path=/base/v2; Path=/api/weather/x")
        );
        assert_eq!(
            origin.own_cookie("a=1; Path=/; Domain=vendor.example"),
            None,
            "not the upstream's own name"
        );
    }
}
