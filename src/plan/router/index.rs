//! The paths of one host: a hash map of exact ones, one tree of segments each for templates and prefixes, and a list
//! of expressions. It holds ranks and asks its caller whether the route of a rank fits otherwise.

use super::Candidate;
use super::path::{Path, Segment, segments};
use regex::Regex;
use std::collections::HashMap;

/// Every list of ranks is in ascending order, because routes are entered in that order.
#[derive(Debug, Default)]
pub(super) struct HostIndex {
    exact: HashMap<Box<str>, Vec<usize>>,
    templates: Node,
    prefixes: Node,
    regexes: Vec<(Regex, usize)>,
}

/// A place in a tree of segments. A path visits each node at most once, so a search is bounded by the configuration.
#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Node>,
    parameter: Option<Box<Node>>,
    ranks: Vec<usize>,
}

impl HostIndex {
    pub(super) fn insert(&mut self, path: &Path, rank: usize) {
        match path {
            Path::Exact(text) => self.exact.entry(text.clone()).or_default().push(rank),
            Path::Template(pattern) => {
                let node = pattern.iter().fold(&mut self.templates, |node, segment| match segment {
                    Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                    Segment::Parameter(_) => node.parameter.get_or_insert_default(),
                });
                node.ranks.push(rank);
            }
            Path::Prefix(text) => {
                let below = text.split('/').skip(1);
                let node = below.fold(&mut self.prefixes, |node, segment| {
                    node.literals.entry(segment.into()).or_default()
                });
                node.ranks.push(rank);
            }
            Path::Regex(regex) => self.regexes.push((regex.clone(), rank)),
        }
    }

    /// The winner among the routes on `path` that fit.
    pub(super) fn find(&self, path: &str, fits: &impl Fn(usize) -> Option<Candidate>) -> Option<Candidate> {
        let exact = self.exact.get(path).and_then(|ranks| first(ranks.iter().filter_map(|rank| fits(*rank))));
        // The classes come in order of precedence, so whatever is found first is better than all that follows.
        exact
            .or_else(|| {
                let mut best = None;
                self.templates.each_template(Some(rest_of(path)), &mut |ranks| {
                    best = better(best, first(ranks.iter().filter_map(|rank| fits(*rank))));
                });
                best
            })
            .or_else(|| {
                // The cheap conditions first.
                let matching = |(regex, rank): &(Regex, usize)| fits(*rank).filter(|_| regex.is_match(path));
                first(self.regexes.iter().filter_map(matching))
            })
            .or_else(|| self.prefixes.longest_prefix(Some(rest_of(path)), fits))
    }

    /// Every route on `path`, in no order.
    pub(super) fn each_on(&self, path: &str, visit: &mut impl FnMut(usize)) {
        let mut visit_all = |ranks: &[usize]| ranks.iter().for_each(|rank| visit(*rank));
        if let Some(ranks) = self.exact.get(path) {
            visit_all(ranks);
        }
        self.templates.each_template(Some(rest_of(path)), &mut visit_all);
        let mut node = Some(&self.prefixes);
        let mut below = segments(path);
        while let Some(here) = node {
            visit_all(&here.ranks);
            node = below.next().and_then(|segment| here.literals.get(segment));
        }
        let matching = self.regexes.iter().filter(|(regex, _)| regex.is_match(path));
        matching.for_each(|(_, rank)| visit(*rank));
    }
}

impl Node {
    /// Visits the ranks of every template that matches. `rest` is `None` once the path is used up.
    fn each_template(&self, rest: Option<&str>, visit: &mut impl FnMut(&[usize])) {
        let Some(rest) = rest else { return visit(&self.ranks) };
        let (segment, below) = split_segment(rest);
        if let Some(node) = self.literals.get(segment) {
            node.each_template(below, visit);
        }
        if let Some(node) = self.parameter.as_ref().filter(|_| !segment.is_empty()) {
            node.each_template(below, visit);
        }
    }

    /// The winner at the deepest node on the way that has one. Recursion is as deep as the longest prefix written.
    fn longest_prefix(
        &self,
        rest: Option<&str>,
        fits: &impl Fn(usize) -> Option<Candidate>,
    ) -> Option<Candidate> {
        let deeper = rest.map(split_segment).and_then(|(segment, below)| {
            self.literals.get(segment).and_then(|node| node.longest_prefix(below, fits))
        });
        deeper.or_else(|| first(self.ranks.iter().filter_map(|rank| fits(*rank))))
    }
}

/// The winner among candidates of ascending rank.
fn first(candidates: impl Iterator<Item = Candidate>) -> Option<Candidate> {
    let mut best: Option<Candidate> = None;
    for candidate in candidates {
        best = better(best, Some(candidate));
        // Only a `GET` route taken for `HEAD` can lose to a later rank, and only within its tier.
        if best.is_some_and(|(tier, is_head_as_get, _)| !is_head_as_get || tier < candidate.0) {
            break;
        }
    }
    best
}

fn better(a: Option<Candidate>, b: Option<Candidate>) -> Option<Candidate> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn rest_of(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

fn split_segment(rest: &str) -> (&str, Option<&str>) {
    rest.split_once('/').map_or((rest, None), |(segment, below)| (segment, Some(below)))
}
