//! The EndpointSlice controller: says which pods stand behind each Service.

pub mod plan;
#[cfg(test)]
mod tests;

use crate::common::expectations::Expectations;
use crate::common::owners::{label, name, namespace};
use crate::common::{batch, hash, services};
use crate::frame::{
    Context, Loop, Reconcile, ignore_not_found, is_namespace_terminating, message_of, own_key,
};
use anyhow::Context as _;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use plan::{MANAGED_BY, MANAGER, SERVICE_NAME, Snapshot};
use rutter_client::events::EventType;
use rutter_client::informer::ObjectKey;
use rutter_client::{Change, Requeue, Store, WorkQueue};
use std::sync::Arc;
use std::time::Instant;

/// Keeps the EndpointSlices of Services with selectors.
pub struct EndpointSliceController {
    context: Context,
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Store<EndpointSlice>,
    expectations: Arc<Expectations>,
}

/// Lets slices be found by their Service.
pub(crate) const BY_SERVICE: &str = "service";

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::new(&context);
    let services = frame.watch::<Service>(own_key);
    let (known, delay) = (
        services.clone(),
        context.options.endpointslice_updates_batch_period,
    );
    let pods = frame.watch::<Pod>(move |change, queue| services::pod_changed(change, queue, &known, delay));
    context
        .informers
        .of::<EndpointSlice>()
        .add_index(BY_SERVICE, |slice| {
            label(&slice.metadata, SERVICE_NAME)
                .map(|s| format!("{}/{s}", namespace(&slice.metadata)))
                .into_iter()
                .collect()
        });
    let expectations = Arc::new(Expectations::default());
    let expected = expectations.clone();
    let slices = frame.watch::<EndpointSlice>(move |change, queue| slice_changed(change, queue, &expected));
    let known = services.clone();
    let nodes = frame.watch::<Node>(move |change, queue| node_changed(change, queue, &known));
    let workers = context.options.concurrent_service_endpoint_syncs;
    frame
        .run(
            workers,
            EndpointSliceController {
                context,
                services,
                pods,
                nodes,
                slices,
                expectations,
            },
        )
        .await;
}

fn slice_changed(change: &Change<EndpointSlice>, queue: &WorkQueue<ObjectKey>, expectations: &Expectations) {
    let Some(slice) = change.object() else { return };
    let Some(service) =
        label(&slice.metadata, SERVICE_NAME).filter(|_| label(&slice.metadata, MANAGED_BY) == Some(MANAGER))
    else {
        return;
    };
    let key = ObjectKey::new(namespace(&slice.metadata), service);
    expectations.created(&key, name(&slice.metadata));
    queue.add(key);
}

/// A node that comes, goes or moves to another zone changes the endpoints on it.
fn node_changed(change: &Change<Node>, queue: &WorkQueue<ObjectKey>, services: &Store<Service>) {
    let zone = |node: &Option<Arc<Node>>| {
        node.as_ref().map(|n| {
            n.metadata
                .labels
                .as_ref()
                .and_then(|l| l.get("topology.kubernetes.io/zone").cloned())
        })
    };
    if zone(&change.old) != zone(&change.new) {
        for service in services.list() {
            if services::selects_pods(&service).is_some() {
                queue.add(ObjectKey::of(&*service));
            }
        }
    }
}

#[async_trait]
impl Reconcile for EndpointSliceController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(service) = self.services.get(&key.namespace, &key.name) else {
            self.expectations.forget(&key);
            return Ok(Requeue::Done);
        };
        let Some(selector) = services::selects_pods(&service) else {
            return Ok(Requeue::Done);
        };
        if !self.expectations.satisfied(&key, Instant::now()) {
            // The slice's own appearance wakes the Service; this is for the one that never comes.
            return Ok(Requeue::After(crate::common::expectations::PATIENCE));
        }
        let pods: Vec<Arc<Pod>> = self
            .pods
            .list_in(&key.namespace)
            .into_iter()
            .filter(|p| selector.matches(p.metadata.labels.as_ref()))
            .collect();
        let slices: Vec<Arc<EndpointSlice>> = self
            .slices
            .by_index(BY_SERVICE, &key.to_string())
            .into_iter()
            .filter(|s| {
                label(&s.metadata, MANAGED_BY) == Some(MANAGER) && s.metadata.deletion_timestamp.is_none()
            })
            .collect();
        let plan = plan::plan(&Snapshot {
            service: &service,
            pods: &pods,
            slices: &slices,
            node: &|name| self.nodes.get("", name),
            max_per_slice: self.context.options.max_endpoints_per_slice,
        });
        let without_node = plan.without_node.clone();
        if let Err(error) = self.perform(&key, plan).await {
            if !crate::frame::is_conflict(&error) {
                let text = format!(
                    "Error updating Endpoint Slices for Service {key}: {}",
                    message_of(&error)
                );
                self.context.recorder.event(
                    &*service,
                    EventType::Warning,
                    "FailedToUpdateEndpointSlices",
                    text,
                );
            }
            return Err(error).context("writing EndpointSlices");
        }
        match without_node.first() {
            None => Ok(Requeue::Done),
            Some(pod) => {
                tracing::debug!(pod, "left out of the endpoints: its node is not known");
                Ok(Requeue::Backoff)
            }
        }
    }
}

impl EndpointSliceController {
    async fn perform(&self, key: &ObjectKey, plan: plan::Plan) -> Result<(), kube::Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let params = PostParams::default();
        let creations = plan.create.into_iter().map(|mut slice| {
            let prefix: String = slice
                .metadata
                .generate_name
                .as_deref()
                .unwrap_or_default()
                .chars()
                .take(248)
                .collect();
            slice.metadata.name = Some(prefix + &hash::suffix(rand::random()));
            slice
        });
        let creations: Vec<EndpointSlice> = creations.collect();
        self.expectations
            .expect_creations(key, creations.iter().map(|s| name(&s.metadata)), Instant::now());
        batch::each(creations, |slice| {
            let (api, params) = (&api, &params);
            async move {
                match api.create(params, &slice).await {
                    Ok(_) => Ok(()),
                    Err(error) => {
                        self.expectations.created(key, name(&slice.metadata));
                        if is_namespace_terminating(&error) {
                            Ok(())
                        } else {
                            Err(error)
                        }
                    }
                }
            }
        })
        .await?;
        batch::each(plan.update, |slice| {
            let (api, params) = (&api, &params);
            async move {
                api.replace(name(&slice.metadata), params, &slice)
                    .await
                    .map(|_| ())
            }
        })
        .await?;
        batch::each(plan.delete, |slice| {
            let api = &api;
            async move {
                ignore_not_found(api.delete(name(&slice.metadata), &DeleteParams::default()).await)
                    .map(|_| ())
            }
        })
        .await
    }
}
