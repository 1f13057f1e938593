//! What is written: bindings, conditions, nominations, evictions for preemption, events.

use crate::framework::PreBindAction;
use crate::metrics::metrics;
use crate::model::volume::Claim;
use crate::model::{Pod, Str};
use crate::scheduler::{Binding, Bound, Failure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, Time};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use rutter_client::events::{EventType, Recorder};
use serde_json::json;
use std::time::Duration;

/// Writes what was decided.
#[derive(Clone)]
pub struct Actor {
    client: kube::Client,
    // Each pod's events go through one of them, in order; several write at once.
    recorders: Vec<Recorder>,
    hash: ahash::RandomState,
}

const RECORDERS: usize = 8;
const EVENT_MESSAGE_MAX: usize = 1024;

/// A message that fits into an event.
fn truncated(message: &str) -> String {
    if message.len() <= EVENT_MESSAGE_MAX {
        return message.to_owned();
    }
    let mut end = EVENT_MESSAGE_MAX - 4;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ...", &message[..end])
}

fn gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// The patch of a pod's status that tells why it got no node; nothing when the server shows the same.
pub fn failure_patch(failure: &Failure, now: Timestamp) -> Option<serde_json::Value> {
    let pod = &failure.pod;
    let mut status = json!({});
    let before = pod.condition.as_deref();
    let same = before.is_some_and(|c| {
        &*c.status == "False" && &*c.reason == failure.reason && *c.message == *failure.message
    });
    if !same {
        let mut condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": failure.reason,
            "message": failure.message,
        });
        if before.is_none_or(|c| &*c.status != "False") {
            condition["lastTransitionTime"] = json!(Time(now));
        }
        if pod.generation > 0 {
            condition["observedGeneration"] = json!(pod.generation);
        }
        status["conditions"] = json!([condition]);
    }
    if let Some(node) = &failure.nominate
        && *node != pod.nominated
    {
        status["nominatedNodeName"] = json!(node.as_ref().map(Str::as_str));
    }
    let changes = status.as_object().is_some_and(|s| !s.is_empty());
    changes.then(|| json!({ "status": status }))
}

impl Actor {
    /// Writes through `client`, with events in the name of `component`.
    pub fn new(client: kube::Client, component: &str) -> Self {
        let recorders = (0..RECORDERS)
            .map(|_| Recorder::new(client.clone(), component, None))
            .collect();
        Self {
            client,
            recorders,
            hash: ahash::RandomState::new(),
        }
    }

