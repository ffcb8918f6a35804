//! What a purge names and whom it strikes: the rules alone, without a store.
//!
//! A purge of one URL goes to its place in the store directly. A purge of many is a *ban*: a line in a short table, as in a cache
//! that keeps its objects where they are and asks the table at each hit. An object whose fetch began before a ban that names it is
//! no longer there (hard) or is stale since then (soft). So a purge costs the same whatever is stored, and reaches fetches that
//! are still on their way. A sweep behind it applies the bans to the objects and takes them off the table.
//!
//! ```text
//!   purge ──▶ Bans::add ──▶ every hit asks Bans::effect ──▶ Spared · StaleFrom(when) · Gone
//!                      └──▶ the sweep: objects removed or marked, then Bans::retire
//! ```
//!
//! [`tags`] reads the names by which the upstream lets its answers be purged together.

pub mod tag_list;
pub mod tags;
mod written;

use std::collections::HashMap;
use std::time::SystemTime;

use ahash::RandomState;

use super::key::{Framed, UrlHash, hash128};
use tag_list::TagList;

/// What a purge does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Makes it stale: it is asked about at the next request, and may still be given where a stale answer may (RFC 5861).
    Soft,
    /// Removes it.
    Hard,
}

impl Mode {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

/// Whether a purge is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It is.
    Real,
    /// It is only told how many objects it would strike. Looks at all of them.
    Dry,
}

/// What is to be purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// Everything stored for these URLs, whatever its route and variant.
    Urls(Vec<UrlHash>),
    /// All that a scope names.
    Scope(Scope),
}

/// A name for many objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// What a route stored, under any of its settings.
    Route(Box<str>),
    /// A URL without its query, and every URL below it.
    Prefix(UrlPrefix),
    /// What has a tag.
    Tag(Tag),
    /// All of one URL: for a process that may not go to the objects itself.
    Url(UrlHash),
}

/// A scheme and a host, as keys have them: `https` and `app.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: Box<str>,
    /// Host and, unless it is the scheme's own, port; lower case.
    pub host: Box<str>,
}

/// The beginning of URLs. It ends where a segment ends, as a route's `path: { prefix: ... }` does: `/api/weather` covers
/// `/api/weather` and `/api/weather/oslo`, and not `/api/weatherman`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPrefix {
    /// Whose URLs.
    pub origin: Origin,
    /// The path, in normal form; `/` covers all.
    pub path: Box<str>,
}

/// A tag, of one origin or of all. A group of RFC 9875 belongs to one (§2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The name, compared letter by letter.
    pub name: Box<str>,
    /// Whose objects; `None`: whoever's.
    pub origin: Option<Origin>,
}

/// What a purge did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Objects struck, each variant counted; `None` where nobody counted, because that would mean to look at each.
    pub matched: Option<usize>,
}

/// What of an object decides whether a ban names it.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// The framed key ([`super::key::KeyParts`]).
    pub key: &'a [u8],
    /// Its tags.
    pub tags: TagList<'a>,
    /// When its fetch began, counted in purges.
    pub began: u64,
    /// Its URL: the upper half of its primary hash.
    pub url: UrlHash,
}

/// A purge of many that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// What it does.
    pub mode: Mode,
    /// Fetches with a smaller number began before it.
    pub epoch: u64,
    /// When it was said.
    pub at: SystemTime,
}

/// What the bans make of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    Spared,
    /// It is stale from that moment on, if it is not so already.
    StaleFrom(SystemTime),
    /// It is no longer there.
    Gone,
}

impl Effect {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Gone, _) | (_, Self::Gone) => Self::Gone,
            (Self::StaleFrom(one), Self::StaleFrom(two)) => Self::StaleFrom(one.min(two)),
            (Self::Spared, effect) | (effect, Self::Spared) => effect,
        }
    }

    /// Since when it is stale; `None` if it is spared. Not asked of what is gone.
    #[must_use]
    pub fn stale_from(self) -> Option<SystemTime> {
        match self {
            Self::StaleFrom(at) => Some(at),
            Self::Spared | Self::Gone => None,
        }
    }
}

/// The bans of one scope. A hard one covers all before it; soft ones are kept apart, because the first decides since when an object
/// is stale, and saying it again must not lengthen its windows.
type Line = Vec<Ban>;

/// The bans in force, arranged so that the work at a hit does not grow with them, but for prefixes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bans {
    all: Line,
    routes: HashMap<Box<str>, Line, RandomState>,
    tags: HashMap<u128, Line, RandomState>,
    prefixes: Vec<(UrlPrefix, Line)>,
    urls: HashMap<u64, Line, RandomState>,
}

