//! Hit ratios of the store's eviction beside others, on traces that anyone can make again.
//!
//! ```text
//! cargo bench --bench eviction                       the traces of `RECIPES`
//! cargo bench --bench eviction -- --requests N       the same, shorter or longer
//! cargo bench --bench eviction -- --trace FILE       lines of `time id size`
//! ```
//!
//! Ends with an error where the store's own policy answers fewer objects than the exact reference by more than a point, or fewer bytes
//! than LRU.

mod crates;
mod ours;
mod policies;
mod trace;

use std::process::ExitCode;

use ours::Ours;
use policies::{Oracle, Policy, Queue, Ratio, S3Fifo, Sieve, run};
use portcullis::cache::storage::lanes;
use portcullis::cache::storage::lanes::Favor;
use trace::{Recipe, Trace};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let cells = match arguments.as_slice() {
        [] => Ok(made(REQUESTS)),
        ["--requests", count] => count.parse().map(made).map_err(|error| format!("`{count}`: {error}")),
        ["--trace", file] => read(file),
        _ => Err("eviction [--requests N | --trace FILE]".to_owned()),
    };
    match cells.map(|cells| tell(&cells)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("eviction: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One column of the table: a trace and a capacity.
struct Cell {
    name: String,
    /// For each seed, the ratios in the order of [`ROWS`].
    seeds: Vec<Vec<Ratio>>,
}

/// A way to make a policy for a trace.
struct Row {
    name: &'static str,
    make: for<'a> fn(&Setup, &'a Trace) -> Box<dyn Policy + 'a>,
}

/// What all policies of a cell are given.
struct Setup {
    capacity: u64,
    /// The most objects that the reference ever held there.
    objects: usize,
}

const ROWS: [Row; 13] = [
    Row { name: "ours, `favor: requests`", make: |s, t| ours(s, Favor::Requests, t) },
    Row { name: "S3-FIFO, size aware, exact", make: |s, t| Box::new(S3Fifo::size_aware(s.capacity, t)) },
    Row { name: "ours, `favor: bytes`", make: |s, t| ours(s, Favor::Bytes, t) },
    Row { name: "S3-FIFO as published, exact", make: |s, t| Box::new(S3Fifo::plain(s.capacity, t)) },
    Row { name: "FIFO", make: |s, t| Box::new(Queue::fifo(s.capacity, t)) },
    Row { name: "LRU", make: |s, t| Box::new(Queue::lru(s.capacity, t)) },
    Row { name: "SIEVE", make: |s, t| Box::new(Sieve::new(s.capacity, t)) },
    Row { name: "moka", make: |s, _| Box::new(crates::Moka::new(s.capacity)) },
    Row { name: "quick_cache", make: |s, _| Box::new(crates::QuickCache::new(s.capacity, s.objects)) },
    Row { name: "TinyUFO", make: |s, t| Box::new(crates::TinyUfo::new(s.capacity, s.objects, t)) },
    Row { name: "the future known: distance", make: |s, t| Box::new(Oracle::new(s.capacity, t, false)) },
    Row {
        name: "the future known: distance x size",
        make: |s, t| Box::new(Oracle::new(s.capacity, t, true)),
    },
    Row { name: "nothing ever leaves", make: |_, t| Box::new(Queue::fifo(u64::MAX / 2, t)) },
];
const OURS: usize = 0;
const REFERENCE: usize = 1;
const OURS_BY_BYTES: usize = 2;
const LRU: usize = 5;
/// From here on no policies, but what none can reach.
const FIRST_BOUND: usize = 10;

fn ours<'a>(setup: &Setup, favor: Favor, trace: &'a Trace) -> Box<dyn Policy + 'a> {
    Box::new(Ours::new(setup.capacity, setup.objects, favor, trace))
}

fn made(requests: usize) -> Vec<Cell> {
    let mut cells = Vec::new();
    for recipe in RECIPES {
        let traces = SEEDS.map(|seed| recipe.make(seed, requests));
        cells.extend(SHARES.map(|percent| cell(recipe.name, percent, &traces)));
    }
    cells
}

fn read(file: &str) -> Result<Vec<Cell>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("`{file}`: {error}"))?;
    let traces = [Trace::parse(&text).map_err(|error| format!("`{file}`: {error}"))?];
    Ok(SHARES.map(|percent| cell(file, percent, &traces)).into())
}

fn cell(name: &str, percent: u64, traces: &[Trace]) -> Cell {
    let seeds = traces.iter().map(|trace| {
        let capacity = trace.footprint() * percent / 100;
        let (_, objects) = run(&mut S3Fifo::size_aware(capacity, trace), trace);
        let setup = Setup { capacity, objects };
        ROWS.iter().map(|row| run(&mut *(row.make)(&setup, trace), trace).0).collect()
    });
    Cell { name: format!("{name}, {percent} %"), seeds: seeds.collect() }
}

