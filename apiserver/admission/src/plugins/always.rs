//! `AlwaysAdmit` and `AlwaysDeny`: for tests of clusters, as upstream has them.

use crate::{Attributes, Operation, Plugin};
use async_trait::async_trait;
use rutter_api::{Resource, StatusError};

/// Says nothing on anything.
#[derive(Clone, Copy, Debug)]
pub struct AlwaysAdmit;

#[async_trait]
impl Plugin for AlwaysAdmit {
    fn name(&self) -> &'static str {
        "AlwaysAdmit"
    }

    fn handles(&self, _: Operation, _: &Resource, _: &str) -> bool {
        false
    }
}

/// Refuses everything.
#[derive(Clone, Copy, Debug)]
pub struct AlwaysDeny;

#[async_trait]
impl Plugin for AlwaysDeny {
    fn name(&self) -> &'static str {
        "AlwaysDeny"
    }

    fn handles(&self, _: Operation, _: &Resource, _: &str) -> bool {
        true
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        Err(attributes.forbidden("admission control is denying all modifications"))
    }
}
