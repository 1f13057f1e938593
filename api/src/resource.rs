//! The scheme: one descriptor per served resource, built-in or custom.

use crate::meta::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
use crate::strategy::Strategy;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A subresource below a resource, such as `status` or `scale`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// The path segment.
    pub name: Cow<'static, str>,
    /// What is sent and received there when it isn't the resource's own kind (`autoscaling/v1 Scale`, `policy/v1 Eviction`).
    pub kind: Option<GroupVersionKind>,
    /// The verbs that discovery lists: `get`, `patch`, `update`, `create`.
    pub verbs: Cow<'static, [Cow<'static, str>]>,
}

/// One resource in one version, and all that the generic registry needs to serve it.
#[derive(Clone)]
pub struct Resource {
    /// Group and version served.
    pub group_version: GroupVersion,
    /// The kind.
    pub kind: Cow<'static, str>,
    /// The list kind, mostly the kind with `List`.
    pub list_kind: Cow<'static, str>,
    /// The lower-case plural: the path segment.
    pub plural: Cow<'static, str>,
    /// The lower-case singular.
    pub singular: Cow<'static, str>,
    /// Short names, such as `po`.
    pub short_names: Vec<Cow<'static, str>>,
    /// Categories, such as `all`.
    pub categories: Vec<Cow<'static, str>>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// The verbs served. Virtual resources (`tokenreviews`, `subjectaccessreviews`) have `create` alone.
    pub verbs: Vec<Cow<'static, str>>,
    /// Its subresources.
    pub subresources: Vec<Subresource>,
    /// The store's prefix without the trailing slash, such as `/registry/pods` or `/registry/services/specs`; below it
    /// come `/<namespace>/<name>` or `/<name>`. None for virtual resources.
    pub storage_prefix: Option<Cow<'static, str>>,
    /// The version that is stored, when that is another.
    pub storage_version: GroupVersion,
    /// The name of its type in the schema: `io.k8s.api.core.v1.Pod`.
    pub schema: Cow<'static, str>,
    /// What is special about it.
    pub strategy: Arc<dyn Strategy>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group_version, self.plural)
    }
}

impl Resource {
    /// Group, version and kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(
            &self.group_version.group,
            &self.group_version.version,
            &*self.kind,
        )
    }

    /// Group, version and plural.
    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(
            &self.group_version.group,
            &self.group_version.version,
            &*self.plural,
        )
    }

    /// Group and plural, as errors name it.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.group_version.group, &*self.plural)
    }

    /// Group and kind, as errors name it.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(&self.group_version.group, &*self.kind)
    }

    /// The subresource called `name`.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The store's key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> Option<String> {
        let prefix = self.storage_prefix.as_ref()?;
        Some(if self.namespaced {
            format!("{prefix}/{namespace}/{name}")
        } else {
            format!("{prefix}/{name}")
        })
    }
}

/// All resources served at one moment. A change (a CRD) makes a new one; readers keep the one they began with.
#[derive(Clone, Debug, Default)]
pub struct Scheme {
    by_path: BTreeMap<GroupVersion, BTreeMap<String, Arc<Resource>>>,
}

impl Scheme {
    /// An empty scheme.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a resource.
    pub fn insert(&mut self, resource: Resource) {
        self.insert_shared(Arc::new(resource));
    }

    /// Adds or replaces a resource that others hold too.
    pub fn insert_shared(&mut self, resource: Arc<Resource>) {
        self.by_path
            .entry(resource.group_version.clone())
            .or_default()
            .insert(resource.plural.clone().into_owned(), resource);
    }

    /// Takes a resource out.
    pub fn remove(&mut self, gvr: &GroupVersionResource) -> Option<Arc<Resource>> {
        let version = self.by_path.get_mut(&gvr.group_version())?;
        let gone = version.remove(&gvr.resource);
        if version.is_empty() {
            self.by_path.remove(&gvr.group_version());
        }
        gone
    }

    /// The resource at a path.
    pub fn get(&self, group_version: &GroupVersion, plural: &str) -> Option<&Arc<Resource>> {
        self.by_path.get(group_version)?.get(plural)
    }

    /// Whether anything is served in this group and version.
    pub fn has(&self, group_version: &GroupVersion) -> bool {
        self.by_path.contains_key(group_version)
    }

    /// The resource of a kind that isn't virtual, or else the virtual one.
    pub fn by_kind(&self, gvk: &GroupVersionKind) -> Option<&Arc<Resource>> {
        let version = self.by_path.get(&gvk.group_version())?;
        let mut found = version.values().filter(|r| r.kind == gvk.kind);
        found
            .clone()
            .find(|r| r.storage_prefix.is_some())
            .or_else(|| found.next())
    }

    /// All versions served, ordered by group and version text.
    pub fn group_versions(&self) -> impl Iterator<Item = &GroupVersion> {
        self.by_path.keys()
    }

    /// The resources of a version, ordered by plural.
    pub fn resources(&self, group_version: &GroupVersion) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_path
            .get(group_version)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// All resources.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_path.values().flat_map(BTreeMap::values)
    }
}
