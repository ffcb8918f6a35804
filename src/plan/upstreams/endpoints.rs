//! The endpoints of an upstream: from its URLs to hosts, ports and the one base path.

use super::{MAX_ENDPOINTS, MAX_WEIGHT, Spec};
use crate::config::{Problems, Section, codes};
use crate::exchange::target;
use crate::upstream::{EndpointSettings, Scheme};

/// Where the URL of an endpoint is written, counted from 0.
pub(super) fn place_of_url(section: &Section, endpoint: usize) -> Section {
    match section.get("url") {
        Some(url) => url,
        None => section.at("endpoints").item(endpoint).at("url"),
    }
}

/// Every endpoint and the path that they share; `None` where one is wrong, recorded.
pub(super) fn endpoints(
    section: &Section,
    spec: &Spec,
    problems: &mut Problems,
) -> Option<(Vec<EndpointSettings>, String)> {
    let written: Vec<(String, u32, Section)> = match (&spec.url, &spec.endpoints) {
        (Some(url), None) => vec![(url.clone(), 1, section.get("url")?)],
        (None, Some(list)) => {
            let places = section.get("endpoints")?.items(problems);
            list.iter().zip(places).map(|(e, at)| (e.url.clone(), e.weight.unwrap_or(1), at)).collect()
        }
        (None, None) => {
            problems
                .error(codes::MISSING_KEY, section.path(), "an upstream needs `url` or `endpoints`")
                .on_key()
                .help("such as `url: https://api.vendor.example`");
            return None;
        }
        (Some(_), Some(_)) => {
            problems
                .error(
                    codes::BAD_VALUE,
                    section.at("endpoints").path(),
                    "`url` and `endpoints` exclude each other",
                )
                .on_key()
                .related(section.at("url").path(), "the other one")
                .help("move the URL into the list: `endpoints: [{ url: ... }, ...]`");
            return None;
        }
    };
    if written.is_empty() || written.len() > MAX_ENDPOINTS {
        let message = format!("an upstream has 1 to {MAX_ENDPOINTS} endpoints, found {}", written.len());
        problems.error(codes::BAD_VALUE, section.at("endpoints").path(), message);
        return None;
    }
    let mut endpoints = Vec::with_capacity(written.len());
    let mut base: Option<String> = None;
    let mut sound = true;
    for (url, weight, at) in written {
        match parse_url(&url) {
            Ok((scheme, host, port, path)) => {
                if weight == 0 || weight > MAX_WEIGHT {
                    let message = format!("a weight is 1 to {MAX_WEIGHT}, found `{weight}`");
                    problems.error(codes::BAD_VALUE, at.at("weight").path(), message);
                    sound = false;
                }
                if base.get_or_insert_with(|| path.clone()) != &path {
                    let first = place_of_url(section, 0);
                    problems
                        .error(
                            codes::BAD_VALUE,
                            at.at("url").path(),
                            "all endpoints of an upstream have the same path",
                        )
                        .related(first.path(), "the path of the first one")
                        .help("a route's `rewrite` can add a path; machines with different ones are two upstreams");
                    sound = false;
                }
                endpoints.push(EndpointSettings { scheme, host, port, weight });
            }
            Err(why) => {
                let (why, help) =
                    why.split_once('\n').unwrap_or((&why, "such as `https://api.vendor.example/base`"));
                problems.error(codes::BAD_ADDRESS, at.at("url").path(), why).help(help);
                sound = false;
            }
        }
    }
    sound.then(|| (endpoints, base.unwrap_or_default()))
}

/// Scheme, host, port and base path of an upstream's URL. Never echoes user information. What follows a line break of an error is
/// what to do about it.
pub(in crate::plan) fn parse_url(url: &str) -> Result<(Scheme, String, u16, String), String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(_) => return Err("an upstream's URL begins with `https://` or `http://`".into()),
        None if url.contains('@') => {
            return Err("an upstream's URL begins with `https://` or `http://`".into());
        }
        None => {
            return Err(format!(
                "an upstream's URL begins with `https://` or `http://`\ndid you mean `https://{url}`?"
            ));
        }
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err("an upstream's URL carries no user or password\nuse `credential: { basic: { username: ..., password: a-secrets-name } }`".into());
    }
    if path.contains(['?', '#']) {
        return Err("an upstream's URL has no query and no fragment\na route adds parameters with `rewrite: { query: { set: { name: value } } }`; a key goes into `credential: { apiKey: { in: query, ... } }`".into());
    }
    let parsed = target::authority(authority)
        .map_err(|_| format!("`{authority}` is no host name or address, with or without a port"))?;
    let base = if path.is_empty() { "/" } else { path };
    let normal = target::target(base, target::Asterisk::Refuse)
        .map_err(|why| format!("`{base}` is no path: {why}"))?;
    if normal.path != base {
        return Err(format!("`{base}` is not in its normal form\nwrite `{}`", normal.path));
    }
    Ok((
        scheme,
        parsed.host,
        parsed.port.unwrap_or(scheme.default_port()),
        base.trim_end_matches('/').to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_url_is_taken_apart() {
        let (scheme, host, port, base) = parse_url("https://API.vendor.example/base/").expect("a URL");
        assert!(scheme == Scheme::Https && host == "api.vendor.example" && port == 443 && base == "/base");
        let (_, host, port, base) = parse_url("http://[::1]:9101").expect("a URL");
        assert!(host == "[::1]" && port == 9101 && base.is_empty(), "{host} {base}");
    }

    #[test]
    fn what_is_no_upstream_is_refused_without_echoing_a_password() {
        for url in ["ftp://a", "a.example", "https://", "https://a/?q", "https://a/#f", "https://a/../b"] {
            assert!(parse_url(url).is_err(), "{url}");
        }
        let why = parse_url("https://user:hunter22@a.example").expect_err("no user information");
        assert!(!why.contains("hunter22"), "{why}");
    }
}
