//! Decides on which nodes a DaemonSet's pods run, and how they are replaced.

use crate::common::int_or_percent;
use crate::common::nodes::{pinned, selects, untolerated};
use crate::common::owners::{label, name};
use crate::common::pods::{is_available, is_deleting, is_ready, node_name, phase};
use crate::common::revisions::HASH_LABEL;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many pods one step creates or deletes at most.
pub const BURST: usize = 250;

/// What a DaemonSet is decided from.
pub struct Snapshot<'a> {
    /// The DaemonSet.
    pub set: &'a DaemonSet,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// All nodes.
    pub nodes: &'a [Arc<Node>],
    /// The hash of the current revision.
    pub hash: &'a str,
    /// Whether the pods are known to be current.
    pub trusted: bool,
    /// Whether a failed pod's place may be tried again now, by node.
    pub may_retry: &'a dyn Fn(&str) -> bool,
}

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The nodes to create pods for.
    pub create: Vec<String>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Ended pods among them, which are told about.
    pub ended: Vec<Arc<Pod>>,
    /// Nodes whose ended pod waits for its retry.
    pub waiting: Vec<String>,
    /// The status.
    pub status: DaemonSetStatus,
}

/// The tolerations that every daemon's pod has.
pub fn tolerations(host_network: bool) -> Vec<Toleration> {
    let always = [
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    let network = host_network.then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    always
        .into_iter()
        .chain(network)
        .map(|(key, effect)| Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        })
        .collect()
}

/// Whether the set's pod is to run on a node, and whether one that is there may stay.
pub fn fits(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let Some(spec) = set.spec.as_ref().and_then(|s| s.template.spec.as_ref()) else {
        return (false, false);
    };
    let named = spec.node_name.as_deref().filter(|n| !n.is_empty());
    if named.is_some_and(|n| n != name(&node.metadata)) || !selects(spec, node) {
        return (false, false);
    }
    let mut all = spec.tolerations.clone().unwrap_or_default();
    all.extend(tolerations(spec.host_network == Some(true)));
    let runs = untolerated(node, &all, &["NoSchedule", "NoExecute"]).is_none();
    let stays = untolerated(node, &all, &["NoExecute"]).is_none();
    (runs, stays)
}

/// The node that a pod is on, or is meant for.
pub fn target(pod: &Pod) -> String {
    let named = node_name(pod);
    if !named.is_empty() {
        return named.to_owned();
    }
    pod.spec.as_ref().and_then(pinned).unwrap_or_default().to_owned()
}

fn limits(set: &DaemonSet, desired: i32) -> (i32, i32) {
    let rolling = set
        .spec
        .as_ref()
        .and_then(|s| s.update_strategy.as_ref())
        .and_then(|s| s.rolling_update.as_ref());
    let surge = rolling
        .and_then(|r| r.max_surge.as_ref())
        .and_then(|v| int_or_percent::scaled(v, desired, true))
        .unwrap_or(0);
    let unavailable = rolling
        .and_then(|r| r.max_unavailable.as_ref())
        .and_then(|v| int_or_percent::scaled(v, desired, true));
    match (surge, unavailable) {
        (surge, Some(unavailable)) if surge > 0 || unavailable > 0 => (surge, unavailable),
        // Both nothing would never update anything.
        (surge, _) => (surge, if surge > 0 { 0 } else { 1 }),
    }
}

struct Work<'a> {
    snapshot: &'a Snapshot<'a>,
    by_node: BTreeMap<String, Vec<Arc<Pod>>>,
    min_ready: i32,
    now: Timestamp,
    plan: Plan,
}

/// Decides the next step.
pub fn plan(snapshot: &Snapshot<'_>, now: Timestamp) -> Plan {
    let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in snapshot.pods {
        by_node.entry(target(pod)).or_default().push(pod.clone());
    }
    let min_ready = snapshot
        .set
        .spec
        .as_ref()
        .and_then(|s| s.min_ready_seconds)
        .unwrap_or(0);
    let mut work = Work {
        snapshot,
        by_node,
        min_ready,
        now,
        plan: Plan::default(),
    };
    if snapshot.trusted && snapshot.set.metadata.deletion_timestamp.is_none() {
        work.place();
        let strategy = snapshot
            .set
            .spec
            .as_ref()
            .and_then(|s| s.update_strategy.as_ref())
            .and_then(|s| s.type_.as_deref());
        // Placing comes first: replacing counts what is there.
        if strategy != Some("OnDelete") && work.plan.create.is_empty() && work.plan.delete.is_empty() {
            work.replace();
        }
        work.plan.create.truncate(BURST);
        work.plan.delete.truncate(BURST);
    }
    work.count();
    work.plan
}

