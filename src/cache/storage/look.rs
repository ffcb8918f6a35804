//! Looking at a store's file from outside: that of a running gateway, or of a dead one. Nothing of it is written.
//!
//! What changes while it is looked at is left out and counted. Purges that are in force are applied, as a look-up would.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::head::Head;
use super::listing::{Listed, Variant, listed, variant};
use super::table::Table;
use crate::cache::key::{self, UrlHash};
use crate::cache::purge::{Effect, Object};
use crate::shm::arena::{Process, Seen, Sums, View};

/// A store that is only looked at.
#[derive(Debug)]
pub struct Look {
    view: View,
    table: Table,
}

/// What a file holds, and who shares it.
#[derive(Debug)]
pub struct Overview {
    /// Records, bytes, stretches, pins.
    pub sums: Sums,
    /// Answers that are fresh, and that are stale.
    pub fresh: usize,
    /// See [`Self::fresh`].
    pub stale: usize,
    /// Answers that a purge has struck and that are not swept yet.
    pub purged: usize,
    /// The oldest answer's age.
    pub oldest: Duration,
    /// Answers and their bytes by route.
    pub routes: BTreeMap<String, (usize, usize)>,
    /// Purges of many in force; `None`: the table of them is damaged, and nothing would be served.
    pub bans: Option<usize>,
    /// The number of the last answer.
    pub sequence: u64,
    /// When the file was made.
    pub made_at: SystemTime,
    /// Bytes of the file.
    pub file_bytes: usize,
    /// Whether somebody holds the lease; who said last that it does, and since when.
    pub writer: (bool, u64, SystemTime),
    /// The processes that share it, and those that died with it.
    pub processes: Vec<Process>,
}

/// What reading everything came to.
#[derive(Debug, Default)]
pub struct Verified {
    /// Answers that are as they were written.
    pub sound: usize,
    /// Bytes of bodies that were read.
    pub bytes: usize,
    /// Answers that changed while they were read.
    pub changed: usize,
    /// What is wrong: the record, and how.
    pub wrong: Vec<(u32, String)>,
}

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Narrowed {
    /// What this route stored.
    pub route: Option<String>,
    /// This URL and those below it.
    pub prefix: Option<String>,
    /// What has this tag.
    pub tag: Option<String>,
    /// This URL alone.
    pub url: Option<String>,
}

impl Look {
    /// Opens a file.
    ///
    /// # Errors
    /// Why it cannot be looked at, in the operator's words.
    pub fn open(path: &Path) -> Result<Self, String> {
        let view = View::open(path).map_err(|why| why.to_string())?;
        let view = view.ok_or_else(|| format!("there is no `{}`", path.display()))?;
        let view = view.map_err(|why| format!("`{}` cannot be read: {why}", path.display()))?;
        // Hashes are told as the gateway tells them. Nothing else is hashed in a process that only looks.
        key::adopt(view.region().seeds());
        let lock = Box::new(|| Err(io::Error::other("the file is only looked at")));
        Ok(Self { table: Table::new(view.user_words(), lock), view })
    }

    /// What it holds.
    #[must_use]
    pub fn overview(&self, now: SystemTime) -> Overview {
        let mut overview = Overview {
            sums: self.view.sums(),
            fresh: 0,
            stale: 0,
            purged: 0,
            oldest: Duration::ZERO,
            routes: BTreeMap::new(),
            bans: (!self.table.is_broken()).then(|| self.table.len()),
            sequence: self.view.sequence(),
            made_at: self.view.region().made_at(),
            file_bytes: self.view.region().bytes(),
            writer: self.writer(),
            processes: self.view.processes(),
        };
        for (seen, head) in self.objects() {
            let Some(stale_from) = self.stale_from(&seen, &head) else {
                overview.purged += 1;
                continue;
            };
            let is_fresh = head.fresh_until(stale_from) >= now;
            overview.fresh += usize::from(is_fresh);
            overview.stale += usize::from(!is_fresh);
            let age = now.duration_since(head.epoch()).unwrap_or_default();
            overview.oldest = overview.oldest.max(age);
            let route = key::Framed::read(head.key()).map_or("?", |framed| framed.route).to_owned();
            let sums = overview.routes.entry(route).or_default();
            *sums = (sums.0 + 1, sums.1 + seen.size);
        }
        overview
    }

