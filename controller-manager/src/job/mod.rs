//! The Job controller.

pub mod indexes;
pub mod plan;
pub mod policy;
#[cfg(test)]
mod tests;

use crate::common::expectations::Expectations;
use crate::common::owners::{
    claim, controller_of, controller_of_kind, controller_reference, has_finalizer, name, namespace, uid,
};
use crate::common::pod_control::PodControl;
use crate::common::selector::Matcher;
use crate::common::{batch, claiming, pods};
use crate::frame::{Context, Loop, Reconcile, ignore_not_found};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use plan::{Plan, Snapshot, TRACKING};
use rutter_client::events::EventType;
use rutter_client::informer::ObjectKey;
use rutter_client::{Change, Requeue, Store, WorkQueue};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// What the queue holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A Job.
    Job(ObjectKey),
    /// A pod whose Job may be gone, but not its finalizer.
    Orphan(ObjectKey),
}

/// Runs Jobs to their end.
pub struct JobController {
    context: Context,
    jobs: Store<Job>,
    pods: Store<Pod>,
    control: PodControl,
    released: Arc<Released>,
    // The versions of Jobs that a write of this process replaced: a store that still shows one of them must not be decided from.
    replaced: Mutex<HashMap<ObjectKey, String>>,
}

/// Pods whose finalizers are off, until the store shows it.
type Released = Mutex<HashMap<ObjectKey, HashSet<String>>>;

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<Key>::new(&context);
    let jobs = frame.watch::<Job>(|change, queue| {
        if let Some(job) = change.object() {
            queue.add(Key::Job(ObjectKey::of(&**job)));
        }
    });
    pods::index_by_controller(&context.informers.of::<Pod>());
    let expectations = Arc::new(Expectations::default());
    let released: Arc<Released> = Arc::default();
    let (known, expected, off) = (jobs.clone(), expectations.clone(), released.clone());
    let pods = frame.watch::<Pod>(move |change, queue| pod_changed(change, queue, &known, &expected, &off));
    let control = PodControl::new(context.client.clone(), context.recorder.clone(), expectations);
    let workers = context.options.concurrent_job_syncs;
    frame
        .run(
            workers,
            JobController {
                context,
                jobs,
                pods,
                control,
                released,
                replaced: Mutex::default(),
            },
        )
        .await;
}

fn pod_changed(
    change: &Change<Pod>,
    queue: &WorkQueue<Key>,
    jobs: &Store<Job>,
    expectations: &Expectations,
    released: &Released,
) {
    for pod in change.old.iter().chain(&change.new) {
        let Some(owner) = controller_of_kind::<Job>(&pod.metadata) else {
            continue;
        };
        let key = ObjectKey::new(namespace(&pod.metadata), owner.name.clone());
        expectations.created(&key, name(&pod.metadata));
        if change.new.as_ref().is_none_or(|p| pods::is_deleting(p)) {
            expectations.deleted(&key, uid(&pod.metadata));
        }
        if change
            .new
            .as_ref()
            .is_none_or(|p| !has_finalizer(&p.metadata, TRACKING))
        {
            let mut released = released.lock();
            if let Some(uids) = released.get_mut(&key) {
                uids.remove(uid(&pod.metadata));
                if uids.is_empty() {
                    released.remove(&key);
                }
            }
        }
        queue.add(Key::Job(key));
    }
    let Some(pod) = &change.new else { return };
    if has_finalizer(&pod.metadata, TRACKING) {
        queue.add(Key::Orphan(ObjectKey::of(&**pod)));
    }
    if controller_of(&pod.metadata).is_none() {
        for job in jobs.list_in(namespace(&pod.metadata)) {
            let selector = job
                .spec
                .as_ref()
                .and_then(|s| Matcher::of_option(s.selector.as_ref()));
            if selector.is_some_and(|s| !s.is_everything() && s.matches(pod.metadata.labels.as_ref())) {
                queue.add(Key::Job(ObjectKey::of(&*job)));
            }
        }
    }
}

