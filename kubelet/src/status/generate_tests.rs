//! Tables over the pod's status.

use super::*;
use crate::plan::container_hash;
use crate::runtime::observed::{ObservedContainer, ObservedSandbox};
use serde_json::{Value, json};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn container(pod: &Pod, name: &str, id: &str, state: Seen, code: i32, restarts: i32) -> ObservedContainer {
    ObservedContainer {
        id: id.into(),
        state,
        created_at: Some(at(10 + i64::from(restarts))),
        started_at: Some(at(11)),
        finished_at: (state == Seen::Exited).then(|| at(12)),
        exit_code: code,
        reason: if state == Seen::Exited {
            "Error".into()
        } else {
            String::new()
        },
        image: "x:1".into(),
        image_ref: "sha256:1".into(),
        hash: pod
            .container(name)
            .map(|c| container_hash(&c))
            .unwrap_or_default(),
        restart_count: restarts,
        ..ObservedContainer::example(name, "s")
    }
}

fn sandbox() -> Vec<ObservedSandbox> {
    vec![ObservedSandbox {
        id: "s".into(),
        ready: true,
        attempt: 0,
        created_at: 1,
        host_network: false,
        ips: vec!["10.0.0.9".into()],
    }]
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u", "generation": 3}, "spec": spec}))
        .expect("a pod")
}

fn make(
    pod: &Pod,
    observed: &Observed,
    previous: &PodStatus,
    probes: &ProbeResults,
    reasons: &Reasons,
    ended: bool,
    now: i64,
) -> PodStatus {
    let hosts = ["192.168.0.1".to_owned()];
    let inputs = StatusInputs {
        resize: ResizeState::default(),
        previous,
        reasons,
        probes,
        ended,
        failed: None,
        host_ips: &hosts,
        runtime: "containerd",
        now: at(now),
    };
    pod_status(pod, observed, &inputs)
}

fn condition(status: &PodStatus, kind: &str) -> (String, String) {
    let c = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind)
        .expect("a condition");
    (c.status.clone(), c.message.clone().unwrap_or_default())
}

#[test]
fn a_fresh_pod_is_pending_and_a_running_one_ready() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x:1"}]}));
    let none = Reasons::new();
    let probes = ProbeResults::default();
    let first = make(
        &pod,
        &Observed::default(),
        &PodStatus::default(),
        &probes,
        &none,
        false,
        100,
    );
    assert_eq!(first.phase.as_deref(), Some("Pending"));
    assert_eq!(condition(&first, "PodReadyToStartContainers").0, "False");
    assert_eq!(
        condition(&first, "ContainersReady"),
        ("False".into(), "containers with unready status: [a]".into())
    );
    assert_eq!(first.start_time, Some(api_time(at(100))));

    let running = Observed {
        sandboxes: sandbox(),
        containers: vec![container(&pod, "a", "1", Seen::Running, 0, 0)],
    };
    let second = make(&pod, &running, &first, &probes, &none, false, 200);
    assert_eq!(second.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&second, "Ready").0, "True");
    assert_eq!(second.pod_ip.as_deref(), Some("10.0.0.9"));
    assert_eq!(second.start_time, first.start_time);
    assert_eq!(second.observed_generation, Some(3));
    let own = &second.container_statuses.as_ref().expect("statuses")[0];
    assert_eq!(own.container_id.as_deref(), Some("containerd://1"));
    assert_eq!((own.started, own.ready), (Some(true), true));
    let third = make(&pod, &running, &second, &probes, &none, false, 300);
    assert_eq!(third, second, "nothing changes by time alone");
}

#[test]
fn readiness_waits_for_probes_and_gates() {
    let pod = pod(json!({"readinessGates": [{"conditionType": "lb/ready"}],
        "containers": [{"name": "a", "image": "x:1", "readinessProbe": {}, "startupProbe": {}}]}));
    let running = Observed {
        sandboxes: sandbox(),
        containers: vec![container(&pod, "a", "1", Seen::Running, 0, 0)],
    };
    let mut probes = ProbeResults::default();
    let ready = |probes: &ProbeResults, pod: &Pod| {
        let status = make(
            pod,
            &running,
            &PodStatus::default(),
            probes,
            &Reasons::new(),
            false,
            1,
        );
        (
            condition(&status, "ContainersReady").0,
            condition(&status, "Ready").0,
        )
    };
    assert_eq!(ready(&probes, &pod), ("False".into(), "False".into()));
    probes.readiness.insert("1".into(), true);
    assert_eq!(ready(&probes, &pod), ("False".into(), "False".into()));
    probes.startup.insert("1".into(), true);
    assert_eq!(ready(&probes, &pod), ("True".into(), "False".into()));
    let mut gated = pod.clone();
    gated.status = serde_json::from_value(json!({"conditions": [{"type": "lb/ready", "status": "True"}]}))
        .expect("a status");
    assert_eq!(ready(&probes, &gated), ("True".into(), "True".into()));
}

