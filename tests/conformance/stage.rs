//! What every test here stands on: a gateway with one route per kind of upstream, and an origin that answers as it was told before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::harness::{Answer, Gateway, HEAD, Origin, Received, Reply};

/// Both ways to the same origin: to a `kind: api`, and to a `kind: app`.
pub const BOTH: [&str; 2] = ["/api", "/app"];
/// Where the sentence is about what an `api` does not let through or never sees.
pub const APP: &str = "/app";

/// What an `api` may say besides the usual, for the tests that look whether a field is kept.
const ALLOWED: &str =
    "x-mark, x-other, x-kept, x-mine, x-unknown, x-once, x-twice, x-frame-options, content-security-policy";

/// One answer of the origin. Its body is `v0`, `v1`... by how often its target was asked before, where the test gives no other.
#[derive(Clone)]
pub struct Given {
    status: u16,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    interim: Vec<u8>,
    is_dead: bool,
}

/// 200 with these fields.
pub fn ok(fields: &[(&str, &str)]) -> Given {
    status(200, fields)
}

/// An answer with this status and these fields.
pub fn status(status: u16, fields: &[(&str, &str)]) -> Given {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Given { status, fields, body: None, interim: Vec::new(), is_dead: false }
}

/// 200 that is fresh for so many seconds.
pub fn fresh(seconds: u32) -> Given {
    ok(&[("Cache-Control", &format!("max-age={seconds}"))])
}

/// 200 that is as old as it may be when it arrives, with these fields besides; `more` are further directives.
pub fn stale(more: &str, fields: &[(&str, &str)]) -> Given {
    let directives = if more.is_empty() { "max-age=10".to_owned() } else { format!("max-age=10, {more}") };
    ok(&[&[("Cache-Control", directives.as_str()), ("Age", "10")], fields].concat())
}

/// A connection that closes without a word.
pub fn dead() -> Given {
    Given { is_dead: true, ..status(500, &[]) }
}

impl Given {
    pub fn body(mut self, body: &str) -> Self {
        self.body = Some(body.as_bytes().to_vec());
        self
    }

    /// An interim answer before it: `103 Early Hints` and lines of fields.
    pub fn after_interim(mut self, line: &str, fields: &[(&str, &str)]) -> Self {
        self.interim.extend(format!("HTTP/1.1 {line}\r\n").as_bytes());
        for (name, value) in fields {
            self.interim.extend(format!("{name}: {value}\r\n").as_bytes());
        }
        self.interim.extend(b"\r\n");
        self
    }

