//! The StatefulSet controller: pods with names and volumes of their own.

pub mod identity;
pub mod plan;
#[cfg(test)]
mod tests;

use crate::common::owners::{claim, controller_of, controller_of_kind, name, namespace, uid};
use crate::common::revisions::{self, HASH_LABEL};
use crate::common::selector::Matcher;
use crate::common::{batch, claiming, history, pods};
use crate::frame::{
    Context, Loop, Reconcile, ignore_not_found, is_already_exists, is_namespace_terminating, message_of,
    own_key,
};
use anyhow::Context as _;
use async_trait::async_trait;
use identity::ordinal;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use plan::{Action, Revision, Snapshot};
use rutter_client::events::EventType;
use rutter_client::informer::ObjectKey;
use rutter_client::{Change, Requeue, Store, WorkQueue};
use std::sync::Arc;

const REVISION_LABEL: &str = "controller.kubernetes.io/hash";

/// Keeps StatefulSets.
pub struct StatefulSetController {
    context: Context,
    sets: Store<StatefulSet>,
    pods: Store<Pod>,
    claims: Store<PersistentVolumeClaim>,
    revisions: Store<ControllerRevision>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::new(&context);
    let sets = frame.watch::<StatefulSet>(own_key);
    pods::index_by_controller(&context.informers.of::<Pod>());
    let known = sets.clone();
    let pods = frame.watch::<Pod>(move |change, queue| pod_changed(change, queue, &known));
    let claims = frame.read::<PersistentVolumeClaim>();
    let revisions = frame.read::<ControllerRevision>();
    let workers = context.options.concurrent_statefulset_syncs;
    frame
        .run(
            workers,
            StatefulSetController {
                context,
                sets,
                pods,
                claims,
                revisions,
            },
        )
        .await;
}

fn selector(set: &StatefulSet) -> Option<Matcher> {
    Matcher::of(&set.spec.as_ref()?.selector).filter(|s| !s.is_everything())
}

fn pod_changed(change: &Change<Pod>, queue: &WorkQueue<ObjectKey>, sets: &Store<StatefulSet>) {
    for pod in change.old.iter().chain(&change.new) {
        if let Some(owner) = controller_of_kind::<StatefulSet>(&pod.metadata) {
            queue.add(ObjectKey::new(namespace(&pod.metadata), owner.name.clone()));
        }
    }
    let Some(orphan) = change
        .new
        .as_ref()
        .filter(|p| controller_of(&p.metadata).is_none())
    else {
        return;
    };
    for set in sets.list_in(namespace(&orphan.metadata)) {
        if selector(&set).is_some_and(|s| s.matches(orphan.metadata.labels.as_ref())) {
            queue.add(ObjectKey::of(&*set));
        }
    }
}

#[async_trait]
impl Reconcile for StatefulSetController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            return Ok(Requeue::Done);
        };
        let (Some(selector), Some(spec)) = (selector(&set), &set.spec) else {
            return Ok(Requeue::Done);
        };
        let candidates = pods::owned_and_orphans(&self.pods, &key.namespace, uid(&set.metadata));
        // Only pods that bear one of the set's names can be its own.
        let named = |p: &Arc<Pod>| {
            controller_of(&p.metadata).is_some() || ordinal(&key.name, name(&p.metadata)).is_some()
        };
        let claimed = claim(&set.metadata, &selector, candidates.into_iter().filter(named));
        let owned = claiming::settle(&self.context.client, &*set, claimed).await?;
        let status = set.status.clone().unwrap_or_default();
        let client = &self.context.client;
        let template = &spec.template;
        let mut collisions = status.collision_count;
        let (update, all) = loop {
            let found = history::sync(
                client,
                &self.revisions,
                &*set,
                &selector,
                template,
                collisions,
                REVISION_LABEL,
            )
            .await?;
            match found {
                Some(found) => break found,
                None => collisions = Some(collisions.unwrap_or(0) + 1),
            }
        };
        let before = all
            .iter()
            .find(|r| Some(name(&r.metadata)) == status.current_revision.as_deref())
            .unwrap_or(&update)
            .clone();
        let revision = |r: &ControllerRevision| Revision {
            name: name(&r.metadata).to_owned(),
            template: revisions::template_of(r).unwrap_or_else(|| template.clone()),
        };
        let (current, target) = (revision(&before), revision(&update));
        let snapshot = Snapshot {
            set: &set,
            pods: &owned,
            current: &current,
            update: &target,
            collisions,
        };
        let plan = plan::plan(&snapshot, Timestamp::now());
        let again = plan.again;
        let acted = self.act(&set, &owned, plan.actions).await;
        if set.status.as_ref() != Some(&plan.status) {
            let mut after = StatefulSet::clone(&set);
            after.status = Some(plan.status.clone());
            let api: Api<StatefulSet> = Api::namespaced(client.clone(), &key.namespace);
            api.replace_status(&key.name, &PostParams::default(), &after)
                .await
                .context("updating the status")?;
        }
        acted?;
        let used = |r: &ControllerRevision| {
            let revision = name(&r.metadata);
            revision == current.name
                || owned
                    .iter()
                    .any(|p| crate::common::owners::label(&p.metadata, HASH_LABEL) == Some(revision))
        };
        let limit = spec.revision_history_limit.unwrap_or(10);
        history::delete(client, revisions::excess(&all, &target.name, limit, &used)).await?;
        Ok(again.map_or(Requeue::Done, Requeue::After))
    }
}