#[test]
fn a_crashing_container_waits_with_its_reason_and_its_last_end() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x:1"}]}));
    let crashed = Observed {
        sandboxes: sandbox(),
        containers: vec![
            container(&pod, "a", "2", Seen::Exited, 1, 1),
            container(&pod, "a", "1", Seen::Exited, 2, 0),
        ],
    };
    let reasons: Reasons = [(
        "a".to_owned(),
        ("CrashLoopBackOff".to_owned(), "back-off 10s".to_owned()),
    )]
    .into();
    let status = make(
        &pod,
        &crashed,
        &PodStatus::default(),
        &ProbeResults::default(),
        &reasons,
        false,
        1,
    );
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let own = &status.container_statuses.as_ref().expect("statuses")[0];
    let waiting = own
        .state
        .as_ref()
        .and_then(|s| s.waiting.as_ref())
        .expect("waiting");
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(
        own.last_state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .map(|t| t.exit_code),
        Some(1)
    );
    assert_eq!(own.restart_count, 1);
}

#[test]
fn a_pod_that_cannot_pull_says_so() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "none:1"}]}));
    let reasons: Reasons = [(
        "a".to_owned(),
        ("ErrImagePull".to_owned(), "no such image".to_owned()),
    )]
    .into();
    let observed = Observed {
        sandboxes: sandbox(),
        containers: Vec::new(),
    };
    let status = make(
        &pod,
        &observed,
        &PodStatus::default(),
        &ProbeResults::default(),
        &reasons,
        false,
        1,
    );
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let own = &status.container_statuses.as_ref().expect("statuses")[0];
    assert_eq!(own.image, "none:1");
    let waiting = own
        .state
        .as_ref()
        .and_then(|s| s.waiting.as_ref())
        .expect("waiting");
    assert_eq!(waiting.message.as_deref(), Some("no such image"));
}

#[test]
fn init_containers_are_named_until_they_are_done() {
    let pod = pod(
        json!({"initContainers": [{"name": "i", "image": "x:1"}, {"name": "j", "image": "x:1"}], "containers": [{"name": "a", "image": "x:1"}]}),
    );
    let observed = Observed {
        sandboxes: sandbox(),
        containers: vec![container(&pod, "i", "1", Seen::Exited, 0, 0)],
    };
    let status = make(
        &pod,
        &observed,
        &PodStatus::default(),
        &ProbeResults::default(),
        &Reasons::new(),
        false,
        1,
    );
    assert_eq!(
        condition(&status, "Initialized"),
        ("False".into(), "containers with incomplete status: [j]".into())
    );
    let names: Vec<&str> = status
        .init_container_statuses
        .iter()
        .flatten()
        .map(|s| s.name.as_str())
        .collect();
    assert_eq!(names, ["i", "j"]);
    let waiting = &status.container_statuses.as_ref().expect("statuses")[0];
    let reason = waiting
        .state
        .as_ref()
        .and_then(|s| s.waiting.as_ref())
        .and_then(|w| w.reason.clone());
    assert_eq!(reason.as_deref(), Some("PodInitializing"));
}

#[test]
fn a_terminal_phase_stays() {
    let mut pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "x:1"}]}));
    let done = Observed {
        sandboxes: sandbox(),
        containers: vec![container(&pod, "a", "1", Seen::Exited, 0, 0)],
    };
    let first = make(
        &pod,
        &done,
        &PodStatus::default(),
        &ProbeResults::default(),
        &Reasons::new(),
        false,
        1,
    );
    assert_eq!(first.phase.as_deref(), Some("Succeeded"));
    assert_eq!(condition(&first, "Ready").0, "False");
    pod.status = Some(first.clone());
    let second = make(
        &pod,
        &Observed::default(),
        &first,
        &ProbeResults::default(),
        &Reasons::new(),
        true,
        2,
    );
    assert_eq!(second.phase.as_deref(), Some("Succeeded"));
    let own = &second.container_statuses.as_ref().expect("statuses")[0];
    assert!(
        own.state.as_ref().is_some_and(|s| s.terminated.is_some()),
        "what ended is still told"
    );
}

#[test]
fn host_network_pods_have_the_nodes_addresses() {
    let pod = pod(json!({"hostNetwork": true, "containers": [{"name": "a", "image": "x:1"}]}));
    let status = make(
        &pod,
        &Observed::default(),
        &PodStatus::default(),
        &ProbeResults::default(),
        &Reasons::new(),
        false,
        1,
    );
    assert_eq!(status.pod_ip.as_deref(), Some("192.168.0.1"));
}
