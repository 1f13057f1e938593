//! The Deployment controller.

pub mod plan;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

use crate::common::owners::{
    claim, controller_of, controller_of_kind, is_controlled_by, name, namespace, uid,
};
use crate::common::selector::Matcher;
use crate::common::{claiming, pods};
use crate::frame::{
    Context, Loop, Reconcile, ignore_not_found, is_already_exists, is_namespace_terminating, message_of,
    own_key,
};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use plan::{Action, Plan, Snapshot};
use rutter_client::events::EventType;
use rutter_client::informer::ObjectKey;
use rutter_client::{Change, Requeue, Store, WorkQueue};

/// Keeps Deployments rolled out.
pub struct DeploymentController {
    context: Context,
    deployments: Store<Deployment>,
    replica_sets: Store<ReplicaSet>,
    pods: Store<Pod>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::new(&context);
    let deployments = frame.watch::<Deployment>(own_key);
    let known = deployments.clone();
    let replica_sets =
        frame.watch::<ReplicaSet>(move |change, queue| replica_set_changed(change, queue, &known));
    pods::index_by_controller(&context.informers.of::<Pod>());
    let sets = replica_sets.clone();
    // Only Recreate waits for pods, and for their end alone.
    let known = deployments.clone();
    let pods = frame.watch::<Pod>(move |change, queue| pod_changed(change, queue, &known, &sets));
    let workers = context.options.concurrent_deployment_syncs;
    frame
        .run(
            workers,
            DeploymentController {
                context,
                deployments,
                replica_sets,
                pods,
            },
        )
        .await;
}

fn replica_set_changed(
    change: &Change<ReplicaSet>,
    queue: &WorkQueue<ObjectKey>,
    deployments: &Store<Deployment>,
) {
    let mut owned = false;
    for set in change.old.iter().chain(&change.new) {
        if let Some(owner) = controller_of_kind::<Deployment>(&set.metadata) {
            queue.add(ObjectKey::new(namespace(&set.metadata), owner.name.clone()));
            owned |= change.new.is_some();
        }
    }
    let Some(set) = change
        .new
        .as_ref()
        .filter(|s| !owned && controller_of(&s.metadata).is_none())
    else {
        return;
    };
    for deployment in deployments.list_in(namespace(&set.metadata)) {
        let selector = deployment.spec.as_ref().and_then(|s| Matcher::of(&s.selector));
        if selector.is_some_and(|s| !s.is_everything() && s.matches(set.metadata.labels.as_ref())) {
            queue.add(ObjectKey::of(&*deployment));
        }
    }
}

fn pod_changed(
    change: &Change<Pod>,
    queue: &WorkQueue<ObjectKey>,
    deployments: &Store<Deployment>,
    sets: &Store<ReplicaSet>,
) {
    let ended = change.new.as_ref().is_none_or(|p| pods::is_terminal(p));
    let Some(pod) = change.object().filter(|_| ended) else {
        return;
    };
    let space = namespace(&pod.metadata);
    let Some(set) = controller_of_kind::<ReplicaSet>(&pod.metadata).and_then(|r| sets.get(space, &r.name))
    else {
        return;
    };
    let Some(owner) = controller_of_kind::<Deployment>(&set.metadata) else {
        return;
    };
    if deployments
        .get(space, &owner.name)
        .is_some_and(|d| plan::recreates(&d))
    {
        queue.add(ObjectKey::new(space, owner.name.clone()));
    }
}

