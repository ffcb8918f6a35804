//! `portcullis cache ... --file FILE`: the same questions, asked of the file itself. The gateway may be running or dead.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::cache::storage::look::{Look, Narrowed, Overview, Verified};
use crate::server::told;

/// The numbers of the file.
pub(super) fn stats(file: &Path) -> Result<Value, String> {
    let look = Look::open(file)?;
    let overview = look.overview(SystemTime::now());
    let Overview { sums, writer: (is_held, pid, since), .. } = &overview;
    let routes = overview.routes.iter();
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(json!({
        "file": file.display().to_string(),
        "fileBytes": overview.file_bytes,
        "madeAtSeconds": seconds(overview.made_at),
        "entries": sums.objects,
        "maxEntries": sums.records,
        "usedBytes": sums.used_bytes,
        "capacityBytes": sums.data_bytes,
        "freeStretches": sums.free_stretches,
        "longestFreeBytes": sums.longest_free_bytes,
        "fresh": overview.fresh,
        "stale": overview.stale,
        "purged": overview.purged,
        "oldestSeconds": overview.oldest.as_secs(),
        "fills": sums.writing,
        "dying": sums.dying,
        "pins": sums.pins,
        "pinnedEntries": sums.pinned,
        "sequence": overview.sequence,
        "bans": overview.bans,
        "writer": { "holds": is_held, "pid": pid, "sinceSeconds": seconds(*since) },
        "processes": overview.processes.iter().map(|process| json!({
            "slot": process.slot, "pid": process.pid, "alive": process.is_alive,
        })).collect::<Vec<_>>(),
        "routes": routes.map(|(route, (entries, bytes))| (route.clone(), json!({ "entries": entries, "bytes": bytes })))
            .collect::<serde_json::Map<_, _>>(),
    }))
}

/// What is stored.
pub(super) fn list(
    file: &Path,
    narrowed: &Narrowed,
    after: Option<&str>,
    limit: usize,
) -> Result<Value, String> {
    let after = after.map(|text| {
        u128::from_str_radix(text, 16)
            .map_err(|_| format!("`{text}` is no place in the list: take that of the page before"))
    });
    let look = Look::open(file)?;
    let (page, next) = look.page(narrowed, after.transpose()?, limit, SystemTime::now());
    Ok(json!({
        "entries": page.iter().map(told).collect::<Vec<_>>(),
        "next": next.map(|next| format!("{next:032x}")),
    }))
}

/// Reads everything.
pub(super) fn verify(file: &Path) -> Result<Value, String> {
    let look = Look::open(file)?;
    let mut told_at = SystemTime::now();
    let Verified { sound, bytes, changed, wrong } = look.verify(|done, all| {
        let is_due = told_at.elapsed().is_ok_and(|since| since > TELL_EVERY);
        if is_due && done < all {
            told_at = SystemTime::now();
            eprintln!("{done} of {all} records");
        }
    });
    let wrong = wrong.iter().map(|(record, why)| json!({ "record": record, "why": why }));
    Ok(json!({
        "sound": sound,
        "bytes": bytes,
        "changed": changed,
        "wrong": wrong.collect::<Vec<_>>(),
    }))
}

/// How often a long walk says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);
