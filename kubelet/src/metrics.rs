//! What the kubelet counts about itself, under upstream's names.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    exponential_buckets,
};
use std::sync::OnceLock;
use std::time::Duration;

/// All of them.
pub(crate) struct Metrics {
    operations: IntCounterVec,
    errors: IntCounterVec,
    durations: HistogramVec,
    /// Time from a pod's creation to its running, without what images took.
    pub(crate) start_sli: Histogram,
    /// Time from a pod's creation to its running.
    pub(crate) start_total: Histogram,
    /// Time of a sync.
    pub(crate) sync: HistogramVec,
    /// Time to list the runtime's pods.
    pub(crate) relist: Histogram,
    /// Pods with a sandbox.
    pub(crate) running_pods: IntGauge,
    /// Containers by state.
    pub(crate) running_containers: IntGaugeVec,
    /// Sandboxes made.
    pub(crate) started_pods: IntCounter,
    /// Sandboxes that couldn't be made.
    pub(crate) started_pods_errors: IntCounter,
    /// Containers started, by the list they are in.
    pub(crate) started_containers: IntCounterVec,
    /// Containers that couldn't be started, by list and reason.
    pub(crate) started_containers_errors: IntCounterVec,
    /// Pods evicted, by signal.
    pub(crate) evictions: IntCounterVec,
    /// 1 under the node's name.
    pub(crate) node_name: IntGaugeVec,
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help)
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let histogram =
            |name: &str, help: &str, buckets: Vec<f64>| HistogramOpts::new(name, help).buckets(buckets);
        let fine = exponential_buckets(0.005, 2.5, 14)?;
        let starts = vec![
            0.1, 0.25, 0.5, 1., 2., 3., 4., 5., 6., 8., 10., 20., 30., 45., 60., 120., 180., 300., 600.,
        ];
        Ok(Self {
            operations: IntCounterVec::new(
                opts(
                    "kubelet_runtime_operations_total",
                    "Calls of the container runtime",
                ),
                &["operation_type"],
            )?,
            errors: IntCounterVec::new(
                opts(
                    "kubelet_runtime_operations_errors_total",
                    "Calls of the container runtime that failed",
                ),
                &["operation_type"],
            )?,
            durations: HistogramVec::new(
                histogram(
                    "kubelet_runtime_operations_duration_seconds",
                    "Time of calls of the container runtime",
                    fine.clone(),
                ),
                &["operation_type"],
            )?,
            start_sli: Histogram::with_opts(histogram(
                "kubelet_pod_start_sli_duration_seconds",
                "Time from a pod's creation to its running, without what its images took",
                starts.clone(),
            ))?,
            start_total: Histogram::with_opts(histogram(
                "kubelet_pod_start_total_duration_seconds",
                "Time from a pod's creation to its running",
                starts,
            ))?,
            sync: HistogramVec::new(
                histogram(
                    "kubelet_pod_worker_duration_seconds",
                    "Time to sync a single pod",
                    fine.clone(),
                ),
                &["operation_type"],
            )?,
            relist: Histogram::with_opts(histogram(
                "kubelet_pleg_relist_duration_seconds",
                "Time to list the container runtime's pods",
                fine,
            ))?,
            running_pods: IntGauge::new("kubelet_running_pods", "Pods that have a running sandbox")?,
            running_containers: IntGaugeVec::new(
                opts("kubelet_running_containers", "Containers by state"),
                &["container_state"],
            )?,
            started_pods: IntCounter::new("kubelet_started_pods_total", "Sandboxes made")?,
            started_pods_errors: IntCounter::new(
                "kubelet_started_pods_errors_total",
                "Sandboxes that couldn't be made",
            )?,
            started_containers: IntCounterVec::new(
                opts("kubelet_started_containers_total", "Containers started"),
                &["container_type"],
            )?,
            started_containers_errors: IntCounterVec::new(
                opts(
                    "kubelet_started_containers_errors_total",
                    "Containers that couldn't be started",
                ),
                &["container_type", "code"],
            )?,
            evictions: IntCounterVec::new(
                opts("kubelet_evictions", "Pods evicted, by the signal that was low"),
                &["eviction_signal"],
            )?,
            node_name: IntGaugeVec::new(opts("kubelet_node_name", "The node's name"), &["node"])?,
        })
    }

    fn register(&self) -> prometheus::Result<()> {
        let all: [Box<dyn Collector>; 15] = [
            Box::new(self.operations.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.durations.clone()),
            Box::new(self.start_sli.clone()),
            Box::new(self.start_total.clone()),
            Box::new(self.sync.clone()),
            Box::new(self.relist.clone()),
            Box::new(self.running_pods.clone()),
            Box::new(self.running_containers.clone()),
            Box::new(self.started_pods.clone()),
            Box::new(self.started_pods_errors.clone()),
            Box::new(self.started_containers.clone()),
            Box::new(self.started_containers_errors.clone()),
            Box::new(self.evictions.clone()),
            Box::new(self.node_name.clone()),
        ];
        for metric in all {
            prometheus::default_registry().register(metric)?;
        }
        Ok(())
    }

    /// Counts a call of the runtime.
    pub(crate) fn operation(&self, call: &str, took: Duration, failed: bool) {
        let name = operation(call);
        self.operations.with_label_values(&[name.as_str()]).inc();
        self.durations
            .with_label_values(&[name.as_str()])
            .observe(took.as_secs_f64());
        if failed {
            self.errors.with_label_values(&[name.as_str()]).inc();
        }
    }
}

/// A CRI method as upstream's label names it: words in small letters, sandboxes written together.
fn operation(call: &str) -> String {
    let mut out = String::new();
    for (index, c) in call.char_indices() {
        if c.is_ascii_uppercase() && index > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out.replace("pod_sandbox", "podsandbox")
}

/// The process's metrics; absent only when their names clash, which is ours to prevent.
pub(crate) fn get() -> Option<&'static Metrics> {
    static METRICS: OnceLock<Option<Metrics>> = OnceLock::new();
    METRICS
        .get_or_init(|| {
            let made = Metrics::new().and_then(|m| m.register().map(|()| m));
            made.inspect_err(|error| tracing::error!(%error, "the kubelet's metrics are missing"))
                .ok()
        })
        .as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_register_and_operations_are_named_as_upstreams() {
        assert!(get().is_some());
        for (call, name) in [
            ("RunPodSandbox", "run_podsandbox"),
            ("ListContainers", "list_containers"),
            ("Version", "version"),
        ] {
            assert_eq!(operation(call), name);
        }
    }
}
