//! The ephemeral volume controller: makes the claims that pods ask for within their own specification.

use crate::common::owners::{controller_reference, is_controlled_by, name, namespace, uid};
use crate::common::pods::is_deleting;
use crate::frame::{
    Context, Loop, Reconcile, is_already_exists, is_namespace_terminating, message_of, own_key,
};
use anyhow::Context as _;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use rutter_client::events::EventType;
use rutter_client::informer::ObjectKey;
use rutter_client::{Requeue, Store};

/// Makes claims.
pub struct EphemeralVolumeController {
    context: Context,
    pods: Store<Pod>,
    claims: Store<PersistentVolumeClaim>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    let pods = frame.watch::<Pod>(|change, queue| {
        let asks = |p: &Pod| {
            p.spec
                .iter()
                .flat_map(|s| s.volumes.iter().flatten())
                .any(|v| v.ephemeral.is_some())
        };
        if change.new.as_ref().is_some_and(|p| asks(p) && !is_deleting(p)) {
            own_key(change, queue);
        }
    });
    let claims = frame.read();
    let workers = context.options.concurrent_ephemeralvolume_syncs;
    frame
        .run(
            workers,
            EphemeralVolumeController {
                context,
                pods,
                claims,
            },
        )
        .await;
}

/// The claims that a pod asks for.
fn wanted(pod: &Pod) -> Vec<PersistentVolumeClaim> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            let template = volume.ephemeral.as_ref()?.volume_claim_template.clone()?;
            let meta = template.metadata.unwrap_or_default();
            Some(PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(format!("{}-{}", name(&pod.metadata), volume.name)),
                    namespace: pod.metadata.namespace.clone(),
                    labels: meta.labels,
                    annotations: meta.annotations,
                    owner_references: Some(vec![controller_reference(pod)]),
                    ..ObjectMeta::default()
                },
                spec: Some(template.spec),
                status: None,
            })
        })
        .collect()
}

#[async_trait]
impl Reconcile for EphemeralVolumeController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(pod) = self
            .pods
            .get(&key.namespace, &key.name)
            .filter(|p| !is_deleting(p))
        else {
            return Ok(Requeue::Done);
        };
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.context.client.clone(), namespace(&pod.metadata));
        for claim in wanted(&pod) {
            let claim_name = name(&claim.metadata);
            if let Some(there) = self.claims.get(&key.namespace, claim_name) {
                anyhow::ensure!(
                    is_controlled_by(&there.metadata, uid(&pod.metadata)),
                    "PVC {}/{claim_name} was not created for pod {key} (pod is not owner)",
                    key.namespace
                );
                continue;
            }
            match api.create(&PostParams::default(), &claim).await {
                Err(error) if !is_already_exists(&error) && !is_namespace_terminating(&error) => {
                    let text = format!(
                        "ephemeral volume controller: create PVC {claim_name}: {}",
                        message_of(&error)
                    );
                    self.context.recorder.event(
                        &*pod,
                        EventType::Warning,
                        "EphemeralVolumeCreateFailed",
                        text,
                    );
                    return Err(error).context("creating a pod's claim");
                }
                _ => {}
            }
        }
        Ok(Requeue::Done)
    }
}
