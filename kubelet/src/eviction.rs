//! Pressure on the node: when memory, disk or process numbers run short, the node says so, frees what it can, and gives pods up, the
//! least deserving first. Deciding is pure; [`Manager`] measures and acts.

use crate::housekeeping;
use crate::pods::PodExt;
use crate::resources::{self, value_of};
use crate::resources::{QosClass, pod_requests, qos};
use crate::worker::Failure;
use crate::worker::pool::Pool;
use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a node says that it was under pressure after the pressure has gone.
const TRANSITION: Duration = Duration::from_secs(300);
const PERIOD: Duration = Duration::from_secs(10);

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    /// `memory.available`
    Memory,
    /// `nodefs.available`
    NodeFs,
    /// `nodefs.inodesFree`
    NodeFsInodes,
    /// `imagefs.available`
    ImageFs,
    /// `imagefs.inodesFree`
    ImageFsInodes,
    /// `pid.available`
    Pids,
}

impl Signal {
    const NAMES: [(&'static str, Self); 6] = [
        ("memory.available", Self::Memory),
        ("nodefs.available", Self::NodeFs),
        ("nodefs.inodesFree", Self::NodeFsInodes),
        ("imagefs.available", Self::ImageFs),
        ("imagefs.inodesFree", Self::ImageFsInodes),
        ("pid.available", Self::Pids),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, s)| *s)
    }

    fn as_str(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, s)| *s == self)
            .map_or("", |(n, _)| *n)
    }

    fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::NodeFs | Self::ImageFs => "ephemeral-storage",
            Self::NodeFsInodes | Self::ImageFsInodes => "inodes",
            Self::Pids => "pids",
        }
    }
}

/// Below which amount pods are evicted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Limit {
    /// An amount.
    Amount(i64),
    /// A part of the capacity, from 0 to 1.
    Share(f64),
}

/// The thresholds by signal.
pub(crate) type Thresholds = BTreeMap<Signal, Limit>;

/// The thresholds that apply when none are given.
pub(crate) fn defaults() -> Thresholds {
    [
        (Signal::Memory, Limit::Amount(100 << 20)),
        (Signal::NodeFs, Limit::Share(0.10)),
        (Signal::NodeFsInodes, Limit::Share(0.05)),
        (Signal::ImageFs, Limit::Share(0.15)),
        (Signal::ImageFsInodes, Limit::Share(0.05)),
    ]
    .into()
}

/// Reads thresholds; those that aren't named keep their default, and `0%` or `0` switches one off.
pub(crate) fn parse(given: &BTreeMap<String, String>) -> anyhow::Result<Thresholds> {
    let mut out = defaults();
    for (name, amount) in given {
        let signal = Signal::parse(name).with_context(|| format!("evictionHard: unknown signal {name:?}"))?;
        let limit = match amount.strip_suffix('%') {
            Some(percent) => {
                let share: f64 = percent
                    .parse()
                    .with_context(|| format!("evictionHard: {name}: {amount:?} is no percentage"))?;
                if !(0.0..100.0).contains(&share) {
                    bail!("evictionHard: {name}: {amount:?} is not between 0% and 100%");
                }
                Limit::Share(share / 100.0)
            }
            None => Limit::Amount(
                resources::value(&Quantity(amount.clone()))
                    .with_context(|| format!("evictionHard: {name}: {amount:?} is no quantity"))?,
            ),
        };
        out.insert(signal, limit);
    }
    Ok(out)
}

/// Reads the flag's `SIGNAL<AMOUNT` pairs.
pub(crate) fn parse_flag(list: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    list.iter()
        .map(|pair| {
            let (signal, amount) = pair
                .split_once('<')
                .with_context(|| format!("--eviction-hard: {pair:?} is not SIGNAL<AMOUNT"))?;
            Ok((signal.trim().to_owned(), amount.trim().to_owned()))
        })
        .collect()
}

/// What the memory threshold takes from what pods may have.
pub(crate) fn reserved(thresholds: &Thresholds, capacity: &resources::ResourceList) -> BTreeMap<String, i64> {
    let amount = |signal: Signal, name: &str| match (thresholds.get(&signal), value_of(Some(capacity), name))
    {
        (Some(Limit::Amount(amount)), _) => *amount,
        (Some(Limit::Share(share)), Some(all)) => (all as f64 * share) as i64,
        _ => 0,
    };
    [
        ("memory".to_owned(), amount(Signal::Memory, "memory")),
        (
            "ephemeral-storage".to_owned(),
            amount(Signal::NodeFs, "ephemeral-storage"),
        ),
    ]
    .into()
}

