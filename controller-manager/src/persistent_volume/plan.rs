//! Decides which volume a claim gets, and what becomes of volumes whose claims are gone.

use crate::common::owners::{annotation, name, namespace, uid};
use crate::common::selector::Matcher;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use rutter_api::quantity::Quantity;
use rutter_client::events::EventType;
use std::sync::Arc;

/// On claims: the binding is complete.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On either side: the binding was made here, not by the user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONERS: [&str; 2] = [
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];
const IS_DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// An event about a claim or a volume.
pub type Note = (EventType, &'static str, String);

/// What to do about a claim.
#[derive(Debug, PartialEq)]
pub enum ClaimStep {
    /// Bind it to this volume, or repair the binding.
    Bind(Arc<PersistentVolume>),
    /// Write its specification or annotations back.
    Update(Box<PersistentVolumeClaim>, Option<Note>),
    /// It has this phase, and people are told.
    Phase(&'static str, Option<Note>),
}

/// What to do about a volume.
#[derive(Debug, PartialEq)]
pub enum VolumeStep {
    /// It has this phase, and people are told.
    Phase(&'static str, Option<Note>),
    /// Look at the claim of this namespace and name.
    LookAt(String, String),
    /// Take its claim away: the claim has another volume.
    Unbind(Box<PersistentVolume>),
}

/// The class of a claim; `None` when it may still get the default one.
fn class_of(claim: &PersistentVolumeClaim) -> Option<String> {
    annotation(&claim.metadata, BETA_CLASS)
        .map(str::to_owned)
        .or_else(|| claim.spec.as_ref()?.storage_class_name.clone())
}

fn class_of_volume(volume: &PersistentVolume) -> String {
    let named = volume.spec.as_ref().and_then(|s| s.storage_class_name.clone());
    annotation(&volume.metadata, BETA_CLASS)
        .map(str::to_owned)
        .or(named)
        .unwrap_or_default()
}

/// The default class: the newest of those that say so.
fn default_class(classes: &[Arc<StorageClass>]) -> Option<&Arc<StorageClass>> {
    let is_default = |c: &&Arc<StorageClass>| {
        IS_DEFAULT
            .iter()
            .any(|key| annotation(&c.metadata, key) == Some("true"))
    };
    let age = |c: &&Arc<StorageClass>| {
        (
            c.metadata.creation_timestamp.clone(),
            std::cmp::Reverse(c.metadata.name.clone()),
        )
    };
    classes.iter().filter(is_default).max_by_key(age)
}

fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    volume
        .spec
        .as_ref()?
        .capacity
        .as_ref()?
        .get("storage")?
        .0
        .parse()
        .ok()
}

fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    claim
        .spec
        .as_ref()?
        .resources
        .as_ref()?
        .requests
        .as_ref()?
        .get("storage")?
        .0
        .parse()
        .ok()
}

/// Whether a volume's claim reference means this claim. One without a UID was made by a person.
pub fn refers_to(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && reference
            .uid
            .as_deref()
            .filter(|u| !u.is_empty())
            .is_none_or(|u| u == uid(&claim.metadata))
}

fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else {
        return false;
    };
    let mode = |m: &Option<String>| m.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let modes = wants
        .access_modes
        .iter()
        .flatten()
        .all(|m| has.access_modes.iter().flatten().any(|h| h == m));
    let size = capacity(volume).is_some_and(|c| requested(claim).is_none_or(|r| c >= r));
    modes && size && mode(&has.volume_mode) == mode(&wants.volume_mode)
}

