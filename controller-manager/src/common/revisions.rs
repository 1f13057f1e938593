//! ControllerRevisions: the templates that a StatefulSet or DaemonSet has had.
//!
//! A revision is recognized by its content, not by its hash, so that another implementation's revisions are carried on.

use crate::common::hash;
use crate::common::owners::{controller_reference, labels, name, uid};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Resource;
use serde_json::{Value, json};
use std::sync::Arc;

/// The label of pods, and of a DaemonSet's revisions, that holds the revision's name or hash.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// What is to be done about the history.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// The current revision is there and the newest.
    Nothing,
    /// Create it.
    Create(Box<ControllerRevision>),
    /// It is an older one again: give it the newest number.
    Renumber(Box<ControllerRevision>),
}

/// The content of a template's revision.
fn content(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or(Value::Null);
    if let Some(map) = template.as_object_mut() {
        map.insert("$patch".to_owned(), json!("replace"));
    }
    json!({"spec": {"template": template}})
}

fn same(revision: &ControllerRevision, template: &PodTemplateSpec) -> bool {
    let there: Option<PodTemplateSpec> = template_of(revision);
    there.is_some_and(|t| t == *template || hash::canonical(&t) == hash::canonical(template))
}

/// The template that a revision holds.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Finds the current revision among the owner's, or says how to make it. Revisions are ordered from old to new afterwards.
pub fn current<K>(
    owner: &K,
    template: &PodTemplateSpec,
    collisions: Option<i32>,
    hash_label: &str,
    revisions: &mut [Arc<ControllerRevision>],
) -> (Arc<ControllerRevision>, Change)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    revisions.sort_by_key(|r| {
        (
            r.revision,
            r.metadata.creation_timestamp.clone(),
            r.metadata.name.clone(),
        )
    });
    let newest = revisions.last().map_or(0, |r| r.revision);
    if let Some(found) = revisions.iter().rev().find(|r| same(r, template)) {
        if found.revision == newest {
            return (found.clone(), Change::Nothing);
        }
        let mut renumbered = ControllerRevision::clone(found);
        renumbered.revision = newest + 1;
        return (
            Arc::new(renumbered.clone()),
            Change::Renumber(Box::new(renumbered)),
        );
    }
    let hash = hash::of(template, collisions);
    let mut all = template.metadata.as_ref().map(labels).unwrap_or_default();
    all.insert(hash_label.to_owned(), hash.clone());
    let base: String = name(owner.meta()).chars().take(223).collect();
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{base}-{hash}")),
            namespace: owner.meta().namespace.clone(),
            labels: Some(all),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(content(template))),
        revision: newest + 1,
    };
    (Arc::new(revision.clone()), Change::Create(Box::new(revision)))
}

/// The revisions beyond the limit, oldest first, that no pod uses.
pub fn excess(
    revisions: &[Arc<ControllerRevision>],
    current: &str,
    limit: i32,
    used: &dyn Fn(&ControllerRevision) -> bool,
) -> Vec<Arc<ControllerRevision>> {
    let unused: Vec<&Arc<ControllerRevision>> = revisions
        .iter()
        .filter(|r| name(&r.metadata) != current && !used(r))
        .collect();
    let count = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    unused.into_iter().take(count).cloned().collect()
}

/// The owner's UID, for finding its revisions.
pub fn owned_by(revision: &ControllerRevision, owner: &ObjectMeta) -> bool {
    crate::common::owners::is_controlled_by(&revision.metadata, uid(owner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::DaemonSet;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}})).unwrap()
    }

    #[test]
    fn a_new_template_makes_a_revision_and_an_old_one_becomes_the_newest_again() {
        let owner: DaemonSet =
            serde_json::from_value(json!({"metadata": {"name": "d", "namespace": "default", "uid": "u"}}))
                .unwrap();
        let mut history: Vec<Arc<ControllerRevision>> = Vec::new();
        let (one, change) = current(&owner, &template("one"), None, HASH_LABEL, &mut history);
        assert!(matches!(change, Change::Create(_)) && one.revision == 1);
        assert_eq!(template_of(&one), Some(template("one")));
        history.push(one.clone());
        assert_eq!(
            current(&owner, &template("one"), None, HASH_LABEL, &mut history).1,
            Change::Nothing
        );
        let (two, _) = current(&owner, &template("two"), None, HASH_LABEL, &mut history);
        assert_eq!(two.revision, 2);
        history.push(two);
        let (back, change) = current(&owner, &template("one"), None, HASH_LABEL, &mut history);
        assert!(
            matches!(change, Change::Renumber(_))
                && back.revision == 3
                && back.metadata.name == one.metadata.name
        );
    }
}
