//! Metrics in the text format: the kubelet's own, what cAdvisor would say about containers, and how probes went.

use super::Server;
use super::api::{Body, text};
use super::metrics::{PodUsage, node, pods};
use crate::pods::PodExt;
use crate::probes::tracker::Kind;
use crate::resources::{amount, limits_of, quota, shares};
use crate::runtime::observed::ContainerState;
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use rutter_proto::cri::{NetworkInterfaceUsage, UInt64Value};
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::Arc;

/// Samples of one metric after its head.
struct Page {
    out: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display, at: Option<i64>) {
        let _ = write!(self.out, "{name}");
        for (index, (label, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{open}{label}=\"{}\"", escaped(value));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = write!(self.out, "{close} {value}");
        if let Some(at) = at {
            let _ = write!(self.out, " {at}");
        }
        self.out.push('\n');
    }

    fn answer(self) -> Response<Body> {
        text(StatusCode::OK, self.out)
    }
}

fn escaped(value: &str) -> std::borrow::Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
            .into()
    } else {
        value.into()
    }
}

/// `/metrics`
pub(crate) fn own(server: &Server) -> Response<Body> {
    if let Some(metrics) = crate::metrics::get() {
        let mut states: BTreeMap<&'static str, i64> = BTreeMap::new();
        let mut running = 0;
        for (_, view) in server.pool.list() {
            running += i64::from(view.observed.sandboxes.first().is_some_and(|s| s.ready));
            for container in &view.observed.containers {
                *states.entry(container.state.as_str()).or_default() += 1;
            }
        }
        metrics.running_pods.set(running);
        metrics.running_containers.reset();
        for (state, count) in states {
            metrics.running_containers.with_label_values(&[state]).set(count);
        }
        let name = server.shared().settings.node_name.as_str();
        metrics.node_name.with_label_values(&[name]).set(1);
    }
    text(StatusCode::OK, rutter_client::component::metrics_text())
}

/// `/metrics/probes`
pub(crate) fn probes(server: &Server) -> Response<Body> {
    let mut page = Page { out: String::new() };
    page.head(
        "prober_probe_total",
        "counter",
        "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
    );
    let mut all = server.pool.probe_counts();
    all.sort_by_cached_key(|(pod, _)| pod.full_name());
    for (pod, counts) in all {
        for ((container, kind, outcome), count) in counts.lock().iter() {
            let kind: &Kind = kind;
            let labels = [
                ("container", container.as_str()),
                ("namespace", pod.namespace()),
                ("pod", pod.name()),
                ("pod_uid", pod.metadata.uid.as_deref().unwrap_or_default()),
                ("probe_type", kind.as_str()),
                ("result", outcome),
            ];
            page.sample("prober_probe_total", &labels, count, None);
        }
    }
    page.answer()
}

/// One container's place in the lists below.
struct Row<'a> {
    pod: &'a Pod,
    spec: Option<Container>,
    usage: &'a PodUsage,
    name: &'a str,
    id: String,
    image: String,
    started: Option<Timestamp>,
}

/// `/metrics/cadvisor`: what dashboards and adapters read of it, for containers, pods' networks and the machine.
pub(crate) async fn cadvisor(server: &Server) -> Response<Body> {
    let used = pods(&server.pool).await;
    let network = networks(server).await;
    let now = Some(Timestamp::now().as_millisecond());
    let mut page = Page { out: String::new() };
    let whole = node(server.cgroups().is_unified());
    let views: BTreeMap<_, _> = server
        .pool
        .list()
        .into_iter()
        .map(|(pod, view)| (pod.uid(), view))
        .collect();
    let rows: Vec<Row<'_>> = used
        .iter()
        .flat_map(|usage| {
            let view = views.get(&usage.pod.uid());
            usage.containers.keys().filter_map(move |name| {
                let seen = view?
                    .observed
                    .containers
                    .iter()
                    .find(|c| c.name == *name && c.state == ContainerState::Running)?;
                Some(Row {
                    pod: &usage.pod,
                    spec: usage.pod.container(name),
                    usage,
                    name,
                    id: seen.id.clone(),
                    image: seen.image.clone(),
                    started: seen.started_at,
                })
            })
        })
        .collect();
    let mut each = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Row<'_>) -> Option<f64>| {
        page.head(name, kind, help);
        for row in &rows {
            let Some(value) = value(row) else { continue };
            let labels = [
                ("container", row.name),
                ("id", row.id.as_str()),
                ("image", row.image.as_str()),
                ("name", row.id.as_str()),
                ("namespace", row.pod.namespace()),
                ("pod", row.pod.name()),
            ];
            page.sample(name, &labels, value, now);
        }
        // The machine as a whole is a container, too.
        let value = match name {
            "container_cpu_usage_seconds_total" => whole.cpu_nanos as f64 / 1e9,
            "container_memory_working_set_bytes" => whole.working_set as f64,
            "container_memory_usage_bytes" => whole.usage as f64,
            _ => return,
        };
        page.sample(name, &[("id", "/")], value, now);
    };
    containers(server, &mut each);
    pod_networks(&mut page, &used, &network, now);
    machine(&mut page, server);
    page.answer()
}

type Each<'e> = dyn FnMut(&str, &str, &str, &dyn Fn(&Row<'_>) -> Option<f64>) + 'e;

