//! `owners`: what the routes of each team may claim.
//!
//! Those who run the gateway grant each team a part: prefixes and hosts that its routes may match, upstreams and secrets that
//! they may use, and the most that they may let through and keep. What is not granted is refused before anything is deployed,
//! with the team's line and the one of the grant. Without `owners` every team may do everything, which is warned of.
//!
//! Grants bind files, not people: who may change which file is the code host's business, and `portcullis codeowners` writes
//! its rules.

mod claims;
mod crossing;
mod region;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::matching::{self, host_pattern};
use super::router::HostPattern;
use super::{Slots, upstreams};
use crate::config::{Document, Problems, Rate, Section, TimespanOrZero, codes, did_you_mean, shape};
use crate::names::{SecretName, TeamName, UpstreamName};

pub(super) use claims::{Claim, check, check_limits, check_secrets};
pub(super) use crossing::{Crossing, TeamRoute, find as crossings};

/// The key of the main file.
pub(super) const OWNERS: &str = "owners";

#[expect(dead_code, reason = "`prefixes` and `codeowners` are read item by item")]
/// What one team's routes may claim.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct GrantSpec {
    /// What its routes may match: these paths and everything below them, by whole segments. A regular expression is under one of them only
    /// if it begins with it, literally, and a slash.
    #[schemars(with = "Vec<shape::UrlPath>", example = ["/api/pay"])]
    prefixes: Vec<String>,
    /// The hosts that its routes may match, `*.app.example` for everything below one. Where it is written, each of its routes names its
    /// hosts. Default: any.
    #[schemars(with = "Option<Vec<shape::Host>>")]
    hosts: Option<Vec<String>>,
    /// The upstreams that its routes may use. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<UpstreamName>")]
    upstreams: Vec<String>,
    /// The secrets that policies of its routes may name. The credential of an upstream is not among them: the upstream brings it along.
    /// Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<SecretName>")]
    secrets: Vec<String>,
    /// The most that each of its routes may let through, in the long run and at once, for whatever the limit counts. A route without a
    /// limit is refused where this is written. Default: no bound.
    max_rate: Option<Rate>,
    /// The longest time for which its routes may keep an answer: `ttl` and what may be given though stale after it. What the upstream says
    /// of its own answers is not bounded. Default: no bound.
    max_ttl: Option<TimespanOrZero>,
    /// Who answers for its files at the code host: `@organisation/team`, `@user` or an e-mail address, for `portcullis codeowners`.
    /// Default: nobody.
    #[serde(default)]
    #[schemars(example = ["@shop/checkout"])]
    codeowners: Vec<String>,
}

/// What one team may do.
pub(super) struct Grant {
    /// Where it is written.
    section: Section,
    team: TeamName,
    /// Without a slash at the end; `/` is empty.
    prefixes: Vec<Prefix>,
    /// `None`: any host.
    hosts: Option<Vec<HostPattern>>,
    upstreams: BTreeSet<String>,
    secrets: BTreeSet<String>,
    max_rate: Option<Rate>,
    max_ttl: Option<std::time::Duration>,
}

struct Prefix {
    path: String,
    at: Section,
}

impl Grant {
    /// The place of one of its keys; of the whole where the key is not written.
    fn at(&self, key: &str) -> Section {
        self.section.get(key).unwrap_or_else(|| self.section.clone())
    }

    /// The longest granted prefix above `path`.
    fn nearest(&self, path: &str) -> Option<&Prefix> {
        let above = self.prefixes.iter().filter(|prefix| region::is_under(path, &prefix.path));
        above.max_by_key(|prefix| prefix.path.len())
    }
}

/// All grants. `None` in a plan without `owners`.
pub(super) struct Owners {
    section: Section,
    grants: BTreeMap<String, Arc<Grant>>,
    /// Written, but with mistakes: known by name, so that a team is not blamed for it.
    broken: BTreeSet<String>,
}

impl Owners {
    /// Reads `owners`; `None` where it is not written.
    pub(super) fn read(
        root: &Section,
        declared: &upstreams::Declared,
        secrets: &Slots,
        problems: &mut Problems,
    ) -> Option<Self> {
        let section = root.get(OWNERS)?;
        let mut owners = Self { section: section.clone(), grants: BTreeMap::new(), broken: BTreeSet::new() };
        for (written, entry) in section.entries(problems) {
            match grant(&written, &entry, declared, secrets, problems) {
                Some(grant) => {
                    owners.grants.insert(written, Arc::new(grant));
                }
                None => {
                    owners.broken.insert(written);
                }
            }
        }
        owners.warn_of_overlaps(problems);
        Some(owners)
    }

