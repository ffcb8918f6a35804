//! The four kinds of path pattern, and what each means for a normalised path.

use super::RouteProblem;
use regex::Regex;

/// The path that a route matches, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// This path alone. `/a` is not `/a/`.
    Exact(String),
    /// This path and everything below it, by whole segments: `/api` matches `/api` and `/api/x`, not `/apix`. A slash
    /// at its end means nothing.
    Prefix(String),
    /// Segment by segment; `{name}` stands for one whole segment that is not empty.
    Template(String),
    /// A regular expression over the whole path, as if written between `^` and `$`.
    Regex(String),
}

impl Default for PathPattern {
    fn default() -> Self {
        Self::Prefix(String::from("/"))
    }
}

/// A path pattern that can be asked.
#[derive(Debug)]
pub(super) enum Path {
    Exact(Box<str>),
    Template(Vec<Segment>),
    /// Without slash at its end; `/` is empty.
    Prefix(Box<str>),
    Regex(Regex),
}

/// One segment of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    Parameter(Box<str>),
}

/// The largest compiled regex, in bytes. The crate matches in linear time, so this bounds memory only.
const MAX_REGEX_BYTES: usize = 1 << 20;

impl Path {
    pub(super) fn compile(route: usize, pattern: &PathPattern) -> Result<Self, RouteProblem> {
        let rooted = |text: &str| check_form(text).map_err(|why| RouteProblem::BadPath { route, why });
        match pattern {
            PathPattern::Exact(text) => rooted(text).map(|()| Self::Exact(text.as_str().into())),
            PathPattern::Prefix(text) => {
                rooted(text).map(|()| Self::Prefix(text.trim_end_matches('/').into()))
            }
            PathPattern::Template(text) => {
                rooted(text)?;
                parse_template(text)
                    .map(Self::Template)
                    .map_err(|why| RouteProblem::BadTemplate { route, why })
            }
            PathPattern::Regex(text) => whole(text)
                .map(Self::Regex)
                .map_err(|error| RouteProblem::BadRegex { route, why: error.to_string() }),
        }
    }

    /// The class of the pattern, less is first, and its literal length, more is first.
    pub(super) fn weight(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (0, 0),
            Self::Template(segments) => (1, segments.iter().map(Segment::literal_length).sum()),
            Self::Regex(_) => (2, 0),
            Self::Prefix(text) => (3, text.len()),
        }
    }

    /// The names that the template or the regex captures, with their parts of `path`, which it matches. A group that took no part in
    /// the match has the empty text.
    pub(super) fn params<'r, 'q>(&'r self, path: &'q str) -> Vec<(&'r str, &'q str)> {
        if let Self::Regex(regex) = self {
            let Some(captures) = regex.captures(path) else { return Vec::new() };
            let named = regex.capture_names().flatten();
            return named
                .map(|name| (name, captures.name(name).map_or("", |found| found.as_str())))
                .collect();
        }
        let Self::Template(pattern) = self else { return Vec::new() };
        let named = pattern.iter().zip(segments(path)).filter_map(|(pattern, segment)| match pattern {
            Segment::Parameter(name) => Some((&**name, segment)),
            Segment::Literal(_) => None,
        });
        named.collect()
    }

    /// Equal for two patterns that match the same paths with the same precedence.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::Exact(text) => format!("exact {text}"),
            Self::Prefix(text) => format!("prefix {text}"),
            Self::Regex(regex) => format!("regex {}", regex.as_str()),
            Self::Template(segments) => {
                segments.iter().fold(String::from("template "), |text, segment| match segment {
                    Segment::Literal(literal) => text + "/" + literal,
                    Segment::Parameter(_) => text + "/{}",
                })
            }
        }
    }
}

impl Segment {
    fn literal_length(&self) -> usize {
        match self {
            Self::Literal(text) => text.len(),
            Self::Parameter(_) => 0,
        }
    }
}

/// What [`whole`] puts before an expression.
const OPEN: &str = "^(?:";

/// What [`whole`] puts behind it.
const CLOSE: &str = ")$";

/// The expression as it was written before [`whole`].
pub(super) fn inner(pattern: &str) -> &str {
    pattern.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE)).unwrap_or(pattern)
}