impl Bans {
    /// Adds one.
    pub fn add(&mut self, scope: &Scope, ban: Ban) {
        if *scope == Scope::All && ban.mode == Mode::Hard {
            // It covers all that were said before it, so there is always room for it.
            *self = Self::default();
        }
        let line = match scope {
            Scope::All => &mut self.all,
            Scope::Url(UrlHash(url)) => self.urls.entry(*url).or_default(),
            Scope::Route(name) => self.routes.entry(name.clone()).or_default(),
            Scope::Tag(tag) => {
                let origin = tag.origin.as_ref().map(|origin| (&*origin.scheme, &*origin.host));
                self.tags.entry(tag_hash(&tag.name, origin)).or_default()
            }
            Scope::Prefix(prefix) => {
                let place = self.prefixes.iter().position(|(known, _)| known == prefix);
                let place = place.unwrap_or_else(|| {
                    self.prefixes.push((prefix.clone(), Line::new()));
                    self.prefixes.len() - 1
                });
                match self.prefixes.get_mut(place) {
                    Some((_, line)) => line,
                    None => return,
                }
            }
        };
        if ban.mode == Mode::Hard {
            line.clear();
        }
        line.push(ban);
    }

    /// What they make of an object.
    pub fn effect(&self, object: &Object<'_>) -> Effect {
        let judge = |line: &Line| {
            let struck = line.iter().filter(|ban| object.began < ban.epoch);
            struck.fold(Effect::Spared, |effect, ban| {
                effect.and(match ban.mode {
                    Mode::Hard => Effect::Gone,
                    Mode::Soft => Effect::StaleFrom(ban.at),
                })
            })
        };
        let mut effect = judge(&self.all);
        if let Some(line) = self.urls.get(&object.url.0) {
            effect = effect.and(judge(line));
        }
        let framed = Framed::read(object.key);
        if !self.tags.is_empty() {
            let origin = framed.map(|framed| (framed.scheme, framed.host));
            for tag in object.tags {
                let hashes = [Some(tag_hash(tag, None)), origin.map(|origin| tag_hash(tag, Some(origin)))];
                let lines = hashes.into_iter().flatten().filter_map(|hash| self.tags.get(&hash));
                effect = lines.fold(effect, |effect, line| effect.and(judge(line)));
            }
        }
        let Some(framed) = framed else { return effect };
        if let Some(line) = self.routes.get(framed.route) {
            effect = effect.and(judge(line));
        }
        let covering = self.prefixes.iter().filter(|(prefix, _)| prefix.covers(&framed));
        covering.fold(effect, |effect, (_, line)| effect.and(judge(line)))
    }

    /// Takes off those that the sweep has applied: up to `swept`, and said before `before`.
    pub fn retire(&mut self, swept: u64, before: SystemTime) {
        let stays = |line: &mut Line| {
            line.retain(|ban| ban.epoch > swept || ban.at > before);
            !line.is_empty()
        };
        stays(&mut self.all);
        self.routes.retain(|_, line| stays(line));
        self.urls.retain(|_, line| stays(line));
        self.tags.retain(|_, line| stays(line));
        self.prefixes.retain_mut(|(_, line)| stays(line));
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Ban> {
        let lines = [&self.all].into_iter().chain(self.routes.values()).chain(self.tags.values());
        let lines = lines.chain(self.urls.values());
        lines.chain(self.prefixes.iter().map(|(_, line)| line)).flatten()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl Scope {
    /// Whether it names an object, whenever that was fetched.
    #[must_use]
    pub fn names(&self, key: &[u8], tags: TagList<'_>, url: UrlHash) -> bool {
        let framed = || Framed::read(key);
        match self {
            Self::All => true,
            Self::Url(named) => *named == url,
            Self::Route(name) => framed().is_some_and(|framed| framed.route == &**name),
            Self::Prefix(prefix) => framed().is_some_and(|framed| prefix.covers(&framed)),
            Self::Tag(tag) => {
                let here = |origin: &Origin| framed().is_some_and(|framed| origin.is_of(&framed));
                tags.contains(&tag.name) && tag.origin.as_ref().is_none_or(here)
            }
        }
    }
}

impl Origin {
    fn is_of(&self, framed: &Framed<'_>) -> bool {
        *self.scheme == *framed.scheme && *self.host == *framed.host
    }
}

impl UrlPrefix {
    fn covers(&self, framed: &Framed<'_>) -> bool {
        let below = |rest: &str| self.path.ends_with('/') || rest.is_empty() || rest.starts_with('/');
        self.origin.is_of(framed) && framed.path.strip_prefix(&*self.path).is_some_and(below)
    }
}

fn tag_hash(name: &str, origin: Option<(&str, &str)>) -> u128 {
    let mut framed = Vec::with_capacity(name.len() + 64);
    // No scheme and no host has a space in it, so nothing can be mistaken for another.
    if let Some((scheme, host)) = origin {
        for part in [scheme, " ", host, " "] {
            framed.extend_from_slice(part.as_bytes());
        }
    }
    framed.push(if origin.is_some() { 1 } else { 0 });
    framed.extend_from_slice(name.as_bytes());
    u128::from_le_bytes(hash128(&framed))
}

/// Bans in force at once. With one more the sweep runs at once, in the time of whoever purges.
pub const MAX_BANS: usize = 1024;

#[cfg(test)]
mod tests;
