//! The shared memory of one process: opened at the start, and what is said about it.

use std::time::Instant;

use crate::cache::storage::{How, SetAside};
use crate::cache::{Took, Zone};
use crate::limit::{Counters, Table};
use crate::plan::{CacheZone, CounterTable};

/// Opens the cache zone.
///
/// # Errors
/// Why there is none, in the operator's words.
pub fn cache(settings: &CacheZone) -> Result<&'static Zone, String> {
    let (zone, how) = Zone::new(&settings.settings()).map_err(|why| format!("cache: {why}"))?;
    if !matches!(how, How::Found) {
        // Nothing is there to be looked at: the first answers are stored already.
        zone.store().try_take().map_err(|why| format!("cache: its file cannot be locked: {why}"))?;
    }
    let Some(file) = settings.file.as_deref() else { return Ok(zone) };
    told("cache", file, &how, "the cache begins cold");
    if !zone.store().is_in_memory() {
        on_disk("cache", file);
    }
    Ok(zone)
}

/// Settles where the counters of the limits lie.
///
/// # Errors
/// Why they cannot, in the operator's words.
pub fn counters(settings: &CounterTable, counters: &Counters) -> Result<(), String> {
    let keys = usize::try_from(settings.keys).unwrap_or(usize::MAX);
    let table = match settings.file.as_deref() {
        Some(file) if Table::can_be_shared() => {
            let (table, how) = Table::open(file, keys).map_err(|why| format!("rateLimits: {why}"))?;
            told("rateLimits", file, &how, "every client begins at rest");
            if !table.is_in_memory() {
                on_disk("rateLimits", file);
            }
            table
        }
        Some(file) => {
            tracing::warn!(
                file = %file.display(),
                "rateLimits: this processor cannot swap 16 bytes at once, so counters cannot be shared: they lie in memory of the process"
            );
            Table::new(keys)
        }
        None => Table::new(keys),
    };
    assert!(counters.settle(table), "nobody is counted before the start");
    Ok(())
}

fn on_disk(what: &str, file: &std::path::Path) {
    tracing::warn!(
        file = %file.display(),
        "{what}: the file does not lie in memory: every write to it goes to a disk; a path on tmpfs, such as /dev/shm, is meant"
    );
}

/// Stores as soon as no other process does, and says so.
pub async fn keep_storing(zone: &'static Zone) {
    let began = Instant::now();
    if zone.store().is_held_elsewhere() {
        tracing::info!(
            pid = zone.store().last_writer(),
            "another process stores in the cache's file; this one serves what is stored until that one leaves"
        );
    }
    let took = |took: Took| {
        let Took { survived, unfinished, unsound } = took;
        tracing::info!(survived, unfinished, unsound, elapsed = ?began.elapsed(), "the cache is taken over");
    };
    zone.keep_storing(took).await;
}

/// Says how a file came to be.
fn told(what: &str, file: &std::path::Path, how: &How, lost: &str) {
    let file = file.display();
    match how {
        How::Made => tracing::info!(%file, "{what}: a fresh file was made"),
        How::Found => tracing::info!(%file, "{what}: what is in the file is used on"),
        How::MadeAnew { why, aside: Some(aside) } => {
            tracing::error!(%file, why = %why, aside = %aside.display(), "{what}: the file cannot be used; it was set aside and a fresh one made; {lost}");
        }
        How::MadeAnew { why: why @ (SetAside::OtherSize { .. } | SetAside::OtherSettings), aside: None } => {
            tracing::warn!(%file, why = %why, "{what}: the file was replaced; {lost}");
        }
        How::MadeAnew { why, aside: None } => {
            tracing::info!(%file, why = %why, "{what}: the file was replaced; {lost}");
        }
    }
}
