//! `DenyServiceExternalIPs`: nobody takes over an address by a Service's `externalIPs`.

use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{Resource, StatusError};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct DenyServiceExternalIPs;

#[async_trait]
impl Plugin for DenyServiceExternalIPs {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn handles(&self, operation: Operation, resource: &Resource, _: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update) && is(resource, "", "services")
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let held = attributes.old.list_at("spec.externalIPs");
        if attributes
            .object
            .list_at("spec.externalIPs")
            .iter()
            .all(|ip| held.contains(ip))
        {
            return Ok(());
        }
        Err(attributes.forbidden("Use of external IPs is denied by admission control."))
    }
}
