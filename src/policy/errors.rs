//! `response.errors`: whether the upstream's own error bodies reach the client.
//!
//! For an `api` they do not: an error body names hosts, stacks and versions. For an `app` they do. A vendor's 401, 407 and 429
//! are about us, not about the client, and never pass from an `api`.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Build, Policy, Told, UpstreamKind, told};
use crate::config::{Section, codes};

/// Which error answers of the upstream pass as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Errors {
    /// None: the status stays, the body is ours.
    #[default]
    Mask,
    /// All.
    Pass,
    /// Those with these statuses.
    PassOnly(Vec<u16>),
}

impl Errors {
    /// Whether an answer of this status is masked.
    #[must_use]
    pub fn masks(&self, status: u16) -> bool {
        status >= 400
            && match self {
                Self::Mask => true,
                Self::Pass => false,
                Self::PassOnly(list) => !list.contains(&status),
            }
    }
}

impl Errors {
    /// What passes, for people.
    #[must_use]
    pub fn explain(&self) -> Told {
        let (words, data) = match self {
            Self::Mask => (
                "the upstream's own 4xx and 5xx bodies are replaced by ours; the status stays".to_owned(),
                serde_json::json!("mask"),
            ),
            Self::Pass => {
                ("the upstream's error bodies pass as they are".to_owned(), serde_json::json!("pass"))
            }
            Self::PassOnly(list) => {
                let listed: Vec<String> = list.iter().map(u16::to_string).collect();
                (
                    format!(
                        "the upstream's error bodies pass with the status {}, others are replaced by ours",
                        told::listed(&listed)
                    ),
                    serde_json::json!({ "pass": list }),
                )
            }
        };
        Told::new([words], data)
    }
}

#[expect(dead_code, reason = "read by hand, so that each of the two has its own message")]
/// Whether the upstream's own error bodies (status 400 and above) reach the client. The status always does, but an `api`'s 401, 407 and
/// 429, which are about us. Default: `mask` for an `api`, `pass` for an `app`.
#[derive(JsonSchema)]
#[serde(untagged)]
pub(super) enum Spec {
    Word(Word),
    List(List),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum Word {
    /// Every error body is ours: a problem document with a stable code (RFC 9457).
    Mask,
    /// Every error body is the upstream's.
    Pass,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// The statuses whose bodies pass, cleaned and shaped as any other; the rest is masked.
    #[schemars(inner(range(min = 400, max = 599)), example = [400, 422])]
    pass: Vec<u16>,
}

/// Sets what passes.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    build.settings.errors = match build.kind() {
        UpstreamKind::Api => Errors::Mask,
        UpstreamKind::App => Errors::Pass,
    };
    let section = section?;
    if build.upstream.is_none() {
        build.no_effect(section, "there is no upstream whose errors could pass");
        return None;
    }
    if section.value().is_mapping() {
        let list = section.decode::<List>(build.problems)?;
        let at = |place| section.at("pass").item(place);
        for (place, status) in list.pass.iter().enumerate() {
            if !(400..600).contains(status) {
                build
                    .problems
                    .error(codes::BAD_VALUE, at(place).path(), format!("`{status}` is no error status"))
                    .help("an error is 400 to 599; all other answers pass anyway");
            }
        }
        let about_us = |status: &u16| matches!(status, 401 | 407 | 429);
        if build.kind() == UpstreamKind::Api
            && let Some((place, status)) = list.pass.iter().enumerate().find(|(_, status)| about_us(status))
        {
            build
                .problems
                .error(
                    codes::NO_EFFECT,
                    at(place).path(),
                    format!("`{status}` from an `api` is about our credential or quota and never passes"),
                )
                .help("remove it; the client gets 502 or 503 instead");
        }
        build.settings.errors = Errors::PassOnly(list.pass);
    } else {
        build.settings.errors = match section.decode::<Word>(build.problems)? {
            Word::Mask => Errors::Mask,
            Word::Pass => Errors::Pass,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_are_masked_and_only_where_not_listed() {
        assert!(Errors::Mask.masks(500) && !Errors::Mask.masks(304) && !Errors::Pass.masks(500));
        let some = Errors::PassOnly(vec![422]);
        assert!(some.masks(400) && !some.masks(422));
    }
}
