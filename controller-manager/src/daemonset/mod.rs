//! The DaemonSet controller: one pod on each node that fits.

pub mod plan;

use crate::common::expectations::Expectations;
use crate::common::owners::{
    claim, controller_of, controller_of_kind, controller_reference, label, name, namespace, uid,
};
use crate::common::pod_control::PodControl;
use crate::common::revisions::{self, HASH_LABEL};
use crate::common::selector::Matcher;
use crate::common::{claiming, history, nodes, pods};
use crate::frame::{Context, Loop, Reconcile, own_key};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use plan::Snapshot;
use rutter_client::events::EventType;
use rutter_client::informer::ObjectKey;
use rutter_client::{Change, Requeue, Store, WorkQueue};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keeps daemons running.
pub struct DaemonSetController {
    context: Context,
    sets: Store<DaemonSet>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    revisions: Store<ControllerRevision>,
    control: PodControl,
    failures: Mutex<HashMap<(ObjectKey, String), (u32, Timestamp)>>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::new(&context);
    let sets = frame.watch::<DaemonSet>(own_key);
    pods::index_by_controller(&context.informers.of::<Pod>());
    let expectations = Arc::new(Expectations::default());
    let (known, expected) = (sets.clone(), expectations.clone());
    let pods = frame.watch::<Pod>(move |change, queue| pod_changed(change, queue, &known, &expected));
    let known = sets.clone();
    let nodes = frame.watch::<Node>(move |change, queue| node_changed(change, queue, &known));
    let revisions = frame.watch::<ControllerRevision>(|change, queue| {
        for revision in change.old.iter().chain(&change.new) {
            if let Some(owner) = controller_of_kind::<DaemonSet>(&revision.metadata) {
                queue.add(ObjectKey::new(namespace(&revision.metadata), owner.name.clone()));
            }
        }
    });
    let control = PodControl::new(context.client.clone(), context.recorder.clone(), expectations);
    let workers = context.options.concurrent_daemonset_syncs;
    let failures = Mutex::default();
    frame
        .run(
            workers,
            DaemonSetController {
                context,
                sets,
                pods,
                nodes,
                revisions,
                control,
                failures,
            },
        )
        .await;
}

fn selector(set: &DaemonSet) -> Option<Matcher> {
    Matcher::of(&set.spec.as_ref()?.selector)
}

fn pod_changed(
    change: &Change<Pod>,
    queue: &WorkQueue<ObjectKey>,
    sets: &Store<DaemonSet>,
    expectations: &Expectations,
) {
    for pod in change.old.iter().chain(&change.new) {
        let Some(owner) = controller_of_kind::<DaemonSet>(&pod.metadata) else {
            continue;
        };
        let key = ObjectKey::new(namespace(&pod.metadata), owner.name.clone());
        expectations.created(&key, name(&pod.metadata));
        if change.new.as_ref().is_none_or(|p| pods::is_deleting(p)) {
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
    for set in sets.list_in(namespace(&orphan.metadata)) {
        if selector(&set).is_some_and(|s| !s.is_everything() && s.matches(orphan.metadata.labels.as_ref())) {
            queue.add(ObjectKey::of(&*set));
        }
    }
}

/// A change of a node concerns the sets that fit it differently than before.
fn node_changed(change: &Change<Node>, queue: &WorkQueue<ObjectKey>, sets: &Store<DaemonSet>) {
    let decisive = |n: &Node| {
        (
            n.metadata.labels.clone(),
            n.spec.as_ref().and_then(|s| s.taints.clone()),
        )
    };
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && decisive(old) == decisive(new)
    {
        return;
    }
    for set in sets.list() {
        let fits = |n: &Option<Arc<Node>>| n.as_ref().map_or((false, false), |n| plan::fits(&set, n));
        if change.new.is_none() || fits(&change.old) != fits(&change.new) {
            queue.add(ObjectKey::of(&*set));
        }
    }
}

#[async_trait]
impl Reconcile for DaemonSetController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            self.control.expectations.forget(&key);
            self.failures.lock().retain(|(k, _), _| *k != key);
            return Ok(Requeue::Done);
        };
        let (Some(selector), Some(spec)) = (selector(&set), &set.spec) else {
            return Ok(Requeue::Done);
        };
        if selector.is_everything() {
            let text = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.context
                .recorder
                .event(&*set, EventType::Warning, "SelectingAll", text);
            return Ok(Requeue::Done);
        }
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Requeue::Done);
        }
        let trusted = self.control.expectations.satisfied(&key, Instant::now());
        let candidates = pods::owned_and_orphans(&self.pods, &key.namespace, uid(&set.metadata));
        let owned = claiming::settle(
            &self.context.client,
            &*set,
            claim(&set.metadata, &selector, candidates),
        )
        .await?;
        let collisions = set.status.as_ref().and_then(|s| s.collision_count);
        let client = &self.context.client;
        let history = history::sync(
            client,
            &self.revisions,
            &*set,
            &selector,
            &spec.template,
            collisions,
            HASH_LABEL,
        )
        .await?;
        let Some((current, all)) = history else {
            return self.count_collision(&set).await;
        };
        let hash = label(&current.metadata, HASH_LABEL)
            .unwrap_or_default()
            .to_owned();
        let nodes = self.nodes.list();
        let now = Timestamp::now();
        let plan = {
            let snapshot = Snapshot {
                set: &set,
                pods: &owned,
                nodes: &nodes,
                hash: &hash,
                trusted,
                may_retry: &|node| self.may_retry(&key, node, now),
            };
            plan::plan(&snapshot, now)
        };
        let waiting = !plan.waiting.is_empty();
        let status = plan.status.clone();
        let acted = self.act(&key, &set, plan, &hash).await;
        if set.status.as_ref() != Some(&status) {
            let mut after = DaemonSet::clone(&set);
            after.status = Some(status.clone());
            let api: Api<DaemonSet> = Api::namespaced(client.clone(), &key.namespace);
            api.replace_status(&key.name, &PostParams::default(), &after)
                .await
                .context("updating the status")?;
        }
        acted?;
        let limit = spec.revision_history_limit.unwrap_or(10);
        let used = |r: &ControllerRevision| {
            let hash = label(&r.metadata, HASH_LABEL);
            owned.iter().any(|p| label(&p.metadata, HASH_LABEL) == hash)
        };
        history::delete(
            client,
            revisions::excess(&all, name(&current.metadata), limit, &used),
        )
        .await?;
        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        let again = pods::next_availability(&owned, min_ready, now);
        Ok(again
            .or(waiting.then_some(Duration::from_secs(1)))
            .map_or(Requeue::Done, Requeue::After))
    }
}

