//! The route of a sequence: what its `cache:` says, and what the gateway does to answers of its kind before it caches them.

use std::fmt::Write as _;

use crate::message::{Answer, Ask, Fields, Selecting};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing of who asks reaches the upstream.
    Api,
    /// `Authorization` does, and answers are kept apart by it.
    ApiPerIdentity,
    /// Everything does.
    App,
}

/// Seconds, where there are some.
pub type Span = Option<i64>;

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub kind: Kind,
    pub ttl: Span,
    pub overrides: bool,
    pub while_revalidate: Span,
    pub if_error: Span,
    pub heuristic: Span,
    pub negative: i64,
    pub honors: bool,
    pub stores_cookies: bool,
    /// The bodies of errors are the gateway's own.
    pub masks: bool,
}

impl Settings {
    /// What stands under `cache:`.
    pub fn cache(&self) -> String {
        let mut text = format!("negativeTtl: {}s", self.negative);
        let spans = [
            ("ttl", self.ttl),
            ("staleWhileRevalidate", self.while_revalidate),
            ("staleIfError", self.if_error),
            ("heuristic", self.heuristic),
        ];
        for (name, span) in spans {
            if let Some(seconds) = span {
                let _ = write!(text, ", {name}: {seconds}s");
            }
        }
        let words = [
            (self.overrides_upstream(), ", mode: override"),
            (self.honors, ", requestDirectives: honor"),
            (self.keeps_cookies(), ", setCookie: store"),
            (self.kind == Kind::ApiPerIdentity, ", share: perIdentity"),
        ];
        words.iter().filter(|(is_said, _)| *is_said).for_each(|(_, word)| text.push_str(word));
        format!("{{ {text} }}")
    }

    /// The whole configuration.
    pub fn yaml(&self) -> String {
        let (kind, request) = match self.kind {
            Kind::App => ("kind: app, ", ""),
            Kind::Api => ("", ""),
            Kind::ApiPerIdentity => ("", "    request: { headers: { forward: [authorization] } }\n"),
        };
        let allow = if self.kind == Kind::App { "" } else { "headers: { allow: [x-mark] }, " };
        let errors = if self.masks { "mask" } else { "pass" };
        format!(
            "version: 1\nlisteners: [{{ name: public, address: \"127.0.0.1:0\" }}]\naccessLog: off\n\
             upstreams: {{ origin: {{ {kind}url: \"http://origin.example\", retry: {{ on: [] }} }} }}\n\
             routes:\n  - name: way\n    match: {{ path: {{ prefix: {PREFIX} }} }}\n    upstream: origin\n{request}\
             \x20   response: {{ {allow}errors: {errors} }}\n    cache: {}\n",
            self.cache()
        )
    }

    pub fn overrides_upstream(&self) -> bool {
        self.overrides && self.ttl.is_some()
    }

    pub fn keeps_cookies(&self) -> bool {
        self.stores_cookies && self.kind == Kind::App
    }

    /// Whether the client's `Authorization` is passed on, and nothing but HTTP says who may be given what it brings.
    pub fn passes_authorization(&self) -> bool {
        self.kind == Kind::App
    }

    /// What the key holds of who asks.
    pub fn identity(&self, ask: &Ask) -> Option<u8> {
        ask.authorization.filter(|_| self.kind == Kind::ApiPerIdentity)
    }

    /// What a field of the request says as it goes to the origin: an `api` is always asked for no coding.
    pub fn selects(&self, ask: &Ask, by: Selecting) -> Option<u8> {
        match by {
            Selecting::Language => ask.language,
            Selecting::Encoding => ask.encoding.filter(|_| self.kind == Kind::App),
            Selecting::Tenant => ask.tenant,
        }
    }

    /// An answer as the gateway would hand it to clients: dated, without what does not pass. `None` in place of a body that is ours.
    pub fn cleaned(&self, answer: Answer) -> (u16, Fields, Option<String>) {
        let Answer { status, mut fields, body } = answer;
        // RFC 9110 §6.6.1: a recipient dates what has no date. The wall stands still while a sequence runs.
        fields.date = fields.date.or(Some(0));
        if self.kind != Kind::App {
            fields.cookie = None;
        }
        if !(self.masks && status >= 400) {
            return (status, fields, Some(body));
        }
        let Fields { cache_control, targeted, expires, age, date, vary, .. } = fields;
        (status, Fields { cache_control, targeted, expires, age, date, vary, ..Fields::default() }, None)
    }
}

/// Where the URLs of a sequence are.
pub const PREFIX: &str = "/way";
