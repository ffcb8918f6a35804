//! What a change means: for one setting by its row, and for settings that only mean something together.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::cover::{self, Reach};
use super::parts::{Part, PartKind, Parts};
use super::risk::{Kind, Mark};
use super::rows::{HUGE, Judge};
use super::value::Value;
use crate::config::Rate;
use crate::limit::Quota;

/// The two documents.
#[derive(Clone, Copy)]
pub struct Both<'a> {
    /// The one in force.
    pub old: &'a Parts,
    /// The one that is to be.
    pub new: &'a Parts,
}

/// Marks of a part, each with the key below which its entry stands; the first entry there gets it.
pub type Marks = Vec<(String, Mark)>;

/// What a change of one setting means by itself.
#[must_use]
pub fn setting(judge: Judge, old: Option<&Value>, new: Option<&Value>) -> Vec<Mark> {
    let by_amount = |factor: u128, more: Kind, less: Kind| {
        let (Some(old), Some(new)) = (old.and_then(Value::magnitude), new.and_then(Value::magnitude)) else {
            return Vec::new();
        };
        if new > old && new >= old.saturating_mul(factor) {
            vec![Mark::plain(more)]
        } else if new < old && old >= new.saturating_mul(factor) {
            vec![Mark::plain(less)]
        } else {
            Vec::new()
        }
    };
    let is_true = |value: Option<&Value>| value == Some(&Value::Flag(true));
    match judge {
        Judge::Neutral => Vec::new(),
        Judge::Amount(more, less) => by_amount(1, more, less),
        Judge::Large(more, less) => by_amount(HUGE, more, less),
        Judge::List(more, less) => lists(old, new, more, less),
        Judge::Taken(more, less) => lists(new, old, more, less),
        Judge::Flag(on, off) => vec![Mark::plain(if is_true(new) { on } else { off })],
        Judge::On(on) => is_true(new).then(|| Mark::plain(on)).into_iter().collect(),
        Judge::Changed(kind) => vec![Mark::plain(kind)],
        Judge::Gained(kind) => gained(old, new, kind),
        Judge::Bound(kind) => exceeds(old, new).then(|| Mark::plain(kind)).into_iter().collect(),
    }
}

/// What came into a list of which the absence names everything.
fn gained(old: Option<&Value>, new: Option<&Value>, kind: Kind) -> Vec<Mark> {
    let mut marks = lists(old, new, kind, kind);
    let came = match (members(old), members(new)) {
        (Some(was), Some(is)) => !is.is_subset(&was),
        (was, is) => was.is_some() && is.is_none(),
    };
    // What left the list comes last, and means nothing here.
    marks.truncate(usize::from(came));
    marks
}

/// Whether a bound, of which the absence is none, is higher than it was.
fn exceeds(old: Option<&Value>, new: Option<&Value>) -> bool {
    let rate = |value: &Value| value.to_string().parse::<Rate>().ok();
    match (old, new) {
        (Some(_), None) => true,
        (Some(old), Some(new)) => match (rate(old), rate(new)) {
            (Some(old), Some(new)) => !old.covers(new.requests.get(), new.window),
            _ => new.magnitude() > old.magnitude(),
        },
        (None, _) => false,
    }
}

/// What came into a list and what left it. An absent list where there is a default of nothing names everything.
fn lists(old: Option<&Value>, new: Option<&Value>, more: Kind, less: Kind) -> Vec<Mark> {
    let (was, is) = (members(old), members(new));
    let mut marks = Vec::new();
    let named = |kind: Kind, names: Vec<&String>| {
        let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
        Mark::new(kind, format!("{}: `{}`", kind.about(), names.join("`, `")))
    };
    match (was, is) {
        (None, None) => {}
        (None, Some(_)) => marks.push(Mark::new(less, format!("{}: all but those listed", less.about()))),
        (Some(_), None) => marks.push(Mark::new(more, format!("{}: all of them", more.about()))),
        (Some(was), Some(is)) => {
            let gained: Vec<&String> = is.difference(&was).collect();
            let lost: Vec<&String> = was.difference(&is).collect();
            if !gained.is_empty() && !was.contains("*") {
                marks.push(named(more, gained));
            }
            if !lost.is_empty() && !is.contains("*") {
                marks.push(named(less, lost));
            }
        }
    }
    marks
}

