//! What a hit, a store and a start cost: the arena beside caches in the heap of a process, in one run.
//!
//! ```text
//! cargo bench --bench arena                  everything; 2 minutes, 1.2 GB of memory
//! cargo bench --bench arena -- --rounds N    each figure is the least and the median of so many
//! cargo bench --bench arena -- --rounds N --kib SIZE      bodies of this size alone
//! ```
//!
//! CPU time of the thread (`CLOCK_THREAD_CPUTIME_ID`), or of the process where two threads work. What is done and what came out:
//! `benches/README.md`.

mod stores;

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use stores::{Length, Moka, Ours, Quick, Store, mix, open};

/// The product's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().ok().filter(|number: &usize| *number > 0);
    let (rounds, kib) = match arguments.as_slice() {
        [] => (Some(5), None),
        ["--rounds", rounds] => (number(rounds), None),
        ["--rounds", rounds, "--kib", kib] => (number(rounds).filter(|_| number(kib).is_some()), number(kib)),
        _ => (None, None),
    };
    let Some(rounds) = rounds else {
        eprintln!("arena [--rounds N [--kib N]]");
        return ExitCode::FAILURE;
    };
    let sizes = kib.map_or(vec![1 << 10, 16 << 10, 256 << 10], |kib| vec![kib << 10]);
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    println!(
        "CPU ns per operation, least and median of {rounds} rounds; keys by Zipf {ZIPF}, {CAPACITY} bytes\n"
    );
    println!("| size | store | get | put | 2 threads, 90/10 |");
    println!("|---|---|---|---|---|");
    for size in sizes {
        let records = u32::try_from(CAPACITY / size).expect("small");
        // One after the other, so that no two of them are in memory at once.
        let path = folder.path().join("a");
        let ours = Ours::open(&path, CAPACITY + records as usize * 136 + (1 << 20), records);
        show("arena", size, &measure(&ours, size, rounds));
        let (objects, used) = ours.used();
        let beyond = used - objects * (size + 24);
        let tables = ours.arena.parts().data.start;
        eprintln!(
            "{objects} objects of {size} B: {} B each in the file beyond head and body, {} B of them rounded up",
            (beyond + tables) / objects,
            beyond / objects
        );
        std::fs::remove_file(&path).expect("it is there");
        let quick = Quick::with_weighter(CAPACITY / size, CAPACITY as u64, Length);
        show("quick_cache", size, &measure(&quick, size, rounds));
        drop(quick);
        let weight = |_: &u128, body: &bytes::Bytes| u32::try_from(body.len()).unwrap_or(u32::MAX);
        let moka: Moka = moka::sync::Cache::builder().max_capacity(CAPACITY as u64).weigher(weight).build();
        show("moka", size, &measure(&moka, size, rounds));
    }
    println!();
    start(&folder.path().join("b"), rounds);
    ExitCode::SUCCESS
}

/// CPU nanoseconds of one operation, of each round.
struct Costs {
    get: Vec<f64>,
    put: Vec<f64>,
    both: Vec<f64>,
}

fn measure(store: &dyn Store, size: usize, rounds: usize) -> Costs {
    let body: Vec<u8> = (0..size as u64).map(|at| mix(at) as u8).collect();
    let mut next = (CAPACITY / size * 3 / 2) as u64;
    (0..next).for_each(|key| store.put(key, &body));
    let mut costs = Costs { get: Vec::new(), put: Vec::new(), both: Vec::new() };
    for round in 0..rounds {
        let kept: Vec<u64> = (0..next).filter(|key| store.get(*key).is_some()).collect();
        let keys = draw(&kept, GETS, round as u64);
        costs.get.push(cpu_of(ClockId::ThreadCPUTime, keys.len(), || {
            for key in &keys {
                look(store, *key);
            }
        }));
        let puts = ((256 << 20) / size).clamp(1000, 100_000);
        costs.put.push(cpu_of(ClockId::ThreadCPUTime, puts, || {
            for key in next..next + puts as u64 {
                store.put(key, &body);
            }
        }));
        next += puts as u64;
        let kept: Vec<u64> = (0..next).filter(|key| store.get(*key).is_some()).collect();
        let each = (GETS / 4).min((2 << 30) / size);
        let halves = [draw(&kept, each, 1), draw(&kept, each, 2)];
        costs.both.push(cpu_of(ClockId::ProcessCPUTime, 2 * each, || {
            std::thread::scope(|scope| {
                for (keys, first) in halves.iter().zip([next, next + each as u64]) {
                    let body = &body;
                    scope.spawn(move || {
                        for (key, at) in keys.iter().zip(0..) {
                            if at % 10 == 9 {
                                store.put(first + at, body);
                            } else {
                                look(store, *key);
                            }
                        }
                    });
                }
            });
        }));
        next += 2 * each as u64;
    }
    costs
}

