//! Decides which pods nobody else will ever clear away.

use crate::common::disruption::Reason;
use crate::common::owners::name;
use crate::common::pods::{is_deleting, is_terminal, node_name};
use crate::node_lifecycle::plan::condition;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::collections::HashSet;
use std::sync::Arc;

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

const NO_NODE: Reason = Reason {
    reason: "DeletionByPodGC",
    message: "PodGC: node no longer exists",
    fail: true,
    grace: Some(0),
};
const NEVER_SCHEDULED: Reason = Reason {
    reason: "DeletionByPodGC",
    message: "PodGC: terminating pod was never scheduled",
    fail: true,
    grace: Some(0),
};
const NODE_OUT_OF_SERVICE: Reason = Reason {
    reason: "DeletionByPodGC",
    message: "PodGC: node is out of service",
    fail: true,
    grace: Some(0),
};
const TOO_MANY: Reason = Reason {
    reason: "DeletionByPodGC",
    message: "PodGC: too many ended pods",
    fail: false,
    grace: Some(0),
};

/// A pod to delete.
pub struct Doomed {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Why.
    pub why: &'static Reason,
}

/// The pods to delete. `gone` are nodes that surely don't exist; a threshold of 0 keeps all ended pods.
pub fn plan(pods: &[Arc<Pod>], nodes: &[Arc<Node>], gone: &HashSet<String>, threshold: i32) -> Vec<Doomed> {
    let lost: HashSet<&str> = nodes
        .iter()
        .filter(|n| condition(n, "Ready").is_none_or(|c| c.status != "True"))
        .filter(|n| {
            n.spec
                .iter()
                .flat_map(|s| s.taints.iter().flatten())
                .any(|t| t.key == OUT_OF_SERVICE)
        })
        .map(|n| name(&n.metadata))
        .collect();
    let mut doomed: Vec<Doomed> = Vec::new();
    let mut ended: Vec<&Arc<Pod>> = Vec::new();
    for pod in pods {
        let node = node_name(pod);
        let why = if gone.contains(node) {
            Some(&NO_NODE)
        } else if is_deleting(pod) && node.is_empty() {
            Some(&NEVER_SCHEDULED)
        } else if is_deleting(pod) && lost.contains(node) {
            Some(&NODE_OUT_OF_SERVICE)
        } else {
            None
        };
        match why {
            Some(why) => doomed.push(Doomed {
                pod: pod.clone(),
                why,
            }),
            None if is_terminal(pod) && !is_deleting(pod) => ended.push(pod),
            None => {}
        }
    }
    let excess = usize::try_from(threshold)
        .ok()
        .filter(|t| *t > 0)
        .map_or(0, |t| ended.len().saturating_sub(t));
    ended.sort_by_key(|p| (p.metadata.creation_timestamp.clone(), p.metadata.name.clone()));
    doomed.extend(ended.into_iter().take(excess).map(|pod| Doomed {
        pod: pod.clone(),
        why: &TOO_MANY,
    }));
    doomed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str, phase: &str, deleting: bool, created: &str) -> Arc<Pod> {
        let deleted = deleting.then_some("2026-01-01T00:00:00Z");
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "creationTimestamp": created, "deletionTimestamp": deleted},
                "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn pods_that_nobody_else_clears_away_are_found() {
        let early = "2026-01-01T00:00:00Z";
        let pods = [
            pod("on-gone", "gone", "Running", false, early),
            pod("fine", "n1", "Running", false, early),
            pod("never-scheduled", "", "Pending", true, early),
            pod("ending", "n1", "Running", true, early),
            pod("stuck", "dead", "Running", true, early),
            pod("old", "n1", "Failed", false, early),
            pod("older", "n1", "Succeeded", false, "2025-01-01T00:00:00Z"),
        ];
        let dead: Node = serde_json::from_value(json!({"metadata": {"name": "dead"},
            "spec": {"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]}}))
        .unwrap();
        let gone = HashSet::from(["gone".to_owned()]);
        let names = |threshold| -> Vec<String> {
            plan(&pods, &[Arc::new(dead.clone())], &gone, threshold)
                .iter()
                .map(|d| name(&d.pod.metadata).to_owned())
                .collect()
        };
        assert_eq!(names(0), ["on-gone", "never-scheduled", "stuck"]);
        assert_eq!(names(1), ["on-gone", "never-scheduled", "stuck", "older"]);
    }
}