fn is_ours(job: &Job) -> bool {
    job.spec
        .as_ref()
        .and_then(|s| s.managed_by.as_deref())
        .is_none_or(|m| m == "kubernetes.io/job-controller")
}

#[async_trait]
impl Reconcile for JobController {
    type Key = Key;

    async fn reconcile(&self, key: Key) -> anyhow::Result<Requeue> {
        match key {
            Key::Job(key) => self.sync(&key).await,
            Key::Orphan(key) => self.free_orphan(&key).await,
        }
    }
}

impl JobController {
    async fn sync(&self, key: &ObjectKey) -> anyhow::Result<Requeue> {
        let Some(job) = self.jobs.get(&key.namespace, &key.name) else {
            self.control.expectations.forget(key);
            self.replaced.lock().remove(key);
            return Ok(Requeue::Done);
        };
        if !is_ours(&job) || plan::is_finished(&job) {
            if is_ours(&job) {
                self.free_all(&job).await?;
            }
            return Ok(Requeue::Done);
        }
        if self
            .replaced
            .lock()
            .get(key)
            .is_some_and(|v| Some(v) == job.metadata.resource_version.as_ref())
        {
            return Ok(Requeue::Backoff);
        }
        let Some(selector) = job
            .spec
            .as_ref()
            .and_then(|s| Matcher::of_option(s.selector.as_ref()))
        else {
            return Ok(Requeue::Done);
        };
        let trusted = self.control.expectations.satisfied(key, Instant::now());
        let candidates = pods::owned_and_orphans(&self.pods, &key.namespace, uid(&job.metadata));
        let claimed = claiming::settle(
            &self.context.client,
            &*job,
            claim(&job.metadata, &selector, candidates),
        )
        .await?;
        let released = self.released.lock().get(key).cloned().unwrap_or_default();
        let snapshot = Snapshot {
            job: &job,
            pods: &claimed,
            released: &released,
            trusted,
        };
        let plan = plan::plan(&snapshot, Timestamp::now());
        let again = plan.again;
        self.perform(key, &job, plan).await?;
        Ok(again.map_or(Requeue::Done, Requeue::After))
    }

    async fn perform(&self, key: &ObjectKey, job: &Arc<Job>, mut plan: Plan) -> anyhow::Result<()> {
        let deleted = self.delete(job, &plan).await;
        let reference = controller_reference(&**job);
        let wanted: Vec<(String, Pod)> = plan
            .create
            .iter()
            .map(|new| plan::new_pod(job, *new, reference.clone()))
            .collect();
        let wanted_count = wanted.len();
        let created = if wanted_count > 0 && deleted.is_ok() {
            self.control.create(&**job, wanted).await
        } else {
            Ok(())
        };
        if deleted.is_err() {
            plan.finished = None;
        }
        if created.is_err() {
            // How many came to be is seen by the next look; the status keeps what it said.
            plan.status.active = job.status.as_ref().and_then(|s| s.active);
        }
        let mut current = job.clone();
        if Some(&plan.status) != job.status.as_ref() {
            current = self.write(key, &current, plan.status).await?;
        }
        for (kind, reason, message) in plan.events {
            self.context.recorder.event(&**job, kind, &reason, message);
        }
        let freed = self.free(key, plan.release).await;
        let freed_uids = self.released.lock().get(key).cloned().unwrap_or_default();
        let before = current.status.clone().unwrap_or_default();
        let mut status = plan::counted(&before, &|id| freed_uids.contains(id));
        let finished = plan
            .finished
            .filter(|f| freed.is_ok() && plan::finish(&mut status, f));
        if status != before {
            self.write(key, &current, status).await?;
        }
        if let Some(finished) = finished {
            let (kind, reason) = match finished.type_.as_str() {
                "Complete" => (EventType::Normal, "Completed".to_owned()),
                _ => (EventType::Warning, finished.reason.unwrap_or_default()),
            };
            let message = if kind == EventType::Normal {
                "Job completed".to_owned()
            } else {
                finished.message.unwrap_or_default()
            };
            self.context.recorder.event(&**job, kind, &reason, message);
        }
        deleted.context("deleting a Job's pods")?;
        created.context("creating a Job's pods")?;
        freed
    }

