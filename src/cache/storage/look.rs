//! Looking at a store's file from outside: that of a running gateway, or of a dead one. Nothing of it is written.
//!
//! What changes while it is looked at is left out and counted. Purges that are in force are applied, as a look-up would.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::head::Head;
use super::listing::{Listed, Variant, listed, variant};
use super::table::Table;
use crate::cache::key::{self, Framed, UrlHash};
use crate::cache::purge::{Effect, Object};
use crate::shm::OpenError;
use crate::shm::arena::{Process, Seen, Sight, Sums, View};

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
    /// Answers that are fresh.
    pub fresh: usize,
    /// Answers that are stale, and that may still be given in one case or another.
    pub stale: usize,
    /// Answers that are stale, and only asked about.
    pub expired: usize,
    /// Answers that a purge has struck and that are not swept yet.
    pub purged: usize,
    /// Answers that changed while they were looked at: told nowhere else.
    pub changed: usize,
    /// Records that cannot be believed.
    pub damaged: usize,
    /// How many answers are at most as old as each of [`AGES`], and older than the one before; the last: older than all.
    pub ages: [usize; AGES.len() + 1],
    /// The oldest answer's age.
    pub oldest: Duration,
    /// Answers and their bytes by route.
    pub routes: BTreeMap<String, (usize, usize)>,
    /// Purges of many in force; `None`: the table of them is damaged, and nothing would be served.
    pub bans: Option<usize>,
    /// How many answers and purges there have been.
    pub sequence: u64,
    /// The number of the file's layout.
    pub layout: u64,
    /// When the file was made.
    pub made_at: SystemTime,
    /// Whether that was since the machine was started: else the next gateway makes it anew.
    pub is_of_this_boot: bool,
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
    /// Bytes of their heads.
    pub head_bytes: usize,
    /// Bytes of their bodies.
    pub body_bytes: usize,
    /// Answers that changed while they were read.
    pub changed: usize,
    /// How much is wrong.
    pub wrong: usize,
    /// What is wrong: the record, if it is one, and how. No more than [`MAX_TOLD`].
    pub told: Vec<(Option<u32>, String)>,
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

/// What there is in a record.
enum Found {
    Nothing,
    Changed,
    Wrong(String),
    Object(Box<(Seen, Head)>),
}

/// All of one key: each variant by the number by which it came, and what is told of it.
#[derive(Default)]
struct Family {
    key: Vec<u8>,
    variants: BTreeMap<(bool, u64), (u64, Variant)>,
}

