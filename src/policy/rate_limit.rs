//! `rateLimit`: at most so many requests in a window, per client.
//!
//! Exact GCRA (`limit::Table`): a client that stays below its quota never sees a refusal, one that exceeds it is told when to come
//! back. A refusal is a problem document on a connection that stays open; `RateLimit` and `RateLimit-Policy` go out with every
//! answer of the route, hits included.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use super::told::{self, Counters, Telling, Told};
use super::{Build, Hooks, Policy, Reply, Verdict};
use crate::config::units::Timespan;
use crate::config::{Problems, Section, codes};
use crate::exchange::{Exchange, LimitOutcome};
use crate::limit::{self, Decision, Key, Quota, clock};
use crate::names::LimitName;

/// The most limits that one route can have: each costs a look-up per request and a metric.
pub const MAX_LIMITS: usize = 8;

/// At most so many requests in a window, for each client by itself. A request too many is answered with 429 and `Retry-After`; every
/// answer says in `RateLimit` what is left. Answers from the cache count too. One limit, or a list of up to eight that must all hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Spec {
    /// What the limit is called in `RateLimit-Policy`, log and metrics. Default: `default`; of several, `limit-1`, `limit-2` and so on.
    #[schemars(with = "Option<LimitName>", example = &"sustained")]
    name: Option<String>,
    /// How many requests in the `window`.
    #[schemars(example = 100)]
    requests: NonZeroU32,
    /// The time over which `requests` are spread; they come back evenly, not all at its end.
    #[schemars(example = &"1m")]
    window: Timespan,
    /// How many requests may come at once after a pause. Default: as many as `requests`.
    #[schemars(example = 20)]
    burst: Option<NonZeroU32>,
    /// Who is counted.
    #[schemars(extend("default" = "client.ip"))]
    key: Option<Subject>,
}

/// Who shares a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Subject {
    /// Each client address has its own (IPv6 by /64).
    #[serde(rename = "client.ip")]
    ClientIp,
    /// All clients of the route share one.
    #[serde(rename = "route")]
    Route,
}

struct Limit {
    name: LimitName,
    id: u64,
    quota: Quota,
    subject: Subject,
}

/// The limits of one route, in the order of the file.
struct RateLimits {
    limits: Vec<Limit>,
    table: Arc<limit::Counters>,
    policy_field: HeaderValue,
}

/// Compiles one limit or a list of them.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let section = section?;
    let entries =
        if section.value().is_sequence() { section.items(build.problems) } else { vec![section.clone()] };
    if entries.is_empty() && section.value().is_sequence() {
        build
            .problems
            .error(codes::NO_EFFECT, section.path(), "an empty list limits nothing")
            .help("remove the key, or write `rateLimit: { requests: 100, window: 1m }`");
    }
    if entries.len() > MAX_LIMITS {
        build.problems.error(
            codes::BAD_VALUE,
            section.path(),
            format!("a route has at most {MAX_LIMITS} rate limits"),
        );
        return None;
    }
    let mut limits: Vec<Limit> = Vec::with_capacity(entries.len());
    let mut places: Vec<&Section> = Vec::with_capacity(entries.len());
    for entry in &entries {
        if entry.value().is_mapping() {
            entry.check_keys::<Spec>(&PLANNED, build.problems);
        }
        if let Some(limit) = entry.value().as_str().and_then(short_form) {
            build
                .problems
                .error(codes::WRONG_TYPE, entry.path(), "a rate limit is a block of settings")
                .help(format!("write `{limit}`"));
            continue;
        }
        let short = entry.get("requests").and_then(|at| Some((short_form(at.value().as_str()?)?, at)));
        if let Some((limit, at)) = short {
            build
                .problems
                .error(codes::WRONG_TYPE, at.path(), "a number alone: how long it counts for is `window`")
                .help(format!("write `{limit}`"));
            continue;
        }
        let Some(spec) = entry.decode::<Spec>(build.problems) else { continue };
        let written = spec.name.unwrap_or_else(|| {
            if entries.len() == 1 { "default".into() } else { format!("limit-{}", limits.len() + 1) }
        });
        let name = match LimitName::parse(&written) {
            Ok(name) => name,
            Err(why) => {
                let message = format!("`{written}` is no name: {why}");
                build.problems.error(codes::BAD_NAME, entry.at("name").path(), message);
                continue;
            }
        };
        if let Some(first) = limits.iter().position(|other| other.name == name) {
            let first = places.get(first).copied().unwrap_or(section);
            build
                .problems
                .error(
                    codes::DUPLICATE_NAME,
                    entry.at("name").path(),
                    format!("two rate limits of this route are called `{name}`"),
                )
                .related(first.at("name").path(), "the other one");
            continue;
        }
        let quota = Quota::new(spec.requests, spec.window.0, spec.burst.unwrap_or(spec.requests));
        build.quotas.push((entry.clone(), quota));
        let limit = Limit {
            id: limit::limit_id(build.route.as_str(), name.as_str()),
            quota,
            subject: spec.key.unwrap_or(Subject::ClientIp),
            name,
        };
        for (other, place) in limits.iter().zip(&places) {
            adds_nothing(&limit, entry, other, place, build.problems);
        }
        limits.push(limit);
        places.push(entry);
    }
    if limits.is_empty() {
        return None;
    }
    build.limit_names = limits.iter().map(|limit| limit.name.as_str().to_owned()).collect();
    let mut text = String::new();
    for limit in &limits {
        limit::fields::push_policy(&mut text, limit.name.as_str(), &limit.quota);
    }
    let policy_field = HeaderValue::try_from(text).ok()?;
    Some(Arc::new(RateLimits { limits, table: build.limits.clone(), policy_field }))
}

