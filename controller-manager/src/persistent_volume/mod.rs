//! The persistent volume binder: brings claims and volumes together, hands claims to provisioners, and releases volumes.

pub mod plan;

use crate::common::owners::{name, namespace};
use crate::frame::{Context, Loop, Reconcile, ignore_not_found};
use anyhow::Context as _;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::PostParams;
use plan::{BIND_COMPLETED, BOUND_BY_CONTROLLER, ClaimStep, VolumeStep};
use rutter_client::events::{Recorder, reference};
use rutter_client::informer::ObjectKey;
use rutter_client::{Requeue, Store, WorkQueue};
use std::sync::Arc;

/// What the queue holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A claim.
    Claim(ObjectKey),
    /// A volume.
    Volume(String),
}

/// Binds.
pub struct PersistentVolumeBinder {
    context: Context,
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
    classes: Store<StorageClass>,
    queue: WorkQueue<Key>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<Key>::new(&context);
    let claims = frame.watch::<PersistentVolumeClaim>(|change, queue| {
        let Some(claim) = change.object() else { return };
        if change.new.is_some() {
            queue.add(Key::Claim(ObjectKey::of(&**claim)));
        }
        if let Some(volume) = claim
            .spec
            .as_ref()
            .and_then(|s| s.volume_name.clone())
            .filter(|v| !v.is_empty())
        {
            queue.add(Key::Volume(volume));
        }
    });
    let known = claims.clone();
    let volumes = frame.watch::<PersistentVolume>(move |change, queue| {
        let Some(volume) = change.object() else { return };
        if change.new.is_some() {
            queue.add(Key::Volume(name(&volume.metadata).to_owned()));
        }
        if let Some(claim) = volume.spec.as_ref().and_then(|s| s.claim_ref.clone()) {
            queue.add(Key::Claim(ObjectKey::new(
                claim.namespace.unwrap_or_default(),
                claim.name.unwrap_or_default(),
            )));
        } else {
            wake_unbound(&known, queue);
        }
    });
    let known = claims.clone();
    let classes = frame.watch::<StorageClass>(move |_, queue| wake_unbound(&known, queue));
    let queue = frame.queue();
    // One worker: two claims must not be given one volume.
    frame
        .run(
            1,
            PersistentVolumeBinder {
                context,
                claims,
                volumes,
                classes,
                queue,
            },
        )
        .await;
}

/// A free volume, or another class, may be what a claim waits for.
fn wake_unbound(claims: &Store<PersistentVolumeClaim>, queue: &WorkQueue<Key>) {
    for claim in claims.list() {
        if claim
            .spec
            .as_ref()
            .and_then(|s| s.volume_name.as_deref())
            .is_none_or(str::is_empty)
        {
            queue.add(Key::Claim(ObjectKey::of(&*claim)));
        }
    }
}

#[async_trait]
impl Reconcile for PersistentVolumeBinder {
    type Key = Key;

    async fn reconcile(&self, key: Key) -> anyhow::Result<Requeue> {
        match key {
            Key::Claim(key) => self.claim(&key).await,
            Key::Volume(key) => self.volume(&key).await,
        }
    }
}

fn tell<K: kube::Resource<DynamicType = ()>>(recorder: &Recorder, about: &K, note: Option<plan::Note>) {
    if let Some((kind, reason, text)) = note {
        recorder.about(reference(about), kind, reason, text);
    }
}