    /// The grant of the team that a file names at `at`; an unknown team is recorded.
    pub(super) fn grant(&self, team: &TeamName, at: &Section, problems: &mut Problems) -> Option<Arc<Grant>> {
        if let Some(grant) = self.grants.get(team.as_str()) {
            return Some(grant.clone());
        }
        if !self.broken.contains(team.as_str()) {
            let message = format!("`{OWNERS}` does not name the team `{team}`");
            let problem = problems.error(codes::UNKNOWN_TEAM, at.path(), message);
            problem.related(self.section.path(), "the teams that may have routes");
            let known = self.grants.keys().chain(&self.broken).map(String::as_str);
            match did_you_mean(team.as_str(), known) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help(format!("ask the platform team for a grant: `{OWNERS}: {{ {team}: {{ prefixes: [...], upstreams: [...] }} }}`")),
            };
        }
        None
    }

    /// The team whose granted prefix reaches further down to the route than that of the route's own team, and where it stands.
    pub(super) fn deeper(&self, route: &TeamRoute<'_>) -> Option<(&TeamName, &Section)> {
        let root = region::root(&route.matched.path);
        let own = route.grant?.nearest(&root)?;
        let hosts = Some(route.matched.hosts.as_slice()).filter(|hosts| !hosts.is_empty());
        let others = self.grants.values().filter(|grant| grant.team != *route.team);
        let deeper = others
            .filter(|grant| hosts_meet(grant.hosts.as_deref(), hosts))
            .filter_map(|grant| Some((grant, grant.nearest(&root)?)))
            .filter(|(_, prefix)| prefix.path.len() > own.path.len())
            .max_by_key(|(_, prefix)| prefix.path.len());
        deeper.map(|(grant, prefix)| (&grant.team, &prefix.at))
    }

    fn warn_of_overlaps(&self, problems: &mut Problems) {
        let mut seen: BTreeMap<&str, Vec<(&Grant, &Prefix)>> = BTreeMap::new();
        for grant in self.grants.values() {
            for prefix in &grant.prefixes {
                let others = seen.entry(&prefix.path).or_default();
                let other = others
                    .iter()
                    .find(|(other, _)| hosts_meet(grant.hosts.as_deref(), other.hosts.as_deref()));
                if let Some((first, its)) = other {
                    let shown = if prefix.path.is_empty() { "/" } else { &prefix.path };
                    let message = if first.team == grant.team {
                        format!("`{}` is granted `{shown}` twice", grant.team)
                    } else {
                        format!("`{}` and `{}` are both granted `{shown}`", first.team, grant.team)
                    };
                    problems
                        .warning(codes::OVERLAPPING_GRANTS, prefix.at.path(), message)
                        .related(its.at.path(), "granted here as well")
                        .help("grant each team a prefix of its own, or tell them apart by `hosts`");
                }
                others.push((grant, prefix));
            }
        }
    }
}

/// Says once that nothing holds the teams apart.
pub(super) fn warn_of_none(root: &Section, problems: &mut Problems) {
    let at = root.get(super::INCLUDE).unwrap_or_else(|| root.clone());
    problems
        .warning(codes::NO_OWNERS, at.path(), "every team may match every path and use every upstream")
        .help(
            "grant each team its part: `owners: { checkout: { prefixes: [/api/pay], upstreams: [stripe] } }`",
        );
}

/// Whether some host is in both lists; no list is every host.
fn hosts_meet(ours: Option<&[HostPattern]>, theirs: Option<&[HostPattern]>) -> bool {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return true };
    ours.iter().any(|our| theirs.iter().any(|their| covers(our, their) || covers(their, our)))
}

/// Whether every host of `inner` is one of `outer`.
fn covers(outer: &HostPattern, inner: &HostPattern) -> bool {
    match (outer, inner) {
        (HostPattern::Exact(outer), HostPattern::Exact(inner)) => outer == inner,
        (HostPattern::Exact(_), HostPattern::Suffix(_)) => false,
        (HostPattern::Suffix(outer), HostPattern::Exact(inner) | HostPattern::Suffix(inner)) => {
            inner.ends_with(outer.as_str())
        }
    }
}

