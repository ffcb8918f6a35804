//! What a decision of the limiter costs, and what a key does; beside `governor`, in the same run.
//!
//! ```text
//! cargo bench --bench limits             1 000 000 live keys
//! ... -- KEYS DECISIONS                  so many, so often
//! ```
//!
//! CPU time of the whole process for each decision, so that two threads that get into each other's way cost more and not less. Every decision
//! hashes its key. The time is given, as in the gateway, where a request has it already. Keys come in random order, so the memory of a key is in
//! no near cache of the processor, unless all are: the first line says what one such read costs at this moment on this machine, and a decision
//! cannot be faster than that. Live means that no key comes to rest meanwhile: nobody makes way, and both count every key there is.
//!
//! `governor` keeps its keys in a map that grows (`dashmap`) and forgets nobody until it is told to; ours has a fixed size.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use portcullis::limit::{Quota, Table, clock};
use rustix::time::{ClockId, clock_gettime};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nothing is used up, and nothing comes to rest.
const BURST: NonZeroU32 = NonZeroU32::MAX;
const WINDOW: Duration = Duration::from_hours(24 * 366);

fn main() -> ExitCode {
    let arguments: Vec<usize> =
        std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let (keys, decisions) = match arguments.as_slice() {
        [] => (1_000_000, 10_000_000),
        [keys, decisions] if *keys > 0 => (*keys, *decisions),
        _ => {
            eprintln!("limits [KEYS DECISIONS]");
            return ExitCode::FAILURE;
        }
    };
    println!("{keys} live keys, {decisions} decisions of each thread, ns of CPU each");
    println!("{:<34}{:>9}{:>9}{:>9}{:>12}", "", "first", "1 thread", "2 threads", "bytes/key");
    println!("{:<34}{:>9}{:>9.0}", "one read of as much memory", "", one_read(2 * keys * 17, decisions));
    governor(keys, decisions);
    let folder = tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir());
    let file = folder.as_ref().map(|folder| folder.path().join("limits"));
    // Twice the room: that is where next to no newcomer is estimated.
    if let Ok(file) = &file {
        let (table, _) = Table::open(file, 2 * keys).expect("a file in memory");
        ours("ours, in a file, half full", &table, keys, decisions);
    }
    ours("ours, in private memory, half full", &Table::new(2 * keys), keys, decisions);
    ExitCode::SUCCESS
}

/// Where a gateway's file would lie.
const MEMORY: &str = "/dev/shm";

fn ours(name: &str, table: &Table, keys: usize, decisions: usize) {
    let interval = WINDOW / 1_000_000_000;
    let quota = Quota::new(NonZeroU32::MIN, interval, NonZeroU32::new(1 << 30).unwrap_or(BURST));
    // The first of each key is a whole day ahead, so that it stays live.
    let live = Quota::new(NonZeroU32::MIN, Duration::from_hours(24), NonZeroU32::MIN);
    let now_ns = clock::nanoseconds(Instant::now());
    let decide = |quota: &Quota, subject: u64| {
        let key = table.key(7, &subject.to_le_bytes());
        table.decide(key, quota, now_ns).allowed
    };
    let first = each(keys, || (0..keys as u64).for_each(|subject| _ = black_box(decide(&live, subject))));
    let one = each(decisions, || walk(keys, decisions, 1, |subject| decide(&quota, subject)));
    let two = each(2 * decisions, || {
        std::thread::scope(|scope| {
            for seed in [1, 2] {
                scope.spawn(move || walk(keys, decisions, seed, |subject| decide(&quota, subject)));
            }
        });
    });
    let stats = table.stats();
    // 256 bytes for fifteen keys.
    let bytes = stats.capacity as f64 / 15.0 * 256.0;
    let per_room = bytes / stats.capacity as f64;
    println!("{name:<34}{first:>9.0}{one:>9.0}{two:>9.0}{:>12.1}", bytes / keys as f64);
    println!(
        "    {per_room:.1} bytes for each key there is room for, 10 million take {:.0} MB; estimated: {} of {} decisions",
        per_room * 10.0,
        stats.overflowed,
        keys + 3 * decisions
    );
}

fn governor(keys: usize, decisions: usize) {
    let quota = governor::Quota::with_period(Duration::from_millis(30)).map(|quota| quota.allow_burst(BURST));
    let Some(quota) = quota else { return };
    let before = resident_bytes();
    let limiter =
        governor::RateLimiter::dashmap_with_clock(quota, governor::clock::FakeRelativeClock::default());
    let decide = |subject: u64| limiter.check_key(&(7u64, subject)).is_ok();
    let first = each(keys, || (0..keys as u64).for_each(|subject| _ = black_box(decide(subject))));
    let bytes = resident_bytes().saturating_sub(before);
    let one = each(decisions, || walk(keys, decisions, 1, decide));
    let two = each(2 * decisions, || {
        std::thread::scope(|scope| {
            for seed in [1, 2] {
                scope.spawn(move || walk(keys, decisions, seed, decide));
            }
        });
    });
    let name = "governor, dashmap";
    println!("{name:<34}{first:>9.0}{one:>9.0}{two:>9.0}{:>12.1}", bytes as f64 / keys as f64);
}

/// Reads one word after the other at random places; each read waits for the one before.
fn one_read(bytes: usize, times: usize) -> f64 {
    let words: Vec<AtomicU64> = (0..bytes as u64 / 8).map(AtomicU64::new).collect();
    let (mut random, mut read) = (1u64, 0u64);
    each(times, || {
        for _ in 0..times {
            random = step(random ^ (read & 1));
            let place = ((u128::from(random) * words.len() as u128) >> 64) as usize;
            read = words.get(place).map_or(0, |word| word.load(Relaxed));
        }
        black_box(read);
    })
}

/// The next of a row of numbers in no order: xorshift.
fn step(mut random: u64) -> u64 {
    random ^= random << 13;
    random ^= random >> 7;
    random ^ random << 17
}

/// Decides so often, for keys in random order.
fn walk(keys: usize, decisions: usize, seed: u64, decide: impl Fn(u64) -> bool) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..decisions {
        random = step(random);
        black_box(decide(((u128::from(random) * keys as u128) >> 64) as u64));
    }
}

/// CPU time of each of so many.
fn each(times: usize, work: impl FnOnce()) -> f64 {
    let before = cpu();
    work();
    cpu().saturating_sub(before).as_nanos() as f64 / times as f64
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kibibytes.unwrap_or_default() * 1024
}
