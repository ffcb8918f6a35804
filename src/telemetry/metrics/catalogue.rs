//! Every metric of the gateway, in one table: name, type, labels, help, buckets.
//!
//! The scrape, `docs/metrics.md` ([`markdown`]) and the checks of dashboards and rules follow from it. Adding a metric is one
//! entry here and the place that moves it; a test compares the table with a live scrape.
//!
//! Units are base units and stand in the name; a counter ends in `_total`. A label is a configured name or a closed enum.

use std::fmt::Write as _;

use super::histogram::{Buckets, OVERHEAD, REQUEST};
use super::labels::{self, Label};

/// What a family counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; starts at 0 with the process or with its name.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Durations in buckets, with sum and count.
    Histogram(&'static Buckets),
}

/// Who brings the samples of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The handles of this room.
    Handles,
    /// A function that `server/` registers, because the numbers live in a room that must not know of metrics.
    Registered,
    /// The registry's own collector for the process.
    Process,
}

/// Where the values of a label come from.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    /// The configuration, or the build; says what.
    Named(&'static str),
    /// A closed enum.
    Closed(fn() -> Vec<&'static str>),
}

/// One label of a family.
#[derive(Debug, Clone, Copy)]
pub struct LabelKey {
    /// Its name.
    pub name: &'static str,
    /// Where its values come from.
    pub values: Values,
}

/// One family: all series of one name.
#[derive(Debug)]
pub struct Family {
    /// The name, with prefix, unit and `_total`.
    pub name: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// Who brings the samples.
    pub owner: Owner,
    /// The labels, in the order in which values are given.
    pub labels: &'static [LabelKey],
    /// One sentence for people.
    pub help: &'static str,
}

const fn named(name: &'static str, what: &'static str) -> LabelKey {
    LabelKey { name, values: Values::Named(what) }
}

const fn closed<E: Label + LabelText>(name: &'static str) -> LabelKey {
    LabelKey { name, values: Values::Closed(E::texts) }
}

/// All texts of a closed enum, as a function that a constant can hold.
trait LabelText {
    fn texts() -> Vec<&'static str>;
}

impl<E: Label> LabelText for E {
    fn texts() -> Vec<&'static str> {
        E::ALL.iter().map(|value| value.as_str()).collect()
    }
}

const ROUTE: LabelKey = named("route", "name of the route, `_none` where none matched, or `_overflow`");
const UPSTREAM: LabelKey = named("upstream", "name of the upstream in the YAML, never its host");
const LISTENER: LabelKey = named("listener", "name of the listener");
const LIMIT: LabelKey = named("limit", "name of the limit within its route");
const SECRET: LabelKey = named("secret", "name of the secret");
const CODE: LabelKey =
    named("code", "status code; `1xx` to `5xx` for one that is not registered, `other` for none");
const TIER: LabelKey = named("tier", "`memory`, `shared`");
const OUTCOME: LabelKey = closed::<labels::Outcome>("result");

macro_rules! catalogue {
    ($($id:ident = $kind:expr, $owner:ident, $name:literal, [$($label:expr),*], $help:literal;)+) => {
        /// The name of a family in the code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric { $(#[doc = $help] $id,)+ }

        static FAMILIES: &[Family] = &[
            $(Family { name: $name, kind: $kind, owner: Owner::$owner, labels: &[$($label),*], help: $help },)+
        ];

        impl Metric {
            /// Every metric, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$id,)+];
        }
    };
}

use Kind::{Counter, Gauge};
const REQUEST_SECONDS: Kind = Kind::Histogram(&REQUEST);
const OVERHEAD_SECONDS: Kind = Kind::Histogram(&OVERHEAD);

