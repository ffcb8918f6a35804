//! The store against a plain map, under random and under concurrent load.

use std::collections::HashMap;

use super::*;
use crate::cache::purge::Scope;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, size: usize, finish: bool },
    Get { key: u8 },
    Purge { key: u8 },
    Expire { key: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u8>(), 0usize..9000, prop::bool::weighted(0.9)).prop_map(|(key, size, finish)| Step::Put { key, size, finish }),
        4 => any::<u8>().prop_map(|key| Step::Get { key }),
        1 => any::<u8>().prop_map(|key| Step::Purge { key }),
        1 => any::<u8>().prop_map(|key| Step::Expire { key }),
    ]
}

/// Keys 0 to 255: 64 names with a primary and three variants each.
fn numbered(n: u8) -> CacheKey {
    let name = (n / 4).to_string();
    if n.is_multiple_of(4) { key(&name) } else { variant(&name, [n; 16]) }
}

/// Times come from the round, not from the clock of the machine.
fn meta_at(created: SystemTime) -> CacheMeta {
    let head = ResponseHeader::build(200, None).unwrap();
    CacheMeta::new(created + Duration::from_secs(60), created, 0, 0, head)
}

async fn run(room: usize, steps: Vec<Step>) -> StoreStats {
    let store = private(room, 8000);
    let capacity = store.stats().capacity_bytes;
    let mut model: HashMap<u8, Vec<u8>> = HashMap::new();
    let base = SystemTime::now();
    for (round, step) in steps.into_iter().enumerate() {
        match step {
            Step::Put { key, size, finish } => {
                let content = vec![round as u8; size];
                let stored = meta_at(base + Duration::from_millis(round as u64));
                let mut writer = store.get_miss_handler(&numbered(key), &stored, &span()).await.unwrap();
                let written = writer.write_body(content.clone().into(), true).await.is_ok();
                if finish && written && writer.finish().await.is_ok() {
                    model.insert(key, content);
                }
            }
            Step::Get { key } => {
                if let Some(found) = body(store, &numbered(key)).await {
                    assert_eq!(
                        Some(&found),
                        model.get(&key),
                        "round {round}: what is found is what was stored last"
                    );
                }
            }
            Step::Purge { key } => {
                purge(store, &numbered(key)).await;
                model.remove(&key);
                if key.is_multiple_of(4) {
                    (key + 1..=key + 3).for_each(|variant| drop(model.remove(&variant)));
                }
            }
            Step::Expire { key } => {
                let compact = numbered(key).to_compact();
                store.expire(PurgeTarget::Active(&compact), &span()).await.unwrap();
            }
        }
        let stats = store.stats();
        assert!(stats.used_bytes <= capacity, "round {round}: {stats:?}");
        assert_eq!((stats.fills, stats.entries <= model.len()), (0, true), "round {round}: {stats:?}");
    }
    // Whatever the model knows and the store kept must be equal; and the books must close at zero.
    let mut kept = 0;
    for n in 0..=255u8 {
        let found = body(store, &numbered(n)).await;
        kept += usize::from(found.is_some());
        assert!(found.is_none() || found.as_ref() == model.get(&n), "key {n}");
    }
    assert_eq!(kept, store.stats().entries, "every entry can be found");
    store.ban(&Scope::All, Mode::Hard);
    store.sweep_and_retire();
    let stats = store.stats();
    assert_eq!((stats.used_bytes, stats.resident_bytes, stats.entries), (0, 0, 0), "closed: {stats:?}");
    stats
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn under_random_load_the_store_agrees_with_a_map_and_stays_in_bounds(
        capacity in 20_000usize..400_000,
        steps in prop::collection::vec(step(), 1..400),
    ) {
        block_on(run(capacity, steps));
    }

    #[test]
    fn with_room_for_all_nothing_is_lost(steps in prop::collection::vec(step(), 1..200)) {
        let stats = block_on(run(64 << 20, steps));
        prop_assert_eq!(stats.evictions_size, 0);
    }
}

#[test]
fn many_threads_leave_the_books_in_order() {
    let store = private(200_000, 8000);
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            scope.spawn(move || {
                block_on(async {
                    for n in 0..3000usize {
                        let key = numbered((n * (thread * 2 + 1)) as u8);
                        match n % 7 {
                            0..=2 => drop(put(store, &key, &meta(&[]), &[&vec![n as u8; n % 5000]]).await),
                            3 => drop(purge(store, &key).await),
                            _ => {
                                if let Some(body) = body(store, &key).await {
                                    let first = body.first().copied();
                                    assert!(
                                        body.iter().all(|b| Some(*b) == first),
                                        "one writer's bytes only"
                                    );
                                }
                            }
                        }
                        let stats = store.stats();
                        assert!(stats.used_bytes <= stats.capacity_bytes, "bounded at every moment");
                    }
                });
            });
        }
    });
    store.ban(&Scope::All, Mode::Hard);
    store.sweep_and_retire();
    let stats = store.stats();
    assert_eq!(
        (stats.used_bytes, stats.resident_bytes, stats.entries, stats.fills),
        (0, 0, 0, 0),
        "{stats:?}"
    );
}
