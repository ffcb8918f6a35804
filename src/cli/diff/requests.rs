//! `--requests FILE`: which requests of an access log are answered otherwise, by the function that `explain` calls.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::log::{Log, Logged};
use super::outcome::{Difference, differences};
use super::{Loaded, Names, counted};
use crate::plan::Plan;
use crate::plan::diff::parts::{PartKind, Parts};
use crate::proxy::explain::{Asked, Outcome};
use crate::server;

/// What was found.
#[derive(Debug, Default)]
pub struct Replay {
    /// Lines that were compared.
    pub lines: u64,
    /// Distinct requests among them.
    pub distinct: usize,
    /// Lines of requests that are answered otherwise.
    pub different: u64,
    /// What differs, the most frequent first.
    pub groups: Vec<Group>,
    /// Groups beyond the limit.
    pub more_groups: usize,
    /// Lines that could not be read, and the number of the first one.
    pub unreadable: u64,
    /// The number of the first one.
    pub first_unreadable: Option<u64>,
    /// Lines beyond the bound of distinct requests.
    pub beyond: u64,
    /// What the log cannot tell, and what that means here.
    pub limits: Vec<String>,
}

/// Requests that differ in the same way.
#[derive(Debug)]
pub struct Group {
    /// How.
    pub differences: Vec<Difference>,
    /// Lines.
    pub lines: u64,
    /// Distinct requests.
    pub distinct: usize,
    /// One of them, the one with the most lines.
    pub example: Logged,
    example_lines: u64,
}

/// Reads the log and compares.
///
/// # Errors
/// The log cannot be read; in the operator's words.
pub fn replay(
    file: &Path,
    limit: usize,
    old: &Loaded,
    new: &Loaded,
    names: &Names,
) -> Result<Replay, String> {
    let unusable = |why: std::io::Error| format!("`{}` cannot be read: {why}", file.display());
    let log = if file == Path::new("-") {
        Log::read(std::io::stdin().lock())
    } else {
        File::open(file).and_then(|file| Log::read(BufReader::new(file)))
    };
    let log = log.map_err(unusable)?;
    let mut replay = Replay {
        unreadable: log.unreadable,
        first_unreadable: log.first_unreadable,
        beyond: log.beyond,
        ..Replay::default()
    };
    let mut groups: HashMap<Vec<Difference>, Group> = HashMap::new();
    let mut unlike_the_log = 0;
    for (request, seen) in &log.requests {
        let (Some(was), Some(is)) = (ask(&old.plan, request, names), ask(&new.plan, request, names)) else {
            replay.unreadable += seen.lines;
            continue;
        };
        replay.lines += seen.lines;
        replay.distinct += 1;
        if seen.route.is_some() && seen.route != was.route {
            unlike_the_log += seen.lines;
        }
        let found = differences(&was, &is, names);
        if found.is_empty() {
            continue;
        }
        replay.different += seen.lines;
        let group = groups.entry(found.clone()).or_insert_with(|| Group {
            differences: found,
            lines: 0,
            distinct: 0,
            example: request.clone(),
            example_lines: 0,
        });
        group.lines += seen.lines;
        group.distinct += 1;
        // The order of a map is none: the example must not depend on it.
        if (seen.lines, std::cmp::Reverse(request)) > (group.example_lines, std::cmp::Reverse(&group.example))
        {
            group.example = request.clone();
            group.example_lines = seen.lines;
        }
    }
    replay.groups = groups.into_values().collect();
    replay.groups.sort_by(|a, b| b.lines.cmp(&a.lines).then_with(|| a.differences.cmp(&b.differences)));
    replay.more_groups = replay.groups.len().saturating_sub(limit);
    replay.groups.truncate(limit);
    replay.limits = limits(&log, old, new, unlike_the_log);
    Ok(replay)
}

/// What a configuration does to a logged request; `None` where it cannot be asked.
fn ask(plan: &Plan, request: &Logged, names: &Names) -> Option<Outcome> {
    let knows = |name: &str| plan.listeners.iter().any(|listener| listener.name.as_str() == name);
    let renamed = names.listeners.get(&request.listener).unwrap_or(&request.listener);
    let listener = [&request.listener, renamed].into_iter().find(|name| knows(name)).cloned();
    let host = if request.host.is_empty() { "localhost" } else { request.host.as_str() };
    let asked = Asked {
        method: request.method.clone(),
        url: request.target.clone(),
        headers: vec![("host".to_owned(), host.to_owned())],
        from: None,
        listener,
    };
    server::outcome(plan, &asked).ok()
}

/// What this comparison cannot see.
fn limits(log: &Log, old: &Loaded, new: &Loaded, unlike_the_log: u64) -> Vec<String> {
    let mut limits = Vec::new();
    let without = if log.has_queries { "no headers" } else { "no query strings and no headers" };
    limits.push(format!(
        "an access log has {without}, so each request was asked without: what a route asks of them or makes of them is not seen"
    ));
    let mut blind: Vec<String> = Vec::new();
    for parts in [Parts::of(&old.document), Parts::of(&new.document)] {
        for route in parts.all(PartKind::Route) {
            let asks = route.names("match.headers").next().is_some()
                || (!log.has_queries && route.names("match.query").next().is_some());
            if asks && !blind.contains(&route.name) {
                blind.push(route.name.clone());
            }
        }
    }
    if !blind.is_empty() {
        let shown: Vec<&str> = blind.iter().take(MAX_NAMED).map(String::as_str).collect();
        let more = blind.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        limits.push(format!(
            "routes that ask for a header or a parameter are never taken here: `{}`{more}",
            shown.join("`, `")
        ));
    }
    limits.push(
        "addresses of clients are not used: limits are compared by their rules, not by what was left".into(),
    );
    if unlike_the_log > 0 {
        limits.push(format!(
            "the log names another route than the old configuration has for {}: with headers or a query, or under another configuration, it took that",
            counted(usize::try_from(unlike_the_log).unwrap_or(usize::MAX), "line", "lines")
        ));
    }
    limits
}

/// Routes that are named in one line.
const MAX_NAMED: usize = 8;