catalogue! {
    RequestsTotal = Counter, Handles, "portcullis_requests_total",
        [ROUTE, closed::<labels::Method>("method"), CODE], "Requests answered.";
    RequestDurationSeconds = REQUEST_SECONDS, Handles, "portcullis_request_duration_seconds",
        [ROUTE, closed::<labels::Source>("source")], "From the first byte of a request to the last byte of its answer, by who made the answer.";
    RequestsActive = Gauge, Handles, "portcullis_requests_active", [LISTENER], "Requests in flight.";
    RequestBytesTotal = Counter, Handles, "portcullis_request_bytes_total", [ROUTE], "Body bytes read from clients.";
    ResponseBytesTotal = Counter, Handles, "portcullis_response_bytes_total", [ROUTE], "Body bytes written to clients.";
    OverheadSeconds = OVERHEAD_SECONDS, Handles, "portcullis_overhead_seconds",
        [closed::<labels::Phase>("phase")], "Time the gateway itself added to a request.";
    LocalResponsesTotal = Counter, Handles, "portcullis_local_responses_total",
        [ROUTE, closed::<labels::LocalReason>("reason")], "Requests the gateway answered or gave up by itself, by cause.";
    RequestBodiesRefusedTotal = Counter, Handles, "portcullis_request_bodies_refused_total",
        [closed::<labels::BodyStage>("stage")], "Request bodies over their limit, by where that was noticed.";
    ErasedTotal = Counter, Handles, "portcullis_erased_total",
        [closed::<labels::Erased>("what")], "Traces of an upstream mapped or removed from answers.";

    UpstreamRequestsTotal = Counter, Handles, "portcullis_upstream_requests_total",
        [UPSTREAM, CODE], "Answers received from upstreams.";
    UpstreamDurationSeconds = REQUEST_SECONDS, Handles, "portcullis_upstream_duration_seconds",
        [UPSTREAM], "From sending a request to an upstream to the last byte of its answer.";
    UpstreamConnectDurationSeconds = REQUEST_SECONDS, Handles, "portcullis_upstream_connect_duration_seconds",
        [UPSTREAM], "Setting up a new connection to an upstream, TLS included.";
    UpstreamConnectionsTotal = Counter, Handles, "portcullis_upstream_connections_total",
        [UPSTREAM, closed::<labels::ConnectionState>("state")], "Connections used for exchanges with upstreams.";
    UpstreamErrorsTotal = Counter, Handles, "portcullis_upstream_errors_total",
        [UPSTREAM, closed::<labels::UpstreamError>("reason")], "Exchanges with upstreams that failed.";
    UpstreamRetriesTotal = Counter, Handles, "portcullis_upstream_retries_total",
        [UPSTREAM, closed::<labels::RetryResult>("result")], "Failed exchanges that could be tried again.";
    UpstreamRequestsActive = Gauge, Handles, "portcullis_upstream_requests_active",
        [UPSTREAM], "Requests in flight to an upstream.";
    UpstreamEndpointHealthy = Gauge, Handles, "portcullis_upstream_endpoint_healthy",
        [UPSTREAM, named("endpoint", "place in the upstream's list, from 0")], "1 while connections to the endpoint are made, 0 since the last one failed.";

    CacheRequestsTotal = Counter, Handles, "portcullis_cache_requests_total",
        [ROUTE, closed::<labels::CacheResult>("result")], "What the cache said to a request.";
    CacheUncacheableTotal = Counter, Handles, "portcullis_cache_uncacheable_total",
        [ROUTE, closed::<labels::Uncacheable>("reason")], "Answers of upstreams that were not stored, by cause.";
    CacheLockWaitSeconds = REQUEST_SECONDS, Handles, "portcullis_cache_lock_wait_seconds",
        [], "Waiting for another request that fetches the same thing.";
    CacheImpatientTotal = Counter, Registered, "portcullis_cache_impatient_total",
        [named("then", "`alone` where the request went to the upstream by itself, at most 8 of a URL at a time; `refused` where it was answered 504")],
        "Requests that waited too long for another that fetches the same thing.";
    CacheUsedBytes = Gauge, Registered, "portcullis_cache_used_bytes", [TIER], "Bytes the cache holds.";
    CacheCapacityBytes = Gauge, Registered, "portcullis_cache_capacity_bytes", [TIER], "Bytes the cache may hold.";
    CacheEntries = Gauge, Registered, "portcullis_cache_entries", [TIER], "Answers the cache holds.";
    CacheEvictionsTotal = Counter, Registered, "portcullis_cache_evictions_total",
        [TIER, named("reason", "`size`, `purge`, `replaced`")], "Answers the cache let go.";
    CacheMaxEntries = Gauge, Registered, "portcullis_cache_max_entries", [TIER], "Answers the cache may hold.";
    CachePinnedBytes = Gauge, Registered, "portcullis_cache_pinned_bytes", [TIER],
        "Bytes of answers that are gone but for clients that still read them. Above an eighth of the capacity nothing new is stored.";
    CacheLongestFreeBytes = Gauge, Registered, "portcullis_cache_longest_free_bytes", [TIER],
        "The largest contiguous room that is free.";
    CacheWriter = Gauge, Registered, "portcullis_cache_writer", [TIER],
        "1 when this process stores, 0 when another one does that shares the cache's file, or nobody yet.";
    CacheMadeAnew = Gauge, Registered, "portcullis_cache_made_anew", [TIER],
        "1 when a file lay there at the start that could not be used and was replaced, so that the cache began cold; else 0.";
    CacheFills = Gauge, Registered, "portcullis_cache_fills", [TIER], "Answers that are being stored.";
    CacheStoredTotal = Counter, Registered, "portcullis_cache_stored_total", [TIER], "Answers stored.";
    CacheRejectedTotal = Counter, Registered, "portcullis_cache_rejected_total",
        [TIER, named("reason", "`too-large`, `no-room`, `pinned`, `purged`, `no-lease`, `failed`")],
        "Answers that were to be stored and were not. What says that it is too large is `portcullis_cache_uncacheable_total`'s.";
    CacheSurvived = Gauge, Registered, "portcullis_cache_survived_entries", [TIER],
        "Answers that were there when this process began to store.";
    CacheCorruptTotal = Counter, Registered, "portcullis_cache_corrupt_total", [TIER],
        "What was found damaged in the cache's file and given up: answers, records, tables of purges.";
    CachePurgesTotal = Counter, Handles, "portcullis_cache_purges_total",
        [closed::<labels::PurgeScope>("scope"), closed::<labels::PurgeMode>("mode"), named("origin", "`local`")],
        "Purges carried out.";
    CacheTagsDroppedTotal = Counter, Handles, "portcullis_cache_tags_dropped_total",
        [], "Tags of answers that were left out, being too many, too long or no text: a purge by these misses the answer.";
    CacheBans = Gauge, Registered, "portcullis_cache_bans",
        [TIER], "Purges of many answers that are in force and not yet applied to all of them, 1024 at most.";
    CacheSweepsTotal = Counter, Registered, "portcullis_cache_sweeps_total",
        [TIER, named("reason", "`behind`, or `full` where a purge had to wait for it")], "Walks through the cache that apply purges.";
    CacheSweptTotal = Counter, Registered, "portcullis_cache_swept_total",
        [TIER], "Answers that those walks removed or made stale.";

    RatelimitDecisionsTotal = Counter, Handles, "portcullis_ratelimit_decisions_total",
        [ROUTE, LIMIT, closed::<labels::LimitDecision>("decision")], "What a rate limit said to a request.";
    RatelimitClients = Gauge, Registered, "portcullis_ratelimit_clients",
        [], "Clients that the rate limits of all routes and processes keep count of, those at rest included; judged by a sample where there is room for more than 30720.";
    RatelimitCapacity = Gauge, Registered, "portcullis_ratelimit_capacity",
        [], "Clients that there is room for (`rateLimits.keys`).";
    RatelimitOverflowTotal = Counter, Registered, "portcullis_ratelimit_overflow_total",
        [], "Decisions that were estimated because the table of clients was full.";
    RatelimitMendedTotal = Counter, Registered, "portcullis_ratelimit_mended_total",
        [], "Counters that held what no gateway writes, and were emptied.";
    UpstreamResolutionsTotal = Counter, Registered, "portcullis_upstream_resolutions_total",
        [closed::<labels::Outcome>("result")], "Names of upstreams looked up in the background.";

    ShapeResponsesTotal = Counter, Handles, "portcullis_shape_responses_total",
        [ROUTE, closed::<labels::ShapeResult>("result")], "Answers that were to be shaped.";
    ShapeDurationSeconds = OVERHEAD_SECONDS, Handles, "portcullis_shape_duration_seconds",
        [], "Shaping one answer.";
    ShapeBytesTotal = Counter, Handles, "portcullis_shape_bytes_total",
        [closed::<labels::Direction>("direction")], "Bytes of answers before and after shaping.";

    ConnectionsActive = Gauge, Handles, "portcullis_connections_active", [LISTENER], "Client connections open.";
    ConnectionsTotal = Counter, Handles, "portcullis_connections_total",
        [LISTENER, closed::<labels::Protocol>("protocol")], "Client connections taken.";
    ConnectionsRefusedTotal = Counter, Handles, "portcullis_connections_refused_total",
        [LISTENER, closed::<labels::RefusedReason>("reason")], "Client connections not taken.";
    ConnectionsCutTotal = Counter, Handles, "portcullis_connections_cut_total",
        [LISTENER, closed::<labels::CutReason>("reason")], "Client connections ended by the gateway before their time.";
    ListenerResponsesTotal = Counter, Handles, "portcullis_listener_responses_total",
        [LISTENER, closed::<labels::AnswerReason>("reason"), CODE], "Answers given before a route could be looked for.";
    TlsHandshakesTotal = Counter, Handles, "portcullis_tls_handshakes_total",
        [LISTENER, OUTCOME], "TLS handshakes with clients.";
    TlsCertificateExpiryTimestampSeconds = Gauge, Registered, "portcullis_tls_certificate_expiry_timestamp_seconds",
        [named("certificate", "name of the certificate")], "When the certificate ends, in seconds since 1970.";

    SecretReloadsTotal = Counter, Handles, "portcullis_secret_reloads_total",
        [SECRET, OUTCOME], "Times a secret was read.";
    SecretLastSuccessTimestampSeconds = Gauge, Handles, "portcullis_secret_last_success_timestamp_seconds",
        [SECRET], "When the secret was last read without a fault, in seconds since 1970.";
    ConfigReloadsTotal = Counter, Handles, "portcullis_config_reloads_total",
        [OUTCOME], "Times the configuration was loaded.";
    UpgradesTotal = Counter, Handles, "portcullis_upgrades_total",
        [OUTCOME], "Hand-overs to another process: those that this one took over by (0 or 1), and those that were asked of it and failed.";
    ConfigLastReloadSuccess = Gauge, Handles, "portcullis_config_last_reload_success",
        [], "1 when the last load took effect, 0 when it was refused.";
    ConfigLastSuccessTimestampSeconds = Gauge, Handles, "portcullis_config_last_success_timestamp_seconds",
        [], "When a configuration last took effect, in seconds since 1970; 0 before the first.";
    ConfigInfo = Gauge, Handles, "portcullis_config_info",
        [named("hash", "digest of the configuration in use")], "Always 1; says which configuration is in use.";
    ConfigObjects = Gauge, Handles, "portcullis_config_objects",
        [closed::<labels::ObjectKind>("kind")], "Things in the configuration in use.";
    LogLinesDroppedTotal = Counter, Registered, "portcullis_log_lines_dropped_total",
        [named("sink", "`stdout`, `stderr`, `file`")], "Lines of the access log that were not written.";

    MetricsSeries = Gauge, Handles, "portcullis_metrics_series", [], "Series in this scrape.";
    MetricsOverflowTotal = Counter, Handles, "portcullis_metrics_overflow_total",
        [closed::<labels::Overflow>("label")], "Names counted under `_overflow` because the cap on series was reached.";
    BuildInfo = Gauge, Handles, "portcullis_build_info",
        [named("version", "version of the gateway"), named("revision", "commit it was built from"), named("tls", "TLS library")],
        "Always 1; says which build is running.";
    Draining = Gauge, Handles, "portcullis_draining", [], "1 while the gateway is going down.";
    UptimeSeconds = Gauge, Handles, "portcullis_uptime_seconds", [], "Since the gateway started.";

    ProcessCpuSecondsTotal = Counter, Process, "process_cpu_seconds_total", [], "Processor time used, in user and system mode.";
    ProcessOpenFds = Gauge, Process, "process_open_fds", [], "File descriptors open.";
    ProcessMaxFds = Gauge, Process, "process_max_fds", [], "File descriptors that may be open.";
    ProcessVirtualMemoryBytes = Gauge, Process, "process_virtual_memory_bytes", [], "Address space in use.";
    ProcessResidentMemoryBytes = Gauge, Process, "process_resident_memory_bytes", [], "Memory in use.";
    ProcessStartTimeSeconds = Gauge, Process, "process_start_time_seconds", [], "When the process started, in seconds since 1970.";
    ProcessThreads = Gauge, Process, "process_threads", [], "Threads of the process.";
}

