//! Pods as controllers see them: their state, which of them to delete first, and a new one from a template.

use crate::common::owners::{self, annotation, controller_of, namespace};
use crate::common::time::until;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use rutter_client::{Informer, Store};
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The annotation that says how much a pod's deletion would cost.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const INDEX: &str = "controller";

/// Lets [`owned_and_orphans`] find pods by their controller.
pub fn index_by_controller(informer: &Informer<Pod>) {
    informer.add_index(INDEX, |pod| {
        vec![controller_of(&pod.metadata).map_or_else(
            || format!("orphans of {}", namespace(&pod.metadata)),
            |r| r.uid.clone(),
        )]
    });
}

/// The pods with this controller, and the ones in its namespace that have none.
pub fn owned_and_orphans(store: &Store<Pod>, namespace: &str, uid: &str) -> Vec<Arc<Pod>> {
    let mut pods = owned(store, uid);
    pods.extend(store.by_index(INDEX, &format!("orphans of {namespace}")));
    pods
}

/// The pods with this controller.
pub fn owned(store: &Store<Pod>, uid: &str) -> Vec<Arc<Pod>> {
    store.by_index(INDEX, uid)
}

/// `status.phase`, empty when absent.
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default()
}

/// Whether all containers have ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether deletion was asked for.
pub fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether it counts as a replica: neither ended nor on its way out.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleting(pod)
}

/// Whether it is on its way out but has not ended.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && is_deleting(pod)
}

/// A condition of a pod.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind)
}

/// Whether it is ready.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Whether it has been ready for long enough.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod)
        && (min_ready_seconds == 0
            || ready_since(pod).is_some_and(|t| until(t, min_ready_seconds.into(), now).is_zero()))
}

fn ready_since(pod: &Pod) -> Option<&Time> {
    condition(pod, "Ready")
        .filter(|c| c.status == "True")?
        .last_transition_time
        .as_ref()
}

/// When the first of these pods that is ready but not available becomes available.
pub fn next_availability(pods: &[Arc<Pod>], min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds <= 0 {
        return None;
    }
    pods.iter()
        .filter_map(|pod| ready_since(pod))
        .map(|t| until(t, min_ready_seconds.into(), now))
        .filter(|d| !d.is_zero())
        .min()
}

/// `spec.nodeName`, empty when not scheduled.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let most = |statuses: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>,
                counts: &dyn Fn(&str) -> bool| {
        statuses
            .iter()
            .flatten()
            .filter(|s| counts(&s.name))
            .map(|s| s.restart_count)
            .max()
            .unwrap_or(0)
    };
    let sidecar = |name: &str| {
        pod.spec.as_ref().is_some_and(|spec| {
            spec.init_containers
                .iter()
                .flatten()
                .any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"))
        })
    };
    (
        most(&status.container_statuses, &|_| true),
        most(&status.init_container_statuses, &sidecar),
    )
}

fn deletion_cost(pod: &Pod) -> i32 {
    annotation(&pod.metadata, DELETION_COST)
        .and_then(|c| c.parse().ok())
        .unwrap_or(0)
}

// Ages within a power of two count as equal, so that the choice among them spreads.
fn age_magnitude(then: Option<&Time>, now: Timestamp) -> i64 {
    match then.map(|t| now.duration_since(t.0)) {
        Some(age) if age > SignedDuration::ZERO => i64::from(age.as_nanos().ilog2()),
        _ => -1,
    }
}

fn younger_first(a: (&Pod, Option<&Time>), b: (&Pod, Option<&Time>), now: Timestamp) -> Ordering {
    match (a.1, b.1) {
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (x, y) if x == y => Ordering::Equal,
        (x, y) => age_magnitude(x, now)
            .cmp(&age_magnitude(y, now))
            .then_with(|| a.0.metadata.uid.cmp(&b.0.metadata.uid)),
    }
}

