//! `portcullis test`: every case that we hand out passes, every expectation fails when it must, and nothing of the machine is touched.

mod golden;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Exit code, stdout, stderr.
fn run(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("test")
        .args(arguments)
        .current_dir(directory)
        .env_remove("VENDOR_KEY")
        .env_remove("PORTCULLIS_CONFIG")
        .env("CANARY", REAL_SECRET)
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

const REAL_SECRET: &str = "QWERTYUIOP-the-real-one";

/// What differs from run to run, blanked: durations, ids, dates, what is left of a lifetime.
fn steady(told: &str) -> String {
    let line = |line: &str| {
        let trimmed = line.trim_start();
        let name = trimmed.split_once(": ").map_or("", |(name, _)| name);
        if ["x-request-id", "date"].contains(&name) {
            return format!("{}{name}: …", &line[..line.len() - trimmed.len()]);
        }
        if trimmed.starts_with("found:    `") && trimmed.len() == 48 {
            return "    found:    `…`".to_owned();
        }
        if let Some((before, after)) = line.split_once("; ttl=") {
            let rest = after.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit());
            return format!("{before}; ttl=…{rest}");
        }
        match line.rsplit_once(" (").filter(|(_, end)| end.ends_with(" ms)")) {
            Some((before, _)) => format!("{before} (… ms)"),
            None => line.to_owned(),
        }
    };
    told.lines().map(|text| line(text) + "\n").collect()
}

fn golden_files() -> Vec<PathBuf> {
    let folder = Path::new(ROOT).join("tests/cases");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("tests/cases")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.retain(|path| path.to_string_lossy().ends_with(".test.yaml"));
    found.sort();
    found
}

#[test]
fn every_case_that_we_hand_out_passes() {
    let (code, told, errors) = run(Path::new(ROOT), &["conf"]);
    assert_eq!((code, errors.as_str()), (0, ""), "{told}");
    for file in
        ["portcullis.yaml", "minimal.test.yaml", "demo.test.yaml", "examples/teams/portcullis.test.yaml"]
    {
        assert!(told.contains(&format!("conf/{file}: ")), "{file} is tried:\n{told}");
    }
}

#[test]
fn what_people_read_is_pinned() {
    let mut wrong = String::new();
    for file in golden_files() {
        let name = file.file_name().expect("a name").to_str().expect("UTF-8");
        let (code, told, errors) = run(file.parent().expect("a folder"), &[name]);
        let found = format!("exit {code}\n--- stdout\n{}--- stderr\n{errors}", steady(&told));
        let expected = file.with_file_name(name.replace(".test.yaml", ".expected"));
        if !golden::holds(&expected, &found) {
            wrong += &format!("{name}:\n{found}\n");
        }
    }
    assert!(wrong.is_empty(), "other than the golden file (BLESS=1 writes it):\n{wrong}");
}

#[test]
fn each_expectation_fails_when_it_is_not_met() {
    let folder = Path::new(ROOT).join("tests/cases");
    let (code, told, _) = run(&folder, &["--format", "json", "each_expectation_can_fail.test.yaml"]);
    assert_eq!(code, 1);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let cases = told["cases"].as_array().expect("cases");
    assert!(cases.len() >= 20, "only {} cases", cases.len());
    for case in cases {
        assert_eq!(case["passed"], false, "{case}");
        assert!(!case["failures"].as_array().expect("failures").is_empty(), "{case}");
    }
}

/// A folder with a gate whose upstream is `url`, and cases.
fn folder(url: &str, cases: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let gate = format!(
        "version: 1\nlisteners: [{{ name: public, address: '127.0.0.1:1' }}]\nsecrets: {{ key: {{ env: CANARY }} }}\n\
         upstreams: {{ vendor: {{ url: '{url}', allowPrivate: true, credential: {{ bearer: key }}, retry: {{ attempts: 3 }} }} }}\n\
         routes: [{{ name: all, match: {{ path: {{ prefix: /api }} }}, upstream: vendor, \
         cache: {{ ttl: 1s, staleWhileRevalidate: 1h }} }}]\n"
    );
    std::fs::write(folder.path().join("portcullis.yaml"), gate).expect("written");
    let cases = format!("config: portcullis.yaml\ntests:\n{cases}");
    std::fs::write(folder.path().join("gate.test.yaml"), cases).expect("written");
    folder
}

