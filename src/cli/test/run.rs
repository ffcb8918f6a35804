//! One case through the gateway: a runtime, a gateway, a cache and a clock of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::runtime;
use super::client;
use super::expect::{self, Failure};
use super::masks::{Masks, invented};
use super::stub::{Call, Stubs};
use crate::config::Document;
use crate::plan::cases::{Case, Send, Step};
use crate::server::stage::{self, Staged};

/// What came of a case.
pub struct Outcome {
    /// What is not as it has to be; none: the case passed.
    pub failures: Vec<Failure>,
    /// How long it took, in real time.
    pub took: Duration,
}

/// What came of one request.
pub struct Seen {
    /// The answer that the client got.
    pub answer: client::Received,
    /// What upstreams got, in order.
    pub calls: Vec<Call>,
    /// The line of the access log; `None` where the guard at the door answered.
    pub line: Option<serde_json::Value>,
    /// What is hidden.
    pub masks: Arc<Masks>,
}

/// Tries a case against a configuration. `folder` is empty and nobody else's.
pub fn case(case: &Case, document: &Document, directory: &Path, folder: &Path) -> Outcome {
    let began = Instant::now();
    let failures = match runtime() {
        Ok(runtime) => {
            let failures = runtime.block_on(steps(case, document, directory, folder));
            runtime.shutdown_background();
            failures
        }
        Err(why) => vec![Failure::of_case(case.at.place(), why)],
    };
    Outcome { failures, took: began.elapsed() }
}

async fn steps(case: &Case, document: &Document, directory: &Path, folder: &Path) -> Vec<Failure> {
    let broken = |why: String| vec![Failure::of_case(case.at.place(), why)];
    let stubs = Stubs::new(folder, &case.stub);
    let process = stage::process(Arc::new(stubs.clone()));
    let plan = match stage::compile(document, directory, &process, invented) {
        Ok((plan, _)) => plan,
        Err(report) => return broken(report.human()),
    };
    let masks = Arc::new(Masks::of(&plan));
    let patience = plan
        .upstreams
        .iter()
        .map(|(name, upstream)| (name.to_string(), upstream.upstream.timeouts().request))
        .collect();
    stubs.know(Masks::of(&plan), patience);
    let log = folder.join("access.log");
    let gateway = match Staged::new(plan, process, &log) {
        Ok(gateway) => Arc::new(gateway),
        Err(why) => return broken(format!("the access log cannot be written: {why}")),
    };
    let mut run = Run { gateway, stubs, masks, log_read: 0 };
    let mut failures = Vec::new();
    for step in &case.steps {
        run.gateway.pass(step.wait + run.stubs.take_time());
        run.stubs.begin_step(&step.stub);
        let Some(send) = &step.send else { continue };
        for turn in 1..=step.repeat {
            if turn > 1 {
                run.gateway.pass(run.stubs.take_time());
            }
            let found = run.turn(send, step, &log).await;
            if found.is_empty() {
                continue;
            }
            let note = |mut failure: Failure| {
                if step.repeat > 1 {
                    failure.turn = Some((turn, step.repeat));
                }
                failure
            };
            failures.extend(found.into_iter().map(note));
            // What follows rests on what has just failed.
            return failures;
        }
    }
    failures
}

/// A case under way.
struct Run {
    gateway: Arc<Staged>,
    stubs: Stubs,
    masks: Arc<Masks>,
    /// Bytes of the access log that were read.
    log_read: usize,
}

impl Run {
    async fn turn(&mut self, send: &Send, step: &Step, log: &Path) -> Vec<Failure> {
        let seen = match self.send(send, log).await {
            Ok(seen) => seen,
            Err(why) => return vec![Failure::of_case(step.at.place(), why)],
        };
        let complaints = self.stubs.take_complaints();
        if !complaints.is_empty() {
            let failed = |why| Failure::of_case(step.at.place(), why).with_calls(&seen.calls);
            return complaints.into_iter().map(failed).collect();
        }
        expect::check(step, &seen)
    }

    async fn send(&mut self, send: &Send, log: &Path) -> Result<Seen, String> {
        let plan = self.gateway.plan();
        let named = |name: &str| plan.listeners.iter().find(|listener| listener.name.as_str() == name);
        let listener = send.listener.as_deref().map_or_else(|| plan.listeners.first(), named);
        let listener = listener.ok_or("this configuration has no such listener")?.name.clone();
        let (mut ours, theirs) = client::pair().await.map_err(|why| format!("no socket: {why}"))?;
        let gateway = self.gateway.clone();
        let peer = client::address(send);
        // The connection's own task, as in a running gateway.
        let serving = tokio::spawn(async move { gateway.serve(&listener, theirs, peer).await });
        let answer = client::exchange(&mut ours, send).await;
        drop(ours);
        if serving.await.is_err() {
            return Err("the gateway panicked".into());
        }
        self.settle().await?;
        Ok(Seen {
            answer,
            calls: self.stubs.take_calls(),
            line: self.next_line(log),
            masks: self.masks.clone(),
        })
    }

    /// Waits until nothing is under way any more: a stale answer is renewed behind its client's back.
    async fn settle(&self) -> Result<(), String> {
        let deadline = Instant::now() + LONGEST_ERRAND;
        let mut turns = 0_u32;
        while !self.gateway.is_idle() {
            turns += 1;
            if turns < 256 {
                tokio::task::yield_now().await;
            } else if Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(1)).await;
            } else {
                return Err("something is still under way behind the answer".into());
            }
        }
        Ok(())
    }

    fn next_line(&mut self, log: &Path) -> Option<serde_json::Value> {
        self.gateway.flush();
        let text = std::fs::read_to_string(log).ok()?;
        let line = text.get(self.log_read..)?.lines().last().and_then(|line| serde_json::from_str(line).ok());
        self.log_read = text.len();
        line
    }
}

/// How long the renewal of a stored answer may take: its upstream answers at once.
const LONGEST_ERRAND: Duration = Duration::from_secs(10);
