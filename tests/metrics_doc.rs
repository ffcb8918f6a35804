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
