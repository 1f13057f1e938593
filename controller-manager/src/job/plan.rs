//! Decides what a Job does next.
//!
//! Ended pods are counted exactly once, although a status write and a pod's removal can't be one transaction: an ended pod carries a finalizer;
//! first its UID goes into the Job's status as "uncounted", then the finalizer comes off, then the UID is exchanged for a count. A crash in between
//! loses and repeats nothing. For indexed Jobs the index itself is that memory for successes.

use super::indexes::{self, FAILURES, IGNORED_FAILURES, INDEX};
use super::policy::{self, Failure};
use crate::common::owners::{has_finalizer, name, uid};
use crate::common::pods::{is_active, is_deleting, is_ready, is_terminating, phase, sort_for_deletion};
use crate::common::time::{time, until};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use rutter_client::events::EventType;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// The finalizer of pods that are not counted yet.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const MAX_UNCOUNTED: usize = 500;
const MAX_PODS_PER_STEP: usize = 500;
const BACKOFF: SignedDuration = SignedDuration::from_secs(10);
const MAX_BACKOFF: SignedDuration = SignedDuration::from_secs(600);

/// What a Job is decided from.
pub struct Snapshot<'a> {
    /// The Job.
    pub job: &'a Job,
    /// The pods that it owns.
    pub pods: &'a [Arc<Pod>],
    /// Pods whose finalizer is off although the store still shows it.
    pub released: &'a HashSet<String>,
    /// Whether the pods are known to be current.
    pub trusted: bool,
}

/// A pod to create.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewPod {
    /// Its index.
    pub index: Option<i32>,
    /// How often the index failed before, counted and not counted.
    pub failures: Option<(i32, i32)>,
}

/// What to do: create and delete, write the status, take the finalizers off, and write the final status.
#[derive(Debug, Default)]
pub struct Plan {
    /// Pods to create.
    pub create: Vec<NewPod>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Whether the deleted pods were surplus: their finalizers come off first, so that they don't count as failed.
    pub surplus: bool,
    /// The status to write before finalizers come off.
    pub status: JobStatus,
    /// Pods whose finalizers come off then.
    pub release: Vec<Arc<Pod>>,
    /// The condition that ends the Job when nothing is left to count.
    pub finished: Option<JobCondition>,
    /// Things to tell.
    pub events: Vec<(EventType, String, String)>,
    /// Look again after this time.
    pub again: Option<Duration>,
}

/// A condition of a Job that is true.
pub fn true_condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind && c.status == "True")
}

/// Whether the Job has ended.
pub fn is_finished(job: &Job) -> bool {
    job.status
        .as_ref()
        .is_some_and(|s| true_condition(s, "Complete").is_some() || true_condition(s, "Failed").is_some())
}

/// Whether its pods have indexes.
pub fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

fn new_condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    }
}

struct Work<'a> {
    snapshot: &'a Snapshot<'a>,
    spec: &'a JobSpec,
    completions: i32,
    active: Vec<Arc<Pod>>,
    uncounted: UncountedTerminatedPods,
    succeeded_indexes: BTreeSet<i32>,
    failed_indexes: Option<BTreeSet<i32>>,
    succeeded: i32,
    failed: i32,
    now: Timestamp,
    plan: Plan,
}

/// Decides the next step of a Job that has not ended.
pub fn plan(snapshot: &Snapshot<'_>, now: Timestamp) -> Plan {
    let empty = JobSpec::default();
    let spec = snapshot.job.spec.as_ref().unwrap_or(&empty);
    let status = snapshot.job.status.clone().unwrap_or_default();
    let mut work = Work {
        snapshot,
        spec,
        completions: spec.completions.unwrap_or(0),
        active: snapshot.pods.iter().filter(|p| is_active(p)).cloned().collect(),
        uncounted: status.uncounted_terminated_pods.clone().unwrap_or_default(),
        succeeded_indexes: BTreeSet::new(),
        failed_indexes: None,
        succeeded: 0,
        failed: 0,
        now,
        plan: Plan {
            status,
            ..Plan::default()
        },
    };
    work.count();
    let outcome = work.outcome();
    let finished = work.manage(outcome);
    work.track(finished);
    work.plan
}