    async fn delete(&self, job: &Arc<Job>, plan: &Plan) -> Result<(), kube::Error> {
        if plan.surplus {
            batch::each(plan.delete.clone(), |pod| async move {
                self.take_finalizer_off(&pod).await
            })
            .await?;
        }
        self.control.delete(&**job, plan.delete.clone()).await
    }

    async fn write(&self, key: &ObjectKey, job: &Arc<Job>, status: JobStatus) -> anyhow::Result<Arc<Job>> {
        let mut after = Job::clone(job);
        after.status = Some(status);
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let written = api
            .replace_status(&key.name, &PostParams::default(), &after)
            .await
            .context("updating the Job's status")?;
        if let Some(version) = &job.metadata.resource_version
            && job.metadata.resource_version != written.metadata.resource_version
        {
            self.replaced.lock().insert(key.clone(), version.clone());
        }
        Ok(Arc::new(written))
    }

    /// Takes the finalizers off, and remembers which are off.
    async fn free(&self, key: &ObjectKey, doomed: Vec<Arc<Pod>>) -> anyhow::Result<()> {
        batch::each(doomed, |pod| async move {
            // Before the write, since its sighting may come before its answer.
            let id = uid(&pod.metadata).to_owned();
            self.released
                .lock()
                .entry(key.clone())
                .or_default()
                .insert(id.clone());
            let result = self.take_finalizer_off(&pod).await;
            if result.is_err()
                && let Some(uids) = self.released.lock().get_mut(key)
            {
                uids.remove(&id);
            }
            result
        })
        .await
        .context("taking the finalizer off a pod")
    }

    async fn take_finalizer_off(&self, pod: &Pod) -> Result<(), kube::Error> {
        if !has_finalizer(&pod.metadata, TRACKING) {
            return Ok(());
        }
        let patch =
            json!({"metadata": {"uid": pod.metadata.uid, "$deleteFromPrimitiveList/finalizers": [TRACKING]}});
        let api = self.control.api(namespace(&pod.metadata));
        match ignore_not_found(
            api.patch(
                name(&pod.metadata),
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await,
        ) {
            // Another pod of that name.
            Err(error) if crate::frame::is_conflict(&error) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// A pod whose Job is gone, or has ended, must not be held for it.
    async fn free_orphan(&self, key: &ObjectKey) -> anyhow::Result<Requeue> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else {
            return Ok(Requeue::Done);
        };
        if let Some(owner) = controller_of(&pod.metadata) {
            if owner.kind != "Job" || crate::common::owners::group_of(&owner.api_version) != "batch" {
                return Ok(Requeue::Done);
            }
            let job = self
                .jobs
                .get(&key.namespace, &owner.name)
                .filter(|j| uid(&j.metadata) == owner.uid);
            if job.is_some_and(|j| !is_ours(&j) || !plan::is_finished(&j)) {
                return Ok(Requeue::Done);
            }
        }
        self.take_finalizer_off(&pod)
            .await
            .context("freeing a pod that has lost its Job")?;
        Ok(Requeue::Done)
    }

    async fn free_all(&self, job: &Job) -> anyhow::Result<()> {
        let held = pods::owned(&self.pods, uid(&job.metadata));
        let held = held
            .into_iter()
            .filter(|p| has_finalizer(&p.metadata, TRACKING))
            .collect();
        batch::each(held, |pod| async move { self.take_finalizer_off(&pod).await })
            .await
            .context("freeing an ended Job's pods")
    }
}
