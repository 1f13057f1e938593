//! Metrics under upstream's names.

use crate::queue::Depths;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    exponential_buckets, register,
};
use std::sync::LazyLock;

/// All metrics of the scheduler.
pub struct Metrics {
    /// scheduler_schedule_attempts_total by result and profile
    pub attempts: IntCounterVec,
    /// scheduler_scheduling_attempt_duration_seconds by result and profile
    pub attempt_duration: HistogramVec,
    /// scheduler_scheduling_algorithm_duration_seconds
    pub algorithm_duration: Histogram,
    /// scheduler_pod_scheduling_sli_duration_seconds by attempts
    pub sli_duration: HistogramVec,
    /// scheduler_pod_scheduling_attempts
    pub pod_attempts: Histogram,
    /// scheduler_pod_scheduled_after_flush_total
    pub after_flush: IntCounter,
    /// scheduler_preemption_attempts_total
    pub preemption_attempts: IntCounter,
    /// scheduler_preemption_victims
    pub preemption_victims: Histogram,
    /// scheduler_queue_incoming_pods_total by queue and event
    pub incoming: IntCounterVec,
    /// scheduler_unschedulable_pods by plugin and profile
    pub unschedulable: IntGaugeVec,
    /// scheduler_cache_size by type
    pub cache_size: IntGaugeVec,
    /// scheduler_goroutines by operation; here, requests under way
    pub goroutines: IntGaugeVec,
    pending: IntGaugeVec,
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(collector: prometheus::Result<C>) -> C {
    // Names and labels are constants of this file; tests create them all.
    #[allow(clippy::expect_used)]
    let collector = collector.expect("metric descriptions are well-formed");
    // The error says that the name is taken, which a second scheduler in one process may cause.
    let _ = register(Box::new(collector.clone()));
    collector
}

fn buckets(start: f64, factor: f64, count: usize) -> Vec<f64> {
    exponential_buckets(start, factor, count).unwrap_or_default()
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(IntGaugeVec::new(Opts::new(name, help), labels))
}

fn histogram(name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    registered(Histogram::with_opts(
        HistogramOpts::new(name, help).buckets(buckets),
    ))
}

fn histograms(name: &str, help: &str, buckets: Vec<f64>, labels: &[&str]) -> HistogramVec {
    registered(HistogramVec::new(
        HistogramOpts::new(name, help).buckets(buckets),
        labels,
    ))
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    attempts: counters(
        "scheduler_schedule_attempts_total",
        "Attempts to schedule pods, by result: scheduled, unschedulable, or error for a problem inside.",
        &["result", "profile"],
    ),
    attempt_duration: histograms(
        "scheduler_scheduling_attempt_duration_seconds",
        "Time for an attempt to schedule a pod, binding included.",
        buckets(0.001, 2.0, 15),
        &["result", "profile"],
    ),
    algorithm_duration: histogram(
        "scheduler_scheduling_algorithm_duration_seconds",
        "Time for deciding about a pod.",
        buckets(0.001, 2.0, 15),
    ),
    sli_duration: histograms(
        "scheduler_pod_scheduling_sli_duration_seconds",
        "Time from a pod's first attempt to its binding.",
        buckets(0.01, 2.0, 20),
        &["attempts"],
    ),
    pod_attempts: histogram(
        "scheduler_pod_scheduling_attempts",
        "Attempts until a pod was scheduled.",
        buckets(1.0, 2.0, 5),
    ),
    after_flush: registered(IntCounter::new(
        "scheduler_pod_scheduled_after_flush_total",
        "Pods scheduled after they had been aside for too long without an event that helped them.",
    )),
    preemption_attempts: registered(IntCounter::new(
        "scheduler_preemption_attempts_total",
        "Attempts at preemption.",
    )),
    preemption_victims: histogram(
        "scheduler_preemption_victims",
        "Pods sent away for one pod.",
        buckets(1.0, 2.0, 7),
    ),
    incoming: counters(
        "scheduler_queue_incoming_pods_total",
        "Pods put into a queue, by event.",
        &["queue", "event"],
    ),
    unschedulable: gauges(
        "scheduler_unschedulable_pods",
        "Pods aside, by the plugin that turned them down.",
        &["plugin", "profile"],
    ),
    cache_size: gauges(
        "scheduler_cache_size",
        "Nodes, pods and assumed pods known.",
        &["type"],
    ),
    goroutines: gauges(
        "scheduler_goroutines",
        "Requests under way, by operation.",
        &["operation"],
    ),
    pending: gauges(
        "scheduler_pending_pods",
        "Pods waiting, by queue: active, backoff, unschedulable, gated.",
        &["queue"],
    ),
});

/// The metrics of this process.
pub fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    /// Shows how many pods wait where.
    pub fn show_depths(&self, depths: Depths) {
        for (queue, depth) in [
            ("active", depths.active),
            ("backoff", depths.backoff),
            ("unschedulable", depths.unschedulable),
            ("gated", depths.gated),
        ] {
            self.pending
                .with_label_values(&[queue])
                .set(i64::try_from(depth).unwrap_or(i64::MAX));
        }
    }
}

/// The label for a number of attempts.
pub fn attempts_label(attempts: u32) -> String {
    if attempts >= 15 {
        "15+".to_owned()
    } else {
        attempts.to_string()
    }
}
