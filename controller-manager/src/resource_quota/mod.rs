//! The resource quota controller: counts anew what namespaces use. The apiserver adds to the count when it admits; what ends or goes is noticed here.

pub mod plan;

use crate::common::discovery::discover;
use crate::common::owners::namespace;
use crate::common::pods::is_terminal;
use crate::frame::{Context, Loop, Reconcile, ignore_not_found};
use anyhow::Context as _;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, Resource};
use plan::Contents;
use rutter_client::informer::ObjectKey;
use rutter_client::{Change, Requeue, Store, WorkQueue};
use std::time::Duration;

/// How often resources are counted of which no watch tells when an object goes.
const POLL: Duration = Duration::from_secs(15);

/// Counts.
pub struct ResourceQuotaController {
    context: Context,
    quotas: Store<ResourceQuota>,
    pods: Store<Pod>,
    services: Store<Service>,
    claims: Store<PersistentVolumeClaim>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    let quotas = frame.watch::<ResourceQuota>(|change, queue| {
        let Some(new) = &change.new else { return };
        let hard = |q: &ResourceQuota| q.spec.clone();
        if change.old.as_ref().is_none_or(|old| hard(old) != hard(new)) {
            queue.add(ObjectKey::of(&**new));
        }
    });
    let known = quotas.clone();
    let pods = frame.watch::<Pod>(move |change, queue| {
        let ended = match (&change.old, &change.new) {
            (Some(_), None) => true,
            (Some(old), Some(new)) => is_terminal(new) && !is_terminal(old),
            _ => false,
        };
        if ended {
            wake(change, queue, &known);
        }
    });
    let known = quotas.clone();
    let services = frame.watch::<Service>(move |change, queue| {
        let kind = |s: &Service| s.spec.as_ref().and_then(|s| s.type_.clone());
        let changed = match (&change.old, &change.new) {
            (Some(old), Some(new)) => kind(old) != kind(new),
            (_, new) => new.is_none(),
        };
        if changed {
            wake(change, queue, &known);
        }
    });
    let known = quotas.clone();
    let claims = frame.watch::<PersistentVolumeClaim>(move |change, queue| {
        if change.new.is_none() {
            wake(change, queue, &known);
        }
    });
    let workers = context.options.concurrent_resource_quota_syncs;
    frame
        .run(
            workers,
            ResourceQuotaController {
                context,
                quotas,
                pods,
                services,
                claims,
            },
        )
        .await;
}

fn wake<K: Resource>(change: &Change<K>, queue: &WorkQueue<ObjectKey>, quotas: &Store<ResourceQuota>) {
    let Some(object) = change.object() else { return };
    for quota in quotas.list_in(namespace(object.meta())) {
        queue.add(ObjectKey::of(&*quota));
    }
}

#[async_trait]
impl Reconcile for ResourceQuotaController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(quota) = self.quotas.get(&key.namespace, &key.name) else {
            return Ok(Requeue::Done);
        };
        let others = plan::other_counts(&quota);
        let contents = Contents {
            pods: self.pods.list_in(&key.namespace),
            services: self.services.list_in(&key.namespace),
            claims: self.claims.list_in(&key.namespace),
            counts: self.count(&key.namespace, &others).await?,
        };
        let used = Some(plan::usage(&quota, &contents));
        let hard = quota.spec.as_ref().and_then(|s| s.hard.clone());
        let status = quota.status.clone().unwrap_or_default();
        if status.used != used || status.hard != hard {
            let mut after = ResourceQuota::clone(&quota);
            let status = after.status.get_or_insert_default();
            status.used = used;
            status.hard = hard;
            let api: Api<ResourceQuota> = Api::namespaced(self.context.client.clone(), &key.namespace);
            ignore_not_found(
                api.replace_status(&key.name, &PostParams::default(), &after)
                    .await,
            )
            .context("writing a quota's status")?;
        }
        let usual = self.context.options.resource_quota_sync_period;
        Ok(Requeue::After(if others.is_empty() {
            usual
        } else {
            usual.min(POLL)
        }))
    }
}

impl ResourceQuotaController {
    async fn count(
        &self,
        space: &str,
        resources: &[String],
    ) -> anyhow::Result<std::collections::BTreeMap<String, i64>> {
        let mut counts = std::collections::BTreeMap::new();
        if resources.is_empty() {
            return Ok(counts);
        }
        let found = discover(&self.context.client).await?;
        for resource in resources {
            let Some(served) = found.resources.get(resource) else {
                continue;
            };
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.context.client.clone(), space, &served.resource);
            let list = api
                .list_metadata(&ListParams::default())
                .await
                .with_context(|| format!("counting {resource}"))?;
            counts.insert(
                resource.clone(),
                i64::try_from(list.items.len()).unwrap_or(i64::MAX),
            );
        }
        Ok(counts)
    }
}
