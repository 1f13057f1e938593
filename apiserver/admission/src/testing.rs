//! Stand-ins for the server, for tests.

use crate::chain::Dependencies;
use crate::metrics::WebhookMetrics;
use crate::{Attributes, LiveReader, Operation, Plugin, QuotaWriter, Versions};
use async_trait::async_trait;
use parking_lot::Mutex;
use rutter_api::object::ObjectExt;
use rutter_api::schema::Types;
use rutter_api::{
    GroupResource, GroupVersion, ObjectReader, Reason, Resource, Scheme, StatusError, UserInfo, Value,
};
use rutter_outbound::{ClusterAddresses, Outbound};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

type Key = (String, String, String);
/// A generation, and the objects as of it.
type Held = (u64, BTreeMap<Key, Arc<Value>>);

#[derive(Clone, Default)]
pub(crate) struct Objects(Arc<Mutex<Held>>);

impl Objects {
    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        let mut inner = self.0.lock();
        inner.0 += 1;
        object.set("metadata.resourceVersion", inner.0.to_string());
        let key = (
            plural.to_owned(),
            object.namespace().to_owned(),
            object.name().to_owned(),
        );
        inner.1.insert(key, Arc::new(object));
    }

    pub(crate) fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0
            .lock()
            .1
            .get(&(plural.to_owned(), namespace.to_owned(), name.to_owned()))
            .cloned()
    }
}

impl ObjectReader for Objects {
    fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.find(&resource.resource, namespace, name)
    }

    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let inner = self.0.lock();
        let of = |key: &Key| key.0 == resource.resource && namespace.is_none_or(|n| n == key.1);
        inner
            .1
            .iter()
            .filter(|(key, _)| of(key))
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn generation(&self, _resource: &GroupResource) -> u64 {
        self.0.lock().0
    }
}

#[async_trait]
impl LiveReader for Objects {
    async fn get(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, StatusError> {
        Ok(self.find(&resource.resource, namespace, name))
    }
}

#[async_trait]
impl QuotaWriter for Objects {
    async fn update_status(&self, quota: Value) -> Result<Arc<Value>, StatusError> {
        let stored = self.find("resourcequotas", quota.namespace(), quota.name());
        let name = quota.name().to_owned();
        let namespace = quota.namespace().to_owned();
        if stored.is_none_or(|stored| stored.resource_version() != quota.resource_version()) {
            return Err(StatusError::new(Reason::Conflict, "conflict"));
        }
        self.put("resourcequotas", quota);
        Ok(self.find("resourcequotas", &namespace, &name).unwrap())
    }
}

pub(crate) fn with(objects: &Objects) -> Dependencies {
    let objects = Arc::new(objects.clone());
    Dependencies {
        reader: objects.clone(),
        live: objects.clone(),
        quota: objects.clone(),
        authorizer: Arc::new(rutter_auth::authorize::AlwaysDeny),
        clock: rutter_auth::system_clock(),
        not_ready_toleration_seconds: 300,
        unreachable_toleration_seconds: 300,
        pod_security: Default::default(),
        event_rate_limit: Default::default(),
        mutating_webhooks: Outbound::new(Arc::new(ClusterAddresses(objects.clone()))),
        validating_webhooks: Outbound::new(Arc::new(ClusterAddresses(objects.clone()))),
        webhook_metrics: WebhookMetrics::make().unwrap(),
    }
}

/// Nothing is served, so every write is looked at as it is.
pub(crate) struct Unserved(Scheme);

impl Unserved {
    pub(crate) fn get() -> &'static Self {
        static UNSERVED: LazyLock<Unserved> = LazyLock::new(|| Unserved(Scheme::new()));
        &UNSERVED
    }
}

#[async_trait]
impl Versions for Unserved {
    fn scheme(&self) -> &Scheme {
        &self.0
    }

    fn types(&self, _resource: &Resource) -> &Types {
        rutter_api::schema::builtin()
    }

    async fn convert(&self, _: &Resource, _: &Resource, object: Value) -> Result<Value, StatusError> {
        Ok(object)
    }
}

pub(crate) fn dependencies() -> Dependencies {
    with(&Objects::default())
}

pub(crate) fn resource(group: &str, plural: &str, kind: &'static str, namespaced: bool) -> Resource {
    let version = GroupVersion::new(group, "v1");
    Resource {
        group_version: version.clone(),
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        plural: plural.to_owned().into(),
        singular: kind.to_lowercase().into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced,
        verbs: Vec::new(),
        subresources: Vec::new(),
        storage_prefix: None,
        storage_version: version,
        schema: "".into(),
        strategy: Arc::new(rutter_api::strategy::Plain),
    }
}

pub(crate) fn pods() -> Resource {
    resource("", "pods", "Pod", true)
}

/// Runs both phases of a plugin on a write by nobody in particular.
pub(crate) async fn admit(
    plugin: &dyn Plugin,
    operation: Operation,
    resource: &Resource,
    subresource: &str,
    object: Value,
    old: Value,
) -> Result<(Value, Vec<String>), StatusError> {
    let user = UserInfo::default();
    admit_as(plugin, &user, operation, resource, subresource, object, old).await
}

pub(crate) async fn admit_as(
    plugin: &dyn Plugin,
    user: &UserInfo,
    operation: Operation,
    resource: &Resource,
    subresource: &str,
    object: Value,
    old: Value,
) -> Result<(Value, Vec<String>), StatusError> {
    let of = if object.is_null() { &old } else { &object };
    let (namespace, name) = (of.namespace().to_owned(), of.name().to_owned());
    let mut attributes = Attributes {
        operation,
        resource,
        subresource,
        namespace: &namespace,
        name: &name,
        user,
        dry_run: false,
        object,
        old: &old,
        options: &Value::Null,
        warnings: Vec::new(),
        annotations: Vec::new(),
        versions: Unserved::get(),
        reinvocation: Default::default(),
    };
    if plugin.handles(operation, resource, subresource) {
        plugin.mutate(&mut attributes).await?;
        plugin.validate(&mut attributes).await?;
    }
    Ok((attributes.object, attributes.warnings))
}

pub(crate) async fn create(
    plugin: &dyn Plugin,
    resource: &Resource,
    object: Value,
) -> Result<Value, StatusError> {
    admit(plugin, Operation::Create, resource, "", object, Value::Null)
        .await
        .map(|(object, _)| object)
}
