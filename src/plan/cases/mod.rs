//! `tests`: what this configuration is to do, as cases that `portcullis test` tries.
//!
//! Here they are read and checked against the plan: `check` tells of a mistake in a case as of any other, and a running gateway knows
//! the key. Trying them is the work of the command.

mod forms;
mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

pub use forms::{Matcher, OneOrMany};
pub use spec::{
    Answer, CacheWord, CaseSpec, CasesFileSpec, Count, Expect, LimitExpect, MAX_REPEAT, MAX_STEPS, Received,
    Reply, Send, StepSpec,
};

use super::Plan;
use crate::body::json::Shape;
use crate::config::{Path, Problem, Problems, Section, codes, did_you_mean};

/// The key of the cases, in a configuration or in a file of their own.
pub const TESTS: &str = "tests";

/// The word for "no route" in `expect.route`.
pub const NO_ROUTE: &str = "none";

/// One case, checked.
#[derive(Debug)]
pub struct Case {
    /// What is proved.
    pub name: String,
    /// Where it stands.
    pub at: Section,
    /// What the upstreams answer, unless a step says otherwise.
    pub stub: BTreeMap<String, OneOrMany<Answer>>,
    /// What is done; at least one.
    pub steps: Vec<Step>,
}

/// One step of a case, checked.
#[derive(Debug)]
pub struct Step {
    /// Time that passes first.
    pub wait: Duration,
    /// How often the request is sent.
    pub repeat: u32,
    /// The request, if there is one.
    pub send: Option<Send>,
    /// What the upstreams answer in this step only.
    pub stub: BTreeMap<String, OneOrMany<Answer>>,
    /// What has to come of it.
    pub expect: Expect,
    /// Where `expect` stands, or what it is missing from.
    pub at: Section,
}

/// The names that cases may use.
pub struct Names<'a> {
    routes: BTreeSet<&'a str>,
    upstreams: BTreeSet<&'a str>,
    secrets: BTreeSet<&'a str>,
    listeners: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    /// Those of a plan.
    #[must_use]
    pub fn of(plan: &'a Plan) -> Self {
        Self {
            routes: plan.routes.iter().map(|route| route.name.as_str()).collect(),
            upstreams: plan.upstreams.keys().map(|name| name.as_str()).collect(),
            secrets: plan.secrets.iter().map(|name| name.as_str()).collect(),
            listeners: plan.listeners.iter().map(|listener| listener.name.as_str()).collect(),
        }
    }
}

/// Reads the list of cases at `tests`. What is wrong is recorded, and such a case is left out.
pub fn read(tests: &Section, names: &Names<'_>, problems: &mut Problems) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for at in tests.items(problems) {
        let Some(spec) = at.decode::<CaseSpec>(problems) else { continue };
        if let Some(first) = cases.iter().find(|case| case.name == spec.name) {
            problems
                .error(
                    codes::DUPLICATE_NAME,
                    &at.path().key("name"),
                    format!("two cases are called `{}`", spec.name),
                )
                .related(&first.at.path().key("name"), "the first one");
            continue;
        }
        let mut check = Check { names, problems };
        check.stubs(spec.stub.as_ref(), &at);
        if let Some(send) = &spec.send {
            check.send(send, &at.path().key("send"));
        }
        cases.extend(case(spec, at, &mut check));
    }
    cases
}

fn case(spec: CaseSpec, at: Section, check: &mut Check<'_, '_>) -> Option<Case> {
    let steps = match (spec.steps, spec.expect) {
        (Some(_), Some(_)) => {
            check
                .problems
                .error(codes::BAD_VALUE, &at.path().key("expect"), "`expect` and `steps` exclude each other")
                .on_key()
                .help("each step has its own `expect`");
            return None;
        }
        (Some(specs), None) => steps(specs, spec.send.as_ref(), &at, check)?,
        (None, expect) => {
            let whole = at.get("expect").unwrap_or_else(|| at.clone());
            let expect = expect.unwrap_or_default();
            if spec.send.is_none() {
                check
                    .problems
                    .error(codes::MISSING_KEY, at.path(), "this case sends nothing")
                    .on_key()
                    .help("write `send: { path: /... }` or `steps`");
                return None;
            }
            check.expect(&expect, whole.path());
            vec![Step {
                wait: Duration::ZERO,
                repeat: 1,
                send: spec.send,
                stub: BTreeMap::new(),
                expect,
                at: whole,
            }]
        }
    };
    Some(Case { name: spec.name, at, stub: spec.stub.unwrap_or_default(), steps })
}