fn members(value: Option<&Value>) -> Option<BTreeSet<String>> {
    value.map(Value::members)
}

/// What the change of a part means, where several settings have to be seen together. `old` is a blank where the part is new.
#[must_use]
pub fn part(both: Both<'_>, old: &Part, new: &Part) -> Marks {
    let mut marks = Marks::new();
    match new.kind {
        PartKind::Route => {
            limits(old, new, &mut marks);
            concurrency(old, new, &mut marks);
            matching(old, new, &mut marks);
            target(both, old, new, &mut marks);
            cache(old, new, &mut marks);
            errors(old, new, &mut marks);
        }
        PartKind::Upstream => upstream(old, new, &mut marks),
        PartKind::Listener => listener(old, new, &mut marks),
        PartKind::Admin => admin(old, new, &mut marks),
        PartKind::Secret => {
            let source = |part: &Part| (part.value("env"), part.value("file"));
            if source(old) != source(new) {
                marks.push(("".into(), Mark::plain(Kind::SecretSwapped)));
            }
        }
        PartKind::Gateway => {
            let log = |part: &Part| part.value("accessLog");
            if log(new) == Some(Value::Text("off".into())) && log(old) != log(new) {
                marks.push(("accessLog".into(), Mark::plain(Kind::AccessLogOff)));
            }
        }
    }
    marks
}

/// One rate limit as far as it can be compared.
struct Limit {
    quota: Quota,
    key: String,
}

impl Limit {
    fn of(part: &Part, name: &str) -> Option<Self> {
        let value = |key: &str| part.value(&format!("rateLimit.{name}.{key}"));
        let number =
            |key: &str| NonZeroU32::new(u32::try_from(value(key).and_then(|value| value.magnitude())?).ok()?);
        let Some(Value::Span(window)) = value("window") else { return None };
        Some(Self {
            quota: Quota::new(number("requests")?, window, number("burst")?),
            key: value("key").map(|key| key.to_string()).unwrap_or_default(),
        })
    }

    fn is_faster_than(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.quota, &other.quota);
        u128::from(ours.requests()) * theirs.window().as_nanos()
            > u128::from(theirs.requests()) * ours.window().as_nanos()
    }

    /// Whether whoever this one lets pass is let pass by `other` too.
    fn is_as_tight_as(&self, other: &Self) -> bool {
        !self.is_faster_than(other)
            && self.quota.burst() <= other.quota.burst()
            && (self.key == other.key || self.key == "route")
    }

    fn words(&self) -> String {
        let whose = match self.key.as_str() {
            "client.ip" => " of one client",
            "route" => " of all clients together",
            _ => "",
        };
        let window = Value::Span(self.quota.window());
        format!("at most {} requests{whose} in any {window}", self.quota.most_in_window())
    }
}

