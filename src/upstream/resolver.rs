//! Process-lifetime half of this room: resolves the names of all upstreams in the background, and keeps the accounts that
//! survive a reload. A request never waits for a name server: it uses the addresses that are known.
//!
//! One task per name. It ends when no configuration uses the name; if its runtime ends first, the next request that needs the
//! name starts it again.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hickory_resolver::config::ResolverConfig;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::Stage;
use super::dns::Client;
use super::ledger::Ledger;
use super::target::Target;

/// Resolves names in the background, and keeps what else of the upstreams outlives a configuration. Process lifetime: make one.
pub struct Resolver {
    client: Client,
    targets: Mutex<HashMap<String, Weak<Target>>>,
    pub(super) ledger: Ledger,
    /// Who answers in place of the upstreams, where none may be reached.
    pub(super) stage: Option<Arc<dyn Stage>>,
}

/// How resolving went so far; plain numbers for a metrics collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resolution {
    /// Questions that were answered with addresses.
    pub ok: u64,
    /// Questions that were not: the last good addresses stayed in use.
    pub failed: u64,
    /// How many addresses are known.
    pub addresses: usize,
    /// How long ago the addresses were last confirmed; of several names, the oldest. `None`: nothing to resolve, or never
    /// resolved.
    pub age: Option<Duration>,
}

impl Resolution {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            ok: self.ok + other.ok,
            failed: self.failed + other.failed,
            addresses: self.addresses + other.addresses,
            age: self.age.max(other.age),
        }
    }
}

impl Resolver {
    /// With the system's hosts file and name servers (read once, now). Starts nothing yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::over(Client::of_system())
    }

    /// With other name servers than the system's.
    #[must_use]
    pub fn with_name_servers(config: ResolverConfig) -> Arc<Self> {
        Self::over(Client::with(config))
    }

    /// Without any network: every upstream is played by `stage`.
    #[must_use]
    pub fn staged(stage: Arc<dyn Stage>) -> Arc<Self> {
        let nobody = Client::with(ResolverConfig::from_name_servers(Vec::new()));
        Arc::new(Self { stage: Some(stage), ..Self::of(nobody) })
    }

    fn over(client: Client) -> Arc<Self> {
        Arc::new(Self::of(client))
    }

    fn of(client: Client) -> Self {
        Self { client, targets: Mutex::default(), ledger: Ledger::default(), stage: None }
    }

    /// How resolving went so far, over all names in use.
    #[must_use]
    pub fn stats(&self) -> Resolution {
        let targets: Vec<_> = self.targets.lock().values().filter_map(Weak::upgrade).collect();
        let now = Instant::now();
        targets.iter().fold(Resolution::default(), |sum, target| sum.and(target.resolution(now)))
    }

    /// The entry of a host, new or known. Does not ask yet: a configuration may still be refused.
    pub(super) fn target(&self, host: &str) -> Arc<Target> {
        let mut targets = self.targets.lock();
        targets.retain(|_, target| target.strong_count() > 0);
        if let Some(known) = targets.get(host).and_then(Weak::upgrade) {
            return known;
        }
        let target = match &self.stage {
            None => Target::new(host, Instant::now()),
            Some(_) => Target::staged(host, Instant::now()),
        };
        let target = Arc::new(target);
        targets.insert(host.to_owned(), Arc::downgrade(&target));
        target
    }

    /// Starts the task that keeps the addresses of `target` fresh, unless it runs. Outside of a runtime nothing happens, and
    /// the next caller starts it. Costs one load when there is nothing to do, so every request may call it.
    pub(super) fn watch(&self, target: &Arc<Target>) {
        // Relaxed: the swap below decides who starts it; here a stale `false` costs a swap and a stale `true` one request.
        if target.is_fixed() || target.is_watched.load(Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if !target.is_watched.swap(true, Ordering::Relaxed) {
            runtime.spawn(keep_fresh(Watching(Arc::downgrade(target)), self.client.clone()));
        }
    }
}

/// Says that the task is gone, however it ends.
struct Watching(Weak<Target>);

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(target) = self.0.upgrade() {
            target.is_watched.store(false, Ordering::Relaxed);
        }
    }
}

