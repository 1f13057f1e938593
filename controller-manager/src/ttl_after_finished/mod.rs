//! The TTL-after-finished controller: deletes ended Jobs when their time is over.

use crate::common::time::until;
use crate::frame::{Context, Loop, Reconcile, ignore_not_found, own_key};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use rutter_client::informer::ObjectKey;
use rutter_client::{Requeue, Store};
use std::time::Duration;

/// Deletes.
pub struct TtlAfterFinishedController {
    context: Context,
    jobs: Store<Job>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    let jobs = frame.watch::<Job>(own_key);
    let workers = context.options.concurrent_ttl_after_finished_syncs;
    frame
        .run(workers, TtlAfterFinishedController { context, jobs })
        .await;
}

/// How long an ended Job still stays; `None` when it stays for good, or has not ended.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ended = job
        .status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True");
    Some(until(ended?.last_transition_time.as_ref()?, ttl.into(), now))
}

#[async_trait]
impl Reconcile for TtlAfterFinishedController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let job = self.jobs.get(&key.namespace, &key.name);
        match job.and_then(|j| left(&j, Timestamp::now())) {
            None => return Ok(Requeue::Done),
            Some(left) if !left.is_zero() => return Ok(Requeue::After(left)),
            Some(_) => {}
        }
        // The limit may have been raised meanwhile, so what the apiserver holds decides.
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let Some(fresh) = ignore_not_found(api.get(&key.name).await).context("reading the Job")? else {
            return Ok(Requeue::Done);
        };
        match left(&fresh, Timestamp::now()) {
            None => Ok(Requeue::Done),
            Some(left) if !left.is_zero() => Ok(Requeue::After(left)),
            Some(_) => {
                let params = DeleteParams {
                    propagation_policy: Some(PropagationPolicy::Foreground),
                    preconditions: Some(Preconditions {
                        uid: fresh.metadata.uid,
                        resource_version: fresh.metadata.resource_version,
                    }),
                    ..DeleteParams::default()
                };
                ignore_not_found(api.delete(&key.name, &params).await).context("deleting an ended Job")?;
                Ok(Requeue::Done)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_ended_job_has_its_time_and_a_running_one_all_of_it() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        for (ttl, condition, want) in [
            (json!(90), "Complete", Some(30)),
            (json!(60), "Failed", Some(0)),
            (json!(60), "Suspended", None),
            (json!(null), "Complete", None),
        ] {
            let job: Job = serde_json::from_value(
                json!({"spec": {"template": {}, "ttlSecondsAfterFinished": ttl}, "status": {"conditions": [
                {"type": condition, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}),
            )
            .unwrap();
            assert_eq!(left(&job, now).map(|d| d.as_secs()), want, "{ttl} {condition}");
        }
    }
}
