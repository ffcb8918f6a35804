//! Where two JSON values differ, for people: one line a difference, `-` what has to be, `+` what is.

use serde_json::Value;

/// How much of what is found has to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Members of objects may be more.
    AtLeast,
}

/// Every difference; none: the values agree.
pub fn lines(expected: &Value, found: &Value, extent: Extent) -> Vec<String> {
    let mut lines = Vec::new();
    compare("$", expected, found, extent, &mut lines);
    if lines.len() > MOST_LINES {
        let more = lines.len() - MOST_LINES;
        lines.truncate(MOST_LINES);
        lines.push(format!("  ... {more} more lines"));
    }
    lines
}

fn compare(path: &str, expected: &Value, found: &Value, extent: Extent, lines: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(wanted), Value::Object(there)) => {
            for (key, value) in wanted {
                let path = member(path, key);
                match there.get(key) {
                    Some(found) => compare(&path, value, found, extent, lines),
                    None => lines.push(format!("- {path}: {value}")),
                }
            }
            for (key, value) in there.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
                if extent == Extent::Whole {
                    lines.push(format!("+ {}: {value}", member(path, key)));
                }
            }
        }
        (Value::Array(wanted), Value::Array(there)) => {
            for index in 0..wanted.len().max(there.len()) {
                let path = format!("{path}[{index}]");
                match (wanted.get(index), there.get(index)) {
                    (Some(value), Some(found)) => compare(&path, value, found, extent, lines),
                    (Some(value), None) => lines.push(format!("- {path}: {value}")),
                    (None, Some(value)) => lines.push(format!("+ {path}: {value}")),
                    (None, None) => {}
                }
            }
        }
        // 1 and 1.0 are one number (RFC 8259 §6).
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => {}
        (one, other) if one == other => {}
        (one, other) => {
            lines.push(format!("- {path}: {one}"));
            lines.push(format!("+ {path}: {other}"));
        }
    }
}

fn member(path: &str, key: &str) -> String {
    let is_plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_plain { format!("{path}.{key}") } else { format!("{path}[{key:?}]") }
}

/// More than anybody reads.
const MOST_LINES: usize = 40;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_difference_is_a_line() {
        let expected = json!({ "a": 1, "b": [1, 2], "c": { "d-e": "x" }, "f": null });
        assert!(
            lines(
                &expected,
                &json!({ "f": null, "c": { "d-e": "x" }, "b": [1.0, 2], "a": 1 }),
                Extent::Whole
            )
            .is_empty()
        );
        let found = json!({ "a": "1", "b": [1], "c": { "d-e": "y", "new": true }, "f": null });
        assert_eq!(
            lines(&expected, &found, Extent::Whole),
            [
                "- $.a: 1",
                "+ $.a: \"1\"",
                "- $.b[1]: 2",
                "- $.c[\"d-e\"]: \"x\"",
                "+ $.c[\"d-e\"]: \"y\"",
                "+ $.c.new: true",
            ]
        );
    }

    #[test]
    fn at_least_allows_more_members_and_no_more_elements() {
        let expected = json!({ "list": [{ "a": 1 }] });
        assert!(
            lines(&expected, &json!({ "list": [{ "a": 1, "b": 2 }], "c": 3 }), Extent::AtLeast).is_empty()
        );
        assert_eq!(
            lines(&expected, &json!({ "list": [{ "a": 1 }, 2] }), Extent::AtLeast),
            ["+ $.list[1]: 2"]
        );
    }
}
