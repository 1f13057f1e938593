//! Which running containers are to get other amounts, and whether they have to be restarted for it. Pure.

use super::Allocation;
use crate::plan::{Kill, KillReason, PodActions};
use crate::pods::PodExt;
use crate::resources::{amount, limits_of};
use crate::runtime::observed::{ContainerState, Observed};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

/// A running container that gets other amounts without a restart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Update {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Memory: the limit before and after; zero for none.
    pub(crate) memory: (i64, i64),
    /// CPU: limit and request before and after in milli-units, as one ordering key each.
    pub(crate) cpu: (i64, i64),
}

/// What is to be resized.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Resize {
    /// Containers to update in place.
    pub(crate) updates: Vec<Update>,
    /// Whether the pod's own group changes, too.
    pub(crate) pod: bool,
}

impl Resize {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.updates.is_empty() && !self.pod
    }
}

/// The amounts that reach a container's group: CPU in milli-units, memory in bytes; zero for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amounts {
    cpu_request: i64,
    cpu_limit: i64,
    memory_request: i64,
    memory_limit: i64,
}

fn amounts(pod: Option<&ResourceRequirements>, own: Option<&ResourceRequirements>) -> Amounts {
    let requests = own.and_then(|r| r.requests.as_ref());
    let request = |name| amount(requests, name).unwrap_or(0);
    let limit = |name| limits_of(pod, own, name);
    Amounts {
        cpu_request: request("cpu"),
        cpu_limit: limit("cpu"),
        memory_request: request("memory"),
        memory_limit: limit("memory"),
    }
}

/// Whether a container in which something of a resource changes has to be restarted.
fn restarts(container: &Container, resource: &str) -> bool {
    container
        .resize_policy
        .iter()
        .flatten()
        .any(|p| p.resource_name == resource && p.restart_policy == "RestartContainer")
}

/// Whether what was applied is not what was promised, in a container that runs.
pub(crate) fn in_progress(pod: &Pod, observed: &Observed, actuated: &Allocation) -> bool {
    let pod_level = pod.spec().resources.as_ref();
    let containers = pod.init_containers().iter().chain(&pod.spec().containers);
    let mut running = containers.filter(|c| {
        observed
            .container(&c.name)
            .is_some_and(|s| s.state == ContainerState::Running)
    });
    running.any(|c| {
        amounts(pod_level, c.resources.as_ref())
            != amounts(actuated.pod.as_ref(), actuated.container(&c.name))
    }) || observed.has_running() && !super::same(pod_level, actuated.pod.as_ref())
}

/// Adds to a pod's actions what brings its running containers to what it was promised.
pub(crate) fn add(pod: &Pod, observed: &Observed, actuated: &Allocation, actions: &mut PodActions) {
    if actions.kill_pod || actions.create_sandbox {
        return;
    }
    let pod_level = pod.spec().resources.as_ref();
    actions.resize.pod = observed.has_running() && !super::same(pod_level, actuated.pod.as_ref());
    let init = pod
        .init_containers()
        .iter()
        .enumerate()
        .map(|(i, c)| (i, c, true));
    let regular = pod
        .spec()
        .containers
        .iter()
        .enumerate()
        .map(|(i, c)| (i, c, false));
    for (index, container, is_init) in init.chain(regular) {
        let Some(seen) = observed
            .container(&container.name)
            .filter(|s| s.state == ContainerState::Running)
        else {
            continue;
        };
        if actions.to_kill.iter().any(|k| k.id == seen.id) {
            continue;
        }
        let before = amounts(actuated.pod.as_ref(), actuated.container(&container.name));
        let after = amounts(pod_level, container.resources.as_ref());
        if before == after {
            continue;
        }
        let cpu = (before.cpu_request, before.cpu_limit) != (after.cpu_request, after.cpu_limit);
        let memory =
            (before.memory_request, before.memory_limit) != (after.memory_request, after.memory_limit);
        if cpu && restarts(container, "cpu") || memory && restarts(container, "memory") {
            actions.to_kill.push(Kill {
                id: seen.id.clone(),
                name: container.name.clone(),
                message: format!("Container {} resize requires restart", container.name),
                reason: KillReason::Other,
            });
            let list = if is_init {
                &mut actions.init_to_start
            } else {
                &mut actions.to_start
            };
            list.push(index);
            list.sort_unstable();
            actions.resize.pod = true;
            continue;
        }
        let unlimited = |limit: i64| if limit == 0 { i64::MAX } else { limit };
        let cpu_key = |a: &Amounts| {
            if before.cpu_limit == after.cpu_limit {
                a.cpu_request
            } else {
                unlimited(a.cpu_limit)
            }
        };
        actions.resize.updates.push(Update {
            id: seen.id.clone(),
            name: container.name.clone(),
            memory: (before.memory_limit, after.memory_limit),
            cpu: (cpu_key(&before), cpu_key(&after)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::observed::{ObservedContainer, ObservedSandbox};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn pod(cpu: &str, memory: &str, policy: Value) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({"spec": {"containers": [{"name": "a", "resizePolicy": policy,
                "resources": {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": cpu, "memory": memory}}}]}}))
            .expect("a pod"),
        )
    }

    fn running() -> Observed {
        Observed {
            sandboxes: vec![ObservedSandbox {
                id: "s".into(),
                ready: true,
                attempt: 0,
                created_at: 1,
                host_network: false,
                ips: vec!["10.0.0.1".into()],
            }],
            containers: vec![ObservedContainer {
                state: ContainerState::Running,
                ..ObservedContainer::example("a", "s")
            }],
        }
    }

    #[test]
    fn a_container_is_updated_or_restarted_as_its_policy_says() {
        let restart = |what: &str| json!([{"resourceName": what, "restartPolicy": "RestartContainer"}]);
        let before = Allocation::of(&pod("1", "1Gi", json!([])));
        for (cpu, memory, policy, updates, kills) in [
            ("1", "1Gi", restart("cpu"), 0, 0),
            ("1000m", "1024Mi", restart("cpu"), 0, 0),
            ("2", "1Gi", json!([]), 1, 0),
            ("2", "1Gi", restart("cpu"), 0, 1),
            ("2", "1Gi", restart("memory"), 1, 0),
            ("1", "2Gi", restart("memory"), 0, 1),
            ("500m", "512Mi", json!([]), 1, 0),
        ] {
            let mut actions = PodActions::default();
            let pod = pod(cpu, memory, policy);
            add(&pod, &running(), &before, &mut actions);
            let found = (actions.resize.updates.len(), actions.to_kill.len());
            assert_eq!(found, (updates, kills), "{cpu} {memory}");
            assert_eq!(actions.to_start.len(), kills);
            assert_eq!(in_progress(&pod, &running(), &before), updates + kills > 0);
        }
    }

    #[test]
    fn what_does_not_run_needs_no_resize() {
        let mut observed = running();
        observed.containers[0].state = ContainerState::Exited;
        let pod = pod("2", "1Gi", json!([]));
        let mut actions = PodActions::default();
        add(&pod, &observed, &Allocation::default(), &mut actions);
        assert_eq!(actions, PodActions::default());
    }
}
