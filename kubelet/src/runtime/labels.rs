//! The labels and annotations by which pods and containers are found again in the runtime, and what they carry.

use crate::plan::container_hash;
use crate::pods::{PodExt, Uid};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use std::collections::HashMap;

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const HASH: &str = "io.kubernetes.container.hash";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const PORTS: &str = "io.kubernetes.container.ports";
const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// A sandbox's labels: the pod's own and the identity.
pub(crate) fn sandbox_labels(pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = pod
        .metadata
        .labels
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    labels.extend(identity(pod));
    labels
}

/// A container's labels.
pub(crate) fn container_labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let mut labels = identity(pod);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    labels
}

fn identity(pod: &Pod) -> HashMap<String, String> {
    [
        (POD_NAME.to_owned(), pod.name().to_owned()),
        (POD_NAMESPACE.to_owned(), pod.namespace().to_owned()),
        (POD_UID.to_owned(), pod.uid().to_string()),
    ]
    .into()
}

/// A container's annotations: what is needed to judge and stop it when the pod's object is gone.
pub(crate) fn container_annotations(
    pod: &Pod,
    container: &Container,
    restarts: i32,
) -> HashMap<String, String> {
    let text = |v: &Option<String>| v.clone().unwrap_or_default();
    let mut out: HashMap<String, String> = [
        (HASH.to_owned(), format!("{:x}", container_hash(container))),
        (RESTART_COUNT.to_owned(), restarts.to_string()),
        (
            TERMINATION_PATH.to_owned(),
            text(&container.termination_message_path),
        ),
        (
            TERMINATION_POLICY.to_owned(),
            text(&container.termination_message_policy),
        ),
    ]
    .into();
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        out.insert(DELETION_GRACE.to_owned(), grace.to_string());
    }
    if let Some(grace) = pod.spec().termination_grace_period_seconds {
        out.insert(TERMINATION_GRACE.to_owned(), grace.to_string());
    }
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref())
        && let Ok(json) = serde_json::to_string(hook)
    {
        out.insert(PRE_STOP.to_owned(), json);
    }
    if let Some(ports) = container.ports.as_ref().filter(|p| !p.is_empty())
        && let Ok(json) = serde_json::to_string(ports)
    {
        out.insert(PORTS.to_owned(), json);
    }
    out
}

/// The hash that a container was made with.
pub(crate) fn hash(annotations: &HashMap<String, String>) -> u64 {
    annotations
        .get(HASH)
        .and_then(|h| u64::from_str_radix(h, 16).ok())
        .unwrap_or(0)
}

/// How often the container had been restarted when it was made.
pub(crate) fn restart_count(annotations: &HashMap<String, String>) -> i32 {
    annotations
        .get(RESTART_COUNT)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// Where the container's last words are, in the container.
pub(crate) fn termination_path(annotations: &HashMap<String, String>) -> &str {
    annotations
        .get(TERMINATION_PATH)
        .map(String::as_str)
        .unwrap_or_default()
}

/// Whether the end of the log stands in for missing last words.
pub(crate) fn falls_back_to_logs(annotations: &HashMap<String, String>) -> bool {
    annotations
        .get(TERMINATION_POLICY)
        .is_some_and(|p| p == "FallbackToLogsOnError")
}

/// The preStop hook, for a container whose pod object is gone.
pub(crate) fn pre_stop(annotations: &HashMap<String, String>) -> Option<LifecycleHandler> {
    serde_json::from_str(annotations.get(PRE_STOP)?).ok()
}

/// The grace for a container whose pod object is gone.
pub(crate) fn grace(annotations: &HashMap<String, String>) -> Option<i64> {
    annotations
        .get(DELETION_GRACE)
        .or_else(|| annotations.get(TERMINATION_GRACE))?
        .parse()
        .ok()
}

/// The pod's UID in a sandbox's or container's labels.
pub(crate) fn uid(labels: &HashMap<String, String>) -> Option<Uid> {
    labels.get(POD_UID).map(|uid| Uid::new(uid))
}
