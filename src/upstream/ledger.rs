//! What must survive a reload: requests in flight, whose turn it is, the retry budget. Kept by the upstream's name and the
//! endpoint's origin, for as long as a configuration or a request in flight needs it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use super::Scheme;
use super::budget::RetryBudget;
use crate::names::UpstreamName;

/// All accounts. Process lifetime; the lock is taken when a configuration is compiled, never by a request.
#[derive(Default)]
pub(super) struct Ledger(Mutex<HashMap<UpstreamName, Weak<Account>>>);

/// One upstream's account.
pub(super) struct Account {
    /// Whose turn it is.
    pub(super) turn: AtomicUsize,
    pub(super) budget: RetryBudget,
    active: AtomicUsize,
    endpoints: Mutex<Vec<(Origin, Weak<InFlight>)>>,
}

/// Scheme, host and port: what an endpoint is known by from one configuration to the next.
pub(super) type Origin = (Scheme, String, u16);

/// Requests in flight to one endpoint.
pub(super) struct InFlight {
    count: AtomicUsize,
    account: Arc<Account>,
}

/// A request in flight. Counted until it is dropped: keep it until the last byte of the answer.
#[must_use = "the request is in flight only while this is held"]
pub struct Lease(Arc<InFlight>);

impl Ledger {
    pub(super) fn account(&self, name: &UpstreamName, now: Instant) -> Arc<Account> {
        let mut accounts = self.0.lock();
        accounts.retain(|_, account| account.strong_count() > 0);
        if let Some(account) = accounts.get(name).and_then(Weak::upgrade) {
            return account;
        }
        let account = Arc::new(Account {
            turn: AtomicUsize::new(0),
            budget: RetryBudget::new(now),
            active: AtomicUsize::new(0),
            endpoints: Mutex::new(Vec::new()),
        });
        accounts.insert(name.clone(), Arc::downgrade(&account));
        account
    }
}

impl Account {
    /// Requests in flight to the upstream, those to endpoints of older configurations included.
    pub(super) fn active(&self) -> usize {
        // Relaxed, here and below: counts order nothing, and each is right by itself.
        self.active.load(Ordering::Relaxed)
    }

    pub(super) fn endpoint(self: &Arc<Self>, origin: Origin) -> Arc<InFlight> {
        let mut endpoints = self.endpoints.lock();
        endpoints.retain(|(_, endpoint)| endpoint.strong_count() > 0);
        let known = endpoints.iter().find(|(known, _)| *known == origin);
        if let Some(endpoint) = known.and_then(|(_, endpoint)| endpoint.upgrade()) {
            return endpoint;
        }
        let endpoint = Arc::new(InFlight { count: AtomicUsize::new(0), account: Arc::clone(self) });
        endpoints.push((origin, Arc::downgrade(&endpoint)));
        endpoint
    }
}

impl InFlight {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.account.active.fetch_add(1, Ordering::Relaxed);
        Lease(Arc::clone(self))
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lease")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.account.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_a_reload_and_end_with_the_last_request() {
        let ledger = Ledger::default();
        let name = UpstreamName::parse("vendor").unwrap();
        let origin = || (Scheme::Https, "a.example".to_owned(), 443);
        let account = ledger.account(&name, Instant::now());
        let lease = account.endpoint(origin()).lease();
        drop(account);

        let next = ledger.account(&name, Instant::now());
        assert_eq!(next.active(), 1, "the old configuration is gone, its request is not");
        assert_eq!(next.endpoint(origin()).count(), 1);
        assert_eq!(next.endpoint((Scheme::Http, "a.example".to_owned(), 80)).count(), 0, "another origin");
        drop(lease);
        assert_eq!(next.active(), 0);
    }
}
