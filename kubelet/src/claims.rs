//! From a pod's claim to the PersistentVolume behind it.

use crate::objects::describe;
use crate::pods::PodExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::Api;

/// The volume that a claim is bound to; refused while it isn't bound both ways.
pub(crate) async fn resolve(
    client: &kube::Client,
    pod: &Pod,
    claim: &str,
) -> Result<PersistentVolume, String> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), pod.namespace());
    let found = claims.get(claim).await.map_err(|e| describe(&e))?;
    if found.metadata.deletion_timestamp.is_some() {
        return Err(format!("PVC {claim} is being deleted"));
    }
    let phase = found
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default();
    let name = found
        .spec
        .as_ref()
        .and_then(|s| s.volume_name.clone())
        .unwrap_or_default();
    if phase != "Bound" || name.is_empty() {
        return Err(format!("PVC {claim} is not bound"));
    }
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = volumes.get(&name).await.map_err(|e| describe(&e))?;
    let holder = volume
        .spec
        .as_ref()
        .and_then(|s| s.claim_ref.as_ref())
        .and_then(|r| r.uid.clone());
    if holder.is_none() || holder != found.metadata.uid {
        return Err(format!("PV {name} is not bound to PVC {claim}"));
    }
    Ok(volume)
}
