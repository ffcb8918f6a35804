//! `upgrade`: whether a connection may become a WebSocket.
//!
//! An `app` may by default, an `api` may not. Anything else that a client offers in `Upgrade` is dropped on the way, and a 101 that
//! nobody asked for is a fault.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Build, Policy, UpstreamKind};
use crate::config::Section;

#[derive(Deserialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Protocol {
    /// WebSocket (RFC 6455).
    Websocket,
}

#[expect(dead_code, reason = "read as the list that it is")]
/// Which protocols a connection may switch to. Anything else that a client offers is dropped. Default: none for an `api`, `[websocket]`
/// for an `app`.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(super) struct Spec(Vec<Protocol>);

/// Sets whether the route may upgrade.
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    if let Some(section) = section
        && build.upstream.is_none()
    {
        build.no_effect(section, "there is no upstream that could switch to another protocol");
        return None;
    }
    build.settings.websocket = match section {
        Some(section) => section
            .decode::<Vec<Protocol>>(build.problems)
            .is_some_and(|protocols| protocols.contains(&Protocol::Websocket)),
        None => build.upstream.is_some() && build.kind() == UpstreamKind::App,
    };
    None
}
