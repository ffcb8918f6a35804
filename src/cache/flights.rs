//! One call to the upstream for concurrent requests of one key.
//!
//! ```text
//!   join ──first──▶ Lead ── fetches ── land(Landing) ──▶ every Wait learns it
//!     │                └── dropped without a word ─────▶ Landing::Lost: one of them leads
//!     └──later──▶ Wait ── landing().await, within its patience
//! ```
//!
//! A flight ends when the head of the answer is known: where that is stored, the waiters read along from the fill. Nothing of an answer is
//! kept here but a status, and that only for those who wait. Flights are as many as requests that lead one, waiters as many as requests.
//!
//! Who has waited too long goes alone, and of those only [`MAX_STRAYS`] per key at a time: a slow origin is not asked once per client.
//!
//! A failure is shared with those whose requests are alike: who makes an upstream fail by what it sends makes it fail for itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ahash::RandomState;
use http::HeaderMap;
use parking_lot::Mutex;
use pingora_cache::CacheKey;
use pingora_cache::key::{CacheHashKey, HashBinary};
use tokio::sync::watch;

use super::key::hash128;

/// What became of a fetch that others wait for.
#[derive(Debug, Clone)]
pub enum Landing {
    /// The answer is in the store, or is being written to it: look again.
    Stored,
    /// The answer is not for sharing: everybody asks for themselves, at once.
    Unshared,
    /// It failed: for the others too, as far as it is theirs.
    Failed(Failure),
    /// The leader is gone without a word: one of the waiters leads.
    Lost,
}

/// A fetch that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What its client is told.
    pub status: u16,
    /// A digest of the fields of its request, where the upstream saw them and may have failed at them; `None` where it saw nothing or said
    /// nothing.
    pub fields: Option<HashBinary>,
    /// Whether one of those who waited has asked once more, in vain.
    again: Arc<AtomicBool>,
}

impl Failure {
    /// A failure that its client is told as `status`, with a digest of the fields that the upstream may have failed at.
    #[must_use]
    pub fn new(status: u16, fields: Option<HashBinary>) -> Self {
        Self { status, fields, again: Arc::default() }
    }

    /// Whether another call was made for those who waited, and failed too.
    #[must_use]
    pub fn is_final(&self) -> bool {
        // Relaxed: it is set before the flight leaves the table, and who leads the next one has held that lock since.
        self.again.load(Relaxed)
    }

    /// Whether a request with these fields would fare no better.
    #[must_use]
    pub fn is_for(&self, fields: &HeaderMap) -> bool {
        self.fields.is_none_or(|failed| failed == digest(fields))
    }
}

/// A digest of fields: names, values and their order.
#[must_use]
pub fn digest(fields: &HeaderMap) -> HashBinary {
    let mut framed = Vec::with_capacity(512);
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            framed.extend_from_slice(&(part.len() as u64).to_le_bytes());
            framed.extend_from_slice(part);
        }
    }
    hash128(&framed)
}

/// A place at a flight.
#[derive(Debug)]
pub enum Seat {
    /// This request fetches.
    Lead(Lead),
    /// Another one does.
    Wait(Wait),
}

/// All flights of a zone.
#[derive(Debug)]
pub struct Flights {
    shards: Box<[Mutex<Shard>]>,
    alone: AtomicU64,
    refused: AtomicU64,
}

type Shard = HashMap<HashBinary, Flight, RandomState>;