fn grant(
    written: &str,
    section: &Section,
    declared: &upstreams::Declared,
    secrets: &Slots,
    problems: &mut Problems,
) -> Option<Grant> {
    let team = match TeamName::parse(written) {
        Ok(team) => Some(team),
        Err(why) => {
            let message = format!("`{written}` is no name: {why}");
            problems.error(codes::BAD_NAME, section.path(), message).on_key();
            None
        }
    };
    let spec = section.decode::<GrantSpec>(problems);
    let mut is_whole = true;
    // The lists are looked through one by one, so that a mistake in one of them hides none of the others.
    let mut prefixes = Vec::new();
    for (path, at) in texts(section, "prefixes") {
        if matching::normal(&path, &path, &at, problems).is_some() {
            prefixes.push(Prefix { path: path.trim_end_matches('/').to_owned(), at });
        } else {
            is_whole = false;
        }
    }
    let mut hosts = Vec::new();
    for (host, at) in texts(section, "hosts") {
        match host_pattern(&host) {
            Some(pattern) => hosts.push(pattern),
            None => {
                is_whole = false;
                problems
                    .error(codes::BAD_VALUE, at.path(), format!("`{host}` is no host"))
                    .help("`app.example` or `*.app.example`, without a port");
            }
        }
    }
    for (name, at) in texts(section, "upstreams") {
        is_whole &= declared.is_declared(&name);
        declared.check_name(&name, &at, problems);
    }
    for (name, at) in texts(section, "secrets") {
        secrets.check_name(&name, at.path(), problems);
    }
    for (owner, at) in texts(section, "codeowners") {
        if !is_code_owner(&owner) {
            problems
                .error(codes::BAD_VALUE, at.path(), format!("`{owner}` is no code owner"))
                .help("`@organisation/team`, `@user` or an e-mail address");
        }
    }
    let (team, spec) = (team?, spec?);
    // A team is not blamed for what is missing in its grant by a mistake there.
    is_whole.then(|| Grant {
        section: section.clone(),
        team,
        prefixes,
        hosts: spec.hosts.map(|_| hosts),
        upstreams: spec.upstreams.into_iter().collect(),
        secrets: spec.secrets.into_iter().collect(),
        max_rate: spec.max_rate,
        max_ttl: spec.max_ttl.map(|span| span.0),
    })
}

/// The texts of a list under `key`, each with its place; anything else is left to the decoder.
fn texts(section: &Section, key: &str) -> Vec<(String, Section)> {
    let Some(list) = section.get(key).filter(|list| list.value().is_sequence()) else { return Vec::new() };
    let items = list.items(&mut Problems::new()).into_iter();
    items.filter_map(|item| Some((item.value().as_str()?.to_owned(), item))).collect()
}

/// What a code host takes as an owner: `@user`, `@organisation/team` or an e-mail address, in one word.
#[must_use]
pub fn is_code_owner(text: &str) -> bool {
    let is_word = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
    };
    match text.split_once('@') {
        Some(("", name)) => name.split('/').count() <= 2 && name.split('/').all(is_word),
        Some((user, host)) => is_word(user) && is_word(host) && host.contains('.'),
        None => false,
    }
}

/// One file with the people who answer for it, for a code host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFile {
    /// The file's name as given or found.
    pub file: String,
    /// Its team; `None` for the main file.
    pub team: Option<String>,
    /// `codeowners` of the team's grant.
    pub owners: Vec<String>,
}

/// Every file of a document with its team and the `codeowners` of the team's grant. Nothing is checked: a file that is
/// broken needs an owner all the more.
#[must_use]
pub fn owned_files(document: &Document) -> Vec<OwnedFile> {
    let owners = document.root().get(OWNERS);
    let main = OwnedFile { file: document.file_name().to_owned(), team: None, owners: Vec::new() };
    let mut files = vec![main];
    for file in document.included() {
        let team = file.get(super::files::TEAM).and_then(|team| team.value().as_str().map(str::to_owned));
        let written = team.as_deref().and_then(|team| owners.as_ref()?.get(team)?.get("codeowners"));
        let list = written.as_ref().and_then(|list| list.value().as_sequence()).into_iter().flatten();
        let list = list.filter_map(|owner| owner.as_str()).map(str::to_owned).collect();
        files.push(OwnedFile { file: file.place().file.to_string(), team, owners: list });
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_what_ends_like_it() {
        let pattern = |text: &str| host_pattern(text).expect(text);
        for (outer, inner, expected) in [
            ("app.example", "app.example", true),
            ("*.example", "app.example", true),
            ("*.example", "*.app.example", true),
            ("*.example", "example", false),
            ("*.app.example", "*.example", false),
            ("app.example", "*.app.example", false),
        ] {
            assert_eq!(covers(&pattern(outer), &pattern(inner)), expected, "{outer} {inner}");
        }
        let (a, b) = ([pattern("*.example")], [pattern("a.example"), pattern("other")]);
        assert!(hosts_meet(Some(&a), Some(&b)) && hosts_meet(None, Some(&b)));
        assert!(!hosts_meet(Some(&a), Some(&[pattern("other")])));
    }

    #[test]
    fn code_owners_are_single_words() {
        for good in ["@org/team", "@user", "me@example.org", "@org/team-a.b_c"] {
            assert!(is_code_owner(good), "{good}");
        }
        for bad in ["", "@", "org/team", "@a b", "@a/b/c", "@a#", "me@host", "a@b@c.d", "@org/"] {
            assert!(!is_code_owner(bad), "{bad}");
        }
    }
}
