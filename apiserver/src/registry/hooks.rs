//! What is special about some kinds' writes and needs the store, the user's rights or other objects to decide.
//!
//! A kind that needs nothing of this has its strategy alone. Hooks run after defaults, preparation and validation, and before
//! validating admission; what they add to the transaction is applied with the object or not at all.

use super::rbac::Escalation;
use super::services::Services;
use super::{Call, Extra};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, StatusError, Value};
use std::sync::Arc;

/// A hook on the writes of some resources.
#[async_trait]
pub trait Hook: Send + Sync {
    /// Before an object is created.
    async fn create(&self, _call: &Call, _object: &mut Value, _dry_run: bool) -> Result<Extra, StatusError> {
        Ok(Extra::default())
    }

    /// Before an object is changed.
    async fn update(
        &self,
        _call: &Call,
        _object: &mut Value,
        _old: &Value,
        _dry_run: bool,
    ) -> Result<Extra, StatusError> {
        Ok(Extra::default())
    }

    /// Before an object is removed.
    async fn delete(&self, _call: &Call, _old: &Value) -> Result<Extra, StatusError> {
        Ok(Extra::default())
    }
}

/// The hooks of all kinds.
pub struct Hooks {
    services: Services,
    escalation: Escalation,
    custom: Vec<(GroupResource, Arc<dyn Hook>)>,
}

impl Hooks {
    /// The built-in hooks.
    pub fn new(services: Services) -> Self {
        Self {
            services,
            escalation: Escalation,
            custom: Vec::new(),
        }
    }

    /// Adds a hook on a resource.
    pub fn add(&mut self, resource: GroupResource, hook: Arc<dyn Hook>) {
        self.custom.push((resource, hook));
    }

    fn of(&self, resource: &GroupResource) -> Option<&dyn Hook> {
        match (resource.group.as_str(), resource.resource.as_str()) {
            ("", "services") => Some(&self.services),
            ("rbac.authorization.k8s.io", _) => Some(&self.escalation),
            ("certificates.k8s.io", "certificatesigningrequests") => Some(&super::requester::Requester),
            _ => {
                let found = self.custom.iter().find(|(of, _)| of == resource);
                found.map(|(_, hook)| &**hook)
            }
        }
    }

    /// Whether a resource's writes may carry more than the object.
    pub fn extends(&self, resource: &GroupResource) -> bool {
        self.of(resource).is_some()
    }

    /// Before an object is created.
    pub async fn create(&self, call: &Call, object: &mut Value, dry_run: bool) -> Result<Extra, StatusError> {
        match self.of(&call.group_resource()) {
            Some(hook) => hook.create(call, object, dry_run).await,
            None => Ok(Extra::default()),
        }
    }

    /// Before an object is changed.
    pub async fn update(
        &self,
        call: &Call,
        object: &mut Value,
        old: &Value,
        dry_run: bool,
    ) -> Result<Extra, StatusError> {
        match self.of(&call.group_resource()) {
            Some(hook) => hook.update(call, object, old, dry_run).await,
            None => Ok(Extra::default()),
        }
    }

    /// Before an object is removed.
    pub async fn delete(&self, call: &Call, old: &Value) -> Result<Extra, StatusError> {
        match self.of(&call.group_resource()) {
            Some(hook) => hook.delete(call, old).await,
            None => Ok(Extra::default()),
        }
    }

    /// Whether nothing but `metadata.finalizers` holds an object that is being deleted.
    pub fn lets_go(&self, resource: &GroupResource, object: &Value) -> bool {
        match (resource.group.as_str(), resource.resource.as_str()) {
            ("", "namespaces") => object.list_at("spec.finalizers").is_empty(),
            ("apiextensions.k8s.io", "customresourcedefinitions") => object.is_deleting(),
            _ => true,
        }
    }

    /// What else changes when an object is marked as being deleted.
    pub fn marked(&self, resource: &GroupResource, object: &mut Value) {
        if resource.group.is_empty() && resource.resource == "namespaces" {
            object.set("status.phase", "Terminating");
        }
        if resource.group == "apiextensions.k8s.io" && resource.resource == "customresourcedefinitions" {
            crate::crd::mark(object);
        }
    }
}
