//! An explanation as people read it.

use std::fmt::Write as _;

use crate::proxy::explain::{Explanation, NearMiss, Outcome, Step, Verdict};

/// The whole text.
pub(super) fn human(told: &Explanation) -> String {
    let mut out = String::new();
    let request = &told.request;
    let url = if request.url.starts_with('/') && !request.host.is_empty() {
        format!("{}://{}{}", request.scheme, request.host, request.url)
    } else {
        request.url.clone()
    };
    line(&mut out, &format!("{} {url}", request.method));
    line(&mut out, &format!("=> {}", verdict(&told.outcome)));
    if let Some(live) = &told.live {
        let file = match live.same_as_file {
            Some(true) => "the file on disk is the same",
            Some(false) => "the file on disk is another one, not in force",
            None => "the file on disk cannot be read",
        };
        if live
            .now
            .get("rateLimit")
            .and_then(|list| list.as_array())
            .is_some_and(|list| list.iter().any(is_spent))
        {
            line(&mut out, "   but now a limit is used up: the request would be answered 429 `rate_limited`");
        }
        line(
            &mut out,
            &format!("   as the running gateway has it: configuration {}, {file}", live.fingerprint),
        );
    }
    let mut last = "";
    for step in &told.steps {
        let part = part(&step.key);
        if part != last {
            line(&mut out, "");
            line(&mut out, part);
            last = part;
        }
        write_step(&mut out, step);
        if step.key == "sent" {
            write_sent(&mut out, &told.outcome);
        }
    }
    write_answer(&mut out, &told.outcome);
    write_near(&mut out, &told.near_misses);
    out
}

fn is_spent(limit: &serde_json::Value) -> bool {
    limit.get("allowed") == Some(&serde_json::Value::Bool(false))
}

fn verdict(outcome: &Outcome) -> String {
    let status = outcome.status.unwrap_or_default();
    let code = outcome.code.as_deref().unwrap_or_default();
    let route = outcome.route.as_deref().unwrap_or_default();
    // Where it is looked up, an answer that is stored comes before all that follows.
    let kept = match outcome.decisions.get("cache").and_then(|cache| cache.get("verdict")?.as_str()) {
        Some("lookedUp") => ", unless the cache has the answer",
        _ => "",
    };
    match (outcome.verdict, &outcome.upstream) {
        (Verdict::Refused, _) => format!("refused with {status} `{code}`, before a route is looked for"),
        (Verdict::NotFound, _) => "no route takes it: 404".to_owned(),
        (Verdict::MethodNotAllowed, _) => "no route takes this method: 405".to_owned(),
        (Verdict::Forwarded, Some(to)) => {
            format!("the route `{route}` sends it to the {} `{}`{kept}", to.kind, to.name)
        }
        (_, _) if route.is_empty() => format!("the gateway answers {status} `{code}`"),
        (_, _) => format!("the route `{route}` answers {status} `{code}`{kept}"),
    }
}

/// Which part of the journey a step belongs to.
fn part(key: &str) -> &'static str {
    match key {
        "upstream" | "upgrade" | "head" | "rewrite" | "request" | "forwarding" | "credential" | "sent" => {
            "to the upstream"
        }
        key if key.starts_with("response") || key == "origin" => "the answer",
        _ => "the request",
    }
}

fn write_step(out: &mut String, step: &Step) {
    let place = step.place.as_deref().unwrap_or_default();
    let written = match (&step.default, place) {
        (Some(default), place) => format!("  ({place}, default of {default})"),
        (None, "") => String::new(),
        (None, place) => format!("  ({place})"),
    };
    line(out, &format!("  {}{written}", step.key));
    for words in &step.words {
        line(out, &format!("    {words}"));
    }
}

fn write_sent(out: &mut String, outcome: &Outcome) {
    let Some(sent) = &outcome.sent else { return };
    for (name, value) in &sent.fields {
        line(out, &format!("      {name}: {value}"));
    }
}

fn write_answer(out: &mut String, outcome: &Outcome) {
    let Some(answer) = &outcome.answer else { return };
    line(out, "");
    line(out, "the answer");
    line(out, &format!("  {}", answer.status));
    for (name, value) in &answer.fields {
        line(out, &format!("  {name}: {value}"));
    }
    if !answer.body.is_empty() {
        line(out, "");
        for text in answer.body.lines() {
            line(out, &format!("  {text}"));
        }
    }
}

fn write_near(out: &mut String, near: &[NearMiss]) {
    if near.is_empty() {
        return;
    }
    line(out, "");
    line(out, "routes that nearly took it");
    for miss in near {
        line(out, &format!("  {}  ({})", miss.route, miss.place));
        for reason in &miss.reasons {
            line(out, &format!("    {}", reason.words));
        }
    }
}

fn line(out: &mut String, text: &str) {
    // Writing into a String cannot fail.
    let _ = writeln!(out, "{text}");
}
