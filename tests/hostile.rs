//! What hostile files make the commands print: nothing that a terminal obeys, and no secret.

use std::path::Path;
use std::process::Command;

const CONFIG: &str = r#"version: 1
listeners: [{ name: public, address: "127.0.0.1:8080" }]
upstreams: { vendor: { url: "https://api.vendor.example", share: {} } }
routes: [{ name: r, match: { path: { prefix: /api } }, upstream: vendor }]
"#;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

fn printed(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(arguments).current_dir(folder).env_remove("PORTCULLIS_CONFIG");
    let output = command.output().expect("the program");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn nothing_that_a_terminal_obeys_is_printed() {
    let evil = "n\u{1b}[31m\u{9b}2J\u{202e}.yaml";
    let config = CONFIG.replace(", share: {}", "");
    let other = config.replace("prefix: /api", "prefix: /apis");
    let cases = concat!(
        "config: main.yaml\ntests:\n  - name: \"evil \\e[31m \\x9b \\u202e \\0 \\nnot ok 7\"\n",
        "    send: { path: /api/a }\n    stub: { vendor: { headers: { x-a: b }, body: \"\\e[2J\" } }\n",
        "    expect: { status: 201, body: \"q\\e[2J\" }\n",
    );
    let folder = folder(&[
        ("main.yaml", &config),
        (evil, &other),
        ("bad.yaml", "version: 1\n\"k\\e[31m\\x9b\\u202e\\nhelp: run this\": 1\nupstreams: \"\\e[31m\"\n"),
        ("c1.yaml", "version: 1 # \u{9b}31m\n"),
        ("c.test.yaml", cases),
    ]);
    let url = "http://h/\u{1b}[31m\u{9b}2J\u{202e}";
    for (arguments, expected) in [
        (&["check", evil][..], "n␛[31m"),
        (&["check", "bad.yaml"], "unknown key `k␛[31m"),
        (&["check", "c1.yaml"], "PC0104"),
        (&["check", &format!("no{evil}")], "non␛[31m"),
        (&["diff", "main.yaml", evil], "n␛[31m"),
        (&["explain", "GET", url, "--config", "main.yaml"], "GET http://h/␛[31m"),
        (&["test", "c.test.yaml"], "FAIL c.test.yaml: evil ␛[31m"),
        (&["test", "c.test.yaml", "--format", "tap"], "not ok 1 - c.test.yaml: evil ␛[31m"),
    ] {
        let text = printed(folder.path(), arguments);
        assert!(text.contains(expected), "{arguments:?}: {text}");
        let obeyed = text.chars().find(|&c| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}');
        assert_eq!(obeyed, None, "{arguments:?}: {text:?}");
        let forged = |line: &str| line.starts_with("not ok 7") || line.starts_with("help: run");
        assert!(!text.lines().any(forged), "{arguments:?}: {text}");
    }
}

#[test]
fn a_secrets_file_named_by_mistake_is_not_shown() {
    let folder = folder(&[
        ("key", "plover-quartz-lantern\n"),
        ("odd", "@plover-quartz%lantern\n"),
        ("main.yaml", &CONFIG.replace("version: 1\n", "version: 1\ninclude: [key]\n")),
    ]);
    for (file, code) in [("key", "PC0203"), ("main.yaml", "PC0203"), ("odd", "PC0104")] {
        for format in ["human", "json", "sarif"] {
            let text = printed(folder.path(), &["check", file, "--format", format]);
            assert!(text.contains(code), "{text}");
            assert!(!text.contains("plover"), "{file} as {format}: {text}");
        }
    }
}

/// A full disk is said; a reader that went away, as `head` does, is no matter.
#[test]
fn a_stdout_that_takes_nothing_brings_no_command_down() {
    let config = CONFIG.replace(", share: {}", "");
    let cases = "config: a.yaml\ntests: [{ name: n, send: { path: /x }, expect: { status: 404 } }]\n";
    let folder = folder(&[
        ("a.yaml", &config),
        ("b.yaml", &config.replace("prefix: /api", "prefix: /apis")),
        ("c.test.yaml", cases),
    ]);
    let run = |arguments: &[&str], stdout: std::process::Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(arguments).current_dir(folder.path()).env_remove("PORTCULLIS_CONFIG");
        let output = command.stdout(stdout).output().expect("the program");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (arguments, code) in [
        (&["check", "a.yaml"][..], 0),
        (&["check", "--codes"], 0),
        (&["check", "--format", "json", "a.yaml"], 0),
        (&["check", "--format", "sarif", "a.yaml"], 0),
        (&["explain", "PC0304"], 0),
        (&["explain", "GET", "http://h/api", "--config", "a.yaml"], 0),
        (&["explain", "GET", "http://h/x", "--config", "a.yaml", "--format", "json"], 1),
        (&["diff", "a.yaml", "b.yaml"], 1),
        (&["diff", "--format", "json", "a.yaml", "a.yaml"], 0),
        (&["test", "c.test.yaml"], 0),
        (&["schema"], 0),
        (&["codeowners", "--config", "a.yaml", "--platform", "@shop/platform"], 0),
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a device that is full");
        let (found, errors) = run(arguments, full.into());
        assert_eq!(found, Some(2), "{arguments:?}: {errors}");
        assert!(errors.starts_with("error: stdout cannot be written: "), "{arguments:?}: {errors}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert_eq!(run(arguments, writer.into()), (Some(code), String::new()), "{arguments:?}");
    }
}

/// Damage at random, the same on each run: every file is judged, none brings the program down.
#[test]
fn damaged_files_are_judged_and_nothing_breaks() {
    const PIECES: [&str; 16] = [
        ":", "{", "]", "\"", "'", "&a ", "*a ", "<<: *a\n", "? ", "- - ", "\t", "\n", "\0", "1e999", "~",
        "\u{9b}",
    ];
    let text = include_str!("../conf/minimal.yaml");
    let mut state = 7_u64;
    let mut below = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or_default() % most
    };
    let folder = folder(&[]);
    let names: Vec<String> = (0..300).map(|index| format!("{index}.yaml")).collect();
    for name in &names {
        let mut damaged: Vec<char> = text.chars().collect();
        for _ in 0..=below(4) {
            let (at, piece) = (below(damaged.len()), PIECES[below(PIECES.len())]);
            let end = (at + below(12)).min(damaged.len());
            damaged.splice(at..end, piece.chars());
        }
        std::fs::write(folder.path().join(name), damaged.into_iter().collect::<String>()).expect("written");
    }
    let fixed = ["check", "--no-secrets", "--format", "json"];
    let arguments: Vec<&str> = fixed.into_iter().chain(names.iter().map(String::as_str)).collect();
    let text = printed(folder.path(), &arguments);
    let judged: serde_json::Value = serde_json::from_str(&text).expect("JSON and nothing else");
    let files = judged["files"].as_array().expect("files");
    assert_eq!(files.len(), names.len());
    let fine = files.iter().filter(|file| file["ok"] == true).count();
    assert!(fine < files.len() / 2, "{fine} are fine: too little damage");
}