/// A regex that matches whole texts only.
///
/// # Errors
/// As the regex crate's, and its text is for the operator.
pub(super) fn whole(text: &str) -> Result<Regex, regex::Error> {
    // By itself first: `a)|(b` would only be right between the brackets.
    Regex::new(text)?;
    regex::RegexBuilder::new(&format!("{OPEN}{text}{CLOSE}")).size_limit(MAX_REGEX_BYTES).build()
}

/// The segments of a path. `/` has one, which is empty.
pub(super) fn segments(path: &str) -> std::str::Split<'_, char> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// A pattern that no normalised path can equal would silently never match, so it is refused.
fn check_form(text: &str) -> Result<(), &'static str> {
    if !text.starts_with('/') {
        return Err("a path begins with `/`");
    }
    if text.contains("//") {
        return Err("`//` never comes in: it is merged before routes are matched");
    }
    if text.contains(['?', '#']) {
        return Err("a path ends before `?` and `#`; write a query under `query`");
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("`.` and `..` never come in: they are resolved before routes are matched");
    }
    // Braces are the template's own.
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>[]\\^`|".contains(&byte)) {
        return Err("write this character percent-encoded");
    }
    let mut encodings = text.split('%').skip(1).map(|rest| rest.as_bytes().first_chunk::<2>());
    if encodings.any(|digits| digits.is_none_or(|digits| !is_normal_encoding(*digits))) {
        return Err(
            "a percent-encoding has two upper-case hex digits, and letters, digits and `-._~/\\` have none",
        );
    }
    Ok(())
}

/// Whether `%` with these digits stands in normalised paths.
fn is_normal_encoding(digits: [u8; 2]) -> bool {
    let value = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .filter(|_| !digit.is_ascii_lowercase())
            .and_then(|value| u8::try_from(value).ok())
    };
    let [high, low] = digits.map(value);
    high.zip(low).map(|(high, low)| high << 4 | low).is_some_and(|byte| {
        !byte.is_ascii_alphanumeric() && !byte.is_ascii_control() && !b"-._~/\\".contains(&byte)
    })
}

fn parse_template(text: &str) -> Result<Vec<Segment>, &'static str> {
    let mut parsed: Vec<Segment> = Vec::new();
    for segment in segments(text) {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let segment = match name {
            Some(name) if !is_parameter_name(name) => {
                return Err("a parameter is named with letters, digits and `_`, and begins with no digit");
            }
            Some(name) => Segment::Parameter(name.into()),
            None if segment.contains(['{', '}']) => {
                return Err("a parameter stands for a whole segment: `/{name}/`");
            }
            None => Segment::Literal(segment.into()),
        };
        if matches!(segment, Segment::Parameter(_)) && parsed.contains(&segment) {
            return Err("two parameters have the same name");
        }
        parsed.push(segment);
    }
    if parsed.iter().any(|segment| matches!(segment, Segment::Parameter(_))) {
        Ok(parsed)
    } else {
        Err("no parameter: write it as `exact`")
    }
}

fn is_parameter_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_name_whole_segments() {
        for bad in ["/", "/a", "/{}", "/{1a}", "/{a-b}", "/{a}.json", "/x{a}", "/{a", "/{a}/{a}", "/{{a}}"] {
            assert!(parse_template(bad).is_err(), "{bad}");
        }
        let path = Path::Template(parse_template("/users/{id}/posts/{post_2}").expect("right"));
        assert_eq!(path.params("/users/7/posts/a%2Cb"), [("id", "7"), ("post_2", "a%2Cb")]);
        assert_eq!(path.weight(), (1, 10));
    }

    #[test]
    fn a_pattern_that_no_normalised_path_equals_is_refused() {
        for good in ["/", "/a/", "/a%20b%C3%A9", "/a;b=c,d@e:f", "/..a/...", "/%2540"] {
            assert_eq!(check_form(good), Ok(()), "{good}");
        }
        for bad in [
            "", "a", "//", "/a//b", "/a?b", "/a#b", "/a/../b", "/.", "/a b", "/é", "/a|b", "/a%c3%a9",
            "/%41", "/%2F", "/%5C", "/%00", "/%", "/%4", "/%zz", "/%é",
        ] {
            assert!(check_form(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_expression_cannot_leave_its_brackets() {
        assert!(whole("a)|(b").is_err());
        assert!(!whole("a|b").expect("right").is_match("ax"), "both ends hold for every alternative");
    }
}
