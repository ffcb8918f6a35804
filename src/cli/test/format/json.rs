//! One JSON object, for programs. Members are only ever added.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Tried, milliseconds};
use crate::cli::test::expect::Failure;
use crate::cli::test::stub::Call;

/// Grows when the meaning of a member changes.
const VERSION: u32 = 1;

pub(super) fn render(tried: &[Tried], took: Duration) -> String {
    let failed = tried.iter().filter(|case| !case.failures.is_empty()).count();
    let cases: Vec<Value> = tried.iter().map(case).collect();
    let all = json!({
        "version": VERSION,
        "cases": cases,
        "passed": tried.len() - failed,
        "failed": failed,
        "milliseconds": number(milliseconds(took)),
    });
    format!("{all:#}\n")
}

fn case(tried: &Tried) -> Value {
    json!({
        "name": tried.name,
        "file": &*tried.at.file,
        "line": tried.at.line,
        "passed": tried.failures.is_empty(),
        "milliseconds": number(milliseconds(tried.took)),
        "failures": tried.failures.iter().map(failure).collect::<Vec<_>>(),
        "upstreamRequests": tried.failures.first().map(|first| first.calls.iter().map(call).collect::<Vec<_>>()).unwrap_or_default(),
    })
}

fn failure(failure: &Failure) -> Value {
    json!({
        "file": &*failure.at.file,
        "line": failure.at.line,
        "column": failure.at.column,
        "what": failure.what,
        "expected": failure.expected,
        "found": failure.found,
        "diff": failure.diff,
        "repetition": failure.turn.map(|(turn, _)| turn),
    })
}

fn call(call: &Call) -> Value {
    json!({
        "upstream": call.upstream,
        "refused": call.request.is_none(),
        "method": call.request.as_ref().map(|got| &got.method),
        "path": call.request.as_ref().map(|got| &got.path),
        "query": call.request.as_ref().and_then(|got| got.query.as_ref()),
        "headers": call.request.as_ref().map(|got| &got.headers),
        "body": call.request.as_ref().map(|got| &got.body),
    })
}

fn number(milliseconds: u128) -> u64 {
    u64::try_from(milliseconds).unwrap_or(u64::MAX)
}
