//! The whole status of a pod from what is known. Pure.

use super::conditions;
use super::containers::{Group, Reasons, statuses};
use super::phase::phase;
use crate::plan::{ProbeResults, sandbox_changed};
use crate::pods::{PodExt, api_time, is_sidecar, plain_container};
use crate::resize::plan::in_progress;
use crate::resize::{Allocation, Pending};
use crate::resources::{ResourceList, bytes, millis, pod_limits, pod_requests, qos, units};
use crate::runtime::observed::{ContainerState as Seen, Observed};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus, ResourceRequirements,
};
use std::collections::BTreeMap;

/// What a status is made from, beside the pod and the runtime's view.
pub(crate) struct StatusInputs<'a> {
    /// The last status that was made; the object's own at first.
    pub(crate) previous: &'a PodStatus,
    /// Why containers wait.
    pub(crate) reasons: &'a Reasons,
    /// What probes found.
    pub(crate) probes: &'a ProbeResults,
    /// Whether no container will be started again.
    pub(crate) ended: bool,
    /// A phase-changing verdict of the node (eviction, deadline, rejection): reason and message.
    pub(crate) failed: Option<(&'a str, &'a str)>,
    /// The node's addresses.
    pub(crate) host_ips: &'a [String],
    /// How far the pod's resources are what it asks for.
    pub(crate) resize: ResizeState<'a>,
    /// The runtime's name, as in container ids.
    pub(crate) runtime: &'a str,
    pub(crate) now: Timestamp,
}

/// How far a pod's resources are what it asks for. The pod itself says what it was promised.
#[derive(Clone, Copy, Default)]
pub(crate) struct ResizeState<'a> {
    /// What was applied last; none when it is what was promised.
    pub(crate) actuated: Option<&'a Allocation>,
    /// Why the pod wasn't promised what it asks for.
    pub(crate) pending: Option<&'a Pending>,
    /// Why what was promised isn't applied.
    pub(crate) error: Option<&'a str>,
}

/// Makes the status.
pub(crate) fn pod_status(pod: &Pod, observed: &Observed, inputs: &StatusInputs<'_>) -> PodStatus {
    let previous = inputs.previous;
    let group = |containers: &[Container], previous: &Option<Vec<ContainerStatus>>, init| {
        let group = Group {
            containers,
            previous: previous.as_deref().unwrap_or_default(),
            actuated: inputs.resize.actuated,
            init,
        };
        statuses(pod, observed, &group, inputs.reasons, inputs.runtime)
    };
    let ephemeral: Vec<Container> = pod.ephemeral_containers().iter().map(plain_container).collect();
    let mut regular = group(&pod.spec().containers, &previous.container_statuses, false);
    let mut init = group(pod.init_containers(), &previous.init_container_statuses, true);
    let ephemeral = group(&ephemeral, &previous.ephemeral_container_statuses, false);

    let active = |c: &Container| {
        observed.container(&c.name).is_some_and(|s| {
            matches!(s.state, Seen::Running | Seen::Exited | Seen::Created)
                && observed
                    .sandboxes
                    .first()
                    .is_some_and(|newest| newest.id == s.sandbox_id)
        })
    };
    let initialized = pod.spec().containers.iter().any(active);
    let all: Vec<ContainerStatus> = init.iter().chain(&regular).cloned().collect();
    let mut new_phase = phase(pod, &all, inputs.ended, initialized).to_owned();
    let over = |p: &Option<String>| matches!(p.as_deref(), Some("Succeeded" | "Failed"));
    if !matches!(new_phase.as_str(), "Succeeded" | "Failed") {
        if over(&previous.phase) {
            new_phase = previous.phase.clone().unwrap_or_default();
        } else if over(&pod.status().phase) {
            new_phase = pod.status().phase.clone().unwrap_or_default();
        }
    }
    let (mut reason, mut message) = (None, None);
    if previous.phase.as_deref() == Some(&new_phase) {
        reason = previous.reason.clone().or_else(|| pod.status().reason.clone());
        message = previous.message.clone().or_else(|| pod.status().message.clone());
    }
    if let Some((why, text)) = inputs.failed {
        new_phase = "Failed".to_owned();
        reason = Some(why.to_owned());
        message = Some(text.to_owned());
    }
    if over(&pod.status().phase) {
        new_phase = pod.status().phase.clone().unwrap_or_default();
    }

    apply_probes(pod, observed, inputs.probes, &mut regular, &mut init);
    let ready_view: Vec<ContainerStatus> = init.iter().chain(&regular).cloned().collect();
    let mut list: Vec<PodCondition> = pod
        .status()
        .conditions
        .iter()
        .flatten()
        .filter(|c| !conditions::OWNED.contains(&c.type_.as_str()))
        .cloned()
        .collect();
    if let Some(disruption) = previous
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "DisruptionTarget")
    {
        list.retain(|c| c.type_ != "DisruptionTarget");
        list.push(disruption.clone());
    }
    let was_initialized = !pod.init_containers().is_empty()
        && previous
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Initialized" && c.status == "True");
    let containers_ready = conditions::containers_ready(pod, &ready_view, &new_phase);
    let own = [
        conditions::ready_to_start(pod, !sandbox_changed(pod, observed).0),
        conditions::initialized(pod, &ready_view, &new_phase, was_initialized),
        conditions::ready(pod, &list, &containers_ready),
        containers_ready,
        conditions::scheduled(pod),
    ];
    let resizing = resize_conditions(pod, observed, inputs, &new_phase);
    list.extend(
        own.into_iter()
            .chain(resizing)
            .map(|c| with_transition(c, previous, pod, inputs.now)),
    );

    let some = |list: Vec<ContainerStatus>| (!list.is_empty()).then_some(list);
    let mut status = PodStatus {
        phase: Some(new_phase),
        reason,
        message,
        conditions: Some(list),
        container_statuses: some(regular),
        init_container_statuses: some(init),
        ephemeral_container_statuses: some(ephemeral),
        qos_class: Some(qos(pod).as_str().to_owned()),
        start_time: previous
            .start_time
            .clone()
            .or_else(|| pod.status().start_time.clone())
            .or_else(|| Some(api_time(inputs.now))),
        observed_generation: pod.generation(),
        ..PodStatus::default()
    };
    add_addresses(pod, observed, inputs, &mut status);
    add_resources(pod, inputs.resize.actuated, &mut status);
    status
}