fn limits(old: &Part, new: &Part, marks: &mut Marks) {
    let names: BTreeSet<&str> = old.names("rateLimit").chain(new.names("rateLimit")).collect();
    let all_new: Vec<Limit> = new.names("rateLimit").filter_map(|name| Limit::of(new, name)).collect();
    let all_old: Vec<Limit> = old.names("rateLimit").filter_map(|name| Limit::of(old, name)).collect();
    for name in names {
        let key = format!("rateLimit.{name}");
        let mut mark = |kind: Kind, why: String| marks.push((key.clone(), Mark::new(kind, why)));
        match (Limit::of(old, name), Limit::of(new, name)) {
            (Some(was), None) if !all_new.iter().any(|limit| limit.is_as_tight_as(&was)) => {
                mark(Kind::LimitRemoved, format!("{}; it was {}", Kind::LimitRemoved.about(), was.words()));
            }
            (None, Some(is)) if !all_old.iter().any(|limit| limit.is_as_tight_as(&is)) => {
                mark(Kind::LimitAdded, is.words());
            }
            (Some(was), Some(is)) => {
                let change = format!("{} -> {}", was.words(), is.words());
                if is.is_faster_than(&was) || is.quota.burst() > was.quota.burst() {
                    mark(Kind::LimitRaised, change.clone());
                }
                if was.is_faster_than(&is) || is.quota.burst() < was.quota.burst() {
                    mark(Kind::LimitLowered, change);
                }
                if was.key != is.key {
                    let kind = if is.key == "route" { Kind::LimitKeyNarrowed } else { Kind::LimitKeyWidened };
                    mark(kind, format!("counted by `{}` instead of `{}`", is.key, was.key));
                }
            }
            _ => {}
        }
    }
}

fn concurrency(old: &Part, new: &Part, marks: &mut Marks) {
    let max = |part: &Part| part.value("concurrency.max").and_then(|value| value.magnitude());
    let key = |part: &Part| part.value("concurrency.key").map(|key| key.to_string());
    let mut mark = |kind: Kind| marks.push(("concurrency".into(), Mark::plain(kind)));
    match (max(old), max(new)) {
        (Some(_), None) => mark(Kind::ConcurrencyRaised),
        (None, Some(_)) => mark(Kind::ConcurrencyLowered),
        (Some(was), Some(is)) => {
            if is > was {
                mark(Kind::ConcurrencyRaised);
            } else if is < was {
                mark(Kind::ConcurrencyLowered);
            }
            if key(old) != key(new) {
                mark(if key(new).as_deref() == Some("route") {
                    Kind::ConcurrencyLowered
                } else {
                    Kind::ConcurrencyRaised
                });
            }
        }
        (None, None) => {}
    }
}

fn matching(old: &Part, new: &Part, marks: &mut Marks) {
    let (was, is) = (Reach::of(old), Reach::of(new));
    for (key, why) in cover::beyond(&was, &is) {
        marks.push((key.clone(), Mark::new(Kind::MatchWidened, format!("it now takes {why}"))));
    }
    for (key, why) in cover::beyond(&is, &was) {
        marks.push((key.clone(), Mark::new(Kind::MatchNarrowed, format!("it no longer takes {why}"))));
    }
}

/// Where a route leads, and where a redirect sends.
fn target(both: Both<'_>, old: &Part, new: &Part, marks: &mut Marks) {
    let name = |part: &Part| part.value("upstream").map(|name| name.to_string());
    if let (Some(was), Some(is)) = (name(old), name(new))
        && was != is
    {
        let (before, after) = (both.old.get(PartKind::Upstream, &was), both.new.get(PartKind::Upstream, &is));
        if !before.zip(after).is_some_and(|(before, after)| before.says_the_same(after)) {
            let why = format!("the route leads to `{is}` instead of `{was}`");
            marks.push(("upstream".into(), Mark::new(Kind::UpstreamSwapped, why)));
        }
    }
    for (key, kind) in [("redirect", Kind::AnswerChanged), ("respond", Kind::AnswerChanged)] {
        if old.has(key) != new.has(key) && !(old.leaves.is_empty()) {
            marks.push((key.into(), Mark::plain(kind)));
        }
    }
    let host = |part: &Part| part.value("redirect.host").map(|host| host.to_string());
    if let Some(is) = host(new)
        && host(old).as_ref() != Some(&is)
    {
        marks.push((
            "redirect".into(),
            Mark::new(Kind::RedirectElsewhere, format!("clients are sent to `{is}`")),
        ));
    }
}

