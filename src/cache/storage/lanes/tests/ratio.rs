//! The promise of `benches/eviction` on a trace that is short enough for every run.

use crate::cache::storage::lanes;
use lanes::Favor;
use ours::Ours;
use policies::{Policy, Queue, Ratio, S3Fifo, run};
use trace::{Recipe, Trace};

#[path = "../../../../../benches/eviction/ours.rs"]
mod ours;
#[path = "../../../../../benches/eviction/policies.rs"]
#[expect(dead_code, reason = "the bench compares with more")]
mod policies;
#[path = "../../../../../benches/eviction/trace.rs"]
#[expect(dead_code, reason = "the bench reads files too")]
mod trace;

#[test]
fn answers_as_many_objects_as_the_exact_policy_and_more_bytes_than_lru() {
    let recipe = Recipe { name: "short", objects: 30_000, zipf: 0.8, wonders: 20, scan: 2_000, drift: 300 };
    let trace = recipe.make(1, 300_000);
    for percent in [1, 10] {
        let capacity = trace.footprint() * percent / 100;
        let (exact, stored) = run(&mut S3Fifo::size_aware(capacity, &trace), &trace);
        let lru = ratio(Queue::lru(capacity, &trace), &trace);
        let [requests, bytes] = [Favor::Requests, Favor::Bytes]
            .map(|favor| ratio(Ours::new(capacity, stored, favor, &trace), &trace));
        let told = format!("{percent} %: {requests:?} {bytes:?}, exact {exact:?}, LRU {lru:?}");
        assert!(requests.objects >= exact.objects - 1.0, "objects, {told}");
        assert!(requests.bytes >= lru.bytes && bytes.bytes >= lru.bytes, "bytes, {told}");
        assert!(requests.objects > bytes.objects && requests.bytes < bytes.bytes, "the setting, {told}");
    }
}

fn ratio(mut policy: impl Policy, trace: &Trace) -> Ratio {
    run(&mut policy, trace).0
}
