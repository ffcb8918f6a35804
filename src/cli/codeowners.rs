//! `portcullis codeowners --config FILE`: who answers for which file, as rules for the code host.
//!
//! Grants in `owners` say what a file may claim; these rules say who may change the file. Both are needed: without the second,
//! one team's routes could be written into another team's file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE, printed};
use crate::config::{self, visible_line};
use crate::plan::INCLUDE;
use crate::plan::owners::{OwnedFile, is_code_owner, owned_files};

/// What `codeowners` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration file that includes the others
    #[arg(long, short, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: PathBuf,
    /// Who answers for the main file, and for files that are new; may be repeated
    #[arg(long, value_name = "OWNER", required = true, value_parser = owner)]
    platform: Vec<String>,
    /// Who answers for a team's files, instead of `codeowners` under `owners`; may be repeated
    #[arg(long, value_name = "TEAM=OWNER", value_parser = team_owner)]
    owner: Vec<(String, String)>,
    /// The root of the repository, from where paths are written
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
}

fn owner(text: &str) -> Result<String, String> {
    if is_code_owner(text) {
        Ok(text.to_owned())
    } else {
        Err("an owner is `@organisation/team`, `@user` or an e-mail address".to_owned())
    }
}

fn team_owner(text: &str) -> Result<(String, String), String> {
    let (team, name) = text.split_once('=').ok_or("write `TEAM=OWNER`, such as `checkout=@shop/checkout`")?;
    Ok((team.to_owned(), owner(name)?))
}

/// Prints the rules, all of them or none.
#[must_use]
pub fn codeowners(arguments: &Arguments) -> u8 {
    let document = match config::load(&arguments.config, INCLUDE) {
        Ok(document) if document.is_whole() => document,
        Ok(document) => return refuse(&document.report(config::Problems::new())),
        Err(report) => return refuse(&report),
    };
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (team, owner) in &arguments.owner {
        given.entry(team.clone()).or_default().push(owner.clone());
    }
    match rules(&owned_files(&document), &arguments.platform, &given, &arguments.root) {
        Ok(text) => printed(&text, EXIT_OK),
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| eprintln!("error: {}", visible_line(mistake)));
            EXIT_FINDINGS
        }
    }
}

fn refuse(report: &config::Report) -> u8 {
    eprint!("{}", report.human());
    let unreadable = report.summary().iter().any(|entry| entry.line == 0);
    if unreadable { EXIT_USAGE } else { EXIT_FINDINGS }
}

