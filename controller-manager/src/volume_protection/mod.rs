//! The protection controllers: a claim that a pod uses, a volume that is bound and a volume attributes class that either names can't be deleted
//! from under their users. A finalizer holds them.

use crate::common::owners::{has_finalizer, name, namespace};
use crate::common::pods::{is_terminal, node_name};
use crate::frame::{Context, Loop, Reconcile, ignore_not_found, own_key};
use anyhow::Context as _;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::PostParams;
use kube::{Api, Resource};
use rutter_client::informer::ObjectKey;
use rutter_client::{Requeue, Store};
use std::fmt::Debug;

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";

/// What to do about a finalizer.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Add,
    Remove,
    Nothing,
}

fn step(meta: &ObjectMeta, finalizer: &str, used: bool) -> Step {
    match (meta.deletion_timestamp.is_some(), has_finalizer(meta, finalizer)) {
        (false, false) => Step::Add,
        (true, true) if !used => Step::Remove,
        _ => Step::Nothing,
    }
}

/// Writes an object with its finalizer set or taken away.
async fn take<K>(step: Step, finalizer: &str, object: &K, api: Api<K>) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    if step == Step::Nothing {
        return Ok(());
    }
    let mut after = object.clone();
    let finalizers = after.meta_mut().finalizers.get_or_insert_default();
    finalizers.retain(|f| f != finalizer);
    if step == Step::Add {
        finalizers.push(finalizer.to_owned());
    }
    let written = api
        .replace(name(object.meta()), &PostParams::default(), &after)
        .await;
    ignore_not_found(written).with_context(|| format!("protecting a {}", K::kind(&())))?;
    Ok(())
}

/// The claims that a pod uses, by name; those that are made for it included.
pub(crate) fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter_map(|v| match (&v.persistent_volume_claim, &v.ephemeral) {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            (None, Some(_)) => Some(format!("{}-{}", name(&pod.metadata), v.name)),
            _ => None,
        })
        .collect()
}

/// Whether the pod keeps a claim from going: it is on a node and has not ended.
fn uses(pod: &Pod, claim: &str) -> bool {
    !is_terminal(pod) && !node_name(pod).is_empty() && claims_of(pod).iter().any(|c| c == claim)
}

/// Protects claims.
pub struct ClaimProtection {
    client: kube::Client,
    claims: Store<PersistentVolumeClaim>,
    pods: Store<Pod>,
}

/// Runs the claims' controller until stopped.
pub async fn run_claims(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    let claims = frame.watch::<PersistentVolumeClaim>(own_key);
    let pods = frame.watch::<Pod>(|change, queue| {
        // Only the end of a use can let a claim go.
        let Some(pod) = change.object().filter(|p| change.new.is_none() || is_terminal(p)) else {
            return;
        };
        for claim in claims_of(pod) {
            queue.add(ObjectKey::new(namespace(&pod.metadata), claim));
        }
    });
    frame
        .run(
            4,
            ClaimProtection {
                client: context.client,
                claims,
                pods,
            },
        )
        .await;
}

#[async_trait]
impl Reconcile for ClaimProtection {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            return Ok(Requeue::Done);
        };
        let mut used = self
            .pods
            .list_in(&key.namespace)
            .iter()
            .any(|p| uses(p, &key.name));
        if step(&claim.metadata, CLAIM, used) == Step::Remove {
            // A pod may have been scheduled that is not seen here yet: ask.
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
            let pods = api
                .list(&kube::api::ListParams::default())
                .await
                .context("asking for pods that use a claim")?;
            used = pods.items.iter().any(|p| uses(p, &key.name));
        }
        let step = step(&claim.metadata, CLAIM, used);
        let api = Api::namespaced(self.client.clone(), &key.namespace);
        take(step, CLAIM, &*claim, api).await?;
        Ok(Requeue::Done)
    }
}

/// Protects volumes.
pub struct VolumeProtection {
    client: kube::Client,
    volumes: Store<PersistentVolume>,
}

/// Runs the volumes' controller until stopped.
pub async fn run_volumes(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    let volumes = frame.watch::<PersistentVolume>(own_key);
    frame
        .run(
            4,
            VolumeProtection {
                client: context.client,
                volumes,
            },
        )
        .await;
}