/// Orders pods so that the first are the best ones to delete. `related` are the pods (of sibling controllers too) whose crowding on a node counts.
pub fn sort_for_deletion(pods: &mut [Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|p| is_active(p)) {
        *on_node.entry(node_name(pod)).or_default() += 1;
    }
    pods.sort_by(|a, b| {
        let key = |p: &Pod| {
            let crowd = on_node.get(node_name(p)).copied().unwrap_or(0);
            (
                !node_name(p).is_empty(),
                phase_rank(p),
                is_ready(p),
                deletion_cost(p),
                Reverse(crowd),
            )
        };
        key(a)
            .cmp(&key(b))
            .then_with(|| younger_first((a, ready_since(a)), (b, ready_since(b)), now))
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| {
                let created = |p: &Arc<Pod>| p.metadata.creation_timestamp.clone();
                younger_first((a, created(a).as_ref()), (b, created(b).as_ref()), now)
            })
    });
}

/// The prefix of generated pod names.
pub fn name_prefix(owner: &str) -> String {
    let dashed = format!("{owner}-");
    // A trailing dash counts as part of the name, which may have 253 characters.
    if dashed.len() > 253 {
        owner.to_owned()
    } else {
        dashed
    }
}

/// A pod from a template, owned by the controller. It has no name yet.
pub fn from_template(template: &PodTemplateSpec, namespace: &str, reference: OwnerReference) -> Pod {
    let meta = template.metadata.as_ref();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            labels: meta.and_then(|m| m.labels.clone()),
            annotations: meta.and_then(|m| m.annotations.clone()),
            finalizers: meta.and_then(|m| m.finalizers.clone()),
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The label `key` of the pod, empty when absent.
pub fn label<'a>(pod: &'a Pod, key: &str) -> &'a str {
    owners::label(&pod.metadata, key).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(value: Value) -> Arc<Pod> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn ready(name: &str, node: &str, since: &str) -> Value {
        json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]},
        })
    }

    #[test]
    fn the_least_useful_pods_are_deleted_first() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let early = "2026-01-01T00:00:00Z";
        let mut cheap = ready("cheap", "n", early);
        cheap["metadata"]["annotations"] = json!({DELETION_COST: "-5"});
        let mut restarted = ready("restarted", "n", early);
        restarted["status"]["containerStatuses"] =
            json!([{"name": "c", "restartCount": 3, "image": "", "imageID": "", "ready": true}]);
        let mut waiting = ready("waiting", "n", early);
        waiting["status"]["conditions"] = json!([]);
        let pending = json!({"metadata": {"name": "pending", "uid": "p"}, "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Pending"}});
        let unscheduled =
            json!({"metadata": {"name": "unscheduled", "uid": "u"}, "status": {"phase": "Pending"}});
        let mut pods: Vec<Arc<Pod>> = [
            ready("old", "n", early),
            ready("young", "n", "2026-01-01T23:59:00Z"),
            ready("alone", "m", early),
            restarted,
            cheap,
            waiting,
            pending,
            unscheduled,
        ]
        .into_iter()
        .map(pod)
        .collect();
        let related = pods.clone();
        sort_for_deletion(&mut pods, &related, now);
        let names: Vec<&str> = pods.iter().map(|p| owners::name(&p.metadata)).collect();
        assert_eq!(
            names,
            [
                "unscheduled",
                "pending",
                "waiting",
                "cheap",
                "young",
                "restarted",
                "old",
                "alone"
            ]
        );
    }

    #[test]
    fn a_pod_is_available_after_its_minimum_of_ready_seconds() {
        let pod = pod(ready("p", "n", "2026-01-01T00:00:00Z"));
        for (seconds, now, available, next) in [
            (0, "2026-01-01T00:00:00Z", true, None),
            (10, "2026-01-01T00:00:04Z", false, Some(6)),
            (10, "2026-01-01T00:00:10Z", true, None),
        ] {
            let now: Timestamp = now.parse().unwrap();
            assert_eq!(is_available(&pod, seconds, now), available, "{seconds} at {now}");
            assert_eq!(
                next_availability(std::slice::from_ref(&pod), seconds, now).map(|d| d.as_secs()),
                next
            );
        }
    }
}
