//! The cache's metrics, under upstream's names where upstream has them.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::time::Duration;

/// Counters and gauges of one cache. The default is registered nowhere.
#[derive(Clone, Debug)]
pub struct CacheMetrics {
    received: IntCounterVec,
    initialized: IntCounterVec,
    terminated: IntCounterVec,
    watchers: IntGaugeVec,
    consistent: IntCounterVec,
    read_wait: HistogramVec,
    quarantined: IntGaugeVec,
    objects: IntGaugeVec,
}

const LABELS: &[&str] = &["group", "resource"];

impl Default for CacheMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl CacheMetrics {
    /// Metrics registered on a registry.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self::new();
        registry.register(Box::new(metrics.received.clone()))?;
        registry.register(Box::new(metrics.initialized.clone()))?;
        registry.register(Box::new(metrics.terminated.clone()))?;
        registry.register(Box::new(metrics.watchers.clone()))?;
        registry.register(Box::new(metrics.consistent.clone()))?;
        registry.register(Box::new(metrics.read_wait.clone()))?;
        registry.register(Box::new(metrics.quarantined.clone()))?;
        registry.register(Box::new(metrics.objects.clone()))?;
        Ok(metrics)
    }

    #[expect(
        clippy::expect_used,
        reason = "the names are constants that prometheus accepts, shown by a test"
    )]
    fn new() -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("a valid name")
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid name")
        };
        let buckets = vec![
            0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0,
        ];
        let wait = HistogramOpts::new(
            "apiserver_watch_cache_read_wait_seconds",
            "Seconds that consistent reads waited for the cache.",
        );
        Self {
            received: counter(
                "apiserver_watch_cache_events_received_total",
                "Events that reached the cache.",
                LABELS,
            ),
            initialized: counter(
                "apiserver_watch_cache_initializations_total",
                "Loads from the store.",
                LABELS,
            ),
            terminated: counter(
                "apiserver_terminated_watchers_total",
                "Watchers cut off for falling behind.",
                LABELS,
            ),
            watchers: gauge(
                "apiserver_watch_cache_watchers",
                "Watchers of the cache now.",
                LABELS,
            ),
            consistent: counter(
                "apiserver_watch_cache_consistent_read_total",
                "Consistent reads from the cache.",
                &["success"],
            ),
            read_wait: HistogramVec::new(wait.buckets(buckets), &[]).expect("a valid name"),
            quarantined: gauge(
                "apiserver_watch_cache_quarantined_objects",
                "Stored objects that don't decode.",
                &[],
            ),
            objects: gauge("apiserver_resource_objects", "Objects stored.", LABELS),
        }
    }

    pub(crate) fn received(&self, group: &str, resource: &str, events: usize, objects: usize) {
        self.received
            .with_label_values(&[group, resource])
            .inc_by(events as u64);
        self.objects
            .with_label_values(&[group, resource])
            .set(objects as i64);
    }

    pub(crate) fn initialized(&self, group: &str, resource: &str, objects: usize) {
        self.initialized.with_label_values(&[group, resource]).inc();
        self.objects
            .with_label_values(&[group, resource])
            .set(objects as i64);
    }

    pub(crate) fn cut_off(&self, group: &str, resource: &str) {
        self.terminated.with_label_values(&[group, resource]).inc();
    }

    pub(crate) fn subscribed(&self, group: &str, resource: &str) {
        self.watchers.with_label_values(&[group, resource]).inc();
    }

    pub(crate) fn unsubscribed(&self, group: &str, resource: &str) {
        self.watchers.with_label_values(&[group, resource]).dec();
    }

    pub(crate) fn consistent_read(&self, success: bool, took: Duration) {
        self.consistent
            .with_label_values(&[if success { "true" } else { "false" }])
            .inc();
        self.read_wait
            .with_label_values::<&str>(&[])
            .observe(took.as_secs_f64());
    }

    pub(crate) fn quarantined(&self, objects: usize) {
        self.quarantined
            .with_label_values::<&str>(&[])
            .set(objects as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_register_once() {
        let registry = Registry::new();
        let metrics = CacheMetrics::register(&registry).expect("registers");
        metrics.subscribed("", "pods");
        assert!(!registry.gather().is_empty());
        assert!(CacheMetrics::register(&registry).is_err(), "names are taken");
    }
}
