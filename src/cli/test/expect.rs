//! What has to come of a request, held against what came of it.

use serde_json::Value;

use super::client::{Received as Answer, joined};
use super::run::Seen;
use super::stub::{Call, Got};
use super::{diff, leak};
use crate::cli::percent;
use crate::config::{Place, Problems, Section};
use crate::plan::cases::{CacheWord, Count, Expect, LimitExpect, Matcher, NO_ROUTE, Received, Step};

/// One expectation that does not hold.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Where it is written.
    pub at: Place,
    /// Which one, such as `expect.headers.set-cookie`; empty: the case as a whole.
    pub what: String,
    /// What has to be, or, of a case as a whole, what is wrong.
    pub expected: String,
    /// What is.
    pub found: String,
    /// Where two JSON values differ, a line each.
    pub diff: Vec<String>,
    /// Which repetition of how many.
    pub turn: Option<(u32, u32)>,
    /// What upstreams got.
    pub calls: Vec<Call>,
    /// The answer's status line, fields and body, secrets by name.
    pub answer: Vec<String>,
}

impl Failure {
    /// The case as a whole cannot go on.
    pub fn of_case(at: Place, why: String) -> Self {
        Self {
            at,
            what: String::new(),
            expected: why,
            found: String::new(),
            diff: Vec::new(),
            turn: None,
            calls: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// With what was sent upstream.
    pub fn with_calls(mut self, calls: &[Call]) -> Self {
        self.calls = calls.to_vec();
        self
    }
}

/// Everything of a step that does not hold.
pub fn check(step: &Step, seen: &Seen) -> Vec<Failure> {
    let mut check = Check { at: &step.at, seen, failures: Vec::new() };
    let expect = &step.expect;
    check.whole(expect);
    check.journey(expect);
    check.upstream(expect);
    check.answer(expect);
    for leak in leak::find(expect, seen) {
        check.fail(&leak.path, leak.expected, leak.found);
    }
    let answer = shown(seen);
    let with_context =
        |failure: Failure| Failure { answer: answer.clone(), ..failure.with_calls(&seen.calls) };
    check.failures.into_iter().map(with_context).collect()
}

/// The answer for people.
fn shown(seen: &Seen) -> Vec<String> {
    let Answer { status_line, headers, body, trailers, .. } = &seen.answer;
    let line = |(name, value): &(String, String)| seen.masks.shown(&format!("{name}: {value}"));
    let mut lines = vec![seen.masks.shown(status_line)];
    lines.extend(headers.iter().map(line));
    let text = seen.masks.shown(&String::from_utf8_lossy(body));
    if !text.is_empty() {
        lines.push(String::new());
        lines.extend(text.lines().take(MOST_BODY_LINES).map(cut));
    }
    lines.extend(trailers.iter().map(line));
    lines
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(LONGEST_LINE) {
        Some((at, _)) => format!("{}...", line.get(..at).unwrap_or_default()),
        None => line.to_owned(),
    }
}

struct Check<'a> {
    at: &'a Section,
    seen: &'a Seen,
    failures: Vec<Failure>,
}

impl Check<'_> {
    fn fail(&mut self, path: &[&str], expected: impl Into<String>, found: impl Into<String>) -> &mut Failure {
        let mut failure = Failure::of_case(place(self.at, path), expected.into());
        failure.what = path.iter().fold(String::from("expect"), |what, step| format!("{what}.{step}"));
        failure.found = found.into();
        self.failures.push(failure);
        self.failures.last_mut().expect("one was just pushed")
    }

    fn whole(&mut self, expect: &Expect) {
        let is_whole = self.seen.answer.is_whole;
        match (expect.cut.unwrap_or(false), is_whole) {
            (true, true) => {
                self.fail(&["cut"], "an answer that is cut", "a whole one");
            }
            (false, false) => {
                let found = if self.seen.answer.status == 0 {
                    "no answer"
                } else {
                    "an answer that was cut before its end"
                };
                self.fail(&[], "a whole answer", found);
            }
            _ => {}
        }
    }