/// One key that is being fetched.
#[derive(Debug, Default)]
struct Flight {
    /// Of the leader that is under way, if any.
    landing: Option<Arc<watch::Sender<Option<Landing>>>>,
    /// Requests that gave up waiting and went by themselves.
    strays: usize,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            alone: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl Flights {
    /// Takes the lead of a key, or a place behind who has it.
    pub fn join(&'static self, key: &CacheKey) -> Seat {
        let key = key.combined_bin();
        let mut shard = self.shard(&key).lock();
        let flight = shard.entry(key).or_default();
        if let Some(landing) = &flight.landing {
            return Seat::Wait(Wait { landing: landing.subscribe() });
        }
        let landing = Arc::new(watch::Sender::new(None));
        flight.landing = Some(landing.clone());
        Seat::Lead(Lead { flights: self, key, landing, again: None })
    }

    /// Takes the lead of a key if nobody has it.
    pub fn lead(&'static self, key: &CacheKey) -> Option<Lead> {
        match self.join(key) {
            Seat::Lead(lead) => Some(lead),
            Seat::Wait(_) => None,
        }
    }

    /// Whether somebody fetches a key, for people.
    pub fn is_under_way(&self, key: &CacheKey) -> bool {
        let key = key.combined_bin();
        self.shard(&key).lock().get(&key).is_some_and(|flight| flight.landing.is_some())
    }

    /// Goes alone after a wait that was too long. `None`: enough others of this key are doing that.
    pub fn stray(&'static self, key: &CacheKey) -> Option<Stray> {
        let key = key.combined_bin();
        let mut shard = self.shard(&key).lock();
        let flight = shard.entry(key).or_default();
        if flight.strays >= MAX_STRAYS {
            return None;
        }
        flight.strays += 1;
        self.alone.fetch_add(1, Relaxed);
        Some(Stray { flights: self, key })
    }

    /// Counts a request that waited in vain and was not let to the upstream.
    pub fn note_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Requests that waited too long, since the start: those that went alone, and those that were not let to the upstream.
    pub fn impatient(&self) -> (u64, u64) {
        (self.alone.load(Relaxed), self.refused.load(Relaxed))
    }

    fn shard(&self, key: &HashBinary) -> &Mutex<Shard> {
        let [first, ..] = *key;
        // The hash is keyed and uniform.
        self.shards.get(usize::from(first) % SHARDS).expect("the index is a remainder of the length")
    }

    fn leave(&self, key: HashBinary, change: impl FnOnce(&mut Flight)) {
        if let Entry::Occupied(mut place) = self.shard(&key).lock().entry(key) {
            change(place.get_mut());
            if place.get().landing.is_none() && place.get().strays == 0 {
                place.remove();
            }
        }
    }
}

/// The lead of a flight. Dropping it without [`Lead::land`] lets another lead.
#[derive(Debug)]
pub struct Lead {
    flights: &'static Flights,
    key: HashBinary,
    landing: Arc<watch::Sender<Option<Landing>>>,
    /// Of the failure that it asks again after.
    again: Option<Arc<AtomicBool>>,
}

impl Lead {
    /// Leads on behalf of all whom this failure did not convince.
    pub fn after(&mut self, failure: &Failure) {
        self.again = Some(Arc::clone(&failure.again));
    }

    /// Whether it is the lead of this key.
    #[must_use]
    pub fn leads(&self, key: &CacheKey) -> bool {
        self.key == key.combined_bin()
    }

    /// Ends the flight and tells those who wait. The first word counts.
    pub fn land(self, landing: Landing) {
        self.end(landing);
    }

    fn end(&self, landing: Landing) {
        if let (Landing::Failed(_), Some(again)) = (&landing, &self.again) {
            again.store(true, Relaxed);
        }
        // Out of the table first: who comes now must not find a flight that has landed.
        self.flights.leave(self.key, |flight| {
            if flight.landing.as_ref().is_some_and(|other| Arc::ptr_eq(other, &self.landing)) {
                flight.landing = None;
            }
        });
        self.landing.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert(landing);
            first
        });
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.landing.borrow().is_none() {
            self.end(Landing::Lost);
        }
    }
}

/// A place behind a leader.
#[derive(Debug)]
pub struct Wait {
    landing: watch::Receiver<Option<Landing>>,
}

impl Wait {
    /// What became of the fetch; `None` if it is still under way at `until`.
    pub async fn landing(mut self, until: Instant) -> Option<Landing> {
        let told = self.landing.wait_for(Option::is_some);
        match tokio::time::timeout_at(until.into(), told).await {
            Ok(Ok(told)) => told.clone(),
            Ok(Err(_)) => Some(Landing::Lost),
            Err(_) => None,
        }
    }
}

/// Leave to go alone; given back when dropped.
#[derive(Debug)]
pub struct Stray {
    flights: &'static Flights,
    key: HashBinary,
}

impl Drop for Stray {
    fn drop(&mut self) {
        self.flights.leave(self.key, |flight| flight.strays = flight.strays.saturating_sub(1));
    }
}