impl Work<'_> {
    fn is_new(&self, pod: &Pod) -> bool {
        label(&pod.metadata, HASH_LABEL) == Some(self.snapshot.hash)
    }

    fn available(&self, pod: &Pod) -> bool {
        is_available(pod, self.min_ready, self.now)
    }

    fn desired(&self) -> i32 {
        self.snapshot
            .nodes
            .iter()
            .filter(|n| fits(self.snapshot.set, n).0)
            .count() as i32
    }

    /// Pods where they are missing, none where they don't belong, one where there are several.
    fn place(&mut self) {
        let surge = limits(self.snapshot.set, self.desired()).0 > 0;
        for node in self.snapshot.nodes {
            let node_name = name(&node.metadata);
            let there = self.by_node.get(node_name).cloned().unwrap_or_default();
            match fits(self.snapshot.set, node) {
                (true, _) if there.is_empty() => self.plan.create.push(node_name.to_owned()),
                (_, true) => self.keep(node_name, there, surge),
                (_, false) => self
                    .plan
                    .delete
                    .extend(there.into_iter().filter(|p| !is_deleting(p))),
            }
        }
        // Pods that wait for a node that is gone would wait for ever.
        for (node, pods) in &self.by_node {
            if !self.snapshot.nodes.iter().any(|n| name(&n.metadata) == node) {
                self.plan.delete.extend(
                    pods.iter()
                        .filter(|p| node_name(p).is_empty() && !is_deleting(p))
                        .cloned(),
                );
            }
        }
    }

    fn keep(&mut self, node: &str, there: Vec<Arc<Pod>>, surge: bool) {
        let mut running: Vec<Arc<Pod>> = Vec::new();
        for pod in there.into_iter().filter(|p| !is_deleting(p)) {
            match phase(&pod) {
                "Failed" if !(self.snapshot.may_retry)(node) => self.plan.waiting.push(node.to_owned()),
                "Failed" | "Succeeded" => {
                    self.plan.ended.push(pod.clone());
                    self.plan.delete.push(pod);
                }
                _ => running.push(pod),
            }
        }
        // The oldest stays, but a scheduled one rather than one that waits.
        running.sort_by_key(|p| {
            (
                node_name(p).is_empty(),
                p.metadata.creation_timestamp.clone(),
                p.metadata.name.clone(),
            )
        });
        if !surge {
            return self.plan.delete.extend(running.into_iter().skip(1));
        }
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| self.is_new(p));
        let replaced = new.first().is_some_and(|p| self.available(p));
        self.plan.delete.extend(new.into_iter().skip(1));
        self.plan
            .delete
            .extend(old.into_iter().skip(usize::from(!replaced)));
    }

    /// One step of a rolling update.
    fn replace(&mut self) {
        let (surge, unavailable) = limits(self.snapshot.set, self.desired());
        let mut missing = 0;
        let mut surging = 0;
        let (mut at_once, mut candidates, mut candidate_nodes) = (Vec::new(), Vec::new(), Vec::new());
        for node in self
            .snapshot
            .nodes
            .iter()
            .filter(|n| fits(self.snapshot.set, n).0)
        {
            let node_name = name(&node.metadata);
            let there = self.by_node.get(node_name).map(Vec::as_slice).unwrap_or_default();
            let living: Vec<&Arc<Pod>> = there.iter().filter(|p| !is_deleting(p)).collect();
            let new = living.iter().find(|p| self.is_new(p)).map(|p| Arc::clone(p));
            let old = living.iter().find(|p| !self.is_new(p)).map(|p| Arc::clone(p));
            match (new, old) {
                (None, Some(old)) if surge > 0 => {
                    if self.available(&old) {
                        candidate_nodes.push(node_name.to_owned())
                    } else {
                        self.plan.create.push(node_name.to_owned())
                    }
                }
                (Some(new), Some(old)) if surge > 0 => {
                    if self.available(&new) {
                        at_once.push(old)
                    } else {
                        surging += 1
                    }
                }
                (None, Some(old)) if self.available(&old) => candidates.push(old),
                (None, Some(old)) => {
                    missing += 1;
                    at_once.push(old);
                }
                (Some(new), None) if self.available(&new) => {}
                _ => missing += 1,
            }
        }
        self.plan.delete.append(&mut at_once);
        if surge > 0 {
            let room = usize::try_from(surge - surging).unwrap_or(0);
            self.plan.create.extend(candidate_nodes.into_iter().take(room));
        } else {
            let room = usize::try_from(unavailable - missing).unwrap_or(0);
            self.plan.delete.extend(candidates.into_iter().take(room));
        }
    }

    fn count(&mut self) {
        let mut status = DaemonSetStatus {
            observed_generation: self.snapshot.set.metadata.generation,
            ..self.snapshot.set.status.clone().unwrap_or_default()
        };
        let (mut desired, mut current, mut misscheduled, mut ready, mut updated, mut available) =
            (0, 0, 0, 0, 0, 0);
        for node in self.snapshot.nodes {
            let there = self
                .by_node
                .get(name(&node.metadata))
                .map(Vec::as_slice)
                .unwrap_or_default();
            if !fits(self.snapshot.set, node).0 {
                misscheduled += i32::from(!there.is_empty());
                continue;
            }
            desired += 1;
            let oldest = there
                .iter()
                .filter(|p| !is_deleting(p))
                .min_by_key(|p| p.metadata.creation_timestamp.clone())
                .or(there.first());
            let Some(pod) = oldest else { continue };
            current += 1;
            // During a surge either of two pods serves.
            let serving = there.iter().filter(|p| !is_deleting(p));
            ready += i32::from(serving.clone().any(|p| is_ready(p)));
            available += i32::from(serving.clone().any(|p| self.available(p)));
            updated += i32::from(self.is_new(pod) || serving.clone().any(|p| self.is_new(p)));
        }
        let some = |n: i32| Some(n).filter(|n| *n != 0);
        status.desired_number_scheduled = desired;
        status.current_number_scheduled = current;
        status.number_misscheduled = misscheduled;
        status.number_ready = ready;
        status.updated_number_scheduled = some(updated);
        status.number_available = some(available);
        status.number_unavailable = some(desired - available);
        self.plan.status = status;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(name: &str, taint: Option<&str>) -> Arc<Node> {
        let taints: Vec<Value> = taint.iter().map(|e| json!({"key": "x", "effect": e})).collect();
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"taints": taints}})).unwrap(),
        )
    }

    fn pod(name: &str, node: &str, hash: &str, ready: bool, phase: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "labels": {HASH_LABEL: hash}, "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"nodeName": node, "containers": []},
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    fn set(strategy: Value) -> DaemonSet {
        serde_json::from_value(json!({"metadata": {"name": "d", "generation": 2}, "spec": {
            "selector": {}, "template": {"spec": {"containers": []}}, "updateStrategy": strategy}}))
        .unwrap()
    }

    fn step(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Plan {
        plan(
            &Snapshot {
                set,
                pods,
                nodes,
                hash: "new",
                trusted: true,
                may_retry: &|_| true,
            },
            Timestamp::UNIX_EPOCH,
        )
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|p| name(&p.metadata)).collect()
    }

    #[test]
    fn each_fitting_node_gets_one_pod_and_others_lose_theirs() {
        let set = set(json!({"type": "OnDelete"}));
        let nodes = [
            node("a", None),
            node("b", None),
            node("tainted", Some("NoSchedule")),
            node("bad", Some("NoExecute")),
        ];
        let pods = [
            pod("b1", "b", "old", true, "Running"),
            pod("b2", "b", "old", true, "Running"),
            pod("stays", "tainted", "old", true, "Running"),
            pod("leaves", "bad", "old", true, "Running"),
        ];
        let plan = step(&set, &nodes, &pods);
        assert_eq!(plan.create, ["a"]);
        assert_eq!(names(&plan.delete), ["b2", "leaves"]);
        let status = plan.status;
        assert_eq!(
            (
                status.desired_number_scheduled,
                status.current_number_scheduled,
                status.number_misscheduled
            ),
            (2, 1, 2)
        );
    }

    #[test]
    fn failed_pods_are_replaced() {
        let set = set(json!({"type": "OnDelete"}));
        let plan = step(&set, &[node("a", None)], &[pod("f", "a", "old", false, "Failed")]);
        assert_eq!(names(&plan.delete), ["f"]);
        assert_eq!(names(&plan.ended), ["f"]);
    }

    #[test]
    fn an_update_takes_broken_pods_first_and_then_as_many_as_may_be_missing() {
        let set =
            set(json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2, "maxSurge": 0}}));
        let nodes: Vec<_> = ["a", "b", "c", "d"].map(|n| node(n, None)).into();
        let pods = [
            pod("a", "a", "old", false, "Running"),
            pod("b", "b", "old", true, "Running"),
            pod("c", "c", "old", true, "Running"),
            pod("d", "d", "new", true, "Running"),
        ];
        assert_eq!(names(&step(&set, &nodes, &pods).delete), ["a", "b"]);
        let waiting = [
            pods[1].clone(),
            pods[2].clone(),
            pod("a", "a", "new", false, "Running"),
            pod("d", "d", "new", false, "Running"),
        ];
        assert!(
            step(&set, &nodes, &waiting).delete.is_empty(),
            "as many as may be are missing already"
        );
    }

    #[test]
    fn with_surge_the_new_pod_is_there_before_the_old_one_goes() {
        let set =
            set(json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}));
        let nodes: Vec<_> = ["a", "b"].map(|n| node(n, None)).into();
        let old = [
            pod("a", "a", "old", true, "Running"),
            pod("b", "b", "old", true, "Running"),
        ];
        assert_eq!(step(&set, &nodes, &old).create, ["a"]);
        let starting = [
            old[0].clone(),
            old[1].clone(),
            pod("a2", "a", "new", false, "Running"),
        ];
        let plan = step(&set, &nodes, &starting);
        assert!(plan.create.is_empty() && plan.delete.is_empty());
        let there = [
            old[0].clone(),
            old[1].clone(),
            pod("a2", "a", "new", true, "Running"),
        ];
        assert_eq!(names(&step(&set, &nodes, &there).delete), ["a"]);
    }
}
