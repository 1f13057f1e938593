//! `DefaultIngressClass`: an Ingress that names no class gets the default one.

use super::storage_class::default_class;
use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Resource, StatusError};
use std::sync::Arc;

/// The plugin.
pub struct DefaultIngressClass {
    reader: Arc<dyn ObjectReader>,
}

impl DefaultIngressClass {
    /// Reads classes through `reader`.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        operation == Operation::Create
            && subresource.is_empty()
            && is(resource, "networking.k8s.io", "ingresses")
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let ingress = &mut attributes.object;
        if !ingress.at("spec.ingressClassName").is_null()
            || ingress.annotation("kubernetes.io/ingress.class").is_some()
        {
            return Ok(());
        }
        let classes = self
            .reader
            .list(&GroupResource::new("networking.k8s.io", "ingressclasses"), None);
        if let Some(class) = default_class(&classes, &["ingressclass.kubernetes.io/is-default-class"]) {
            ingress.set("spec.ingressClassName", class.name());
        }
        Ok(())
    }
}
