//! All pods of the node: from their sources to their workers.

use super::{Failure, Handle, Input, View, Worker};
use crate::pods::{PodExt, Uid};
use crate::probes::ProbeCounts;
use crate::resize::store::{self, Promise};
use crate::resize::{self, Allocation, Pending};
use crate::resources::{QosClass, qos};
use crate::runtime::observe::list_pods;
use crate::shared::Shared;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The workers by UID. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Arc<Mutex<HashMap<Uid, Entry>>>,
}

struct Entry {
    handle: Handle,
    task: tokio::task::JoinHandle<Uid>,
    /// The pod as its source has it.
    desired: Arc<Pod>,
    promise: Promise,
}

/// Whether a pod may run here, beside the pods that already do.
pub(crate) type Admit<'a> = &'a (dyn Fn(&Pod, &[Arc<Pod>]) -> Result<(), Failure> + Send + Sync);

impl Pool {
    /// No workers yet.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            workers: Arc::default(),
        }
    }

    /// What the workers share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A pod is there, or has changed.
    pub(crate) fn put(&self, pod: Arc<Pod>, admit: Admit<'_>) {
        let uid = pod.uid();
        let mut workers = self.workers.lock();
        if workers.get(&uid).is_some_and(|e| e.task.is_finished()) {
            // Its worker has left nothing behind; a pod of a static file may come back under the same UID.
            if pod.is_deleting() || !pod.is_static() {
                return;
            }
            workers.remove(&uid);
        }
        if let Some(entry) = workers.get_mut(&uid) {
            entry.desired = pod;
            self.settle(&mut workers, &uid);
            self.retry_resizes(&mut workers);
            return;
        }
        let root = &self.shared.settings.root;
        let known = store::promise(root, &uid);
        let promise = known.clone().unwrap_or_else(|| {
            let asked = Allocation::of(&pod);
            Promise {
                admitted: asked.clone(),
                allocated: asked,
            }
        });
        let desired = pod;
        let pod = promise.allocated.apply(&desired);
        let mut input = Input::new(pod.clone());
        if !input.must_end() && !already_ran(&pod) {
            let others: Vec<Arc<Pod>> = active(&workers);
            if let Err(failure) = admit(&pod, &others) {
                self.shared
                    .event(&pod, true, &failure.reason, failure.message.clone());
                input.failure = Some(failure);
            }
        }
        if known.is_none() && !input.must_end() {
            self.remember(&desired, &promise);
        }
        let (handle, task) = Worker::spawn(self.shared.clone(), input);
        let entry = Entry {
            handle,
            task,
            desired,
            promise,
        };
        workers.insert(uid.clone(), entry);
        self.settle(&mut workers, &uid);
    }

    fn remember(&self, pod: &Pod, promise: &Promise) {
        if let Err(error) = store::save_promise(&self.shared.settings.root, &pod.uid(), promise) {
            tracing::warn!(pod = %pod.full_name(), %error, "remembering what a pod was promised failed");
        }
    }

    /// Hands a worker its pod, with what the node promises it of what it asks for.
    fn settle(&self, workers: &mut HashMap<Uid, Entry>, uid: &Uid) {
        let Some(entry) = workers.get(uid) else { return };
        let input = entry.handle.input.borrow().clone();
        let desired = entry.desired.clone();
        let mut allocated = entry.promise.allocated.apply(&desired);
        let mut pending = None;
        if !Arc::ptr_eq(&allocated, &desired) && !input.must_end() && !desired.is_deleting() {
            let others: Vec<Arc<Pod>> = active(workers).into_iter().filter(|p| p.uid() != *uid).collect();
            match resize::judge(&desired, &allocated, &others, &self.shared.settings.allocatable) {
                Ok(()) => {
                    allocated = desired.clone();
                    self.grant(workers, uid);
                }
                Err(why) => {
                    if input.pending.as_ref().map(Pending::reason) != Some(why.reason())
                        || input.pod.generation() != desired.generation()
                    {
                        let headline = format!("Pod resize {}", why.reason());
                        let text = resize::summary(&headline, &desired, &why.message);
                        let reason = format!("Resize{}", why.reason());
                        self.shared.event(&desired, true, &reason, text);
                    }
                    pending = Some(why);
                }
            }
        }
        if let Some(entry) = workers.get(uid) {
            entry.handle.input.send_modify(|input| {
                input.pod = allocated;
                input.pending = pending;
            });
        }
    }

    /// Promises a pod all that it asks for.
    fn grant(&self, workers: &mut HashMap<Uid, Entry>, uid: &Uid) {
        let Some(entry) = workers.get_mut(uid) else { return };
        entry.promise.allocated = Allocation::of(&entry.desired);
        self.remember(&entry.desired, &entry.promise);
        let text = resize::summary("Pod resize started", &entry.desired, "");
        self.shared.event(&entry.desired, false, "ResizeStarted", text);
    }

    /// Looks again at the resizes that didn't fit: the most important pods first, those with guarantees before others.
    fn retry_resizes(&self, workers: &mut HashMap<Uid, Entry>) {
        let mut waiting: Vec<(std::cmp::Reverse<i32>, bool, Uid)> = workers
            .iter()
            .filter(|(_, e)| {
                let input = e.handle.input.borrow();
                input.pending.as_ref().is_some_and(|p| !p.infeasible) && !input.must_end()
            })
            .map(|(uid, e)| {
                let priority = e.desired.spec().priority.unwrap_or(0);
                let guaranteed = qos(&e.desired) == QosClass::Guaranteed;
                (std::cmp::Reverse(priority), !guaranteed, uid.clone())
            })
            .collect();
        waiting.sort();
        for (_, _, uid) in waiting {
            self.settle(workers, &uid);
        }
    }

    /// A pod is in no source any more.
    pub(crate) fn remove(&self, uid: &Uid) {
        let mut workers = self.workers.lock();
        let finished = match workers.get(uid) {
            Some(entry) => {
                entry.handle.input.send_modify(|input| input.removed = true);
                entry.task.is_finished()
            }
            None => false,
        };
        if finished {
            workers.remove(uid);
        }
        self.retry_resizes(&mut workers);
    }

    /// The mirror of a static pod is there, or gone.
    pub(crate) fn mirror(&self, uid: &Uid, mirror: Option<Arc<Pod>>) {
        if let Some(entry) = self.workers.lock().get(uid) {
            entry.handle.input.send_modify(|input| input.mirror = mirror);
        }
    }

    /// The node gives a pod up.
    pub(crate) fn fail(&self, uid: &Uid, failure: Failure) {
        if let Some(entry) = self.workers.lock().get(uid) {
            entry.handle.input.send_modify(|input| {
                input.failure.get_or_insert(failure);
            });
        }
    }

    /// Something happened to a pod.
    pub(crate) fn wake(&self, uid: &Uid) {
        if let Some(entry) = self.workers.lock().get(uid) {
            entry.handle.wake.notify_one();
        }
    }

    /// An object that a pod uses has changed: its volumes are to be looked at.
    pub(crate) fn wake_for_objects(&self, uid: &Uid) {
        if let Some(entry) = self.workers.lock().get(uid) {
            entry
                .handle
                .objects
                .store(true, std::sync::atomic::Ordering::Relaxed);
            entry.handle.wake.notify_one();
        }
    }

    /// Something happened to all of them.
    pub(crate) fn wake_all(&self) {
        for entry in self.workers.lock().values() {
            entry.handle.wake.notify_one();
        }
    }

    /// A pod with what its worker shows.
    pub(crate) fn get(&self, uid: &Uid) -> Option<(Arc<Pod>, View)> {
        let workers = self.workers.lock();
        let entry = workers.get(uid)?;
        let pod = entry.handle.input.borrow().pod.clone();
        let view = entry.handle.view.lock().clone();
        Some((pod, view))
    }

    /// The pod of that name, the one that isn't over if there are several.
    pub(crate) fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<(Arc<Pod>, View)> {
        let all = self.list();
        let mut found = all.into_iter().filter(|(pod, _)| {
            pod.namespace() == namespace
                && pod.name() == name
                && uid.is_none_or(|u| {
                    pod.uid().as_str() == u || pod.annotation(crate::pods::CONFIG_HASH_ANNOTATION) == Some(u)
                })
        });
        let first = found.next()?;
        Some(if first.1.terminated {
            found.find(|(_, view)| !view.terminated).unwrap_or(first)
        } else {
            first
        })
    }

    /// All pods.
    pub(crate) fn list(&self) -> Vec<(Arc<Pod>, View)> {
        let workers = self.workers.lock();
        workers
            .values()
            .map(|e| (e.handle.input.borrow().pod.clone(), e.handle.view.lock().clone()))
            .collect()
    }

    /// How the probes of all pods went.
    pub(crate) fn probe_counts(&self) -> Vec<(Arc<Pod>, ProbeCounts)> {
        let workers = self.workers.lock();
        workers
            .values()
            .map(|e| (e.handle.input.borrow().pod.clone(), e.handle.probed.clone()))
            .collect()
    }

    /// Pods that use the node's resources.
    pub(crate) fn active(&self) -> Vec<Arc<Pod>> {
        active(&self.workers.lock())
    }

    /// Whether nothing is left of a pod.
    pub(crate) fn is_done(&self, uid: &Uid) -> bool {
        self.workers.lock().get(uid).is_none_or(|e| e.task.is_finished())
    }

    /// Forgets workers that are done and whose pods are in no source.
    pub(crate) fn sweep(&self, known: &HashSet<Uid>) {
        self.workers
            .lock()
            .retain(|uid, entry| !entry.task.is_finished() || known.contains(uid));
    }

    /// The UIDs that have workers.
    pub(crate) fn uids(&self) -> HashSet<Uid> {
        self.workers.lock().keys().cloned().collect()
    }

    /// Ends what runs for pods that no source knows: left over from before a restart.
    pub(crate) async fn end_orphans(&self) {
        let found = match list_pods(&self.shared.cri).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "listing the container runtime's pods failed");
                return;
            }
        };
        let known = self.uids();
        for (uid, (pod, _)) in found {
            if known.contains(&uid) {
                continue;
            }
            tracing::info!(%uid, pod = %pod.name, namespace = %pod.namespace, "ending a pod that is in no source any more");
            let mut object = Pod::default();
            object.metadata.uid = Some(uid.to_string());
            object.metadata.name = Some(pod.name);
            object.metadata.namespace = Some(pod.namespace);
            let desired = Arc::new(object);
            let input = Input {
                removed: true,
                ..Input::new(desired.clone())
            };
            let mut workers = self.workers.lock();
            workers.entry(uid).or_insert_with(|| {
                let (handle, task) = Worker::spawn(self.shared.clone(), input);
                Entry {
                    handle,
                    task,
                    desired,
                    promise: Promise::default(),
                }
            });
        }
        let known = self.uids();
        let shared = self.shared.clone();
        let cleaning = tokio::task::spawn_blocking(move || clean_leftovers(&shared, &known));
        let _ = cleaning.await;
    }
}

