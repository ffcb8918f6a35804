//! An upstream as written.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{MAX_ATTEMPTS, MAX_ENDPOINTS, MAX_WEIGHT};
use crate::config::shape;
use crate::config::units::{Percent, Timespan};
use crate::names::inline_schema;
use crate::upstream::{Retry, Timeouts};

/// A hidden API or your own web app: where it is served, how long it may take, and how we prove who we are. Clients never see its
/// name or address.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("oneOf" = [{ "required": ["url"] }, { "required": ["endpoints"] }]))]
pub(in crate::plan) struct Spec {
    /// Whose it is; every other default hangs on it.
    #[schemars(extend("default" = "api"))]
    pub(super) kind: Option<KindSpec>,
    /// Where it is served. The path is a base: every rewritten path is placed below it, and nothing a client sends leaves it.
    /// Instead of `endpoints`.
    #[schemars(with = "Option<shape::UpstreamUrl>", example = &"https://api.vendor.example/base")]
    pub(super) url: Option<String>,
    /// Several machines that serve the same upstream; all with the same path. Instead of `url`.
    #[schemars(length(min = 1, max = MAX_ENDPOINTS))]
    pub(super) endpoints: Option<Vec<EndpointSpec>>,
    /// How one of several `endpoints` is chosen.
    #[schemars(extend("default" = "roundRobin"))]
    pub(super) balance: Option<BalanceSpec>,
    /// Whether its name may lead to private, loopback or link-local addresses; checked at every connection. Default: `false` for an
    /// `api`, `true` for an `app`.
    #[serde(default)]
    pub(super) allow_private: Option<bool>,
    /// Whether the `credential` may travel over `http://` to an address that is not private.
    #[serde(default)]
    pub(super) allow_cleartext: bool,
    /// How long each step toward the upstream may take.
    #[serde(default)]
    pub(super) timeouts: TimeoutsSpec,
    /// Whether a failed attempt is followed by another. Only requests that may be sent twice are repeated (RFC 9110 §9.2.2); after
    /// `connect-failure` any, for nothing was sent.
    pub(super) retry: Option<RetrySpec>,
    /// How the upstream proves who it is, and we to it. Its certificate is always verified.
    #[serde(default)]
    pub(super) tls: TlsSpec,
    /// Whether to speak HTTP/2 to it where it agrees.
    #[serde(default)]
    pub(super) http2: bool,
    #[serde(rename = "credential")]
    #[schemars(skip)]
    pub(super) _credential: Option<serde_yaml::Value>,
}

#[derive(Deserialize, Clone, Copy, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum KindSpec {
    /// Somebody else's API: hidden, nothing passes unless listed.
    Api,
    /// Your own web app: trusted, it works behind the gate as it works without.
    App,
}

/// One machine of an upstream.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointSpec {
    /// Where this machine is served. The path must be the same for all of them.
    #[schemars(with = "shape::UpstreamUrl", example = &"https://a.partner.example")]
    pub(super) url: String,
    /// Its share of the requests among the weights of all.
    #[schemars(range(min = 1, max = MAX_WEIGHT), extend("default" = 1))]
    pub(super) weight: Option<u32>,
}

#[derive(Deserialize, Clone, Copy, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum BalanceSpec {
    /// In turn, by weight, evenly spread.
    RoundRobin,
    /// The one with the fewest requests under way from this gateway, in proportion to its weight.
    LeastInFlight,
}

/// How long each step toward the upstream may take.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeoutsSpec {
    /// A TCP connection; TCP and TLS together have twice as long.
    #[schemars(extend("default" = Timespan(Timeouts::default().connect)))]
    pub(super) connect: Option<Timespan>,
    /// The whole exchange, from the first attempt to the last byte of the answer, retries included. Then the client gets 504.
    #[schemars(extend("default" = Timespan(Timeouts::default().request)))]
    pub(super) request: Option<Timespan>,
    /// How long an unused connection is kept for the next request. Keep it below what the upstream keeps its own.
    #[schemars(extend("default" = Timespan(Timeouts::default().idle)))]
    pub(super) idle: Option<Timespan>,
}

/// Whether a failed attempt is followed by another.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetrySpec {
    /// How many attempts may follow the first one. `0` turns retries off.
    #[schemars(range(max = MAX_ATTEMPTS), extend("default" = Retry::default().attempts))]
    pub(super) attempts: Option<u32>,
    /// After what an attempt is followed by another: no connection (`connect-failure`), or an answer with one of these statuses. An
    /// exchange that broke off counts as 502.
    #[schemars(with = "Option<Vec<RetryWord>>", extend("default" = ["connect-failure", 502, 503]))]
    pub(super) on: Option<Vec<serde_yaml::Value>>,
    /// How many retries there may be, at most, per hundred requests of the last ten seconds, so that retries never multiply an outage.
    #[schemars(extend("default" = Percent(Retry::default().budget_percent)))]
    pub(super) budget: Option<Percent>,
}

/// What `retry.on` lists: read by hand, because it is words and numbers.
struct RetryWord;

inline_schema!(RetryWord, |_| schemars::json_schema!({ "enum": ["connect-failure", 502, 503, 504] }));

/// How the upstream proves who it is, and we to it. Its certificate is always verified.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("dependencies" = { "clientCert": ["clientKey"], "clientKey": ["clientCert"] }))]
pub(super) struct TlsSpec {
    /// PEM file with the authorities to trust, instead of the system's. Default: the system's.
    #[schemars(with = "Option<shape::File>", example = &"tls/partner-ca.crt")]
    pub(super) ca: Option<PathBuf>,
    /// The name that is asked for and verified. Default: the host of the URL.
    #[schemars(example = &"api.partner.example")]
    pub(super) sni: Option<String>,
    /// PEM file with the certificate chain that we show to the upstream (mutual TLS). Needs `clientKey`. Default: none.
    #[schemars(with = "Option<shape::File>", example = &"tls/gate.crt")]
    pub(super) client_cert: Option<PathBuf>,
    /// PEM file with the private key of `clientCert`. Default: none.
    #[schemars(with = "Option<shape::File>", example = &"tls/gate.key")]
    pub(super) client_key: Option<PathBuf>,
}