const PLANNED: [&str; 4] = [
    "shadow",
    "countHits\nanswers from the cache are counted, too",
    "scope\nevery gateway counts for itself: of three, each should allow a third",
    "when\na route of its own, with another `match`, can have another limit",
];

/// `100/min`, as others write it, in our form.
fn short_form(text: &str) -> Option<String> {
    let (requests, window) = text.split_once('/')?;
    let requests: u32 = requests.trim().trim_end_matches(['r', 'R']).parse().ok()?;
    let window = match window.trim().to_ascii_lowercase().as_str() {
        "s" | "sec" | "second" => "1s",
        "m" | "min" | "minute" => "1m",
        "h" | "hour" => "1h",
        "d" | "day" => "1d",
        _ => return None,
    };
    Some(format!("rateLimit: {{ requests: {requests}, window: {window} }}"))
}

/// Warns of one of two limits that count the same where the other already promises all that it does.
fn adds_nothing(new: &Limit, at: &Section, old: &Limit, old_at: &Section, problems: &mut Problems) {
    let is_idle = |a: &Limit, b: &Limit| a.subject == b.subject && a.quota.adds_nothing_to(&b.quota);
    let (idle, idle_at, strict, strict_at) = if is_idle(new, old) {
        (new, at, old, old_at)
    } else if is_idle(old, new) {
        (old, old_at, new, at)
    } else {
        return;
    };
    let message = format!("`{}` adds nothing: what `{}` allows is never more", idle.name, strict.name);
    problems
        .warning(codes::NO_EFFECT, idle_at.path(), message)
        .related(strict_at.path(), "no faster, and no more at once")
        .help("remove it, or let it allow less: fewer at once (`burst`), or fewer over a longer `window`");
}

impl Policy for RateLimits {
    fn hooks(&self) -> Hooks {
        Hooks { request: true, response: true, ..Hooks::default() }
    }

    fn request_filter(&self, exchange: &mut Exchange) -> Verdict {
        let now_ns = clock::nanoseconds(exchange.counted_at);
        let client = limit::client_subject(exchange.client);
        let mut refused: Option<Decision> = None;
        for limit in &self.limits {
            let decision = self.table.decide(limit.key(&self.table, &client), &limit.quota, now_ns);
            exchange.limits.push(LimitOutcome {
                name: limit.name.clone(),
                limit: decision.limit,
                remaining: decision.remaining,
                reset: decision.reset,
                allowed: decision.allowed,
                retry_after: decision.retry_after,
            });
            if !decision.allowed
                && refused.as_ref().is_none_or(|worst| worst.retry_after < decision.retry_after)
            {
                refused = Some(decision);
            }
        }
        let Some(worst) = refused else { return Verdict::Continue };
        let reply = Reply::problem(StatusCode::TOO_MANY_REQUESTS, "rate_limited")
            .with(http::header::RETRY_AFTER, HeaderValue::from(limit::fields::retry_after_seconds(&worst)));
        Verdict::Respond(Box::new(reply))
    }

