//! A first start: what `init` writes is right as it is, and nothing of a person's is ever overwritten.

use std::path::Path;
use std::process::{Command, Output};

fn portcullis(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("PORTCULLIS_CONFIG")
        .env_remove("VENDOR_KEY")
        .output()
        .expect("the binary runs")
}

/// Exit code, stdout, stderr.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = portcullis(folder, arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_it_writes_passes_check_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, stdout, stderr) = run(folder.path(), &["init"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert_eq!(names(folder.path()), ["portcullis.schema.json", "portcullis.test.yaml", "portcullis.yaml"]);
    let config = std::fs::read_to_string(folder.path().join("portcullis.yaml")).expect("written");
    assert!(config.starts_with("# yaml-language-server: $schema=./portcullis.schema.json\n"), "{config}");
    let schema = std::fs::read(folder.path().join("portcullis.schema.json")).expect("written");
    assert_eq!(schema, portcullis(folder.path(), &["schema"]).stdout, "the schema that `schema` prints");

    let (code, stdout, stderr) =
        run(folder.path(), &["check", "--strict", "--no-secrets", "portcullis.yaml"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let (code, _, stderr) = run(folder.path(), &["check", "portcullis.yaml"]);
    assert!(code == 1 && stderr.contains("`VENDOR_KEY` is not set"), "without the key: {stderr}");
    let with_key = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["check", "--strict", "portcullis.yaml"])
        .current_dir(folder.path())
        .env("VENDOR_KEY", "0123456789")
        .output()
        .expect("the binary runs");
    assert!(with_key.status.success(), "with the key");
}

#[test]
fn the_commands_that_it_prints_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, stdout, _) = run(folder.path(), &["init", "--dir", "edge gate/new"]);
    let commands: Vec<&str> = stdout.lines().filter(|line| line.contains("  portcullis ")).collect();
    assert_eq!(commands.len(), 2, "check and test; the third serves: {stdout}");
    for command in commands {
        let command = command.trim().replacen("portcullis", env!("CARGO_BIN_EXE_portcullis"), 1);
        let output = Command::new("sh").args(["-c", &command]).current_dir(folder.path()).output();
        let output = output.expect("a shell");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(
        stdout.contains(
            "VENDOR_KEY=the-key-of-the-api portcullis run --config 'edge gate/new/portcullis.yaml'"
        )
    );
}

#[test]
fn options_fill_in_the_blanks() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = [
        "init",
        "--upstream",
        "http://127.0.0.1:9000/v2",
        "--header",
        "X-Api-Key",
        "--env",
        "WEATHER_KEY",
        "--prefix",
        "/api/weather",
        "--app",
        "http://localhost:3000",
    ];
    let (code, stdout, stderr) = run(folder.path(), &options);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("WEATHER_KEY="), "{stdout}");
    let strict = ["check", "--strict", "--no-secrets", "portcullis.yaml"];
    assert_eq!(run(folder.path(), &strict).0, 0, "it passes");
    let (code, stdout, stderr) = run(folder.path(), &["test", "portcullis.test.yaml"]);
    assert_eq!(code, 0, "its first case holds: {stdout}{stderr}");
    let explain = |url: &str| {
        let (_, stdout, _) = run(folder.path(), &["explain", "GET", url, "--config", "portcullis.yaml"]);
        stdout
    };
    let api = explain("http://app.example/api/weather/now");
    assert!(api.contains("sends `GET /v2/now`") && api.contains("x-api-key: <secret:vendor-key>"), "{api}");
    let site = explain("http://app.example/index.html");
    assert!(site.contains("the route `site` sends it to the app `web`"), "{site}");
}

#[test]
fn what_would_not_be_right_is_refused_as_check_would() {
    let folder = tempfile::tempdir().expect("a folder");
    for (options, code, word) in [
        (&["--upstream", "ftp://x"][..], "PC0304", "ftp://x"),
        (&["--upstream", "http://api.vendor.example"], "PC0604", "clear text"),
        (&["--header", "Host"], "PC0301", "Host"),
        (&["--prefix", "api"], "PC0303", "api"),
        (&["--prefix", "/"], "PC0504", "every path"),
        (&["--app", "web: {"], "PC0304", "upstreams.web.url"),
    ] {
        let arguments: Vec<&str> = ["init"].iter().chain(options).copied().collect();
        let (exit, stdout, stderr) = run(folder.path(), &arguments);
        assert_eq!((exit, stdout.as_str()), (2, ""), "{options:?}: {stderr}");
        assert!(stderr.contains(code) && stderr.contains(word), "{options:?}: {stderr}");
        assert!(stderr.contains("nothing was written") && names(folder.path()).is_empty(), "{options:?}");
    }
    let (exit, _, stderr) = run(folder.path(), &["init", "--env", "sk live 1234"]);
    assert!(exit == 2 && !stderr.contains("1234"), "what may be the key is not repeated: {stderr}");
}

#[test]
fn nothing_is_overwritten() {
    for there in ["portcullis.yaml", "portcullis.test.yaml", "portcullis.schema.json"] {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(there), "mine").expect("written");
        let (code, stdout, stderr) = run(folder.path(), &["init"]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains(&format!("`{there}` is there already")), "{stderr}");
        assert_eq!(names(folder.path()), [there], "nothing is written beside it");
        assert_eq!(std::fs::read_to_string(folder.path().join(there)).expect("there"), "mine");
    }
}

#[test]
fn a_start_without_a_configuration_says_how_to_begin() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [&[][..], &["run"]] {
        let (code, stdout, stderr) = run(folder.path(), arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        for command in ["portcullis init", "portcullis check", "portcullis run --config"] {
            assert!(stderr.contains(command), "{arguments:?}: {stderr}");
        }
    }
    run(folder.path(), &["init"]);
    let (_, _, stderr) = run(folder.path(), &["run"]);
    assert!(stderr.contains("there is a `portcullis.yaml` here"), "{stderr}");
}
