//! Pods as `kubectl get pods` shows them.

use crate::print::{self, NAME, NONE};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, Context};
use rutter_api::{Value, duration};

/// The columns.
pub(super) const COLUMNS: &[Column] = &[
    NAME,
    print::text("Ready", "Containers that are ready, of all."),
    print::text("Status", "What the pod's containers are doing, in one word."),
    print::text("Restarts", "How often containers were restarted, and when last."),
    print::AGE,
    print::wide("IP", "The pod's first address."),
    print::wide("Node", "The node it is on."),
    print::wide("Nominated Node", "The node where preemption makes room for it."),
    print::wide("Readiness Gates", "Readiness gates that are true, of all."),
];

/// What the columns say of containers.
struct Summary {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: String,
}

/// The cells.
pub(super) fn row(pod: &Value, cx: &Context<'_>) -> Vec<Value> {
    let spec = pod.at("spec");
    let restartable = spec
        .list_at("initContainers")
        .iter()
        .filter(|c| is_restartable(c))
        .count();
    let total = spec.list_at("containers").len() + restartable;
    let summary = summarize(pod);
    let restarts = if summary.restarts != 0 && !summary.last_restart.is_empty() {
        format!(
            "{} ({} ago)",
            summary.restarts,
            duration::age(&summary.last_restart, cx.now)
        )
    } else {
        summary.restarts.to_string()
    };
    let ip = pod
        .list_at("status.podIPs")
        .first()
        .map_or("", |ip| ip.str_at("ip"));
    vec![
        print::name(pod),
        Value::from(format!("{}/{total}", summary.ready)),
        Value::from(summary.reason),
        Value::from(restarts),
        print::age(pod, cx),
        Value::from(if ip.is_empty() { NONE } else { ip }),
        print::text_or(pod, "spec.nodeName", NONE),
        print::text_or(pod, "status.nominatedNodeName", NONE),
        Value::from(readiness_gates(pod)),
    ]
}

fn is_restartable(container: &Value) -> bool {
    container.str_at("restartPolicy") == "Always"
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    pod.list_at("status.conditions")
        .iter()
        .find(|c| c.str_at("type") == kind)
}

fn readiness_gates(pod: &Value) -> String {
    let gates = pod.list_at("spec.readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let is_true = |gate: &&Value| {
        condition(pod, gate.str_at("conditionType")).is_some_and(|c| c.str_at("status") == "True")
    };
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len())
}

fn summarize(pod: &Value) -> Summary {
    let phase = pod.str_at("status.phase");
    let mut reason = match pod.str_at("status.reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    if condition(pod, "PodScheduled").is_some_and(|c| c.str_at("reason") == "SchedulingGated") {
        reason = "SchedulingGated".to_owned();
    }
    let mut summary = Summary {
        reason,
        ready: 0,
        restarts: 0,
        last_restart: String::new(),
    };
    let sidecars = init_containers(pod, &mut summary);
    let initialized = condition(pod, "Initialized").is_some_and(|c| c.str_at("status") == "True");
    if let Some((restarts, last_restart)) = sidecars.or_else(|| initialized.then(|| sidecar_restarts(pod))) {
        summary.restarts = restarts;
        summary.last_restart = last_restart;
        app_containers(pod, &mut summary);
    }
    if pod.is_deleting() && pod.str_at("status.reason") == "NodeLost" {
        summary.reason = "Unknown".to_owned();
    } else if pod.is_deleting() && !matches!(phase, "Succeeded" | "Failed") {
        summary.reason = "Terminating".to_owned();
    }
    summary
}

fn later(last: &mut String, status: &Value) {
    let finished = status.str_at("lastState.terminated.finishedAt");
    if finished > last.as_str() {
        finished.clone_into(last);
    }
}

/// Restarts of restartable init containers up to the first init container that is still at work.
fn sidecar_restarts(pod: &Value) -> (i64, String) {
    let (mut restarts, mut last) = (0, String::new());
    for status in pod.list_at("status.initContainerStatuses") {
        let restartable = spec_of(pod, status).is_some_and(is_restartable);
        if restartable {
            restarts += status.int_at("restartCount").unwrap_or_default();
            later(&mut last, status);
        }
        if !is_over(status, restartable) {
            break;
        }
    }
    (restarts, last)
}

fn spec_of<'a>(pod: &'a Value, status: &Value) -> Option<&'a Value> {
    pod.list_at("spec.initContainers")
        .iter()
        .find(|c| c.str_at("name") == status.str_at("name"))
}

fn is_over(status: &Value, restartable: bool) -> bool {
    status.int_at("state.terminated.exitCode") == Some(0)
        || restartable && status.bool_at("started") == Some(true)
}

