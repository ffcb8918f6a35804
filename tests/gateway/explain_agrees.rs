//! `explain` cannot disagree with the gateway: over random configurations and requests, what it tells is what happens.
//!
//! Twelve configurations with twenty-five requests each, always the same ones; `EXPLAIN_CONFIGS=200` tries more,
//! `EXPLAIN_SEED=7` others.

use std::collections::BTreeSet;
use std::process::Command;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::explain_random::{Random, Request, configuration, request};
use crate::harness::{Answer, Client, Gateway, HEAD, Origin, Received, Reply, Setup, response_bytes};

const SECRET: &str = "s3cr3t&0123456789";
const REQUESTS: usize = 25;

fn origin() -> Origin {
    Origin::start(|received| {
        let fields = [("Content-Type", "application/json"), ("Cache-Control", "max-age=3600")];
        let whole = response_bytes(200, &fields, b"{\"ok\":true,\"internal\":1}");
        let end = whole.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let is_head = received.method() == "HEAD";
        Reply::Raw(whole[..if is_head { end } else { whole.len() }].to_vec())
    })
}

struct World {
    gateway: Gateway,
    yaml: String,
    vendor: Origin,
    web: Origin,
    /// Keys under which something was stored.
    stored: BTreeSet<String>,
}

impl World {
    /// A sound random configuration, served.
    fn new(random: &mut Random) -> Self {
        let (vendor, web) = (origin(), origin());
        loop {
            let yaml = configuration(random, HEAD, &vendor.url(), &web.url());
            let setup = Setup::new().env("VENDOR_KEY", SECRET);
            if is_sound(&yaml) {
                let gateway = setup.start(&yaml);
                return Self { gateway, yaml, vendor, web, stored: BTreeSet::new() };
            }
        }
    }

    fn explain(&self, request: &Request) -> Value {
        let asked = json!({ "method": request.method, "url": request.target, "headers": request.headers });
        let answer = self.gateway.admin_post("/explain", &asked.to_string());
        assert_eq!(answer.status, 200, "{} {request:?}", answer.text());
        answer.json()
    }

    fn send(&self, request: &Request) -> Answer {
        let mut client = Client::connect(self.gateway.address());
        let mut raw = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
        for (name, value) in &request.headers {
            raw.push_str(&format!("{name}: {value}\r\n"));
        }
        raw.push_str("\r\n");
        client.send(&[raw.as_bytes(), &request.body].concat());
        client.read(&request.method)
    }

    /// Asks, sends, compares.
    fn check(&mut self, request: &Request) -> String {
        let told = self.explain(request);
        let before = [self.vendor.count(), self.web.count()];
        let answer = self.send(request);
        let received: Vec<Received> = [(&self.vendor, before[0]), (&self.web, before[1])]
            .into_iter()
            .flat_map(|(origin, before)| origin.received().split_off(before))
            .collect();
        let context =
            format!("{}\n{request:?}\ntold: {told:#}\nanswer: {answer:?}\norigins: {received:#?}", self.yaml);
        let outcome = &told["outcome"];
        let verdict = outcome["verdict"].as_str().expect("a verdict").to_owned();
        let now = &told["live"]["now"];
        let limits = now["rateLimit"].as_array().cloned().unwrap_or_default();
        let refused = limits.iter().any(|limit| limit["allowed"] == false);
        if verdict != "forwarded" || refused {
            assert!(received.is_empty(), "nothing is sent: {context}");
        }
        let left = |limit: &Value| limit["remaining"].as_u64().expect("a number").saturating_sub(1);
        assert_eq!(
            remaining(&answer),
            limits.iter().map(left).collect::<Vec<_>>(),
            "what is left: {context}"
        );
        if refused {
            assert_eq!(answer.status, 429, "{context}");
            return "limited".to_owned();
        }
        if verdict == "forwarded" || now["cache"]["stored"] == true {
            return self.check_forwarded(&told, request, &answer, &received, &context);
        }
        assert_eq!(outcome["status"], answer.status, "the status: {context}");
        check_answer(outcome, request, &answer, &context);
        verdict
    }

    fn check_forwarded(
        &mut self,
        told: &Value,
        request: &Request,
        answer: &Answer,
        received: &[Received],
        context: &str,
    ) -> String {
        let outcome = &told["outcome"];
        let cache = &outcome["decisions"]["cache"];
        let looked_up = cache["verdict"] == "lookedUp";
        let key = cache["key"].to_string();
        let is_stored = told["live"]["now"]["cache"]["stored"] == true;
        assert_eq!(
            is_stored,
            looked_up && self.stored.contains(&key),
            "the key says what is stored: {context}"
        );
        let status = answer.header("cache-status").unwrap_or_default();
        if looked_up && status.contains("stored") {
            self.stored.insert(key);
        }
        if is_stored {
            assert!(received.is_empty() && status.contains("hit"), "the cache has it: {context}");
            return "hit".to_owned();
        }
        let [received] = received else { panic!("one request is sent: {context}") };
        let sent = &outcome["sent"];
        let at = if outcome["upstream"]["name"] == "vendor" { &self.vendor } else { &self.web };
        assert!(at.received().iter().any(|other| other.raw == received.raw), "the upstream: {context}");
        assert_eq!(received.method(), sent["method"], "the method: {context}");
        let target = sent["target"].as_str().expect("a target");
        assert_eq!(
            received.target(),
            target.replace("<secret:vendor-key>", "s3cr3t%260123456789"),
            "{context}"
        );
        let mut fields: Vec<(String, String)> =
            received.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = expected_fields(sent, request, received);
        assert_eq!(fields, expected, "the fields: {context}");
        "forwarded".to_owned()
    }
}

