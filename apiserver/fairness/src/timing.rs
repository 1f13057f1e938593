//! A histogram over time: every nanosecond is an observation of the value that held then.
//!
//! Upstream reports utilization in this form. The value is a ratio whose numerator and denominator change one at a time.

use prometheus::Opts;
use prometheus::core::{Collector, Desc, Describer};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Tells the time since some start that all figures share.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Histograms over time, one for each set of label values.
#[derive(Clone)]
pub struct TimingVec(Arc<Inner>);

struct Inner {
    desc: Desc,
    labels: Vec<&'static str>,
    bounds: Vec<f64>,
    clock: Clock,
    cells: Mutex<BTreeMap<Vec<String>, Timing>>,
}

/// A histogram over time.
#[derive(Clone)]
pub struct Timing(Arc<Mutex<Cell>>);

struct Cell {
    last: Duration,
    numerator: f64,
    denominator: f64,
    /// Nanoseconds by bucket, the last one for what is above all bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl TimingVec {
    /// No histograms yet. The clock is read when they are collected.
    pub fn new(
        opts: &Opts,
        labels: &[&'static str],
        bounds: &[f64],
        clock: Clock,
    ) -> prometheus::Result<Self> {
        let mut desc = opts.describe()?;
        desc.variable_labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Ok(Self(Arc::new(Inner {
            desc,
            labels: labels.to_vec(),
            bounds: bounds.to_vec(),
            clock,
            cells: Mutex::default(),
        })))
    }

    /// The histogram of these label values; its ratio is zero until it is set.
    pub fn with(&self, values: &[&str]) -> Timing {
        let key = values.iter().map(|value| (*value).to_owned()).collect();
        let make = || {
            Timing(Arc::new(Mutex::new(Cell {
                last: (self.0.clock)(),
                numerator: 0.0,
                denominator: 1.0,
                counts: vec![0; self.0.bounds.len() + 1],
                sum: 0.0,
            })))
        };
        lock(&self.0.cells).entry(key).or_insert_with(make).clone()
    }
}

impl Inner {
    fn metric(&self, values: &[String], timing: &Timing, now: Duration) -> Metric {
        let mut cell = lock(&timing.0);
        cell.advance(now, &self.bounds);
        let mut histogram = Histogram::default();
        let mut cumulative = 0;
        let mut buckets = Vec::new();
        for (bound, count) in self.bounds.iter().zip(&cell.counts) {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cell.counts.iter().sum());
        histogram.set_sample_sum(cell.sum);
        let mut labels: Vec<LabelPair> = self.desc.const_label_pairs.clone();
        for (name, value) in self.labels.iter().zip(values) {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.clone());
            labels.push(pair);
        }
        let mut metric = Metric::default();
        metric.set_label(labels);
        metric.set_histogram(histogram);
        metric
    }
}

impl Timing {
    /// The numerator is this from now on.
    pub fn set(&self, now: Duration, value: f64, bounds: &TimingVec) {
        let mut cell = lock(&self.0);
        cell.advance(now, &bounds.0.bounds);
        cell.numerator = value;
    }

    /// The denominator is this from now on.
    pub fn set_denominator(&self, now: Duration, value: f64, bounds: &TimingVec) {
        let mut cell = lock(&self.0);
        cell.advance(now, &bounds.0.bounds);
        cell.denominator = value.max(1.0);
    }
}

impl Cell {
    fn advance(&mut self, now: Duration, bounds: &[f64]) {
        let nanos = now.saturating_sub(self.last).as_nanos();
        self.last = self.last.max(now);
        let ratio = self.numerator / self.denominator;
        let at = bounds
            .iter()
            .position(|bound| ratio <= *bound)
            .unwrap_or(bounds.len());
        if let Some(count) = self.counts.get_mut(at) {
            *count += u64::try_from(nanos).unwrap_or(u64::MAX);
        }
        self.sum += ratio * nanos as f64;
    }
}

impl Collector for TimingVec {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = (self.0.clock)();
        let cells = lock(&self.0.cells);
        let metrics = cells
            .iter()
            .map(|(values, timing)| self.0.metric(values, timing, now));
        let mut family = MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nanosecond_counts_once() {
        let clock: Clock = Arc::new(|| Duration::from_nanos(100));
        let opts = Opts::new("x", "Help.").const_label("phase", "executing");
        let vec = TimingVec::new(&opts, &["level"], &[0.0, 0.5, 1.0], Arc::new(|| Duration::ZERO)).unwrap();
        let timing = vec.with(&["a"]);
        timing.set_denominator(Duration::ZERO, 4.0, &vec);
        timing.set(Duration::from_nanos(10), 2.0, &vec);
        timing.set(Duration::from_nanos(40), 8.0, &vec);
        let metric = vec.0.metric(&["a".to_owned()], &timing, clock());
        let histogram = metric.get_histogram();
        let counts: Vec<u64> = histogram
            .get_bucket()
            .iter()
            .map(Bucket::cumulative_count)
            .collect();
        assert_eq!(counts, [10, 40, 40]);
        assert_eq!(
            (histogram.get_sample_count(), histogram.get_sample_sum()),
            (100, 15.0 + 120.0)
        );
        let labels: Vec<&str> = metric.get_label().iter().map(LabelPair::name).collect();
        assert_eq!(labels, ["phase", "level"]);
        assert_eq!(vec.collect().len(), 1);
    }
}
