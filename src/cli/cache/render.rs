//! Answers about the cache as people read them.

use std::fmt::Write as _;

use serde_json::Value;

use crate::config::units::ByteSize;
use crate::policy::told::counted;

/// The numbers of the store, one a line.
pub(super) fn stats(told: &Value) -> String {
    let mut out = String::new();
    let number = |path: &str| told.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let size = |path: &str| ByteSize(number(path)).to_string();
    let mut line = |name: &str, text: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{name:<10} {text}");
    };
    line("holds", &counted(number("/entries"), "answer"));
    line("used", &format!("{} of {}", size("/usedBytes"), size("/capacityBytes")));
    line("filling", &number("/fills").to_string());
    line("stored", &number("/stored").to_string());
    let evicted = |reason: &str| number(&format!("/evicted/{reason}"));
    line(
        "let go",
        &format!(
            "{} for room, {} purged, {} replaced",
            evicted("size"),
            evicted("purge"),
            evicted("replaced")
        ),
    );
    let rejected = |reason: &str| number(&format!("/rejected/{reason}"));
    line(
        "not stored",
        &format!(
            "{} too large, {} without room, {} purged meanwhile, {} incomplete",
            rejected("tooLarge"),
            rejected("noRoom"),
            rejected("purged"),
            rejected("failed")
        ),
    );
    line(
        "purges",
        &format!(
            "{} in force, {} answers swept in {}",
            number("/purges/bans"),
            number("/purges/swept"),
            counted(number("/purges/sweeps"), "walk")
        ),
    );
    out
}

/// What a file holds, one thing a line.
pub(super) fn overview(told: &Value) -> String {
    let mut out = String::new();
    let number = |path: &str| told.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let size = |path: &str| ByteSize(number(path)).to_string();
    let ago = |at: u64| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        humantime::format_duration(std::time::Duration::from_secs(now.saturating_sub(at))).to_string()
    };
    let mut line = |name: &str, text: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{name:<10} {text}");
    };
    let file = told.get("file").and_then(Value::as_str).unwrap_or_default();
    line("file", &format!("{file}, {}, made {} ago", size("/fileBytes"), ago(number("/madeAtSeconds"))));
    line("holds", &format!("{} of at most {}", counted(number("/entries"), "answer"), number("/maxEntries")));
    line("used", &format!("{} of {}", size("/usedBytes"), size("/capacityBytes")));
    let stretches = counted(number("/freeStretches"), "piece");
    line("free", &format!("in {stretches}, the longest {}", size("/longestFreeBytes")));
    line(
        "freshness",
        &format!(
            "{} fresh, {} stale, {} purged and not swept, the oldest {}s",
            number("/fresh"),
            number("/stale"),
            number("/purged"),
            number("/oldestSeconds")
        ),
    );
    line(
        "readers",
        &format!(
            "{} on {}; {} gone but for readers, {} being written",
            number("/pins"),
            counted(number("/pinnedEntries"), "answer"),
            number("/dying"),
            number("/fills")
        ),
    );
    let bans = told.get("bans").and_then(Value::as_u64);
    line(
        "purges",
        &bans.map_or("the table is damaged: nothing is served".into(), |bans| format!("{bans} in force")),
    );
    line("last", &format!("answer number {}", number("/sequence")));
    let since = ago(number("/writer/sinceSeconds"));
    let writer = match (told.pointer("/writer/holds").and_then(Value::as_bool), number("/writer/pid")) {
        (Some(true), pid) => format!("process {pid} holds the lease, since {since}"),
        (_, 0) => "nobody has ever held the lease".into(),
        (_, pid) => format!("nobody holds the lease; process {pid} took it last, {since} ago"),
    };
    line("writer", &writer);
    for process in told.get("processes").and_then(Value::as_array).into_iter().flatten() {
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

/// What reading everything came to.
pub(super) fn verified(told: &Value) -> String {
    let number = |name: &str| told.get(name).and_then(Value::as_u64).unwrap_or_default();
    let mut out = String::new();
    for wrong in told.get("wrong").and_then(Value::as_array).into_iter().flatten() {
        let record = wrong.get("record").and_then(Value::as_u64).unwrap_or_default();
        let why = wrong.get("why").and_then(Value::as_str).unwrap_or_default();
        let _ = writeln!(out, "record {record}: {why}");
    }
    let wrong = told.get("wrong").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    let _ = writeln!(
        out,
        "{} sound, {} of bodies read; {} changed meanwhile, {} wrong",
        counted(number("sound"), "answer"),
        ByteSize(number("bytes")),
        number("changed"),
        wrong
    );
    out
}

/// What is stored: a URL, and under it each variant.
pub(super) fn list(told: &Value) -> String {
    let mut out = String::new();
    let entries = told.get("entries").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        out.push_str("nothing is stored\n");
    }
    for entry in entries {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let _ = writeln!(out, "{}  (route `{}`)", text("url"), text("route"));
        for header in entry.get("keyHeaders").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| header.get(name).and_then(Value::as_str).unwrap_or_default();
            let _ = writeln!(out, "  for {} #{}", text("name"), short(text("hash")));
        }
        for variant in entry.get("variants").and_then(Value::as_array).into_iter().flatten() {
            variant_line(&mut out, variant);
        }
    }
    out
}

fn variant_line(out: &mut String, variant: &Value) {
    let number = |name: &str| variant.get(name).and_then(Value::as_u64).unwrap_or_default();
    let ttl = variant.get("ttlSeconds").and_then(Value::as_i64).unwrap_or_default();
    let fresh =
        if ttl >= 0 { format!("fresh for {ttl}s") } else { format!("stale for {}s", ttl.unsigned_abs()) };
    let _ = write!(
        out,
        "  {}  {}  age {}s  {fresh}",
        number("status"),
        ByteSize(number("bodyBytes")),
        number("ageSeconds")
    );
    let vary = words(variant, "vary");
    if !vary.is_empty() {
        let chosen = variant.get("variance").and_then(Value::as_str).map_or("first", short);
        let _ = write!(out, "  by {vary} #{chosen}");
    }
    let tags = words(variant, "tags");
    if !tags.is_empty() {
        let _ = write!(out, "  tags {tags}");
    }
    out.push('\n');
}

/// What a purge did.
pub(super) fn purged(told: &Value) -> String {
    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_hard = text("mode") == "hard";
    let matched = told.get("matched").and_then(Value::as_u64);
    if told.get("dryRun").and_then(Value::as_bool) == Some(true) {
        let would = if is_hard { "would be removed" } else { "would become stale" };
        return format!("{} {would}; nothing was changed\n", counted(matched.unwrap_or_default(), "answer"));
    }
    let did = if is_hard { "removed" } else { "made stale" };
    match matched {
        Some(count) => format!("{} {did}\n", counted(count, "answer")),
        None => format!("done: every answer that this names is {did} as of now\n"),
    }
}

fn words(variant: &Value, name: &str) -> String {
    let all = variant.get(name).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// Enough of a hash to tell two apart.
fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}