impl PersistentVolumeBinder {
    fn claims_api(&self, space: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), space)
    }

    fn volumes_api(&self) -> Api<PersistentVolume> {
        Api::all(self.context.client.clone())
    }

    async fn claim(&self, key: &ObjectKey) -> anyhow::Result<Requeue> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            return Ok(Requeue::Done);
        };
        let phase = claim.status.as_ref().and_then(|s| s.phase.clone());
        match plan::claim(&claim, &self.volumes.list(), &self.classes.list()) {
            ClaimStep::Bind(volume) => self.bind(&claim, volume).await?,
            ClaimStep::Update(after, note) => {
                tell(&self.context.recorder, &*claim, note);
                let written = self
                    .claims_api(&key.namespace)
                    .replace(&key.name, &PostParams::default(), &after)
                    .await;
                ignore_not_found(written).context("writing a claim")?;
            }
            ClaimStep::Phase(wanted, note) => {
                // Said once a change, and again with the periodic look; the recorder counts repeats.
                tell(&self.context.recorder, &*claim, note);
                if phase.as_deref() != Some(wanted) {
                    let mut after = PersistentVolumeClaim::clone(&claim);
                    after.status.get_or_insert_default().phase = Some(wanted.to_owned());
                    self.write_claim_status(&after).await?;
                }
                if wanted == "Pending" {
                    return Ok(Requeue::After(self.context.options.pvclaimbinder_sync_period));
                }
            }
        }
        Ok(Requeue::Done)
    }

    async fn write_claim_status(&self, after: &PersistentVolumeClaim) -> anyhow::Result<()> {
        let api = self.claims_api(namespace(&after.metadata));
        ignore_not_found(
            api.replace_status(name(&after.metadata), &PostParams::default(), after)
                .await,
        )
        .context("writing a claim's status")?;
        Ok(())
    }

    /// The four writes of a binding, each of which may have been made before: the volume's claim, its phase, the claim's volume, its phase.
    async fn bind(
        &self,
        claim: &Arc<PersistentVolumeClaim>,
        volume: Arc<PersistentVolume>,
    ) -> anyhow::Result<()> {
        let params = PostParams::default();
        let mut volume = PersistentVolume::clone(&volume);
        let volume_name = name(&volume.metadata).to_owned();
        let spec = volume.spec.get_or_insert_default();
        let bound = spec
            .claim_ref
            .as_ref()
            .is_some_and(|r| r.uid == claim.metadata.uid);
        if !bound {
            let by_person = spec.claim_ref.is_some();
            spec.claim_ref = Some(ObjectReference {
                kind: Some("PersistentVolumeClaim".to_owned()),
                api_version: Some("v1".to_owned()),
                name: claim.metadata.name.clone(),
                namespace: claim.metadata.namespace.clone(),
                uid: claim.metadata.uid.clone(),
                resource_version: claim.metadata.resource_version.clone(),
                field_path: None,
            });
            if !by_person {
                volume
                    .metadata
                    .annotations
                    .get_or_insert_default()
                    .insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
            }
            volume = self
                .volumes_api()
                .replace(&volume_name, &params, &volume)
                .await
                .context("giving a volume its claim")?;
        }
        if volume.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Bound") {
            volume.status.get_or_insert_default().phase = Some("Bound".to_owned());
            volume = self
                .volumes_api()
                .replace_status(&volume_name, &params, &volume)
                .await
                .context("marking a volume as bound")?;
        }
        let mut after = PersistentVolumeClaim::clone(claim);
        let by_person = claim
            .spec
            .as_ref()
            .and_then(|s| s.volume_name.as_deref())
            .is_some_and(|v| !v.is_empty());
        let annotations = after.metadata.annotations.get_or_insert_default();
        annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
        if !by_person {
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        after.spec.get_or_insert_default().volume_name = Some(volume_name);
        if after != **claim {
            let api = self.claims_api(namespace(&claim.metadata));
            after = api
                .replace(name(&claim.metadata), &params, &after)
                .await
                .context("giving a claim its volume")?;
        }
        let before = after.status.clone();
        let status = after.status.get_or_insert_default();
        if status.phase.as_deref() != Some("Bound") {
            status.phase = Some("Bound".to_owned());
            status.access_modes = volume.spec.as_ref().and_then(|s| s.access_modes.clone());
            status.capacity = volume.spec.as_ref().and_then(|s| s.capacity.clone());
        }
        if after.status != before {
            self.write_claim_status(&after).await?;
        }
        Ok(())
    }

    async fn volume(&self, key: &str) -> anyhow::Result<Requeue> {
        let Some(volume) = self.volumes.get("", key) else {
            return Ok(Requeue::Done);
        };
        let wanted = volume.spec.as_ref().and_then(|s| s.claim_ref.clone());
        let place = wanted.map(|r| (r.namespace.unwrap_or_default(), r.name.unwrap_or_default()));
        let claim = place
            .as_ref()
            .and_then(|(space, claim)| self.claims.get(space, claim));
        let mut step = plan::volume(&volume, claim.as_deref());
        if let (VolumeStep::Phase("Released" | "Failed", _), Some((space, claim))) = (&step, &place) {
            // Releasing gives data away: only on the apiserver's own word.
            let fresh =
                ignore_not_found(self.claims_api(space).get(claim).await).context("asking for a claim")?;
            step = plan::volume(&volume, fresh.as_ref());
        }
        match step {
            VolumeStep::LookAt(space, claim) => self.queue.add(Key::Claim(ObjectKey::new(space, claim))),
            VolumeStep::Unbind(after) => {
                let written = self
                    .volumes_api()
                    .replace(key, &PostParams::default(), &after)
                    .await;
                ignore_not_found(written).context("freeing a volume")?;
            }
            VolumeStep::Phase(phase, note) => {
                if volume.status.as_ref().and_then(|s| s.phase.as_deref()) != Some(phase) {
                    let mut after = PersistentVolume::clone(&volume);
                    let status = after.status.get_or_insert_default();
                    status.phase = Some(phase.to_owned());
                    status.message = note.as_ref().map(|n| n.2.clone());
                    let written = self
                        .volumes_api()
                        .replace_status(key, &PostParams::default(), &after)
                        .await;
                    ignore_not_found(written).context("writing a volume's phase")?;
                    tell(&self.context.recorder, &*volume, note);
                }
            }
        }
        Ok(Requeue::Done)
    }
}
