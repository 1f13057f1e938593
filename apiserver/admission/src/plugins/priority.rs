//! `Priority`: turns a pod's priority class name into its number, and allows one global default.

use super::is_pods;
use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Resource, StatusError, Value};
use serde_json::json;
use std::sync::Arc;

/// The plugin.
pub struct Priority {
    reader: Arc<dyn ObjectReader>,
}

/// The classes that every cluster has; the apiserver makes them at start.
pub fn system_classes() -> [Value; 2] {
    [
        ("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
    .map(|(name, value, description)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
        })
    })
}

fn classes() -> GroupResource {
    GroupResource::new("scheduling.k8s.io", "priorityclasses")
}

impl Priority {
    /// Reads classes through `reader`.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader }
    }

    /// The class for pods that name none: of several defaults the lowest.
    fn default_class(&self) -> Option<Arc<Value>> {
        let all = self.reader.list(&classes(), None);
        all.into_iter()
            .filter(|class| class.bool_at("globalDefault") == Some(true))
            .min_by_key(|class| class.int_at("value").unwrap_or_default())
    }

    fn admit_pod(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let name = attributes.object.str_at("spec.priorityClassName").to_owned();
        if attributes.operation == Operation::Update {
            if let (true, Some(old)) = (
                attributes.object.at("spec.priority").is_null(),
                attributes.old.int_at("spec.priority"),
            ) {
                attributes.object.set("spec.priority", old);
            }
            return Ok(());
        }
        let class = if name.is_empty() {
            self.default_class()
        } else {
            let found = self.reader.get(&classes(), "", &name);
            let Some(found) = found else {
                return Err(attributes.forbidden(format!("no PriorityClass with name {name} was found")));
            };
            Some(found)
        };
        let (value, policy) = match &class {
            Some(class) => {
                let policy = class.str_at("preemptionPolicy");
                let policy = if policy.is_empty() {
                    "PreemptLowerPriority"
                } else {
                    policy
                };
                (class.int_at("value").unwrap_or_default(), policy)
            }
            None => (0, "PreemptLowerPriority"),
        };
        if let Some(given) = attributes
            .object
            .int_at("spec.priority")
            .filter(|given| *given != value)
        {
            return Err(attributes.forbidden(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            )));
        }
        let given = attributes.object.str_at("spec.preemptionPolicy");
        if !given.is_empty() && given != policy {
            return Err(attributes.forbidden(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        if let (true, Some(class)) = (name.is_empty(), &class) {
            attributes.object.set("spec.priorityClassName", class.name());
        }
        attributes.object.set("spec.priority", value);
        attributes.object.set("spec.preemptionPolicy", policy);
        Ok(())
    }
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && (is_pods(resource, subresource)
                || (subresource.is_empty() && is(resource, "scheduling.k8s.io", "priorityclasses")))
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        if attributes.is("", "pods") {
            self.admit_pod(attributes)
        } else {
            Ok(())
        }
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        if attributes.is("", "pods") || attributes.object.bool_at("globalDefault") != Some(true) {
            return Ok(());
        }
        match self.default_class() {
            Some(class) if class.name() != attributes.object.name() => Err(attributes.forbidden(format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                class.name()
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Objects, create, pods, resource};

    #[tokio::test]
    async fn names_become_numbers() {
        let objects = Objects::default();
        for class in system_classes() {
            objects.put("priorityclasses", class);
        }
        let plugin = Priority::new(Arc::new(objects.clone()));
        let pod = |spec: Value| json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
        let got = create(&plugin, &pods(), pod(json!({}))).await.unwrap();
        assert_eq!(
            got["spec"],
            json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"})
        );
        let named = json!({"priorityClassName": "system-node-critical"});
        assert_eq!(
            create(&plugin, &pods(), pod(named)).await.unwrap()["spec"]["priority"],
            2_000_001_000
        );
        for spec in [
            json!({"priorityClassName": "gone"}),
            json!({"priority": 5}),
            json!({"preemptionPolicy": "Never"}),
        ] {
            assert_eq!(create(&plugin, &pods(), pod(spec)).await.unwrap_err().code, 403);
        }
        objects.put(
            "priorityclasses",
            json!({"metadata": {"name": "d"}, "value": 7, "globalDefault": true}),
        );
        let got = create(&plugin, &pods(), pod(json!({}))).await.unwrap();
        assert_eq!(
            (got.str_at("spec.priorityClassName"), got.int_at("spec.priority")),
            ("d", Some(7))
        );
        let kind = resource("scheduling.k8s.io", "priorityclasses", "PriorityClass", false);
        let second = json!({"metadata": {"name": "e"}, "globalDefault": true});
        assert!(
            create(&plugin, &kind, second)
                .await
                .unwrap_err()
                .message
                .contains("already marked as default")
        );
    }
}