fn steps(
    specs: Vec<StepSpec>,
    send: Option<&Send>,
    case: &Section,
    check: &mut Check<'_, '_>,
) -> Option<Vec<Step>> {
    let section = case.get("steps")?;
    if specs.is_empty() || specs.len() > MAX_STEPS {
        let message = format!("a case has 1 to {MAX_STEPS} steps");
        check.problems.error(codes::BAD_VALUE, section.path(), message);
        return None;
    }
    let places = section.items(check.problems);
    let mut steps = Vec::with_capacity(specs.len());
    for (spec, at) in specs.into_iter().zip(places) {
        check.stubs(spec.stub.as_ref(), &at);
        if let Some(send) = &spec.send {
            check.send(send, &at.path().key("send"));
        }
        let whole = at.get("expect").unwrap_or_else(|| at.clone());
        let only_waits = spec.wait.is_some()
            && spec.send.is_none()
            && spec.expect.is_none()
            && spec.stub.is_none()
            && spec.repeat.is_none();
        let sent = if only_waits { None } else { spec.send.or_else(|| send.cloned()) };
        if sent.is_none() && !only_waits {
            check
                .problems
                .error(codes::MISSING_KEY, at.path(), "this step sends nothing, and neither does its case")
                .help("write `send: { path: /... }` here or beside `steps`");
        }
        if let Some(repeat) = spec.repeat.filter(|repeat| !(1..=MAX_REPEAT).contains(repeat)) {
            let message = format!("`{repeat}` is not between 1 and {MAX_REPEAT}");
            check.problems.error(codes::BAD_VALUE, &at.path().key("repeat"), message);
        }
        let expect = spec.expect.unwrap_or_default();
        check.expect(&expect, whole.path());
        steps.push(Step {
            wait: spec.wait.map_or(Duration::ZERO, |wait| wait.0),
            repeat: spec.repeat.unwrap_or(1),
            send: sent,
            stub: spec.stub.unwrap_or_default(),
            expect,
            at: whole,
        });
    }
    Some(steps)
}

/// Looks for what decoding cannot see.
struct Check<'n, 'p> {
    names: &'n Names<'n>,
    problems: &'p mut Problems,
}

impl Check<'_, '_> {
    fn stubs(&mut self, stubs: Option<&BTreeMap<String, OneOrMany<Answer>>>, at: &Section) {
        let at = at.path().key("stub");
        for (name, answers) in stubs.into_iter().flatten() {
            let here = at.key(name);
            if !self.names.upstreams.contains(name.as_str()) {
                self.unknown(codes::UNKNOWN_UPSTREAM, &here, "upstream", name, &self.names.upstreams)
                    .on_key();
            }
            if answers.as_slice().is_empty() {
                self.problems.error(codes::BAD_VALUE, &here, "an empty list answers nothing");
            }
            for (index, answer) in answers.as_slice().iter().enumerate() {
                let Answer::Reply(reply) = answer else { continue };
                let here = match answers {
                    OneOrMany::One(_) => here.clone(),
                    OneOrMany::Many(_) => here.index(index),
                };
                self.reply(reply, &here);
            }
        }
    }

    fn reply(&mut self, reply: &Reply, at: &Path) {
        if let Some(status) = reply.status.filter(|status| !(200..600).contains(status)) {
            let message = format!("`{status}` is no status of a final answer");
            self.problems.error(codes::BAD_VALUE, &at.key("status"), message).help("use 200 to 599");
        }
        self.fields(&reply.headers, &at.key("headers"));
        if let Some(text) = &reply.body {
            self.markers(text, &at.key("body"));
        }
        self.body(reply.body.is_some(), reply.json.as_ref(), at);
    }

    fn send(&mut self, send: &Send, at: &Path) {
        if let Some(method) = &send.method
            && Method::from_bytes(method.as_bytes()).is_err()
        {
            self.problems.error(codes::BAD_VALUE, &at.key("method"), format!("`{method}` is no method"));
        }
        if !(send.path.starts_with('/') || send.path == "*")
            || send.path.contains(|c: char| c.is_ascii_control() || c == ' ')
        {
            self.problems
                .error(codes::BAD_VALUE, &at.key("path"), format!("`{}` is no path of a request", send.path))
                .help("it begins with `/`, as in `/api/weather?lang=en`");
        }
        if let Some(name) = &send.listener
            && !self.names.listeners.contains(name.as_str())
        {
            self.unknown(codes::BAD_VALUE, &at.key("listener"), "listener", name, &self.names.listeners);
        }
        self.fields(&send.headers, &at.key("headers"));
        self.body(send.body.is_some(), send.json.as_ref(), at);
    }

    fn fields(&mut self, fields: &BTreeMap<String, OneOrMany<String>>, at: &Path) {
        for (name, values) in fields {
            let here = at.key(name);
            self.field_name(name, &here);
            for value in values.as_slice() {
                self.markers(value, &here);
                if HeaderValue::try_from(value.as_str()).is_err() {
                    self.problems.error(codes::BAD_VALUE, &here, "this cannot stand in a header field");
                }
            }
        }
    }

    fn field_name(&mut self, name: &str, at: &Path) {
        if HeaderName::try_from(name).is_err() {
            let message = format!("`{name}` is no name of a header field");
            self.problems.error(codes::BAD_VALUE, at, message).on_key();
        }
    }

    fn body(&mut self, has_text: bool, json: Option<&serde_json::Value>, at: &Path) {
        if has_text && json.is_some() {
            self.problems.error(codes::BAD_VALUE, at, "`json` and `body` exclude each other");
        }
        if let Some(json) = json {
            self.markers_of_json(json, &at.key("json"));
        }
    }