fn resize_conditions(
    pod: &Pod,
    observed: &Observed,
    inputs: &StatusInputs<'_>,
    phase: &str,
) -> Vec<PodCondition> {
    if inputs.ended || matches!(phase, "Succeeded" | "Failed") {
        return Vec::new();
    }
    let resize = &inputs.resize;
    let mut out = Vec::new();
    out.extend(resize.pending.map(|p| conditions::resize_pending(pod, p)));
    let unfinished = resize.actuated.is_some_and(|a| in_progress(pod, observed, a));
    if unfinished {
        out.push(conditions::resize_in_progress(pod, resize.error));
    }
    out
}

/// What the pod as a whole was promised and has.
fn add_resources(pod: &Pod, actuated: Option<&Allocation>, status: &mut PodStatus) {
    let list = |amounts: BTreeMap<String, i64>| -> Option<ResourceList> {
        let list: ResourceList = amounts
            .into_iter()
            .map(|(name, amount)| {
                let quantity = match name.as_str() {
                    "cpu" => millis(amount),
                    "memory" => bytes(amount),
                    n if n == "ephemeral-storage" || n.starts_with("hugepages-") => bytes(amount),
                    _ => units(amount),
                };
                (name, quantity)
            })
            .collect();
        (!list.is_empty()).then_some(list)
    };
    status.allocated_resources = list(pod_requests(pod));
    let applied = actuated.map(|a| a.apply(&std::sync::Arc::new(pod.clone())));
    let has = applied.as_deref().unwrap_or(pod);
    let resources = ResourceRequirements {
        requests: list(pod_requests(has)),
        limits: list(pod_limits(has)),
        claims: None,
    };
    if resources.requests.is_some() || resources.limits.is_some() {
        status.resources = Some(resources);
    }
}

fn add_addresses(pod: &Pod, observed: &Observed, inputs: &StatusInputs<'_>, status: &mut PodStatus) {
    let previous = inputs.previous;
    let mut ips: Vec<String> = observed.ips().to_vec();
    if ips.is_empty() && previous.pod_ip.is_some() {
        ips = previous.pod_ips.iter().flatten().map(|p| p.ip.clone()).collect();
    }
    if pod.is_host_network() && ips.is_empty() {
        ips = inputs.host_ips.to_vec();
    }
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
    status.host_ip = inputs.host_ips.first().cloned();
    status.host_ips = (!inputs.host_ips.is_empty()).then(|| {
        inputs
            .host_ips
            .iter()
            .map(|ip| HostIP { ip: ip.clone() })
            .collect()
    });
}

/// Fills in whether containers have started and are ready.
fn apply_probes(
    pod: &Pod,
    observed: &Observed,
    probes: &ProbeResults,
    regular: &mut [ContainerStatus],
    init: &mut [ContainerStatus],
) {
    for status in regular {
        let spec = pod.spec().containers.iter().find(|c| c.name == status.name);
        let (started, ready) = started_and_ready(spec, observed, probes, status);
        status.started = Some(started);
        status.ready = ready;
    }
    for status in init {
        let spec = pod.init_containers().iter().find(|c| c.name == status.name);
        if spec.is_some_and(is_sidecar) {
            let (started, ready) = started_and_ready(spec, observed, probes, status);
            status.started = Some(started);
            status.ready = ready;
        } else {
            let state = status.state.as_ref();
            status.ready = state
                .and_then(|s| s.terminated.as_ref())
                .is_some_and(|t| t.exit_code == 0);
            status.started = Some(state.is_some_and(|s| s.running.is_some()));
        }
    }
}

fn started_and_ready(
    spec: Option<&Container>,
    observed: &Observed,
    probes: &ProbeResults,
    status: &ContainerStatus,
) -> (bool, bool) {
    let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    let (Some(spec), Some(seen), true) = (spec, observed.container(&status.name), running) else {
        return (false, false);
    };
    let started = spec.startup_probe.is_none() || probes.startup.get(&seen.id) == Some(&true);
    let ready = started && (spec.readiness_probe.is_none() || probes.readiness.get(&seen.id) == Some(&true));
    (started, ready)
}

/// Keeps the time of the last transition as long as the status stays the same.
fn with_transition(mut new: PodCondition, previous: &PodStatus, pod: &Pod, now: Timestamp) -> PodCondition {
    let old = previous
        .conditions
        .iter()
        .flatten()
        .chain(pod.status().conditions.iter().flatten())
        .find(|c| c.type_ == new.type_);
    new.last_transition_time = match old {
        Some(old) if old.status == new.status && old.last_transition_time.is_some() => {
            old.last_transition_time.clone()
        }
        _ => Some(api_time(now)),
    };
    new
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
