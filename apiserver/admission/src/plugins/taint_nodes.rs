//! `TaintNodesByCondition`: a new node takes no pods until it is seen to be ready.

use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{Resource, StatusError};
use serde_json::json;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        operation == Operation::Create && subresource.is_empty() && is(resource, "", "nodes")
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let mut taints = attributes.object.list_at("spec.taints").to_vec();
        let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
        let same = |t: &rutter_api::Value| {
            t.str_at("key") == taint.str_at("key") && t.str_at("effect") == "NoSchedule"
        };
        if !taints.iter().any(same) {
            taints.push(taint);
            attributes.object.set("spec.taints", taints);
        }
        Ok(())
    }
}
