//! Registration lines: a small builder over [`Resource`] so that a kind costs one readable line.

use rutter_api::strategy::Strategy;
use rutter_api::{GroupVersion, GroupVersionKind, Resource, Scheme, Subresource};
use std::borrow::Cow;
use std::sync::Arc;

const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

/// One group and version while its kinds are being registered.
pub(crate) struct Group<'a> {
    scheme: &'a mut Scheme,
    group_version: GroupVersion,
    schema: &'static str,
}

/// A kind being registered; it enters the scheme when the line ends.
pub(crate) struct Line<'a> {
    scheme: &'a mut Scheme,
    resource: Option<Resource>,
}

impl<'a> Group<'a> {
    /// `schema` is what stands before the kind in the schema's name.
    pub(crate) fn new(scheme: &'a mut Scheme, group: &str, version: &str, schema: &'static str) -> Self {
        Self {
            scheme,
            group_version: GroupVersion::new(group, version),
            schema,
        }
    }

    /// A kind whose objects live in namespaces.
    pub(crate) fn namespaced(
        &mut self,
        kind: &'static str,
        plural: &'static str,
        s: impl Strategy,
    ) -> Line<'_> {
        self.kind(kind, plural, true, s)
    }

    /// A kind whose objects live in no namespace.
    pub(crate) fn cluster(&mut self, kind: &'static str, plural: &'static str, s: impl Strategy) -> Line<'_> {
        self.kind(kind, plural, false, s)
    }

    fn kind(
        &mut self,
        kind: &'static str,
        plural: &'static str,
        namespaced: bool,
        s: impl Strategy,
    ) -> Line<'_> {
        let resource = Resource {
            group_version: self.group_version.clone(),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced,
            verbs: ALL_VERBS.iter().map(|&verb| verb.into()).collect(),
            subresources: Vec::new(),
            storage_prefix: Some(format!("/registry/{plural}").into()),
            storage_version: self.group_version.clone(),
            schema: format!("{}.{}.{kind}", self.schema, self.group_version.version).into(),
            strategy: Arc::new(s),
        };
        Line {
            scheme: self.scheme,
            resource: Some(resource),
        }
    }
}

impl Line<'_> {
    fn with(mut self, change: impl FnOnce(&mut Resource)) -> Self {
        if let Some(resource) = &mut self.resource {
            change(resource);
        }
        self
    }

    /// A virtual resource: nothing is stored, a create is a question.
    pub(crate) fn question(self) -> Self {
        self.with(|r| {
            r.verbs = vec!["create".into()];
            r.storage_prefix = None;
        })
    }

    /// A virtual resource that is only read.
    pub(crate) fn read_only(self) -> Self {
        self.with(|r| {
            r.verbs = vec!["get".into(), "list".into()];
            r.storage_prefix = None;
        })
    }

    /// Takes a verb away.
    pub(crate) fn without(self, verb: &str) -> Self {
        self.with(|r| r.verbs.retain(|v| v != verb))
    }

    /// Adds a short name.
    pub(crate) fn short(self, name: &'static str) -> Self {
        self.with(|r| r.short_names.push(name.into()))
    }

    /// Adds the category `all`.
    pub(crate) fn all(self) -> Self {
        self.with(|r| r.categories.push("all".into()))
    }

    /// Adds the category `api-extensions`.
    pub(crate) fn extension(self) -> Self {
        self.with(|r| r.categories.push("api-extensions".into()))
    }

    /// Stored elsewhere than under its plural.
    pub(crate) fn at(self, prefix: &'static str) -> Self {
        self.with(|r| r.storage_prefix = Some(prefix.into()))
    }

    /// Stored in another version; for events that is one of another group.
    pub(crate) fn stored_as(self, group: &'static str, version: &'static str) -> Self {
        self.with(|r| r.storage_version = GroupVersion::new(group, version))
    }

    /// A subresource that takes the kind itself.
    pub(crate) fn sub(self, name: &'static str, verbs: &'static [&'static str]) -> Self {
        self.subresource(name, None, verbs)
    }

    /// A subresource that takes another kind.
    pub(crate) fn sub_of(
        self,
        name: &'static str,
        (group, version, kind): (&str, &str, &str),
        verbs: &'static [&'static str],
    ) -> Self {
        self.subresource(name, Some(GroupVersionKind::new(group, version, kind)), verbs)
    }

    /// `status`
    pub(crate) fn status(self) -> Self {
        self.sub("status", STATUS_VERBS)
    }

    /// `scale`
    pub(crate) fn scale(self) -> Self {
        self.sub_of("scale", ("autoscaling", "v1", "Scale"), STATUS_VERBS)
    }

    fn subresource(
        self,
        name: &'static str,
        kind: Option<GroupVersionKind>,
        verbs: &'static [&'static str],
    ) -> Self {
        let verbs: Vec<Cow<'static, str>> = verbs.iter().map(|&verb| verb.into()).collect();
        self.with(|r| {
            r.subresources.push(Subresource {
                name: name.into(),
                kind,
                verbs: verbs.into(),
            })
        })
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if let Some(resource) = self.resource.take() {
            self.scheme.insert(resource);
        }
    }
}
