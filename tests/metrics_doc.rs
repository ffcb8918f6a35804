//! `docs/metrics.md` is written from the catalogue. `BLESS=1` writes it anew.

mod golden;

use std::path::Path;

#[test]
fn the_document_of_the_metrics_is_in_step_with_the_catalogue() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let expected = portcullis::telemetry::metrics::catalogue::markdown();
    assert!(
        golden::holds(&file, &expected),
        "docs/metrics.md is stale: BLESS=1 cargo test --test metrics_doc writes it"
    );
}

/// The rules and the documents name metrics as text: a name that no gateway has would never fire, or be looked for in vain.
#[test]
fn alerts_and_runbooks_name_metrics_that_there_are_and_each_alert_has_its_runbook() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect(name);
    let known = portcullis::telemetry::metrics::catalogue::markdown();
    let (rules, runbooks) = (read("deploy/prometheus/cache.rules.yaml"), read("docs/runbooks.md"));
    let mut named = 0;
    for text in [&rules, &runbooks, &read("docs/operations.md"), &read("docs/caching.md")] {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for (at, _) in text.match_indices("portcullis_") {
            let rest = &text[at..];
            let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
            let is_family = rest[name.len()..].starts_with('*');
            assert!(is_family || known.contains(&format!("`{name}`")), "`{name}` is no metric");
            named += 1;
        }
    }
    assert!(named > 30, "the metrics are found: {named}");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts.len(), 4, "the alerts are found");
    for alert in alerts {
        assert!(runbooks.contains(&format!("\n## {alert}\n")), "`{alert}` has no runbook");
        let link = format!("docs/runbooks.md#{}", alert.to_lowercase());
        assert!(rules.contains(&link), "`{alert}` does not lead there");
    }
}
