//! What is stored, told to people, and counted for a purge that is only rehearsed.
//!
//! Nothing is touched and no body is read. Of the headers that tell variants apart only names and hashes are told: their values
//! may be cookies or say who somebody is. Looks at many objects, without a lock: for the admin side, not for requests.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderName, HeaderValue};

use super::Store;
use super::head::Head;
use super::slot::url_of;
use crate::cache::key::{Framed, UrlHash, hash128};
use crate::cache::purge::{Effect, Object, Scope};
use crate::cache::status::seconds_between;
use crate::shm::arena::Pinned;

/// What is stored under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The URL, in the form that keys have it in.
    pub url: String,
    /// The route that stored it.
    pub route: String,
    /// Headers that are part of the key: the name, and a hash of the value that means the same as long as the store lives.
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
    /// The names of its fields, and the values of those in [`SHOWN`]: the others may say who somebody is.
    pub headers: Vec<(String, Option<String>)>,
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
    /// In the order of their records, which tells nothing.
    pub entries: Vec<Listed>,
    /// Where the next page goes on; `None`: nothing follows. A page that looked at [`MAX_LOOKED_AT`] keys may be short.
    pub next: Option<Cursor>,
}

/// A place in the list. What is stored or leaves meanwhile may or may not be seen.
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

impl Store {
    /// Lists what is stored, at most `limit` keys, behind a place.
    #[must_use]
    pub fn page(
        &'static self,
        filter: &Filter,
        after: Option<Cursor>,
        limit: usize,
        now: SystemTime,
    ) -> Page {
        let first =
            after.map_or(0, |Cursor(record)| u32::try_from(record).unwrap_or(u32::MAX).saturating_add(1));
        let (mut entries, mut looked_at, mut last) = (Vec::new(), 0, after);
        for record in first..self.arena.record_count() {
            if entries.len() >= limit || looked_at >= MAX_LOOKED_AT {
                return Page { entries, next: last };
            }
            last = Some(Cursor(record.into()));
            let Some(family) = self.family_of(record) else { continue };
            looked_at += 1;
            entries.extend(self.listed(&family, filter, now));
        }
        Page { entries, next: None }
    }

    /// Everything that is stored for a URL.
    #[must_use]
    pub fn of_url(&'static self, url: UrlHash, now: SystemTime) -> Vec<Listed> {
        let known = self.desk.lock().as_ref().map(|desk| desk.of_url(url.0));
        let records = known.unwrap_or_else(|| {
            let is_of = |record: &u32| {
                self.arena.key(*record).is_some_and(|(primary, _)| (primary >> 64) as u64 == url.0)
            };
            (0..self.arena.record_count()).filter(is_of).collect()
        });
        let families = records.into_iter().filter_map(|record| self.family_of(record));
        families.filter_map(|family| self.listed(&family, &Filter::default(), now)).collect()
    }

    /// How many objects a scope names.
    #[must_use]
    pub fn count(&'static self, scope: &Scope) -> usize {
        let is_named = |record: &u32| {
            let object = self.object(*record).filter(|object| self.effect_on(object) != Effect::Gone);
            object.is_some_and(|(pinned, head)| scope.names(head.key(), head.tags(), url_of(&pinned)))
        };
        (0..self.arena.record_count()).filter(is_named).count()
    }

    /// The family that a record is told with: that of the smallest number among its records, so that each is told once.
    fn family_of(&self, record: u32) -> Option<Vec<u32>> {
        let (primary, _) = self.arena.key(record)?;
        let mut family = self.arena.family(primary);
        // The first of a key first, then its variants as they came.
        family.sort_unstable_by_key(|(_, variance, sequence)| (*variance != 0, *sequence));
        let records: Vec<u32> = family.into_iter().map(|(record, ..)| record).collect();
        (records.iter().min() == Some(&record)).then_some(records)
    }

    fn effect_on(&self, (pinned, head): &(Pinned, Head)) -> Effect {
        let object =
            Object { key: head.key(), tags: head.tags(), began: pinned.began(), url: url_of(pinned) };
        self.table.effect(&object)
    }

    fn listed(&'static self, family: &[u32], filter: &Filter, now: SystemTime) -> Option<Listed> {
        let mut key = None;
        let mut variants = Vec::new();
        for record in family {
            let Some(object) = self.object(*record) else { continue };
            let effect = self.effect_on(&object);
            let (pinned, head) = object;
            let is_named = |scope: &Scope| scope.names(head.key(), head.tags(), url_of(&pinned));
            if effect != Effect::Gone && filter.scopes.iter().all(is_named) {
                let stale_from = effect.stale_from().into_iter().chain(pinned.stale_from()).min();
                let sizes = (pinned.body_bytes(), self.arena.size(*record));
                variants.push(variant(&head, stale_from, sizes, pinned.is_first(), now));
                key.get_or_insert_with(|| head.key().to_vec());
            }
        }
        listed(&key?, variants)
    }
}

/// Tells a key and its variants. `None`: that is no key.
pub(super) fn listed(key: &[u8], variants: Vec<Variant>) -> Option<Listed> {
    let framed = Framed::read(key)?;
    let query = if framed.query.is_empty() { String::new() } else { format!("?{}", framed.query) };
    let hash = |value| format!("{:032x}", u128::from_le_bytes(hash128(value)));
    Some(Listed {
        url: format!("{}://{}{}{query}", framed.scheme, framed.host, framed.path),
        route: framed.route.to_owned(),
        headers: framed.headers().map(|(name, value)| (name.to_owned(), hash(value))).collect(),
        variants,
    })
}

/// Tells one stored answer.
pub(super) fn variant(
    head: &Head,
    stale_from: Option<SystemTime>,
    (body_bytes, size_bytes): (usize, usize),
    is_first: bool,
    now: SystemTime,
) -> Variant {
    let vary = head.vary_lines().filter_map(|line| std::str::from_utf8(line).ok());
    let vary = vary.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let age: Duration = now.duration_since(head.epoch()).unwrap_or_default();
    Variant {
        status: head.status(),
        age_secs: age.as_secs(),
        ttl_secs: seconds_between(now, head.fresh_until(stale_from)),
        body_bytes,
        size_bytes,
        tags: head.tags().into_iter().map(ToOwned::to_owned).collect(),
        vary: vary.filter(|name| !name.is_empty()).collect(),
        variance: head
            .variance()
            .filter(|_| !is_first)
            .map(|hash| format!("{:032x}", u128::from_le_bytes(hash))),
        headers: headers(head),
    }
}

fn headers(head: &Head) -> Vec<(String, Option<String>)> {
    let meta = head.to_meta(None);
    let told = |(name, value): (&HeaderName, &HeaderValue)| {
        let is_shown = SHOWN.contains(name);
        (name.to_string(), is_shown.then(|| String::from_utf8_lossy(value.as_bytes()).into_owned()))
    };
    meta.response_header().headers.iter().map(told).collect()
}

/// The fields of a stored answer whose values are told: what it is, and for how long it is good.
pub static SHOWN: [HeaderName; 13] = [
    header::AGE,
    header::CACHE_CONTROL,
    HeaderName::from_static("cdn-cache-control"),
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::DATE,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::RETRY_AFTER,
    header::VARY,
];

/// The most keys that one page looks at, whatever it is narrowed to.
pub const MAX_LOOKED_AT: usize = 20_000;