/// The volume that a person has set aside for the claim, or else the smallest one that will do.
pub fn best(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
) -> Option<Arc<PersistentVolume>> {
    let class = class_of(claim).unwrap_or_default();
    let selector = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
    let matcher = match selector {
        None => None,
        Some(selector) => Some(Matcher::of(selector)?),
    };
    let living = || {
        volumes
            .iter()
            .filter(|v| v.metadata.deletion_timestamp.is_none() && fits(v, claim))
    };
    let reference = |v: &PersistentVolume| v.spec.as_ref().and_then(|s| s.claim_ref.clone());
    if let Some(kept) = living().find(|v| reference(v).is_some_and(|r| refers_to(&r, claim))) {
        return Some(kept.clone());
    }
    let free = |v: &&Arc<PersistentVolume>| {
        let available = v.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Available");
        let selected = matcher
            .as_ref()
            .is_none_or(|m| m.matches(v.metadata.labels.as_ref()));
        reference(v).is_none() && available && selected && class_of_volume(v) == class
    };
    living()
        .filter(free)
        .min_by(|a, b| {
            capacity(a)
                .cmp(&capacity(b))
                .then_with(|| a.metadata.name.cmp(&b.metadata.name))
        })
        .cloned()
}

/// Decides about a claim.
pub fn claim(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    classes: &[Arc<StorageClass>],
) -> ClaimStep {
    let wanted = claim
        .spec
        .as_ref()
        .and_then(|s| s.volume_name.as_deref())
        .filter(|v| !v.is_empty());
    let find = |wanted: &str| volumes.iter().find(|v| name(&v.metadata) == wanted).cloned();
    let complete = annotation(&claim.metadata, BIND_COMPLETED).is_some();
    let lost =
        |reason, text: &str| ClaimStep::Phase("Lost", Some((EventType::Warning, reason, text.to_owned())));
    let Some(wanted) = wanted else {
        if complete {
            return lost(
                "ClaimLost",
                "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
            );
        }
        return unbound(claim, volumes, classes);
    };
    let volume = find(wanted);
    let reference = volume.as_ref().and_then(|v| v.spec.as_ref()?.claim_ref.clone());
    match (volume, reference, complete) {
        (None, _, true) => lost(
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        ),
        (None, _, false) => ClaimStep::Phase("Pending", None),
        (Some(volume), None, _) => ClaimStep::Bind(volume),
        (Some(volume), Some(reference), _) if refers_to(&reference, claim) => ClaimStep::Bind(volume),
        (Some(_), Some(_), true) => lost(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
        (Some(volume), Some(_), false) => {
            let text = format!(
                "volume {:?} already bound to a different claim.",
                name(&volume.metadata)
            );
            ClaimStep::Phase("Pending", Some((EventType::Warning, "FailedBinding", text)))
        }
    }
}

fn unbound(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    classes: &[Arc<StorageClass>],
) -> ClaimStep {
    let Some(class_name) = class_of(claim) else {
        if let Some(class) = default_class(classes) {
            let mut after = claim.clone();
            after.spec.get_or_insert_default().storage_class_name = class.metadata.name.clone();
            return ClaimStep::Update(Box::new(after), None);
        }
        return match best(claim, volumes) {
            Some(volume) => ClaimStep::Bind(volume),
            None => nothing_there(),
        };
    };
    let class = classes.iter().find(|c| name(&c.metadata) == class_name);
    let waits = class.is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    let selected = annotation(&claim.metadata, SELECTED_NODE).is_some();
    // A volume that was set aside for the claim need not wait.
    let found = best(claim, volumes);
    let kept = found
        .as_ref()
        .is_some_and(|v| v.spec.as_ref().is_some_and(|s| s.claim_ref.is_some()));
    if waits && !selected && !kept {
        let text = "waiting for first consumer to be created before binding";
        return ClaimStep::Phase(
            "Pending",
            Some((EventType::Normal, "WaitForFirstConsumer", text.to_owned())),
        );
    }
    if let Some(volume) = found.filter(|_| !waits || kept) {
        return ClaimStep::Bind(volume);
    }
    if class_name.is_empty() {
        return nothing_there();
    }
    let Some(class) = class else {
        let text = format!("storageclass.storage.k8s.io {class_name:?} not found");
        return ClaimStep::Phase("Pending", Some((EventType::Warning, "ProvisioningFailed", text)));
    };
    if class.provisioner == "kubernetes.io/no-provisioner" {
        return ClaimStep::Phase("Pending", None);
    }
    let text = format!(
        "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator. If volume creation is \
         delayed, please verify that the provisioner is running and correctly registered.",
        class.provisioner
    );
    let note = Some((EventType::Normal, "ExternalProvisioning", text));
    if PROVISIONERS
        .iter()
        .all(|key| annotation(&claim.metadata, key) == Some(&class.provisioner))
    {
        return ClaimStep::Phase("Pending", note);
    }
    let mut after = claim.clone();
    let annotations = after.metadata.annotations.get_or_insert_default();
    annotations.extend(PROVISIONERS.map(|key| (key.to_owned(), class.provisioner.clone())));
    ClaimStep::Update(Box::new(after), note)
}

fn nothing_there() -> ClaimStep {
    let text = "no persistent volumes available for this claim and no storage class is set";
    ClaimStep::Phase(
        "Pending",
        Some((EventType::Normal, "FailedBinding", text.to_owned())),
    )
}

/// Decides about a volume. `claim` is the one that it refers to, when there is one of that name; `current` whether the apiserver said so just now.
pub fn volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumeStep {
    let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else {
        return VolumeStep::Phase("Available", None);
    };
    if reference.uid.as_deref().unwrap_or_default().is_empty() {
        return VolumeStep::Phase("Available", None);
    }
    let Some(claim) = claim.filter(|c| refers_to(reference, c)) else {
        return released(volume);
    };
    match claim
        .spec
        .as_ref()
        .and_then(|s| s.volume_name.as_deref())
        .unwrap_or_default()
    {
        "" => VolumeStep::LookAt(
            namespace(&claim.metadata).to_owned(),
            name(&claim.metadata).to_owned(),
        ),
        bound if bound == name(&volume.metadata) => VolumeStep::Phase("Bound", None),
        _ if annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some() => {
            let mut after = volume.clone();
            if let Some(spec) = &mut after.spec {
                spec.claim_ref = None;
            }
            if let Some(annotations) = &mut after.metadata.annotations {
                annotations.remove(BOUND_BY_CONTROLLER);
            }
            VolumeStep::Unbind(Box::new(after))
        }
        // A person's wish stays, but without the UID that made it look fulfilled.
        _ => {
            let mut after = volume.clone();
            if let Some(reference) = after.spec.as_mut().and_then(|s| s.claim_ref.as_mut()) {
                reference.uid = None;
            }
            VolumeStep::Unbind(Box::new(after))
        }
    }
}

fn released(volume: &PersistentVolume) -> VolumeStep {
    let policy = volume
        .spec
        .as_ref()
        .and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    let provisioned = annotation(&volume.metadata, "pv.kubernetes.io/provisioned-by").is_some();
    match policy {
        Some("Delete") if !provisioned => {
            let text = "error getting deleter volume plugin for volume: no deletable volume plugin matched";
            VolumeStep::Phase(
                "Failed",
                Some((EventType::Warning, "VolumeFailedDelete", text.to_owned())),
            )
        }
        Some("Recycle") => {
            let text = "recycling is not supported: delete the volume and make a new one, or use dynamic provisioning";
            VolumeStep::Phase(
                "Failed",
                Some((EventType::Warning, "VolumeFailedRecycle", text.to_owned())),
            )
        }
        // Kept, or deleted by the provisioner that made it as soon as it sees it released.
        _ => VolumeStep::Phase("Released", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pv(name: &str, size: &str, class: &str, reference: Value, phase: &str) -> Arc<PersistentVolume> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name}, "status": {"phase": phase}, "spec": {
                "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": class, "claimRef": reference}}))
            .unwrap(),
        )
    }

    fn pvc(class: Value, volume: &str, annotations: Value) -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "default", "uid": "u", "annotations": annotations}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}, "storageClassName": class, "volumeName": volume}}))
        .unwrap()
    }

    fn class(name: &str, mode: &str, default: bool) -> Arc<StorageClass> {
        let marked = if default {
            json!({IS_DEFAULT[0]: "true"})
        } else {
            json!({})
        };
        let value = json!({"metadata": {"name": name, "annotations": marked}, "provisioner": "p.example.com", "volumeBindingMode": mode});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn told(step: &ClaimStep) -> String {
        match step {
            ClaimStep::Bind(v) => format!("bind {}", name(&v.metadata)),
            ClaimStep::Update(c, _) => format!("update {:?}", c.spec.as_ref().unwrap().storage_class_name),
            ClaimStep::Phase(phase, note) => format!("{phase} {}", note.as_ref().map_or("", |n| n.1)),
        }
    }

    #[test]
    fn a_claim_gets_the_smallest_volume_that_will_do() {
        let free = Value::Null;
        let volumes = [
            pv("big", "10Gi", "", free.clone(), "Available"),
            pv("right", "3Gi", "", free.clone(), "Available"),
            pv("small", "1Gi", "", free.clone(), "Available"),
            pv(
                "taken",
                "2Gi",
                "",
                json!({"name": "x", "namespace": "default", "uid": "x"}),
                "Bound",
            ),
            pv("classy", "2Gi", "fast", free, "Available"),
        ];
        for (class_name, volume, annotations, want) in [
            (json!(""), "", json!({}), "bind right"),
            (json!("fast"), "", json!({}), "bind classy"),
            (json!("slow"), "", json!({}), "Pending ProvisioningFailed"),
            (json!(""), "big", json!({}), "bind big"),
            (json!(""), "taken", json!({}), "Pending FailedBinding"),
            (json!(""), "gone", json!({}), "Pending "),
            (
                json!(""),
                "gone",
                json!({BIND_COMPLETED: "yes"}),
                "Lost ClaimLost",
            ),
        ] {
            let text = format!("{class_name} {volume} {annotations}");
            assert_eq!(
                told(&claim(&pvc(class_name, volume, annotations), &volumes, &[])),
                want,
                "{text}"
            );
        }
        let kept = [
            pv(
                "kept",
                "20Gi",
                "",
                json!({"name": "c", "namespace": "default"}),
                "Available",
            ),
            volumes[1].clone(),
        ];
        assert_eq!(
            told(&claim(&pvc(json!(""), "", json!({})), &kept, &[])),
            "bind kept",
            "set aside for it"
        );
    }

    #[test]
    fn a_claim_without_a_class_gets_the_default_one_and_a_provisioner_is_asked() {
        let classes = [
            class("later", "WaitForFirstConsumer", false),
            class("now", "Immediate", true),
        ];
        assert_eq!(
            told(&claim(&pvc(Value::Null, "", json!({})), &[], &classes)),
            "update Some(\"now\")"
        );
        assert_eq!(
            told(&claim(&pvc(json!("later"), "", json!({})), &[], &classes)),
            "Pending WaitForFirstConsumer"
        );
        assert_eq!(
            told(&claim(&pvc(Value::Null, "", json!({})), &[], &[])),
            "Pending FailedBinding"
        );
        let ClaimStep::Update(asked, Some(note)) = claim(&pvc(json!("now"), "", json!({})), &[], &classes)
        else {
            panic!()
        };
        assert_eq!(note.1, "ExternalProvisioning");
        assert_eq!(
            told(&claim(&asked, &[], &classes)),
            "Pending ExternalProvisioning"
        );
        let chosen = pvc(json!("later"), "", json!({SELECTED_NODE: "n1"}));
        assert!(matches!(claim(&chosen, &[], &classes), ClaimStep::Update(..)));
    }

    #[test]
    fn a_volume_follows_its_claim() {
        let mine = json!({"name": "c", "namespace": "default", "uid": "u"});
        let bound = pv("v", "2Gi", "", mine.clone(), "Bound");
        let phase = |step: VolumeStep| match step {
            VolumeStep::Phase(phase, _) => phase.to_owned(),
            VolumeStep::LookAt(..) => "look".to_owned(),
            VolumeStep::Unbind(_) => "unbind".to_owned(),
        };
        for (what, claim, want) in [
            ("bound to it", Some(pvc(json!(""), "v", json!({}))), "Bound"),
            ("not bound yet", Some(pvc(json!(""), "", json!({}))), "look"),
            ("bound to another", Some(pvc(json!(""), "w", json!({}))), "unbind"),
            ("gone", None, "Released"),
        ] {
            assert_eq!(phase(volume(&bound, claim.as_ref())), want, "{what}");
        }
        assert_eq!(
            phase(volume(&pv("v", "2Gi", "", Value::Null, ""), None)),
            "Available"
        );
    }
}