#[async_trait]
impl Reconcile for DeploymentController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(deployment) = self.deployments.get(&key.namespace, &key.name) else {
            return Ok(Requeue::Done);
        };
        let Some(selector) = deployment.spec.as_ref().and_then(|s| Matcher::of(&s.selector)) else {
            return Ok(Requeue::Done);
        };
        let candidates = self.replica_sets.list_in(&key.namespace);

        let owned = if selector.is_everything() {
            Vec::new()
        } else {
            let claimed = claim(&deployment.metadata, &selector, candidates);
            claiming::settle(&self.context.client, &*deployment, claimed).await?
        };
        let running = |new: Option<&str>| {
            owned.iter().filter(|s| Some(uid(&s.metadata)) != new).any(|s| {
                let all = pods::owned(&self.pods, uid(&s.metadata));
                all.iter()
                    .any(|p| is_controlled_by(&p.metadata, uid(&s.metadata)) && !pods::is_terminal(p))
            })
        };
        let sets = owned.iter().map(|s| ReplicaSet::clone(s)).collect();
        let snapshot = Snapshot {
            deployment: &deployment,
            replica_sets: sets,
            old_pods_running: &running,
        };
        let Plan { actions, again } = plan::plan(snapshot, Timestamp::now());
        for action in actions {
            self.perform(&deployment, action).await?;
        }
        Ok(again.map_or(Requeue::Done, Requeue::After))
    }
}

impl DeploymentController {
    async fn perform(&self, deployment: &Deployment, action: Action) -> anyhow::Result<()> {
        let space = namespace(&deployment.metadata);
        let sets: Api<ReplicaSet> = Api::namespaced(self.context.client.clone(), space);
        let deployments: Api<Deployment> = Api::namespaced(self.context.client.clone(), space);
        let params = PostParams::default();
        match action {
            Action::Create(set) => self.create(deployment, &sets, *set).await?,
            Action::Update(set) => {
                let set_name = name(&set.metadata);
                sets.replace(set_name, &params, &set)
                    .await
                    .with_context(|| format!("updating the ReplicaSet {set_name}"))?;
            }
            Action::Delete(set) => {
                let set_name = name(&set.metadata);
                ignore_not_found(sets.delete(set_name, &DeleteParams::default()).await)
                    .with_context(|| format!("deleting the ReplicaSet {set_name}"))?;
            }
            Action::UpdateDeployment(after) => {
                deployments
                    .replace(name(&after.metadata), &params, &after)
                    .await
                    .context("updating the Deployment")?;
            }
            Action::UpdateStatus(after) => {
                deployments
                    .replace_status(name(&after.metadata), &params, &after)
                    .await
                    .context("updating the Deployment's status")?;
            }
            Action::Event(kind, reason, message) => {
                self.context.recorder.event(deployment, kind, reason, message)
            }
        }
        Ok(())
    }

    async fn create(
        &self,
        deployment: &Deployment,
        sets: &Api<ReplicaSet>,
        set: ReplicaSet,
    ) -> anyhow::Result<()> {
        let set_name = name(&set.metadata).to_owned();
        let params = PostParams::default();
        let Err(error) = sets.create(&params, &set).await else {
            return Ok(());
        };
        let deployments: Api<Deployment> =
            Api::namespaced(self.context.client.clone(), namespace(&deployment.metadata));
        let deployment_name = name(&deployment.metadata);
        if is_already_exists(&error) {
            let there = sets
                .get(&set_name)
                .await
                .context("reading the ReplicaSet that is in the way")?;
            let template = |s: &ReplicaSet| {
                s.spec
                    .as_ref()
                    .and_then(|s| s.template.clone())
                    .unwrap_or_default()
            };
            let ours = is_controlled_by(&there.metadata, uid(&deployment.metadata));
            if ours && plan::same_template(&template(&there), &template(&set)) {
                anyhow::bail!(error);
            }
            let after = status::collided(deployment);
            deployments
                .replace_status(deployment_name, &params, &after)
                .await
                .context("counting a collision of hashes")?;
            return Err(error).with_context(|| format!("the name {set_name} is taken; trying another hash"));
        }
        if !is_namespace_terminating(&error) {
            let message = format!(
                "Failed to create new replica set {set_name:?}: {}",
                message_of(&error)
            );
            if let Some(after) = status::creation_failed(deployment, &message, Timestamp::now()) {
                deployments
                    .replace_status(deployment_name, &params, &after)
                    .await
                    .context("reporting a failed creation")?;
            }
            self.context
                .recorder
                .event(deployment, EventType::Warning, "ReplicaSetCreateError", message);
        }
        Err(error).with_context(|| format!("creating the ReplicaSet {set_name}"))
    }
}
