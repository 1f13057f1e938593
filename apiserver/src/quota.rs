//! Writes of quota status for admission, through the registry.

use crate::bootstrap::internal;
use crate::registry::update::Change;
use crate::request::params::WriteOptions;
use crate::server::Server;
use async_trait::async_trait;
use rutter_admission::QuotaWriter;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupVersion, StatusError, Value};
use std::sync::{Arc, OnceLock, Weak};

/// The writer; bound to its server once that is made.
#[derive(Default)]
pub struct QuotaStatus(OnceLock<Weak<Server>>);

impl QuotaStatus {
    /// Writes through this server.
    pub fn bind(&self, server: &Arc<Server>) {
        let _ = self.0.set(Arc::downgrade(server));
    }
}

#[async_trait]
impl QuotaWriter for QuotaStatus {
    async fn update_status(&self, quota: Value) -> Result<Arc<Value>, StatusError> {
        let server = self.0.get().and_then(Weak::upgrade);
        let server = server.ok_or_else(|| StatusError::unavailable("the server is starting"))?;
        let mut call = internal(
            &server,
            &GroupVersion::new("", "v1"),
            "resourcequotas",
            quota.namespace(),
        )?;
        quota.name().clone_into(&mut call.info.name);
        "status".clone_into(&mut call.info.subresource);
        let make = |old: Option<&Value>| {
            let old = old.ok_or_else(|| call.not_found(quota.name()))?;
            if old.resource_version() != quota.resource_version() {
                return Err(StatusError::stale(&call.group_resource(), quota.name()));
            }
            let mut changed = old.clone();
            changed.set("status", quota.at("status").clone());
            Ok(changed)
        };
        let change = Change {
            make: &make,
            creates: false,
            direct: true,
            managed: false,
        };
        let changed = call.change(&change, &WriteOptions::default()).await?;
        Ok(Arc::new(changed.kept.object))
    }
}
