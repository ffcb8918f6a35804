//! `portcullis test` and the running gateway do the same: what the one did, written down as expectations, the other meets.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Origin, Received, Setup, response};

const BODY: &[u8] = br#"{"city":"Oslo","internal_id":7,"station":{"owner_email":"a@b.example","name":"x"}}"#;

fn answer(request: &Received) -> crate::harness::Reply {
    match request.target() {
        target if target.starts_with("/v2/gone") => response(404, &[("X-Trace", "db_7")], b"no such thing"),
        target if target.starts_with("/v2/moved") => response(302, &[("Location", "/v2/weather/oslo")], b""),
        _ => response(
            200,
            &[
                ("Content-Type", "application/json"),
                ("Cache-Control", "max-age=60"),
                ("Set-Cookie", "a=1"),
                ("Server", "vendor/9"),
                ("X-Cost", "3"),
            ],
            BODY,
        ),
    }
}

/// The stub that answers as the origin does.
fn stub(target: &str) -> Value {
    match target {
        target if target.starts_with("/api/gone") => {
            json!({ "status": 404, "headers": { "x-trace": "db_7" }, "body": "no such thing" })
        }
        target if target.starts_with("/api/moved") => {
            json!({ "status": 302, "headers": { "location": "/v2/weather/oslo" } })
        }
        _ => json!({
            "headers": { "content-type": "application/json", "cache-control": "max-age=60", "set-cookie": "a=1", "server": "vendor/9", "x-cost": "3" },
            "body": String::from_utf8_lossy(BODY),
        }),
    }
}

#[test]
fn what_the_gateway_did_is_what_the_test_expects() {
    let origin = Origin::start(answer);
    let yaml = format!(
        "version: 1\nlisteners: [{{ name: public, address: '127.0.0.1:0' }}]\naccessLog: off\nsecrets: {{ key: {{ env: VENDOR_KEY }} }}\n\
         upstreams: {{ vendor: {{ url: '{}/v2', allowPrivate: true, credential: {{ apiKey: {{ in: header, name: X-Api-Key, secret: key }} }} }} }}\n\
         routes:\n  - name: weather\n    match: {{ path: {{ prefix: /api }} }}\n    upstream: vendor\n    rewrite: {{ replacePrefixMatch: /, query: {{ keep: [lang] }} }}\n\
         \x20   request: {{ headers: {{ set: {{ x-channel: web }}, forward: [x-locale] }} }}\n    cache: {{ ttl: 60s }}\n    rateLimit: {{ requests: 5, window: 1h, key: client.ip }}\n\
         \x20   response: {{ json: {{ remove: ['$.internal_id', '$.station.owner_email'] }}, headers: {{ allow: [x-cost] }} }}\n\
         \x20 - {{ name: old, match: {{ path: {{ exact: /old }} }}, redirect: {{ path: /new, status: 308 }} }}\n",
        origin.url()
    );
    let gateway = Setup::new().env("VENDOR_KEY", "a-key-of-the-vendor").start(&yaml);
    let fields = [("x-locale", "no"), ("cookie", "sid=1"), ("accept", "application/json"), ("x-other", "1")];
    let sent: serde_json::Map<String, Value> = [("host", "app.example")]
        .iter()
        .chain(&fields)
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let targets = [
        "/api/weather/oslo?lang=no&x=1",
        "/api/weather/oslo?lang=no&x=1",
        "/api/gone",
        "/api/moved",
        "/old",
        "/none",
        "/api/weather/a%20b/../c",
        "/api/weather/bergen",
        "/api/weather/oslo?lang=no&x=1",
    ];
    let mut steps = Vec::new();
    for target in targets {
        let before = origin.count();
        let seen = gateway.request("GET", target, &fields, b"");
        let mut headers = serde_json::Map::new();
        for name in [
            "content-type",
            "content-length",
            "cache-control",
            "set-cookie",
            "server",
            "x-cost",
            "x-trace",
            "location",
            "ratelimit-policy",
            "cache-status",
            "allow",
        ] {
            // How long it is still fresh, and when the next request is free, differ by a second where the clock does not stand still.
            let value = match seen.header(name) {
                None => json!("absent"),
                Some(value) if value.contains("ttl=") => json!({ "contains": value.split("ttl=").next() }),
                Some(value) => json!({ "equals": value }),
            };
            headers.insert(name.into(), value);
        }
        let received: Vec<Value> = origin.received()[before..]
            .iter()
            .map(|got| {
                let fields = |name: &str| match got.header(name) {
                    None => json!("absent"),
                    Some("a-key-of-the-vendor") => json!("<secret:key>"),
                    Some(value) => json!({ "equals": value }),
                };
                let names = ["host", "x-api-key", "x-locale", "cookie", "accept", "x-other", "x-channel", "accept-encoding"];
                json!({
                    "method": got.method(),
                    "path": got.target().split('?').next(),
                    "query": { "lang": if got.target().contains("lang=no") { "no" } else { "absent" }, "x": "absent" },
                    "headers": names.map(|name| (name.to_owned(), fields(name))).into_iter().collect::<serde_json::Map<_, _>>(),
                })
            })
            .collect();
        steps.push(json!({
            "send": { "path": target, "headers": sent },
            "stub": { "vendor": stub(target) },
            "expect": {
                "status": seen.status,
                "headers": headers,
                "body": { "equals": seen.text() },
                "upstreamRequests": received,
            },
        }));
    }
    assert!(steps.iter().any(|step| step["expect"]["status"] == 429), "the limit was reached");
    let cases = json!({ "config": "gate.yaml", "tests": [{ "name": "as it was", "steps": steps }] });
    // The answers of the gateway carry an id of their own; those of the test have another.
    let mut text = serde_yaml::to_string(&cases).expect("YAML");
    text = without_ids(&text);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("gate.yaml"), &yaml).expect("written");
    std::fs::write(folder.path().join("gate.test.yaml"), &text).expect("written");
    let heard = origin.count();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["test", "gate.test.yaml"])
        .current_dir(folder.path())
        .output()
        .expect("the binary runs");
    assert!(
        output.status.success(),
        "{}{}\n{text}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(origin.count(), heard, "and the origin heard nothing of it");
}

/// A problem document names its request: what stands around the id is compared.
fn without_ids(text: &str) -> String {
    let mut value: Value = serde_yaml::from_str(text).expect("YAML");
    for step in value["tests"][0]["steps"].as_array_mut().expect("steps") {
        let body = step["expect"]["body"]["equals"].as_str().unwrap_or_default().to_owned();
        if let Ok(problem) = serde_json::from_str::<Value>(&body)
            && let Some(members) = problem.as_object().filter(|members| members.values().any(is_id))
        {
            let kept: serde_json::Map<_, _> = members
                .iter()
                .filter(|(_, value)| !is_id(value))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            let expect = step["expect"].as_object_mut().expect("a map");
            expect.remove("body");
            expect.insert("jsonContains".into(), Value::Object(kept));
        }
    }
    serde_yaml::to_string(&value).expect("YAML")
}

fn is_id(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 36 && text.matches('-').count() == 4)
}
