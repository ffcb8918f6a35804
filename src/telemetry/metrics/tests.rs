//! The metrics as a scrape sees them.

use std::time::{Duration, UNIX_EPOCH};

use super::labels::*;
use super::*;

fn finished(method: Method, status: u16, source: Source) -> Finished {
    Finished {
        method,
        status,
        source,
        duration: Duration::from_millis(3),
        request_bytes: 10,
        response_bytes: 200,
    }
}

/// The value of a series, written as in the text format.
fn value(metrics: &Metrics, series: &str) -> Option<String> {
    metrics.render().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
}

fn names<'a>(names: &[&'a str]) -> HashSet<&'a str> {
    names.iter().copied().collect()
}

/// Creates every kind of handle and moves what appears only when moved.
fn touch_everything(metrics: &Metrics) {
    let route = metrics.route("weather", &["per-client"]);
    route.finished(finished(Method::Get, 200, Source::Upstream));
    route.uncacheable(Uncacheable::NoStore);
    metrics.upstream("vendor", 1).answered(200);
    metrics.listener("public").answered(400, AnswerReason::Malformed);
    let process = metrics.process();
    process.secret_reload("key", true, UNIX_EPOCH + Duration::from_secs(7));
    process.config_info("abc");
    process.build_info("1.0.0", "deadbeef", "rustls");
    for metric in Metric::ALL {
        let family = metric.family();
        if family.owner == Owner::Registered {
            let labels: Vec<&str> = family.labels.iter().map(|label| label.name).collect();
            metrics.register(*metric, family.kind, &labels, Box::new(|| 1.0)).expect("a registered family");
        }
    }
}

#[test]
fn the_catalogue_is_the_live_scrape() {
    let metrics = Metrics::new();
    touch_everything(&metrics);
    let mut seen = HashSet::new();
    for family in metrics.registry().gather() {
        let entry =
            Metric::ALL.iter().map(|metric| metric.family()).find(|entry| entry.name == family.name());
        let entry = entry.unwrap_or_else(|| panic!("{} is not in the catalogue", family.name()));
        let kind = match entry.kind {
            Kind::Counter => prometheus::proto::MetricType::COUNTER,
            Kind::Gauge => prometheus::proto::MetricType::GAUGE,
            Kind::Histogram(_) => prometheus::proto::MetricType::HISTOGRAM,
        };
        assert_eq!(family.get_field_type(), kind, "type of {}", entry.name);
        for sample in family.get_metric() {
            let labels: Vec<&str> =
                sample.get_label().iter().map(prometheus::proto::LabelPair::name).collect();
            let declared: Vec<&str> = entry.labels.iter().map(|label| label.name).collect();
            assert_eq!(labels, declared, "labels of {}", entry.name);
        }
        seen.insert(entry.name);
    }
    for metric in Metric::ALL {
        assert!(seen.contains(metric.family().name), "{} is not in the scrape", metric.family().name);
    }
}

#[test]
fn no_series_is_written_twice_and_they_are_counted() {
    let metrics = Metrics::new();
    touch_everything(&metrics);
    let text = metrics.render();
    let mut seen = HashSet::new();
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for line in &series {
        let (name, _) = line.rsplit_once(' ').expect("name and value");
        assert!(seen.insert(name.to_owned()), "{name} stands twice");
    }
    assert_eq!(
        value(&metrics, "portcullis_metrics_series"),
        Some(series.len().to_string()),
        "counts itself too"
    );
}