#[async_trait]
impl Reconcile for VolumeProtection {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(volume) = self.volumes.get("", &key.name) else {
            return Ok(Requeue::Done);
        };
        let bound = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        let step = step(&volume.metadata, VOLUME, bound);
        take(step, VOLUME, &*volume, Api::all(self.client.clone())).await?;
        Ok(Requeue::Done)
    }
}

/// The volume attributes classes that a claim names: the one that it asks for, has, or is on its way to (KEP-3751).
fn classes_of_claim(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &str> {
    let asked = claim
        .spec
        .iter()
        .filter_map(|s| s.volume_attributes_class_name.as_deref());
    let status = claim.status.iter().flat_map(|s| {
        let target = s.modify_volume_status.as_ref();
        [
            s.current_volume_attributes_class_name.as_deref(),
            target.and_then(|m| m.target_volume_attributes_class_name.as_deref()),
        ]
    });
    asked.chain(status.flatten())
}

fn class_of_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref()
}

/// Protects volume attributes classes.
pub struct ClassProtection {
    client: kube::Client,
    classes: Store<VolumeAttributesClass>,
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
}

/// Runs the classes' controller until stopped.
pub async fn run_classes(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    let classes = frame.watch::<VolumeAttributesClass>(own_key);
    // What an object named before may have become free.
    let claims = frame.watch::<PersistentVolumeClaim>(|change, queue| {
        for class in change.old.iter().flat_map(|claim| classes_of_claim(claim)) {
            queue.add(ObjectKey::new("", class));
        }
    });
    let volumes = frame.watch::<PersistentVolume>(|change, queue| {
        if let Some(class) = change.old.as_deref().and_then(class_of_volume) {
            queue.add(ObjectKey::new("", class));
        }
    });
    frame
        .run(
            1,
            ClassProtection {
                client: context.client,
                classes,
                claims,
                volumes,
            },
        )
        .await;
}

#[async_trait]
impl Reconcile for ClassProtection {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(class) = self.classes.get("", &key.name) else {
            return Ok(Requeue::Done);
        };
        let is_class = |named: &str| named == key.name;
        let used = self
            .claims
            .list()
            .iter()
            .any(|claim| classes_of_claim(claim).any(is_class))
            || self
                .volumes
                .list()
                .iter()
                .any(|volume| class_of_volume(volume).is_some_and(is_class));
        let step = step(&class.metadata, CLASS, used);
        take(step, CLASS, &*class, Api::all(self.client.clone())).await?;
        Ok(Requeue::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_finalizer_comes_at_once_and_goes_with_the_last_use() {
        let meta = |deleting: bool, held: bool| ObjectMeta {
            deletion_timestamp: deleting.then(|| crate::common::time::time(jiff::Timestamp::UNIX_EPOCH)),
            finalizers: held.then(|| vec![CLAIM.to_owned()]),
            ..ObjectMeta::default()
        };
        for (deleting, held, used, want) in [
            (false, false, false, Step::Add),
            (false, true, false, Step::Nothing),
            (true, true, true, Step::Nothing),
            (true, true, false, Step::Remove),
            (true, false, false, Step::Nothing),
        ] {
            assert_eq!(step(&meta(deleting, held), CLAIM, used), want);
        }
    }

    #[test]
    fn a_pod_uses_its_claims_from_its_scheduling_to_its_end() {
        let pod = |node: &str, phase: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": phase}, "spec": {"nodeName": node, "containers": [], "volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "ephemeral": {}}]}}))
            .unwrap()
        };
        assert!(uses(&pod("n", "Running"), "data") && uses(&pod("n", "Running"), "p-b"));
        assert!(
            !uses(&pod("", "Pending"), "data")
                && !uses(&pod("n", "Succeeded"), "data")
                && !uses(&pod("n", "Running"), "x")
        );
    }

    #[test]
    fn a_claim_names_the_classes_it_asks_for_has_and_is_on_its_way_to() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({"spec": {"volumeAttributesClassName": "gold"},
            "status": {"currentVolumeAttributesClassName": "silver", "modifyVolumeStatus": {"status": "InProgress", "targetVolumeAttributesClassName": "gold"}}}))
        .unwrap();
        assert_eq!(
            classes_of_claim(&claim).collect::<Vec<_>>(),
            ["gold", "silver", "gold"]
        );
        assert_eq!(classes_of_claim(&PersistentVolumeClaim::default()).count(), 0);
    }
}
