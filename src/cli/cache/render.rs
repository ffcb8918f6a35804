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
    line("holds", &format!("{} of at most {}", counted(number("/entries"), "answer"), number("/maxEntries")));
    line("used", &format!("{} of {}", size("/usedBytes"), size("/capacityBytes")));
    line("free", &format!("the longest piece {}", size("/longestFreeBytes")));
    line("readers", &format!("hold {} of answers that are gone", size("/pinnedBytes")));
    let stores = told.get("writer").and_then(Value::as_bool) == Some(true);
    line("stores", if stores { "yes" } else { "no: another process does, or nobody yet" });
    line(
        "found",
        &format!("{} at the start, {} damaged", counted(number("/survived"), "answer"), number("/corrupt")),
    );
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
            "{} too large, {} without room, {} for readers of what is gone, {} purged meanwhile, {} stored elsewhere, {} incomplete",
            rejected("tooLarge"),
            rejected("noRoom"),
            rejected("pinned"),
            rejected("purged"),
            rejected("noLease"),
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
    for header in variant.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| header.get(name).and_then(Value::as_str);
        let _ = writeln!(
            out,
            "    {}: {}",
            text("name").unwrap_or_default(),
            text("value").unwrap_or("(not shown)")
        );
    }
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