    fn pods(&self, namespace: &str) -> Api<core::Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Tells people about a pod.
    pub fn event(&self, pod: &Pod, kind: EventType, reason: &str, message: &str) {
        let index = usize::try_from(self.hash.hash_one(&pod.uid) % RECORDERS as u64).unwrap_or(0);
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace().as_str().to_owned()),
            name: Some(pod.name.clone().into_string()),
            uid: Some(pod.uid.to_string()),
            ..ObjectReference::default()
        };
        if let Some(recorder) = self.recorders.get(index) {
            recorder.about(about, kind, reason, truncated(message));
        }
    }

    /// Binds a pod.
    pub async fn bind(&self, binding: &Binding) -> Bound {
        for action in &binding.actions {
            if let Err(error) = self.pre_bind(action).await {
                return Bound::Failed(format!("running PreBind plugin \"VolumeBinding\": {error:#}"));
            }
        }
        let pod = &binding.pod;
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace().as_str(), "uid": pod.uid.to_string()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": binding.node.as_str()},
        });
        let written = self
            .pods(pod.namespace())
            .create_subresource::<_, Status>("binding", &pod.name, &PostParams::default(), &body)
            .await;
        match written {
            Ok(_) => {
                let message = format!("Successfully assigned {pod} to {}", binding.node);
                self.event(pod, EventType::Normal, "Scheduled", &message);
                Bound::Done
            }
            Err(error) if gone(&error) => Bound::Moot,
            Err(error) => Bound::Failed(format!("binding rejected: {error}")),
        }
    }

    async fn pre_bind(&self, action: &PreBindAction) -> anyhow::Result<()> {
        let params = PatchParams::default();
        match action {
            PreBindAction::BindVolume { volume, claim } => {
                let api: Api<core::PersistentVolume> = Api::all(self.client.clone());
                let patch = json!({
                    "metadata": {
                        "resourceVersion": volume.resource_version.to_string(),
                        "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
                    },
                    "spec": {"claimRef": {
                        "apiVersion": "v1",
                        "kind": "PersistentVolumeClaim",
                        "namespace": claim.namespace.as_str(),
                        "name": claim.name.as_str(),
                        "uid": claim.uid.as_str(),
                        "resourceVersion": claim.resource_version.to_string(),
                    }},
                });
                api.patch(&volume.name, &params, &Patch::Merge(patch)).await?;
            }
            PreBindAction::SelectNode { claim, node } => {
                let api: Api<core::PersistentVolumeClaim> =
                    Api::namespaced(self.client.clone(), &claim.namespace);
                let patch = json!({
                    "metadata": {
                        "resourceVersion": claim.resource_version.to_string(),
                        "annotations": {crate::model::volume::SELECTED_NODE: node.as_str()},
                    },
                });
                api.patch(&claim.name, &params, &Patch::Merge(patch)).await?;
            }
            PreBindAction::AwaitBound {
                claims,
                node,
                timeout,
            } => {
                let all = claims.iter().map(|claim| self.await_bound(claim, node));
                tokio::time::timeout(*timeout, futures::future::try_join_all(all))
                    .await
                    .map_err(|_| anyhow::anyhow!("binding volumes: context deadline exceeded"))??;
            }
        }
        Ok(())
    }

    async fn await_bound(&self, claim: &Claim, node: &Str) -> anyhow::Result<()> {
        let api: Api<core::PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &claim.namespace);
        let mut pause = Duration::from_millis(100);
        loop {
            let now = Claim::new(&api.get(&claim.name).await?);
            if now.bound {
                return Ok(());
            }
            if now.uid != claim.uid {
                anyhow::bail!("PVC {}/{} was replaced", claim.namespace, claim.name);
            }
            // Provisioners take the node away when they can't provision for it.
            if now.selected_node.as_ref() != Some(node) && claim.selected_node.as_ref() == Some(node) {
                anyhow::bail!("provisioning failed for PVC \"{}\"", claim.name);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn patch_status(&self, pod: &Pod, patch: serde_json::Value) {
        let written = self
            .pods(pod.namespace())
            .patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        match written {
            Ok(_) => {}
            Err(error) if gone(&error) => {}
            Err(error) => tracing::warn!(object = %pod, %error, "the pod's status could not be written"),
        }
    }

    /// Tells why a pod got no node, and makes room for it where that was decided.
    pub async fn fail(&self, failure: &Failure) {
        let pod = &failure.pod;
        self.event(pod, EventType::Warning, "FailedScheduling", &failure.message);
        if let Some(patch) = failure_patch(failure, Timestamp::now()) {
            self.patch_status(pod, patch).await;
        }
        for other in &failure.displaced {
            self.patch_status(other, json!({"status": {"nominatedNodeName": null}}))
                .await;
        }
        if failure.victims.is_empty() {
            return;
        }
        metrics().preemption_victims.observe(failure.victims.len() as f64);
        let node = failure.nominate.clone().flatten().unwrap_or_default();
        let victims = failure.victims.iter().filter(|v| !v.terminating);
        futures::future::join_all(victims.map(|v| self.preempt(v, pod, &node))).await;
    }

    async fn preempt(&self, victim: &Pod, by: &Pod, node: &Str) {
        let scheduler = &by.template.scheduler_name;
        let mut condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": Time(Timestamp::now()),
        });
        if victim.generation > 0 {
            condition["observedGeneration"] = json!(victim.generation);
        }
        self.patch_status(victim, json!({"status": {"conditions": [condition]}}))
            .await;
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(victim.uid.to_string()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.pods(victim.namespace()).delete(&victim.name, &params).await {
            Ok(_) => {
                let message = format!("Preempted by pod {} on node {node}", by.uid);
                self.event(victim, EventType::Normal, "Preempted", &message);
            }
            Err(error) if gone(&error) => {}
            Err(error) => tracing::warn!(object = %victim, %error, "the pod could not be preempted"),
        }
    }
}