/// Reads the init containers; gives the sidecars' restarts when all init containers are done or started.
fn init_containers(pod: &Value, summary: &mut Summary) -> Option<(i64, String)> {
    for (i, status) in pod.list_at("status.initContainerStatuses").iter().enumerate() {
        summary.restarts += status.int_at("restartCount").unwrap_or_default();
        later(&mut summary.last_restart, status);
        let restartable = spec_of(pod, status).is_some_and(is_restartable);
        if is_over(status, restartable) {
            let done = status.int_at("state.terminated.exitCode") == Some(0);
            if !done && status.bool_at("ready") == Some(true) {
                summary.ready += 1;
            }
            continue;
        }
        let terminated = status.at("state.terminated");
        let waiting = status.str_at("state.waiting.reason");
        summary.reason = if !terminated.is_null() {
            format!("Init:{}", ended(terminated))
        } else if !matches!(waiting, "" | "PodInitializing") {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", pod.list_at("spec.initContainers").len())
        };
        return None;
    }
    Some(sidecar_restarts(pod))
}

fn ended(terminated: &Value) -> String {
    match (
        terminated.str_at("reason"),
        terminated.int_at("signal").unwrap_or_default(),
    ) {
        ("", 0) => format!("ExitCode:{}", terminated.int_at("exitCode").unwrap_or_default()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn app_containers(pod: &Value, summary: &mut Summary) {
    let mut running = false;
    let mut error = None;
    for status in pod.list_at("status.containerStatuses").iter().rev() {
        summary.restarts += status.int_at("restartCount").unwrap_or_default();
        later(&mut summary.last_restart, status);
        let waiting = status.str_at("state.waiting.reason");
        let terminated = status.at("state.terminated");
        if !waiting.is_empty() {
            waiting.clone_into(&mut summary.reason);
        } else if !terminated.is_null() {
            summary.reason = ended(terminated);
            if terminated.int_at("exitCode").unwrap_or_default() != 0 {
                error = Some(summary.reason.clone());
            }
        } else if status.bool_at("ready") == Some(true) && !status.at("state.running").is_null() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" {
        let ready = condition(pod, "Ready").is_some_and(|c| c.str_at("status") == "True");
        if running && ready {
            "Running".clone_into(&mut summary.reason);
        } else if let Some(error) = error {
            summary.reason = error;
        } else if running {
            "NotReady".clone_into(&mut summary.reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(status: Value, deleting: bool) -> (String, usize, i64) {
        let mut pod = json!({
            "metadata": {"name": "p"},
            "spec": {
                "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
                "containers": [{"name": "a"}, {"name": "b"}],
            },
            "status": status,
        });
        if deleting {
            pod.set("metadata.deletionTimestamp", "2026-01-01T00:00:00Z");
        }
        let summary = summarize(&pod);
        (summary.reason, summary.ready, summary.restarts)
    }

    #[test]
    fn the_status_column_says_what_the_containers_do() {
        let running = json!({"name": "a", "ready": true, "state": {"running": {}}, "restartCount": 1});
        let crash =
            json!({"name": "b", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 4});
        let completed = json!({"name": "b", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}});
        let init_done = json!({"name": "i", "state": {"terminated": {"exitCode": 0}}});
        for (status, deleting, want) in [
            (json!({"phase": "Pending"}), false, ("Pending", 0, 0)),
            (
                json!({"phase": "Running", "containerStatuses": [running]}),
                false,
                ("Running", 1, 1),
            ),
            (
                json!({"phase": "Running", "containerStatuses": [running]}),
                true,
                ("Terminating", 1, 1),
            ),
            (
                json!({"phase": "Running", "containerStatuses": [running, crash]}),
                false,
                ("CrashLoopBackOff", 1, 5),
            ),
            (
                json!({"phase": "Running", "containerStatuses": [running, completed]}),
                false,
                ("NotReady", 1, 1),
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": [completed]}),
                true,
                ("Completed", 0, 0),
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
                false,
                ("Init:0/2", 0, 0),
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "state": {"terminated": {"exitCode": 3}}, "restartCount": 2}]}),
                false,
                ("Init:ExitCode:3", 0, 2),
            ),
            (
                json!({"phase": "Running", "initContainerStatuses": [init_done,
                    {"name": "s", "started": true, "ready": true, "restartCount": 7, "state": {"running": {}}}],
                    "containerStatuses": [running]}),
                false,
                ("Running", 2, 8),
            ),
            (
                json!({"phase": "Failed", "reason": "Evicted"}),
                false,
                ("Evicted", 0, 0),
            ),
        ] {
            let got = words(status.clone(), deleting);
            assert_eq!((got.0.as_str(), got.1, got.2), want, "{status}");
        }
    }
}
