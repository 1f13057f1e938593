//! Container statuses from what the runtime shows, what was reported before and why containers couldn't be started. Pure.

use crate::plan::{any_regular_created, should_restart};
use crate::pods::{PodExt, api_time, is_sidecar};
use crate::resize::Allocation;
use crate::resources::{ResourceList, amount, bytes, millis, quota, shares};
use crate::runtime::observed::{ContainerState as Seen, Observed, ObservedContainer};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser, Pod, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Why a container waits: reason and message, by container name.
pub(crate) type Reasons = BTreeMap<String, (String, String)>;

fn waiting(reason: &str, message: &str) -> ContainerState {
    let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: text(reason),
            message: text(message),
        }),
        ..ContainerState::default()
    }
}

fn terminated(state: ContainerStateTerminated) -> ContainerState {
    ContainerState {
        terminated: Some(state),
        ..ContainerState::default()
    }
}

/// What is asked of one group of containers: init, regular or ephemeral.
pub(crate) struct Group<'a> {
    pub(crate) containers: &'a [Container],
    pub(crate) previous: &'a [ContainerStatus],
    /// What was applied to the containers last; none when it is what the pod says.
    pub(crate) actuated: Option<&'a Allocation>,
    pub(crate) init: bool,
}

/// The statuses of a group of containers.
pub(crate) fn statuses(
    pod: &Pod,
    observed: &Observed,
    group: &Group<'_>,
    reasons: &Reasons,
    runtime: &str,
) -> Vec<ContainerStatus> {
    let has_init = !pod.init_containers().is_empty();
    let mut out: Vec<ContainerStatus> = Vec::new();
    for container in group.containers {
        let old = group.previous.iter().find(|s| s.name == container.name);
        let mut status = baseline(container, old, has_init);
        infer_lost(pod, observed, container, old, has_init, &mut status);
        let seen: Vec<&ObservedContainer> = observed
            .containers
            .iter()
            .filter(|c| c.name == container.name)
            .take(2)
            .collect();
        if let Some(newest) = seen.first() {
            let last = seen.get(1).map(|c| state_of(c, None, runtime).0);
            let actuated = group.actuated.and_then(|a| a.container(&container.name));
            status = convert(newest, old, container, actuated, runtime);
            if let Some(last) = last {
                status.last_state = Some(last);
            }
        }
        wait_for_start(pod, observed, container, group.init, reasons, &mut status);
        out.push(status);
    }
    if !group.init {
        out.sort_by(|a, b| a.name.cmp(&b.name));
    }
    out
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let list: Vec<VolumeMountStatus> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|m| {
            let read_only = m.read_only == Some(true);
            VolumeMountStatus {
                name: m.name.clone(),
                mount_path: m.mount_path.clone(),
                read_only: read_only.then_some(true),
                recursive_read_only: read_only.then(|| "Disabled".to_owned()),
                ..VolumeMountStatus::default()
            }
        })
        .collect();
    (!list.is_empty()).then_some(list)
}

fn baseline(container: &Container, old: Option<&ContainerStatus>, has_init: bool) -> ContainerStatus {
    if let Some(old) = old.filter(|o| o.state.as_ref().is_some_and(|s| s.terminated.is_some())) {
        return old.clone();
    }
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(
            if has_init {
                "PodInitializing"
            } else {
                "ContainerCreating"
            },
            "",
        )),
        volume_mounts: mounts(container),
        restart_count: old.map_or(0, |o| o.restart_count),
        last_state: Some(old.and_then(|o| o.last_state.clone()).unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

/// A container that was reported running and isn't known to the runtime any more has ended, nobody knows how.
fn infer_lost(
    pod: &Pod,
    observed: &Observed,
    container: &Container,
    old: Option<&ContainerStatus>,
    has_init: bool,
    status: &mut ContainerStatus,
) {
    if observed.container(&container.name).is_some() {
        return;
    }
    let was_running = old
        .and_then(|o| o.state.as_ref())
        .is_some_and(|s| s.running.is_some());
    let default = if has_init {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let is_default = status
        .state
        .as_ref()
        .and_then(|s| s.waiting.as_ref())
        .is_some_and(|w| w.reason.as_deref() == Some(default));
    let has_last = status.last_state.as_ref().is_some_and(|l| l.terminated.is_some());
    if !was_running || !is_default || has_last {
        return;
    }
    status.last_state = Some(terminated(ContainerStateTerminated {
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some(
            "The container could not be located when the pod was deleted.  The container used to be Running"
                .to_owned(),
        ),
        exit_code: 137,
        ..ContainerStateTerminated::default()
    }));
    if !pod.is_deleting() {
        status.restart_count += 1;
    }
}

/// The state of one container, and whether it counts as one more restart.
fn state_of(
    seen: &ObservedContainer,
    old: Option<&ContainerStatus>,
    runtime: &str,
) -> (ContainerState, bool) {
    match seen.state {
        Seen::Running => {
            let running = ContainerStateRunning {
                started_at: seen.started_at.map(api_time),
            };
            (
                ContainerState {
                    running: Some(running),
                    ..ContainerState::default()
                },
                false,
            )
        }
        Seen::Created => (waiting("", ""), false),
        Seen::Exited => {
            let text = |t: &String| (!t.is_empty()).then(|| t.clone());
            let state = ContainerStateTerminated {
                exit_code: seen.exit_code,
                reason: text(&seen.reason),
                message: text(&seen.message),
                started_at: seen.started_at.map(api_time),
                finished_at: seen.finished_at.map(api_time),
                container_id: Some(format!("{runtime}://{}", seen.id)),
                ..ContainerStateTerminated::default()
            };
            (terminated(state), false)
        }
        Seen::Unknown
            if old
                .and_then(|o| o.state.as_ref())
                .is_some_and(|s| s.running.is_some()) =>
        {
            let state = ContainerStateTerminated {
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some("The container could not be located when the pod was terminated".to_owned()),
                exit_code: 137,
                ..ContainerStateTerminated::default()
            };
            (terminated(state), true)
        }
        Seen::Unknown => (waiting("", ""), false),
    }
}

fn convert(
    seen: &ObservedContainer,
    old: Option<&ContainerStatus>,
    container: &Container,
    actuated: Option<&ResourceRequirements>,
    runtime: &str,
) -> ContainerStatus {
    let (state, lost) = state_of(seen, old, runtime);
    let id = format!("{runtime}://{}", seen.id);
    let mut last_state = ContainerState::default();
    let mut restarts = seen.restart_count;
    if let Some(old) = old {
        restarts = restarts.max(old.restart_count);
        let old_end = old.state.as_ref().and_then(|s| s.terminated.clone());
        let old_last = old.last_state.as_ref().and_then(|s| s.terminated.clone());
        if let Some(end) = old_end
            .filter(|_| old.container_id.as_deref() != Some(&id))
            .or(old_last)
        {
            last_state = terminated(end);
        }
    }
    ContainerStatus {
        name: seen.name.clone(),
        restart_count: restarts + i32::from(lost),
        image: if seen.image.is_empty() {
            container.image.clone().unwrap_or_default()
        } else {
            seen.image.clone()
        },
        image_id: seen.image_ref.clone(),
        container_id: Some(id),
        state: Some(state),
        last_state: Some(last_state),
        volume_mounts: mounts(container),
        allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
        resources: Some(resources_in_force(container, actuated, seen)),
        stop_signal: seen.stop_signal.clone(),
        user: seen.user.as_ref().map(|u| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: u.uid,
                gid: u.gid,
                supplemental_groups: Some(u.supplemental_groups.clone()).filter(|g| !g.is_empty()),
            }),
        }),
        ..ContainerStatus::default()
    }
}