    /// What is known of the request's way through the gateway.
    fn journey(&mut self, expect: &Expect) {
        let line = self.seen.line.as_ref();
        let of_line = |key: &str| line.and_then(|line| line.get(key)).and_then(Value::as_str);
        if let Some(route) = &expect.route {
            let found = of_line("route").filter(|found| !matches!(*found, "" | "-")).unwrap_or(NO_ROUTE);
            if found != route {
                self.fail(&["route"], route, found);
            }
        }
        if let Some(word) = expect.cache {
            let found = of_line("cache").unwrap_or(CacheWord::Bypass.as_str());
            if found != word.as_str() {
                self.fail(&["cache"], word.as_str(), found);
            }
        }
        if let Some(stored) = expect.stored {
            let status = self.seen.answer.header("cache-status").unwrap_or_default();
            let found = status.split(';').any(|part| part.trim() == "stored");
            if found != stored {
                self.fail(&["stored"], stored.to_string(), format!("{found} (`cache-status: {status}`)"));
            }
        }
        if let Some(limited) = expect.limited {
            let by = of_line("limit");
            match (limited, by) {
                (true, None) => self.fail(&["limited"], "refused by a rate limit", "not refused"),
                (false, Some(name)) => {
                    self.fail(&["limited"], "not refused", format!("refused by the limit `{name}`"))
                }
                _ => return self.limit(expect),
            };
        }
        self.limit(expect);
    }

    fn limit(&mut self, expect: &Expect) {
        let Some(LimitExpect { name, remaining }) = &expect.limit else { return };
        let name = name.as_deref().unwrap_or("default");
        let field = self.seen.answer.header("ratelimit").unwrap_or_default();
        match remaining_in(&field, name) {
            Some(found) if found == *remaining => {}
            Some(found) => {
                self.fail(&["limit", "remaining"], remaining.to_string(), found.to_string());
            }
            None => {
                self.fail(&["limit"], format!("a limit `{name}`"), format!("`ratelimit: {field}`"));
            }
        }
    }

    fn upstream(&mut self, expect: &Expect) {
        let calls = &self.seen.calls;
        if let Some(received) = &expect.upstream_request {
            match calls.as_slice() {
                [call] => self.received(received, call, &["upstreamRequest"]),
                _ => {
                    self.fail(&["upstreamRequest"], "one request to an upstream", calls.len().to_string());
                }
            }
        }
        match &expect.upstream_requests {
            Some(Count::Number(number)) if calls.len() != *number as usize => {
                self.fail(&["upstreamRequests"], number.to_string(), calls.len().to_string());
            }
            Some(Count::Each(all)) if calls.len() != all.len() => {
                self.fail(&["upstreamRequests"], all.len().to_string(), calls.len().to_string());
            }
            Some(Count::Each(all)) => {
                for (index, (received, call)) in all.iter().zip(calls).enumerate() {
                    self.received(received, call, &["upstreamRequests", &index.to_string()]);
                }
            }
            _ => {}
        }
    }

    fn received(&mut self, received: &Received, call: &Call, at: &[&str]) {
        let below = |step: &'static str| -> Vec<&str> { at.iter().copied().chain([step]).collect() };
        if let Some(name) = &received.upstream
            && *name != call.upstream
        {
            self.fail(&below("upstream"), name, &call.upstream);
        }
        let Some(got) = &call.request else {
            self.fail(at, "a request", format!("the connection to `{}` was refused", call.upstream));
            return;
        };
        if let Some(method) = &received.method
            && *method != got.method
        {
            self.fail(&below("method"), method, &got.method);
        }
        if let Some(path) = &received.path {
            self.matches(&below("path"), path, Some(&got.path));
        }
        let pairs = query_pairs(got);
        for (name, matcher) in &received.query {
            let steps: Vec<&str> = below("query").into_iter().chain([name.as_str()]).collect();
            self.matches(&steps, matcher, joined_exact(&pairs, name).as_deref());
        }
        for (name, matcher) in &received.headers {
            let steps: Vec<&str> = below("headers").into_iter().chain([name.as_str()]).collect();
            self.matches(&steps, matcher, joined(&got.headers, name).as_deref());
        }
        self.body(
            received.json.as_ref(),
            received.json_contains.as_ref(),
            received.body.as_ref(),
            &got.body,
            at,
        );
    }

