//! What routes do to each other: equal names, equal matches, routes that nothing reaches, teams that take each other's traffic.
//! Every one of these has two places, perhaps in two files.

use std::collections::{BTreeMap, BTreeSet};

use super::owners::{self, Crossing, Owners, TeamRoute};
use super::route::Draft;
use super::router::RouteProblem;
use crate::config::{Problems, Section, codes};
use crate::names::RouteName;

/// Refuses a name that stands twice.
pub(super) fn duplicate_names(names: &[(RouteName, &Section)], problems: &mut Problems) {
    let mut seen: BTreeMap<&RouteName, &Section> = BTreeMap::new();
    for (name, section) in names {
        if let Some(first) = seen.get(name) {
            problems
                .error(
                    codes::DUPLICATE_NAME,
                    section.at("name").path(),
                    format!("two routes are called `{name}`"),
                )
                .related(first.at("name").path(), "the other one")
                .help("metrics, logs and limits are told apart by the name, so each route has its own");
        } else {
            seen.insert(name, section);
        }
    }
}

/// Says what the router found.
pub(super) fn report(problem: &RouteProblem, drafts: &[Draft<'_>], problems: &mut Problems) {
    let place = |index: usize| {
        drafts.get(index).map(|draft| draft.section.get("match").unwrap_or_else(|| draft.section.clone()))
    };
    let name = |index: usize| drafts.get(index).map_or("?", |draft| draft.name.as_str());
    match problem {
        RouteProblem::Conflict { a, b } => {
            if let (Some(first), Some(second)) = (place(*a), place(*b)) {
                problems
                    .error(
                        codes::CONFLICTING_ROUTES,
                        second.path(),
                        format!("`{}` and `{}` match the very same requests", name(*a), name(*b)),
                    )
                    .related(first.path(), "the same match")
                    .help("remove one of them, or tell them apart by host, method, path, header or query");
            }
        }
        RouteProblem::Unreachable { route, by } => {
            if let (Some(lost), Some(winner)) = (place(*route), place(*by)) {
                problems
                    .error(
                        codes::UNREACHABLE_ROUTE,
                        lost.path(),
                        format!("no request reaches `{}`: `{}` takes them all", name(*route), name(*by)),
                    )
                    .related(winner.path(), "matches everything that the other one does")
                    .help("remove one of them, or match a longer or more exact path; the order in the file does not count");
            }
        }
        RouteProblem::BadPath { route, why } | RouteProblem::BadTemplate { route, why } => {
            if let Some(at) = place(*route) {
                let at = at.get("path").unwrap_or(at);
                problems.error(codes::BAD_PATTERN, at.path(), why.to_string());
            }
        }
        RouteProblem::BadRegex { route, why } => {
            if let Some(at) = place(*route) {
                let at = at.get("path").unwrap_or(at);
                // The last line says what; the ones before draw the pattern.
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                problems.error(codes::BAD_PATTERN, at.path(), format!("this is no pattern: {why}"));
            }
        }
    }
}

/// Says which routes take requests from another team's, or lie where another team's are to be.
pub(super) fn warn_of_crossings(drafts: &[Draft<'_>], owners: Option<&Owners>, problems: &mut Problems) {
    let of_teams = drafts.iter().filter_map(|draft| Some((draft, draft.owner.team()?)));
    let (of_teams, routes): (Vec<&Draft<'_>>, Vec<TeamRoute<'_>>) = of_teams
        .map(|(draft, team)| {
            let grant = team.grant.as_deref();
            (draft, TeamRoute { team: &team.name, grant, matched: &draft.matched })
        })
        .unzip();
    let place = |draft: &Draft<'_>| draft.section.get("match").unwrap_or_else(|| draft.section.clone());
    let mut takers = BTreeSet::new();
    for Crossing { taker, loser } in owners::crossings(&routes) {
        takers.insert(taker);
        let (Some(taker), Some(loser)) = (of_teams.get(taker), of_teams.get(loser)) else { continue };
        let message = format!("`{}` takes requests from `{}`", taker.name, loser.name);
        problems
            .warning(codes::CROSSING_TEAMS, place(taker).path(), message)
            .related(place(loser).path(), "gets what no longer or more exact match takes")
            .help("if both teams agree, grant the deeper prefix to the one that takes; the order of files does not count");
    }
    let others = of_teams.iter().zip(&routes).enumerate().filter(|(index, _)| !takers.contains(index));
    for (_, (draft, route)) in others {
        if let Some(owners) = owners
            && let Some((team, prefix)) = owners.deeper(route)
        {
            let message = format!("`{}` lies in the part of `{team}`", draft.name);
            problems
                .warning(codes::CROSSING_TEAMS, place(draft).path(), message)
                .related(prefix.path(), format!("granted to `{team}`"))
                .help("the team whose granted prefix reaches further down owns what lies under it");
        }
    }
}
