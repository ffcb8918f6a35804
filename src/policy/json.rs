//! `response.json`: which parts of a JSON answer the client gets.
//!
//! The body is held, shaped, and only then stored and sent; what cannot be shaped is 502, never the original. The tokens are
//! `body::json`'s work.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Build, Policy, Told, told};
use crate::body::json::Shape;
use crate::config::units::ByteSize;
use crate::config::{Section, codes, shape};

/// The largest body that is shaped, where `max` is not written: it is held in memory, twice for a moment.
pub const DEFAULT_MAX_BYTES: u64 = 2 << 20;

/// Which parts of a JSON answer the client gets. The answer is held back, shaped, and only then stored and sent; one that cannot be
/// shaped is 502, never the original. Needs `keep` or `remove`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Spec {
    /// Only what these paths lead to stays, with all below it; everything else is dropped. Default: everything stays.
    #[serde(default)]
    #[schemars(with = "Vec<shape::JsonPath>", example = ["$.name", "$.city"])]
    keep: Vec<String>,
    /// What these paths lead to is dropped, with all below it; wins over `keep`. Default: nothing.
    #[serde(default)]
    #[schemars(with = "Vec<shape::JsonPath>", example = ["$.internal_id", "$.stations[*].owner_email"])]
    remove: Vec<String>,
    /// The largest answer that is shaped: it is held in memory. A longer one is 502.
    #[schemars(extend("default" = ByteSize(DEFAULT_MAX_BYTES)))]
    max: Option<ByteSize>,
}

/// A compiled shape with the bound of what it takes.
#[derive(Debug)]
pub struct JsonShaping {
    /// What stays.
    pub shape: Shape,
    /// The largest body that is held for it.
    pub max_bytes: usize,
    /// The paths of `keep`, as written.
    pub keep: Vec<String>,
    /// Those of `remove`.
    pub remove: Vec<String>,
}

impl JsonShaping {
    /// What reaches the client, for people.
    #[must_use]
    pub fn explain(&self) -> Told {
        let mut words = Vec::with_capacity(3);
        if !self.keep.is_empty() {
            words.push(format!("keeps of a JSON answer only {}", told::listed(&self.keep)));
        }
        if !self.remove.is_empty() {
            words.push(format!("removes {} from a JSON answer", told::listed(&self.remove)));
        }
        let max = ByteSize(self.max_bytes as u64);
        words.push(format!("an answer that is no JSON, or larger than {max}, is answered 502"));
        let data =
            serde_json::json!({ "keep": self.keep, "remove": self.remove, "maxBytes": self.max_bytes });
        Told::new(words, data)
    }
}

const PLANNED: [&str; 4] = ["rename", "mask\n`remove` takes the whole member away", "schema", "envelope"];

/// Compiles `keep` and `remove`.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let section = section?;
    section.check_keys::<Spec>(&PLANNED, build.problems);
    let spec = section.decode::<Spec>(build.problems)?;
    if build.upstream.is_none() {
        build.problems.error(
            codes::NO_EFFECT,
            section.path(),
            "there is no upstream whose answer could be shaped on this route",
        );
        return None;
    }
    if spec.keep.is_empty() && spec.remove.is_empty() {
        build
            .problems
            .error(
                codes::NO_EFFECT,
                section.path(),
                "`response.json` without `keep` or `remove` does nothing",
            )
            .help("name what to keep or what to remove, such as `remove: [\"$.internal_id\"]`");
        return None;
    }
    let keep: Vec<&str> = spec.keep.iter().map(String::as_str).collect();
    let remove: Vec<&str> = spec.remove.iter().map(String::as_str).collect();
    // Each by itself first: a mistake in one must not hide one in another.
    for (list, paths) in [("keep", &keep), ("remove", &remove)] {
        for (place, path) in paths.iter().enumerate() {
            if let Err(problem) = Shape::compile(&[path], &[]) {
                let at = section.at(list).item(place);
                build.problems.error(codes::BAD_PATTERN, at.path(), problem.to_string()).help(
                    "paths look like `$.station.owner_email`, `$.items[*].id`, `$['odd name']`, `$.list[0]`",
                );
            }
        }
    }
    // What fails here was said above, at the path at fault.
    if let Ok(shape) = Shape::compile(&keep, &remove) {
        let max_bytes = spec.max.map_or(DEFAULT_MAX_BYTES, |max| max.0);
        build.settings.json = Some(JsonShaping {
            shape,
            max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
            keep: spec.keep,
            remove: spec.remove,
        });
    }
    None
}
