//! `request.body`: how large a request body may be.
//!
//! The journey enforces it (`proxy/body.rs`): a declared length over the limit is 413 before the upstream hears of it, a body of
//! unknown length is read ahead, and one that grows past the limit later aborts the exchange.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Build, Policy, Told, UpstreamKind};
use crate::config::Section;
use crate::config::units::ByteSize;

/// Default for an `api`: its requests are calls, not uploads.
pub const API_MAX_BYTES: u64 = 1 << 20;
/// Default for an `app`.
pub const APP_MAX_BYTES: u64 = 16 << 20;

/// How large a request body may be.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    /// The largest request body. A longer one is answered with 413. Default: `1MiB` for an `api`, `16MiB` for an `app`.
    #[schemars(example = &"1MiB")]
    max: ByteSize,
}

/// What the limit is, for people.
#[must_use]
pub fn explain(max_bytes: u64) -> Told {
    let words =
        format!("a request body may be as large as {}; a larger one is answered 413", ByteSize(max_bytes));
    Told::new([words], serde_json::json!({ "maxBytes": max_bytes }))
}

/// Sets the limit of the route.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let default = match build.kind() {
        UpstreamKind::Api => API_MAX_BYTES,
        UpstreamKind::App => APP_MAX_BYTES,
    };
    build.settings.body_max_bytes =
        section.and_then(|s| s.decode::<Spec>(build.problems)).map_or(default, |spec| spec.max.0);
    None
}
