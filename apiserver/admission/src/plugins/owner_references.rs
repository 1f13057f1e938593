//! `OwnerReferencesPermissionEnforcement`: who changes owner references may delete the object, and who blocks an owner's
//! deletion may change the owner's finalizers.

use crate::{Attributes, Operation, Plugin};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupVersion, Resource, StatusError, Value};
use rutter_auth::{Authorizer, Decision};
use std::sync::Arc;

/// The plugin.
pub struct OwnerReferencesPermissionEnforcement {
    authorizer: Arc<dyn Authorizer>,
}

impl OwnerReferencesPermissionEnforcement {
    /// Asks `authorizer`.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }

    async fn may(&self, attributes: &Attributes<'_>, asked: rutter_auth::Attributes<'_>) -> bool {
        matches!(
            self.authorizer.authorize(attributes.user, &asked).await,
            Decision::Allow(_)
        )
    }
}

#[async_trait]
impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn handles(&self, operation: Operation, _: &Resource, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update) && subresource != "status"
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let attributes = &*attributes;
        let new = attributes.object.list_at("metadata.ownerReferences");
        let old = attributes.old.list_at("metadata.ownerReferences");
        if new == old {
            return Ok(());
        }
        if attributes.operation == Operation::Update {
            let version = &attributes.resource.group_version;
            let asked = rutter_auth::Attributes {
                verb: "delete".into(),
                namespace: attributes.namespace.into(),
                group: version.group.as_str().into(),
                version: version.version.as_str().into(),
                resource: (&*attributes.resource.plural).into(),
                name: attributes.name.into(),
                ..Default::default()
            };
            if !self.may(attributes, asked).await {
                return Err(
                    attributes.forbidden("cannot set an ownerRef on a resource you can't delete: , <nil>")
                );
            }
        }
        let blocks = |reference: &Value| reference.bool_at("blockOwnerDeletion") == Some(true);
        let had = |reference: &Value| {
            old.iter()
                .any(|o| o.str_at("uid") == reference.str_at("uid") && blocks(o))
        };
        for reference in new.iter().filter(|r| blocks(r) && !had(r)) {
            let version = GroupVersion::parse(reference.str_at("apiVersion")).unwrap_or_default();
            // The plural of a kind is a lower-case word in -s for all kinds that own anything.
            let plural = plural(reference.str_at("kind"));
            let asked = rutter_auth::Attributes {
                verb: "update".into(),
                namespace: attributes.namespace.into(),
                group: version.group.as_str().into(),
                version: version.version.as_str().into(),
                resource: plural.as_str().into(),
                subresource: "finalizers".into(),
                name: reference.str_at("name").into(),
                ..Default::default()
            };
            if !self.may(attributes, asked).await {
                return Err(attributes.forbidden(
                    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>",
                ));
            }
        }
        Ok(())
    }
}

fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    if kind.ends_with('s') || kind.ends_with('x') {
        format!("{kind}es")
    } else if let Some(stem) = kind.strip_suffix('y') {
        format!("{stem}ies")
    } else {
        format!("{kind}s")
    }
}
