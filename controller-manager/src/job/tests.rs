//! Tables over the plan, and whole Jobs that are stepped to their end.

use super::plan::{NewPod, Plan, Snapshot, TRACKING, counted, finish, is_finished, plan};
use crate::common::owners::{controller_reference, has_finalizer, uid};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;

fn job(spec: Value) -> Job {
    let mut all = json!({"parallelism": 2, "completions": 4, "backoffLimit": 6, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(
        json!({"metadata": {"name": "j", "namespace": "default", "uid": "j"}, "spec": all}),
    )
    .unwrap()
}

/// A world in which pods end as `fate` says: `Succeeded`, `Failed` or still `Running`.
struct World {
    job: Job,
    pods: Vec<Arc<Pod>>,
    made: usize,
    now: Timestamp,
    most: usize,
}

impl World {
    fn new(job: Job) -> Self {
        Self {
            job,
            pods: Vec::new(),
            made: 0,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            most: 0,
        }
    }

    fn look(&self) -> Plan {
        plan(
            &Snapshot {
                job: &self.job,
                pods: &self.pods,
                released: &HashSet::new(),
                trusted: true,
            },
            self.now,
        )
    }

    fn step(&mut self, fate: &dyn Fn(usize, Option<i32>) -> &'static str) {
        let plan = self.look();
        for doomed in &plan.delete {
            self.pods.retain(|p| p.metadata.uid != doomed.metadata.uid);
        }
        for new in &plan.create {
            self.make(*new);
        }
        let mut status = plan.status;
        let freed: Vec<String> = plan.release.iter().map(|p| uid(&p.metadata).to_owned()).collect();
        for pod in &mut self.pods {
            if freed.contains(&uid(&pod.metadata).to_owned()) {
                Arc::make_mut(pod).metadata.finalizers = None;
            }
        }
        status = counted(&status, &|id| freed.iter().any(|f| f == id));
        if let Some(finished) = &plan.finished {
            finish(&mut status, finished);
        }
        self.job.status = Some(status);
        self.most = self.most.max(
            self.pods
                .iter()
                .filter(|p| crate::common::pods::is_active(p))
                .count(),
        );
        self.now += SignedDuration::from_mins(15);
        for (at, pod) in self.pods.iter_mut().enumerate() {
            if crate::common::pods::is_active(pod) {
                let number: usize = uid(&pod.metadata).parse().unwrap();
                let phase = fate(number, super::indexes::of(pod));
                let code = i32::from(phase == "Failed");
                let _ = at;
                Arc::make_mut(pod).status = serde_json::from_value(json!({"phase": phase, "containerStatuses": [
                    {"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]}))
                .unwrap();
            }
        }
    }

    fn make(&mut self, new: NewPod) {
        let (_, mut pod) = super::plan::new_pod(&self.job, new, controller_reference(&self.job));
        assert!(has_finalizer(&pod.metadata, TRACKING));
        pod.metadata.uid = Some(self.made.to_string());
        pod.metadata.name = Some(format!("p{}", self.made));
        self.made += 1;
        self.pods.push(Arc::new(pod));
    }

    fn run(mut self, fate: &dyn Fn(usize, Option<i32>) -> &'static str) -> Self {
        for _ in 0..40 {
            if is_finished(&self.job) {
                break;
            }
            self.step(fate);
        }
        self
    }

    fn outcome(&self) -> String {
        let status = self.job.status.clone().unwrap_or_default();
        let last = status
            .conditions
            .iter()
            .flatten()
            .last()
            .map(|c| format!("{} {}", c.type_, c.reason.clone().unwrap_or_default()));
        format!(
            "{} +{} -{}",
            last.unwrap_or_default(),
            status.succeeded.unwrap_or(0),
            status.failed.unwrap_or(0)
        )
    }
}

#[test]
fn jobs_end_as_their_pods_and_limits_say() {
    let good = |_: usize, _: Option<i32>| "Succeeded";
    let bad = |_: usize, _: Option<i32>| "Failed";
    let first_bad = |n: usize, _: Option<i32>| if n == 0 { "Failed" } else { "Succeeded" };
    let index_one_bad = |_: usize, index: Option<i32>| if index == Some(1) { "Failed" } else { "Succeeded" };
    type Fate<'a> = &'a dyn Fn(usize, Option<i32>) -> &'static str;
    let cases: [(&str, Value, Fate<'_>, &str); 9] = [
        ("all good", json!({}), &good, "Complete CompletionsReached +4 -0"),
        (
            "one bad",
            json!({}),
            &first_bad,
            "Complete CompletionsReached +4 -1",
        ),
        (
            "all bad",
            json!({"backoffLimit": 2, "parallelism": 1}),
            &bad,
            "Failed BackoffLimitExceeded +0 -3",
        ),
        (
            "a work queue",
            json!({"completions": null}),
            &good,
            "Complete CompletionsReached +2 -0",
        ),
        (
            "indexed",
            json!({"completionMode": "Indexed"}),
            &good,
            "Complete CompletionsReached +4 -0",
        ),
        (
            "one index bad",
            json!({"completionMode": "Indexed", "backoffLimit": 1}),
            &index_one_bad,
            "Failed BackoffLimitExceeded +",
        ),
        (
            "a limit for each index",
            json!({"completionMode": "Indexed", "backoffLimitPerIndex": 1, "backoffLimit": 100}),
            &index_one_bad,
            "Failed FailedIndexes +3 -2",
        ),
        (
            "enough successes",
            json!({"completionMode": "Indexed", "successPolicy": {"rules": [{"succeededIndexes": "0"}]}}),
            &good,
            "Complete SuccessPolicy +",
        ),
        (
            "a failure that ends it",
            json!({"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]}}),
            &bad,
            "Failed PodFailurePolicy +0 -2",
        ),
    ];
    for (what, spec, fate, want) in cases {
        let world = World::new(job(spec)).run(fate);
        assert!(world.outcome().starts_with(want), "{what}: {}", world.outcome());
        assert!(world.most <= 2, "{what}: {} ran at once", world.most);
    }
}

#[test]
fn failures_that_a_policy_ignores_do_not_count() {
    let policy = json!({"podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1]}}]}, "backoffLimit": 0});
    let world = World::new(job(policy)).run(&|n, _| if n < 3 { "Failed" } else { "Succeeded" });
    assert_eq!(world.outcome(), "Complete CompletionsReached +4 -0");
}

#[test]
fn indexes_show_in_names_labels_environment_and_status() {
    let world = World::new(job(json!({"completionMode": "Indexed"}))).run(&|_, _| "Succeeded");
    assert_eq!(
        world.job.status.as_ref().unwrap().completed_indexes.as_deref(),
        Some("0-3")
    );
    let (prefix, pod) = super::plan::new_pod(
        &world.job,
        NewPod {
            index: Some(3),
            failures: None,
        },
        controller_reference(&world.job),
    );
    assert_eq!(prefix, "j-3-");
    let spec = pod.spec.unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("j-3"));
    assert_eq!(
        spec.containers[0].env.as_ref().unwrap()[0].name,
        "JOB_COMPLETION_INDEX"
    );
}

#[test]
fn a_failed_pod_is_replaced_after_a_pause() {
    let mut world = World::new(job(json!({"parallelism": 1})));
    world.step(&|_, _| "Running");
    let ended = world.now;
    let status = json!({"phase": "Failed", "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 1, "finishedAt": ended.to_string()}}}]});
    Arc::make_mut(&mut world.pods[0]).status = serde_json::from_value(status).unwrap();
    world.now = ended + SignedDuration::from_secs(4);
    let plan = world.look();
    assert_eq!((plan.create.len(), plan.again.map(|d| d.as_secs())), (0, Some(6)));
    world.now = ended + SignedDuration::from_secs(10);
    assert_eq!(world.look().create.len(), 1);
}

#[test]
fn a_suspended_job_loses_its_pods_and_starts_anew_when_resumed() {
    let mut world = World::new(job(json!({})));
    world.step(&|_, _| "Running");
    world.job.spec.as_mut().unwrap().suspend = Some(true);
    let plan = world.look();
    assert_eq!(
        (plan.delete.len(), plan.surplus, plan.status.start_time.is_none()),
        (2, true, true)
    );
    assert_eq!(plan.events.first().map(|e| e.1.as_str()), Some("Suspended"));
    world.step(&|_, _| "Running");
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    let plan = world.look();
    assert_eq!((plan.create.len(), plan.status.start_time.is_some()), (2, true));
    assert_eq!(plan.events.first().map(|e| e.1.as_str()), Some("Resumed"));
}

#[test]
fn a_job_that_runs_too_long_fails_and_one_that_may_is_looked_at_in_time() {
    let mut world = World::new(job(json!({"activeDeadlineSeconds": 1800})));
    world.step(&|_, _| "Running");
    assert_eq!(world.look().again.map(|d| d.as_secs()), Some(900));
    world.now += SignedDuration::from_mins(15);
    let plan = world.look();
    assert_eq!(plan.delete.len(), 2);
    assert!(
        plan.finished
            .is_some_and(|f| f.reason.as_deref() == Some("DeadlineExceeded"))
    );
}

#[test]
fn an_ended_pod_is_counted_once_wherever_a_crash_comes() {
    let mut world = World::new(job(json!({})));
    world.step(&|_, _| "Succeeded");
    let first = world.look();
    // The status was written, and the finalizers are still on.
    world.job.status = Some(first.status.clone());
    let second = world.look();
    assert_eq!(
        second.status.uncounted_terminated_pods,
        first.status.uncounted_terminated_pods
    );
    // The finalizers came off, and the count was not written.
    for pod in &mut world.pods {
        Arc::make_mut(pod).metadata.finalizers = None;
    }
    let third = world.look();
    assert_eq!(third.status.succeeded, Some(2));
    world.job.status = Some(third.status);
    assert_eq!(world.look().status.succeeded, Some(2));
}
