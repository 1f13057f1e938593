//! `NamespaceExists`: what NamespaceLifecycle does for missing namespaces, for who runs without that.

use super::namespace_lifecycle::find;
use crate::chain::Dependencies;
use crate::{Attributes, LiveReader, Operation, Plugin};
use async_trait::async_trait;
use rutter_api::{ObjectReader, Resource, StatusError};
use std::sync::Arc;

/// Refuses writes into namespaces that do not exist.
pub struct NamespaceExists {
    reader: Arc<dyn ObjectReader>,
    live: Arc<dyn LiveReader>,
}

pub(crate) fn make(with: &Dependencies) -> Arc<dyn Plugin> {
    Arc::new(NamespaceExists {
        reader: with.reader.clone(),
        live: with.live.clone(),
    })
}

#[async_trait]
impl Plugin for NamespaceExists {
    fn name(&self) -> &'static str {
        "NamespaceExists"
    }

    fn handles(&self, operation: Operation, resource: &Resource, _: &str) -> bool {
        resource.namespaced && operation != Operation::Connect
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        find(&*self.reader, &*self.live, attributes.namespace)
            .await
            .map(drop)
    }
}
