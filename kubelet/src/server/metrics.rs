//! Usage of the node, its pods and containers: `/metrics/resource` for metrics-server and autoscalers, `/stats/summary` for people and tools.

use super::Server;
use super::api::{Body, json, text};
use crate::node::capacity::meminfo;
use crate::pods::{PodExt, Uid, api_time};
use crate::worker::pool::Pool;
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use rutter_proto::cri::ContainerStats;
use serde_json::{Value, json as tree};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// CPU time in nanoseconds and memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(super) cpu_nanos: u64,
    pub(crate) working_set: u64,
    pub(super) usage: u64,
    pub(super) rss: u64,
}

fn usage(stats: &ContainerStats) -> Usage {
    let memory = stats.memory.as_ref();
    let value = |v: Option<&rutter_proto::cri::UInt64Value>| v.map_or(0, |v| v.value);
    Usage {
        cpu_nanos: value(
            stats
                .cpu
                .as_ref()
                .and_then(|c| c.usage_core_nano_seconds.as_ref()),
        ),
        working_set: value(memory.and_then(|m| m.working_set_bytes.as_ref())),
        usage: value(memory.and_then(|m| m.usage_bytes.as_ref())),
        rss: value(memory.and_then(|m| m.rss_bytes.as_ref())),
    }
}

/// A pod's running containers with what they use.
pub(super) struct PodUsage {
    pub(super) pod: Arc<Pod>,
    pub(super) containers: BTreeMap<String, (ContainerStats, Usage)>,
}

/// Memory in use by pod.
pub(crate) async fn pod_memory(pool: &Pool) -> Vec<(Uid, i64)> {
    let sum = |p: &PodUsage| p.containers.values().map(|(_, u)| u.working_set).sum::<u64>();
    pods(pool)
        .await
        .iter()
        .map(|p| (p.pod.uid(), i64::try_from(sum(p)).unwrap_or(i64::MAX)))
        .collect()
}

/// What all pods use.
pub(super) async fn pods(pool: &Pool) -> Vec<PodUsage> {
    let stats = pool.shared().cri.container_stats().await.unwrap_or_default();
    let mut by_id: BTreeMap<String, ContainerStats> = stats
        .into_iter()
        .filter_map(|s| Some((s.attributes.as_ref()?.id.clone(), s)))
        .collect();
    pool.list()
        .into_iter()
        .map(|(pod, view)| {
            let mut containers = BTreeMap::new();
            for seen in view
                .observed
                .containers
                .iter()
                .filter(|c| c.state == crate::runtime::observed::ContainerState::Running)
            {
                if let Some(stats) = by_id.remove(&seen.id) {
                    let usage = usage(&stats);
                    containers.insert(seen.name.clone(), (stats, usage));
                }
            }
            PodUsage { pod, containers }
        })
        .collect()
}

/// What the whole node uses: from its root control group where there is one, or from the kernel.
pub(crate) fn node(unified: bool) -> Usage {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo(&memory, "MemTotal").unwrap_or(0);
    let available = meminfo(&memory, "MemAvailable").unwrap_or(0);
    let used = u64::try_from(total - available).unwrap_or(0);
    let mut out = Usage {
        working_set: used,
        usage: used,
        ..Usage::default()
    };
    let number = |path: std::path::PathBuf| {
        std::fs::read_to_string(path)
            .ok()
            .and_then(|t| t.trim().parse::<u64>().ok())
    };
    if unified {
        let text = std::fs::read_to_string("/sys/fs/cgroup/cpu.stat").unwrap_or_default();
        let micros = text
            .lines()
            .find_map(|l| l.strip_prefix("usage_usec "))
            .and_then(|v| v.parse::<u64>().ok());
        out.cpu_nanos = micros.unwrap_or(0).saturating_mul(1000);
        if let Some(current) = number("/sys/fs/cgroup/memory.current".into()) {
            let stat = std::fs::read_to_string("/sys/fs/cgroup/memory.stat").unwrap_or_default();
            let inactive = stat
                .lines()
                .find_map(|l| l.strip_prefix("inactive_file "))
                .and_then(|v| v.parse().ok())
                .unwrap_or(0);
            out.usage = current;
            out.working_set = current.saturating_sub(inactive);
        }
    } else {
        out.cpu_nanos = number("/sys/fs/cgroup/cpuacct/cpuacct.usage".into()).unwrap_or(0);
        if let Some(current) = number("/sys/fs/cgroup/memory/memory.usage_in_bytes".into()) {
            let stat = std::fs::read_to_string("/sys/fs/cgroup/memory/memory.stat").unwrap_or_default();
            let field = |name: &str| {
                stat.lines()
                    .find_map(|l| l.strip_prefix(name))
                    .and_then(|v| v.trim().parse::<u64>().ok())
                    .unwrap_or(0)
            };
            out.usage = current;
            out.rss = field("total_rss ");
            out.working_set = current.saturating_sub(field("total_inactive_file "));
        }
    }
    out
}

