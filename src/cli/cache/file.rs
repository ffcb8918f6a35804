//! The same questions, asked of the file itself. The gateway may be running or dead.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::cache::storage::look::{AGES, Look, Narrowed, Overview, Verified};
use crate::exchange::{Scheme, target};
use crate::server::{MAX_PAGE, told, told_whole};

/// The numbers of the file.
pub(super) fn stats(file: &Path) -> Result<Value, String> {
    let look = Look::open(file)?;
    let overview = look.overview(SystemTime::now());
    let Overview { sums, writer: (is_held, pid, since), .. } = &overview;
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let bounds = AGES.iter().map(|bound| Some(bound.as_secs())).chain([None]);
    let ages =
        bounds.zip(overview.ages).map(|(bound, entries)| json!({ "upToSeconds": bound, "entries": entries }));
    let routes = overview.routes.iter();
    let processes = overview.processes.iter();
    Ok(json!({
        "file": file.display().to_string(),
        "fileBytes": overview.file_bytes,
        "layout": overview.layout,
        "madeAtSeconds": seconds(overview.made_at),
        "thisBoot": overview.is_of_this_boot,
        "entries": sums.objects,
        "maxEntries": sums.records,
        "usedBytes": sums.used_bytes,
        "freeBytes": sums.data_bytes.saturating_sub(sums.used_bytes),
        "capacityBytes": sums.data_bytes,
        "freeStretches": sums.free_stretches,
        "longestFreeBytes": sums.longest_free_bytes,
        "fresh": overview.fresh,
        "stale": overview.stale,
        "expired": overview.expired,
        "purged": overview.purged,
        "changed": overview.changed,
        "damaged": overview.damaged,
        "ages": ages.collect::<Vec<_>>(),
        "oldestSeconds": overview.oldest.as_secs(),
        "fills": sums.writing,
        "dying": sums.dying,
        "pins": sums.pins,
        "pinnedEntries": sums.pinned,
        "sequence": overview.sequence,
        "bans": overview.bans,
        "writer": { "holds": is_held, "pid": pid, "sinceSeconds": seconds(*since) },
        "processes": processes.map(|process| json!({
            "slot": process.slot, "pid": process.pid, "alive": process.is_alive,
        })).collect::<Vec<_>>(),
        "routes": routes.map(|(route, (entries, bytes))| (route.clone(), json!({ "entries": entries, "bytes": bytes })))
            .collect::<Map<_, _>>(),
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
    let after = after.transpose()?;
    let (page, next) = Look::open(file)?.page(narrowed, after, limit, SystemTime::now());
    Ok(json!({
        "entries": page.iter().map(told).collect::<Vec<_>>(),
        "next": next.map(|next| format!("{next:032x}")),
    }))
}

/// Everything that is stored for a URL.
pub(super) fn of_url(file: &Path, url: &str) -> Result<Value, String> {
    let narrowed = Narrowed { url: Some(written(url)?), ..Narrowed::default() };
    let (page, _) = Look::open(file)?.page(&narrowed, None, MAX_PAGE, SystemTime::now());
    Ok(json!({ "url": url, "entries": page.iter().map(told_whole).collect::<Vec<_>>() }))
}

/// The body of an answer: the only one that is stored for a URL, or the one of a number.
pub(super) fn body(file: &Path, url: &str, number: Option<usize>) -> Result<Vec<u8>, String> {
    let mut bodies = Look::open(file)?.bodies(&written(url)?);
    let index = match (number, bodies.len()) {
        (_, 0) => return Err(format!("nothing is stored for `{url}`")),
        (None, 1) => 0,
        (None, count) => {
            return Err(format!(
                "{count} answers are stored for `{url}`: choose one of them, `--variant 1` to `--variant {count}`"
            ));
        }
        (Some(number), count) if (1..=count).contains(&number) => number - 1,
        (Some(number), count) => {
            return Err(format!("there is no answer {number} for `{url}`: of {count}, counted from 1"));
        }
    };
    bodies.swap_remove(index).ok_or_else(|| {
        format!("the body of `{url}` does not match its checksum: it is damaged, and no gateway gives it to anybody")
    })
}

/// A URL in the form that keys have it in.
fn written(url: &str) -> Result<String, String> {
    let is_url = || format!("`{url}` is no URL: it begins with `http://` or `https://`");
    let (scheme, rest) = url.split_once("://").ok_or_else(is_url)?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(is_url()),
    };
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let authority = target::authority(host).map_err(|why| format!("the host of this URL is none: {why}"))?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let place = target::target(&path, target::Asterisk::Refuse)
        .map_err(|why| format!("the path of this URL is none: {why}"))?;
    let port = authority.port.filter(|port| *port != scheme.default_port());
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let query =
        place.query.filter(|query| !query.is_empty()).map_or_else(String::new, |query| format!("?{query}"));
    Ok(format!("{}://{}{port}{}{query}", scheme.as_str(), authority.host, place.path))
}

/// A URL that others lie below.
pub(super) fn prefix(url: &str) -> Result<String, String> {
    if url.contains('?') {
        return Err("a prefix has no query: it covers all of them".to_owned());
    }
    written(url)
}

/// Reads everything.
pub(super) fn verify(file: &Path) -> Result<Value, String> {
    let look = Look::open(file)?;
    let mut told_at = SystemTime::now();
    let verified = look.verify(|done, all| {
        let is_due = told_at.elapsed().is_ok_and(|since| since > TELL_EVERY);
        if is_due && done < all {
            told_at = SystemTime::now();
            eprintln!("{done} of {all} records");
        }
    });
    let Verified { sound, head_bytes, body_bytes, changed, wrong, told } = verified;
    let told = told.iter().map(|(record, why)| json!({ "record": record, "why": why }));
    Ok(json!({
        "file": file.display().to_string(),
        "sound": sound,
        "headBytes": head_bytes,
        "bodyBytes": body_bytes,
        "changed": changed,
        "wrongCount": wrong,
        "wrong": told.collect::<Vec<_>>(),
    }))
}

/// How often a long walk says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);
