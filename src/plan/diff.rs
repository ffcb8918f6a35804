//! What a new plan changes that a running process cannot: said at the reload, taken at the next start.

use super::Plan;

/// The parts of the configuration that only a restart can change, by their key.
#[must_use]
pub fn needs_restart(old: &Plan, new: &Plan) -> Vec<&'static str> {
    let mut list = Vec::new();
    let listeners = |plan: &Plan| {
        let mut all: Vec<String> = plan.listeners.iter().map(|listener| format!("{listener:?}")).collect();
        all.sort_unstable();
        all
    };
    if listeners(old) != listeners(new) {
        list.push("listeners");
    }
    if old.admin.as_ref().map(|admin| &admin.address) != new.admin.as_ref().map(|admin| &admin.address) {
        list.push("admin.address");
    }
    if old.cache != new.cache {
        list.push("cache");
    }
    if old.access_log != new.access_log {
        list.push("accessLog");
    }
    list
}
