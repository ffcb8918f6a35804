//! `include`: the files of the teams, each with `team` and `routes`.
//!
//! What is shared, from listeners to secrets, stands in the main file and belongs to those who run the gateway; a team's file
//! has nothing but routes. Their names begin with the team's.

use std::sync::Arc;

use super::INCLUDE;
use super::owners::{self, Grant, Owners};
use super::schema::TeamFileSpec;
use crate::config::{Document, Problems, Section, codes, keys_of};
use crate::names::TeamName;

/// The routes of one file.
pub(super) struct RouteFile {
    /// Whose they are.
    pub(super) owner: Owner,
    /// Each route as written.
    pub(super) routes: Vec<Section>,
}

/// Whose the routes of a file are.
pub(super) enum Owner {
    /// Those who run the gateway: the main file.
    Platform,
    /// A team.
    Team(Team),
    /// A team's file that does not say whose it is: a mistake, recorded.
    Unknown,
}

/// A team whose file it is.
pub(super) struct Team {
    /// Its name.
    pub(super) name: TeamName,
    /// What it may do. `None` where there are no `owners`, or where they do not name it: a mistake, recorded.
    pub(super) grant: Option<Arc<Grant>>,
}

impl Owner {
    /// The team, if it is one.
    pub(super) fn team(&self) -> Option<&Team> {
        match self {
            Self::Team(team) => Some(team),
            Self::Platform | Self::Unknown => None,
        }
    }

    /// What the routes are held against.
    pub(super) fn grant(&self) -> Option<&Grant> {
        self.team()?.grant.as_deref()
    }
}

/// The key with a team's name.
pub(super) const TEAM: &str = "team";
/// The key with the routes.
pub(super) const ROUTES: &str = "routes";

/// All files with routes, the main one first. `main_keys` are the keys of the main file.
pub(super) fn read(
    document: &Document,
    owners: Option<&Owners>,
    main_keys: &[&str],
    problems: &mut Problems,
) -> Vec<RouteFile> {
    let root = document.root();
    let included = document.included();
    let mut files = Vec::with_capacity(included.len() + 1);
    // Routes may all be the teams', also in files that could not be read.
    let includes = root.get(INCLUDE);
    let main = if includes.is_none() { root.require(ROUTES, problems) } else { root.get(ROUTES) };
    if let Some(section) = &main {
        files.push(RouteFile { owner: Owner::Platform, routes: section.items(problems) });
    }
    for file in included {
        files.push(team_file(&file, document.file_name(), owners, main_keys, problems));
    }
    if owners.is_none() && document.file_names().nth(1).is_some() {
        owners::warn_of_none(&root, problems);
    }
    if document.is_whole() && files.iter().all(|file| file.routes.is_empty()) {
        let nothing = "so every request would be a 404";
        match (main.filter(|list| list.value().is_sequence()), includes) {
            (_, Some(list)) => {
                let message = format!("neither here nor in an included file is a route, {nothing}");
                problems.error(codes::BAD_VALUE, list.path(), message).on_key();
            }
            (Some(list), None) => {
                problems.error(codes::MISSING_KEY, list.path(), format!("no route, {nothing}"));
            }
            (None, None) => {}
        }
    }
    files
}

fn team_file(
    file: &Section,
    main_name: &str,
    owners: Option<&Owners>,
    main_keys: &[&str],
    problems: &mut Problems,
) -> RouteFile {
    let elsewhere: Vec<&str> = main_keys.iter().copied().filter(|key| *key != ROUTES).collect();
    file.check_keys_but(keys_of::<TeamFileSpec>(), &[], &elsewhere, problems);
    for key in elsewhere {
        let Some(at) = file.get(key) else { continue };
        let problem = if key == INCLUDE {
            problems
                .error(codes::NOT_FOR_TEAMS, at.path(), "a file that is included includes no others")
                .help(format!("name all files in `{main_name}`"))
        } else if key == "version" {
            problems
                .error(codes::NOT_FOR_TEAMS, at.path(), "the version stands in the main file only")
                .help(format!("remove it here; it stands in `{main_name}`"))
        } else {
            problems
                .error(codes::NOT_FOR_TEAMS, at.path(), format!("`{key}` cannot stand in a team's file"))
                .help(format!("ask the platform team: it belongs into `{main_name}`"))
        };
        problem.on_key();
    }
    if !file.value().is_mapping() {
        return RouteFile { owner: Owner::Unknown, routes: Vec::new() };
    }
    let routes = file.require(ROUTES, problems).map(|routes| routes.items(problems)).unwrap_or_default();
    RouteFile { owner: owner(file, owners, problems), routes }
}

fn owner(file: &Section, owners: Option<&Owners>, problems: &mut Problems) -> Owner {
    let help =
        "an included file says whose routes it holds, such as `team: checkout`; their names begin with it";
    let Some(at) = file.require_or(TEAM, Some(help), problems) else { return Owner::Unknown };
    let Some(text) = at.decode::<String>(problems) else { return Owner::Unknown };
    match TeamName::parse(&text) {
        Ok(name) => {
            let grant = owners.and_then(|owners| owners.grant(&name, &at, problems));
            Owner::Team(Team { name, grant })
        }
        Err(why) => {
            problems.error(codes::BAD_NAME, at.path(), format!("`{text}` is no name: {why}"));
            Owner::Unknown
        }
    }
}