impl Work<'_> {
    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn replaces_only_failed(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
    }

    fn is_failed(&self, pod: &Pod) -> bool {
        phase(pod) == "Failed"
            || (!self.replaces_only_failed() && is_deleting(pod) && phase(pod) != "Succeeded")
    }

    /// Whether the pod is still to be counted.
    fn is_tracked(&self, pod: &Pod) -> bool {
        has_finalizer(&pod.metadata, TRACKING) && !self.snapshot.released.contains(uid(&pod.metadata))
    }

    fn is_uncounted(&self, pod: &Pod) -> bool {
        let id = uid(&pod.metadata);
        self.uncounted
            .succeeded
            .iter()
            .chain(&self.uncounted.failed)
            .flatten()
            .any(|u| u == id)
    }

    fn in_range(&self, pod: &Pod) -> bool {
        !is_indexed(self.spec) || indexes::of(pod).is_some_and(|i| i < self.completions)
    }

    fn counts(&self, pod: &Pod) -> bool {
        policy::failure(self.snapshot.job, pod) != Failure::Ignore
    }

    fn count(&mut self) {
        let fresh: Vec<&Arc<Pod>> = self
            .snapshot
            .pods
            .iter()
            .filter(|p| self.is_tracked(p) && !self.is_uncounted(p))
            .collect();
        let some = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len) as i32;
        let succeeded = fresh.iter().filter(|p| phase(p) == "Succeeded").count() as i32;
        let failed = fresh
            .iter()
            .filter(|p| self.is_failed(p) && self.in_range(p) && self.counts(p))
            .count() as i32;
        self.failed = self.plan.status.failed.unwrap_or(0) + some(&self.uncounted.failed) + failed;
        if !is_indexed(self.spec) {
            self.succeeded =
                self.plan.status.succeeded.unwrap_or(0) + some(&self.uncounted.succeeded) + succeeded;
            return;
        }
        let mut indexes = indexes::parse(
            self.plan.status.completed_indexes.as_deref().unwrap_or_default(),
            self.completions,
        );
        let done = self
            .snapshot
            .pods
            .iter()
            .filter(|p| phase(p) == "Succeeded" && self.is_tracked(p));
        indexes.extend(
            done.filter_map(|p| indexes::of(p))
                .filter(|i| *i < self.completions),
        );
        self.succeeded = indexes.len() as i32;
        self.succeeded_indexes = indexes;
        if let Some(limit) = self.spec.backoff_limit_per_index {
            let mut failed = indexes::parse(
                self.plan.status.failed_indexes.as_deref().unwrap_or_default(),
                self.completions,
            );
            for pod in self
                .snapshot
                .pods
                .iter()
                .filter(|p| self.is_tracked(p) && self.is_failed(p))
            {
                let Some(index) = indexes::of(pod).filter(|i| *i < self.completions) else {
                    continue;
                };
                let action = policy::failure(self.snapshot.job, pod);
                let over = action != Failure::Ignore && indexes::count(pod, FAILURES) >= limit;
                if over || action == Failure::FailIndex {
                    failed.insert(index);
                }
            }
            self.failed_indexes = Some(failed);
        }
    }

    /// Whether the Job's fate is decided: by an earlier step's word, a policy, a limit or the clock.
    fn outcome(&mut self) -> Option<JobCondition> {
        for kind in ["SuccessCriteriaMet", "FailureTarget"] {
            if let Some(earlier) = true_condition(&self.plan.status, kind) {
                return Some(earlier.clone());
            }
        }
        let now = self.now;
        let failed = |reason: &str, message: &str| Some(new_condition("FailureTarget", reason, message, now));
        for pod in self.snapshot.pods.iter().filter(|p| self.is_failed(p)) {
            if let Failure::FailJob(message) = policy::failure(self.snapshot.job, pod) {
                return failed("PodFailurePolicy", &message);
            }
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.failed > limit || self.restarted_too_often(limit) {
            return failed(
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            );
        }
        if let (Some(deadline), false) = (self.spec.active_deadline_seconds, self.suspended()) {
            let left = self
                .plan
                .status
                .start_time
                .as_ref()
                .map(|start| until(start, deadline, self.now));
            if left.is_some_and(|l| l.is_zero()) {
                return failed(
                    "DeadlineExceeded",
                    "Job was active longer than specified deadline",
                );
            }
            self.look_again(left.unwrap_or(Duration::from_secs(deadline.unsigned_abs())));
        }
        if let Some(indexes) = &self.failed_indexes {
            if self
                .spec
                .max_failed_indexes
                .is_some_and(|max| indexes.len() as i32 > max)
            {
                return failed(
                    "MaxFailedIndexesExceeded",
                    "Job has exceeded the specified maximal number of failed indexes",
                );
            }
            if !indexes.is_empty()
                && indexes.union(&self.succeeded_indexes).count() as i32 >= self.completions
            {
                return failed("FailedIndexes", "Job has failed indexes");
            }
        }
        if is_indexed(self.spec)
            && let Some(message) =
                policy::success(self.snapshot.job, self.completions, &self.succeeded_indexes)
        {
            return Some(new_condition(
                "SuccessCriteriaMet",
                "SuccessPolicy",
                &message,
                self.now,
            ));
        }
        None
    }

    fn restarted_too_often(&self, limit: i32) -> bool {
        if self
            .spec
            .template
            .spec
            .as_ref()
            .and_then(|s| s.restart_policy.as_deref())
            != Some("OnFailure")
        {
            return false;
        }
        let restarts: i32 = self
            .snapshot
            .pods
            .iter()
            .filter(|p| matches!(phase(p), "Running" | "Pending"))
            .flat_map(|p| p.status.iter())
            .flat_map(|s| {
                s.container_statuses
                    .iter()
                    .chain(&s.init_container_statuses)
                    .flatten()
            })
            .map(|c| c.restart_count)
            .sum();
        if limit == 0 {
            restarts > 0
        } else {
            restarts >= limit
        }
    }

    fn look_again(&mut self, after: Duration) {
        self.plan.again = Some(self.plan.again.map_or(after, |a| a.min(after)));
    }

    /// Creates and deletes pods, and fills in what they come to.
    fn manage(&mut self, outcome: Option<JobCondition>) -> Option<JobCondition> {
        let terminating = self.snapshot.pods.iter().filter(|p| is_terminating(p)).count() as i32;
        let mut ready = self.active.iter().filter(|p| is_ready(p)).count() as i32;
        let mut active = self.active.len() as i32;
        let mut finished = outcome;
        let deleting = self.snapshot.job.metadata.deletion_timestamp.is_some();
        if self.plan.status.start_time.is_none() && !self.suspended() {
            self.plan.status.start_time = Some(time(self.now));
        }
        if finished.is_some() {
            self.plan.delete = self.active.clone();
            if !self.snapshot.trusted {
                // Pods that are not seen yet might outlive the Job.
                finished = None;
            }
        } else {
            if self.snapshot.trusted && !deleting {
                self.adjust(terminating);
            }
            active += self.plan.create.len() as i32;
            let complete = match self.spec.completions {
                None => self.succeeded > 0 && active == self.plan.delete.len() as i32,
                Some(completions) => self.succeeded >= completions && active == self.plan.delete.len() as i32,
            };
            if complete {
                let message = "Reached expected number of succeeded pods";
                finished = Some(new_condition(
                    "SuccessCriteriaMet",
                    "CompletionsReached",
                    message,
                    self.now,
                ));
            } else if self.snapshot.trusted && !deleting {
                self.note_suspension();
            }
        }
        let removed = self.plan.delete.len() as i32;
        ready -= self.plan.delete.iter().filter(|p| is_ready(p)).count() as i32;
        self.plan.status.active = Some(active - removed).filter(|n| *n != 0);
        self.plan.status.ready = Some(ready);
        self.plan.status.terminating = Some(terminating + removed);
        finished
    }

    fn note_suspension(&mut self) {
        let suspended = self.suspended();
        let (value, reason, message) = if self.suspended() {
            ("True", "JobSuspended", "Job suspended")
        } else {
            ("False", "JobResumed", "Job resumed")
        };
        let current = self
            .plan
            .status
            .conditions
            .iter_mut()
            .flatten()
            .find(|c| c.type_ == "Suspended");
        let new = JobCondition {
            status: value.to_owned(),
            ..new_condition("Suspended", reason, message, self.now)
        };
        match current {
            Some(current) if current.status == value => return,
            Some(current) => *current = new,
            None if !suspended => return,
            None => self.plan.status.conditions.get_or_insert_default().push(new),
        }
        let reason = if self.suspended() { "Suspended" } else { "Resumed" };
        self.plan.status.start_time = (!self.suspended()).then(|| time(self.now));
        self.plan
            .events
            .push((EventType::Normal, reason.to_owned(), message.to_owned()));
    }

    /// Brings the number of running pods to what is wanted.
    fn adjust(&mut self, terminating: i32) {
        let active = self.active.len() as i32;
        if self.suspended() {
            self.plan.surplus = true;
            self.plan.delete = self.active.iter().take(MAX_PODS_PER_STEP).cloned().collect();
            return;
        }
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let wanted = match self.spec.completions {
            None if self.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => {
                let failed = self.failed_indexes.as_ref().map_or(0, BTreeSet::len) as i32;
                (completions - self.succeeded - failed).clamp(0, parallelism.max(0))
            }
        };
        self.plan.surplus = true;
        self.plan.delete = self.surplus(usize::try_from(active - wanted).unwrap_or(0));
        if !self.plan.delete.is_empty() {
            return;
        }
        let mut missing = wanted - active;
        if self.replaces_only_failed() {
            missing -= terminating;
        }
        let missing = usize::try_from(missing).unwrap_or(0).min(MAX_PODS_PER_STEP);
        if missing == 0 {
            return;
        }
        if self.spec.backoff_limit_per_index.is_none() {
            let pause = backoff(
                self.snapshot
                    .pods
                    .iter()
                    .filter(|p| self.is_failed(p) || phase(p) == "Succeeded"),
                self.now,
            );
            if !pause.is_zero() {
                return self.look_again(pause);
            }
        }
        self.plan.create = if is_indexed(self.spec) {
            self.pending_indexes(missing)
        } else {
            vec![NewPod::default(); missing]
        };
    }

    /// Pods too many: of a finished or repeated index first, then the least useful ones.
    fn surplus(&self, at_least: usize) -> Vec<Arc<Pod>> {
        let mut active = self.active.clone();
        sort_for_deletion(&mut active, &self.active, self.now);
        if !is_indexed(self.spec) {
            active.truncate(at_least.min(MAX_PODS_PER_STEP));
            return active;
        }
        let mut seen = BTreeSet::new();
        // The most useful pod of an index stays.
        let (keep, mut remove): (Vec<_>, Vec<_>) = active.into_iter().rev().partition(|pod| {
            indexes::of(pod).is_some_and(|i| {
                let done = self.succeeded_indexes.contains(&i)
                    || self.failed_indexes.as_ref().is_some_and(|f| f.contains(&i));
                i < self.completions && !done && seen.insert(i)
            })
        });
        let more = at_least.saturating_sub(remove.len());
        remove.extend(keep.into_iter().rev().take(more));
        remove.truncate(MAX_PODS_PER_STEP);
        remove
    }

    fn pending_indexes(&mut self, count: usize) -> Vec<NewPod> {
        let mut taken: BTreeSet<i32> = self.active.iter().filter_map(|p| indexes::of(p)).collect();
        if self.replaces_only_failed() {
            taken.extend(
                self.snapshot
                    .pods
                    .iter()
                    .filter(|p| is_terminating(p))
                    .filter_map(|p| indexes::of(p)),
            );
        }
        let failed = self.failed_indexes.clone().unwrap_or_default();
        let free = (0..self.completions)
            .filter(|i| !taken.contains(i) && !self.succeeded_indexes.contains(i) && !failed.contains(i));
        let free: Vec<i32> = free.collect();
        let mut pods = Vec::new();
        for index in free {
            if pods.len() == count {
                break;
            }
            let mut pod = NewPod {
                index: Some(index),
                failures: None,
            };
            if self.spec.backoff_limit_per_index.is_some() {
                let last = self.last_failed(index);
                let pause = backoff_for(
                    last.as_ref().map_or(0, |p| 1 + total_failures(p)),
                    last.as_deref().and_then(ended_at),
                    self.now,
                );
                if !pause.is_zero() {
                    self.look_again(pause);
                    continue;
                }
                pod.failures = Some(last.map_or((0, 0), |p| {
                    let (counted, ignored) =
                        (indexes::count(&p, FAILURES), indexes::count(&p, IGNORED_FAILURES));
                    if self.counts(&p) {
                        (counted + 1, ignored)
                    } else {
                        (counted, ignored + 1)
                    }
                }));
            }
            pods.push(pod);
        }
        pods
    }

    fn last_failed(&self, index: i32) -> Option<Arc<Pod>> {
        let of_index = self
            .snapshot
            .pods
            .iter()
            .filter(|p| indexes::of(p) == Some(index) && self.is_failed(p));
        of_index.max_by_key(|p| total_failures(p)).cloned()
    }

    /// Whether a failed pod must stay until its successor has inherited its count of failures.
    fn has_an_heir(&self, pod: &Pod) -> bool {
        let Some(index) = indexes::of(pod) else {
            return true;
        };
        let closed = self.failed_indexes.as_ref().is_some_and(|f| f.contains(&index))
            || self.succeeded_indexes.contains(&index);
        closed
            || self
                .snapshot
                .pods
                .iter()
                .any(|p| indexes::of(p) == Some(index) && total_failures(p) > total_failures(pod))
    }

    /// Puts ended pods into the status, and says whose finalizers come off.
    fn track(&mut self, finished: Option<JobCondition>) {
        let tracked: BTreeSet<&str> = self
            .snapshot
            .pods
            .iter()
            .filter(|p| self.is_tracked(p))
            .map(|p| uid(&p.metadata))
            .collect();
        let status = counted(&self.plan.status, &|id| !tracked.contains(id));
        self.plan.status = status;
        let mut uncounted = self
            .plan
            .status
            .uncounted_terminated_pods
            .clone()
            .unwrap_or_default();
        let closing = finished.is_some() || self.snapshot.job.metadata.deletion_timestamp.is_some();
        let failing = finished.as_ref().is_some_and(|f| f.type_ == "FailureTarget");
        let snapshot = self.snapshot;
        let pods: Vec<&Arc<Pod>> = snapshot.pods.iter().filter(|p| self.is_tracked(p)).collect();
        for pod in pods {
            let (done, failed) = (phase(pod) == "Succeeded", self.is_failed(pod));
            let heir = self.spec.backoff_limit_per_index.is_none() || self.has_an_heir(pod);
            if !(closing || done || (failed && heir)) {
                continue;
            }
            self.plan.release.push(pod.clone());
            let id = uid(&pod.metadata).to_owned();
            if self.is_uncounted(pod) {
                continue;
            }
            if done && !is_indexed(self.spec) {
                uncounted.succeeded.get_or_insert_default().push(id);
            } else if !done && (failed || failing) && self.in_range(pod) && self.counts(pod) {
                uncounted.failed.get_or_insert_default().push(id);
            }
            let waiting = uncounted.succeeded.as_ref().map_or(0, Vec::len)
                + uncounted.failed.as_ref().map_or(0, Vec::len);
            if waiting >= MAX_UNCOUNTED {
                break;
            }
        }
        if is_indexed(self.spec) {
            self.plan.status.succeeded = Some(self.succeeded).filter(|n| *n != 0);
            self.plan.status.completed_indexes =
                Some(indexes::format(&self.succeeded_indexes)).filter(|t| !t.is_empty());
            self.plan.status.failed_indexes = self.failed_indexes.as_ref().map(indexes::format);
        }
        self.plan.status.uncounted_terminated_pods = Some(uncounted);
        let Some(interim) = finished else { return };
        if true_condition(&self.plan.status, &interim.type_).is_none() {
            self.plan
                .status
                .conditions
                .get_or_insert_default()
                .push(interim.clone());
        }
        let kind = if interim.type_ == "FailureTarget" {
            "Failed"
        } else {
            "Complete"
        };
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        self.plan.finished = Some(new_condition(
            kind,
            &text(&interim.reason),
            &text(&interim.message),
            self.now,
        ));
    }
}