/// The rules as text: the last one that matches a path counts.
fn rules(
    files: &[OwnedFile],
    platform: &[String],
    given: &BTreeMap<String, Vec<String>>,
    root: &Path,
) -> Result<String, Vec<String>> {
    let mut mistakes = Vec::new();
    let mut folders: BTreeMap<String, ()> = BTreeMap::new();
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let teams: Vec<&str> = files.iter().filter_map(|file| file.team.as_deref()).collect();
    for team in given.keys().filter(|team| !teams.contains(&team.as_str())) {
        mistakes.push(format!("`--owner {team}=...`: no included file is of this team"));
    }
    for file in files {
        let pattern = match pattern(&file.file, root) {
            Ok(pattern) => pattern,
            Err(why) => {
                mistakes.push(why);
                continue;
            }
        };
        let owners = match file.team.as_deref() {
            // The first one is the main file.
            None if lines.is_empty() => platform.to_vec(),
            None => {
                mistakes.push(format!("`{}` names no `team`", file.file));
                continue;
            }
            Some(team) => {
                let written = file.owners.iter().filter(|owner| is_code_owner(owner)).cloned().collect();
                let owners: Vec<String> = given.get(team).cloned().unwrap_or(written);
                if owners.is_empty() {
                    mistakes.push(format!(
                        "nobody answers for `{}`: give `owners.{team}.codeowners`, or `--owner {team}=@organisation/team`",
                        file.file
                    ));
                }
                if let Some((folder, _)) = pattern.rsplit_once('/') {
                    folders.insert(format!("{folder}/"), ());
                }
                owners
            }
        };
        lines.insert(pattern, owners);
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let mut text = String::from(
        "# By `portcullis codeowners`: the grants, then each team's files. A new file is the platform's until then.\n",
    );
    let of_folders = folders.into_keys().map(|folder| (folder, platform.to_vec()));
    for (pattern, owners) in of_folders.chain(lines) {
        let _ = writeln!(text, "{pattern} {}", owners.join(" "));
    }
    Ok(text)
}

/// The path of a file from the root of the repository, as a rule has it.
fn pattern(file: &str, root: &Path) -> Result<String, String> {
    let absolute = |path: &Path| std::path::absolute(path).map(|path| plain(&path));
    let (Ok(path), Ok(root)) = (absolute(Path::new(file)), absolute(root)) else {
        return Err("the current folder cannot be found".to_owned());
    };
    let inside = path.strip_prefix(&root);
    let inside = inside.map_err(|_| {
        format!("`{file}` lies outside of `{}`; name the repository with `--root`", root.display())
    })?;
    let text = inside.to_str().ok_or_else(|| format!("`{file}` is no UTF-8 text"))?;
    let mut pattern = String::from("/");
    for character in text.chars() {
        if character.is_control() {
            return Err(format!("{file:?} has a character that no rule can have"));
        }
        // The characters that mean something to a code host, or end the pattern.
        if matches!(character, ' ' | '#' | '*' | '?' | '[' | ']' | '!' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    Ok(pattern)
}

/// Without `.` and `..`, by the text alone: links are files of the repository like any other.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, team: Option<&str>, owners: &[&str]) -> OwnedFile {
        OwnedFile {
            file: name.to_owned(),
            team: team.map(str::to_owned),
            owners: owners.iter().map(|&owner| owner.to_owned()).collect(),
        }
    }

    fn written(files: &[OwnedFile], given: &[(&str, &str)]) -> Result<String, Vec<String>> {
        let given =
            given.iter().map(|(team, owner)| ((*team).to_owned(), vec![(*owner).to_owned()])).collect();
        rules(files, &["@org/platform".to_owned()], &given, Path::new("/repo"))
    }

    #[test]
    fn the_folder_is_the_platforms_and_each_file_its_teams() {
        let files = [
            file("/repo/conf/main.yaml", None, &[]),
            file("/repo/conf/routes.d/b.yaml", Some("b"), &["@org/b", "b@org.example"]),
            file("/repo/conf/./routes.d/../routes.d/a b#.yaml", Some("a"), &[]),
        ];
        let text = written(&files, &[("a", "@org/a")]).expect("rules");
        let rules: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            rules,
            [
                "/conf/routes.d/ @org/platform",
                "/conf/main.yaml @org/platform",
                "/conf/routes.d/a\\ b\\#.yaml @org/a",
                "/conf/routes.d/b.yaml @org/b b@org.example",
            ]
        );
        assert!(text.starts_with("# "), "{text}");
    }

    #[test]
    fn all_is_said_and_nothing_written_where_an_owner_is_missing() {
        let files = [
            file("/repo/main.yaml", None, &[]),
            file("/repo/a.yaml", Some("a"), &[]),
            file("/repo/b.yaml", Some("b"), &["no owner"]),
            file("/repo/c.yaml", None, &[]),
            file("/elsewhere/d.yaml", Some("d"), &["@org/d"]),
        ];
        let mistakes = written(&files, &[("x", "@org/x")]).expect_err("mistakes");
        assert_eq!(mistakes.len(), 5, "{mistakes:?}");
        assert!(mistakes.iter().any(|mistake| mistake.contains("outside of `/repo`")), "{mistakes:?}");
    }

    #[test]
    fn what_is_no_owner_is_refused() {
        assert_eq!(team_owner("a=@org/a"), Ok(("a".to_owned(), "@org/a".to_owned())));
        assert!(team_owner("a").is_err() && team_owner("a=org").is_err() && owner("").is_err());
    }
}