impl DaemonSetController {
    async fn act(
        &self,
        key: &ObjectKey,
        set: &Arc<DaemonSet>,
        plan: plan::Plan,
        hash: &str,
    ) -> anyhow::Result<()> {
        for pod in &plan.ended {
            let (reason, how) = if pods::phase(pod) == "Failed" {
                ("FailedDaemonPod", "failed")
            } else {
                ("SucceededDaemonPod", "succeeded")
            };
            let node = plan::target(pod);
            let text = format!(
                "Found {how} daemon pod {} on node {node}, will try to {} it",
                ObjectKey::of(&**pod),
                if how == "failed" { "kill" } else { "delete" }
            );
            let kind = if how == "failed" {
                EventType::Warning
            } else {
                EventType::Normal
            };
            self.context.recorder.event(&**set, kind, reason, text);
            self.note_failure(key, &node);
        }
        let Some(template) = set.spec.as_ref().map(|s| s.template.clone()) else {
            return Ok(());
        };
        let prefix = pods::name_prefix(&key.name);
        let wanted = plan.create.iter().map(|node| {
            let mut pod = pods::from_template(&template, &key.namespace, controller_reference(&**set));
            pod.metadata
                .labels
                .get_or_insert_default()
                .insert(HASH_LABEL.to_owned(), hash.to_owned());
            if let Some(spec) = &mut pod.spec {
                nodes::pin(spec, node);
                let more = plan::tolerations(spec.host_network == Some(true));
                let there = spec.tolerations.get_or_insert_default();
                for toleration in more {
                    if !there.contains(&toleration) {
                        there.push(toleration);
                    }
                }
            }
            (prefix.clone(), pod)
        });
        let wanted: Vec<(String, Pod)> = wanted.collect();
        if !wanted.is_empty() {
            self.control
                .create(&**set, wanted)
                .await
                .context("creating daemons")?;
        }
        if !plan.delete.is_empty() {
            self.control
                .delete(&**set, plan.delete)
                .await
                .context("deleting daemons")?;
        }
        Ok(())
    }

    async fn count_collision(&self, set: &DaemonSet) -> anyhow::Result<Requeue> {
        let mut after = set.clone();
        let status = after.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        let api: Api<DaemonSet> = Api::namespaced(self.context.client.clone(), namespace(&set.metadata));
        api.replace_status(name(&set.metadata), &PostParams::default(), &after)
            .await
            .context("counting a collision of hashes")?;
        Ok(Requeue::Backoff)
    }

    /// A failed daemon is replaced at once, and then with growing pauses up to 15 minutes.
    fn may_retry(&self, key: &ObjectKey, node: &str, now: Timestamp) -> bool {
        let failures = self.failures.lock();
        let Some((count, last)) = failures.get(&(key.clone(), node.to_owned())) else {
            return true;
        };
        let pause = SignedDuration::from_secs(1_i64.checked_shl(*count).unwrap_or(900).min(900));
        now.duration_since(*last) >= pause
    }

    fn note_failure(&self, key: &ObjectKey, node: &str) {
        let now = Timestamp::now();
        let mut failures = self.failures.lock();
        let entry = failures.entry((key.clone(), node.to_owned())).or_insert((0, now));
        // Half an hour without a failure clears the record.
        entry.0 = if now.duration_since(entry.1) > SignedDuration::from_mins(30) {
            0
        } else {
            entry.0 + 1
        };
        entry.1 = now;
    }
}
