//! What the gateway did in a step, held against what the model says.

use std::fmt;

use crate::Step;
use crate::cache::{Age, Cache, Doubts, Expected, Shown};
use crate::message::Tag;
use crate::origin::Call;
use crate::stage::Got;

/// Where the two do not agree.
#[derive(Debug)]
pub struct Difference {
    pub step: usize,
    /// What the model says, and what was.
    lines: Vec<(String, String)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "in step {}:", self.step)?;
        for (expected, got) in &self.lines {
            writeln!(f, "  the model says: {expected}\n  and there was:  {got}")?;
        }
        Ok(())
    }
}

/// Lets the model make the step. Where it leaves something open, whichever way the gateway went is the model's too.
pub fn step(
    model: &mut Cache,
    step: &Step,
    number: usize,
    got: &Got,
    calls: &[Call],
) -> Result<(), Difference> {
    let most = model.doubts(&step.ask);
    let mut first = None;
    for forgets in 0..=most.forgets {
        for goes_alone in [false, true] {
            if goes_alone && !most.goes_alone {
                continue;
            }
            let mut next = model.clone();
            let expected = next.step(&step.ask, &step.origin, number, Doubts { forgets, goes_alone });
            let lines = differences(&expected, got, calls);
            if lines.is_empty() {
                *model = next;
                return Ok(());
            }
            first = first.or(Some(lines));
        }
    }
    Err(Difference { step: number, lines: first.unwrap_or_default() })
}

/// What came about in a step, for knowing what a search has been through.
pub const SITUATIONS: [&str; 12] = [
    "hit",
    "stale",
    "refreshed",
    "validated",
    "instead of an error",
    "stored",
    "206",
    "304",
    "412",
    "416",
    "502",
    "504",
];

pub fn situations(got: &Got, calls: &[Call]) -> Vec<&'static str> {
    let text = got.field("cache-status").unwrap_or_default();
    let is_hit = text.contains("; hit");
    let is_in = |situation: &&str| match *situation {
        "hit" => is_hit,
        "stale" => is_hit && text.contains("ttl=-"),
        "refreshed" => is_hit && !calls.is_empty(),
        "validated" => text.contains("fwd-status=304"),
        "instead of an error" => text.contains("stale-if-error"),
        "stored" => text.contains("; stored"),
        status => status == got.status.to_string(),
    };
    SITUATIONS.into_iter().filter(is_in).collect()
}

fn differences(expected: &Expected, got: &Got, calls: &[Call]) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut compare = |expected: String, got: String| {
        if expected != got {
            lines.push((expected, got));
        }
    };
    // A dead origin is dialled, and hears nothing.
    let heard = |calls: &[Call]| calls.iter().map(call_text).collect::<Vec<_>>().join("; then ");
    if calls.iter().any(|call| call.method.is_empty()) {
        compare(format!("{} calls", expected.calls.len()), format!("{} calls", calls.len()));
    } else {
        compare(format!("asked [{}]", heard(&expected.calls)), format!("asked [{}]", heard(calls)));
    }
    let shown = &expected.shown;
    compare(format!("status {}", shown.status), format!("status {}", got.status));
    if let Some(body) = &shown.body {
        compare(format!("body `{body}`"), format!("body `{}`", got.body));
    }
    compare_age(shown, got, &mut compare);
    compare_fields(shown, got, &mut compare);
    compare_status(shown, got, &mut compare);
    lines
}

fn call_text(call: &Call) -> String {
    let mut text = format!("{} /{}", call.method, call.url);
    let fields = [
        ("if-none-match", &call.if_none_match),
        ("if-modified-since", &call.if_modified_since),
        ("if-match", &call.if_match),
        ("if-unmodified-since", &call.if_unmodified_since),
        ("range", &call.range),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            text.push_str(&format!(" {name}: {value}"));
        }
    }
    text
}

fn compare_age(shown: &Shown, got: &Got, compare: &mut impl FnMut(String, String)) {
    let age: Option<i64> = got.field("age").map(|age| age.parse().unwrap_or(-1));
    match shown.age {
        Age::Said(said) => compare(format!("age {said:?}"), format!("age {age:?}")),
        // A date without fractions makes it up to a second more, and the machine a little; the clock of the stage loses a moment.
        Age::Counted(counted) if age.is_some_and(|age| (counted - 1..=counted + 2).contains(&age)) => {}
        Age::Counted(counted) => compare(format!("age {:?}", Some(counted)), format!("age {age:?}")),
    }
}

fn compare_fields(shown: &Shown, got: &Got, compare: &mut impl FnMut(String, String)) {
    let Some(fields) = &shown.fields else { return };
    let mut field = |name: &str, expected: Option<String>| {
        compare(format!("{name}: {expected:?}"), format!("{name}: {:?}", got.field(name).map(str::to_owned)));
    };
    field("etag", fields.tag.map(Tag::text));
    field("x-mark", fields.mark.map(|mark| mark.to_string()));
    let has = |name| got.field(name).is_some();
    compare(
        format!("last-modified: {}, set-cookie: {}", fields.modified.is_some(), fields.cookie.is_some()),
        format!("last-modified: {}, set-cookie: {}", has("last-modified"), has("set-cookie")),
    );
}

fn compare_status(shown: &Shown, got: &Got, compare: &mut impl FnMut(String, String)) {
    let text = got.field("cache-status").unwrap_or_default();
    let has = |word: &str| text.split(';').any(|member| member.trim() == word);
    let told = |is_so: bool, word: &str| if is_so { word.to_owned() } else { format!("not {word}") };
    for (expected, word) in [(shown.is_hit, "hit"), (shown.is_stored, "stored")] {
        if let Some(expected) = expected {
            compare(
                told(expected, word),
                format!(
                    "{}{}",
                    told(has(word), word),
                    if expected == has(word) { String::new() } else { format!(" (`{text}`)") }
                ),
            );
        }
    }
    if let Some(left) = shown.left {
        let ttl = text.split("ttl=").nth(1).and_then(|rest| rest.split(';').next()?.parse::<i64>().ok());
        if ttl.is_none_or(|ttl| (ttl - left).abs() > 2) {
            compare(format!("ttl {left}"), format!("`{text}`"));
        }
    }
}
