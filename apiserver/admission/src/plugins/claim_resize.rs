//! `PersistentVolumeClaimResize`: a claim grows only when its class allows it.

use super::quantity;
use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Resource, StatusError};
use std::sync::Arc;

/// The plugin.
pub struct PersistentVolumeClaimResize {
    reader: Arc<dyn ObjectReader>,
}

impl PersistentVolumeClaimResize {
    /// Reads classes through `reader`.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        operation == Operation::Update && subresource.is_empty() && is(resource, "", "persistentvolumeclaims")
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let size = |claim: &rutter_api::Value| quantity::of(claim.at("spec.resources.requests.storage"));
        let (Some(old), Some(new)) = (size(attributes.old), size(&attributes.object)) else {
            return Ok(());
        };
        if new <= old {
            return Ok(());
        }
        if attributes.old.str_at("status.phase") != "Bound" {
            return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = attributes.object.str_at("spec.storageClassName");
        let classes = GroupResource::new("storage.k8s.io", "storageclasses");
        let class = self.reader.get(&classes, "", class).filter(|_| !class.is_empty());
        if class.is_some_and(|class| class.bool_at("allowVolumeExpansion") == Some(true)) {
            return Ok(());
        }
        Err(attributes.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        ))
    }
}
