//! `docs/metrics.md` is written from the catalogue. `BLESS=1` writes it anew.

use std::path::Path;

#[test]
fn the_document_of_the_metrics_is_in_step_with_the_catalogue() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let expected = portcullis::telemetry::metrics::catalogue::markdown();
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
        std::fs::write(&file, &expected).expect("written");
        return;
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "docs/metrics.md is stale: BLESS=1 cargo test --test metrics_doc writes it");
}
