//! The shared memory of one process: opened at the start, and what is said about it.

use std::time::Instant;

use crate::cache::storage::{How, SetAside};
use crate::cache::{Took, Zone};
use crate::plan::CacheZone;

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
    told("cache", file, &how);
    if !zone.store().is_in_memory() {
        tracing::warn!(
            file = %file.display(),
            "the cache's file does not lie in memory: every write to it goes to a disk; a path on tmpfs, such as /dev/shm, is meant"
        );
    }
    Ok(zone)
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
fn told(what: &str, file: &std::path::Path, how: &How) {
    let file = file.display();
    match how {
        How::Made => tracing::info!(%file, "{what}: a fresh file was made"),
        How::Found => tracing::info!(%file, "{what}: what is in the file is used on"),
        How::MadeAnew { why, aside: Some(aside) } => {
            tracing::error!(%file, why = %why, aside = %aside.display(), "{what}: the file cannot be used; it was set aside and a fresh one made");
        }
        How::MadeAnew { why: why @ (SetAside::OtherSize { .. } | SetAside::OtherSettings), aside: None } => {
            tracing::warn!(%file, why = %why, "{what}: the file was replaced; the cache begins cold");
        }
        How::MadeAnew { why, aside: None } => {
            tracing::info!(%file, why = %why, "{what}: the file was replaced; the cache begins cold");
        }
    }
}
