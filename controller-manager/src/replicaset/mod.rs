//! The ReplicaSet and ReplicationController controllers: one controller over two kinds.

pub mod kind;
pub mod plan;

use crate::common::expectations::Expectations;
use crate::common::owners::{
    claim, controller_of, controller_of_kind, is_controlled_by, name, namespace, uid,
};
use crate::common::pod_control::PodControl;
use crate::common::{claiming, pods};
use crate::frame::{Context, Loop, Reconcile, message_of, own_key};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kind::ReplicaOwner;
use kube::Api;
use kube::api::PostParams;
use plan::Action;
use rutter_client::informer::ObjectKey;
use rutter_client::{Change, Requeue, Store, WorkQueue};
use std::sync::Arc;
use std::time::Instant;

/// Keeps the number of pods that objects of kind `K` ask for.
pub struct ReplicaController<K> {
    client: kube::Client,
    sets: Store<K>,
    pods: Store<Pod>,
    control: PodControl,
}

/// Runs the controller for a kind until stopped.
pub async fn run<K: ReplicaOwner>(context: Context, workers: usize) {
    let mut frame = Loop::new(&context);
    let sets = frame.watch::<K>(own_key);
    pods::index_by_controller(&context.informers.of::<Pod>());
    let expectations = Arc::new(Expectations::default());
    let (known, expected) = (sets.clone(), expectations.clone());
    let pods = frame.watch::<Pod>(move |change, queue| pod_changed(change, queue, &known, &expected));
    let control = PodControl::new(context.client.clone(), context.recorder.clone(), expectations);
    frame
        .run(
            workers,
            ReplicaController {
                client: context.client,
                sets,
                pods,
                control,
            },
        )
        .await;
}

/// Notes what was seen of a pod, and wakes the sets that it concerns.
fn pod_changed<K: ReplicaOwner>(
    change: &Change<Pod>,
    queue: &WorkQueue<ObjectKey>,
    sets: &Store<K>,
    expectations: &Expectations,
) {
    for pod in change.old.iter().chain(&change.new) {
        let Some(owner) = controller_of_kind::<K>(&pod.metadata) else {
            continue;
        };
        let key = ObjectKey::new(namespace(&pod.metadata), owner.name.clone());
        expectations.created(&key, name(&pod.metadata));
        if change
            .new
            .as_ref()
            .is_none_or(|new| pods::is_deleting(new) || new.metadata.uid != pod.metadata.uid)
        {
            expectations.deleted(&key, uid(&pod.metadata));
        }
        queue.add(key);
    }
    let Some(orphan) = change
        .new
        .as_ref()
        .filter(|p| controller_of(&p.metadata).is_none())
    else {
        return;
    };
    let unchanged = |old: &Arc<Pod>| {
        old.metadata.labels == orphan.metadata.labels && controller_of(&old.metadata).is_none()
    };
    if change.old.as_ref().is_some_and(unchanged) {
        return;
    }
    for set in sets.list_in(namespace(&orphan.metadata)) {
        if set
            .selector()
            .is_some_and(|s| s.matches(orphan.metadata.labels.as_ref()))
        {
            queue.add(ObjectKey::of(&*set));
        }
    }
}

#[async_trait]
impl<K: ReplicaOwner> Reconcile for ReplicaController<K> {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            self.control.expectations.forget(&key);
            return Ok(Requeue::Done);
        };
        let Some(selector) = set.selector() else {
            return Ok(Requeue::Done);
        };
        // Asked before the store is read: what is seen in between makes the answer only safer.
        let trusted = self.control.expectations.satisfied(&key, Instant::now());
        let candidates = pods::owned_and_orphans(&self.pods, &key.namespace, uid(set.meta()));
        // Ended orphans are nobody's.
        let candidates = candidates
            .into_iter()
            .filter(|p| controller_of(&p.metadata).is_some() || pods::is_active(p));
        let owned = claiming::settle(&self.client, &*set, claim(set.meta(), &selector, candidates)).await?;
        let replicas = set.replicas();
        let related = self.related(&set);
        let outcome = match plan::plan(&replicas, &owned, &related, trusted, Timestamp::now()) {
            None => Ok(()),
            Some(Action::Delete(doomed)) => self.control.delete(&*set, doomed).await,
            Some(Action::Create(count)) => match set.template() {
                Some(template) => self.control.create_from_template(&*set, template, count).await,
                None => Ok(()),
            },
        };
        let now = Timestamp::now();
        let failure = outcome.as_ref().err().map(message_of);
        let status = plan::status(&replicas, &owned, failure.as_deref(), now);
        if status != replicas.status {
            let api: Api<K> = Api::namespaced(self.client.clone(), &key.namespace);
            let after = set.with_status(status.clone());
            api.replace_status(&key.name, &PostParams::default(), &after)
                .await
                .context("updating the status")?;
        }
        outcome.context("keeping the number of pods")?;
        Ok(plan::again(&replicas, &owned, &status, now).map_or(Requeue::Done, Requeue::After))
    }
}

impl<K: ReplicaOwner> ReplicaController<K> {
    /// The pods of all sets with the same owner, whose spread over nodes decides which pod goes first.
    fn related(&self, set: &K) -> Vec<Arc<Pod>> {
        let Some(owner) = controller_of(set.meta()) else {
            return pods::owned(&self.pods, uid(set.meta()));
        };
        let siblings = self.sets.list_in(namespace(set.meta()));
        let siblings = siblings.iter().filter(|s| is_controlled_by(s.meta(), &owner.uid));
        siblings
            .flat_map(|s| pods::owned(&self.pods, uid(s.meta())))
            .collect()
    }
}
