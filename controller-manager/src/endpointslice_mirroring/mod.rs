//! The EndpointSlice mirroring controller: shows Endpoints that people write themselves, for Services without a selector, as EndpointSlices.

use crate::common::owners::{controller_reference, label, name, namespace};
use crate::common::services::Family;
use crate::common::{batch, hash};
use crate::endpointslice::BY_SERVICE;
use crate::endpointslice::plan::{MANAGED_BY, SERVICE_NAME};
use crate::frame::{Context, Loop, Reconcile, ignore_not_found, is_namespace_terminating, own_key};
use anyhow::Context as _;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rutter_client::informer::ObjectKey;
use rutter_client::{Requeue, Store};
use std::sync::Arc;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const MAX_PER_SLICE: usize = 100;

/// Mirrors.
pub struct MirroringController {
    context: Context,
    endpoints: Store<Endpoints>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    let delay = context.options.mirroring_endpointslice_updates_batch_period;
    let endpoints = frame.watch::<Endpoints>(move |change, queue| {
        if let Some(endpoints) = change.object() {
            queue.add_after(ObjectKey::of(&**endpoints), delay);
        }
    });
    let services = frame.watch::<Service>(own_key);
    context
        .informers
        .of::<EndpointSlice>()
        .add_index(BY_SERVICE, |slice| {
            label(&slice.metadata, SERVICE_NAME)
                .map(|s| format!("{}/{s}", namespace(&slice.metadata)))
                .into_iter()
                .collect()
        });
    let slices = frame.watch::<EndpointSlice>(|change, queue| {
        let Some(slice) = change
            .object()
            .filter(|s| label(&s.metadata, MANAGED_BY) == Some(MANAGER))
        else {
            return;
        };
        if let Some(service) = label(&slice.metadata, SERVICE_NAME) {
            queue.add(ObjectKey::new(namespace(&slice.metadata), service));
        }
    });
    let workers = context.options.mirroring_concurrent_service_endpoint_syncs;
    frame
        .run(
            workers,
            MirroringController {
                context,
                endpoints,
                services,
                slices,
            },
        )
        .await;
}

/// Whether these Endpoints are a person's, and to be mirrored.
fn mirrors(endpoints: &Endpoints, service: &Service) -> bool {
    let annotated = |key: &str| {
        endpoints
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|a| a.contains_key(key))
    };
    let selects = service.spec.as_ref().is_some_and(|s| s.selector.is_some());
    !selects && label(&endpoints.metadata, SKIP) != Some("true") && !annotated(LEADER)
}

/// The slices that Endpoints come to. Their names follow from their content's place, so that the same slice is written again.
fn wanted(endpoints: &Endpoints, max_per_subset: usize) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for (at, subset) in endpoints.subsets.iter().flatten().enumerate() {
        for family in [Family::V4, Family::V6] {
            let all: Vec<Endpoint> = addresses(subset, family)
                .into_iter()
                .take(max_per_subset)
                .collect();
            for (part, chunk) in all.chunks(MAX_PER_SLICE).enumerate() {
                slices.push(slice(
                    endpoints,
                    subset,
                    family,
                    chunk.to_vec(),
                    &format!("{at}-{part}"),
                ));
            }
        }
    }
    slices
}

fn addresses(subset: &EndpointSubset, family: Family) -> Vec<Endpoint> {
    let of = |list: &Option<Vec<EndpointAddress>>, ready: bool| -> Vec<Endpoint> {
        list.iter()
            .flatten()
            .filter(|a| Family::of(&a.ip) == Some(family))
            .map(|a| Endpoint {
                addresses: vec![a.ip.clone()],
                conditions: Some(EndpointConditions {
                    ready: Some(ready),
                    ..EndpointConditions::default()
                }),
                hostname: a.hostname.clone().filter(|h| !h.is_empty()),
                node_name: a.node_name.clone(),
                target_ref: a.target_ref.clone(),
                ..Endpoint::default()
            })
            .collect()
    };
    let mut all = of(&subset.addresses, true);
    all.extend(of(&subset.not_ready_addresses, false));
    all
}

