//! `DefaultStorageClass`: a claim that names no class gets the default one.

use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Resource, StatusError, Value};
use std::sync::Arc;

/// The plugin.
pub struct DefaultStorageClass {
    reader: Arc<dyn ObjectReader>,
}

impl DefaultStorageClass {
    /// Reads classes through `reader`.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }
}

/// The default among classes: the newest of those annotated, then by name.
pub(crate) fn default_class(classes: &[Arc<Value>], annotations: &[&str]) -> Option<Arc<Value>> {
    let marked = |class: &&Arc<Value>| annotations.iter().any(|a| class.annotation(a) == Some("true"));
    let mut all: Vec<&Arc<Value>> = classes.iter().filter(marked).collect();
    all.sort_by(|a, b| {
        let time = |class: &Value| class.str_at("metadata.creationTimestamp").to_owned();
        time(b).cmp(&time(a)).then_with(|| a.name().cmp(b.name()))
    });
    all.first().map(|class| (*class).clone())
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        operation == Operation::Create && subresource.is_empty() && is(resource, "", "persistentvolumeclaims")
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let claim = &mut attributes.object;
        // An empty text is an answer: no class.
        if !claim.at("spec.storageClassName").is_null()
            || claim
                .annotation("volume.beta.kubernetes.io/storage-class")
                .is_some()
        {
            return Ok(());
        }
        let classes = self
            .reader
            .list(&GroupResource::new("storage.k8s.io", "storageclasses"), None);
        let annotations = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ];
        if let Some(class) = default_class(&classes, &annotations) {
            claim.set("spec.storageClassName", class.name());
        }
        Ok(())
    }
}
