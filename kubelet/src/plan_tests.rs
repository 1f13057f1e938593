//! Tables over the sync plan.

use super::*;
use crate::runtime::observed::ObservedSandbox;
use serde_json::{Value, json};

fn pod(policy: &str, init: Value, containers: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": init, "containers": containers}}))
    .expect("a pod")
}

/// Containers from a drawing: `a=R` runs, `a=0` ended well, `a=1` badly, `a=C` made, `a=U` unknown.
fn observed(pod: &Pod, drawing: &str) -> Observed {
    let mut out = Observed {
        sandboxes: vec![ObservedSandbox {
            id: "s".into(),
            ready: true,
            attempt: 0,
            created_at: 1,
            host_network: false,
            ips: vec!["10.0.0.1".into()],
        }],
        containers: Vec::new(),
    };
    for part in drawing.split_whitespace() {
        let (name, state) = part.split_once('=').expect("name=state");
        let (state, exit_code) = match state {
            "R" => (ContainerState::Running, 0),
            "C" => (ContainerState::Created, 0),
            "U" => (ContainerState::Unknown, 0),
            code => (ContainerState::Exited, code.parse().expect("an exit code")),
        };
        out.containers.push(ObservedContainer {
            state,
            exit_code,
            hash: pod
                .container(name)
                .map(|c| container_hash(&c))
                .unwrap_or_default(),
            ..ObservedContainer::example(name, "s")
        });
    }
    out
}

/// A plan as text: `init 0`, `start 1`, `kill a`, `end` and so on.
fn shown(actions: &PodActions) -> String {
    let mut out = Vec::new();
    if actions.kill_pod {
        out.push("end".to_owned());
    }
    if actions.create_sandbox {
        out.push(format!("sandbox {}", actions.attempt));
    }
    out.extend(actions.to_kill.iter().map(|k| format!("kill {}", k.name)));
    out.extend(
        actions
            .ephemeral_to_start
            .iter()
            .map(|i| format!("ephemeral {i}")),
    );
    out.extend(actions.init_to_start.iter().map(|i| format!("init {i}")));
    out.extend(actions.to_start.iter().map(|i| format!("start {i}")));
    out.join(", ")
}

#[test]
fn regular_containers_follow_the_restart_policy() {
    for (policy, drawing, plan) in [
        ("Always", "", "start 0, start 1"),
        ("Always", "a=R b=R", ""),
        ("Always", "a=R b=1", "start 1"),
        ("Always", "a=0 b=R", "start 0"),
        ("OnFailure", "a=0 b=R", ""),
        ("OnFailure", "a=0 b=1", "start 1"),
        ("OnFailure", "a=0 b=0", "end"),
        ("Never", "a=1 b=R", ""),
        ("Never", "a=1 b=0", "end"),
        ("Never", "a=C b=R", "start 0"),
        ("Always", "a=U b=R", "kill a, start 0"),
    ] {
        let pod = pod(policy, json!([]), json!([{"name": "a"}, {"name": "b"}]));
        let plan_now = pod_actions(&pod, &observed(&pod, drawing), &ProbeResults::default());
        assert_eq!(shown(&plan_now), plan, "{policy}: {drawing}");
    }
}

#[test]
fn init_containers_run_one_after_the_other() {
    for (policy, drawing, plan) in [
        ("Always", "", "init 0"),
        ("Always", "i=R", ""),
        ("Always", "i=0", "init 1"),
        ("Always", "i=1", "init 0"),
        ("Never", "i=1", "end"),
        ("Always", "i=0 j=R", ""),
        ("Always", "i=0 j=0", "start 0"),
        ("Always", "j=0", "start 0"),
        ("Always", "i=0 j=0 a=R", ""),
        ("Always", "a=R", ""),
        ("Never", "i=0 j=0 a=0", "end"),
    ] {
        let pod = pod(
            policy,
            json!([{"name": "i"}, {"name": "j"}]),
            json!([{"name": "a"}]),
        );
        let plan_now = pod_actions(&pod, &observed(&pod, drawing), &ProbeResults::default());
        assert_eq!(shown(&plan_now), plan, "{policy}: {drawing}");
    }
}

#[test]
fn sidecars_start_before_and_stay_beside_the_others() {
    let init = json!([{"name": "s", "restartPolicy": "Always"}, {"name": "i"}]);
    for (policy, drawing, plan) in [
        ("Always", "", "init 0"),
        ("Always", "s=R", "init 1"),
        ("Always", "s=R i=0", "start 0"),
        ("Always", "s=1 i=0 a=R", "init 0"),
        ("Always", "s=R i=0 a=R", ""),
        ("Never", "s=1 i=0 a=R", "init 0"),
        ("Never", "s=R i=0 a=0", "end"),
        ("Never", "s=1 i=0 a=0", "end"),
    ] {
        let pod = pod(policy, init.clone(), json!([{"name": "a"}]));
        let plan_now = pod_actions(&pod, &observed(&pod, drawing), &ProbeResults::default());
        assert_eq!(shown(&plan_now), plan, "{policy}: {drawing}");
    }
}

