//! A StatefulSet's pods: their names, labels, claims and who owns those.

use crate::common::owners::{controller_reference, is_controlled_by, label, name, namespace};
use crate::common::pods;
use crate::common::revisions::HASH_LABEL;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name, when it is one of the set's names.
pub fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let text = pod.strip_prefix(set)?.strip_prefix('-')?;
    let number: i32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The name of a claim for an ordinal.
pub fn claim_name(template: &PersistentVolumeClaim, set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", name(&template.metadata), name(&set.metadata))
}

/// The claims of an ordinal.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let selected = spec.selector.match_labels.clone().unwrap_or_default();
    spec.volume_claim_templates
        .iter()
        .flatten()
        .map(|template| {
            let mut claim = template.clone();
            claim.metadata.name = Some(claim_name(template, set, ordinal));
            claim.metadata.namespace = set.metadata.namespace.clone();
            claim
                .metadata
                .labels
                .get_or_insert_default()
                .extend(selected.clone());
            claim.status = None;
            claim
        })
        .collect()
}

/// Gives a pod its identity and its claims' volumes; says whether anything changed.
pub fn stamp(set: &StatefulSet, pod: &mut Pod, ordinal: i32) -> bool {
    let before = pod.clone();
    let pod_name = format!("{}-{ordinal}", name(&set.metadata));
    pod.metadata.name = Some(pod_name.clone());
    pod.metadata.namespace = Some(namespace(&set.metadata).to_owned());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), pod_name);
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    let templates = set
        .spec
        .iter()
        .flat_map(|s| s.volume_claim_templates.iter().flatten());
    if let Some(spec) = &mut pod.spec {
        for template in templates {
            let volume_name = name(&template.metadata);
            let source = PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(template, set, ordinal),
                read_only: None,
            };
            let volumes = spec.volumes.get_or_insert_default();
            let there = volumes.iter().any(|v| {
                v.name == volume_name
                    && v.persistent_volume_claim
                        .as_ref()
                        .is_some_and(|c| c.claim_name == source.claim_name)
            });
            if !there {
                volumes.retain(|v| v.name != volume_name);
                volumes.push(Volume {
                    name: volume_name.to_owned(),
                    persistent_volume_claim: Some(source),
                    ..Volume::default()
                });
            }
        }
    }
    *pod != before
}

/// A new pod of a revision.
pub fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = pods::from_template(template, namespace(&set.metadata), controller_reference(set));
    stamp(set, &mut pod, ordinal);
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert(HASH_LABEL.to_owned(), revision.to_owned());
    let host = pod.metadata.name.clone();
    if let Some(spec) = &mut pod.spec {
        spec.hostname = host;
        spec.subdomain = set
            .spec
            .as_ref()
            .and_then(|s| s.service_name.clone())
            .filter(|s| !s.is_empty());
    }
    pod
}

/// A pod's revision.
pub fn revision(pod: &Pod) -> &str {
    label(&pod.metadata, HASH_LABEL).unwrap_or_default()
}

/// Whether claims go with the set, and with pods that are scaled away.
fn retention(set: &StatefulSet) -> (bool, bool) {
    let policy = set
        .spec
        .as_ref()
        .and_then(|s| s.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |p: Option<&String>| p.is_some_and(|p| p == "Delete");
    (
        deletes(policy.and_then(|p| p.when_deleted.as_ref())),
        deletes(policy.and_then(|p| p.when_scaled.as_ref())),
    )
}

/// The claim with the owners that the retention policy asks for, when it has others. A claim that something else controls is left alone.
pub fn owned_claim(
    set: &StatefulSet,
    pod: &Pod,
    condemned: bool,
    claim: &PersistentVolumeClaim,
) -> Option<PersistentVolumeClaim> {
    let (with_set, with_pod) = retention(set);
    let set_uid = set.metadata.uid.clone().unwrap_or_default();
    let foreign = |r: &&OwnerReference| r.controller == Some(true) && r.uid != set_uid && r.kind != "Pod";
    if claim
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|r| foreign(&r))
    {
        return None;
    }
    let mut after = claim.clone();
    let owners = after.metadata.owner_references.get_or_insert_default();
    owners.retain(|r| r.uid != set_uid && !(r.kind == "Pod" && r.name == name(&pod.metadata)));
    let plain = |reference: OwnerReference| OwnerReference {
        block_owner_deletion: None,
        controller: None,
        ..reference
    };
    if with_pod && condemned {
        owners.push(plain(controller_reference(pod)));
    } else if with_set {
        owners.push(OwnerReference {
            controller: Some(true),
            ..plain(controller_reference(set))
        });
    }
    let same = |meta: &ObjectMeta| {
        let mut ids: Vec<String> = meta
            .owner_references
            .iter()
            .flatten()
            .map(|r| r.uid.clone())
            .collect();
        ids.sort();
        ids
    };
    (same(after.meta()) != same(claim.meta())).then_some(after)
}

/// Whether the pod is the set's.
pub fn is_member(set: &StatefulSet, pod: &Pod) -> bool {
    is_controlled_by(&pod.metadata, set.metadata.uid.as_deref().unwrap_or_default())
        && ordinal(name(&set.metadata), name(&pod.metadata)).is_some()
}