async fn keep_fresh(watching: Watching, client: Client) {
    while let Some(target) = watching.0.upgrade() {
        let wait = target.refresh(&client, Instant::now()).await;
        let mut end = target.end();
        // Only the users of the name may keep it: this task holds it no longer than a question takes.
        drop(target);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = async { while end.changed().await.is_ok() {} } => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::name_server::NameServer;
    use super::super::target::Standing;
    use super::super::{Settings, Tried, Upstream};
    use super::*;

    const NAME: &str = "vendor.example";

    fn used(target: &Target) -> Option<String> {
        target.choose(0, &Tried::default(), true).map(|address| address.to_string())
    }

    #[tokio::test]
    async fn names_are_asked_again_by_their_time_to_live() {
        let server = NameServer::start().await;
        let resolver = Resolver::with_name_servers(server.config());
        let target = resolver.target(NAME);
        let mut now = Instant::now();
        for (life, wait) in [(60, 60), (0, 5), (4, 5), (301, 300), (86_400, 300)] {
            server.tell(NAME, life, &["1.0.0.1"]);
            let waited = target.refresh(&resolver.client, now).await;
            assert_eq!(waited, Duration::from_secs(wait), "time to live {life}");
            now += waited;
        }
        server.tell(NAME, 60, &["1.0.0.2"]);
        target.refresh(&resolver.client, now).await;
        assert_eq!(used(&target).unwrap(), "1.0.0.2", "nothing older is kept anywhere");
        assert_eq!(server.questions(NAME), 12, "six times, two families");
    }

    #[tokio::test]
    async fn the_last_good_addresses_outlive_a_failing_server() {
        let server = NameServer::start().await;
        let resolver = Resolver::with_name_servers(server.config());
        let target = resolver.target(NAME);
        let start = Instant::now();
        server.tell(NAME, 60, &["1.0.0.1"]);
        target.refresh(&resolver.client, start).await;

        server.fail(NAME);
        let first = target.refresh(&resolver.client, start + Duration::from_secs(60)).await;
        let second = target.refresh(&resolver.client, start + Duration::from_secs(61)).await;
        assert_eq!((first.as_secs(), second.as_secs()), (1, 2), "backs off");
        server.tell(NAME, 60, &[]);
        target.refresh(&resolver.client, start + Duration::from_secs(63)).await;
        assert_eq!(used(&target).unwrap(), "1.0.0.1", "no address is no answer either");
        let resolution = target.resolution(start + Duration::from_secs(63));
        assert_eq!((resolution.ok, resolution.failed), (1, 3));
        assert_eq!(resolution.age, Some(Duration::from_secs(63)), "since the last good answer");

        server.tell(NAME, 60, &["1.0.0.2"]);
        let again = target.refresh(&resolver.client, start + Duration::from_secs(70)).await;
        assert_eq!((used(&target).unwrap().as_str(), again.as_secs()), ("1.0.0.2", 60));
    }

    #[tokio::test]
    async fn a_name_that_was_never_resolved_has_no_address() {
        let server = NameServer::start().await;
        let resolver = Resolver::with_name_servers(server.config());
        let target = resolver.target("none.example");
        target.refresh(&resolver.client, Instant::now()).await;
        assert_eq!(target.standing(0, &Tried::default(), true), Standing::Unresolved);
    }

    fn upstream(resolver: &Arc<Resolver>) -> Upstream {
        let mut settings = Settings::for_test(&[("http", NAME, 1)]);
        settings.allow_private = true;
        Upstream::compile(settings, resolver).unwrap()
    }

    fn peer_of(upstream: &Upstream) -> Option<String> {
        let picked = upstream.pick(&mut Tried::default(), Duration::from_secs(1)).ok()?;
        Some(picked.address.ip().to_string())
    }

    async fn until_peer_is(upstream: &Upstream, address: &str) {
        let followed = async {
            while peer_of(upstream).as_deref() != Some(address) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(600), followed).await.expect("asked again by itself");
    }

    /// The clock of the runtime jumps to the next timer whenever nothing else is to do, so minutes pass at once.
    #[tokio::test(start_paused = true)]
    async fn an_upstream_is_ready_and_follows_its_name() {
        let server = NameServer::start().await;
        server.tell(NAME, 60, &["10.0.0.1"]);
        let resolver = Resolver::with_name_servers(server.config());
        let upstream = upstream(&resolver);
        assert_eq!(server.questions(NAME), 0, "compiling asks nobody");
        upstream.ready().await;
        until_peer_is(&upstream, "10.0.0.1").await;
        server.tell(NAME, 60, &["10.0.0.2"]);
        until_peer_is(&upstream, "10.0.0.2").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_no_configuration_uses_is_forgotten() {
        let server = NameServer::start().await;
        server.tell(NAME, 5, &["10.0.0.1"]);
        let resolver = Resolver::with_name_servers(server.config());
        let old = upstream(&resolver);
        old.ready().await;
        until_peer_is(&old, "10.0.0.1").await;
        let new = upstream(&resolver);
        assert_eq!(peer_of(&new).as_deref(), Some("10.0.0.1"), "known from the old configuration");
        drop((old, new));
        let asked = server.questions(NAME);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(server.questions(NAME), asked, "the task has ended");
        assert_eq!(resolver.stats(), Resolution::default());
    }

    #[test]
    fn resolving_outlives_the_runtime_that_began_it() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let first = runtime();
        let server = first.block_on(NameServer::start());
        server.tell(NAME, 60, &["10.0.0.1"]);
        let resolver = Resolver::with_name_servers(server.config());
        let upstream = upstream(&resolver);
        assert_eq!(peer_of(&upstream), None, "no runtime: nothing is begun, and nothing panics");
        first.block_on(upstream.ready());
        let target = resolver.target(NAME);
        assert!(target.is_watched.load(Ordering::Relaxed));
        drop(first);
        assert!(!target.is_watched.load(Ordering::Relaxed), "the task went with its runtime");
        runtime().block_on(async {
            assert_eq!(peer_of(&upstream).as_deref(), Some("10.0.0.1"), "still known");
            assert!(target.is_watched.load(Ordering::Relaxed), "begun again by the request");
        });
    }
}
