//! The configurations that we hand out: every file of `conf/` and every `yaml` block of the documents passes `check`, and the
//! reference names every key that the code takes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Copies every YAML file of a folder to the same place below another.
fn copy(from: &Path, to: &Path) {
    for file in files(from, "yaml") {
        let target = to.join(file.strip_prefix(from).expect("below it"));
        std::fs::create_dir_all(target.parent().expect("a parent")).expect("made");
        std::fs::copy(file, target).expect("copied");
    }
}

/// A folder with the certificates and the files of teams that the configurations name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("tls")).expect("made");
    for name in ["site", "shop", "edge", "gate", "partner-ca", "internal-ca"] {
        let made =
            rcgen::generate_simple_self_signed(vec![format!("{name}.example")]).expect("a certificate");
        let write = |ending: &str, text: String| {
            std::fs::write(folder.path().join(format!("tls/{name}.{ending}")), text).expect("written");
        };
        write("crt", made.cert.pem());
        write("key", made.signing_key.serialize_pem());
    }
    copy(&Path::new(ROOT).join("conf/routes.d"), &folder.path().join("routes.d"));
    folder
}

/// The same, with this file in place of the teams'.
fn folder_with(team: &str) -> tempfile::TempDir {
    let folder = folder();
    std::fs::remove_dir_all(folder.path().join("routes.d")).expect("removed");
    std::fs::create_dir(folder.path().join("routes.d")).expect("made");
    std::fs::write(folder.path().join("routes.d/team.yaml"), team).expect("written");
    folder
}

/// What `check --strict --no-secrets` says to a text; nothing where it passes. A team's file is put among those of the example.
fn complaint(folder: &Path, text: &str) -> Option<String> {
    let is_of_a_team = text.lines().any(|line| line.starts_with("team:"));
    let file = if is_of_a_team {
        let teams = folder.join("teams");
        copy(&Path::new(ROOT).join("conf/examples/teams"), &teams);
        let team: serde_yaml::Value = serde_yaml::from_str(text).expect("YAML");
        let name = team["team"].as_str().expect("a team");
        std::fs::write(teams.join(format!("routes.d/{name}.yaml")), text).expect("written");
        teams.join("portcullis.yaml")
    } else {
        let file = folder.join("portcullis.yaml");
        std::fs::write(&file, text).expect("written");
        file
    };
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["check", "--strict", "--no-secrets"])
        .arg(&file)
        .output()
        .expect("the binary runs");
    (!output.status.success()).then(|| {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

#[test]
fn every_configuration_passes_without_a_warning() {
    let folder = folder();
    let mut all = files(&Path::new(ROOT).join("conf"), "yaml");
    // Those are no configurations; `tests/cases.rs` runs them.
    all.retain(|file| !file.to_string_lossy().ends_with(".test.yaml"));
    assert!(all.len() >= 6, "demo, minimal, reference and examples: {all:?}");
    for file in all {
        let text = std::fs::read_to_string(&file).expect("a configuration");
        // The files of teams are checked with the one that includes them, in its own folder.
        let beside = file.parent().expect("a folder").join("routes.d");
        if text.lines().any(|line| line.starts_with("team:")) {
            continue;
        }
        if text.lines().any(|line| line.starts_with("include:")) {
            std::fs::remove_dir_all(folder.path().join("routes.d")).expect("removed");
            copy(&beside, &folder.path().join("routes.d"));
        }
        if let Some(why) = complaint(folder.path(), &text) {
            panic!("{}:\n{why}", file.display());
        }
    }
    assert!(complaint(folder.path(), "version: 1\n").is_some(), "a bad one does not pass");
}

/// The `yaml` blocks of a Markdown text.
fn blocks(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match (&mut open, line.trim_start()) {
            (None, "```yaml") => open = Some(String::new()),
            (Some(_), "```") => found.extend(open.take()),
            (Some(block), _) => {
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

#[test]
fn every_block_of_yaml_in_the_documents_passes() {
    let folder = folder();
    let mut documents = files(&Path::new(ROOT).join("docs"), "md");
    documents.extend(
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benches/README.md"]
            .map(|name| Path::new(ROOT).join(name)),
    );
    for document in documents {
        let text = std::fs::read_to_string(&document).expect("a document");
        let mut main = String::new();
        for block in blocks(&text) {
            let is_of_a_team = block.lines().any(|line| line.starts_with("team:"));
            let why = if is_of_a_team && main.contains("include:") {
                // The file that includes it stands above.
                let own = folder_with(&block);
                complaint(own.path(), &main)
            } else {
                complaint(folder.path(), &block)
            };
            if !is_of_a_team {
                main.clone_from(&block);
            }
            if let Some(why) = why {
                panic!("{}:\n{block}\n{why}", document.display());
            }
        }
    }
    assert_eq!(
        blocks("a\n```yaml\nversion: 1\n```\nb\n```\nno\n```\n"),
        ["version: 1\n"],
        "blocks are found"
    );
}

/// Every key at any depth, and every text that is a scalar: a choice such as `stdout` or `basic` is one or the other.
fn words(value: &serde_yaml::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_yaml::Value::Mapping(mapping) => {
            for (key, value) in mapping {
                found.extend(key.as_str().map(str::to_owned));
                words(value, found);
            }
        }
        serde_yaml::Value::Sequence(items) => items.iter().for_each(|item| words(item, found)),
        _ => {}
    }
}

/// Keys that the code takes: those of the schema, which is made from the types that decode them.
fn accepted(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        found.insert(key.clone());
        accepted(inner, found);
    }
    for (_, inner) in schema["patternProperties"].as_object().into_iter().flatten() {
        accepted(inner, found);
    }
    if schema["items"].is_object() {
        accepted(&schema["items"], found);
    }
    schema["anyOf"].as_array().into_iter().flatten().for_each(|choice| accepted(choice, found));
}

#[test]
fn the_reference_names_every_key_that_is_taken() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("conf/portcullis.yaml")).expect("the reference");
    let mut named = BTreeSet::new();
    words(&serde_yaml::from_str(&text).expect("YAML"), &mut named);
    let mut accepted = BTreeSet::new();
    self::accepted(&portcullis::plan::schema::file(), &mut accepted);
    for known in ["maxConnectionsPerAddress", "staleIfError", "allowPrivate", "replaceFullPath", "delay"] {
        assert!(accepted.contains(known), "`{known}` is not in the schema: {accepted:?}");
    }
    // Alternatives of which one file can hold one each are told in a comment.
    let missing: Vec<&String> = accepted
        .iter()
        .filter(|key| !named.contains(*key))
        .filter(|key| {
            !text
                .lines()
                .any(|line| line.split_once('#').is_some_and(|(_, note)| note.contains(&format!("{key}:"))))
        })
        .collect();
    assert!(missing.is_empty(), "conf/portcullis.yaml does not name {missing:?}");
}
