//! What to do next for a pod that should run: a pure function from its specification, what the runtime shows and what the probes
//! found, to the containers to kill and to start. It knows no clock: waiting between restarts is the caller's part.

use crate::pods::{PodExt, is_sidecar, should_restart_after};
use crate::resize::plan::Resize;
use crate::runtime::observed::{ContainerState, Observed, ObservedContainer};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::HashMap;

/// What probes found for running containers, by container id; absent while not yet known.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProbeResults {
    pub(crate) startup: HashMap<String, bool>,
    pub(crate) liveness: HashMap<String, bool>,
    pub(crate) readiness: HashMap<String, bool>,
}

/// Why a container is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// Its liveness probe failed.
    Liveness,
    /// Its startup probe failed.
    Startup,
    /// The runtime doesn't know its state.
    Unknown,
    /// Anything else.
    Other,
}

/// One container to kill.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kill {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) message: String,
    pub(crate) reason: KillReason,
}

/// What to do for the pod, in this order: kill (the pod, or single containers), make the sandbox, start ephemeral, init and regular containers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PodActions {
    /// Kill everything of the pod, its sandbox included.
    pub(crate) kill_pod: bool,
    /// Make a new sandbox.
    pub(crate) create_sandbox: bool,
    /// The sandbox to keep, or the one that is given up.
    pub(crate) sandbox_id: Option<String>,
    /// The number of the attempt for a new sandbox.
    pub(crate) attempt: u32,
    /// Init containers to start, by index.
    pub(crate) init_to_start: Vec<usize>,
    /// Regular containers to start, by index.
    pub(crate) to_start: Vec<usize>,
    /// Ephemeral containers to start, by index.
    pub(crate) ephemeral_to_start: Vec<usize>,
    /// Containers to kill.
    pub(crate) to_kill: Vec<Kill>,
    /// What gets other amounts of resources while it runs.
    pub(crate) resize: Resize,
}