/// A hit: two bytes of what lies together are read, the first and the last.
fn look(store: &dyn Store, key: u64) {
    if let Some(body) = store.get(key) {
        black_box((body.first().copied(), body.last().copied()));
    }
}

/// Keys by Zipf, the ranks in no order.
fn draw(kept: &[u64], count: usize, seed: u64) -> Vec<u64> {
    let mut ranks = kept.to_vec();
    ranks.sort_by_key(|key| mix(*key));
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=ranks.len())
        .map(|rank| {
            sum += (rank as f64).powf(-ZIPF);
            sum
        })
        .collect();
    (0..count as u64)
        .map(|at| {
            let point = (mix(seed << 32 | at) >> 11) as f64 / (1u64 << 53) as f64 * sum;
            ranks[sums.partition_point(|sum| *sum < point).min(ranks.len() - 1)]
        })
        .collect()
}

/// What a new process does: open, find one, attach.
fn start(path: &Path, rounds: usize) {
    let records = 1 << 20;
    let bytes = 420 << 20;
    let ours = Ours::open(path, bytes, records);
    (0..OBJECTS).for_each(|key| ours.put(key, &[7; 100]));
    ours.release();
    let heap_before = heap();
    let mut heap_after = 0;
    for _ in 0..rounds {
        let wall = Instant::now();
        let began = now(ClockId::ThreadCPUTime);
        let arena = open(path, bytes, records);
        let opened = wall.elapsed();
        let found = stores::body_of(arena, 4711).is_some();
        let first = wall.elapsed();
        let hit = now(ClockId::ThreadCPUTime) - began;
        let lease = arena.try_lease().expect("locks").expect("free");
        let (began, wall) = (now(ClockId::ThreadCPUTime), Instant::now());
        let attached = arena.attach(lease).expect("locks");
        let (cpu, elapsed) = (now(ClockId::ThreadCPUTime) - began, wall.elapsed());
        println!(
            "{} objects: open {opened:.2?}, first hit ({found}) after {first:.2?} ({hit:.2?} CPU); attach {cpu:.3?} CPU, {elapsed:.3?}",
            attached.survivors.len()
        );
        heap_after = heap();
    }
    // The last one is still there with its survivors and its writer; the others left a bit for each record.
    println!("heap of the process behind it: {} KiB more", heap_after.saturating_sub(heap_before) / 1024);
}

/// Bytes of the process that lie in no file.
fn heap() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn show(name: &str, size: usize, costs: &Costs) {
    let column = |costs: &[f64]| {
        let mut costs = costs.to_vec();
        costs.sort_by(f64::total_cmp);
        let least = costs.first().copied().unwrap_or_default();
        format!("{least:.0}, {:.0}", costs.get(costs.len() / 2).copied().unwrap_or_default())
    };
    let (get, put, both) = (column(&costs.get), column(&costs.put), column(&costs.both));
    println!("| {} KiB | {name} | {get} | {put} | {both} |", size >> 10);
}

fn cpu_of(clock: ClockId, operations: usize, what: impl FnOnce()) -> f64 {
    let began = now(clock);
    what();
    (now(clock) - began).as_nanos() as f64 / operations as f64
}

fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes of bodies that each store may hold.
const CAPACITY: usize = 512 << 20;
const ZIPF: f64 = 0.9;
const GETS: usize = 1_000_000;
const OBJECTS: u64 = 1_000_000;
