//! `RuntimeClass`: a pod's overhead, node selector and tolerations come from its runtime class.

use super::is_pods;
use crate::{Attributes, LiveReader, Operation, Plugin};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Resource, StatusError, Value};
use std::sync::Arc;

/// The plugin.
pub struct RuntimeClass {
    reader: Arc<dyn ObjectReader>,
    live: Arc<dyn LiveReader>,
}

impl RuntimeClass {
    /// A class that the cache does not have is looked up live.
    pub fn new(reader: Arc<dyn ObjectReader>, live: Arc<dyn LiveReader>) -> Self {
        Self { reader, live }
    }

    async fn class(&self, attributes: &Attributes<'_>) -> Result<Option<Arc<Value>>, StatusError> {
        let name = attributes.object.str_at("spec.runtimeClassName");
        if name.is_empty() {
            return Ok(None);
        }
        let classes = GroupResource::new("node.k8s.io", "runtimeclasses");
        if let Some(found) = self.reader.get(&classes, "", name) {
            return Ok(Some(found));
        }
        match self.live.get(&classes, "", name).await? {
            Some(found) => Ok(Some(found)),
            None => Err(attributes.forbidden(format!("pod rejected: RuntimeClass {name:?} not found"))),
        }
    }
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        operation == Operation::Create && is_pods(resource, subresource)
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let Some(class) = self.class(attributes).await? else {
            return Ok(());
        };
        let overhead = class.at("overhead.podFixed");
        if overhead.is_object() {
            let given = attributes.object.at("spec.overhead");
            if !given.is_null() && given != overhead {
                return Err(attributes.forbidden(
                    "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
                ));
            }
            attributes.object.set("spec.overhead", overhead.clone());
        }
        if let Some(selector) = class.map_at("scheduling.nodeSelector") {
            for (key, value) in selector {
                let held = attributes.object.at("spec.nodeSelector").get(key);
                if held.is_some_and(|held| held != value) {
                    let why = format!(
                        "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                        value.as_str().unwrap_or_default(),
                        held.and_then(Value::as_str).unwrap_or_default()
                    );
                    return Err(attributes.forbidden(why));
                }
                let selector = attributes.object.at_mut("spec.nodeSelector");
                if !selector.is_object() {
                    *selector = Value::Object(Default::default());
                }
                selector[key.as_str()] = value.clone();
            }
        }
        let mut tolerations = attributes.object.list_at("spec.tolerations").to_vec();
        let before = tolerations.len();
        for toleration in class.list_at("scheduling.tolerations") {
            if !tolerations.contains(toleration) {
                tolerations.push(toleration.clone());
            }
        }
        if tolerations.len() > before {
            attributes.object.set("spec.tolerations", tolerations);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let class = self.class(attributes).await?;
        let given = attributes.object.at("spec.overhead");
        let wanted = class
            .as_deref()
            .map_or(&Value::Null, |class| class.at("overhead.podFixed"));
        let empty = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
        if empty(given) && empty(wanted) || given == wanted {
            return Ok(());
        }
        let why = if empty(wanted) {
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        } else {
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
        };
        Err(attributes.forbidden(why))
    }
}
