//! Parts of a name that come and go with the configuration: the limits of a route, the endpoints of an upstream.
//!
//! A part is found by its label when a plan is compiled and lives as long as some plan holds it; after that it stays until
//! the second sweep, so that a reload that takes it away and the next that brings it back lose no count.

use std::sync::Arc;

use parking_lot::Mutex;

/// Sweeps that a name outlives its last use: it goes at the second reload after its removal.
pub(super) const SWEEPS: u8 = 2;

#[derive(Debug)]
struct Part<T> {
    label: String,
    cells: Arc<T>,
    missed: u8,
}

/// The parts, by label. The lock is taken when a plan is compiled and when somebody scrapes, never by a request.
#[derive(Debug)]
pub(super) struct Kept<T> {
    parts: Mutex<Vec<Part<T>>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { parts: Mutex::new(Vec::new()) }
    }
}

impl<T: Default> Kept<T> {
    /// The part called `label`, if it is there.
    pub(super) fn find(&self, label: &str) -> Option<Arc<T>> {
        self.parts.lock().iter().find(|part| part.label == label).map(|part| Arc::clone(&part.cells))
    }

    /// The part called `label`, made when it is not there.
    pub(super) fn find_or_make(&self, label: &str) -> Arc<T> {
        let mut parts = self.parts.lock();
        if let Some(part) = parts.iter().find(|part| part.label == label) {
            return Arc::clone(&part.cells);
        }
        let cells = Arc::<T>::default();
        parts.push(Part { label: label.to_owned(), cells: Arc::clone(&cells), missed: 0 });
        cells
    }

    pub(super) fn len(&self) -> usize {
        self.parts.lock().len()
    }

    pub(super) fn each(&self, mut visit: impl FnMut(&str, &T)) {
        for part in self.parts.lock().iter() {
            visit(&part.label, &part.cells);
        }
    }

    /// To be called once per reload.
    pub(super) fn sweep(&self) {
        self.parts.lock().retain_mut(|part| {
            let is_held = Arc::strong_count(&part.cells) > 1;
            part.missed = if is_held { 0 } else { part.missed.saturating_add(1) };
            part.missed < SWEEPS
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::cells::Count;

    #[test]
    fn a_part_outlives_its_last_holder_by_one_sweep() {
        let kept = Kept::<Count>::default();
        let held = kept.find_or_make("a");
        held.add(3);
        kept.sweep();
        kept.sweep();
        assert_eq!(kept.len(), 1, "held parts stay");
        drop(held);
        kept.sweep();
        assert_eq!(kept.find_or_make("a").value(), 3, "one sweep later it still has its count");
        kept.sweep();
        assert!(kept.find("a").is_none(), "the second sweep takes it");
    }
}
