//! The Endpoints controller: keeps the older form of a Service's endpoints.

pub mod plan;

use crate::common::owners::{name, namespace};
use crate::common::services;
use crate::frame::{
    Context, Loop, Reconcile, ignore_not_found, is_conflict, is_namespace_terminating, message_of, own_key,
};
use anyhow::Context as _;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rutter_client::events::EventType;
use rutter_client::informer::ObjectKey;
use rutter_client::{Requeue, Store};
use std::sync::Arc;

/// Keeps the Endpoints of Services with selectors.
pub struct EndpointsController {
    context: Context,
    services: Store<Service>,
    pods: Store<Pod>,
    endpoints: Store<Endpoints>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::new(&context);
    let services = frame.watch::<Service>(own_key);
    let (known, delay) = (services.clone(), context.options.endpoint_updates_batch_period);
    let pods = frame.watch::<Pod>(move |change, queue| services::pod_changed(change, queue, &known, delay));
    let known = services.clone();
    let endpoints = frame.watch::<Endpoints>(move |change, queue| {
        let Some(endpoints) = change.object() else { return };
        // What stays behind without a Service goes only where it was made here: people make Endpoints too.
        let labels = endpoints.metadata.labels.as_ref();
        let ours = labels.is_some_and(|l| l.contains_key(plan::MANAGED_BY));
        if ours
            || known
                .get(namespace(&endpoints.metadata), name(&endpoints.metadata))
                .is_some()
        {
            own_key(change, queue);
        }
    });
    let workers = context.options.concurrent_endpoint_syncs;
    frame
        .run(
            workers,
            EndpointsController {
                context,
                services,
                pods,
                endpoints,
            },
        )
        .await;
}

#[async_trait]
impl Reconcile for EndpointsController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let api: Api<Endpoints> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let current = self.endpoints.get(&key.namespace, &key.name);
        let Some(service) = self.services.get(&key.namespace, &key.name) else {
            if current.is_some() {
                ignore_not_found(api.delete(&key.name, &DeleteParams::default()).await)
                    .context("deleting left-over Endpoints")?;
            }
            return Ok(Requeue::Done);
        };
        let Some(selector) = services::selects_pods(&service) else {
            return Ok(Requeue::Done);
        };
        let pods: Vec<Arc<Pod>> = self
            .pods
            .list_in(&key.namespace)
            .into_iter()
            .filter(|p| selector.matches(p.metadata.labels.as_ref()))
            .collect();
        let Some(after) = plan::plan(&service, &pods, current.as_deref()) else {
            return Ok(Requeue::Done);
        };
        let params = PostParams::default();
        let (result, reason, what) = match current {
            None => (
                api.create(&params, &after).await,
                "FailedToCreateEndpoint",
                "create endpoint for service",
            ),
            Some(_) => (
                api.replace(&key.name, &params, &after).await,
                "FailedToUpdateEndpoint",
                "update endpoint",
            ),
        };
        match result {
            Ok(_) => Ok(Requeue::Done),
            Err(error) if is_namespace_terminating(&error) => Ok(Requeue::Done),
            Err(error) if is_conflict(&error) || crate::frame::is_already_exists(&error) => {
                Ok(Requeue::Backoff)
            }
            Err(error) => {
                let text = format!("Failed to {what} {key}: {}", message_of(&error));
                self.context
                    .recorder
                    .event(&after, EventType::Warning, reason, text);
                Err(error).context("writing Endpoints")
            }
        }
    }
}