/// How long a request waits for others in all before it goes alone, or, where enough others do that, waits on for as long as a call to the
/// upstream may take (`timeouts.request`). nginx waits five seconds (`proxy_cache_lock_timeout`); a vendor's slow
/// answers take longer than that, and a second call would not be faster.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How often a request takes a place again when leaders are lost, before it goes alone.
pub const MAX_ROUNDS: usize = 16;
/// Requests of one key that may go alone at a time.
pub const MAX_STRAYS: usize = 8;
const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn flights() -> &'static Flights {
        Box::leak(Box::default())
    }

    fn key(text: &str) -> CacheKey {
        CacheKey::new(text, "")
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn lead(seat: Seat) -> Lead {
        let Seat::Lead(lead) = seat else { panic!("somebody leads already") };
        lead
    }

    fn wait(seat: Seat) -> Wait {
        let Seat::Wait(wait) = seat else { panic!("nobody leads") };
        wait
    }

    fn is_empty(flights: &Flights) -> bool {
        flights.shards.iter().all(|shard| shard.lock().is_empty())
    }

    #[tokio::test]
    async fn one_leads_and_the_others_learn_how_it_ended() {
        let flights = flights();
        let leader = lead(flights.join(&key("a")));
        let others = [wait(flights.join(&key("a"))), wait(flights.join(&key("a")))];
        drop(lead(flights.join(&key("b"))));
        leader.land(Landing::Failed(Failure::new(503, None)));
        for other in others {
            let Some(Landing::Failed(failure)) = other.landing(soon()).await else { panic!("it failed") };
            assert_eq!((failure.status, failure.is_final()), (503, false));
        }
        assert!(is_empty(flights), "nothing stays");
    }

    #[tokio::test]
    async fn a_leader_that_vanishes_lets_another_lead() {
        let flights = flights();
        let leader = lead(flights.join(&key("a")));
        let other = wait(flights.join(&key("a")));
        drop(leader);
        assert!(matches!(other.landing(soon()).await, Some(Landing::Lost)));
        lead(flights.join(&key("a"))).land(Landing::Stored);
        assert!(is_empty(flights), "nothing stays");
    }

    #[tokio::test]
    async fn who_comes_after_the_landing_leads_the_next_flight() {
        let flights = flights();
        lead(flights.join(&key("a"))).land(Landing::Unshared);
        let next = lead(flights.join(&key("a")));
        let late = wait(flights.join(&key("a")));
        next.land(Landing::Stored);
        let landing = late.landing(soon()).await;
        assert!(matches!(landing, Some(Landing::Stored)), "not what the first one ended with");
    }

    #[tokio::test]
    async fn a_wait_ends_in_time() {
        let flights = flights();
        let _leader = lead(flights.join(&key("a")));
        assert!(wait(flights.join(&key("a"))).landing(Instant::now()).await.is_none());
    }

    #[test]
    fn a_failure_is_for_requests_that_are_alike() {
        let fields = |cookie: &str| crate::cache::heads::fields(&[("accept", "*/*"), ("cookie", cookie)]);
        let failure = Failure::new(500, Some(digest(&fields("a"))));
        assert!(failure.is_for(&fields("a")) && !failure.is_for(&fields("b")), "by what was sent");
        assert!(Failure::new(500, None).is_for(&fields("b")), "nothing was seen of it");
    }

    #[test]
    fn a_call_that_fails_again_ends_it_for_all() {
        let (flights, failure) = (flights(), Failure::new(500, None));
        let mut again = lead(flights.join(&key("a")));
        again.after(&failure);
        again.land(Landing::Failed(Failure::new(500, None)));
        assert!(failure.is_final(), "no third one");
        let (failure, mut again) = (Failure::new(500, None), lead(flights.join(&key("a"))));
        again.after(&failure);
        again.land(Landing::Stored);
        assert!(!failure.is_final(), "it was the first one's fault");
    }

    #[test]
    fn variants_fly_apart() {
        let flights = flights();
        let mut german = key("a");
        german.set_variance_key([1; 16]);
        let both = (flights.join(&key("a")), flights.join(&german));
        assert!(matches!(both, (Seat::Lead(_), Seat::Lead(_))));
    }

    #[test]
    fn only_so_many_go_alone() {
        let flights = flights();
        let strays: Vec<_> = (0..MAX_STRAYS).filter_map(|_| flights.stray(&key("a"))).collect();
        assert_eq!(strays.len(), MAX_STRAYS);
        assert!(flights.stray(&key("a")).is_none(), "one too many");
        assert!(flights.stray(&key("b")).is_some(), "another key");
        flights.note_refused();
        assert_eq!(flights.impatient(), (MAX_STRAYS as u64 + 1, 1), "counted");
        drop(strays);
        assert!(is_empty(flights), "nothing stays");
    }
}
