//! `LimitPodHardAntiAffinityTopology`: required anti-affinity only between nodes, so that one pod cannot fence off a zone.

use super::is_pods;
use crate::{Attributes, Operation, Plugin};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{Resource, StatusError};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct LimitPodHardAntiAffinityTopology;

#[async_trait]
impl Plugin for LimitPodHardAntiAffinityTopology {
    fn name(&self) -> &'static str {
        "LimitPodHardAntiAffinityTopology"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update) && is_pods(resource, subresource)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let terms = attributes
            .object
            .list_at("spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution");
        match terms.iter().map(|t| t.str_at("topologyKey")).find(|key| *key != "kubernetes.io/hostname") {
            None => Ok(()),
            Some(key) => Err(attributes.forbidden(format!(
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key kubernetes.io/hostname is allowed"
            ))),
        }
    }
}