/// Removes folders and cgroups of pods that are neither known nor running.
fn clean_leftovers(shared: &Shared, known: &HashSet<Uid>) {
    for entry in std::fs::read_dir(shared.settings.root.join("pods"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let uid = Uid::new(&entry.file_name().to_string_lossy());
        if !known.contains(&uid)
            && let Err(error) = shared.volumes.tear_down(&uid)
        {
            tracing::warn!(%uid, %error, "taking an orphaned pod's volumes down failed");
        }
    }
    for (uid, class) in shared.cgroups.pods() {
        if !known.contains(&uid)
            && let Err(error) = shared.cgroups.remove(&shared.cgroups.pod(&uid, class))
        {
            tracing::debug!(%uid, %error, "removing an orphaned pod's cgroup failed");
        }
    }
}

fn active(workers: &HashMap<Uid, Entry>) -> Vec<Arc<Pod>> {
    workers
        .values()
        .filter(|e| !e.handle.view.lock().terminated)
        .map(|e| e.handle.input.borrow().clone())
        .filter(|input| input.failure.is_none() && !input.removed && !input.pod.is_terminal())
        .map(|input| input.pod)
        .collect()
}

/// Whether a pod was let in before: a restart of the kubelet doesn't judge it again.
fn already_ran(pod: &Pod) -> bool {
    pod.status()
        .container_statuses
        .iter()
        .flatten()
        .any(|s| s.container_id.is_some())
}