impl Look {
    /// Opens a file.
    ///
    /// # Errors
    /// Why it cannot be looked at, in the operator's words.
    pub fn open(path: &Path) -> Result<Self, String> {
        let view = View::open(path).map_err(|why| refused(&why))?;
        let view = view.ok_or_else(|| format!("there is no file `{}`", path.display()))?;
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
            expired: 0,
            purged: 0,
            changed: 0,
            damaged: 0,
            ages: [0; AGES.len() + 1],
            oldest: Duration::ZERO,
            routes: BTreeMap::new(),
            bans: (!self.has_spoilt_purges()).then(|| self.table.len()),
            sequence: self.view.sequence(),
            layout: self.view.layout(),
            made_at: self.view.region().made_at(),
            is_of_this_boot: self.view.region().is_of_this_boot(),
            file_bytes: self.view.region().bytes(),
            writer: self.writer(),
            processes: self.view.processes(),
        };
        for number in 0..self.view.record_count() {
            match self.found(number) {
                Found::Nothing => {}
                Found::Changed => overview.changed += 1,
                Found::Wrong(_) => overview.damaged += 1,
                Found::Object(object) => self.count(&mut overview, &object.0, &object.1, now),
            }
        }
        overview
    }

    fn count(&self, overview: &mut Overview, seen: &Seen, head: &Head, now: SystemTime) {
        let Some(stale_from) = self.stale_from(seen, head) else {
            overview.purged += 1;
            return;
        };
        let fresh_until = head.fresh_until(stale_from);
        let freshness = if fresh_until >= now {
            &mut overview.fresh
        } else if now.duration_since(fresh_until).is_ok_and(|since| since <= head.stale_for()) {
            &mut overview.stale
        } else {
            &mut overview.expired
        };
        *freshness += 1;
        let age = now.duration_since(head.epoch()).unwrap_or_default();
        overview.oldest = overview.oldest.max(age);
        let older_than = AGES.iter().take_while(|bound| age > **bound).count();
        if let Some(count) = overview.ages.get_mut(older_than) {
            *count += 1;
        }
        let route = Framed::read(head.key()).map_or("?", |framed| framed.route).to_owned();
        let sums = overview.routes.entry(route).or_default();
        *sums = (sums.0 + 1, sums.1 + seen.size);
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
        // No more is kept than is told: a file may hold millions.
        let mut keys: BTreeMap<u128, Family> = BTreeMap::new();
        let mut is_more = false;
        for (seen, head) in self.objects() {
            if after.is_some_and(|after| seen.primary <= after) || !narrowed.takes(&head) {
                continue;
            }
            let Some(stale_from) = self.stale_from(&seen, &head) else { continue };
            let is_first = seen.variance == 0;
            let told = variant(&head, stale_from, (seen.body_bytes, seen.size), is_first, now);
            let family = keys.entry(seen.primary).or_default();
            family.key = head.key().to_vec();
            // While one takes the place of another, both are there for a moment.
            let place = family.variants.entry((!is_first, seen.variance));
            let newest = place.or_insert_with(|| (seen.sequence, told.clone()));
            if newest.0 < seen.sequence {
                *newest = (seen.sequence, told);
            }
            if keys.len() > limit {
                keys.pop_last();
                is_more = true;
            }
        }
        let next = keys.keys().next_back().copied().filter(|_| is_more);
        let page = keys.into_values().filter_map(|Family { key, variants }| {
            let mut variants: Vec<_> = variants.into_iter().collect();
            variants.sort_by_key(|((is_variant, _), (sequence, _))| (*is_variant, *sequence));
            listed(&key, variants.into_iter().map(|(_, (_, told))| told).collect())
        });
        (page.collect(), next)
    }

    /// The bodies that are stored for a URL, in the order of its list. One that changes while it is read is left out; `None` for one that
    /// does not match its checksum.
    #[must_use]
    pub fn bodies(&self, url: &str) -> Vec<Option<Vec<u8>>> {
        let narrowed = Narrowed { url: Some(url.to_owned()), ..Narrowed::default() };
        let is_stored =
            |(seen, head): &(Seen, Head)| narrowed.takes(head) && self.stale_from(seen, head).is_some();
        let mut newest = BTreeMap::new();
        for (seen, _) in self.objects().filter(is_stored) {
            let place = newest.entry((seen.primary, seen.variance)).or_insert_with(|| seen.clone());
            if place.sequence < seen.sequence {
                *place = seen;
            }
        }
        let mut all: Vec<Seen> = newest.into_values().collect();
        all.sort_by_key(|seen| (seen.primary, seen.variance != 0, seen.sequence));
        let bodies = all.iter().filter_map(|seen| self.view.body(seen));
        bodies.map(|(body, is_sound)| is_sound.then_some(body)).collect()
    }

    /// Reads everything and compares it with its checksums. `progress` is told how many records were looked at.
    pub fn verify(&self, mut progress: impl FnMut(u32, u32)) -> Verified {
        let mut verified = Verified::default();
        if self.has_spoilt_purges() {
            verified.note(None, "the table of purges is damaged: everything counts as purged".into());
        }
        let all = self.view.record_count();
        for number in 0..all {
            if number.is_multiple_of(PROGRESS) {
                progress(number, all);
            }
            match self.found(number) {
                Found::Nothing => {}
                Found::Changed => verified.changed += 1,
                Found::Wrong(why) => verified.note(Some(number), why),
                Found::Object(object) => match self.view.body(&object.0) {
                    None => verified.changed += 1,
                    Some((body, true)) => {
                        verified.sound += 1;
                        verified.head_bytes += object.1.as_bytes().len();
                        verified.body_bytes += body.len();
                    }
                    Some((_, false)) => {
                        let url = url(&object.1).unwrap_or_default();
                        verified
                            .note(Some(number), format!("the body of `{url}` does not match its checksum"));
                    }
                },
            }
        }
        progress(all, all);
        verified
    }

    fn objects(&self) -> impl Iterator<Item = (Seen, Head)> {
        (0..self.view.record_count()).filter_map(|number| match self.found(number) {
            Found::Object(object) => Some(*object),
            Found::Nothing | Found::Changed | Found::Wrong(_) => None,
        })
    }

    fn found(&self, number: u32) -> Found {
        let mut last = Found::Changed;
        for _ in 0..TRIES {
            let mut seen = match self.view.look(number) {
                Sight::Nothing => return Found::Nothing,
                Sight::Unsound => return Found::Wrong("the record contradicts itself".into()),
                Sight::Changed => {
                    last = Found::Changed;
                    continue;
                }
                Sight::Object(seen) => seen,
            };
            match Head::read(Bytes::from(std::mem::take(&mut seen.head))) {
                Ok(head) => return Found::Object(Box::new((seen, head))),
                // A head that was exchanged and exchanged back meanwhile is no fault: it is looked at once more.
                Err(why) => last = Found::Wrong(format!("its head has {why}")),
            }
        }
        last
    }

    /// Whether the purges cannot be read. Not while somebody writes them again and again: that is no fault.
    fn has_spoilt_purges(&self) -> bool {
        (0..PURGE_TRIES).all(|_| self.table.is_broken())
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

impl Verified {
    fn note(&mut self, record: Option<u32>, why: String) {
        self.wrong += 1;
        if self.told.len() < MAX_TOLD {
            self.told.push((record, why));
        }
    }
}

impl Narrowed {
    fn takes(&self, head: &Head) -> bool {
        let Some(framed) = Framed::read(head.key()) else { return false };
        let place = || format!("{}://{}{}", framed.scheme, framed.host, framed.path);
        let below = |prefix: &String| {
            let place = place();
            let rest = place.strip_prefix(&**prefix);
            rest.is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
        };
        self.route.as_ref().is_none_or(|route| route == framed.route)
            && self.url.as_ref().is_none_or(|wanted| Some(wanted) == url(head).as_ref())
            && self.prefix.as_ref().is_none_or(below)
            && self.tag.as_ref().is_none_or(|tag| head.tags().into_iter().any(|one| one == tag))
    }
}

/// The URL of a key.
fn url(head: &Head) -> Option<String> {
    listed(head.key(), Vec::new()).map(|listed| listed.url)
}

/// Why a file cannot be opened.
fn refused(why: &OpenError) -> String {
    match why {
        OpenError::System(path, why) if why.kind() == io::ErrorKind::PermissionDenied => format!(
            "`{}` may not be read by this user: ask as the gateway's user, or as root",
            path.display()
        ),
        why => why.to_string(),
    }
}

/// The bounds of [`Overview::ages`].
pub const AGES: [Duration; 4] = [
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3600),
    Duration::from_secs(86_400),
];
/// The most faults that are told; all are counted.
pub const MAX_TOLD: usize = 1000;
/// After how many records a progress is told.
const PROGRESS: u32 = 4096;
/// How often a record is looked at that changes.
const TRIES: usize = 3;
/// How often the purges are looked at that cannot be read.
const PURGE_TRIES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_read_is_told_who_may() {
        let why = OpenError::System("/run/portcullis/cache".into(), io::ErrorKind::PermissionDenied.into());
        assert_eq!(
            refused(&why),
            "`/run/portcullis/cache` may not be read by this user: ask as the gateway's user, or as root"
        );
        let why = OpenError::NotAFile("/tmp".into(), "a folder");
        assert_eq!(refused(&why), "`/tmp` is a folder; a path of its own is needed", "the rest as it is");
    }
}
