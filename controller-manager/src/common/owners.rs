//! Owner references: reading them, and deciding what a controller adopts and releases.

use crate::common::selector::{Labels, Matcher};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use std::sync::Arc;

/// The reference to the managing controller.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|r| r.controller == Some(true))
}

/// The reference to the managing controller when it is of the kind `K` (in any version of its group).
pub fn controller_of_kind<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> Option<&OwnerReference> {
    controller_of(meta).filter(|r| r.kind == K::kind(&()) && group_of(&r.api_version) == K::group(&()))
}

/// The group of an `apiVersion`.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether the controller of an object has this UID.
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|r| r.uid == uid)
}

/// A reference that makes `owner` the managing controller and holds its foreground deletion until the dependent is gone.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name(owner.meta()).to_owned(),
        uid: uid(owner.meta()).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// `metadata.name`, empty when absent.
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// `metadata.namespace`, empty when absent.
pub fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// `metadata.uid`, empty when absent.
pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// A label's value.
pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// An annotation's value.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The labels, empty when absent.
pub fn labels(meta: &ObjectMeta) -> Labels {
    meta.labels.clone().unwrap_or_default()
}

/// Whether a finalizer is set.
pub fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == finalizer)
}

/// What a controller makes of the objects that it may own.
#[derive(Debug)]
pub struct Claim<K> {
    /// Owned and selected.
    pub owned: Vec<Arc<K>>,
    /// Selected orphans: to be adopted, then owned.
    pub adopt: Vec<Arc<K>>,
    /// Owned but no longer selected: to be released.
    pub release: Vec<Arc<K>>,
}

/// Sorts objects into owned, to adopt and to release. A controller that is being deleted neither adopts nor releases.
pub fn claim<K: Resource>(
    owner: &ObjectMeta,
    selector: &Matcher,
    objects: impl IntoIterator<Item = Arc<K>>,
) -> Claim<K> {
    let deleting = owner.deletion_timestamp.is_some();
    let mut claim = Claim {
        owned: Vec::new(),
        adopt: Vec::new(),
        release: Vec::new(),
    };
    for object in objects {
        let meta = object.meta();
        let selected = selector.matches(meta.labels.as_ref());
        match controller_of(meta) {
            Some(reference) if reference.uid != uid(owner) => {}
            Some(_) if selected => claim.owned.push(object),
            Some(_) if !deleting && meta.deletion_timestamp.is_none() => claim.release.push(object),
            None if selected && !deleting && meta.deletion_timestamp.is_none() => claim.adopt.push(object),
            _ => {}
        }
    }
    claim
}

/// The strategic merge patch that adopts an object, guarded by its UID.
pub fn adoption_patch(reference: &OwnerReference, uid: &str) -> serde_json::Value {
    serde_json::json!({"metadata": {"ownerReferences": [reference], "uid": uid}})
}

/// The strategic merge patch that releases an object, guarded by its UID.
pub fn release_patch(owner_uid: &str, uid: &str) -> serde_json::Value {
    serde_json::json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": owner_uid}], "uid": uid}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn pod(name: &str, app: &str, owner: Option<&str>, deleting: bool) -> Arc<Pod> {
        let owners = owner.map(
            |uid| json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "controller": true}]),
        );
        let deleted = deleting.then_some("2026-01-01T00:00:00Z");
        let value = json!({"metadata": {"name": name, "labels": {"app": app}, "ownerReferences": owners, "deletionTimestamp": deleted}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|p| name(&p.metadata)).collect()
    }

    #[test]
    fn orphans_are_adopted_and_strays_released_but_not_by_a_dying_owner() {
        let pods = || {
            [
                pod("mine", "a", Some("me"), false),
                pod("mine-dying", "a", Some("me"), true),
                pod("stray", "b", Some("me"), false),
                pod("orphan", "a", None, false),
                pod("orphan-dying", "a", None, true),
                pod("other-app", "b", None, false),
                pod("others", "a", Some("you"), false),
            ]
        };
        let selector = Matcher::of_map(&Labels::from([("app".to_owned(), "a".to_owned())]));
        let mut owner = ObjectMeta {
            uid: Some("me".to_owned()),
            ..ObjectMeta::default()
        };
        let got = claim(&owner, &selector, pods());
        assert_eq!(names(&got.owned), ["mine", "mine-dying"]);
        assert_eq!(names(&got.adopt), ["orphan"]);
        assert_eq!(names(&got.release), ["stray"]);
        owner.deletion_timestamp = Some(crate::common::time::time(jiff::Timestamp::UNIX_EPOCH));
        let got = claim(&owner, &selector, pods());
        assert_eq!(names(&got.owned), ["mine", "mine-dying"]);
        assert!(got.adopt.is_empty() && got.release.is_empty());
    }
}