fn total_failures(pod: &Pod) -> i32 {
    indexes::count(pod, FAILURES) + indexes::count(pod, IGNORED_FAILURES)
}

/// When a pod ended, as well as it can be told.
fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let finished = containers
        .filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
        .map(|t| t.0)
        .max();
    let ready = || {
        crate::common::pods::condition(pod, "Ready")?
            .last_transition_time
            .as_ref()
            .map(|t| t.0)
    };
    finished
        .or_else(ready)
        .or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|t| t.0))
}

fn backoff_for(failures: i32, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let (Some(last), 1..) = (last, failures) else {
        return Duration::ZERO;
    };
    let doubled = BACKOFF.checked_mul(
        1_i32
            .checked_shl((failures - 1).unsigned_abs().min(16))
            .unwrap_or(i32::MAX),
    );
    let pause = doubled.unwrap_or(MAX_BACKOFF).min(MAX_BACKOFF);
    Duration::try_from(pause - now.duration_since(last)).unwrap_or_default()
}

/// How long to wait before replacing failed pods: doubled for each failure since the last success.
fn backoff<'a>(ended: impl Iterator<Item = &'a Arc<Pod>>, now: Timestamp) -> Duration {
    let mut ended: Vec<(Option<Timestamp>, bool)> =
        ended.map(|p| (ended_at(p), phase(p) == "Succeeded")).collect();
    ended.sort();
    let failures = ended.iter().rev().take_while(|(_, succeeded)| !succeeded).count();
    backoff_for(
        i32::try_from(failures).unwrap_or(i32::MAX),
        ended.last().and_then(|e| e.0),
        now,
    )
}

