//! Who calls, and read access to objects for those who decide about calls.

use crate::meta::GroupResource;
use crate::object::ObjectExt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name, such as `system:serviceaccount:default:web`.
    pub name: String,
    /// A stable identity behind the name, where the authenticator knows one.
    pub uid: String,
    /// The groups, `system:authenticated` or `system:unauthenticated` included.
    pub groups: Vec<String>,
    /// More facts from the authenticator.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// Whether the user is in the group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// Read access to stored objects, answered from the watch caches without waiting: it may lag behind the store by the
/// time of a watch event.
pub trait ObjectReader: Send + Sync {
    /// One object in its stored version; namespace is empty for cluster-scoped ones.
    fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Value>>;

    /// All objects of a resource, of one namespace when given.
    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>>;

    /// The objects among them whose selectable field, a text, has this value. Cheap where that field is indexed: a pod's node.
    fn select(
        &self,
        resource: &GroupResource,
        namespace: Option<&str>,
        field: &str,
        value: &str,
    ) -> Vec<Arc<Value>> {
        let mut all = self.list(resource, namespace);
        all.retain(|object| object.str_at(field) == value);
        all
    }

    /// A number that changes whenever any object of the resource changes: what an index over them is valid for.
    fn generation(&self, resource: &GroupResource) -> u64;
}
