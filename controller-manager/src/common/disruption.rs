//! The condition that says why a pod is being taken away, written before the pod is deleted.

use crate::common::owners::{name, namespace};
use crate::common::pods::condition;
use crate::common::time::time;
use crate::frame::ignore_not_found;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

/// Why a pod is taken away.
pub struct Reason {
    /// Machine-readable.
    pub reason: &'static str,
    /// For people.
    pub message: &'static str,
    /// Whether the pod's phase becomes Failed, because nobody is left to say so.
    pub fail: bool,
    /// The grace period, when it is not the pod's own.
    pub grace: Option<u32>,
}

/// Writes the condition, and deletes the pod. A pod that is gone is no error.
pub async fn remove(client: &kube::Client, pod: &Pod, why: &Reason) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace(&pod.metadata));
    let pod_name = name(&pod.metadata);
    if condition(pod, "DisruptionTarget").is_none_or(|c| c.status != "True")
        && !crate::common::pods::is_terminal(pod)
    {
        let mut status = json!({"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": why.reason, "message": why.message,
            "lastTransitionTime": time(Timestamp::now()),
        }]});
        if why.fail
            && let Some(status) = status.as_object_mut()
        {
            status.insert("phase".to_owned(), json!("Failed"));
        }
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.metadata.uid}, "status": status}));
        if ignore_not_found(api.patch_status(pod_name, &PatchParams::default(), &patch).await)?.is_none() {
            return Ok(());
        }
    }
    let params = DeleteParams {
        grace_period_seconds: why.grace,
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    ignore_not_found(api.delete(pod_name, &params).await).map(|_| ())
}