#[test]
fn a_sidecar_with_a_startup_probe_holds_the_rest_back() {
    let init = json!([{"name": "s", "restartPolicy": "Always", "startupProbe": {}}]);
    let pod = pod("Always", init, json!([{"name": "a"}]));
    let with = |verdict: Option<bool>| {
        let mut probes = ProbeResults::default();
        probes.startup.extend(verdict.map(|v| ("id-s".to_owned(), v)));
        shown(&pod_actions(&pod, &observed(&pod, "s=R"), &probes))
    };
    assert_eq!(with(None), "");
    assert_eq!(with(Some(true)), "start 0");
    assert_eq!(with(Some(false)), "kill s, init 0");
}

#[test]
fn failed_probes_and_changed_definitions_restart_containers() {
    for (policy, restarted) in [("Always", "kill a, start 0"), ("Never", "end, kill a")] {
        let pod = pod(policy, json!([]), json!([{"name": "a", "livenessProbe": {}}]));
        let mut probes = ProbeResults::default();
        probes.liveness.insert("id-a".to_owned(), false);
        let plan = pod_actions(&pod, &observed(&pod, "a=R"), &probes);
        assert_eq!(shown(&plan), restarted, "{policy}");
        assert_eq!(plan.to_kill[0].reason, KillReason::Liveness);
    }
    let old = pod("Never", json!([]), json!([{"name": "a", "image": "x:1"}]));
    let new = pod("Never", json!([]), json!([{"name": "a", "image": "x:2"}]));
    let plan = pod_actions(&new, &observed(&old, "a=R"), &ProbeResults::default());
    assert_eq!(shown(&plan), "kill a, start 0");
    assert_eq!(
        plan.to_kill[0].message,
        "Container a definition changed, will be restarted"
    );
}

#[test]
fn a_lost_sandbox_is_made_again_with_everything_in_it() {
    let lost = |policy: &str, init: Value, drawing: &str| {
        let pod = pod(policy, init, json!([{"name": "a"}]));
        let mut observed = observed(&pod, drawing);
        observed.sandboxes[0].ready = false;
        shown(&pod_actions(&pod, &observed, &ProbeResults::default()))
    };
    assert_eq!(lost("Always", json!([]), "a=137"), "end, sandbox 1, start 0");
    assert_eq!(
        lost("Always", json!([{"name": "i"}]), "i=0 a=137"),
        "end, sandbox 1, init 0"
    );
    assert_eq!(lost("Never", json!([]), "a=137"), "end");
    assert_eq!(lost("Never", json!([]), ""), "end, sandbox 1, start 0");
    assert_eq!(lost("OnFailure", json!([]), "a=0"), "end");
    let fresh = pod("Always", json!([]), json!([{"name": "a"}]));
    let plan = pod_actions(&fresh, &Observed::default(), &ProbeResults::default());
    assert_eq!(shown(&plan), "end, sandbox 0, start 0");
}

#[test]
fn ephemeral_containers_start_once_and_early() {
    let mut pod = pod("Always", json!([{"name": "i"}]), json!([{"name": "a"}]));
    if let Some(spec) = pod.spec.as_mut() {
        spec.ephemeral_containers = serde_json::from_value(json!([{"name": "e"}])).expect("a container");
    }
    let plan = |drawing| {
        shown(&pod_actions(
            &pod,
            &observed(&pod, drawing),
            &ProbeResults::default(),
        ))
    };
    assert_eq!(plan("i=R"), "ephemeral 0");
    assert_eq!(plan("i=R e=0"), "");
}

#[test]
fn a_containers_own_rules_come_before_the_pods_policy() {
    let containers = json!([{"name": "a", "restartPolicy": "Never", "restartPolicyRules": [
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]);
    let pod = pod("Always", json!([]), containers);
    let plan = |drawing| {
        shown(&pod_actions(
            &pod,
            &observed(&pod, drawing),
            &ProbeResults::default(),
        ))
    };
    assert_eq!(plan("a=42"), "start 0");
    assert_eq!(plan("a=1"), "end");
}

#[test]
fn a_pod_that_is_being_deleted_restarts_nothing() {
    let mut pod = pod("Always", json!([]), json!([{"name": "a"}]));
    pod.metadata.deletion_timestamp = Some(crate::pods::api_time(jiff::Timestamp::UNIX_EPOCH));
    let seen = observed(&pod, "a=1");
    assert!(!should_restart(&pod.spec().containers[0].clone(), &pod, &seen));
}