    fn reply(&self, request: &Received, nth: usize) -> Reply {
        if self.is_dead {
            return Reply::Close;
        }
        let body = self.body.clone().unwrap_or_else(|| format!("v{nth}").into_bytes());
        let mut raw = self.interim.clone();
        raw.extend(format!("HTTP/1.1 {} As Told\r\n", self.status).as_bytes());
        let mut has_type = false;
        for (name, value) in &self.fields {
            has_type |= name.eq_ignore_ascii_case("content-type");
            raw.extend(format!("{name}: {value}\r\n").as_bytes());
        }
        let is_bodiless = matches!(self.status, 204 | 304);
        if !is_bodiless {
            if !has_type {
                raw.extend(b"Content-Type: text/plain\r\n");
            }
            raw.extend(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        raw.extend(b"\r\n");
        if !is_bodiless && request.method() != "HEAD" {
            raw.extend(body);
        }
        Reply::Raw(raw)
    }
}

/// Fields as a test writes them.
pub type Fields<'a> = &'a [(&'a str, &'a str)];

type Plans = Arc<Mutex<HashMap<String, (Vec<Given>, usize)>>>;

/// The origin and the gateway before it.
pub struct Stage {
    origin: Origin,
    pub gateway: Gateway,
    plans: Plans,
    count: AtomicUsize,
}

impl Stage {
    /// Both routes with this value of `cache:`.
    pub fn new(cache: &str) -> Self {
        Self::with(&[&format!("cache: {cache}")])
    }

    /// Both routes with these lines of YAML, flow style.
    pub fn with(lines: &[&str]) -> Self {
        Self::of(&[("api", "vendor"), ("app", "web")], lines)
    }

    /// Only the route to the `app`, for what an `api` refuses.
    pub fn app(cache: &str) -> Self {
        Self::of(&[("app", "web")], &[&format!("cache: {cache}")])
    }

    fn of(routes: &[(&str, &str)], lines: &[&str]) -> Self {
        let plans = Plans::default();
        let told = plans.clone();
        let origin = Origin::start(move |request| {
            let mut plans = told.lock().unwrap();
            let Some((answers, count)) = plans.get_mut(request.target()) else {
                return status(404, &[]).reply(request, 0);
            };
            let nth = *count;
            *count += 1;
            answers[nth.min(answers.len() - 1)].reply(request, nth)
        });
        let url = origin.url();
        let mut yaml = format!(
            "{HEAD}accessLog: off
upstreams:
  vendor: {{ url: \"{url}\", allowPrivate: true, retry: {{ on: [] }} }}
  web: {{ kind: app, url: \"{url}\", retry: {{ on: [] }} }}
routes:
"
        );
        for (name, upstream) in routes {
            yaml.push_str(&format!(
                "  - name: {name}\n    match: {{ path: {{ prefix: /{name} }} }}\n    upstream: {upstream}\n"
            ));
            if *name == "api" {
                yaml.push_str(&format!("    response: {{ headers: {{ allow: [{ALLOWED}] }} }}\n"));
            }
            for line in lines {
                yaml.push_str(&format!("    {line}\n"));
            }
        }
        Self { origin, gateway: Gateway::start(&yaml), plans, count: AtomicUsize::new(0) }
    }

    /// A new target for which the origin gives these answers one after the other, the last again and again.
    pub fn target(&self, way: &str, answers: &[Given]) -> String {
        let target = format!("{way}/{}", self.count.fetch_add(1, Ordering::Relaxed));
        self.tell(&target, answers);
        target
    }

    /// The same for a target of the test's choice.
    pub fn tell(&self, target: &str, answers: &[Given]) {
        self.plans.lock().unwrap().insert(target.to_owned(), (answers.to_vec(), 0));
    }

    pub fn get(&self, target: &str) -> Answer {
        self.gateway.get(target)
    }

    pub fn get_with(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.gateway.request("GET", target, headers, b"")
    }

    pub fn send(&self, method: &str, target: &str) -> Answer {
        let body: &[u8] = if matches!(method, "POST" | "PUT" | "PATCH") { b"x" } else { b"" };
        self.gateway.request(method, target, &[], body)
    }

    /// What the origin was asked for this target.
    pub fn asked(&self, target: &str) -> Vec<Received> {
        self.origin.received().into_iter().filter(|request| request.target() == target).collect()
    }

    /// Whether a second, equal request gets what the first brought, and nobody asks the origin.
    pub fn reuses(&self, way: &str, answer: Given) -> bool {
        let target = self.target(way, &[answer]);
        let first = self.get(&target);
        let second = self.get(&target);
        let is_reused = self.asked(&target).len() == 1;
        if is_reused {
            assert_eq!(first.body, second.body, "{target}: what is reused is what came");
            assert_eq!(first.status, second.status, "{target}: so is the status");
        }
        is_reused
    }

    /// [`Self::reuses`] for each row of fields, on both ways.
    pub fn expect(&self, rows: &[(Fields<'_>, bool)]) {
        for way in BOTH {
            for (fields, is_reused) in rows {
                assert_eq!(self.reuses(way, ok(fields)), *is_reused, "{way}: reused? {fields:?}");
            }
        }
    }
}

/// What was stored first.
pub fn is_old(answer: &Answer) -> bool {
    answer.text() == "v0"
}

/// `Date` and the like, so many seconds from now.
pub fn date(seconds: i64) -> String {
    let by = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    httpdate::fmt_http_date(if seconds < 0 { now - by } else { now + by })
}

/// The `Age` of an answer in seconds.
pub fn age(answer: &Answer) -> Option<u64> {
    answer.header("age").map(|value| value.parse().expect("one number"))
}

/// The member of `Cache-Status` that is ours, without our name: `hit`, `ttl=5`...
pub fn cache_status(answer: &Answer) -> Vec<String> {
    let all = answer.all("cache-status").join(", ");
    let ours = all.rsplit(", ").find_map(|member| member.strip_prefix("portcullis"));
    let ours = ours.unwrap_or_else(|| panic!("no member of ours in `{all}`"));
    ours.split("; ")
        .map(|parameter| parameter.trim_matches([';', ' ']).to_owned())
        .filter(|p| !p.is_empty())
        .collect()
}