/// Fields that say who asks; what is made for one must not be given to another.
const IDENTITY: [&str; 3] = ["authorization", "cookie", "*"];

fn cache(old: &Part, new: &Part, marks: &mut Marks) {
    if !new.has("cache") {
        return;
    }
    let mut mark = |key: &str, why: String| marks.push((key.into(), Mark::new(Kind::CacheShared, why)));
    let dropped: Vec<String> =
        old.members("cache.key.headers").difference(&new.members("cache.key.headers")).cloned().collect();
    if old.has("cache") && !dropped.is_empty() {
        mark("cache.key.headers", format!("answers are no longer kept apart by `{}`", dropped.join("`, `")));
    }
    let text = |part: &Part| part.value("cache.share").map(|share| share.to_string());
    if old.has("cache") && text(new).as_deref() == Some("public") && text(old).as_deref() != Some("public") {
        mark("cache.share", "an answer that one client's identity brought is given to everybody".to_owned());
    }
    let stores_cookies =
        |part: &Part| part.value("cache.setCookie").is_some_and(|value| value.to_string() == "store");
    if stores_cookies(new) && !stores_cookies(old) {
        mark(
            "cache.setCookie",
            "everybody is given the cookie that was made for the first who asked".to_owned(),
        );
    }
    let ignored: Vec<String> = new
        .members("cache.key.query.ignore")
        .difference(&old.members("cache.key.query.ignore"))
        .cloned()
        .collect();
    if old.has("cache") && !ignored.is_empty() {
        mark(
            "cache.key.query.ignore",
            format!("answers are no longer kept apart by the parameters `{}`", ignored.join("`, `")),
        );
    }
    let key: BTreeSet<String> = new.members("cache.key.headers");
    let identity = |part: &Part| -> BTreeSet<String> {
        let mut names: BTreeSet<String> = part.members("request.headers.forward");
        names.retain(|name| IDENTITY.contains(&name.as_str()));
        if !part.members("request.cookies.forward").is_empty() {
            names.insert("cookie".into());
        }
        names
    };
    let (was, is) = (identity(old), identity(new));
    let open: Vec<&str> = is.difference(&key).map(String::as_str).collect();
    let longer = ["cache.ttl", "cache.heuristic", "cache.staleWhileRevalidate", "cache.staleIfError"]
        .into_iter()
        .find(|key| {
            let span = |part: &Part| part.value(key).and_then(|value| value.magnitude()).unwrap_or(0);
            span(new) > span(old)
        });
    let began = !old.has("cache") || was != is;
    if !open.is_empty() && (began || longer.is_some()) {
        let at = if old.has("cache") { longer.unwrap_or("request") } else { "cache" };
        mark(
            at,
            format!(
                "`{}` of the client reaches the upstream and is no part of the cache key",
                open.join("`, `")
            ),
        );
    }
}

fn errors(old: &Part, new: &Part, marks: &mut Marks) {
    let (Some(was), Some(is)) = (old.value("response.errors"), new.value("response.errors")) else { return };
    let passes = |value: &Value, status: &str| match value {
        Value::Text(word) => word == "pass",
        other => other.members().contains(status),
    };
    let named: BTreeSet<String> =
        was.members().union(&is.members()).cloned().chain(["other".into()]).collect();
    let gained: Vec<&str> =
        named.iter().map(String::as_str).filter(|s| !passes(&was, s) && passes(&is, s)).collect();
    let lost: Vec<&str> =
        named.iter().map(String::as_str).filter(|s| passes(&was, s) && !passes(&is, s)).collect();
    let both_written = old.has("response.errors") || new.has("response.errors");
    let text = |kind: Kind, list: &[&str]| {
        if list.contains(&"other") {
            kind.about().to_owned()
        } else {
            format!("{}: {}", kind.about(), list.join(", "))
        }
    };
    for (kind, list) in [(Kind::ErrorsPassed, gained), (Kind::ErrorsMasked, lost)] {
        if both_written && !list.is_empty() {
            marks.push(("response.errors".into(), Mark::new(kind, text(kind, &list))));
        }
    }
}