fn slice(
    endpoints: &Endpoints,
    subset: &EndpointSubset,
    family: Family,
    list: Vec<Endpoint>,
    place: &str,
) -> EndpointSlice {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name(&endpoints.metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.remove("endpoints.kubernetes.io/last-change-trigger-time");
    let port = |p: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
        name: Some(p.name.clone().unwrap_or_default()),
        port: Some(p.port),
        protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: p.app_protocol.clone(),
    };
    let base: String = name(&endpoints.metadata).chars().take(240).collect();
    let suffix = hash::of(
        &serde_json::json!([family.as_str(), place, endpoints.metadata.uid]),
        None,
    );
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{base}-{suffix}")),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|a| !a.is_empty()),
            owner_references: Some(vec![controller_reference(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: family.as_str().to_owned(),
        endpoints: Some(list),
        ports: Some(subset.ports.iter().flatten().map(port).collect()),
    }
}

#[async_trait]
impl Reconcile for MirroringController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let there: Vec<Arc<EndpointSlice>> = self
            .slices
            .by_index(BY_SERVICE, &key.to_string())
            .into_iter()
            .filter(|s| label(&s.metadata, MANAGED_BY) == Some(MANAGER))
            .collect();
        let pair = self
            .endpoints
            .get(&key.namespace, &key.name)
            .zip(self.services.get(&key.namespace, &key.name));
        let max = self.context.options.mirroring_max_endpoints_per_subset;
        let wanted = pair
            .filter(|(e, s)| mirrors(e, s))
            .map(|(e, _)| wanted(&e, max))
            .unwrap_or_default();
        let api: Api<EndpointSlice> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let unwanted: Vec<_> = there
            .iter()
            .filter(|s| !wanted.iter().any(|w| same_slot(w, s)))
            .cloned()
            .collect();
        let (api, there) = (&api, &there);
        batch::each(unwanted, |slice| async move {
            ignore_not_found(api.delete(name(&slice.metadata), &DeleteParams::default()).await).map(|_| ())
        })
        .await
        .context("deleting a mirror")?;
        batch::each(wanted, |mut slice| async move {
            let params = PostParams::default();
            let current = there.iter().find(|s| same_slot(&slice, s));
            let written = match current {
                None => api.create(&params, &slice).await,
                Some(current) => {
                    let same = hash::canonical(&slice.endpoints) == hash::canonical(&current.endpoints)
                        && hash::canonical(&slice.ports) == hash::canonical(&current.ports)
                        && slice.metadata.labels == current.metadata.labels
                        && slice.metadata.annotations == current.metadata.annotations;
                    if same {
                        return Ok(());
                    }
                    slice
                        .metadata
                        .resource_version
                        .clone_from(&current.metadata.resource_version);
                    api.replace(name(&slice.metadata), &params, &slice).await
                }
            };
            match written {
                Err(error) if is_namespace_terminating(&error) => Ok(()),
                other => other.map(|_| ()),
            }
        })
        .await
        .context("writing a mirror")?;
        Ok(Requeue::Done)
    }
}

// The address type of a slice can't change, and its name holds it.
fn same_slot(a: &EndpointSlice, b: &EndpointSlice) -> bool {
    a.metadata.name == b.metadata.name && a.address_type == b.address_type
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoints() -> Endpoints {
        serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "default", "uid": "u", "labels": {"a": "b"}}, "subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 5432}]}]}))
        .unwrap()
    }

    #[test]
    fn each_family_of_a_subset_becomes_a_slice_of_its_own_with_a_stable_name() {
        let slices = wanted(&endpoints(), 1000);
        let types: Vec<&str> = slices.iter().map(|s| s.address_type.as_str()).collect();
        assert_eq!(types, ["IPv4", "IPv6"]);
        let ready: Vec<Option<bool>> = slices[0]
            .endpoints
            .as_ref()
            .unwrap()
            .iter()
            .map(|e| e.conditions.as_ref().and_then(|c| c.ready))
            .collect();
        assert_eq!(ready, [Some(true), Some(false)]);
        assert_eq!(slices[0].metadata.labels.as_ref().unwrap()[MANAGED_BY], MANAGER);
        assert_eq!(slices, wanted(&endpoints(), 1000));
    }

    #[test]
    fn only_a_persons_endpoints_of_a_service_without_a_selector_are_mirrored() {
        let service = |spec| -> Service {
            serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": spec})).unwrap()
        };
        let mut skipped = endpoints();
        skipped
            .metadata
            .labels
            .get_or_insert_default()
            .insert(SKIP.to_owned(), "true".to_owned());
        assert!(mirrors(&endpoints(), &service(json!({}))));
        assert!(!mirrors(&endpoints(), &service(json!({"selector": {"a": "b"}}))));
        assert!(!mirrors(&skipped, &service(json!({}))));
    }
}