impl Metric {
    /// The entry of the table.
    #[must_use]
    pub fn family(self) -> &'static Family {
        FAMILIES.get(self as usize).expect("the enum and the table are made from one list")
    }
}

/// The whole table as Markdown: the text of `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(HEADER);
    for metric in Metric::ALL {
        let family = metric.family();
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{}`", label.name)).collect();
        let labels = if labels.is_empty() { String::from("-") } else { labels.join(", ") };
        writeln!(text, "| `{}` | {kind} | {labels} | {} |", family.name, family.help)
            .expect("a String takes every write");
    }
    text.push_str("\n## Label values\n\n| Metric | Label | Values |\n|---|---|---|\n");
    for metric in Metric::ALL {
        for label in metric.family().labels {
            let values = match label.values {
                Values::Named(what) => String::from(what),
                Values::Closed(values) => {
                    values().iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
                }
            };
            writeln!(text, "| `{}` | `{}` | {values} |", metric.family().name, label.name)
                .expect("a String takes every write");
        }
    }
    text.push_str("\n## Buckets, in seconds\n\n");
    for (what, buckets) in [("Requests, upstreams, waiting", &REQUEST), ("Overhead, shaping", &OVERHEAD)] {
        let bounds: Vec<String> = buckets.seconds().map(|bound| bound.to_string()).collect();
        writeln!(text, "- {what}: {}", bounds.join(", ")).expect("a String takes every write");
    }
    text
}

const HEADER: &str = "# Metrics\n\n\
    Generated from the catalogue in `src/telemetry/metrics/catalogue.rs`; do not edit by hand.\n\n\
    Text format 0.0.4, on the admin listener under `/metrics`. Labels are configured names or closed lists, never text of a\n\
    request. Counters start at 0 when their name is configured; series by status code, and by\n\
    reason why an answer is not stored, appear with the first such answer. The\n\
    series of a removed name stay until the second reload after it. Past the cap on series (50 000) new names are counted\n\
    under `_overflow`.\n\n\
    | Name | Type | Labels | Help |\n|---|---|---|---|\n";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_rules_that_promtool_checks() {
        let mut seen = HashSet::new();
        for family in FAMILIES {
            let name = family.name;
            assert!(seen.insert(name), "{name} is declared once");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}: lower case");
            assert_eq!(
                family.kind == Kind::Counter,
                name.ends_with("_total"),
                "{name}: counters end in _total"
            );
            assert!(family.owner == Owner::Process || name.starts_with("portcullis_"), "{name}: prefix");
            for wrong in
                ["_count", "_sum", "_bucket", "_milliseconds", "_ms", "_minutes", "_kilobytes", "_kb"]
            {
                assert!(!name.ends_with(wrong), "{name} ends in {wrong}");
            }
            for word in name.split('_') {
                let is_type = ["counter", "gauge", "histogram", "summary"].contains(&word);
                assert!(!is_type, "{name} says its type");
            }
            if matches!(family.kind, Kind::Histogram(_)) {
                assert!(name.ends_with("_seconds"), "{name}: our histograms are durations");
            }
            assert!(family.help.ends_with('.') && family.help.len() > 10, "{name} has a sentence of help");
        }
    }

    #[test]
    fn labels_follow_the_rules() {
        for family in FAMILIES {
            let mut seen = HashSet::new();
            for label in family.labels {
                assert!(seen.insert(label.name), "{}: {} once", family.name, label.name);
                assert!(
                    label.name.chars().all(|c| c.is_ascii_lowercase()),
                    "{}: {}",
                    family.name,
                    label.name
                );
                assert!(
                    !["le", "quantile", "job", "instance"].contains(&label.name),
                    "{} is taken",
                    label.name
                );
            }
        }
    }

    #[test]
    fn every_family_is_in_the_document() {
        let text = markdown();
        for family in FAMILIES {
            assert!(text.contains(&format!("| `{}` |", family.name)), "{} is missing", family.name);
        }
        assert!(text.contains("`no_route`, `method`, `limited`"), "closed values are listed");
        assert!(!text.contains("||"), "no cell is empty");
    }
}