    fn explain(&self, telling: &Telling<'_>) -> Option<Told> {
        let client = telling.exchange.client;
        let mut told = Told::new(
            self.limits.iter().map(|limit| limit.words(client)),
            self.limits.iter().map(|limit| limit.data(client)).collect(),
        );
        if telling.counters == Counters::Live {
            let now_ns = clock::nanoseconds(telling.exchange.counted_at);
            let subject = limit::client_subject(client);
            let peeked: Vec<(&Limit, Decision)> = self
                .limits
                .iter()
                .map(|limit| (limit, self.table.peek(limit.key(&self.table, &subject), &limit.quota, now_ns)))
                .collect();
            told.words.extend(peeked.iter().map(|(limit, left)| limit.words_now(left)));
            told.now = peeked.iter().map(|(limit, left)| limit.data_now(left)).collect();
        }
        Some(told)
    }

    fn response_filter(&self, head: &mut ResponseHeader, exchange: &Exchange) {
        if exchange.limits.is_empty() {
            return;
        }
        let mut state = String::with_capacity(48 * exchange.limits.len());
        for outcome in &exchange.limits {
            let decision = Decision {
                allowed: outcome.allowed,
                limit: outcome.limit,
                remaining: outcome.remaining,
                retry_after: outcome.retry_after,
                reset: outcome.reset,
            };
            limit::fields::push_state(&mut state, outcome.name.as_str(), &decision);
        }
        // A field that cannot be written is left out: the answer is worth more than the hint.
        let _ = head.insert_header(limit::fields::POLICY, self.policy_field.clone());
        if let Ok(value) = HeaderValue::try_from(state) {
            let _ = head.insert_header(limit::fields::STATE, value);
        }
    }
}

impl Limit {
    /// Whose counter it is.
    fn key(&self, table: &limit::Table, client: &limit::Subject) -> Key {
        let subject: &[u8] = match self.subject {
            Subject::ClientIp => client,
            Subject::Route => b"",
        };
        table.key(self.id, subject)
    }

    fn words(&self, client: IpAddr) -> String {
        let quota = &self.quota;
        format!(
            "`{}`: at most {} in any {}, for {}: {} at once, then one every {}",
            self.name,
            told::counted(quota.most_in_window(), "request"),
            told::span(quota.window()),
            self.subject.words(client),
            quota.burst(),
            told::span(quota.interval()),
        )
    }

    fn data(&self, client: IpAddr) -> serde_json::Value {
        serde_json::json!({
            "name": self.name.as_str(),
            "requests": self.quota.requests(),
            "windowSeconds": self.quota.window().as_secs_f64(),
            "burst": self.quota.burst(),
            "mostInWindow": self.quota.most_in_window(),
            "key": self.subject.key(),
            "bucket": self.subject.bucket(client),
        })
    }

    fn words_now(&self, left: &Decision) -> String {
        let name = &self.name;
        if left.allowed {
            return format!("now: {} left of `{name}`", told::counted(left.remaining.into(), "request"));
        }
        format!(
            "now: nothing is left of `{name}`: the request is answered 429, the next may pass in {}",
            told::span(left.retry_after)
        )
    }

    fn data_now(&self, left: &Decision) -> serde_json::Value {
        serde_json::json!({
            "name": self.name.as_str(),
            "remaining": left.remaining,
            "allowed": left.allowed,
            "resetSeconds": left.reset.as_secs_f64(),
            "retryAfterSeconds": left.retry_after.as_secs_f64(),
        })
    }
}

impl Subject {
    /// As it is written.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::ClientIp => "client.ip",
            Self::Route => "route",
        }
    }

    /// What this client is counted as; `*` where all are counted together.
    #[must_use]
    pub fn bucket(self, client: IpAddr) -> String {
        match self {
            Self::ClientIp => limit::client_subject_text(client),
            Self::Route => "*".to_owned(),
        }
    }

    /// Who is counted together, in words.
    #[must_use]
    pub fn words(self, client: IpAddr) -> String {
        match self {
            Self::ClientIp => format!("the client `{}`", self.bucket(client)),
            Self::Route => "all clients of this route together".to_owned(),
        }
    }
}