    fn expect(&mut self, expect: &Expect, at: &Path) {
        if let Some(route) = &expect.route
            && route != NO_ROUTE
            && !self.names.routes.contains(route.as_str())
        {
            self.unknown(codes::BAD_VALUE, &at.key("route"), "route", route, &self.names.routes);
        }
        if let Some(received) = &expect.upstream_request {
            self.received(received, &at.key("upstreamRequest"));
        }
        if let Some(Count::Each(all)) = &expect.upstream_requests {
            for (index, received) in all.iter().enumerate() {
                self.received(received, &at.key("upstreamRequests").index(index));
            }
        }
        self.matchers(&expect.headers, &at.key("headers"));
        for (key, json) in [("json", &expect.json), ("jsonContains", &expect.json_contains)] {
            if let Some(json) = json {
                self.markers_of_json(json, &at.key(key));
            }
        }
        for (key, list) in [("never", &expect.never), ("allow", &expect.allow)] {
            for (index, text) in list.iter().enumerate() {
                self.needle(text, key == "allow", &at.key(key).index(index));
            }
        }
    }

    fn needle(&mut self, text: &str, only_upstreams: bool, at: &Path) {
        self.markers(text, at);
        if only_upstreams && !(text.starts_with("<upstream:") && text.ends_with('>')) {
            self.problems
                .error(codes::BAD_VALUE, at, format!("`{text}` is not forbidden by default, or always"))
                .help("only `<upstream:NAME>` can be allowed");
        }
        if text.starts_with('$')
            && let Err(why) = Shape::compile(&[], &[text])
        {
            self.problems.error(codes::BAD_PATTERN, at, why.to_string());
        }
        if text.is_empty() {
            self.problems.error(codes::BAD_VALUE, at, "an empty text stands in every answer");
        }
    }

    fn received(&mut self, received: &Received, at: &Path) {
        if let Some(name) = &received.upstream
            && !self.names.upstreams.contains(name.as_str())
        {
            let here = at.key("upstream");
            self.unknown(codes::UNKNOWN_UPSTREAM, &here, "upstream", name, &self.names.upstreams);
        }
        self.matchers(&received.headers, &at.key("headers"));
        for (name, matcher) in &received.query {
            self.matcher(matcher, &at.key("query").key(name));
        }
        for (key, json) in [("json", &received.json), ("jsonContains", &received.json_contains)] {
            if let Some(json) = json {
                self.markers_of_json(json, &at.key(key));
            }
        }
    }

    fn matchers(&mut self, fields: &BTreeMap<String, Matcher>, at: &Path) {
        for (name, matcher) in fields {
            self.field_name(name, &at.key(name));
            self.matcher(matcher, &at.key(name));
        }
    }

    fn matcher(&mut self, matcher: &Matcher, at: &Path) {
        if let Matcher::Equals(text) | Matcher::Contains(text) = matcher {
            self.markers(text, at);
        }
    }

    fn markers_of_json(&mut self, json: &serde_json::Value, at: &Path) {
        match json {
            serde_json::Value::String(text) => self.markers(text, at),
            serde_json::Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.markers_of_json(item, &at.index(index));
                }
            }
            serde_json::Value::Object(members) => {
                members.iter().for_each(|(key, member)| self.markers_of_json(member, &at.key(key)));
            }
            _ => {}
        }
    }

    /// Every `<secret:NAME>` and `<upstream:NAME>` of a text names one that there is.
    fn markers(&mut self, text: &str, at: &Path) {
        let sorts = [
            ("secret", codes::UNKNOWN_SECRET, &self.names.secrets),
            ("upstream", codes::UNKNOWN_UPSTREAM, &self.names.upstreams),
        ];
        for (what, code, known) in sorts {
            for name in markers(text, what) {
                if name != "*" && !known.contains(name) {
                    self.unknown(code, at, what, name, known);
                }
            }
        }
    }

    fn unknown(
        &mut self,
        code: &'static str,
        at: &Path,
        what: &str,
        name: &str,
        known: &BTreeSet<&str>,
    ) -> &mut Problem {
        let problem = self.problems.error(code, at, format!("there is no {what} `{name}`"));
        let listed: Vec<&str> = known.iter().copied().take(MOST_LISTED).collect();
        match did_you_mean(name, known.iter().copied()) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None if listed.is_empty() => problem.help(format!("this configuration declares no {what}")),
            None => problem.help(format!("declared are: `{}`", listed.join("`, `"))),
        }
    }
}

/// The names in `<what:NAME>` of a text.
pub fn markers<'t>(text: &'t str, what: &str) -> Vec<&'t str> {
    let open = format!("<{what}:");
    let after = text.match_indices(&open).filter_map(|(at, _)| text.get(at + open.len()..));
    after.filter_map(|rest| rest.split_once('>').map(|(name, _)| name)).collect()
}

/// Names told where none is near.
const MOST_LISTED: usize = 10;