/// `/metrics/resource`
pub(crate) async fn resource(server: &Server) -> Response<Body> {
    let pods = pods(&server.pool).await;
    let node = node(server.cgroups().is_unified());
    let now = Timestamp::now().as_millisecond();
    let mut out = String::new();
    let head = |out: &mut String, name: &str, kind: &str, help: &str| {
        let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
    };
    let seconds = |u: &Usage| u.cpu_nanos as f64 / 1e9;
    head(
        &mut out,
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    );
    each(&pods, |container, pod, u| {
        let _ = writeln!(
            out,
            "container_cpu_usage_seconds_total{{container=\"{container}\",namespace=\"{}\",pod=\"{}\"}} {} {now}",
            pod.namespace(),
            pod.name(),
            seconds(u)
        );
    });
    head(
        &mut out,
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
    );
    each(&pods, |container, pod, u| {
        let _ = writeln!(
            out,
            "container_memory_working_set_bytes{{container=\"{container}\",namespace=\"{}\",pod=\"{}\"}} {} {now}",
            pod.namespace(),
            pod.name(),
            u.working_set
        );
    });
    head(
        &mut out,
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
    );
    for entry in &pods {
        for (name, at) in starts(entry, server) {
            let _ = writeln!(
                out,
                "container_start_time_seconds{{container=\"{name}\",namespace=\"{}\",pod=\"{}\"}} {at}",
                entry.pod.namespace(),
                entry.pod.name()
            );
        }
    }
    head(
        &mut out,
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
    );
    let _ = writeln!(out, "node_cpu_usage_seconds_total {} {now}", seconds(&node));
    head(
        &mut out,
        "node_memory_working_set_bytes",
        "gauge",
        "Current working set of the node in bytes",
    );
    let _ = writeln!(out, "node_memory_working_set_bytes {} {now}", node.working_set);
    head(
        &mut out,
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
    );
    for entry in pods.iter().filter(|p| !p.containers.is_empty()) {
        let total: f64 = entry.containers.values().map(|(_, u)| seconds(u)).sum();
        let _ = writeln!(
            out,
            "pod_cpu_usage_seconds_total{{namespace=\"{}\",pod=\"{}\"}} {total} {now}",
            entry.pod.namespace(),
            entry.pod.name()
        );
    }
    head(
        &mut out,
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
    );
    for entry in pods.iter().filter(|p| !p.containers.is_empty()) {
        let total: u64 = entry.containers.values().map(|(_, u)| u.working_set).sum();
        let _ = writeln!(
            out,
            "pod_memory_working_set_bytes{{namespace=\"{}\",pod=\"{}\"}} {total} {now}",
            entry.pod.namespace(),
            entry.pod.name()
        );
    }
    head(
        &mut out,
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    let _ = writeln!(out, "resource_scrape_error 0");
    text(StatusCode::OK, out)
}

fn each(pods: &[PodUsage], mut f: impl FnMut(&str, &Pod, &Usage)) {
    for entry in pods {
        for (name, (_, usage)) in &entry.containers {
            f(name, &entry.pod, usage);
        }
    }
}

fn starts(entry: &PodUsage, server: &Server) -> Vec<(String, f64)> {
    let Some((_, view)) = server.pool.get(&entry.pod.uid()) else {
        return Vec::new();
    };
    entry
        .containers
        .keys()
        .filter_map(|name| {
            let at = view.observed.container(name)?.started_at?;
            Some((name.clone(), at.as_millisecond() as f64 / 1e3))
        })
        .collect()
}

fn file_system(path: &std::path::Path, now: &Value) -> Value {
    match crate::volumes::local::fs_space(path) {
        Ok((total, free, inodes, inodes_free)) => tree!({
            "time": now, "availableBytes": free, "capacityBytes": total, "usedBytes": total.saturating_sub(free),
            "inodes": inodes, "inodesFree": inodes_free, "inodesUsed": inodes.saturating_sub(inodes_free)
        }),
        Err(_) => Value::Null,
    }
}

/// `/stats/summary`
pub(crate) async fn summary(server: &Server) -> Response<Body> {
    let pods = pods(&server.pool).await;
    let node = node(server.cgroups().is_unified());
    let now = serde_json::to_value(api_time(Timestamp::now())).unwrap_or_default();
    let settings = &server.shared().settings;
    let memory = |u: &Usage, limit: Option<i64>| {
        let mut out =
            tree!({"time": now, "usageBytes": u.usage, "workingSetBytes": u.working_set, "rssBytes": u.rss});
        if let Some(limit) = limit.and_then(|l| u64::try_from(l).ok()) {
            out["availableBytes"] = tree!(limit.saturating_sub(u.working_set));
        }
        out
    };
    let cpu = |u: &Usage| tree!({"time": now, "usageCoreNanoSeconds": u.cpu_nanos});
    let list: Vec<Value> = pods
        .iter()
        .map(|entry| {
            let mut total = Usage::default();
            let containers: Vec<Value> = entry
                .containers
                .iter()
                .map(|(name, (stats, u))| {
                    total.cpu_nanos += u.cpu_nanos;
                    total.working_set += u.working_set;
                    total.usage += u.usage;
                    total.rss += u.rss;
                    let mut cpu = cpu(u);
                    if let Some(rate) = stats.cpu.as_ref().and_then(|c| c.usage_nano_cores.as_ref()) {
                        cpu["usageNanoCores"] = tree!(rate.value);
                    }
                    let root = stats.writable_layer.as_ref().map(|w| {
                        tree!({"time": now, "usedBytes": w.used_bytes.as_ref().map(|v| v.value), "inodesUsed": w.inodes_used.as_ref().map(|v| v.value)})
                    });
                    tree!({"name": name, "startTime": now, "cpu": cpu, "memory": memory(u, None), "rootfs": root})
                })
                .collect();
            tree!({
                "podRef": {"name": entry.pod.name(), "namespace": entry.pod.namespace(), "uid": entry.pod.uid().as_str()},
                "startTime": entry.pod.status().start_time, "containers": containers,
                "cpu": cpu(&total), "memory": memory(&total, None)
            })
        })
        .collect();
    let fs = file_system(&settings.root, &now);
    json(&tree!({
        "node": {
            "nodeName": settings.node_name, "startTime": now, "cpu": cpu(&node),
            "memory": memory(&node, Some(settings.limits.memory_capacity)), "fs": fs,
            "runtime": {"imageFs": fs}
        },
        "pods": list
    }))
}
