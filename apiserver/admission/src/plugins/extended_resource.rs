//! `ExtendedResourceToleration`: a pod that asks for a special resource tolerates the taint of the nodes that have it.

use super::{containers, is_pods};
use crate::{Attributes, Operation, Plugin};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{Resource, StatusError};
use serde_json::json;
use std::collections::BTreeSet;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct ExtendedResourceToleration;

/// Whether a resource is one that nodes advertise under a domain of their own.
pub(crate) fn is_extended(resource: &str) -> bool {
    let Some((domain, _)) = resource.split_once('/') else {
        return false;
    };
    domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io") && !resource.starts_with("requests.")
}

#[async_trait]
impl Plugin for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update) && is_pods(resource, subresource)
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let asked: BTreeSet<String> = containers(attributes.object.at("spec"))
            .filter_map(|container| container.map_at("resources.requests"))
            .flat_map(|requests| requests.keys())
            .filter(|resource| is_extended(resource))
            .cloned()
            .collect();
        let mut tolerations = attributes.object.list_at("spec.tolerations").to_vec();
        let before = tolerations.len();
        for resource in asked {
            let toleration = json!({"key": resource, "operator": "Exists"});
            if !tolerations.iter().any(|t| {
                t.str_at("key") == resource
                    && t.str_at("operator") == "Exists"
                    && t.str_at("effect").is_empty()
            }) {
                tolerations.push(toleration);
            }
        }
        if tolerations.len() > before {
            attributes.object.set("spec.tolerations", tolerations);
        }
        Ok(())
    }
}
