//! From cells to families: what happens when `/metrics` is asked for.
//!
//! Runs on the thread that scrapes, reads every cell once and stops nobody.

use std::collections::HashMap;
use std::sync::Weak;

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use super::State;
use super::catalogue::{Kind, Metric, Owner};
use super::cells::{Count, Counts, Sharded};
use super::histogram::{Histogram, snapshot};
use super::labels::Label;
use super::status::{self, CodeCounts};

/// The samples of one scrape, family by family.
#[derive(Debug)]
pub struct Samples {
    families: Vec<Vec<proto::Metric>>,
}

impl Samples {
    pub(super) fn new() -> Self {
        Self { families: Metric::ALL.iter().map(|_| Vec::new()).collect() }
    }

    /// Adds one sample. `values` are the label values in the order of the catalogue. A sample with the wrong number of labels
    /// is left out: it would make the whole scrape unreadable.
    pub fn push(&mut self, metric: Metric, values: &[&str], value: f64) {
        let mut sample = proto::Metric::default();
        match metric.family().kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
            Kind::Histogram(_) => return,
        }
        self.add(metric, values, sample);
    }

    /// Adds a whole number.
    #[expect(clippy::cast_precision_loss, reason = "the text format speaks of doubles: exact up to 2^53")]
    pub(super) fn whole(&mut self, metric: Metric, values: &[&str], value: u64) {
        self.push(metric, values, value as f64);
    }

    /// Adds one sample per value of a closed enum; its label is the last one.
    pub(super) fn counts<T, E: Label, const N: usize>(
        &mut self,
        metric: Metric,
        before: &[&str],
        shards: &Sharded<T>,
        of: impl Fn(&T) -> &Counts<E, N>,
    ) {
        let mut values = before.to_vec();
        for label in E::ALL {
            values.push(label.as_str());
            self.whole(metric, &values, shards.sum(|shard| of(shard).of(*label).value()));
            values.pop();
        }
    }

    /// Adds one sample per label that was counted, of cells that are made when they are needed; `before` are the labels before it.
    pub(super) fn counts_seen<T, E: Label, const N: usize>(
        &mut self,
        metric: Metric,
        before: &[&str],
        shards: &Sharded<T>,
        of: impl Fn(&T) -> Option<&Counts<E, N>>,
    ) {
        let mut values = before.to_vec();
        for label in E::ALL {
            let count = shards.sum(|shard| of(shard).map_or(0, |counts| counts.of(*label).value()));
            if count > 0 {
                values.push(label.as_str());
                self.whole(metric, &values, count);
                values.pop();
            }
        }
    }

    /// Adds one sample per status code that was counted; its label is the last one.
    pub(super) fn codes<T>(
        &mut self,
        metric: Metric,
        before: &[&str],
        shards: &Sharded<T>,
        of: impl Fn(&T) -> Option<&CodeCounts>,
    ) {
        let mut values = before.to_vec();
        for (slot, code) in status::labels() {
            let count = shards.sum(|shard| of(shard).map_or(0, |codes| codes.value(slot)));
            if count > 0 {
                values.push(code);
                self.whole(metric, &values, count);
                values.pop();
            }
        }
    }

    /// Adds one counter that is sharded.
    pub(super) fn count<T>(
        &mut self,
        metric: Metric,
        values: &[&str],
        shards: &Sharded<T>,
        of: impl Fn(&T) -> &Count,
    ) {
        self.whole(metric, values, shards.sum(|shard| of(shard).value()));
    }

    /// Adds one histogram.
    pub(super) fn histogram<T>(
        &mut self,
        metric: Metric,
        values: &[&str],
        shards: &Sharded<T>,
        of: impl Fn(&T) -> &Histogram,
    ) {
        if let Kind::Histogram(buckets) = metric.family().kind {
            let mut sample = proto::Metric::default();
            sample.set_histogram(snapshot(buckets, shards, of));
            self.add(metric, values, sample);
        }
    }

    fn add(&mut self, metric: Metric, values: &[&str], mut sample: proto::Metric) {
        let keys = metric.family().labels;
        debug_assert_eq!(keys.len(), values.len(), "{} has other labels", metric.family().name);
        if keys.len() != values.len() {
            return;
        }
        sample.set_label(keys.iter().zip(values).map(|(key, value)| pair(key.name, value)).collect());
        if let Some(family) = self.families.get_mut(metric as usize) {
            family.push(sample);
        }
    }

    /// Lines of text that the samples will take, comments not counted.
    fn series(&self) -> usize {
        let lines = |sample: &proto::Metric| match sample.get_histogram().get_bucket().len() {
            0 => 1,
            // The +Inf bucket, the sum and the count come on top.
            buckets => buckets + 3,
        };
        self.families.iter().flatten().map(lines).sum()
    }

    fn into_families(mut self) -> Vec<proto::MetricFamily> {
        // This sample counts itself, and those of the process, which another collector adds: one series each.
        let of_process = Metric::ALL.iter().filter(|metric| metric.family().owner == Owner::Process).count();
        self.whole(Metric::MetricsSeries, &[], (self.series() + of_process) as u64 + 1);
        let filled = Metric::ALL.iter().zip(self.families).filter(|(_, samples)| !samples.is_empty());
        filled.map(|(metric, samples)| family(*metric, samples)).collect()
    }
}

fn pair(name: &str, value: &str) -> proto::LabelPair {
    let mut pair = proto::LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn family(metric: Metric, samples: Vec<proto::Metric>) -> proto::MetricFamily {
    let entry = metric.family();
    let mut family = proto::MetricFamily::default();
    family.set_name(entry.name.to_owned());
    family.set_help(entry.help.to_owned());
    family.set_field_type(match entry.kind {
        Kind::Counter => proto::MetricType::COUNTER,
        Kind::Gauge => proto::MetricType::GAUGE,
        Kind::Histogram(_) => proto::MetricType::HISTOGRAM,
    });
    family.set_metric(samples);
    family
}

/// What the registry asks. Holds the state weakly, so that a registry somebody kept does not keep everything alive.
pub(super) struct Scrape {
    state: Weak<State>,
    descriptions: Vec<Desc>,
}

impl Scrape {
    pub(super) fn new(state: Weak<State>) -> Self {
        let ours =
            Metric::ALL.iter().map(|metric| metric.family()).filter(|family| family.owner != Owner::Process);
        let descriptions = ours
            .map(|family| {
                let labels = family.labels.iter().map(|label| label.name.to_owned()).collect();
                Desc::new(family.name.to_owned(), family.help.to_owned(), labels, HashMap::new())
                    .expect("a test checks the catalogue's names and labels")
            })
            .collect();
        Self { state, descriptions }
    }
}

impl Collector for Scrape {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let Some(state) = self.state.upgrade() else { return Vec::new() };
        let mut samples = Samples::new();
        state.collect(&mut samples);
        samples.into_families()
    }
}
