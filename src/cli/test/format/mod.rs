//! The results in four forms. All hold the same: every case, and of a failed one each expectation with its place.

mod human;
mod json;
mod junit;
mod tap;

use std::time::Duration;

use super::Tried;
use super::expect::Failure;
use crate::config::visible;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// JUnit XML, for build servers.
    Junit,
    /// TAP 14.
    Tap,
    /// One JSON object.
    Json,
}

impl Format {
    /// All results.
    pub fn render(self, tried: &[Tried], took: Duration) -> String {
        match self {
            Self::Human => visible(&human::render(tried, took)).into_owned(),
            Self::Junit => junit::render(tried, took),
            Self::Tap => visible(&tap::render(tried)).into_owned(),
            Self::Json => json::render(tried, took),
        }
    }
}

/// A failure as lines: what has to be, what is, where they differ. The place is not in it.
fn lines(failure: &Failure) -> Vec<String> {
    if failure.what.is_empty() {
        return failure.expected.lines().map(str::to_owned).collect();
    }
    let mut lines = vec![format!("expected: {}", failure.expected), format!("found:    {}", failure.found)];
    lines.extend(failure.diff.iter().cloned());
    lines
}

/// Which expectation, and in which repetition.
fn title(failure: &Failure) -> String {
    let what = if failure.what.is_empty() { "the case cannot go on" } else { &failure.what };
    match failure.turn {
        Some((turn, of)) => format!("{what} (request {turn} of {of})"),
        None => what.to_owned(),
    }
}

/// What upstreams got, for people.
fn calls(failure: &Failure) -> Vec<String> {
    let mut lines = Vec::new();
    for call in &failure.calls {
        let Some(got) = &call.request else {
            lines.push(format!("{}: the connection was refused", call.upstream));
            continue;
        };
        let query = got.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        lines.push(format!("{}: {} {}{query}", call.upstream, got.method, got.path));
        lines.extend(got.headers.iter().map(|(name, value)| format!("  {name}: {value}")));
        lines.extend(got.body.lines().take(MOST_BODY_LINES).map(|line| format!("  | {line}")));
    }
    lines
}

fn milliseconds(took: Duration) -> u128 {
    took.as_millis()
}

/// Lines of a request body that are shown.
const MOST_BODY_LINES: usize = 20;
