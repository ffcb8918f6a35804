//! What a file holds and whether it is sound, as people read it.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::config::units::ByteSize;
use crate::policy::told::counted;

/// What a file holds, one thing a line.
pub(super) fn overview(told: &Value) -> String {
    let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let mut out = String::new();
    let mut line = |name: &str, text: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{name:<10} {text}");
    };
    let number = |path: &str| number(told, path);
    let size = |path: &str| ByteSize(number(path)).to_string();
    let file = told.get("file").and_then(Value::as_str).unwrap_or_default();
    let made = duration(now.saturating_sub(number("/madeAtSeconds")));
    line("file", &format!("{file}, {}, layout {}, made {made} ago", size("/fileBytes"), number("/layout")));
    if told.get("thisBoot").and_then(Value::as_bool) == Some(false) {
        line("boot", "it is from before the machine was started: the next gateway makes it anew");
    }
    line("holds", &format!("{} of at most {}", counted(number("/entries"), "answer"), number("/maxEntries")));
    line("used", &format!("{} of {}", size("/usedBytes"), size("/capacityBytes")));
    let stretches = counted(number("/freeStretches"), "piece");
    line(
        "free",
        &format!("{} in {stretches}, the longest {}", size("/freeBytes"), size("/longestFreeBytes")),
    );
    let (fresh, stale, expired) = (number("/fresh"), number("/stale"), number("/expired"));
    let purged = number("/purged");
    line(
        "freshness",
        &format!("{fresh} fresh, {stale} stale, {expired} expired, {purged} purged and not swept"),
    );
    line("age", &ages(told));
    let (changed, damaged) = (number("/changed"), number("/damaged"));
    if changed + damaged > 0 {
        line("not seen", &format!("{changed} that changed meanwhile, {damaged} damaged"));
    }
    let (pins, pinned) = (number("/pins"), counted(number("/pinnedEntries"), "answer"));
    let (dying, writing) = (number("/dying"), number("/fills"));
    line("readers", &format!("{pins} on {pinned}; {dying} gone but for readers, {writing} being written"));
    let bans = told.get("bans").and_then(Value::as_u64);
    let spoilt = || "the table is damaged: everything counts as purged".to_owned();
    line("purges", &bans.map_or_else(spoilt, |bans| format!("{bans} in force")));
    line("count", &format!("{} answers and purges so far", number("/sequence")));
    line("writer", &writer(told, now));
    for process in list(told, "processes") {
        let pid = process.get("pid").and_then(Value::as_u64).unwrap_or_default();
        let is_alive = process.get("alive").and_then(Value::as_bool) == Some(true);
        line("shared by", &format!("process {pid}{}", if is_alive { "" } else { ", which is dead" }));
    }
    for (route, sums) in told.get("routes").and_then(Value::as_object).into_iter().flatten() {
        let of = |name: &str| sums.get(name).and_then(Value::as_u64).unwrap_or_default();
        line("route", &format!("`{route}`: {}, {}", counted(of("entries"), "answer"), ByteSize(of("bytes"))));
    }
    out
}

/// How many answers are how old.
fn ages(told: &Value) -> String {
    let mut parts = Vec::new();
    let mut last = 0;
    for age in list(told, "ages") {
        let entries = age.get("entries").and_then(Value::as_u64).unwrap_or_default();
        match age.get("upToSeconds").and_then(Value::as_u64) {
            Some(bound) => {
                parts.push(format!("{entries} up to {}", duration(bound)));
                last = bound;
            }
            None => parts.push(format!("{entries} over {}", duration(last))),
        }
    }
    format!("{}; the oldest {}", parts.join(", "), duration(number(told, "/oldestSeconds")))
}

fn writer(told: &Value, now: u64) -> String {
    let since = duration(now.saturating_sub(number(told, "/writer/sinceSeconds")));
    let is_held = told.pointer("/writer/holds").and_then(Value::as_bool) == Some(true);
    match (is_held, number(told, "/writer/pid")) {
        (true, pid) => format!("process {pid} stores, since {since}"),
        (false, 0) => "nobody has ever stored".to_owned(),
        (false, pid) => format!("nobody stores; process {pid} began to {since} ago and has left or died"),
    }
}

/// What reading everything came to.
pub(super) fn verified(told: &Value) -> String {
    let mut out = String::new();
    for wrong in list(told, "wrong") {
        let why = wrong.get("why").and_then(Value::as_str).unwrap_or_default();
        let _ = match wrong.get("record").and_then(Value::as_u64) {
            Some(record) => writeln!(out, "record {record}: {why}"),
            None => writeln!(out, "{why}"),
        };
    }
    let number = |path: &str| number(told, path);
    let size = |path: &str| ByteSize(number(path)).to_string();
    let read = format!("{} of heads and {} of bodies read", size("/headBytes"), size("/bodyBytes"));
    let wrong = match number("/wrongCount") {
        0 => "nothing is wrong".to_owned(),
        wrong => format!("{wrong} wrong"),
    };
    let changed = match number("/changed") {
        0 => String::new(),
        changed => format!("{changed} changed meanwhile, "),
    };
    let _ = writeln!(out, "{} sound, {read}; {changed}{wrong}", counted(number("/sound"), "answer"));
    out
}

fn number(told: &Value, path: &str) -> u64 {
    told.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

fn list<'a>(told: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    told.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn duration(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