#[test]
fn error_counters_start_at_0() {
    let metrics = Metrics::new();
    let _route = metrics.route("weather", &["per-client"]);
    let _upstream = metrics.upstream("vendor", 2);
    let zero = Some(String::from("0"));
    for series in [
        r#"portcullis_local_responses_total{route="weather",reason="upstream_down"}"#,
        r#"portcullis_cache_requests_total{route="weather",result="hit"}"#,
        r#"portcullis_ratelimit_decisions_total{route="weather",limit="per-client",decision="deny"}"#,
        r#"portcullis_upstream_errors_total{upstream="vendor",reason="tls"}"#,
        r#"portcullis_request_duration_seconds_count{route="weather",source="cache"}"#,
        r#"portcullis_config_reloads_total{result="failure"}"#,
    ] {
        assert_eq!(value(&metrics, series), zero, "{series}");
    }
    let healthy = value(&metrics, r#"portcullis_upstream_endpoint_healthy{upstream="vendor",endpoint="1"}"#);
    assert_eq!(healthy.as_deref(), Some("1"), "an endpoint is healthy until somebody says otherwise");
}

#[test]
fn a_request_moves_what_it_should() {
    let metrics = Metrics::new();
    let route = metrics.route("weather", &["a", "b"]);
    route.finished(finished(Method::Get, 200, Source::Cache));
    route.finished(finished(Method::Get, 200, Source::Cache));
    route.finished(finished(Method::Other, 777, Source::Gateway));
    route.local(LocalReason::Limited);
    route.limit(1, LimitDecision::Deny);
    route.limit(2, LimitDecision::Deny);
    route.overhead(Phase::Total, Duration::from_micros(20));
    for (series, expected) in [
        (r#"portcullis_requests_total{route="weather",method="GET",code="200"}"#, "2"),
        (r#"portcullis_requests_total{route="weather",method="_OTHER",code="other"}"#, "1"),
        (r#"portcullis_request_duration_seconds_bucket{route="weather",source="cache",le="0.0025"}"#, "0"),
        (r#"portcullis_request_duration_seconds_bucket{route="weather",source="cache",le="0.005"}"#, "2"),
        (r#"portcullis_request_duration_seconds_bucket{route="weather",source="cache",le="+Inf"}"#, "2"),
        (r#"portcullis_request_duration_seconds_sum{route="weather",source="cache"}"#, "0.006"),
        (r#"portcullis_request_bytes_total{route="weather"}"#, "30"),
        (r#"portcullis_response_bytes_total{route="weather"}"#, "600"),
        (r#"portcullis_local_responses_total{route="weather",reason="limited"}"#, "1"),
        (r#"portcullis_ratelimit_decisions_total{route="weather",limit="a",decision="deny"}"#, "0"),
        (r#"portcullis_ratelimit_decisions_total{route="weather",limit="b",decision="deny"}"#, "1"),
        (r#"portcullis_overhead_seconds_bucket{phase="total",le="0.00001"}"#, "0"),
        (r#"portcullis_overhead_seconds_bucket{phase="total",le="0.000025"}"#, "1"),
    ] {
        assert_eq!(value(&metrics, series).as_deref(), Some(expected), "{series}");
    }
}

#[test]
fn listeners_and_upstreams_count() {
    let metrics = Metrics::new();
    let listener = metrics.listener("public");
    listener.connection_opened(Protocol::H2);
    listener.connection_opened(Protocol::H1);
    listener.connection_closed();
    listener.handshake(false);
    listener.cut(CutReason::SlowReader);
    listener.answered(431, AnswerReason::HeadTooLarge);
    let in_flight = listener.active();
    let upstream = metrics.upstream("vendor", 1);
    upstream.connected(true, Duration::from_millis(1));
    upstream.connected(false, Duration::from_secs(9));
    upstream.endpoint_healthy(0, false);
    let exchange = upstream.active();
    let active = r#"portcullis_upstream_requests_active{upstream="vendor"}"#;
    for (series, expected) in [
        (r#"portcullis_connections_active{listener="public"}"#, "1"),
        (r#"portcullis_connections_total{listener="public",protocol="h2"}"#, "1"),
        (r#"portcullis_tls_handshakes_total{listener="public",result="failure"}"#, "1"),
        (r#"portcullis_connections_cut_total{listener="public",reason="slow_reader"}"#, "1"),
        (r#"portcullis_listener_responses_total{listener="public",reason="head_too_large",code="431"}"#, "1"),
        (r#"portcullis_requests_active{listener="public"}"#, "1"),
        (r#"portcullis_upstream_connect_duration_seconds_count{upstream="vendor"}"#, "1"),
        (r#"portcullis_upstream_connections_total{upstream="vendor",state="reused"}"#, "1"),
        (r#"portcullis_upstream_endpoint_healthy{upstream="vendor",endpoint="0"}"#, "0"),
        (active, "1"),
    ] {
        assert_eq!(value(&metrics, series).as_deref(), Some(expected), "{series}");
    }
    drop((in_flight, exchange));
    assert_eq!(value(&metrics, active).as_deref(), Some("0"), "the guard lowers the gauge");
}

#[test]
fn a_reload_keeps_the_numbers_of_a_name() {
    let metrics = Metrics::new();
    metrics.route("weather", &["a"]).limit(0, LimitDecision::Allow);
    metrics.route("weather", &["b", "a"]).limit(1, LimitDecision::Allow);
    let series = r#"portcullis_ratelimit_decisions_total{route="weather",limit="a",decision="allow"}"#;
    assert_eq!(value(&metrics, series).as_deref(), Some("2"), "found by name, not by place");
}

#[test]
fn a_removed_name_goes_at_the_second_reload() {
    let metrics = Metrics::new();
    metrics.route("old", &[]).local(LocalReason::Auth);
    let _upstream = metrics.upstream("old", 1);
    let series = r#"portcullis_local_responses_total{route="old",reason="auth"}"#;
    metrics.retain(&names(&["new"]), &names(&[]), &names(&[]));
    assert_eq!(value(&metrics, series).as_deref(), Some("1"), "one more scrape sees it");
    metrics.retain(&names(&["new"]), &names(&[]), &names(&[]));
    assert!(!metrics.render().contains("\"old\""), "nothing of it is left");
}

#[test]
fn a_name_that_comes_back_in_time_keeps_its_numbers() {
    let metrics = Metrics::new();
    metrics.route("a", &[]).local(LocalReason::Auth);
    metrics.retain(&names(&[]), &names(&[]), &names(&[]));
    metrics.route("a", &[]).local(LocalReason::Auth);
    metrics.retain(&names(&["a"]), &names(&[]), &names(&[]));
    metrics.retain(&names(&[]), &names(&[]), &names(&[]));
    let series = r#"portcullis_local_responses_total{route="a",reason="auth"}"#;
    assert_eq!(value(&metrics, series).as_deref(), Some("2"), "the count of missed reloads began anew");
}

#[test]
fn past_the_cap_names_share_the_overflow() {
    let metrics = Metrics::with_max_series(RouteCells::SERIES + RouteCells::LIMIT_SERIES);
    let first = metrics.route("first", &["a", "b"]);
    first.limit(0, LimitDecision::Deny);
    first.limit(1, LimitDecision::Deny);
    metrics.route("second", &["c"]).limit(0, LimitDecision::Deny);
    metrics.route("third", &[]).local(LocalReason::NoRoute);
    metrics.upstream("vendor", 3).endpoint_healthy(0, false);
    metrics.route("first", &["a"]).limit(0, LimitDecision::Deny);
    for (series, expected) in [
        (r#"portcullis_ratelimit_decisions_total{route="first",limit="a",decision="deny"}"#, "2"),
        (r#"portcullis_ratelimit_decisions_total{route="_overflow",limit="_overflow",decision="deny"}"#, "2"),
        (r#"portcullis_local_responses_total{route="_overflow",reason="no_route"}"#, "1"),
        (r#"portcullis_metrics_overflow_total{label="route"}"#, "2"),
        (r#"portcullis_metrics_overflow_total{label="limit"}"#, "1"),
        (r#"portcullis_metrics_overflow_total{label="upstream"}"#, "1"),
    ] {
        assert_eq!(value(&metrics, series).as_deref(), Some(expected), "{series}");
    }
    let text = metrics.render();
    assert!(!text.contains("\"second\"") && !text.contains("\"vendor\""), "they have no series of their own");
}

#[test]
fn registered_functions_are_read_at_every_scrape() {
    let metrics = Metrics::new();
    metrics.register_gauge_fn(Metric::CacheUsedBytes, &["memory"], Box::new(|| 1.0)).expect("a gauge");
    metrics.register_gauge_fn(Metric::CacheUsedBytes, &["memory"], Box::new(|| 2.0)).expect("replaces");
    metrics.register_samples_fn(Box::new(|samples| {
        samples.push(Metric::RatelimitClients, &[], 5.0);
    }));
    let used = r#"portcullis_cache_used_bytes{tier="memory"}"#;
    assert_eq!(value(&metrics, used).as_deref(), Some("2"));
    let clients = "portcullis_ratelimit_clients";
    assert_eq!(value(&metrics, clients).as_deref(), Some("5"));
}

#[test]
fn a_registration_that_contradicts_the_catalogue_is_refused() {
    let metrics = Metrics::new();
    let zero = || -> Reader { Box::new(|| 0.0) };
    assert_eq!(
        metrics.register_counter_fn(Metric::RequestsTotal, &["a", "b", "c"], zero()),
        Err(RegisterError::NotRegistrable(Metric::RequestsTotal)),
        "its samples come from handles"
    );
    assert_eq!(
        metrics.register_counter_fn(Metric::CacheEntries, &["memory"], zero()),
        Err(RegisterError::OtherKind(Metric::CacheEntries))
    );
    assert_eq!(
        metrics.register_gauge_fn(Metric::CacheEntries, &[], zero()),
        Err(RegisterError::OtherLabels(Metric::CacheEntries))
    );
}

#[test]
fn configuration_and_secrets_tell_their_age() {
    let metrics = Metrics::new();
    let process = metrics.process();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    process.config_reload(true, at(100));
    process.config_reload(false, at(200));
    process.secret_reload("key", true, at(300));
    process.secret_reload("key", false, at(400));
    process.secret_reload("gone", false, at(400));
    process.retain_secrets(&names(&["key"]));
    process.objects(ObjectKind::Routes, 3);
    for (series, expected) in [
        ("portcullis_config_last_reload_success", "0"),
        ("portcullis_config_last_success_timestamp_seconds", "100"),
        (r#"portcullis_config_reloads_total{result="failure"}"#, "1"),
        (r#"portcullis_config_objects{kind="routes"}"#, "3"),
        (r#"portcullis_secret_reloads_total{secret="key",result="failure"}"#, "1"),
        (r#"portcullis_secret_last_success_timestamp_seconds{secret="key"}"#, "300"),
    ] {
        assert_eq!(value(&metrics, series).as_deref(), Some(expected), "{series}");
    }
    assert!(!metrics.render().contains("\"gone\""), "a secret that is not configured any more is forgotten");
}