/// The hash that tells whether a running container is still the one that is asked for: over name and image, the fields
/// whose change restarts a container.
pub(crate) fn container_hash(container: &Container) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in container
        .name
        .bytes()
        .chain([0])
        .chain(container.image.iter().flat_map(|i| i.bytes()))
    {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// Whether a container is to be started (again) as things stand.
pub(crate) fn should_restart(container: &Container, pod: &Pod, observed: &Observed) -> bool {
    if pod.is_deleting() {
        return false;
    }
    match observed.container(&container.name) {
        None => true,
        Some(c) => match c.state {
            ContainerState::Running => false,
            ContainerState::Unknown | ContainerState::Created => true,
            ContainerState::Exited => should_restart_after(container, pod.spec(), c.exit_code),
        },
    }
}

/// Whether a new sandbox is needed, with the attempt's number and the sandbox in question.
pub(crate) fn sandbox_changed(pod: &Pod, observed: &Observed) -> (bool, u32, Option<String>) {
    let Some(newest) = observed.sandboxes.first() else {
        return (true, 0, None);
    };
    let id = Some(newest.id.clone());
    let ready = observed.sandboxes.iter().filter(|s| s.ready).count();
    if ready > 1 || !newest.ready {
        return (true, newest.attempt + 1, id);
    }
    if newest.host_network != pod.is_host_network() {
        return (true, newest.attempt + 1, None);
    }
    if !pod.is_host_network() && newest.ips.is_empty() {
        return (true, newest.attempt + 1, id);
    }
    (false, newest.attempt, id)
}

/// Whether any regular container was ever made.
pub(crate) fn any_regular_created(pod: &Pod, observed: &Observed) -> bool {
    pod.spec()
        .containers
        .iter()
        .any(|c| observed.container(&c.name).is_some())
}

/// The actions for a pod.
pub(crate) fn pod_actions(pod: &Pod, observed: &Observed, probes: &ProbeResults) -> PodActions {
    let (create_sandbox, attempt, sandbox_id) = sandbox_changed(pod, observed);
    let mut actions = PodActions {
        kill_pod: create_sandbox,
        create_sandbox,
        sandbox_id,
        attempt,
        ..PodActions::default()
    };
    if create_sandbox {
        plan_new_sandbox(pod, observed, &mut actions);
        return actions;
    }
    actions.ephemeral_to_start = pod
        .ephemeral_containers()
        .iter()
        .enumerate()
        .filter(|(_, c)| observed.container(&c.name).is_none())
        .map(|(i, _)| i)
        .collect();
    let initialized = plan_init(pod, observed, probes, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    plan_regular(pod, observed, probes, &mut actions);
    actions
}

fn plan_new_sandbox(pod: &Pod, observed: &Observed, actions: &mut PodActions) {
    let spec = pod.spec();
    if pod.restart_policy() == "Never"
        && actions.attempt != 0
        && !observed.containers.is_empty()
        && spec.containers.iter().all(|c| c.restart_policy.is_none())
    {
        actions.create_sandbox = false;
        return;
    }
    let to_start: Vec<usize> = spec
        .containers
        .iter()
        .enumerate()
        .filter(|(_, c)| {
            let policy = c.restart_policy.as_deref().unwrap_or(pod.restart_policy());
            let succeeded = observed
                .container(&c.name)
                .is_some_and(|o| o.state == ContainerState::Exited && o.exit_code == 0);
            !(policy == "OnFailure" && succeeded)
        })
        .map(|(i, _)| i)
        .collect();
    if to_start.is_empty() && any_regular_created(pod, observed) {
        actions.create_sandbox = false;
        return;
    }
    if pod.init_containers().is_empty() {
        actions.to_start = to_start;
    } else {
        actions.init_to_start = vec![0];
    }
}

fn plan_regular(pod: &Pod, observed: &Observed, probes: &ProbeResults, actions: &mut PodActions) {
    let mut keep = 0;
    for (index, container) in pod.spec().containers.iter().enumerate() {
        let status = match observed.container(&container.name) {
            Some(status) if status.state == ContainerState::Running => status,
            other => {
                if should_restart(container, pod, observed) {
                    actions.to_start.push(index);
                    if let Some(unknown) = other.filter(|s| s.state == ContainerState::Unknown) {
                        actions.to_kill.push(kill_unknown(unknown, "Container"));
                    }
                }
                continue;
            }
        };
        let mut restart = container
            .restart_policy
            .as_deref()
            .unwrap_or(pod.restart_policy())
            != "Never";
        let name = &container.name;
        let (message, reason) = if status.hash != container_hash(container) {
            restart = true;
            (format!("Container {name} definition changed"), KillReason::Other)
        } else if probes.liveness.get(&status.id) == Some(&false) {
            (
                format!("Container {name} failed liveness probe"),
                KillReason::Liveness,
            )
        } else if probes.startup.get(&status.id) == Some(&false) {
            (
                format!("Container {name} failed startup probe"),
                KillReason::Startup,
            )
        } else {
            keep += 1;
            continue;
        };
        let message = if restart {
            format!("{message}, will be restarted")
        } else {
            message
        };
        if restart {
            actions.to_start.push(index);
        }
        actions.to_kill.push(Kill {
            id: status.id.clone(),
            name: name.clone(),
            message,
            reason,
        });
    }
    if keep == 0 && actions.to_start.is_empty() {
        actions.kill_pod = true;
        actions.init_to_start.clear();
    }
}

fn kill_unknown(status: &ObservedContainer, what: &str) -> Kill {
    Kill {
        id: status.id.clone(),
        name: status.name.clone(),
        message: format!(
            "{what} is in {:?} state, try killing it before restart",
            status.state.as_str()
        ),
        reason: KillReason::Unknown,
    }
}

/// Decides about init containers, and returns whether the pod's initialization is over. It looks from the last one
/// backwards, because completed ones may have been removed.
fn plan_init(pod: &Pod, observed: &Observed, probes: &ProbeResults, actions: &mut PodActions) -> bool {
    let init = pod.init_containers();
    if init.is_empty() {
        return true;
    }
    let mut has_initialized = pod.spec().containers.iter().any(|c| {
        observed
            .container(&c.name)
            .is_some_and(|s| matches!(s.state, ContainerState::Created | ContainerState::Running))
    });
    let mut previously = has_initialized;
    for (index, container) in init.iter().enumerate().rev() {
        let sidecar = is_sidecar(container);
        let Some(status) = observed.container(&container.name) else {
            if previously && sidecar {
                actions.init_to_start.push(index);
            }
            continue;
        };
        if previously && !sidecar {
            continue;
        }
        let last = index + 1 == init.len();
        match status.state {
            ContainerState::Created => actions.init_to_start.push(index),
            ContainerState::Running => {
                if sidecar && plan_running_sidecar(container, status, probes, index, actions) {
                    if last {
                        has_initialized = true;
                    } else if !previously {
                        actions.init_to_start.push(index + 1);
                    }
                    restart_broken_sidecar(container, status, probes, index, actions);
                }
            }
            ContainerState::Exited if sidecar => actions.init_to_start.push(index),
            ContainerState::Exited => {
                if status.exit_code == 0 {
                    if last {
                        has_initialized = true;
                    } else {
                        actions.init_to_start.push(index + 1);
                    }
                } else if should_restart(container, pod, observed) {
                    actions.init_to_start.push(index);
                } else {
                    actions.kill_pod = true;
                    actions.init_to_start.clear();
                    return false;
                }
            }
            ContainerState::Unknown => {
                let policy = container
                    .restart_policy
                    .as_deref()
                    .unwrap_or(pod.restart_policy());
                if !sidecar && policy == "Never" {
                    actions.kill_pod = true;
                    actions.init_to_start.clear();
                    return false;
                }
                actions.to_kill.push(kill_unknown(status, "Init container"));
                actions.init_to_start.push(index);
            }
        }
        previously = true;
    }
    if !previously {
        actions.init_to_start.push(0);
    }
    actions.init_to_start.reverse();
    has_initialized
}

/// Whether a running sidecar counts as started; a failed startup probe has it restarted.
fn plan_running_sidecar(
    container: &Container,
    status: &ObservedContainer,
    probes: &ProbeResults,
    index: usize,
    actions: &mut PodActions,
) -> bool {
    if container.startup_probe.is_none() {
        return true;
    }
    match probes.startup.get(&status.id) {
        Some(true) => true,
        Some(false) => {
            actions.to_kill.push(Kill {
                id: status.id.clone(),
                name: container.name.clone(),
                message: format!("Init container {} failed startup probe", container.name),
                reason: KillReason::Startup,
            });
            actions.init_to_start.push(index);
            false
        }
        None => false,
    }
}

fn restart_broken_sidecar(
    container: &Container,
    status: &ObservedContainer,
    probes: &ProbeResults,
    index: usize,
    actions: &mut PodActions,
) {
    let (message, reason) = if status.hash != container_hash(container) {
        (
            format!("Init container {} definition changed", container.name),
            KillReason::Other,
        )
    } else if container.liveness_probe.is_some() && probes.liveness.get(&status.id) == Some(&false) {
        (
            format!("Init container {} failed liveness probe", container.name),
            KillReason::Liveness,
        )
    } else {
        return;
    };
    actions.to_kill.push(Kill {
        id: status.id.clone(),
        name: container.name.clone(),
        message,
        reason,
    });
    actions.init_to_start.push(index);
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
