//! What one route claims, held against the grant of its team.

use std::time::Duration;

use super::super::router::{PathPattern, RouteMatch};
use super::{Grant, covers, host_pattern, region};
use crate::config::{Problem, Problems, Rate, Section, Timespan, codes};
use crate::limit::Quota;
use crate::policy::cache::CacheSettings;

/// A route as far as it could be read.
pub(in super::super) struct Claim<'a> {
    /// The route as written.
    pub(in super::super) section: &'a Section,
    /// What it matches; `None` where that has a mistake of its own.
    pub(in super::super) matched: Option<&'a RouteMatch>,
    /// The declared upstream that it names.
    pub(in super::super) upstream: Option<&'a str>,
}

/// Refuses paths, hosts and an upstream that are not granted.
pub(in super::super) fn check(grant: &Grant, claim: &Claim<'_>, problems: &mut Problems) {
    if let Some(matched) = claim.matched {
        check_path(grant, claim.section, &matched.path, problems);
        check_hosts(grant, claim.section, problems);
    }
    if let Some(name) = claim.upstream
        && !grant.upstreams.contains(name)
    {
        let at = claim.section.get("upstream").unwrap_or_else(|| claim.section.clone());
        let message = format!("`{}` may not use the upstream `{name}`", grant.team);
        let problem = problems.error(codes::UPSTREAM_NOT_GRANTED, at.path(), message);
        granted(problem, grant, "upstreams", &listed(grant.upstreams.iter().map(String::as_str)));
    }
}

fn check_path(grant: &Grant, route: &Section, pattern: &PathPattern, problems: &mut Problems) {
    if grant.prefixes.iter().any(|prefix| region::lies_under(pattern, &prefix.path)) {
        return;
    }
    let key = match pattern {
        PathPattern::Exact(_) => "exact",
        PathPattern::Prefix(_) => "prefix",
        PathPattern::Template(_) => "template",
        PathPattern::Regex(_) => "regex",
    };
    let find = |keys: &[&str]| keys.iter().try_fold(route.clone(), |section, key| section.get(key));
    let written = find(&["match", "path", key]);
    let is_written = written.is_some();
    let at = written.or_else(|| find(&["match"])).unwrap_or_else(|| route.clone());
    let message = match pattern {
        _ if !is_written => {
            format!("without a path this route matches all of them, which `{}` may not", grant.team)
        }
        PathPattern::Regex(_) => {
            format!(
                "this expression may match paths that `{}` is not granted: only its literal beginning tells",
                grant.team
            )
        }
        PathPattern::Exact(path) | PathPattern::Prefix(path) | PathPattern::Template(path) => {
            format!("`{}` may not match `{path}`", grant.team)
        }
    };
    let problem = problems.error(codes::PATH_NOT_GRANTED, at.path(), message);
    if let (PathPattern::Regex(_), Some(first)) = (pattern, grant.prefixes.first()) {
        problem.help(format!("begin it with a granted prefix and a slash, such as `{}/`", first.path));
    }
    let prefixes = grant.prefixes.iter().map(|prefix| shown(&prefix.path));
    granted(problem, grant, "prefixes", &listed(prefixes));
}

/// The empty prefix is everything.
fn shown(prefix: &str) -> &str {
    if prefix.is_empty() { "/" } else { prefix }
}

fn check_hosts(grant: &Grant, route: &Section, problems: &mut Problems) {
    let Some(granted_hosts) = &grant.hosts else { return };
    let names = || {
        let hosts = grant.section.get("hosts").map(|hosts| hosts.value().clone()).unwrap_or_default();
        let names = hosts.as_sequence().cloned().unwrap_or_default();
        listed(names.iter().filter_map(|name| name.as_str()))
    };
    let matched = route.get("match");
    let written = matched.as_ref().and_then(|matched| matched.get("hosts"));
    let hosts = written.as_ref().map(|hosts| hosts.items(problems)).unwrap_or_default();
    if hosts.is_empty() {
        let at = written.or(matched).unwrap_or_else(|| route.clone());
        let message =
            format!("without `hosts` this route matches every host, which `{}` may not", grant.team);
        let problem = problems.error(codes::HOST_NOT_GRANTED, at.path(), message);
        return granted(problem, grant, "hosts", &names());
    }
    for at in hosts {
        // One that cannot be read is reported where the match is.
        let Some(host) = at.value().as_str() else { continue };
        let Some(pattern) = host_pattern(host) else { continue };
        if !granted_hosts.iter().any(|outer| covers(outer, &pattern)) {
            let message = format!("`{}` may not match the host `{host}`", grant.team);
            let problem = problems.error(codes::HOST_NOT_GRANTED, at.path(), message);
            granted(problem, grant, "hosts", &names());
        }
    }
}

