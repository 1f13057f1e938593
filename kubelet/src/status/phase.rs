//! A pod's phase from the states of its containers. Pure.

use crate::pods::{PodExt, is_sidecar, should_restart_after};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

enum State {
    Running { started: bool },
    Terminated(i32),
    WaitingAfter(i32),
    Waiting,
    Unknown,
}

fn state(statuses: &[ContainerStatus], container: &Container) -> State {
    let Some(status) = statuses.iter().find(|s| s.name == container.name) else {
        return State::Unknown;
    };
    let Some(state) = &status.state else {
        return State::Unknown;
    };
    if state.running.is_some() {
        State::Running {
            started: status.started == Some(true),
        }
    } else if let Some(terminated) = &state.terminated {
        State::Terminated(terminated.exit_code)
    } else if state.waiting.is_some() {
        match status.last_state.as_ref().and_then(|l| l.terminated.as_ref()) {
            Some(last) => State::WaitingAfter(last.exit_code),
            None => State::Waiting,
        }
    } else {
        State::Unknown
    }
}

/// The phase. `ended` says that no container of the pod will be started again; `initialized` that a regular container
/// has been started before.
pub(crate) fn phase(pod: &Pod, statuses: &[ContainerStatus], ended: bool, initialized: bool) -> &'static str {
    let spec = pod.spec();
    let (mut pending_init, mut pending_sidecars) = (0, 0);
    let (mut unknown, mut running, mut waiting, mut stopped, mut final_stops, mut succeeded) =
        (0, 0, 0, 0, 0, 0);
    for container in pod.init_containers() {
        let state = state(statuses, container);
        if is_sidecar(container) {
            match state {
                State::Running { started } => {
                    pending_sidecars += usize::from(!started);
                    running += 1;
                }
                State::Terminated(_) | State::WaitingAfter(_) => {}
                State::Waiting => {
                    pending_sidecars += 1;
                    waiting += 1;
                }
                State::Unknown => {
                    let known = statuses.iter().any(|s| s.name == container.name);
                    pending_sidecars += usize::from(known);
                    unknown += 1;
                }
            }
            continue;
        }
        match state {
            State::Terminated(code) | State::WaitingAfter(code) => {
                if code != 0 && !should_restart_after(container, spec, code) {
                    return "Failed";
                }
            }
            _ => pending_init += 1,
        }
    }
    for container in &spec.containers {
        match state(statuses, container) {
            State::Running { .. } => running += 1,
            State::Terminated(code) => {
                stopped += 1;
                final_stops += usize::from(!should_restart_after(container, spec, code));
                succeeded += usize::from(code == 0);
            }
            State::WaitingAfter(code) => {
                stopped += 1;
                final_stops += usize::from(!should_restart_after(container, spec, code));
            }
            State::Waiting => waiting += 1,
            State::Unknown => unknown += 1,
        }
    }
    if pending_init > 0 || (pending_sidecars > 0 && !initialized) || waiting > 0 {
        return "Pending";
    }
    if running > 0 && unknown == 0 {
        return "Running";
    }
    if running == 0 && stopped > 0 && unknown == 0 {
        let over = (ended && !pod.is_static()) || stopped == final_stops;
        return match (over, stopped == succeeded) {
            (false, _) => "Running",
            (true, true) => "Succeeded",
            (true, false) => "Failed",
        };
    }
    "Pending"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(policy: &str, states: Value, ended: bool) -> &'static str {
        let list = states.as_array().expect("a list");
        let containers: Vec<Value> = (0..list.len())
            .map(|i| json!({"name": format!("c{i}")}))
            .collect();
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"restartPolicy": policy, "containers": containers}}))
                .expect("a pod");
        let statuses: Vec<ContainerStatus> = list
            .iter()
            .enumerate()
            .map(|(i, s)| {
                let mut s = s.clone();
                s["name"] = json!(format!("c{i}"));
                for (k, v) in [
                    ("ready", json!(false)),
                    ("restartCount", json!(0)),
                    ("image", json!("")),
                    ("imageID", json!("")),
                ] {
                    s[k] = v;
                }
                serde_json::from_value(s).expect("a status")
            })
            .collect();
        phase(&pod, &statuses, ended, false)
    }

    #[test]
    fn the_phase_follows_the_containers() {
        let running = json!({"state": {"running": {}}});
        let done = |code: i32| json!({"state": {"terminated": {"exitCode": code}}});
        let waiting = json!({"state": {"waiting": {}}});
        let crashed = json!({"state": {"waiting": {}}, "lastState": {"terminated": {"exitCode": 1}}});
        for (policy, states, ended, want) in [
            ("Always", json!([waiting]), false, "Pending"),
            ("Always", json!([running]), false, "Running"),
            ("Always", json!([running, waiting]), false, "Pending"),
            ("Always", json!([running, crashed]), false, "Running"),
            ("Always", json!([crashed]), false, "Running"),
            ("Always", json!([done(0)]), false, "Running"),
            ("Always", json!([done(0)]), true, "Succeeded"),
            ("Always", json!([done(137)]), true, "Failed"),
            ("Never", json!([done(0), running]), false, "Running"),
            ("Never", json!([done(0), done(0)]), false, "Succeeded"),
            ("Never", json!([done(0), done(2)]), false, "Failed"),
            ("OnFailure", json!([done(0), done(2)]), false, "Running"),
            ("OnFailure", json!([done(0)]), false, "Succeeded"),
        ] {
            assert_eq!(
                check(policy, states.clone(), ended),
                want,
                "{policy} {states} {ended}"
            );
        }
    }
}