/// Prints the table and what it says. True if ours holds what it promises.
fn tell(cells: &[Cell]) -> bool {
    table(cells);
    println!("\nObject and byte hit ratio in percent, mean of the seeds; bold: above ours.");
    let spread =
        cells.iter().flat_map(|cell| (0..ROWS.len()).map(|row| cell.spread(row))).fold(0.0, f64::max);
    println!("The seeds of a cell differ by at most {spread:.1} points.\n");
    for (index, row) in ROWS.iter().enumerate().take(FIRST_BOUND) {
        let ahead: Vec<String> = cells.iter().filter_map(|cell| cell.ahead(index)).collect();
        if !ahead.is_empty() {
            println!("{} beats ours: {}", row.name, ahead.join("; "));
        }
    }
    println!();
    let objects = |ratio: Ratio| ratio.objects;
    let bytes = |ratio: Ratio| ratio.bytes;
    let checks = [
        ("object hit ratio against the exact reference", OURS, REFERENCE, -1.0, objects as fn(Ratio) -> f64),
        ("byte hit ratio against LRU", OURS, LRU, 0.0, bytes),
        ("byte hit ratio of `favor: bytes` against `favor: requests`", OURS_BY_BYTES, OURS, 0.0, bytes),
    ];
    let held = checks.map(|(what, ours, theirs, least, of)| {
        let worst = worst(cells, |ratios| of(ratios[ours]) - of(ratios[theirs]));
        let held = worst.0 >= least;
        let verdict = if held { "holds" } else { "BROKEN" };
        println!("{verdict}: {what}, at least {least:+.1}: worst {:+.2} points ({})", worst.0, worst.1);
        held
    });
    held.iter().all(|held| *held)
}

fn table(cells: &[Cell]) {
    let names: Vec<&str> = cells.iter().map(|cell| cell.name.as_str()).collect();
    println!("| policy | {} |\n|---{}|", names.join(" | "), "|---".repeat(cells.len()));
    for (index, row) in ROWS.iter().enumerate() {
        let columns: Vec<String> = cells.iter().map(|cell| cell.shown(index)).collect();
        println!("| {} | {} |", row.name, columns.join(" | "));
    }
}

impl Cell {
    fn mean(&self, row: usize) -> Ratio {
        let count = self.seeds.len() as f64;
        let sum =
            |of: fn(&Ratio) -> f64| self.seeds.iter().map(|ratios| of(&ratios[row])).sum::<f64>() / count;
        Ratio { objects: sum(|ratio| ratio.objects), bytes: sum(|ratio| ratio.bytes) }
    }

    fn spread(&self, row: usize) -> f64 {
        let range = |of: fn(&Ratio) -> f64| {
            let all = self.seeds.iter().map(|ratios| of(&ratios[row]));
            all.clone().fold(0.0, f64::max) - all.fold(f64::MAX, f64::min)
        };
        range(|ratio| ratio.objects).max(range(|ratio| ratio.bytes))
    }

    fn shown(&self, row: usize) -> String {
        let (ours, theirs) = (self.mean(OURS), self.mean(row));
        let one = |ours: f64, theirs: f64| {
            if theirs > ours { format!("**{theirs:.1}**") } else { format!("{theirs:.1}") }
        };
        format!("{}/{}", one(ours.objects, theirs.objects), one(ours.bytes, theirs.bytes))
    }

    /// By how much a row is ahead of ours, if it is in anything that the table shows.
    fn ahead(&self, row: usize) -> Option<String> {
        let (ours, theirs) = (self.mean(OURS), self.mean(row));
        let (objects, bytes) = (theirs.objects - ours.objects, theirs.bytes - ours.bytes);
        (objects >= 0.05 || bytes >= 0.05)
            .then(|| format!("{} ({objects:+.1} objects, {bytes:+.1} bytes)", self.name))
    }
}

/// The smallest difference of all cells and seeds, and where it is.
fn worst(cells: &[Cell], difference: impl Fn(&[Ratio]) -> f64) -> (f64, String) {
    let all = cells.iter().flat_map(|cell| {
        let seeds = cell.seeds.iter().zip(SEEDS);
        seeds.map(|(ratios, seed)| (difference(ratios), format!("{}, seed {seed}", cell.name)))
    });
    all.min_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or_default()
}

const REQUESTS: usize = 1_000_000;
const SEEDS: [u64; 3] = [1, 2, 3];
/// Capacity in percent of the bytes of all that is asked for.
const SHARES: [u64; 2] = [1, 10];
const RECIPES: [Recipe; 4] = [
    Recipe { name: "zipf 0.7, wonders", objects: 200_000, zipf: 0.7, wonders: 20, scan: 0, drift: 0 },
    Recipe { name: "zipf 0.9, wonders", objects: 200_000, zipf: 0.9, wonders: 20, scan: 0, drift: 0 },
    Recipe {
        name: "zipf 0.8, wonders, scans",
        objects: 200_000,
        zipf: 0.8,
        wonders: 20,
        scan: 10_000,
        drift: 0,
    },
    Recipe {
        name: "zipf 1.0, wonders, drift",
        objects: 200_000,
        zipf: 1.0,
        wonders: 20,
        scan: 0,
        drift: 2_000,
    },
];
