//! `cache.purge`: who may send `PURGE` for a URL of the route. The settings only; the method is answered by `proxy::purge`.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::cache::purge::Mode;
use crate::config::{Section, codes};
use crate::policy::Build;

/// Who may send `PURGE` for a URL of this route, to take out what is stored for it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "PurgeSpec")]
pub(super) struct Spec {
    /// The networks whose clients may, by the client's address as trusted proxies tell it. Required.
    #[schemars(example = ["10.0.0.0/8"])]
    from: Vec<String>,
    /// What becomes of what is stored.
    #[schemars(extend("default" = "soft"))]
    mode: Option<WrittenMode>,
}

#[derive(Deserialize, Clone, Copy, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "PurgeMode")]
enum WrittenMode {
    /// It becomes stale: the upstream is asked about it, and it is still given where `staleWhileRevalidate` or `staleIfError` allow.
    Soft,
    /// It is removed.
    Hard,
}

/// Who may send `PURGE`, and what that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeGrant {
    from: Vec<IpNet>,
    /// What becomes of what is stored.
    pub mode: Mode,
}

impl PurgeGrant {
    /// Whether a client of this address may. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.from.iter().any(|network| network.contains(&client))
    }

    /// The networks, as text.
    #[must_use]
    pub fn networks(&self) -> Vec<String> {
        self.from.iter().map(ToString::to_string).collect()
    }

    /// Who may, for people.
    #[must_use]
    pub fn explain(&self) -> String {
        format!("`PURGE` is taken from `{}`: a {} purge", self.networks().join("`, `"), self.mode.as_str())
    }
}

/// Reads who may. `None` where the text names nobody, which is told.
pub(super) fn compile(section: &Section, written: &Spec, build: &mut Build<'_>) -> Option<PurgeGrant> {
    if written.from.is_empty() {
        let message = "nobody is named, so nobody may";
        build.problems.error(codes::NO_EFFECT, section.at("from").path(), message).help(NETWORKS);
        return None;
    }
    let mut from = Vec::with_capacity(written.from.len());
    for (place, text) in written.from.iter().enumerate() {
        match text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)) {
            Some(network) => from.push(network),
            None => {
                let at = section.at("from").item(place);
                let message = format!("`{text}` is no network");
                build.problems.error(codes::BAD_ADDRESS, at.path(), message).help(NETWORKS);
            }
        }
    }
    let mode = match written.mode {
        Some(WrittenMode::Hard) => Mode::Hard,
        Some(WrittenMode::Soft) | None => Mode::Soft,
    };
    Some(PurgeGrant { from, mode })
}

const NETWORKS: &str = "such as `10.0.0.0/8`, `fd00::/8`, or one address";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_granted_by_its_network_whatever_form_it_has() {
        let from = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).to_vec();
        let grant = PurgeGrant { from, mode: Mode::Soft };
        for (address, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("fd00::1", true),
            ("11.0.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(grant.allows(address.parse().unwrap()), expected, "{address}");
        }
    }
}
