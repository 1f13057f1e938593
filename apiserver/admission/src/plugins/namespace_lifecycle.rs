//! `NamespaceLifecycle`: nothing is created in a namespace that does not exist or is going away, and the namespaces that the
//! system lives in are not deleted.

use crate::{Attributes, LiveReader, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::status::Cause;
use rutter_api::{GroupResource, ObjectReader, Resource, StatusError, Value};
use std::sync::Arc;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
pub struct NamespaceLifecycle {
    reader: Arc<dyn ObjectReader>,
    live: Arc<dyn LiveReader>,
}

impl NamespaceLifecycle {
    /// A namespace that the cache does not have is looked up live.
    pub fn new(reader: Arc<dyn ObjectReader>, live: Arc<dyn LiveReader>) -> Self {
        Self { reader, live }
    }
}

/// A namespace from the cache, or else from the store: one just created may be used at once.
pub(crate) async fn find(
    reader: &dyn ObjectReader,
    live: &dyn LiveReader,
    name: &str,
) -> Result<Arc<Value>, StatusError> {
    let namespaces = GroupResource::new("", "namespaces");
    if let Some(found) = reader.get(&namespaces, "", name) {
        return Ok(found);
    }
    live.get(&namespaces, "", name)
        .await?
        .ok_or_else(|| StatusError::not_found(&namespaces, name))
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation, resource: &Resource, _: &str) -> bool {
        match operation {
            Operation::Create | Operation::Update => {
                resource.namespaced && !is(resource, "authorization.k8s.io", "localsubjectaccessreviews")
            }
            Operation::Delete => is(resource, "", "namespaces"),
            Operation::Connect => false,
        }
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        if attributes.operation == Operation::Delete {
            if IMMORTAL.contains(&attributes.name) {
                let namespaces = GroupResource::new("", "namespaces");
                return Err(StatusError::forbidden(
                    &namespaces,
                    attributes.name,
                    "this namespace may not be deleted",
                ));
            }
            return Ok(());
        }
        let name = attributes.namespace;
        let namespace = find(&*self.reader, &*self.live, name).await?;
        if attributes.operation == Operation::Create && namespace.str_at("status.phase") == "Terminating" {
            let why =
                format!("unable to create new content in namespace {name} because it is being terminated");
            let mut error = attributes.forbidden(why);
            error.causes.push(Cause {
                reason: "NamespaceTerminating".to_owned(),
                message: format!("namespace {name} is being terminated"),
                field: "metadata.namespace".to_owned(),
            });
            return Err(error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Objects, admit, create, pods, resource};
    use serde_json::json;

    #[tokio::test]
    async fn nothing_begins_where_there_is_no_future() {
        let objects = Objects::default();
        objects.put(
            "namespaces",
            json!({"metadata": {"name": "live"}, "status": {"phase": "Active"}}),
        );
        objects.put(
            "namespaces",
            json!({"metadata": {"name": "dying"}, "status": {"phase": "Terminating"}}),
        );
        let plugin = NamespaceLifecycle::new(Arc::new(objects.clone()), Arc::new(objects));
        let pod = |namespace: &str| json!({"metadata": {"name": "p", "namespace": namespace}});
        assert!(create(&plugin, &pods(), pod("live")).await.is_ok());
        assert_eq!(
            create(&plugin, &pods(), pod("x")).await.unwrap_err().message,
            r#"namespaces "x" not found"#
        );
        let error = create(&plugin, &pods(), pod("dying")).await.unwrap_err();
        assert_eq!(
            error.message,
            r#"pods "p" is forbidden: unable to create new content in namespace dying because it is being terminated"#
        );
        assert_eq!(error.causes[0].reason, "NamespaceTerminating");
        let namespaces = resource("", "namespaces", "Namespace", false);
        let delete = |name: &str| json!({"metadata": {"name": name}});
        for (name, want) in [("default", false), ("mine", true)] {
            let got = admit(
                &plugin,
                Operation::Delete,
                &namespaces,
                "",
                Value::Null,
                delete(name),
            )
            .await;
            assert_eq!(got.is_ok(), want, "{name}");
        }
    }
}
