//! What a new plan changes that a running process cannot: said at the reload, taken at the next start.

use crate::plan::{AccessLogSink, AdminAddress, CacheZone, CounterTable, Plan, Upgrade};

/// The parts of a configuration that a process takes once, at its start. Lifetime: process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// By their text: a listener is compared as a whole.
    listeners: Vec<String>,
    admin: Option<AdminAddress>,
    cache: CacheZone,
    upgrade: Option<Upgrade>,
    counters: CounterTable,
    access_log: AccessLogSink,
}

impl Fixed {
    /// Those of a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let mut listeners: Vec<String> =
            plan.listeners.iter().map(|listener| format!("{listener:?}")).collect();
        listeners.sort_unstable();
        Self {
            listeners,
            admin: plan.admin.as_ref().map(|admin| admin.address.clone()),
            cache: plan.cache.clone(),
            upgrade: plan.upgrade.clone(),
            counters: plan.counters.clone(),
            access_log: plan.access_log.clone(),
        }
    }

    /// The keys under which `new` differs from what the process was started with.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        [
            ("listeners", self.listeners != new.listeners),
            ("admin.address", self.admin != new.admin),
            ("cache", self.cache != new.cache),
            ("upgrade", self.upgrade != new.upgrade),
            ("rateLimits", self.counters != new.counters),
            ("accessLog", self.access_log != new.access_log),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}
