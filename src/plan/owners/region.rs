//! Which part of all paths a pattern can match, as far as its literal beginning tells.

use regex_syntax::hir::{Hir, HirKind};

use super::super::router::PathPattern;

/// Whether every path that `pattern` matches lies under `prefix`, by whole segments. `prefix` has no slash at its end, so `/` is
/// empty. Of a regular expression only the literal beginning counts: what cannot be told is not under it.
pub(super) fn lies_under(pattern: &PathPattern, prefix: &str) -> bool {
    if prefix.is_empty() {
        return true;
    }
    match pattern {
        PathPattern::Regex(text) => {
            let (beginning, is_whole) = literal_beginning(text);
            let rest = beginning.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && is_whole))
        }
        other => is_under(&root(other), prefix),
    }
}

/// Whether a path is `prefix` or lies below it.
pub(super) fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The whole segments with which every matching path begins, without a slash at the end.
pub(super) fn root(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) | PathPattern::Prefix(path) => path.trim_end_matches('/').to_owned(),
        PathPattern::Template(path) => {
            let literal = path.find('{').and_then(|brace| path.get(..brace)).unwrap_or(path);
            literal.trim_end_matches('/').to_owned()
        }
        PathPattern::Regex(text) => {
            let (beginning, is_whole) = literal_beginning(text);
            let end = if is_whole { beginning.len() } else { beginning.rfind('/').unwrap_or_default() };
            beginning.get(..end).unwrap_or_default().trim_end_matches('/').to_owned()
        }
    }
}

/// The text with which every match begins, and whether it is all of the match. Empty where the expression begins with a choice.
fn literal_beginning(expression: &str) -> (String, bool) {
    let mut bytes = Vec::new();
    // One that cannot be read is reported where the route is.
    let is_whole = regex_syntax::parse(expression).is_ok_and(|parsed| collect(&parsed, &mut bytes));
    match String::from_utf8(bytes) {
        Ok(text) => (text, is_whole),
        Err(_) => (String::new(), false),
    }
}

/// Collects literals from the left; whether nothing but literals was met.
fn collect(part: &Hir, bytes: &mut Vec<u8>) -> bool {
    match part.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => {
            bytes.extend_from_slice(&literal.0);
            true
        }
        HirKind::Capture(capture) => collect(&capture.sub, bytes),
        HirKind::Concat(parts) => parts.iter().all(|part| collect(part, bytes)),
        HirKind::Repetition(repeated) => {
            if repeated.min > 0 {
                collect(&repeated.sub, bytes);
            }
            false
        }
        HirKind::Alternation(choices) => {
            let beginnings = choices.iter().map(|choice| {
                let mut beginning = Vec::new();
                collect(choice, &mut beginning);
                beginning
            });
            bytes.extend(beginnings.reduce(|a, b| common(&a, &b)).unwrap_or_default());
            false
        }
        HirKind::Class(_) => false,
    }
}

/// What both begin with.
fn common(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).take_while(|(a, b)| a == b).map(|(byte, _)| *byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_segments_decide() {
        let exact = |path: &str| PathPattern::Exact(path.into());
        let prefix = |path: &str| PathPattern::Prefix(path.into());
        let template = |path: &str| PathPattern::Template(path.into());
        for (pattern, expected) in [
            (exact("/api/pay"), true),
            (exact("/api/pay/"), true),
            (exact("/api/pay/x"), true),
            (exact("/api/payments"), false),
            (exact("/api"), false),
            (prefix("/api/pay"), true),
            (prefix("/api/pay/"), true),
            (prefix("/api/pay/x"), true),
            (prefix("/api/payments"), false),
            (prefix("/api"), false),
            (prefix("/"), false),
            (template("/api/pay/{id}"), true),
            (template("/api/pay/x/{id}/y"), true),
            (template("/api/{pay}"), false),
            (template("/{a}/pay"), false),
        ] {
            assert_eq!(lies_under(&pattern, "/api/pay"), expected, "{pattern:?}");
            assert!(lies_under(&pattern, ""), "everything lies under `/`: {pattern:?}");
        }
    }

    #[test]
    fn of_a_regular_expression_the_literal_beginning_decides() {
        for (pattern, expected) in [
            ("/api/pay/.*", true),
            ("^/api/pay/[a-z]+$", true),
            ("/api/pay", true),
            ("(/api/pay)/x", true),
            ("(?P<all>/api/pay/.*)", true),
            ("/api/pay/(a|b)", true),
            ("/api/pay/a|/api/pay/b", true),
            ("/api/pay.*", false),
            ("/api/pay(/.*)?", false),
            ("/api/pays?", false),
            ("/api/pay/x|/admin", false),
            ("/api/pa[y]/x", true),
            ("/api/./x", false),
            ("(?i)/api/pay/x", false),
            (".*/api/pay/", false),
            ("(/api/pay/)+x", true),
            ("(/api/pay/)?x", false),
            ("", false),
            ("(", false),
        ] {
            assert_eq!(lies_under(&PathPattern::Regex(pattern.into()), "/api/pay"), expected, "{pattern}");
        }
    }

    #[test]
    fn the_root_is_of_whole_segments() {
        let of = |pattern: PathPattern| root(&pattern);
        assert_eq!(
            of(PathPattern::Template("/a/b{c}".into())),
            "/a/b",
            "a template that is refused elsewhere"
        );
        assert_eq!(of(PathPattern::Template("/a/{b}/c".into())), "/a");
        assert_eq!(of(PathPattern::Prefix("/".into())), "");
        assert_eq!(of(PathPattern::Regex("/a/bc?".into())), "/a");
        assert_eq!(of(PathPattern::Regex("/a/b".into())), "/a/b");
    }

    proptest::proptest! {
        /// What is accepted is inside: no path that the expression matches lies elsewhere.
        #[test]
        fn no_expression_that_is_accepted_leaves_its_prefix(
            expression in "(/api/pay|/api/pay/|/ap)?[a-z./|()?*+\\[\\]^$]{0,10}",
            path in "(/api|/api/pay|/admin)?(/[a-z./]{0,6})?",
        ) {
            let Ok(regex) = regex::Regex::new(&format!("^(?:{expression})$")) else { return Ok(()) };
            if regex::Regex::new(&expression).is_ok()
                && lies_under(&PathPattern::Regex(expression.clone()), "/api/pay")
                && regex.is_match(&path)
            {
                proptest::prop_assert!(is_under(&path, "/api/pay"), "{expression} matches {path}");
            }
        }
    }
}
