//! Nobody hands out rights that they don't have themselves: RBAC's check against escalation.

use super::hooks::Hook;
use super::{Call, Extra};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{StatusError, Value};
use rutter_auth::authorize::rule::Rule;
use rutter_auth::{Attributes, Decision, names};

/// The check on writes of roles and bindings.
pub struct Escalation;

#[async_trait]
impl Hook for Escalation {
    async fn create(&self, call: &Call, object: &mut Value, _dry_run: bool) -> Result<Extra, StatusError> {
        check(call, object, None).await.map(|()| Extra::default())
    }

    async fn update(
        &self,
        call: &Call,
        object: &mut Value,
        old: &Value,
        _dry_run: bool,
    ) -> Result<Extra, StatusError> {
        check(call, object, Some(old)).await.map(|()| Extra::default())
    }
}

async fn check(call: &Call, object: &Value, old: Option<&Value>) -> Result<(), StatusError> {
    let Some(rbac) = &call.server.rbac else {
        return Ok(());
    };
    if call.user.in_group(names::MASTERS) {
        return Ok(());
    }
    let binding = matches!(&*call.resource.plural, "rolebindings" | "clusterrolebindings");
    let same = |path: &str| old.is_some_and(|old| old.at(path) == object.at(path));
    let unchanged = if binding {
        same("roleRef") && same("subjects")
    } else {
        same("rules") && same("aggregationRule")
    };
    if unchanged {
        return Ok(());
    }
    let namespace = call.info.namespace.as_str();
    let reference = object.at("roleRef");
    let (verb, plural, name) = match (binding, reference.str_at("kind")) {
        (false, _) => ("escalate", &*call.resource.plural, object.name()),
        (true, "Role") => ("bind", "roles", reference.str_at("name")),
        (true, _) => ("bind", "clusterroles", reference.str_at("name")),
    };
    let attributes = Attributes {
        verb: verb.into(),
        namespace: namespace.into(),
        group: call.resource.group_version.group.as_str().into(),
        version: "*".into(),
        resource: plural.into(),
        name: name.into(),
        ..Attributes::default()
    };
    if matches!(
        call.server.authorizer.authorize(&call.user, &attributes).await,
        Decision::Allow(_)
    ) {
        return Ok(());
    }
    let resource = call.group_resource();
    let wanted = if binding {
        rbac.rules_of_reference(reference, namespace)?
    } else {
        if !object.at("aggregationRule").is_null() {
            let all = Rule {
                verbs: vec!["*".to_owned()],
                groups: vec!["*".to_owned()],
                resources: vec!["*".to_owned()],
                ..Rule::default()
            };
            rbac.check_escalation(&call.user, &resource, namespace, object.name(), &[all])?;
        }
        Rule::of_role(object)
    };
    rbac.check_escalation(&call.user, &resource, namespace, object.name(), &wanted)
}
