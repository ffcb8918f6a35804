//! `upstreams`: from what is written to what `upstream/` takes.

pub(super) mod endpoints;
mod spec;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::endpoints::{endpoints, place_of_url};
pub(super) use self::spec::Spec;
use self::spec::{BalanceSpec, KindSpec, RetrySpec, TimeoutsSpec, TlsSpec};
use super::listeners::file_mistake;
use super::{Options, Process, Secrets, Slots, UpstreamTls};
use crate::config::{Problems, Section, codes};
use crate::names::UpstreamName;
use crate::policy::UpstreamKind;
use crate::policy::credential::{self, Injection};
use crate::telemetry::UpstreamMetrics;
use crate::upstream::{
    Balance, FileProblem, Retry, RetryOn, Scheme, Settings, Timeouts, Tls, Upstream, is_private,
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

const PLANNED: [&str; 5] = [
    "health",
    "outlier",
    "quota\n`rateLimit: { ..., key: route }` limits what a route asks of it",
    "mirror",
    "spki\n`tls: { ca: ... }` trusts one authority only",
];

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
        self.check_name(name, at, problems)
    }

    /// Whether it is declared, mistakes or not.
    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.entries.contains_key(name) || self.broken.contains(name)
    }

    /// The same as [`Self::get`] for a name that is not used where it stands.
    pub(super) fn check_name(&self, name: &str, at: &Section, problems: &mut Problems) -> Option<&Entry> {
        if let Some(entry) = self.entries.get(name) {
            return Some(entry);
        }
        if !self.broken.contains(name) {
            let known: Vec<&str> = self.entries.keys().chain(&self.broken).map(String::as_str).collect();
            let problem =
                problems.error(codes::UNKNOWN_UPSTREAM, at.path(), format!("there is no upstream `{name}`"));
            match closest(name, &known) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None if name.contains("://") => problem.help(
                    "name it once, `upstreams: { name: { url: https://... } }`, and write `upstream: name`",
                ),
                None if known.is_empty() => {
                    problem.help(format!("declare it: `upstreams: {{ {name}: {{ url: https://... }} }}`"))
                }
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
            let assumed = options.tls == UpstreamTls::Assume;
            if assumed || !has_usable_files(entry, &settings.tls, options, problems) {
                if matches!(options.secrets, Secrets::Read) {
                    continue;
                }
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

/// Whether the TLS files of an upstream can be loaded; says what is wrong with each, at its name.
fn has_usable_files(entry: &Entry, tls: &Tls, options: &Options<'_>, problems: &mut Problems) -> bool {
    let wrong = crate::upstream::check_files(tls);
    let is = |file: Option<&PathBuf>, problem: &FileProblem| file == Some(&problem.path);
    for problem in &wrong {
        let (cert, key) = tls.client_cert.as_ref().map(|(cert, key)| (cert, key)).unzip();
        let name = match problem {
            _ if is(tls.ca.as_ref(), problem) => "ca",
            _ if is(key, problem) => "clientKey",
            _ if is(cert, problem) => "clientCert",
            _ => "",
        };
        let at = entry.section.at("tls").at(name);
        let cause = problem.cause;
        file_mistake(&at, &cause.to_string(), cause.is_missing(), options, problems);
    }
    wrong.is_empty()
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
        balance.check_keys::<BalanceSpec>(&["hash\nuse `roundRobin` or `leastInFlight`"], problems);
    }
    let spec = section.decode::<Spec>(problems)?;
    let kind = match spec.kind.unwrap_or(KindSpec::Api) {
        KindSpec::Api => UpstreamKind::Api,
        KindSpec::App => UpstreamKind::App,
    };
    let (endpoints, base_path) = endpoints(section, &spec, problems)?;
    let allow_private = spec.allow_private.unwrap_or(kind == UpstreamKind::App);
    if !allow_private
        && let Some(at) = endpoints.iter().position(|e| literal(&e.host).is_some_and(is_private))
        && let Some(endpoint) = endpoints.get(at)
    {
        problems
            .error(
                codes::PRIVATE_ADDRESS,
                place_of_url(section, at).path(),
                format!("`{}` is a private address, and an `api` is somebody else's", endpoint.host),
            )
            .help("if it is meant, add `allowPrivate: true`; if it is your own web app, `kind: app`");
    }
    if let Some(Some(injection)) = &injection
        && let Some((secret, place)) = &injection.secret
    {
        let clear = endpoints.iter().position(|e| {
            e.scheme == Scheme::Http
                && !spec.allow_cleartext
                && !literal(&e.host).is_some_and(is_private)
                && e.host != "localhost"
        });
        if let Some(at) = clear
            && let Some(endpoint) = endpoints.get(at)
        {
            problems
                .error(
                    codes::CLEARTEXT_SECRET,
                    place_of_url(section, at).path(),
                    format!("the secret `{secret}` would travel in clear text to `{}`", endpoint.host),
                )
                .related(place.path(), "the secret")
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
    let at = section.at("retry");
    if let Some(attempts) = spec.attempts {
        if attempts > MAX_ATTEMPTS {
            let message = format!("at most {MAX_ATTEMPTS} retries, found `{attempts}`");
            problems
                .error(codes::BAD_VALUE, at.at("attempts").path(), message)
                .help("each attempt makes the client wait longer, and the upstream's trouble worse");
        }
        retry.attempts = attempts;
    }
    if let Some(budget) = spec.budget {
        retry.budget_percent = budget.0;
    }
    if let Some(list) = &spec.on {
        let mut on = RetryOn::NOTHING;
        for (place, item) in list.iter().enumerate() {
            match (item.as_str(), item.as_u64().and_then(|n| u16::try_from(n).ok())) {
                (Some("connect-failure"), _) => on.connect_failure = true,
                (_, Some(502)) => on.bad_gateway = true,
                (_, Some(503)) => on.unavailable = true,
                (_, Some(504)) => on.gateway_timeout = true,
                _ => {
                    problems
                        .error(
                            codes::BAD_VALUE,
                            at.at("on").item(place).path(),
                            "`on` takes `connect-failure`, `502`, `503` and `504`",
                        )
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
        (cert, _) => {
            let (there, lacks) =
                if cert.is_some() { ("clientCert", "clientKey") } else { ("clientKey", "clientCert") };
            let at = section.at("tls");
            problems
                .error(codes::MISSING_KEY, at.path(), "`clientCert` and `clientKey` go together")
                .on_key()
                .related(at.at(there).path(), "stands alone")
                .help(format!("add `{lacks}: tls/file.pem`"));
            None
        }
    };
    Tls { ca: spec.ca, sni: spec.sni, client_cert }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_its_name() {
        assert_eq!(closest("vendro", &["web", "vendor"]), Some("vendor"));
        assert_eq!(closest("zzz", &["web", "vendor"]), None);
    }
}
