//! The CronJob controller: starts Jobs at their times.

pub mod plan;
pub mod schedule;

use crate::common::owners::{controller_of_kind, is_controlled_by, name, namespace, uid};
use crate::frame::{
    Context, Loop, Reconcile, ignore_not_found, is_already_exists, is_namespace_terminating, message_of,
    own_key,
};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rutter_client::events::EventType;
use rutter_client::informer::ObjectKey;
use rutter_client::{Requeue, Store};
use std::sync::Arc;

/// Starts Jobs.
pub struct CronJobController {
    context: Context,
    crons: Store<CronJob>,
    jobs: Store<Job>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    let crons = frame.watch::<CronJob>(own_key);
    let jobs = frame.watch::<Job>(|change, queue| {
        for job in change.old.iter().chain(&change.new) {
            if let Some(owner) = controller_of_kind::<CronJob>(&job.metadata) {
                queue.add(ObjectKey::new(namespace(&job.metadata), owner.name.clone()));
            }
        }
    });
    let workers = context.options.concurrent_cron_job_syncs;
    frame
        .run(workers, CronJobController { context, crons, jobs })
        .await;
}

#[async_trait]
impl Reconcile for CronJobController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(cron) = self.crons.get(&key.namespace, &key.name) else {
            return Ok(Requeue::Done);
        };
        let mut jobs = self.jobs.list_in(&key.namespace);
        jobs.retain(|j| is_controlled_by(&j.metadata, uid(&cron.metadata)));
        let plan = plan::plan(&cron, &jobs, Timestamp::now());
        let again = plan.again;
        let cron_jobs: Api<Job> = Api::namespaced(self.context.client.clone(), &key.namespace);
        for job in &plan.delete {
            self.delete(&cron, &cron_jobs, job).await?;
        }
        let mut status = plan.status;
        for (kind, reason, message) in plan.events {
            self.context.recorder.event(&*cron, kind, reason, message);
        }
        if let Some((job, at)) = plan.start {
            let started = match cron_jobs.create(&PostParams::default(), &job).await {
                Ok(created) => {
                    let text = format!("Created job {}", name(&created.metadata));
                    self.context
                        .recorder
                        .event(&*cron, EventType::Normal, "SuccessfulCreate", text);
                    Some(created)
                }
                // Started by an earlier try whose status was not written.
                Err(error) if is_already_exists(&error) => {
                    let there = cron_jobs
                        .get(name(&job.metadata))
                        .await
                        .context("reading the Job that is there already")?;
                    is_controlled_by(&there.metadata, uid(&cron.metadata)).then_some(there)
                }
                Err(error) if is_namespace_terminating(&error) => None,
                Err(error) => {
                    let text = format!("Error creating job: {}", message_of(&error));
                    self.context
                        .recorder
                        .event(&*cron, EventType::Warning, "FailedCreate", text);
                    return Err(error).context("starting a Job");
                }
            };
            if let Some(job) = started {
                status = plan::started(&status, &job, at);
            }
        }
        if cron.status.as_ref() != Some(&status)
            && (cron.status.is_some() || status != CronJobStatus::default())
        {
            let mut after = CronJob::clone(&cron);
            after.status = Some(status);
            let api: Api<CronJob> = Api::namespaced(self.context.client.clone(), &key.namespace);
            api.replace_status(&key.name, &PostParams::default(), &after)
                .await
                .context("updating the CronJob's status")?;
        }
        Ok(again.map_or(Requeue::Done, Requeue::After))
    }
}

impl CronJobController {
    async fn delete(&self, cron: &CronJob, jobs: &Api<Job>, job: &Arc<Job>) -> anyhow::Result<()> {
        let job_name = name(&job.metadata);
        match ignore_not_found(jobs.delete(job_name, &DeleteParams::background()).await) {
            Ok(_) => {
                self.context.recorder.event(
                    cron,
                    EventType::Normal,
                    "SuccessfulDelete",
                    format!("Deleted job {job_name}"),
                );
                Ok(())
            }
            Err(error) => {
                let text = format!("Deleted job: {}", message_of(&error));
                self.context
                    .recorder
                    .event(cron, EventType::Warning, "FailedDelete", text);
                Err(error).context("deleting a Job")
            }
        }
    }
}