#[test]
fn nothing_is_dialled_and_no_secret_is_read() {
    let real = TcpListener::bind("127.0.0.1:0").expect("a port");
    real.set_nonblocking(true).expect("not blocking");
    let folder = folder(
        &format!("http://{}", real.local_addr().expect("bound")),
        "- { name: answered, send: { path: /api }, stub: { vendor: { body: played } }, expect: { body: played, upstreamRequest: { headers: { authorization: \"Bearer <secret:key>\" } } } }\n\
         - { name: down, send: { path: /api }, stub: { vendor: refused }, expect: { status: 502 } }\n\
         - { name: silent, send: { path: /api }, stub: { vendor: timeout }, expect: { status: 504 } }\n\
         - { name: sent on, send: { path: /api }, stub: { vendor: { status: 302, headers: { location: /api/x } } }, expect: { status: 302 } }\n\
         - name: refreshed behind\n  send: { path: /api }\n  stub: { vendor: { body: played } }\n  steps: [{ expect: { cache: miss } }, { wait: 2s, expect: { cache: stale } }]\n\
         - { name: forgotten, send: { path: /api } }\n",
    );
    let (code, told, errors) = run(folder.path(), &["gate.test.yaml"]);
    assert_eq!((code, errors.as_str()), (1, ""), "{told}");
    assert!(told.contains("6 cases: 5 passed, 1 failed"), "all but the forgotten stub: {told}");
    assert!(told.contains("no `stub` says what it answers"), "{told}");
    assert!(!told.contains(REAL_SECRET), "{told}");
    let nobody = real.accept().expect_err("nobody may connect");
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn machines_get_what_they_can_read() {
    let folder = folder(
        "https://api.vendor.example",
        "- { name: 'a <b> & \"c\" \\ # d', send: { path: /api }, stub: { vendor: { body: \"\\u0001]]>\" } }, expect: { status: 200, body: x } }\n\
         - { name: fine, send: { path: /api }, stub: { vendor: {} }, expect: { status: 200 } }\n",
    );
    let (code, junit, _) = run(folder.path(), &["--format", "junit", "gate.test.yaml"]);
    assert_eq!(code, 1);
    assert!(junit.contains("tests=\"2\"") && junit.contains("failures=\"1\""), "{junit}");
    assert!(junit.contains("a &lt;b&gt; &amp; &quot;c&quot; \\ # d"), "{junit}");
    assert!(
        !junit.contains(|c: char| c.is_control() && c != '\n'),
        "no character that XML does not have: {junit}"
    );
    assert!(!junit.contains("]]>") || junit.contains("<![CDATA["), "{junit}");
    let (_, tap, _) = run(folder.path(), &["--format", "tap", "gate.test.yaml"]);
    let mut lines = tap.lines();
    assert_eq!((lines.next(), lines.next()), (Some("TAP version 14"), Some("1..2")));
    assert!(
        lines.any(|line| line.starts_with("not ok 1 - ") && line.contains("\\#")),
        "`#` begins a directive: {tap}"
    );
    assert!(tap.lines().any(|line| line.starts_with("ok 2 - ")), "{tap}");
}

#[test]
fn what_cannot_be_tried_is_said() {
    let folder = folder(
        "https://api.vendor.example",
        "- { name: fine, send: { path: /none }, expect: { status: 404 } }\n",
    );
    let (code, told, errors) = run(folder.path(), &["--filter", "nothing like it", "gate.test.yaml"]);
    assert_eq!(code, 1, "{told}{errors}");
    assert_eq!(errors, "error: no case has `nothing like it` in its name; there is 1 case\n");
    let (code, _, errors) = run(folder.path(), &["--config", "missing.yaml", "gate.test.yaml"]);
    assert_eq!((code, errors.as_str()), (2, "error: `missing.yaml` is not a file that can be read\n"));
    let (code, _, errors) = run(folder.path(), &["missing.test.yaml"]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("missing.test.yaml"), "{errors}");
    std::fs::write(folder.path().join("portcullis.yaml"), "version: 1\nroutse: []\n").expect("written");
    let (code, _, errors) = run(folder.path(), &["gate.test.yaml"]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("did you mean `routes`?"), "{errors}");
}

#[test]
fn check_takes_a_file_of_cases_too() {
    let check = |folder: &Path, arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["check", "gate.test.yaml"])
            .args(arguments)
            .current_dir(folder)
            .env_remove("PORTCULLIS_CONFIG")
            .output()
            .expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    };
    let url = "https://api.vendor.example";
    let fine = folder(url, "- { name: fine, send: { path: /none }, expect: { status: 404 } }\n");
    let (code, told, errors) = check(fine.path(), &[]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(told, "gate.test.yaml: fine: 1 case, 0 warnings\n");
    let (code, told, _) = check(fine.path(), &["--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((code, &told["files"][0]["cases"]), (0, &1.into()), "{told}");
    assert_eq!(told["files"][0]["routes"], serde_json::Value::Null);
    let bad = folder(url, "- { name: bad, send: { path: /none }, stub: { vender: refused } }\n");
    let (code, told, errors) = check(bad.path(), &[]);
    assert_eq!((code, told.as_str()), (1, "gate.test.yaml: 1 error, 0 warnings\n"));
    assert!(errors.contains("did you mean `vendor`?"), "{errors}");
    std::fs::write(bad.path().join("portcullis.yaml"), "version: 1\nroutse: []\n").expect("written");
    let (code, _, errors) = check(bad.path(), &[]);
    assert_eq!(code, 1);
    assert!(errors.contains("did you mean `routes`?"), "the configuration's mistakes too: {errors}");
}