/// The status after finalizers came off: the UIDs for which `gone` holds become counts.
pub fn counted(status: &JobStatus, gone: &dyn Fn(&str) -> bool) -> JobStatus {
    let mut status = status.clone();
    let mut uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
    for (list, count) in [
        (&mut uncounted.succeeded, &mut status.succeeded),
        (&mut uncounted.failed, &mut status.failed),
    ] {
        let before = list.as_ref().map_or(0, Vec::len);
        if let Some(list) = list {
            list.retain(|id| !gone(id));
        }
        let left = list.as_ref().map_or(0, Vec::len);
        if before > left {
            *count = Some(count.unwrap_or(0) + (before - left) as i32);
        }
        if left == 0 {
            *list = None;
        }
    }
    status.uncounted_terminated_pods = Some(uncounted);
    status
}

/// Ends the Job when nothing is left to count and no pod is left; says whether it did.
pub fn finish(status: &mut JobStatus, finished: &JobCondition) -> bool {
    let uncounted = status.uncounted_terminated_pods.as_ref();
    let waiting = uncounted.is_some_and(|u| u.succeeded.iter().chain(&u.failed).any(|l| !l.is_empty()));
    if waiting || status.terminating.unwrap_or(0) > 0 || status.active.unwrap_or(0) > 0 {
        return false;
    }
    if finished.type_ == "Complete" {
        status.completion_time.clone_from(&finished.last_transition_time);
    }
    status.ready = Some(0);
    status.conditions.get_or_insert_default().push(finished.clone());
    true
}