/// What there is of something, and how much of it is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) available: i64,
    pub(crate) capacity: i64,
}

/// The thresholds that are crossed, with the amount that should be there. Pure.
pub(crate) fn crossed(
    thresholds: &Thresholds,
    measures: &BTreeMap<Signal, Measure>,
) -> Vec<(Signal, i64, i64)> {
    thresholds
        .iter()
        .filter_map(|(signal, limit)| {
            let measure = measures.get(signal)?;
            let wanted = match limit {
                Limit::Amount(amount) => *amount,
                Limit::Share(share) => (measure.capacity as f64 * share) as i64,
            };
            (measure.available < wanted).then_some((*signal, wanted, measure.available))
        })
        .collect()
}

/// A candidate for eviction with what it uses of the scarce resource.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) pod: Arc<Pod>,
    pub(crate) usage: i64,
}

/// Orders candidates: those above their request first, then by priority, then by how far they are above it. Pure.
pub(crate) fn rank(mut candidates: Vec<Candidate>, resource: &str) -> Vec<Candidate> {
    let request = |c: &Candidate| pod_requests(&c.pod).get(resource).copied().unwrap_or(0);
    candidates.retain(|c| !is_critical(&c.pod));
    candidates.sort_by_key(|c| {
        let above = c.usage - request(c);
        (
            above <= 0,
            c.pod.spec().priority.unwrap_or(0),
            std::cmp::Reverse(above),
        )
    });
    candidates
}

/// Whether a pod is never evicted by its node.
pub(crate) fn is_critical(pod: &Pod) -> bool {
    pod.is_static() || pod.spec().priority.is_some_and(|p| p >= 2_000_000_000)
}

/// Whether a node under pressure takes the pod in. Pure.
pub(crate) fn admits(pod: &Pod, pressure: Pressure) -> Result<(), Failure> {
    if pressure == Pressure::default() || is_critical(pod) {
        return Ok(());
    }
    let tolerates = pod.spec().tolerations.iter().flatten().any(|t| {
        t.key.as_deref() == Some("node.kubernetes.io/memory-pressure")
            || t.key.is_none() && t.operator.as_deref() == Some("Exists")
    });
    let only_memory = !pressure.disk && !pressure.pids;
    if only_memory && (qos(pod) != QosClass::BestEffort || tolerates) {
        return Ok(());
    }
    let names = [
        ("MemoryPressure", pressure.memory),
        ("DiskPressure", pressure.disk),
        ("PIDPressure", pressure.pids),
    ];
    let list: Vec<&str> = names.iter().filter(|n| n.1).map(|n| n.0).collect();
    Err(Failure {
        reason: "Evicted".to_owned(),
        message: format!("The node had condition: [{}]. ", list.join(" ")),
        grace: None,
        rejected: true,
        disruption: None,
    })
}

fn shown(signal: Signal, amount: i64) -> String {
    match signal {
        Signal::Memory | Signal::NodeFs | Signal::ImageFs => resources::bytes(amount).0,
        _ => amount.to_string(),
    }
}

fn count_eviction(signal: &str) {
    if let Some(metrics) = crate::metrics::get() {
        metrics.evictions.with_label_values(&[signal]).inc();
    }
}

fn evicted(message: String, grace: i64) -> Failure {
    Failure {
        reason: "Evicted".to_owned(),
        message: message.clone(),
        grace: Some(grace),
        rejected: false,
        disruption: Some(("TerminationByKubelet".to_owned(), message)),
    }
}

/// Measures and acts.
pub(crate) struct Manager {
    pub(crate) pool: Pool,
    pub(crate) thresholds: Thresholds,
    pub(crate) pressure: Arc<ArcSwap<Pressure>>,
    pub(crate) node_wake: Arc<Notify>,
    pub(crate) image_rules: housekeeping::ImageRules,
}

