//! One worker per pod, keyed by UID: it runs alone for its pod, from the first sync to the removal of the last trace.
//!
//! ```text
//! Syncing ──(deleted, failed, finished)──> Terminating ──(nothing runs)──> Terminated ──(object gone)──> end
//! ```
//! A worker holds no state that it couldn't find again in the runtime and the apiserver after a restart, except delays.

pub(crate) mod kill;
pub(crate) mod pool;
pub(crate) mod resize;
pub(crate) mod start;
pub(crate) mod sync;

use crate::plan::ProbeResults;
use crate::pods::{PodExt, Uid};
use crate::probes::{ProbeCounts, Probes};
use crate::resize::{Allocation, Pending, store};
use crate::runtime::observe::observe;
use crate::runtime::observed::Observed;
use crate::shared::Shared;
use crate::status::containers::Reasons;
use crate::status::generate::{ResizeState, StatusInputs, pod_status};
use crate::status::writer::StatusWriter;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// A verdict that ends a pod: reason and message of its Failed phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) message: String,
    /// The grace for its containers, when not the pod's own.
    pub(crate) grace: Option<i64>,
    /// Whether the pod never got to run here.
    pub(crate) rejected: bool,
    /// A DisruptionTarget condition to add: reason and message.
    pub(crate) disruption: Option<(String, String)>,
}

/// What a worker is told.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// The pod to run, with the resources that it was promised.
    pub(crate) pod: Arc<Pod>,
    /// Why it wasn't promised what it asks for, if it wasn't.
    pub(crate) pending: Option<Pending>,
    /// For a static pod: its mirror in the apiserver, if there is one.
    pub(crate) mirror: Option<Arc<Pod>>,
    /// The pod is in no source any more.
    pub(crate) removed: bool,
    /// The node has given the pod up.
    pub(crate) failure: Option<Failure>,
}

impl Input {
    /// A pod to run as it is.
    pub(crate) fn new(pod: Arc<Pod>) -> Self {
        Self {
            pod,
            pending: None,
            mirror: None,
            removed: false,
            failure: None,
        }
    }

    pub(crate) fn must_end(&self) -> bool {
        self.removed || self.failure.is_some() || self.pod.is_deleting() || self.pod.is_terminal()
    }

    /// The object in the apiserver that shows this pod.
    fn object(&self) -> Option<Arc<Pod>> {
        if self.pod.is_static() {
            self.mirror.clone()
        } else {
            Some(self.pod.clone())
        }
    }
}

/// What the rest of the kubelet may ask of a worker.
pub(crate) struct Handle {
    pub(crate) input: watch::Sender<Input>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) view: Arc<Mutex<View>>,
    /// Set when an object that the pod uses has changed.
    pub(crate) objects: Arc<AtomicBool>,
    /// How its probes went.
    pub(crate) probed: ProbeCounts,
}

/// What a worker lets others see.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) observed: Observed,
    pub(crate) status: PodStatus,
    pub(crate) probes: ProbeResults,
    /// No container runs and none will.
    pub(crate) terminated: bool,
}

/// The worker of one pod.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) uid: Uid,
    pub(crate) input: watch::Receiver<Input>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) view: Arc<Mutex<View>>,
    pub(crate) reasons: Reasons,
    pub(crate) probes: Probes,
    pub(crate) writer: StatusWriter,
    pub(crate) objects: Arc<AtomicBool>,
    pub(crate) volumes_at: Option<tokio::time::Instant>,
    /// The pod that the volumes were made for last.
    pub(crate) volumes_for: Option<Arc<Pod>>,
    pub(crate) mounted: Option<crate::volumes::MountedVolumes>,
    /// How often syncing has failed in a row.
    pub(crate) failures: u32,
    /// The resources that were applied last.
    pub(crate) actuated: Allocation,
    /// Whether a resize was under way at the last sync, and what went wrong with it.
    pub(crate) resizing: bool,
    pub(crate) resize_error: Option<String>,
    /// How long images took so far, and whether the pod's start was counted.
    pub(crate) pulling: Duration,
    pub(crate) counted: bool,
    /// The last complaint about the network, so that it is made once.
    pub(crate) complained: bool,
}

/// What a sync comes to.
pub(crate) enum Next {
    /// Sync again at the latest after this time.
    In(Duration),
    /// The pod is done: nothing of it will be started again.
    Ended,
    /// The pod must end with this verdict.
    Failed(Failure),
}

impl Worker {
    /// Starts a worker.
    pub(crate) fn spawn(shared: Arc<Shared>, input: Input) -> (Handle, tokio::task::JoinHandle<Uid>) {
        let uid = input.pod.uid();
        let wake = Arc::new(Notify::new());
        let view = Arc::new(Mutex::new(View::default()));
        let probes = Probes::new(shared.cri.clone(), shared.recorder.clone(), wake.clone());
        let probed = probes.counts();
        let writer = StatusWriter::start(shared.client.clone());
        let objects = Arc::new(AtomicBool::new(false));
        let actuated =
            store::actuated(&shared.settings.root, &uid).unwrap_or_else(|| Allocation::of(&input.pod));
        let (sender, receiver) = watch::channel(input);
        let worker = Self {
            shared,
            uid,
            input: receiver,
            wake: wake.clone(),
            view: view.clone(),
            reasons: Reasons::new(),
            probes,
            writer,
            objects: objects.clone(),
            volumes_at: None,
            volumes_for: None,
            actuated,
            resizing: false,
            resize_error: None,
            pulling: Duration::ZERO,
            counted: false,
            mounted: None,
            failures: 0,
            complained: false,
        };
        (
            Handle {
                input: sender,
                wake,
                view,
                objects,
                probed,
            },
            tokio::spawn(worker.run()),
        )
    }

