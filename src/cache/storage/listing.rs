//! What is stored, told to people, and counted for a purge that is only rehearsed.
//!
//! Nothing is touched and no body is read. Of the headers that tell variants apart only names and hashes are told: their values
//! may be cookies or say who somebody is. Looks at many objects, a few under one hold of a lock: for the admin side, not for requests.

use std::time::{Duration, SystemTime};

use http::header::VARY;

use super::entry::{Entry, Slot};
use super::families::Family;
use super::shard::Shard;
use super::{HeapStore, Place};
use crate::cache::key::{Framed, UrlHash, hash128};
use crate::cache::purge::{Bans, Effect, Scope};
use crate::cache::status::seconds_between;

/// What is stored under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The URL, in the form that keys have it in.
    pub url: String,
    /// The route that stored it.
    pub route: String,
    /// Headers that are part of the key: the name, and a hash of the value that holds within this process.
    pub headers: Vec<(String, String)>,
    /// What was chosen between by `Vary`.
    pub variants: Vec<Variant>,
}

/// One stored answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its status.
    pub status: u16,
    /// How old it is (RFC 9111 §4.2.3), in seconds.
    pub age_secs: u64,
    /// Seconds of freshness left; negative when stale.
    pub ttl_secs: i64,
    /// Bytes of its body.
    pub body_bytes: usize,
    /// All bytes that it is charged with.
    pub size_bytes: usize,
    /// Names by which it can be purged together with others.
    pub tags: Vec<String>,
    /// The names in its `Vary`, lower case.
    pub vary: Vec<String>,
    /// A hash of the request's values for these; `None` for the first of the key, which holds the `Vary` that counts.
    pub variance: Option<String>,
}

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only what all of these name.
    pub scopes: Vec<Scope>,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order of their hashes, which tells nothing.
    pub entries: Vec<Listed>,
    /// Where the next page goes on; `None`: nothing follows. A page that looked at [`MAX_LOOKED_AT`] keys may be short.
    pub next: Option<Cursor>,
}

/// A place in the list, for as long as the process lives. What is stored or leaves meanwhile may or may not be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u128);

impl Cursor {
    /// Reads what [`Display`](std::fmt::Display) wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16).ok().filter(|_| is_hex).map(Self)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl HeapStore {
    /// Lists what is stored, at most `limit` keys, behind a place.
    #[must_use]
    pub fn page(&self, filter: &Filter, after: Option<Cursor>, limit: usize, now: SystemTime) -> Page {
        let bans = self.table.bans();
        let bans = bans.as_ref().map(|bans| &***bans);
        let mut entries = Vec::new();
        let mut after = after.map(|Cursor(primary)| primary);
        let mut last = after;
        let first = after.map_or(0, |primary| self.index_of(UrlHash((primary >> 64) as u64)));
        let mut looked_at = 0;
        for place in self.shards.iter().skip(first) {
            loop {
                let shard = place.state.read();
                let chunk: Vec<u128> = shard.families().behind(after).take(CHUNK).collect();
                for primary in &chunk {
                    if entries.len() >= limit || looked_at >= MAX_LOOKED_AT {
                        return Page { entries, next: last.map(Cursor) };
                    }
                    looked_at += 1;
                    (after, last) = (Some(*primary), Some(*primary));
                    let family = shard.families().of(*primary);
                    entries.extend(family.and_then(|family| listed(family, filter, bans, now)));
                }
                if chunk.len() < CHUNK {
                    break;
                }
            }
            after = None;
        }
        Page { entries, next: None }
    }

    /// Everything that is stored for a URL.
    #[must_use]
    pub fn of_url(&self, url: UrlHash, now: SystemTime) -> Vec<Listed> {
        let bans = self.table.bans();
        let bans = bans.as_ref().map(|bans| &***bans);
        let shard = self.place_of(url).state.read();
        let families =
            shard.families().of_url(url).into_iter().filter_map(|primary| shard.families().of(primary));
        families.filter_map(|family| listed(family, &Filter::default(), bans, now)).collect()
    }

    /// How many objects a scope names.
    #[must_use]
    pub fn count(&self, scope: &Scope) -> usize {
        let bans = self.table.bans();
        let bans = bans.as_ref().map(|bans| &***bans);
        let is_named = |entry: &Entry| is_there(entry, bans) && scope.names(&entry.key, entry.head.tags());
        let count = |place: &Place| {
            let slots = place.state.read().slots();
            let counted = |slots: &[Slot]| {
                let shard = place.state.read();
                slots.iter().filter(|slot| entry(&shard, **slot).is_some_and(is_named)).count()
            };
            slots.chunks(CHUNK).map(counted).sum::<usize>()
        };
        self.shards.iter().map(count).sum()
    }
}

fn entry(shard: &Shard, slot: Slot) -> Option<&Entry> {
    shard.families().of(slot.primary)?.entry(slot.variance).map(|entry| &**entry)
}

fn is_there(entry: &Entry, bans: Option<&Bans>) -> bool {
    bans.is_none_or(|bans| bans.effect(&entry.object()) != Effect::Gone)
}

fn listed(family: &Family, filter: &Filter, bans: Option<&Bans>, now: SystemTime) -> Option<Listed> {
    let is_wanted =
        |entry: &Entry| filter.scopes.iter().all(|scope| scope.names(&entry.key, entry.head.tags()));
    let wanted = family.entries.iter().filter(|(_, entry)| is_there(entry, bans) && is_wanted(entry));
    let variants: Vec<Variant> =
        wanted.map(|(variance, entry)| variant(*variance, entry, bans, now)).collect();
    let framed = Framed::read(&family.entries.iter().find(|(_, entry)| is_wanted(entry))?.1.key)?;
    let query = if framed.query.is_empty() { String::new() } else { format!("?{}", framed.query) };
    let hash = |value| format!("{:032x}", u128::from_le_bytes(hash128(value)));
    (!variants.is_empty()).then(|| Listed {
        url: format!("{}://{}{}{query}", framed.scheme, framed.host, framed.path),
        route: framed.route.to_owned(),
        headers: framed.headers().map(|(name, value)| (name.to_owned(), hash(value))).collect(),
        variants,
    })
}

fn variant(variance: Option<u128>, entry: &Entry, bans: Option<&Bans>, now: SystemTime) -> Variant {
    let stale_from = bans.and_then(|bans| bans.effect(&entry.object()).stale_from());
    let header = entry.head.header();
    let vary = header.headers.get_all(VARY).iter().filter_map(|line| line.to_str().ok());
    let vary = vary.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let age: Duration = now.duration_since(entry.head.epoch()).unwrap_or_default();
    Variant {
        status: header.status.as_u16(),
        age_secs: age.as_secs(),
        ttl_secs: seconds_between(now, entry.head.fresh_until(stale_from)),
        body_bytes: entry.body.len(),
        size_bytes: entry.cost,
        tags: entry.head.tags().iter().map(ToString::to_string).collect(),
        vary: vary.filter(|name| !name.is_empty()).collect(),
        variance: variance.map(|hash| format!("{hash:032x}")),
    }
}

/// The most keys that one page looks at, whatever it is narrowed to.
pub const MAX_LOOKED_AT: usize = 20_000;
/// Keys or objects looked at under one hold of a lock.
const CHUNK: usize = 256;
