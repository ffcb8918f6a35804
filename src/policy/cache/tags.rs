//! `cache.tags`: names by which the stored answers of a route are purged together, with pieces of the path in them.

use std::collections::HashSet;

use super::{Build, PathShape};
use crate::config::{Section, codes};
use crate::exchange::Exchange;

/// A tag as it is written: text, and names of what the path match captures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagTemplate {
    written: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Param(String),
}

impl TagTemplate {
    /// The tag for one exchange. `None` where what the client's path puts into it makes it longer than `MAX_BYTES`: no purge could name
    /// it either.
    #[must_use]
    pub fn tag(&self, exchange: &Exchange) -> Option<Box<str>> {
        self.fill(|name| exchange.param(name).unwrap_or_default())
    }

    fn fill<'v>(&self, value: impl Fn(&str) -> &'v str) -> Option<Box<str>> {
        let mut tag = String::with_capacity(self.written.len());
        for piece in &self.pieces {
            tag.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Param(name) => value(name),
            });
        }
        (tag.len() <= MAX_BYTES).then(|| tag.into_boxed_str())
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

/// Compiles what stands at `tags`. Mistakes are recorded, and the tag is left out.
pub(super) fn compile(written: &[String], cache: &Section, build: &mut Build<'_>) -> Vec<TagTemplate> {
    let section = cache.at("tags");
    if written.len() > MAX_TAGS {
        let message = format!("{} tags, and a route may give {MAX_TAGS}", written.len());
        build.problems.error(codes::BAD_VALUE, section.path(), message);
    }
    let mut seen = HashSet::new();
    let mut tags = Vec::with_capacity(written.len().min(MAX_TAGS));
    for (place, text) in written.iter().enumerate().take(MAX_TAGS) {
        let at = section.item(place);
        if !seen.insert(text) {
            build.no_effect(&at, &format!("the tag `{text}` is there already"));
            continue;
        }
        tags.extend(template(text, &at, build));
    }
    tags
}

fn template(text: &str, at: &Section, build: &mut Build<'_>) -> Option<TagTemplate> {
    let is_fit = |c: char| c.is_ascii_graphic() && c != ',' && c != '"';
    if text.is_empty() || text.len() > MAX_BYTES || !text.chars().all(is_fit) {
        build.problems.error(codes::BAD_VALUE, at.path(), format!("`{text}` is no tag")).help(format!(
            "1 to {MAX_BYTES} visible ASCII characters without space, `,` and `\"`, such as `city:{{city}}`"
        ));
        return None;
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('{') {
        let Some((name, after)) = tail.split_once('}') else {
            build
                .problems
                .error(codes::BAD_VALUE, at.path(), "a `{` without its `}`")
                .help("a part that the match captures is written `{name}`");
            return None;
        };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Param(captured(name, at, build)?.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Some(TagTemplate { written: text.to_owned(), pieces })
}

/// The name, if the path match captures it.
fn captured<'n>(name: &'n str, at: &Section, build: &mut Build<'_>) -> Option<&'n str> {
    let known: &[String] = match &build.path {
        PathShape::Captures(names) => names,
        PathShape::Prefix(_) | PathShape::Whole => &[],
    };
    if known.iter().any(|candidate| candidate == name) {
        return Some(name);
    }
    let help = if known.is_empty() {
        "only `match.path.template`, as `/users/{id}`, and named groups of `match.path.regex` capture"
            .to_owned()
    } else {
        format!("this route's path captures `{}`", known.join("`, `"))
    };
    build.problems.error(codes::BAD_VALUE, at.path(), format!("the match captures no `{name}`")).help(help);
    None
}

/// How many tags a route may give.
pub const MAX_TAGS: usize = 16;
/// How long one is at most, in bytes, as written and as filled.
pub const MAX_BYTES: usize = 128;
