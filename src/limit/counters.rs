//! The table of a process: there before the configuration is read, and where the configuration says from then on.

use super::table::Table;
use std::ops::Deref;
use std::sync::OnceLock;

/// The [`Table`] of a process. Whoever asks first, before one was [settled](Self::settle), gets a private one.
pub struct Counters {
    table: OnceLock<Table>,
    private_keys: usize,
}

impl Counters {
    /// Not settled; a private one will have room for so many keys.
    #[must_use]
    pub fn new(private_keys: usize) -> Self {
        Self { table: OnceLock::new(), private_keys }
    }

    /// Settles the table, once, before anybody is counted. Says whether it was done: afterwards nothing changes any more.
    #[must_use]
    pub fn settle(&self, table: Table) -> bool {
        self.table.set(table).is_ok()
    }
}

impl Deref for Counters {
    type Target = Table;

    fn deref(&self) -> &Table {
        self.table.get_or_init(|| Table::new(self.private_keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_settled_first_stays() {
        let settled = Counters::new(7);
        assert!(settled.settle(Table::new(70)));
        assert!(!settled.settle(Table::new(700)));
        assert_eq!(settled.stats().capacity, 75);
        let asked = Counters::new(7);
        assert_eq!(asked.stats().capacity, 15);
        assert!(!asked.settle(Table::new(70)), "somebody may be counted already");
    }
}