impl StatefulSetController {
    async fn act(
        &self,
        set: &Arc<StatefulSet>,
        owned: &[Arc<Pod>],
        actions: Vec<Action>,
    ) -> anyhow::Result<()> {
        // Claims follow their pods' fate before the pods do.
        for pod in owned {
            self.keep_claims(set, pod).await?;
        }
        batch::each(actions, |action| async move {
            match action {
                Action::Create(pod, at) => self.create(set, &pod, at).await,
                Action::Delete(pod, again) => self.delete(set, &pod, again).await,
                Action::Update(pod, at) => {
                    self.make_claims(set, name(&pod.metadata), at).await?;
                    let api: Api<Pod> =
                        Api::namespaced(self.context.client.clone(), namespace(&pod.metadata));
                    let written = api
                        .replace(name(&pod.metadata), &PostParams::default(), &pod)
                        .await;
                    ignore_not_found(written)
                        .context("writing a pod's identity")
                        .map(|_| ())
                }
            }
        })
        .await
    }

    async fn keep_claims(&self, set: &Arc<StatefulSet>, pod: &Pod) -> anyhow::Result<()> {
        let Some(at) = ordinal(name(&set.metadata), name(&pod.metadata)) else {
            return Ok(());
        };
        let (start, count) = plan::range(set);
        let condemned = at < start || at >= start + count;
        if !condemned && pods::phase(pod) == "Pending" {
            self.make_claims(set, name(&pod.metadata), at).await?;
        }
        let space = namespace(&set.metadata);
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), space);
        for wanted in identity::claims(set, at) {
            let claim_name = name(&wanted.metadata);
            let Some(claim) = self.claims.get(space, claim_name) else {
                continue;
            };
            if let Some(after) = identity::owned_claim(set, pod, condemned, &claim) {
                let written = api.replace(claim_name, &PostParams::default(), &after).await;
                ignore_not_found(written).context("setting a claim's owner")?;
            }
        }
        Ok(())
    }

    async fn make_claims(&self, set: &Arc<StatefulSet>, pod: &str, at: i32) -> anyhow::Result<()> {
        let space = namespace(&set.metadata);
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), space);
        for claim in identity::claims(set, at) {
            let claim_name = name(&claim.metadata).to_owned();
            match self.claims.get(space, &claim_name) {
                Some(there) => {
                    anyhow::ensure!(
                        there.metadata.deletion_timestamp.is_none(),
                        "the claim {claim_name} is being deleted"
                    );
                    continue;
                }
                None => match api.create(&PostParams::default(), &claim).await {
                    Err(error) if is_already_exists(&error) => {}
                    Err(error) => {
                        let why = message_of(&error);
                        self.tell(set, "FailedCreate", format!("create Claim {claim_name} for Pod {pod} in StatefulSet {} failed error: {why}", name(&set.metadata)));
                        return Err(error).context("creating a claim");
                    }
                    Ok(_) => {
                        let set_name = name(&set.metadata);
                        self.tell(
                            set,
                            "SuccessfulCreate",
                            format!("create Claim {claim_name} Pod {pod} in StatefulSet {set_name} success"),
                        );
                    }
                },
            }
        }
        Ok(())
    }

    fn tell(&self, set: &StatefulSet, reason: &str, text: String) {
        let kind = if reason.starts_with("Failed") || reason.starts_with("Recreating") {
            EventType::Warning
        } else {
            EventType::Normal
        };
        self.context.recorder.event(set, kind, reason, text);
    }

    async fn create(&self, set: &Arc<StatefulSet>, pod: &Pod, at: i32) -> anyhow::Result<()> {
        let (pod_name, set_name) = (name(&pod.metadata), name(&set.metadata));
        self.make_claims(set, pod_name, at).await?;
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace(&set.metadata));
        match api.create(&PostParams::default(), pod).await {
            Ok(_) => {
                self.tell(
                    set,
                    "SuccessfulCreate",
                    format!("create Pod {pod_name} in StatefulSet {set_name} successful"),
                );
                Ok(())
            }
            Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) => Ok(()),
            Err(error) => {
                let why = message_of(&error);
                self.tell(
                    set,
                    "FailedCreate",
                    format!("create Pod {pod_name} in StatefulSet {set_name} failed error: {why}"),
                );
                Err(error).context("creating a pod")
            }
        }
    }

    async fn delete(&self, set: &Arc<StatefulSet>, pod: &Pod, again: bool) -> anyhow::Result<()> {
        let (pod_name, set_name) = (name(&pod.metadata), name(&set.metadata));
        if again {
            let text = format!(
                "StatefulSet {}/{set_name} is recreating failed Pod {pod_name}",
                namespace(&set.metadata)
            );
            self.tell(set, "RecreatingFailedPod", text);
        }
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace(&set.metadata));
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match ignore_not_found(api.delete(pod_name, &params).await) {
            Ok(_) => {
                self.tell(
                    set,
                    "SuccessfulDelete",
                    format!("delete Pod {pod_name} in StatefulSet {set_name} successful"),
                );
                Ok(())
            }
            Err(error) => {
                let why = message_of(&error);
                self.tell(
                    set,
                    "FailedDelete",
                    format!("delete Pod {pod_name} in StatefulSet {set_name} failed error: {why}"),
                );
                Err(error).context("deleting a pod")
            }
        }
    }
}
