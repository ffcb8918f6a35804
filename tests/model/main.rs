//! The cache against a plain model of RFC 9111: random sequences of requests, answers and passing time, through the gateway in this
//! process and through the model, side by side.
//!
//! `MODEL_SEQUENCES=5000 cargo test --test model` runs so many, each time others (`make test-long` does). Without it there are few and
//! always the same, so that a change is never stopped by what it did not do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod cache;
mod check;
mod freshness;
mod message;
mod origin;
mod random;
mod settings;
mod show;
mod shrink;
mod stage;
mod validation;
mod view;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use cache::Cache;
use message::Ask;
use origin::Origin;
use settings::Settings;
use stage::Stage;

/// One request, and what the origin would say to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Seconds before it.
    pub pass: i64,
    /// What the client sends.
    pub ask: Ask,
    /// What it would be told.
    pub origin: Origin,
}

/// A route and what happens on it.
#[derive(Clone, PartialEq)]
pub struct Sequence {
    /// The route.
    pub settings: Settings,
    /// In order.
    pub steps: Vec<Step>,
}

/// How many sequences there are in the suite.
const USUAL: u32 = 60;
/// The clock is the wall's for what dates say: a machine that stops for so long spoils a sequence.
const TOO_SLOW: Duration = Duration::from_secs(2);
const STACK_BYTES: usize = 32 << 20;

#[test]
fn the_cache_does_what_the_model_does() {
    // The gateway's own threads are polled here, on one stack, without optimisation.
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(search).unwrap();
    if let Err(why) = thread.join() {
        std::panic::resume_unwind(why);
    }
}

fn search() {
    let wanted = std::env::var("MODEL_SEQUENCES").ok().map(|text| text.parse().expect("a number"));
    let config = Config {
        cases: wanted.unwrap_or(USUAL),
        failure_persistence: None,
        // What is shrunk by hand becomes plainer, and sooner.
        max_shrink_iters: 0,
        ..Config::default()
    };
    let mut runner = match wanted {
        Some(_) => TestRunner::new(config),
        None => {
            let seed = [7; 32];
            TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
        }
    };
    let seen = Mutex::new(BTreeMap::new());
    let outcome = runner.run(&random::sequence(), |sequence| {
        let situations = compare(&sequence).map_err(|found| TestCaseError::fail(found.to_string()))?;
        situations.into_iter().for_each(|situation| *seen.lock().unwrap().entry(situation).or_insert(0) += 1);
        Ok(())
    });
    match outcome {
        Ok(()) => {
            let seen: BTreeMap<&str, u32> = seen.into_inner().unwrap();
            eprintln!("{seen:?}");
            for situation in check::SITUATIONS {
                assert!(
                    seen.get(situation).is_some_and(|count| *count >= 5),
                    "too seldom: {situation}, {seen:?}"
                );
            }
        }
        Err(TestError::Fail(_, sequence)) => {
            let sequence = shrink::shrink(&sequence, |less| compare(less).err().map(|found| found.step));
            let difference = compare(&sequence).err();
            let why = difference.map_or_else(|| "not any more".to_owned(), |found| found.to_string());
            panic!("the cache and the model do not agree\n\n{}\n{why}", show::sequence(&sequence));
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// Runs a sequence through both. What happens only on a machine that stands still in between does not count.
fn compare(sequence: &Sequence) -> Result<Vec<&'static str>, check::Difference> {
    let began = Instant::now();
    match run(sequence) {
        Err(_) if began.elapsed() > TOO_SLOW => run(sequence),
        outcome => outcome,
    }
}

fn run(sequence: &Sequence) -> Result<Vec<&'static str>, check::Difference> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Dates have whole seconds.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    runtime.block_on(async {
        let stage = Stage::new(&sequence.settings, folder.path(), epoch);
        let mut model = Cache::new(&sequence.settings, epoch);
        let mut situations = Vec::new();
        for (number, step) in sequence.steps.iter().enumerate() {
            stage.pass(step.pass);
            model.pass(step.pass);
            let (got, calls) = stage.step(&step.ask, &step.origin, number).await;
            check::step(&mut model, step, number, &got, &calls)?;
            situations.extend(check::situations(&got, &calls));
        }
        Ok(situations)
    })
}