/// The pod for a Job, from its template; for an indexed Job with the index in its name, labels, annotations, environment and host name.
pub fn new_pod(
    job: &Job,
    new: NewPod,
    reference: k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference,
) -> (String, Pod) {
    let spec = job.spec.clone().unwrap_or_default();
    let job_name = name(&job.metadata);
    let mut pod = crate::common::pods::from_template(
        &spec.template,
        crate::common::owners::namespace(&job.metadata),
        reference,
    );
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == TRACKING) {
        finalizers.push(TRACKING.to_owned());
    }
    let Some(index) = new.index else {
        return (crate::common::pods::name_prefix(job_name), pod);
    };
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if let Some((failures, ignored)) = new.failures {
        annotations.insert(FAILURES.to_owned(), failures.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert(INDEX.to_owned(), index.to_string());
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{job_name}-{index}"));
        let field = format!("metadata.labels['{INDEX}']");
        for container in spec
            .containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten())
        {
            let env = container.env.get_or_insert_default();
            if !env.iter().any(|e| e.name == "JOB_COMPLETION_INDEX") {
                env.push(k8s_openapi::api::core::v1::EnvVar {
                    name: "JOB_COMPLETION_INDEX".to_owned(),
                    value_from: Some(k8s_openapi::api::core::v1::EnvVarSource {
                        field_ref: Some(k8s_openapi::api::core::v1::ObjectFieldSelector {
                            api_version: None,
                            field_path: field.clone(),
                        }),
                        ..Default::default()
                    }),
                    ..Default::default()
                });
            }
        }
    }
    // The index shows in the name, cut so that it always fits.
    let suffix = format!("-{index}-");
    let base: String = job_name.chars().take(63 - 5 - suffix.len()).collect();
    (base + &suffix, pod)
}
