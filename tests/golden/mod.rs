//! Texts that are kept in a file and compared word by word.

use std::path::Path;

/// Whether `file` holds `found`. With `BLESS=1` it is written, and does: read the difference before you commit it.
pub fn holds(file: &Path, found: &str) -> bool {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, found).expect("a writable folder");
        return true;
    }
    std::fs::read_to_string(file).unwrap_or_default() == found
}