    async fn run(mut self) -> Uid {
        let failure = self.run_until_end().await;
        self.terminate(failure).await;
        self.uid
    }

    /// Syncs until the pod has to end, and returns the verdict if there is one.
    async fn run_until_end(&mut self) -> Option<Failure> {
        loop {
            let input = self.input.borrow_and_update().clone();
            if let Some(object) = input.object() {
                self.writer.object(object);
            }
            if input.must_end() {
                return input.failure;
            }
            let mut ending = self.input.clone();
            let next = tokio::select! {
                biased;
                next = self.timed_sync(&input) => next,
                // A sync may wait for a pull or a hook; the end of the pod doesn't wait for it.
                _ = ending.wait_for(Input::must_end) => continue,
            };
            match next {
                Next::Ended => return None,
                Next::Failed(failure) => return Some(failure),
                Next::In(delay) => {
                    let mut input = self.input.clone();
                    tokio::select! {
                        _ = input.changed() => {}
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(delay) => {}
                    }
                }
            }
        }
    }

    async fn timed_sync(&mut self, input: &Input) -> Next {
        let began = std::time::Instant::now();
        let next = self.sync(input).await;
        if let Some(metrics) = crate::metrics::get() {
            let took = began.elapsed().as_secs_f64();
            metrics.sync.with_label_values(&["sync"]).observe(took);
        }
        next
    }

    /// Counts the time that a pod took to run, once.
    fn count_start(&mut self, pod: &Pod, status: &PodStatus) {
        if self.counted || status.phase.as_deref() != Some("Running") {
            return;
        }
        self.counted = true;
        // One that ran before this kubelet began tells nothing.
        if pod.status().phase.as_deref() != Some("Pending") {
            return;
        }
        if let (Some(metrics), Some(created)) = (crate::metrics::get(), &pod.metadata.creation_timestamp) {
            let total = Timestamp::now().duration_since(created.0).as_secs_f64().max(0.0);
            metrics.start_total.observe(total);
            metrics
                .start_sli
                .observe((total - self.pulling.as_secs_f64()).max(0.0));
        }
    }

    /// What the runtime shows now; the view is kept when it can't be asked.
    pub(crate) async fn look(&self) -> Result<Observed, crate::runtime::cri::CriError> {
        let observed = observe(&self.shared.cri, &self.uid).await?;
        self.view.lock().observed = observed.clone();
        Ok(observed)
    }

    /// Makes the pod's status and hands it to the writer.
    pub(crate) fn publish(
        &mut self,
        input: &Input,
        observed: &Observed,
        ended: bool,
        failure: Option<&Failure>,
    ) -> PodStatus {
        let object = input.object();
        // A pod that was over before this kubelet began is as it was reported then.
        let untold = self.view.lock().status.phase.is_none();
        if untold && input.pod.is_terminal() && failure.is_none() && observed.is_stopped() {
            let status = input.pod.status().clone();
            self.view.lock().status = status.clone();
            if let Some(object) = object {
                self.writer.object(object);
            }
            return status;
        }
        let previous = {
            let view = self.view.lock();
            if view.status.phase.is_some() {
                view.status.clone()
            } else {
                input.pod.status().clone()
            }
        };
        let host_ips = self.shared.host_ips();
        let probes = self.probes.results();
        let inputs = StatusInputs {
            previous: &previous,
            reasons: &self.reasons,
            probes: &probes,
            ended,
            failed: failure.map(|f| (f.reason.as_str(), f.message.as_str())),
            host_ips: &host_ips,
            resize: ResizeState {
                actuated: Some(&self.actuated),
                pending: input.pending.as_ref(),
                error: self.resize_error.as_deref(),
            },
            runtime: &self.shared.settings.runtime_name,
            now: Timestamp::now(),
        };
        let mut status = if failure.is_some_and(|f| f.rejected) {
            rejected_status(&input.pod, failure)
        } else {
            pod_status(&input.pod, observed, &inputs)
        };
        self.count_start(&input.pod, &status);
        if let Some((reason, message)) = failure.and_then(|f| f.disruption.as_ref()) {
            add_disruption(&mut status, &input.pod, reason, message);
        }
        {
            let mut view = self.view.lock();
            view.status = status.clone();
            view.probes = probes;
        }
        if let Some(object) = object {
            self.writer.object(object);
            self.writer.set(status.clone());
        }
        status
    }
}

/// The status of a pod that never got to run.
fn rejected_status(pod: &Pod, failure: Option<&Failure>) -> PodStatus {
    let failure = failure.cloned();
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: failure.as_ref().map(|f| f.reason.clone()),
        message: failure.map(|f| f.message),
        qos_class: Some(crate::resources::qos(pod).as_str().to_owned()),
        start_time: pod
            .status()
            .start_time
            .clone()
            .or_else(|| Some(crate::pods::api_time(Timestamp::now()))),
        observed_generation: pod.generation(),
        ..PodStatus::default()
    }
}

fn add_disruption(status: &mut PodStatus, pod: &Pod, reason: &str, message: &str) {
    let list = status.conditions.get_or_insert_default();
    if list
        .iter()
        .any(|c| c.type_ == "DisruptionTarget" && c.status == "True")
    {
        return;
    }
    list.retain(|c| c.type_ != "DisruptionTarget");
    list.push(k8s_openapi::api::core::v1::PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(crate::pods::api_time(Timestamp::now())),
        observed_generation: pod.generation(),
        ..Default::default()
    });
}