impl Manager {
    /// Runs until cancelled.
    pub(crate) async fn run(self) {
        let mut last: BTreeMap<&'static str, Instant> = BTreeMap::new();
        loop {
            self.local_limits();
            let measures = self.measure().await;
            let over = crossed(&self.thresholds, &measures);
            for (signal, ..) in &over {
                last.insert(signal.resource(), Instant::now());
            }
            let recent = |names: &[&str]| {
                names
                    .iter()
                    .any(|n| last.get(n).is_some_and(|at| at.elapsed() < TRANSITION))
            };
            let now = Pressure {
                memory: recent(&["memory"]),
                disk: recent(&["ephemeral-storage", "inodes"]),
                pids: recent(&["pids"]),
            };
            if **self.pressure.load() != now {
                self.pressure.store(Arc::new(now));
                self.node_wake.notify_one();
            }
            if let Some((signal, wanted, available)) = over.first().copied() {
                self.relieve(signal, wanted, available).await;
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn measure(&self) -> BTreeMap<Signal, Measure> {
        let shared = self.pool.shared();
        let mut out = BTreeMap::new();
        let capacity = shared.settings.limits.memory_capacity;
        let used = crate::server::metrics::node(shared.cgroups.is_unified()).working_set;
        let available = capacity - i64::try_from(used).unwrap_or(i64::MAX);
        out.insert(Signal::Memory, Measure { available, capacity });
        let mut add = |path: &Path, bytes: Signal, inodes: Signal| {
            let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            if let Ok((total, free, nodes, nodes_free)) = crate::volumes::local::fs_space(path) {
                out.insert(
                    bytes,
                    Measure {
                        available: number(free),
                        capacity: number(total),
                    },
                );
                if nodes > 0 {
                    out.insert(
                        inodes,
                        Measure {
                            available: number(nodes_free),
                            capacity: number(nodes),
                        },
                    );
                }
            }
        };
        add(&shared.settings.root, Signal::NodeFs, Signal::NodeFsInodes);
        let images = shared.cri.image_fs_info().await.ok();
        if let Some(path) = images.and_then(|i| {
            i.image_filesystems
                .first()?
                .fs_id
                .as_ref()
                .map(|f| f.mountpoint.clone())
        }) {
            add(Path::new(&path), Signal::ImageFs, Signal::ImageFsInodes);
        }
        let max = std::fs::read_to_string("/proc/sys/kernel/pid_max")
            .ok()
            .and_then(|t| t.trim().parse::<i64>().ok());
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let running = load
            .split_whitespace()
            .nth(3)
            .and_then(|f| f.split('/').nth(1))
            .and_then(|n| n.parse::<i64>().ok());
        if let (Some(max), Some(running)) = (max, running) {
            out.insert(
                Signal::Pids,
                Measure {
                    available: max - running,
                    capacity: max,
                },
            );
        }
        out
    }

    async fn relieve(&self, signal: Signal, wanted: i64, available: i64) {
        let resource = signal.resource();
        tracing::warn!(
            resource,
            wanted,
            available,
            "the node runs short; attempting to reclaim"
        );
        let shared = self.pool.shared();
        if resource == "ephemeral-storage" || resource == "inodes" {
            housekeeping::collect_images(shared, &self.pool, &self.image_rules, true).await;
            let again = crossed(&self.thresholds, &self.measure().await);
            if !again.iter().any(|(s, ..)| *s == signal) {
                return;
            }
        }
        let candidates = self.candidates(resource).await;
        let Some(first) = rank(candidates, resource).into_iter().next() else {
            tracing::warn!(resource, "no pod can be evicted");
            return;
        };
        let request = pod_requests(&first.pod).get(resource).copied().unwrap_or(0);
        let mut message = format!(
            "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
            shown(signal, wanted),
            shown(signal, available)
        );
        if first.usage > request && !first.pod.spec().containers.is_empty() {
            let names: Vec<&str> = first
                .pod
                .spec()
                .containers
                .iter()
                .map(|c| c.name.as_str())
                .collect();
            message.push_str(&format!(
                "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
                names.join(", "),
                shown(signal, first.usage),
                shown(signal, request)
            ));
        }
        shared.event(&first.pod, true, "Evicted", message.clone());
        count_eviction(signal.as_str());
        self.pool.fail(&first.pod.uid(), evicted(message, 1));
    }

    async fn candidates(&self, resource: &str) -> Vec<Candidate> {
        let usages = if resource == "memory" {
            crate::server::metrics::pod_memory(&self.pool).await
        } else {
            let root = self.pool.shared().settings.root.clone();
            let uids: Vec<_> = self.pool.active().iter().map(|p| p.uid()).collect();
            let work = tokio::task::spawn_blocking(move || {
                uids.into_iter()
                    .map(|uid| {
                        let used = housekeeping::disk_usage(
                            &crate::volumes::pod_dir(&root, &uid).join("volumes/kubernetes.io~empty-dir"),
                        );
                        (uid, used)
                    })
                    .collect()
            });
            work.await.unwrap_or_default()
        };
        self.pool
            .active()
            .into_iter()
            .map(|pod| {
                let usage = usages
                    .iter()
                    .find(|(uid, _)| *uid == pod.uid())
                    .map_or(0, |(_, u)| *u);
                Candidate { pod, usage }
            })
            .collect()
    }

    /// Evicts pods whose emptyDir volumes have outgrown their limits.
    fn local_limits(&self) {
        let shared = self.pool.shared();
        for pod in self.pool.active() {
            for volume in pod.spec().volumes.iter().flatten() {
                let Some(source) = volume
                    .empty_dir
                    .as_ref()
                    .filter(|s| s.medium.as_deref() != Some("Memory"))
                else {
                    continue;
                };
                let Some(limit) = source.size_limit.as_ref() else {
                    continue;
                };
                let Some(bytes) = resources::value(limit).filter(|b| *b > 0) else {
                    continue;
                };
                let path = crate::volumes::pod_dir(&shared.settings.root, &pod.uid())
                    .join("volumes/kubernetes.io~empty-dir")
                    .join(&volume.name);
                if housekeeping::disk_usage(&path) > bytes {
                    let message = format!(
                        "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
                        volume.name, limit.0
                    );
                    shared.event(&pod, true, "Evicted", message.clone());
                    count_eviction("emptydirfs.limit");
                    self.pool.fail(&pod.uid(), evicted(message, 1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn thresholds_are_amounts_or_shares() {
        let given =
            parse_flag(&["memory.available<1Gi".into(), "nodefs.available<20%".into()]).expect("pairs");
        let thresholds = parse(&given).expect("thresholds");
        let measures: BTreeMap<Signal, Measure> = [
            (
                Signal::Memory,
                Measure {
                    available: (1 << 30) - 1,
                    capacity: 4 << 30,
                },
            ),
            (
                Signal::NodeFs,
                Measure {
                    available: 21,
                    capacity: 100,
                },
            ),
        ]
        .into();
        assert_eq!(
            crossed(&thresholds, &measures),
            [(Signal::Memory, 1 << 30, (1 << 30) - 1)]
        );
        assert!(parse(&[("x".to_owned(), "1".to_owned())].into()).is_err());
        assert!(parse(&[("memory.available".to_owned(), "200%".to_owned())].into()).is_err());
    }

    #[test]
    fn the_least_deserving_goes_first() {
        let candidate = |name: &str, priority: i32, request: &str, usage: i64| Candidate {
            pod: Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"priority": priority,
                    "containers": [{"name": "a", "resources": {"requests": {"memory": request}}}]}}))
                .expect("a pod"),
            ),
            usage,
        };
        let order: Vec<String> = rank(
            vec![
                candidate("within", 0, "100", 50),
                candidate("important", 10, "0", 500),
                candidate("greedy", 0, "0", 200),
                candidate("less-greedy", 0, "0", 100),
                candidate("system", 2_000_000_000, "0", 900),
            ],
            "memory",
        )
        .into_iter()
        .map(|c| c.pod.name().to_owned())
        .collect();
        assert_eq!(order, ["greedy", "less-greedy", "important", "within"]);
    }

    #[test]
    fn under_memory_pressure_best_effort_pods_stay_out() {
        let pod = |spec| -> Pod { serde_json::from_value(json!({"spec": spec})).expect("a pod") };
        let memory = Pressure {
            memory: true,
            ..Pressure::default()
        };
        let plain = pod(json!({"containers": [{"name": "a"}]}));
        let burstable = pod(json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]}));
        assert!(admits(&plain, Pressure::default()).is_ok());
        assert_eq!(
            admits(&plain, memory).map_err(|f| f.reason),
            Err("Evicted".to_owned())
        );
        assert!(admits(&burstable, memory).is_ok());
        assert!(admits(&burstable, Pressure { disk: true, ..memory }).is_err());
    }
}
