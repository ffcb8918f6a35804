//! `upstreams`: from what is written to what `upstream/` takes.

mod spec;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

pub(super) use self::spec::Spec;
use self::spec::{BalanceSpec, KindSpec, RetrySpec, TimeoutsSpec, TlsSpec};
use super::{Options, Process, Slots, UpstreamTls};
use crate::config::{Problems, Section, codes};
use crate::exchange::target;
use crate::names::UpstreamName;
use crate::policy::UpstreamKind;
use crate::policy::credential::{self, Injection};
use crate::telemetry::UpstreamMetrics;
use crate::upstream::{
    Balance, EndpointSettings, Retry, RetryOn, Scheme, Settings, Timeouts, Tls, Upstream, is_private,
};

/// The most endpoints of one upstream; each is a metric label.
pub const MAX_ENDPOINTS: usize = 64;
/// Retry attempts that an operator may ask for.
pub const MAX_ATTEMPTS: u32 = 10;
/// The heaviest endpoint.
pub const MAX_WEIGHT: u32 = 1000;

/// A compiled upstream with its counters.
pub struct UpstreamPlan {
    /// Endpoints, pools, deadlines.
    pub upstream: Upstream,
    /// Hidden or trusted.
    pub kind: UpstreamKind,
    /// Its metrics.
    pub metrics: Arc<UpstreamMetrics>,
    /// Where it is written.
    pub section: Section,
}

/// One upstream as declared, checked, not yet compiled.
pub struct Entry {
    /// Its name.
    pub name: UpstreamName,
    /// Where it is written.
    pub section: Section,
    /// Hidden or trusted.
    pub kind: UpstreamKind,
    /// What its credential puts into a request.
    pub injection: Option<Injection>,
    /// What `upstream/` takes.
    pub settings: Settings,
}

/// Every upstream of the document.
pub struct Declared {
    entries: BTreeMap<String, Entry>,
    /// Written, but with mistakes: known by name, so that a route is not blamed for it.
    broken: BTreeSet<String>,
    used: RefCell<BTreeSet<String>>,
}

const PLANNED: [&str; 5] = ["health", "outlier", "quota", "mirror", "spki"];

impl Declared {
    /// Reads `upstreams`.
    pub(super) fn read(root: &Section, secrets: &Slots, problems: &mut Problems) -> Self {
        let mut declared =
            Self { entries: BTreeMap::new(), broken: BTreeSet::new(), used: RefCell::default() };
        for (written, section) in root.get("upstreams").map(|s| s.entries(problems)).unwrap_or_default() {
            match entry(&written, &section, secrets, problems) {
                Some(entry) => {
                    declared.entries.insert(written, entry);
                }
                None => {
                    declared.broken.insert(written);
                }
            }
        }
        declared
    }

    /// The upstream that a route names; a name that nobody declared is recorded.
    pub fn get(&self, name: &str, at: &Section, problems: &mut Problems) -> Option<&Entry> {
        self.used.borrow_mut().insert(name.to_owned());
        if let Some(entry) = self.entries.get(name) {
            return Some(entry);
        }
        if !self.broken.contains(name) {
            let known: Vec<&str> = self.entries.keys().chain(&self.broken).map(String::as_str).collect();
            let problem =
                problems.error(codes::UNKNOWN_UPSTREAM, at.path(), format!("there is no upstream `{name}`"));
            match closest(name, &known) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None if known.is_empty() => problem.help("declare it under `upstreams:`"),
                None => problem.help(format!("declared are: `{}`", known.join("`, `"))),
            };
        }
        None
    }

    /// Compiles those that routes use.
    pub(super) fn build(
        &self,
        process: &Process,
        options: &Options<'_>,
        problems: &mut Problems,
    ) -> BTreeMap<UpstreamName, Arc<UpstreamPlan>> {
        let mut built = BTreeMap::new();
        for (written, entry) in &self.entries {
            if !self.used.borrow().contains(written) {
                continue;
            }
            let mut settings = located(entry.settings.clone(), options.directory);
            if options.tls == UpstreamTls::Assume {
                settings.tls = Tls { sni: settings.tls.sni, ..Tls::default() };
            }
            match Upstream::compile(settings, &process.resolver) {
                Ok(upstream) => {
                    let endpoints = entry.settings.endpoints.len();
                    let metrics = process.metrics.upstream(entry.name.as_str(), endpoints);
                    built.insert(
                        entry.name.clone(),
                        Arc::new(UpstreamPlan {
                            upstream,
                            kind: entry.kind,
                            metrics,
                            section: entry.section.clone(),
                        }),
                    );
                }
                Err(why) => {
                    let at = entry.section.get("tls").unwrap_or_else(|| entry.section.clone());
                    problems.error(codes::BAD_CERTIFICATE, at.path(), why.to_string());
                }
            }
        }
        built
    }

    pub(super) fn warn_of_unused(&self, root: &Section, problems: &mut Problems) {
        let Some(section) = root.get("upstreams") else { return };
        for name in self.entries.keys().filter(|name| !self.used.borrow().contains(*name)) {
            if let Some(entry) = section.get(name) {
                problems
                    .warning(
                        codes::NO_EFFECT,
                        entry.path(),
                        format!("no route leads to the upstream `{name}`"),
                    )
                    .on_key();
            }
        }
    }
}

