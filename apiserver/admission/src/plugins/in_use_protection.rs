//! `StorageObjectInUseProtection`: volumes, claims and volume attribute classes stay until nobody uses them.

use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{Resource, StatusError, Value};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct StorageObjectInUseProtection;

fn finalizer(resource: &Resource) -> Option<&'static str> {
    if is(resource, "", "persistentvolumeclaims") {
        Some("kubernetes.io/pvc-protection")
    } else if is(resource, "", "persistentvolumes") {
        Some("kubernetes.io/pv-protection")
    } else if is(resource, "storage.k8s.io", "volumeattributesclasses") {
        Some("kubernetes.io/vac-protection")
    } else {
        None
    }
}

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        operation == Operation::Create && subresource.is_empty() && finalizer(resource).is_some()
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let Some(finalizer) = finalizer(attributes.resource) else {
            return Ok(());
        };
        let mut all = attributes.object.list_at("metadata.finalizers").to_vec();
        if !all.iter().any(|held| held == finalizer) {
            all.push(Value::from(finalizer));
            attributes.object.set("metadata.finalizers", all);
        }
        Ok(())
    }
}