    /// What is stored, at most `limit` keys behind a place; and the place of the next page.
    #[must_use]
    pub fn page(
        &self,
        narrowed: &Narrowed,
        after: Option<u128>,
        limit: usize,
        now: SystemTime,
    ) -> (Vec<Listed>, Option<u128>) {
        let mut keys: BTreeMap<u128, Family> = BTreeMap::new();
        for (seen, head) in self.objects() {
            if after.is_some_and(|after| seen.primary <= after) {
                continue;
            }
            let Some(stale_from) = self.stale_from(&seen, &head) else { continue };
            let is_first = seen.variance == 0;
            let told = variant(&head, stale_from, (seen.body_bytes, seen.size), is_first, now);
            let family = keys.entry(seen.primary).or_default();
            family.key = head.key().to_vec();
            family.variants.push((!is_first, seen.sequence, told));
        }
        let (mut page, mut last) = (Vec::new(), None);
        for (primary, Family { key, mut variants }) in keys {
            if page.len() >= limit {
                return (page, last);
            }
            variants.sort_by_key(|(is_variant, sequence, _)| (*is_variant, *sequence));
            let told = variants.into_iter().map(|(.., told)| told).filter(|told| narrowed.has_tag(told));
            let one = listed(&key, told.collect());
            page.extend(one.filter(|one| !one.variants.is_empty() && narrowed.takes(one)));
            last = Some(primary);
        }
        (page, None)
    }

    /// Reads everything and compares it with its checksums. `progress` is told how many records were looked at.
    pub fn verify(&self, mut progress: impl FnMut(u32, u32)) -> Verified {
        let mut verified = Verified::default();
        let all = self.view.record_count();
        for number in 0..all {
            if number.is_multiple_of(PROGRESS) {
                progress(number, all);
            }
            if self.view.is_unsound(number) {
                verified.wrong.push((number, "the record contradicts itself".into()));
                continue;
            }
            let Some(seen) = self.view.object(number) else { continue };
            match (Head::read(Bytes::from(seen.head.clone())), self.view.body(&seen)) {
                (_, None) => verified.changed += 1,
                (Err(why), Some(_)) => {
                    // A head that is exchanged at this moment is no fault: it is looked at once more.
                    let again = self.view.object(number).map(|seen| Head::read(Bytes::from(seen.head)));
                    match again {
                        Some(Err(_)) => verified.wrong.push((number, format!("the head: {why}"))),
                        _ => verified.changed += 1,
                    }
                }
                (Ok(_), Some((body, true))) => {
                    verified.sound += 1;
                    verified.bytes += body.len();
                }
                (Ok(head), Some((_, false))) => {
                    let path = key::Framed::read(head.key()).map_or("?", |framed| framed.path).to_owned();
                    verified
                        .wrong
                        .push((number, format!("the body of `{path}` does not match its checksum")));
                }
            }
        }
        progress(all, all);
        verified
    }

    fn objects(&self) -> impl Iterator<Item = (Seen, Head)> {
        let seen = (0..self.view.record_count()).filter_map(|number| self.view.object(number));
        let mut known = BTreeSet::new();
        // While one takes the place of another, both are there for a moment.
        let once = seen.filter(move |seen| known.insert((seen.primary, seen.variance, seen.sequence)));
        once.filter_map(|seen| {
            let head = Head::read(Bytes::from(seen.head.clone())).ok()?;
            Some((seen, head))
        })
    }

    /// Since when it is stale, if it was made so; `None`: a purge has struck it.
    fn stale_from(&self, seen: &Seen, head: &Head) -> Option<Option<SystemTime>> {
        let url = UrlHash((seen.primary >> 64) as u64);
        let object = Object { key: head.key(), tags: head.tags(), began: seen.began, url };
        let effect = self.table.effect(&object);
        let marked = seen.stale_from.map(|at| UNIX_EPOCH + Duration::from_nanos(at));
        (effect != Effect::Gone).then(|| effect.stale_from().into_iter().chain(marked).min())
    }

    fn writer(&self) -> (bool, u64, SystemTime) {
        let (is_held, pid, since) = self.view.writer();
        (is_held, pid, UNIX_EPOCH + Duration::from_nanos(since))
    }
}

impl Narrowed {
    fn takes(&self, one: &Listed) -> bool {
        let path = one.url.split('?').next().unwrap_or_default();
        let below = |prefix: &String| {
            let rest = path.strip_prefix(&**prefix);
            rest.is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
        };
        self.route.as_ref().is_none_or(|route| *route == one.route)
            && self.url.as_ref().is_none_or(|url| *url == one.url)
            && self.prefix.as_ref().is_none_or(below)
    }

    fn has_tag(&self, told: &Variant) -> bool {
        self.tag.as_ref().is_none_or(|tag| told.tags.contains(tag))
    }
}

/// All of one key.
#[derive(Default)]
struct Family {
    key: Vec<u8>,
    /// Whether it is not the first, the number by which it came, and what is told of it.
    variants: Vec<(bool, u64, Variant)>,
}

/// After how many records a progress is told.
const PROGRESS: u32 = 65_536;