    fn answer(&mut self, expect: &Expect) {
        let answer = &self.seen.answer;
        if let Some(status) = expect.status
            && status != answer.status
        {
            self.fail(&["status"], status.to_string(), answer.status.to_string());
        }
        for (name, matcher) in &expect.headers {
            let found = answer.header(name).map(|value| self.seen.masks.shown(&value));
            self.matches(&["headers", name], matcher, found.as_deref());
        }
        let text = self.seen.masks.shown(&String::from_utf8_lossy(&answer.body));
        self.body(expect.json.as_ref(), expect.json_contains.as_ref(), expect.body.as_ref(), &text, &[]);
    }

    fn matches(&mut self, path: &[&str], matcher: &Matcher, found: Option<&str>) {
        if !matcher.accepts(found) {
            let found = found.map_or_else(|| "absent".to_owned(), |found| format!("`{}`", cut(found)));
            self.fail(path, matcher.to_string(), found);
        }
    }

    fn body(
        &mut self,
        json: Option<&Value>,
        contains: Option<&Value>,
        text: Option<&Matcher>,
        found: &str,
        at: &[&str],
    ) {
        if let Some(matcher) = text {
            let path: Vec<&str> = at.iter().copied().chain(["body"]).collect();
            self.matches(&path, matcher, Some(found));
        }
        for (key, expected, extent) in
            [("json", json, diff::Extent::Whole), ("jsonContains", contains, diff::Extent::AtLeast)]
        {
            let Some(expected) = expected else { continue };
            let path: Vec<&str> = at.iter().copied().chain([key]).collect();
            match serde_json::from_str::<Value>(found) {
                Err(_) => {
                    self.fail(&path, "JSON", format!("a body that is none: `{}`", cut(found)));
                }
                Ok(found) => {
                    let lines = diff::lines(expected, &found, extent);
                    if !lines.is_empty() {
                        self.fail(&path, cut(&expected.to_string()), cut(&found.to_string())).diff = lines;
                    }
                }
            }
        }
    }
}

/// The deepest part of the way that is written.
fn place(at: &Section, path: &[&str]) -> Place {
    let mut here = at.clone();
    for step in path {
        let next = match step.parse::<usize>() {
            Ok(index) if here.value().is_sequence() => here.items(&mut Problems::new()).get(index).cloned(),
            _ => here.get(step),
        };
        match next {
            Some(next) => here = next,
            None => break,
        }
    }
    here.place()
}

/// `r` of the item `name` in a `RateLimit` field (`"default";r=99;t=1`).
fn remaining_in(field: &str, name: &str) -> Option<u32> {
    let item = field
        .split(',')
        .map(str::trim)
        .find(|item| item.split(';').next().is_some_and(|first| first.trim().trim_matches('"') == name))?;
    item.split(';').find_map(|part| part.trim().strip_prefix("r=")?.parse().ok())
}

fn query_pairs(got: &Got) -> Vec<(String, String)> {
    got.query.as_deref().map(percent::pairs).unwrap_or_default()
}

fn joined_exact(pairs: &[(String, String)], name: &str) -> Option<String> {
    let values: Vec<&str> =
        pairs.iter().filter(|(other, _)| other == name).map(|(_, v)| v.as_str()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// Lines of a body that are shown.
const MOST_BODY_LINES: usize = 20;
/// Characters of a line that are shown.
const LONGEST_LINE: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_read_by_the_limits_name() {
        let field = "\"burst\";r=9;t=1, \"hourly\";r=299;t=12";
        assert_eq!(remaining_in(field, "hourly"), Some(299));
        assert_eq!(remaining_in(field, "burst"), Some(9));
        assert_eq!(remaining_in(field, "default"), None);
    }
}