/// The amounts that a container has: those that were applied last, or what the runtime says instead.
fn resources_in_force(
    container: &Container,
    actuated: Option<&ResourceRequirements>,
    seen: &ObservedContainer,
) -> ResourceRequirements {
    let mut out = container.resources.clone().unwrap_or_default();
    if seen.state != Seen::Running {
        return out;
    }
    if let Some(actuated) = actuated {
        let take = |to: &mut Option<ResourceList>, from: &Option<ResourceList>| {
            for name in ["cpu", "memory"] {
                match from.as_ref().and_then(|l| l.get(name)) {
                    Some(amount) => {
                        to.get_or_insert_default().insert(name.to_owned(), amount.clone());
                    }
                    None => {
                        to.as_mut().and_then(|l| l.remove(name));
                    }
                }
            }
            if to.as_ref().is_some_and(ResourceList::is_empty) && from.is_none() {
                *to = None;
            }
        };
        take(&mut out.requests, &actuated.requests);
        take(&mut out.limits, &actuated.limits);
    }
    let Some(real) = seen.resources else { return out };
    let mut correct = |list: fn(&mut ResourceRequirements) -> &mut Option<ResourceList>,
                       name: &str,
                       agrees: &dyn Fn(i64) -> bool,
                       instead: Option<Quantity>| {
        if let Some(list) = list(&mut out)
            && let Some(known) = amount(Some(list), name)
            && !agrees(known)
            && let Some(instead) = instead
        {
            list.insert(name.to_owned(), instead);
        }
    };
    correct(
        |r| &mut r.requests,
        "cpu",
        &|milli| shares(milli) == real.cpu_shares,
        (real.cpu_shares > 2).then(|| millis((real.cpu_shares * 1000 + 1023) / 1024)),
    );
    correct(
        |r| &mut r.limits,
        "cpu",
        &|milli| quota(milli, real.cpu_period) == real.cpu_quota,
        (real.cpu_quota > 0 && real.cpu_period > 0)
            .then(|| millis(real.cpu_quota.saturating_mul(1000) / real.cpu_period)),
    );
    correct(
        |r| &mut r.limits,
        "memory",
        &|limit| limit == real.memory_limit,
        (real.memory_limit > 0).then(|| bytes(real.memory_limit)),
    );
    out
}

/// A container that will be started (again) is waiting, for the reason that held it up last.
fn wait_for_start(
    pod: &Pod,
    observed: &Observed,
    container: &Container,
    init: bool,
    reasons: &Reasons,
    status: &mut ContainerStatus,
) {
    let seen = observed.container(&container.name);
    if init {
        if seen.is_some_and(|s| s.state == Seen::Exited && s.exit_code == 0) {
            return;
        }
        let is_waiting = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
        if seen.is_none() && any_regular_created(pod, observed) && !is_sidecar(container) && is_waiting {
            status.state = Some(terminated(ContainerStateTerminated {
                reason: Some("Completed".to_owned()),
                message: Some("Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally".to_owned()),
                ..ContainerStateTerminated::default()
            }));
            return;
        }
    }
    if !should_restart(container, pod, observed) {
        return;
    }
    let Some((reason, message)) = reasons.get(&container.name) else {
        return;
    };
    if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        status.last_state = status.state.take();
    }
    status.state = Some(waiting(reason, message));
}
