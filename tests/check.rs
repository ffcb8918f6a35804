//! What an app team sees: each `check/*.yaml` is given to the real binary, and exit code, stdout and stderr are next to it. A
//! folder is one example of several files, of which `portcullis.yaml` is the main one.
//!
//! A first line `# arguments: ...` adds arguments. `BLESS=1` writes the expected texts anew; read the difference before you commit it.

mod golden;

use std::path::Path;
use std::process::Command;

/// Stands in several examples where no secret may stand; no output may repeat it.
const INLINE: &str = "hunter2";
const SECRET: &str = "s3cr3t-0123456789";

/// A folder with everything that the examples refer to.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, content).expect("written");
    };
    let made = rcgen::generate_simple_self_signed(vec!["app.example".into()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(vec!["b.example".into()]).expect("a certificate");
    write("tls/site.crt", &made.cert.pem());
    write("tls/site.key", &made.signing_key.serialize_pem());
    write("tls/other.key", &other.signing_key.serialize_pem());
    write("tls/bad.crt", "this is no certificate\n");
    write("secrets/good", "0123456789\n");
    write("secrets/short", "abc\n");
    write("secrets/two-lines", "first-line\nsecond-line\n");
    folder
}

/// Copies a file, or a folder with everything in it.
fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::copy(from, to).expect("copied");
        return;
    }
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// Exit code, then what stands on stdout, then on stderr.
fn check(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("check")
        .args(arguments)
        .current_dir(folder)
        .env_remove("PORTCULLIS_CONFIG")
        .env_remove("NOT_SET")
        .env("EMPTY", "")
        .env("VENDOR_KEY", SECRET)
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

#[test]
fn every_mistake_is_told_as_expected() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check");
    let folder = folder();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&examples).expect("the folder of examples") {
        let file = entry.expect("an entry").path();
        if !file.is_dir() && file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        seen += 1;
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        copy(&file, &folder.path().join(name));
        let main = if file.is_dir() { format!("{name}/portcullis.yaml") } else { name.to_owned() };
        let name = main.as_str();
        let text = std::fs::read_to_string(folder.path().join(name)).expect("an example");
        let first = text.lines().next().unwrap_or_default();
        let mut arguments: Vec<&str> =
            first.strip_prefix("# arguments: ").unwrap_or_default().split_whitespace().collect();
        arguments.push(name);
        let (code, stdout, stderr) = check(folder.path(), &arguments);
        let actual = format!("exit {code}\n--- stdout\n{stdout}--- stderr\n{stderr}");
        assert!(!actual.contains(INLINE) && !actual.contains(SECRET), "{name}: a secret is shown:\n{actual}");
        let expected = file.with_extension("expected");
        if !golden::holds(&expected, &actual) {
            wrong.push(format!("{name}:\n{actual}"));
        }
    }
    assert!(seen >= 45, "only {seen} examples");
    assert!(wrong.is_empty(), "not as expected; BLESS=1 accepts this:\n{}", wrong.join("\n"));
}

#[test]
fn the_exit_code_tells_mistakes_from_files_that_cannot_be_read() {
    let folder = folder();
    let fine = include_str!("check/fine.yaml");
    let wrong = include_str!("check/unknown_upstream.yaml");
    let warned = include_str!("check/everything_to_an_api.yaml");
    for (name, text) in [("fine.yaml", fine), ("wrong.yaml", wrong), ("warned.yaml", warned)] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let code = |arguments: &[&str]| check(folder.path(), arguments).0;
    assert_eq!(code(&["fine.yaml"]), 0, "nothing is wrong");
    assert_eq!(code(&["--config", "fine.yaml"]), 0, "the flag that `run` takes");
    assert_eq!(code(&["wrong.yaml"]), 1, "a mistake");
    assert_eq!(code(&["fine.yaml", "wrong.yaml"]), 1, "one of two is wrong");
    assert_eq!(code(&["warned.yaml"]), 0, "warnings are no mistakes");
    assert_eq!(code(&["--strict", "warned.yaml"]), 1, "unless they are to be");
    assert_eq!(code(&["missing.yaml"]), 2, "no such file");
    assert_eq!(code(&["wrong.yaml", "missing.yaml"]), 2, "the worst counts");
    assert_eq!(code(&["."]), 2, "a folder is no file");
    assert_eq!(code(&[]), 2, "nothing to check");
    assert_eq!(code(&["--no-such-flag", "fine.yaml"]), 2, "an argument that is not known");
    let (_, _, stderr) = check(folder.path(), &["missing.yaml"]);
    assert!(stderr.contains("missing.yaml"), "the file is named: {stderr}");
}

/// What `codeowners` prints for the example of teams, run at the root of a repository.
fn codeowners(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("codeowners")
        .args(arguments)
        .current_dir(folder)
        .env_remove("PORTCULLIS_CONFIG")
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

#[test]
fn code_owners_are_written_for_every_file_or_for_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let teams = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples/teams");
    copy(&teams, &folder.path().join("gate"));
    let (main, platform) = (["--config", "gate/portcullis.yaml"], ["--platform", "@shop/platform"]);
    let with = |more: &[&str]| codeowners(folder.path(), &[&main[..], &platform[..], more].concat());
    let (code, stdout, stderr) = with(&[]);
    assert_eq!((code, stderr.as_str()), (0, ""), "every file has an owner");
    assert_eq!(
        stdout.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(),
        [
            "/gate/routes.d/ @shop/platform",
            "/gate/portcullis.yaml @shop/platform",
            "/gate/routes.d/checkout.yaml @shop/checkout",
            "/gate/routes.d/search.yaml @shop/search",
        ]
    );
    let (_, stdout, _) =
        with(&["--root", "gate", "--owner", "search=a@shop.example", "--owner", "search=@b"]);
    assert!(stdout.contains("/routes.d/search.yaml a@shop.example @b\n"), "{stdout}");

    std::fs::write(folder.path().join("gate/routes.d/new one.yaml"), "team: new\nroutes: []\n")
        .expect("written");
    let (code, stdout, stderr) = with(&[]);
    assert_eq!((code, stdout.as_str()), (1, ""), "nothing is written by halves");
    assert!(stderr.contains("--owner new=@"), "and what to do is said: {stderr}");
    let (code, stdout, _) = with(&["--owner", "new=@shop/new"]);
    assert!(code == 0 && stdout.contains("/gate/routes.d/new\\ one.yaml @shop/new\n"), "{stdout}");

    std::fs::write(folder.path().join("gate/routes.d/new one.yaml"), "team: [\n").expect("written");
    assert_eq!(with(&[]).0, 1, "a broken file");
    assert_eq!(with(&["--root", "gate/routes.d"]).0, 1, "a file outside of the root");
    assert_eq!(codeowners(folder.path(), &main).0, 2, "nobody answers for the main file");
    assert_eq!(
        codeowners(folder.path(), &["--config", "none.yaml", "--platform", "@a"]).0,
        2,
        "no such file"
    );
}