fn is_sound(yaml: &str) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("portcullis.yaml");
    std::fs::write(&file, yaml).expect("written");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    portcullis::server::Load::assumed(&file, &portcullis::plan::Process::new()).is_ok()
}

/// The fields as told, with what only the wire knows.
fn expected_fields(sent: &Value, request: &Request, received: &Received) -> Vec<(String, String)> {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("shop:{SECRET}"));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let of = |pair: &Value| {
        let value = text(&pair[1])
            .replace("Basic <secret:vendor-key>", &format!("Basic {basic}"))
            .replace("<secret:vendor-key>", SECRET)
            .replace("<bytes of the body>", &request.content.to_string());
        let value = match value.as_str() {
            "<request id>" => received.header("x-request-id").expect("an id").to_owned(),
            _ => value,
        };
        (text(&pair[0]), value)
    };
    sent["fields"].as_array().expect("fields").iter().map(of).collect()
}

/// `r` of each item of `RateLimit`.
fn remaining(answer: &Answer) -> Vec<u64> {
    let parts = answer.header("ratelimit").unwrap_or_default().split(';');
    parts.filter_map(|part| part.strip_prefix("r=")?.parse().ok()).collect()
}

fn check_answer(outcome: &Value, request: &Request, answer: &Answer, context: &str) {
    let told = &outcome["answer"];
    for field in told["fields"].as_array().expect("fields") {
        let name = field[0].as_str().expect("a name");
        assert!(answer.all(name).iter().any(|value| *value == field[1]), "the field `{name}`: {context}");
    }
    if request.method == "HEAD" || answer.body.is_empty() {
        return;
    }
    if answer.header("content-type") == Some("application/problem+json") {
        assert_eq!(outcome["code"], answer.code(), "the code: {context}");
        assert_eq!(outcome["route"], answer.json()["route"], "the route: {context}");
    } else if told["body"] != "" {
        assert_eq!(told["body"], answer.text(), "the body: {context}");
    }
}

#[test]
fn what_is_told_is_what_happens() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let mut random = Random(number("EXPLAIN_SEED", 20_261_125));
    let mut seen: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for _ in 0..number("EXPLAIN_CONFIGS", 12) {
        let mut world = World::new(&mut random);
        let mut routes = Vec::new();
        let mut asked: Vec<Request> = Vec::new();
        for _ in 0..REQUESTS {
            // One in four asks again: that is what a cache and a limit are for.
            let again =
                (!asked.is_empty() && random.chance(25)).then(|| asked[random.below(asked.len())].clone());
            let request = again.unwrap_or_else(|| request(&mut random));
            let told = world.explain(&request);
            // What the guard refuses is no line of the access log.
            if told["steps"].as_array().is_some_and(|steps| steps.iter().any(|step| step["key"] == "client"))
            {
                routes.push(told["outcome"]["route"].as_str().unwrap_or_default().to_owned());
            }
            *seen.entry(world.check(&request)).or_default() += 1;
            asked.push(request);
        }
        same_without_a_gateway(&world, &asked[random.below(asked.len())]);
        log_has_these_routes(&world, routes);
    }
    for verdict in ["answered", "forwarded", "hit", "limited", "methodNotAllowed", "notFound", "refused"] {
        assert!(
            seen.contains_key(verdict),
            "no case ended in `{verdict}`, so nothing was proved of it: {seen:?}"
        );
    }
}

/// The command on the file, without a gateway, tells the same outcome.
fn same_without_a_gateway(world: &World, request: &Request) {
    let live = world.explain(request);
    if live["live"]["now"]["cache"]["latelyRefused"] == true {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["explain", &request.method, &request.target, "--format", "json", "--config"]);
    command.arg(world.gateway.directory().join("portcullis.yaml"));
    for (name, value) in &request.headers {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    let output = command.output().expect("the binary runs");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["outcome"], live["outcome"], "{}\n{request:?}", world.yaml);
    assert_eq!(told["nearMisses"].as_array().map(Vec::len), live["nearMisses"].as_array().map(Vec::len));
    let taken = matches!(live["outcome"]["verdict"].as_str(), Some("forwarded" | "answered"));
    assert_eq!(output.status.code(), Some(i32::from(!taken)), "{told:#}");
}

/// The access log names the routes that were told.
fn log_has_these_routes(world: &World, mut told: Vec<String>) {
    eventually!(world.gateway.log().len() >= told.len(), "a line for each: {}", world.gateway.stdout());
    let route = |line: Value| line["route"].as_str().unwrap_or_default().to_owned();
    let mut logged: Vec<String> = world.gateway.log().into_iter().map(route).collect();
    logged.sort();
    told.sort();
    assert_eq!(logged, told, "{}", world.yaml);
}