fn containers(server: &Server, each: &mut Each<'_>) {
    let period = server.shared().settings.limits.period_micros;
    let of = |row: &Row<'_>| row.usage.containers.get(row.name).map(|(_, usage)| *usage);
    each(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        &|row| of(row).map(|u| u.cpu_nanos as f64 / 1e9),
    );
    each(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set in bytes.",
        &|row| of(row).map(|u| u.working_set as f64),
    );
    each(
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        &|row| of(row).map(|u| u.usage as f64),
    );
    each("container_memory_rss", "gauge", "Size of RSS in bytes.", &|row| {
        of(row).map(|u| u.rss as f64)
    });
    let stat = |row: &Row<'_>, pick: fn(&rutter_proto::cri::ContainerStats) -> Option<u64>| {
        row.usage
            .containers
            .get(row.name)
            .and_then(|(stats, _)| pick(stats))
            .map(|v| v as f64)
    };
    each(
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        &|row| {
            stat(row, |s| {
                Some(s.writable_layer.as_ref()?.used_bytes.as_ref()?.value)
            })
        },
    );
    each(
        "container_fs_inodes_total",
        "gauge",
        "Number of Inodes that are consumed by the container on this filesystem.",
        &|row| {
            stat(row, |s| {
                Some(s.writable_layer.as_ref()?.inodes_used.as_ref()?.value)
            })
        },
    );
    each(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
        &|row| row.started.map(|at| at.as_second() as f64),
    );
    let limit = |row: &Row<'_>, name: &str| {
        let own = row.spec.as_ref().and_then(|c| c.resources.as_ref());
        limits_of(row.pod.spec().resources.as_ref(), own, name)
    };
    each(
        "container_spec_memory_limit_bytes",
        "gauge",
        "Memory limit for the container.",
        &|row| Some(limit(row, "memory") as f64),
    );
    each(
        "container_spec_cpu_quota",
        "gauge",
        "CPU quota of the container.",
        &|row| {
            Some(limit(row, "cpu"))
                .filter(|l| *l > 0)
                .map(|l| quota(l, period) as f64)
        },
    );
    each(
        "container_spec_cpu_period",
        "gauge",
        "CPU period of the container.",
        &|row| Some(limit(row, "cpu")).filter(|l| *l > 0).map(|_| period as f64),
    );
    each(
        "container_spec_cpu_shares",
        "gauge",
        "CPU share of the container.",
        &|row| {
            let own = row.spec.as_ref()?.resources.as_ref();
            let asked = amount(own.and_then(|r| r.requests.as_ref()), "cpu");
            Some(shares(asked.unwrap_or_else(|| limit(row, "cpu"))) as f64)
        },
    );
}

/// A pod's network interfaces, by the pod's UID.
type Networks = BTreeMap<String, Vec<NetworkInterfaceUsage>>;

async fn networks(server: &Server) -> Networks {
    // Runtimes without these numbers simply have none.
    let stats = server.shared().cri.sandbox_stats().await.unwrap_or_default();
    stats
        .into_iter()
        .filter_map(|s| {
            let uid = s.attributes?.metadata?.uid;
            let network = s.linux?.network?;
            let own = network.default_interface.into_iter();
            Some((uid, own.chain(network.interfaces).collect()))
        })
        .collect()
}

fn pod_networks(page: &mut Page, used: &[PodUsage], network: &Networks, now: Option<i64>) {
    let value = |v: &Option<UInt64Value>| v.as_ref().map(|v| v.value);
    type Pick = fn(&NetworkInterfaceUsage) -> &Option<UInt64Value>;
    let kinds: [(&str, &str, Pick); 4] = [
        (
            "container_network_receive_bytes_total",
            "Cumulative count of bytes received",
            |i| &i.rx_bytes,
        ),
        (
            "container_network_receive_errors_total",
            "Cumulative count of errors encountered while receiving",
            |i| &i.rx_errors,
        ),
        (
            "container_network_transmit_bytes_total",
            "Cumulative count of bytes transmitted",
            |i| &i.tx_bytes,
        ),
        (
            "container_network_transmit_errors_total",
            "Cumulative count of errors encountered while transmitting",
            |i| &i.tx_errors,
        ),
    ];
    for (name, help, pick) in kinds {
        page.head(name, "counter", help);
        for usage in used {
            let pod: &Arc<Pod> = &usage.pod;
            for interface in network.get(pod.uid().as_str()).into_iter().flatten() {
                let Some(count) = value(pick(interface)) else {
                    continue;
                };
                let labels = [
                    ("interface", interface.name.as_str()),
                    ("namespace", pod.namespace()),
                    ("pod", pod.name()),
                ];
                page.sample(name, &labels, count, now);
            }
        }
    }
}

fn machine(page: &mut Page, server: &Server) {
    page.head("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    page.sample("machine_cpu_cores", &[], cores, None);
    page.head(
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
    );
    let memory = server.shared().settings.limits.memory_capacity;
    page.sample("machine_memory_bytes", &[], memory, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_carry_escaped_labels_and_their_time() {
        let mut page = Page { out: String::new() };
        page.head("a_total", "counter", "A.");
        page.sample("a_total", &[("x", "1\"2"), ("y", "")], 3, Some(7));
        page.sample("a_total", &[], 0.5, None);
        assert_eq!(
            page.out,
            "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\\\"2\",y=\"\"} 3 7\na_total 0.5\n"
        );
    }
}