/// Refuses secrets that a policy of the route named and that are not granted.
pub(in super::super) fn check_secrets(
    grant: &Grant,
    policy: &Section,
    named: impl IntoIterator<Item = String>,
    problems: &mut Problems,
) {
    for name in named.into_iter().filter(|name| !grant.secrets.contains(name)) {
        let message = format!("`{}` may not use the secret `{name}`", grant.team);
        let problem = problems.error(codes::SECRET_NOT_GRANTED, policy.path(), message);
        granted(problem, grant, "secrets", &listed(grant.secrets.iter().map(String::as_str)));
    }
}

/// Refuses a route that lets more through, or keeps answers for longer, than is granted. `quotas` are its rate limits, each
/// where it is written.
pub(in super::super) fn check_limits(
    grant: &Grant,
    route: &Section,
    quotas: &[(Section, Quota)],
    cache: Option<&CacheSettings>,
    problems: &mut Problems,
) {
    if let Some(most) = grant.max_rate {
        check_rate(grant, most, route, quotas, problems);
    }
    if let (Some(most), Some(cache)) = (grant.max_ttl, cache) {
        check_ttl(grant, most, route, cache, problems);
    }
}

/// One limit that keeps to the rate is enough: a request must pass all of them. It must keep to it in the long run and at
/// once, so that a large `burst` is no way around.
fn check_rate(
    grant: &Grant,
    most: Rate,
    route: &Section,
    quotas: &[(Section, Quota)],
    problems: &mut Problems,
) {
    let keeps =
        |quota: &Quota| most.covers(quota.requests(), quota.window()) && quota.burst() <= most.requests.get();
    if quotas.iter().any(|(_, quota)| keeps(quota)) {
        return;
    }
    let Some((at, quota)) = quotas.first() else {
        if route.get("rateLimit").is_none() {
            let message = format!(
                "this route has no limit, which is more than the {most} that `{}` is granted",
                grant.team
            );
            let problem = problems.error(codes::RATE_NOT_GRANTED, route.path(), message).on_key();
            let window = humantime::format_duration(most.window);
            problem.help(format!("add `rateLimit: {{ requests: {}, window: {window} }}`", most.requests));
            problem.related(grant.at("maxRate").path(), "the highest rate");
        }
        return;
    };
    let (key, message) = if most.covers(quota.requests(), quota.window()) {
        let burst = quota.burst();
        let message =
            format!("{burst} requests at once are more than the {most} that `{}` is granted", grant.team);
        ("burst", message)
    } else {
        let (requests, window) = (quota.requests(), Timespan(quota.window()));
        let message = format!(
            "{requests} requests in {window} are more than the {most} that `{}` is granted",
            grant.team
        );
        ("requests", message)
    };
    let place = at.get(key).or_else(|| at.get("requests")).unwrap_or_else(|| at.clone());
    let problem = problems.error(codes::RATE_NOT_GRANTED, place.path(), message);
    problem.related(grant.at("maxRate").path(), "the highest rate");
    if key == "burst" {
        problem.help(format!("add `burst: {}` or less to the limit", most.requests));
    } else {
        problem.help("ask the platform team for more, or lower the limit");
    }
}

/// How old an answer can get: `ttl`, or what is guessed in its place, and, after it, the longer of the two times in which it is given though stale. What the
/// upstream says of its answers itself is not bounded by this.
fn check_ttl(grant: &Grant, most: Duration, route: &Section, cache: &CacheSettings, problems: &mut Problems) {
    let guessed = cache.heuristic_max.unwrap_or_default();
    let ttl = cache.ttl.unwrap_or_default();
    let (key, fresh) = if guessed > ttl { ("heuristic", guessed) } else { ("ttl", ttl) };
    let stale =
        [("staleWhileRevalidate", cache.stale_while_revalidate), ("staleIfError", cache.stale_if_error)];
    let mut over = |key: &str, message: String| {
        let cache = route.get("cache").unwrap_or_else(|| route.clone());
        let at = cache.get(key).unwrap_or(cache);
        let problem = problems.error(codes::TTL_NOT_GRANTED, at.path(), message);
        problem
            .related(grant.at("maxTtl").path(), "the longest time")
            .help("ask the platform team for more, or lower it");
    };
    let limit = humantime::format_duration(most);
    if fresh > most {
        let message = format!("`{}` may keep answers for {limit}, not for {}", grant.team, Timespan(fresh));
        return over(key, message);
    }
    for (key, time) in stale.into_iter().filter_map(|(key, time)| Some((key, time?))) {
        if fresh.saturating_add(time) > most {
            let whole = Timespan(fresh.saturating_add(time));
            let message = format!(
                "with `{key}` an answer is given for up to {whole}; `{}` may keep it for {limit}",
                grant.team
            );
            over(key, message);
        }
    }
}

/// Names what is granted instead, and where.
fn granted(problem: &mut Problem, grant: &Grant, key: &str, list: &str) {
    problem.related(grant.at(key).path(), format!("what `{}` is granted", grant.team));
    problem.help(match list {
        "" => "nothing is granted here; ask the platform team".to_owned(),
        list => format!("granted: {list}; ask the platform team for more"),
    });
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
