//! The conditions of a pod that the kubelet owns. Pure.

use crate::pods::{PodExt, is_sidecar};
use crate::resize::Pending;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition};

/// The condition types that only the kubelet writes.
pub(crate) const OWNED: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizePending",
    "PodResizeInProgress",
];

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|s| s.name == name)
}

fn condition(pod: &Pod, kind: &str, status: bool, reason: &str, message: String) -> PodCondition {
    PodCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        message: (!message.is_empty()).then_some(message),
        observed_generation: pod.generation(),
        ..PodCondition::default()
    }
}

fn listed(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

/// That the node doesn't give the pod what it asks for.
pub(crate) fn resize_pending(pod: &Pod, pending: &Pending) -> PodCondition {
    condition(
        pod,
        "PodResizePending",
        true,
        pending.reason(),
        pending.message.clone(),
    )
}

/// That what the pod was promised isn't applied yet, with the last error if there was one.
pub(crate) fn resize_in_progress(pod: &Pod, error: Option<&str>) -> PodCondition {
    let reason = if error.is_some() { "Error" } else { "" };
    let message = error.unwrap_or_default().to_owned();
    condition(pod, "PodResizeInProgress", true, reason, message)
}

/// Whether a sandbox with network is there.
pub(crate) fn ready_to_start(pod: &Pod, has_sandbox: bool) -> PodCondition {
    condition(pod, "PodReadyToStartContainers", has_sandbox, "", String::new())
}

/// Whether the init containers are done.
pub(crate) fn initialized(
    pod: &Pod,
    statuses: &[ContainerStatus],
    phase: &str,
    was_initialized: bool,
) -> PodCondition {
    let kind = "Initialized";
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in pod.init_containers() {
        match find(statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) => {
                let done = if is_sidecar(container) {
                    status.started == Some(true)
                } else {
                    status.ready
                };
                if !done {
                    incomplete.push(container.name.as_str());
                }
            }
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition(pod, kind, true, "PodCompleted", String::new());
    }
    let started = |c: &Container| {
        find(statuses, &c.name).is_some_and(|s| {
            s.last_state.as_ref().is_some_and(|l| l.terminated.is_some())
                || s.state
                    .as_ref()
                    .is_some_and(|s| s.running.is_some() || s.terminated.is_some())
        })
    };
    if pod.spec().containers.iter().any(started)
        || (unknown.is_empty() && incomplete.is_empty())
        || was_initialized
    {
        return condition(pod, kind, true, "", String::new());
    }
    let message = unready_message(&unknown, &incomplete, "incomplete");
    condition(pod, kind, false, "ContainersNotInitialized", message)
}

fn unready_message(unknown: &[&str], not_ready: &[&str], what: &str) -> String {
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", listed(unknown)));
    }
    if !not_ready.is_empty() {
        parts.push(format!("containers with {what} status: {}", listed(not_ready)));
    }
    parts.join(", ")
}

/// Whether all containers are ready.
pub(crate) fn containers_ready(pod: &Pod, statuses: &[ContainerStatus], phase: &str) -> PodCondition {
    let kind = "ContainersReady";
    let (mut unknown, mut not_ready) = (Vec::new(), Vec::new());
    let counted = pod
        .init_containers()
        .iter()
        .filter(|c| is_sidecar(c))
        .chain(&pod.spec().containers);
    for container in counted {
        match find(statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => not_ready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Failed" {
        return condition(pod, kind, false, "PodFailed", String::new());
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition(pod, kind, false, "PodCompleted", String::new());
    }
    let message = unready_message(&unknown, &not_ready, "unready");
    if message.is_empty() {
        return condition(pod, kind, true, "", String::new());
    }
    condition(pod, kind, false, "ContainersNotReady", message)
}

/// Whether the pod can serve: its containers are ready and its readiness gates say so. `others` are all conditions but the kubelet's own.
pub(crate) fn ready(pod: &Pod, others: &[PodCondition], containers: &PodCondition) -> PodCondition {
    let kind = "Ready";
    if containers.status != "True" {
        return PodCondition {
            type_: kind.to_owned(),
            ..containers.clone()
        };
    }
    let mut missing = Vec::new();
    for gate in pod.spec().readiness_gates.iter().flatten() {
        let name = &gate.condition_type;
        match others.iter().find(|c| c.type_ == *name) {
            None => missing.push(format!(
                "corresponding condition of pod readiness gate \"{name}\" does not exist."
            )),
            Some(c) if c.status != "True" => missing.push(format!(
                "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                c.status
            )),
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        return condition(pod, kind, true, "", String::new());
    }
    condition(pod, kind, false, "ReadinessGatesNotReady", missing.join(", "))
}

/// The pod is on a node.
pub(crate) fn scheduled(pod: &Pod) -> PodCondition {
    condition(pod, "PodScheduled", true, "", String::new())
}