fn upstream(old: &Part, new: &Part, marks: &mut Marks) {
    let mut mark = |key: &str, mark: Mark| marks.push((key.into(), mark));
    match (old.value("kind"), new.value("kind")) {
        (was, is) if was == is => {}
        (_, Some(Value::Text(kind))) if kind == "app" => mark("kind", Mark::plain(Kind::KindRelaxed)),
        _ => mark("kind", Mark::plain(Kind::KindRestricted)),
    }
    let hosts = |part: &Part| -> BTreeSet<String> {
        let urls = part.members("url");
        urls.iter().map(|url| authority(url).to_owned()).collect()
    };
    let (was, is) = (hosts(old), hosts(new));
    let gained: Vec<&str> = is.difference(&was).map(String::as_str).collect();
    if old.has("url") && !gained.is_empty() {
        let why = format!("requests and the credential go to `{}`", gained.join("`, `"));
        mark("url", Mark::new(Kind::UpstreamMoved, why));
    }
    let clear = |part: &Part| part.members("url").iter().any(|url| url.starts_with("http://"));
    if old.has("url") && clear(new) && !clear(old) {
        mark("url", Mark::plain(Kind::UpstreamCleartext));
    }
    match (old.value("credential"), new.value("credential")) {
        (Some(_), None) => mark("credential", Mark::plain(Kind::CredentialRemoved)),
        (Some(was), Some(is)) if was != is && !same_name(old, new, "credential") => {
            mark("credential", Mark::plain(Kind::CredentialChanged));
        }
        _ => {}
    }
}

/// Whether both name the same secret in the same way: where that comes from is told with the secret.
fn same_name(old: &Part, new: &Part, key: &str) -> bool {
    let name = |part: &Part| part.leaves.get(key).and_then(|leaf| leaf.shown.clone());
    name(old) == name(new)
}

/// Host and port of a URL in normal form.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', ' ']).next().unwrap_or(rest)
}

fn listener(old: &Part, new: &Part, marks: &mut Marks) {
    let address = |part: &Part| part.value("address").and_then(|address| address.to_string().parse().ok());
    let (was, is): (Option<std::net::SocketAddr>, Option<std::net::SocketAddr>) =
        (address(old), address(new));
    let is_local =
        |address: Option<std::net::SocketAddr>| address.is_some_and(|address| address.ip().is_loopback());
    if was.is_some() && was != is {
        let kind = if is_local(was) && !is_local(is) { Kind::ListenerExposed } else { Kind::ListenerMoved };
        marks.push(("address".into(), Mark::plain(kind)));
    }
    match (old.has("tls"), new.has("tls")) {
        (true, false) => marks.push(("tls".into(), Mark::plain(Kind::ListenerCleartext))),
        (false, true) if was.is_some() => marks.push(("tls".into(), Mark::plain(Kind::ListenerTls))),
        _ => {}
    }
}

fn admin(old: &Part, new: &Part, marks: &mut Marks) {
    let address = |part: &Part| part.value("address").map(|address| address.to_string());
    let is_local = |address: &str| {
        address.starts_with("unix:")
            || address.parse::<std::net::SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
    };
    if let Some(is) = address(new)
        && !is_local(&is)
        && address(old).is_none_or(|was| is_local(&was))
    {
        marks.push(("address".into(), Mark::plain(Kind::AdminExposed)));
    }
    match (old.value("token"), new.value("token")) {
        (Some(_), None) => marks.push(("token".into(), Mark::plain(Kind::AdminTokenRemoved))),
        (Some(was), Some(is)) if was != is => {
            marks
                .push(("token".into(), Mark::new(Kind::SecretSwapped, "another token opens the admin side")));
        }
        _ => {}
    }
}
