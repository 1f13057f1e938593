//! `PodTopologyLabels`: a pod that is bound to a node gets the node's zone and region as labels.

use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Resource, StatusError};
use std::sync::Arc;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// The plugin. On `pods/binding` it puts the labels on the Binding, from where the registry copies them to the pod.
pub struct PodTopologyLabels {
    reader: Arc<dyn ObjectReader>,
}

impl PodTopologyLabels {
    /// Reads nodes through `reader`.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }
}

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        operation == Operation::Create
            && ((is(resource, "", "pods") && matches!(subresource, "" | "binding"))
                || is(resource, "", "bindings"))
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let whole = attributes.is("", "pods") && attributes.subresource.is_empty();
        let node = if whole {
            attributes.object.str_at("spec.nodeName")
        } else {
            attributes.object.str_at("target.name")
        };
        if node.is_empty() {
            return Ok(());
        }
        let Some(node) = self.reader.get(&GroupResource::new("", "nodes"), "", node) else {
            return Ok(());
        };
        for label in LABELS {
            if let Some(value) = node.label(label) {
                let labels = attributes.object.at_mut("metadata.labels");
                if !labels.is_object() {
                    *labels = rutter_api::Value::Object(Default::default());
                }
                labels[label] = value.into();
            }
        }
        Ok(())
    }
}
