//! From the arguments to cases: which files, which configuration, and what is wrong with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::masks::invented;
use super::stub::Stubs;
use crate::config::{self, Document, Problems, Report, codes, directory_of};
use crate::plan::cases::{self, Case, CasesFileSpec, Names};
use crate::plan::{INCLUDE, Plan};
use crate::server::stage;

/// The end of the name of a file with cases only.
const CASES_ENDING: &str = ".test.yaml";

/// Cases and the configuration that they try.
pub struct Suite {
    /// The file with the cases, as given.
    pub file: String,
    /// The configuration.
    pub document: Document,
    /// Where its relative paths start.
    pub directory: PathBuf,
    /// The cases.
    pub cases: Vec<Case>,
}

/// The files that a list of files and folders stands for. In a folder, at any depth: every `*.test.yaml`, and every other `*.yaml` with
/// `tests` at its top level.
///
/// # Errors
/// What cannot be read, in the operator's words.
pub fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in named {
        if path.is_dir() {
            walk(path, &mut found, 0)?;
        } else if path.is_file() {
            found.push(path.clone());
        } else {
            return Err(format!("`{}` is neither a file nor a folder that can be read", path.display()));
        }
    }
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>, depth: usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).map_err(|why| format!("`{}`: {why}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, found, depth + 1)?;
        } else if has_cases(&path) {
            found.push(path);
        }
    }
    Ok(())
}

/// Whether a file is for cases only.
pub fn is_cases_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(CASES_ENDING))
}

fn has_cases(path: &Path) -> bool {
    if is_cases_file(path) {
        return true;
    }
    let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let is_small = || std::fs::metadata(path).is_ok_and(|about| about.len() <= config::MAX_FILE_BYTES as u64);
    let key = format!("{}:", cases::TESTS);
    is_yaml
        && path.is_file()
        && is_small()
        && std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line.starts_with(&key)))
}

/// Why this file cannot be tried with what `--config` names; `None`: it can.
pub fn misfit(file: &Path, config: Option<&Path>) -> Option<String> {
    let config = config?;
    if !config.is_file() {
        return Some(format!("`{}` is not a file that can be read", config.display()));
    }
    (!is_cases_file(file) && config != file).then(|| {
        format!(
            "`{}` is a configuration itself; `--config {}` goes with files called `NAME{CASES_ENDING}`",
            file.display(),
            config.display()
        )
    })
}

/// Reads the cases of a file and checks them and their configuration, which is `config` if that is given. Needs a runtime around it.
///
/// # Errors
/// Everything that is wrong.
pub fn suite(file: &Path, config: Option<&Path>) -> Result<Suite, Report> {
    if is_cases_file(file) { apart(file, config) } else { inside(file) }
}

/// Cases in the configuration itself.
fn inside(file: &Path) -> Result<Suite, Report> {
    let (document, plan) = configuration(file)?;
    let mut problems = Problems::new();
    let tests = document.root().get(cases::TESTS);
    let cases = tests.map_or_else(Vec::new, |tests| cases::read(&tests, &Names::of(&plan), &mut problems));
    Ok(Suite { file: file.display().to_string(), directory: directory_of(file).to_owned(), document, cases })
}

/// Cases in a file of their own.
fn apart(file: &Path, config: Option<&Path>) -> Result<Suite, Report> {
    let written = config::load(file, NOTHING_INCLUDED)?;
    let mut problems = Problems::new();
    let root = written.root();
    root.check_keys::<CasesFileSpec>(&[], &mut problems);
    let named = root.get("config").and_then(|at| at.decode::<PathBuf>(&mut problems).map(|path| (at, path)));
    let tests = root.require(cases::TESTS, &mut problems);
    let config = match (config, &named) {
        (Some(config), _) => Some(config.to_owned()),
        (None, Some((at, path))) => {
            let path = directory_of(file).join(path);
            if !path.is_file() {
                problems.error(codes::BAD_VALUE, at.path(), "there is no such configuration file");
            }
            Some(path)
        }
        (None, None) => {
            if root.get("config").is_none() {
                problems
                    .error(
                        codes::MISSING_KEY,
                        root.path(),
                        "this file does not say which configuration it tries",
                    )
                    .help("write `config: portcullis.yaml`, or name it with `--config`");
            }
            None
        }
    };
    let Some(config) = config.filter(|config| config.is_file()) else {
        return Err(written.report(problems));
    };
    let (document, plan) = configuration(&config)?;
    let cases = tests.map_or_else(Vec::new, |tests| cases::read(&tests, &Names::of(&plan), &mut problems));
    if problems.has_errors() {
        return Err(written.report(problems));
    }
    Ok(Suite {
        file: file.display().to_string(),
        directory: directory_of(&config).to_owned(),
        document,
        cases,
    })
}

fn configuration(file: &Path) -> Result<(Document, Plan), Report> {
    let document = config::load(file, INCLUDE)?;
    // Only to see whether it is right: nobody calls these upstreams.
    let process = stage::process(Arc::new(Stubs::new(Path::new(""), &std::collections::BTreeMap::new())));
    let (plan, _) = stage::compile(&document, directory_of(file), &process, invented)?;
    Ok((document, plan))
}

/// A key that no file has.
const NOTHING_INCLUDED: &str = "";
/// Folders within folders that are looked through.
const DEEPEST: usize = 16;