/// The name that was probably meant.
pub(super) fn closest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), *name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

fn located(mut settings: Settings, directory: &Path) -> Settings {
    settings.tls.ca = settings.tls.ca.map(|path| directory.join(path));
    settings.tls.client_cert =
        settings.tls.client_cert.map(|(cert, key)| (directory.join(cert), directory.join(key)));
    settings
}

fn entry(written: &str, section: &Section, secrets: &Slots, problems: &mut Problems) -> Option<Entry> {
    let name = match UpstreamName::parse(written) {
        Ok(name) => name,
        Err(why) => {
            problems
                .error(codes::BAD_NAME, section.path(), format!("`{written}` is no name: {why}"))
                .on_key();
            return None;
        }
    };
    section.check_keys::<Spec>(&PLANNED, problems);
    let injection = section.get("credential").map(|s| credential::inspect(&s, problems));
    // Asked for first: a mistake elsewhere in the upstream must not hide an unknown secret.
    if let Some(Some(injection)) = &injection
        && let Some((secret, place)) = &injection.secret
    {
        let _ = secrets.get(secret, place.path(), problems);
    }
    if let Some(balance) = section.get("balance").filter(|balance| balance.value().is_mapping()) {
        balance.check_keys::<BalanceSpec>(&["hash"], problems);
    }
    let spec = section.decode::<Spec>(problems)?;
    let kind = match spec.kind.unwrap_or(KindSpec::Api) {
        KindSpec::Api => UpstreamKind::Api,
        KindSpec::App => UpstreamKind::App,
    };
    let (endpoints, base_path) = endpoints(section, &spec, problems)?;
    let allow_private = spec.allow_private.unwrap_or(kind == UpstreamKind::App);
    let at = place_of_url(section);
    if !allow_private
        && let Some(endpoint) = endpoints.iter().find(|e| literal(&e.host).is_some_and(is_private))
    {
        problems
            .error(
                codes::PRIVATE_ADDRESS,
                at.path(),
                format!("`{}` is a private address, and an `api` is somebody else's", endpoint.host),
            )
            .help("if it is meant, add `allowPrivate: true`; if it is your own web app, `kind: app`");
    }
    if let Some(Some(injection)) = &injection
        && let Some((secret, _)) = &injection.secret
    {
        let clear = endpoints.iter().find(|e| {
            e.scheme == Scheme::Http
                && !spec.allow_cleartext
                && !literal(&e.host).is_some_and(is_private)
                && e.host != "localhost"
        });
        if let Some(endpoint) = clear {
            problems
                .error(
                    codes::CLEARTEXT_SECRET,
                    at.path(),
                    format!("the secret `{secret}` would travel in clear text to `{}`", endpoint.host),
                )
                .help("use `https://`; where the network is trusted, add `allowCleartext: true`");
        }
    }
    let settings = Settings {
        name: name.clone(),
        endpoints,
        base_path,
        allow_private,
        timeouts: timeouts(&spec.timeouts),
        retry: retry(section, spec.retry.as_ref(), problems),
        tls: tls(section, spec.tls, problems),
        http2: spec.http2,
        balance: match spec.balance.unwrap_or(BalanceSpec::RoundRobin) {
            BalanceSpec::RoundRobin => Balance::RoundRobin,
            BalanceSpec::LeastInFlight => Balance::LeastInFlight,
        },
    };
    if matches!(injection, Some(None)) {
        return None;
    }
    Some(Entry { name, section: section.clone(), kind, injection: injection.flatten(), settings })
}

