//! Shaping, by example and against a pruned tree.

use super::path::{Step, parse};
use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value};

fn shaped(keep: &[&str], remove: &[&str], body: &str) -> String {
    let shape = Shape::compile(keep, remove).expect("paths are right");
    let mut out = Vec::new();
    shape.shape(body.as_bytes(), &mut out).expect(body);
    String::from_utf8(out).expect("UTF-8 in, UTF-8 out")
}

fn refused(body: &[u8]) -> ShapeError {
    let mut out = b"before".to_vec();
    let shape = Shape::compile(&[], &["$.a"]).expect("paths are right");
    let error = shape.shape(body, &mut out).expect_err("refused");
    assert_eq!(out, b"before", "nothing of a refused body is left");
    error
}

#[test]
fn removed_members_leave_right_commas() {
    let body = r#"{"a":1,"b":2,"c":3}"#;
    assert_eq!(shaped(&[], &["$.a"], body), r#"{"b":2,"c":3}"#);
    assert_eq!(shaped(&[], &["$.b"], body), r#"{"a":1,"c":3}"#);
    assert_eq!(shaped(&[], &["$.c"], body), r#"{"a":1,"b":2}"#);
    assert_eq!(shaped(&[], &["$.a", "$.b", "$.c"], body), "{}");
    assert_eq!(shaped(&[], &["$.*"], body), "{}");
    assert_eq!(shaped(&[], &["$.x"], body), body);
}

#[test]
fn paths_reach_into_arrays() {
    let body = r#"{"s":[{"o":1,"k":2},{"o":3},4]}"#;
    assert_eq!(shaped(&[], &["$.s[*].o"], body), r#"{"s":[{"k":2},{},4]}"#);
    assert_eq!(shaped(&[], &["$.s[1]"], body), r#"{"s":[{"o":1,"k":2},4]}"#);
    assert_eq!(shaped(&[], &["$.s[0]", "$.s[1]"], body), r#"{"s":[4]}"#, "positions as they came");
    assert_eq!(shaped(&["$.s[1].o"], &[], body), r#"{"s":[{"o":3}]}"#);
    assert_eq!(shaped(&[], &["$.s.o", "$[0]"], body), body, "a name is no index");
}

#[test]
fn only_what_is_kept_stays_and_remove_wins() {
    let body = r#"{"a":{"x":1,"y":[1]},"b":2,"c":[{"x":5}]}"#;
    assert_eq!(shaped(&["$.a.x", "$.b"], &[], body), r#"{"a":{"x":1},"b":2}"#);
    assert_eq!(shaped(&["$.a"], &["$.a.x"], body), r#"{"a":{"y":[1]}}"#);
    assert_eq!(shaped(&["$.a.x"], &["$.a"], body), "{}");
    assert_eq!(shaped(&["$.*.x"], &["$.b"], body), r#"{"a":{"x":1},"c":[]}"#, "a container on the way stays");
    assert_eq!(shaped(&["$.b.x"], &[], body), "{}", "a scalar on the way goes");
    assert_eq!(shaped(&["$"], &["$.c"], body), r#"{"a":{"x":1,"y":[1]},"b":2}"#);
    assert_eq!(shaped(&["$.a", "$.a.x"], &[], body), r#"{"a":{"x":1,"y":[1]}}"#, "the wider one counts");
}

#[test]
fn the_root_may_be_anything() {
    assert_eq!(shaped(&[], &["$.a"], " 12.50 "), "12.50");
    assert_eq!(shaped(&[], &["$.a"], "\"a\""), "\"a\"");
    assert_eq!(shaped(&[], &["$[0]"], "[1,2]"), "[2]");
    assert_eq!(shaped(&["$.a"], &[], "\"secret\""), "null", "a root that was not kept");
    assert_eq!(shaped(&["$.a"], &[], "[\"secret\"]"), "[]");
}

#[test]
fn what_stays_is_byte_for_byte() {
    let body = r#"{"n":1.0E+02,"big":123456789012345678901234567890,"s":"\u00e9\/é","a":1,"w":[ 1 , 2 ]}"#;
    let without = body.replace(r#""a":1,"#, "");
    assert_eq!(shaped(&[], &["$.a"], body), without);
}

#[test]
fn every_spelling_and_every_copy_of_a_name_is_meant() {
    assert_eq!(shaped(&[], &["$.id"], r#"{"id":1,"\u0069d":2,"i\u0064":3,"ID":4,"id":5}"#), r#"{"ID":4}"#);
    assert_eq!(shaped(&["$.id"], &[], r#"{"id":1,"x":0,"\u0069d":2}"#), r#"{"id":1,"\u0069d":2}"#);
    assert_eq!(shaped(&[], &[r"$['a\'b']"], r#"{"a'b":1,"a\u0027b":2}"#), "{}");
}

#[test]
fn what_is_not_json_is_refused_also_where_it_is_removed() {
    assert_eq!(refused(b""), ShapeError::NotJson { at: 0 });
    assert_eq!(refused(b"{\"b\":1,}"), ShapeError::NotJson { at: 7 });
    assert_eq!(refused(b"{\"a\":[1,],\"b\":1}"), ShapeError::NotJson { at: 8 });
    assert_eq!(refused(b"{\"b\":1} x"), ShapeError::NotJson { at: 8 });
    assert_eq!(refused(b"{\"b\":1"), ShapeError::NotJson { at: 6 });
    assert_eq!(refused(b"\xef\xbb\xbf{}"), ShapeError::NotJson { at: 0 }, "a byte order mark");
    assert_eq!(refused(b"{\"b\":\"\xff\"}"), ShapeError::InvalidUtf8);
}

#[test]
fn depth_is_bounded_walked_or_skipped() {
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
    for (open, close) in [("[", "]"), ("{\"b\":", "}"), ("{\"a\":", "}")] {
        let shape = Shape::compile(&[], &["$.a"]).expect("paths are right");
        let mut out = Vec::new();
        assert_eq!(shape.shape(nested(open, close, MAX_DEPTH).as_bytes(), &mut out), Ok(()), "{open}");
        assert_eq!(refused(nested(open, close, MAX_DEPTH + 1).as_bytes()), ShapeError::TooDeep, "{open}");
    }
    assert_eq!(refused("[".repeat(100_000).as_bytes()), ShapeError::TooDeep);
}

#[test]
fn bad_paths_are_refused() {
    assert_eq!(Shape::compile(&["$..a"], &[]).expect_err("no descendants").at, 1);
    assert_eq!(Shape::compile(&[], &["$.a", "$"]).expect_err("removes all").which, "$");
}

/// Whether `path` leads exactly to `place`.
fn leads_to(path: &[Step], place: &[Step]) -> bool {
    path.len() == place.len() && path.iter().zip(place).all(|(a, b)| a == b || *a == Step::Wildcard)
}

/// The reference: decides for every place by itself, over a tree.
fn prune(value: &Value, place: &mut Vec<Step>, keep: &[Vec<Step>], remove: &[Vec<Step>]) -> Option<Value> {
    if remove.iter().any(|path| leads_to(path, place)) {
        return None;
    }
    let is_kept = keep.is_empty()
        || keep.iter().any(|path| place.get(..path.len()).is_some_and(|above| leads_to(path, above)));
    let holds = keep.iter().any(|path| path.get(..place.len()).is_some_and(|above| leads_to(above, place)));
    let mut below = |step, child: &Value| {
        place.push(step);
        let pruned = prune(child, place, keep, remove);
        place.pop();
        pruned
    };
    match value {
        _ if !is_kept && !holds => None,
        Value::Array(items) => Some(Value::Array(
            items.iter().enumerate().filter_map(|(i, item)| below(Step::Index(i as u64), item)).collect(),
        )),
        Value::Object(members) => Some(Value::Object(
            members
                .iter()
                .filter_map(|(name, item)| Some((name.clone(), below(Step::Name(name.clone()), item)?)))
                .collect::<Map<_, _>>(),
        )),
        scalar => is_kept.then(|| scalar.clone()),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    scalar.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[abc]|\"|\n", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_paths() -> impl Strategy<Value = Vec<String>> {
    let step = prop::sample::select(vec![".a", ".b", "['c']", "[\"\\n\"]", ".*", "[*]", "[0]", "[1]"]);
    prop::collection::vec(
        prop::collection::vec(step, 1..4).prop_map(|steps| format!("${}", steps.concat())),
        0..4,
    )
}

proptest! {
    #[test]
    fn equals_pruning_a_tree(value in any_value(), keep in any_paths(), remove in any_paths(), pretty: bool) {
        let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let keep: Vec<&str> = keep.iter().map(String::as_str).collect();
        let remove: Vec<&str> = remove.iter().map(String::as_str).collect();
        let out = shaped(&keep, &remove, &body.expect("a value can be written"));
        let steps = |paths: &[&str]| -> Vec<Vec<Step>> { paths.iter().map(|path| parse(path).expect("right")).collect() };
        let expected = prune(&value, &mut Vec::new(), &steps(&keep), &steps(&remove)).unwrap_or(Value::Null);
        prop_assert_eq!(serde_json::from_str::<Value>(&out).expect("shaped JSON is JSON"), expected, "{}", out);
    }

    #[test]
    fn agrees_with_serde_json_on_what_json_is(body in "[\\[\\]{}:,\"a01.eE+\\-\\\\un \\ttrfalsé]{0,24}") {
        let shape = Shape::compile(&[], &["$.a"]).expect("paths are right");
        let mut out = Vec::new();
        let ours = shape.shape(body.as_bytes(), &mut out).is_ok();
        // `IgnoredAny` reads the grammar alone: no number is too large for it.
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok();
        prop_assert_eq!(ours, theirs, "{:?}", body);
    }
}