fn place_of_url(section: &Section) -> Section {
    section.get("url").or_else(|| section.get("endpoints")).unwrap_or_else(|| section.clone())
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn timeouts(spec: &TimeoutsSpec) -> Timeouts {
    let defaults = Timeouts::default();
    Timeouts {
        connect: spec.connect.map_or(defaults.connect, |t| t.0),
        request: spec.request.map_or(defaults.request, |t| t.0),
        idle: spec.idle.map_or(defaults.idle, |t| t.0),
    }
}

fn retry(section: &Section, spec: Option<&RetrySpec>, problems: &mut Problems) -> Retry {
    let mut retry = Retry::default();
    let Some(spec) = spec else { return retry };
    let at = section.get("retry").unwrap_or_else(|| section.clone());
    if let Some(attempts) = spec.attempts {
        if attempts > MAX_ATTEMPTS {
            problems.error(
                codes::BAD_VALUE,
                at.path(),
                format!("at most {MAX_ATTEMPTS} retries, found `{attempts}`"),
            );
        }
        retry.attempts = attempts;
    }
    if let Some(budget) = spec.budget {
        retry.budget_percent = budget.0;
    }
    if let Some(list) = &spec.on {
        let mut on = RetryOn::NOTHING;
        for item in list {
            match (item.as_str(), item.as_u64().and_then(|n| u16::try_from(n).ok())) {
                (Some("connect-failure"), _) => on.connect_failure = true,
                (_, Some(502)) => on.bad_gateway = true,
                (_, Some(503)) => on.unavailable = true,
                (_, Some(504)) => on.gateway_timeout = true,
                _ => {
                    problems
                        .error(codes::BAD_VALUE, at.path(), "`on` takes `connect-failure`, `502`, `503` and `504`")
                        .help("only failures before an answer, or answers that say the upstream did not do it, are safe to repeat");
                }
            }
        }
        retry.on = on;
    }
    retry
}

fn tls(section: &Section, spec: TlsSpec, problems: &mut Problems) -> Tls {
    let client_cert = match (spec.client_cert, spec.client_key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            let at = section.get("tls").unwrap_or_else(|| section.clone());
            problems.error(codes::MISSING_KEY, at.path(), "`clientCert` and `clientKey` go together");
            None
        }
    };
    Tls { ca: spec.ca, sni: spec.sni, client_cert }
}

fn endpoints(
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
                .on_key();
            return None;
        }
        (Some(_), Some(_)) => {
            problems.error(codes::BAD_VALUE, section.path(), "`url` and `endpoints` exclude each other");
            return None;
        }
    };
    if written.is_empty() || written.len() > MAX_ENDPOINTS {
        problems.error(
            codes::BAD_VALUE,
            section.path(),
            format!("an upstream has 1 to {MAX_ENDPOINTS} endpoints"),
        );
        return None;
    }
    let mut endpoints = Vec::with_capacity(written.len());
    let mut base: Option<String> = None;
    let mut sound = true;
    for (url, weight, at) in written {
        match parse_url(&url) {
            Ok((scheme, host, port, path)) => {
                if weight == 0 || weight > MAX_WEIGHT {
                    problems.error(codes::BAD_VALUE, at.path(), format!("a weight is 1 to {MAX_WEIGHT}"));
                    sound = false;
                }
                if base.get_or_insert_with(|| path.clone()) != &path {
                    problems.error(
                        codes::BAD_VALUE,
                        at.path(),
                        "all endpoints of an upstream have the same path",
                    );
                    sound = false;
                }
                endpoints.push(EndpointSettings { scheme, host, port, weight });
            }
            Err(why) => {
                problems
                    .error(codes::BAD_ADDRESS, at.path(), why)
                    .help("such as `https://api.vendor.example/base`");
                sound = false;
            }
        }
    }
    sound.then(|| (endpoints, base.unwrap_or_default()))
}

/// Scheme, host, port and base path of an upstream's URL. Never echoes user information.
pub(super) fn parse_url(url: &str) -> Result<(Scheme, String, u16, String), String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        _ => return Err("an upstream's URL begins with `https://` or `http://`".into()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err("an upstream's URL carries no user or password: use `credential`".into());
    }
    if path.contains(['?', '#']) {
        return Err("an upstream's URL has no query and no fragment".into());
    }
    let parsed = target::authority(authority).map_err(|why| format!("`{authority}` is no host: {why}"))?;
    let base = if path.is_empty() { "/" } else { path };
    let normal = target::target(base, target::Asterisk::Refuse)
        .map_err(|why| format!("`{base}` is no path: {why}"))?;
    if normal.path != base {
        return Err(format!("write the path in its normal form: `{}`", normal.path));
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

    #[test]
    fn a_slip_of_the_pen_finds_its_name() {
        assert_eq!(closest("vendro", &["web", "vendor"]), Some("vendor"));
        assert_eq!(closest("zzz", &["web", "vendor"]), None);
    }
}
